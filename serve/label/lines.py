"""One line of JSONL -> the same line with its decision, or what is wrong with it. Pure but for the router it is given."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from classifier import Decision, Prompt, Router, from_row
from classifier.errors import PointsmanError
from classifier.policy import decide, facts_of
from classifier.types import Path as ScorePath


@dataclass(frozen=True, slots=True)
class Labelled:
    """What became of some lines: ``lines`` to write as they are, ``errors`` as (line number, reason), both in order."""

    lines: list[bytes]
    errors: list[tuple[int, str]]
    tiers: dict[str, int]


def label(router: Router, numbered: Sequence[tuple[int, bytes]], field: str, path: ScorePath) -> Labelled:
    """Label numbered lines. Blank lines are passed over; every other line is in the result once, as a line or as an error."""
    errors: list[tuple[int, str]] = []
    rows: list[tuple[int, bytes, Prompt]] = []
    for number, line in numbered:
        if not line.strip():
            continue
        try:
            rows.append((number, line.strip(), _prompt(line, field)))
        except (PointsmanError, ValueError, RecursionError) as error:
            errors.append((number, _reason(error)))
    lines: list[bytes] = []
    tiers: dict[str, int] = {}
    facts = [facts_of(prompt) for _, _, prompt in rows]
    scored = router.score([prompt for _, _, prompt in rows], path, facts)
    for (number, line, prompt), scores, fact in zip(rows, scored, facts, strict=True):
        try:
            decision = decide(scores, router.policy, fact)
        except PointsmanError as error:
            errors.append((number, _reason(error)))
            continue
        # The line's own bytes are kept: numbers, key order and escapes come out as they went in.
        lines.append(line[:-1].rstrip() + b", " + _entry(field, decision, prompt, router.manifest.version) + b"}\n")
        tiers[decision.tier] = tiers.get(decision.tier, 0) + 1
    return Labelled(lines, sorted(errors), tiers)


def _prompt(line: bytes, field: str) -> Prompt:
    row: Any = json.loads(line.strip().decode("utf-8"))
    if not isinstance(row, dict):
        raise ValueError(f"found {type(row).__name__}, expected a JSON object")  # noqa: TRY004 - the data is wrong, not the code
    if field in row:
        raise ValueError(f"{field}: the field is already there; name another one with --field")
    return from_row(row)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not valid UTF-8 at byte {error.start}"
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON at column {error.colno}: {error.msg}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)


def _entry(field: str, decision: Decision, prompt: Prompt, version: str) -> bytes:
    scores = decision.scores
    entry = {
        "tier": decision.tier,
        "model": decision.model,
        "confidence": round(decision.confidence, 6),
        "sufficiency": {tier: round(value, 6) for tier, value in zip(scores.tiers, scores.sufficiency, strict=True)},
        "reason": decision.reason,
        "path": scores.path,
        "path_reason": scores.path_reason,
        "task": scores.task,
        "task_probability": None if scores.task_probability is None else round(scores.task_probability, 6),
        "truncated": prompt.truncated,
        "cost_usd": {tier: round(value, 8) for tier, value in zip(scores.tiers, decision.cost_usd, strict=True)},
        "model_version": version,
    }
    return f"{json.dumps(field)}: {json.dumps(entry)}".encode()
