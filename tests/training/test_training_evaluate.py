"""What a bundle is worth: figures by hand, baselines beside them, and the command line."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from classifier import Router, from_text
from classifier.bundle import LAYOUT
from classifier.errors import BundleError
from classifier.head import OnnxHead
from classifier.types import Path as ScorePath
from training.behaviour import Case
from training.dataset import COLLECTIONS, Example, join, read
from training.evaluate import behaviour_cases, evaluate, main, outcome_scores, score
from training.figures import ZEBRA, Scored, behaviour_figures, gains, labelled_figures, outcome_figures
from training.files import DataError
from training.metrics import reprior, soft_auc
from training.table import table

pytest_plugins = ("tests.training.fixtures_of_training",)
pytestmark = pytest.mark.usefixtures("few_resamples")

Matrix = NDArray[np.float64]

TIERS = ("small", "medium", "large")
PRIOR = (0.6, 0.3, 0.1)
UNKNOWN = float("nan")


def write_rows(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """``rows`` as JSONL."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def labelled(name: str, label: int, text: str = "What is this?", **facets: str) -> Example:
    """A row labelled with the tier of this index."""
    targets = tuple(float(tier >= label) for tier in range(3))
    return Example(name, name, "made", from_text(text), targets, label, "test", **facets)  # type: ignore[arg-type]


def measured(name: str, targets: tuple[float, ...], text: str, source: str = "made") -> Example:
    """A row with outcomes."""
    return Example(name, name, source, from_text(text), targets, None, "test")


def scored(
    examples: list[Example], chosen: Sequence[int], sufficiency: Matrix | None = None, twice: Sequence[bool] | None = None
) -> Scored:
    """What a router says that chose these tiers; without ``sufficiency`` it is nearly sure of them, without ``twice`` it never looked
    at a prompt twice.
    """
    if sufficiency is None:
        sufficiency = np.array([[0.02, 0.04, 1.0], [0.03, 0.95, 1.0], [0.92, 0.97, 1.0]])[::-1][list(chosen)]
    probabilities = np.diff(np.hstack([np.zeros((len(sufficiency), 1)), sufficiency[:, :2], np.ones((len(sufficiency), 1))]), axis=1)
    looked = np.zeros(len(examples), dtype=bool) if twice is None else np.array(twice)
    return Scored(examples, sufficiency=sufficiency, probabilities=probabilities, chosen=np.array(chosen), accurate=looked)


@pytest.fixture(name="six", scope="module")
def _six() -> list[Example]:
    """Two rows a tier: the dearer the longer."""
    return [labelled(str(index), index // 2, "What is this? " * (1 + index // 2)) for index in range(6)]


# labelled rows, by hand


@pytest.fixture(name="figures", scope="module")
def _figures(six: list[Example], few_resamples: None) -> dict[str, Any]:
    """Chosen small, large; medium, small; large, medium: three exact, two under-routed, one over-routed."""
    return labelled_figures(scored(six, [0, 2, 1, 0, 2, 1]), PRIOR)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        ("balanced", {"exact": 3 / 6, "under": 2 / 6, "over": 1 / 6, "two_off": 1 / 6}),
        ("stated", {"exact": 0.3 + 0.15 + 0.05, "under": 0.15 + 0.05, "over": 0.3, "two_off": 0.3}),
    ],
)
def test_tier_figures_of_the_policy_by_hand(figures: dict[str, Any], prior: str, expected: dict[str, float]) -> None:
    """At the stated prior each small row stands for .3 of traffic, each medium row for .15, each large one for .05."""
    assert {name: figure["value"] for name, figure in figures[prior]["policy"].items()} == pytest.approx(expected)


def test_counts_and_confusion_by_hand(figures: dict[str, Any]) -> None:
    """A row of the confusion is the label, a column what was said."""
    assert (figures["n"], figures["n_by_tier"]) == (6, [2, 2, 2])
    assert figures["confusion"] == [[1, 0, 1], [1, 1, 0], [0, 1, 1]]


def test_exact_under_and_over_are_all_there_is(figures: dict[str, Any]) -> None:
    """Whoever decides, at either prior, the baselines included."""
    for prior in ("stated", "balanced"):
        for decided in figures[prior].values():
            assert sum(decided[event]["value"] for event in ("exact", "under", "over")) == pytest.approx(1)
        for baseline in figures["baselines"][prior].values():
            assert sum(baseline.values()) == pytest.approx(1)


def test_every_tier_figure_carries_its_interval(figures: dict[str, Any]) -> None:
    """With six rows a wide one."""
    exact = figures["balanced"]["policy"]["exact"]
    assert exact["low"] < exact["value"] < exact["high"]


def test_the_most_likely_tier_depends_on_the_prior(six: list[Example]) -> None:
    """Of (.5, .3, .2) at the stated prior the balanced one makes (.23, .27, .54)."""
    sufficiency = np.tile([0.5, 0.8, 1.0], (6, 1))
    probabilities = np.array([[0.5, 0.3, 0.2]])
    np.testing.assert_allclose(reprior(probabilities, PRIOR, [1 / 3] * 3), [[5 / 23, 6 / 23, 12 / 23]], atol=1e-9)
    figures = labelled_figures(scored(six, [1] * 6, sufficiency), PRIOR)
    assert figures["stated"]["most_likely"]["under"]["value"] == pytest.approx(0.4)
    assert figures["balanced"]["most_likely"]["over"]["value"] == pytest.approx(2 / 3)


def test_ranking_of_a_router_that_knows(six: list[Example]) -> None:
    """One boundary below the top each."""
    figures = labelled_figures(scored(six, [0, 0, 1, 1, 2, 2]), PRIOR)
    assert {name: figure["value"] for name, figure in figures["auc"].items()} == {"up_to_0": 1, "up_to_1": 1}


def test_ranking_by_hand(figures: dict[str, Any]) -> None:
    """Up to small the positives are scored .92 and .02, the negatives .03, .92, .02 and .03; up to medium the positives .97, .04,
    .95 and .97, the negatives .04 and .95.
    """
    assert figures["auc"]["up_to_0"]["value"] == pytest.approx((3.5 + 0.5) / 8)
    assert figures["auc"]["up_to_1"]["value"] == pytest.approx((2 + 0.5 + 1.5 + 2) / 8)


def test_calibration_covers_each_tier_and_the_confidence(six: list[Example]) -> None:
    """Confidence is the sufficiency of the tier chosen: here .9 for rows that suffice, and 1 for those at the top."""
    sufficiency = np.tile([0.1, 0.9, 1.0], (6, 1))
    calibration = labelled_figures(scored(six, [1, 1, 1, 1, 2, 2], sufficiency), PRIOR)["calibration"]
    assert set(calibration) == {"up_to_0", "up_to_1", "confidence"}
    assert calibration["confidence"]["ece"] == pytest.approx(0.9 * 0.1)
    assert calibration["up_to_0"]["log_loss"] == pytest.approx(-0.6 * np.log(0.1) - 0.4 * np.log(0.9))
    assert sum(share for _, _, share in calibration["up_to_0"]["reliability"]) == pytest.approx(1)


def test_slices_are_by_task_style_and_language() -> None:
    """A row that does not say is under "-"."""
    examples = [labelled("a", 0, task="debug"), labelled("b", 1, task="debug"), labelled("c", 2, language="de"), labelled("d", 2)]
    slices = labelled_figures(scored(examples, [0, 0, 2, 2]), PRIOR)["slices"]
    assert slices["task"]["debug"] == {"n": 2, "exact": pytest.approx(1 / 2), "under": pytest.approx(1 / 2)}
    assert slices["task"]["-"]["n"] == 2
    assert {name: part["n"] for name, part in slices["language"].items()} == {"-": 3, "de": 1}
    assert {name: part["exact"] for name, part in slices["style"].items()} == {"-": pytest.approx(2 / 3)}


# baselines


def test_constant_tiers_stand_beside_the_router(figures: dict[str, Any]) -> None:
    """At the stated prior each is right as often as its tier is asked for."""
    stated, balanced = figures["baselines"]["stated"], figures["baselines"]["balanced"]
    assert stated["always_0"] == pytest.approx({"exact": 0.6, "under": 0.4, "over": 0})
    assert stated["always_1"] == pytest.approx({"exact": 0.3, "under": 0.1, "over": 0.6})
    assert stated["always_2"] == pytest.approx({"exact": 0.1, "under": 0, "over": 0.9})
    assert [balanced[f"always_{tier}"]["exact"] for tier in range(3)] == pytest.approx([1 / 3] * 3)


def test_the_oracle_never_errs(figures: dict[str, Any]) -> None:
    """The ceiling that is always shown."""
    assert figures["baselines"]["stated"]["oracle"] == {"exact": 1, "under": 0, "over": 0}


def test_chance_follows_the_shares_of_traffic() -> None:
    """By the stated prior it hits .36 + .09 + .01, by the balanced one a third."""
    examples = [labelled(str(index), index % 3) for index in range(3_000)]
    baselines = labelled_figures(scored(examples, [0] * 3_000), PRIOR)["baselines"]
    assert baselines["stated"]["random_mix"]["exact"] == pytest.approx(0.46, abs=0.03)
    assert baselines["balanced"]["random_mix"]["exact"] == pytest.approx(1 / 3, abs=0.03)


def test_length_alone_is_given_its_best_thresholds(figures: dict[str, Any]) -> None:
    """Where the dearer is the longer it is never wrong, and ranks perfectly."""
    assert figures["baselines"]["balanced"]["length_only"]["exact"] == 1
    assert figures["baselines"]["auc"]["length_only"] == {"up_to_0": 1, "up_to_1": 1}


def test_keywords_are_given_their_best_thresholds() -> None:
    """Where the dearer holds more of the words that others route by, likewise."""
    words = ["hello there", "compare these", "plan and design the migration, and why"]
    examples = [labelled(str(index), index, words[index]) for index in range(3)]
    baselines = labelled_figures(scored(examples, [0, 1, 2]), PRIOR)["baselines"]
    assert baselines["balanced"]["keywords"]["exact"] == 1
    assert baselines["auc"]["keywords"] == {"up_to_0": 1, "up_to_1": 1}


WORDS = ("greet", "fix", "plan")


def in_words(n: int, order: Sequence[int] = (0, 1, 2)) -> list[Example]:
    """``n`` rows a tier, each tier with a word of its own; ``order`` says which."""
    return [labelled(f"{tier}-{index}", tier, f"{WORDS[order[tier]]} it") for tier in range(3) for index in range(n)]


def baselines_of(examples: list[Example], train: Sequence[Example]) -> dict[str, Any]:
    """The baselines beside a router that always says the cheapest."""
    found: dict[str, Any] = labelled_figures(scored(examples, [0] * len(examples)), PRIOR, train=train)["baselines"]
    return found


def test_a_bag_of_words_is_learned_from_the_training_rows() -> None:
    """What wording gives away there it gives away here; learned from rows that say otherwise, it is wrong."""
    examples = in_words(5)
    for order, right in (((0, 1, 2), 1), ((1, 2, 0), 0)):
        assert baselines_of(examples, in_words(20, order))["balanced"]["bag_of_words"]["exact"] == right
    assert baselines_of(examples, in_words(20))["auc"]["bag_of_words"] == {"up_to_0": 1, "up_to_1": 1}


def test_a_bag_of_words_that_knows_nothing_follows_the_shares_of_traffic() -> None:
    """Of words that it never saw the stated prior decides."""
    examples = [labelled(str(tier), tier, "zebra") for tier in range(3)]
    assert baselines_of(examples, in_words(20))["stated"]["bag_of_words"]["exact"] == pytest.approx(0.6)


@pytest.mark.parametrize("tiers", [(), (0, 1), (2,)])
def test_without_training_rows_of_every_tier_there_is_no_bag_of_words(six: list[Example], tiers: tuple[int, ...]) -> None:
    """Outcomes are none: they have no label."""
    train = [example for example in in_words(20) if example.label in tiers]
    found = baselines_of(six, [*train, *(measured(str(index), (0.5, 0.5, 0.5), "plan it") for index in range(20))])
    assert not any("bag_of_words" in part for part in found.values())
    assert found["balanced"].keys() == baselines_of(six, [])["balanced"].keys()


# what the accurate path brought, by hand


@pytest.fixture(name="gained", scope="module")
def _gained(six: list[Example], few_resamples: None) -> dict[str, Any]:
    """The accurate path knows; the fast one is as in ``figures``. A small row and both large ones were looked at twice."""
    knows = scored(six, [0, 0, 1, 1, 2, 2], twice=[True, False, False, False, True, True])
    return gains(knows, scored(six, [0, 2, 1, 0, 2, 1]), PRIOR)


def test_gains_are_differences_by_hand(gained: dict[str, Any], figures: dict[str, Any]) -> None:
    """Ranking at each boundary, and exact decisions, which were half of them at the balanced prior."""
    value = {name: figure["value"] for name, figure in gained.items()}
    for tier in range(2):
        assert value[f"auc_up_to_{tier}"] == pytest.approx(1 - figures["auc"][f"up_to_{tier}"]["value"])
    assert value["exact"] == pytest.approx(1 / 2)


def test_the_gain_in_log_loss_is_below_0_where_there_is_one(gained: dict[str, Any], six: list[Example], figures: dict[str, Any]) -> None:
    """At the stated prior, the mean over the boundaries."""
    knows = labelled_figures(scored(six, [0, 0, 1, 1, 2, 2]), PRIOR)["calibration"]
    fast = figures["calibration"]
    expected = np.mean([knows[f"up_to_{tier}"]["log_loss"] - fast[f"up_to_{tier}"]["log_loss"] for tier in range(2)])
    assert gained["log_loss"]["value"] == pytest.approx(expected)
    assert expected < 0


def test_how_often_it_was_asked_is_a_share_of_traffic(gained: dict[str, Any]) -> None:
    """A small row stands for .3 of it, two large ones for .05 each."""
    assert gained["asked"]["value"] == pytest.approx(0.3 + 0.05 + 0.05)


def test_a_path_that_says_the_same_gains_nothing(six: list[Example]) -> None:
    """Exactly, since both are drawn together: the intervals hold nothing but 0."""
    same = scored(six, [0, 2, 1, 0, 2, 1])
    gained = gains(same, same, PRIOR)
    assert all(figure == {"value": 0, "low": 0, "high": 0} for figure in gained.values())


# outcomes


@pytest.fixture(name="outcomes", scope="module")
def _outcomes(few_resamples: None) -> dict[str, Any]:
    """Two sources of two rows, ranked rightly in the first and wrongly in the second; the dear tier was measured in the first alone."""
    examples = [
        measured("1", (0.75, 0.5), "short", "quiz"),
        measured("2", (0.25, 0.9), "a longer question", "quiz"),
        measured("3", (0.75, UNKNOWN), "a very much longer question", ZEBRA),
        measured("4", (0.25, UNKNOWN), "hm", ZEBRA),
    ]
    logits = np.array([[2.0, 0], [1, 1], [0, 9], [3, -9]])
    sufficiency = np.array([[0.75, 0.9], [0.25, 0.8], [0.75, 0], [0.25, 0]])
    return outcome_figures(examples, logits, sufficiency, ("cheap", "dear"))


def test_outcomes_are_counted_by_source(outcomes: dict[str, Any]) -> None:
    """All rows, and those that know the tier."""
    assert (outcomes["n"], outcomes["sources"]) == (4, {"quiz": 2, ZEBRA: 2})
    assert (outcomes["cheap"]["n"], outcomes["dear"]["n"]) == (4, 2)


def test_outcomes_are_ranked_in_the_pool_and_within_sources(outcomes: dict[str, Any]) -> None:
    """3/4 in the first source, as its oracle has, and 1/4 in the second; zebra apart."""
    ranking = {name: figure["value"] for name, figure in outcomes["cheap"]["auc"].items()}
    pooled = soft_auc(np.array([0.75, 0.25, 0.75, 0.25]), np.array([2.0, 1, 0, 3]))
    assert ranking == pytest.approx({"pooled": pooled, "within_source": 0.5, "within_source_without_zebra": 0.75})


def test_a_collection_is_ranked_within_its_parts() -> None:
    """And counts as one source: its parts are ranked rightly and wrongly, the other source rightly."""
    parts = [replace(measured(str(at), (at % 2,), "x" * (at + 1), COLLECTIONS[0]), category="ab"[at // 2]) for at in range(4)]
    examples = [*parts, measured("4", (0,), "x", "quiz"), measured("5", (1,), "x", "quiz")]
    logits = np.array([[0.0], [1], [1], [0], [0], [1]])
    figures = outcome_figures(examples, logits, expit(logits), ("cheap",))
    assert figures["sources"] == {f"{COLLECTIONS[0]}/a": 2, f"{COLLECTIONS[0]}/b": 2, "quiz": 2}
    assert figures["cheap"]["auc"]["within_source"]["value"] == pytest.approx((0.5 + 1) / 2)


def test_what_nobody_measured_does_not_count(outcomes: dict[str, Any]) -> None:
    """The dear tier is ranked over the first two rows: positives 1/2 and 9/10, negatives 1/2 and 1/10."""
    assert outcomes["dear"]["auc"]["pooled"]["value"] == pytest.approx((0.5 * 0.25 + 0.9 * 0.55) / (1.4 * 0.6))


def test_outcomes_have_baselines_of_their_own(outcomes: dict[str, Any]) -> None:
    """Short is easy in the first source and hard in the second; knowing the source's rate is knowing nothing here."""
    baselines = outcomes["cheap"]["baselines"]
    assert baselines["length_only"]["within_source"]["value"] == pytest.approx(0.5)
    assert baselines["length_only"]["within_source_without_zebra"]["value"] == pytest.approx(0.75)
    assert baselines["source_rate"]["pooled"]["value"] == pytest.approx(0.5)
    assert baselines["oracle"]["within_source"]["value"] == pytest.approx(0.75)


def test_outcomes_are_calibrated_at_their_own_calibration(outcomes: dict[str, Any]) -> None:
    """By the sufficiency given: exact for the cheap tier, off by .4 and .1 for the dear one."""
    assert outcomes["cheap"]["calibration"]["ece"] == pytest.approx(0)
    assert outcomes["dear"]["calibration"]["ece"] == pytest.approx(0.25)


# behaviour, by hand


RESULTS = {"invariance": {"typos": [True, False], "casing": [True, True, True, False]}, "mft": {"small": [True] * 4}}


def test_behaviour_is_the_share_of_cases_that_pass() -> None:
    """Of a suite over all its cases, however they are spread over its kinds, and of each kind."""
    figures = behaviour_figures(RESULTS)
    assert {suite: (part["n"], part["rate"]["value"]) for suite, part in figures.items()} == {"invariance": (6, 4 / 6), "mft": (4, 1)}
    assert figures["invariance"]["kinds"] == {"typos": {"n": 2, "rate": 0.5}, "casing": {"n": 4, "rate": 0.75}}


def test_the_rate_of_a_suite_carries_its_interval() -> None:
    """A wide one where cases are few, none where all pass, and the same for the same seed."""
    rate = behaviour_figures(RESULTS)["invariance"]["rate"]
    assert 0 < rate["low"] < rate["value"] < rate["high"] <= 1
    assert behaviour_figures(RESULTS)["mft"]["rate"] == {"value": 1, "low": 1, "high": 1}
    many = {"invariance": {"typos": [True, False] * 50}}
    assert behaviour_figures(many, seed=0) == behaviour_figures(many, seed=0) != behaviour_figures(many, seed=1)


def test_no_suite_has_no_figures() -> None:
    """Bundles that were not tried have no part for it."""
    assert behaviour_figures({}) == {}


# a bundle


@pytest.fixture(name="tiny_router", scope="module")
def _tiny_router(trained_bundle: Path) -> Router:
    """The tiny bundle as it serves."""
    return Router.load(trained_bundle)


def test_a_score_is_what_the_server_would_decide(tiny_router: Router, tiny_examples: list[Example]) -> None:
    """The same sufficiency, and the same tier, for prompts that fit every context window."""
    found = score(tiny_router, tiny_examples[::10])
    decisions = tiny_router.route([example.prompt for example in tiny_examples[::10]])
    assert [TIERS[tier] for tier in found.chosen] == [decision.tier for decision in decisions]
    np.testing.assert_array_equal(found.sufficiency, [decision.scores.sufficiency for decision in decisions])
    np.testing.assert_array_equal(found.probabilities, [decision.scores.probabilities for decision in decisions])
    assert len(set(found.chosen.tolist())) > 1


def test_labels_of_outcomes_are_marked(tiny_router: Router) -> None:
    """-1 is no tier."""
    found = score(tiny_router, [labelled("1", 2), measured("2", (0.5, UNKNOWN, 1.0), "and this?")])
    assert found.labels.tolist() == [2, -1]
    np.testing.assert_array_equal(found.targets, [[0, 0, 1], [0.5, UNKNOWN, 1]])


def test_evaluation_has_a_part_for_each_kind_of_row(
    tiny_router: Router, trained_bundle: Path, tiny_examples: list[Example], tiny_outcomes: Path
) -> None:
    """And says which bundle it is about."""
    outcomes = read([tiny_outcomes])[:30]
    result = evaluate(tiny_router, trained_bundle, [*tiny_examples[::8], *outcomes])
    assert result.keys() == {"bundle", "tiers", "path", "labelled", "outcomes"}
    assert (result["bundle"], result["labelled"]["n"], result["outcomes"]["n"]) == (tiny_router.manifest.version, 30, 30)
    assert "outcomes" not in evaluate(tiny_router, trained_bundle, tiny_examples[::8])


def test_evaluation_has_a_part_for_behaviour_where_there_are_cases(
    tiny_router: Router, trained_bundle: Path, tiny_examples: list[Example]
) -> None:
    """A prompt compared with itself always passes, one that must get every tier passes once."""
    text = "What is the capital of France?"
    cases = [Case("invariance", "same", text, text), *(Case("mft", "each", text, tier=tier) for tier in TIERS)]
    result = evaluate(tiny_router, trained_bundle, tiny_examples[::8], cases=cases)
    assert result["behaviour"]["invariance"]["kinds"] == {"same": {"n": 1, "rate": 1}}
    assert result["behaviour"]["mft"]["kinds"] == {"each": {"n": 3, "rate": pytest.approx(1 / 3)}}
    shown = table(result)
    assert "behaviour invariance 1.000 [1.000, 1.000] of 1 pass (same 1.00)" in shown
    assert "of 3 pass (each 0.33)" in shown


def test_evaluation_is_the_same_twice(tiny_router: Router, trained_bundle: Path, tiny_examples: list[Example]) -> None:
    """Its intervals and nulls are drawn by a seed."""
    first, same, other = (evaluate(tiny_router, trained_bundle, tiny_examples[::8], seed=seed) for seed in (0, 0, 1))
    assert first == same != other


def test_outcomes_cannot_be_judged_by_a_bundle_that_never_saw_any(
    make_bundle: Callable[..., Path], tiny_examples: list[Example], tiny_outcomes: Path, tmp_path: Path
) -> None:
    """It has no graph for them, and says so."""
    bundle = make_bundle(tmp_path, tiny_examples)
    with pytest.raises(BundleError, match=r"found no entry in the manifest, expected a bundle that was trained with outcomes"):
        evaluate(Router.load(bundle), bundle, read([tiny_outcomes]))


# a bundle with two paths


@pytest.fixture(name="two_paths", scope="module")
def _two_paths(accurate_bundle: Path) -> Router:
    """It as it serves."""
    return Router.load(accurate_bundle)


PATHS: tuple[ScorePath, ...] = ("fast", "auto", "accurate")


@pytest.mark.parametrize("path", PATHS)
def test_a_score_on_a_path_is_what_the_server_would_decide_on_it(two_paths: Router, tiny_examples: list[Example], path: ScorePath) -> None:
    """At the target of that path, whoever scored the row in the end."""
    found = score(two_paths, tiny_examples[::4], path)
    decisions = two_paths.route([example.prompt for example in tiny_examples[::4]], path=path)
    assert [TIERS[tier] for tier in found.chosen] == [decision.tier for decision in decisions]
    np.testing.assert_array_equal(found.sufficiency, [decision.scores.sufficiency for decision in decisions])
    assert found.accurate.tolist() == [decision.scores.path == "accurate" for decision in decisions]


def test_only_auto_looks_twice_at_some(two_paths: Router, tiny_examples: list[Example]) -> None:
    """The fast path at none, the accurate one at all."""
    shares = [score(two_paths, tiny_examples[::4], path).accurate.mean() for path in PATHS]
    assert shares[0] == 0 < shares[1] < 1 == shares[2]


def test_a_bundle_with_one_path_looks_at_nothing_twice(tiny_router: Router, tiny_examples: list[Example]) -> None:
    """Whatever is asked for."""
    assert not any(score(tiny_router, tiny_examples[::20], path).accurate.any() for path in PATHS)


def test_evaluation_says_what_the_accurate_path_brought(
    two_paths: Router, accurate_bundle: Path, tiny_router: Router, trained_bundle: Path, tiny_examples: list[Example]
) -> None:
    """Where there is one and it was asked; the table has a line for it."""
    rows = tiny_examples[::8]
    results = {path: evaluate(two_paths, accurate_bundle, rows, path) for path in PATHS}
    assert [result["path"] for result in results.values()] == list(PATHS)
    assert "against_fast" not in results["fast"]["labelled"]
    assert "against_fast" not in evaluate(tiny_router, trained_bundle, rows)["labelled"]
    asked = {path: results[path]["labelled"]["against_fast"]["asked"]["value"] for path in PATHS[1:]}
    assert 0 < asked["auto"] < asked["accurate"] == 1
    exact = {path: results[path]["labelled"]["balanced"]["policy"]["exact"]["value"] for path in PATHS}
    assert results["auto"]["labelled"]["against_fast"]["exact"]["value"] == pytest.approx(exact["auto"] - exact["fast"])
    assert f"accurate path asked for {asked['auto']:.3f} [" in table(results["auto"])
    assert "accurate path" not in table(results["fast"])


def test_a_table_may_hold_the_fast_paths_figures_as_well(two_paths: Router, accurate_bundle: Path, tiny_examples: list[Example]) -> None:
    """Below the others, under the same name of the bundle."""
    auto, fast = (evaluate(two_paths, accurate_bundle, tiny_examples[::8], path) for path in ("auto", "fast"))
    assert table({**auto, "fast": fast}) == f"{table(auto)}\n\n{table(fast)}"
    renamed = table({**auto, "fast": fast, "bundle": "later"})
    assert renamed.count("bundle later, path ") == 2


def test_outcomes_are_scored_by_the_path_that_is_asked_for(two_paths: Router, accurate_bundle: Path, tiny_outcomes: Path) -> None:
    """The fast path by its own graph; the accurate one by the stack of that graph's logits and the transformer's vector. To ``auto``
    all are close: it decides by the rubric, and these are not decided.
    """
    outcomes = read([tiny_outcomes])[:12]
    prompts = [example.prompt for example in outcomes]
    found = {path: outcome_scores(two_paths, accurate_bundle, outcomes, path) for path in PATHS}
    fast = OnnxHead(accurate_bundle / LAYOUT.outcomes).run(*two_paths.features(prompts))
    assert two_paths.accurate is not None
    vectors = two_paths.accurate.encoder.encode([prompt.text for prompt in prompts])
    accurate = OnnxHead(accurate_bundle / LAYOUT.accurate_outcomes).run(fast[0], vectors)
    for path, expected in zip(PATHS, (fast, accurate, accurate), strict=True):
        np.testing.assert_array_equal(found[path][0], expected[0])
        np.testing.assert_array_equal(found[path][1], expected[1])
        assert found[path][0].dtype == np.float64
    assert np.abs(found["fast"][0] - found["accurate"][0]).max() > 0.01


def test_a_bundle_with_one_path_scores_outcomes_by_it(tiny_router: Router, trained_bundle: Path, tiny_outcomes: Path) -> None:
    """Whatever is asked for."""
    outcomes = read([tiny_outcomes])[:12]
    found = [outcome_scores(tiny_router, trained_bundle, outcomes, path) for path in PATHS]
    for logits, sufficiency in found[1:]:
        np.testing.assert_array_equal(logits, found[0][0])
        np.testing.assert_array_equal(sufficiency, found[0][1])


def test_outcomes_cannot_be_judged_by_an_accurate_path_that_never_saw_any(accurate_bundle: Path, tiny_outcomes: Path) -> None:
    """Its graph for them is named; the fast path judges them still."""
    router = Router.load(accurate_bundle)
    files = {name: digest for name, digest in router.manifest.files.items() if name != LAYOUT.accurate_outcomes}
    router.manifest = replace(router.manifest, files=files)
    outcomes = read([tiny_outcomes])[:3]
    with pytest.raises(BundleError, match=r"accurate/outcomes\.onnx: found no entry in the manifest, expected a bundle that was trained"):
        outcome_scores(router, accurate_bundle, outcomes, "accurate")
    assert len(outcome_scores(router, accurate_bundle, outcomes, "fast")[0]) == 3


# the command


def test_the_command_prints_the_table_and_writes_every_figure(
    trained_bundle: Path, tiny_prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file holds what the table shows, and more."""
    file = tmp_path / "figures.json"
    assert main(["--bundle", str(trained_bundle), "--data", str(tiny_prompts), "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert printed.strip() == table(figures)
    assert figures["labelled"]["n"] == sum(example.split == "test" for example in read([tiny_prompts]))
    exact = figures["labelled"]["stated"]["policy"]["exact"]
    assert f"{exact['value']:.3f} [{exact['low']:.3f}, {exact['high']:.3f}]" in printed


def test_the_command_takes_a_folder_of_bundles(trained_bundle: Path, tiny_prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CURRENT says which."""
    assert main(["--bundle", str(trained_bundle.parent), "--data", str(tiny_prompts)]) == 0
    assert capsys.readouterr().out.startswith(f"bundle {trained_bundle.name}, path auto\n")


def test_the_command_evaluates_the_split_that_is_asked_for(
    trained_bundle: Path, tiny_prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Test rows by default."""
    counts = {}
    for split in ("test", "train", "all"):
        file = tmp_path / f"{split}.json"
        assert main(["--bundle", str(trained_bundle), "--data", str(tiny_prompts), "--split", split, "--json", str(file)]) == 0
        counts[split] = json.loads(file.read_text(encoding="utf-8"))["labelled"]["n"]
    assert counts["all"] == 240 == counts["test"] + counts["train"]


def test_the_bag_of_words_learns_from_the_training_rows_of_the_data(
    trained_bundle: Path, tiny_prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where test rows are evaluated; it would know by heart what it is judged on otherwise."""
    for split, learned in (("test", True), ("train", False), ("all", False)):
        figures = figures_of(tmp_path, "--bundle", str(trained_bundle), "--data", str(tiny_prompts), "--split", split)
        assert ("bag_of_words" in figures["labelled"]["baselines"]["balanced"]) is learned
        assert ("bag_of_words" in capsys.readouterr().out) is learned


def test_the_command_evaluates_the_path_that_is_asked_for(
    accurate_bundle: Path, tiny_prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``auto`` by default, as in serving; the table says which."""
    for arguments, path in (((), "auto"), (("--path", "fast"), "fast"), (("--path", "accurate"), "accurate")):
        figures = figures_of(tmp_path, "--bundle", str(accurate_bundle), "--data", str(tiny_prompts), *arguments)
        assert figures["path"] == path
        assert capsys.readouterr().out.startswith(f"bundle {accurate_bundle.name}, path {path}\n")


def test_the_table_shows_baselines_and_calibration(trained_bundle: Path) -> None:
    """The honest company of every figure."""
    shown = table(json.loads((trained_bundle / "metrics.json").read_text(encoding="utf-8")))
    for words in ("always_0", "random_mix", "length_only", "keywords", "oracle", "source_rate", "excess ECE", "under-routed", "outcomes: "):
        assert words in shown


def test_bad_data_ends_the_command_with_its_place(trained_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and one line that names it."""
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "prompt": "x", "tier": "huge"}\n', encoding="utf-8")
    assert main(["--bundle", str(trained_bundle), "--data", str(tmp_path)]) == 1
    assert capsys.readouterr().err.strip().endswith("rows.jsonl:1: tier: found 'huge', expected one of small, medium, large")


def test_data_without_rows_of_the_split_end_the_command(trained_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table would look like a result."""
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "prompt": "x", "tier": "small", "split": "train"}\n', encoding="utf-8")
    assert main(["--bundle", str(trained_bundle), "--data", str(tmp_path)]) == 1
    assert "no rows of split test" in capsys.readouterr().err


def test_a_tier_without_rows_ends_the_command(trained_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to stand for its share of traffic."""
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "prompt": "x", "tier": "small", "split": "test"}\n', encoding="utf-8")
    assert main(["--bundle", str(trained_bundle), "--data", str(tmp_path)]) == 1
    assert "no labelled row of tier 1" in capsys.readouterr().err


def test_a_bundle_that_must_not_serve_is_not_evaluated(
    trained_bundle: Path, tiny_prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its figures would be of something else."""
    broken = shutil.copytree(trained_bundle, tmp_path / "broken")
    (broken / "policy.json").write_text("{}", encoding="utf-8")
    assert main(["--bundle", str(broken), "--data", str(tiny_prompts)]) == 1
    assert "policy.json: found sha256" in capsys.readouterr().err


# the command, on labels that stand apart from their texts


@pytest.fixture(name="labels", scope="module")
def _labels(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(labels, texts): nine rows of which every tier has three, all for training or testing as their hash decides."""
    folder = tmp_path_factory.mktemp("labels")
    rows = [{"id": index, "tier": TIERS[index % 3], "sure": 1 + index % 3} for index in range(9)]
    texts = [{"id": index, "prompt": f"Question {index} of a reader"} for index in range(12)]
    return str(write_rows(folder / "readers.jsonl", rows)), str(write_rows(folder / "texts.jsonl", texts))


def figures_of(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """What the command writes that ends well."""
    file = tmp_path / "figures.json"
    assert main([*arguments, "--json", str(file)]) == 0
    figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return figures


def test_the_command_evaluates_labels_by_id(trained_bundle: Path, labels: tuple[str, str], tmp_path: Path) -> None:
    """Without other data, and without the texts that nobody labelled."""
    figures = figures_of(tmp_path, "--bundle", str(trained_bundle), "--labels", *labels, "--split", "all")
    assert (figures["labelled"]["n"], figures["labelled"]["n_by_tier"]) == (9, [3, 3, 3])
    assert "behaviour" not in figures


def test_the_command_evaluates_labels_and_data_together(
    trained_bundle: Path, tiny_prompts: Path, labels: tuple[str, str], tmp_path: Path
) -> None:
    """As many pairs of files as are given."""
    common = ["--bundle", str(trained_bundle), "--data", str(tiny_prompts), "--split", "all", "--labels", *labels]
    assert figures_of(tmp_path, *common)["labelled"]["n"] == 240 + 9
    more = write_rows(tmp_path / "more.jsonl", [{"id": index, "tier": "small"} for index in (9, 10)])
    assert figures_of(tmp_path, *common, "--labels", str(more), labels[1])["labelled"]["n"] == 240 + 9 + 2


def test_labels_are_of_a_split_as_other_rows_are(trained_bundle: Path, tiny_prompts: Path, labels: tuple[str, str], tmp_path: Path) -> None:
    """The hash of their text decides."""
    common = ["--bundle", str(trained_bundle), "--data", str(tiny_prompts), "--labels", *labels]
    counts = {split: figures_of(tmp_path, *common, "--split", split)["labelled"]["n"] for split in ("test", "train")}
    held = sum(example.split == "test" for example in join(Path(labels[0]), Path(labels[1])))
    assert 0 < held < 9
    assert counts["test"] == held + sum(example.split == "test" for example in read([tiny_prompts]))
    assert counts["train"] == 240 + 9 - counts["test"]


def test_a_label_without_a_text_ends_the_command_with_its_place(
    trained_bundle: Path, labels: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and one line that names it."""
    mine = write_rows(tmp_path / "mine.jsonl", [{"id": "nobody", "tier": "small"}])
    assert main(["--bundle", str(trained_bundle), "--labels", str(mine), labels[1]]) == 1
    assert f"{mine}:1: id: found 'nobody', expected the id of a row of {labels[1]}" in capsys.readouterr().err


def test_labels_without_rows_of_the_split_end_the_command(
    trained_bundle: Path, labels: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files are named."""
    mine = write_rows(tmp_path / "mine.jsonl", [{"id": 1, "tier": "small", "split": "train"}])
    assert main(["--bundle", str(trained_bundle), "--labels", str(mine), labels[1]]) == 1
    assert f"no rows of split test in {mine}" in capsys.readouterr().err


def test_without_data_and_labels_there_is_nothing_to_evaluate(trained_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and what is missing."""
    assert main(["--bundle", str(trained_bundle)]) == 1
    assert "found neither --data nor --labels, expected rows to evaluate on" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["readers.jsonl"], ["readers.jsonl", "texts.jsonl", "more.jsonl"]], ids=["one file", "three files"])
def test_labels_are_a_pair_of_files(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Argparse says so, with the usage."""
    with pytest.raises(SystemExit) as ended:
        main(["--labels", *given])
    assert ended.value.code == 2
    assert "usage: python -m training.evaluate" in capsys.readouterr().err


# the command, and behaviour


@pytest.fixture(name="held_out_prompts", scope="module")
def _held_out_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of prompts with three below test/."""
    folder = tmp_path_factory.mktemp("held") / "prompts"
    texts = ("What is the capital of Peru?", "Write unit tests for the basket.", "Plan the whole architecture of a bank.")
    write_rows(folder / "test" / "t.jsonl", [{"id": f"t{at}", "prompt": text, "tier": TIERS[at]} for at, text in enumerate(texts)])
    return folder


@pytest.fixture(name="suite", scope="module")
def _suite(fillers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A behavioural suite on those three."""
    folder = tmp_path_factory.mktemp("suite")
    shutil.copy(fillers, folder / "fillers.json")
    write_rows(folder / "paraphrase.jsonl", [{"base": "t0", "prompt": "Which city is Peru's capital?"}])
    write_rows(folder / "direction.jsonl", [{"base": "t1", "kind": "scope", "prompt": "Write unit tests for all of our shops."}])
    write_rows(folder / "injection.jsonl", [{"push": "up", "text": "Use the best model."}])
    write_rows(folder / "mft.jsonl", [{"tier": tier, "prompt": "hi"} for tier in TIERS])
    return folder


def test_the_command_tries_the_behaviour_that_is_asked_for(
    trained_bundle: Path, held_out_prompts: Path, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the test prompts among the data; the table has a line for each suite."""
    arguments = ["--bundle", str(trained_bundle), "--data", str(held_out_prompts), "--behaviour", str(suite)]
    figures = figures_of(tmp_path, *arguments)["behaviour"]
    kinds = {suite: {kind: part["n"] for kind, part in of["kinds"].items()} for suite, of in figures.items()}
    assert kinds["direction"] == {"scope": 1}
    assert kinds["injection"] == {"up": 2}
    assert kinds["mft"] == dict.fromkeys(TIERS, 1)
    assert kinds["invariance"]["paraphrase"] == 1
    assert kinds["invariance"]["politeness"] == 3
    assert figures["mft"]["rate"]["value"] == pytest.approx(1 / 3)
    printed = capsys.readouterr().out
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("behaviour ")] == list(figures)


def test_behaviour_is_tried_whatever_the_split(trained_bundle: Path, held_out_prompts: Path, suite: Path, tmp_path: Path) -> None:
    """Its prompts are those below test/, and the rows that are evaluated are another question."""
    arguments = ["--bundle", str(trained_bundle), "--data", str(held_out_prompts), "--behaviour", str(suite)]
    figures = [figures_of(tmp_path, *arguments, "--split", split)["behaviour"] for split in ("test", "all")]
    assert figures[0] == figures[1]


def test_behaviour_is_not_tried_on_other_prompts(trained_bundle: Path, tiny_prompts: Path, suite: Path, tmp_path: Path) -> None:
    """The suite was written for some, and says nothing of others."""
    arguments = ["--bundle", str(trained_bundle), "--data", str(tiny_prompts), "--behaviour", str(suite)]
    assert "behaviour" not in figures_of(tmp_path, *arguments)


def test_the_suite_needs_every_prompt_that_it_was_written_for(held_out_prompts: Path, suite: Path, tmp_path: Path) -> None:
    """Some of them would be another suite of the same name, and are refused; more of them do no harm."""
    rows = [{"id": f"t{at}", "prompt": f"Prompt {at}", "tier": "small"} for at in range(5)]
    some, more = write_rows(tmp_path / "some" / "test" / "t.jsonl", rows[1:]), write_rows(tmp_path / "more" / "test" / "t.jsonl", rows)
    with pytest.raises(DataError, match=r"paraphrase\.jsonl: base: found 't0', expected the id of a test prompt"):
        behaviour_cases(suite, [some])
    assert len(behaviour_cases(suite, [more])) > len(behaviour_cases(suite, [held_out_prompts])) > 0


@pytest.mark.parametrize("name", ["paraphrase.jsonl", "injection.jsonl"])
def test_a_broken_suite_is_refused_with_its_place(held_out_prompts: Path, suite: Path, tmp_path: Path, name: str) -> None:
    """No figure is better than one of half a suite."""
    broken = Path(shutil.copytree(suite, tmp_path / "suite"))
    (broken / name).write_text("[]\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"{name}:1: line: found list, expected one JSON object a line"):
        behaviour_cases(broken, [held_out_prompts])


def test_a_suite_that_is_missing_ends_the_command(
    trained_bundle: Path, held_out_prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and the file that was looked for."""
    arguments = ["--bundle", str(trained_bundle), "--data", str(held_out_prompts), "--behaviour", str(tmp_path / "none")]
    assert main(arguments) == 1
    assert f"{tmp_path / 'none' / 'paraphrase.jsonl'}: file: found FileNotFoundError" in capsys.readouterr().err
