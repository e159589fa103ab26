"""What a bundle is worth: figures by hand, baselines beside them, and the command line."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from classifier import Router, from_text
from classifier.errors import BundleError
from training.dataset import Example, read
from training.evaluate import ZEBRA, Scored, evaluate, labelled_figures, main, outcome_figures, score, table
from training.metrics import reprior, soft_auc

pytest_plugins = ("tests.training.fixtures_of_training",)
pytestmark = pytest.mark.usefixtures("few_resamples")

Matrix = NDArray[np.float64]

TIERS = ("small", "medium", "large")
PRIOR = (0.6, 0.3, 0.1)
UNKNOWN = float("nan")


def labelled(name: str, label: int, text: str = "What is this?", **facets: str) -> Example:
    """A row labelled with the tier of this index."""
    targets = tuple(float(tier >= label) for tier in range(3))
    return Example(name, name, "made", from_text(text), targets, label, "test", **facets)  # type: ignore[arg-type]


def measured(name: str, targets: tuple[float, ...], text: str, source: str = "made") -> Example:
    """A row with outcomes."""
    return Example(name, name, source, from_text(text), targets, None, "test")


def scored(examples: list[Example], chosen: Sequence[int], sufficiency: Matrix | None = None) -> Scored:
    """What a router says that chose these tiers; without ``sufficiency`` it is nearly sure of them."""
    if sufficiency is None:
        sufficiency = np.array([[0.02, 0.04, 1.0], [0.03, 0.95, 1.0], [0.92, 0.97, 1.0]])[::-1][list(chosen)]
    probabilities = np.diff(np.hstack([np.zeros((len(sufficiency), 1)), sufficiency[:, :2], np.ones((len(sufficiency), 1))]), axis=1)
    return Scored(examples, sufficiency=sufficiency, probabilities=probabilities, chosen=np.array(chosen))


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
