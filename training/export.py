"""A fitted head and its calibration -> head.onnx.

Few nodes, since a node costs a microsecond whatever it computes. Scaling, calibration and the running maximum are part of the
graph, and ``parity`` compares it with the fitted estimators before anything may ship. Trees are written from scikit-learn's own
nodes: the converter at hand rounded thresholds to the nearest float32, which moved values that lay on them to the other side.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from training.calibrate import Calibration, sufficiency_of
from training.features import CLIP, Features, Scaler
from training.graphs import Graph, head_model
from training.heads import Head, Linear, PerBasis, Trees, members_of
from training.network import Network

PARITY = 1e-5
"""Largest difference of a sufficiency that may ship between the graph and the estimators it was made from."""


Matrix = NDArray[np.float64]

Run = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""``OnnxHead.run``: signals and embedding to logits and sufficiency."""


def head_onnx(head: Head, calibration: Calibration, *, basis: int, n_signals: int, dim: int) -> onnx.ModelProto:
    """The graph of ``head`` for one basis (0 rubric, 1 outcomes); see ``classifier.head.OnnxHead`` for inputs and outputs."""
    graph = Graph()
    n_tiers = len(calibration.shift)
    members = members_of(head)
    terms = [_logits(graph, member, basis, n_tiers, n_signals, dim, 1 / len(members)) for member in members]
    logits = graph.node("Sum", *terms, output="logits")
    return head_model(graph, logits, calibration, {"signals": n_signals, "embedding": dim})


def parity(
    head: Head, calibration: Calibration, features: Features, served: tuple[NDArray[np.float32], NDArray[np.float32]], basis: int, run: Run
) -> float:
    """Largest absolute difference of sufficiency between what serves and ``head`` itself, on the rows of ``basis``.

    ``served`` holds the signals and embeddings of the rows of ``features`` as the bundle's own encoder computes them, and ``run``
    the bundle's graph: whatever went wrong on the way from the estimators to the bundle shows here.
    """
    rows = np.flatnonzero(features.basis == basis)
    signals, embedding = served
    _, found = run(signals[rows], embedding[rows])
    return float(np.abs(found - sufficiency_of(head.logits(features[rows]), calibration)).max(initial=0.0))


def _logits(graph: Graph, head: Head, basis: int, n_tiers: int, n_signals: int, dim: int, weight: float) -> str:
    """``weight`` times the head's logits, (n, n_tiers). By the rubric the top tier suffices whatever its logit, which is 0."""
    asked = np.arange(n_tiers) < (n_tiers if basis else n_tiers - 1)
    if isinstance(head, Network):
        layers = head.of(basis)
        hidden = graph.node("Relu", gemm(graph, scaled(graph, layers.scaler), layers.first, layers.bias, layers.scaler))
        return gemm(graph, hidden, layers.second * asked * weight, layers.last * asked * weight)
    assert isinstance(head, PerBasis)
    asked_head = head.outcomes if basis and head.outcomes else head.rubric
    if isinstance(asked_head, Trees):
        return _trees(graph, asked_head.estimators, asked, n_signals, weight)
    assert isinstance(asked_head, Linear)
    weights, bias = np.zeros((n_signals + dim, n_tiers)), np.zeros(n_tiers)
    for tier, estimator in enumerate(asked_head.estimators):
        if estimator is not None and asked[tier]:
            weights[:, tier], bias[tier] = weight * estimator.coef_[0], weight * estimator.intercept_[0]
    return gemm(graph, scaled(graph, asked_head.scaler), weights, bias, asked_head.scaler)


def scaled(graph: Graph, scaler: Scaler) -> str:
    """Signals as ``Scaler.join`` scales them, and the embedding as it is: ``gemm`` takes its scale into the weights."""
    logs = graph.node("Log", graph.node("Add", "signals", graph.constant(1.0)))
    standard = graph.node("Div", graph.node("Sub", logs, graph.constant(scaler.mean)), graph.constant(scaler.scale))
    clipped = graph.node("Clip", standard, graph.constant(-CLIP), graph.constant(CLIP))
    return graph.node("Concat", clipped, "embedding", axis=1)


def gemm(graph: Graph, inputs: str, weights: NDArray[Any], bias: NDArray[Any], scaler: Scaler | None = None) -> str:
    """``inputs`` @ ``weights`` + ``bias``; with a ``scaler`` of inputs that are ``scaled``, of what ``Scaler.join`` makes of them."""
    if scaler:
        weights = weights.copy()
        weights[len(scaler.mean) :] /= scaler.embedding_scale
    return graph.node("Gemm", inputs, graph.constant(weights), graph.constant(bias))


def _trees(graph: Graph, estimators: list[Any], asked: NDArray[np.bool_], n_signals: int, weight: float) -> str:
    """All tiers' trees in one node."""
    tiers = [tier for tier, estimator in enumerate(estimators) if estimator is not None and asked[tier]]
    if not tiers:
        return graph.node("MatMul", "signals", graph.constant(np.zeros((n_signals, len(asked)))))
    trees = [(tier, predictor.nodes) for tier in tiers for (predictor,) in estimators[tier]._predictors]  # noqa: SLF001 - no public way
    nodes = np.concatenate([tree for _, tree in trees])
    lengths = [len(tree) for _, tree in trees]
    numbers = np.concatenate([np.arange(length) for length in lengths])
    owner, tier_of = np.repeat(np.arange(len(trees)), lengths), np.repeat([tier for tier, _ in trees], lengths)
    leaf = nodes["is_leaf"].astype(bool)
    thresholds = _rounded_down(nodes["num_threshold"])
    base = np.zeros(len(asked))
    for tier in tiers:
        base[tier] = weight * estimators[tier]._baseline_prediction.item()  # noqa: SLF001 - as above
    return graph.node(
        "TreeEnsembleRegressor",
        "signals",
        domain="ai.onnx.ml",
        n_targets=len(asked),
        base_values=base.tolist(),
        nodes_treeids=owner.tolist(),
        nodes_nodeids=numbers.tolist(),
        nodes_featureids=np.where(leaf, 0, nodes["feature_idx"]).tolist(),
        nodes_values=np.where(leaf, 0, thresholds).tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_truenodeids=np.where(leaf, 0, nodes["left"]).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, nodes["right"]).tolist(),
        target_treeids=owner[leaf].tolist(),
        target_nodeids=numbers[leaf].tolist(),
        target_ids=tier_of[leaf].tolist(),
        target_weights=(weight * nodes["value"][leaf]).tolist(),
    )


def _rounded_down(thresholds: Matrix) -> Matrix:
    """The largest float32 up to each threshold: of float32 values the same lie below it, and those on it stay."""
    nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest).astype(np.float64)
