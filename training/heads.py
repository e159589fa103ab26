"""Sufficiency heads: signals and embedding -> one logit a tier. Families are compared on held-out folds; the best ships.

What suffices by the rubric and what a measured model got right are two questions on the same prompts. A head answers either:
the row's ``basis`` says which. The network's token vectors are shared; layers and trees are fitted apart, since one set of weights
for both was worse at each (docs/decisions.md, 3).

A soft target y enters as two rows, a positive of weight y and a negative of weight 1 - y, so that any classifier fits it
by log-loss. Every tier has an estimator of its own, which learns from the rows whose target for that tier is known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from training.features import Features, Scaler
from training.network import Network

Matrix = NDArray[np.float64]


class Head(Protocol):
    """What learns sufficiency."""

    def fit(self, features: Features, targets: Matrix, weights: Matrix) -> Self:
        """Learn from (n,) weighted rows; ``targets`` (n, n_tiers) in [0, 1], NaN where unknown."""
        ...

    def logits(self, features: Features) -> Matrix:
        """(n, n_tiers), uncalibrated."""
        ...


@dataclass(slots=True)
class PerTier:
    """What the families share: one estimator a tier, None where no row knew the tier's target: its logit is 0."""

    seed: int = 0
    estimators: list[Any] = field(init=False, default_factory=list)

    def estimator(self) -> Any:
        """A new, unfitted estimator."""
        raise NotImplementedError

    def inputs(self, features: Features) -> Matrix:
        """(n, n_inputs): what the estimators read."""
        raise NotImplementedError

    def fit(self, features: Features, targets: Matrix, weights: Matrix) -> Self:
        """See ``Head``."""
        inputs = self.inputs(features)
        self.estimators = []
        for column in targets.T:
            known = ~np.isnan(column)
            usable = known.any() and 0 < np.average(column[known], weights=weights[known]) < 1
            self.estimators.append(_fit_soft(self.estimator(), inputs[known], column[known], weights[known]) if usable else None)
        return self

    def logits(self, features: Features) -> Matrix:
        """See ``Head``."""
        inputs = self.inputs(features)
        return np.stack([np.zeros(len(inputs)) if one is None else one.decision_function(inputs) for one in self.estimators], axis=1)


@dataclass(slots=True)
class Linear(PerTier):
    """Logistic regression. ``c`` is the inverse strength of the ridge penalty, as in scikit-learn."""

    c: float = 0.01
    scaler: Scaler = field(init=False)

    def estimator(self) -> LogisticRegression:
        """See ``PerTier``."""
        return LogisticRegression(C=self.c, max_iter=1000)

    def inputs(self, features: Features) -> Matrix:
        """See ``PerTier``."""
        return self.scaler.join(features.signals, features.embedding).astype(np.float64)

    def fit(self, features: Features, targets: Matrix, weights: Matrix) -> Self:
        """See ``Head``."""
        self.scaler = Scaler.fit(features)
        return PerTier.fit(self, features, targets, weights)


@dataclass(slots=True)
class Trees(PerTier):
    """Gradient-boosted trees on the signals alone: where words have been counted, thresholds and interactions pay; on the
    embedding they only overfit.
    """

    iterations: int = 75
    leaves: int = 16
    rate: float = 0.12

    def estimator(self) -> HistGradientBoostingClassifier:
        """See ``PerTier``."""
        return HistGradientBoostingClassifier(
            learning_rate=self.rate,
            max_iter=self.iterations,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=20,
            l2_regularization=5.0,
            max_features=0.3,
            early_stopping=False,
            random_state=self.seed,
        )

    def inputs(self, features: Features) -> Matrix:
        """See ``PerTier``."""
        return features.signals.astype(np.float64)


@dataclass(slots=True)
class PerBasis:
    """Two heads of one family, each fitted on the rows of its basis. ``outcomes`` stays None where there are no such rows."""

    make: Callable[[], PerTier]
    make_outcomes: Callable[[], PerTier]
    rubric: PerTier = field(init=False)
    outcomes: PerTier | None = field(init=False, default=None)

    def fit(self, features: Features, targets: Matrix, weights: Matrix) -> Self:
        """See ``Head``."""
        measured = features.basis > 0
        judged = np.ones_like(measured) if measured.all() else ~measured  # without a judged row, what was measured answers for both
        self.outcomes = None
        self.rubric = self.make().fit(features[judged], targets[judged], weights[judged])
        if measured.any():
            self.outcomes = self.make_outcomes().fit(features[measured], targets[measured], weights[measured])
        return self

    def logits(self, features: Features) -> Matrix:
        """See ``Head``."""
        measured = features.basis > 0
        if self.outcomes is None or not measured.any():
            return self.rubric.logits(features)
        logits = np.empty((len(features), len(self.rubric.estimators)))
        if not measured.all():
            logits[~measured] = self.rubric.logits(features[~measured])
        logits[measured] = self.outcomes.logits(features[measured])
        return logits


@dataclass(slots=True)
class Average:
    """Mean of the members' logits."""

    members: tuple[Head, ...]

    def fit(self, features: Features, targets: Matrix, weights: Matrix) -> Self:
        """See ``Head``."""
        for member in self.members:
            member.fit(features, targets, weights)
        return self

    def logits(self, features: Features) -> Matrix:
        """See ``Head``."""
        return np.asarray(np.mean([member.logits(features) for member in self.members], axis=0))


FAMILIES: dict[str, Callable[[int], Head]] = {
    "linear": lambda seed: PerBasis(partial(Linear, seed), partial(Linear, seed)),
    "network": Network,
    # Of outcomes there are more rows, and nobody waits for that graph.
    "trees": lambda seed: PerBasis(partial(Trees, seed), partial(Trees, seed, iterations=200, leaves=31, rate=0.06)),
}
"""Name -> what makes a new, unfitted head from a seed."""

CANDIDATES = ("linear", "trees", "linear+trees", "network", "network+trees")
"""What is compared: a family, or the mean of several."""


def make(candidate: str, seed: int) -> Head:
    """A new, unfitted head of ``candidate``."""
    members = tuple(FAMILIES[name](seed) for name in candidate.split("+"))
    return members[0] if len(members) == 1 else Average(members)


def members_of(head: Head) -> tuple[Head, ...]:
    """The heads whose mean ``head`` is: itself where it is no mean."""
    return head.members if isinstance(head, Average) else (head,)


def tuned_vectors(head: Head) -> NDArray[np.float32] | None:
    """The token vectors that ``head`` learned; None where it reads the encoder's own."""
    return next((member.vectors for member in members_of(head) if isinstance(member, Network)), None)


def cross_fit(
    family: str,
    features: Features,
    targets: Matrix,
    weights: Matrix,
    folds: NDArray[np.int64],
    seed: int,
    advance: Callable[[], object] = lambda: None,
) -> Matrix:
    """(n, n_tiers) logits of every row by a head that saw no row of its fold; ``advance`` is called after each fold.

    ``folds`` (n,) must keep a group within one fold: that is the caller's duty.
    """
    logits = np.zeros_like(targets)
    for fold in np.unique(folds):
        inside = folds == fold
        head = FAMILIES[family](seed).fit(features[~inside], targets[~inside], weights[~inside])
        logits[inside] = head.logits(features[inside])
        advance()
    return logits


def candidate_logits(candidate: str, by_family: dict[str, Matrix]) -> Matrix:
    """The cross-fitted logits of ``candidate``: the mean of its families'."""
    return np.asarray(np.mean([by_family[name] for name in candidate.split("+")], axis=0))


def source_weights(sources: Sequence[str], labelled: Sequence[bool], outcome_share: float, cap: int) -> Matrix:
    """(n,) weights: 1 for a labelled row; an outcome source weighs as ``min(its rows, cap)``, and all of them together
    ``outcome_share`` of the labelled rows, so that neither a large source nor all of them drown the labelled prompts.

    Without labelled rows the outcome rows keep their sources' balance and a mean weight of 1.
    """
    names = np.array(sources)
    is_labelled = np.array(labelled, dtype=bool)
    weights = np.ones(len(names))
    outcome_names, counts = np.unique(names[~is_labelled], return_counts=True)
    capped = np.minimum(counts, cap)
    total = outcome_share * is_labelled.sum() if is_labelled.any() else float((~is_labelled).sum())
    for name, count, kept in zip(outcome_names, counts, capped, strict=True):
        weights[~is_labelled & (names == name)] = total * kept / capped.sum() / count
    return weights


def _fit_soft(estimator: Any, inputs: Matrix, target: Matrix, weights: Matrix) -> Any:
    positive, negative = target > 0, target < 1
    rows = np.vstack([inputs[positive], inputs[negative]])
    classes = np.concatenate([np.ones(positive.sum()), np.zeros(negative.sum())])
    weight = np.concatenate([(weights * target)[positive], (weights * (1 - target))[negative]])
    return estimator.fit(rows, classes, sample_weight=weight / weight.mean())
