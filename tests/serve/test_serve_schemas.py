"""The crossings between the wire and the classifier's types."""

from dataclasses import replace
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from classifier import Decision, Reason, Scores, from_text
from classifier.errors import MalformedPromptError
from classifier.types import Path as ScorePath
from classifier.types import PathReason
from serve.schemas import BatchRequest, RouteRequest, RouteResponse, response_of

TIERS = ("small", "medium", "large")


def decision_of(sufficiency: tuple[float, ...]) -> Decision:
    """A decision for the middle tier."""
    scores = Scores(TIERS, tuple(0.0 for _ in sufficiency), sufficiency)
    return Decision("medium", "m", sufficiency[1], (Reason.CEILING, Reason.FLOOR), "default", (0.123456789, 0.2, 0.3), scores)


def test_a_request_becomes_the_prompt_it_holds() -> None:
    """Text is scored; system and tools are sizes beside it."""
    prompt = RouteRequest.model_validate({"prompt": "What is new?", "system": "ten chars.", "tools": [{"name": "ab"}]}).to_prompt()
    assert (prompt.text, prompt.system_chars, prompt.tools, prompt.tool_chars) == ("What is new?", 10, 1, 6)


@pytest.mark.parametrize("body", [{}, {"prompt": "a", "messages": []}, {"prompt": None}])
def test_a_request_holds_exactly_one_of_prompt_and_messages(body: dict[str, Any]) -> None:
    """Neither and both are malformed."""
    with pytest.raises(MalformedPromptError, match="exactly one of prompt and messages"):
        RouteRequest.model_validate(body).to_prompt()


def test_limits_of_a_request_become_facts_of_the_same_names() -> None:
    """Nothing that a request asks for is lost on the way to the policy."""
    limits = {"tier_floor": "a", "tier_ceiling": "b", "min_sufficiency": 0.5, "max_model_latency_ms": 1.0, "max_cost_usd": 2.0}
    request = RouteRequest.model_validate({"prompt": "x", "expected_output_tokens": 7, "input_tokens": 9, **limits})
    facts = request.to_facts(request.to_prompt())
    assert {name: getattr(facts, name) for name in limits} == limits
    assert (facts.input_tokens, facts.output_tokens) == (9, 7)


def test_input_tokens_are_estimated_unless_they_are_given() -> None:
    """Zero is a number of tokens too, not an absent one."""
    given_zero, absent = (RouteRequest.model_validate({"prompt": "x" * 400, **more}) for more in ({"input_tokens": 0}, {}))
    assert given_zero.to_facts(given_zero.to_prompt()).input_tokens == 0
    assert absent.to_facts(absent.to_prompt()).input_tokens > 50


def test_tools_and_images_become_capabilities_a_model_must_have() -> None:
    """Text alone needs nothing."""
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}
    plain, both = (RouteRequest.model_validate(body) for body in ({"prompt": "x"}, {"messages": [image], "tools": [{"name": "f"}]}))
    assert plain.to_facts(plain.to_prompt()).needs == frozenset()
    assert both.to_facts(both.to_prompt()).needs == {"tools", "vision"}


@pytest.mark.parametrize("value", ["1", True, None])
def test_no_value_is_converted_from_another_type(value: Any) -> None:
    """A string of digits or a truth value is not a number, and an absent field is left out rather than null."""
    with pytest.raises(ValidationError):
        RouteRequest.model_validate({"prompt": "x", "deadline_ms": value})


def test_a_response_holds_the_decision_by_tier_cheapest_first() -> None:
    """Numbers are rounded to what they are worth; the order is the bundle's, not the alphabet's."""
    found = response_of(decision_of((0.12345678, 0.5, 1.0)), from_text("x"), decision_id="d", version="v", router_ms=1.23456)
    assert list(found["sufficiency"].items()) == [("small", 0.123457), ("medium", 0.5), ("large", 1.0)]
    assert list(found["cost_usd"].items()) == [("small", 0.12345679), ("medium", 0.2), ("large", 0.3)]
    assert (found["id"], found["tier"], found["model"], found["confidence"], found["model_version"], found["router_ms"]) == (
        "d",
        "medium",
        "m",
        0.5,
        "v",
        1.235,
    )
    assert (found["reason"], found["reasons"]) == (Reason.FLOOR, [Reason.CEILING, Reason.FLOOR])


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted))
def test_probabilities_sum_to_one_for_any_sufficiency(sufficiency: list[float]) -> None:
    """Rounding each of them moves the sum by less than it moves one of them."""
    found = response_of(decision_of(tuple(sufficiency)), from_text("x"), decision_id="d", version="v", router_ms=0.0)
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=2e-6)
    assert min(found["probabilities"].values()) >= 0


def test_a_response_built_without_validation_is_valid() -> None:
    """What the server writes is what its schema promises."""
    found = response_of(decision_of((0.1, 0.2, 1.0)), from_text("x" * 9_000), decision_id="d", version="v", router_ms=0.1)
    assert TypeAdapter(RouteResponse).validate_json(to_json(found)) == found
    assert found["truncated"]


@pytest.mark.parametrize(("probability", "written"), [(0.123456789, 0.123457), (1.0, 1.0), (None, None)])
def test_a_task_is_null_or_named_with_its_probability(probability: float | None, written: float | None) -> None:
    """Rounded as every other probability."""
    decision = decision_of((0.1, 0.2, 1.0))
    task = None if probability is None else "plan"
    scores = replace(decision.scores, task=task, task_probability=probability)
    found = response_of(replace(decision, scores=scores), from_text("x"), decision_id="d", version="v", router_ms=0.1)
    assert (found["task"], found["task_probability"]) == (task, written)
    assert TypeAdapter(RouteResponse).validate_json(to_json(found)) == found


@pytest.mark.parametrize("reason", get_args(PathReason))
@pytest.mark.parametrize("path", ["fast", "accurate"])
def test_a_response_says_which_path_scored_and_why(path: Literal["fast", "accurate"], reason: PathReason) -> None:
    """Every reason there is can be written."""
    decision = decision_of((0.1, 0.2, 1.0))
    scores = replace(decision.scores, path=path, path_reason=reason)
    found = response_of(replace(decision, scores=scores), from_text("x"), decision_id="d", version="v", router_ms=0.1)
    assert (found["path"], found["path_reason"]) == (path, reason)
    assert TypeAdapter(RouteResponse).validate_json(to_json(found)) == found


@pytest.mark.parametrize("field", ["path", "path_reason"])
def test_auto_is_no_path_that_scores(field: str) -> None:
    """A response that said so would not be valid."""
    found = response_of(decision_of((0.1, 0.2, 1.0)), from_text("x"), decision_id="d", version="v", router_ms=0.1)
    with pytest.raises(ValidationError, match=field):
        TypeAdapter(RouteResponse).validate_python({**found, field: "auto"})


@pytest.mark.parametrize("path", [*get_args(ScorePath), None])
def test_a_request_names_any_path_or_none(path: ScorePath | None) -> None:
    """Where it names none, the server's own holds."""
    assert RouteRequest.model_validate({"prompt": "x", "path": path}).path == path
    assert RouteRequest.model_validate({"prompt": "x"}).path is None


@pytest.mark.parametrize("path", ["slow", "", "FAST", 1])
def test_a_request_names_no_other_path(path: Any) -> None:
    """Nobody is given another one than they meant."""
    with pytest.raises(ValidationError):
        RouteRequest.model_validate({"prompt": "x", "path": path})


@pytest.mark.parametrize("deadline_ms", [0, -1.0, float("inf"), float("nan")])
def test_a_deadline_is_some_time_ahead(deadline_ms: float) -> None:
    """Whoever wants no second look asks for the fast path."""
    with pytest.raises(ValidationError):
        RouteRequest.model_validate({"prompt": "x", "deadline_ms": deadline_ms})


def test_a_batch_holds_at_least_one_request() -> None:
    """An empty batch is a mistake of the caller's."""
    with pytest.raises(ValidationError):
        BatchRequest.model_validate({"requests": []})
