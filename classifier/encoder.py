"""Texts -> embeddings. One protocol, so that a transformer can stand beside the static encoder."""

import json
import string
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

    ``encode`` returns (n_texts, dim) float32, and a row depends on its own text alone: bit for bit the same in every batch.
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
        self._words = _whole_words(self._tokenizer)
        self._pieces = self._tokenizer.model.tokenize
        self._session = session(model)
        self.dim: int = self._session.get_outputs()[0].shape[1]
        self.fingerprint = sha256(model.read_bytes() + tokenizer.read_bytes()).hexdigest()
        self.provenance: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """(n_texts, dim) float32 rows of length 1, 0 for a text without a token."""
        rows = np.empty((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            ids = np.array(self.token_ids(text), dtype=np.int64)
            row[:] = self._session.run(("embedding",), {"ids": ids})[0][0]
        return rows

    def token_ids(self, text: str) -> list[int]:
        """The tokenizer's ids of ``text``, in an order of their own: a sum of vectors does not care.

        Of plain ASCII, words are split and looked up here, at a third of the time; only those that the vocabulary does not
        hold whole go through the tokenizer's model.
        """
        if self._words is None:
            return self._encoded(text)
        others: list[int] = []
        if not text.isascii():  # what stands between spaces is tokenised by itself, so only what is not ASCII takes the long way
            chunks = text.split()
            others = self._encoded(" ".join([chunk for chunk in chunks if not chunk.isascii()]))
            text = " ".join([chunk for chunk in chunks if chunk.isascii()])
        encoded = text.encode()  # translating bytes takes a tenth of what a regular expression does
        words, marks = encoded.translate(_TO_WORDS).decode().split(), encoded.translate(None, _NO_MARKS).decode()
        found = list(map(self._words.get, (*words, *marks)))
        pieces = [piece.id for word, whole in zip(words, found, strict=False) if whole is None for piece in self._pieces(word)]
        return [whole for whole in found if whole is not None] + pieces + others

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


class TransformerEncoder:
    """A small transformer, ``encoder.onnx`` and ``tokenizer.json`` of a folder: the mean of its last layer.

    Of a text that is too long for it, it reads head and tail. One text a run and no padding, since activations are quantised
    as they come: a vector would depend on its neighbours. ValueError where tokenizer and graph cannot do that.
    """

    def __init__(self, folder: Path) -> None:
        model, tokenizer = folder / "encoder.onnx", folder / "tokenizer.json"
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()  # which would lose the tail
        self._tokenizer.no_padding()
        self._session = session(model)
        self.dim: int = self._session.get_outputs()[0].shape[1]
        self.fingerprint = sha256(model.read_bytes() + tokenizer.read_bytes()).hexdigest()
        self.provenance: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.max_tokens = int(self.provenance["max_tokens"])
        if self.max_tokens <= len(MARKS) or None in map(self._tokenizer.token_to_id, MARKS):
            raise ValueError(f"found {self.max_tokens} tokens, expected room for {', '.join(MARKS)} and more, and both in the tokenizer")
        self._session.run(("embedding",), {"ids": np.zeros(self.max_tokens, np.int64)})  # as long as any text will be

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """(n_texts, dim) float32, not normalised."""
        rows = np.empty((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            ids = np.array(token_ids(self._tokenizer, text, self.max_tokens), dtype=np.int64)
            row[:] = self._session.run(("embedding",), {"ids": ids})[0][0]
        return rows

    def length(self, text: str) -> int:
        """How many tokens it reads of ``text``: what its time goes by."""
        return len(token_ids(self._tokenizer, text, self.max_tokens))


MARKS = ("[CLS]", "[SEP]")
"""What BERT puts before and behind a text."""


def token_ids(tokenizer: Tokenizer, text: str, max_tokens: int) -> list[int]:
    """What a BERT-like transformer reads of ``text``: two thirds of the room for the head where it is too long, the rest for the tail."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    room = max_tokens - len(MARKS)
    if len(ids) > room:
        head = room * 2 // 3
        ids = ids[:head] + ids[head - room :]
    first, last = MARKS
    return [tokenizer.token_to_id(first), *ids, tokenizer.token_to_id(last)]


# What BERT's normaliser and pre-tokenizer make of ASCII: lower-case runs of letters and digits, and every mark by itself.
_WORD_CHARACTERS = string.ascii_lowercase + string.digits
_TO_WORDS = bytes(ord(chr(byte).lower()) if chr(byte).lower() in _WORD_CHARACTERS else ord(" ") for byte in range(256))
_NO_MARKS = bytes(byte for byte in range(256) if chr(byte) not in string.punctuation)


def _whole_words(tokenizer: Tokenizer) -> dict[str, int] | None:
    """Words and marks that are tokens by themselves; None for a tokenizer that is not BERT's uncased one."""
    parts = json.loads(tokenizer.to_str())
    normaliser, splitter, model = (parts.get(name) or {} for name in ("normalizer", "pre_tokenizer", "model"))
    kinds = (normaliser.get("type"), normaliser.get("lowercase"), splitter.get("type"), model.get("type"))
    if kinds != ("BertNormalizer", True, "BertPreTokenizer", "WordPiece"):
        return None
    return {word: number for word, number in model["vocab"].items() if word in string.punctuation or set(word) <= set(_WORD_CHARACTERS)}
