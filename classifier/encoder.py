"""Texts -> embeddings. One protocol, so that a transformer can stand beside the static encoder."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from classifier.runtime import session

Embeddings = NDArray[np.float32]


class Encoder(Protocol):
    """What turns texts into vectors.

    ``encode`` returns (n_texts, dim) float32 with rows of length 1 (0 for a text without a token), and a row depends on
    its own text alone: bit for bit the same in every batch.
    """

    @property
    def dim(self) -> int:
        """Length of a row."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever any vector may change."""

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """(n_texts, dim) float32."""


class StaticEncoder:
    """One vector a token, summed and normalised: ``encoder.onnx`` and ``tokenizer.json`` of a folder.

    Texts run one by one: on CPU that is as fast as a batch, and sums in a batch of another shape may differ in the last bit.
    """

    def __init__(self, folder: Path) -> None:
        model, tokenizer = folder / "encoder.onnx", folder / "tokenizer.json"
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._session = session(model)
        self.dim: int = self._session.get_outputs()[0].shape[1]
        self.fingerprint = sha256(model.read_bytes() + tokenizer.read_bytes()).hexdigest()
        self.provenance: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """(n_texts, dim) float32."""
        rows = np.empty((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            ids = np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)
            row[:] = self._session.run(("embedding",), {"ids": ids})[0][0]
        return rows
