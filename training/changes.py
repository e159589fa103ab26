"""Changes to a prompt that must not change its tier: what the behavioural suite tries, and what training is shown copies of.

The code is shared; the texts are not: those of the suite and those of training were written apart.
"""

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from training.files import DataError

Change = Callable[[str, random.Random], str]


@dataclass(frozen=True, slots=True)
class Fillers:
    """Written texts that ask for nothing."""

    politeness: list[tuple[str, str]]
    signature: list[str]
    small_talk: list[str]
    steering: list[str] = field(default_factory=list)  # addresses the router; only augmentation has it

    @classmethod
    def read(cls, file: Path) -> "Fillers":
        """The texts in ``file``.

        Raises:
            DataError: a file that cannot be read, or other lists than these.
        """
        try:
            found = cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(file, None, "file", type(error).__name__, "politeness, signature, small_talk and steering") from error
        for name in ("politeness", "signature", "small_talk"):
            if not getattr(found, name):
                raise DataError(file, None, name, "an empty list", "at least one text")
        return found


def changes(fillers: Fillers) -> dict[str, Change]:
    """What must not matter, by kind: functions of a text and a source of chance. A text that cannot be changed so comes back as it is."""

    def politeness(text: str, draw: random.Random) -> str:
        before, after = draw.choice(fillers.politeness)
        return f"{before} {text} {after}".strip()

    return {
        "politeness": politeness,
        "typos": _typos,
        "casing": lambda text, draw: draw.choice([str.lower, str.upper, str.capitalize])(text),
        "whitespace": _whitespace,
        "signature": lambda text, draw: f"{text}\n\n{draw.choice(fillers.signature)}",
        "small_talk": lambda text, draw: f"{draw.choice(fillers.small_talk)}\n\n{text}",
        "markdown": _markdown,
        "spelling": _spelling,
    }


def beside(text: str, other: str, draw: random.Random) -> str:
    """``other`` before or after ``text``, on the same line, the next, or with a blank line between."""
    parts = [text, other]
    draw.shuffle(parts)
    return draw.choice(["\n\n", "\n", " "]).join(parts)


_WORD = re.compile(r"(?<!\w)[A-Za-z]{4,}(?!\w)")
_TYPO_SHARE = 0.08


def _typos(text: str, draw: random.Random) -> str:
    """Neighbouring letters change places, or a letter is lost or doubled, in a twelfth of the longer words, and in one at least."""
    words = list(_WORD.finditer(text))
    chosen = [word for word in words if draw.random() < _TYPO_SHARE] or words[:1]
    for word in reversed(chosen):
        place = draw.randrange(word.start() + 1, word.end() - 1)
        one, two = text[place], text[place + 1]
        text = text[:place] + draw.choice([two + one if one != two else one, two, one + one + two]) + text[place + 2 :]
    return text


def _whitespace(text: str, draw: random.Random) -> str:
    """Spaces doubled, lines padded, blank lines around."""
    spaced = re.sub(r"(?<=[,.?!]) ", lambda _: draw.choice(["  ", "\n", " "]), text)
    lines = [line + draw.choice(["", " ", "  \t"]) for line in spaced.split("\n")]
    return draw.choice(["", "\n", "  "]) + "\n".join(lines) + draw.choice(["\n", " ", "\n\n"])


def _markdown(text: str, draw: random.Random) -> str:
    """Emphasis, a heading, a rule, a list of one or a quotation."""
    first, _, rest = text.partition("\n")
    heavy = re.sub(_WORD, lambda word: f"**{word[0]}**" if draw.random() < _TYPO_SHARE else word[0], text)
    return draw.choice([f"# Request\n\n{text}", f"**{first}**\n{rest}", f"- {text}", f"---\n\n{text}\n\n---", f"> {first}\n{rest}", heavy])


_BRITISH = {
    "analyze": "analyse", "authorization": "authorisation", "behavior": "behaviour", "canceled": "cancelled", "catalog": "catalogue",
    "categorize": "categorise", "center": "centre", "color": "colour", "customize": "customise", "defense": "defence",
    "dialog": "dialogue", "favorite": "favourite", "finalize": "finalise", "gray": "grey", "honor": "honour",
    "initialize": "initialise", "judgment": "judgement", "labeled": "labelled", "labor": "labour", "license": "licence",
    "modeling": "modelling", "neighbor": "neighbour", "normalize": "normalise", "optimize": "optimise", "organization": "organisation",
    "organize": "organise", "prioritize": "prioritise", "program": "programme", "realize": "realise", "recognize": "recognise",
    "reorganize": "reorganise", "serialize": "serialise", "summarize": "summarise", "synchronize": "synchronise", "traveling": "travelling",
}  # fmt: skip
_SHORT = {
    "please": "pls", "you": "u", "are": "r", "because": "cuz", "with": "w/", "without": "w/o", "about": "abt", "and": "&",
    "do not": "don't", "cannot": "can't", "it is": "it's", "i am": "i'm", "okay": "ok", "something": "smth",
}  # fmt: skip
_VARIANTS = {**_BRITISH, **{british: american for american, british in _BRITISH.items()}, **_SHORT}
_VARIED = re.compile(r"(?<!\w)(?ai:" + "|".join(map(re.escape, _VARIANTS)) + r")(?!\w)")


def _spelling(text: str, draw: random.Random) -> str:
    """British for American and back, and the short forms of chat."""
    del draw
    return _VARIED.sub(lambda word: _VARIANTS[word[0].lower()], text)
