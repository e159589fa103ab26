"""Two scores of one prompt: how they are weighed, and when the second one is asked for."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from classifier.head import OnnxHead
from classifier.policy import Facts, Policy, needs_accurate
from classifier.types import Model, Scores
from training.calibrate import Calibration, sufficiency_of
from training.risk import GRID
from training.stacking import Stack, joined, stack_onnx, within
from training.weighing import MARGINS

Matrix = NDArray[np.float64]

TIERS = ("small", "medium", "large")


@pytest.fixture(name="one_thread", autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Products this small lose more than they win by threads."""
    with threadpool_limits(1):
        yield


# weighing


def two_scores(n: int, seed: int = 0) -> tuple[Matrix, Matrix]:
    """Logits of two paths that have nothing to do with each other, of one tier."""
    random = np.random.default_rng(seed)
    return random.normal(scale=2, size=(n, 1)), random.normal(scale=2, size=(n, 1))


def happened(logits: Matrix, seed: int = 0) -> Matrix:
    """1 with the probability that the logits say, else 0."""
    return np.asarray(np.random.default_rng(seed).random(logits.shape) < expit(logits), dtype=np.float64)


def test_the_score_that_knows_is_believed() -> None:
    """The other one gets next to no weight, whichever of the two it is."""
    knows, noise = two_scores(4_000)
    targets = happened(knows)
    for stack in (Stack.fit(knows, noise, targets, np.ones(4_000)), Stack.fit(noise, knows, targets, np.ones(4_000))):
        believed, other = (stack.fast[0], stack.read[0]) if stack.fast[0] > stack.read[0] else (stack.read[0], stack.fast[0])
        assert believed == pytest.approx(1, abs=0.1)
        assert other == pytest.approx(0, abs=0.05)
    assert Stack.fit(knows, noise, targets, np.ones(4_000)).fast[0] > 0.9
    assert Stack.fit(noise, knows, targets, np.ones(4_000)).read[0] > 0.9


def test_scores_that_know_a_part_each_are_added() -> None:
    """With a bias of their own: on soft targets the weights are found again, but for a faint pull to the mean."""
    fast, read = two_scores(2_000)
    stack = Stack.fit(fast, read, expit(1.2 * fast + 0.4 * read - 0.7), np.ones(2_000))
    assert (stack.fast[0], stack.read[0], stack.bias[0]) == pytest.approx((1.2, 0.4, -0.7), abs=0.03)


def test_each_tier_is_weighed_by_itself() -> None:
    """The transformer may know the dear boundary better than the cheap one."""
    (one, other), weights = two_scores(3_000), np.ones(3_000)
    targets = np.hstack([expit(one), expit(other)])
    stack = Stack.fit(np.hstack([one, one]), np.hstack([other, other]), targets, weights)
    assert stack.fast == pytest.approx((1, 0), abs=0.03)
    assert stack.read == pytest.approx((0, 1), abs=0.03)
    alone = Stack.fit(one, other, targets[:, 1:], weights)
    assert (alone.fast[0], alone.read[0], alone.bias[0]) == (stack.fast[1], stack.read[1], stack.bias[1])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 25), soft=st.booleans())
def test_no_score_is_turned_round(seed: int, n: int, soft: bool) -> None:
    """Few rows may say that a score is wrong more often than right; its weight is 0 then, and never below. All numbers are finite."""
    random = np.random.default_rng(seed)
    fast, read, targets = (random.normal(scale=3, size=(n, 3)) for _ in range(3))
    stack = Stack.fit(fast, read, expit(targets) if soft else (targets > 0).astype(float), random.random(n) + 0.1)
    assert min(*stack.fast, *stack.read) >= 0
    assert np.isfinite([stack.fast, stack.read, stack.bias]).all()


def test_a_score_that_is_wrong_gets_no_weight() -> None:
    """Instead of a negative one."""
    fast, read = two_scores(2_000)
    stack = Stack.fit(-fast, read, happened(fast), np.ones(2_000))
    assert stack.fast == (0.0,)


def test_a_tier_that_nobody_knows_is_the_mean_of_the_two() -> None:
    """So that something can be said of it."""
    fast, read = (np.hstack([one, one]) for one in two_scores(20))
    targets = np.hstack([happened(fast[:, :1]), np.full((20, 1), np.nan)])
    stack = Stack.fit(fast, read, targets, np.ones(20))
    assert (stack.fast[1], stack.read[1], stack.bias[1]) == (0.5, 0.5, 0.0)
    assert stack.fast[0] != 0.5


def test_rows_without_a_target_teach_nothing() -> None:
    """They change no weight of any tier."""
    fast, read = two_scores(100)
    targets = happened(fast + read)
    blank = Stack.fit(fast, read, np.where(np.arange(100)[:, None] < 60, targets, np.nan), np.ones(100))
    assert blank == Stack.fit(fast[:60], read[:60], targets[:60], np.ones(60))


def test_a_row_of_twice_the_weight_counts_as_two() -> None:
    """And what all rows weigh together is nothing to the fit."""
    fast, read = two_scores(60)
    targets, weights = happened(fast + read), np.where(np.arange(60) < 20, 2.0, 1.0)
    twice = np.concatenate([np.arange(60), np.arange(20)])
    weighted, doubled = Stack.fit(fast, read, targets, weights), Stack.fit(fast[twice], read[twice], targets[twice], np.ones(80))
    scaled = Stack.fit(fast, read, targets, 1_000 * weights)
    for other in (doubled, scaled):
        np.testing.assert_allclose([other.fast, other.read, other.bias], [weighted.fast, weighted.read, weighted.bias], atol=1e-3)


def test_logits_by_hand() -> None:
    """Of two tiers and one row."""
    stack = Stack(fast=(0.5, 2.0), read=(1.0, 0.0), bias=(0.25, -1.0))
    np.testing.assert_array_equal(stack.logits(np.array([[2.0, 3.0]]), np.array([[-1.0, 9.0]])), [[0.25, 5.0]])


# the graph


SHARES = st.floats(0, 3)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), weights=st.tuples(*[SHARES] * 6), dim=st.integers(1, 40))
def test_the_graph_is_stack_and_calibration(
    seed: int, weights: tuple[float, ...], dim: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Within 1e-5, from the transformer's vector and the fast path's logits to sufficiency."""
    random = np.random.default_rng(seed)
    stack = Stack(weights[:3], weights[3:], tuple(random.normal(size=3).tolist()))
    reading = random.normal(size=(dim, 3)).astype(np.float32), random.normal(size=3).astype(np.float32)
    calibration = Calibration((-0.5, 0.25, 40.0), (0.75, 1.5, 0.0))
    file = tmp_path_factory.mktemp("stack") / "head.onnx"
    onnx.save(stack_onnx(stack, reading, calibration), str(file))
    head = OnnxHead(file)
    fast, vectors = random.normal(scale=3, size=(4, 3)).astype(np.float32), random.normal(scale=0.3, size=(4, dim)).astype(np.float32)
    logits, sufficiency = head.run(fast, vectors)
    expected = stack.logits(fast.astype(np.float64), vectors.astype(np.float64) @ reading[0] + reading[1])
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    np.testing.assert_allclose(sufficiency, sufficiency_of(expected, calibration), atol=1e-5)


def test_the_graph_reads_the_fast_logits_and_the_vector(tmp_path: Path) -> None:
    """Under the names and in the order in which serving gives them; it states its calibration."""
    calibration = Calibration((0.5, -0.25), (1.0, 2.0))
    stack = Stack((0.5, 0.5), (0.5, 0.5), (0.0, 0.0))
    onnx.save(stack_onnx(stack, (np.zeros((7, 2), np.float32), np.zeros(2, np.float32)), calibration), str(tmp_path / "head.onnx"))
    head = OnnxHead(tmp_path / "head.onnx")
    assert list(head.widths.items()) == [("fast_logits", 2), ("embedding", 7)]
    assert (head.calibration_shift, head.calibration_slope) == (calibration.shift, calibration.slope)


# the second look


PROBABILITIES = arrays(np.float64, st.tuples(st.integers(1, 8), st.just(3)), elements=st.floats(0, 1))
TARGETS = st.sampled_from(GRID.tolist())


def policy(target: float, margin: float) -> Policy:
    """Three tiers of which nothing excludes any."""
    catalog = tuple(Model(tier, tier, 1.0, 1.0, 1_000_000, 100.0) for tier in TIERS)
    return Policy(catalog, {"fast": 0.9, "auto": target, "accurate": 0.9}, margin)


def served(rows: Matrix, target: float, margin: float) -> list[bool]:
    """What the policy that serves says of each row, as the fast path's sufficiency."""
    rules = policy(target, margin)
    scores = [Scores(TIERS, (0.0,) * 3, tuple(row), target_path="auto") for row in rows.tolist()]
    return [needs_accurate(one, rules, Facts(100)) for one in scores]


def agree(rows: Matrix, target: float, margin: float) -> bool:
    """Whether training looks twice at the rows at which serving does; rows that rounding decides are no example."""
    distance = np.abs(logit(np.clip(rows, 1e-9, 1 - 1e-9)) - logit(target))
    assume(np.abs(distance - margin).min() > 1e-6)
    looks: list[bool] = within(rows, target, margin).tolist()
    return looks == served(rows, target, margin)


@settings(deadline=None, max_examples=100)
@given(rows=PROBABILITIES, target=TARGETS, margin=st.sampled_from(MARGINS))
def test_training_looks_twice_where_serving_does(rows: Matrix, target: float, margin: float) -> None:
    """Whatever the fast path says, 0 and 1 included."""
    assert agree(rows, target, margin)


@settings(deadline=None, max_examples=100)
@given(rows=PROBABILITIES, target=TARGETS, margin=st.sampled_from(MARGINS), offset=st.floats(-1.5, 1.5), tier=st.integers(0, 2))
def test_near_the_target_as_well(rows: Matrix, target: float, margin: float, offset: float, tier: int) -> None:
    """Within the margin or just beyond it, below the target or above, in any tier."""
    rows = rows.copy()
    rows[:, tier] = expit(logit(target) + offset * margin)
    assert agree(rows, target, margin)


@settings(deadline=None, max_examples=100)
@given(rows=PROBABILITIES, target=TARGETS)
def test_a_wider_margin_looks_twice_at_no_fewer(rows: Matrix, target: float) -> None:
    """And never at a row for its top tier alone, which is taken where no other is."""
    looks = [within(rows, target, margin) for margin in MARGINS]
    assert all(np.all(wider >= narrower) for narrower, wider in pairwise(looks))
    sure = rows.copy()
    sure[:, :2] = 0
    assert not within(sure, target, MARGINS[0]).any()


@pytest.mark.parametrize(
    ("sufficiency", "near"),
    [((0.9, 0.9, 1.0), True), ((0.5, 0.92, 1.0), True), ((0.5, 0.6, 0.9), False), ((0.99, 0.999, 1.0), False), ((0.0, 1.0, 1.0), False)],
)
def test_a_second_look_by_hand(sufficiency: Sequence[float], near: bool) -> None:
    """At .9, which is a logit of 2.2, and a margin of 1: from .77 to .96."""
    assert within(np.array([sufficiency]), 0.9, 1.0).tolist() == [near]


@settings(deadline=None, max_examples=100)
@given(rows=PROBABILITIES, target=TARGETS, margin=st.sampled_from(MARGINS))
def test_auto_says_what_the_path_that_is_asked_says(rows: Matrix, target: float, margin: float) -> None:
    """The accurate one where the fast one is near to the target, the fast one elsewhere; a row is of one path in all tiers."""
    accurate = 1 - rows
    looks = within(rows, target, margin)
    np.testing.assert_array_equal(
        joined(rows, accurate, target, margin), [a if look else f for f, a, look in zip(rows, accurate, looks, strict=True)]
    )
