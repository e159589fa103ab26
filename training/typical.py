"""What a prompt of the stated traffic looks like: the numbers that stand in for a signal or for the text where a decision is explained."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from classifier.signals import NAMES
from training.calibrate import prior_weights
from training.dataset import Example
from training.features import Features, Floats, embed


def typical_of(examples: Sequence[Example], features: Features, vectors: Floats, prior: Sequence[float]) -> dict[str, Any]:
    """Contents of typical.json: the median of each signal and the mean embedding of the labelled examples, weighted to the shares ``prior``.

    ``features`` are of the examples, row by row; ``vectors`` (n_vocabulary, dim) are those that serve. The lower median, so that a count
    stays a count.

    Raises:
        ValueError: a tier of the prior has no labelled example.
    """
    labelled = np.array([example.label is not None for example in examples])
    own = np.array([example.weight for example in examples])[labelled]
    weights = prior_weights([example.label for example in examples if example.label is not None], prior, own)
    rows = features[labelled]
    medians = np.quantile(rows.signals, 0.5, axis=0, weights=weights, method="inverted_cdf")
    mean = np.average(embed(rows.tokens, vectors), axis=0, weights=weights)
    return {
        "prior": list(prior),
        "n": int(labelled.sum()),
        "signals": dict(zip(NAMES, medians.tolist(), strict=True)),
        "embedding": mean.astype(np.float32).tolist(),
    }
