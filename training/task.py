"""What kind of work a prompt asks for: a linear model over signals and the embedding that serves, calibrated by one temperature."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from training.dataset import Example
from training.export import gemm, scaled
from training.features import Features, Floats, Scaler, embed
from training.graphs import Graph

Matrix = NDArray[np.float64]

FEWEST = 30
"""Prompts of a task, below which it is not told apart."""
_C = 0.01  # scikit-learn's inverse strength of the ridge penalty


@dataclass(frozen=True, slots=True)
class Tasks:
    """probabilities = softmax((inputs @ weights + bias) / temperature), over ``names``.

    ``accuracy`` and ``mean_probability``, of the likeliest task, are of rows held out; they are alike where the calibration holds.
    """

    names: tuple[str, ...]
    scaler: Scaler
    weights: Matrix  # (n_signals + dim, n_tasks)
    bias: Matrix  # (n_tasks,)
    temperature: float
    accuracy: float
    mean_probability: float
    n: int


def fit_tasks(
    examples: Sequence[Example], features: Features, vectors: Floats, folds: NDArray[np.int64], advance: Callable[[], object]
) -> Tasks | None:
    """Learn from the rows that name their task, by the embedding of ``vectors`` (n_vocabulary, dim), which is what serves; None where
    fewer than two tasks have ``FEWEST`` rows. ``folds`` (n,) keep a group on one side; ``advance`` is called after each fit, of which
    there is one a fold and one more.
    """
    named = [example.task or "" for example in examples]
    known, counts = np.unique([name for name in named if name], return_counts=True)
    names = tuple(str(name) for name, count in zip(known, counts, strict=True) if count >= FEWEST)
    if len(names) < 2:
        return None
    rows = np.array([place for place, name in enumerate(named) if name in names])
    labels = np.array([names.index(named[place]) for place in rows])
    tuned = Features(features.signals[rows], features.tokens[rows], features.basis[rows], vectors)
    scaler = Scaler.fit(tuned)
    inputs = scaler.join(tuned.signals, embed(tuned.tokens, vectors)).astype(np.float64)
    held_out = np.zeros((len(rows), len(names)))
    for fold in np.unique(folds[rows]):
        inside = folds[rows] == fold
        weights, bias = _linear(inputs[~inside], labels[~inside], len(names))
        held_out[inside] = inputs[inside] @ weights + bias
        advance()
    weights, bias = _linear(inputs, labels, len(names))
    advance()
    temperature = _temperature(held_out, labels)
    likeliest = np.exp(log_softmax(held_out / temperature, axis=1)).max(axis=1)
    accuracy = float((held_out.argmax(axis=1) == labels).mean())
    return Tasks(names, scaler, weights, bias, temperature, accuracy, float(likeliest.mean()), len(rows))


def _linear(inputs: Matrix, labels: NDArray[np.int64], n_tasks: int) -> tuple[Matrix, Matrix]:
    if (found := len(np.unique(labels))) != n_tasks:
        raise ValueError(f"found {found} of {n_tasks} tasks in a fold, expected each task in several groups")
    model = LogisticRegression(C=_C, tol=1e-3, max_iter=1000).fit(inputs, labels)
    if n_tasks == 2:  # of which scikit-learn keeps one column
        return np.hstack([-model.coef_.T, model.coef_.T]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2
    return model.coef_.T, model.intercept_


def _temperature(logits: Matrix, labels: NDArray[np.int64]) -> float:
    """Of least log-loss (Guo et al., "On Calibration of Modern Neural Networks", 2017)."""

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def task_onnx(tasks: Tasks) -> onnx.ModelProto:
    """``signals`` and ``embedding`` -> ``probabilities`` (n, n_tasks); see ``classifier.head.TaskHead``."""
    graph = Graph()
    n_signals = len(tasks.scaler.mean)
    inputs = scaled(graph, tasks.scaler)
    logits = gemm(graph, inputs, tasks.weights / tasks.temperature, tasks.bias / tasks.temperature, tasks.scaler)
    graph.node("Softmax", logits, output="probabilities", axis=1)
    return graph.model(
        "task_head",
        {"signals": ["n", n_signals], "embedding": ["n", len(tasks.weights) - n_signals]},
        {"probabilities": ["n", len(tasks.names)]},
        {"tasks": json.dumps(tasks.names)},
    )
