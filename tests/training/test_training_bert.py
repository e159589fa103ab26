"""A transformer's weights -> its graph, against a forward pass in numpy."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper
from scipy.special import erf, softmax

from classifier.encoder import TransformerEncoder, token_ids
from classifier.runtime import session
from training import encoders
from training.accurate import plain_tokenizer
from training.bert import Shape, graph, int8

pytest_plugins = ("tests.training.fixtures_of_training",)

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]
RandomBert = Callable[..., dict[str, Floats]]
Encode = Callable[[list[int]], Floats]

VOCABULARY, DIM, HEADS, MAX_TOKENS = 50, 24, 2, 20
PROVENANCE = {"teacher": "nobody", "epochs": "0"}
IDS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=MAX_TOKENS)

# the forward pass, as the paper has it


def normalised(values: Matrix, weights: Mapping[str, Floats], name: str) -> Matrix:
    """Layer normalisation."""
    mean, variance = values.mean(axis=-1, keepdims=True), values.var(axis=-1, keepdims=True)
    return np.asarray((values - mean) / np.sqrt(variance + 1e-12) * weights[f"{name}.weight"] + weights[f"{name}.bias"])


def dense(values: Matrix, weights: Mapping[str, Floats], name: str) -> Matrix:
    """A linear layer, whose weights lie as torch has them."""
    return np.asarray(values @ weights[f"{name}.weight"].T.astype(np.float64) + weights[f"{name}.bias"])


def forward(weights: Mapping[str, Floats], ids: list[int], layers: int, heads: int = HEADS) -> Matrix:
    """(dim,): the mean of the last layer, by token vectors as int8 stores them."""
    table = encoders.rounded(weights["embeddings.word_embeddings.weight"]).astype(np.float64)
    places = weights["embeddings.position_embeddings.weight"][: len(ids)]
    hidden = normalised(table[ids] + places + weights["embeddings.token_type_embeddings.weight"][0], weights, "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{index}" for index in range(layers)):
        query, key, value = (
            dense(hidden, weights, f"{layer}.attention.self.{part}").reshape(len(ids), heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        attention = softmax(query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1]), axis=-1)
        attended = (attention @ value).transpose(1, 0, 2).reshape(len(ids), -1)
        own = dense(attended, weights, f"{layer}.attention.output.dense")
        hidden = normalised(hidden + own, weights, f"{layer}.attention.output.LayerNorm")
        wide = dense(hidden, weights, f"{layer}.intermediate.dense")
        active = wide * 0.5 * (1 + erf(wide / np.sqrt(2)))
        hidden = normalised(hidden + dense(active, weights, f"{layer}.output.dense"), weights, f"{layer}.output.LayerNorm")
    return np.asarray(hidden.mean(axis=0))


@pytest.fixture(name="weights", scope="module")
def _weights(random_bert: RandomBert) -> dict[str, Floats]:
    """Two layers that learned nothing."""
    return random_bert(2, vocabulary=VOCABULARY, dim=DIM, places=32)


def encoder(model: onnx.ModelProto, folder: Path) -> Encode:
    """Ids of one text to its embedding, as serving runs the graph."""
    onnx.save(model, str(folder / "encoder.onnx"))
    run = session(folder / "encoder.onnx").run
    return lambda ids: np.asarray(run(("embedding",), {"ids": np.array(ids, np.int64)})[0])


@pytest.fixture(name="full", scope="module", params=[1, 2], ids=["one layer", "two layers"])
def _full(request: pytest.FixtureRequest, weights: dict[str, Floats]) -> tuple[onnx.ModelProto, int]:
    """(the graph in full precision, its layers). Read-only."""
    return graph(weights, Shape(request.param, HEADS, MAX_TOKENS), PROVENANCE), request.param


@pytest.fixture(name="exact", scope="module")
def _exact(full: tuple[onnx.ModelProto, int], tmp_path_factory: pytest.TempPathFactory) -> Encode:
    """It, running."""
    return encoder(full[0], tmp_path_factory.mktemp("full"))


@pytest.fixture(name="small", scope="module")
def _small(full: tuple[onnx.ModelProto, int]) -> onnx.ModelProto:
    """The graph in int8. Read-only."""
    return int8(full[0])


@pytest.fixture(name="rough", scope="module")
def _rough(small: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Encode:
    """It, running."""
    return encoder(small, tmp_path_factory.mktemp("int8"))


# in full precision


@settings(deadline=None, max_examples=50)
@given(ids=IDS)
def test_the_graph_is_the_forward_pass(
    exact: Encode, full: tuple[onnx.ModelProto, int], weights: dict[str, Floats], ids: list[int]
) -> None:
    """For one token or as many as it reads, the same or different ones."""
    found = exact(ids)
    assert (found.shape, found.dtype.name) == ((1, DIM), "float32")
    np.testing.assert_allclose(found[0], forward(weights, ids, full[1]), atol=1e-4)


def test_layers_beyond_those_asked_for_are_left_out(weights: dict[str, Floats]) -> None:
    """They need not be there: the first layers alone make the same graph, byte for byte."""
    kept = {name: values for name, values in weights.items() if not name.startswith("encoder.layer.1.")}
    one, same = (graph(given, Shape(1, HEADS, MAX_TOKENS), PROVENANCE) for given in (weights, kept))
    assert one.SerializeToString() == same.SerializeToString()


def test_the_number_of_heads_is_part_of_the_shape(weights: dict[str, Floats], tmp_path: Path) -> None:
    """The weights do not say it: twelve heads of two dimensions see otherwise than two of twelve."""
    encode = encoder(graph(weights, Shape(2, 12, MAX_TOKENS), {}), tmp_path)
    np.testing.assert_allclose(encode([3, 1, 4])[0], forward(weights, [3, 1, 4], 2, heads=12), atol=1e-4)
    assert np.abs(forward(weights, [3, 1, 4], 2, heads=12) - forward(weights, [3, 1, 4], 2)).max() > 0.01


def test_the_order_of_words_matters(exact: Encode) -> None:
    """That is what the static encoder cannot see."""
    assert np.abs(exact([5, 6, 7]) - exact([7, 6, 5])).max() > 0.01


def test_only_as_many_places_are_kept_as_are_read(full: tuple[onnx.ModelProto, int]) -> None:
    """The rest would be dead weight."""
    shapes = [tuple(tensor.dims) for tensor in full[0].graph.initializer]
    assert (MAX_TOKENS, DIM) in shapes
    assert (32, DIM) not in shapes


def test_token_vectors_are_stored_in_int8_with_a_scale_each(full: tuple[onnx.ModelProto, int], weights: dict[str, Floats]) -> None:
    """As those of the static encoder: most of a small transformer is its vocabulary."""
    stored = [numpy_helper.to_array(tensor) for tensor in full[0].graph.initializer]
    (table,) = [values for values in stored if values.shape == (VOCABULARY, DIM)]
    (scale,) = [values for values in stored if values.shape == (VOCABULARY, 1)]
    assert table.dtype == np.int8
    np.testing.assert_array_equal(table * scale, encoders.rounded(weights["embeddings.word_embeddings.weight"]))


# in int8


def test_int8_points_the_same_way(exact: Encode, rough: Encode) -> None:
    """Cosine above .98 on average over texts of all lengths."""
    random = np.random.default_rng(0)
    texts = [random.integers(0, VOCABULARY, length).tolist() for length in range(1, MAX_TOKENS + 1) for _ in range(5)]
    one, other = (np.concatenate([encode(ids) for ids in texts]) for encode in (exact, rough))
    cosines = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert other.shape == (len(texts), DIM)
    assert cosines.mean() > 0.98
    assert np.abs(one - other).max() > 0


def test_no_matrix_stays_in_float32(small: onnx.ModelProto) -> None:
    """But the places and the scales of tokens: that is where the size goes, and the time."""
    left = {
        tuple(tensor.dims) for tensor in small.graph.initializer if len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT
    }
    assert left == {(MAX_TOKENS, DIM), (VOCABULARY, 1)}


def test_a_graph_makes_the_same_int8_every_time(full: tuple[onnx.ModelProto, int], small: onnx.ModelProto) -> None:
    """Byte for byte: a bundle is named by its content."""
    assert int8(full[0]).SerializeToString() == small.SerializeToString()


# what it says of itself


@pytest.mark.parametrize("precision", ["full", "int8"])
def test_provenance_and_what_it_reads_travel_in_the_graph(
    full: tuple[onnx.ModelProto, int], small: onnx.ModelProto, precision: str
) -> None:
    """Layers and tokens beside where it comes from, and nothing else; serving reads how many tokens it may be given."""
    model = full[0] if precision == "full" else small
    expected = {**PROVENANCE, "layers": str(full[1]), "max_tokens": str(MAX_TOKENS)}
    assert {entry.key: entry.value for entry in model.metadata_props} == expected


def test_what_is_written_serves(weights: dict[str, Floats], random_bert: RandomBert, teacher_folder: Path, tmp_path: Path) -> None:
    """The classifier's own encoder takes it: a long text, a short one and an empty one, each as if it were alone."""
    tokenizer = plain_tokenizer(teacher_folder)
    larger = random_bert(1, vocabulary=tokenizer.get_vocab_size(), dim=DIM)
    model = int8(graph(larger, Shape(1, HEADS, MAX_TOKENS), PROVENANCE))
    encode = encoder(model, tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    serving = TransformerEncoder(tmp_path)
    assert (serving.dim, serving.max_tokens) == (DIM, MAX_TOKENS)
    texts = ["plan the architecture " * 30, "Translate to German: search", ""]
    found = serving.encode(texts)
    for text, row in zip(texts, found, strict=True):
        ids = token_ids(tokenizer, text, MAX_TOKENS)
        assert 2 <= len(ids) <= MAX_TOKENS
        np.testing.assert_array_equal(row, encode(ids)[0])
        np.testing.assert_array_equal(row, serving.encode([text])[0])
