"""Logits -> probabilities that mean what they say, at a stated prior and basis.

One shift and one slope a tier (Platt's method), fitted by weighted log-loss on logits that the head gave for rows it had
not seen. Labelled rows weigh as the prior says, since they are written in equal shares and traffic is not; outcome rows
weigh by source.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

Matrix = NDArray[np.float64]

DEFAULT_PRIOR = {"small": 0.6, "medium": 0.3, "large": 0.1}
_CERTAIN = 40.0
"""A shift whose sigmoid is exactly 1 in float32: the top tier suffices by definition on a rubric basis."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """sufficiency[t] = running maximum over tiers of sigmoid(slope[t] * logit[t] + shift[t]). One number a tier each."""

    shift: tuple[float, ...]
    slope: tuple[float, ...]


def sufficiency_of(logits: Matrix, calibration: Calibration) -> Matrix:
    """(n, n_tiers) in [0, 1], non-decreasing along a row."""
    values = expit(logits * np.array(calibration.slope) + np.array(calibration.shift))
    return np.asarray(np.maximum.accumulate(values, axis=1))


def fit_calibration(logits: Matrix, targets: Matrix, weights: Matrix, *, top_is_certain: bool) -> Calibration:
    """Calibrate each tier on held-out logits; the caller sees to it that the head never saw these rows.

    Args:
        logits: (n, n_tiers), of rows held out from the head.
        targets: (n, n_tiers) in [0, 1], NaN where unknown.
        weights: (n,), positive.
        top_is_certain: the top tier suffices by definition (rubric basis) instead of being learned (outcomes).

    A tier without a known target keeps slope 1 and shift 0.
    """
    shifts, slopes = [], []
    last = logits.shape[1] - 1
    for tier in range(logits.shape[1]):
        if tier == last and top_is_certain:
            shift, slope = _CERTAIN, 0.0
        else:
            known = ~np.isnan(targets[:, tier])
            shift, slope = platt(logits[known, tier], targets[known, tier], weights[known])
        # The graph holds float32; what calibration.json says must be that very number.
        shifts.append(float(np.float32(shift)))
        slopes.append(float(np.float32(slope)))
    return Calibration(tuple(shifts), tuple(slopes))


def platt(logits: Matrix, targets: Matrix, weights: Matrix) -> tuple[float, float]:
    """(shift, slope) of least weighted log-loss, with a faint pull towards (0, 1) that keeps separable rows finite.

    Targets are pulled in by one part in (n + 2), as Platt (1999) does, so that few rows do not claim certainty. A slope
    below 0 would turn the head's order round; it is bounded at 0.05.
    """
    if len(logits) == 0:
        return 0.0, 1.0
    weights = weights / weights.sum()
    soft = (targets * len(targets) + 1) / (len(targets) + 2)

    def loss(parameters: Matrix) -> tuple[float, Matrix]:
        shift, slope = parameters
        z = slope * logits + shift
        value = -(weights * (soft * log_expit(z) + (1 - soft) * log_expit(-z))).sum()
        error = weights * (expit(z) - soft)
        pull = 1e-4
        gradient = np.array([error.sum() + 2 * pull * shift, (error * logits).sum() + 2 * pull * (slope - 1)])
        return float(value + pull * (shift**2 + (slope - 1) ** 2)), gradient

    found = minimize(loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B", bounds=[(None, None), (0.05, None)])
    return float(found.x[0]), float(found.x[1])


def prior_weights(labels: Sequence[int], prior: Sequence[float], weights: Matrix | None = None) -> Matrix:
    """(n,) weights under which the labels have the shares ``prior``; rows of a label share its weight by ``weights``.

    Raises:
        ValueError: a tier with a share above 0 has no row.
    """
    own = np.ones(len(labels)) if weights is None else weights
    result = np.zeros(len(labels))
    array = np.asarray(labels)
    for label, share in enumerate(prior):
        rows = array == label
        if share > 0 and not rows.any():
            raise ValueError(f"no labelled row of tier {label}, expected some for its share of {share:.0%} in the prior")
        if rows.any():
            result[rows] = share * own[rows] / own[rows].sum()
    return result * len(labels)
