"""Confident learning: which labels held-out heads contradict, and that the heads never saw the row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from classifier.errors import BundleError
from training import suspects
from training.dataset import Example, fold_of
from training.features import Features
from training.fit import ENCODER
from training.heads import FAMILIES
from training.learn import FOLDS
from training.suspects import contradicted, held_out_probabilities

pytest_plugins = ("tests.training.fixtures_of_training",)

Matrix = NDArray[np.float64]

SMALL, MEDIUM, LARGE = range(3)


def said(probabilities: Sequence[Sequence[float]], labels: Sequence[int], votes: Sequence[Sequence[float]] | None = None) -> list[int]:
    """What the heads say against the labels."""
    shares = np.eye(3)[list(labels)] if votes is None else np.array(votes)
    return [int(tier) for tier in contradicted(np.array(probabilities), np.array(labels), shares)]


# what is contradicted


def test_a_tier_is_meant_where_it_is_as_likely_as_for_the_rows_that_carry_it() -> None:
    """By hand: the rows labelled small have .8 for small on the mean, so that .85 is confident and .75 is not."""
    rows = [[0.9, 0.1, 0], [0.7, 0.3, 0], [0.85, 0.15, 0], [0.75, 0.25, 0]]
    assert said(rows, [SMALL, SMALL, MEDIUM, MEDIUM]) == [-1, -1, SMALL, -1]


def test_of_two_such_tiers_the_likelier_is_meant() -> None:
    """The third row is typical of small, and of large too."""
    rows = [[0.3, 0.4, 0.3], [0.2, 0.3, 0.5], [0.35, 0.1, 0.55], [0.1, 0.8, 0.1]]
    assert said(rows, [SMALL, LARGE, MEDIUM, MEDIUM]) == [-1, -1, LARGE, -1]


def test_a_label_that_is_the_likelier_stands() -> None:
    """Where heads are seldom sure of medium, a third is much; but small is likelier still, if less so than usual for small."""
    rows = [[0.99, 0.01, 0], [0.6, 0.4, 0], [0.7, 0.3, 0]]
    assert said(rows, [SMALL, SMALL, MEDIUM]) == [-1, -1, -1]


def test_a_tier_that_a_reader_voted_for_is_no_news() -> None:
    """The votes say already that it is a close call."""
    rows, labels = [[0.9, 0.1, 0], [0.95, 0.05, 0]], [SMALL, MEDIUM]
    assert said(rows, labels) == [-1, SMALL]
    assert said(rows, labels, [[1, 0, 0], [0.3, 0.7, 0]]) == [-1, -1]


def test_a_tier_without_a_row_is_never_meant() -> None:
    """There is nothing to compare it with."""
    assert said([[0.1, 0, 0.9], [0.2, 0.7, 0.1]], [SMALL, MEDIUM]) == [-1, -1]


SHARES = arrays(float, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(0.01, 1)).map(
    lambda m: m / m.sum(axis=1, keepdims=True)
)


@settings(deadline=None)
@given(probabilities=SHARES, data=st.data())
def test_what_is_said_differs_from_the_label_and_is_likelier(probabilities: Matrix, data: st.DataObject) -> None:
    """Whatever heads give."""
    n = len(probabilities)
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    says = contradicted(probabilities, labels, np.eye(3)[labels])
    rows = np.flatnonzero(says >= 0)
    assert (probabilities[rows, says[rows]] > probabilities[rows, labels[rows]]).all()


def test_wrong_labels_are_found_among_right_ones() -> None:
    """Where the heads are right nine times in ten and a label in twenty is wrong: most of the wrong ones, and few of the others."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 3000)
    wrong = random.random(3000) < 0.05
    labels = np.where(wrong, (truth + random.integers(1, 3, 3000)) % 3, truth)
    heads = np.where(random.random(3000) < 0.9, truth, random.integers(0, 3, 3000))
    probabilities = np.full((3000, 3), 0.05) + 0.85 * np.eye(3)[heads]
    found = contradicted(probabilities, labels, np.eye(3)[labels])
    assert (found[wrong] == truth[wrong]).mean() > 0.8
    assert (found[~wrong] >= 0).mean() < 0.1


# what the heads say


@dataclass
class Spy:
    """A head that remembers the rows it learned from and those it was asked about, by a signal."""

    seed: int
    fitted: ClassVar[list[tuple[set[float], set[float]]]] = []

    def fit(self, features: Features, targets: Matrix, weights: Matrix) -> Self:
        """As many targets and weights as rows."""
        assert len(features) == len(targets) == len(weights)
        self.learned = set(features.signals[:, 0].tolist())
        return self

    def logits(self, features: Features) -> Matrix:
        """(n, 3), the same for every row."""
        self.fitted.append((self.learned, set(features.signals[:, 0].tolist())))
        return np.tile([-1.0, 1.0, 2.0], (len(features), 1))


@pytest.fixture(name="spied")
def _spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[set[float], set[float]]]:
    """What the heads learned from and were asked about; rows are numbered by their one signal."""

    def numbered(examples: Sequence[Example], *_: object) -> Features:
        n = len(examples)
        numbers = np.arange(n, dtype=np.float32)[:, None]
        return Features(numbers, csr_matrix((n, 2), dtype=np.float32), np.zeros(n, np.float32), np.eye(2, dtype=np.float32))

    monkeypatch.setattr(suspects, "features_of", numbered)
    for family in suspects.FAMILIES:
        monkeypatch.setitem(FAMILIES, family, Spy)
    monkeypatch.setattr(Spy, "fitted", [])
    return Spy.fitted


def test_every_row_is_judged_by_heads_that_saw_no_row_of_its_group(
    spied: list[tuple[set[float], set[float]]], tiny_examples: list[Example]
) -> None:
    """Two families a fold, and each fold once a family."""
    examples = tiny_examples[::4]
    steps: list[int] = []
    held_out_probabilities(examples, ENCODER, 0, lambda: steps.append(1))
    assert len(spied) == len(steps) == FOLDS * len(suspects.FAMILIES)
    for learned, judged in spied:
        folds = [{fold_of(examples[int(number)].group, FOLDS, 0) for number in numbers} for numbers in (learned, judged)]
        assert not folds[0] & folds[1]
    for family in (spied[:FOLDS], spied[FOLDS:]):
        assert sorted(number for _, judged in family for number in judged) == list(range(len(examples)))


def test_probabilities_are_those_of_the_rows_as_they_are(spied: list[tuple[set[float], set[float]]], tiny_examples: list[Example]) -> None:
    """They sum to 1; heads that know nothing give the shares of the labels, which no prior of traffic has changed."""
    probabilities = held_out_probabilities(tiny_examples, ENCODER, 0)
    assert probabilities.shape == (len(tiny_examples), 3)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    shares = np.bincount([example.label or 0 for example in tiny_examples]) / len(tiny_examples)
    assert probabilities.mean(axis=0) == pytest.approx(shares, abs=0.03)


def test_a_single_group_cannot_be_held_out(tiny_examples: list[Example]) -> None:
    """Nothing would be left to learn from."""
    with pytest.raises(ValueError, match="found 1 group"):
        held_out_probabilities([replace(example, group="one") for example in tiny_examples[:9]], ENCODER, 0)


def test_a_folder_without_an_encoder_is_named(tiny_examples: list[Example], tmp_path: Path) -> None:
    """As in training."""
    with pytest.raises(BundleError, match=r"encoder\.onnx: found no file"):
        held_out_probabilities(tiny_examples, tmp_path, 0)
