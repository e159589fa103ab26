"""A user's own rows: what stands in the files, what it stands for, and whether it is enough."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.calibrate import prior_weights
from training.dataset import POOLS, Example, Kind, read_all, targets_of
from training.files import jsonl_files, rows_of
from training.shrinkage import PSEUDO_ROWS, Prior, shares_of
from training.staging import seen_by, seen_key

Matrix = NDArray[np.float64]
Rows = NDArray[np.bool_]

ENOUGH = 50
"""Labelled prompts, or prompts on which a tier was measured."""
ENOUGH_A_TIER = 2
"""Labelled prompts of each tier: one on either side of the folds. With fewer than that, the rate alone says something of the tier."""
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Base:
    """What the serving heads of a bundle are calibrated for: shares of tiers, and a basis."""

    prior: Prior
    basis: str


@dataclass(frozen=True, slots=True)
class Own:
    """Rows of one kind: ``targets`` (n, n_tiers), NaN where unknown; ``labels`` (n,), -1 for outcomes; ``weights`` (n,); ``groups`` (n,),
    rows of which tell of each other. ``stated`` are the shares of tiers in traffic where the user says them; without, the rows
    are taken for a sample of the traffic, shares included.
    """

    kind: Kind
    targets: Matrix
    labels: NDArray[np.int64]
    weights: Matrix
    groups: NDArray[np.str_]
    stated: Prior | None = None

    @classmethod
    def of(cls, examples: Sequence[Example], stated: Prior | None = None) -> "Own":
        """``examples`` of one kind, at least one."""
        return cls(
            examples[0].kind,
            targets_of(examples),
            np.array([-1 if example.label is None else example.label for example in examples]),
            np.array([example.weight for example in examples]),
            np.array([example.group for example in examples]),
            stated,
        )

    def rows(self, rows: Rows) -> "Own":
        """Some of them."""
        return replace(self, **{name: getattr(self, name)[rows] for name in ("targets", "labels", "weights", "groups")})

    @property
    def basis(self) -> str:
        """What their targets are relative to."""
        return "rubric" if self.kind == "labelled" else "outcomes"

    def prior(self, base: Base) -> Prior:
        """The shares of tiers in the traffic that the rows stand for."""
        return self.stated or shares_of(self.targets, self.weights, base.prior, PSEUDO_ROWS if self.basis == base.basis else 1)

    @property
    def traffic_weights(self) -> Matrix:
        """(n,) weights under which the rows stand for the traffic, with mean 1.

        Raises:
            ValueError: no row of a tier that the stated shares hold.
        """
        if self.stated:
            return prior_weights(self.labels.tolist(), self.stated, self.weights)
        return np.asarray(self.weights / self.weights.mean())

    @property
    def judged(self) -> range:
        """The tiers that rows tell of: on a rubric basis the top one suffices by definition."""
        return range(self.targets.shape[1] - (self.kind == "labelled"))

    def folds(self, seed: int = 0) -> NDArray[np.int64]:
        """(n,) fold of each row. Groups stay whole, and are dealt out by their rarest label, so that every fold has some of it."""
        _, group = np.unique(self.groups, return_inverse=True)
        rarest = np.empty(group.max() + 1, dtype=np.int64)
        for label in np.argsort(-np.bincount(self.labels + 1)) - 1:  # the most frequent first, so that the rarest has the last word
            rarest[group[self.labels == label]] = label
        order = np.lexsort((np.random.default_rng(seed).random(len(rarest)), rarest))
        fold = np.empty(len(order), dtype=np.int64)
        fold[order] = np.arange(len(order)) % FOLDS
        return np.asarray(fold[group])


def own_rows(
    data: Sequence[Path], joined: Sequence[tuple[Path, Path]], bundle: Path, tiers: tuple[str, ...]
) -> tuple[list[Example], dict[str, int]]:
    """The rows to learn from, and how many were left out: test rows, and rows that ``bundle`` has learned from already.

    Raises:
        DataError: see ``dataset.read``.
        ValueError: no rows are left, or labels stand beside outcomes.
    """
    examples = read_all(data, joined, tiers, unassigned="train")
    train = [example for example in examples if example.split == "train"]
    seen = seen_by(bundle)
    new = [example for example in train if seen_key(example) not in seen]
    left_out = {"test": len(examples) - len(train), "seen": len(train) - len(new)}
    kinds = [example.kind for example in new]
    if not new or len(set(kinds)) > 1:
        found = f"{kinds.count('labelled')} labelled rows and {kinds.count('outcomes')} with outcomes"
        raise ValueError(
            f"--data: found {found} ({left_out['test']} test rows and {left_out['seen']} that the bundle has learned from are left out), "
            "expected rows of one kind"
        )
    return new, left_out


def enough(own: Own, tiers: Sequence[str]) -> None:
    """Whether there are rows enough of every kind; rows of one group count once.

    Raises:
        ValueError: too few, and how many are missing of each.
    """

    def groups(rows: Any) -> int:
        return len(set(own.groups[rows].tolist()))

    if own.kind == "outcomes":
        found = [(f"measured on {tier}", groups(~np.isnan(own.targets[:, index])), ENOUGH) for index, tier in enumerate(tiers)]
    else:
        found = [("labelled", groups(...), ENOUGH)]
        found += [(f"labelled {tier}", groups(own.labels == index), ENOUGH_A_TIER) for index, tier in enumerate(tiers)]
    lacking = [f"{what}: {count}, {least - count} missing" for what, count, least in found if count < least]
    if lacking:
        raise ValueError(f"too few prompts to recalibrate by ({'; '.join(lacking)})")


def models_of(paths: Sequence[Path], examples: Sequence[Example], tiers: Sequence[str]) -> dict[str, list[str]]:
    """By tier, the models that were measured on ``examples``; where a file has no pools, its outcomes are keyed by the tiers themselves."""
    sources, found = {example.source for example in examples}, {tier: set[str]() for tier in tiers}
    for file in (file for path in paths for file in jsonl_files(path)):
        pools = json.loads((file.parent / POOLS).read_bytes()) if (file.parent / POOLS).is_file() else {}
        for _, row in rows_of(file):
            if (source := row.get("source", file.stem)) in sources:
                pool = pools.get(source, {tier: [tier] for tier in tiers})
                for tier in tiers:
                    found[tier] |= set(pool.get(tier, ())) & set(row.get("outcomes", ()))
    return {tier: sorted(models) for tier, models in found.items()}
