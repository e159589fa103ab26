"""Labels that look wrong: heads that never saw a row are confident of another tier.

Confident learning: Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels", Journal of
Artificial Intelligence Research 70. What a head says is an opinion: a person decides.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.dataset import Example, fold_of, targets_of
from training.heads import CANDIDATES, candidate_logits, cross_fit
from training.learn import FOLDS, cross_calibrated, features_of, learning_targets, learning_weights, load_encoder

Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]

FAMILIES = CANDIDATES[-1].split("+")


def held_out_probabilities(examples: Sequence[Example], encoder: Path, seed: int, advance: Callable[[], object] = lambda: None) -> Matrix:
    """(n, n_tiers) probabilities that the cheapest sufficient tier is each, for labelled rows by heads and calibrations that saw no
    row of their group; ``advance`` is called ``FOLDS * len(FAMILIES)`` times at most.

    Calibrated to the rows as they are, not to a prior of traffic: how often a label is wrong is a question about them.

    Raises:
        BundleError: no encoder in the folder ``encoder``.
        ValueError: the groups fall into a single fold.
    """
    folds = np.array([fold_of(example.group, FOLDS, seed) for example in examples])
    if len(np.unique(folds)) < 2:
        raise ValueError(f"found {len({example.group for example in examples})} group(s) of labelled training rows, expected more")
    features = features_of(examples, *load_encoder(encoder))
    targets, weights = learning_targets(examples), learning_weights(examples)
    by_family = {name: cross_fit(name, features, targets, weights, folds, seed, advance) for name in FAMILIES}
    own = np.array([example.weight for example in examples])
    sufficiency = cross_calibrated(candidate_logits("+".join(FAMILIES), by_family), targets_of(examples), own, folds)
    return np.diff(sufficiency, prepend=0.0)


def contradicted(probabilities: Matrix, labels: Indices, votes: Matrix) -> Indices:
    """(n,) the tier that the heads are confident of against the label; -1 where there is none.

    The heads are confident of tier j where its probability reaches t_j, its mean over the rows labelled j; of several such tiers
    they mean the likeliest (Northcutt et al. 2021, equations 1 and 2). As in cleanlab, a label that is itself the likelier of the two
    stands. So does one where a reader voted for that tier: the row says already that it is a close call.

    Args:
        probabilities: (n, n_tiers), held out.
        labels: (n,) index of the tier.
        votes: (n, n_tiers), the share of readers for each tier.
    """
    own = np.arange(probabilities.shape[1])
    thresholds = [probabilities[labels == tier, tier].mean() if (labels == tier).any() else np.inf for tier in own]
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    tier, rows = confident.argmax(axis=1), np.arange(len(labels))
    against = (confident[rows, tier] > probabilities[rows, labels]) & (votes[rows, tier] == 0)
    return np.where(against, tier, -1)
