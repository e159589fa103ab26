"""Figures -> one table with ratios, budgets and verdicts. Measures nothing."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

_SENSES = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_HEADER = ("section", "what", "ours", "peer", "ratio", "budget", "holds")


@dataclass(frozen=True, slots=True)
class Budget:
    """What a row has to keep: ``figure`` is a name in the row's ``ours``, or ``ratio``."""

    figure: str
    sense: Literal["<", "<=", ">", ">="]
    limit: float
    goal: float | None = None  # hoped for, not required


@dataclass(frozen=True, slots=True)
class Row:
    """One line. A figure is None where it cannot be measured; ``note`` says why a row has none at all."""

    section: str
    what: str
    unit: str = ""
    ours: Mapping[str, float | None] = field(default_factory=dict)
    peer: Mapping[str, float | None] = field(default_factory=dict)
    ratio: float | None = None
    ratio_of: str = ""
    budget: Budget | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the budget is kept; None without a budget or a figure."""
        if self.budget is None:
            return None
        found = self.ratio if self.budget.figure == "ratio" else self.ours.get(self.budget.figure)
        return None if found is None else bool(_SENSES[self.budget.sense](found, self.budget.limit))

    def to_json(self) -> dict[str, Any]:
        """Raw numbers, for ``--json``."""
        budget = self.budget and f"{self.budget.figure} {self.budget.sense} {self.budget.limit:g}"
        return {
            "section": self.section,
            "what": self.what,
            "unit": self.unit,
            "ours": dict(self.ours),
            "peer": dict(self.peer),
            "ratio": self.ratio,
            "ratio_of": self.ratio_of,
            "budget": budget,
            "holds": self.holds,
            "note": self.note,
        }


def render(rows: Sequence[Row]) -> str:
    """A Markdown table, its columns aligned for a terminal."""
    cells = [_HEADER, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADER))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Three figures or all before the point; ``n/a`` for None.

    >>> number(1234.5), number(12.345), number(0.1234)
    ('1,234', '12.3', '0.123')
    """
    if value is None:
        return "n/a"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} {row.ratio_of}".rstrip()
    verdict = "" if row.budget is None else {True: "ok", False: "MISSED", None: "n/a"}[row.holds]
    return (row.section, row.what, row.note or _figures(row.ours, row.unit), _figures(row.peer, row.unit), ratio, _budget(row), verdict)


def _figures(figures: Mapping[str, float | None], unit: str) -> str:
    text = ", ".join(f"{name} {number(value)}" for name, value in figures.items())
    return f"{text} {unit}".rstrip() if figures else ""


def _budget(row: Row) -> str:
    if row.budget is None:
        return ""
    unit = "" if row.budget.figure == "ratio" else f" {row.unit}".rstrip()
    goal = "" if row.budget.goal is None else f", goal {number(row.budget.goal)}"
    return f"{row.budget.figure} {row.budget.sense} {number(row.budget.limit)}{unit}{goal}"
