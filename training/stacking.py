"""The accurate path's head: what the fast path said and what the transformer reads, weighed for each tier.

Three numbers a tier and basis, fitted by log-loss on rows that neither saw; a stack of two good scores needs no more, and so
few hundred rows suffice.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from training.calibrate import Calibration
from training.graphs import Graph, head_model

Matrix = NDArray[np.float64]
Floats = NDArray[np.float32]

_PULL = 1e-3  # towards the mean of the two


@dataclass(frozen=True, slots=True)
class Stack:
    """logits[t] = fast[t] * the fast path's logit + read[t] * the transformer's + bias[t]."""

    fast: tuple[float, ...]
    read: tuple[float, ...]
    bias: tuple[float, ...]

    @classmethod
    def fit(cls, fast: Matrix, read: Matrix, targets: Matrix, weights: Matrix) -> "Stack":
        """Fit each tier on (n,) weighted rows whose target is known, with weights of no less than 0; the mean where none is."""
        found = [_weigh(fast[:, tier], read[:, tier], targets[:, tier], weights) for tier in range(targets.shape[1])]
        return cls(*(tuple(column) for column in zip(*found, strict=True)))

    def logits(self, fast: Matrix, read: Matrix) -> Matrix:
        """(n, n_tiers)."""
        return np.asarray(fast * np.array(self.fast) + read * np.array(self.read) + np.array(self.bias))


def _weigh(fast: Matrix, read: Matrix, targets: Matrix, weights: Matrix) -> tuple[float, float, float]:
    known = ~np.isnan(targets)
    if not known.any():
        return 0.5, 0.5, 0.0
    inputs = np.stack([fast[known], read[known], np.ones(known.sum())], axis=1)
    share, target = weights[known] / weights[known].sum(), targets[known]
    start = np.array([0.5, 0.5, 0.0])

    def loss(parameters: Matrix) -> tuple[float, Matrix]:
        z = inputs @ parameters
        value = -(share * (target * log_expit(z) + (1 - target) * log_expit(-z))).sum()
        away = parameters - start
        return float(value + _PULL * (away**2).sum()), inputs.T @ (share * (expit(z) - target)) + 2 * _PULL * away

    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None), (0, None), (None, None)])
    return float(found.x[0]), float(found.x[1]), float(found.x[2])


def stack_onnx(stack: Stack, reading: tuple[Floats, Floats], calibration: Calibration) -> onnx.ModelProto:
    """``fast_logits`` (n, n_tiers) of the fast path and ``embedding`` (n, dim) of the transformer -> logits and sufficiency."""
    weights, bias = reading
    graph = Graph()
    scale = np.array(stack.read)
    read = graph.node("Gemm", "embedding", graph.constant(weights * scale), graph.constant(bias * scale + np.array(stack.bias)))
    logits = graph.node("Add", graph.node("Mul", "fast_logits", graph.constant(stack.fast)), read, output="logits")
    return head_model(graph, logits, calibration, {"fast_logits": len(stack.fast), "embedding": len(weights)})


def within(sufficiency: Matrix, target: float, margin: float) -> NDArray[np.bool_]:
    """(n,) whether a tier below the top comes within ``margin`` of ``target``, in logits: ``policy.needs_accurate`` over many rows."""
    value = np.clip(sufficiency[:, :-1], 1e-9, 1 - 1e-9)
    distance = np.abs(np.log(value / (1 - value)) - np.log(target / (1 - target)))
    return np.asarray((distance <= margin).any(axis=1))


def joined(fast: Matrix, accurate: Matrix, target: float, margin: float) -> Matrix:
    """(n, n_tiers): what the ``auto`` path says where the two say ``fast`` and ``accurate``."""
    return np.where(within(fast, target, margin)[:, None], accurate, fast)
