"""The behavioural suite: how decisions change, or must not, when prompts are changed on purpose.

Invariance: what does not touch the work (politeness, typos, small talk in front, other words) leaves the tier. Direction: what
makes the work harder never makes the tier cheaper. Injection: text that addresses the router changes nothing. Minimum
functionality: cases on which every reader of the rubric agrees. The kinds of tests follow CheckList (Ribeiro et al., 2020).
Base prompts are drawn from the test split; texts that had to be written were written without sight of the model.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifier import Router, from_text
from classifier.policy import cheapest
from classifier.types import Path as ScorePath
from classifier.types import Scores
from training.changes import Fillers, beside, changes
from training.files import DataError, rows_of

CLOSE = 0.05
"""Two scores this close to each other and to the target are no disagreement: the policy has to cut somewhere."""
PER_KIND = 60
_VARIED_TEXTS = ("paraphrase.jsonl", "direction.jsonl")


@dataclass(frozen=True, slots=True)
class Case:
    """``changed`` must do as ``base`` does (or no cheaper, for direction); where there is no base, it must get ``tier``."""

    suite: str
    kind: str
    changed: str
    base: str | None = None
    tier: str | None = None


def cases(folder: Path, prompts: dict[str, str], seed: int = 0) -> list[Case]:
    """All cases of the texts in ``folder`` on the base ``prompts`` by id; the same for the same seed.

    Raises:
        DataError: a text that names a base which is not among ``prompts``, or a file that cannot be read.
    """
    fillers = Fillers.read(folder / "fillers.json")
    draw = random.Random(seed)  # noqa: S311 - a reproducible sample, nothing secret
    ids = sorted(prompts)
    result = []
    for kind, change in changes(fillers).items():
        bases = [prompts[name] for name in draw.sample(ids, len(ids))]
        changed = [(base, change(base, draw)) for base in bases]
        result += [Case("invariance", kind, new, base) for base, new in changed if new != base][:PER_KIND]
    result += [
        Case("invariance", "paraphrase", row["prompt"], base) for row, base in _with_base(folder / "paraphrase.jsonl", prompts, "prompt")
    ]
    result += [
        Case("direction", row["kind"], row["prompt"], base)
        for row, base in _with_base(folder / "direction.jsonl", prompts, "kind", "prompt")
    ]
    for row in _texts(folder / "injection.jsonl", "push", "text"):
        for base in draw.sample(ids, 2):
            result.append(Case("injection", row["push"], beside(prompts[base], row["text"], draw), prompts[base]))
    result += [Case("mft", row["tier"], row["prompt"], tier=row["tier"]) for row in _texts(folder / "mft.jsonl", "tier", "prompt")]
    return result


def passes(case: Case, base: Scores | None, changed: Scores, target: float) -> bool:
    """Whether the decision on the changed prompt is as it must be."""
    tiers = range(len(changed.tiers))
    now = cheapest(changed.sufficiency, target, tiers)
    if base is None:
        return changed.tiers[now] == case.tier
    before = cheapest(base.sufficiency, target, tiers)
    if now == before or (case.suite == "direction" and now > before):
        return True
    decisive = min(now, before)  # the tier that reached the target in one of the two and missed it in the other
    return abs(changed.sufficiency[decisive] - base.sufficiency[decisive]) <= CLOSE  # with the target in between


def run(router: Router, found: Sequence[Case], path: ScorePath) -> dict[str, dict[str, list[bool]]]:
    """By suite and kind, whether each case passes."""
    target = router.policy.target(path)
    texts = list(dict.fromkeys(text for case in found for text in (case.base, case.changed) if text is not None))
    scores = dict(zip(texts, router.score([from_text(text) for text in texts], path), strict=True))
    result: dict[str, dict[str, list[bool]]] = {}
    for case in found:
        passed = passes(case, None if case.base is None else scores[case.base], scores[case.changed], target)
        result.setdefault(case.suite, {}).setdefault(case.kind, []).append(passed)
    return result


def bases(folder: Path) -> set[str]:
    """Ids of the test prompts that the written texts vary."""
    return {row["base"] for name in _VARIED_TEXTS for row in _texts(folder / name, "base")}


def _with_base(file: Path, prompts: dict[str, str], *fields: str) -> list[tuple[dict[str, Any], str]]:
    rows = list(_texts(file, "base", *fields))
    unknown = next((row["base"] for row in rows if row["base"] not in prompts), None)
    if unknown is not None:
        raise DataError(file, None, "base", repr(unknown)[:80], "the id of a test prompt")
    return [(row, prompts[row["base"]]) for row in rows]


def _texts(file: Path, *fields: str) -> Iterator[dict[str, Any]]:
    for line, row in rows_of(file):
        for field in fields:
            if not isinstance(row.get(field), str):
                raise DataError(file, line, field, type(row.get(field)).__name__, "a string")
        yield row
