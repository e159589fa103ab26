"""Complexity signals: numbers a person can read, computed in one pass over a bounded window.

A signal is what it says, not what it implies: whether ten mentioned files make a prompt hard is for the head to learn.
Politeness and filler are counted by none of them. Values are counts or shares, never negative; the head takes their
logarithm. Adding, renaming or reordering signals makes older bundles refuse to load, which is intended.
"""

from collections.abc import Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from classifier.signals.scan import scan
from classifier.signals.table import SIGNALS, Signal
from classifier.types import Prompt

NAMES: tuple[str, ...] = tuple(signal.name for signal in SIGNALS)
_COUNTED = [column for column, signal in enumerate(SIGNALS) if signal.count is not None]
_COMPUTED = [column for column, signal in enumerate(SIGNALS) if signal.count is None]
_FUNCTIONS = [signal.function for signal in SIGNALS if signal.function is not None]
_counts = itemgetter(*[signal.count for signal in SIGNALS if signal.count is not None])
_ORDER = np.argsort([*_COUNTED, *_COMPUTED])

__all__ = ["NAMES", "SIGNALS", "Signal", "signal_matrix"]


def signal_matrix(prompts: Sequence[Prompt]) -> NDArray[np.float32]:
    """(n_prompts, n_signals) float32, one row a prompt, columns in the order of ``NAMES``, all values finite and >= 0."""
    rows = np.empty((len(prompts), len(SIGNALS)), dtype=np.float32)
    for row, prompt in zip(rows, prompts, strict=True):
        found = scan(prompt)
        row[:] = (*_counts(found.counts), *[function(found) for function in _FUNCTIONS])
    return rows[:, _ORDER]
