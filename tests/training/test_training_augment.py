"""Copies of training prompts: which have one, what it keeps, and what it is dressed with."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier import from_messages, from_text
from training.augment import SHARES, WEIGHT, copies
from training.dataset import Example
from training.files import DataError

pytest_plugins = ("tests.training.fixtures_of_training",)

Lists = dict[str, Any]


def example(name: str = "1", text: str = "Write unit tests for the billing service, please.", **entries: Any) -> Example:
    """A labelled plain prompt."""
    row: dict[str, Any] = {
        "group": f"group of {name}",
        "source": "made",
        "prompt": from_text(text),
        "targets": (0.25, 0.75, 1.0),
        "label": 1,
        "split": "train",
        "text": text,
    }
    return Example(id=name, **(row | entries))


def kind_of(copy: Example) -> str:
    """How a copy was changed, as its id says."""
    return copy.id.rpartition("~")[2]


@pytest.fixture(name="lists", scope="module")
def _lists(fillers: Path) -> Lists:
    """The texts that copies are dressed with."""
    lists: Lists = json.loads(fillers.read_text(encoding="utf-8"))
    return lists


@pytest.fixture(name="many", scope="module")
def _many(fillers: Path) -> list[Example]:
    """Copies of two thousand prompts that differ in their id alone."""
    return copies([example(str(index)) for index in range(2_000)], fillers, seed=0)


def test_every_labelled_plain_prompt_has_one_copy(fillers: Path) -> None:
    """In the order of the prompts, named after them."""
    examples = [example(name) for name in ("b", "a", "c")]
    assert [copy.id.rpartition("~")[0] for copy in copies(examples, fillers, seed=0)] == ["b", "a", "c"]


def test_outcomes_and_conversations_have_none(fillers: Path) -> None:
    """What models were measured on must stay what it is, and a change would have to know a conversation's turns."""
    conversation = from_messages([{"role": "user", "content": "hello"}, {"role": "assistant", "content": "?"}])
    examples = [example("1", label=None), replace(example("2"), prompt=conversation, text=None), example("3")]
    assert [copy.id.rpartition("~")[0] for copy in copies(examples, fillers, seed=0)] == ["3"]


def test_a_copy_keeps_everything_but_the_text(fillers: Path) -> None:
    """Targets, label, group, source, split and facets; the group keeps it on the side of its original."""
    original = example(weight=3.0, task="debug", style="terse", language="en")
    (copy,) = copies([original], fillers, seed=0)
    assert replace(copy, id=original.id, prompt=original.prompt, text=original.text, weight=original.weight) == original


@pytest.mark.parametrize("weight", [1.0, 0.2, 3.0])
def test_a_copy_weighs_half_of_its_original(fillers: Path, weight: float) -> None:
    """However much that weighs."""
    (copy,) = copies([example(weight=weight)], fillers, seed=0)
    assert copy.weight == WEIGHT * weight == weight / 2


def test_the_prompt_of_a_copy_is_its_text(many: list[Example]) -> None:
    """As the router would read it."""
    for copy in many[:100]:
        assert copy.text is not None
        assert copy.prompt == from_text(copy.text)


def test_copies_are_the_same_for_the_same_seed(fillers: Path, many: list[Example]) -> None:
    """And others for another."""
    examples = [example(str(index)) for index in range(2_000)]
    assert copies(examples, fillers, seed=0) == many != copies(examples, fillers, seed=1)


def test_the_originals_stay_as_they_are(fillers: Path) -> None:
    """They are learned from as well."""
    originals = [example("1"), example("2")]
    copies(originals, fillers, seed=0)
    assert originals == [example("1"), example("2")]


def test_every_kind_is_drawn_as_often_as_its_share_says(many: list[Example]) -> None:
    """Steering is what people try most."""
    counts = Counter(map(kind_of, many))
    assert counts.keys() == SHARES.keys()
    for kind, share in SHARES.items():
        assert counts[kind] / len(many) == pytest.approx(share / sum(SHARES.values()), abs=0.03)


@pytest.mark.parametrize(
    ("kind", "dressed"),
    [
        ("politeness", lambda text, lists: {f"{before} {text} {after}".strip() for before, after in lists["politeness"]}),
        ("signature", lambda text, lists: {f"{text}\n\n{signature}" for signature in lists["signature"]}),
        (
            "small_talk",
            lambda text, lists: {
                f"{gap.join(pieces)}\n\n{text}"
                for count in (1, 2)
                for pieces in permutations(lists["small_talk"], count)
                for gap in ("\n", "\n\n", " ")
            },
        ),
        (
            "steering",
            lambda text, lists: {
                gap.join(parts) for one in lists["steering"] for parts in ((text, one), (one, text)) for gap in (" ", "\n", "\n\n")
            },
        ),
    ],
)
def test_copies_are_dressed_with_the_texts_of_their_kind(
    many: list[Example], lists: Lists, kind: str, dressed: Callable[[str | None, Lists], set[str]]
) -> None:
    """In every way that there is, and in no other."""
    assert {copy.text for copy in many if kind_of(copy) == kind} == dressed(example().text, lists)


def test_small_talk_may_be_long(lists: Lists, tmp_path: Path) -> None:
    """One piece or up to 22, none of them twice, the short ones no rarer than the long ones: a request may stand at the end of a letter."""
    pieces = [f"Piece {index:02}." for index in range(60)]
    file = tmp_path / "fillers.json"
    file.write_text(json.dumps(lists | {"small_talk": pieces}), encoding="utf-8")
    found = [copy for copy in copies([example(str(index)) for index in range(2_000)], file, seed=0) if kind_of(copy) == "small_talk"]
    drawn = [re.findall(r"Piece \d\d\.", copy.text or "") for copy in found]
    counts = [len(one) for one in drawn]
    assert [len(set(one)) for one in drawn] == counts
    assert (min(counts), max(counts)) == (1, 22)
    assert np.median(counts) == pytest.approx(1.2**8.5, abs=1)
    assert all((copy.text or "").endswith(f"\n\n{example().text}") for copy in found)


def test_texts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A run without its copies would not be the run that was asked for."""
    with pytest.raises(DataError, match=r"none\.json: file: found FileNotFoundError, expected politeness"):
        copies([example()], tmp_path / "none.json", seed=0)


@pytest.mark.parametrize("kind", ["politeness", "signature", "small_talk", "steering"])
def test_texts_of_every_kind_are_needed(tmp_path: Path, lists: Lists, kind: str) -> None:
    """Steering included, which the suite does without."""
    file = tmp_path / "fillers.json"
    file.write_text(json.dumps(lists | {kind: []}), encoding="utf-8")
    with pytest.raises(DataError, match=rf"fillers\.json: {kind}: found an empty list, expected at least one text"):
        copies([example()], file, seed=0)
