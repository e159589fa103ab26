"""What heads learn from: signals, tokens and basis of every row, and how they are scaled."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Matrix = NDArray[np.float64]
Floats = NDArray[np.float32]

CLIP = 4.0
"""Standardised signals are cut here: a text of a megabyte must not be extrapolated to."""


@dataclass(frozen=True)
class Features:
    """What the head reads: ``signals`` (n, n_signals) float32 as serving computes them, ``tokens`` (n, n_vocabulary), how often
    each token stands in the ask, and ``basis`` (n,), 0 where the rubric is asked for and 1 where measured outcomes are.

    ``vectors`` (n_vocabulary, dim) is the static encoder's table before anything tunes it.
    """

    signals: Floats
    tokens: csr_matrix
    basis: Floats
    vectors: Floats

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, rows: Any) -> "Features":
        return Features(self.signals[rows], self.tokens[rows], self.basis[rows], self.vectors)

    @cached_property
    def embedding(self) -> Floats:
        """(n, dim) float32 rows of length 1, by ``vectors``."""
        return embed(self.tokens, self.vectors)


def embed(tokens: csr_matrix, vectors: Floats) -> Floats:
    """(n, dim) float32: sums of the tokens' vectors at length 1, 0 without tokens. What encoder.onnx computes."""
    sums = tokens @ vectors
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12), dtype=np.float32)


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

    def join(self, signals: Floats, embedding: Floats) -> Floats:
        """(n, n_signals + dim): what linear layers read."""
        logs = (np.log1p(signals.astype(np.float64)) - self.mean) / self.scale
        return np.hstack([np.clip(logs, -CLIP, CLIP), embedding / self.embedding_scale]).astype(np.float32)
