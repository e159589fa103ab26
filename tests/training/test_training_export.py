"""A fitted head -> head.onnx: the graph says what the estimators say."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.special import expit
from threadpoolctl import threadpool_limits

from classifier.head import OnnxHead
from classifier.runtime import session
from training.calibrate import Calibration, sufficiency_of
from training.export import PARITY, _Graph, head_onnx, parity
from training.heads import CANDIDATES, Features, Head, Linear, Trees, make

Matrix = NDArray[np.float64]
Save = Callable[..., OnnxHead]
Fitted = Callable[[str], Head]

N_SIGNALS, DIM, N_TIERS = 7, 4, 3
CALIBRATION = Calibration(shift=(-0.5, 0.25, 40.0), slope=(0.75, 1.5, 0.0))
ASKED = [(candidate, basis) for candidate in CANDIDATES for basis in (0, 1) if basis or "linear" not in candidate]
PLAIN = Calibration(shift=(0.0, 0.0, 0.0), slope=(1.0, 1.0, 1.0))


def random_features(n: int, seed: int = 0, outcomes: float = 0.0) -> Features:
    """Counts, shares and flags, unit rows, and a share of ``outcomes`` rows."""
    random = np.random.default_rng(seed)
    signals = random.gamma(0.7, 20, (n, N_SIGNALS))
    signals[:, 1] = random.random(n)
    signals[:, 2] = random.integers(0, 3, n)
    embedding = random.normal(size=(n, DIM))
    return Features(
        signals.astype(np.float32),
        (embedding / np.linalg.norm(embedding, axis=1, keepdims=True)).astype(np.float32),
        (random.random(n) < outcomes).astype(np.float32),
    )


def soft_targets(features: Features) -> Matrix:
    """Rising over tiers; the top tier is unknown on a rubric, as in training."""
    score = np.log1p(features.signals[:, 0]) - 2 + features.embedding[:, 0] - 0.5 * features.basis
    targets = np.asarray(expit(score[:, None] + np.array([-1.0, 0.5, 2.0])))
    targets[features.basis == 0, 2] = np.nan
    return targets


def of_basis(features: Features, basis: int) -> Features:
    """The same rows, asked for one basis."""
    return Features(features.signals, features.embedding, np.full(len(features), basis, np.float32))


def extremes() -> Features:
    """What no training row looks like: nothing at all, huge counts, an embedding of zero or far too long."""
    signals = np.array([np.zeros(N_SIGNALS), np.full(N_SIGNALS, 1e9), np.eye(N_SIGNALS)[2] * 3e4, np.full(N_SIGNALS, 1e-30)])
    embedding = np.array([np.zeros(DIM), np.eye(DIM)[0], -np.eye(DIM)[1], np.full(DIM, 30.0)])
    return Features(signals.astype(np.float32), embedding.astype(np.float32), np.zeros(4, np.float32))


@pytest.fixture(name="one_thread", autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Trees on so few rows lose far more than they win by threads."""
    with threadpool_limits(1):
        yield


@pytest.fixture(name="train", scope="module")
def _train() -> Features:
    """Rows of both bases. Read-only."""
    return random_features(300, outcomes=0.4)


@pytest.fixture(name="fitted", scope="module")
def _fitted(train: Features) -> Fitted:
    """Heads that have learned the rows, each fitted once."""
    return cache(lambda candidate: make(candidate, 0).fit(train, soft_targets(train), np.ones(len(train))))


@pytest.fixture(name="save")
def _save(tmp_path: Path) -> Save:
    """Export a head for a basis and load it as serving does."""

    def save(head: Head, basis: int = 0, calibration: Calibration = CALIBRATION) -> OnnxHead:
        file = tmp_path / f"{basis}.onnx"
        onnx.save(exported(head, basis, calibration), str(file))
        return OnnxHead(file)

    return save


def exported(head: Head, basis: int = 0, calibration: Calibration = CALIBRATION) -> onnx.ModelProto:
    """The graph of a head on random features."""
    return head_onnx(head, calibration, basis=basis, n_signals=N_SIGNALS, dim=DIM)


# parity


@pytest.mark.parametrize(("candidate", "basis"), ASKED)
def test_every_candidate_is_exported_faithfully(save: Save, fitted: Fitted, train: Features, candidate: str, basis: int) -> None:
    """For either basis, on rows it learned from and rows it did not: logits and sufficiency."""
    head = fitted(candidate)
    graph = save(head, basis)
    learned = slice(None) if basis else slice(-1)  # by the rubric the top tier suffices whatever its logit
    for features in (train[train.basis == basis], of_basis(random_features(300, seed=1), basis)):
        logits, _ = graph.run(features.signals, features.embedding)
        np.testing.assert_allclose(logits[:, learned], head.logits(features)[:, learned], atol=2e-5, rtol=2e-5)
        assert parity(head, CALIBRATION, features, graph.run) <= PARITY


@pytest.mark.parametrize(("candidate", "basis"), ASKED)
def test_prompts_unlike_any_other_are_exported_faithfully(save: Save, fitted: Fitted, candidate: str, basis: int) -> None:
    """Empty, enormous, or without a token."""
    head = fitted(candidate)
    assert parity(head, CALIBRATION, of_basis(extremes(), basis), save(head, basis).run) <= PARITY


@pytest.mark.parametrize("candidate", ["linear", "linear+network+trees"])
def test_a_head_of_labelled_rows_alone_is_exported_faithfully(save: Save, candidate: str) -> None:
    """The default run has no outcomes."""
    rubric = random_features(300)
    head = make(candidate, 0).fit(rubric, soft_targets(rubric), np.ones(300))
    assert parity(head, CALIBRATION, rubric, save(head).run) <= PARITY


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_by_the_rubric_nothing_is_computed_for_the_top_tier(save: Save, fitted: Fitted, train: Features, candidate: str) -> None:
    """It suffices whatever its logit; among outcomes it is learned like the others."""
    rubric, _ = save(fitted(candidate), 0).run(train.signals, train.embedding)
    outcomes, _ = save(fitted(candidate), 1).run(train.signals, train.embedding)
    np.testing.assert_array_equal(rubric[:, 2], np.zeros(300))
    assert np.ptp(rubric[:, :2], axis=0).min() > 0
    assert np.ptp(outcomes, axis=0).min() > 0


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_tier_without_an_estimator_has_a_logit_of_zero(save: Save, candidate: str) -> None:
    """Where no row knew it, as in sources without a pool for it."""
    features = random_features(200, outcomes=0.5)
    targets = soft_targets(features)
    targets[:, 1:] = np.nan
    head = make(candidate, 0).fit(features, targets, np.ones(200))
    graph = save(head, 1)
    logits, _ = graph.run(features.signals, features.embedding)
    np.testing.assert_array_equal(logits[:, 1:], np.zeros((200, 2)))
    assert np.ptp(logits[:, 0]) > 0
    assert parity(head, CALIBRATION, of_basis(features, 1), graph.run) <= PARITY


@pytest.mark.parametrize("candidate", ["linear", "trees"])
def test_the_graph_is_the_same_every_time(fitted: Fitted, train: Features, candidate: str) -> None:
    """Byte for byte, so that equal bundles have equal digests."""
    again = make(candidate, 0).fit(train, soft_targets(train), np.ones(300))
    assert exported(fitted(candidate)).SerializeToString() == exported(again).SerializeToString()


def test_parity_notices_another_calibration(save: Save, fitted: Fitted, train: Features) -> None:
    """A graph that was made from other numbers must not ship."""
    other = Calibration((CALIBRATION.shift[0] + 0.01, *CALIBRATION.shift[1:]), CALIBRATION.slope)
    run = save(fitted("network"), 0, other).run
    assert parity(fitted("network"), CALIBRATION, train[train.basis == 0], run) > PARITY


@pytest.mark.parametrize("candidate", ["network", "trees"])
def test_parity_notices_the_other_basis(save: Save, fitted: Fitted, train: Features, candidate: str) -> None:
    """The two questions have two answers, and must not be mixed up."""
    for basis in (0, 1):
        assert parity(fitted(candidate), CALIBRATION, train[train.basis == basis], save(fitted(candidate), 1 - basis).run) > PARITY


def test_parity_is_the_largest_difference_of_a_sufficiency(fitted: Fitted, train: Features) -> None:
    """Of any row and tier: here a graph that is off by a thousandth once."""
    rows = train[train.basis == 0]
    exact = sufficiency_of(fitted("network").logits(rows), CALIBRATION).astype(np.float32)
    off = exact.copy()
    off[7, 1] += 0.001
    assert parity(fitted("network"), CALIBRATION, rows, lambda *_: (exact, exact)) <= PARITY
    assert parity(fitted("network"), CALIBRATION, rows, lambda *_: (exact, off)) == pytest.approx(0.001, abs=1e-6)


# calibration in the graph


def test_sufficiency_is_calibrated_in_the_graph(save: Save, fitted: Fitted, train: Features) -> None:
    """Any runtime gets calibrated output: sigmoid(slope * logit + shift), against numpy."""
    logits, sufficiency = save(fitted("linear")).run(train.signals, train.embedding)
    np.testing.assert_allclose(sufficiency, sufficiency_of(logits.astype(np.float64), CALIBRATION), atol=1e-6)


def test_sufficiency_never_falls_in_the_graph(save: Save, fitted: Fitted, train: Features) -> None:
    """The running maximum is part of it, also where a cheaper tier's calibrated logit is the higher."""
    turned = Calibration(shift=(2.0, 0.0, -2.0), slope=(1.0, 1.0, 1.0))
    logits, sufficiency = save(fitted("linear"), 0, turned).run(train.signals, train.embedding)
    assert np.any(np.diff(logits + np.array(turned.shift), axis=1) < 0)
    assert np.all(np.diff(sufficiency, axis=1) >= 0)


def test_a_certain_top_tier_is_exactly_one(save: Save, fitted: Fitted, train: Features) -> None:
    """A slope of 0 and a shift of 40 leave nothing to doubt."""
    _, sufficiency = save(fitted("network")).run(train.signals, train.embedding)
    np.testing.assert_array_equal(sufficiency[:, 2], np.ones(300))


def test_the_graph_shows_its_calibration(save: Save, fitted: Fitted) -> None:
    """As outputs, and as named initialisers that recalibration may replace."""
    graph = save(fitted("linear"))
    assert (graph.calibration_shift, graph.calibration_slope) == (CALIBRATION.shift, CALIBRATION.slope)
    stored = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in exported(fitted("linear")).graph.initializer}
    assert (stored["calibration_shift"], stored["calibration_slope"]) == (list(CALIBRATION.shift), list(CALIBRATION.slope))


def test_replacing_the_initialisers_recalibrates(fitted: Fitted, train: Features, tmp_path: Path) -> None:
    """Two vectors change, and the logits stay."""
    head = fitted("network+trees")
    model = exported(head, 0, PLAIN)
    for tensor in model.graph.initializer:
        if tensor.name in {"calibration_shift", "calibration_slope"}:
            values = getattr(CALIBRATION, tensor.name.removeprefix("calibration_"))
            tensor.CopyFrom(numpy_helper.from_array(np.array(values, dtype=np.float32), tensor.name))
    onnx.save(model, str(tmp_path / "head.onnx"))
    assert parity(head, CALIBRATION, train[train.basis == 0], OnnxHead(tmp_path / "head.onnx").run) <= PARITY


# the shape of the graph


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_names_in_the_graph_are_unique(fitted: Fitted, candidate: str) -> None:
    """However many estimators were spliced into it."""
    graph = exported(fitted(candidate)).graph
    names = [name for node in graph.node for name in node.output] + [tensor.name for tensor in graph.initializer]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("basis", [0, 1])
@pytest.mark.parametrize("candidate", CANDIDATES)
def test_the_graph_asks_for_what_serving_has(fitted: Fitted, candidate: str, basis: int) -> None:
    """Signals and embedding of any number of rows, whatever the candidate reads of them."""
    graph = exported(fitted(candidate), basis).graph
    shapes = {entry.name: [axis.dim_param or axis.dim_value for axis in entry.type.tensor_type.shape.dim] for entry in graph.input}
    assert shapes == {"signals": ["n", N_SIGNALS], "embedding": ["n", DIM]}
    assert [entry.name for entry in graph.output] == ["logits", "sufficiency", "calibration_shift", "calibration_slope"]


@pytest.mark.parametrize("candidate", ["network", "trees"])
def test_a_batch_runs_through_the_graph_at_once(fitted: Fitted, train: Features, candidate: str, tmp_path: Path) -> None:
    """Other runtimes need not go row by row as ours does."""
    onnx.save(exported(fitted(candidate)), str(tmp_path / "head.onnx"))
    rows = train[train.basis == 0]
    (logits,) = session(tmp_path / "head.onnx").run(("logits",), {"signals": rows.signals, "embedding": rows.embedding})
    np.testing.assert_allclose(logits[:, :-1], fitted(candidate).logits(rows)[:, :-1], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("n_tiers", [2, 5, 8])
def test_there_may_be_two_to_eight_tiers(save: Save, n_tiers: int) -> None:
    """The running maximum goes over all of them."""
    features = random_features(200)
    targets = np.asarray(expit(np.log1p(features.signals[:, :1]) - 2 + np.linspace(-1, 2, n_tiers)))
    head = Linear().fit(features, targets, np.ones(200))
    calibration = Calibration(tuple(np.linspace(1, -1, n_tiers).tolist()), (0.5,) * n_tiers)
    graph = save(head, 1, calibration)
    assert graph.run(features.signals, features.embedding)[0].shape == (200, n_tiers)
    assert parity(head, calibration, features, graph.run) <= PARITY


# trees


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 1_000), iterations=st.integers(1, 15), basis=st.sampled_from([0, 1]))
def test_trees_of_any_shape_are_exported_faithfully(
    seed: int, iterations: int, basis: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Few or many, on repeated and continuous values, on rows they did not see."""
    train = random_features(200, seed, outcomes=0.3)
    head = Trees(seed, iterations=iterations).fit(train, soft_targets(train), np.ones(200))
    file = tmp_path_factory.mktemp("trees") / "head.onnx"
    onnx.save(exported(head, basis), str(file))
    assert parity(head, CALIBRATION, of_basis(random_features(100, seed + 1), basis), OnnxHead(file).run) <= PARITY


@pytest.mark.parametrize("denominator", [1, 2, 8])
def test_a_value_at_a_threshold_falls_on_the_same_side(save: Save, denominator: int) -> None:
    """Thresholds lie halfway between values of the training rows: the halves themselves are asked."""
    features = random_features(300)
    features.signals[:, 0] = np.random.default_rng(0).integers(0, 12, 300) / denominator
    head = Trees(iterations=40).fit(features, soft_targets(features), np.ones(300))
    values = np.unique(features.signals[:, 0])
    asked = features[: 2 * len(values) - 1]
    asked.signals[:, 0] = np.concatenate([values, (values[1:] + values[:-1]) / 2])
    assert parity(head, PLAIN, asked, save(head, 0, PLAIN).run) <= PARITY


# splicing


def doubler(constant: float) -> onnx.ModelProto:
    """A model of two outputs, 2 x and 2 x + ``constant``, with the names that every such model has."""
    nodes = [helper.make_node("Mul", ["x", "two"], ["y"], name="n"), helper.make_node("Add", ["y", "c"], ["z"], name="m")]
    initialisers = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("two", 2), ("c", constant))]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in "xyz"]
    return helper.make_model(helper.make_graph(nodes, "doubler", value[:1], value[1:], initialisers))


def test_spliced_models_keep_apart(tmp_path: Path) -> None:
    """Two models with equal names, one fed with the other's output, each by the output that was asked for."""
    graph = _Graph()
    inner = graph.splice(doubler(5), "in", output_index=1)
    outer = graph.splice(doubler(100), inner, output_index=0)
    graph.node("Identity", outer, output="out")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in ("in", "out")]
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "spliced", ends[:1], ends[1:], graph.initialisers), opset_imports=opsets, ir_version=9
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(tmp_path / "spliced.onnx"))
    (found,) = session(tmp_path / "spliced.onnx").run(("out",), {"in": np.array([[1], [3]], np.float32)})
    np.testing.assert_array_equal(found, [[2 * (2 * 1 + 5)], [2 * (2 * 3 + 5)]])


def test_splicing_leaves_the_model_as_it_was() -> None:
    """It is copied, not taken apart."""
    model = doubler(5)
    before = model.SerializeToString()
    _Graph().splice(model, "in", output_index=0)
    assert model.SerializeToString() == before
