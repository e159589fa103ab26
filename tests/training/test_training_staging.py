"""Bundles on disk: staged, finished, promoted."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from classifier import Router, from_text
from classifier.bundle import CURRENT, FORMAT_VERSION, LAYOUT, find
from classifier.encoder import StaticEncoder
from classifier.signals import NAMES
from training import encoders, staging
from training.calibrate import Calibration
from training.dataset import TIERS, Example
from training.heads import PerBasis

pytest_plugins = ("tests.training.fixtures_of_training",)

MakeBundle = Callable[..., Path]


@pytest.fixture(name="staged", scope="module")
def _staged(make_bundle: MakeBundle, tiny_examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished bundle that was not promoted. Read-only."""
    return make_bundle(tmp_path_factory.mktemp("staged"), tiny_examples, promote=False)


def read_json(file: Path) -> Any:
    """What a JSON file says."""
    return json.loads(file.read_text(encoding="utf-8"))


def test_a_finished_bundle_waits_in_the_staging_folder(staged: Path) -> None:
    """Where nothing that looks for bundles finds it, though it loads."""
    assert staged.parent.name == staging.STAGED
    assert not (staged.parents[1] / CURRENT).exists()
    assert Router.load(staged).manifest.version == staged.name


def test_a_bundle_is_named_by_date_and_content(staged: Path) -> None:
    """The folder, the manifest and the metrics bear the name."""
    manifest = read_json(staged / LAYOUT.manifest)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-[0-9a-f]{8}", staged.name)
    assert staged.name.startswith(manifest["created"])
    assert manifest["version"] == read_json(staged / LAYOUT.metrics)["bundle"] == staged.name


def test_equal_content_gives_an_equal_name(make_bundle: MakeBundle, staged: Path, tiny_examples: list[Example], tmp_path: Path) -> None:
    """However often and wherever it is made; another head gives another."""
    same = make_bundle(tmp_path / "same", tiny_examples, promote=False)
    other = make_bundle(tmp_path / "other", tiny_examples[:-30], promote=False)
    assert same.name[-8:] == staged.name[-8:] != other.name[-8:]


def test_the_manifest_holds_what_verification_needs(staged: Path) -> None:
    """Format, signals, tiers, digests of files; and where it came from."""
    manifest = read_json(staged / LAYOUT.manifest)
    assert manifest["format_version"] == FORMAT_VERSION
    assert tuple(manifest["signals"]) == NAMES
    assert {LAYOUT.head, LAYOUT.encoder, LAYOUT.tokenizer, LAYOUT.policy, LAYOUT.calibration, LAYOUT.metrics, LAYOUT.model_card} <= set(
        manifest["files"]
    )
    assert LAYOUT.manifest not in manifest["files"]
    assert manifest["paths"] == ["fast"]
    assert {"commit", "dirty", "packages"} <= set(manifest)


def test_an_encoder_that_nothing_tuned_is_copied_byte_for_byte(staged: Path, encoder_folder: Path) -> None:
    """A file that did not change stays the same file."""
    for name in ("encoder.onnx", "tokenizer.json"):
        assert (staged / LAYOUT.fast / name).read_bytes() == (encoder_folder / name).read_bytes()


@pytest.fixture(name="tuned", scope="module")
def _tuned(make_bundle: MakeBundle, encoder_folder: Path, tiny_examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose head tuned the table: here it turned every vector round. Read-only."""
    return make_bundle(tmp_path_factory.mktemp("tuned"), tiny_examples, promote=False, vectors=-encoders.read(encoder_folder))


def test_vectors_that_were_tuned_take_the_place_of_the_encoders(tuned: Path, encoder_folder: Path) -> None:
    """Under the tokenizer that they were learned by."""
    np.testing.assert_array_equal(encoders.read(tuned / LAYOUT.fast), -encoders.read(encoder_folder))
    assert (tuned / LAYOUT.tokenizer).read_bytes() == (encoder_folder / "tokenizer.json").read_bytes()
    before, after = (StaticEncoder(folder).encode(["Fix the typo", ""]) for folder in (encoder_folder, tuned / LAYOUT.fast))
    np.testing.assert_allclose(after, -before, atol=1e-6)


def test_a_tuned_encoder_says_where_it_comes_from(tuned: Path, encoder_folder: Path) -> None:
    """What the manifest states of the encoder travels in its graph."""
    assert StaticEncoder(tuned / LAYOUT.fast).provenance == read_json(tuned / LAYOUT.manifest)["encoder"]
    assert StaticEncoder(tuned / LAYOUT.fast).provenance["teacher"] == StaticEncoder(encoder_folder).provenance["teacher"]


def test_another_table_gives_another_name(tuned: Path, staged: Path) -> None:
    """The encoder is part of the content that a bundle is named by."""
    assert tuned.name[-8:] != staged.name[-8:]


def test_digests_of_what_was_learned_from_are_kept(staged: Path, tiny_examples: list[Example]) -> None:
    """One a text, whatever its case and punctuation; no text itself."""
    seen = staging.seen_by(staged)
    assert seen == {staging.seen_key(example) for example in tiny_examples}
    assert len(seen) == len(tiny_examples)


def test_a_prompt_is_recognised_in_another_spelling(tiny_examples: list[Example]) -> None:
    """By the normalised text that is scored."""
    example = tiny_examples[0]

    def key(text: str) -> int:
        return staging.seen_key(Example("x", "x", "x", from_text(text), example.targets, 0, "test"))

    assert key(f"  {example.prompt.text.upper()} !") == staging.seen_key(example) != key("another question")
    assert 0 <= staging.seen_key(example) < 2**64


def test_a_bundle_that_does_not_say_has_seen_nothing(tmp_path: Path) -> None:
    """Bundles of other origin can be compared with."""
    assert staging.seen_by(tmp_path) == set()


def test_digests_that_are_a_pickle_are_not_read(tmp_path: Path) -> None:
    """Not even in training is a bundle's array file trusted with code."""
    np.savez(tmp_path / staging.SEEN, digests=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        staging.seen_by(tmp_path)


def test_fitted_estimators_lie_apart(staged: Path, tiny_examples: list[Example]) -> None:
    """For later analysis, outside the manifest."""
    head = joblib.load(staged / "analysis" / "head.joblib")
    assert isinstance(head, PerBasis)
    assert not any(name.startswith("analysis") for name in read_json(staged / LAYOUT.manifest)["files"])


# a second path for a bundle that is there


SECOND = Calibration((0.5, -0.25, 40.0), (1.0, 2.0, 0.0))
POLICY = {"targets": {"fast": 0.9, "auto": 0.75, "accurate": 0.7}, "margin": 1.5, "risk": {"fast": {"n": [1, 2, 3]}}}


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(name="models", scope="module")
def _models(make_bundle: MakeBundle, tiny_examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a bundle. Read-only."""
    models = tmp_path_factory.mktemp("second")
    make_bundle(models, tiny_examples)
    return models


@pytest.fixture(name="extended", scope="module")
def _extended(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it that says it has a second path. Read-only."""
    folder = staging.copy(find(models), tmp_path_factory.mktemp("extended"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "TUNING", ("pytest",))  # for torch, which need not be there
        facts = {"accurate": {"layers": 4, "seed": 7}, "risk_bound_held": False}
        staging.extend(folder, calibrations={"rubric": SECOND, "outcomes": SECOND}, policy=POLICY, facts=facts)
    return folder


def test_a_copy_is_staged_without_the_figures_of_its_original(models: Path, tmp_path: Path) -> None:
    """They will be others; all else is the same byte for byte, the fitted estimators too, and there is room for the second path."""
    bundle = find(models)
    copied = staging.copy(bundle, tmp_path)
    assert copied.parent == tmp_path / staging.STAGED
    figures = {name for name in files_of(bundle) if name in (LAYOUT.metrics, LAYOUT.model_card) or name.startswith(f"{LAYOUT.report}/")}
    assert len(figures) >= 3
    assert files_of(copied) == {name: content for name, content in files_of(bundle).items() if name not in figures}
    assert list((copied / LAYOUT.accurate).iterdir()) == []


def test_a_copy_leaves_its_original_as_it_was(models: Path, tmp_path: Path) -> None:
    """Which goes on serving meanwhile."""
    before = files_of(models)
    staging.copy(find(models), models)
    assert {name: content for name, content in files_of(models).items() if not name.startswith(staging.STAGED)} == before
    assert Router.load(models).manifest.version == find(models).name


def test_a_copy_holds_nothing_of_an_earlier_second_path(models: Path, tmp_path: Path) -> None:
    """Another one takes its place."""
    original = Path(shutil.copytree(find(models), tmp_path / "original"))
    (original / LAYOUT.accurate).mkdir()
    (original / LAYOUT.accurate_outcomes).write_bytes(b"of another time")
    assert list((staging.copy(original, tmp_path) / LAYOUT.accurate).iterdir()) == []


def test_an_extended_bundle_says_that_it_has_two_paths(extended: Path, models: Path) -> None:
    """Beside all that was known of it."""
    before, manifest = (read_json(folder / LAYOUT.manifest) for folder in (find(models), extended))
    assert manifest["paths"] == ["fast", "accurate"]
    assert manifest["version"] == extended.name
    assert manifest["risk_bound_held"] is False
    kept = before.keys() - {"paths", "version", "created", "risk_bound_held", "files"}
    assert {name: manifest[name] for name in kept} == {name: before[name] for name in kept}


def test_the_second_path_has_an_origin_of_its_own(extended: Path) -> None:
    """Its own facts, commit and packages: it may be made much later."""
    part = read_json(extended / LAYOUT.manifest)["accurate"]
    assert (part["layers"], part["seed"]) == (4, 7)
    assert {"commit", "dirty"} <= part.keys()
    assert set(part["packages"]) == {*staging.PACKAGES, "pytest"}


def test_the_second_path_has_a_calibration_of_its_own(extended: Path, models: Path) -> None:
    """By basis as the first one has, below its name."""
    before, stated = (read_json(folder / LAYOUT.calibration) for folder in (find(models), extended))
    by_tier = {"shift": dict(zip(TIERS, SECOND.shift, strict=True)), "slope": dict(zip(TIERS, SECOND.slope, strict=True))}
    assert stated == {**before, "accurate": {**by_tier, "outcomes": by_tier}}


def test_an_extended_bundle_decides_by_the_policy_that_is_given(extended: Path) -> None:
    """Targets, margin and the evidence for them."""
    assert read_json(extended / LAYOUT.policy) == POLICY


def test_an_extended_bundle_states_its_files_anew(extended: Path) -> None:
    """Those that changed included, and no figure that is gone."""
    stated = read_json(extended / LAYOUT.manifest)["files"]
    files = {name: content for name, content in files_of(extended).items() if not name.startswith("analysis/") and name != LAYOUT.manifest}
    assert stated == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def test_fine_tuning_packages_are_told_for_the_second_path_alone() -> None:
    """The first one needs none of them."""
    assert set(staging.TUNING) == {"torch", "transformers"}
    assert not set(staging.TUNING) & set(staging.PACKAGES)


# promotion


def test_promotion_moves_the_bundle_and_then_the_pointer(make_bundle: MakeBundle, tiny_examples: list[Example], tmp_path: Path) -> None:
    """Staging is gone, CURRENT names the bundle, and the bundle before it stays for a way back."""
    before = make_bundle(tmp_path, tiny_examples)
    after = make_bundle(tmp_path, tiny_examples[:-30])
    assert find(tmp_path) == after
    assert (tmp_path / CURRENT).read_text(encoding="utf-8") == f"{after.name}\n"
    assert Router.load(before).manifest.version == before.name
    assert {path.name for path in tmp_path.iterdir()} == {CURRENT, before.name, after.name}


def test_promoting_the_same_content_again_changes_nothing(make_bundle: MakeBundle, tiny_examples: list[Example], tmp_path: Path) -> None:
    """A bundle of the same name is replaced by its equal."""
    first = make_bundle(tmp_path, tiny_examples)
    head = (first / LAYOUT.head).read_bytes()
    assert make_bundle(tmp_path, tiny_examples) == first
    assert (first / LAYOUT.head).read_bytes() == head
    assert Router.load(tmp_path).manifest.version == first.name


def test_finishing_twice_leaves_one_staged_bundle(make_bundle: MakeBundle, tiny_examples: list[Example], tmp_path: Path) -> None:
    """A run that is repeated does not heap up folders."""
    first, again = (make_bundle(tmp_path, tiny_examples, promote=False) for _ in range(2))
    assert again == first
    assert list(first.parent.iterdir()) == [first]
