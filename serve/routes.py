"""The endpoints: bytes in, a decision or a problem out."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from classifier import Prompt, Router, Scores
from classifier.policy import Facts, decide
from classifier.types import Path as ScorePath
from serve import body
from serve.gather import Gather
from serve.lane import Lane
from serve.problems import describe
from serve.schemas import BatchRequest, BatchResponse, BatchResult, ModelResponse, Problem, RouteRequest, RouteResponse, response_of
from serve.settings import Settings
from serve.telemetry import CONTENT_TYPE, Telemetry

routes = APIRouter()
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that the fast path has scored and not settled: the accurate one could change the decision, or it is to be explained."""

    request: RouteRequest
    prompt: Prompt
    facts: Facts
    scores: Scores
    start: float  # by time.perf_counter
    decision_id: str
    twice: bool  # whether the accurate path is to be asked


class Service:
    """What the endpoints share: one loaded router, its lane and its counters. Its methods are safe in any thread, save ``answer``,
    which belongs to the event loop.
    """

    def __init__(self, router: Router, settings: Settings) -> None:
        self.router, self.settings = router, settings
        self.telemetry = Telemetry(router.manifest.version)
        self.gathered = Gather(self.route)
        self.lane = Lane(router, settings.accurate_threads) if router.accurate else None

    async def answer(self, scope: Scope, receive: Receive) -> bytes:
        """The body of the response to one request for ``/route``; raises as ``serve.body`` and ``route`` do.

        In the event loop on purpose: scoring takes less than handing it to a thread and back.
        """
        content = await body.read(scope, receive, self.settings.max_body)
        result = await self.gathered(body.parse(content, RouteRequest))
        return to_json(await self._late(result) if isinstance(result, Pending) else result)

    async def _late(self, pending: Pending) -> RouteResponse:
        scores = pending.scores
        if pending.twice:
            assert self.lane is not None
            left_ms = pending.request.deadline_ms - (time.perf_counter() - pending.start) * 1e3
            scores = await self.lane.score(pending.prompt, scores, left_ms)
        if pending.request.explain:  # which takes several times as long as deciding: others shall not wait for it
            return await run_in_threadpool(self._decided, pending, scores)
        return self._decided(pending, scores)

    def route(self, requests: Sequence[RouteRequest]) -> list[RouteResponse | Pending | Exception]:
        """Score each request by the fast path and decide it, or leave it pending where the accurate path could change the decision, or
        an explanation is asked for. An error of one is its own result: nothing to route, or no tier that can be given.

        Stage by stage over all of them, which is faster than one after another (benchmarks, throughput).
        """
        start = time.perf_counter()
        made = [_tried(request.to_prompt) for request in requests]
        results: list[RouteResponse | Pending | Exception] = [RuntimeError("not routed")] * len(requests)
        by_path: dict[ScorePath, dict[int, Prompt]] = {}
        for place, (request, prompt) in enumerate(zip(requests, made, strict=True)):
            if isinstance(prompt, Exception):
                results[place] = prompt
            else:
                by_path.setdefault(request.path or self.settings.path, {})[place] = prompt
        ids = os.urandom(16 * len(requests)).hex()  # at once: each call of the kernel takes as long as deciding
        for path, prompts in by_path.items():
            for (place, prompt), scores in zip(prompts.items(), self._scored(list(prompts.values()), path), strict=True):
                results[place] = (
                    scores
                    if isinstance(scores, Exception)
                    else _tried(self._settled, requests[place], prompt, scores, start, ids[32 * place : 32 * place + 32])
                )
        return results

    def _scored(self, prompts: Sequence[Prompt], path: ScorePath) -> Sequence[Scores | Exception]:
        """All at once; one by one where that fails, which it should not, so that only the one at fault is refused."""
        found = _tried(self.router.score_fast, prompts, path)
        if not isinstance(found, Exception):
            return found
        return [
            one if isinstance(one, Exception) else one[0] for one in (_tried(self.router.score_fast, (prompt,), path) for prompt in prompts)
        ]

    def _settled(self, request: RouteRequest, prompt: Prompt, scores: Scores, start: float, decision_id: str) -> RouteResponse | Pending:
        facts = request.to_facts(prompt)
        pending = Pending(request, prompt, facts, scores, start, decision_id, self.router.looks_twice(scores, facts))
        return pending if pending.twice or request.explain else self._decided(pending, scores)

    def _decided(self, pending: Pending, scores: Scores) -> RouteResponse:
        decision = decide(scores, self.router.policy, pending.facts)
        seconds = time.perf_counter() - pending.start
        explanation = self.router.explain(pending.prompt, decision, pending.facts) if pending.request.explain else None
        self.telemetry.decided(decision, seconds)
        return response_of(
            decision,
            pending.prompt,
            decision_id=pending.decision_id,
            version=self.router.manifest.version,
            router_ms=seconds * 1e3,
            explanation=explanation,
        )

    def _by_content(self, pending: Pending) -> RouteResponse:
        scores = self.router.score_accurate(pending.prompt, pending.scores) if pending.twice else pending.scores
        return self._decided(pending, scores)

    def route_items(self, items: Sequence[Any]) -> list[BatchResult]:
        """The same for the items of a batch as they were sent, whatever the clock says: a batch is answered alike every time."""
        requests = [_tried(body.validated, item, RouteRequest) for item in items]
        routed = iter(self.route([request for request in requests if isinstance(request, RouteRequest)]))
        results: list[BatchResult] = []
        for request in requests:
            result = request if isinstance(request, Exception) else next(routed)
            decided = _tried(self._by_content, result) if isinstance(result, Pending) else result
            if isinstance(decided, Exception):
                found = describe(decided)
                self.telemetry.refused(found.status)
                results.append({"error": found})
            else:
                results.append({"decision": decided})
        return results


def _tried(function: Callable[..., Made], *arguments: Any) -> Made | Exception:
    """What ``function`` returns, or what it raises."""
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - one request must not fail its neighbours; describe() logs what is unforeseen
        return error


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
    return Response(await service_of(request).answer(request.scope, request.receive), media_type=JSON)


def direct_route(service: Service) -> ASGIApp:
    """``route`` as a bare application, which a request reaches without the framework's layers: they cost as much as scoring."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer = await service.answer(scope, receive)
        headers = [(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


@routes.post("/route/batch", response_model=BatchResponse, responses=PROBLEMS, openapi_extra=documented(BatchRequest))
async def route_batch(request: Request) -> Response:
    """Decisions for many requests, in order; a wrong one gets an error in its place."""
    service = service_of(request)
    content = await body.read(request.scope, request.receive, service.settings.max_body)
    batch = body.parse(content, BatchRequest)
    limit = service.settings.max_batch
    if len(batch.requests) > limit:
        raise body.too_many(len(batch.requests), limit)
    results = await run_in_threadpool(service.route_items, batch.requests)
    return Response(to_json({"results": results}), media_type=JSON)


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
