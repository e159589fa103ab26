"""What own rows make of a bundle's heads and targets, and how the change is judged: no row has a say in what is said of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from classifier import Router
from classifier.bundle import LAYOUT
from training import crossfit
from training.calibrate import CERTAIN, Calibration, sufficiency_of
from training.crossfit import Reading, base_of, comparison, cross_fit, on_path, serving_paths, shipped, vouched
from training.own import Base, Own
from training.risk import choose
from training.shrinkage import FOREIGN, WIDTH, at_prior, shrunk

pytest_plugins = ("tests.training.fixtures_of_training",)

Matrix = NDArray[np.float64]

UNKNOWN = float("nan")
TIERS = ("small", "medium", "large")
RUBRIC = Base((0.6, 0.3, 0.1), "rubric")
SHIPPED = Calibration((0.5, 1.0, CERTAIN[0]), (1.0, 1.0, CERTAIN[1]))


def labelled(labels: Sequence[int], groups: Sequence[str] | None = None, stated: tuple[float, ...] | None = None) -> Own:
    """Rows with these labels, each a group of its own unless said otherwise."""
    targets = (np.array(labels)[:, None] <= np.arange(3)).astype(np.float64)
    names = np.array([str(at) for at in range(len(labels))] if groups is None else groups)
    return Own("labelled", targets, np.array(labels), np.ones(len(labels)), names, stated)


def measured(*targets: Sequence[float]) -> Own:
    """Rows with these outcomes."""
    n = len(targets)
    return Own("outcomes", np.array(targets, dtype=np.float64), np.full(n, -1), np.ones(n), np.arange(n).astype(str))


def simulated(n: int, seed: int = 0, noise: float = 0.8) -> tuple[Matrix, Own]:
    """Logits of a head that is calibrated at slopes of 0.6, and labels of traffic with shares of about a third each."""
    random = np.random.default_rng(seed)
    hard = random.normal(0, 1.5, n)
    seen = hard + random.normal(0, noise, n)
    labels = (hard > -0.6).astype(int) + (hard > 0.6)
    return np.stack([-1.5 * (seen + 0.6), -1.5 * (seen - 0.6), np.zeros(n)], axis=1), labelled(labels.tolist())


@pytest.fixture(name="router", scope="module")
def _router(accurate_bundle: Path) -> Router:
    """A router with both paths; what it would say of prompts is not asked."""
    return Router.load(accurate_bundle)


@pytest.fixture(name="readings", scope="module")
def _readings() -> dict[str, Reading]:
    """Two heads on the same 300 rows, the second one the better, and a head of outcomes that does not serve."""
    fast, accurate = simulated(300, noise=0.9)[0], simulated(300, noise=0.3)[0]
    return {
        LAYOUT.head: Reading(fast, SHIPPED),
        LAYOUT.accurate_head: Reading(accurate, SHIPPED),
        LAYOUT.outcomes: Reading(fast, SHIPPED, serves=False),
    }


@pytest.fixture(name="few_draws", autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals from few resamples."""
    monkeypatch.setattr(crossfit, "_DRAWS", 40)


# adjusting a head


def test_what_serves_moves_to_the_rows_prior_before_it_is_shrunk_towards() -> None:
    """Heads of outcomes know no prior."""
    logits, own = simulated(60)
    prior = own.prior(RUBRIC)
    moved = shrunk(logits, own.targets, np.ones(60), at_prior(SHIPPED, RUBRIC.prior, prior), top_is_certain=True, width=WIDTH)
    assert Reading(logits, SHIPPED).adjusted(own, RUBRIC) == moved
    left = shrunk(logits, own.targets, np.ones(60), SHIPPED, top_is_certain=True, width=WIDTH)
    assert Reading(logits, SHIPPED, serves=False).adjusted(own, RUBRIC) == left != moved


def test_a_change_of_basis_is_held_back_less() -> None:
    """A rubric says little of the rate at which models succeed; the top tier's is learned."""
    logits, rows = simulated(60)
    own = replace(rows, kind="outcomes", labels=np.full(60, -1), targets=np.where(np.arange(60)[:, None] % 3 == 0, 0.0, rows.targets))
    reading, outcomes = Reading(logits, SHIPPED), Base(RUBRIC.prior, "outcomes")
    assert reading.adjusted(own, RUBRIC) == reading.adjusted(own, RUBRIC, width=FOREIGN) != reading.adjusted(own, RUBRIC, width=WIDTH)
    assert reading.adjusted(own, outcomes) == reading.adjusted(own, outcomes, width=WIDTH)
    assert expit(reading.adjusted(own, RUBRIC).shift[2]) == pytest.approx(40.5 / 61)


def test_a_head_can_be_adjusted_by_some_of_the_rows() -> None:
    """The others, prior and all, have no say."""
    logits, own = simulated(80)
    some = np.arange(80) < 50
    part = Reading(logits[:50], SHIPPED).adjusted(own.rows(some), RUBRIC)
    assert Reading(logits, SHIPPED).adjusted(own, RUBRIC, some) == part


# cross-fitting


def test_paths_say_what_their_heads_say(router: Router, readings: dict[str, Reading]) -> None:
    """The auto path is the accurate one where the fast one comes within the margin of the target."""
    said = shipped(router, readings).said
    assert set(said) == {LAYOUT.head, LAYOUT.accurate_head}
    fast, auto, accurate = (on_path(path, said, 0.7, 0.5) for path in serving_paths(router))
    np.testing.assert_array_equal(fast, sufficiency_of(readings[LAYOUT.head].logits, SHIPPED))
    np.testing.assert_array_equal(accurate, sufficiency_of(readings[LAYOUT.accurate_head].logits, SHIPPED))
    looked = (auto == accurate).all(axis=1)
    assert 0 < looked.mean() < 1
    np.testing.assert_array_equal(auto[~looked], fast[~looked])


def test_before_is_the_bundle_as_it_ships(router: Router, readings: dict[str, Reading]) -> None:
    """With its calibrations and its targets."""
    for path, (sufficiency, chosen) in shipped(router, readings).on.items():
        np.testing.assert_array_equal(chosen, choose(sufficiency, router.policy.target(path)))


def test_no_row_has_a_say_in_what_is_said_of_it(router: Router, readings: dict[str, Reading]) -> None:
    """Labels of a fold are turned round: its rows are scored and decided as before, the others are not."""
    _, own = simulated(300)
    inside = own.folds() == 2
    labels = np.where(inside, 2 - own.labels, own.labels)
    other = replace(labelled(labels.tolist()), groups=own.groups)
    # The folds are dealt by label: the same ones are asked for, so that only the labels differ.
    folds = own.folds()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Own, "folds", lambda _self, _seed=0: folds)
        one, two = (cross_fit(router, readings, rows) for rows in (own, other))
    for path in serving_paths(router):
        for before, after in zip(one.on[path], two.on[path], strict=True):
            np.testing.assert_array_equal(before[inside], after[inside])
        assert np.abs(one.on[path][0] - two.on[path][0])[~inside].max() > 0.01


def test_cross_fitting_mends_a_calibration_that_does_not_suit_the_traffic(router: Router, readings: dict[str, Reading]) -> None:
    """Log-loss and excess calibration error fall on every path."""
    _, own = simulated(300)
    figures = comparison(shipped(router, readings), cross_fit(router, readings, own), own, TIERS)
    assert list(figures) == ["fast", "auto", "accurate"]
    for path in figures.values():
        assert list(path) == ["log-loss", "excess ECE small", "excess ECE medium", "under-routed", "over-routed"]
        assert path["log-loss"]["change"]["value"] < 0
        assert path["excess ECE small"]["after"]["value"] < path["excess ECE small"]["before"]["value"]


def test_few_labels_leave_the_shipped_targets(router: Router, readings: dict[str, Reading]) -> None:
    """And what is known of them is said: observed rates, bounds, and the labels that are missing."""
    _, own = simulated(300)
    some = np.arange(300) < 20
    few = {name: Reading(one.logits[some], one.shipped) for name, one in readings.items()}
    found = vouched(router, shipped(router, few).said, own.rows(some), (1 / 3, 1 / 3, 1 / 3))
    for path in serving_paths(router):
        risk = found[path].risk
        assert risk.target == router.policy.target(path)
        assert not risk.qualified
        assert sum(risk.missing) > 0
        assert sum(risk.n) == 20
        assert found[path].dear is None


def test_enough_labels_choose_the_target(router: Router) -> None:
    """The lowest one under which the bounds hold."""
    logits, own = simulated(4_000, noise=0.2)
    said = {name: sufficiency_of(logits, SHIPPED) for name in (LAYOUT.head, LAYOUT.accurate_head)}
    found = vouched(router, said, own, (0.4, 0.3, 0.3))
    for path in serving_paths(router):
        assert found[path].risk.qualified
        assert found[path].risk.under_bound <= 0.08
        assert found[path].risk.target != router.policy.target(path)


def test_a_target_that_is_bounded_but_dear_has_to_be_asked_for(router: Router) -> None:
    """A head that knows nothing keeps the bounds only where nearly all goes to the top tier: the shipped target stays, and that is said."""
    _, own = simulated(2_000)
    logits = np.random.default_rng(0).normal(2, 0.5, (2_000, 3))
    said = {name: sufficiency_of(logits, SHIPPED) for name in (LAYOUT.head, LAYOUT.accurate_head)}
    careful, told = (vouched(router, said, own, (0.4, 0.3, 0.3), at_any_cost=at_any_cost) for at_any_cost in (False, True))
    for path in serving_paths(router):
        assert careful[path].risk.target == router.policy.target(path)
        assert careful[path].dear == told[path].risk
        assert told[path].risk.qualified
        assert told[path].risk.over > careful[path].risk.over + crossfit.DEARER


def test_outcomes_bound_nothing(router: Router, readings: dict[str, Reading]) -> None:
    """What they cost is no matter of 0 and 1: the targets stay."""
    own = replace(simulated(300)[1], kind="outcomes", labels=np.full(300, -1))
    assert vouched(router, shipped(router, readings).said, own, RUBRIC.prior) == {}


def test_a_bundle_with_one_path_has_one(trained_bundle: Path) -> None:
    """Nothing is said of paths that are not there."""
    router = Router.load(trained_bundle)
    assert serving_paths(router) == ("fast",)
    assert base_of(router) == Base(router.manifest.prior, "rubric")


# figures


def test_routing_errors_of_labels_are_0_or_1() -> None:
    """Too cheap, right, too dear."""
    own, chosen = labelled([1, 1, 1]), np.array([0, 1, 2])
    assert crossfit._under(chosen, own.targets).tolist() == [1, 0, 0]
    assert crossfit._over(chosen, own.targets).tolist() == [0, 0, 1]


def test_routing_errors_of_outcomes_are_what_was_missed_and_what_a_cheaper_tier_would_have_done() -> None:
    """Where no tier does better nothing was missed, and a score that is not known is passed over."""
    own = measured([0.2, 0.5, 0.9], [0.2, 0.5, 0.4], [UNKNOWN, 0.5, 0.4], [0.3, UNKNOWN, UNKNOWN], [UNKNOWN, 0.5, 0.4])
    chosen = np.array([0, 1, 1, 0, 0])
    np.testing.assert_allclose(crossfit._under(chosen, own.targets), [0.7, 0, 0, 0, UNKNOWN])
    np.testing.assert_allclose(crossfit._over(chosen, own.targets), [0, 0.2, 0, 0, 0])


def test_figures_are_means_over_traffic(router: Router, readings: dict[str, Reading]) -> None:
    """Stated shares weigh the rows; without change there is none."""
    own = replace(simulated(300)[1], stated=(0.8, 0.1, 0.1))
    before = shipped(router, readings)
    figures = comparison(before, before, own, TIERS)["fast"]
    chosen = before.on["fast"][1]
    assert figures["under-routed"]["before"]["value"] == pytest.approx(np.average(chosen < own.labels, weights=own.traffic_weights))
    assert figures["over-routed"]["after"]["value"] == pytest.approx(np.average(chosen > own.labels, weights=own.traffic_weights))
    for figure in figures.values():
        assert figure["before"] == figure["after"]
        assert set(figure["change"].values()) == {0.0}


def test_intervals_hold_the_figure(router: Router, readings: dict[str, Reading]) -> None:
    """Low, value and high, in this order."""
    _, own = simulated(300)
    for path in comparison(shipped(router, readings), cross_fit(router, readings, own), own, TIERS).values():
        for figure in path.values():
            for part in figure.values():
                assert part["low"] <= part["value"] <= part["high"]
