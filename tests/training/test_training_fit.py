"""``python -m training.fit``: a tiny real run, what it leaves behind, and when it moves CURRENT."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from classifier import Router, from_text
from classifier.bundle import CURRENT, LAYOUT, find
from classifier.encoder import StaticEncoder
from classifier.head import OnnxHead
from classifier.router import CHECKOUT, MODELS
from classifier.types import Path as ScorePath
from training import encoders, fit, learn, staging
from training.augment import copies
from training.calibrate import fit_calibration, prior_weights
from training.dataset import Example, fold_of, join, read, targets_of
from training.export import PARITY
from training.files import digest
from training.heads import CANDIDATES, candidate_logits, cross_fit
from training.metrics import soft_auc

pytest_plugins = ("tests.training.fixtures_of_training",)

Training = Callable[..., tuple[int, str]]
FirstRun = tuple[int, Path, str]

PROMPTS = [
    "What is the capital of France?",
    "Write unit tests for the warehouse import.",
    "Should we migrate our login to another vendor, and how, while customers keep using it?",
    "ok",
    "Überweise das bitte noch einmal.",
    "x" * 10_000,
]


@pytest.fixture(name="manifest", scope="module")
def _manifest(trained_bundle: Path) -> dict[str, Any]:
    """manifest.json of the first run."""
    manifest: dict[str, Any] = read_json(trained_bundle / LAYOUT.manifest)
    return manifest


@pytest.fixture(name="second_run", scope="module")
def _second_run(train: Training, tiny_prompts: Path, tiny_outcomes: Path, tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """The first run once more, into another folder."""
    models = tmp_path_factory.mktemp("second") / "models"
    code, printed = train(models, tiny_prompts, "--outcomes", str(tiny_outcomes), heads="trees")
    return code, models, printed


@pytest.fixture(name="worse_run", scope="module")
def _worse_run(train: Training, first_run: FirstRun, worse_prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """A run on shuffled labels, where the first run's bundle is current."""
    models = Path(shutil.copytree(first_run[1], tmp_path_factory.mktemp("worse") / "models"))
    code, printed = train(models, worse_prompts)
    return code, models, printed


@pytest.fixture(name="tuned_run", scope="module")
def _tuned_run(train: Training, tiny_prompts: Path, tiny_outcomes: Path, tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """A run whose head tunes the encoder's table."""
    models = tmp_path_factory.mktemp("tuned") / "models"
    code, printed = train(models, tiny_prompts, "--outcomes", str(tiny_outcomes), "--promote", heads="network+trees")
    return code, models, printed


def read_json(file: Path) -> Any:
    """What a JSON file says."""
    return json.loads(file.read_text(encoding="utf-8"))


def sufficiencies(models: Path) -> list[tuple[float, ...]]:
    """What the current bundle says of a few prompts."""
    return [scores.sufficiency for scores in Router.load(models).score([from_text(text) for text in PROMPTS])]


# a first run


def test_a_first_run_ends_well_and_becomes_current(first_run: FirstRun) -> None:
    """Exit code 0, and CURRENT names the one bundle there is."""
    code, models, printed = first_run
    name = (models / CURRENT).read_text(encoding="utf-8").strip()
    assert code == 0
    assert [path.name for path in models.iterdir() if path.is_dir()] == [name]
    assert f"promoted: {name} is current" in printed


def test_what_was_trained_serves(first_run: FirstRun) -> None:
    """The server's own loader takes it, and every prompt gets a tier and a probability."""
    router = Router.load(first_run[1])
    for decision in router.route([from_text(text) for text in PROMPTS]):
        assert decision.tier in router.manifest.tiers
        assert 0 <= decision.confidence <= 1
        assert sum(decision.scores.probabilities) == pytest.approx(1)


def test_the_tiny_bundle_has_learned_its_tiers(trained_bundle: Path, tiny_examples: list[Example]) -> None:
    """Held-out prompts from its own word lists are told apart: training is not a dummy."""
    labels = read_json(trained_bundle / LAYOUT.metrics)["labelled"]
    assert labels["auc"]["up_to_0"]["value"] > 0.85
    assert labels["balanced"]["most_likely"]["exact"]["value"] > 0.7


def test_every_file_stands_in_the_manifest_with_its_digest(trained_bundle: Path, manifest: dict[str, Any]) -> None:
    """All but the manifest itself, and what is kept for analysis."""
    files = [path for path in trained_bundle.rglob("*") if path.is_file() and path.parent.name != "analysis"]
    digests = {path.relative_to(trained_bundle).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    digests.pop(LAYOUT.manifest)
    assert manifest["files"] == digests


def test_no_pickle_stands_among_the_files_that_are_verified(trained_bundle: Path, manifest: dict[str, Any]) -> None:
    """Neither by name nor by content; the fitted estimators lie apart, under analysis/."""
    kinds = {Path(name).suffix for name in manifest["files"]}
    assert kinds <= {".json", ".onnx", ".npz", ".md", ".txt", ".svg"}
    with np.load(trained_bundle / "seen.npz", allow_pickle=False) as arrays:
        assert [arrays[name].dtype for name in arrays.files] == [np.uint64]
    assert [path.relative_to(trained_bundle).as_posix() for path in trained_bundle.rglob("*.joblib")] == ["analysis/head.joblib"]


def test_an_encoder_that_no_head_tuned_is_copied_byte_for_byte(trained_bundle: Path, encoder_folder: Path) -> None:
    """A file that did not change stays the same file."""
    for name in ("encoder.onnx", "tokenizer.json"):
        assert (trained_bundle / LAYOUT.fast / name).read_bytes() == (encoder_folder / name).read_bytes()


def test_the_graph_equals_the_estimators(manifest: dict[str, Any], first_run: FirstRun) -> None:
    """Within the parity that is allowed, which is printed."""
    assert 0 <= manifest["parity"] <= PARITY == 1e-5
    assert f"parity with the estimators: {manifest['parity']:.1e} (allowed 1e-05)" in first_run[2]


def test_the_manifest_says_what_it_was_trained_on(manifest: dict[str, Any], tiny_prompts: Path, tiny_outcomes: Path, fillers: Path) -> None:
    """Every data file with its digest, rows by split, and the command that repeats the run."""
    examples = read([tiny_prompts, tiny_outcomes])
    train = sum(example.split == "train" for example in examples)
    assert manifest["data"] == digest(tiny_prompts) | digest(tiny_outcomes) | digest(fillers)
    assert manifest["rows"] == {"train": train, "test": len(examples) - train}
    assert manifest["seed"] == 0
    assert manifest["command"].startswith("python -m training.fit --prompts ")
    assert f"--outcomes {tiny_outcomes}" in manifest["command"]


def test_the_manifest_says_what_its_numbers_mean(manifest: dict[str, Any]) -> None:
    """Tiers, prior, basis, head and the packages that made it."""
    assert manifest["tiers"] == ["small", "medium", "large"]
    assert manifest["prior"] == {"small": 0.6, "medium": 0.3, "large": 0.1}
    assert manifest["basis"] == manifest["calibrated_for"]["basis"] == "rubric"
    assert {"numpy", "scikit-learn", "onnxruntime", "onnx"} <= set(manifest["packages"])
    assert manifest["head"]["candidate"] == "trees"


def test_the_calibration_that_serves_is_the_rubrics(trained_bundle: Path) -> None:
    """calibration.json and the graph say the same numbers; on a rubric the top tier always suffices."""
    stated = read_json(trained_bundle / LAYOUT.calibration)
    head = Router.load(trained_bundle).head
    assert stated["basis"] == "rubric"
    assert stated["shift"] == dict(zip(("small", "medium", "large"), head.calibration_shift, strict=True))
    assert stated["slope"] == dict(zip(("small", "medium", "large"), head.calibration_slope, strict=True))
    assert {one[-1] for one in sufficiencies(trained_bundle)} == {1.0}


def test_outcomes_have_a_graph_and_a_calibration_of_their_own(trained_bundle: Path, tiny_outcomes: Path) -> None:
    """Where even the top tier is learned; it answers another question than the graph that serves."""
    stated = read_json(trained_bundle / LAYOUT.calibration)["outcomes"]
    graph, router = OnnxHead(trained_bundle / LAYOUT.outcomes), Router.load(trained_bundle)
    assert stated["shift"] == dict(zip(("small", "medium", "large"), graph.calibration_shift, strict=True))
    assert stated["slope"] == dict(zip(("small", "medium", "large"), graph.calibration_slope, strict=True))
    features = router.features([example.prompt for example in read([tiny_outcomes])])
    assert graph.run(*features)[1][:, -1].max() < 1
    assert np.abs(graph.run(*features)[0] - router.head.run(*features)[0]).max() > 0.1


def test_without_outcomes_there_is_no_graph_for_them(worse_run: FirstRun) -> None:
    """Nor a calibration."""
    (staged,) = (worse_run[1] / staging.STAGED).iterdir()
    assert not (staged / LAYOUT.outcomes).exists()
    assert "outcomes" not in read_json(staged / LAYOUT.calibration)


def test_policy_and_manifest_agree_on_the_risk(trained_bundle: Path, manifest: dict[str, Any], first_run: FirstRun) -> None:
    """One target for the one path, chosen by risk control, and whether its bound holds."""
    policy = read_json(trained_bundle / LAYOUT.policy)
    risk = policy["risk"]["fast"]
    assert policy["targets"] == {"fast": risk["target"]}
    assert policy["risk"].keys() == {"fast"}
    assert risk["qualified"] is manifest["risk_bound_held"] is True
    assert risk["under_bound"] <= 0.08
    assert risk["under_top_bound"] <= 0.25
    assert f"target {risk['target']}: under-routing" in first_run[2]


def test_a_fitted_bundle_has_one_path(trained_bundle: Path, manifest: dict[str, Any]) -> None:
    """Another command gives it the second; until then every request is answered by the first."""
    assert manifest["paths"] == ["fast"]
    assert not (trained_bundle / LAYOUT.accurate).exists()
    paths: tuple[ScorePath, ...] = ("fast", "auto", "accurate")
    answers = [Router.load(trained_bundle).route([from_text(text) for text in PROMPTS], path=path) for path in paths]
    assert answers[0] == answers[1] == answers[2]


# what kind of task a prompt is


def test_tasks_that_rows_name_are_told_apart(trained_bundle: Path, manifest: dict[str, Any]) -> None:
    """Here each tier is a task: the graph among the files, its names and held-out figures in the manifest, the answer in the scores."""
    assert manifest["task"]["names"] == ["large", "medium", "small"]
    assert manifest["task"]["accuracy"] > 0.9
    assert manifest["task"]["mean_probability"] == pytest.approx(manifest["task"]["accuracy"], abs=0.1)
    assert LAYOUT.task in manifest["files"]
    found = Router.load(trained_bundle).score([from_text(text) for text in PROMPTS[:3]])
    assert [scores.task for scores in found] == ["small", "medium", "large"]
    assert all(scores.task_probability is not None and 1 / 3 < scores.task_probability <= 1 for scores in found)


def test_tasks_are_learned_from_training_rows(manifest: dict[str, Any], tiny_examples: list[Example]) -> None:
    """Test rows name theirs as well, and outcomes name none."""
    assert manifest["task"]["n"] == sum(example.split == "train" for example in tiny_examples)


def test_rows_without_tasks_make_a_bundle_that_cannot_tell(train: Training, tiny_prompts: Path, tmp_path: Path) -> None:
    """No graph, nothing in the manifest, and no task in any answer."""
    rows = [json.loads(line) for line in (tiny_prompts / "made.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        del row["task"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, _ = train(tmp_path / "models", tmp_path / "rows.jsonl")
    assert code == 0
    bundle = find(tmp_path / "models")
    assert read_json(bundle / LAYOUT.manifest)["task"] is None
    assert not (bundle / LAYOUT.task).exists()
    assert Router.load(bundle).score([from_text("Fix the typo")])[0].task is None


# what is written


def test_metrics_are_of_the_test_rows(trained_bundle: Path, manifest: dict[str, Any]) -> None:
    """As many as the manifest counts, by the bundle that carries them."""
    metrics = read_json(trained_bundle / LAYOUT.metrics)
    assert metrics["bundle"] == manifest["version"] == trained_bundle.name
    assert metrics["labelled"]["n"] + metrics["outcomes"]["n"] == manifest["rows"]["test"]
    assert manifest["metrics"]["auc"] == metrics["labelled"]["auc"]


def test_report_and_card_show_what_was_printed(trained_bundle: Path, first_run: FirstRun) -> None:
    """Three places, one table, save that only the files know the bundle's name."""
    _, table = (trained_bundle / LAYOUT.report / "figures.txt").read_text(encoding="utf-8").split("\n", 1)
    assert table.strip() in first_run[2]
    assert table.strip() in (trained_bundle / LAYOUT.model_card).read_text(encoding="utf-8")


def test_what_it_was_trained_on_is_remembered(trained_bundle: Path, tiny_examples: list[Example]) -> None:
    """Training rows, and no test row: later runs keep the former out of a comparison."""
    seen = staging.seen_by(trained_bundle)
    for example in tiny_examples:
        assert (staging.seen_key(example) in seen) is (example.split == "train")


def test_no_prompt_stands_in_a_bundle(trained_bundle: Path, tiny_examples: list[Example]) -> None:
    """Prompts may be private; a bundle is passed on."""
    texts = [example.prompt.text.encode() for example in tiny_examples]
    for path in trained_bundle.rglob("*"):
        if path.is_file() and path.name != "tokenizer.json":
            content = path.read_bytes()
            assert not any(text in content for text in texts), path.name


def test_nothing_stays_staged(first_run: FirstRun) -> None:
    """What was promoted has moved, not been copied."""
    assert not (first_run[1] / staging.STAGED).exists()


# a run that tunes the encoder's table


def test_a_head_that_tunes_the_table_serves_by_it(tuned_run: FirstRun, encoder_folder: Path) -> None:
    """Tokens of the prompts have moved, of the rest of the vocabulary none; the words are split as before."""
    bundle = find(tuned_run[1])
    before, after = encoders.read(encoder_folder), encoders.read(bundle / LAYOUT.fast)
    encoder = StaticEncoder(encoder_folder)
    known = encoder.token_ids("What is the capital of France: Plan the whole architecture of billing this week.")
    assert np.abs(after - before).max(axis=1)[known].min() > 0
    assert np.all(after == before, axis=1).mean() > 0.9
    assert (bundle / LAYOUT.tokenizer).read_bytes() == (encoder_folder / "tokenizer.json").read_bytes()


def test_the_tuned_graph_equals_the_network(tuned_run: FirstRun) -> None:
    """By the bundle's own encoder, for both bases."""
    assert tuned_run[0] == 0
    assert 0 <= read_json(find(tuned_run[1]) / LAYOUT.manifest)["parity"] <= PARITY


def test_the_manifest_says_where_a_tuned_encoder_started(tuned_run: FirstRun, encoder_folder: Path) -> None:
    """By the fingerprint of the encoder that the run was given, beside its provenance."""
    start = StaticEncoder(encoder_folder)
    stated = read_json(find(tuned_run[1]) / LAYOUT.manifest)["encoder"]
    assert stated == {"start": start.fingerprint, **start.provenance}
    assert StaticEncoder(find(tuned_run[1]) / LAYOUT.fast).fingerprint != start.fingerprint


def test_a_tuned_table_is_the_same_every_time(
    train: Training, tuned_run: FirstRun, tiny_prompts: Path, tiny_outcomes: Path, tmp_path: Path
) -> None:
    """Byte for byte, and so the name of the bundle."""
    train(tmp_path / "models", tiny_prompts, "--outcomes", str(tiny_outcomes), "--promote", heads="network+trees")
    first, second = find(tuned_run[1]), find(tmp_path / "models")
    assert (first / LAYOUT.encoder).read_bytes() == (second / LAYOUT.encoder).read_bytes()
    assert first.name.rpartition("-")[2] == second.name.rpartition("-")[2]


# the same run again


def test_the_same_seed_gives_the_same_bundle(first_run: FirstRun, second_run: FirstRun) -> None:
    """The same sufficiencies, the same bytes in everything that scores, and so the same name."""
    first, second = find(first_run[1]), find(second_run[1])
    assert sufficiencies(first) == sufficiencies(second)
    for name in (
        LAYOUT.head,
        LAYOUT.outcomes,
        LAYOUT.task,
        LAYOUT.calibration,
        LAYOUT.policy,
        LAYOUT.encoder,
        LAYOUT.tokenizer,
        "report/reliability.svg",
    ):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert first.name.rpartition("-")[2] == second.name.rpartition("-")[2]


def test_the_same_seed_gives_the_same_figures(first_run: FirstRun, second_run: FirstRun) -> None:
    """Intervals included, since they are drawn by a seed too."""
    first, second = (read_json(find(models) / LAYOUT.metrics) for models in (first_run[1], second_run[1]))
    assert first["labelled"] == second["labelled"]
    assert first["outcomes"] == second["outcomes"]


# a run that comes out worse


def test_a_worse_bundle_stays_staged(worse_run: FirstRun, first_run: FirstRun) -> None:
    """Exit code 3, CURRENT as it was, the table printed with the way to override it."""
    code, models, printed = worse_run
    assert code == 3
    assert (models / CURRENT).read_bytes() == (first_run[1] / CURRENT).read_bytes()
    assert sufficiencies(models) == sufficiencies(first_run[1])
    assert "gate: log-loss on " in printed
    assert "--promote overrides" in printed


def test_a_staged_bundle_is_complete(worse_run: FirstRun) -> None:
    """It can be looked at, evaluated and served on trial."""
    (staged,) = (worse_run[1] / staging.STAGED).iterdir()
    assert Router.load(staged).manifest.version == staged.name
    assert f"stays staged in {staged}" in worse_run[2]


def test_promote_overrides_the_gate(train: Training, worse_run: FirstRun, worse_prompts: Path, tmp_path: Path) -> None:
    """The same worse data, with the word of a person."""
    models = Path(shutil.copytree(worse_run[1], tmp_path / "models"))
    before = (models / CURRENT).read_text(encoding="utf-8")
    code, printed = train(models, worse_prompts, "--promote")
    assert code == 0
    assert "gate: log-loss on " in printed
    assert (models / CURRENT).read_text(encoding="utf-8") != before
    assert Router.load(models).manifest.version == (models / CURRENT).read_text(encoding="utf-8").strip()
    assert (models / before.strip() / LAYOUT.manifest).is_file()


def test_the_gate_passes_over_test_rows_that_the_old_bundle_saw(
    train: Training, first_run: FirstRun, tiny_examples: list[Example], tiny_prompts: Path, tmp_path: Path
) -> None:
    """New data call rows a test on which the current bundle was trained: they would flatter it."""
    rows = [json.loads(line) for line in (tiny_prompts / "made.jsonl").read_text(encoding="utf-8").splitlines()]
    held_out = {example.id for example in tiny_examples if example.split == "test"}
    seen = [row["id"] for row in rows if row["id"] not in held_out][::4]
    moved = [row | {"split": "test" if row["id"] in held_out or row["id"] in seen else "train"} for row in rows]
    (tmp_path / "moved.jsonl").write_text("".join(json.dumps(row) + "\n" for row in moved), encoding="utf-8")
    models = Path(shutil.copytree(first_run[1], tmp_path / "models"))
    _, printed = train(models, tmp_path / "moved.jsonl")
    assert f"labelled prompts: {len(held_out) + len(seen)} " in printed
    assert f"gate: log-loss on {len(held_out)} test prompts that neither bundle saw" in printed


# labels that stand apart from their texts


@pytest.fixture(name="readers", scope="module")
def _readers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(labels, texts): sixty labels by id, and seventy texts."""
    folder = tmp_path_factory.mktemp("readers") / "apart"
    folder.mkdir()
    tiers = ("small", "medium", "large")
    labels = [{"id": f"r{index}", "tier": tiers[index % 3], "sure": 1 + index % 3} for index in range(60)]
    texts = [{"id": f"r{index}", "prompt": f"Question {index} of a reader"} for index in range(70)]
    for name, rows in (("labels", labels), ("texts", texts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "labels.jsonl", folder / "texts.jsonl"


@pytest.fixture(name="joined_run", scope="module")
def _joined_run(train: Training, tiny_prompts: Path, readers: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """A run on prompts, and on labels with their texts."""
    models = tmp_path_factory.mktemp("joined") / "models"
    code, printed = train(models, tiny_prompts, "--labels", *map(str, readers))
    return code, models, printed


def test_labels_by_id_are_learned_from(joined_run: FirstRun, tiny_examples: list[Example], readers: tuple[Path, Path]) -> None:
    """Beside the prompts; those that the hash holds out are evaluated on."""
    examples = [*tiny_examples, *join(*readers)]
    bundle = find(joined_run[1])
    train = sum(example.split == "train" for example in examples)
    assert joined_run[0] == 0
    assert read_json(bundle / LAYOUT.manifest)["rows"] == {"train": train, "test": len(examples) - train}
    assert read_json(bundle / LAYOUT.metrics)["labelled"]["n"] == len(examples) - train == 300 - train
    assert sum(read_json(bundle / LAYOUT.policy)["risk"]["fast"]["n"]) == train


def test_the_manifest_names_labels_and_texts(joined_run: FirstRun, tiny_prompts: Path, readers: tuple[Path, Path], fillers: Path) -> None:
    """Each file with its digest."""
    labels, texts = readers
    data = read_json(find(joined_run[1]) / LAYOUT.manifest)["data"]
    assert data == digest(tiny_prompts) | digest(labels) | digest(texts) | digest(fillers)
    assert {"apart/labels.jsonl", "apart/texts.jsonl"} <= data.keys()


def test_texts_that_were_joined_are_remembered(joined_run: FirstRun, readers: tuple[Path, Path]) -> None:
    """Those with a label that were trained on, as all training rows are."""
    seen = staging.seen_by(find(joined_run[1]))
    examples = join(*readers)
    assert {example.split for example in examples} == {"train", "test"}
    for example in examples:
        assert (staging.seen_key(example) in seen) is (example.split == "train")


def test_several_pairs_of_labels_and_texts_may_be_given(
    train: Training, tiny_prompts: Path, readers: tuple[Path, Path], tmp_path: Path
) -> None:
    """One file of labels a reader, say."""
    (tmp_path / "more.jsonl").write_text('{"id": "r65", "tier": "small", "split": "train"}\n', encoding="utf-8")
    labels, texts = map(str, readers)
    train(tmp_path / "models", tiny_prompts, "--labels", labels, texts, "--labels", str(tmp_path / "more.jsonl"), texts)
    assert sum(read_json(find(tmp_path / "models") / LAYOUT.manifest)["rows"].values()) == 240 + 60 + 1


def test_a_label_without_a_text_ends_the_run_with_its_place(
    train: Training, tiny_prompts: Path, readers: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, before anything is written."""
    (tmp_path / "mine.jsonl").write_text('{"id": "nobody", "tier": "small"}\n', encoding="utf-8")
    code, _ = train(tmp_path / "models", tiny_prompts, "--labels", str(tmp_path / "mine.jsonl"), str(readers[1]))
    assert code == 1
    assert "mine.jsonl:1: id: found 'nobody', expected the id of a row of " in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


# copies


@pytest.fixture(name="plain_run", scope="module")
def _plain_run(train: Training, tiny_prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """A run on prompts alone."""
    models = tmp_path_factory.mktemp("plain") / "models"
    code, printed = train(models, tiny_prompts)
    return code, models, printed


@pytest.fixture(name="dressing", scope="module")
def _dressing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other texts to dress copies with than those of the other runs."""
    texts = ["Unmistakable zebras paint the lighthouse.", "Seventeen violins hum below the orangery."]
    file = tmp_path_factory.mktemp("dressing") / "fillers.json"
    kinds = {"politeness": [[texts[0], texts[1]]], "signature": texts, "small_talk": texts, "steering": texts}
    file.write_text(json.dumps(kinds), encoding="utf-8")
    return file


@pytest.fixture(name="dressed_run", scope="module")
def _dressed_run(train: Training, tiny_prompts: Path, dressing: Path, tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """The same run with copies that are dressed otherwise."""
    models = tmp_path_factory.mktemp("dressed") / "models"
    code, printed = train(models, tiny_prompts, "--augment", str(dressing))
    return code, models, printed


def test_heads_learn_from_copies(plain_run: FirstRun, dressed_run: FirstRun) -> None:
    """Dressed otherwise, they make another bundle."""
    assert plain_run[0] == dressed_run[0] == 0
    assert sufficiencies(plain_run[1]) != sufficiencies(dressed_run[1])


def test_copies_are_counted_nowhere(dressed_run: FirstRun, tiny_examples: list[Example]) -> None:
    """Neither among the rows, nor where the risk is bounded, nor where the bundle is judged."""
    bundle = find(dressed_run[1])
    split = [example.split for example in tiny_examples]
    assert read_json(bundle / LAYOUT.manifest)["rows"] == {"train": split.count("train"), "test": split.count("test")}
    labels = [example.label for example in tiny_examples if example.split == "train"]
    assert read_json(bundle / LAYOUT.policy)["risk"]["fast"]["n"] == [labels.count(tier) for tier in range(3)]
    assert read_json(bundle / LAYOUT.metrics)["labelled"]["n"] == split.count("test")


def test_copies_are_not_remembered(plain_run: FirstRun, dressed_run: FirstRun) -> None:
    """What a bundle saw is its prompts, however they were dressed."""
    assert staging.seen_by(find(plain_run[1])) == staging.seen_by(find(dressed_run[1]))


def test_no_figure_is_of_copies(tiny_examples: list[Example], dressing: Path, encoder_folder: Path) -> None:
    """Calibration, comparison and calibration error are those of the held-out logits of the examples alone, by heads that
    learned from copies as well.
    """
    examples = [example for example in tiny_examples if example.split == "train"]
    rows = [*examples, *copies(examples, dressing, seed=0)]
    features = learn.features_of(rows, StaticEncoder(encoder_folder), encoders.read(encoder_folder))
    folds, prior = np.array([fold_of(row.group, learn.FOLDS, 0) for row in rows]), (0.6, 0.3, 0.1)
    with Progress(disable=True) as progress, threadpool_limits(limits=1):
        learned = learn.learn(
            rows,
            len(examples),
            features,
            candidates=("linear",),
            prior=prior,
            tiers=("small", "medium", "large"),
            seed=0,
            progress=progress,
        )
        held_out = cross_fit("linear", features, learn.learning_targets(rows), learn.learning_weights(rows), folds, 0, lambda: None)
    logits = candidate_logits("linear", {"linear": held_out})[: len(examples)]
    targets, labels = targets_of(examples), [example.label for example in examples if example.label is not None]
    weights = prior_weights(labels, prior)
    assert learned.calibrations == {"rubric": fit_calibration(logits, targets, weights, top_is_certain=True)}
    assert sum(learned.risk.n) == len(examples) == len(rows) / 2
    assert learned.comparison["linear"]["auc_up_to_small"] == soft_auc(targets[:, 0], logits[:, 0])


def test_a_copy_is_held_out_with_its_original(tiny_examples: list[Example], dressing: Path) -> None:
    """What is nearly the same prompt would flatter the held-out figures."""
    examples = [example for example in tiny_examples if example.split == "train"]
    copied = copies(examples, dressing, seed=0)
    folds, others = ([fold_of(row.group, learn.FOLDS, 0) for row in rows] for rows in (examples, copied))
    assert folds == others
    assert set(folds) == set(range(learn.FOLDS))


def test_a_copy_has_half_the_weight_of_a_prompt(tiny_examples: list[Example], tiny_outcomes: Path, dressing: Path) -> None:
    """Also where outcomes are balanced against them."""
    examples = [*tiny_examples[:50], *read([tiny_outcomes])]
    rows = [*examples, *copies(examples, dressing, seed=0)]
    weights = learn.learning_weights(rows)
    np.testing.assert_array_equal(weights[:50], 1)
    np.testing.assert_array_equal(weights[len(examples) :], 0.5)
    assert len(rows) == len(examples) + 50


def test_no_text_that_copies_are_dressed_with_stands_in_a_bundle(dressed_run: FirstRun) -> None:
    """It is no more of a bundle's business than the prompts."""
    for path in find(dressed_run[1]).rglob("*"):
        if path.is_file():
            assert b"orangery." not in path.read_bytes(), path.name


def test_texts_to_dress_copies_with_are_those_of_the_checkout() -> None:
    """Unless others are asked for."""
    assert fit.parser().parse_args([]).augment == CHECKOUT / "data" / "augment" / "fillers.json"
    assert fit.AUGMENT.is_file()


def test_without_the_texts_for_copies_the_run_ends(
    train: Training, tiny_prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, with the file that is missing, before anything is written."""
    code, _ = train(tmp_path / "models", tiny_prompts, "--augment", str(tmp_path / "none.json"))
    assert code == 1
    assert f"{tmp_path / 'none.json'}: file: found FileNotFoundError, expected politeness" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


# learning


def test_the_top_tier_is_learned_from_outcomes_alone(tiny_examples: list[Example], tiny_outcomes: Path) -> None:
    """That it suffices for a labelled prompt is a definition, not an observation."""
    outcomes = read([tiny_outcomes])
    targets = learn.learning_targets([tiny_examples[0], *outcomes])
    assert np.isnan(targets[0, -1])
    np.testing.assert_array_equal(targets[0, :-1], targets_of(tiny_examples[:1])[0, :-1])
    np.testing.assert_array_equal(targets[1:], targets_of(outcomes))


def test_outcomes_weigh_by_source(tiny_examples: list[Example], tiny_outcomes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in learning, but among themselves: beyond a cap a source's rows share what it weighs, and labelled rows are passed over."""
    monkeypatch.setattr(learn, "SOURCE_CAP", 10)
    outcomes = read([tiny_outcomes])
    quiz, exam = ([example for example in outcomes if example.source == source] for source in ("quiz", "exam"))
    rows = [*tiny_examples[:5], *quiz[:10], *exam[:40]]
    weights = learn.by_source(rows)
    assert len(weights) == 50
    assert weights[:10].sum() == pytest.approx(weights[10:].sum())
    assert len(set(weights[:10].tolist())) == 1
    np.testing.assert_allclose(weights / weights.sum(), learn.learning_weights(rows)[5:] / learn.learning_weights(rows)[5:].sum())


def test_features_are_those_of_serving(trained_bundle: Path, tiny_examples: list[Example]) -> None:
    """No train-serve skew: the same signals, and embeddings that differ by rounding alone."""
    folder = trained_bundle / LAYOUT.fast
    features = learn.features_of(tiny_examples[:20], StaticEncoder(folder), encoders.read(folder))
    signals, embedding = Router.load(trained_bundle).features([example.prompt for example in tiny_examples[:20]])
    np.testing.assert_array_equal(features.signals, signals)
    np.testing.assert_allclose(features.embedding, embedding, atol=1e-6)


def test_tokens_are_counted_in_the_ask(encoder_folder: Path) -> None:
    """As often as each stands there; what the ask is about is the classifier's to say, and an ask may hold none."""
    encoder, vectors = StaticEncoder(encoder_folder), encoders.read(encoder_folder)
    texts = ["red red green", "naïve Überweisung", "", "x" * 300]
    examples = [Example(text, text, "made", from_text(text or "\u200b"), (0.0, 1.0, 1.0), 1, "train") for text in texts]
    tokens = learn.features_of(examples, encoder, vectors).tokens
    assert tokens.shape == (4, len(vectors))
    for row, example in enumerate(examples):
        counts = np.bincount(np.array(encoder.token_ids(example.prompt.ask), dtype=int), minlength=len(vectors))
        np.testing.assert_array_equal(tokens[row].toarray()[0], counts)
    assert sorted(tokens[0].data.tolist()) == [1, 2]


def test_the_basis_of_a_row_is_what_it_was_labelled_by(tiny_examples: list[Example], tiny_outcomes: Path, encoder_folder: Path) -> None:
    """0 where a person applied the rubric, 1 where models were measured."""
    examples = [tiny_examples[0], *read([tiny_outcomes])[:2], tiny_examples[1]]
    features = learn.features_of(examples, StaticEncoder(encoder_folder), encoders.read(encoder_folder))
    assert features.basis.tolist() == [0, 1, 1, 0]


# the command line


def test_a_prior_is_read_in_the_order_of_the_tiers() -> None:
    """As a person writes it, spaces included."""
    assert fit.prior_of("large=.05, small=.7,medium=0.25", ("small", "medium", "large")) == (0.7, 0.25, 0.05)


def test_without_a_prior_the_documented_one_holds() -> None:
    """For tiers of other names equal shares are as good as any."""
    assert fit.prior_of(None, ("small", "medium", "large")) == (0.6, 0.3, 0.1)
    assert fit.prior_of(None, ("cheap", "dear")) == (0.5, 0.5)


@pytest.mark.parametrize(
    "text",
    [
        "small=.6,medium=.3",
        "small=.6,medium=.3,huge=.1",
        "small=.6,medium=.3,large=.2",
        "small=1,medium=0,large=0",
        "small=a,medium=.3,large=.1",
        "",
        "small",
    ],
)
def test_a_prior_that_cannot_be_meant_is_refused(text: str) -> None:
    """Names and sum are checked, with what was found and what was expected."""
    with pytest.raises(ValueError, match=r"--prior: found .*, expected "):
        fit.prior_of(text, ("small", "medium", "large"))


@pytest.mark.parametrize("arguments", [["--heads", "forest"], ["--heads"], ["--seed", "x"]])
def test_arguments_that_mean_nothing_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """By argparse, with the usage."""
    with pytest.raises(SystemExit) as ended:
        fit.main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m training.fit" in capsys.readouterr().err


def test_all_heads_are_compared_unless_some_are_asked_for() -> None:
    """The default is every candidate."""
    assert tuple(fit.parser().parse_args([]).heads) == CANDIDATES


def test_too_few_labels_end_the_run_with_what_is_missing(train: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1; thirty a tier are needed, and it says how many are missing of which."""
    tiers = ["small"] * 40 + ["medium"] * 10
    rows = [{"id": index, "prompt": f"question {index}", "tier": tier, "split": "train"} for index, tier in enumerate(tiers)]
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, _ = train(tmp_path / "models", tmp_path / "few.jsonl")
    assert code == 1
    assert "(medium: 10, 20 missing; large: 0, 30 missing)" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("text", ["What is the capital?", "what IS the capital", " What is\nthe capital ?!"])
def test_a_training_row_with_the_text_of_a_test_row_ends_the_run(
    train: Training, tiny_prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Whatever its case, spacing and punctuation, and whatever its group: exit code 1 before anything is written."""
    rows = [
        {"id": "tested", "group": "a", "prompt": "What is the capital?", "tier": "small", "split": "test"},
        {"id": "learned", "group": "b", "prompt": text, "tier": "small", "split": "train"},
    ]
    (tmp_path / "both.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, _ = train(tmp_path / "models", tiny_prompts, "--prompts", str(tiny_prompts), str(tmp_path / "both.jsonl"))
    assert code == 1
    said = "learned: found the text of the test row tested among the training rows, expected it on one side only"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_labels_of_test_texts_that_are_to_be_learned_end_the_run(
    train: Training, tiny_prompts: Path, tiny_examples: list[Example], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where they stand apart from their texts."""
    tested = next(example for example in tiny_examples if example.split == "test")
    (tmp_path / "texts.jsonl").write_text(json.dumps({"id": "r", "prompt": tested.text}) + "\n", encoding="utf-8")
    (tmp_path / "labels.jsonl").write_text('{"id": "r", "tier": "small", "group": "mine", "split": "train"}\n', encoding="utf-8")
    code, _ = train(tmp_path / "models", tiny_prompts, "--labels", str(tmp_path / "labels.jsonl"), str(tmp_path / "texts.jsonl"))
    assert code == 1
    assert f"r: found the text of the test row {tested.id} among the training rows" in capsys.readouterr().err


def test_a_text_may_be_labelled_on_one_side_and_measured_on_the_other(tiny_examples: list[Example]) -> None:
    """The rubric is not tested by what models got right."""
    tested = next(example for example in tiny_examples if example.split == "test")
    fit._apart([replace(tested, split="train", label=None)], [tested])
    fit._apart([replace(tested, split="train")], [replace(tested, label=None)])
    with pytest.raises(ValueError, match="found the text of the test row"):
        fit._apart([replace(tested, split="train")], [tested])


def test_a_malformed_row_ends_the_run_with_its_place(train: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, before anything is written."""
    (tmp_path / "bad.jsonl").write_text('{"id": 1, "prompt": "x", "tier": "huge"}\n', encoding="utf-8")
    code, _ = train(tmp_path / "models", tmp_path / "bad.jsonl")
    assert code == 1
    assert "bad.jsonl:1: tier: found 'huge'" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_training_starts_from_the_encoder_of_the_checkout() -> None:
    """Not from the current bundle's, which an earlier run may have tuned."""
    assert fit.parser().parse_args([]).encoder == MODELS / "encoder"
    assert {"encoder.onnx", "tokenizer.json"} <= {path.name for path in (MODELS / "encoder").iterdir()}


@pytest.mark.parametrize("name", ["encoder.onnx", "tokenizer.json"])
def test_without_an_encoder_the_run_ends(
    tiny_prompts: Path, encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Exit code 1, with the file that is missing, before anything is written."""
    folder = Path(shutil.copytree(encoder_folder, tmp_path / "encoder"))
    (folder / name).unlink()
    assert fit.main(["--prompts", str(tiny_prompts), "--models", str(tmp_path / "models"), "--encoder", str(folder)]) == 1
    assert f"{folder / name}: found no file, expected an encoder" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_training_without_test_rows_says_that_nothing_was_evaluated(train: Training, tiny_prompts: Path, tmp_path: Path) -> None:
    """A bundle for a first trial may be made of all there is; its card does not invent figures."""
    rows = [json.loads(line) for line in (tiny_prompts / "made.jsonl").read_text(encoding="utf-8").splitlines()]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row | {"split": "train"}) + "\n" for row in rows), encoding="utf-8")
    code, _ = train(tmp_path / "models", tmp_path / "all.jsonl")
    assert code == 0
    bundle = find(tmp_path / "models")
    assert read_json(bundle / LAYOUT.manifest)["rows"] == {"train": 240, "test": 0}
    assert "no test rows: nothing was evaluated" in (bundle / LAYOUT.model_card).read_text(encoding="utf-8")
