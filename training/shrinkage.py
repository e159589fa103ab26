"""A calibration moved to other traffic: to its shares of tiers, and from there as far as rows of its own warrant.

The widths are those that `python -m training.recalibration_study` prints, the counts of pseudo-rows stand with their figures in
docs/decisions.md; all were chosen on training rows of sources that no part of the heads had seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from training.calibrate import CERTAIN, Calibration, least_loss

Matrix = NDArray[np.float64]
Prior = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Width:
    """Standard deviations of the Gaussian prior around a shipped calibration: of the shift, in logits, and of the factor on the slope."""

    shift: float
    slope: float


WIDTH = Width(1.0, 0.4)
FOREIGN = Width(2.0, 0.8)
"""Where rows are of another basis than the calibration: what suffices by a rubric says little of the rate at which models succeed."""
PSEUDO_ROWS = 30
"""As many rows as the shipped shares count for beside those of the user's own rows; those of another basis count for one."""
PSEUDO_SHARE = 0.25
"""The same beside unlabelled traffic, as a share of its rows: what a model gets wrong about traffic that it does not know is no noise
that more of that traffic would average out.
"""
_LEAST_SHARE = 1e-3


def shares_of(targets: Matrix, weights: Matrix, prior: Sequence[float], pseudo: float = PSEUDO_ROWS) -> Prior:
    """Shares of the cheapest sufficient tier among rows, smoothed towards ``prior``; each above 0, 1 together.

    Args:
        targets: (n, n_tiers) in [0, 1], NaN where unknown; every tier below the top is known of some row.
        weights: (n,), positive.
        prior: shares by tier, 1 together.
        pseudo: rows at ``prior``.
    """
    upto = np.cumsum(prior)
    for tier in range(len(prior) - 1):
        known = ~np.isnan(targets[:, tier])
        rate = np.average(targets[known, tier], weights=weights[known])
        upto[tier] = (known.sum() * rate + pseudo * upto[tier]) / (known.sum() + pseudo)
    return _shares(np.diff(np.maximum.accumulate(upto), prepend=0.0))


def traffic_shares(probabilities: Matrix, prior: Sequence[float]) -> Prior:
    """Shares of tiers in unlabelled traffic, by EM on the model's own probabilities (Saerens et al., "Adjusting the outputs of a
    classifier to new a priori probabilities", 2002), with ``prior`` as a Dirichlet prior that counts for ``PSEUDO_SHARE`` of the rows.

    ``probabilities`` (n, n_tiers) must be calibrated at ``prior``, and the prompts of a tier must be such as those that the model
    knows: the method sees how often they come, not whether they have changed.
    """
    old = np.asarray(prior)
    pseudo = PSEUDO_SHARE * len(probabilities)
    shares = old
    for _ in range(1_000):
        likely = probabilities * (shares / old)
        likely = likely / likely.sum(axis=1, keepdims=True)
        new = (likely.sum(axis=0) + pseudo * old) / (len(probabilities) + pseudo)
        moved, shares = np.abs(new - shares).max(), new
        if moved < 1e-9:
            break
    return _shares(shares)


def at_prior(calibration: Calibration, old: Sequence[float], new: Sequence[float]) -> Calibration:
    """``calibration`` at the shares ``new`` instead of ``old``: for each tier below the top, Bayes' rule for the two sides of its
    boundary adds the difference of their log-odds. Exact for two tiers; for more it leaves the mix within a side as it was.
    """
    moves = logit(np.cumsum(new)[:-1]) - logit(np.cumsum(old)[:-1])
    shifts = np.array(calibration.shift) + np.append(moves, 0.0)
    return Calibration.of(zip(shifts, calibration.slope, strict=True))


def shrunk(
    logits: Matrix, targets: Matrix, weights: Matrix, centre: Calibration, *, top_is_certain: bool, width: Width = WIDTH
) -> Calibration:
    """The calibration that is most probable given rows and a Gaussian prior around ``centre``.

    For each tier the calibrated logits are shifted and stretched about their mean, so that width means the same for every head: the
    shift moves the rate, the factor on the slope how far predictions stand apart. Rows of unequal weight count as many as
    (sum of weights)^2 / (sum of squares) equal ones (Kish). Where ``centre`` has no slope there is nothing to stretch, and the rate
    itself is taken, with half a row on either side; without known targets ``centre`` stays.

    Args:
        logits: (n, n_tiers), of rows that the head never saw: that is the caller's duty.
        targets: (n, n_tiers) in [0, 1], NaN where unknown.
        weights: (n,), positive.
        centre: the shipped calibration, at the rows' prior.
        top_is_certain: the top tier suffices by definition (rubric basis).
        width: of the prior.
    """
    pairs = []
    last = logits.shape[1] - 1
    for tier, (shift, slope) in enumerate(zip(centre.shift, centre.slope, strict=True)):
        known = ~np.isnan(targets[:, tier])
        target, weight = targets[known, tier], weights[known]
        if tier == last and top_is_certain:
            pairs.append(CERTAIN)
        elif not known.any():
            pairs.append((shift, slope))
        elif slope == 0:
            rate = (len(target) * np.average(target, weights=weight) + 0.5) / (len(target) + 1)
            pairs.append((float(logit(rate)), 0.0))
        else:
            pairs.append(_moved(logits[known, tier], target, weight, (shift, slope), width))
    return Calibration.of(pairs)


def _moved(logits: Matrix, targets: Matrix, weights: Matrix, centre: tuple[float, float], width: Width) -> tuple[float, float]:
    shift, slope = centre
    before = slope * logits + shift
    middle = float(np.average(before, weights=weights))
    effective = weights.sum() ** 2 / (weights**2).sum()
    pull = (1 / (2 * effective * width.shift**2), 1 / (2 * effective * width.slope**2))  # of minus the log-density, a row
    rate, factor = least_loss(before - middle, targets, weights / weights.sum(), pull=pull, shift=middle)
    return rate + factor * (shift - middle), factor * slope


def _shares(values: Matrix) -> Prior:
    kept = np.maximum(values, _LEAST_SHARE)
    return tuple((kept / kept.sum()).tolist())
