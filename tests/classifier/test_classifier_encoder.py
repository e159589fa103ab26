"""Texts -> unit vectors, each from its own text alone."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier.bundle import LAYOUT
from classifier.encoder import Encoder, StaticEncoder

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


def changed(folder: Path, name: str) -> StaticEncoder:
    """The same encoder with a file that says the same in other bytes."""
    if name == "encoder.onnx":
        model = onnx.load(str(folder / name))
        model.doc_string = "changed"
        onnx.save(model, str(folder / name))
    else:
        (folder / name).write_text((folder / name).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    return StaticEncoder(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "encoder.onnx"])
def test_the_fingerprint_changes_with_either_file(compass_folder: Path, name: str) -> None:
    """Whenever a vector may change, so does the fingerprint."""
    before = StaticEncoder(compass_folder).fingerprint
    assert changed(compass_folder, name).fingerprint != before
