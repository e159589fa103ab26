"""Copies of training prompts, dressed with what must not matter, so that heads learn to see through it."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from classifier import from_text
from training.changes import Change, Fillers, beside, changes
from training.dataset import Example
from training.files import DataError

WEIGHT = 0.5
"""Of a copy, beside the prompt itself."""
SHARES = {"politeness": 2, "signature": 2, "small_talk": 3, "markdown": 2, "steering": 4, "typos": 1, "whitespace": 1}
"""How often each kind is drawn."""


def _talk(pieces: Sequence[str], draw: random.Random) -> str:
    """One piece of small talk or many, up to about three hundred words."""
    return draw.choice(["\n", "\n\n", " "]).join(draw.sample(pieces, min(len(pieces), round(1.2 ** draw.uniform(0, 17)))))


def copies(examples: Sequence[Example], texts: Path, seed: int) -> list[Example]:
    """One changed copy of every labelled plain prompt, with its targets and group; the same for the same seed.

    Raises:
        DataError: ``texts`` cannot be read, or holds nothing of a kind.
    """
    fillers = Fillers.read(texts)
    if not fillers.steering:
        raise DataError(texts, None, "steering", "an empty list", "at least one text")
    kinds: dict[str, Change] = {
        **changes(fillers),
        "steering": lambda text, draw: beside(text, draw.choice(fillers.steering), draw),
        "small_talk": lambda text, draw: f"{_talk(fillers.small_talk, draw)}\n\n{text}",
    }
    draw = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    result: list[Example] = []
    for example in examples:
        if example.text is None or example.kind == "outcomes":
            continue
        (kind,) = draw.choices(list(SHARES), list(SHARES.values()))
        changed = kinds[kind](example.text, draw)
        result.append(replace(example, id=f"{example.id}~{kind}", prompt=from_text(changed), text=changed, weight=WEIGHT * example.weight))
    return result
