"""What heads learn from: rows, embeddings and their scale."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from classifier.runtime import session
from training.encoders import rounded, static_onnx
from training.features import CLIP, Features, Scaler, embed

Floats = NDArray[np.float32]
Encode = Callable[[list[int]], Floats]

N_SIGNALS, VOCABULARY, DIM = 6, 30, 5


def token_counts(rows: list[list[int]], vocabulary: int = VOCABULARY) -> csr_matrix:
    """How often each token stands in each row."""
    return csr_matrix(np.array([np.bincount(row, minlength=vocabulary) for row in rows], dtype=np.float32))


def random_features(n: int, seed: int = 0, outcomes: float = 0.0) -> Features:
    """Counts, asks of up to nine tokens, and a share of ``outcomes`` rows."""
    random = np.random.default_rng(seed)
    return Features(
        random.gamma(1, 3, (n, N_SIGNALS)).astype(np.float32),
        token_counts([random.integers(0, VOCABULARY, random.integers(0, 10)).tolist() for _ in range(n)]),
        (random.random(n) < outcomes).astype(np.float32),
        random.normal(size=(VOCABULARY, DIM)).astype(np.float32),
    )


# rows


@pytest.mark.parametrize("rows", [np.array([7, 0, 0, 3]), np.arange(10) % 3 == 0, slice(2, 5), np.array([], dtype=int)])
def test_features_are_taken_row_by_row(rows: NDArray[np.int64] | slice) -> None:
    """By index, by mask or by slice, in the order asked for, all three parts together."""
    features = random_features(10, outcomes=0.5)
    part = features[rows]
    assert len(part) == len(np.arange(10)[rows])
    np.testing.assert_array_equal(part.signals, features.signals[rows])
    np.testing.assert_array_equal(part.basis, features.basis[rows])
    np.testing.assert_array_equal(part.tokens.toarray(), features.tokens.toarray()[rows])
    np.testing.assert_array_equal(part.embedding, features.embedding[rows])


def test_rows_share_the_encoders_table() -> None:
    """It is thirty thousand vectors: a fold must not copy them."""
    features = random_features(10)
    assert features[:5].vectors is features.vectors


def test_the_embedding_is_computed_once() -> None:
    """Every family asks for it."""
    features = random_features(10)
    assert features.embedding is features.embedding


# embeddings


def test_an_embedding_by_hand() -> None:
    """Twice (1, 0) and once (1, 4) are (3, 4), at length 1 (.6, .8); a token that does not stand in the ask has no part in it."""
    vectors = np.array([[1, 0], [1, 4], [100, 100]], dtype=np.float32)
    np.testing.assert_allclose(embed(token_counts([[0, 0, 1]], 3), vectors), [[0.6, 0.8]], atol=1e-7)


def test_features_are_embedded_by_their_own_table() -> None:
    """The one that nothing has tuned."""
    features = random_features(10)
    np.testing.assert_array_equal(features.embedding, embed(features.tokens, features.vectors))
    assert features.embedding.dtype == np.float32


def test_an_ask_without_a_token_is_zero() -> None:
    """Rather than not a number; as the encoder that serves has it."""
    np.testing.assert_array_equal(embed(token_counts([[], []]), random_features(1).vectors), np.zeros((2, DIM)))


@pytest.fixture(name="vectors", scope="module")
def _vectors() -> Floats:
    """A table as int8 stores it."""
    return rounded(random_features(1).vectors)


@pytest.fixture(name="served", scope="module")
def _served(vectors: Floats, tmp_path_factory: pytest.TempPathFactory) -> Encode:
    """The encoder's graph on token ids, as serving runs it."""
    file = tmp_path_factory.mktemp("encoder") / "encoder.onnx"
    onnx.save(static_onnx(vectors, {}), str(file))
    graph = session(file)

    def encode(ids: list[int]) -> Floats:
        (found,) = graph.run(("embedding",), {"ids": np.array(ids, dtype=np.int64)})
        return np.asarray(found, dtype=np.float32)

    return encode


@settings(deadline=None, max_examples=100)
@given(ids=st.lists(st.integers(0, VOCABULARY - 1), max_size=200))
def test_heads_learn_from_the_embedding_that_serves(served: Encode, vectors: Floats, ids: list[int]) -> None:
    """Whatever the tokens, and in whatever order: counts times table are what encoder.onnx computes."""
    np.testing.assert_allclose(embed(token_counts([ids]), vectors), served(ids), atol=1e-5)


# scale


def test_signals_are_standardised_on_a_logarithmic_scale() -> None:
    """By hand: log(1 + 0) and log(1 + e - 1) are 0 and 1, so mean and deviation are one half; a constant signal has no scale."""
    signals = np.array([[0, 7], [np.e - 1, 7]], dtype=np.float32)
    features = Features(signals, token_counts([[0], [1]], 2), np.zeros(2, np.float32), np.eye(2, dtype=np.float32))
    joined = Scaler.fit(features).join(signals, features.embedding)
    np.testing.assert_allclose(joined[:, :2], [[-1, 0], [1, 0]], atol=1e-6)


def test_the_embedding_has_one_scale() -> None:
    """By hand: columns of deviation .5 and .5 are divided by their mean, and keep their directions."""
    features = Features(
        np.zeros((2, 1), np.float32), token_counts([[0], [1]], 2), np.zeros(2, np.float32), np.array([[1, 0], [0, 1]], np.float32)
    )
    scaler = Scaler.fit(features)
    assert scaler.embedding_scale == pytest.approx(0.5)
    np.testing.assert_allclose(scaler.join(features.signals, features.embedding)[:, 1:], [[2, 0], [0, 2]])


@pytest.mark.parametrize("tokens", [[[]], [[3]], [[1, 2], [1, 2]]])
def test_embeddings_that_do_not_vary_stay_finite(tokens: list[list[int]]) -> None:
    """A single row, or equal ones, have no deviation to divide by."""
    n = len(tokens)
    features = Features(np.full((n, N_SIGNALS), 3, np.float32), token_counts(tokens), np.zeros(n, np.float32), random_features(1).vectors)
    assert np.all(np.isfinite(Scaler.fit(features).join(features.signals, features.embedding)))


@settings(deadline=None, max_examples=50)
@given(signals=arrays(np.float32, (3, N_SIGNALS), elements=st.floats(0, 2.0**100, width=32)))
def test_signals_far_beyond_the_training_rows_are_cut(signals: Floats) -> None:
    """A text of a megabyte is judged like a very long one, not extrapolated to."""
    features = random_features(50)
    joined = Scaler.fit(features).join(signals, features.embedding[:3])
    assert joined.dtype == np.float32
    assert np.abs(joined[:, :N_SIGNALS]).max() <= CLIP


def test_the_cut_is_reached() -> None:
    """From above, where counts have no bound."""
    features = random_features(50)
    joined = Scaler.fit(features).join(np.full((1, N_SIGNALS), 1e9, np.float32), features.embedding[:1])
    assert joined[0, :N_SIGNALS].tolist() == [CLIP] * N_SIGNALS
