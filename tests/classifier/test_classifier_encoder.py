"""Texts -> vectors, each from its own text alone."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from classifier.bundle import LAYOUT
from classifier.encoder import Encoder, StaticEncoder, TransformerEncoder, token_ids
from classifier.router import Accurate

WORDS = tuple(f"w{number}" for number in range(100))
CLS, SEP = 100, 101  # their ids; a word's id is its number
TEXTS = st.lists(st.text(max_size=80) | st.sampled_from(["", "Why?", "Plan a login. " * 90, "漢字", "🚂"]), max_size=6)


@pytest.fixture(name="encoder", scope="module")
def _encoder(shipped: Path) -> StaticEncoder:
    """The encoder that ships."""
    return StaticEncoder(shipped / LAYOUT.fast)


@pytest.fixture(name="compass")
def _compass(compass_folder: Path) -> StaticEncoder:
    """An encoder of three words in two dimensions, whose vectors are known."""
    return StaticEncoder(compass_folder)


def test_the_static_encoder_is_an_encoder(encoder: StaticEncoder) -> None:
    """It keeps the protocol behind which another encoder can stand."""
    as_protocol: Encoder = encoder
    assert as_protocol.encode(["Why?", "How?"]).shape == (2, as_protocol.dim)


def test_vectors_of_tokens_are_summed_and_normalised(compass: StaticEncoder) -> None:
    """An embedding is what the tokenizer and the table of the folder say."""
    found = compass.encode(["east", "north east", "north north east east west"])
    expected = np.array([[1, 0], [0.6, 0.8], [3 / 73**0.5, 8 / 73**0.5]])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_dimension_and_origin_are_read_from_the_graph(compass: StaticEncoder) -> None:
    """What was distilled from what stands in the file itself."""
    assert (compass.dim, compass.provenance) == (2, {"teacher": "a compass"})


@settings(deadline=None, max_examples=60)
@given(texts=TEXTS)
def test_rows_have_length_one_or_zero(encoder: StaticEncoder, texts: Sequence[str]) -> None:
    """Rows are unit vectors, or zero for a text without a token."""
    found = encoder.encode(texts)
    assert found.shape == (len(texts), encoder.dim)
    assert found.dtype == np.float32
    lengths = np.linalg.norm(found, axis=1)
    assert (np.isclose(lengths, 1, atol=1e-5) | (lengths == 0)).all()


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_a_text_without_a_token_is_the_zero_row(encoder: StaticEncoder, text: str) -> None:
    """An image-only turn has no direction, and no NaN either."""
    assert not encoder.encode([text]).any()


@settings(deadline=None, max_examples=40)
@given(texts=TEXTS)
def test_a_row_never_depends_on_its_neighbours(encoder: StaticEncoder, texts: Sequence[str]) -> None:
    """Bit for bit the same alone, in a batch, and in the batch turned round."""
    batch = encoder.encode(texts)
    alone = [encoder.encode([text])[0].tobytes() for text in texts]
    assert [row.tobytes() for row in batch] == alone
    assert [row.tobytes() for row in encoder.encode(texts[::-1])] == alone[::-1]


def test_texts_of_like_meaning_are_closer_than_others(encoder: StaticEncoder) -> None:
    """The embedding carries meaning: other words for the same thing lie nearer than another thing."""
    one, same, other = encoder.encode(["my car engine broke", "the automobile motor is damaged", "a recipe for lemon cake"])
    assert one @ same > one @ other


def test_the_fingerprint_is_stable(encoder: StaticEncoder, shipped: Path, tmp_path: Path) -> None:
    """The same files give the same fingerprint, whatever their folder is called."""
    copy = Path(shutil.copytree(shipped / LAYOUT.fast, tmp_path / "copy"))
    assert StaticEncoder(copy).fingerprint == encoder.fingerprint


def change(folder: Path, name: str) -> None:
    """Let a file of an encoder say the same in other bytes."""
    if name == "encoder.onnx":
        model = onnx.load(str(folder / name))
        model.doc_string = "changed"
        onnx.save(model, str(folder / name))
    else:
        (folder / name).write_text((folder / name).read_text(encoding="utf-8") + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", ["tokenizer.json", "encoder.onnx"])
def test_the_fingerprint_changes_with_either_file(compass_folder: Path, name: str) -> None:
    """Whenever a vector may change, so does the fingerprint."""
    before = StaticEncoder(compass_folder).fingerprint
    change(compass_folder, name)
    assert StaticEncoder(compass_folder).fingerprint != before


# what a transformer reads


def numbered() -> Tokenizer:
    """A tokenizer of a hundred words, whose ids are their numbers."""
    tokenizer = Tokenizer(WordLevel({**{word: number for number, word in enumerate(WORDS)}, "[CLS]": CLS, "[SEP]": SEP}))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def test_a_short_text_is_read_whole() -> None:
    """Its tokens in their order, between the two marks that a transformer expects."""
    assert token_ids(numbered(), "w3 w1 w2", 8) == [CLS, 3, 1, 2, SEP]


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_a_text_without_a_token_is_the_two_marks(text: str) -> None:
    """An image-only turn gives the transformer something to read, too."""
    assert token_ids(numbered(), text, 8) == [CLS, SEP]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (6, [0, 1, 2, 3, 4, 5]),  # just fits beside the marks
        (7, [0, 1, 2, 3, 5, 6]),
        (100, [0, 1, 2, 3, 98, 99]),
    ],
)
def test_of_a_long_text_two_thirds_are_read_of_the_head_and_the_rest_of_the_tail(words: int, expected: list[int]) -> None:
    """The task often stands at the start, the question at the end."""
    assert token_ids(numbered(), " ".join(WORDS[:words]), 8) == [CLS, *expected, SEP]


@settings(deadline=None, max_examples=100)
@given(words=st.integers(0, 100), max_tokens=st.integers(3, 110))
def test_head_and_tail_fill_the_room_and_no_more(words: int, max_tokens: int) -> None:
    """Never more than `max_tokens`, marks included, nothing twice, nothing out of order, and no room left while words are."""
    found = token_ids(numbered(), " ".join(WORDS[:words]), max_tokens)
    inner = found[1:-1]
    left_out = sorted(set(range(words)) - set(inner))
    assert (found[0], found[-1]) == (CLS, SEP)
    assert len(found) == min(words + 2, max_tokens)
    assert inner == sorted(set(inner))
    assert left_out == list(range((max_tokens - 2) * 2 // 3, words))[: len(left_out)]  # one gap, after the head


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=60) | st.sampled_from(["Why?", "Plan a login.", "漢字 und Umlaute: äöü", "🚂", "x = f(1)\n"]))
def test_what_ships_reads_a_short_text_as_its_tokenizer_would(accurate: Accurate, text: str) -> None:
    """The marks stand where the tokenizer's own template puts them."""
    tokenizer = accurate.encoder._tokenizer
    whole = tokenizer.encode(text, add_special_tokens=True).ids
    assert token_ids(tokenizer, text, len(whole)) == whole


# the transformer's vectors


@pytest.fixture(name="counting_folder")
def _counting_folder(tmp_path: Path) -> Path:
    """A "transformer" of eight tokens, whose vector holds the share of each of the hundred words and two marks."""
    folder = tmp_path / "counting"
    folder.mkdir()
    numbered().save(str(folder / "tokenizer.json"))
    table = numpy_helper.from_array(np.eye(len(WORDS) + 2, dtype=np.float32), "table")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["embedding"], axes=[0], keepdims=1),
    ]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, len(WORDS) + 2])]
    graph = helper.make_graph(nodes, "counting", inputs, outputs, [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"max_tokens": "8", "layers": "0"})
    onnx.save(model, str(folder / "encoder.onnx"))
    return folder


def counts(row: NDArray[np.float32], tokens: int) -> dict[int, int]:
    """How often which token went into a vector of the counting transformer."""
    return {place: round(share * tokens) for place, share in enumerate(row.tolist()) if share}


def test_the_transformer_is_an_encoder(accurate: Accurate) -> None:
    """It keeps the protocol that the static encoder keeps."""
    as_protocol: Encoder = accurate.encoder
    found = as_protocol.encode(["Why?", "How?"])
    assert found.shape == (2, as_protocol.dim)
    assert found.dtype == np.float32
    assert as_protocol.encode([]).shape == (0, as_protocol.dim)


def test_limits_and_origin_of_a_transformer_are_read_from_the_graph(counting_folder: Path) -> None:
    """How much it reads, and what it was made of, stand in the file itself."""
    encoder = TransformerEncoder(counting_folder)
    assert (encoder.max_tokens, encoder.dim) == (8, len(WORDS) + 2)
    assert encoder.provenance == {"max_tokens": "8", "layers": "0"}


def test_the_transformer_is_given_marks_head_and_tail(counting_folder: Path) -> None:
    """What `token_ids` says of each text is what the graph reads."""
    short, long = TransformerEncoder(counting_folder).encode(["w7 w7", " ".join(WORDS)])
    assert counts(short, 4) == {7: 2, CLS: 1, SEP: 1}
    assert counts(long, 8) == dict.fromkeys((0, 1, 2, 3, 98, 99, CLS, SEP), 1)


@settings(deadline=None, max_examples=20)
@given(texts=TEXTS)
def test_a_vector_never_depends_on_its_neighbours(accurate: Accurate, texts: Sequence[str]) -> None:
    """Bit for bit the same alone, in a batch, and in the batch turned round: int8 activations are scaled by one text alone."""
    batch = accurate.encoder.encode(texts)
    alone = [accurate.encoder.encode([text])[0].tobytes() for text in texts]
    assert [row.tobytes() for row in batch] == alone
    assert [row.tobytes() for row in accurate.encoder.encode(texts[::-1])] == alone[::-1]


def test_the_transformer_loaded_twice_gives_the_same_vectors(accurate: Accurate, shipped: Path) -> None:
    """Nothing but its files decides, to the last bit."""
    texts = ["", "Why?", "Plan a login. " * 90, "漢字", "🚂"]
    again = TransformerEncoder(shipped / LAYOUT.accurate)
    assert again.encode(texts).tobytes() == accurate.encoder.encode(texts).tobytes()
    assert again.fingerprint == accurate.encoder.fingerprint


@settings(deadline=None, max_examples=30)
@given(text=st.text(max_size=200) | st.sampled_from(["", "\n", "🚂" * 500, "x" * 5_000, "a " * 5_000, "漢字" * 500]))
def test_every_text_has_a_finite_vector(accurate: Accurate, text: str) -> None:
    """No text is too short, too long or too strange for it."""
    assert np.isfinite(accurate.encoder.encode([text])).all()


def test_of_a_long_text_head_and_tail_count_and_the_middle_does_not(accurate: Accurate) -> None:
    """A changed word moves the vector where it is read, and nowhere else."""
    words = ["train"] * 3 * accurate.encoder.max_tokens
    edits = {"nothing": None, "head": 0, "middle": len(words) // 2, "tail": len(words) - 1}
    texts = [" ".join("bridge" if place == edit else word for place, word in enumerate(words)) for edit in edits.values()]
    found = dict(zip(edits, [row.tobytes() for row in accurate.encoder.encode(texts)], strict=True))
    assert found["middle"] == found["nothing"]
    assert len({found["nothing"], found["head"], found["tail"]}) == 3


def test_the_transformer_reads_words_in_their_order(accurate: Accurate) -> None:
    """Unlike a sum of vectors, it tells who did what."""
    one, other = accurate.encoder.encode(["the client calls the server", "the server calls the client"])
    assert not np.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("name", ["tokenizer.json", "encoder.onnx"])
def test_the_fingerprint_of_a_transformer_changes_with_either_file(counting_folder: Path, name: str) -> None:
    """Whenever a vector may change, so does the fingerprint."""
    before = TransformerEncoder(counting_folder).fingerprint
    change(counting_folder, name)
    assert TransformerEncoder(counting_folder).fingerprint != before


def test_a_transformer_that_does_not_say_how_much_it_reads_does_not_load(compass_folder: Path) -> None:
    """A static encoder's graph cannot stand in for a transformer's."""
    with pytest.raises(KeyError, match="max_tokens"):
        TransformerEncoder(compass_folder)


def rewrite(folder: Path, max_tokens: str) -> None:
    """Let the graph of an encoder state another limit."""
    model = onnx.load(str(folder / "encoder.onnx"))
    helper.set_model_props(model, {"max_tokens": max_tokens})
    onnx.save(model, str(folder / "encoder.onnx"))


@pytest.mark.parametrize("limit", ["-3", "0", "2"])
def test_a_transformer_without_room_for_a_text_does_not_load(counting_folder: Path, limit: str) -> None:
    """Two marks and nothing between them say nothing."""
    rewrite(counting_folder, limit)
    with pytest.raises(ValueError, match="expected room"):
        TransformerEncoder(counting_folder)


def test_a_tokenizer_without_the_marks_does_not_load(counting_folder: Path) -> None:
    """It would fail at the first request instead."""
    bare = Tokenizer(WordLevel({"w1": 0, "[CLS]": CLS}))
    bare.save(str(counting_folder / "tokenizer.json"))
    with pytest.raises(ValueError, match="both in the tokenizer"):
        TransformerEncoder(counting_folder)


def test_a_transformer_that_says_it_reads_more_than_it_can_does_not_load(shipped: Path, tmp_path: Path) -> None:
    """Positions end where training ended; a long text is not the place to find out."""
    folder = Path(shutil.copytree(shipped / LAYOUT.accurate, tmp_path / "copy"))
    rewrite(folder, "100000")
    with pytest.raises(Exception, match=r"placed|Add|broadcast|axis"):
        TransformerEncoder(folder)


def test_a_tokenizers_own_limit_does_not_lose_the_tail(counting_folder: Path) -> None:
    """Head and tail are cut here, not by what the file says."""
    tokenizer = numbered()
    tokenizer.enable_truncation(4)
    tokenizer.save(str(counting_folder / "tokenizer.json"))
    (row,) = TransformerEncoder(counting_folder).encode(["w1 w2 w3 w4 w5 w6"])
    assert counts(row, 8) == {CLS: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, SEP: 1}
