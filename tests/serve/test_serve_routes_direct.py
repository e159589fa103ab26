"""POST /route without the framework's layers: the same answers as its twin within the framework gives, and no other path."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from classifier import Prompt, Scores
from serve.app import create_app
from serve.settings import Settings

pytest_plugins = ("fixtures_of_serve",)

Ask = Callable[..., tuple[httpx.Response, httpx.Response]]

LIMIT = 2_000
PROMPT = b'{"prompt": "Fix the typo in README.md", "path": "fast"}'
BODIES = {
    "a prompt": PROMPT,
    "a conversation": b'{"messages": [{"role": "user", "content": "Plan a migration."}], "tier_floor": "medium", "deadline_ms": 60000}',
    "one for a second look": b'{"prompt": "Fix the typo in README.md", "path": "accurate", "deadline_ms": 60000}',
    "one too late for it": b'{"prompt": "Fix the typo in README.md", "path": "accurate", "deadline_ms": 1e-6}',
    "half a character": b'{"prompt": "\\ud83d hi", "path": "fast"}',
    "exactly the limit": PROMPT.ljust(LIMIT),
    "nothing": b"",
    "half an object": b'{"prompt": "x"',
    "a list": b"[]",
    "no UTF-8": b'{"prompt": "\xff"}',
    "no number": b'{"prompt": "x", "min_sufficiency": NaN}',
    "an empty object": b"{}",
    "blank": b'{"prompt": " "}',
    "another type": b'{"prompt": 5, "explain": "yes"}',
    "a misspelt field": b'{"promt": "x"}',
    "an unknown tier": b'{"prompt": "x", "tier_floor": "huge"}',
    "no tier left": b'{"prompt": "x", "max_cost_usd": 1e-12}',
    "one byte too many": PROMPT.ljust(LIMIT + 1),
}
STATUSES = {
    **dict.fromkeys(("a prompt", "a conversation", "one for a second look", "one too late for it"), 200),
    **dict.fromkeys(("half a character", "exactly the limit"), 200),
    **dict.fromkeys(("nothing", "half an object", "no UTF-8", "no number"), 400),
    "one byte too many": 413,
}
REFUSED = [name for name in BODIES if STATUSES.get(name, 422) != 200]


@pytest.fixture(name="app", scope="module")
def _app(serving_catalog: Path) -> FastAPI:
    """The application as it serves."""
    return create_app(Settings(catalog=serving_catalog, max_body=LIMIT))


@pytest.fixture(name="twin", scope="module")
def _twin(serving_catalog: Path) -> FastAPI:
    """The same application with the framework's own layers alone."""
    app = create_app(Settings(catalog=serving_catalog, max_body=LIMIT))
    vars(app).pop("build_middleware_stack")
    return app


async def sent(app: FastAPI, method: str, path: str, content: bytes | AsyncIterator[bytes] | None = None) -> httpx.Response:
    """The answer of ``app``."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.request(method, path, content=content)


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    """``body`` in pieces whose size is not announced."""
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


def lasting(answer: httpx.Response) -> Any:
    """What an answer says, without what differs from one answer to the next."""
    body = answer.json()
    return {name: value for name, value in body.items() if name not in {"id", "router_ms"}}


def problems(app: FastAPI) -> Counter[str]:
    """By status, how many requests were refused."""
    lines = app.state.service.telemetry.exposition().decode().splitlines()
    return Counter({line.split('"')[1]: int(float(line.split()[-1])) for line in lines if line.startswith("pointsman_problems_total")})


@pytest.fixture(name="ask")
def _ask(app: FastAPI, twin: FastAPI) -> Ask:
    """``ask(method, path, body)``: the answers of the application and of its twin."""

    def ask(method: str, path: str, body: bytes = b"") -> tuple[httpx.Response, httpx.Response]:
        return asyncio.run(sent(app, method, path, body)), asyncio.run(sent(twin, method, path, body))

    return ask


def test_a_prompt_is_routed_without_the_framework(serving_catalog: Path) -> None:
    """An application whose framework knows no path any more routes all the same."""
    bare = create_app(Settings(catalog=serving_catalog))
    bare.router.routes.clear()
    assert asyncio.run(sent(bare, "GET", "/healthz")).status_code == 404
    assert asyncio.run(sent(bare, "POST", "/route", PROMPT)).status_code == 200


@pytest.mark.parametrize("name", BODIES)
def test_every_body_is_answered_as_the_twin_answers_it(ask: Ask, name: str) -> None:
    """Status, type and words, down to the length that is announced."""
    direct, framed = ask("POST", "/route", BODIES[name])
    assert direct.status_code == framed.status_code == STATUSES.get(name, 422)
    assert direct.headers["content-type"] == framed.headers["content-type"]
    assert lasting(direct) == lasting(framed)
    assert int(direct.headers["content-length"]) == len(direct.content)
    assert direct.headers.keys() == framed.headers.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_a_problem(ask: Ask, name: str) -> None:
    """With the status's own phrase for a title."""
    direct, _ = ask("POST", "/route", BODIES[name])
    assert direct.headers["content-type"] == "application/problem+json"
    assert direct.json()["title"] == HTTPStatus(direct.status_code).phrase


def test_a_body_in_chunks_is_answered_as_the_twin_answers_it(app: FastAPI, twin: FastAPI) -> None:
    """Its size shows only as it comes."""
    for name, status in (("exactly the limit", 200), ("one byte too many", 413)):
        direct, framed = (asyncio.run(sent(one, "POST", "/route", chunks(BODIES[name]))) for one in (app, twin))
        assert direct.status_code == framed.status_code == status
        assert lasting(direct) == lasting(framed)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_other_methods_are_answered_as_the_twin_answers_them(ask: Ask, method: str) -> None:
    """405, with the method there is."""
    direct, framed = ask(method, "/route", PROMPT)
    assert direct.status_code == framed.status_code == 405
    assert direct.headers == framed.headers
    assert direct.headers["allow"] == "POST"
    assert direct.content == framed.content


@pytest.mark.parametrize("path", ["/route/", "/Route", "/route/x", "/routes", "/", "/route/batch/"])
def test_a_path_beside_it_is_not_there(ask: Ask, path: str) -> None:
    """Neither with a slash too many nor in another case, and nobody is sent elsewhere."""
    direct, framed = ask("POST", path, PROMPT)
    assert direct.status_code == framed.status_code == 404
    assert "location" not in direct.headers
    assert lasting(direct) == lasting(framed)


@pytest.mark.parametrize("path", ["/route?debug=1", "/route?", "/%72oute"])
def test_the_same_path_in_other_words_is_routed(ask: Ask, path: str) -> None:
    """A query is ignored, and escapes are read."""
    direct, framed = ask("POST", path, PROMPT)
    assert direct.status_code == framed.status_code == 200
    assert lasting(direct) == lasting(framed)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/model"])
def test_everything_else_is_the_frameworks(ask: Ask, path: str) -> None:
    """The other endpoints answer as before."""
    direct, framed = ask("GET", path)
    assert direct.status_code == framed.status_code == 200
    assert direct.json() == framed.json()


def test_an_unforeseen_error_is_the_problem_it_is_at_the_twins(
    ask: Ask, app: FastAPI, twin: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 500 that keeps its message to itself; the next request is routed."""

    def broken(_prompts: list[Prompt], _path: str) -> None:
        raise RuntimeError("zqx")

    with monkeypatch.context() as patch:
        for one in (app, twin):
            patch.setattr(one.state.service.router, "score_fast", broken)
        direct, framed = ask("POST", "/route", PROMPT)
    assert direct.status_code == framed.status_code == 500
    assert direct.headers["content-type"] == framed.headers["content-type"] == "application/problem+json"
    assert direct.json() == framed.json()
    assert "zqx" not in direct.text
    assert ask("POST", "/route", PROMPT)[0].status_code == 200


def test_an_unforeseen_error_of_the_accurate_path_is_the_problem_it_is_at_the_twins(
    ask: Ask, app: FastAPI, twin: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, though it comes from another thread."""

    def broken(_prompt: Prompt, _fast: Scores) -> None:
        raise RuntimeError("zqx")

    with monkeypatch.context() as patch:
        for one in (app, twin):
            patch.setattr(one.state.service.router, "score_accurate", broken)
        direct, framed = ask("POST", "/route", BODIES["one for a second look"])
    assert direct.status_code == framed.status_code == 500
    assert direct.json() == framed.json()
    assert "zqx" not in direct.text
    assert ask("POST", "/route", BODIES["one for a second look"])[0].json()["path"] == "accurate"


def test_refusals_are_counted_as_the_twin_counts_them(ask: Ask, app: FastAPI, twin: FastAPI) -> None:
    """Once each, by status."""
    before = problems(app), problems(twin)
    for name in REFUSED:
        ask("POST", "/route", BODIES[name])
    counted, framed = problems(app) - before[0], problems(twin) - before[1]
    assert counted == framed == Counter(str(STATUSES.get(name, 422)) for name in REFUSED)


def test_requests_that_arrive_together_are_answered_as_alone(app: FastAPI) -> None:
    """Each with what is its own, right ones and wrong ones, in one batch or in several."""
    bodies = [*BODIES.values()] * 3

    async def together() -> list[httpx.Response]:
        return await asyncio.gather(*(sent(app, "POST", "/route", body) for body in bodies))

    answers = asyncio.run(together())
    alone = [asyncio.run(sent(app, "POST", "/route", body)) for body in BODIES.values()] * 3
    assert [answer.status_code for answer in answers] == [answer.status_code for answer in alone]
    assert list(map(lasting, answers)) == list(map(lasting, alone))
