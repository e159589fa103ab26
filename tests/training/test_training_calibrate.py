"""Logits -> probabilities: closed forms, simulated logits, priors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.special import expit, logit

from training.calibrate import DEFAULT_PRIOR, Calibration, fit_calibration, platt, prior_weights, sufficiency_of

Matrix = NDArray[np.float64]


def array(*values: float) -> Matrix:
    """(n,) float64."""
    return np.array(values, dtype=np.float64)


# Platt's method


@settings(deadline=None, max_examples=30)
@given(shift=st.floats(-1.5, 1.5), slope=st.floats(0.3, 2))
def test_platt_recovers_the_shift_and_slope_behind_the_targets(shift: float, slope: float) -> None:
    """Targets that are a sigmoid of the logits have one answer, up to the faint pull towards (0, 1)."""
    logits = np.linspace(-3, 3, 2_001)
    found = platt(logits, expit(slope * logits + shift), np.ones(len(logits)))
    assert found == pytest.approx((shift, slope), abs=0.02)


def test_platt_recovers_them_from_drawn_labels() -> None:
    """Zeros and ones carry the same information, with noise."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 20_000)
    labels = (random.random(len(logits)) < expit(0.6 * logits - 1)).astype(float)
    assert platt(logits, labels, np.ones(len(logits))) == pytest.approx((-1, 0.6), abs=0.05)


def test_without_information_the_shift_is_the_log_odds_of_the_rate() -> None:
    """Equal logits say nothing: 300 of 1,000 suffice."""
    targets = np.repeat(array(1, 0), [300, 700])
    assert platt(np.zeros(1_000), targets, np.ones(1_000)) == pytest.approx((logit(301 / 1_002), 1), abs=0.003)


def test_weights_shift_the_rate() -> None:
    """A row of weight three is three rows: targets pulled in to 3/4 and 1/4 give a rate of 5/8."""
    found = platt(np.zeros(2), array(1, 0), array(3, 1))
    assert found == pytest.approx((logit(5 / 8), 1), abs=0.001)
    assert platt(np.zeros(2), array(1, 0), array(300, 100)) == pytest.approx(found, abs=1e-6)


def test_one_row_claims_no_certainty() -> None:
    """Its target is pulled in to 2/3."""
    shift, slope = platt(array(0), array(1), array(1))
    assert expit(shift) == pytest.approx(2 / 3, abs=0.001)
    assert slope == pytest.approx(1)


def test_separable_rows_keep_finite_parameters() -> None:
    """A head that is always right on few rows is not believed without bound."""
    shift, slope = platt(array(-2, -1, 1, 2), array(0, 0, 1, 1), np.ones(4))
    assert np.isfinite([shift, slope]).all()
    assert 0.05 < slope < 10
    assert expit(slope * 2 + shift) < 0.999


def test_a_head_that_orders_the_wrong_way_is_flattened_rather_than_turned_round() -> None:
    """The slope is bounded at 0.05."""
    logits = np.linspace(-3, 3, 501)
    shift, slope = platt(logits, expit(-2 * logits), np.ones(len(logits)))
    assert slope == pytest.approx(0.05)
    assert shift == pytest.approx(0, abs=0.01)


def test_no_rows_leave_logits_as_they_are() -> None:
    """Shift 0, slope 1."""
    assert platt(array(), array(), array()) == (0.0, 1.0)


# all tiers


def test_sufficiency_is_the_running_maximum_of_calibrated_logits() -> None:
    """By hand: sigmoid of 2 * 0 + 0, 1 * -1 + 0, 0.5 * 2 + 1, where the second may not fall below the first."""
    calibration = Calibration(shift=(0, 0, 1), slope=(2, 1, 0.5))
    np.testing.assert_allclose(sufficiency_of(np.array([[0.0, -1.0, 2.0]]), calibration), [[0.5, 0.5, expit(2)]])


@settings(deadline=None, max_examples=50)
@given(
    logits=arrays(np.float64, (4, 3), elements=st.floats(-1e6, 1e6)),
    shift=st.tuples(*[st.floats(-40, 40)] * 3),
    slope=st.tuples(*[st.floats(0, 10)] * 3),
)
def test_sufficiency_never_falls_from_a_cheaper_tier_to_a_dearer(
    logits: Matrix, shift: tuple[float, ...], slope: tuple[float, ...]
) -> None:
    """Whatever the logits are; and it stays a probability."""
    sufficiency = sufficiency_of(logits, Calibration(shift, slope))
    assert np.all(np.diff(sufficiency, axis=1) >= 0)
    assert sufficiency.min() >= 0
    assert sufficiency.max() <= 1


def simulated(n: int = 3_000) -> tuple[Matrix, Matrix]:
    """Logits of three tiers, and targets that are sigmoids of them with known shifts and slopes."""
    logits = np.random.default_rng(0).normal(0, 1.5, (n, 3))
    return logits, expit(logits * array(0.5, 1, 2) + array(-1, 0, 1))


def test_each_tier_is_calibrated_for_itself() -> None:
    """On outcomes the top tier is learned like the others."""
    logits, targets = simulated()
    found = fit_calibration(logits, targets, np.ones(len(logits)), top_is_certain=False)
    assert found.shift == pytest.approx((-1, 0, 1), abs=0.03)
    assert found.slope == pytest.approx((0.5, 1, 2), abs=0.03)


def test_on_a_rubric_the_top_tier_suffices_by_definition() -> None:
    """Exactly 1 in the graph's float32, whatever its logit; the tiers below are learned."""
    logits, targets = simulated()
    found = fit_calibration(logits, targets, np.ones(len(logits)), top_is_certain=True)
    sufficiency = sufficiency_of(np.array([[0.0, 0.0, -1e6], [0.0, 0.0, 1e6]]), found)
    np.testing.assert_array_equal(sufficiency.astype(np.float32)[:, 2], [1, 1])
    assert found.shift[:2] == pytest.approx((-1, 0), abs=0.03)


def test_rows_that_do_not_know_a_tier_do_not_calibrate_it() -> None:
    """Masked targets change nothing, nonsense in their logits included."""
    logits, targets = simulated()
    more = np.vstack([logits, np.full((500, 3), 50.0)])
    masked = np.vstack([targets, np.tile(array(np.nan, np.nan, 0.0), (500, 1))])
    alone = fit_calibration(logits, targets, np.ones(3_000), top_is_certain=False)
    beside = fit_calibration(more, masked, np.ones(3_500), top_is_certain=False)
    assert beside.shift[:2] == pytest.approx(alone.shift[:2], abs=1e-4)
    assert beside.slope[:2] == pytest.approx(alone.slope[:2], abs=1e-4)
    assert beside.slope[2] < alone.slope[2]


def test_a_tier_that_nobody_measured_stays_as_it_is() -> None:
    """Shift 0 and slope 1."""
    logits, targets = simulated(100)
    targets[:, 2] = np.nan
    found = fit_calibration(logits, targets, np.ones(100), top_is_certain=False)
    assert (found.shift[2], found.slope[2]) == (0, 1)


def test_the_numbers_are_those_that_the_graph_can_hold() -> None:
    """calibration.json and the graph's float32 initialisers must be equal, not close."""
    logits, targets = simulated(100)
    found = fit_calibration(logits, targets, np.ones(100), top_is_certain=False)
    numbers = [*found.shift, *found.slope]
    assert np.array(numbers, dtype=np.float32).astype(np.float64).tolist() == numbers


# priors


def test_prior_weights_by_hand() -> None:
    """Two small rows share .6, the others have .3 and .1 for themselves; four rows weigh four."""
    np.testing.assert_allclose(prior_weights([0, 1, 0, 2], (0.6, 0.3, 0.1)), [1.2, 1.2, 1.2, 0.4])


def test_rows_of_a_tier_share_its_weight_by_their_own() -> None:
    """Of two small rows the one of weight three takes three quarters."""
    np.testing.assert_allclose(prior_weights([0, 1, 0, 2], (0.6, 0.3, 0.1), array(3, 9, 1, 0.5)), [1.8, 1.2, 0.6, 0.4])


@settings(deadline=None, max_examples=50)
@given(
    labels=st.lists(st.integers(0, 2), min_size=3, max_size=40).filter(lambda labels: len(set(labels)) == 3),
    raw=st.tuples(*[st.floats(0.01, 1)] * 3),
)
def test_under_prior_weights_the_tiers_have_the_shares_of_the_prior(labels: list[int], raw: tuple[float, ...]) -> None:
    """And the weights' mean is 1."""
    prior = np.array(raw) / sum(raw)
    weights = prior_weights(labels, prior.tolist())
    np.testing.assert_allclose(np.bincount(labels, weights=weights) / len(labels), prior)
    assert weights.mean() == pytest.approx(1)


def test_a_tier_of_the_prior_without_rows_is_refused() -> None:
    """A share of traffic cannot be stood for by nothing."""
    with pytest.raises(ValueError, match="no labelled row of tier 2, expected some for its share of 10% in the prior"):
        prior_weights([0, 1, 1], (0.6, 0.3, 0.1))


def test_a_tier_that_the_prior_excludes_needs_no_rows() -> None:
    """And its rows weigh nothing where there are some."""
    np.testing.assert_allclose(prior_weights([0, 1, 1], (0.5, 0.5, 0)), [1.5, 0.75, 0.75])
    np.testing.assert_allclose(prior_weights([0, 1, 2], (0.5, 0.5, 0)), [1.5, 1.5, 0])


def test_the_default_prior_is_the_documented_one() -> None:
    """DESIGN, model cards and GET /model all say these shares."""
    assert DEFAULT_PRIOR == {"small": 0.6, "medium": 0.3, "large": 0.1}
