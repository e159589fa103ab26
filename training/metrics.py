"""The figures by which a router is judged: pure functions of probabilities, targets and weights."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Matrix = NDArray[np.float64]

BINS = 10
NULL_DRAWS = 1000


def soft_auc(targets: Matrix, scores: Matrix, weights: Matrix | None = None) -> float:
    """Area under the ROC curve where a row with target y is a positive of weight y and a negative of weight 1 - y.

    NaN where all targets are 0 or all are 1. With fractional targets even a perfect ranking stays below 1.
    """
    weights = np.ones(len(targets)) if weights is None else weights
    positive, negative = weights * targets, weights * (1 - targets)
    if positive.sum() <= 0 or negative.sum() <= 0:
        return float("nan")
    classes = np.concatenate([np.ones(len(targets)), np.zeros(len(targets))])
    weight = np.concatenate([positive, negative])
    kept = weight > 0
    return float(roc_auc_score(classes[kept], np.concatenate([scores, scores])[kept], sample_weight=weight[kept]))


def within_source(targets: Matrix, scores: Matrix, sources: Sequence[str], passed_over: Sequence[str] = ()) -> float:
    """Unweighted mean over sources of ``soft_auc`` within each; sources named in ``passed_over`` are left out.

    A collection, whose rows name their part as ``source/part``, counts once, with the mean over its parts.
    """
    names = np.array(sources)
    values: dict[str, list[float]] = {}
    for name in sorted(set(sources)):
        source = name.split("/", 1)[0]
        value = soft_auc(targets[names == name], scores[names == name])
        if source not in passed_over and not np.isnan(value):
            values.setdefault(source, []).append(value)
    return float(np.mean([np.mean(parts) for parts in values.values()])) if values else float("nan")


def ece(probabilities: Matrix, targets: Matrix, weights: Matrix | None = None) -> float:
    """Expected calibration error in ``BINS`` bins of equal mass: mean over rows of |mean target - mean probability| of their bin."""
    weights = np.ones(len(targets)) if weights is None else weights
    return float(_binned(probabilities, targets[None, :], weights)[0])


def excess_ece(probabilities: Matrix, targets: Matrix, weights: Matrix | None = None, *, seed: int = 0, draws: int = NULL_DRAWS) -> float:
    """``ece`` minus the mean ``ece`` of ``draws`` sets of labels drawn from the probabilities themselves.

    A perfect predictor has 0 in expectation; plain ECE would charge it for the luck of few rows. For fractional targets,
    which vary less than labels, the subtracted part is too large, so that plain ECE is to be read beside it.
    """
    weights = np.ones(len(targets)) if weights is None else weights
    random = np.random.default_rng(seed)
    drawn = (random.random((draws, len(targets))) < probabilities).astype(np.float64)
    null = float(np.mean(_binned(probabilities, drawn, weights)))
    return ece(probabilities, targets, weights) - null


def reliability(probabilities: Matrix, targets: Matrix, weights: Matrix) -> list[tuple[float, float, float]]:
    """(mean probability, mean target, share of mass) a bin: what a reliability diagram shows."""
    order, bins = _bins(probabilities, weights)
    result = []
    for index in range(BINS):
        rows = order[bins == index]
        mass = weights[rows].sum()
        if mass > 0:
            result.append(
                (
                    float(np.average(probabilities[rows], weights=weights[rows])),
                    float(np.average(targets[rows], weights=weights[rows])),
                    float(mass / weights.sum()),
                )
            )
    return result


def log_loss(probabilities: Matrix, targets: Matrix, weights: Matrix | None = None) -> Matrix:
    """(n,) weighted cross-entropy of each row in nats, probabilities cut at 1e-6; weights have mean 1."""
    cut = np.clip(probabilities, 1e-6, 1 - 1e-6)
    values = -(targets * np.log(cut) + (1 - targets) * np.log(1 - cut))
    return values if weights is None else values * weights / weights.mean()


def reprior(probabilities: Matrix, old: Sequence[float], new: Sequence[float]) -> Matrix:
    """(n, n_tiers) probabilities of the cheapest sufficient tier under another prior: p(k|x) new[k] / old[k], normalised."""
    values = probabilities * (np.asarray(new) / np.asarray(old))
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def bootstrap(statistic: Callable[[NDArray[np.int64]], float], n: int, *, draws: int = 400, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of ``statistic``, which is given the indices of a resample of ``n`` rows."""
    random = np.random.default_rng(seed)
    values = np.array([statistic(random.integers(0, n, n)) for _ in range(draws)])
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _bins(probabilities: Matrix, weights: Matrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows in order of probability, bin of each in that order)."""
    order = np.argsort(probabilities, kind="stable")
    mass = np.cumsum(weights[order]) - weights[order] / 2
    return order, np.minimum((mass / weights.sum() * BINS).astype(np.int64), BINS - 1)


def _binned(probabilities: Matrix, targets: Matrix, weights: Matrix) -> Matrix:
    """(n_draws,) ECE of each row of ``targets`` (n_draws, n)."""
    order, bins = _bins(probabilities, weights)
    membership = np.zeros((len(order), BINS))
    membership[np.arange(len(order)), bins] = weights[order]
    gaps = (targets[:, order] - probabilities[order]) @ membership
    return np.asarray(np.abs(gaps).sum(axis=1) / weights.sum())
