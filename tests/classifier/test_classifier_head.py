"""Signals and embedding -> logits and calibrated sufficiency."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from classifier import Router
from classifier.head import OnnxHead

Matrix = NDArray[np.float32]
SHIFT, SLOPE = (0.5, -0.25), (2.0, -1.0)


@pytest.fixture(name="head", scope="module")
def _head(router: Router) -> OnnxHead:
    """The head that ships."""
    return router.head


@pytest.fixture(name="known")
def _known(tmp_path: Path) -> OnnxHead:
    """A head of two tiers over one signal and one dimension: its logits are the two inputs themselves."""
    initialisers = [numpy_helper.from_array(np.array(SHIFT, np.float32), "calibration_shift")]
    initialisers.append(numpy_helper.from_array(np.array(SLOPE, np.float32), "calibration_slope"))
    nodes = [
        helper.make_node("Concat", ["signals", "embedding"], ["logits"], axis=1),
        helper.make_node("Mul", ["logits", "calibration_slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "calibration_shift"], ["shifted"]),
        helper.make_node("Sigmoid", ["shifted"], ["sigmoid"]),
        helper.make_node("Split", ["sigmoid"], ["small", "large"], axis=1),
        helper.make_node("Max", ["small", "large"], ["highest"]),
        helper.make_node("Concat", ["small", "highest"], ["sufficiency"], axis=1),
    ]
    shapes: dict[str, list[str | int]] = {"signals": ["n", 1], "embedding": ["n", 1], "logits": ["n", 2], "sufficiency": ["n", 2]}
    value = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    stated = [helper.make_tensor_value_info(f"calibration_{name}", TensorProto.FLOAT, [2]) for name in ("shift", "slope")]
    outputs = [value["logits"], value["sufficiency"], *stated]
    graph = helper.make_graph(nodes, "known", [value["signals"], value["embedding"]], outputs, initialisers)
    file = tmp_path / "head.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(file))
    return OnnxHead(file)


def inputs(head: OnnxHead, seed: int, rows: int) -> tuple[Matrix, Matrix]:
    """Signals as counts and shares have them, and unit rows."""
    rng = np.random.default_rng(seed)
    signals = rng.exponential(rng.choice([0.1, 3, 4_000], (rows, head.n_signals))).astype(np.float32)
    embedding = rng.standard_normal((rows, head.dim)).astype(np.float32)
    return signals, embedding / np.linalg.norm(embedding, axis=1, keepdims=True)


def calibrated(head: OnnxHead, logits: Matrix) -> NDArray[np.float64]:
    """Sufficiency, recomputed in float64 from logits and the head's stated calibration."""
    steps = np.asarray(head.calibration_slope) * logits.astype(np.float64) + np.asarray(head.calibration_shift)
    sigmoid: NDArray[np.float64] = 1 / (1 + np.exp(-steps))
    return np.maximum.accumulate(sigmoid, axis=1)


def test_shapes_and_calibration_are_read_from_the_graph(known: OnnxHead) -> None:
    """The file says how many signals and dimensions it takes, and how it is calibrated."""
    assert (known.n_signals, known.dim) == (1, 1)
    assert (known.calibration_shift, known.calibration_slope) == (SHIFT, SLOPE)


def test_a_known_head_gives_the_numbers_worked_out_by_hand(known: OnnxHead) -> None:
    """The two outputs are the graph's logits and sufficiency, in this order."""
    logits, sufficiency = known.run(np.array([[1.0], [0.0]], np.float32), np.array([[3.0], [-3.0]], np.float32))
    np.testing.assert_array_equal(logits, [[1, 3], [0, -3]])
    np.testing.assert_allclose(sufficiency, [[0.924142, 0.924142], [0.622459, 0.939913]], rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 6))
def test_sufficiency_never_falls_from_a_cheaper_tier_to_a_dearer_one(head: OnnxHead, seed: int, rows: int) -> None:
    """A dearer tier suffices wherever a cheaper one does; every number is a probability."""
    _, sufficiency = head.run(*inputs(head, seed, rows))
    assert sufficiency.shape == (rows, len(head.calibration_shift))
    assert (np.diff(sufficiency, axis=1) >= 0).all()
    assert ((sufficiency >= 0) & (sufficiency <= 1)).all()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 6))
def test_sufficiency_is_the_running_maximum_of_the_calibrated_logits(head: OnnxHead, seed: int, rows: int) -> None:
    """Anybody can recompute sufficiency from logits, slope and shift: running maximum of sigmoid(slope * logit + shift)."""
    logits, sufficiency = head.run(*inputs(head, seed, rows))
    np.testing.assert_allclose(sufficiency, calibrated(head, logits), atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 9))
def test_a_batch_equals_its_rows_one_by_one(head: OnnxHead, seed: int, rows: int) -> None:
    """Bit for bit: a matrix product over another number of rows might round differently."""
    signals, embedding = inputs(head, seed, rows)
    batch = head.run(signals, embedding)
    alone = [head.run(signals[row : row + 1], embedding[row : row + 1]) for row in range(rows)]
    assert batch[0].tobytes() == b"".join(logits.tobytes() for logits, _ in alone)
    assert batch[1].tobytes() == b"".join(sufficiency.tobytes() for _, sufficiency in alone)


def test_the_top_tier_suffices_by_definition(head: OnnxHead, router: Router) -> None:
    """On the rubric basis, sufficiency of the top tier is 1, exactly."""
    assert router.manifest.basis == "rubric"
    _, sufficiency = head.run(*inputs(head, seed=1, rows=50))
    assert (sufficiency[:, -1] == 1).all()


@pytest.mark.parametrize("scale", [0.0, 1e6, 1e30], ids=["zero", "a million", "beyond reason"])
def test_extreme_signals_give_probabilities(head: OnnxHead, scale: float) -> None:
    """No size of a prompt makes a NaN."""
    signals = np.full((1, head.n_signals), scale, np.float32)
    _, sufficiency = head.run(signals, np.zeros((1, head.dim), np.float32))
    assert ((sufficiency >= 0) & (sufficiency <= 1)).all()
