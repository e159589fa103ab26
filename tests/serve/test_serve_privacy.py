"""Nothing that a client sends ever comes out again: not in an answer, not in a header, not in the log, not in a metric."""

import asyncio
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier import Prompt, Scores
from serve.app import create_app
from serve.routes import Pending
from serve.settings import Settings

pytest_plugins = ("fixtures_of_serve",)

Launched = tuple[Popen[bytes], str, Path]

MARKER = "zqxsecretjv"
UPPER = MARKER.upper()

JSON_BODIES: list[Any] = [
    # routed
    {"prompt": MARKER},
    {"prompt": f"{MARKER}\0 \ud83d" * 5_000},
    {"prompt": MARKER, "path": "fast"},
    {"prompt": MARKER, "path": "accurate", "deadline_ms": 60_000},
    {"prompt": MARKER, "path": "accurate", "deadline_ms": 1e-6},
    {"prompt": "x", "system": MARKER, "tools": [{"name": MARKER, MARKER: [MARKER]}]},
    {"messages": [{"role": "user", "content": MARKER, "name": MARKER, MARKER: MARKER}]},
    {"messages": [{"role": "user", "content": [{"type": MARKER, MARKER: MARKER}, {"type": "text", "text": MARKER}]}]},
    {"messages": [{"role": "tool", "content": MARKER}, {"role": "user", "content": "x"}]},
    # refused
    MARKER,
    [MARKER],
    {MARKER: MARKER},
    {"prompt": "x", MARKER: 1},
    {"prompt": "x", f"prompt{MARKER}": 1},
    {"prompt": "x", f"tier_floor.{MARKER}[": {MARKER: MARKER}},
    {"prompt": [MARKER]},
    {"prompt": {MARKER: MARKER}},
    {"prompt": MARKER, "messages": [{"role": MARKER}]},
    {"prompt": " ", "system": MARKER},
    {"prompt": "x", "tier_floor": MARKER},
    {"prompt": "x", "tier_ceiling": MARKER, "tier_floor": UPPER},
    {"prompt": "x", "policy": MARKER},
    {"prompt": "x", "path": MARKER},
    {"prompt": "x", "system": [MARKER]},
    {"prompt": "x", "system": {MARKER: MARKER}},
    {"prompt": "x", "tools": [MARKER]},
    {"prompt": "x", "tools": MARKER},
    {"messages": MARKER},
    {"messages": [MARKER]},
    {"messages": [{"role": MARKER, "content": "x"}]},
    {"messages": [{"role": [MARKER], "content": "x"}]},
    {"messages": [{"role": "user", "content": {MARKER: MARKER}}]},
    {"messages": [{"role": "user", "content": [{"type": [MARKER]}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": [MARKER]}]}]},
    {"messages": [{"role": "assistant", "content": MARKER}]},
    *({"prompt": "x", field: MARKER} for field in ("min_sufficiency", "max_model_latency_ms", "max_cost_usd", "deadline_ms")),
    *({"prompt": "x", field: MARKER} for field in ("input_tokens", "expected_output_tokens")),
    {"prompt": MARKER, "max_cost_usd": 1e-12},
    {"prompt": MARKER, "tier_floor": "large", "tier_ceiling": "small"},
]
RAW_BODIES = [
    MARKER.encode(),
    f'{{"prompt": "{MARKER}"'.encode(),
    f'{{"prompt": "{MARKER}", {MARKER}: 1}}'.encode(),
    f'{{"prompt": "{MARKER}\\x"}}'.encode(),
    f'{{"prompt": "\\ud83d {MARKER}", {MARKER}}}'.encode(),
    f'{{"prompt": "{MARKER}'.encode() + b'\xff"}',
    f'{{"{MARKER}'.encode() + b'\xff": 1}',
    f'{{"prompt": "{MARKER}", "tools": '.encode() + b"[" * 50_000,
    f'{{"prompt": "x", "{MARKER}\\ud83d": 1}}'.encode(),
    f'"{MARKER}"'.encode() * 400_000,  # over the limit
]
GETS = [
    f"/{MARKER}",
    f"/route/{MARKER}",
    f"/{MARKER}/../route",
    *(f"{path}?{MARKER}={MARKER}" for path in ("/healthz", "/readyz", "/model", "/metrics")),
]
PAGES = [f"{path}?{MARKER}={MARKER}" for path in ("/docs", "/openapi.json", "/nothing")]
HEADERS = dict.fromkeys(
    "accept accept-language authorization content-type cookie origin referer traceparent user-agent x-api-key x-forwarded-for x-request-id".split(),
    MARKER,
)


def whole(answer: httpx.Response) -> str:
    """Everything an answer says, its headers included."""
    return f"{answer.status_code} {answer.headers.multi_items()} {answer.text}".lower()


@pytest.fixture(name="everything_said", scope="module")
def _everything_said(client: httpx.Client, server: Launched) -> dict[str, str]:
    """Every answer to every request that holds the marker, by what was asked; then the log and the metrics."""
    said: dict[str, str] = {}
    bodies = [json.dumps(body).encode() for body in JSON_BODIES] + RAW_BODIES
    bodies += [json.dumps({"requests": [body, {"prompt": "x"}]}).encode() for body in JSON_BODIES]
    bodies += [json.dumps({"requests": MARKER}).encode(), json.dumps({"requests": [{"prompt": "x"}], MARKER: MARKER}).encode()]
    for number, body in enumerate(bodies):
        for path in ("/route", "/route/batch", f"/route?{MARKER}={MARKER}"):
            said[f"{path} {number} {body[:100]!r}"] = whole(client.post(path, content=body, headers=HEADERS))
    for path in (*GETS, *PAGES):
        said[path] = whole(client.get(path, headers=HEADERS))
    for method in (MARKER[:3], "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        said[method] = whole(client.request(method, f"/route?{MARKER}", headers=HEADERS))
    address = urlsplit(server[1])
    for data in (f"{MARKER} /route HTTP/1.1\r\n\r\n", f"GET /{MARKER} {MARKER}\r\n\r\n", f"GET / HTTP/1.1\r\n{MARKER} : {MARKER}\r\n\r\n"):
        with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=60) as connection:
            connection.sendall(data.encode())
            said[data] = connection.recv(65_536).decode("latin-1").lower()
    said["metrics"] = client.get("/metrics").text.lower()
    said["log"] = server[2].read_text(encoding="utf-8").lower()
    return said


def test_the_requests_that_hold_the_marker_are_answered(everything_said: dict[str, str]) -> None:
    """Some routed, some refused, none with a 5xx."""
    statuses = {said[:3] for said in everything_said.values() if said[:3].isdigit()}
    assert {"200", "400", "404", "405", "413", "422"} <= statuses
    assert not any(status.startswith("5") for status in statuses)


def test_no_answer_holds_what_was_sent(everything_said: dict[str, str]) -> None:
    """Neither in its body nor in a header, whatever part of the request it stood in."""
    assert [asked for asked, said in everything_said.items() if asked not in {"log", "metrics"} and MARKER in said] == []


def test_no_log_line_holds_what_was_sent(everything_said: dict[str, str]) -> None:
    """The log was written, by the same server, and holds none of it."""
    assert "pointsman" in everything_said["log"]
    assert MARKER not in everything_said["log"]


def test_no_metric_holds_what_was_sent(everything_said: dict[str, str]) -> None:
    """Labels are names of ours."""
    assert "pointsman_decisions_total{" in everything_said["metrics"]
    assert MARKER not in everything_said["metrics"]


@pytest.mark.parametrize("path", ["/route/", "/route/batch/", "/healthz/"])
def test_no_redirect_repeats_the_query(client: httpx.Client, path: str) -> None:
    """A path with a slash too many is not there."""
    answer = client.post(f"{path}?{MARKER}", content=b"{}", headers={"host": MARKER})
    assert answer.status_code == 404
    assert MARKER not in whole(answer)


@pytest.mark.parametrize("key", ["dGhlIHNhbXBsZSBub25jZQ==", MARKER])
def test_a_websocket_request_is_neither_logged_nor_repeated(server: Launched, key: str) -> None:
    """Its path, query and key are the client's; it is answered as any request for what is not there."""
    address = urlsplit(server[1])
    request = f"GET /{MARKER}?{MARKER} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=60) as connection:
        connection.sendall("\r\n".join([*request, f"Sec-WebSocket-Key: {key}", "", ""]).encode())
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 404")
    assert MARKER.encode() not in answer
    assert MARKER not in server[2].read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["scoring", "looking twice", "deciding"])
@pytest.mark.parametrize("path", ["/route", "/route/batch"])
def test_an_unforeseen_error_is_answered_and_logged_without_its_message(caplog: pytest.LogCaptureFixture, path: str, stage: str) -> None:
    """The app raises nothing either, which the server around it would log."""
    app = create_app(Settings())

    def scoring(prompts: Sequence[Prompt], _path: str) -> None:
        raise RuntimeError(prompts[0].text)

    def looking_twice(prompt: Prompt, _fast: Scores) -> None:
        raise RuntimeError(prompt.text)

    def deciding(pending: Pending, _scores: Scores) -> None:
        raise RuntimeError(pending.prompt.text)

    if stage == "scoring":
        app.state.service.router.score_fast = scoring
    elif stage == "looking twice":
        app.state.service.router.score_accurate = looking_twice
    else:
        app.state.service._decided = deciding

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            request = {"prompt": MARKER, "path": "accurate", "deadline_ms": 60_000}
            return await client.post(path, json=request if path == "/route" else {"requests": [request]})

    answer = asyncio.run(post())
    body = answer.json()
    assert (body["results"][0]["error"] if "results" in body else body)["status"] == 500
    assert "unexpected RuntimeError at test_serve_privacy.py:" in caplog.text
    assert MARKER not in whole(answer) + caplog.text


VALUES = st.recursive(
    st.sampled_from([MARKER, f"{MARKER} \0", f"[{MARKER}", UPPER, "user", "text", 1, 1.5, None, True]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([MARKER, "role", "content", "type", "text"]), inner, max_size=4)
    ),
    max_leaves=8,
)
KNOWN = "prompt messages system tools policy tier_floor tier_ceiling min_sufficiency input_tokens path deadline_ms requests".split()


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(st.sampled_from([*KNOWN, MARKER, f"{MARKER}.prompt"]), VALUES, max_size=4), st.sampled_from(["/route", "/route/batch"])
)
def test_no_request_of_any_shape_is_repeated(client: httpx.Client, server: Launched, body: dict[str, Any], path: str) -> None:
    """As above, with the marker anywhere in JSON of any shape."""
    answer = client.post(path, content=json.dumps(body).encode())
    assert answer.status_code in {200, 422}
    assert MARKER not in whole(answer)
    assert MARKER not in server[2].read_text(encoding="utf-8").lower()
