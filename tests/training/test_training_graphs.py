"""Graphs node by node, and the calibrated end of every head."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from classifier.head import OnnxHead
from classifier.runtime import session
from training.calibrate import Calibration, sufficiency_of
from training.graphs import ML_OPSET, OPSET, Graph, head_model

Floats = NDArray[np.float32]
Run = Callable[[onnx.ModelProto, Mapping[str, Any]], list[Any]]

# constants and nodes


@pytest.fixture(name="run")
def _run(tmp_path: Path) -> Run:
    """Every output of a graph, run as serving runs it."""

    def run(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[Any]:
        onnx.save(model, str(tmp_path / "graph.onnx"))
        return list(session(tmp_path / "graph.onnx").run(None, dict(feeds)))

    return run


@pytest.mark.parametrize(
    ("value", "shape"),
    [(1.5, ()), ([1, 2, 3], (3,)), (np.arange(6).reshape(2, 3).T, (3, 2)), (np.float64(2), ()), (np.zeros((0, 4)), (0, 4))],
)
def test_a_constant_holds_its_value_in_float32(value: Any, shape: tuple[int, ...]) -> None:
    """In its own shape, a number without one, whatever it was and however it lay in memory."""
    graph = Graph()
    name = graph.constant(value)
    (stored,) = graph.initialisers
    found = numpy_helper.to_array(stored)
    assert (stored.name, found.dtype.name, found.shape) == (name, "float32", shape)
    np.testing.assert_array_equal(found, value)


def test_a_constant_may_be_of_another_type_and_name() -> None:
    """Axes are int64, tables int8."""
    graph = Graph()
    assert graph.constant([1], np.int64, name="axes") == "axes"
    assert numpy_helper.to_array(graph.initialisers[0]).dtype == np.int64


def test_names_are_given_once() -> None:
    """To constants and nodes alike."""
    graph = Graph()
    names = [graph.constant(0.0) for _ in range(3)] + [graph.node(op, "x") for op in ("Relu", "Relu", "C", "Log")]
    assert len(set(names)) == len(names)


def test_a_node_has_its_inputs_attributes_and_output() -> None:
    """It is named by its output, which the caller may choose."""
    graph = Graph()
    assert graph.node("Concat", "a", "b", output="joined", axis=1) == "joined"
    (node,) = graph.nodes
    assert (node.op_type, list(node.input), list(node.output), node.name) == ("Concat", ["a", "b"], ["joined"], "joined")
    assert {attribute.name: attribute.i for attribute in node.attribute} == {"axis": 1}


# the model


def doubled(metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """Rows of three -> the same, doubled, as ``twice``."""
    graph = Graph()
    graph.node("Mul", "x", graph.constant(2.0), output="twice")
    return graph.model("doubled", {"x": ["n", 3]}, {"twice": ["n", 3]}, metadata)


def test_a_model_computes_what_its_nodes_say(run: Run) -> None:
    """In onnxruntime, as it serves."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (found,) = run(doubled(), {"x": x})
    np.testing.assert_array_equal(found, 2 * x)


def test_tensors_are_float32_but_for_token_ids() -> None:
    """Under the names and shapes that were given; a name for a width that varies."""
    graph = Graph()
    graph.node("Cast", "ids", output="y", to=TensorProto.FLOAT)
    model = graph.model("cast", {"ids": ["n"]}, {"y": ["n"]})
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert kinds == {"ids": TensorProto.INT64, "y": TensorProto.FLOAT}
    assert [dim.dim_param or dim.dim_value for dim in doubled().graph.input[0].type.tensor_type.shape.dim] == ["n", 3]


def test_metadata_travels_in_the_model() -> None:
    """Where there is any."""
    assert {entry.key: entry.value for entry in doubled({"teacher": "none", "dim": "3"}).metadata_props} == {"teacher": "none", "dim": "3"}
    assert not doubled().metadata_props


def test_only_operator_sets_that_are_used_are_asked_for(run: Run) -> None:
    """A reader that does not know fused nodes or trees reads all graphs without them."""
    graph = Graph()
    wide = graph.node("BiasGelu", "x", graph.constant([0.0] * 3), domain="com.microsoft", output="y")
    fused = graph.model("fused", {"x": ["n", 3]}, {wide: ["n", 3]})
    assert {entry.domain: entry.version for entry in doubled().opset_import} == {"": OPSET}
    assert {entry.domain: entry.version for entry in fused.opset_import} == {"": OPSET, "com.microsoft": 1}
    (found,) = run(fused, {"x": np.array([[0, 1, -1]], np.float32)})
    np.testing.assert_allclose(found, [[0, 0.8413447, -0.1586553]], atol=1e-6)
    trees = Graph()
    trees.node("Normalizer", "x", output="y", domain="ai.onnx.ml", norm="L2")
    model = trees.model("trees", {"x": ["n", 3]}, {"y": ["n", 3]})
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": OPSET, "ai.onnx.ml": ML_OPSET}


def test_a_graph_that_does_not_hang_together_is_refused() -> None:
    """Before it is written: an input that nothing gives, and a shape that is not the one stated."""
    graph = Graph()
    graph.node("Add", "x", "missing", output="y")
    with pytest.raises(onnx.checker.ValidationError, match="missing"):
        graph.model("broken", {"x": ["n", 3]}, {"y": ["n", 3]})
    graph = Graph()
    graph.node("Relu", "x", output="y")
    with pytest.raises(onnx.shape_inference.InferenceError):
        graph.model("broken", {"x": ["n", 3]}, {"y": ["n", 4]})


# the calibrated end


def calibrated(folder: Path, calibration: Calibration) -> OnnxHead:
    """A head whose logits are its input."""
    n_tiers = len(calibration.shift)
    graph = Graph()
    onnx.save(head_model(graph, graph.node("Identity", "x", output="logits"), calibration, {"x": n_tiers}), str(folder / "head.onnx"))
    return OnnxHead(folder / "head.onnx")


NUMBERS = st.floats(-20, 20, width=32)
CALIBRATIONS = st.integers(2, 8).flatmap(
    lambda n: st.builds(Calibration, st.tuples(*[NUMBERS] * n), st.tuples(*[st.floats(0, 8, width=32)] * n))
)


@settings(deadline=None, max_examples=50)
@given(calibration=CALIBRATIONS, data=st.data())
def test_sufficiency_is_calibrated_and_never_falls(
    calibration: Calibration, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The running maximum of the calibrated logits, as ``sufficiency_of`` says, for two tiers or eight; logits stay what they are."""
    n_tiers = len(calibration.shift)
    given_logits = data.draw(arrays(np.float32, (3, n_tiers), elements=NUMBERS))
    head = calibrated(tmp_path_factory.mktemp("head"), calibration)
    logits, sufficiency = head.run(given_logits)
    np.testing.assert_array_equal(logits, given_logits)
    np.testing.assert_allclose(sufficiency, sufficiency_of(given_logits.astype(np.float64), calibration), atol=1e-6)
    assert np.all(np.diff(sufficiency, axis=1) >= 0)


@settings(deadline=None, max_examples=25)
@given(calibration=CALIBRATIONS)
def test_the_calibration_can_be_read_from_the_graph(calibration: Calibration, tmp_path_factory: pytest.TempPathFactory) -> None:
    """To the last bit: what a bundle states is compared with it."""
    head = calibrated(tmp_path_factory.mktemp("head"), calibration)
    assert (head.calibration_shift, head.calibration_slope) == (calibration.shift, calibration.slope)


def test_a_head_reads_what_it_is_given_by_name(tmp_path: Path) -> None:
    """In the order of the names, each of its width."""
    graph = Graph()
    logits = graph.node("Concat", "left", "right", output="logits", axis=1)
    plain = Calibration((0.0,) * 3, (1.0,) * 3)
    onnx.save(head_model(graph, logits, plain, {"left": 1, "right": 2}), str(tmp_path / "head.onnx"))
    head = OnnxHead(tmp_path / "head.onnx")
    assert list(head.widths.items()) == [("left", 1), ("right", 2)]
    found, _ = head.run(np.array([[1]], np.float32), np.array([[2, 3]], np.float32))
    np.testing.assert_array_equal(found, [[1, 2, 3]])
