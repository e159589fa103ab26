"""The network that learns its token vectors: gradients, the shared table, a basis each, and reproducibility."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import expit, log_expit
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from training.encoders import read, rounded, static_onnx
from training.features import Features, embed
from training.network import BATCH, Adam, Layers, Network

Matrix = NDArray[np.float64]
Floats = NDArray[np.float32]

N_SIGNALS, VOCABULARY, DIM, N_TIERS = 4, 25, 6, 3


def random_features(n: int, seed: int = 0, outcomes: float = 0.0) -> Features:
    """Counts, asks of up to eleven tokens, and a share of ``outcomes`` rows."""
    random = np.random.default_rng(seed)
    counts = np.array([np.bincount(random.integers(0, VOCABULARY, random.integers(0, 12)), minlength=VOCABULARY) for _ in range(n)])
    return Features(
        random.gamma(1, 3, (n, N_SIGNALS)).astype(np.float32),
        csr_matrix(counts.astype(np.float32)),
        (random.random(n) < outcomes).astype(np.float32),
        random.normal(size=(VOCABULARY, DIM)).astype(np.float32),
    )


def soft_targets(n: int, seed: int = 0, unknown: float = 0.0) -> Matrix:
    """Anything from 0 to 1, a share of it ``unknown``."""
    random = np.random.default_rng(seed)
    return np.where(random.random((n, N_TIERS)) < unknown, np.nan, random.random((n, N_TIERS)))


def without(features: Features, *tokens: int) -> Features:
    """The same asks, where ``tokens`` do not stand."""
    counts = features.tokens.toarray()
    counts[:, tokens] = 0
    return replace(features, tokens=csr_matrix(counts))


def told_by(token: int, n: int = 300, seed: int = 0, outcomes: float = 0.0) -> tuple[Features, Matrix]:
    """Features, and targets that are 1 in every tier where ``token`` stands in the ask, which half of them hold."""
    features = random_features(n, seed, outcomes)
    counts = features.tokens.toarray()
    present = np.random.default_rng(seed).random(n) < 0.5
    counts[:, token] = present
    return replace(features, tokens=csr_matrix(counts)), np.repeat(present[:, None].astype(np.float64), N_TIERS, axis=1)


def untrained(features: Features, seed: int = 0) -> Network:
    """A network with layers for both bases and nothing learned, whose units drop nothing out."""
    network = Network(hidden=5, dropout=0, token_dropout=0)
    whole = Network(seed, hidden=5, epochs=1, rate=0, table_rate=0).fit(features, soft_targets(len(features)), np.ones(len(features)))
    network.vectors, network.layers = whole.vectors, whole.layers
    return network


@pytest.fixture(name="one_thread", autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Products this small lose more than they win by threads."""
    with threadpool_limits(1):
        yield


# gradients


def loss(says: Callable[[Features], Matrix], features: Features, targets: Matrix, weights: Matrix) -> float:
    """Weighted log-loss over the targets that are known."""
    logits = says(features)
    known = ~np.isnan(targets)
    soft = np.nan_to_num(targets)
    terms = -(soft * log_expit(logits) + (1 - soft) * log_expit(-logits)) * weights[:, None]
    return float(terms[known].sum() / known.sum())


def by_differences(array: Floats, value: Callable[[], float]) -> Matrix:
    """The gradient of ``value`` in every entry of ``array``, which is moved and put back."""
    step = 2.0**-10
    result = np.zeros(array.shape)
    for place in np.ndindex(array.shape):
        kept = array[place]
        array[place] = kept + step
        above = value()
        array[place] = kept - step
        result[place] = (above - value()) / (2 * step)
        array[place] = kept
    return result


def off_by(found: NDArray[np.floating], expected: Matrix) -> float:
    """The length of the difference, in lengths of what was expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10_000), basis=st.sampled_from([0, 1]))
def test_gradients_are_those_of_the_log_loss(seed: int, basis: int) -> None:
    """Of every layer and of the table, by finite differences: soft targets, unknown ones, weights, and asks without a token."""
    network = untrained(random_features(40, seed, outcomes=0.5), seed)
    batch = replace(random_features(12, seed + 1), basis=np.full(12, basis, np.float32))
    targets, weights = soft_targets(12, seed, unknown=0.3), np.random.default_rng(seed).gamma(2, 1, 12)
    layers = network.layers[basis]
    before = layers.scaler.join(batch.signals, embed(batch.tokens, network.vectors)) @ layers.first
    assume(np.abs(before).min() > 0.01)  # a unit that is about to turn has no one gradient
    used, moves, gradients = network._gradients(basis, batch, targets, weights[:, None], np.random.default_rng(0))
    value = partial(loss, network.logits, batch, targets, weights)
    table = np.zeros(network.vectors.shape)
    table[used] = moves
    assert off_by(table, by_differences(network.vectors, value)) < 0.01
    for name, gradient in zip(("first", "bias", "second", "last"), gradients, strict=True):
        assert off_by(gradient, by_differences(getattr(layers, name), value)) < 0.01, name


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_gradients_pass_through_what_was_left_in(seed: int) -> None:
    """The same, where tokens, inputs and units are dropped: those that were are neither read nor taught."""
    network = untrained(random_features(40, seed), seed)
    network.dropout, network.token_dropout = 0.3, 0.4
    batch, layers = random_features(12, seed + 1), network.layers[0]

    def says(features: Features) -> Matrix:
        random = np.random.default_rng(seed)
        tokens = features.tokens.copy()
        tokens.data = tokens.data * (random.random(len(tokens.data), np.float32) >= 0.4)
        inputs, _ = network._dropped(layers.scaler.join(features.signals, embed(tokens, network.vectors)), random)
        before = inputs @ layers.first + layers.bias
        assume(np.abs(before).min() > 0.01)
        hidden, _ = network._dropped(np.maximum(before, 0), random)
        return np.asarray(hidden @ layers.second + layers.last, dtype=np.float64)

    targets = soft_targets(12, seed)
    used, moves, gradients = network._gradients(0, batch, targets, np.ones((12, 1)), np.random.default_rng(seed))
    value = partial(loss, says, batch, targets, np.ones(12))
    table = np.zeros(network.vectors.shape)
    table[used] = moves
    assert off_by(table, by_differences(network.vectors, value)) < 0.01
    for name, gradient in zip(("first", "bias", "second", "last"), gradients, strict=True):
        assert off_by(gradient, by_differences(getattr(layers, name), value)) < 0.01, name


def test_only_the_tokens_of_a_batch_are_moved() -> None:
    """A table of thirty thousand vectors is not gone through for sixty asks."""
    features = random_features(40)
    batch = without(features, *range(0, VOCABULARY, 2))[:10]
    used, moves, _ = untrained(features)._gradients(0, batch, soft_targets(10), np.ones((10, 1)), np.random.default_rng(0))
    assert used.tolist() == np.flatnonzero(batch.tokens.toarray().any(axis=0)).tolist()
    assert moves.shape == (len(used), DIM)


@pytest.mark.parametrize("n", [0, 3])
def test_a_batch_without_a_token_moves_no_vector(n: int) -> None:
    """Nor does a batch without a row; what the layers are told is finite."""
    features = random_features(40)
    batch = without(features, *range(VOCABULARY))[:n]
    used, moves, gradients = untrained(features)._gradients(0, batch, soft_targets(n), np.ones((n, 1)), np.random.default_rng(0))
    assert (len(used), moves.shape) == (0, (0, DIM))
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_what_is_unknown_has_no_gradient() -> None:
    """Whatever a row weighs, where its target is not known; a tier that nobody knows is told nothing at all."""
    features = random_features(40)
    network, targets = untrained(features), soft_targets(40)
    targets[20:] = np.nan
    targets[:, 1] = np.nan
    heavy = np.repeat([1.0, 50.0], 20)[:, None]
    plain, changed = (network._gradients(0, features, targets, weights, np.random.default_rng(0)) for weights in (np.ones((40, 1)), heavy))
    np.testing.assert_array_equal(plain[1], changed[1])
    for one, other in zip(plain[2], changed[2], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(plain[2][2][:, 1], np.zeros(5))
    np.testing.assert_array_equal(plain[2][3][1], 0)


def test_tokens_and_units_are_dropped_in_learning_alone() -> None:
    """The gradient depends on what was drawn, and what the network says does not."""
    features = random_features(40)
    network = untrained(features)
    network.dropout, network.token_dropout = 0.3, 0.5
    first, other = (network._gradients(0, features, soft_targets(40), np.ones((40, 1)), np.random.default_rng(seed)) for seed in (1, 2))
    assert np.abs(first[1] - other[1]).max() > 0
    assert np.abs(first[2][0] - other[2][0]).max() > 0
    np.testing.assert_array_equal(network.logits(features), network.logits(features))


def test_dropping_out_keeps_the_mean() -> None:
    """What is left is scaled up by as much as was taken."""
    values = np.ones((400, 400), np.float32)
    kept, factors = Network(dropout=0.3)._dropped(values, np.random.default_rng(0))
    assert kept.mean() == pytest.approx(1, abs=0.02)
    assert (kept == 0).mean() == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(kept, factors)


# the optimiser


def test_a_first_step_is_as_long_as_the_rate() -> None:
    """Against the gradient, whatever its size: by hand, mean over root of square is its sign."""
    values = np.zeros(3, np.float32)
    Adam(values).step(np.array([100, -0.01, 0], np.float32), 0.5)
    np.testing.assert_allclose(values, [-0.5, 0.5, 0], atol=1e-4)


def test_a_step_moves_the_rows_that_were_read() -> None:
    """The others, and what is remembered of them, stay."""
    values = np.ones((4, 2), np.float32)
    adam = Adam(values)
    adam.step(np.ones((2, 2), np.float32), 0.5, np.array([0, 3]))
    np.testing.assert_allclose(values[:, 0], [0.5, 1, 1, 0.5], atol=1e-4)
    assert not adam.mean[1:3].any()
    assert not adam.square[1:3].any()


def test_decay_pulls_towards_zero_without_a_gradient() -> None:
    """By the rate times itself, apart from the moments."""
    values = np.array([2, -4], np.float32)
    Adam(values, decay=0.1).step(np.zeros(2, np.float32), 0.5)
    np.testing.assert_allclose(values, [2 * 0.95, -4 * 0.95], atol=1e-6)


def test_a_minimum_is_found() -> None:
    """Of a bowl whose sides are a thousand times steeper in one direction than in the other."""
    values, steepness = np.array([3, -3], np.float32), np.array([1000, 1], np.float32)
    adam = Adam(values)
    for _ in range(600):
        adam.step(2 * steepness * (values - 1), 0.02)
    np.testing.assert_allclose(values, [1, 1], atol=0.01)


# the table


def test_the_network_learns_what_the_encoder_does_not_tell_apart() -> None:
    """Where all tokens start from nearly one vector: tuned, it ranks asks it has not seen; with a table that stays, it cannot."""
    (train, targets), (test, truth) = told_by(0), told_by(0, seed=1)
    alike = (1 + train.vectors / 1000).astype(np.float32)
    train, test = replace(train, vectors=alike), replace(test, vectors=alike)
    tuned, fixed = (Network(epochs=100, table_rate=rate).fit(train, targets, np.ones(300)).logits(test) for rate in (0.02, 0))
    assert roc_auc_score(truth[:, 0], tuned[:, 0]) > 0.9
    assert roc_auc_score(truth[:, 0], fixed[:, 0]) < 0.8


def test_a_token_that_decides_the_label_moves_furthest() -> None:
    """The labels pull the others now here, now there."""
    features, targets = told_by(3)
    network = Network(epochs=30).fit(features, targets, np.ones(300))
    moved = np.linalg.norm(network.vectors - features.vectors, axis=1)
    assert moved.argmax() == 3
    assert moved[3] > 2 * np.median(moved)


def test_a_token_that_no_row_holds_keeps_its_vector() -> None:
    """To the last bit, as int8 stores it."""
    features = without(random_features(200, outcomes=0.3), 4, 9)
    network = Network().fit(features, soft_targets(200), np.ones(200))
    still = np.all(network.vectors == rounded(features.vectors), axis=1)
    assert np.flatnonzero(still).tolist() == [4, 9]


def test_a_row_of_which_nothing_is_known_moves_no_vector() -> None:
    """A token that stands in such rows alone keeps its vector."""
    features = random_features(200)
    counts = features.tokens.toarray()
    counts[:, 4] = np.arange(200) < 50
    targets = soft_targets(200)
    targets[:50] = np.nan
    network = Network().fit(replace(features, tokens=csr_matrix(counts)), targets, np.ones(200))
    np.testing.assert_array_equal(network.vectors[4], rounded(features.vectors)[4])


def test_the_table_it_starts_from_is_left_alone() -> None:
    """Every fold starts from it."""
    features = random_features(100)
    before = features.vectors.copy()
    Network(epochs=2).fit(features, soft_targets(100), np.ones(100))
    np.testing.assert_array_equal(features.vectors, before)


def test_the_vectors_are_those_of_the_encoder_that_will_ship(tmp_path: Path) -> None:
    """Written as int8 and read again they are the same: what was calibrated is what serves."""
    network = Network().fit(random_features(100), soft_targets(100), np.ones(100))
    onnx.save(static_onnx(network.vectors, {}), str(tmp_path / "encoder.onnx"))
    np.testing.assert_array_equal(read(tmp_path), network.vectors)


def test_the_network_reads_its_own_table() -> None:
    """Not the one that stands in the features."""
    features = random_features(100)
    network = Network(epochs=3).fit(features, soft_targets(100), np.ones(100))
    other = replace(features, vectors=-features.vectors)
    np.testing.assert_array_equal(network.logits(features), network.logits(other))


# two bases


def test_both_bases_tune_one_table() -> None:
    """A token that only measured rows hold is moved by them."""
    features = random_features(300, outcomes=0.4)
    counts = features.tokens.toarray()
    counts[:, 4] = features.basis
    both = replace(features, tokens=csr_matrix(counts))
    rubric = both[both.basis == 0]
    together = Network().fit(both, soft_targets(300), np.ones(300))
    alone = Network().fit(rubric, soft_targets(len(rubric)), np.ones(len(rubric)))
    assert np.abs(together.vectors[4] - rounded(features.vectors)[4]).max() > 0.01
    np.testing.assert_array_equal(alone.vectors[4], rounded(features.vectors)[4])


def test_each_basis_has_layers_of_its_own() -> None:
    """The same prompts, of which one basis says the opposite of the other: the row's basis decides who answers."""
    features, targets = told_by(3, n=400, outcomes=0.5)
    targets[features.basis > 0] = 1 - targets[features.basis > 0]
    network = Network(epochs=100).fit(features, targets, np.ones(400))
    rubric, outcomes = (network.logits(replace(features, basis=np.full(400, basis, np.float32))) for basis in (0, 1))
    assert np.corrcoef(rubric[:, 0], outcomes[:, 0])[0, 1] < -0.5
    assert np.abs(network.layers[0].first - network.layers[1].first).max() > 0.01


def test_each_basis_has_a_scale_of_its_own() -> None:
    """Measured prompts are of other lengths."""
    features = random_features(200, outcomes=0.5)
    features.signals[features.basis > 0] *= 100
    network = Network(epochs=1).fit(features, soft_targets(200), np.ones(200))
    assert np.all(network.layers[1].scaler.mean > network.layers[0].scaler.mean + 2)


def test_mixed_rows_are_answered_each_by_its_basis() -> None:
    """In the order asked, as if asked apart."""
    features = random_features(200, outcomes=0.4)
    network = Network(epochs=2).fit(features, soft_targets(200), np.ones(200))
    logits = network.logits(features)
    for basis in (0, 1):
        own = features.basis == basis
        np.testing.assert_allclose(logits[own], network.logits(features[own]), atol=1e-5)


@pytest.mark.parametrize("basis", [0, 1])
def test_one_basis_alone_is_learned(basis: int) -> None:
    """A run without outcomes is the usual one; a basis that it never saw is answered as the other."""
    features, targets = told_by(3)
    features = replace(features, basis=np.full(300, basis, np.float32))
    network = Network(epochs=150).fit(features, targets, np.ones(300))
    assert list(network.layers) == [basis]
    assert roc_auc_score(targets[:, 0], network.logits(features)[:, 0]) > 0.85
    np.testing.assert_array_equal(network.logits(replace(features, basis=1 - features.basis)), network.logits(features))


def test_a_basis_is_answered_by_its_own_layers_or_the_only_ones() -> None:
    """Whichever those are: a graph for either basis can be made of any network."""
    features, targets = random_features(60, outcomes=0.5), soft_targets(60)
    both = Network(hidden=3, epochs=1).fit(features, targets, np.ones(60))
    assert both.of(0) is both.layers[0]
    assert both.of(1) is both.layers[1]
    for basis in (0, 1):
        rows = features.basis == basis
        alone = Network(hidden=3, epochs=1).fit(features[rows], targets[rows], np.ones(rows.sum()))
        assert alone.of(0) is alone.of(1) is alone.layers[basis]


@pytest.mark.parametrize("outcomes", [1, 2, 2 * BATCH, 20 * BATCH])
def test_bases_of_unequal_size_are_learned_together(outcomes: int) -> None:
    """The smaller has fewer rows than there are steps, or the larger many times as many: nothing is left out, nothing breaks."""
    features = random_features(5 * BATCH + outcomes)
    features.basis[5 * BATCH :] = 1
    network = Network(epochs=1).fit(features, soft_targets(len(features)), np.ones(len(features)))
    assert list(network.layers) == [0, 1]
    assert np.all(np.isfinite(network.logits(features)))
    assert all(np.all(layers.last != 0) for layers in network.layers.values())


# weights


def test_a_heavier_row_counts_for_more() -> None:
    """Where rows disagree, weight decides."""
    features = random_features(150)
    twice = features[np.tile(np.arange(150), 2)]
    targets = np.repeat([1.0, 0.0], 150)[:, None]
    for share in (0.2, 0.8):
        weights = np.repeat([share, 1 - share], 150)
        logits = Network(epochs=40).fit(twice, targets, weights).logits(features)
        assert expit(logits).mean() == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize("scale", [0.25, 1024])
def test_the_scale_of_all_weights_changes_nothing(scale: float) -> None:
    """The mean weight of each basis is 1, so that the rates mean the same for any number of sources."""
    features, targets = random_features(100, outcomes=0.4), soft_targets(100)
    weights = np.random.default_rng(0).gamma(2, 1, 100)
    plain, scaled = (Network(epochs=2).fit(features, targets, one).logits(features) for one in (weights, scale * weights))
    np.testing.assert_array_equal(plain, scaled)


# reproducibility and small data


def test_a_seed_gives_the_same_bits_every_time() -> None:
    """Of the table and of the layers."""
    features, targets = random_features(150, outcomes=0.4), soft_targets(150, unknown=0.2)
    first, same = (Network(7).fit(features, targets, np.ones(150)) for _ in range(2))
    np.testing.assert_array_equal(first.vectors, same.vectors)
    np.testing.assert_array_equal(first.logits(features), same.logits(features))


def test_another_seed_gives_another_network() -> None:
    """What is random is random by the seed alone."""
    features, targets = random_features(150), soft_targets(150)
    first, other = (Network(seed).fit(features, targets, np.ones(150)) for seed in (1, 2))
    assert np.abs(first.logits(features) - other.logits(features)).max() > 1e-3


def test_layers_start_with_a_spread_that_suits_their_size() -> None:
    """Glorot and Bengio's: uniform up to the root of six over rows and columns, biases 0."""
    features = random_features(5)
    scaler = untrained(features).layers[0].scaler
    fresh = Layers.fresh(scaler, 100, 50, 4, np.random.default_rng(0))
    for weights in (fresh.first, fresh.second):
        bound = np.sqrt(6 / sum(weights.shape))
        assert 0.9 * bound < np.abs(weights).max() <= bound
    assert not fresh.bias.any()
    assert not fresh.last.any()


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 9), seed=st.integers(0, 10_000), outcomes=st.sampled_from([0.0, 0.5, 1.0]), unknown=st.sampled_from([0.0, 0.5, 1.0])
)
def test_a_handful_of_rows_is_enough(n: int, seed: int, outcomes: float, unknown: float) -> None:
    """Of either basis or both, with asks that hold no token and targets that nobody knows: everything stays finite."""
    features = random_features(n, seed, outcomes)
    network = Network(seed, hidden=4, epochs=3).fit(features, soft_targets(n, seed, unknown), np.ones(n))
    assert np.all(np.isfinite(network.vectors))
    assert np.all(np.isfinite(network.logits(features)))
    assert network.logits(features).shape == (n, N_TIERS)
