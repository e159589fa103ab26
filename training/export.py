"""A fitted head and its calibration -> head.onnx.

Only plain estimators are converted by skl2onnx (sklearn-onnx #1246: calibrated ones have come out wrong in silence);
scaling, calibration and the running maximum are written into the graph here, and ``parity`` compares the result with the
fitted estimators before anything may ship.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType

from training.calibrate import Calibration, sufficiency_of
from training.heads import CLIP, Average, Features, Head, Linear, Network, PerBasis, PerTier, Trees

OPSET = 17
ML_OPSET = 3
PARITY = 1e-5
"""Largest difference of a sufficiency that may ship between the graph and the estimators it was made from."""


Run = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""``OnnxHead.run``: signals and embedding to logits and sufficiency."""


class _Graph:
    """Nodes and initialisers, with fresh names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self._count = 0

    def constant(self, value: Any, dtype: Any = np.float32, name: str | None = None) -> str:
        name = name or self._name("c")
        self.initialisers.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or self._name(op.lower())
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def splice(self, model: onnx.ModelProto, input_name: str, output_index: int) -> str:
        """Take over a converted model's nodes under fresh names, reading ``input_name``; the name of one of its outputs."""
        prefix = self._name("m")
        names = {model.graph.input[0].name: input_name}
        for tensor in model.graph.initializer:
            names[tensor.name] = f"{prefix}_{tensor.name}"
            copied = onnx.TensorProto()
            copied.CopyFrom(tensor)
            copied.name = names[tensor.name]
            self.initialisers.append(copied)
        for node in model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = ""
            copy.input[:] = [names[name] for name in node.input]
            for place, name in enumerate(node.output):
                names[name] = f"{prefix}_{name}"
                copy.output[place] = names[name]
            self.nodes.append(copy)
        return names[model.graph.output[output_index].name]

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"


def head_onnx(head: Head, calibration: Calibration, *, basis: int, n_signals: int, dim: int) -> onnx.ModelProto:
    """The graph of ``head`` for one basis (0 rubric, 1 outcomes); see ``classifier.head.OnnxHead`` for inputs and outputs."""
    graph = _Graph()
    n_tiers = len(calibration.shift)
    logits = graph.node("Identity", _logits(graph, head, basis), output="logits")
    shift = graph.constant(calibration.shift, name="calibration_shift")
    slope = graph.constant(calibration.slope, name="calibration_slope")
    calibrated = graph.node("Sigmoid", graph.node("Add", graph.node("Mul", logits, slope), shift))
    columns = [_columns(graph, calibrated, tier, tier + 1) for tier in range(n_tiers)]
    for tier in range(1, n_tiers):
        columns[tier] = graph.node("Max", columns[tier - 1], columns[tier])
    graph.node("Concat", *columns, output="sufficiency", axis=1)
    value = helper.make_tensor_value_info
    proto = helper.make_graph(
        graph.nodes,
        "sufficiency_head",
        [
            value("signals", TensorProto.FLOAT, ["n", n_signals]),
            value("embedding", TensorProto.FLOAT, ["n", dim]),
        ],
        [
            value("logits", TensorProto.FLOAT, ["n", n_tiers]),
            value("sufficiency", TensorProto.FLOAT, ["n", n_tiers]),
            value("calibration_shift", TensorProto.FLOAT, [n_tiers]),
            value("calibration_slope", TensorProto.FLOAT, [n_tiers]),
        ],
        graph.initialisers,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def parity(head: Head, calibration: Calibration, features: Features, run: Run) -> float:
    """Largest absolute difference of sufficiency between the graph behind ``run`` and ``head`` itself.

    ``features`` are rows of the basis that the graph was made for.
    """
    _, found = run(features.signals, features.embedding)
    return float(np.abs(found - sufficiency_of(head.logits(features), calibration)).max(initial=0.0))


def _logits(graph: _Graph, head: Head, basis: int) -> str:
    if isinstance(head, Average):
        members = [_logits(graph, member, basis) for member in head.members]
        return graph.node("Div", graph.node("Sum", *members), graph.constant(float(len(members))))
    if isinstance(head, PerBasis):
        return _logits(graph, head.outcomes if basis and head.outcomes else head.rubric, basis)
    assert isinstance(head, PerTier)
    inputs = _with_basis(graph, basis) if isinstance(head, Trees) else _scaled(graph, head)
    convert = {Linear: _linear, Network: _network, Trees: _trees}[type(head)]
    nothing = graph.node("Mul", _columns(graph, "signals", 0, 1), graph.constant(0.0))
    # By the rubric the top tier suffices whatever its logit: nothing is computed for it.
    needed = head.estimators if basis else [*head.estimators[:-1], None]
    columns = [nothing if one is None else convert(graph, inputs, one) for one in needed]
    return graph.node("Concat", *columns, axis=1)


def _with_basis(graph: _Graph, basis: int) -> str:
    zero = graph.node("Mul", _columns(graph, "signals", 0, 1), graph.constant(0.0))
    return graph.node("Concat", "signals", graph.node("Add", zero, graph.constant(float(basis))), axis=1)


def _scaled(graph: _Graph, head: PerTier) -> str:
    scaler = head.scaler
    logs = graph.node("Log", graph.node("Add", "signals", graph.constant(1.0)))
    standard = graph.node("Div", graph.node("Sub", logs, graph.constant(scaler.mean)), graph.constant(scaler.scale))
    clipped = graph.node("Clip", standard, graph.constant(-CLIP), graph.constant(CLIP))
    embedding = graph.node("Div", "embedding", graph.constant(scaler.embedding_scale))
    return graph.node("Concat", clipped, embedding, axis=1)


def _linear(graph: _Graph, inputs: str, estimator: Any) -> str:
    return graph.node("Gemm", inputs, graph.constant(estimator.coef_.T), graph.constant(estimator.intercept_))


def _network(graph: _Graph, inputs: str, estimator: Any) -> str:
    first, bias, second, last = estimator.layers()
    hidden = graph.node("Relu", graph.node("Gemm", inputs, graph.constant(first), graph.constant(bias)))
    return graph.node("Gemm", hidden, graph.constant(second), graph.constant(last))


def _trees(graph: _Graph, inputs: str, estimator: Any) -> str:
    with warnings.catch_warnings():
        # skl2onnx writes truth values into a field of integers; see the bound on protobuf in pyproject.toml.
        warnings.filterwarnings("ignore", "Field onnx.AttributeProto.ints", DeprecationWarning)
        converted = to_onnx(
            estimator,
            initial_types=[("inputs", FloatTensorType([None, estimator.n_features_in_]))],
            options={id(estimator): {"raw_scores": True, "zipmap": False}},
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        )
    scores = graph.splice(converted, inputs, output_index=1)
    return _columns(graph, scores, -1, 2**31)  # binary scores come as one column or as (-s, s): the last one is s


def _columns(graph: _Graph, matrix: str, start: int, stop: int) -> str:
    bounds = (graph.constant([value], np.int64) for value in (start, stop, 1))
    return graph.node("Slice", matrix, *bounds)
