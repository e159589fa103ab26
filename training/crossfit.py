"""What a user's own rows make of a bundle's heads and targets, and what that changes, judged by cross-fitting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier import Prompt, Router
from classifier.bundle import LAYOUT
from classifier.head import OnnxHead
from classifier.types import Path as ScorePath
from training import metrics
from training.calibrate import Calibration, sufficiency_of
from training.own import Base, Own, Rows
from training.risk import Risk, assess, choose, control
from training.shrinkage import FOREIGN, WIDTH, Prior, Width, at_prior, shrunk
from training.stacking import joined

Matrix = NDArray[np.float64]
Figure = dict[str, float]

DEARER = 0.1
"""So much more of the traffic may be over-routed under a target that keeps the bounds than under the shipped one."""
_DRAWS = 400
_NULLS = 100  # draws of the null behind an excess ECE, within each bootstrap draw


@dataclass(frozen=True, slots=True)
class Reading:
    """What a head says of rows, (n, n_tiers) logits, and the calibration it ships with. ``serves``: decisions are made by it."""

    logits: Matrix
    shipped: Calibration
    serves: bool = True

    def adjusted(self, own: Own, base: Base, rows: Rows | None = None, width: Width | None = None) -> Calibration:
        """Its calibration in the light of ``own``, or of some of its rows.

        What serves is calibrated at the bundle's prior and moves to the rows' before it is shrunk towards. Heads of measured outcomes, which
        are asked about outcomes alone, are calibrated at no prior. ``width`` is by default what suits the two bases.
        """
        rows = np.ones(len(self.logits), dtype=bool) if rows is None else rows
        part = own.rows(rows)
        centre = at_prior(self.shipped, base.prior, part.prior(base)) if self.serves else self.shipped
        width = width or (FOREIGN if self.serves and own.basis != base.basis else WIDTH)
        certain = own.kind == "labelled"
        return shrunk(self.logits[rows], part.targets, part.traffic_weights, centre, top_is_certain=certain, width=width)


def serving_heads(router: Router) -> dict[str, OnnxHead]:
    """The heads that decisions are made by, by their files."""
    return {LAYOUT.head: router.head, **({LAYOUT.accurate_head: router.accurate.head} if router.accurate else {})}


def readings_of(router: Router, bundle: Path, prompts: Sequence[Prompt], *, outcomes: bool) -> dict[str, Reading]:
    """What every head says of ``prompts``, by the head's file: those that serve, and with ``outcomes`` those that report on outcomes."""
    heads = serving_heads(router)
    if outcomes:
        reporting = {name for name in (LAYOUT.outcomes, LAYOUT.accurate_outcomes) if name in router.manifest.files}
        heads |= {name: OnnxHead(bundle / name) for name in reporting}
    features = router.features(prompts)
    vectors = router.accurate.encoder.encode([prompt.text for prompt in prompts]) if router.accurate else None
    result = {}
    for fast, accurate in ((LAYOUT.head, LAYOUT.accurate_head), (LAYOUT.outcomes, LAYOUT.accurate_outcomes)):
        if fast not in heads:
            continue
        logits, _ = heads[fast].run(*features)
        result[fast] = Reading(logits.astype(np.float64), calibration_of(heads[fast]), fast == LAYOUT.head)
        if accurate in heads and vectors is not None:
            logits, _ = heads[accurate].run(logits, vectors)
            result[accurate] = Reading(logits.astype(np.float64), calibration_of(heads[accurate]), fast == LAYOUT.head)
    return result


def calibration_of(head: OnnxHead) -> Calibration:
    """What the graph bears."""
    return Calibration(head.calibration_shift, head.calibration_slope)


def base_of(router: Router) -> Base:
    """What the manifest says."""
    return Base(router.manifest.prior, router.manifest.basis)


def serving_paths(router: Router) -> tuple[ScorePath, ...]:
    """The paths that decide differently, the default one last but for ``accurate``, which has to be asked for."""
    return ("fast", "auto", "accurate") if router.accurate else ("fast",)


def on_path(path: ScorePath, said: Mapping[str, Matrix], target: float, margin: float) -> Matrix:
    """(n, n_tiers) sufficiency on ``path``, of what each serving head (by its file) says."""
    if path == "fast":
        return said[LAYOUT.head]
    accurate = said[LAYOUT.accurate_head]
    return accurate if path == "accurate" else joined(said[LAYOUT.head], accurate, target, margin)


@dataclass(frozen=True, slots=True)
class Vouched:
    """What labels say of a path's target: ``risk`` at the one that is set, and the least one that keeps the bounds where that is too ``dear``."""

    risk: Risk
    dear: Risk | None = None


def vouched(router: Router, said: Mapping[str, Matrix], own: Own, prior: Prior, *, at_any_cost: bool = False) -> dict[ScorePath, Vouched]:
    """By path, the target that the labels can vouch for. The shipped one stays where they do not suffice, and, but ``at_any_cost``, where
    the other would over-route more of the traffic by more than ``DEARER``. Empty without labels: what outcomes cost is no
    matter of 0 and 1, and risk.control bounds nothing else.

    ``said`` must come from calibrations that did not see the rows they speak of: that is the caller's duty.
    """
    found: dict[ScorePath, Vouched] = {}
    if own.kind == "outcomes":
        return found
    for path in serving_paths(router):
        best = control(lambda target, path=path: on_path(path, said, target, router.policy.margin), own.labels.tolist(), prior)  # type: ignore[misc]
        target = router.policy.target(path)
        shipped = assess(on_path(path, said, target, router.policy.margin), own.labels, prior, target)
        dear = best.over > shipped.over + DEARER and not at_any_cost
        found[path] = Vouched(best) if best.qualified and not dear else Vouched(shipped, best if best.qualified else None)
    return found


@dataclass(frozen=True, slots=True)
class Crossed:
    """What was said of every row by calibrations, and decided by targets, that other folds' rows gave."""

    said: dict[str, Matrix]  # by serving head
    on: dict[ScorePath, tuple[Matrix, NDArray[np.int64]]]  # by path: sufficiency (n, n_tiers), chosen tier (n,)


def shipped(router: Router, readings: Mapping[str, Reading]) -> Crossed:
    """The bundle as it is."""
    said = {name: sufficiency_of(one.logits, one.shipped) for name, one in readings.items() if one.serves}
    return Crossed(said, {path: _decided(router, path, said, router.policy.target(path)) for path in serving_paths(router)})


def cross_fit(router: Router, readings: Mapping[str, Reading], own: Own, seed: int = 0, *, at_any_cost: bool = False) -> Crossed:
    """The bundle as ``own`` would change it, each fold judged by what the others made of it: calibration, prior and targets."""
    base = base_of(router)
    serving = {name: one for name, one in readings.items() if one.serves}
    said = {name: np.zeros_like(one.logits) for name, one in serving.items()}
    on = {path: (np.zeros_like(own.targets), np.zeros(len(own.labels), dtype=np.int64)) for path in serving_paths(router)}
    folds = own.folds(seed)
    for fold in np.unique(folds):
        inside = folds == fold
        part = own.rows(~inside)
        now = {name: sufficiency_of(one.logits, one.adjusted(own, base, ~inside)) for name, one in serving.items()}
        others = {name: values[~inside] for name, values in now.items()}
        targets = vouched(router, others, part, part.prior(base), at_any_cost=at_any_cost)
        for name, values in now.items():
            said[name][inside] = values[inside]
        for path, (sufficiency, chosen) in on.items():
            target = targets[path].risk.target if path in targets else router.policy.target(path)
            sufficiency[inside], chosen[inside] = (array[inside] for array in _decided(router, path, now, target))
    return Crossed(said, on)


def _decided(router: Router, path: ScorePath, said: Mapping[str, Matrix], target: float) -> tuple[Matrix, NDArray[np.int64]]:
    sufficiency = on_path(path, said, target, router.policy.margin)
    return sufficiency, choose(sufficiency, target)


def comparison(before: Crossed, after: Crossed, own: Own, tiers: Sequence[str], seed: int = 0) -> dict[str, dict[str, dict[str, Figure]]]:
    """By path and figure, ``before``, ``after`` and ``change``, each with its 95 % bootstrap interval over rows (paired for the change)."""
    weights = own.traffic_weights
    result: dict[str, dict[str, dict[str, Figure]]] = {}
    for path, (old, old_chosen) in before.on.items():
        new, new_chosen = after.on[path]
        losses = [_log_loss(sufficiency, own) for sufficiency in (old, new)]
        routed = [(_under(chosen, own.targets), _over(chosen, own.targets)) for chosen in (old_chosen, new_chosen)]
        result[path] = {
            "log-loss": _means(losses[0], losses[1], weights, seed),
            **{
                f"excess ECE {tiers[tier]}": _calibration(old[:, tier], new[:, tier], own.targets[:, tier], weights, seed)
                for tier in own.judged
            },
            "under-routed": _means(routed[0][0], routed[1][0], weights, seed),
            "over-routed": _means(routed[0][1], routed[1][1], weights, seed),
        }
    return result


def _log_loss(sufficiency: Matrix, own: Own) -> Matrix:
    """(n,) mean over the tiers that a row tells of."""
    return np.asarray(np.nanmean([metrics.log_loss(sufficiency[:, tier], own.targets[:, tier]) for tier in own.judged], axis=0))


def _under(chosen: NDArray[np.int64], targets: Matrix) -> Matrix:
    """(n,) by how much a dearer tier would have done better than the chosen one: 0 or 1 for labels. NaN where that is not known."""
    best = np.array([np.fmax.reduce(row[tier:]) for row, tier in zip(targets, chosen, strict=True)])
    return best - targets[np.arange(len(chosen)), chosen]


def _over(chosen: NDArray[np.int64], targets: Matrix) -> Matrix:
    """(n,) how far a cheaper tier would have sufficed: 0 or 1 for labels."""
    return np.array([np.fmax.reduce(row[:tier], initial=0.0) for row, tier in zip(targets, chosen, strict=True)])


def _means(before: Matrix, after: Matrix, weights: Matrix, seed: int) -> dict[str, Figure]:
    known = ~np.isnan(before) & ~np.isnan(after)
    weights = weights[known]

    def figure(values: Matrix) -> Figure:
        values = values[known]
        low, high = metrics.bootstrap(
            lambda rows: float(np.average(values[rows], weights=weights[rows])), len(values), draws=_DRAWS, seed=seed
        )
        return {"value": float(np.average(values, weights=weights)), "low": low, "high": high}

    return {"before": figure(before), "after": figure(after), "change": figure(after - before)}


def _calibration(before: Matrix, after: Matrix, targets: Matrix, weights: Matrix, seed: int) -> dict[str, Figure]:
    known = ~np.isnan(targets)
    before, after, targets, weights = before[known], after[known], targets[known], weights[known]

    def excess(rows: NDArray[np.int64], draws: int = _NULLS) -> Matrix:
        one, other = (metrics.excess_ece(values[rows], targets[rows], weights[rows], seed=seed, draws=draws) for values in (before, after))
        return np.array([one, other, other - one])

    found = excess(np.arange(len(targets)), metrics.NULL_DRAWS)
    random = np.random.default_rng(seed)
    drawn = np.array([excess(random.integers(0, len(targets), len(targets))) for _ in range(_DRAWS)])
    # Rows that are drawn twice look like miscalibration: the draws lie too high, by their mean, and are moved back.
    low, high = np.percentile(drawn - drawn.mean(axis=0) + found, [2.5, 97.5], axis=0)
    names = ("before", "after", "change")
    return {name: {"value": value, "low": least, "high": most} for name, value, least, most in zip(names, found, low, high, strict=True)}
