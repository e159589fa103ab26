"""Sufficiency heads: signals and embedding -> one logit a tier. Families are compared on held-out folds; the best ships.

What suffices by the rubric and what a measured model got right are two questions on the same prompts. A head answers either:
the row's ``basis`` says which. Trees share what the two have in common; linear heads and networks are fitted apart, since one
set of weights for both was worse at each (docs/decisions.md, 3).

A soft target y enters as two rows, a positive of weight y and a negative of weight 1 - y, so that any classifier fits it
by log-loss. Every tier has an estimator of its own, which learns from the rows whose target for that tier is known.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

Matrix = NDArray[np.float64]

CLIP = 4.0
"""Standardised signals are cut here: a text of a megabyte must not be extrapolated to."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the head reads: ``signals`` (n, n_signals) and ``embedding`` (n, dim), as serving computes them, and ``basis`` (n,),
    0 where the rubric is asked for and 1 where measured outcomes are. All float32.
    """

    signals: NDArray[np.float32]
    embedding: NDArray[np.float32]
    basis: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, rows: Any) -> "Features":
        return Features(self.signals[rows], self.embedding[rows], self.basis[rows])


@dataclass(frozen=True, slots=True)
class Scaler:
    """log(1 + signal), standardised and cut at ``CLIP``; the embedding divided by one number. Part of the graph that ships."""

    mean: Matrix  # (n_signals,)
    scale: Matrix  # (n_signals,)
    embedding_scale: float

    @classmethod
    def fit(cls, features: Features) -> "Scaler":
        """Moments of the training rows."""
        logs = np.log1p(features.signals.astype(np.float64))
        scale = logs.std(axis=0)
        return cls(logs.mean(axis=0), np.where(scale > 1e-6, scale, 1.0), float(features.embedding.std(axis=0).mean()) or 1.0)

    def transform(self, features: Features) -> Matrix:
        """(n, n_signals + dim)."""
        logs = (np.log1p(features.signals.astype(np.float64)) - self.mean) / self.scale
        return np.hstack([np.clip(logs, -CLIP, CLIP), features.embedding / self.embedding_scale])


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
    """What the families share: scale, then one estimator a tier, None where no row knew the tier's target: its logit is 0."""

    seed: int = 0
    scaler: Scaler = field(init=False)
    estimators: list[Any] = field(init=False, default_factory=list)

    def estimator(self, rows: int) -> Any:
        """A new, unfitted estimator for ``rows`` rows."""
        raise NotImplementedError

    def inputs(self, features: Features) -> Matrix:
        """(n, n_inputs): what the estimators read."""
        return self.scaler.transform(features)

    def fit(self, features: Features, targets: Matrix, weights: Matrix) -> Self:
        """See ``Head``."""
        self.scaler = Scaler.fit(features)
        inputs = self.inputs(features)
        self.estimators = []
        for column in targets.T:
            known = ~np.isnan(column)
            usable = known.any() and 0 < np.average(column[known], weights=weights[known]) < 1
            self.estimators.append(
                _fit_soft(self.estimator(int(known.sum())), inputs[known], column[known], weights[known]) if usable else None
            )
        return self

    def logits(self, features: Features) -> Matrix:
        """See ``Head``."""
        inputs = self.inputs(features)
        return np.stack([np.zeros(len(inputs)) if one is None else one.decision_function(inputs) for one in self.estimators], axis=1)


@dataclass(slots=True)
class Linear(PerTier):
    """Logistic regression. ``c`` is the inverse strength of the ridge penalty, as in scikit-learn."""

    c: float = 0.01

    def estimator(self, rows: int) -> LogisticRegression:
        """See ``PerTier``."""
        del rows
        return LogisticRegression(C=self.c, max_iter=1000)


@dataclass(slots=True)
class Network(PerTier):
    """One hidden layer of rectified units; the mean of ``members`` networks that start from different weights."""

    hidden: int = 48
    alpha: float = 3.0
    visits: int = 80_000  # rows times epochs: training stops early, which regularises and bounds the time
    members: int = 3

    def estimator(self, rows: int) -> "Networks":
        """See ``PerTier``."""
        epochs = int(np.clip(self.visits // rows, 6, 20))
        return Networks(
            [
                MLPClassifier(
                    (self.hidden,),
                    alpha=self.alpha,
                    max_iter=epochs,
                    batch_size=min(64, rows),
                    random_state=self.seed + member,
                    tol=0,
                    n_iter_no_change=epochs,
                )
                for member in range(self.members)
            ]
        )


@dataclass(slots=True)
class Networks:
    """Networks fitted alike, read as one wide network whose output is their mean."""

    members: list[MLPClassifier]

    def fit(self, inputs: Matrix, classes: Matrix, sample_weight: Matrix) -> Self:
        """Fit every member on the same rows."""
        with warnings.catch_warnings():
            # The number of epochs is a choice.
            warnings.simplefilter("ignore", ConvergenceWarning)
            for member in self.members:
                member.fit(inputs, classes, sample_weight=sample_weight)
        return self

    def layers(self) -> tuple[Matrix, Matrix, Matrix, Matrix]:
        """(n_inputs, n_hidden), (n_hidden,), (n_hidden, 1), (1,): weights and biases of the wide network."""
        first = np.hstack([member.coefs_[0] for member in self.members])
        bias = np.concatenate([member.intercepts_[0] for member in self.members])
        second = np.vstack([member.coefs_[1] for member in self.members]) / len(self.members)
        last = np.asarray(np.mean([member.intercepts_[1] for member in self.members], axis=0))
        return first, bias, second, last

    def decision_function(self, inputs: Matrix) -> Matrix:
        """(n,) log-odds."""
        first, bias, second, last = self.layers()
        values: Matrix = (np.maximum(inputs @ first + bias, 0) @ second + last)[:, 0]
        return values


@dataclass(slots=True)
class Trees(PerTier):
    """Gradient-boosted trees on the signals alone: where words have been counted, thresholds and interactions pay; on the
    embedding they only overfit.
    """

    iterations: int = 150
    leaves: int = 16

    def estimator(self, rows: int) -> HistGradientBoostingClassifier:
        """See ``PerTier``."""
        del rows
        return HistGradientBoostingClassifier(
            learning_rate=0.06,
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
        return np.hstack([features.signals, features.basis[:, None]]).astype(np.float64)


@dataclass(slots=True)
class PerBasis:
    """Two heads of one family, each fitted on the rows of its basis. ``outcomes`` stays None where there are no such rows."""

    make: Callable[[], PerTier]
    rubric: PerTier = field(init=False)
    outcomes: PerTier | None = field(init=False, default=None)

    def fit(self, features: Features, targets: Matrix, weights: Matrix) -> Self:
        """See ``Head``."""
        measured = features.basis > 0
        self.rubric = self.make().fit(features[~measured], targets[~measured], weights[~measured])
        if measured.any():
            self.outcomes = self.make().fit(features[measured], targets[measured], weights[measured])
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
    "linear": lambda seed: PerBasis(partial(Linear, seed)),
    "network": lambda seed: PerBasis(partial(Network, seed)),
    "trees": Trees,
}
"""Name -> what makes a new, unfitted head from a seed."""

CANDIDATES = ("linear", "network", "trees", "linear+trees", "network+trees", "linear+network+trees")
"""What is compared: a family, or the mean of several."""


def make(candidate: str, seed: int) -> Head:
    """A new, unfitted head of ``candidate``."""
    members = tuple(FAMILIES[name](seed) for name in candidate.split("+"))
    return members[0] if len(members) == 1 else Average(members)


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
