"""The endpoints: bytes in, a decision or a problem out."""

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from classifier import Router
from classifier.policy import decide
from serve import body
from serve.problems import describe
from serve.schemas import BatchRequest, BatchResponse, BatchResult, ModelResponse, Problem, RouteRequest, RouteResponse
from serve.settings import Settings
from serve.telemetry import CONTENT_TYPE, Telemetry

routes = APIRouter()


class Service:
    """What the endpoints share: one loaded router and its counters. Its methods are safe in any thread."""

    def __init__(self, router: Router, settings: Settings) -> None:
        self.router, self.settings = router, settings
        self.telemetry = Telemetry(router.manifest.version)

    def route(self, request: RouteRequest) -> RouteResponse:
        """Score and decide one request.

        Raises:
            PointsmanError: nothing to route, or no tier can be given.
        """
        start = time.perf_counter()
        prompt = request.to_prompt()
        facts = request.to_facts(prompt)
        (scores,) = self.router.score((prompt,), request.path or self.settings.path)
        decision = decide(scores, self.router.policy, facts)
        seconds = time.perf_counter() - start
        self.telemetry.decided(decision, seconds)
        return RouteResponse.from_decision(
            decision, prompt, decision_id=uuid.uuid4().hex, version=self.router.manifest.version, router_ms=seconds * 1e3
        )

    def route_item(self, item: Any) -> BatchResult:
        """The same for an item of a batch; what is wrong with it becomes its result."""
        try:
            return BatchResult.model_construct(decision=self.route(body.validated(item, RouteRequest)))
        except Exception as error:  # noqa: BLE001 - one item must not fail its neighbours; describe() logs what is unforeseen
            found = describe(error)
            self.telemetry.refused(found.status)
            return BatchResult.model_construct(error=found)


def service_of(request: Request) -> Service:
    """The service of the app that a request came to."""
    service: Service = request.app.state.service
    return service


Serving = Annotated[Service, Depends(service_of)]
JSON = "application/json"


def documented(model: type[RouteRequest | BatchRequest]) -> dict[str, Any]:
    """OpenAPI of a body that the endpoint reads by itself, to bound it and to answer in our own words."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in ((400, "No JSON, or no UTF-8"), (413, "Body over the limit"), (422, "Which field, and why"))
}


@routes.post("/route", response_model=RouteResponse, responses=PROBLEMS, openapi_extra=documented(RouteRequest))
async def route(request: Request) -> Response:
    """The cheapest tier whose answer will be good enough, and how sure that is."""
    service = service_of(request)
    content = await body.read(request, service.settings.max_body)
    # In the event loop on purpose: scoring takes less than handing it to a thread and back.
    decision = service.route(body.parse(content, RouteRequest))
    return Response(decision.model_dump_json(), media_type=JSON)


@routes.post("/route/batch", response_model=BatchResponse, responses=PROBLEMS, openapi_extra=documented(BatchRequest))
async def route_batch(request: Request) -> Response:
    """Decisions for many requests, in order; a wrong one gets an error in its place."""
    service = service_of(request)
    content = await body.read(request, service.settings.max_body)
    batch = body.parse(content, BatchRequest)
    limit = service.settings.max_batch
    if len(batch.requests) > limit:
        raise body.too_many(len(batch.requests), limit)
    results = await run_in_threadpool(lambda: [service.route_item(item) for item in batch.requests])
    return Response(BatchResponse.model_construct(results=results).model_dump_json(exclude_unset=True), media_type=JSON)


@routes.get("/healthz")
async def healthz() -> dict[str, str]:
    """Alive."""
    return {"status": "alive"}


@routes.get("/readyz")
async def readyz(service: Serving) -> dict[str, str]:
    """Loaded and warmed: the server listens only once it is."""
    return {"status": "ready", "version": service.router.manifest.version}


@routes.get("/model")
async def model(service: Serving) -> ModelResponse:
    """The bundle: what it was trained on and calibrated for, its measured quality, and the models behind its tiers."""
    manifest, policy = service.router.manifest, service.router.policy
    return ModelResponse(
        version=manifest.version,
        tiers=list(manifest.tiers),
        basis=manifest.basis,
        prior=dict(zip(manifest.tiers, manifest.prior, strict=True)),
        calibrated_for=manifest.raw["calibrated_for"],
        targets=dict(policy.targets),
        catalog={
            entry.tier: {
                "model": entry.id,
                "input_usd": entry.input_usd,
                "output_usd": entry.output_usd,
                "context_window": entry.context_window,
                "latency_ms": entry.latency_ms,
                "capabilities": sorted(entry.capabilities),
                "token_factor": entry.token_factor,
            }
            for entry in policy.catalog
        },
        metrics=manifest.raw.get("metrics", {}),
        manifest=manifest.raw,
    )


@routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: Serving) -> Response:
    """Prometheus metrics."""
    return Response(service.telemetry.exposition(), media_type=CONTENT_TYPE)
