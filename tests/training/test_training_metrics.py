"""The figures by which a router is judged, against hand-computed cases, scikit-learn and simulation."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from training.metrics import bootstrap, ece, excess_ece, log_loss, reliability, reprior, soft_auc, within_source

Matrix = NDArray[np.float64]

SHARES = st.lists(st.floats(0.05, 1), min_size=3, max_size=3).map(lambda values: [value / sum(values) for value in values])


def unit(n: int) -> st.SearchStrategy[Matrix]:
    """(n,) in [0, 1], with ties."""
    return arrays(np.float64, n, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]))


def array(*values: float) -> Matrix:
    """(n,) float64."""
    return np.array(values, dtype=np.float64)


@pytest.fixture(name="random")
def _random() -> np.random.Generator:
    """A generator that gives every test the same numbers."""
    return np.random.default_rng(0)


# soft AUC


def test_on_hard_targets_soft_auc_is_the_auc(random: np.random.Generator) -> None:
    """Zeros and ones are what scikit-learn knows, ties and weights included."""
    targets, scores, weights = (random.random(300) < 0.3).astype(float), np.round(random.random(300), 1), random.random(300) + 0.1
    assert soft_auc(targets, scores) == pytest.approx(roc_auc_score(targets, scores))
    assert soft_auc(targets, scores, weights) == pytest.approx(roc_auc_score(targets, scores, sample_weight=weights))


def test_a_fractional_target_is_a_positive_and_a_negative() -> None:
    """Positives 1 and 1/2, negatives 1/2 and 1: 1 * 3/2 pairs won by the first row, by the second 1/2 * (1/4 + 1), of 9/4."""
    assert soft_auc(array(1, 0.5, 0), array(3, 2, 1)) == pytest.approx((1.5 + 0.625) / 2.25)


def test_an_integer_weight_is_a_repeated_row(random: np.random.Generator) -> None:
    """Three of a weight of one are one of a weight of three."""
    targets, scores, times = random.random(50), random.random(50), random.integers(1, 4, 50)
    repeated = soft_auc(np.repeat(targets, times), np.repeat(scores, times))
    assert soft_auc(targets, scores, times.astype(float)) == pytest.approx(repeated)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_with_one_kind_of_row_there_is_nothing_to_rank(target: float) -> None:
    """No figure is better than an invented one."""
    assert np.isnan(soft_auc(np.full(5, target), np.arange(5.0)))


@settings(deadline=None, max_examples=50)
@given(targets=unit(12), scores=unit(12))
def test_soft_auc_reads_the_order_alone_and_turns_with_it(targets: Matrix, scores: Matrix) -> None:
    """Any rising transform gives the same figure, the reverse order its complement."""
    if 0 < targets.sum() < len(targets):
        figure = soft_auc(targets, scores)
        assert soft_auc(targets, np.exp(5 * scores)) == pytest.approx(figure)
        assert soft_auc(targets, -scores) == pytest.approx(1 - figure)


@settings(deadline=None, max_examples=50)
@given(targets=unit(12), scores=unit(12))
def test_no_ranking_beats_the_oracle(targets: Matrix, scores: Matrix) -> None:
    """The order of the targets themselves is the best there is."""
    if 0 < targets.sum() < len(targets):
        assert soft_auc(targets, scores) <= soft_auc(targets, targets) + 1e-12


def test_with_fractional_targets_the_oracle_stays_below_one(random: np.random.Generator) -> None:
    """Which is why its value stands beside the router's."""
    targets = random.random(500)
    assert 0.7 < soft_auc(targets, targets) < 0.95


def test_random_scores_rank_like_a_coin(random: np.random.Generator) -> None:
    """One half, up to noise."""
    assert soft_auc(random.random(5_000), random.random(5_000)) == pytest.approx(0.5, abs=0.02)


# within source


def test_within_source_is_the_plain_mean_over_sources() -> None:
    """The first source is ranked rightly, the second wrongly, the third evenly, whatever their sizes."""
    targets = array(1, 0, *[0, 1] * 50, 1, 0)
    scores = array(2, 1, *[2, 1] * 50, 1, 1)
    sources = ["right"] * 2 + ["wrong"] * 100 + ["even"] * 2
    assert within_source(targets, scores, sources) == pytest.approx((1 + 0 + 0.5) / 3)
    assert within_source(targets, scores, sources, ("wrong",)) == pytest.approx(0.75)


def test_a_collection_counts_once_with_the_mean_over_its_parts() -> None:
    """Of its two parts one is ranked rightly and one wrongly, the plain source rightly."""
    targets, scores = array(1, 0, 1, 0, 1, 0), array(2, 1, 1, 2, 2, 1)
    sources = ["many/a", "many/a", "many/b", "many/b", "one", "one"]
    assert within_source(targets, scores, sources) == pytest.approx(((1 + 0) / 2 + 1) / 2)


def test_parts_of_a_collection_are_ranked_apart() -> None:
    """Together they would be ranked by what sets the parts apart."""
    assert within_source(array(1, 1, 0, 0, 0, 1), array(5, 6, 7, 1, 2, 3), ["many/a"] * 3 + ["many/b"] * 3) == pytest.approx(0.5)


def test_a_part_with_nothing_to_rank_is_passed_over() -> None:
    """The collection is what its other parts are."""
    assert within_source(array(1, 0, 1, 1), array(2, 1, 1, 2), ["many/a", "many/a", "many/b", "many/b"]) == 1.0


def test_a_collection_is_passed_over_with_all_of_its_parts() -> None:
    """By its own name."""
    targets, scores, sources = array(1, 0, 1, 0), array(2, 1, 1, 2), ["many/a", "many/a", "one", "one"]
    assert within_source(targets, scores, sources, ("many",)) == 0.0
    assert within_source(targets, scores, sources, ("one",)) == 1.0


def test_knowing_the_source_alone_earns_nothing_within_it(random: np.random.Generator) -> None:
    """A score that is the source's rate ranks well in the pool and not at all within."""
    sources = ["easy"] * 200 + ["hard"] * 200
    rates = np.repeat([0.9, 0.1], 200)
    targets = (random.random(400) < rates).astype(float)
    assert soft_auc(targets, rates) > 0.8
    assert within_source(targets, rates, sources) == pytest.approx(0.5)


def test_a_source_with_nothing_to_rank_is_passed_over() -> None:
    """All of its rows are alike."""
    assert within_source(array(1, 0, 1, 1), array(2, 1, 1, 2), ["a", "a", "b", "b"]) == 1.0


def test_without_a_source_there_is_no_figure() -> None:
    """All have been passed over."""
    assert np.isnan(within_source(array(1, 0), array(2, 1), ["a", "a"], ("a",)))


# calibration


def test_ece_of_a_row_a_bin_is_the_mean_gap() -> None:
    """Ten rows fill ten bins."""
    probabilities = array(0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
    targets = array(0, 0, 0, 0, 0, 1, 1, 1, 1, 1)
    assert ece(probabilities, targets) == pytest.approx((0.05 + 0.15 + 0.25 + 0.35 + 0.45) * 2 / 10)


def test_within_a_bin_gaps_cancel() -> None:
    """Of two rows at one half one is right: each bin holds such a pair, except the last two."""
    probabilities = array(*[0.5] * 16, *[0.9] * 4)
    targets = array(*[0, 1] * 8, 1, 1, 0, 0)
    assert ece(probabilities, targets) == pytest.approx((2 * 0.1 + 2 * 0.9) / 20)


def test_bins_hold_equal_mass_rather_than_equal_counts() -> None:
    """One row that weighs as much as nine others makes half of the figure."""
    probabilities = array(*[0.2] * 9, 0.8)
    targets = array(*[0] * 9, 1)
    assert ece(probabilities, targets, array(*[1] * 9, 9)) == pytest.approx(0.2)
    assert ece(probabilities, 1 - targets, array(*[1] * 9, 27)) == pytest.approx(0.8)
    assert ece(probabilities, array(*[0] * 10), array(*[1] * 9, 9)) == pytest.approx((0.2 + 0.8) / 2)


def test_reliability_shows_each_bin(random: np.random.Generator) -> None:
    """Mean probability, mean target and share of mass; their weighted gap is the ECE."""
    probabilities, targets, weights = random.random(500), random.random(500), random.random(500) + 0.5
    bins = np.array(reliability(probabilities, targets, weights))
    assert bins.shape == (10, 3)
    assert bins[:, 2].sum() == pytest.approx(1)
    assert np.all(np.abs(bins[:, 2] - 0.1) < 0.005)
    assert np.all(np.diff(bins[:, 0]) > 0)
    assert bins[:, 2] @ bins[:, 1] == pytest.approx(np.average(targets, weights=weights))
    assert bins[:, 2] @ np.abs(bins[:, 0] - bins[:, 1]) == pytest.approx(ece(probabilities, targets, weights))


def test_bins_without_rows_are_left_out() -> None:
    """Three rows fill three bins at most."""
    bins = reliability(array(0.1, 0.5, 0.9), array(0, 1, 1), np.ones(3))
    np.testing.assert_allclose(bins, [[0.1, 0, 1 / 3], [0.5, 1, 1 / 3], [0.9, 1, 1 / 3]])


@pytest.mark.parametrize("weighted", [False, True])
def test_a_perfect_predictor_has_no_excess_calibration_error(random: np.random.Generator, weighted: bool) -> None:
    """Where plain ECE charges it for the luck of few rows; mean of twenty draws of 200 rows."""
    excess, plain = [], []
    for seed in range(20):
        probabilities = random.random(200)
        weights = random.choice([0.3, 1.0, 3.0], 200) if weighted else None
        targets = (random.random(200) < probabilities).astype(float)
        excess.append(excess_ece(probabilities, targets, weights, seed=seed, draws=100))
        plain.append(ece(probabilities, targets, weights))
    assert np.mean(excess) == pytest.approx(0, abs=0.012)
    assert np.mean(plain) > 0.05


@pytest.mark.parametrize("distortion", [0.4, 2.5])
def test_a_distorted_predictor_has_excess_calibration_error(random: np.random.Generator, distortion: float) -> None:
    """Odds raised to a power are over- or under-confident."""
    probabilities = random.random(1_000)
    targets = (random.random(1_000) < probabilities).astype(float)
    odds = (probabilities / (1 - probabilities)) ** distortion
    assert excess_ece(odds / (1 + odds), targets, draws=100) > 0.05


def test_excess_ece_is_the_same_for_the_same_seed(random: np.random.Generator) -> None:
    """Its null is drawn, and the drawing is seeded."""
    probabilities, targets = random.random(100), (random.random(100) < 0.5).astype(float)
    figures = [excess_ece(probabilities, targets, seed=seed, draws=20) for seed in (3, 3, 4)]
    assert figures[0] == figures[1] != figures[2]


# log-loss


def test_log_loss_is_that_of_scikit_learn(random: np.random.Generator) -> None:
    """A number a row; with weights, rescaled to a mean of 1, their mean is the weighted loss."""
    probabilities, targets, weights = random.random(100), (random.random(100) < 0.4).astype(float), random.random(100)
    assert log_loss(probabilities, targets).mean() == pytest.approx(sklearn_log_loss(targets, probabilities))
    weighted = sklearn_log_loss(targets, probabilities, sample_weight=weights)
    assert log_loss(probabilities, targets, weights).mean() == pytest.approx(weighted)
    assert log_loss(probabilities, targets, 7 * weights).mean() == pytest.approx(weighted)


def test_log_loss_of_certain_error_is_large_and_finite() -> None:
    """Probabilities are cut at one in a million."""
    np.testing.assert_allclose(log_loss(array(0, 1, 0, 1), array(1, 0, 0, 1)), np.array([np.log(1e6)] * 2 + [0] * 2), atol=1e-5)


def test_log_loss_of_a_fractional_target_is_cross_entropy() -> None:
    """One half at one half is a nat's ln 2."""
    np.testing.assert_allclose(log_loss(array(0.5, 0.25), array(0.5, 0.25)), [np.log(2), -0.25 * np.log(0.25) - 0.75 * np.log(0.75)])


# priors


def test_reprior_by_hand() -> None:
    """(.6, .3, .1) times one third over the prior: 1/3 each."""
    prior, even = [0.6, 0.3, 0.1], [1 / 3] * 3
    np.testing.assert_allclose(reprior(np.array([prior, [0.3, 0.3, 0.4]]), prior, even), [even, [0.5 / 5.5, 1 / 5.5, 4 / 5.5]])


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(SHARES, min_size=1, max_size=5), old=SHARES, new=SHARES)
def test_reprior_is_undone_by_the_way_back(rows: list[list[float]], old: list[float], new: list[float]) -> None:
    """And rows stay probabilities."""
    there = reprior(np.array(rows), old, new)
    np.testing.assert_allclose(there.sum(axis=1), 1)
    np.testing.assert_allclose(reprior(there, new, old), rows)


# intervals


def mean_of(sample: Matrix, rows: NDArray[np.int64]) -> float:
    """The statistic of these tests."""
    return float(sample[rows].mean())


def test_bootstrap_intervals_cover_the_truth(random: np.random.Generator) -> None:
    """Nominally 95 in 100; a percentile interval of sixty rows loses a little."""
    covered = 0
    for seed in range(200):
        sample = random.normal(3, 2, 60)
        low, high = bootstrap(partial(mean_of, sample), 60, draws=200, seed=seed)
        covered += low <= 3 <= high
    assert 175 <= covered <= 199


def test_a_bootstrap_interval_is_the_same_for_the_same_seed(random: np.random.Generator) -> None:
    """Figures in a report can be printed again."""
    sample = random.random(40)
    first, same, other = (bootstrap(partial(mean_of, sample), 40, draws=50, seed=seed) for seed in (1, 1, 2))
    assert first == same != other


def test_a_resample_without_a_figure_is_passed_over() -> None:
    """With few rows some resamples hold one kind alone, and their AUC is no number."""
    low, high = bootstrap(lambda rows: float("nan") if rows[0] == 0 else 0.5, 3, draws=50)
    assert (low, high) == (0.5, 0.5)
