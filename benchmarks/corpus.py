"""The prompts that every figure is measured on: corpus.jsonl, written for this project, and texts joined from it."""

import json
from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path

FILE = Path(__file__).with_name("corpus.jsonl")
BANDS = (100, 400, 2_000, 8_000)
"""Upper ends, in characters; a band starts behind the one before."""
MEDIAN = range(180, 221)
"""Lengths that count as a median prompt."""
MIB = 1 << 20


def read() -> tuple[str, ...]:
    """Every prompt of the corpus, in the order of the file."""
    with FILE.open(encoding="utf-8") as lines:
        return tuple(json.loads(line)["prompt"] for line in lines)


def median() -> tuple[str, ...]:
    """The prompts of about median length."""
    return tuple(prompt for prompt in read() if len(prompt) in MEDIAN)


def joined(chars: int, first: int = 0) -> str:
    """A text of exactly ``chars`` characters: prompts from number ``first`` on, over and over, with blank lines between."""
    parts: list[str] = []
    missing = chars
    for prompt in islice(cycle(read()), first, None):
        parts.append(prompt)
        missing -= len(prompt) + 2
        if missing <= 0:
            break
    return "\n\n".join((*parts, ""))[:chars]


def longest() -> tuple[str, ...]:
    """Ten different prompts at the upper end of the last band."""
    return tuple(joined(BANDS[-1], first) for first in range(0, 200, 20))


def unbroken() -> tuple[str, ...]:
    """Four texts of 1 MiB without a space: letters, hex digits, dotted names, Chinese. What is quadratic in a word shows here."""
    return tuple((unit * (MIB // len(unit) + 1))[:MIB] for unit in ("a", "c0ffee42", "a.", "模型"))


def bands() -> dict[int, tuple[str, ...]]:
    """Upper end -> prompts; the corpus' own, and in the last band ``longest`` as well."""
    prompts = (*read(), *longest())
    lower = (0, *BANDS[:-1])
    return {high: tuple(prompt for prompt in prompts if low < len(prompt) <= high) for low, high in zip(lower, BANDS, strict=True)}


def numbered(prompts: Iterable[str], count: int) -> Iterator[str]:
    """``count`` prompts, over and over, each made different from all others by a number at its end."""
    return (f"{prompt} #{number:09d}" for number, prompt in enumerate(islice(cycle(prompts), count)))


def write(prompts: Iterable[str], file: Path) -> Path:
    """``prompts`` as JSONL, one ``{"prompt": ...}`` a line; returns ``file``."""
    with file.open("w", encoding="utf-8") as target:
        target.writelines(json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n" for prompt in prompts)
    return file
