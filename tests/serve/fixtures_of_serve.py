"""What the tests of serve share: one real server on loopback, a client of it, and the router it uses, in this process.

A plugin rather than a conftest.py, since mypy takes two files of that name for one module: test modules name it in
``pytest_plugins``. The doctest collector imports it first, as a plain module, hence PYTEST_DONT_REWRITE.
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from classifier import Router
from classifier.router import MODELS, Accurate

PATIENT_MS = 60_000  # a deadline that the accurate path meets on any machine, so that answers depend on what was asked alone
Launched = tuple[subprocess.Popen[bytes], str, Path]
Launch = Callable[..., contextlib.AbstractContextManager[Launched]]
RouterWith = Callable[..., Router]

CATALOG = """
[tiers.small]
model = "tiny-1"
input_usd = 1.0
output_usd = 5.0
context_window = 8_000
latency_ms = 500
capabilities = ["tools"]

[tiers.medium]
model = "middle-1"
input_usd = 3.0
output_usd = 15.0
context_window = 100_000
latency_ms = 2_000
capabilities = ["tools", "vision"]

[tiers.large]
model = "grand-1"
input_usd = 5.0
output_usd = 25.0
context_window = 3_000_000
latency_ms = 8_000
capabilities = ["tools", "vision"]
token_factor = 1.5
"""


@pytest.fixture(name="checkout", scope="session")
def _checkout() -> Path:
    """The folder that ``python -m serve`` runs in."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(name="plain_environ", scope="session")
def _plain_environ() -> dict[str, str]:
    """This process's environment without settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}


@pytest.fixture(name="serving_catalog", scope="session")
def _serving_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog whose three models differ in everything that a decision may depend on."""
    file = tmp_path_factory.mktemp("catalog") / "catalog.toml"
    file.write_text(CATALOG, encoding="utf-8")
    return file


@pytest.fixture(name="serving_router", scope="session")
def _serving_router(serving_catalog: Path) -> Router:
    """The router that the server has, in this process."""
    return Router.load(MODELS, serving_catalog)


@pytest.fixture(name="router_with", scope="session")
def _router_with(serving_router: Router) -> RouterWith:
    """The same router under another policy, or without some of its parts: ``router_with(margin=0)``, ``router_with(accurate=None)``."""

    def router_with(*, accurate: Accurate | None = serving_router.accurate, **policy: Any) -> Router:
        own = serving_router
        return Router(own.manifest, own.encoder, own.head, replace(own.policy, **policy), accurate, own.task)

    return router_with


@pytest.fixture(name="wary", scope="session")
def _wary(router_with: RouterWith) -> Router:
    """A router that looks twice at every prompt, since it takes all that is not certain for close."""
    return router_with(margin=50.0)


@pytest.fixture(name="launch", scope="session")
def _launch(checkout: Path, plain_environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """Start ``python -m serve`` on a free port: ``with launch(*flags, **variables) as (process, url, log)``, ready when entered."""

    @contextlib.contextmanager
    def launch(*flags: str, **variables: str) -> Iterator[Launched]:
        log = tmp_path_factory.mktemp("server") / "server.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "serve", "--port", "0", *flags],
                cwd=checkout,
                env={**plain_environ, **variables},
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process, _url(process, log), log
        finally:
            process.terminate()
            process.wait(60)

    return launch


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where a starting server listens, as its log says once it does; RuntimeError with the log where it never will."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:[1-9]\d*", log.read_text(encoding="utf-8")):
            return found[0]
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {log.read_text(encoding='utf-8')}")


@pytest.fixture(name="server", scope="session")
def _server(launch: Launch, serving_catalog: Path) -> Iterator[Launched]:
    """The server that most tests talk to, with the shipped bundle and the tests' catalog."""
    with launch("--catalog", str(serving_catalog)) as launched:
        yield launched


@pytest.fixture(name="client", scope="session")
def _client(server: Launched) -> Iterator[httpx.Client]:
    """Talks to ``server``."""
    with httpx.Client(base_url=server[1], timeout=120, trust_env=False) as client:
        yield client


@pytest.fixture(name="route", scope="session")
def _route(client: httpx.Client) -> Callable[..., dict[str, Any]]:
    """The decision on a request that must be routed, with time enough: ``route(prompt="...", tier_floor="...")``."""

    def route(**body: Any) -> dict[str, Any]:
        answer = client.post("/route", json={"deadline_ms": PATIENT_MS, **body})
        assert answer.status_code == 200, answer.text
        decision: dict[str, Any] = answer.json()
        return decision

    return route


@pytest.fixture(name="refused", scope="session")
def _refused(client: httpx.Client) -> Callable[..., dict[str, Any]]:
    """The problem with which a body is refused: ``refused(body, status, path)``; checks that it is a whole problem."""

    def refused(body: bytes, status: int, path: str = "/route") -> dict[str, Any]:
        answer = client.post(path, content=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = answer.json()
        assert problem["status"] == status
        assert problem["title"]
        assert problem["detail"]
        return problem

    return refused
