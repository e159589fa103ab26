"""POST /route/batch over HTTP: many requests, each answered by itself, in order."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

pytest_plugins = ("fixtures_of_serve",)

Refused = Callable[..., dict[str, Any]]

REQUESTS: list[dict[str, Any]] = [
    *(
        {"prompt": f"{verb} {thing}{tail}"}
        for verb in ("Explain", "Fix", "Design")
        for thing in ("the login", "a list")
        for tail in ("", " now" * 40)
    ),
    {"prompt": "Fix the typo in README.md", "tier_floor": "medium"},
    {"prompt": "Fix the typo in README.md", "tier_ceiling": "small", "min_sufficiency": 1},
    {"prompt": "x", "input_tokens": 50_000, "expected_output_tokens": 9},
    {"prompt": "Résumé 🙂 \0 " * 300},
    {"prompt": "What is this?", "system": "s" * 500, "tools": [{"name": "f"}], "path": "fast"},
    {
        "messages": [
            {"role": "user", "content": "Plan a migration to microservices."},
            {"role": "assistant", "content": "?"},
            {"role": "user", "content": "yes"},
        ]
    },
    {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
]
WRONG: list[Any] = [
    {},
    {"prompt": " "},
    {"promt": "x"},
    {"prompt": "x", "tier_floor": "huge"},
    {"prompt": "x", "max_cost_usd": 1e-12},
    {"prompt": 5},
    {"prompt": "x", "explain": "yes", "phase": "ponder"},
]


def batch(client: httpx.Client, requests: list[Any]) -> list[dict[str, Any]]:
    """The results of a batch that is answered."""
    answer = client.post("/route/batch", json={"requests": requests})
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"results"}
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def lasting(decision: dict[str, Any]) -> dict[str, Any]:
    """A decision without what differs from one answer to the next."""
    return {name: value for name, value in decision.items() if name not in {"id", "router_ms"}}


def test_a_batch_of_many_equals_many_single_requests(client: httpx.Client) -> None:
    """Bit for bit, where each single one has the time that a batch has: a decision never depends on its neighbours."""
    singles = [client.post("/route", json={**request, "deadline_ms": 60_000}).json() for request in REQUESTS]
    results = batch(client, REQUESTS)
    assert [lasting(result["decision"]) for result in results] == [lasting(single) for single in singles]


def test_a_batch_is_the_same_in_any_order(client: httpx.Client) -> None:
    """Results stand in the order of their requests."""
    forwards, backwards = batch(client, REQUESTS), batch(client, REQUESTS[::-1])
    assert [lasting(result["decision"]) for result in forwards] == [lasting(result["decision"]) for result in backwards[::-1]]


@pytest.mark.parametrize("deadline_ms", [1e-6, 1, 60_000])
@pytest.mark.parametrize("path", ["fast", "auto", "accurate"])
def test_a_batch_is_answered_by_content_whatever_its_deadlines(client: httpx.Client, path: str, deadline_ms: float) -> None:
    """No clock changes an answer: neither a deadline nor how long its neighbours take."""
    hurried = batch(client, [{**request, "path": path, "deadline_ms": deadline_ms} for request in REQUESTS])
    unhurried = batch(client, [{**request, "path": path} for request in REQUESTS])
    assert [lasting(result["decision"]) for result in hurried] == [lasting(result["decision"]) for result in unhurried]
    assert {result["decision"]["path_reason"] for result in hurried} <= ({"clear", "close"} if path == "auto" else {"asked"})


def test_a_wrong_item_has_its_error_in_its_place(client: httpx.Client) -> None:
    """Each result is a decision or an error, never both, and the good ones are not disturbed."""
    mixed = [request for pair in zip(WRONG, REQUESTS, strict=False) for request in pair]
    results = batch(client, mixed)
    assert [list(result) for result in results] == [["error"], ["decision"]] * len(WRONG)
    alone = batch(client, REQUESTS[: len(WRONG)])
    assert [lasting(result["decision"]) for result in results[1::2]] == [lasting(result["decision"]) for result in alone]


@pytest.mark.parametrize("wrong", WRONG)
def test_the_error_of_an_item_is_the_problem_it_would_be_alone(client: httpx.Client, wrong: Any) -> None:
    """Status, title, detail and errors; an absent type is about:blank, as RFC 9457 has it."""
    (result,) = batch(client, [wrong])
    alone = client.post("/route", json=wrong)
    assert {"type": "about:blank", **result["error"]} == alone.json()
    assert result["error"]["status"] == alone.status_code == 422


@pytest.mark.parametrize(
    ("item", "found"), [(5, "a whole number"), (None, "null"), ("x", "a string"), ([], "a list"), (True, "a truth value")]
)
def test_an_item_that_is_no_object_has_its_error_in_its_place(client: httpx.Client, item: Any, found: str) -> None:
    """As any other wrong item."""
    before, wrong, after = batch(client, [{"prompt": "x"}, item, {"prompt": "x"}])
    assert (list(before), list(wrong), list(after)) == (["decision"], ["error"], ["decision"])
    assert wrong["error"]["status"] == 422
    assert wrong["error"]["detail"].startswith(f"body: found {found}, expected ")


def test_a_batch_of_wrong_items_alone_is_answered(client: httpx.Client) -> None:
    """With an error for each."""
    assert [list(result) for result in batch(client, WRONG)] == [["error"]] * len(WRONG)


def test_every_decision_of_a_batch_has_an_id_of_its_own(client: httpx.Client) -> None:
    """Also where the requests are alike."""
    assert len({result["decision"]["id"] for result in batch(client, [{"prompt": "x"}] * 20)}) == 20


def test_a_batch_up_to_the_limit_is_answered(client: httpx.Client) -> None:
    """256 by default."""
    assert len(batch(client, [{"prompt": "x"}] * 256)) == 256


@pytest.mark.parametrize("size", [257, 5_000])
def test_a_batch_over_the_limit_is_refused_with_found_and_expected(refused: Refused, size: int) -> None:
    """As a whole, before anything is scored."""
    problem = refused(json.dumps({"requests": [{"prompt": "x"}] * size}).encode(), 422, "/route/batch")
    assert problem["detail"] == f"requests: found {size} items, expected at most 256"


def test_an_empty_batch_is_refused(refused: Refused) -> None:
    """It asks for nothing."""
    assert refused(b'{"requests": []}', 422, "/route/batch")["detail"].startswith("requests: found 0 items")


@pytest.mark.parametrize(
    ("body", "status", "names"),
    [
        (b"", 400, "not valid JSON"),
        (b'{"requests": [{"prompt": "x"}', 400, "not valid JSON"),
        (b'{"requests": [{"prompt": "\xff"}]}', 400, "not valid UTF-8"),
        (b'{"requests": [' + b"[" * 50_000, 400, "nested too deeply"),
        (b'{"requests": [{"prompt": "x", "tools": [' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"]}]}", 400, "nested too deeply"),
        (b"[]", 422, "body: found a list"),
        (b"null", 422, "body: found null"),
        (b"{}", 422, "requests: found nothing"),
        (b'{"requests": null}', 422, "requests: found null"),
        (b'{"requests": {}}', 422, "requests: found an object"),
        (b'{"requests": "x"}', 422, "requests: found a string"),
        (b'{"requests": [{"prompt": "x"}], "priority": 1}', 422, "an unknown field"),
    ],
)
def test_a_batch_that_is_none_is_refused(refused: Refused, body: bytes, status: int, names: str) -> None:
    """With what is wrong with it."""
    assert names in refused(body, status, "/route/batch")["detail"]


def test_an_unknown_field_of_a_batch_is_answered_with_the_fields_of_a_batch(refused: Refused) -> None:
    """Not with those of a request."""
    problem = refused(b'{"requests": [{"prompt": "x"}], "request": 1}', 422, "/route/batch")
    assert problem["detail"] == "an unknown field, expected only requests; did you mean requests?"


def test_lone_surrogates_in_a_batch_are_routed(client: httpx.Client) -> None:
    """One item with half a character in it changes nothing for the others."""
    answer = client.post("/route/batch", content=b'{"requests": [{"prompt": "\\ud83d hi"}, {"prompt": "x"}, {"promt": "\\ude00"}]}')
    assert [list(result) for result in answer.json()["results"]] == [["decision"], ["decision"], ["error"]]
