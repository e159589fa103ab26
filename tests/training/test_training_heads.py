"""Sufficiency heads: soft targets, masks, weights, cross-fitting."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from training import heads
from training.features import Features
from training.heads import (
    CANDIDATES,
    FAMILIES,
    Average,
    Linear,
    PerBasis,
    PerTier,
    Trees,
    candidate_logits,
    cross_fit,
    make,
    source_weights,
    tuned_vectors,
)
from training.network import Network

Matrix = NDArray[np.float64]

N_SIGNALS, VOCABULARY, DIM = 6, 40, 5
PER_TIER = [family for family in FAMILIES if family != "network"]
"""Families of an estimator a tier, which see every row as a whole; the network draws batches."""


def random_features(n: int, seed: int = 0, outcomes: float = 0.0) -> Features:
    """Counts and shares, asks of some eight tokens, and a share of ``outcomes`` rows; the table of vectors is always the same."""
    random = np.random.default_rng(seed)
    return Features(
        random.gamma(1, 3, (n, N_SIGNALS)).astype(np.float32),
        csr_matrix(random.poisson(0.2, (n, VOCABULARY)).astype(np.float32)),
        (random.random(n) < outcomes).astype(np.float32),
        np.random.default_rng(0).normal(size=(VOCABULARY, DIM)).astype(np.float32),
    )


def hard_targets(features: Features, seed: int = 0) -> Matrix:
    """Two tiers that a signal and a direction of the embedding decide, with noise; the cheaper one's basis turns it round."""
    random = np.random.default_rng(seed)
    first = 2 * np.log1p(features.signals[:, 0]) - 2.4 + features.embedding[:, 0]
    noise = random.normal(0, 0.3, (len(features), 2))
    sign = np.where(features.basis > 0, -1, 1)
    return (np.stack([sign * first, first + 1], axis=1) + noise > 0).astype(np.float64)


def ones(features: Features) -> Matrix:
    """Equal weights."""
    return np.ones(len(features))


def stacked(features: Features) -> Features:
    """Every row twice, the second time below all others."""
    return features[np.tile(np.arange(len(features)), 2)]


@pytest.fixture(name="one_thread", autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Trees on so few rows lose far more than they win by threads."""
    with threadpool_limits(1):
        yield


# soft targets and masks


@pytest.mark.parametrize("family", PER_TIER)
def test_a_soft_target_is_two_weighted_hard_rows(family: str) -> None:
    """A target of y is a positive of weight y and a negative of weight 1 - y."""
    features = random_features(150)
    soft = np.clip(hard_targets(features) * 0.6 + 0.2 * np.random.default_rng(1).random((150, 2)) + 0.1, 0, 1)[:, :1]
    hard = np.vstack([np.ones((150, 1)), np.zeros((150, 1))])
    weights = np.concatenate([soft[:, 0], 1 - soft[:, 0]])
    from_soft = FAMILIES[family](0).fit(features, soft, ones(features))
    from_hard = FAMILIES[family](0).fit(stacked(features), hard, weights)
    np.testing.assert_allclose(from_soft.logits(features), from_hard.logits(features), atol=1e-6)


def test_the_scale_of_all_weights_changes_nothing() -> None:
    """The ridge penalty means the same for any number of sources."""
    features = random_features(200)
    targets = hard_targets(features)
    one, thousand = (Linear().fit(features, targets, scale * ones(features)) for scale in (1, 1_000))
    np.testing.assert_allclose(one.logits(features), thousand.logits(features), atol=1e-4)


def test_a_heavier_row_counts_for_more() -> None:
    """Where rows disagree, weight decides."""
    features = stacked(random_features(100))
    targets = np.repeat([1.0, 0.0], 100)[:, None]
    for share in (0.2, 0.8):
        weights = np.repeat([share, 1 - share], 100)
        logits = Linear().fit(features, targets, weights).logits(features)
        assert expit(logits).mean() == pytest.approx(share, abs=0.02)


def test_a_row_teaches_the_tiers_that_it_knows() -> None:
    """Where a target is masked, the row's weight has no part in that tier; elsewhere it has."""
    features = random_features(200)
    targets = hard_targets(features)
    targets[100:, 0] = np.nan
    heavy = np.concatenate([np.ones(100), np.full(100, 50.0)])
    plain, changed = (Linear().fit(features, targets, weights).logits(features) for weights in (ones(features), heavy))
    np.testing.assert_allclose(plain[:, 0], changed[:, 0], atol=1e-6)
    assert np.abs(plain[:, 1] - changed[:, 1]).max() > 0.01


@pytest.mark.parametrize("family", PER_TIER)
@pytest.mark.parametrize("target", [np.nan, 0.0, 1.0])
def test_a_tier_with_nothing_to_learn_has_no_opinion(family: str, target: float) -> None:
    """Nobody measured it, or it always or never suffices: its logit is 0."""
    features = random_features(120)
    targets = hard_targets(features)
    targets[:, 1] = target
    logits = FAMILIES[family](0).fit(features, targets, ones(features)).logits(features)
    np.testing.assert_array_equal(logits[:, 1], np.zeros(120))
    assert np.ptp(logits[:, 0]) > 0


# families


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_every_candidate_learns(candidate: str) -> None:
    """On rows that it has not seen, for both tiers."""
    train, test = random_features(400), random_features(300, seed=1)
    logits = make(candidate, 0).fit(train, hard_targets(train), ones(train)).logits(test)
    targets = hard_targets(test, seed=1)
    assert logits.shape == (300, 2)
    assert min(roc_auc_score(targets[:, tier], logits[:, tier]) for tier in range(2)) > 0.75


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_gives_the_same_head_every_time(family: str) -> None:
    """To the last bit."""
    features = random_features(250, outcomes=0.4)
    targets = hard_targets(features)
    first, same = (FAMILIES[family](7).fit(features, targets, ones(features)).logits(features) for _ in range(2))
    np.testing.assert_array_equal(first, same)


@pytest.mark.parametrize("family", ["network", "trees"])
def test_another_seed_gives_another_head(family: str) -> None:
    """What is random is random by the seed alone."""
    features = random_features(150)
    targets = hard_targets(features)
    first, other = (FAMILIES[family](seed).fit(features, targets, ones(features)).logits(features) for seed in (1, 2))
    assert np.abs(first - other).max() > 1e-3


def test_trees_read_signals_alone() -> None:
    """On the embedding they only overfit, and each basis has trees of its own."""
    features = random_features(300, outcomes=0.5)
    trees = Trees().fit(features, hard_targets(features), ones(features))
    elsewhere = replace(features, vectors=-features.vectors, basis=1 - features.basis)
    np.testing.assert_array_equal(trees.logits(features), trees.logits(elsewhere))


# two bases


@pytest.fixture(name="both", scope="module")
def _both() -> Features:
    """Rows of both bases."""
    return random_features(300, outcomes=0.4)


@pytest.mark.parametrize("kind", [Linear, partial(Trees, iterations=20)], ids=["linear", "trees"])
def test_each_basis_has_a_head_of_its_own(both: Features, kind: Callable[[], PerTier]) -> None:
    """What models got right does not move what the rubric says, nor the other way round."""
    targets, measured = hard_targets(both), both.basis > 0
    logits = PerBasis(kind, kind).fit(both, targets, ones(both)).logits(both)
    for rows in (measured, ~measured):
        alone = kind().fit(both[rows], targets[rows], ones(both)[rows])
        np.testing.assert_array_equal(logits[rows], alone.logits(both[rows]))


def test_each_basis_has_a_strength_of_its_own(both: Features) -> None:
    """Of outcomes there are more rows."""
    head = PerBasis(Linear, partial(Linear, c=2.0)).fit(both, hard_targets(both), ones(both))
    assert isinstance(head.rubric, Linear)
    assert isinstance(head.outcomes, Linear)
    assert (head.rubric.c, head.outcomes.c) == (0.01, 2)


def test_rows_of_one_basis_are_answered_as_among_others(both: Features) -> None:
    """Alone, in part and together, each by the head of its basis."""
    head = PerBasis(Linear, Linear).fit(both, hard_targets(both), ones(both))
    logits = head.logits(both)
    for rows in (both.basis > 0, both.basis == 0, np.arange(300) % 2 > 0):
        np.testing.assert_allclose(head.logits(both[rows]), logits[rows], atol=1e-9)


def test_the_basis_of_a_row_decides_who_answers(both: Features) -> None:
    """The same prompts, asked the other way."""
    head = PerBasis(Linear, Linear).fit(both, hard_targets(both), ones(both))
    turned = replace(both, basis=1 - both.basis)
    assert np.corrcoef(head.logits(both)[:, 0], head.logits(turned)[:, 0])[0, 1] < -0.5


def test_without_measured_rows_the_rubric_answers_for_both() -> None:
    """There is nothing else to ask."""
    features = random_features(100)
    head = PerBasis(Linear, Linear).fit(features, hard_targets(features), ones(features))
    asked = replace(features, basis=np.ones(100, np.float32))
    assert head.outcomes is None
    np.testing.assert_array_equal(head.logits(asked), head.logits(features))


def test_fitted_again_a_head_forgets_the_outcomes_it_saw(both: Features) -> None:
    """It is what a new one would be."""
    rubric = random_features(100)
    head = PerBasis(Linear, Linear).fit(both, hard_targets(both), ones(both))
    assert head.outcomes is not None
    assert head.fit(rubric, hard_targets(rubric), ones(rubric)).outcomes is None


# candidates


def test_an_average_is_the_mean_of_its_members_logits() -> None:
    """After fitting each on the same rows."""
    features = random_features(150)
    targets = hard_targets(features)
    average = make("linear+trees", 3).fit(features, targets, ones(features))
    members = [FAMILIES[name](3).fit(features, targets, ones(features)).logits(features) for name in ("linear", "trees")]
    assert isinstance(average, Average)
    np.testing.assert_array_equal(average.logits(features), (members[0] + members[1]) / 2)


def test_cross_fitted_candidates_are_means_of_families() -> None:
    """So that every family is fitted once however many candidates hold it."""
    by_family = {"linear": np.array([[1.0, 2.0]]), "trees": np.array([[3.0, 6.0]])}
    assert candidate_logits("linear", by_family).tolist() == [[1, 2]]
    assert candidate_logits("linear+trees", by_family).tolist() == [[2, 4]]


def test_candidates_are_made_of_families() -> None:
    """Each family alone among them; what is none is refused."""
    assert {name for candidate in CANDIDATES for name in candidate.split("+")} == set(FAMILIES) <= set(CANDIDATES)
    with pytest.raises(KeyError, match="forest"):
        make("linear+forest", 0)


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_networks_vectors_are_those_that_ship(candidate: str) -> None:
    """Also where it stands among others; heads without a network leave the encoder as it is."""
    features = random_features(100)
    head = make(candidate, 0).fit(features, hard_targets(features), ones(features))
    networks = [one for one in (head.members if isinstance(head, Average) else (head,)) if isinstance(one, Network)]
    assert bool(networks) is ("network" in candidate)
    assert tuned_vectors(head) is (networks[0].vectors if networks else None)


def test_no_candidate_reads_two_tables() -> None:
    """A bundle has one encoder: what reads its vectors as they were does not stand beside what tunes them."""
    assert not any({"linear", "network"} <= set(candidate.split("+")) for candidate in CANDIDATES)


# cross-fitting


@dataclass
class Spy:
    """A head that remembers which rows it was fitted on, by their first signal, and answers with what it was told of them."""

    seed: int

    def fit(self, features: Features, targets: Matrix, weights: Matrix) -> Self:
        """Targets and weights must still belong to their rows."""
        self.rows = set(features.signals[:, 0].tolist())
        np.testing.assert_array_equal(targets[:, 0], features.signals[:, 0] * 10)
        np.testing.assert_array_equal(weights, features.signals[:, 0] + 1)
        return self

    def logits(self, features: Features) -> Matrix:
        """(rows seen in fitting, number of rows fitted on), for every row."""
        seen = [float(row in self.rows) for row in features.signals[:, 0].tolist()]
        return np.array([[leaked, len(self.rows) + self.seed / 100] for leaked in seen])


def test_no_row_is_judged_by_a_head_that_saw_its_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds of uneven size, in any order; every fold is announced when it is done."""
    monkeypatch.setitem(FAMILIES, "spy", Spy)
    numbers = np.arange(20, dtype=np.float32)
    features = Features(numbers[:, None], csr_matrix((20, 1), dtype=np.float32), np.zeros(20, np.float32), np.zeros((1, 1), np.float32))
    folds = np.array([4, 0, 0, 1, 1, 1, 1, 0, 4, 4, 1, 0, 1, 1, 1, 0, 0, 0, 4, 1])
    done: list[int] = []
    targets = np.stack([numbers * 10.0, numbers], axis=1).astype(np.float64)
    logits = cross_fit("spy", features, targets, targets[:, 1] + 1, folds, 5, lambda: done.append(1))
    np.testing.assert_array_equal(logits[:, 0], np.zeros(20))
    sizes = {fold: 20 - int((folds == fold).sum()) for fold in (0, 1, 4)}
    np.testing.assert_allclose(logits[:, 1], [sizes[fold] + 0.05 for fold in folds.tolist()])
    assert len(done) == 3


def test_a_leak_of_the_label_earns_nothing_across_folds() -> None:
    """A signal that gives away the label within a fold, and the opposite in the others, is wrong everywhere."""
    features = random_features(300)
    folds = np.arange(300) % 2
    targets = (np.random.default_rng(3).random((300, 1)) < 0.5).astype(np.float64)
    features.signals[:, 0] = np.where(folds == 0, targets[:, 0], 1 - targets[:, 0]) * 20
    logits = cross_fit("linear", features, targets, ones(features), folds, 0)
    assert roc_auc_score(targets[:, 0], logits[:, 0]) < 0.1


# weights of sources


def test_source_weights_by_hand() -> None:
    """Four labelled rows; outcome sources of three and one rows share the same weight as those, by their size."""
    sources = ["written"] * 4 + ["quiz"] * 3 + ["exam"]
    weights = source_weights(sources, [True] * 4 + [False] * 4, 1.0, 100)
    np.testing.assert_allclose(weights, [1, 1, 1, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(source_weights(sources, [True] * 4 + [False] * 4, 0.5, 100), [1] * 4 + [0.5] * 4)


def test_a_large_source_counts_as_the_cap() -> None:
    """Of 90 and 10 rows capped at 10 both weigh five of ten labelled rows."""
    sources = ["written"] * 10 + ["huge"] * 90 + ["little"] * 10
    weights = source_weights(sources, [True] * 10 + [False] * 100, 1.0, 10)
    np.testing.assert_allclose(weights, [1] * 10 + [5 / 90] * 90 + [5 / 10] * 10)


def test_labelled_rows_weigh_one_whatever_their_source() -> None:
    """Even where a source has rows of both kinds, or more rows than the cap."""
    weights = source_weights(["mixed"] * 8, [True] * 6 + [False] * 2, 1.0, 3)
    np.testing.assert_allclose(weights, [1] * 6 + [3] * 2)


def test_without_labelled_rows_sources_keep_their_balance() -> None:
    """And a mean weight of 1: capped at 2, three rows and one share four as 8/3 and 4/3."""
    np.testing.assert_allclose(source_weights(["a", "a", "a", "b"], [False] * 4, 1.0, 2), [8 / 9, 8 / 9, 8 / 9, 4 / 3])


@settings(deadline=None, max_examples=50)
@given(
    labelled=st.integers(1, 30),
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    share=st.floats(0.1, 3),
    cap=st.integers(1, 40),
)
def test_outcomes_weigh_their_share_and_no_source_more_than_its_cap(labelled: int, counts: list[int], share: float, cap: int) -> None:
    """However large the sources are: no source drowns the rest, nor do all of them the labelled rows."""
    sources = ["written"] * labelled + [f"s{index}" for index, count in enumerate(counts) for _ in range(count)]
    weights = source_weights(sources, [True] * labelled + [False] * sum(counts), share, cap)
    assert weights[labelled:].sum() == pytest.approx(share * labelled)
    of_source = np.array([weights[[name == f"s{index}" for name in sources]].sum() for index in range(len(counts))])
    smallest = min(min(count, cap) for count in counts)
    assert of_source.max() / of_source.min() <= cap / smallest + 1e-9


def test_the_module_names_what_the_command_line_offers() -> None:
    """A family's name makes a head of it."""
    made = {name: make(name, 0) for name in FAMILIES}
    for name, kind in (("linear", Linear), ("trees", Trees)):
        head = made[name]
        assert isinstance(head, PerBasis)
        assert {type(head.make()), type(head.make_outcomes())} == {kind}
    assert isinstance(made["network"], Network)
    assert all(callable(getattr(head, "logits", None)) for head in made.values())
    assert heads.FAMILIES is FAMILIES
