"""A user's own rows: what they stand for, and how they are dealt into folds. What stands in files: test_training_recalibrate.py."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier import from_text
from training.dataset import Example
from training.own import FOLDS, Base, Own

RUBRIC = Base((0.6, 0.3, 0.1), "rubric")


def labelled(labels: Sequence[int], groups: Sequence[str] | None = None, stated: tuple[float, ...] | None = None) -> Own:
    """Rows with these labels, each a group of its own unless said otherwise."""
    targets = (np.array(labels)[:, None] <= np.arange(3)).astype(np.float64)
    names = np.array([str(at) for at in range(len(labels))] if groups is None else groups)
    return Own("labelled", targets, np.array(labels), np.ones(len(labels)), names, stated)


# what rows stand for


def test_rows_come_with_targets_labels_weights_and_groups() -> None:
    """As the examples hold them; outcomes have no label."""
    prompt = from_text("Why?")
    examples = [
        Example("a", "g", "s", prompt, (0.0, 1.0, 1.0), 1, "train", weight=2.0),
        Example("b", "h", "s", prompt, (0.0, 0.5, 1.0), 2, "train"),
    ]
    own = Own.of(examples)
    assert (own.kind, own.basis, own.labels.tolist(), own.weights.tolist(), own.groups.tolist()) == (
        "labelled",
        "rubric",
        [1, 2],
        [2, 1],
        ["g", "h"],
    )
    np.testing.assert_array_equal(own.targets, [[0, 1, 1], [0, 0.5, 1]])
    outcomes = Own.of([replace(examples[0], label=None)])
    assert (outcomes.kind, outcomes.basis, outcomes.labels.tolist()) == ("outcomes", "outcomes", [-1])


def test_the_prior_is_the_stated_one_or_that_of_the_rows() -> None:
    """Smoothed by thirty rows at the shipped shares; rows of another basis by one."""
    labels = [0] * 20 + [1] * 30 + [2] * 20
    assert labelled(labels, stated=(0.5, 0.3, 0.2)).prior(RUBRIC) == (0.5, 0.3, 0.2)
    assert labelled(labels).prior(RUBRIC) == pytest.approx((0.38, 0.39, 0.23))
    assert labelled(labels).prior(Base(RUBRIC.prior, "outcomes")) == pytest.approx((20.6 / 71, 30.3 / 71, 20.1 / 71))


def test_without_stated_shares_rows_are_traffic_as_they_come() -> None:
    """By their own weights; with stated shares the tiers weigh as these say."""
    own = replace(labelled([0, 0, 1, 2]), weights=np.array([1.0, 3.0, 2.0, 2.0]))
    assert own.traffic_weights.tolist() == [0.5, 1.5, 1, 1]
    assert replace(own, stated=(0.4, 0.4, 0.2)).traffic_weights == pytest.approx(4 * np.array([0.1, 0.3, 0.4, 0.2]))


def test_stated_shares_of_a_tier_without_rows_are_refused() -> None:
    """There is nothing to weigh."""
    with pytest.raises(ValueError, match="no labelled row of tier 2"):
        _ = labelled([0, 1], stated=(0.4, 0.4, 0.2)).traffic_weights


# folds


@settings(deadline=None, max_examples=30)
@given(labels=st.lists(st.integers(0, 2), min_size=20, max_size=80), n_groups=st.integers(15, 40), seed=st.integers(0, 5))
def test_groups_stay_whole_and_folds_are_of_a_size(labels: list[int], n_groups: int, seed: int) -> None:
    """Whatever the labels; the same for the same seed."""
    own = labelled(labels, [str(at % n_groups) for at in range(len(labels))])
    folds = own.folds(seed)
    assert all(len(set(folds[own.groups == group].tolist())) == 1 for group in set(own.groups.tolist()))
    by_fold = [len(set(own.groups[folds == fold].tolist())) for fold in range(FOLDS)]
    assert max(by_fold) - min(by_fold) <= 1
    np.testing.assert_array_equal(folds, own.folds(seed))


@pytest.mark.parametrize("seed", range(8))
def test_every_fold_has_its_share_of_a_rare_tier(seed: int) -> None:
    """Two rows of the top tier never lie in the same fold, so that neither is judged by a calibration that knows none."""
    folds = labelled([0] * 40 + [1] * 15 + [2] * 2).folds(seed)
    assert len(set(folds[-2:].tolist())) == 2
    assert np.bincount(folds[40:55], minlength=FOLDS).tolist() == [3] * 5


def test_a_group_goes_by_its_rarest_label() -> None:
    """A large row beside a small one is dealt out with the large ones."""
    groups = [*map(str, range(20)), "0", "1"]
    folds = labelled([0] * 20 + [2] * 2, groups).folds()
    assert folds[0] == folds[20] != folds[1] == folds[21]
