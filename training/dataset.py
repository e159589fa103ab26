"""Rows -> Examples: what was asked, what each tier's sufficiency should be, and which split the row belongs to.

A row says what suffices in one of three ways, and all become a target in [0, 1] for each tier: a ``tier`` gives 0 below it
and 1 from it up; ``votes`` the share of voters for whom the tier suffices; ``outcomes`` the mean score of the models
pooled for the tier, missing where the pool is empty.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from classifier import from_row
from classifier.errors import MalformedPromptError
from classifier.types import Prompt
from training.files import DataError, below_test, jsonl_files, rows_of

TIERS = ("small", "medium", "large")
POOLS = "pools.json"
COLLECTIONS = ("llmrouter_default",)
"""Sources that are many data sets under one name, told apart by ``category``."""
TEST_SHARE = 7  # every seventh group is held out where a row does not say its split itself

_LARGEST = 1e9  # weights and votes
_SUREST = 3
_MEAN_SURE = 2

Split = Literal["train", "test"]
Kind = Literal["labelled", "outcomes"]
Pools = dict[str, dict[str, list[str]]]


@dataclass(frozen=True, slots=True)
class Example:
    """One row, ready to learn from.

    ``targets`` holds one number in [0, 1] a tier, NaN where nothing is known. ``label`` is the tier's index for a row
    labelled by tier or votes (the most voted, the dearer of two alike), None for outcomes.
    """

    id: str
    group: str
    source: str
    prompt: Prompt
    targets: tuple[float, ...]
    label: int | None
    split: Split
    weight: float = 1.0
    task: str | None = None
    style: str | None = None
    language: str | None = None
    text: str | None = None  # of a plain prompt, as it was written
    category: str | None = None

    @property
    def stratum(self) -> str:
        """What figures within a source are taken within: the source, or the category where the source is a collection of several."""
        return f"{self.source}/{self.category}" if self.source in COLLECTIONS and self.category else self.source

    @property
    def kind(self) -> Kind:
        """Where the targets come from."""
        return "outcomes" if self.label is None else "labelled"


def read(paths: Sequence[Path], tiers: tuple[str, ...] = TIERS, *, apart: bool = True, unassigned: Split | None = None) -> list[Example]:
    """Every row of every JSONL file, and of every folder's JSONL files, in a stable order.

    Rows below a folder ``test/`` are test rows. Where a folder has such rows of its own, its other rows are training rows;
    otherwise they are ``unassigned``, or the hash of their group decides. A row's own ``split`` wins over all of it, save that
    nothing below ``test/`` is ever trained on. ``apart`` is False where groups on both sides of the split are to be found rather than refused.

    Raises:
        DataError: a file that cannot be read, or the first row that is not what data/README.md describes.
    """
    examples: list[Example] = []
    places: list[tuple[Path, int]] = []
    for path in paths:
        files = jsonl_files(path)
        if not files:
            raise DataError(path, None, "folder", "no *.jsonl files", "at least one")
        has_test = any(below_test(file, path) for file in files)
        for file in files:
            pools = _pools(file)
            for line, row in rows_of(file):
                split: Split | None = "test" if below_test(file, path) else "train" if has_test else unassigned
                examples.append(_example(row, file, line, pools, split, tiers))
                places.append((file, line))
    _check(examples, places, apart=apart)
    return examples


def read_all(
    paths: Sequence[Path],
    joined: Sequence[tuple[Path, Path]],
    tiers: tuple[str, ...] = TIERS,
    *,
    apart: bool = True,
    unassigned: Split | None = None,
) -> list[Example]:
    """The rows of ``read``, where there are paths, and of every ``join``; raises as they do."""
    examples = read(paths, tiers, apart=apart, unassigned=unassigned) if paths else []
    return examples + [example for labels, texts in joined for example in join(labels, texts, tiers, unassigned=unassigned)]


def requests(paths: Sequence[Path]) -> Iterator[tuple[Path, int, dict[str, Any], Prompt]]:
    """(file, line, row, what it asks) of every row of JSONL files that holds ``prompt`` or ``messages``, labelled or not.

    Raises:
        DataError: a file that cannot be read, or a row that is no request.
    """
    for file in (file for path in paths for file in jsonl_files(path)):
        for line, row in rows_of(file):
            try:
                yield file, line, row, from_row(row)
            except MalformedPromptError as error:
                raise DataError(file, line, error.field, error.found, error.expected) from error


def join(labels: Path, texts: Path, tiers: tuple[str, ...] = TIERS, *, unassigned: Split | None = None) -> list[Example]:
    """Labels by id, joined with texts that stand elsewhere: rows of ``labels`` hold ``id`` and ``tier`` or ``votes``, those of
    ``texts`` ``id`` and ``prompt``. How sure its readers were (``sure``, 1 to 3, 2 where it is not said) weighs a row. Texts without
    a label are passed over.

    Raises:
        DataError: see ``read``; a label without a text.
    """
    by_id: dict[str, Any] = {}
    for line, row in rows_of(texts):
        if by_id.setdefault(str(row.get("id")), row) is not row:
            raise DataError(texts, line, "id", repr(row.get("id"))[:80], "an id that stands once")
    result = []
    places = []
    for line, row in rows_of(labels):
        text = by_id.get(str(row.get("id")))
        if text is None:
            raise DataError(labels, line, "id", repr(row.get("id"))[:80], f"the id of a row of {texts}")
        sure = row.pop("sure", _MEAN_SURE)
        if isinstance(sure, bool) or not isinstance(sure, int | float) or not 1 <= sure <= _SUREST:
            raise DataError(labels, line, "sure", repr(sure)[:80], f"a number from 1 to {_SUREST}")
        joined = {**row, "prompt": text.get("prompt"), "source": labels.stem, "weight": sure / _MEAN_SURE}
        result.append(_example(joined, labels, line, None, unassigned, tiers))
        places.append((labels, line))
    _check(result, places)
    return result


def text_key(text: str) -> str:
    """Digest of the normalised text: equal for prompts that differ in case, spacing or punctuation alone."""
    return hashlib.sha256(" ".join(re.findall(r"\w+", text.lower())).encode("utf-8", "replace")).hexdigest()[:16]


def held_out(group: str) -> bool:
    """Whether ``group`` falls into the test split by its hash; the same on every machine and in every run."""
    return int(hashlib.sha256(f"split:{group}".encode("utf-8", "replace")).hexdigest()[:8], 16) % TEST_SHARE == 0


def fold_of(group: str, folds: int, seed: int) -> int:
    """The fold of ``group`` in cross-fitting."""
    return int(hashlib.sha256(f"fold:{seed}:{group}".encode("utf-8", "replace")).hexdigest()[:8], 16) % folds


def targets_of(examples: Sequence[Example]) -> NDArray[np.float64]:
    """(n_examples, n_tiers) float64, NaN where unknown."""
    return np.array([example.targets for example in examples], dtype=np.float64)


def _pools(file: Path) -> Pools | None:
    pools = file.parent / POOLS
    if not pools.is_file():
        return None
    try:
        content = json.loads(pools.read_text(encoding="utf-8"))
        return {source: {tier: list(models) for tier, models in of.items()} for source, of in content.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(pools, None, "file", f"{type(error).__name__}", "{source: {tier: [model, ...]}}") from error


def _example(row: dict[str, Any], file: Path, line: int, pools: Pools | None, split: Split | None, tiers: tuple[str, ...]) -> Example:
    def fail(field: str, found: object, expected: str) -> DataError:
        return DataError(file, line, field, found, expected)

    for field in ("group", "source", "task", "style", "language", "category"):
        if not isinstance(row.get(field, ""), str):
            raise fail(field, type(row[field]).__name__, "a string")
    if not isinstance(row.get("id"), str | int):
        raise fail("id", type(row.get("id")).__name__, "a string")
    prompt, text = _prompt(row, fail)
    given = [name for name in ("tier", "votes", "outcomes") if name in row]
    if len(given) != 1:
        raise fail("tier", " and ".join(given) or "nothing", "exactly one of tier, votes, outcomes")
    source = row.get("source", file.stem)
    label: int | None = None
    if "outcomes" in row:
        targets = _outcome_targets(row["outcomes"], pools.get(source) if pools else None, tiers, fail)
    else:
        votes = row["votes"] if "votes" in row else {_name(row["tier"], fail): 1}
        targets, label = _vote_targets(votes, given[0], tiers, fail)
    group = row.get("group") or text_key(text)
    own = row.get("split")
    if own not in (None, "train", "test"):
        raise fail("split", repr(own), "train or test")
    if split != "test":
        split = own or split or ("test" if held_out(group) else "train")
    weight = row.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= _LARGEST:
        raise fail("weight", repr(weight)[:80], "a number above 0")
    return Example(
        id=str(row["id"]),
        group=group,
        source=source,
        prompt=prompt,
        targets=targets,
        label=label,
        split=split,
        weight=float(weight),
        task=row.get("task"),
        style=row.get("style"),
        language=row.get("language"),
        text=row.get("prompt"),
        category=row.get("category"),
    )


def _prompt(row: dict[str, Any], fail: Any) -> tuple[Prompt, str]:
    """(the prompt, the text that stands for it where a row names no group)."""
    try:
        prompt = from_row(row)
    except MalformedPromptError as error:
        raise fail(error.field, error.found, error.expected) from error
    return prompt, row.get("prompt") or json.dumps(row["messages"], sort_keys=True)


def _name(tier: Any, fail: Any) -> str:
    if not isinstance(tier, str):
        raise fail("tier", type(tier).__name__, "the name of a tier")
    return tier


def _vote_targets(votes: Any, field: str, tiers: tuple[str, ...], fail: Any) -> tuple[tuple[float, ...], int]:
    if not isinstance(votes, dict) or not votes:
        raise fail(field, "nothing" if votes == {} else type(votes).__name__, "{tier: number of votes}")
    for tier, count in votes.items():
        if tier not in tiers:
            raise fail(field, repr(tier)[:80], "one of " + ", ".join(tiers))
        if isinstance(count, bool) or not isinstance(count, int | float) or not 0 < count <= _LARGEST:
            raise fail(field, repr(count)[:80], "a number above 0")
    counts = np.array([votes.get(tier, 0) for tier in tiers], dtype=float)
    label = len(tiers) - 1 - int(np.argmax(counts[::-1]))
    return tuple((np.cumsum(counts) / counts.sum()).tolist()), label


def _outcome_targets(outcomes: Any, pools: dict[str, list[str]] | None, tiers: tuple[str, ...], fail: Any) -> tuple[float, ...]:
    if not isinstance(outcomes, dict) or not outcomes:
        raise fail("outcomes", type(outcomes).__name__, "{model: score}")
    for model, score in outcomes.items():
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise fail(f"outcomes.{model}", repr(score), "a score in 0..1")
    pools = pools or {tier: [tier] for tier in tiers}
    means = []
    for tier in tiers:
        scores = [outcomes[model] for model in pools.get(tier, []) if model in outcomes]
        means.append(float(np.mean(scores)) if scores else float("nan"))
    if all(np.isnan(means)):
        raise fail("outcomes", "no model of any pool", f"models that {POOLS} names for this source, or tier names")
    return tuple(means)


def _check(examples: Sequence[Example], files: Sequence[tuple[Path, int]], *, apart: bool = True) -> None:
    """Ids stand once in their source and, where that matters, no group stands on both sides of the split."""
    seen: set[tuple[str, str]] = set()
    splits: dict[str, Split] = {}
    for example, (file, line) in zip(examples, files, strict=True):
        key = (example.source, example.id)
        if key in seen:
            raise DataError(file, line, "id", repr(example.id)[:80], f"an id that stands once in the source {example.source}")
        seen.add(key)
        other = splits.setdefault(example.group, example.split)
        if apart and other != example.split:
            raise DataError(
                file, line, "group", f"a {example.split} row of a group that has {other} rows", "groups on one side of the split"
            )
