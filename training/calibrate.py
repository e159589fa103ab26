"""Logits -> probabilities that mean what they say, at a stated prior and basis.

One shift and one slope a tier (Platt's method), fitted by weighted log-loss on logits that the head gave for rows it had
not seen. Labelled rows weigh as the prior says, since they are written in equal shares and traffic is not; outcome rows
weigh by source.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

Matrix = NDArray[np.float64]

DEFAULT_PRIOR = {"small": 0.6, "medium": 0.3, "large": 0.1}
CERTAIN = (40.0, 0.0)
"""A shift whose sigmoid is exactly 1 in float32, and no slope: the top tier suffices by definition on a rubric basis."""
_FAINT = 1e-4


@dataclass(frozen=True, slots=True)
class Calibration:
    """sufficiency[t] = running maximum over tiers of sigmoid(slope[t] * logit[t] + shift[t]). One number a tier each."""

    shift: tuple[float, ...]
    slope: tuple[float, ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> Self:
        """From a (shift, slope) a tier. The graph holds float32; what calibration.json says must be that very number."""
        shift, slope = np.array(list(pairs), dtype=np.float32).T.tolist()
        return cls(tuple(shift), tuple(slope))


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
    pairs = []
    last = logits.shape[1] - 1
    for tier in range(logits.shape[1]):
        if tier == last and top_is_certain:
            pairs.append(CERTAIN)
        else:
            known = ~np.isnan(targets[:, tier])
            pairs.append(platt(logits[known, tier], targets[known, tier], weights[known]))
    return Calibration.of(pairs)


def platt(logits: Matrix, targets: Matrix, weights: Matrix) -> tuple[float, float]:
    """(shift, slope) of least weighted log-loss, with a faint pull towards (0, 1) that keeps separable rows finite.

    Targets are pulled in by one part in (n + 2), as Platt (1999) does, so that few rows do not claim certainty.
    """
    if len(logits) == 0:
        return 0.0, 1.0
    soft = (targets * len(targets) + 1) / (len(targets) + 2)
    return least_loss(logits, soft, weights / weights.sum(), pull=(_FAINT, _FAINT))


def least_loss(logits: Matrix, targets: Matrix, weights: Matrix, *, pull: tuple[float, float], shift: float = 0.0) -> tuple[float, float]:
    """(shift, slope) that minimise the sum of weighted log-losses and of ``pull`` times the squared distances from ``shift`` and from
    slope 1. A slope below 0 would turn the head's order round; it is bounded at 0.05.
    """
    strength = np.array(pull)

    def loss(parameters: Matrix) -> tuple[float, Matrix]:
        z = parameters[1] * logits + parameters[0]
        value = -(weights * (targets * log_expit(z) + (1 - targets) * log_expit(-z))).sum()
        error = weights * (expit(z) - targets)
        away = parameters - np.array([shift, 1.0])
        return float(value + (strength * away**2).sum()), np.array([error.sum(), (error * logits).sum()]) + 2 * strength * away

    bounds, exact = [(None, None), (0.05, None)], {"ftol": 1e-13, "gtol": 1e-8}
    found = minimize(loss, np.array([shift, 1.0]), jac=True, method="L-BFGS-B", bounds=bounds, options=exact)
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
