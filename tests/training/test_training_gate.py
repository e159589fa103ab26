"""Whether a new bundle may replace the current one."""

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from classifier import Router
from training import gate
from training.dataset import Example

pytest_plugins = ("tests.training.fixtures_of_training",)

MakeBundle = Callable[..., Path]


@pytest.fixture(name="sides", scope="module")
def _sides(tiny_examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """(training rows, test rows), more of the latter than the hash would hold out."""
    return [example for index, example in enumerate(tiny_examples) if index % 3], tiny_examples[::3]


@pytest.fixture(name="good", scope="module")
def _good(make_bundle: MakeBundle, sides: tuple[list[Example], list[Example]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that learned from the training rows."""
    return make_bundle(tmp_path_factory.mktemp("good"), sides[0])


@pytest.fixture(name="poor", scope="module")
def _poor(make_bundle: MakeBundle, sides: tuple[list[Example], list[Example]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that learned from shuffled labels."""
    labels = np.random.default_rng(0).permutation([example.label or 0 for example in sides[0]]).tolist()
    return make_bundle(tmp_path_factory.mktemp("poor"), sides[0], labels=labels)


def difference(text: str) -> tuple[float, float, float]:
    """(mean, low, high) in a verdict's table."""
    found = re.search(r"difference ([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]", text)
    assert found is not None
    mean, low, high = map(float, found.groups())
    return mean, low, high


def test_a_bundle_as_good_as_the_current_one_passes(good: Path, sides: tuple[list[Example], list[Example]]) -> None:
    """Against itself the difference is nothing at all."""
    verdict = gate.compare(Router.load(good), good, sides[1])
    assert verdict.passed
    assert difference(verdict.text) == (0, 0, 0)


def test_a_better_bundle_passes(good: Path, poor: Path, sides: tuple[list[Example], list[Example]]) -> None:
    """Its losses are lower, with certainty."""
    verdict = gate.compare(Router.load(good), poor, sides[1])
    assert verdict.passed
    assert difference(verdict.text)[2] < 0


def test_a_worse_bundle_does_not(good: Path, poor: Path, sides: tuple[list[Example], list[Example]]) -> None:
    """The same comparison, turned round."""
    verdict = gate.compare(Router.load(poor), good, sides[1])
    assert not verdict.passed
    assert difference(verdict.text)[1] > gate.MARGIN


def test_the_table_names_both_bundles_and_what_is_allowed(good: Path, poor: Path, sides: tuple[list[Example], list[Example]]) -> None:
    """A person must be able to judge the refusal."""
    text = gate.compare(Router.load(poor), good, sides[1]).text
    assert f"log-loss on {len(sides[1])} test prompts" in text
    for words in (f"new {poor.name}: ", f"old {good.name}: ", "allowed up to 0.01", "the risk bound holds"):
        assert words in text


def test_a_bundle_that_may_be_worse_does_not_pass(
    good: Path, sides: tuple[list[Example], list[Example]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal in the mean is not enough where rows differ widely: the upper end of the interval counts."""
    new, old = np.tile([0.0, 1.0], len(sides[1]) // 2), np.full(len(sides[1]), 0.5)
    losses = iter([new, old])
    monkeypatch.setattr(gate, "_loss", lambda *_: next(losses))
    verdict = gate.compare(Router.load(good), good, sides[1])
    mean, low, high = difference(verdict.text)
    assert mean == 0
    assert -low > gate.MARGIN
    assert high > gate.MARGIN
    assert not verdict.passed


def test_rows_that_the_current_bundle_was_trained_on_are_passed_over(
    good: Path, poor: Path, sides: tuple[list[Example], list[Example]]
) -> None:
    """They would flatter it."""
    train, test = sides
    candidate = Router.load(poor)
    assert gate.compare(candidate, good, [*train, *test]) == gate.compare(candidate, good, test)
    nothing = gate.compare(candidate, good, train)
    assert not nothing.passed
    assert "only 0 labelled test rows that neither bundle saw, expected some of every tier" in nothing.text


def test_a_row_seen_in_another_spelling_is_passed_over_too(good: Path, sides: tuple[list[Example], list[Example]]) -> None:
    """By the normalised text, not by id."""
    train, test = sides
    again = [
        dataclasses.replace(
            example, id=f"again-{example.id}", prompt=dataclasses.replace(example.prompt, text=f"{example.prompt.text.upper()}!")
        )
        for example in train
    ]
    candidate = Router.load(good)
    assert gate.compare(candidate, good, [*again, *test]).text == gate.compare(candidate, good, test).text


def test_outcomes_have_no_say(good: Path, poor: Path, sides: tuple[list[Example], list[Example]]) -> None:
    """What ships is calibrated for the rubric, and judged by it."""
    outcomes = [dataclasses.replace(example, label=None) for example in sides[1]]
    candidate = Router.load(poor)
    assert gate.compare(candidate, good, [*sides[1], *outcomes]) == gate.compare(candidate, good, sides[1])


def test_a_tier_without_test_rows_is_no_comparison(good: Path, sides: tuple[list[Example], list[Example]]) -> None:
    """There would be nothing to stand for its share of traffic."""
    verdict = gate.compare(Router.load(good), good, [example for example in sides[1] if example.label != 2])
    assert not verdict.passed
    assert "expected some of every tier" in verdict.text


@pytest.fixture(name="unproven", scope="module")
def _unproven(make_bundle: MakeBundle, sides: tuple[list[Example], list[Example]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As good as any, but with too few labels to bound its risk."""
    return make_bundle(tmp_path_factory.mktemp("unproven"), sides[0], risk_bound_held=False)


def test_without_its_risk_bound_no_bundle_passes(unproven: Path, poor: Path, sides: tuple[list[Example], list[Example]]) -> None:
    """However much better it is."""
    verdict = gate.compare(Router.load(unproven), poor, sides[1])
    assert difference(verdict.text)[2] < 0
    assert not verdict.passed
    assert "the risk bound does not hold: more labels are needed" in verdict.text


def test_a_first_bundle_needs_its_risk_bound_alone(good: Path, unproven: Path) -> None:
    """There is nothing to be compared with."""
    assert gate.first(Router.load(good)) == gate.Verdict(True, "gate: there is no current bundle; the risk bound holds")
    assert not gate.first(Router.load(unproven)).passed


def test_a_current_bundle_that_does_not_load_is_no_obstacle(
    good: Path, unproven: Path, sides: tuple[list[Example], list[Example]], tmp_path: Path
) -> None:
    """A server could not start from it either; the verdict says why it was passed over."""
    broken = Path(shutil.copytree(good, tmp_path / good.name))
    (broken / "fast" / "head.onnx").write_bytes(b"flipped")
    verdict = gate.compare(Router.load(good), broken, sides[1])
    assert verdict.passed
    assert "does not load here (fast/head.onnx: found sha256 " in verdict.text
    assert not gate.compare(Router.load(unproven), broken, sides[1]).passed


def test_bundles_of_other_tiers_are_not_compared(
    good: Path, make_bundle: MakeBundle, sides: tuple[list[Example], list[Example]], tmp_path: Path
) -> None:
    """A person decides about such a change."""
    other = make_bundle(tmp_path / "models", sides[0], tiers=("cheap", "middling", "large"))
    catalog = tmp_path / "catalog.toml"
    tables = [
        f'[tiers.{tier}]\nmodel = "m"\ninput_usd = 1.0\noutput_usd = 1.0\ncontext_window = 1000\nlatency_ms = 1\n'
        for tier in ("cheap", "middling", "large")
    ]
    catalog.write_text("\n".join(tables), encoding="utf-8")
    verdict = gate.compare(Router.load(other, catalog), good, sides[1])
    assert not verdict.passed
    assert "the current bundle has the tiers ('small', 'medium', 'large')" in verdict.text
