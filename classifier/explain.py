"""Which of a prompt's signals moved a score: each is replaced by its typical value, and all of that is scored in one batch.

An effect is of one replacement by itself. Signals overlap - a long prompt has many words -, so effects do not add up to anything.
Knows neither graph nor file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifier.types import Effect

Matrix = NDArray[np.float32]

TEXT = "text"
"""What the embedding is called among the signals: the words themselves."""


@dataclass(frozen=True, slots=True)
class Typical:
    """What stands in for a prompt's own numbers: the median of each signal (n_signals,), and the mean embedding (dim,), both of the
    training prompts at the bundle's prior.
    """

    signals: Matrix
    embedding: Matrix


def effects(
    names: Sequence[str], signals: Matrix, embedding: Matrix, typical: Typical, sufficiency: Callable[[Matrix, Matrix], Matrix]
) -> tuple[Effect, ...]:
    """What each signal of one prompt, ``signals`` (1, n_signals) and ``embedding`` (1, dim), does to a score; the largest effects first.

    ``sufficiency`` scores such rows, (n, n_signals) and (n, dim), to one number each (n,). An effect is the prompt's score minus the
    score without the signal: positive where the signal raises it. Signals whose value is typical have none, and are left out.
    """
    columns = np.flatnonzero(signals[0] != typical.signals)
    places, text, whole = np.arange(len(columns)), len(columns), len(columns) + 1
    rows, embeddings = np.tile(signals, (whole + 1, 1)), np.tile(embedding, (whole + 1, 1))
    rows[places, columns] = typical.signals[columns]
    embeddings[text] = typical.embedding
    found = sufficiency(rows, embeddings).astype(np.float64)
    changes = (found[whole] - found[:whole]).tolist()
    parts: list[tuple[str, float | None]] = [*((names[column], float(signals[0, column])) for column in columns.tolist()), (TEXT, None)]
    result = [Effect(name, value, change) for (name, value), change in zip(parts, changes, strict=True)]
    return tuple(sorted(result, key=lambda one: -abs(one.effect)))
