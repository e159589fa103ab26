"""The vocabulary: derived numbers of frozen values."""

from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier.types import Decision, Model, Prompt, Reason, Scores

TIERS = tuple("abcdefgh")
SUFFICIENCY = st.lists(st.floats(0, 1), min_size=2, max_size=8).map(sorted).map(tuple)


def scores_of(sufficiency: tuple[float, ...]) -> Scores:
    """Scores of as many tiers."""
    return Scores(TIERS[: len(sufficiency)], (0.0,) * len(sufficiency), sufficiency)


def test_probabilities_are_differences_of_sufficiency() -> None:
    """P(the cheapest sufficient tier is t), with the remainder on the top tier."""
    assert scores_of((0.41, 0.87, 1.0)).probabilities == pytest.approx((0.41, 0.46, 0.13))


def test_on_an_outcome_basis_the_remainder_goes_to_the_top_tier() -> None:
    """What no tier answers counts as the top tier's."""
    assert scores_of((0.2, 0.5, 0.6)).probabilities == pytest.approx((0.2, 0.3, 0.5))


@settings(deadline=None, max_examples=100)
@given(sufficiency=SUFFICIENCY)
def test_probabilities_sum_to_one(sufficiency: tuple[float, ...]) -> None:
    """One probability a tier, none negative, of any sufficiency that does not fall."""
    probabilities = scores_of(sufficiency).probabilities
    assert len(probabilities) == len(sufficiency)
    assert min(probabilities) >= 0
    assert sum(probabilities) == pytest.approx(1)


@settings(deadline=None, max_examples=50)
@given(sufficiency=SUFFICIENCY)
def test_probabilities_are_of_sufficiency_alone(sufficiency: tuple[float, ...]) -> None:
    """Whichever path scored, why, and what task it is: the same sufficiency means the same."""
    scores = scores_of(sufficiency)
    other = replace(scores, logits=(9.0,) * len(sufficiency), path="accurate", path_reason="close", target_path="auto", task="plan")
    assert other.probabilities == scores.probabilities


def test_scores_are_of_the_only_path_and_name_no_task_unless_they_say_so() -> None:
    """What a bundle of one path and without a task head has to say."""
    scores = scores_of((0.1, 1.0))
    assert (scores.path, scores.path_reason, scores.target_path) == ("fast", "only_path", "fast")
    assert (scores.task, scores.task_probability) == (None, None)


def test_scores_that_differ_in_path_or_task_differ() -> None:
    """Scores are compared, cached and stored as values: what scored is part of them."""
    scores = scores_of((0.1, 1.0))
    looked_twice = replace(scores, path="accurate", path_reason="close", target_path="auto")
    late = replace(scores, path_reason="deadline", target_path="auto")
    named = replace(scores, task="plan", task_probability=0.7)
    assert len({scores, looked_twice, late, named, scores_of((0.1, 1.0))}) == 4


def test_the_reason_is_the_last_of_the_reasons() -> None:
    """What decided in the end stands alone beside all that moved the tier."""
    scores = scores_of((0.1, 1.0))
    decision = Decision("a", "model-a", 0.1, (Reason.CEILING, Reason.BUDGET), "default", (0.0, 0.0), scores)
    assert decision.reason == "budget"


def test_cost_is_counted_in_the_models_own_tokens() -> None:
    """Prices are USD per million tokens; the token factor scales tokens of the reference tokeniser."""
    model = Model("a", "model-a", input_usd=2.0, output_usd=10.0, context_window=1_000, latency_ms=1.0, token_factor=1.5)
    assert model.cost_usd(1_000, 100) == pytest.approx(1.5 * (0.002 + 0.001))


def test_values_are_frozen() -> None:
    """A result is never changed after it was made."""
    prompt = Prompt(text="x", ask="x", chars=1, lines=1, questions=0, fences=0)
    with pytest.raises(FrozenInstanceError):
        prompt.chars = 2  # type: ignore[misc]
