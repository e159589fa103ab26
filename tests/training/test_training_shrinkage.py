"""Calibration moved to other traffic: Bayes' rule, EM, and a Gaussian prior, against closed forms and simulated rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from training import shrinkage
from training.calibrate import CERTAIN, Calibration, sufficiency_of
from training.shrinkage import PSEUDO_ROWS, WIDTH, Width, at_prior, shares_of, shrunk, traffic_shares

Matrix = NDArray[np.float64]

PRIOR = (0.6, 0.3, 0.1)
UNKNOWN = float("nan")
TWO = Calibration((0.5, -0.25), (1.0, 1.5))


def array(*values: float) -> Matrix:
    """(n,) float64."""
    return np.array(values, dtype=np.float64)


def labelled(*labels: int, tiers: int = 3) -> Matrix:
    """(n, tiers) targets."""
    return (np.array(labels)[:, None] <= np.arange(tiers)).astype(np.float64)


# shares of tiers among rows


def test_shares_are_those_of_the_rows_beside_pseudo_rows_at_the_prior() -> None:
    """Seventy rows with 20, 30 and 20 labels, and thirty with 18, 9 and 3."""
    assert PSEUDO_ROWS == 30
    targets = labelled(*[0] * 20, *[1] * 30, *[2] * 20)
    assert shares_of(targets, np.ones(70), PRIOR) == pytest.approx((0.38, 0.39, 0.23))


def test_rows_count_by_their_weight() -> None:
    """Without pseudo rows: of two rows the one of weight three is three quarters."""
    shares = shares_of(labelled(0, 1), array(3, 1), (0.5, 0.25, 0.25), pseudo=0)
    assert shares == pytest.approx((0.75, 0.25, 0.0), abs=0.002)


def test_outcomes_have_shares_of_the_cheapest_tier_that_suffices() -> None:
    """Means of 0.2 and 0.6 below the top are shares of 0.2, 0.4 and the rest; a score that is not known does not count."""
    targets = np.array([[0.4, 0.6, 0.9], [0.0, UNKNOWN, 0.9]])
    assert shares_of(targets, np.ones(2), PRIOR, pseudo=0) == pytest.approx((0.2, 0.4, 0.4))


def test_a_dearer_tier_that_does_worse_leaves_no_share_below_zero() -> None:
    """Every share stays above 0, as a manifest demands, and they are 1 together."""
    shares = shares_of(np.array([[0.8, 0.3, 0.2]] * 100), np.ones(100), PRIOR, pseudo=0)
    assert min(shares) > 0
    assert sum(shares) == pytest.approx(1)


# shares of tiers in unlabelled traffic


def simulated(shares: tuple[float, ...], n: int, seed: int = 0) -> Matrix:
    """(n, 3) what a perfectly calibrated model of PRIOR says of traffic with these shares: each tier's prompts lie around its index."""
    random = np.random.default_rng(seed)
    tier = random.choice(3, n, p=shares)
    seen = random.normal(tier, 0.7)[:, None]
    likely = np.exp(-((seen - np.arange(3)) ** 2) / (2 * 0.7**2)) * np.array(PRIOR)
    return np.asarray(likely / likely.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("shares", [(0.3, 0.5, 0.2), (0.8, 0.15, 0.05), (0.05, 0.05, 0.9)])
def test_em_finds_the_shares_of_traffic_whose_tiers_look_as_they_did(monkeypatch: pytest.MonkeyPatch, shares: tuple[float, ...]) -> None:
    """Saerens, Latinne and Decaestecker's algorithm, without a prior."""
    monkeypatch.setattr(shrinkage, "PSEUDO_SHARE", 0.0)
    assert traffic_shares(simulated(shares, 20_000), PRIOR) == pytest.approx(shares, abs=0.015)


@pytest.mark.parametrize("n", [300, 20_000])
def test_the_prior_counts_for_a_share_of_the_rows(n: int) -> None:
    """However many they are: the estimate stays between the shipped shares and those of the traffic, nearer to the traffic's."""
    found = np.array(traffic_shares(simulated((0.2, 0.6, 0.2), n), PRIOR))
    assert 0.2 < found[0] < 0.4
    assert 0.4 < found[1] < 0.6


def test_traffic_as_it_was_assumed_changes_nothing() -> None:
    """The shipped shares are found again."""
    assert traffic_shares(simulated(PRIOR, 20_000), PRIOR) == pytest.approx(PRIOR, abs=0.015)


def test_a_tier_that_never_comes_keeps_a_share() -> None:
    """A model that never says large does not make it impossible."""
    said = np.array([[0.9, 0.1, 0.0]] * 100)
    assert traffic_shares(said, PRIOR)[2] == pytest.approx(0.1 * 0.25 / 1.25)


# another prior


@settings(deadline=None, max_examples=50)
@given(old=st.floats(0.02, 0.98), new=st.floats(0.02, 0.98), logits=st.lists(st.floats(-4, 4), min_size=1, max_size=5))
def test_of_two_tiers_another_prior_is_bayes_rule(old: float, new: float, logits: list[float]) -> None:
    """P(small | x) is multiplied by new / old for small, and the rest likewise."""
    inputs = np.array([[value, 0.0] for value in logits])
    calibration = Calibration((0.5, 40.0), (1.0, 0.0))
    before = sufficiency_of(inputs, calibration)[:, 0]
    after = sufficiency_of(inputs, at_prior(calibration, (old, 1 - old), (new, 1 - new)))[:, 0]
    small, large = before * new / old, (1 - before) * (1 - new) / (1 - old)
    np.testing.assert_allclose(after, small / (small + large), atol=1e-5)


def test_of_three_tiers_each_boundary_moves_by_the_log_odds_of_its_sides() -> None:
    """By hand; slopes and the top tier stay."""
    found = at_prior(Calibration((1.0, 2.0, 40.0), (1.5, 0.5, 0.0)), PRIOR, (0.3, 0.4, 0.3))
    assert found.slope == (1.5, 0.5, 0.0)
    assert found.shift == pytest.approx((1 + logit(0.3) - logit(0.6), 2 + logit(0.7) - logit(0.9), 40))


def test_there_and_back_is_where_it_was() -> None:
    """To the precision of the graph's numbers; and the same prior is no change at all."""
    start = Calibration((1.0, 2.0, 40.0), (1.5, 0.5, 0.0))
    assert at_prior(start, PRIOR, PRIOR) == start
    assert at_prior(at_prior(start, PRIOR, (0.2, 0.2, 0.6)), (0.2, 0.2, 0.6), PRIOR).shift == pytest.approx(start.shift, abs=1e-6)


# shrinkage


def rows(n: int, shift: float = -1.0, slope: float = 0.5, seed: int = 0) -> tuple[Matrix, Matrix]:
    """(n, 2) logits, and targets of 0 and 1 drawn at this shift and slope for both tiers."""
    random = np.random.default_rng(seed)
    logits = random.normal(0.5, 1.5, (n, 2))
    return logits, (random.random((n, 2)) < expit(slope * logits + shift)).astype(np.float64)


def adjusted(
    logits: Matrix, targets: Matrix, centre: Calibration = TWO, width: Width | None = None, weights: Matrix | None = None
) -> Calibration:
    """Without a tier that is certain."""
    weights = np.ones(len(logits)) if weights is None else weights
    return shrunk(logits, targets, weights, centre, top_is_certain=False, width=width or Width(0.5, 0.4))


def test_many_rows_have_their_way() -> None:
    """Wherever the shipped calibration was."""
    found = adjusted(*rows(50_000))
    assert found.shift == pytest.approx((-1, -1), abs=0.05)
    assert found.slope == pytest.approx((0.5, 0.5), abs=0.03)


def test_few_rows_go_part_of_the_way() -> None:
    """The farther the more they are; here with targets that are the probabilities themselves."""
    ways = []
    for n in (5, 50, 500, 5_000):
        logits, _ = rows(n)
        ways.append(abs(adjusted(logits, expit(0.5 * logits - 1)).slope[0] - TWO.slope[0]))
    assert ways == sorted(ways)
    assert 0 < ways[0] < 0.1
    assert ways[-1] > 0.45


@pytest.mark.parametrize("width", [Width(1e-4, 1e-4), Width(0.2, 0.2), Width(5, 5)])
def test_the_answer_is_the_most_probable_one(width: Width) -> None:
    """Minimised by other means: the log-loss of the rows plus half the squares of shift about the mean and factor, in standard deviations."""
    logits, targets = rows(60)
    found = adjusted(logits, targets, width=width)
    for tier in (0, 1):
        shipped = TWO.slope[tier] * logits[:, tier] + TWO.shift[tier]
        middle = shipped.mean()

        def against(parameters: Matrix, shipped: Matrix = shipped, middle: float = middle, target: Matrix = targets[:, tier]) -> float:
            z = middle + parameters[0] + parameters[1] * (shipped - middle)
            loss = -(target * log_expit(z) + (1 - target) * log_expit(-z)).sum()
            return float(loss + 0.5 * (parameters[0] / width.shift) ** 2 + 0.5 * ((parameters[1] - 1) / width.slope) ** 2)

        moved, factor = minimize(against, array(0, 1), method="BFGS", options={"gtol": 1e-4}).x
        expected = middle + moved + factor * (shipped - middle)
        np.testing.assert_allclose(found.slope[tier] * logits[:, tier] + found.shift[tier], expected, atol=1e-3)


def test_a_prior_without_width_leaves_the_shipped_calibration() -> None:
    """Whatever the rows say."""
    found = adjusted(*rows(500), width=Width(1e-6, 1e-6))
    assert found.shift == pytest.approx(TWO.shift, abs=1e-3)
    assert found.slope == pytest.approx(TWO.slope, abs=1e-3)


@settings(deadline=None, max_examples=20)
@given(scale=st.floats(0.1, 10), offset=st.floats(-3, 3))
def test_the_scale_of_a_heads_logits_does_not_matter(scale: float, offset: float) -> None:
    """Heads that say the same in other units, and are calibrated for it, come to say the same."""
    logits, targets = rows(80)
    other = Calibration.of((shift - slope * offset / scale, slope / scale) for shift, slope in zip(TWO.shift, TWO.slope, strict=True))
    one = sufficiency_of(logits, adjusted(logits, targets))
    np.testing.assert_allclose(sufficiency_of(logits * scale + offset, adjusted(logits * scale + offset, targets, other)), one, atol=2e-3)


def test_weights_count_by_their_proportion_and_by_how_equal_they_are() -> None:
    """Tenfold weights say nothing new; nine rows of no weight to speak of leave one row's worth of evidence."""
    logits, targets = rows(200)
    weights = np.random.default_rng(1).uniform(0.5, 2, 200)
    assert adjusted(logits, targets, weights=10 * weights) == adjusted(logits, targets, weights=weights)
    alone = adjusted(logits[:1], targets[:1])
    among = adjusted(logits[:10], targets[:10], weights=array(1, *[1e-9] * 9))
    assert among.shift == pytest.approx(alone.shift, abs=1e-3)


def test_rows_that_all_say_the_same_are_not_believed_without_bound() -> None:
    """Fifty of fifty suffice: the shift rises by no more than a few standard deviations."""
    logits, _ = rows(50)
    found = adjusted(logits, np.ones((50, 2)))
    assert all(before < after < before + 3 for before, after in zip(TWO.shift, found.shift, strict=True))


def test_an_order_that_the_rows_contradict_is_flattened_rather_than_turned_round() -> None:
    """The slope stays above 0."""
    logits, _ = rows(2_000)
    found = adjusted(logits, (logits < 0.5).astype(np.float64))
    assert all(0 < slope < 0.1 for slope in found.slope)


def test_a_tier_of_which_nothing_is_known_stays_as_it_is() -> None:
    """And targets that are not known do not count for the others."""
    logits, targets = rows(100)
    targets[:, 1] = UNKNOWN
    targets[50:, 0] = UNKNOWN
    found = adjusted(logits, targets)
    assert (found.shift[1], found.slope[1]) == (TWO.shift[1], TWO.slope[1])
    assert found.shift[0] == adjusted(logits[:50], targets[:50]).shift[0]


def test_on_a_rubric_the_top_tier_suffices_by_definition() -> None:
    """Also where the calibration before was of outcomes."""
    logits, targets = rows(50)
    found = shrunk(logits, targets, np.ones(50), Calibration((0.0, 0.5), (1.0, 0.0)), top_is_certain=True)
    assert (found.shift[1], found.slope[1]) == CERTAIN


def test_where_the_head_has_no_opinion_the_rate_is_taken() -> None:
    """The top tier of a rubric's head, on outcomes: 30 of 40 suffice, half a row on either side."""
    logits = np.zeros((40, 2))
    targets = np.stack([np.ones(40), np.repeat(array(1, 0), [30, 10])], axis=1)
    found = adjusted(logits, targets, Calibration((0.0, 40.0), (1.0, 0.0)))
    assert found.slope[1] == 0
    assert expit(found.shift[1]) == pytest.approx(30.5 / 41)


def test_the_numbers_are_those_that_the_graph_can_hold() -> None:
    """calibration.json and the graph's float32 must be equal, not close."""
    for found in (adjusted(*rows(30)), at_prior(TWO, (0.5, 0.5), (0.3, 0.7))):
        numbers = [*found.shift, *found.slope]
        assert np.array(numbers, dtype=np.float32).astype(np.float64).tolist() == numbers


# what it is for


def test_fifty_labels_help_where_traffic_differs_and_do_little_harm_where_it_does_not() -> None:
    """Mean log-loss over 100 draws, against the truth; and its 95th percentile where the shipped calibration was right."""

    def change(shift: float, slope: float) -> Matrix:
        fresh, _ = rows(4_000, seed=1_000)
        truth = expit(slope * fresh + shift)
        found = []
        for seed in range(100):
            new = adjusted(*rows(50, shift, slope, seed), Calibration((0.0, 0.0), (1.0, 1.0)), WIDTH)
            z = fresh * np.array(new.slope) + np.array(new.shift)
            found.append(
                -(truth * log_expit(z) + (1 - truth) * log_expit(-z)).mean()
                + (truth * log_expit(fresh) + (1 - truth) * log_expit(-fresh)).mean()
            )
        return np.array(found)

    assert change(-0.8, 0.5).mean() < -0.1
    assert change(0, 1).mean() < 0.02
    assert np.percentile(change(0, 1), 95) < 0.03
