"""Errors -> problem details: which status, which words, and never the client's own."""

import asyncio
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from classifier.errors import BundleError, MalformedPromptError, PolicyError
from serve.problems import Shield, describe, response, unknown_field
from serve.schemas import Problem, RouteRequest

MARKER = "zqxmarker"


def problem_of(body: Any) -> Problem:
    """The problem of a body that is no RouteRequest."""
    with pytest.raises(ValidationError) as caught:
        RouteRequest.model_validate(body)
    return describe(caught.value)


def test_a_malformed_prompt_names_its_place() -> None:
    """Field, found and expected stand in the detail and apart."""
    problem = describe(MalformedPromptError("messages.2.content", "int", "a string"))
    assert (problem.status, problem.detail) == (422, "messages.2.content: found int, expected a string")
    assert problem.errors == [{"field": "messages.2.content", "found": "int", "expected": "a string"}]


@pytest.mark.parametrize(
    ("field", "named", "detail"),
    [("tier_floor", "tier_floor", "tier_floor: no tier is allowed"), (None, "request", "no tier is allowed")],
)
def test_a_request_that_cannot_be_met_names_the_field_to_change(field: str | None, named: str, detail: str) -> None:
    """Where several limits exclude every tier together, it is the request."""
    problem = describe(PolicyError("no tier is allowed", field))
    assert (problem.status, problem.detail) == (422, detail)
    assert problem.errors is not None
    assert problem.errors[0]["field"] == named


def test_other_errors_of_ours_are_refusals_with_their_message() -> None:
    """They are raised on purpose, with words for people."""
    problem = describe(BundleError("head.onnx", "a", "b"))
    assert (problem.status, problem.detail) == (422, "head.onnx: found a, expected b")


def test_an_unforeseen_error_is_a_500_that_keeps_its_message_to_itself(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the answer nor the log holds what may be a prompt; the log holds type and place."""
    error = RuntimeError(MARKER)
    with caplog.at_level(logging.ERROR):
        try:
            raise error
        except RuntimeError as raised:
            problem = describe(raised)
    assert problem.status == 500
    assert MARKER not in problem.model_dump_json() + caplog.text
    assert "RuntimeError at test_serve_problems.py:" in caplog.text


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a", "a string"),
        (1, "a whole number"),
        (1.5, "a number"),
        ([], "a list"),
        ({}, "an object"),
        (True, "a truth value"),
        (object(), "something else"),
    ],
)
def test_what_was_found_is_a_kind_not_a_value(value: Any, found: str) -> None:
    """In JSON's words, not in Python's."""
    wrong = problem_of({"prompt": "x", "policy": value})
    assert wrong.errors is not None
    assert wrong.errors[0]["found"] == found


def test_null_where_there_must_be_something_is_named_null() -> None:
    """None is a word of Python's."""
    assert "deadline_ms: found null" in problem_of({"prompt": "x", "deadline_ms": None}).detail


@pytest.mark.parametrize(("field", "value"), [("min_sufficiency", 1.1), ("max_cost_usd", -1), ("input_tokens", 10**20)])
def test_a_number_out_of_range_is_named_so(field: str, value: float) -> None:
    """Its kind was right."""
    assert problem_of({"prompt": "x", field: value}).detail.startswith(f"{field}: found a number out of range, expected ")


def test_every_mistake_is_listed_and_the_first_one_leads() -> None:
    """One answer is enough to mend a request."""
    problem = problem_of({"prompt": 1, "path": 2, "explain": 3})
    assert problem.errors is not None
    assert [error["field"] for error in problem.errors] == ["prompt", "path", "explain"]
    assert problem.detail.startswith("prompt: ")
    assert problem.detail.endswith("(and 2 more)")


def test_the_place_within_a_list_is_given_by_its_number() -> None:
    """As in messages.3, counted from 0."""
    errors = problem_of({"messages": [{}, {}, {}, "a"]}).errors
    assert errors is not None
    assert errors[0]["field"] == "messages.3"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("promt", "prompt"),
        ("message", "messages"),
        ("tierfloor", "tier_floor"),
        ("max_cost", "max_cost_usd"),
        ("dead_line_ms", "deadline_ms"),
    ],
)
def test_a_misspelt_field_is_answered_with_the_one_that_was_meant(written: str, meant: str) -> None:
    """The field's right name is ours to say; the wrong one is not repeated."""
    problem = unknown_field(written, tuple(RouteRequest.model_fields))
    assert problem.status == 422
    assert f"did you mean {meant}?" in problem.detail
    assert problem.errors is not None
    assert {error["field"] for error in problem.errors} == {"an unknown field"}


@pytest.mark.parametrize("name", [MARKER, "", "prompt" * 100_000])
def test_a_field_like_no_other_gets_no_guess_but_all_known_names(name: str) -> None:
    """A wrong guess would be worse than none."""
    problem = unknown_field(name, ("prompt", "tools"))
    assert problem.detail == "an unknown field, expected only prompt, tools"


MARKED = st.recursive(
    st.sampled_from([MARKER, f"{MARKER}[", f"str.{MARKER}", 1, 1.5, None, True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([MARKER, f"{MARKER}]", "role", "content", "type"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*RouteRequest.model_fields, MARKER, f"prompt{MARKER}"]), MARKED))
def test_no_problem_repeats_what_it_was_given(body: dict[str, Any]) -> None:
    """Neither names nor values, wherever they stand."""
    errors: list[Exception] = []
    try:
        request = RouteRequest.model_validate(body)
        request.to_facts(request.to_prompt())
    except (ValidationError, MalformedPromptError) as error:
        errors.append(error)
    assert MARKER not in "".join(describe(error).model_dump_json() for error in errors)


def test_a_problem_is_sent_as_problem_json_with_its_own_status() -> None:
    """Absent members are left out rather than null."""
    answer = response(Problem(title="Gone", status=410, detail="It is gone"))
    assert (answer.status_code, answer.media_type) == (410, "application/problem+json")
    assert json.loads(bytes(answer.body)) == {"type": "about:blank", "title": "Gone", "status": 410, "detail": "It is gone"}


def shielded(error: Exception, *, begun: bool = False) -> tuple[list[Message], list[int]]:
    """What is sent, and which statuses are counted, where an app raises ``error``, maybe after its answer has begun."""
    sent: list[Message] = []
    counted: list[int] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Shield(app, counted.append)({"type": "http"}, receive, send))
    return sent, counted


def test_whatever_escapes_becomes_a_500() -> None:
    """It is answered and counted, and goes no further."""
    sent, counted = shielded(RuntimeError(MARKER))
    assert [message.get("status") for message in sent] == [500, None]
    assert MARKER.encode() not in sent[1]["body"]
    assert counted == [500]


def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    """The server would take two of them for an error of its own."""
    sent, counted = shielded(RuntimeError(MARKER), begun=True)
    assert [message.get("status") for message in sent] == [200]
    assert counted == [500]


def test_a_client_that_leaves_is_no_error_of_ours() -> None:
    """Nobody is there to read an answer."""
    assert shielded(ClientDisconnect()) == ([], [])
