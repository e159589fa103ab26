"""Whether a new bundle may replace the current one: not worse, on rows that neither was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier import Router
from classifier.errors import PointsmanError
from training import metrics
from training.calibrate import prior_weights
from training.dataset import Example, targets_of
from training.evaluate import score
from training.staging import seen_by, seen_key

Matrix = NDArray[np.float64]

MARGIN = 0.01
"""The upper end of the interval of the log-loss difference, in nats, must not exceed this."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's answer and the table that explains it."""

    passed: bool
    text: str


def first(candidate: Router) -> Verdict:
    """Nothing to compare with: only the risk bound has to hold."""
    held, text = _risk(candidate)
    return Verdict(held, f"gate: there is no current bundle; {text}")


def compare(candidate: Router, current: Path, test: Sequence[Example]) -> Verdict:
    """Paired bootstrap of the log-loss difference on labelled test rows that neither bundle was trained on."""
    held, text = _risk(candidate)
    try:
        old = Router.load(current)
    except PointsmanError as error:
        return Verdict(held, f"gate: the current bundle {current.name} does not load here ({error}); {text}")
    if old.manifest.tiers != candidate.manifest.tiers:
        return Verdict(False, f"gate: the current bundle has the tiers {old.manifest.tiers}; {text}")
    seen = seen_by(current)
    rows = [example for example in test if example.kind == "labelled" and seen_key(example) not in seen]
    labels = [example.label for example in rows if example.label is not None]
    if set(labels) != set(range(len(old.manifest.tiers))):
        return Verdict(False, f"gate: only {len(rows)} labelled test rows that neither bundle saw, expected some of every tier; {text}")
    weights = prior_weights(labels, candidate.manifest.prior)
    losses = [_loss(router, rows, weights) for router in (candidate, old)]
    difference = losses[0] - losses[1]
    low, high = metrics.bootstrap(lambda index: float(difference[index].mean()), len(rows))
    lines = [
        f"gate: log-loss on {len(rows)} test prompts that neither bundle saw, at the stated prior",
        f"  new {candidate.manifest.version}: {losses[0].mean():.4f}",
        f"  old {old.manifest.version}: {losses[1].mean():.4f}",
        f"  difference {difference.mean():+.4f} [{low:+.4f}, {high:+.4f}], allowed up to {MARGIN}",
        f"  {text}",
    ]
    return Verdict(held and high <= MARGIN, "\n".join(lines))


def _risk(candidate: Router) -> tuple[bool, str]:
    held = bool(candidate.manifest.raw["risk_bound_held"])
    return held, "the risk bound holds" if held else "the risk bound does not hold: more labels are needed"


def _loss(router: Router, rows: Sequence[Example], weights: Matrix) -> Matrix:
    """(n,) mean over the tiers below the top."""
    sufficiency = score(router, rows).sufficiency
    targets = targets_of(rows)
    columns = [metrics.log_loss(sufficiency[:, tier], targets[:, tier], weights) for tier in range(targets.shape[1] - 1)]
    return np.asarray(np.mean(columns, axis=0))
