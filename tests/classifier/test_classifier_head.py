"""Signals and embedding -> logits and calibrated sufficiency; and the kind of task."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from classifier import Router
from classifier.head import OnnxHead, TaskHead
from classifier.router import Accurate

Matrix = NDArray[np.float32]
SHIFT, SLOPE = (0.5, -0.25), (2.0, -1.0)


@pytest.fixture(name="head", scope="module", params=["fast", "accurate"])
def _head(router: Router, accurate: Accurate, request: pytest.FixtureRequest) -> OnnxHead:
    """Either head that ships."""
    return router.head if request.param == "fast" else accurate.head


@pytest.fixture(name="known", params=[("signals", "embedding"), ("fast_logits", "embedding")], ids="+".join)
def _known(tmp_path: Path, request: pytest.FixtureRequest) -> OnnxHead:
    """A head of two tiers over two inputs of one column each, which are its logits themselves."""
    one, other = request.param
    initialisers = [numpy_helper.from_array(np.array(SHIFT, np.float32), "calibration_shift")]
    initialisers.append(numpy_helper.from_array(np.array(SLOPE, np.float32), "calibration_slope"))
    nodes = [
        helper.make_node("Concat", [one, other], ["logits"], axis=1),
        helper.make_node("Mul", ["logits", "calibration_slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "calibration_shift"], ["shifted"]),
        helper.make_node("Sigmoid", ["shifted"], ["sigmoid"]),
        helper.make_node("Split", ["sigmoid"], ["small", "large"], axis=1),
        helper.make_node("Max", ["small", "large"], ["highest"]),
        helper.make_node("Concat", ["small", "highest"], ["sufficiency"], axis=1),
    ]
    shapes: dict[str, list[str | int]] = {one: ["n", 1], other: ["n", 1], "logits": ["n", 2], "sufficiency": ["n", 2]}
    value = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    stated = [helper.make_tensor_value_info(f"calibration_{name}", TensorProto.FLOAT, [2]) for name in ("shift", "slope")]
    outputs = [value["logits"], value["sufficiency"], *stated]
    graph = helper.make_graph(nodes, "known", [value[one], value[other]], outputs, initialisers)
    file = tmp_path / "head.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(file))
    return OnnxHead(file)


def inputs(head: OnnxHead, seed: int, rows: int) -> tuple[Matrix, ...]:
    """What the head may be given, in its order: signals as counts and shares have them, and vectors and logits around zero."""
    rng = np.random.default_rng(seed)
    return tuple(
        rng.exponential(rng.choice([0.1, 3, 4_000], (rows, width))).astype(np.float32)
        if name == "signals"
        else rng.standard_normal((rows, width)).astype(np.float32)
        for name, width in head.widths.items()
    )


def calibrated(head: OnnxHead, logits: Matrix) -> NDArray[np.float64]:
    """Sufficiency, recomputed in float64 from logits and the head's stated calibration."""
    steps = np.asarray(head.calibration_slope) * logits.astype(np.float64) + np.asarray(head.calibration_shift)
    sigmoid: NDArray[np.float64] = 1 / (1 + np.exp(-steps))
    return np.maximum.accumulate(sigmoid, axis=1)


def test_inputs_and_calibration_are_read_from_the_graph(known: OnnxHead, request: pytest.FixtureRequest) -> None:
    """The file says what it takes, by name and width and in which order, and how it is calibrated."""
    assert list(known.widths.items()) == [(name, 1) for name in request.node.callspec.params["known"]]
    assert (known.calibration_shift, known.calibration_slope) == (SHIFT, SLOPE)


def test_a_known_head_gives_the_numbers_worked_out_by_hand(known: OnnxHead) -> None:
    """The two outputs are the graph's logits and sufficiency, in this order, of inputs in the order of the widths."""
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
    every = inputs(head, seed, rows)
    batch = head.run(*every)
    alone = [head.run(*(values[row : row + 1] for values in every)) for row in range(rows)]
    assert batch[0].tobytes() == b"".join(logits.tobytes() for logits, _ in alone)
    assert batch[1].tobytes() == b"".join(sufficiency.tobytes() for _, sufficiency in alone)


def test_the_top_tier_suffices_by_definition(head: OnnxHead, router: Router) -> None:
    """On the rubric basis, sufficiency of the top tier is 1, exactly."""
    assert router.manifest.basis == "rubric"
    _, sufficiency = head.run(*inputs(head, seed=1, rows=50))
    assert (sufficiency[:, -1] == 1).all()


@pytest.mark.parametrize("scale", [0.0, 1e6, 1e30], ids=["zero", "a million", "beyond reason"])
def test_extreme_signals_give_probabilities(router: Router, scale: float) -> None:
    """No size of a prompt makes a NaN."""
    signals = np.full((1, router.head.widths["signals"]), scale, np.float32)
    _, sufficiency = router.head.run(signals, np.zeros((1, router.head.widths["embedding"]), np.float32))
    assert ((sufficiency >= 0) & (sufficiency <= 1)).all()


@pytest.mark.parametrize("value", [-1e6, 0.0, 1e6])
def test_extreme_logits_of_the_fast_path_give_probabilities(accurate: Accurate, value: float) -> None:
    """However sure the fast path is, the accurate head makes no NaN of it."""
    logits = np.full((1, accurate.head.widths["fast_logits"]), value, np.float32)
    _, sufficiency = accurate.head.run(logits, np.zeros((1, accurate.encoder.dim), np.float32))
    assert ((sufficiency >= 0) & (sufficiency <= 1)).all()


def test_the_accurate_head_reads_the_fast_logits_and_the_transformers_vector(accurate: Accurate, router: Router) -> None:
    """One logit a tier, and a vector of the transformer's dimension."""
    assert accurate.head.widths == {"fast_logits": len(router.manifest.tiers), "embedding": accurate.encoder.dim}


def test_either_input_moves_the_accurate_head(accurate: Accurate) -> None:
    """It weighs what the fast path said together with what the transformer read."""
    logits, vectors = inputs(accurate.head, seed=1, rows=2)
    base, _ = accurate.head.run(logits[:1], vectors[:1])
    assert (accurate.head.run(logits[1:], vectors[:1])[0] != base).any()
    assert (accurate.head.run(logits[:1], vectors[1:])[0] != base).any()


@pytest.mark.parametrize("count", [1, 3])
def test_a_head_takes_as_many_inputs_as_it_names(head: OnnxHead, count: int) -> None:
    """One input too few or too many is an error, and no score."""
    one, other = inputs(head, seed=1, rows=1)
    with pytest.raises(ValueError, match="zip"):
        head.run(*(one, other, other)[:count])


# tasks


@pytest.fixture(name="sorter")
def _sorter(tmp_path: Path) -> TaskHead:
    """A task head over two signals and one dimension, whose logits are its inputs themselves."""
    nodes = [
        helper.make_node("Concat", ["signals", "embedding"], ["logits"], axis=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    shapes = {"signals": 2, "embedding": 1, "probabilities": 3}
    value = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name, width in shapes.items()}
    graph = helper.make_graph(nodes, "sorter", [value["signals"], value["embedding"]], [value["probabilities"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"tasks": json.dumps(["plan", "übersetzen", "code"])})
    file = tmp_path / "task.onnx"
    onnx.save(model, str(file))
    return TaskHead(file)


@pytest.fixture(name="tasks", scope="module")
def _tasks(router: Router) -> TaskHead:
    """The task head that ships."""
    assert router.task is not None
    return router.task


def test_names_of_tasks_are_read_from_the_graph(sorter: TaskHead) -> None:
    """They stand in its metadata, in the order of its outputs and in any language."""
    assert sorter.names == ("plan", "übersetzen", "code")


def test_the_likeliest_task_is_named_with_its_probability(sorter: TaskHead) -> None:
    """Each row by itself: softmax of (0, 2, 1) is (0.09, 0.67, 0.24), and of (3, 0, 0) it is (0.91, 0.05, 0.05)."""
    found = sorter.run(np.array([[0, 2], [3, 0], [0, 0]], np.float32), np.array([[1], [0], [5]], np.float32))
    assert [name for name, _ in found] == ["übersetzen", "plan", "code"]
    assert [probability for _, probability in found] == pytest.approx([0.665241, 0.909443, 0.986703], abs=1e-6)


def test_no_rows_have_no_tasks(sorter: TaskHead) -> None:
    """An empty batch is a batch."""
    assert sorter.run(np.zeros((0, 2), np.float32), np.zeros((0, 1), np.float32)) == []


def test_what_ships_tells_different_tasks_apart(tasks: TaskHead) -> None:
    """At least two, each named once."""
    assert len(set(tasks.names)) == len(tasks.names) >= 2
    assert all(tasks.names)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 9))
def test_a_task_never_depends_on_its_neighbours(router: Router, tasks: TaskHead, seed: int, rows: int) -> None:
    """Name and probability are the same alone, in a batch, and in the batch turned round."""
    signals, embedding = inputs(router.head, seed, rows)
    batch = tasks.run(signals, embedding)
    alone = [tasks.run(signals[row : row + 1], embedding[row : row + 1])[0] for row in range(rows)]
    assert batch == alone
    assert tasks.run(signals[::-1], embedding[::-1]) == alone[::-1]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_likeliest_task_is_at_least_as_likely_as_chance(router: Router, tasks: TaskHead, seed: int) -> None:
    """The largest of n probabilities is 1/n or more, and one of the names there are."""
    ((name, probability),) = tasks.run(*inputs(router.head, seed, 1))
    assert name in tasks.names
    assert 1 / len(tasks.names) - 1e-6 <= probability <= 1 + 1e-6


@pytest.mark.parametrize("names", [["plan", "code"], "abc", ["plan", 2, "code"], {"plan": 1}], ids=str)
def test_a_task_head_whose_names_do_not_fit_its_outputs_does_not_load(sorter: TaskHead, tmp_path: Path, names: Any) -> None:
    """It would answer with a wrong name, or with none."""
    model = onnx.load(str(tmp_path / "task.onnx"))
    helper.set_model_props(model, {"tasks": json.dumps(names)})
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(ValueError, match="expected a list of 3 names"):
        TaskHead(tmp_path / "other.onnx")
