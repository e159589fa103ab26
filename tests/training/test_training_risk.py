"""Risk control: exact bounds, the choice of a target, and whether its promise holds under resampling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from training import risk as risk_control
from training.risk import DELTA, GRID, MAX_UNDER, MAX_UNDER_TOP, assess, choose, control, upper_bound

Matrix = NDArray[np.float64]

PRIOR = (0.6, 0.3, 0.1)

# the exact bound


@pytest.mark.parametrize(
    ("failures", "n", "delta", "bound"),
    [(0, 10, 0.05, 0.2589), (1, 10, 0.05, 0.3942), (0, 59, 0.05, 0.0495), (5, 100, 0.025, 0.1128), (3, 20, 0.05, 0.3437)],
)
def test_upper_bound_of_published_tables(failures: int, n: int, delta: float, bound: float) -> None:
    """One-sided Clopper-Pearson limits; (5, 100, .025) is the upper end of the usual two-sided 95 % interval."""
    assert upper_bound(failures, n, delta) == pytest.approx(bound, abs=5e-5)


@settings(deadline=None, max_examples=50)
@given(n=st.integers(1, 500), share=st.floats(0, 1), delta=st.floats(0.005, 0.4))
def test_upper_bound_is_that_of_scipy(n: int, share: float, delta: float) -> None:
    """``binomtest`` computes it by another way."""
    failures = int(share * n)
    expected = binomtest(failures, n, alternative="less").proportion_ci(1 - delta, method="exact").high
    assert upper_bound(failures, n, delta) == pytest.approx(expected)


def test_at_the_bound_so_few_failures_have_probability_delta() -> None:
    """Which is what the bound means."""
    assert binom.cdf(7, 80, upper_bound(7, 80, 0.05)) == pytest.approx(0.05)


@settings(deadline=None, max_examples=50)
@given(failures=st.integers(0, 98), n=st.integers(99, 300))
def test_upper_bound_rises_with_failures_and_falls_with_rows_and_doubt(failures: int, n: int) -> None:
    """More failures, fewer rows or more confidence never lower it; it lies above the observed rate."""
    bound = upper_bound(failures, n, 0.05)
    assert failures / n < bound < upper_bound(failures + 1, n, 0.05)
    assert upper_bound(failures, n + 50, 0.05) < bound < upper_bound(failures, n, 0.01)


@pytest.mark.parametrize(("failures", "n"), [(0, 0), (3, 3), (1, 1)])
def test_nothing_is_bounded_without_a_success(failures: int, n: int) -> None:
    """No rows, or failures alone: the rate may be 1."""
    assert upper_bound(failures, n, 0.05) == 1.0


# decisions at a target


def test_the_cheapest_tier_that_reaches_the_target_is_chosen() -> None:
    """The target itself suffices; where nothing reaches it, the top tier is taken."""
    sufficiency = np.array([[0.9, 0.95, 1.0], [0.5, 0.9, 1.0], [0.1, 0.2, 1.0], [0.1, 0.2, 0.3]])
    assert choose(sufficiency, 0.9).tolist() == [0, 1, 2, 2]
    assert choose(sufficiency, 0.91).tolist() == [1, 2, 2, 2]


def sure(chosen: list[int]) -> Matrix:
    """Sufficiency that makes every target choose these tiers."""
    return np.array([[float(tier >= one) for tier in range(3)] for one in chosen])


def test_rates_and_bounds_at_one_target_by_hand() -> None:
    """Four rows a tier: of medium one is under- and one over-routed, of large two under-routed, of small one over-routed."""
    labels = np.repeat([0, 1, 2], 4)
    risk = assess(sure([0, 0, 0, 1, 0, 1, 1, 2, 0, 1, 2, 2]), labels, PRIOR, 0.8)
    assert risk.target == 0.8
    assert risk.n == (4, 4, 4)
    assert risk.under == pytest.approx(0.3 / 4 + 0.1 / 2)
    assert risk.over == pytest.approx(0.6 / 4 + 0.3 / 4)
    assert risk.under_top == pytest.approx(0.5)
    # Medium and large share delta, so that both bounds hold at once; the top tier's own bound has all of it.
    assert risk.under_bound == pytest.approx(0.3 * upper_bound(1, 4, DELTA / 2) + 0.1 * upper_bound(2, 4, DELTA / 2))
    assert risk.under_top_bound == pytest.approx(upper_bound(2, 4, DELTA))
    assert not risk.qualified


def test_the_cheapest_tier_cannot_be_under_routed() -> None:
    """A prompt that needs the cheapest tier only gets at least that."""
    risk = assess(sure([0] * 100 + [1] * 100 + [2] * 100), np.repeat([0, 1, 2], 100), PRIOR, 0.9)
    assert risk.under == 0
    assert risk.under_bound == pytest.approx(0.4 * upper_bound(0, 100, DELTA / 2))


@pytest.mark.parametrize(("of_large", "qualified"), [(12, True), (20, False)])
def test_the_top_tier_has_a_bound_of_its_own(of_large: int, qualified: bool) -> None:
    """Few of its prompts are a small share of traffic, and still not to be given away: 20 of 100 are too many to be sure of 25 %."""
    chosen = [0] * 400 + [1] * 400 + [1] * of_large + [2] * (100 - of_large)
    risk = assess(sure(chosen), np.repeat([0, 1, 2], [400, 400, 100]), PRIOR, 0.9)
    assert risk.under_bound < MAX_UNDER
    assert risk.qualified is qualified
    assert (risk.under_top_bound <= MAX_UNDER_TOP) is qualified


# the choice of a target


def graded(n: int, seed: int = 0) -> tuple[Matrix, NDArray[np.int64]]:
    """Rows of an informative and calibrated router, and labels drawn from what it says, ``n`` in all, balanced over tiers."""
    random = np.random.default_rng(seed)
    small = random.beta(1.2, 1.2, 20 * n)
    medium = small + (1 - small) * random.beta(2.5, 1, 20 * n)
    draw = random.random(20 * n)
    labels = (draw > small).astype(np.int64) + (draw > medium)
    rows = np.concatenate([np.flatnonzero(labels == tier)[: n // 3] for tier in range(3)])
    return np.stack([small, medium, np.ones(20 * n)], axis=1)[rows], labels[rows]


def rates(sufficiency: Matrix, labels: NDArray[np.int64], target: float) -> tuple[float, float]:
    """Under-routed shares of the medium and of the large rows at ``target``, counted anew."""
    decided = np.where(sufficiency[:, 0] >= target, 0, np.where(sufficiency[:, 1] >= target, 1, 2))
    return float((decided[labels == 1] < 1).mean()), float((decided[labels == 2] < 2).mean())


def test_the_target_is_the_lowest_that_qualifies_with_all_above_it() -> None:
    """Testing goes from the safest down and stops at the first failure, which is what makes the search honest."""
    sufficiency, labels = graded(1_200)
    qualified = []
    for target in GRID:
        medium, large = (round(400 * rate) for rate in rates(sufficiency, labels, float(target)))
        joined = 0.3 * upper_bound(medium, 400, DELTA / 2) + 0.1 * upper_bound(large, 400, DELTA / 2)
        qualified.append(joined <= MAX_UNDER and upper_bound(large, 400, DELTA) <= MAX_UNDER_TOP)
    expected = float(GRID[qualified.index(False) - 1])
    risk = control(sufficiency, labels.tolist(), PRIOR)
    assert risk == assess(sufficiency, labels, PRIOR, expected)
    assert risk.qualified
    assert 0.5 < risk.target < GRID[0]


def test_a_router_that_knows_gets_the_lowest_target() -> None:
    """Nothing is under-routed at any target."""
    risk = control(sure([0] * 200 + [1] * 200 + [2] * 200), np.repeat([0, 1, 2], 200).tolist(), PRIOR)
    assert (risk.target, risk.under, risk.missing) == (GRID[-1], 0, (0, 0, 0))


def test_sufficiency_may_depend_on_the_target() -> None:
    """As it does where a second look is taken near the target: each target is judged by what would be said at it."""
    sufficiency, labels = graded(1_200)
    assert control(lambda _: sufficiency, labels.tolist(), PRIOR) == control(sufficiency, labels.tolist(), PRIOR)
    risk = control(lambda target: sure([0] * 1_200) if target < 0.8 else sufficiency, labels.tolist(), PRIOR)
    fixed = control(sufficiency, labels.tolist(), PRIOR)
    assert risk.target == max(fixed.target, 0.8)
    assert risk == assess(sufficiency, labels, PRIOR, risk.target)


def test_no_target_below_the_first_failure_is_looked_at() -> None:
    """From the safest down, each once: what a lower one would say cannot matter any more."""
    sufficiency, labels = graded(1_200)
    asked: list[float] = []

    def said(target: float) -> Matrix:
        asked.append(target)
        return sufficiency if target >= 0.9 else sure([0] * len(labels))

    risk = control(said, labels.tolist(), PRIOR)
    assert risk.target == 0.9
    assert asked == GRID[: len(asked)].tolist()
    assert asked[-2:] == [0.9, 0.895]


def test_more_caution_gives_a_target_at_least_as_safe() -> None:
    """A tenth of the probability of error costs something."""
    sufficiency, labels = graded(1_200)
    careless, careful = (control(sufficiency, labels.tolist(), PRIOR, delta).target for delta in (0.2, 0.002))
    assert careful > careless


def test_without_enough_labels_the_safest_target_is_taken_and_said_to_be_unproven() -> None:
    """Ten rows a tier without a failure prove little; at these rates some sixty of the dearer tiers would do."""
    labels = np.repeat([0, 1, 2], 10)
    risk = control(np.zeros((30, 3)), labels.tolist(), PRIOR)
    assert not risk.qualified
    assert risk.target == GRID[0]
    assert risk.under == 0
    enough = np.repeat([0, 1, 2], [10 + missing for missing in risk.missing])
    assert control(np.zeros((len(enough), 3)), enough.tolist(), PRIOR).qualified


@settings(deadline=None, max_examples=25)
@given(counts=st.tuples(*[st.integers(1, 90)] * 3), wrong=st.tuples(st.floats(0, 0.1), st.floats(0, 0.15)))
def test_what_does_not_qualify_names_missing_labels_and_what_does_names_none(
    counts: tuple[int, int, int], wrong: tuple[float, float]
) -> None:
    """Never for the cheapest tier, which cannot be under-routed."""
    failing = [0, int(wrong[0] * counts[1]), int(wrong[1] * counts[2])]
    chosen = [one for tier in range(3) for one in [0] * failing[tier] + [tier] * (counts[tier] - failing[tier])]
    labels = np.repeat([0, 1, 2], counts)
    risk = assess(sure(chosen), labels, PRIOR, 0.9)
    assert risk.missing[0] == 0
    assert (sum(risk.missing) == 0) is risk.qualified


def test_the_grid_runs_from_the_safest_down() -> None:
    """From .999 to one half."""
    assert np.all(np.diff(GRID) <= 0)
    assert (GRID[0], GRID[-1]) == (0.999, 0.5)


# the promise


def test_a_bound_is_exceeded_no_more_often_than_stated() -> None:
    """At a fixed target, over 4,000 samples of 150 and 90 rows of tiers that fail at 12 and 20 %."""
    random = np.random.default_rng(0)
    rates, counts, runs = (0.12, 0.2), (150, 90), 4_000
    medium, large = (random.binomial(count, rate, runs) for count, rate in zip(counts, rates, strict=True))
    bounds = {(k, n, delta): upper_bound(k, n, delta) for n in counts for k in range(n + 1) for delta in (DELTA, DELTA / 2)}
    joined = np.array([0.3 * bounds[a, 150, DELTA / 2] + 0.1 * bounds[b, 90, DELTA / 2] for a, b in zip(medium, large, strict=True)])
    top = np.array([bounds[b, 90, DELTA] for b in large])
    allowed = binom.ppf(0.999, runs, DELTA)
    assert (joined < 0.3 * rates[0] + 0.1 * rates[1]).sum() <= allowed
    assert 0 < (top < rates[1]).sum() <= allowed


def test_a_qualified_target_keeps_the_promise_on_the_population(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole search, over resamples of 300 rows: rarely does the chosen target under-route more than was promised."""
    monkeypatch.setattr(risk_control, "_missing", lambda *_: 0)  # what it says has no part in the choice, and it takes long
    sufficiency, labels = graded(30_000, seed=1)
    by_tier = [np.flatnonzero(labels == tier) for tier in range(3)]
    true = {float(target): rates(sufficiency, labels, float(target)) for target in GRID}
    random = np.random.default_rng(2)
    runs, broken, targets = 200, 0, []
    for _ in range(runs):
        rows = np.concatenate([random.choice(of_tier, 100) for of_tier in by_tier])
        risk = control(sufficiency[rows], labels[rows].tolist(), PRIOR)
        if risk.qualified:
            medium, large = true[risk.target]
            broken += 0.3 * medium + 0.1 * large > MAX_UNDER or large > MAX_UNDER_TOP
            targets.append(risk.target)
    assert broken <= binom.ppf(0.999, runs, DELTA)
    assert len(targets) == runs
    assert max(targets) < GRID[0]
