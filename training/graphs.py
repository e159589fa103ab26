"""ONNX graphs, node by node; and the calibrated end that every head's graph shares (see ``classifier.head.OnnxHead``)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.calibrate import Calibration

OPSET = 17
ML_OPSET = 3


class Graph:
    """Nodes and initialisers as they are added, with fresh names where none is given."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self._count = 0

    def constant(self, value: Any, dtype: Any = np.float32, name: str | None = None) -> str:
        """An initialiser; its name."""
        name = name or self._name("c")
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value)), name))
        return name

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """A node of one output; that output's name."""
        output = output or self._name(op.lower())
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def model(
        self, name: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], metadata: Mapping[str, str] | None = None
    ) -> onnx.ModelProto:
        """The graph as a checked model; ``inputs`` and ``outputs`` map float32 tensors to their shapes, ``ids`` being int64."""
        kinds = {"ids": TensorProto.INT64}
        tensors = [
            [helper.make_tensor_value_info(key, kinds.get(key, TensorProto.FLOAT), shape) for key, shape in entries.items()]
            for entries in (inputs, outputs)
        ]
        domains = {"": OPSET, "ai.onnx.ml": ML_OPSET, "com.microsoft": 1}
        used = {"", *(node.domain for node in self.nodes)}
        opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items() if domain in used]
        model = helper.make_model(
            helper.make_graph(self.nodes, name, tensors[0], tensors[1], self.initialisers), opset_imports=opsets, ir_version=9
        )
        if metadata:
            helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check="com.microsoft" not in used)  # whose shapes the checker cannot infer
        return model

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"


def head_model(graph: Graph, logits: str, calibration: Calibration, inputs: Mapping[str, int]) -> onnx.ModelProto:
    """``graph`` with calibration and running maximum over its (n, n_tiers) output ``logits``; ``inputs`` map names to widths."""
    n_tiers = len(calibration.shift)
    shift = graph.constant(calibration.shift, name="calibration_shift")
    slope = graph.constant(calibration.slope, name="calibration_slope")
    calibrated = graph.node("Sigmoid", graph.node("Add", graph.node("Mul", logits, slope), shift))
    # The running maximum: tier t's is the largest of the row from which what lies above t was taken down below all others.
    above = graph.constant(np.triu(np.full((n_tiers, n_tiers), -2), 1))
    rows = graph.node("Add", graph.node("Unsqueeze", calibrated, graph.constant([1], np.int64)), above)
    graph.node("ReduceMax", rows, output="sufficiency", axes=[2], keepdims=0)
    outputs = {"logits": ["n", n_tiers], "sufficiency": ["n", n_tiers], "calibration_shift": [n_tiers], "calibration_slope": [n_tiers]}
    return graph.model("sufficiency_head", {name: ["n", width] for name, width in inputs.items()}, outputs)


def with_calibration(model: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """A copy of a head's ``model`` that bears another calibration, and differs in nothing else."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    values = {"calibration_shift": calibration.shift, "calibration_slope": calibration.slope}
    for tensor in result.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(np.array(values[tensor.name], np.float32), tensor.name))
    return result
