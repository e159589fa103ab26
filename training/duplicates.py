"""Texts that say nearly the same: the closest other one for each, by the pieces that two texts share.

Pieces rather than words or vectors: a typo costs five of them, any script has them, and a number that changes the question counts
as little as it should. Prefix filtering finds every pair that is similar enough without looking at every pair. Knows no labels.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]
Related = Callable[[Indices, Indices], NDArray[np.bool_]]

PIECE = 5  # characters
SIMILAR = 0.6
"""Jaccard similarity from which texts are near duplicates: on the bundled prompts all but one in a hundred copies with typos, other
case, spacing or spelling reach it, and no two prompts of different scenarios do that differ in their tier."""

_SHARED = 8  # pieces that two prefixes must share before two texts are compared
_BLOCK = 500  # texts, and
_PAIRS = 20_000  # pairs at a time: bounds the memory
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def pieces(text: str) -> Hashes:
    """(n,) distinct 64-bit hashes of the runs of five characters, case, spacing and punctuation aside; a shorter text is one piece,
    and a text without a word is taken as it is.
    """
    plain = " ".join(re.findall(r"\w+", text.lower())) or text.strip()
    codes = np.frombuffer(plain.ljust(PIECE).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    hashes = np.zeros(len(codes) - PIECE + 1, dtype=np.uint64)
    for place in range(PIECE):
        hashes = (hashes ^ codes[place : place + len(hashes)]) * _FACTOR
    return np.unique(hashes)


@dataclass(frozen=True, slots=True)
class Index:
    """Texts by their pieces.

    ``whole`` (n_texts, n_pieces) holds a 1 for every piece of a text, the rarest pieces in the first columns; ``prefix`` the first of
    them. Where two sets have a Jaccard similarity of at least s, each shares at least a = ceil(s * size) elements with the other, so
    that of their first size - a + k elements in any common order they share at least k (prefix filtering: Chaudhuri et al. 2006,
    "A primitive operator for similarity joins"; k above 1: Wang et al. 2012, "Can we beat the prefix filtering?"). With the rarest
    first, few others do.
    """

    whole: csr_matrix
    prefix: csr_matrix
    sizes: Indices  # (n_texts,) pieces
    shared: Indices  # (n_texts,) the k of a text

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Index":
        """The index of (n,) texts, at least one."""
        sets = [pieces(text) for text in texts]
        sizes = np.array([len(one) for one in sets], dtype=np.int64)
        _, columns, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
        rank = np.empty(len(counts), dtype=np.int64)
        rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
        starts = np.cumsum([0, *sizes])
        whole = csr_matrix((np.ones(len(columns), np.int32), rank[columns], starts), (len(texts), len(counts)))
        whole.sort_indices()
        least = np.ceil(SIMILAR * sizes - 1e-9).astype(np.int64)
        shared = np.minimum(_SHARED, least)
        lengths = sizes - least + shared
        first = np.arange(len(columns)) - np.repeat(starts[:-1], sizes) < np.repeat(lengths, sizes)
        prefix = csr_matrix((whole.data[first], whole.indices[first], np.cumsum([0, *lengths])), whole.shape)
        return cls(whole, prefix, sizes, shared)

    def similarity(self, one: Indices, other: Indices) -> Floats:
        """(n,) Jaccard similarities of (n,) pairs of texts."""
        result = np.empty(len(one))
        for start in range(0, len(one), _PAIRS):
            i, j = one[start : start + _PAIRS], other[start : start + _PAIRS]
            both = np.asarray(self.whole[i].multiply(self.whole[j]).sum(axis=1)).ravel()
            result[start : start + _PAIRS] = both / (self.sizes[i] + self.sizes[j] - both)
        return result

    def closest(self, related: Related) -> Indices:
        """(n,) for each text the most similar one that it is related to, of several alike the first; -1 where none reaches ``SIMILAR``.

        ``related`` says of (m,) pairs of texts whether one is looked for among the other's duplicates; no text is its own.
        """
        best = np.full(len(self.sizes), -1, dtype=np.int64)
        columns = self.prefix.T.tocsr()
        for start in range(0, len(self.sizes), _BLOCK):
            i, j, similarity = self._block(start, columns, related)
            order = np.lexsort((j, -similarity, i))
            rows, at = np.unique(i[order], return_index=True)
            best[rows] = j[order][at]
        return best

    def _block(self, start: int, columns: csr_matrix, related: Related) -> tuple[Indices, Indices, Floats]:
        """Every pair of a text of one block with a related one that is similar enough."""
        found = (self.prefix[start : start + _BLOCK] @ columns).tocoo()
        i, j = found.row.astype(np.int64) + start, found.col.astype(np.int64)
        sizes, others = self.sizes[i], self.sizes[j]
        likely = (found.data >= np.minimum(self.shared[i], self.shared[j])) & (
            np.minimum(sizes, others) >= SIMILAR * np.maximum(sizes, others) - 1e-9
        )
        i, j = i[likely], j[likely]
        wanted = (i != j) & related(i, j)
        i, j = i[wanted], j[wanted]
        similarity = self.similarity(i, j)
        similar = similarity >= SIMILAR
        return i[similar], j[similar], similarity[similar]
