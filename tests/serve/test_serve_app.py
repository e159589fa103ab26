"""The endpoints beside /route: what operations, scrapers and readers of the API ask for."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from classifier import Router

pytest_plugins = ("fixtures_of_serve",)

Route = Callable[..., dict[str, Any]]


@pytest.fixture(name="openapi", scope="module")
def _openapi(client: httpx.Client) -> dict[str, Any]:
    """The API's description of itself."""
    description: dict[str, Any] = client.get("/openapi.json").json()
    return description


def samples(client: httpx.Client) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every number of GET /metrics by name and labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def references(value: Any) -> Iterator[str]:
    """Every ``$ref`` within a piece of JSON."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolved(openapi: dict[str, Any], reference: str) -> Any:
    """What a local reference points at; KeyError where it points nowhere."""
    found: Any = openapi
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_healthz_says_that_the_server_is_alive(client: httpx.Client) -> None:
    """Without looking at anything else."""
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_readyz_says_which_bundle_is_ready(client: httpx.Client, serving_router: Router) -> None:
    """Once anyone can ask, it is loaded."""
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "version": serving_router.manifest.version})


def test_model_says_what_scores_and_what_it_was_calibrated_for(client: httpx.Client, serving_router: Router) -> None:
    """Tiers, prior and basis from the manifest, targets from the policy, and the manifest itself."""
    found, manifest = client.get("/model").json(), serving_router.manifest
    assert found["version"] == manifest.version
    assert found["tiers"] == list(manifest.tiers)
    assert found["basis"] == manifest.basis
    assert found["prior"] == dict(zip(manifest.tiers, manifest.prior, strict=True))
    assert found["calibrated_for"] == manifest.raw["calibrated_for"]
    assert found["targets"] == serving_router.policy.targets
    assert found["manifest"] == manifest.raw
    assert found["metrics"] == manifest.raw["metrics"]


def test_a_prior_is_shares_of_traffic(client: httpx.Client) -> None:
    """They sum to 1 over the tiers of the bundle."""
    found = client.get("/model").json()
    assert list(found["prior"]) == found["tiers"]
    assert sum(found["prior"].values()) == pytest.approx(1)


def test_model_shows_the_catalog_in_use(client: httpx.Client) -> None:
    """Every entry of the file that the server was started with."""
    catalog = client.get("/model").json()["catalog"]
    assert list(catalog) == ["small", "medium", "large"]
    assert catalog["large"] == {
        "model": "grand-1",
        "input_usd": 5,
        "output_usd": 25,
        "context_window": 3_000_000,
        "latency_ms": 8_000,
        "capabilities": ["tools", "vision"],
        "token_factor": 1.5,
    }
    assert catalog["small"]["token_factor"] == 1


def test_metrics_are_in_prometheus_text_format(client: httpx.Client) -> None:
    """Its own parser reads them, and the bundle in use is among them."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert samples(client)["pointsman_bundle", (("version", client.get("/readyz").json()["version"]),)] == 1


def test_every_decision_is_counted(client: httpx.Client, route: Route) -> None:
    """A request by itself once, a batch as many times as it holds prompts, under names of ours."""
    labels = (("path", "fast"), ("path_reason", "clear"), ("reason", "floor"), ("tier", "large"))
    counter = ("pointsman_decisions_total", labels)
    before = samples(client)
    forced = {"prompt": "x", "tier_floor": "large", "min_sufficiency": 0}
    route(**forced)
    client.post("/route/batch", json={"requests": [forced] * 3})
    after = samples(client)
    assert after[counter] - before.get(counter, 0) == 4
    for name in ("pointsman_confidence_count", "pointsman_router_seconds_count"):
        assert after[name, ()] - before[name, ()] == 4


@pytest.mark.parametrize(("path", "asked"), [("fast", {"path": "fast"}), ("accurate", {"path": "accurate", "deadline_ms": 60_000})])
def test_decisions_are_counted_by_the_path_that_scored_and_why(
    client: httpx.Client, route: Route, path: str, asked: dict[str, Any]
) -> None:
    """A dashboard can show how often the accurate path is asked, and how often there is no time for it."""
    counter = ("pointsman_decisions_total", (("path", path), ("path_reason", "asked"), ("reason", "floor"), ("tier", "large")))
    before = samples(client)
    route(prompt="x", tier_floor="large", min_sufficiency=0, **asked)
    assert samples(client)[counter] - before.get(counter, 0) == 1


def test_what_is_asked_of_the_server_itself_is_no_decision(client: httpx.Client) -> None:
    """Probes and scrapes leave the counters alone."""
    before = samples(client)
    for path in ("/healthz", "/readyz", "/model", "/metrics"):
        client.get(path)
    assert samples(client) == before


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/route", b"{", 400),
        ("POST", "/route", b"{}", 422),
        ("POST", "/route", b'{"prompt": "x", "promt": 1}', 422),
        ("POST", "/route", b'{"prompt": "x", "tier_floor": "huge"}', 422),
        ("POST", "/route", b" " * (4 * 1024 * 1024 + 1), 413),
        ("POST", "/route/batch", b"[", 400),
        ("GET", "/nothing", b"", 404),
        ("GET", "/route", b"", 405),
    ],
)
def test_every_problem_is_counted_by_status(client: httpx.Client, method: str, path: str, body: bytes, status: int) -> None:
    """Whatever asked for it, once."""
    counter = ("pointsman_problems_total", (("status", str(status)),))
    before = samples(client).get(counter, 0)
    assert client.request(method, path, content=body).status_code == status
    assert samples(client)[counter] == before + 1


def test_refused_items_of_a_batch_are_counted_by_status(client: httpx.Client) -> None:
    """And are no decisions."""
    before = samples(client)
    client.post("/route/batch", json={"requests": [{"prompt": ""}, {}]})
    after = samples(client)
    refused = ("pointsman_problems_total", (("status", "422"),))
    assert after[refused] - before.get(refused, 0) == 2
    assert after["pointsman_confidence_count", ()] == before["pointsman_confidence_count", ()]


def test_docs_is_a_page_that_reads_the_description(client: httpx.Client) -> None:
    """For people with a browser."""
    answer = client.get("/docs")
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert "/openapi.json" in answer.text


def test_every_path_of_the_contract_is_described(openapi: dict[str, Any]) -> None:
    """With the method it answers to."""
    assert {(path, method) for path, methods in openapi["paths"].items() for method in methods} == {
        ("/route", "post"),
        ("/route/batch", "post"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/model", "get"),
        ("/metrics", "get"),
    }


def test_every_described_path_answers(client: httpx.Client, openapi: dict[str, Any]) -> None:
    """With 200 and a media type that its description names."""
    bodies = {"/route": {"prompt": "x"}, "/route/batch": {"requests": [{"prompt": "x"}]}}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            answer = client.request(method, path, json=bodies.get(path))
            assert answer.status_code == 200, path
            assert answer.headers["content-type"].split(";")[0] in operation["responses"]["200"]["content"]


def test_every_reference_of_the_description_points_at_something(openapi: dict[str, Any]) -> None:
    """Those of the bodies that the endpoints read by themselves as well."""
    found = set(references(openapi))
    assert {"#/components/schemas/RouteRequest", "#/components/schemas/BatchRequest", "#/components/schemas/RouteResponse"} <= found
    for reference in found:
        assert resolved(openapi, reference)


@pytest.mark.parametrize(
    ("path", "field"),
    [("/route", "prompt"), ("/route", "messages"), ("/route", "tier_floor"), ("/route", "max_cost_usd"), ("/route/batch", "requests")],
)
def test_the_bodies_fields_are_described(openapi: dict[str, Any], path: str, field: str) -> None:
    """A required body of JSON, with words on each field."""
    body = openapi["paths"][path]["post"]["requestBody"]
    assert body["required"] is True
    schema = resolved(openapi, body["content"]["application/json"]["schema"]["$ref"])
    assert schema["properties"][field]["description"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("field", ["current_tier", "cached_input_tokens", "phase"])
def test_fields_that_change_nothing_yet_say_so(openapi: dict[str, Any], field: str) -> None:
    """Nobody has to find out by trying."""
    description = openapi["components"]["schemas"]["RouteRequest"]["properties"][field]["description"]
    assert "Accepted; " in description
    assert "this version" in description


def test_a_decision_holds_exactly_what_its_schema_promises(openapi: dict[str, Any], route: Route) -> None:
    """Every required field, and none of those that must be asked for."""
    schema = resolved(openapi, "#/components/schemas/RouteResponse")
    assert set(route(prompt="x")) == set(schema["required"]) < set(schema["properties"])


@pytest.mark.parametrize(
    ("schema", "field", "names"),
    [
        ("RouteRequest", "path", ["fast", "auto", "accurate"]),
        ("RouteResponse", "path", ["fast", "accurate"]),
        ("RouteResponse", "path_reason", ["only_path", "asked", "clear", "close", "deadline", "load"]),
    ],
)
def test_the_description_lists_every_path_and_every_reason_for_one(
    openapi: dict[str, Any], schema: str, field: str, names: list[str]
) -> None:
    """Auto is a wish alone: what answers is one path or the other."""
    described = openapi["components"]["schemas"][schema]["properties"][field]
    assert next(one["enum"] for one in (described, *described.get("anyOf", ())) if "enum" in one) == names


@pytest.mark.parametrize(("field", "kind"), [("task", "string"), ("task_probability", "number")])
def test_a_task_may_be_absent_by_the_description(openapi: dict[str, Any], field: str, kind: str) -> None:
    """A bundle need not have a task head; the field is there all the same."""
    described = openapi["components"]["schemas"]["RouteResponse"]["properties"][field]
    assert [one["type"] for one in described["anyOf"]] == [kind, "null"]


@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_refusals_are_described(openapi: dict[str, Any], status: str) -> None:
    """For both endpoints that take a body, with the shape of a problem."""
    for path in ("/route", "/route/batch"):
        assert "Problem" in json.dumps(openapi["paths"][path]["post"]["responses"][status])
