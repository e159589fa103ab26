"""The accurate path beside the fast one, on rows that neither saw: stacked, calibrated, bounded, and when to ask it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifier import Router
from training.calibrate import Calibration, fit_calibration, prior_weights, sufficiency_of
from training.dataset import Example, fold_of, targets_of
from training.finetune import Tuned
from training.learn import FOLDS, by_source, learning_targets
from training.risk import Risk, choose, control
from training.stacking import Stack, joined, within

Matrix = NDArray[np.float64]

MARGINS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
AGREEMENT = 0.95
"""Of decisions by ``auto`` with those of the accurate path alone, at the stated prior."""


@dataclass(frozen=True, slots=True)
class Second:
    """What the held-out rows say of the accurate path."""

    stacks: dict[str, Stack]  # by basis
    calibrations: dict[str, Calibration]
    risks: dict[str, Risk]  # of the accurate path alone, and of auto
    margin: float
    tried: dict[float, dict[str, float]]  # by margin


def weigh(held: Sequence[Example], fast: Matrix, tuned: Tuned, vectors: NDArray[np.float32], router: Router) -> Second:
    """Stack, calibrate, and choose targets and margin on the held-out rows; what the choice rests on is cross-fitted among them."""
    prior = router.manifest.prior
    measured = np.array([example.kind == "outcomes" for example in held])
    labels = np.array([example.label for example in held if example.label is not None])
    own = np.array([example.weight for example in held if example.label is not None])
    stated = prior_weights(labels.tolist(), prior, own)
    targets = learning_targets(held)
    rubric = _Side(fast[~measured], tuned.logits(vectors[~measured], 0), targets_of(held)[~measured], stated, top_is_certain=True)
    stacks, calibrations = {}, {}
    stacks["rubric"], calibrations["rubric"] = rubric.fit()
    if measured.any() and len(tuned.readings) > 1:
        side = _Side(fast[measured], tuned.logits(vectors[measured], 1), targets[measured], by_source(held), top_is_certain=False)
        stacks["outcomes"], calibrations["outcomes"] = side.fit()
    folds = np.array([fold_of(f"weighed:{example.group}", FOLDS, 0) for example in held if example.label is not None])
    accurate = np.zeros_like(rubric.fast)
    quick = np.zeros_like(rubric.fast)
    for fold in np.unique(folds):
        inside = folds == fold
        stack, calibration = rubric.rows(~inside).fit()
        accurate[inside] = sufficiency_of(stack.logits(rubric.fast[inside], rubric.read[inside]), calibration)
        calibration = fit_calibration(rubric.fast[~inside], rubric.targets[~inside], stated[~inside], top_is_certain=True)
        quick[inside] = sufficiency_of(rubric.fast[inside], calibration)
    alone = control(accurate, labels.tolist(), prior)
    tried: dict[float, dict[str, float]] = {}
    margin, auto = MARGINS[-1], alone
    for margin in MARGINS:
        auto = control(lambda target, margin=margin: joined(quick, accurate, target, margin), labels.tolist(), prior)  # type: ignore[misc]
        decisions = choose(joined(quick, accurate, auto.target, margin), auto.target)
        tried[margin] = {
            "looks_twice": float(np.average(within(quick, auto.target, margin), weights=stated)),
            "agreement": float(np.average(decisions == choose(accurate, alone.target), weights=stated)),
            "exact": float(np.average(decisions == labels, weights=stated)),
            "target": auto.target,
        }
        if tried[margin]["agreement"] >= AGREEMENT:
            break
    return Second(stacks, calibrations, {"auto": auto, "accurate": alone}, margin, tried)


@dataclass(frozen=True, slots=True)
class _Side:
    """The held-out rows of one basis: logits of either path, targets and weights."""

    fast: Matrix
    read: Matrix
    targets: Matrix
    weights: Matrix
    top_is_certain: bool

    def rows(self, rows: NDArray[np.bool_]) -> "_Side":
        return _Side(self.fast[rows], self.read[rows], self.targets[rows], self.weights[rows], self.top_is_certain)

    def fit(self) -> tuple[Stack, Calibration]:
        stack = Stack.fit(self.fast, self.read, self.targets, np.ones(len(self.fast)))
        calibration = fit_calibration(stack.logits(self.fast, self.read), self.targets, self.weights, top_is_certain=self.top_is_certain)
        return stack, calibration


def margins(second: Second) -> str:
    """What each margin would have cost and brought, as lines; the last one ships."""
    lines = ["margin  looks twice  agreement  exact  target   (held-out rows, stated prior; the last one ships)"]
    lines += [
        f"{margin:6.2f}  {one['looks_twice']:11.3f}  {one['agreement']:9.3f}  {one['exact']:5.3f}  {one['target']:6.3f}"
        for margin, one in second.tried.items()
    ]
    return "\n".join(lines)
