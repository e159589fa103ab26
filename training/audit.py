"""python -m training.audit: labels and prompts to look at again, most suspicious first, as a file to go through.

contamination   a training prompt that a test row, or a row of ``--against``, repeats or nearly repeats
conflict        two prompts that are the same or nearly so, with different labels
suspect         a label that heads which never saw the row are confident is another

The first two are facts, the third is an opinion. Test labels are compared with each other, but never with what the heads say: a
test set that was corrected where a model disagreed would flatter the next one. Changes no data.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from classifier.errors import PointsmanError
from training.arguments import add_labels
from training.dataset import TIERS, Example, read_all, requests, targets_of, text_key
from training.duplicates import Index
from training.files import jsonl_files, rows_of
from training.fit import ENCODER, ENOUGH
from training.learn import FOLDS
from training.suspects import FAMILIES, contradicted, held_out_probabilities

Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]
Side = Literal["train", "test", "against"]
PairKind = Literal["contamination", "conflict"]

PAIRS = ("contamination", "conflict")
"""Kinds of pairs, the graver first."""


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and where it stands. ``label`` is the tier's index, None for outcomes and for rows of ``--against``."""

    id: str
    source: str
    file: Path
    line: int
    side: Side
    text: str  # as it is scored
    group: str | None = None
    label: int | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows that should not both be there as they are; ``exact`` where they differ in case, spacing and punctuation at most."""

    kind: PairKind
    row: int
    other: int
    similarity: float
    exact: bool
    same_group: bool


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row whose label the heads contradict: they mean the tier ``says``, and find it likelier than the label by ``margin``."""

    row: int
    says: int
    margin: float


@dataclass(frozen=True, slots=True)
class Audit:
    """What was looked through and what was found, most suspicious first."""

    rows: list[Row]
    pairs: list[Pair]
    suspects: list[Suspect]
    probabilities: Matrix  # (n_rows, n_tiers), held out; NaN for rows that the heads were not asked about
    skipped: str = ""  # why the heads were not asked at all


def audit(
    examples: Sequence[Example], rows: Sequence[Row], encoder: Path, tiers: Sequence[str], progress: Progress, seed: int = 0
) -> Audit:
    """Look through ``rows``, the first of which are those of ``examples``.

    Raises:
        BundleError: no encoder in the folder ``encoder``.
        ValueError: no training rows, or all labelled ones in one group.
    """
    if not any(row.side == "train" for row in rows):
        raise ValueError("found no training rows, expected some")
    task = progress.add_task("looking for duplicates", total=1)
    pairs = duplicates(rows)
    progress.advance(task)
    probabilities = np.full((len(rows), len(tiers)), np.nan)
    at = np.array([number for number, row in enumerate(rows) if row.side == "train" and row.label is not None], dtype=np.int64)
    labels = _labels(rows)[at]
    a_tier = np.bincount(labels, minlength=len(tiers))
    if a_tier.min() < ENOUGH:
        shown = ", ".join(f"{count} {tier}" for tier, count in zip(tiers, a_tier, strict=True))
        skipped = f"not looked for: found {shown} labelled training rows, expected at least {ENOUGH} a tier"
        return Audit(list(rows), pairs, [], probabilities, skipped)
    task = progress.add_task("asking heads that saw other rows", total=FOLDS * len(FAMILIES))
    asked = [examples[number] for number in at]
    said = held_out_probabilities(asked, encoder, seed, lambda: progress.advance(task))
    probabilities[at] = said
    says = contradicted(said, labels, np.diff(targets_of(asked), prepend=0.0))
    margins = said[np.arange(len(at)), says] - said[np.arange(len(at)), labels]
    suspects = [Suspect(int(at[one]), int(says[one]), float(margins[one])) for one in np.flatnonzero(says >= 0)]
    return Audit(
        list(rows),
        [_less_believed_first(pair, rows, probabilities) for pair in pairs],
        sorted(suspects, key=lambda suspect: -suspect.margin),
        probabilities,
    )


def duplicates(rows: Sequence[Row]) -> list[Pair]:
    """Each row beside the closest one that should not be there, a pair once: across the split, or with another label on the same side.
    Rows of a group that stands on both sides of the split are such a pair however little alike they are.
    """
    # Rows that agree in all that matters here are looked at once: traffic holds some texts by the thousand.
    keys = [(row.text, row.side, row.label) for row in rows]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    cells = np.array([numbers[key] for key in keys])
    first = np.unique(cells, return_index=True)[1]
    trained = np.array([row.side == "train" for row in rows])
    cell_trained, cell_label = trained[first], _labels(rows)[first]

    def apart(i: Indices, j: Indices) -> NDArray[np.bool_]:
        return np.asarray(cell_trained[i] != cell_trained[j])

    def conflicting(i: Indices, j: Indices) -> NDArray[np.bool_]:
        known = (cell_label[i] >= 0) & (cell_label[j] >= 0)
        return np.asarray(known & (cell_label[i] != cell_label[j]) & (cell_trained[i] == cell_trained[j]))

    index = Index.of([rows[at].text for at in first.tolist()])
    found: set[tuple[int, int]] = set()
    for related in (apart, conflicting):
        best = index.closest(related)[cells]
        for at in np.flatnonzero(best >= 0).tolist():
            # The training row first: it is the one that can be changed.
            one, other = sorted((at, int(first[best[at]])), key=lambda row: (not trained[row], row))
            found.add((one, other))
    in_test = {row.group: at for at, row in reversed(list(enumerate(rows))) if row.side == "test"}
    found |= {(at, in_test[row.group]) for at, row in enumerate(rows) if row.side == "train" and row.group in in_test}
    ones, others = np.array(sorted(found), dtype=np.int64).reshape(-1, 2).T
    similarity = index.similarity(cells[ones], cells[others]).tolist()
    result = [_pair(rows, *pair) for pair in zip(ones.tolist(), others.tolist(), similarity, strict=True)]
    return sorted(result, key=lambda pair: (PAIRS.index(pair.kind), -pair.similarity))


def places_of(prompts: Sequence[Path], joined: Sequence[tuple[Path, Path]]) -> list[tuple[Path, int]]:
    """(file, line) of every row, in the order in which ``dataset.read_all`` gives them."""
    files = [file for path in prompts for file in jsonl_files(path)] + [labels for labels, _ in joined]
    return [(file, line) for file in files for line, _ in rows_of(file)]


def rows_from(examples: Sequence[Example], places: Sequence[tuple[Path, int]]) -> list[Row]:
    """What is audited of the examples that stand at ``places``."""
    return [
        Row(one.id, one.source, file, line, one.split, one.prompt.text, one.group, one.label)
        for one, (file, line) in zip(examples, places, strict=True)
    ]


def rows_against(paths: Sequence[Path]) -> list[Row]:
    """Prompts that must not be trained on: rows with ``prompt`` or ``messages``, and where it is said ``id`` (else the line).

    Raises:
        DataError: a file that cannot be read, or a row without a prompt.
    """
    return [
        Row(str(row.get("id", line)), str(row.get("source", file.stem)), file, line, "against", prompt.text)
        for file, line, row, prompt in requests(paths)
    ]


def records(found: Audit, tiers: Sequence[str], *, text: bool = False) -> list[dict[str, Any]]:
    """A JSON object a finding: the row, what the heads say of it, and the other row. Prompts stand in it only where ``text`` asks."""

    def described(at: int) -> dict[str, Any]:
        row = found.rows[at]
        label = None if row.label is None else tiers[row.label]
        place = {"id": row.id, "source": row.source, "file": str(row.file), "line": row.line, "split": row.side, "label": label}
        return place | ({"text": row.text} if text else {})

    def said(at: int, says: int | None = None) -> dict[str, Any]:
        label, values = found.rows[at].label, found.probabilities[at]
        if label is None or np.isnan(values).any():
            return {}
        says = int(values.argmax()) if says is None else says
        return {"says": tiers[says], "probability": round(values[says], 4), "label_probability": round(values[label], 4)}

    pairs = [
        {"kind": pair.kind, **described(pair.row), **said(pair.row)}
        | {"similarity": round(pair.similarity, 4), "exact": pair.exact, "same_group": pair.same_group, "other": described(pair.other)}
        for pair in found.pairs
    ]
    return pairs + [{"kind": "suspect", **described(one.row), **said(one.row, one.says)} for one in found.suspects]


def counts(found: Audit) -> dict[str, int]:
    """Findings by kind."""
    return {**{kind: sum(pair.kind == kind for pair in found.pairs) for kind in PAIRS}, "suspect": len(found.suspects)}


def summary(found: Audit, tiers: Sequence[str]) -> str:
    """How many of each kind, and of which tiers."""
    sides = Counter(row.side for row in found.rows)
    lines = [f"{sides['train']} training rows, {sides['test']} test rows, {sides['against']} rows that must not be trained on"]
    for kind in PAIRS:
        own = [pair for pair in found.pairs if pair.kind == kind]
        exact, group = sum(pair.exact for pair in own), sum(pair.same_group for pair in own)
        lines.append(f"{kind:14}{len(own):6}  {exact} exact, {group} within a group")
    said = Counter((found.rows[one.row].label or 0, one.says) for one in found.suspects)
    shown = ", ".join(f"{tiers[label]} that looks {tiers[says]} {count}" for (label, says), count in sorted(said.items()))
    lines.append(f"{'suspect':14}{len(found.suspects):6}  {found.skipped or shown}".rstrip())
    return "\n".join(lines)


def _labels(rows: Sequence[Row]) -> Indices:
    """(n,) the labels' indices, -1 where there is none."""
    return np.array([-1 if row.label is None else row.label for row in rows], dtype=np.int64)


def _pair(rows: Sequence[Row], one: int, other: int, similarity: float) -> Pair:
    row, beside = rows[one], rows[other]
    exact = similarity == 1 and text_key(row.text) == text_key(beside.text)
    kind: PairKind = "conflict" if row.side == beside.side else "contamination"
    return Pair(kind, one, other, similarity, exact, row.group == beside.group)


def _less_believed_first(pair: Pair, rows: Sequence[Row], probabilities: Matrix) -> Pair:
    """Of two rows that the heads were asked about, the one whose label they find less likely is the one to look at."""
    believed = [probabilities[at, rows[at].label or 0] for at in (pair.row, pair.other)]
    return replace(pair, row=pair.other, other=pair.row) if believed[0] > believed[1] else pair


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m training.audit", description=(__doc__ or "").splitlines()[0])
    result.add_argument(
        "--prompts", type=Path, nargs="*", default=[Path("data/prompts")], help="rows to look through: files or folders (%(default)s)"
    )
    add_labels(result)
    result.add_argument("--against", type=Path, nargs="+", default=[], help="prompts that must not be trained on, such as a benchmark")
    result.add_argument("-o", "--output", type=Path, required=True, help="where the findings go, as JSONL; must not exist yet")
    result.add_argument("--text", action="store_true", help="write the prompts into the findings")
    result.add_argument("--fail-on", nargs="+", choices=(*PAIRS, "suspect"), default=[], help="kinds of findings that end it with code 3")
    result.add_argument("--tiers", default=",".join(TIERS), help="tier names, cheapest first (%(default)s)")
    result.add_argument("--encoder", type=Path, default=ENCODER, help="folder with the static encoder to start from (%(default)s)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: looked through, whatever was found; 1: bad input; 3: found what ``--fail-on`` names."""
    arguments = parser().parse_args(argv)
    console = Console()
    if arguments.output.exists():  # a review may stand in it, or the data themselves
        print(f"--output: found the file {arguments.output}, expected one that does not exist yet", file=sys.stderr)
        return 1
    try:
        tiers = tuple(name.strip() for name in arguments.tiers.split(","))
        examples = read_all(arguments.prompts, arguments.labels, tiers, apart=False)
        rows = rows_from(examples, places_of(arguments.prompts, arguments.labels)) + rows_against(arguments.against)
        with threadpool_limits(limits=1), Progress(console=console, transient=not console.is_terminal) as progress:
            found = audit(examples, rows, arguments.encoder, tiers, progress)
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records(found, tiers, text=arguments.text)]
        arguments.output.write_text("".join(lines), encoding="utf-8")
    except (PointsmanError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    console.print(summary(found, tiers), highlight=False, soft_wrap=True, markup=False)
    return 3 if any(counts(found)[kind] for kind in arguments.fail_on) else 0


if __name__ == "__main__":
    sys.exit(main())
