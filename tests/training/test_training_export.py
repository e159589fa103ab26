"""A fitted head -> head.onnx: the graph says what the estimators say."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.sparse import csr_matrix
from scipy.special import expit
from threadpoolctl import threadpool_limits

from classifier.head import OnnxHead
from classifier.runtime import session
from training.calibrate import Calibration, sufficiency_of
from training.export import PARITY, _rounded_down, head_onnx, parity
from training.features import Features, embed
from training.heads import CANDIDATES, Head, PerBasis, PerTier, Trees, make, tuned_vectors
from training.network import Network

Matrix = NDArray[np.float64]
Floats = NDArray[np.float32]
Save = Callable[..., OnnxHead]
Fitted = Callable[[str], Head]

N_SIGNALS, VOCABULARY, DIM, N_TIERS = 7, 30, 4, 3
CALIBRATION = Calibration(shift=(-0.5, 0.25, 40.0), slope=(0.75, 1.5, 0.0))
ASKED = [(candidate, basis) for candidate in CANDIDATES for basis in (0, 1)]
PER_TIER = [candidate for candidate in CANDIDATES if "network" not in candidate]
PLAIN = Calibration(shift=(0.0, 0.0, 0.0), slope=(1.0, 1.0, 1.0))


def random_features(n: int, seed: int = 0, outcomes: float = 0.0) -> Features:
    """Counts, shares and flags, asks of some six tokens, and a share of ``outcomes`` rows."""
    random = np.random.default_rng(seed)
    signals = random.gamma(0.7, 20, (n, N_SIGNALS))
    signals[:, 1] = random.random(n)
    signals[:, 2] = random.integers(0, 3, n)
    return Features(
        signals.astype(np.float32),
        csr_matrix(random.poisson(0.2, (n, VOCABULARY)).astype(np.float32)),
        (random.random(n) < outcomes).astype(np.float32),
        np.random.default_rng(0).normal(size=(VOCABULARY, DIM)).astype(np.float32),
    )


def soft_targets(features: Features) -> Matrix:
    """Rising over tiers; the top tier is unknown on a rubric, as in training."""
    score = np.log1p(features.signals[:, 0]) - 2 + features.embedding[:, 0] - 0.5 * features.basis
    targets = np.asarray(expit(score[:, None] + np.array([-1.0, 0.5, 2.0])))
    targets[features.basis == 0, 2] = np.nan
    return targets


def of_basis(features: Features, basis: int) -> Features:
    """The same rows, asked for one basis."""
    return replace(features, basis=np.full(len(features), basis, np.float32))


def extremes() -> Features:
    """What no training row looks like: nothing at all, huge counts, one word a million times, every word at once."""
    signals = np.array([np.zeros(N_SIGNALS), np.full(N_SIGNALS, 1e9), np.eye(N_SIGNALS)[2] * 3e4, np.full(N_SIGNALS, 1e-30)])
    tokens = np.array([np.zeros(VOCABULARY), np.eye(VOCABULARY)[3], np.eye(VOCABULARY)[7] * 1e6, np.ones(VOCABULARY)])
    return replace(random_features(4), signals=signals.astype(np.float32), tokens=csr_matrix(tokens.astype(np.float32)))


def served(head: Head, features: Features) -> tuple[Floats, Floats]:
    """Signals and embeddings as the bundle of ``head`` would compute them: by its own table, where it has one."""
    vectors = tuned_vectors(head)
    return features.signals, embed(features.tokens, features.vectors if vectors is None else vectors)


def difference(head: Head, graph: OnnxHead, features: Features, basis: int, calibration: Calibration = CALIBRATION) -> float:
    """Parity of a head and its graph on ``features``, all of them asked for one basis."""
    asked = of_basis(features, basis)
    return parity(head, calibration, asked, served(head, asked), basis, graph.run)


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
        logits, _ = graph.run(*served(head, features))
        np.testing.assert_allclose(logits[:, learned], head.logits(features)[:, learned], atol=2e-5, rtol=2e-5)
        assert difference(head, graph, features, basis) <= PARITY


@pytest.mark.parametrize(("candidate", "basis"), ASKED)
def test_prompts_unlike_any_other_are_exported_faithfully(save: Save, fitted: Fitted, candidate: str, basis: int) -> None:
    """Empty, enormous, or without a token."""
    head = fitted(candidate)
    assert difference(head, save(head, basis), extremes(), basis) <= PARITY


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_head_of_labelled_rows_alone_is_exported_faithfully(save: Save, candidate: str) -> None:
    """The default run has no outcomes."""
    rubric = random_features(300)
    head = make(candidate, 0).fit(rubric, soft_targets(rubric), np.ones(300))
    assert difference(head, save(head), rubric, 0) <= PARITY


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_by_the_rubric_nothing_is_computed_for_the_top_tier(save: Save, fitted: Fitted, train: Features, candidate: str) -> None:
    """It suffices whatever its logit; among outcomes it is learned like the others."""
    rubric, outcomes = (save(fitted(candidate), basis).run(*served(fitted(candidate), train))[0] for basis in (0, 1))
    np.testing.assert_array_equal(rubric[:, 2], np.zeros(300))
    assert np.ptp(rubric[:, :2], axis=0).min() > 0
    assert np.ptp(outcomes, axis=0).min() > 0


@pytest.mark.parametrize("candidate", PER_TIER)
def test_a_tier_without_an_estimator_has_a_logit_of_zero(save: Save, candidate: str) -> None:
    """Where no row knew it, as in sources without a pool for it."""
    features = random_features(200, outcomes=0.5)
    targets = soft_targets(features)
    targets[:, 1:] = np.nan
    head = make(candidate, 0).fit(features, targets, np.ones(200))
    graph = save(head, 1)
    logits, _ = graph.run(*served(head, features))
    np.testing.assert_array_equal(logits[:, 1:], np.zeros((200, 2)))
    assert np.ptp(logits[:, 0]) > 0
    assert difference(head, graph, features, 1) <= PARITY


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_the_graph_is_the_same_every_time(fitted: Fitted, train: Features, candidate: str) -> None:
    """Byte for byte, so that equal bundles have equal digests."""
    again = make(candidate, 0).fit(train, soft_targets(train), np.ones(300))
    assert exported(fitted(candidate)).SerializeToString() == exported(again).SerializeToString()


def test_parity_notices_another_calibration(save: Save, fitted: Fitted, train: Features) -> None:
    """A graph that was made from other numbers must not ship."""
    other = Calibration((CALIBRATION.shift[0] + 0.01, *CALIBRATION.shift[1:]), CALIBRATION.slope)
    assert difference(fitted("network"), save(fitted("network"), 0, other), train, 0) > PARITY


@pytest.mark.parametrize("candidate", ["network", "trees"])
def test_parity_notices_the_other_basis(save: Save, fitted: Fitted, train: Features, candidate: str) -> None:
    """The two questions have two answers, and must not be mixed up."""
    for basis in (0, 1):
        assert difference(fitted(candidate), save(fitted(candidate), 1 - basis), train, basis) > PARITY


def test_parity_notices_an_encoder_that_was_not_tuned(save: Save, fitted: Fitted, train: Features) -> None:
    """A graph that learned by its own vectors must not be fed by the old ones."""
    head = fitted("network")
    assert parity(head, CALIBRATION, train, (train.signals, train.embedding), 0, save(head).run) > PARITY


def test_parity_is_of_the_rows_of_its_basis(save: Save, fitted: Fitted, train: Features) -> None:
    """The others are another graph's: whatever is served for them is not looked at."""
    head = fitted("network+trees")
    signals, embedding = served(head, train)
    for basis in (0, 1):
        other = (train.basis != basis)[:, None]
        spoiled = np.where(other, np.float32(np.nan), signals), np.where(other, np.float32(np.nan), embedding)
        assert parity(head, CALIBRATION, train, spoiled, basis, save(head, basis).run) <= PARITY


def test_parity_is_the_largest_difference_of_a_sufficiency(fitted: Fitted, train: Features) -> None:
    """Of any row and tier: here a graph that is off by a thousandth once."""
    rows = train[train.basis == 0]
    exact = sufficiency_of(fitted("network").logits(rows), CALIBRATION).astype(np.float32)
    off = exact.copy()
    off[7, 1] += 0.001
    fed = served(fitted("network"), rows)
    assert parity(fitted("network"), CALIBRATION, rows, fed, 0, lambda *_: (exact, exact)) <= PARITY
    assert parity(fitted("network"), CALIBRATION, rows, fed, 0, lambda *_: (exact, off)) == pytest.approx(0.001, abs=1e-6)


# calibration in the graph


def test_sufficiency_is_calibrated_in_the_graph(save: Save, fitted: Fitted, train: Features) -> None:
    """Any runtime gets calibrated output: sigmoid(slope * logit + shift), against numpy."""
    logits, sufficiency = save(fitted("linear")).run(*served(fitted("linear"), train))
    np.testing.assert_allclose(sufficiency, sufficiency_of(logits.astype(np.float64), CALIBRATION), atol=1e-6)


def test_sufficiency_never_falls_in_the_graph(save: Save, fitted: Fitted, train: Features) -> None:
    """The running maximum is part of it, also where a cheaper tier's calibrated logit is the higher."""
    turned = Calibration(shift=(2.0, 0.0, -2.0), slope=(1.0, 1.0, 1.0))
    logits, sufficiency = save(fitted("linear"), 0, turned).run(*served(fitted("linear"), train))
    assert np.any(np.diff(logits + np.array(turned.shift), axis=1) < 0)
    assert np.all(np.diff(sufficiency, axis=1) >= 0)


@settings(deadline=None, max_examples=25)
@given(shift=st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=8), seed=st.integers(0, 100))
def test_the_running_maximum_is_exact(shift: list[float], seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of two to eight tiers in any order: each is as sufficient as the most sufficient of itself and those below, bit for bit."""
    features = of_basis(random_features(20, seed), 1)
    head = Network(seed, hidden=3, epochs=1).fit(features, np.full((20, len(shift)), 0.5), np.ones(20))
    model = exported(head, 1, Calibration(tuple(shift), (1.0,) * len(shift)))
    (inside,) = [node.output[0] for node in model.graph.node if node.op_type == "Sigmoid"]
    model.graph.output.append(helper.make_tensor_value_info(inside, TensorProto.FLOAT, ["n", len(shift)]))
    file = tmp_path_factory.mktemp("maximum") / "head.onnx"
    onnx.save(model, str(file))
    signals, embedding = served(head, features)
    calibrated, sufficiency = session(file).run((inside, "sufficiency"), {"signals": signals, "embedding": embedding})
    np.testing.assert_array_equal(sufficiency, np.maximum.accumulate(calibrated, axis=1))


def test_a_certain_top_tier_is_exactly_one(save: Save, fitted: Fitted, train: Features) -> None:
    """A slope of 0 and a shift of 40 leave nothing to doubt."""
    _, sufficiency = save(fitted("network")).run(*served(fitted("network"), train))
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
    assert difference(head, OnnxHead(tmp_path / "head.onnx"), train, 0) <= PARITY


# the shape of the graph


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_names_in_the_graph_are_unique(fitted: Fitted, candidate: str) -> None:
    """However many members are written into it."""
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


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_batch_runs_through_the_graph_at_once(fitted: Fitted, train: Features, candidate: str, tmp_path: Path) -> None:
    """Other runtimes need not go row by row as ours does."""
    onnx.save(exported(fitted(candidate)), str(tmp_path / "head.onnx"))
    rows = train[train.basis == 0]
    signals, embedding = served(fitted(candidate), rows)
    (logits,) = session(tmp_path / "head.onnx").run(("logits",), {"signals": signals, "embedding": embedding})
    np.testing.assert_allclose(logits[:, :-1], fitted(candidate).logits(rows)[:, :-1], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("n_tiers", [2, 5, 8])
@pytest.mark.parametrize("candidate", CANDIDATES)
def test_there_may_be_two_to_eight_tiers(save: Save, candidate: str, n_tiers: int) -> None:
    """By either basis, whatever the head."""
    features = random_features(120, outcomes=0.5)
    targets = np.asarray(expit(np.log1p(features.signals[:, :1]) - 2 + np.linspace(-1, 2, n_tiers)))
    head = make(candidate, 0).fit(features, targets, np.ones(120))
    calibration = Calibration((*np.linspace(1, -1, n_tiers - 1).tolist(), 40.0), (*[0.5] * (n_tiers - 1), 0.0))
    for basis in (0, 1):
        graph = save(head, basis, calibration)
        assert graph.run(*served(head, features))[0].shape == (120, n_tiers)
        assert difference(head, graph, features, basis, calibration) <= PARITY


@pytest.mark.parametrize("candidate", ["trees", "network+trees"])
def test_all_trees_stand_in_one_node(fitted: Fitted, candidate: str) -> None:
    """A node costs a microsecond, whatever it computes."""
    for basis in (0, 1):
        kinds = [node.op_type for node in exported(fitted(candidate), basis).graph.node]
        assert kinds.count("TreeEnsembleRegressor") == 1


# trees


def trees(iterations: int, seed: int = 0) -> PerBasis:
    """Unfitted trees, as many for either basis."""
    few = partial(Trees, seed, iterations=iterations)
    return PerBasis(few, few)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 1_000), iterations=st.integers(1, 15), basis=st.sampled_from([0, 1]))
def test_trees_of_any_shape_are_exported_faithfully(
    seed: int, iterations: int, basis: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Few or many, on repeated and continuous values, on rows they did not see."""
    train = random_features(200, seed, outcomes=0.3)
    head = trees(iterations, seed).fit(train, soft_targets(train), np.ones(200))
    file = tmp_path_factory.mktemp("trees") / "head.onnx"
    onnx.save(exported(head, basis), str(file))
    assert difference(head, OnnxHead(file), random_features(100, seed + 1), basis) <= PARITY


def thresholds(head: PerTier | None) -> Matrix:
    """Every threshold of the trees of a basis, as scikit-learn has it."""
    assert isinstance(head, Trees)
    nodes = np.concatenate([predictor.nodes for one in head.estimators if one for (predictor,) in one._predictors])
    return np.asarray(nodes["num_threshold"][nodes["is_leaf"] == 0], dtype=np.float64)


@settings(deadline=None, max_examples=300)
@given(threshold=st.floats(-1e30, 1e30), steps=st.integers(-2, 2))
def test_of_float32_values_the_same_lie_below_a_rounded_threshold(threshold: float, steps: int) -> None:
    """The threshold is a double and lies between two of them, or on one: neighbours and the nearest fall as they did."""
    value = np.float32(threshold)
    for _ in range(abs(steps)):
        value = np.nextafter(value, np.float32(np.copysign(np.inf, steps)))
    (rounded,) = _rounded_down(np.array([threshold]))
    assert rounded == np.float32(rounded)
    assert (float(value) <= rounded) == (float(value) <= threshold)


@pytest.mark.parametrize("denominator", [1, 2, 8])
def test_a_value_at_a_threshold_falls_on_the_same_side(save: Save, denominator: int) -> None:
    """Thresholds lie halfway between values of the training rows: the halves themselves are asked."""
    features = random_features(300)
    features.signals[:, 0] = np.random.default_rng(0).integers(0, 12, 300) / denominator
    head = trees(40).fit(features, soft_targets(features), np.ones(300))
    values = np.unique(features.signals[:, 0])
    asked = features[: 2 * len(values) - 1]
    asked.signals[:, 0] = np.concatenate([values, (values[1:] + values[:-1]) / 2])
    assert difference(head, save(head, 0, PLAIN), asked, 0, PLAIN) <= PARITY


def test_neighbours_in_float32_fall_on_either_side_of_a_threshold(save: Save) -> None:
    """A threshold halfway between two of them is no float32: rounded to the nearest, it would move one to the other side."""
    features = random_features(300)
    steps = np.random.default_rng(0).integers(0, 12, 300)
    features.signals[:] = (1 + steps * np.finfo(np.float32).eps)[:, None]
    targets = np.repeat((0.2 + 0.6 * (steps % 2))[:, None], N_TIERS, axis=1)
    head = trees(40).fit(features, targets, np.ones(300))
    found = thresholds(head.rubric)
    assert np.any(found.astype(np.float32) > found)
    assert np.ptp(head.logits(features)[:, 0]) > 1
    assert difference(head, save(head), features, 0) <= PARITY


@pytest.mark.parametrize("basis", [0, 1])
def test_around_every_threshold_of_a_fitted_head_the_graph_agrees(save: Save, fitted: Fitted, train: Features, basis: int) -> None:
    """At the nearest float32 and at its neighbours, in every signal."""
    head = fitted("trees")
    assert isinstance(head, PerBasis)
    nearest = np.unique(thresholds(head.outcomes if basis else head.rubric).astype(np.float32))
    around = np.concatenate([np.nextafter(nearest, np.float32(-np.inf)), nearest, np.nextafter(nearest, np.float32(np.inf))])
    asked = train[np.arange(len(around)) % len(train)]
    asked.signals[:] = around[:, None]
    assert difference(head, save(head, basis), asked, basis) <= PARITY


def test_trees_that_never_split_are_exported_faithfully(save: Save) -> None:
    """On so few rows that every tree is one leaf."""
    features = random_features(15)
    head = trees(5).fit(features, soft_targets(of_basis(features, 1)), np.ones(15))
    assert len(thresholds(head.rubric)) == 0
    for basis in (0, 1):
        assert difference(head, save(head, basis), features, basis) <= PARITY
