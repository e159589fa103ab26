"""``"explain": true``: what each signal did to the decision, over HTTP and in the service behind it."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import TypeAdapter
from pydantic_core import to_json

from classifier import Decision, Prompt, Router, from_text
from classifier.bundle import LAYOUT, find
from classifier.explain import TEXT
from classifier.policy import Facts
from classifier.router import MODELS
from classifier.signals import NAMES
from serve.routes import Pending, Service
from serve.schemas import RouteRequest, RouteResponse
from serve.settings import Settings

pytest_plugins = ("fixtures_of_serve",)

Launched = tuple[subprocess.Popen[bytes], str, Path]
Launch = Callable[..., AbstractContextManager[Launched]]
Route = Callable[..., dict[str, Any]]

PROMPTS = (
    "Fix the typo in README.md",
    "What is the capital of France?",
    "Plan an authentication system for our app. Consider security, UX, and scalability.",
    "Warum ist der Himmel blau?",
)
PLAN = PROMPTS[2]
ADDED = {"explained_tier", "signals"}
TAKEN_ANEW = {"id", "router_ms"}
DIFFERING = TAKEN_ANEW | ADDED


def copy_of_the_bundle(folder: Path, typical: dict[str, Any] | None) -> Path:
    """The shipped bundle with typical values of the tests' own, or without any."""
    shutil.copytree(find(MODELS), folder, ignore=shutil.ignore_patterns("analysis", LAYOUT.typical))
    manifest = json.loads((folder / LAYOUT.manifest).read_bytes())
    manifest["files"].pop(LAYOUT.typical, None)
    if typical is not None:
        content = json.dumps(typical).encode()
        (folder / LAYOUT.typical).write_bytes(content)
        manifest["files"][LAYOUT.typical] = hashlib.sha256(content).hexdigest()
    (folder / LAYOUT.manifest).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.fixture(name="old_bundle", scope="module")
def _old_bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle that was trained before explanations."""
    folder = tmp_path_factory.mktemp("old") / "bundle"
    yield copy_of_the_bundle(folder, None)
    shutil.rmtree(folder)


@pytest.fixture(name="bundle", scope="module")
def _bundle(tmp_path_factory: pytest.TempPathFactory, serving_router: Router) -> Iterator[Path]:
    """A bundle that can explain."""
    signals, embedding = serving_router.features([from_text(prompt) for prompt in PROMPTS])
    typical = {
        "signals": dict(zip(NAMES, np.median(signals, axis=0).tolist(), strict=True)),
        "embedding": embedding.mean(axis=0).tolist(),
    }
    folder = tmp_path_factory.mktemp("new") / "bundle"
    yield copy_of_the_bundle(folder, typical)
    shutil.rmtree(folder)


@pytest.fixture(name="explaining", scope="module")
def _explaining(bundle: Path, serving_catalog: Path) -> Router:
    """The router that the server has, in this process."""
    return Router.load(bundle, serving_catalog)


@pytest.fixture(name="client", scope="module")
def _client(launch: Launch, bundle: Path, serving_catalog: Path) -> Iterator[httpx.Client]:
    """Talks to a server whose bundle can explain."""
    with (
        launch("--catalog", str(serving_catalog), "--bundle", str(bundle)) as (_, url, _log),
        httpx.Client(base_url=url, timeout=120, trust_env=False) as client,
    ):
        yield client


@pytest.fixture(name="route", scope="module")
def _route(client: httpx.Client) -> Route:
    """The decision on a request that must be routed."""

    def route(**body: Any) -> dict[str, Any]:
        answer = client.post("/route", json=body)
        assert answer.status_code == 200, answer.text
        decision: dict[str, Any] = answer.json()
        return decision

    return route


# over HTTP


@pytest.mark.parametrize("more", [{}, {"explain": False}])
def test_only_who_asks_gets_an_explanation(route: Route, more: dict[str, Any]) -> None:
    """The answer to others is as short as it was."""
    assert not set(route(prompt=PLAN, **more)) & ADDED


@pytest.mark.parametrize("path", ["fast", "auto", "accurate"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_an_explanation_is_added_to_the_decision_and_changes_nothing_of_it(route: Route, prompt: str, path: str) -> None:
    """Whichever path decided."""
    plain, explained = (
        route(prompt=prompt, path=path, deadline_ms=60_000),
        route(prompt=prompt, path=path, deadline_ms=60_000, explain=True),
    )
    assert set(explained) - set(plain) == ADDED
    assert {name: explained[name] for name in plain if name not in DIFFERING} == {
        name: value for name, value in plain.items() if name not in DIFFERING
    }


@pytest.mark.parametrize("prompt", PROMPTS)
def test_each_signal_has_name_value_and_effect(route: Route, prompt: str) -> None:
    """The text alone has no value: it is many numbers."""
    signals = route(prompt=prompt, explain=True)["signals"]
    assert {one["name"] for one in signals} <= {*NAMES, TEXT}
    for one in signals:
        assert set(one) == ({"name", "effect"} if one["name"] == TEXT else {"name", "value", "effect"})
        assert -1 <= one["effect"] <= 1


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_largest_effects_come_first(route: Route, prompt: str) -> None:
    """Whichever way they point; each signal stands once, and the text among them."""
    signals = route(prompt=prompt, explain=True)["signals"]
    sizes = [abs(one["effect"]) for one in signals]
    names = [one["name"] for one in signals]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(names)) == len(names)
    assert TEXT in names


@pytest.mark.parametrize(
    "more", [{}, {"min_sufficiency": 0.9}, {"tier_ceiling": "small"}, {"messages": [{"role": "user", "content": PLAN}]}], ids=str
)
def test_the_server_explains_as_the_router_does(route: Route, explaining: Router, more: dict[str, Any]) -> None:
    """The same tier and the same effects, rounded to what they are worth."""
    body = {"path": "fast", "explain": True, **more} | ({} if "messages" in more else {"prompt": PLAN})
    request = RouteRequest.model_validate(body)
    prompt = request.to_prompt()
    facts = request.to_facts(prompt)
    (decision,) = explaining.route([prompt], [facts], path="fast")
    expected = explaining.explain(prompt, decision, facts)
    found = route(**body)
    assert found["explained_tier"] == expected.tier
    assert {one["name"]: one["effect"] for one in found["signals"]} == pytest.approx(
        {one.name: one.effect for one in expected.effects}, abs=1e-6
    )
    assert {one["name"]: one.get("value") for one in found["signals"]} == pytest.approx(
        {one.name: one.value for one in expected.effects}, abs=1e-6
    )


@pytest.mark.parametrize(("asked", "tier"), [(0, "small"), (1, "medium")])
def test_the_requests_own_target_says_which_tier_is_explained(route: Route, asked: float, tier: str) -> None:
    """Who asks for nothing gets the cheapest tier; who asks for certainty is told why the middle one does not give it."""
    assert route(prompt=PLAN, min_sufficiency=asked, explain=True)["explained_tier"] == tier


def test_items_of_a_batch_are_explained_one_by_one(client: httpx.Client, route: Route) -> None:
    """Those that ask, in their order."""
    items = [{"prompt": prompt, "path": "fast", "explain": index % 2 == 0} for index, prompt in enumerate(PROMPTS)]
    results = [result["decision"] for result in client.post("/route/batch", json={"requests": items}).json()["results"]]
    for item, decision in zip(items, results, strict=True):
        alone = route(**item)
        assert set(decision) == set(alone)
        assert {name: value for name, value in decision.items() if name not in TAKEN_ANEW} == {
            name: value for name, value in alone.items() if name not in TAKEN_ANEW
        }


def test_no_word_of_the_prompt_stands_in_an_explanation(client: httpx.Client) -> None:
    """Names of signals and numbers are all that it holds."""
    answer = client.post("/route", json={"prompt": "Why does zanzibarquux fail in payments/zanzibarquux.py?", "explain": True})
    assert answer.status_code == 200
    assert "zanzibarquux" not in answer.text


def test_the_schema_describes_what_an_explanation_says(client: httpx.Client) -> None:
    """Both fields are optional, and tell of which tier the effects are."""
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    response = schemas["RouteResponse"]
    assert set(response["properties"]) - set(response["required"]) == ADDED
    assert "missed the target" in response["properties"]["explained_tier"]["description"]
    assert "explained_tier" in schemas["SignalEffect"]["properties"]["effect"]["description"]
    assert "Accepted" not in schemas["RouteRequest"]["properties"]["explain"]["description"]


def test_an_explained_answer_is_valid(route: Route) -> None:
    """What the server writes is what its schema promises."""
    found = route(prompt=PLAN, explain=True)
    assert TypeAdapter(RouteResponse).validate_json(to_json(found)) == found


# the service


@pytest.fixture(name="old", scope="module")
def _old(old_bundle: Path, serving_catalog: Path) -> Service:
    """A service whose bundle cannot explain."""
    return Service(Router.load(old_bundle, serving_catalog), Settings())


def test_a_bundle_that_cannot_explain_says_so(old: Service) -> None:
    """A 422 that names the field and the file; requests that ask for no explanation are decided as ever."""
    results = old.route_items([{"prompt": PLAN}, {"prompt": PLAN, "explain": True}, {"prompt": PLAN, "explain": False}])
    assert [list(result) for result in results] == [["decision"], ["error"], ["decision"]]
    error = results[1]["error"]
    assert error.status == 422
    assert error.detail.startswith("explain: this bundle has no typical.json")
    assert error.errors is not None
    assert [entry["field"] for entry in error.errors] == ["explain"]


def test_a_decision_that_could_not_be_explained_is_not_counted(old: Service) -> None:
    """It was not given."""

    def decided() -> float:
        lines = old.telemetry.exposition().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("pointsman_decisions_total"))

    before = decided()
    old.route_items([{"prompt": PLAN, "explain": True}, {"prompt": PLAN}])
    assert decided() - before == 1


def test_a_server_whose_bundle_cannot_explain_says_so(launch: Launch, old_bundle: Path) -> None:
    """By the road that single requests take as well."""
    with launch("--bundle", str(old_bundle)) as (_, url, _log), httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        answer = client.post("/route", json={"prompt": PLAN, "explain": True})
        assert client.post("/route", json={"prompt": PLAN}).status_code == 200
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == "explain"


@pytest.fixture(name="service")
def _service(explaining: Router) -> Service:
    """A service that can explain."""
    return Service(explaining, Settings())


def test_who_asks_for_no_explanation_waits_for_none(service: Service) -> None:
    """Neighbours are answered before the one that is to be explained, which is left for later."""
    items = [{"prompt": PLAN, "path": "fast", "explain": explain} for explain in (False, True, False)]
    before, pending, after = service.route([RouteRequest.model_validate(item) for item in items])
    assert isinstance(pending, Pending)
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert not pending.twice


def test_nothing_is_explained_where_nobody_asks(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that every model call waits for has nothing more to do."""

    def explain(_prompt: Prompt, _decision: Decision, _facts: Facts) -> None:
        raise AssertionError("nobody asked")

    monkeypatch.setattr(service.router, "explain", explain)
    results = service.route_items([{"prompt": prompt} for prompt in PROMPTS])
    assert [list(result) for result in results] == [["decision"]] * len(PROMPTS)
