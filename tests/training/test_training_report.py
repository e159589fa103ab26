"""The report of a bundle: what people read."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from classifier.bundle import LAYOUT
from training import report

pytest_plugins = ("tests.training.fixtures_of_training",)

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(name="manifest", scope="module")
def _manifest(trained_bundle: Path) -> dict[str, Any]:
    """manifest.json of the tiny bundle."""
    return read_json(trained_bundle / LAYOUT.manifest)


@pytest.fixture(name="metrics", scope="module")
def _metrics(trained_bundle: Path) -> dict[str, Any]:
    """metrics.json of the tiny bundle."""
    return read_json(trained_bundle / LAYOUT.metrics)


@pytest.fixture(name="card", scope="module")
def _card(trained_bundle: Path) -> str:
    """MODEL_CARD.md of the tiny bundle."""
    return (trained_bundle / LAYOUT.model_card).read_text(encoding="utf-8")


def read_json(file: Path) -> dict[str, Any]:
    """What a JSON file says."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def text_of(svg: Path) -> str:
    """An SVG as text."""
    return svg.read_text(encoding="utf-8")


# the headline


def test_the_headline_repeats_figures_of_the_metrics(metrics: dict[str, Any], manifest: dict[str, Any]) -> None:
    """Each with its interval, none computed anew."""
    headline = report.headline(metrics)
    assert headline == manifest["metrics"]
    assert headline["test_prompts"] == metrics["labelled"]["n"]
    assert headline["stated_prior"]["under"] == metrics["labelled"]["stated"]["policy"]["under"]
    assert headline["balanced_prior_most_likely"]["exact"] == metrics["labelled"]["balanced"]["most_likely"]["exact"]
    assert headline["excess_ece"]["confidence"] == metrics["labelled"]["calibration"]["confidence"]["excess_ece"]
    assert headline["outcomes_soft_auc"] == metrics["outcomes"]["small"]["auc"]
    assert headline["outcomes_excess_ece"]["large"] == metrics["outcomes"]["large"]["calibration"]["excess_ece"]


def test_the_headline_says_nothing_of_what_was_not_measured(metrics: dict[str, Any]) -> None:
    """Without outcomes there is no word of them, without test rows none at all."""
    assert not any("outcomes" in name for name in report.headline({key: part for key, part in metrics.items() if key != "outcomes"}))
    assert report.headline({"bundle": "x"}) == {}


# the card


def test_the_card_holds_the_whole_table(card: str, trained_bundle: Path) -> None:
    """As report/figures.txt has it, in a code block."""
    figures = (trained_bundle / LAYOUT.report / "figures.txt").read_text(encoding="utf-8")
    assert f"```\n{figures.strip()}\n```" in card


def test_the_card_says_what_the_bundle_is(card: str, manifest: dict[str, Any]) -> None:
    """Name, tiers, basis, prior, head, rows, command, seed, risk bound, parity, teacher."""
    assert card.startswith(f"# Model card: {manifest['version']}\n")
    for words in (
        "(small, medium, large)",
        "**Basis**: rubric",
        "small 60%, medium 30%, large 10%",
        f"**Head**: {manifest['head']['candidate']}, with {len(manifest['signals'])} signals",
        f"on {manifest['rows']['train']} rows; {manifest['rows']['test']} held out",
        f"`{manifest['command']}`, seed 0",
        "95 % confidence):\n  held",
        f"{manifest['parity']:.1e}",
        manifest["encoder"]["teacher"],
        "## What it is not",
    ):
        assert words in card


def test_the_card_says_how_well_tasks_are_told_apart(card: str, manifest: dict[str, Any], metrics: dict[str, Any], tmp_path: Path) -> None:
    """Where they are, with what stands in the manifest."""
    part = manifest["task"]
    line = f"one of {len(part['names'])} kinds of work; on {part['n']} held-out prompts the likeliest is right in {part['accuracy']:.0%}, at a "
    assert f"- **Task**: {line}mean probability of {part['mean_probability']:.0%}." in " ".join(card.split())
    report.write(tmp_path, manifest | {"task": None}, metrics)
    assert "**Task**" not in (tmp_path / LAYOUT.model_card).read_text(encoding="utf-8")


def test_a_card_says_nothing_of_a_path_that_is_not_there(card: str) -> None:
    """Most bundles begin with one."""
    assert "Accurate path" not in card


def test_a_card_says_what_the_accurate_path_is(accurate_bundle: Path) -> None:
    """Where it comes from, when it is asked, what that costs, and by which rows it was trained and weighed."""
    card = (accurate_bundle / LAYOUT.model_card).read_text(encoding="utf-8")
    part = read_json(accurate_bundle / LAYOUT.manifest)["accurate"]
    *_, (margin, figures) = part["margins"].items()
    text = " ".join(card.split())
    assert f"the first {part['layers']} layers of {part['teacher']}, fine-tuned, up to {part['max_tokens']} tokens" in text
    assert f"comes within {margin} logits of the target: {figures['looks_twice']:.0%} of held-out prompts" in text
    assert f"{figures['agreement']:.1%} of decisions are those of the accurate path alone" in text
    assert f"on {part['rows']['train']} rows; weighed and calibrated on {part['rows']['held_out']} that it did not see" in text
    assert part["command"] in text


def test_the_card_compares_the_heads(card: str, manifest: dict[str, Any]) -> None:
    """Every candidate with every figure of the comparison."""
    for name, figures in manifest["head"]["comparison"].items():
        row = "| " + " | ".join([name, *(f"{value:.4f}" for value in figures.values())]) + " |"
        assert row in card


def test_the_card_names_every_data_file(card: str, manifest: dict[str, Any]) -> None:
    """With rows and the start of its digest."""
    for name, entry in manifest["data"].items():
        assert f"| {name} | {entry['rows']} | `{entry['sha256'][:16]}` |" in card


def test_a_card_without_its_risk_bound_says_so(
    trained_bundle: Path, manifest: dict[str, Any], metrics: dict[str, Any], tmp_path: Path
) -> None:
    """In capitals, since it is the promise."""
    report.write(tmp_path, manifest | {"risk_bound_held": False}, metrics)
    assert "NOT held: too few labels to show it for the targets that are set" in (tmp_path / LAYOUT.model_card).read_text(encoding="utf-8")


def test_without_test_rows_the_card_invents_nothing(manifest: dict[str, Any], tmp_path: Path) -> None:
    """No table and no diagram."""
    report.write(tmp_path, manifest, {"bundle": manifest["version"]})
    assert "no test rows: nothing was evaluated" in (tmp_path / LAYOUT.model_card).read_text(encoding="utf-8")
    assert [path.name for path in (tmp_path / LAYOUT.report).iterdir()] == ["figures.txt"]


# the diagrams


@pytest.mark.parametrize("name", ["reliability.svg", "reliability_outcomes.svg"])
def test_a_diagram_is_self_contained(trained_bundle: Path, name: str) -> None:
    """Nothing in it is fetched or run: no script, no image, no style sheet, no font, no reference but to itself."""
    root = ET.fromstring(text_of(trained_bundle / LAYOUT.report / name))  # noqa: S314 - a file that this process wrote
    assert root.tag == f"{SVG}svg"
    for element in root.iter():
        assert element.tag not in {f"{SVG}{tag}" for tag in ("script", "image", "foreignObject", "a", "text")}
        for attribute, value in element.attrib.items():
            if attribute.endswith(("href", "src")):
                assert value.startswith("#")
            assert all(reference.startswith("#") for reference in re.findall(r"url\(\s*['\"]?([^)]*)\)", value))
    assert "@import" not in text_of(trained_bundle / LAYOUT.report / name)


@pytest.mark.parametrize(
    ("name", "panels"),
    [
        ("reliability.svg", ["small suffices", "medium suffices", "confidence of decisions"]),
        ("reliability_outcomes.svg", ["small suffices", "medium suffices", "large suffices"]),
    ],
)
def test_a_diagram_has_a_panel_for_each_calibration(trained_bundle: Path, name: str, panels: list[str]) -> None:
    """Text is drawn as paths, and said in comments."""
    text = text_of(trained_bundle / LAYOUT.report / name)
    for title in panels:
        assert f"<!-- {title} -->" in text


def test_the_same_figures_give_the_same_files(
    trained_bundle: Path, manifest: dict[str, Any], metrics: dict[str, Any], tmp_path: Path
) -> None:
    """No date and no random name in them: files that did not change stay byte-identical."""
    report.write(tmp_path, manifest, metrics)
    for path in (tmp_path / LAYOUT.report).iterdir():
        assert path.read_bytes() == (trained_bundle / LAYOUT.report / path.name).read_bytes(), path.name
    assert (tmp_path / LAYOUT.model_card).read_bytes() == (trained_bundle / LAYOUT.model_card).read_bytes()
