"""What scores are worth: tier figures, ranking, calibration and behaviour, each with a 95 % bootstrap interval over rows. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import metrics
from training.baselines import baselines
from training.calibrate import prior_weights
from training.dataset import Example, targets_of

Matrix = NDArray[np.float64]
Figure = dict[str, Any]

ZEBRA = "zeroeval_zebra"
"""Synthetic logic grids, unlike anything people ask: reported apart."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Examples with what the bundle says of them: ``sufficiency`` and ``probabilities`` are (n, n_tiers)."""

    examples: list[Example]
    sufficiency: Matrix
    probabilities: Matrix
    chosen: NDArray[np.int64]
    accurate: NDArray[np.bool_]  # (n,) whether the accurate path scored the row

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) label index; -1 for outcomes."""
        return np.array([-1 if example.label is None else example.label for example in self.examples])

    @property
    def targets(self) -> Matrix:
        """(n, n_tiers), NaN where unknown."""
        return targets_of(self.examples)


def behaviour_figures(results: Mapping[str, Mapping[str, Sequence[bool]]], seed: int = 0) -> dict[str, Any]:
    """By suite, the share of cases that pass, and the same by kind."""
    figures: dict[str, Any] = {}
    for suite, kinds in results.items():
        passed = np.array([one for values in kinds.values() for one in values], dtype=np.float64)
        figures[suite] = {
            "n": len(passed),
            "rate": _figure(lambda rows, p=passed: p[rows].mean(), len(passed), seed),
            "kinds": {kind: {"n": len(values), "rate": float(np.mean(values))} for kind, values in kinds.items()},
        }
    return figures


def labelled_figures(scored: Scored, prior: Sequence[float], seed: int = 0, train: Sequence[Example] = ()) -> dict[str, Any]:
    """Tier figures, ranking, calibration and baselines on rows labelled by tier."""
    labels, tiers = scored.labels, len(prior)
    balanced = [1 / tiers] * tiers
    weights = {"stated": prior_weights(labels.tolist(), prior), "balanced": prior_weights(labels.tolist(), balanced)}
    likely = {
        "stated": scored.probabilities.argmax(axis=1),
        "balanced": metrics.reprior(scored.probabilities, prior, balanced).argmax(axis=1),
    }
    result: dict[str, Any] = {"n": len(labels), "n_by_tier": np.bincount(labels, minlength=tiers).tolist()}
    for name, weight in weights.items():
        result[name] = {
            "policy": _tier_figures(scored.chosen, labels, weight, seed),
            "most_likely": _tier_figures(likely[name], labels, weight, seed),
        }
    result["auc"] = {}
    result["calibration"] = {}
    weight = weights["stated"]
    for tier in range(tiers - 1):
        target = (labels <= tier).astype(np.float64)
        probability = scored.sufficiency[:, tier]
        result["auc"][f"up_to_{tier}"] = _figure(
            lambda rows, t=target, p=probability: metrics.soft_auc(t[rows], p[rows]), len(labels), seed
        )
        result["calibration"][f"up_to_{tier}"] = _calibration(probability, target, weight, seed)
    confidence = scored.sufficiency[np.arange(len(labels)), scored.chosen]
    result["calibration"]["confidence"] = _calibration(confidence, (labels <= scored.chosen).astype(np.float64), weight, seed)
    result["confusion"] = [[int(((labels == true) & (scored.chosen == said)).sum()) for said in range(tiers)] for true in range(tiers)]
    result["baselines"] = baselines(scored.examples, labels, weights, prior, seed, train)
    result["slices"] = {
        field: _slices(scored, weights["balanced"], [getattr(example, field) or "-" for example in scored.examples])
        for field in ("task", "style", "language")
    }
    return result


def gains(scored: Scored, fast: Scored, prior: Sequence[float], seed: int = 0) -> dict[str, Figure]:
    """What the accurate path brought, by paired bootstrap over rows that both scored: AUC at each boundary, log-loss (at the stated
    prior, mean over boundaries) and exact decisions (at the balanced prior); with the share of rows it was asked for.
    """
    labels, below_top = scored.labels, range(len(prior) - 1)
    stated, balanced = prior_weights(labels.tolist(), prior), prior_weights(labels.tolist(), [1 / len(prior)] * len(prior))
    result: dict[str, Figure] = {}
    losses = []
    for tier in below_top:
        target = (labels <= tier).astype(np.float64)
        one, other = scored.sufficiency[:, tier], fast.sufficiency[:, tier]
        result[f"auc_up_to_{tier}"] = _figure(
            lambda rows, t=target, a=one, b=other: metrics.soft_auc(t[rows], a[rows]) - metrics.soft_auc(t[rows], b[rows]),
            len(labels),
            seed,
        )
        losses.append(metrics.log_loss(one, target, stated) - metrics.log_loss(other, target, stated))
    loss = np.mean(losses, axis=0)
    right = (scored.chosen == labels).astype(np.float64) - (fast.chosen == labels)
    result["log_loss"] = _figure(lambda rows: loss[rows].mean(), len(labels), seed)
    result["exact"] = _figure(lambda rows: np.average(right[rows], weights=balanced[rows]), len(labels), seed)
    result["asked"] = _figure(lambda rows: np.average(scored.accurate[rows], weights=stated[rows]), len(labels), seed)
    return result


def outcome_figures(
    examples: Sequence[Example], logits: Matrix, sufficiency: Matrix, tiers: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """Ranking and calibration on measured outcomes, a tier at a time."""
    sources = [example.stratum for example in examples]
    lengths = np.array([-np.log1p(example.prompt.chars) for example in examples])
    targets = targets_of(examples)
    result: dict[str, Any] = {"n": len(sources), "sources": {name: sources.count(name) for name in sorted(set(sources))}}
    for index, tier in enumerate(tiers):
        target = targets[:, index]
        known = ~np.isnan(target)
        if not known.any():
            continue  # no model of this tier was measured on these rows
        target, score_, length = target[known], logits[known, index], lengths[known]
        names = [name for name, keep in zip(sources, known, strict=True) if keep]
        probability = sufficiency[known, index]
        rates = {name: float(np.mean([t for t, n in zip(target, names, strict=True) if n == name])) for name in set(names)}
        array = np.array(names)

        def ranking(values: Matrix, target: Matrix = target, array: NDArray[np.str_] = array) -> dict[str, Figure]:
            return {
                "pooled": _figure(lambda rows: metrics.soft_auc(target[rows], values[rows]), len(target), seed),
                "within_source": _figure(
                    lambda rows: metrics.within_source(target[rows], values[rows], array[rows].tolist()), len(target), seed, draws=100
                ),
                "within_source_without_zebra": _figure(
                    lambda rows: metrics.within_source(target[rows], values[rows], array[rows].tolist(), (ZEBRA,)),
                    len(target),
                    seed,
                    draws=100,
                ),
            }

        result[tier] = {
            "n": len(target),
            "auc": ranking(score_),
            "baselines": {
                "length_only": ranking(length),
                "source_rate": {"pooled": {"value": metrics.soft_auc(target, np.array([rates[name] for name in names]))}},
                "oracle": {
                    "pooled": {"value": metrics.soft_auc(target, target)},
                    "within_source": {"value": metrics.within_source(target, target, names)},
                },
            },
            "calibration": _calibration(probability, target, np.ones(len(target)), seed),
        }
    return result


def _figure(statistic: Any, n: int, seed: int, draws: int = 400) -> Figure:
    low, high = metrics.bootstrap(statistic, n, draws=draws, seed=seed)
    return {"value": float(statistic(np.arange(n))), "low": low, "high": high}


def _tier_figures(said: NDArray[np.int64], labels: NDArray[np.int64], weights: Matrix, seed: int) -> dict[str, Figure]:
    events = {
        "exact": said == labels,
        "two_off": np.abs(said - labels) >= 2,
        "under": said < labels,
        "over": said > labels,
    }
    return {
        name: _figure(lambda rows, e=event: np.average(e[rows], weights=weights[rows]), len(labels), seed) for name, event in events.items()
    }


def _calibration(probability: Matrix, target: Matrix, weights: Matrix, seed: int) -> dict[str, Any]:
    return {
        "ece": metrics.ece(probability, target, weights),
        "excess_ece": metrics.excess_ece(probability, target, weights, seed=seed),
        "log_loss": float(metrics.log_loss(probability, target, weights).mean()),
        "reliability": metrics.reliability(probability, target, weights),
    }


def _slices(scored: Scored, weights: Matrix, names: list[str]) -> dict[str, dict[str, float]]:
    array, labels = np.array(names), scored.labels
    return {
        name: {
            "n": int((rows := array == name).sum()),
            "exact": float(np.average(scored.chosen[rows] == labels[rows], weights=weights[rows])),
            "under": float(np.average(scored.chosen[rows] < labels[rows], weights=weights[rows])),
        }
        for name in sorted(set(names))
    }


def without_nan(value: Any) -> Any:
    """``value`` with None where a figure is not defined: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
