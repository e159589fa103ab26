"""``python -m training.recalibrate``: own rows in, a bundle out of which nothing but calibration, prior and targets has changed."""

import hashlib
import io
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console
from scipy.special import logit
from threadpoolctl import threadpool_limits

from classifier import Router, from_text
from classifier.bundle import CURRENT, LAYOUT, find
from classifier.head import OnnxHead
from training import crossfit, recalibrate, staging
from training.dataset import read, read_all, requests
from training.own import ENOUGH, models_of
from training.recalibrate import Change, Settings, promoted
from training.shrinkage import shares_of
from training.table import table

pytest_plugins = ("tests.training.fixtures_of_training",)

Row = dict[str, Any]
Run = Callable[..., tuple[int, Path, str]]

TIERS = ("small", "medium", "large")
SERVING = (LAYOUT.head, LAYOUT.accurate_head)
REPORTING = (LAYOUT.outcomes, LAYOUT.accurate_outcomes)
OPENINGS = {
    "small": ("What is the capital of", "Translate to German:", "Fix the typo in"),
    "medium": ("Write unit tests for", "Summarise the report on", "Refactor"),
    "large": ("Plan the whole architecture of", "Should we migrate", "Design a strategy for"),
}
OBJECTS = "our parser,the tram,Peru,this poem,a bakery,the queue,my thesis,an orchard,the ledger,our wiki".split(",")
MODELS_OF_POOLS = {"traffic": {"small": ["ant", "bee"], "medium": ["cat"], "large": ["dog"]}}


def label_rows(**counts: int) -> list[Row]:
    """So many prompts of each tier, none of which any bundle has seen."""
    rows = []
    for tier, n in counts.items():
        texts = [" ".join(words) for words in itertools.product(OPENINGS[tier], OBJECTS, ("now", "by noon", "for Ada"))]
        rows += [{"id": f"{tier}{at}", "prompt": text, "tier": tier} for at, text in enumerate(texts[:n])]
    return rows


def outcome_rows(n: int = 90) -> list[Row]:
    """Prompts of all tiers, of which the models get less right the harder they are."""
    rows = label_rows(small=n // 3, medium=n // 3, large=n // 3)
    rate = {"small": (0.9, 0.95, 0.95), "medium": (0.4, 0.8, 0.9), "large": (0.1, 0.3, 0.7)}
    random = np.random.default_rng(0)
    for row in rows:
        small, medium, large = (random.random(3) < rate[row.pop("tier")]).astype(int).tolist()
        row["outcomes"] = {"ant": small, "bee": small, "cat": medium, "dog": large, "eel": 0}
    return rows


def write(file: Path, rows: Sequence[Row]) -> Path:
    """``rows`` as JSONL."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def read_json(file: Path) -> Any:
    """What a JSON file says."""
    return json.loads(file.read_text(encoding="utf-8"))


def files_of(bundle: Path) -> dict[str, str]:
    """Digest of every file by its path."""
    return {str(file.relative_to(bundle)): hashlib.sha256(file.read_bytes()).hexdigest() for file in bundle.rglob("*") if file.is_file()}


def stated(bundle: Path, name: str) -> Any:
    """The part of calibration.json that is about a graph."""
    part = read_json(bundle / LAYOUT.calibration)
    for key in {LAYOUT.head: [], LAYOUT.accurate_head: ["accurate"], LAYOUT.outcomes: ["outcomes"]}.get(name, ["accurate", "outcomes"]):
        part = part[key]
    return part


@pytest.fixture(name="one_thread", autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Products this small lose more than they win by threads."""
    with threadpool_limits(1):
        yield


@pytest.fixture(name="run", scope="module")
def _run(accurate_run: tuple[int, Path, str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the command on a copy of the bundle with both paths, or on ``models``; (exit code, models folder, what it printed)."""

    def run(*arguments: str | Path, models: Path | None = None) -> tuple[int, Path, str]:
        if models is None:
            models = Path(shutil.copytree(accurate_run[1], tmp_path_factory.mktemp("own") / "models"))
        printed = io.StringIO()
        with redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
            patch.setattr(crossfit, "_DRAWS", 20)
            patch.setenv("COLUMNS", "1000")  # no line is folded
            code = recalibrate.main(["--bundle", str(models), "--models", str(models), *map(str, arguments)])
        return code, models, printed.getvalue()

    return run


@pytest.fixture(name="labels", scope="module")
def _labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with 60 labels."""
    return write(tmp_path_factory.mktemp("labels") / "my_labels.jsonl", label_rows(small=20, medium=30, large=10))


@pytest.fixture(name="outcomes", scope="module")
def _outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 90 rows of outcomes and their pools."""
    folder = tmp_path_factory.mktemp("outcomes")
    (folder / "pools.json").write_text(json.dumps(MODELS_OF_POOLS), encoding="utf-8")
    write(folder / "traffic.jsonl", outcome_rows())
    return folder


@pytest.fixture(name="traffic", scope="module")
def _traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with 120 prompts, most of them hard, one of them a conversation."""
    rows = [{"prompt": row["prompt"]} for row in label_rows(small=15, medium=14, large=90)]
    rows.append({"messages": [{"role": "user", "content": "Design a strategy for the tram"}]})
    return write(tmp_path_factory.mktemp("traffic") / "traffic.jsonl", rows)


@pytest.fixture(name="by_labels", scope="module")
def _by_labels(run: Run, labels: Path) -> tuple[int, Path, str]:
    """A run on labels, promoted whatever it brings. Read-only."""
    return run("--data", labels, "--promote")


@pytest.fixture(name="by_outcomes", scope="module")
def _by_outcomes(run: Run, outcomes: Path) -> tuple[int, Path, str]:
    """A run on outcomes, promoted whatever it brings. Read-only."""
    return run("--data", outcomes, "--promote")


@pytest.fixture(name="parent", scope="module")
def _parent(accurate_bundle: Path) -> Path:
    """The bundle that all of them start from. Read-only."""
    return accurate_bundle


# what changes, and what does not


@pytest.mark.parametrize("which", ["by_labels", "by_outcomes"])
def test_of_the_graphs_only_shift_and_slope_change(which: str, parent: Path, request: pytest.FixtureRequest) -> None:
    """With the parent's two vectors put back, each is its parent's to the last byte."""
    bundle = find(request.getfixturevalue(which)[1])
    for name in (*SERVING, *REPORTING):
        before, after = onnx.load(parent / name), onnx.load(bundle / name)
        old = {tensor.name: tensor for tensor in before.graph.initializer}
        for tensor in after.graph.initializer:
            if tensor.name in ("calibration_shift", "calibration_slope"):
                tensor.CopyFrom(old[tensor.name])
        assert after.SerializeToString() == (parent / name).read_bytes()


def test_labels_change_the_heads_that_serve(by_labels: tuple[int, Path, str], parent: Path) -> None:
    """Those of measured outcomes stay the files they were."""
    before, after = files_of(parent), files_of(find(by_labels[1]))
    assert all(before[name] != after[name] for name in SERVING)
    assert all(before[name] == after[name] for name in REPORTING)


def test_outcomes_change_all_four(by_outcomes: tuple[int, Path, str], parent: Path) -> None:
    """What serves, and what reports on outcomes."""
    before, after = files_of(parent), files_of(find(by_outcomes[1]))
    assert all(before[name] != after[name] for name in (*SERVING, *REPORTING))


@pytest.mark.parametrize("which", ["by_labels", "by_outcomes"])
def test_encoders_and_all_that_was_not_calibrated_stay_byte_for_byte(which: str, parent: Path, request: pytest.FixtureRequest) -> None:
    """Nothing is added, nothing is lost."""
    before, after = files_of(parent), files_of(find(request.getfixturevalue(which)[1]))
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    figures = {name for name in changed if name.startswith(LAYOUT.report)}
    written = {LAYOUT.manifest, LAYOUT.calibration, LAYOUT.metrics, LAYOUT.model_card, staging.SEEN, *SERVING}
    assert changed - figures == written | (set(REPORTING) if which == "by_outcomes" else {LAYOUT.policy})


@pytest.mark.parametrize("which", ["by_labels", "by_outcomes"])
def test_calibration_json_says_what_the_graphs_hold(which: str, request: pytest.FixtureRequest) -> None:
    """To the last bit, for each of them."""
    bundle = find(request.getfixturevalue(which)[1])
    for name in (*SERVING, *REPORTING):
        head, part = OnnxHead(bundle / name), stated(bundle, name)
        assert tuple(part["shift"].values()) == head.calibration_shift
        assert tuple(part["slope"].values()) == head.calibration_slope


def test_the_new_bundle_serves_on_both_paths(by_labels: tuple[int, Path, str], parent: Path) -> None:
    """It loads, and says something else of the same prompt; the top tier still suffices by definition."""
    new, old = Router.load(by_labels[1]), Router.load(parent)
    for path in ("fast", "accurate"):
        ((one,), (other,)) = (router.score([from_text("Refactor the tram")], path) for router in (new, old))
        assert one.sufficiency[:2] != other.sufficiency[:2]
        assert one.sufficiency[2] == 1
        assert one.logits == pytest.approx(other.logits)


def test_the_parent_is_left_as_it_was(by_labels: tuple[int, Path, str], parent: Path) -> None:
    """The way back stays open."""
    assert files_of(by_labels[1] / parent.name) == files_of(parent)


def test_the_same_run_gives_the_same_bundle(run: Run, by_labels: tuple[int, Path, str], labels: Path) -> None:
    """Named by its content."""
    assert find(run("--data", labels, "--promote")[1]).name == find(by_labels[1]).name


# where it comes from


def test_the_manifest_tells_where_it_comes_from(by_labels: tuple[int, Path, str], parent: Path, labels: Path) -> None:
    """Parent, data, command; what the parent was trained on and by stays."""
    manifest, old = (read_json(folder / LAYOUT.manifest) for folder in (find(by_labels[1]), parent))
    part = manifest["recalibration"]
    assert part["parent"] == parent.name != manifest["version"]
    assert part["rows"] == {"small": 20, "medium": 30, "large": 10}
    assert [(entry["sha256"], entry["rows"]) for entry in part["data"].values()] == [(hashlib.sha256(labels.read_bytes()).hexdigest(), 60)]
    assert part["command"].startswith("python -m training.recalibrate --bundle")
    assert {"commit", "dirty", "packages"} <= set(part)
    assert [manifest[key] for key in ("data", "command", "signals", "paths", "parity")] == [
        old[key] for key in ("data", "command", "signals", "paths", "parity")
    ]


def test_labels_are_of_the_rubric(by_labels: tuple[int, Path, str]) -> None:
    """In the manifest and beside the calibration."""
    bundle = find(by_labels[1])
    manifest = read_json(bundle / LAYOUT.manifest)
    assert manifest["basis"] == read_json(bundle / LAYOUT.calibration)["basis"] == "rubric"
    assert manifest["calibrated_for"] == {"basis": "rubric", "models": None}


def test_outcomes_are_of_the_models_that_were_measured(by_outcomes: tuple[int, Path, str]) -> None:
    """By tier; a model of no pool is not among them, and the top tier's rate is learned."""
    bundle = find(by_outcomes[1])
    manifest = read_json(bundle / LAYOUT.manifest)
    assert manifest["basis"] == read_json(bundle / LAYOUT.calibration)["basis"] == "outcomes"
    assert manifest["calibrated_for"] == {"basis": "outcomes", "models": MODELS_OF_POOLS["traffic"]}
    (score,) = Router.load(bundle).score([from_text("Why?")])
    assert score.sufficiency[2] < 1


def test_outcomes_by_tier_name_the_tiers(tmp_path: Path) -> None:
    """Without pools there are no other names."""
    file = write(tmp_path / "mine.jsonl", [{"id": "1", "prompt": "Why?", "outcomes": {"small": 0, "large": 1}}])
    assert models_of([file], read([file]), TIERS) == {"small": ["small"], "medium": [], "large": ["large"]}


def test_the_card_tells_it_to_people(by_labels: tuple[int, Path, str], by_outcomes: tuple[int, Path, str], parent: Path) -> None:
    """Basis, prior, parent, and figures of the user's own rows."""
    card = (find(by_labels[1]) / LAYOUT.model_card).read_text(encoding="utf-8")
    assert f"**Recalibrated** from {parent.name}" in card
    assert "On the rows that it was recalibrated by, cross-fitted" in card
    assert "log-loss" in card
    assert "What measured models got right" in (find(by_outcomes[1]) / LAYOUT.model_card).read_text(encoding="utf-8")


def test_figures_stand_in_the_bundle(by_labels: tuple[int, Path, str]) -> None:
    """For programs: in metrics.json, and the same in the manifest."""
    bundle = find(by_labels[1])
    figures = read_json(bundle / LAYOUT.metrics)["recalibration"]["figures"]
    assert list(figures) == ["fast", "auto", "accurate"]
    assert set(figures["auto"]["log-loss"]) == {"before", "after", "change"}
    assert read_json(bundle / LAYOUT.manifest)["metrics"]["recalibration"] == figures


# the prior


def test_the_prior_is_that_of_the_labels_smoothed(by_labels: tuple[int, Path, str]) -> None:
    """Sixty labels beside thirty at the shipped shares."""
    prior = read_json(find(by_labels[1]) / LAYOUT.manifest)["prior"]
    assert prior == pytest.approx({"small": 38 / 90, "medium": 39 / 90, "large": 13 / 90})


def test_a_stated_prior_is_taken(run: Run, labels: Path) -> None:
    """And shows in what the bundle says: the rarer the top tier, the more often medium suffices."""
    means = []
    for prior in ("small=.3,medium=.3,large=.4", "small=.45,medium=.5,large=.05"):
        _, models, printed = run("--data", labels, "--prior", prior, "--promote")
        router = Router.load(models)
        assert router.manifest.prior == pytest.approx(tuple(float(part.partition("=")[2]) for part in prior.split(",")))
        assert "(stated)" in printed
        means.append(
            np.mean([score.sufficiency[1] for score in router.score([from_text(row["prompt"]) for row in label_rows(medium=20)], "fast")])
        )
    assert means[0] < means[1]


def test_a_prior_alone_moves_the_shifts_by_its_log_odds(run: Run, parent: Path) -> None:
    """Nothing shows that it is better, so that the bundle stays staged."""
    code, models, printed = run("--prior", "small=.7,medium=.25,large=.05")
    assert code == 3
    assert find(models).name == parent.name
    (bundle,) = (models / staging.STAGED).iterdir()
    for name in SERVING:
        before, after = (OnnxHead(folder / name) for folder in (parent, bundle))
        moved = np.array(after.calibration_shift) - np.array(before.calibration_shift)
        assert moved == pytest.approx([logit(0.7) - logit(0.6), logit(0.95) - logit(0.9), 0], abs=1e-5)
        assert after.calibration_slope == before.calibration_slope
    assert "nothing shows that the new bundle is better" in printed
    assert Router.load(bundle).manifest.prior == pytest.approx((0.7, 0.25, 0.05))


def test_unlabelled_traffic_gives_the_prior(run: Run, traffic: Path, parent: Path) -> None:
    """Most of it is hard: the share of the top tier rises, and nothing but the shifts follows."""
    code, models, printed = run("--traffic", traffic, "--promote")
    bundle = find(models)
    manifest = read_json(bundle / LAYOUT.manifest)
    assert code == 0
    assert "(traffic)" in printed
    assert manifest["recalibration"]["rows"] == 120
    assert manifest["prior"]["large"] > 0.15
    assert [OnnxHead(bundle / name).calibration_slope for name in SERVING] == [
        OnnxHead(parent / name).calibration_slope for name in SERVING
    ]
    assert manifest["calibrated_for"] == read_json(parent / LAYOUT.manifest).get("calibrated_for")


def test_the_prior_of_outcomes_is_the_share_of_the_cheapest_tier_that_succeeds(by_outcomes: tuple[int, Path, str], outcomes: Path) -> None:
    """Rubric and outcomes are different questions: the shipped shares count for one row."""
    examples = read([outcomes])
    expected = shares_of(np.array([example.targets for example in examples]), np.ones(90), (0.6, 0.3, 0.1), pseudo=1)
    assert tuple(read_json(find(by_outcomes[1]) / LAYOUT.manifest)["prior"].values()) == pytest.approx(expected)


# targets


def test_few_labels_leave_the_targets(by_labels: tuple[int, Path, str], parent: Path) -> None:
    """The output says what is missing, and the manifest that the bound is not shown."""
    bundle = find(by_labels[1])
    assert read_json(bundle / LAYOUT.policy)["targets"] == read_json(parent / LAYOUT.policy)["targets"]
    assert read_json(bundle / LAYOUT.policy)["margin"] == read_json(parent / LAYOUT.policy)["margin"]
    assert read_json(bundle / LAYOUT.manifest)["risk_bound_held"] is False
    assert sum(read_json(bundle / LAYOUT.policy)["risk"]["fast"]["n"]) == 60
    assert "stays, not bounded" in by_labels[2]


def test_enough_labels_choose_the_targets(run: Run, labels: Path, parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here by bounds that sixty labels can keep."""
    monkeypatch.setattr("training.risk.MAX_UNDER", 0.6)
    monkeypatch.setattr("training.risk.MAX_UNDER_TOP", 0.9)
    _, models, printed = run("--data", labels, "--promote", "--at-any-cost")
    policy = read_json(find(models) / LAYOUT.policy)
    assert policy["targets"] != read_json(parent / LAYOUT.policy)["targets"]
    assert policy["targets"] == {path: policy["risk"][path]["target"] for path in ("fast", "auto", "accurate")}
    assert read_json(find(models) / LAYOUT.manifest)["risk_bound_held"] is True
    assert printed.count(" -> ") == 4  # the prior, and three targets


def test_outcomes_leave_the_targets(by_outcomes: tuple[int, Path, str], parent: Path) -> None:
    """It takes labels to bound under-routing, and the output says so."""
    assert read_json(find(by_outcomes[1]) / LAYOUT.policy)["targets"] == read_json(parent / LAYOUT.policy)["targets"]
    assert by_outcomes[2].count("it takes labels by tier to bound under-routing") == 3


def assessed(target: float, missing: tuple[int, ...] = (0, 0, 0), over: float = 0.3) -> Row:
    """A target with its risk, as metrics.json holds it."""
    return {"target": target, "qualified": not any(missing), "missing": missing, "over": over, "under": 0.1, "under_bound": 0.12} | {
        "under_top": 0.2,
        "under_top_bound": 0.24,
    }


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "0.8 stays; it takes labels by tier"),
        ({"risk": assessed(0.7), "dear": None}, "0.8 -> 0.7: under-routing 0.100 (bound 0.120)"),
        (
            {"risk": assessed(0.8, (0, 40, 100_000)), "dear": None},
            "40 labels of medium are missing, large is under-routed too often for any number",
        ),
        (
            {"risk": assessed(0.8, (0, 40, 7)), "dear": assessed(0.999, over=0.9)},
            "0.999 is, with over-routing 0.900: --at-any-cost takes it",
        ),
    ],
    ids=["outcomes", "bounded", "too few", "too dear"],
)
def test_the_table_says_what_became_of_a_target(found: Row | None, said: str) -> None:
    """And why."""
    part: Row = {name: dict.fromkeys(TIERS, 1 / 3) for name in ("prior", "parent_prior")}
    part |= {"parent": "p", "prior_from": "rows", "figures": {}, "shipped_targets": {"fast": 0.8}}
    shown = table({"bundle": "b", "path": "auto", "tiers": TIERS, "recalibration": {**part, "targets": {"fast": found} if found else {}}})
    assert said in shown.splitlines()[-1]


# the table and the gate


def test_the_table_shows_before_and_after_on_every_path(by_labels: tuple[int, Path, str]) -> None:
    """Each figure with its interval, and the change."""
    lines = by_labels[2].splitlines()
    for path in ("fast", "auto", "accurate"):
        own = [line for line in lines if line.split()[:1] == [path]]
        assert len(own) == 5
        assert all(line.count("[") == 3 for line in own)
    assert "own rows: small 20, medium 30, large 10 (labelled)" in by_labels[2]


def test_outcomes_are_judged_on_all_three_tiers(by_outcomes: tuple[int, Path, str]) -> None:
    """The top one too, which need not suffice."""
    assert "excess ECE large" in by_outcomes[2]


def test_a_bundle_of_lower_log_loss_becomes_current(run: Run, labels: Path, parent: Path) -> None:
    """Without being told to, where the gate says so, and only there."""
    code, models, printed = run("--data", labels)
    if "is not higher" in printed:
        assert code == 0
        assert find(models).name != parent.name
    else:
        assert code == 3
        assert find(models).name == parent.name


@pytest.mark.parametrize(("change", "code"), [(-0.01, 0), (0.0, 0), (0.001, 3)])
def test_the_gate_goes_by_the_log_loss_of_the_default_path(change: float, code: int, parent: Path, tmp_path: Path) -> None:
    """Of own rows, cross-fitted; what the other paths gained does not matter."""
    staged = Path(shutil.copytree(parent, tmp_path / staging.STAGED / parent.name))
    figures = {"auto": {"log-loss": {"change": {"value": change}}}, "fast": {"log-loss": {"change": {"value": -change}}}}
    settings = Settings(parent, tmp_path)
    found = promoted(staged, settings, Change({}, (), {}, figures=figures), Router.load(parent), Console(quiet=True))
    assert found == code
    assert (tmp_path / CURRENT).exists() == (code == 0)


# rows that have no say


def test_rows_that_the_bundle_has_learned_from_are_left_out(run: Run, by_labels: tuple[int, Path, str], labels: Path) -> None:
    """Also those of an earlier recalibration: the same labels cannot be used twice."""
    code, _, _ = run("--data", labels, models=Path(shutil.copytree(by_labels[1], by_labels[1].with_name("again"))))
    assert code == 1


def test_rows_that_the_bundle_was_trained_on_are_counted(run: Run, tiny_prompts: Path, labels: Path) -> None:
    """Beside new ones they do no harm."""
    _, models, printed = run("--data", tiny_prompts, labels, "--promote")
    left_out = read_json(find(models) / LAYOUT.manifest)["recalibration"]["left_out"]
    assert left_out["seen"] > 150
    assert f"{left_out['seen']} learned from before" in printed


def test_test_rows_are_left_out(run: Run, tmp_path: Path) -> None:
    """Those that say so and those below a folder test/; of the others none is held out by its hash."""
    rows = label_rows(small=30, medium=30, large=12)
    for row in rows[:10]:
        row["split"] = "test"
    write(tmp_path / "mine" / "rows.jsonl", rows)
    write(tmp_path / "mine" / "test" / "more.jsonl", [{"id": "t", "prompt": "Audit the tram", "tier": "large"}])
    _, models, _ = run("--data", tmp_path / "mine", "--promote")
    part = read_json(find(models) / LAYOUT.manifest)["recalibration"]
    assert part["left_out"] == {"test": 11, "seen": 0}
    assert sum(part["rows"].values()) == 62


def test_a_file_without_splits_is_used_whole(tmp_path: Path) -> None:
    """Where the caller says what becomes of rows that no one assigned; joined labels too."""
    texts = write(tmp_path / "texts.jsonl", [{"id": str(at), "prompt": f"Prompt {at}"} for at in range(40)])
    labels = write(tmp_path / "labels.jsonl", [{"id": str(at), "tier": "small"} for at in range(40)])
    file = write(tmp_path / "mine.jsonl", label_rows(small=40))
    assert {example.split for example in read_all([file], [(labels, texts)])} == {"train", "test"}
    assert {example.split for example in read_all([file], [(labels, texts)], unassigned="train")} == {"train"}


# refusals


def refused(capsys: pytest.CaptureFixture[str], run: Run, *arguments: str | Path) -> str:
    """What the command said on the way to exit code 1; nothing was staged."""
    code, models, _ = run(*arguments)
    assert code == 1
    assert not (models / staging.STAGED).exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((10, 10, 10), f"labelled: 30, {ENOUGH - 30} missing"),
        ((30, 30, 0), "labelled large: 0, 2 missing"),
        ((30, 1, 0), "labelled: 31, 19 missing; labelled medium: 1, 1 missing; labelled large: 0, 2 missing"),
    ],
)
def test_too_few_labels_are_refused(
    counts: tuple[int, int, int], said: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By how many are missing of each kind."""
    small, medium, large = counts
    assert said in refused(capsys, run, "--data", write(tmp_path / "mine.jsonl", label_rows(small=small, medium=medium, large=large)))


def test_rows_of_one_group_count_once(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sixty ways to ask two questions a tier are six labels."""
    rows = [row | {"group": f"{row['tier']}{at % 2}"} for at, row in enumerate(label_rows(small=20, medium=20, large=20))]
    assert "labelled: 6, 44 missing" in refused(capsys, run, "--data", write(tmp_path / "mine.jsonl", rows))


def test_too_few_outcomes_of_a_tier_are_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each tier has to be measured on fifty prompts."""
    rows = outcome_rows()
    for row in rows[:60]:
        del row["outcomes"]["dog"]
    (tmp_path / "pools.json").write_text(json.dumps(MODELS_OF_POOLS), encoding="utf-8")
    said = refused(capsys, run, "--data", write(tmp_path / "traffic.jsonl", rows))
    assert "measured on large: 30, 20 missing" in said
    assert "measured on small" not in said


def test_too_little_traffic_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By how much is missing."""
    file = write(tmp_path / "traffic.jsonl", [{"prompt": f"What is {at}?"} for at in range(70)])
    assert "found 70 prompts, expected at least 100: 30 missing" in refused(capsys, run, "--traffic", file)


def test_labels_beside_outcomes_are_refused(run: Run, labels: Path, outcomes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are of different bases."""
    assert "found 60 labelled rows and 90 with outcomes" in refused(capsys, run, "--data", labels, outcomes)


def test_a_prior_beside_outcomes_is_refused(run: Run, outcomes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shares of tiers follow from them."""
    assert "--prior: found beside outcomes" in refused(capsys, run, "--data", outcomes, "--prior", "small=.7,medium=.2,large=.1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "found none of --data, --labels, --traffic and --prior"),
        (["--traffic", "LABELS", "--data", "LABELS"], "--traffic: found beside"),
        (["--traffic", "LABELS", "--prior", "small=.7,medium=.2,large=.1"], "--traffic: found beside"),
        (["--prior", "small=.7,large=.3"], "expected a share above 0 for each of small, medium, large"),
        (["--data", "LABELS", "--prior", "tiny"], "--prior: found 'tiny'"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(
    arguments: list[str], said: str, run: Run, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each by what was found and what was expected."""
    assert said in refused(capsys, run, *(str(labels) if value == "LABELS" else value for value in arguments))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": 1}', "rows.jsonl:2: prompt: found int, expected a string"),
        ('{"prompt": "x", "messages": []}', "rows.jsonl:2: prompt: found both"),
        ("{", "rows.jsonl:2: line: found no JSON"),
    ],
)
def test_traffic_that_is_no_request_is_named(line: str, said: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By file, line and field."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Why?"}\n' + line + "\n", encoding="utf-8")
    assert said in refused(capsys, run, "--traffic", tmp_path)


def test_a_labelled_row_that_is_none_is_named(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By file, line and field."""
    file = write(tmp_path / "mine.jsonl", [*label_rows(small=3), {"id": "x", "prompt": "Why?", "tier": "huge"}])
    assert "mine.jsonl:4: tier: found 'huge'" in refused(capsys, run, "--data", file)


def test_a_missing_bundle_is_named(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what was expected there."""
    assert recalibrate.main(["--bundle", str(tmp_path), "--models", str(tmp_path), "--data", str(labels)]) == 1
    assert "expected a bundle, or a folder of bundles with CURRENT" in capsys.readouterr().err


# bundles with one path, and traffic


def test_a_bundle_with_one_path_is_recalibrated_too(run: Run, first_run: tuple[int, Path, str], labels: Path, tmp_path: Path) -> None:
    """Its one head, its one target."""
    models = Path(shutil.copytree(first_run[1], tmp_path / "models"))
    _, _, printed = run("--data", labels, "--promote", models=models)
    bundle = find(models)
    assert Router.load(bundle).accurate is None
    assert not (bundle / LAYOUT.accurate).exists()
    assert list(read_json(bundle / LAYOUT.policy)["targets"]) == ["fast"]
    assert "accurate" not in printed.replace(str(models), "")


def test_a_bundle_that_never_saw_outcomes_can_be_calibrated_for_them(
    run: Run, make_bundle: Callable[..., Path], tiny_examples: Any, outcomes: Path, tmp_path: Path
) -> None:
    """By the head that serves."""
    make_bundle(tmp_path, tiny_examples)
    code, _, _ = run("--data", outcomes, "--promote", models=tmp_path)
    assert code == 0
    assert Router.load(tmp_path).manifest.basis == "outcomes"


def test_labels_lead_back_from_outcomes(run: Run, by_outcomes: tuple[int, Path, str], tmp_path: Path) -> None:
    """The top tier suffices by definition again."""
    models = Path(shutil.copytree(by_outcomes[1], tmp_path / "models"))
    rows = [row | {"prompt": f"{row['prompt']}, and do it again"} for row in label_rows(small=20, medium=20, large=20)]
    run("--data", write(tmp_path / "mine.jsonl", rows), "--promote", models=models)
    router = Router.load(models)
    assert router.manifest.basis == "rubric"
    for path in ("fast", "accurate"):
        (score,) = router.score([from_text("Why?")], path)
        assert score.sufficiency[2] == 1


def test_traffic_is_read_as_requests_are(traffic: Path) -> None:
    """Prompts and conversations, in order; labels beside them are passed over."""
    prompts = [prompt for *_, prompt in requests([traffic])]
    assert len(prompts) == 120
    assert prompts[0].text == "What is the capital of our parser now"
    assert prompts[-1].text == "Design a strategy for the tram"


def test_the_vectors_of_the_graph_are_float32(by_labels: tuple[int, Path, str]) -> None:
    """As they were: any runtime reads them."""
    model = onnx.load(find(by_labels[1]) / LAYOUT.head)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert {arrays[name].dtype.name for name in ("calibration_shift", "calibration_slope")} == {"float32"}
    onnx.checker.check_model(model)


def test_the_command_explains_itself() -> None:
    """A per cent sign in a help text is one."""
    assert "10% more of the traffic" in " ".join(recalibrate.parser().format_help().split())
