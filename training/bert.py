"""A BERT-like encoder as an ONNX graph in int8: token ids of one text -> the mean of its last layer.

Written node by node from the weights' names, so that no exporter stands between what was trained and what serves: fused nodes
of onnxruntime (``com.microsoft``) for attention, layer normalisation and GELU, which its CPU provider runs at about twice the
speed of the plain ones.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from training import encoders
from training.graphs import Graph

Floats = NDArray[np.float32]
_FUSED = "com.microsoft"
_EPSILON = 1e-12  # BERT's own, in every layer normalisation


@dataclass(frozen=True, slots=True)
class Shape:
    """What the weights do not say themselves."""

    layers: int
    heads: int = 12
    max_tokens: int = 128


def graph(weights: Mapping[str, Floats], shape: Shape, provenance: Mapping[str, str]) -> onnx.ModelProto:
    """``ids`` (n_tokens,) int64, up to ``max_tokens`` -> ``embedding`` (1, dim) float32, in full precision.

    ``weights`` are a BertModel's by their names in ``transformers``. Token vectors are int8 with a float32 scale for each
    token; a text has a single segment.
    """
    g = Graph()
    table, scale = encoders.quantised(weights["embeddings.word_embeddings.weight"])
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    zero = g.constant([0], np.int64)
    rows = g.node("Cast", g.node("Gather", g.constant(table, np.int8), "ids"), to=TensorProto.FLOAT)
    rows = g.node("Mul", rows, g.node("Gather", g.constant(scale), "ids"))
    placed = g.node("Slice", g.constant(places[: shape.max_tokens]), zero, g.node("Shape", "ids"), zero)
    start = [g.constant(weights[f"embeddings.LayerNorm.{part}"]) for part in ("weight", "bias")]
    summed = g.node("Unsqueeze", g.node("Add", rows, placed), zero)
    hidden = g.node("LayerNormalization", summed, *start, axis=-1, epsilon=_EPSILON)
    for layer in range(shape.layers):
        hidden = _layer(g, hidden, weights, f"encoder.layer.{layer}", shape.heads)
    g.node("Squeeze", g.node("ReduceMean", hidden, axes=[1], keepdims=1), zero, output="embedding")
    return g.model(
        "transformer_encoder",
        {"ids": ["n_tokens"]},
        {"embedding": [1, table.shape[1]]},
        {**provenance, "layers": str(shape.layers), "max_tokens": str(shape.max_tokens)},
    )


def _layer(g: Graph, hidden: str, weights: Mapping[str, Floats], layer: str, heads: int) -> str:
    parts = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
    joined = g.constant(np.concatenate([weights[f"{part}.weight"].T for part in parts], axis=1))
    bias = g.constant(np.concatenate([weights[f"{part}.bias"] for part in parts]))
    attended = g.node("Attention", hidden, joined, bias, domain=_FUSED, num_heads=heads)
    hidden = _normalised(g, hidden, attended, weights, f"{layer}.attention.output")
    wide = g.node("MatMul", hidden, g.constant(weights[f"{layer}.intermediate.dense.weight"].T))
    active = g.node("BiasGelu", wide, g.constant(weights[f"{layer}.intermediate.dense.bias"]), domain=_FUSED)
    return _normalised(g, hidden, active, weights, f"{layer}.output")


def _normalised(g: Graph, hidden: str, value: str, weights: Mapping[str, Floats], name: str) -> str:
    """Layer normalisation of hidden + dense(value)."""
    dense = g.node("MatMul", value, g.constant(weights[f"{name}.dense.weight"].T))
    norm = [g.constant(weights[f"{name}.{part}"]) for part in ("LayerNorm.weight", "LayerNorm.bias", "dense.bias")]
    return g.node("SkipLayerNormalization", dense, hidden, *norm, domain=_FUSED, epsilon=_EPSILON)


def int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with its matrices in int8, a scale for each column; activations are quantised as they come (dynamically)."""
    with tempfile.TemporaryDirectory() as folder:
        full, small = Path(folder) / "full.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(full))
        quantize_dynamic(
            full, small, op_types_to_quantize=["MatMul", "Attention"], per_channel=True, weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )  # fmt: skip
        result = onnx.load(str(small))
    kept = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(result, kept)
    return result
