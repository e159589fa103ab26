"""Near duplicates: what counts as alike, and that the index finds exactly what comparing every pair would."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training import duplicates
from training.duplicates import SIMILAR, Index, pieces

Indices = NDArray[np.int64]

TEXT = "Please write unit tests for the function below, and mind the empty list"
WORDS = st.lists(st.sampled_from(["sort", "the", "names", "of", "all", "rivers", "in", "Peru", "by", "length"]), min_size=1, max_size=9)
TEXTS = st.lists(WORDS.map(" ".join) | st.text("abc ", max_size=14), min_size=1, max_size=14)


def anything(i: Indices, _j: Indices) -> NDArray[np.bool_]:
    """Every pair is looked for."""
    return np.ones(len(i), dtype=bool)


def alike(one: str, other: str) -> float:
    """Jaccard similarity of the runs of five characters."""
    sets = [{text[at : at + 5] for at in range(max(1, len(text) - 4))} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def similarity(one: str, other: str) -> float:
    """What the index says of two texts."""
    return float(Index.of([one, other]).similarity(np.array([0]), np.array([1]))[0])


# pieces


@settings(deadline=None)
@given(words=st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1), gap=st.sampled_from([" ", ", ", "\n\n", " - ", "!? "]))
def test_case_spacing_and_punctuation_do_not_count(words: list[str], gap: str) -> None:
    """As in ``dataset.text_key``."""
    assert np.array_equal(pieces(" ".join(words)), pieces(f"  {gap.join(words).upper()}."))


@pytest.mark.parametrize(("text", "count"), [("abc", 1), ("abcde", 1), ("abcdef", 2), ("aaaaaaaa", 1), ("", 1)])
def test_a_text_has_a_piece_for_every_run_of_five_characters(text: str, count: int) -> None:
    """Each once; a text that is shorter is one piece."""
    assert len(pieces(text)) == count


def test_texts_without_a_word_are_told_apart() -> None:
    """They are taken as they are, rather than all for the same nothing."""
    assert not np.array_equal(pieces("???"), pieces("!!!"))
    assert np.array_equal(pieces(" ?? "), pieces("??"))


@settings(deadline=None)
@given(text=st.text(st.characters()))
def test_any_text_has_pieces(text: str) -> None:
    """In any script, and with halves of surrogate pairs."""
    found = pieces(text)
    assert len(found) >= 1
    assert np.array_equal(found, np.unique(found))


# similarity


@settings(deadline=None)
@given(one=st.text("abc"), other=st.text("abc"))
def test_similarity_is_that_of_the_sets_of_pieces(one: str, other: str) -> None:
    """Jaccard: shared pieces over all pieces."""
    assert similarity(one, other) == pytest.approx(alike(one, other))


@pytest.mark.parametrize(
    "other",
    [
        "please write unit tests for the funtcion below and mind the empty list",
        "Please write unit tests for the function below, and mind the empty list. Thanks!",
        "Write unit tests for the function below, and mind the empty list",
    ],
    ids=["typo", "thanks", "no please"],
)
def test_what_a_person_would_call_the_same_request_is_similar(other: str) -> None:
    """A letter or a courtesy does not make another request."""
    assert similarity(TEXT, other) >= SIMILAR


@pytest.mark.parametrize("other", ["Please write integration tests for the service below", "What is a unit test?"])
def test_another_request_is_not_similar(other: str) -> None:
    """Though it shares its words."""
    assert similarity(TEXT, other) < SIMILAR


# the closest


@settings(deadline=None, max_examples=150)
@given(texts=TEXTS, block=st.integers(1, 5), pairs=st.integers(1, 5), modulus=st.integers(1, 3))
def test_the_closest_is_what_comparing_every_pair_finds(texts: list[str], block: int, pairs: int, modulus: int) -> None:
    """Whatever is looked for, and however the work is divided; of several alike it is the first."""

    def related(i: Indices, j: Indices) -> NDArray[np.bool_]:
        return np.asarray((i - j) % modulus == 0)

    index = Index.of(texts)
    expected = []
    for i in range(len(texts)):
        others = np.array([j for j in range(len(texts)) if j != i and (i - j) % modulus == 0], dtype=np.int64)
        values = index.similarity(np.full(len(others), i), others)
        expected.append(int(others[values.argmax()]) if len(others) and values.max() >= SIMILAR else -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", block)
        patch.setattr(duplicates, "_PAIRS", pairs)
        assert index.closest(related).tolist() == expected


def test_long_texts_are_compared_by_their_rare_pieces() -> None:
    """Texts that share a long frame are alike only as far as the rest is; the index finds the one that is."""
    frame = " ".join(f"rule{number}" for number in range(40))
    own = ["seven sailors sell silk in Samarkand while it snows on the tall tower of the old town hall and nobody sees them leave " * 4]
    texts = [f"{frame} {word * 60}" for word in ("abc ", "bcd ", "cde ")]
    found = Index.of([*texts, f"{frame} {own[0]}", f"{frame} {own[0]} twice"]).closest(anything)
    assert found[-2:].tolist() == [4, 3]


def asked(texts: Sequence[str]) -> int:
    """Of how many pairs the index asks whether they are related: those that it will compare."""
    count = 0

    def related(i: Indices, _j: Indices) -> NDArray[np.bool_]:
        nonlocal count
        count += len(i)
        return np.ones(len(i), dtype=bool)

    Index.of(texts).closest(related)
    return count


def test_few_pairs_are_compared() -> None:
    """Of two hundred different requests in a common frame, which shares a quarter of its pieces, hardly any; by every pair, 40,000."""
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz      "))
    texts = ["Please be so kind and tell me: " + "".join(random.choice(letters, 90)) for _ in range(200)]
    assert asked(texts) < 500
