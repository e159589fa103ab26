"""What POST /route refuses: each a 4xx problem that names what is wrong, and a server that lives on."""

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from http import HTTPStatus
from subprocess import Popen
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from serve.schemas import RouteRequest

pytest_plugins = ("fixtures_of_serve",)

Refused = Callable[..., dict[str, Any]]
Launched = tuple[Popen[bytes], str, Any]

LIMIT = 4 * 1024 * 1024
DEEP = 50_000
NO_NUMBERS = ("NaN", "Infinity", "-Infinity")

MALFORMED = {
    "empty": (b"", "not valid JSON"),
    "spaces": (b" \n\t ", "not valid JSON"),
    "cut": (b'{"prompt": "Fix', "not valid JSON"),
    "single quotes": (b"{'prompt': 'x'}", "not valid JSON"),
    "trailing": (b'{"prompt": "x"} x', "not valid JSON"),
    "two": (b'{"prompt": "x"}{"prompt": "x"}', "not valid JSON"),
    "form": (b"prompt=x", "not valid JSON"),
    "raw control": (b'{"prompt": "a\x01b"}', "not valid JSON"),
    "raw NUL": (b'{"prompt": "a\0b"}', "not valid JSON"),
    "NULs": (b"\0" * 100, "not valid JSON"),
    "cut escape": (b'{"prompt": "\\ud83"}', "not valid JSON"),
    "no hex": (b'{"prompt": "\\u12g4"}', "not valid JSON"),
    "UTF-16": ('{"prompt": "x"}'.encode("utf-16"), "not valid JSON"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "not valid JSON"),
    "latin-1": ('{"prompt": "é"}'.encode("latin-1"), "not valid UTF-8"),
    "raw surrogate": (b'{"prompt": "\xed\xa0\xbd"}', "not valid UTF-8"),
    "overlong": (b'{"prompt": "\xc0\xaf"}', "not valid UTF-8"),
    "bad key": (b'{"prompt": "x", "\xff": 1}', "not valid UTF-8"),
    "6,000 digits": (b'{"prompt": "x", "input_tokens": ' + b"9" * 6_000 + b"}", "not valid JSON"),
    "NaN": (b'{"prompt": "x", "min_sufficiency": NaN}', "not valid JSON"),
    **{f"{number} in tools": (f'{{"prompt": "x", "tools": [{{"a": {number}}}]}}'.encode(), "not valid JSON") for number in NO_NUMBERS},
    "deep lists": (b"[" * DEEP + b"]" * DEEP, "nested too deeply"),
    "deep open lists": (b"[" * DEEP, "nested too deeply"),
    "deep objects": (b'{"prompt":' * DEEP + b'"x"' + b"}" * DEEP, "nested too deeply"),
    "deep tools": (b'{"prompt": "x", "tools": [' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"]}", "nested too deeply"),
    "deep content": (b'{"messages": [{"role": "user", "content": ' + b"[" * DEEP + b"]" * DEEP + b"}]}", "nested too deeply"),
    "deep unknown": (b'{"prompt": "x", "other": ' + b"[" * DEEP + b"]" * DEEP + b"}", "nested too deeply"),
}

STRINGS = ("prompt", "tier_floor", "tier_ceiling", "policy", "path", "current_tier", "phase")
NUMBERS = ("min_sufficiency", "max_model_latency_ms", "max_cost_usd", "deadline_ms")
WHOLE = ("expected_output_tokens", "input_tokens", "cached_input_tokens")
LISTS = ("messages", "tools")
OTHERS: dict[tuple[str, ...], list[Any]] = {
    STRINGS: [5, 1.5, True, [], ["x"], {}],
    NUMBERS: ["1", True, [], [1], {}],
    WHOLE: ["1", 1.5, 1.0, False, [], {}],
    LISTS: ["x", 5, True, {}, [5], ["x"], [None], [[]], [{}, 1]],
    ("system",): [5, True, {}, [5], [None], [[]]],
    ("explain",): [0, 1, 1.0, "true", None, [], {}],
}
WRONG_TYPES = [(field, value) for fields, values in OTHERS.items() for field in fields for value in values]
OUT_OF_RANGE: list[tuple[str, str]] = [
    ("min_sufficiency", "-0.01"),
    ("min_sufficiency", "1.01"),
    ("min_sufficiency", "1e999"),
    *((field, number) for field in NUMBERS[1:] for number in ("0", "-1", "1e999", "-1e999")),
    *((field, number) for field in WHOLE for number in ("-1", "1000000001", "9" * 4_000, "-" + "9" * 4_000)),
]
BLANK = ["", " ", "\n\t ", "\u00a0\u2003", "<system-reminder>be nice</system-reminder>"]

ONES = b"1," * 2_000_000 + b"1"
MILLIONS = {
    "messages": ("/route", b'{"messages": [' + ONES + b"]}"),
    "messages with half a character": ("/route", b'{"messages": [' + ONES + b', "\\ud83d"]}'),
    "parts": ("/route", b'{"messages": [{"role": "user", "content": [' + ONES + b"]}]}"),
    "system": ("/route", b'{"prompt": "x", "system": [' + ONES + b"]}"),
    "tools": ("/route", b'{"prompt": "x", "tools": [' + ONES + b"]}"),
    "unknown fields": ("/route", json.dumps({f"promp{number}": 1 for number in range(200_000)}).encode()),
    "an unknown field": ("/route", json.dumps({"prompt" * 600_000: 1}).encode()),
    "requests": ("/route/batch", b'{"requests": [' + ONES + b"]}"),
}


def test_every_field_of_a_request_is_tried_below() -> None:
    """A new field needs its wrong values here."""
    assert {field for field, _ in WRONG_TYPES} == set(RouteRequest.model_fields)


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_json_in_utf8_is_a_400(refused: Refused, name: str) -> None:
    """Which says what the body is not."""
    body, what = MALFORMED[name]
    problem = refused(body, 400)
    assert problem["title"] == HTTPStatus(400).phrase
    assert what in problem["detail"]


@pytest.mark.parametrize(
    ("body", "found"), [(b"[]", "a list"), (b'"x"', "a string"), (b"5", "a whole number"), (b"null", "null"), (b"true", "a truth value")]
)
def test_json_that_is_no_object_is_a_422(refused: Refused, body: bytes, found: str) -> None:
    """It is JSON, of another kind."""
    problem = refused(body, 422)
    assert problem["title"] == HTTPStatus(422).phrase
    assert problem["detail"] == f"body: found {found}, expected an object"


@pytest.mark.parametrize(("field", "value"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_named_by_its_field(refused: Refused, field: str, value: Any) -> None:
    """For every field and every type of JSON that it is not."""
    body = {field: value} if field in {"prompt", "messages"} else {"prompt": "x", field: value}
    problem = refused(json.dumps(body).encode(), 422)
    assert problem["detail"].startswith(field)
    assert {error["field"].split(".")[0] for error in problem["errors"]} == {field}
    assert all(error["found"] and error["expected"] for error in problem["errors"])


@pytest.mark.parametrize(("field", "number"), OUT_OF_RANGE)
def test_a_number_out_of_range_is_named_by_its_field(refused: Refused, field: str, number: str) -> None:
    """Also where it is larger than any computer's."""
    problem = refused(f'{{"prompt": "x", "{field}": {number}}}'.encode(), 422)
    assert problem["detail"].startswith(f"{field}: found a number out of range, expected ")


@pytest.mark.parametrize("text", BLANK)
def test_blank_text_with_nothing_else_is_a_422(refused: Refused, text: str) -> None:
    """As a prompt and as the only human turn, in either shape."""
    for field, value in (
        ("prompt", text),
        ("messages", [{"role": "user", "content": text}]),
        ("messages", [{"role": "user", "content": [{"type": "text", "text": text}]}]),
    ):
        problem = refused(json.dumps({field: value}).encode(), 422)
        assert problem["detail"] == f"{field}: found no text, expected text or an image in a human turn"


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "system", "content": "x"}],
        [{"role": "assistant", "content": "x"}, {"role": "tool", "content": "x"}],
        [{"role": "user", "content": []}],
    ],
)
def test_a_conversation_without_a_human_turn_is_a_422(refused: Refused, messages: list[dict[str, Any]]) -> None:
    """There is nothing to score."""
    assert refused(json.dumps({"messages": messages}).encode(), 422)["errors"][0]["field"] == "messages"


@pytest.mark.parametrize("body", [{}, {"prompt": None}, {"system": "x"}, {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}])
def test_exactly_one_of_prompt_and_messages_is_asked_for(refused: Refused, body: dict[str, Any]) -> None:
    """Neither and both are 422."""
    assert "expected exactly one of prompt and messages" in refused(json.dumps(body).encode(), 422)["detail"]


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({}, "messages.1.role"),
        ({"role": "wizard", "content": "x"}, "messages.1.role"),
        ({"role": 5, "content": "x"}, "messages.1.role"),
        ({"role": ["user"], "content": "x"}, "messages.1.role"),
        ({"role": "user"}, "messages.1.content"),
        ({"role": "user", "content": None}, "messages.1.content"),
        ({"role": "user", "content": 5}, "messages.1.content"),
        ({"role": "user", "content": {}}, "messages.1.content"),
        ({"role": "user", "content": ["a", 5]}, "messages.1.content.1"),
        ({"role": "user", "content": [None]}, "messages.1.content.0"),
        ({"role": "user", "content": [{"type": 5}]}, "messages.1.content.0.type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages.1.content.0.text"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "messages.1.content.0.text"),
    ],
)
def test_a_message_of_a_shape_nobody_sends_is_named_by_its_place(refused: Refused, message: dict[str, Any], place: str) -> None:
    """Down to the part that is wrong."""
    problem = refused(json.dumps({"messages": [{"role": "user", "content": "x"}, message]}).encode(), 422)
    assert problem["detail"].startswith(f"{place}: found ")
    assert problem["errors"][0]["field"] == place


@pytest.mark.parametrize(
    ("written", "meant"), [("promt", "prompt"), ("tier_flor", "tier_floor"), ("mesages", "messages"), ("tool", "tools")]
)
def test_an_unknown_field_is_answered_with_the_known_one_that_was_meant(refused: Refused, written: str, meant: str) -> None:
    """And with all known names; its own name is not repeated."""
    problem = refused(json.dumps({"prompt": "x", written: "y"}).encode(), 422)
    assert "an unknown field" in problem["detail"]
    assert f"did you mean {meant}?" in problem["detail"]
    assert written not in json.dumps(problem).replace(meant, "")


@pytest.mark.parametrize("tier", ["huge", "", "SMALL", "small ", "0"])
@pytest.mark.parametrize("field", ["tier_floor", "tier_ceiling"])
def test_an_unknown_tier_is_answered_with_the_known_ones(refused: Refused, field: str, tier: str) -> None:
    """And with the field that named it."""
    problem = refused(json.dumps({"prompt": "x", field: tier}).encode(), 422)
    assert problem["detail"].startswith(f"{field}: ")
    assert "expected one of small, medium, large" in problem["detail"]
    assert problem["errors"][0]["field"] == field


def test_a_floor_above_the_ceiling_names_both(refused: Refused) -> None:
    """With what each of them says."""
    problem = refused(b'{"prompt": "x", "tier_floor": "large", "tier_ceiling": "small"}', 422)
    assert "tier_floor large is above tier_ceiling small" in problem["detail"]


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"max_cost_usd": 1e-12}, ["budget"]),
        ({"max_model_latency_ms": 1}, ["latency"]),
        ({"input_tokens": 1_000_000_000}, ["context_window"]),
        ({"input_tokens": 50_000, "tier_ceiling": "small"}, ["context_window", "ceiling"]),
        ({"tier_floor": "large", "max_model_latency_ms": 600}, ["tier_floor", "latency"]),
    ],
)
def test_limits_that_exclude_every_tier_are_all_named(refused: Refused, limits: dict[str, Any], named: list[str]) -> None:
    """No tier is worse than a wrong one, but says why."""
    detail = refused(json.dumps({"prompt": "x", **limits}).encode(), 422)["detail"]
    assert all(name in detail for name in named)


@pytest.mark.parametrize("phase", ["", "ponder", "PLAN"])
def test_an_unknown_phase_is_answered_with_the_known_ones(refused: Refused, phase: str) -> None:
    """Though none of them changes anything in this version."""
    detail = refused(json.dumps({"prompt": "x", "phase": phase}).encode(), 422)["detail"]
    assert detail == "phase: found a string, expected 'plan', 'execute' or 'verify'"


@pytest.mark.parametrize("name", MILLIONS)
def test_the_answer_to_millions_of_mistakes_is_small(client: httpx.Client, name: str) -> None:
    """The first of them leads; a list of all would be many times what was sent."""
    path, body = MILLIONS[name]
    assert LIMIT / 2 < len(body) <= LIMIT
    answer = client.post(path, content=body)
    assert answer.status_code == 422
    assert len(answer.content) < 2_000


def chunks(size: int) -> Iterator[bytes]:
    """A JSON body of ``size`` bytes, in pieces of which none is too large."""
    yield b'{"prompt": "x"}'
    for start in range(15, size, 65_536):
        yield b" " * min(65_536, size - start)


def test_a_body_of_exactly_the_limit_is_taken(client: httpx.Client) -> None:
    """Announced or in chunks."""
    assert client.post("/route", content=b"".join(chunks(LIMIT))).status_code == 200
    assert client.post("/route", content=chunks(LIMIT)).status_code == 200


@pytest.mark.parametrize("path", ["/route", "/route/batch"])
def test_a_body_over_the_limit_is_a_413_that_names_the_limit(client: httpx.Client, path: str) -> None:
    """One byte is enough, announced or in chunks."""
    for content in (b"".join(chunks(LIMIT + 1)), chunks(LIMIT + 1)):
        answer = client.post(path, content=content)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["title"] == HTTPStatus(413).phrase
        assert answer.json()["detail"] == f"the body is larger than the limit of {LIMIT} bytes"


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(server: Launched) -> None:
    """Nobody has to upload a gigabyte to learn that it is too much."""
    with closing(http.client.HTTPConnection(urlsplit(server[1]).netloc, timeout=60)) as connection:
        connection.putrequest("POST", "/route")
        connection.putheader("Content-Length", str(1 << 40))
        connection.endheaders()
        assert connection.getresponse().status == 413


def test_what_is_not_there_is_a_404_and_a_wrong_method_a_405(client: httpx.Client) -> None:
    """As problems too; the second says which methods there are."""
    missing, wrong = client.get("/nothing/here"), client.get("/route")
    assert (missing.status_code, wrong.status_code, wrong.headers["allow"]) == (404, 405, "POST")
    for answer in (missing, wrong):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["title"] == HTTPStatus(answer.status_code).phrase
        assert answer.json()["detail"]


@pytest.mark.parametrize(
    "data",
    [b"\0\1\2\3\r\n\r\n", b"POST /route HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"POST /route HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n"],
)
def test_what_is_no_http_is_a_400(server: Launched, data: bytes) -> None:
    """Answered by the HTTP parser, before anything of ours is asked."""
    address = urlsplit(server[1])
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=60) as connection:
        connection.sendall(data)
        assert connection.recv(12) == b"HTTP/1.1 400"


def test_a_client_that_leaves_halfway_is_no_error_of_ours(server: Launched, client: httpx.Client) -> None:
    """No traceback in the log."""
    address = urlsplit(server[1])
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=60) as connection:
        connection.sendall(b'POST /route HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"prompt": "')
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""  # the server has seen it
    assert client.get("/healthz").status_code == 200
    assert "Traceback" not in server[2].read_text(encoding="utf-8")


def test_the_server_lives_on_after_everything_above(client: httpx.Client, server: Launched) -> None:
    """One process answers all of it in turn, and then a prompt as if nothing had been."""
    before = client.post("/route", json={"prompt": "What is new?"}).json()["sufficiency"]
    bodies = [body for body, _ in MALFORMED.values()] + [json.dumps({"prompt": "x", field: value}).encode() for field, value in WRONG_TYPES]
    statuses = {client.post(path, content=body).status_code for body in bodies for path in ("/route", "/route/batch")}
    assert statuses == {400, 422}
    assert client.post("/route", json={"prompt": "What is new?"}).json()["sufficiency"] == before
    assert server[0].poll() is None
