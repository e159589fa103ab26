"""The application: a loaded router behind the endpoints."""

import gc
from importlib import metadata
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.types import ASGIApp, Receive, Scope, Send

from classifier import Router
from serve import problems
from serve.problems import Shield
from serve.routes import Service, direct_route, routes
from serve.schemas import BatchRequest, RouteRequest
from serve.settings import Settings

DESCRIPTION = "The cheapest model tier whose answer will be good enough, and a calibrated probability that it is."


def create_app(settings: Settings) -> FastAPI:
    """An app whose bundle is verified, loaded and warmed: whoever can reach it finds it ready.

    Raises:
        BundleError: the bundle must not serve.
        ConfigError: the catalog cannot be used.
    """
    router = Router.load(settings.bundle, settings.catalog)
    router.warm()
    # Redirects would repeat the client's query string and Host header.
    app = FastAPI(title="Pointsman", version=metadata.version("pointsman"), description=DESCRIPTION, redirect_slashes=False)
    service = app.state.service = Service(router, settings)
    app.include_router(routes)
    problems.install(app, service.telemetry.refused)
    _lay_direct(app, Shield(direct_route(service), service.telemetry.refused))
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # the documented way to extend the schema
    # What was loaded lives as long as the server; walking it in every collection would cost the tail of the latency.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # requests leave no cycles behind, so looking for them seldom is enough
    return app


def _lay_direct(app: FastAPI, direct: ASGIApp) -> None:
    """``direct`` answers ``POST /route``, which every model call waits for, and the framework everything else."""
    framework = app.build_middleware_stack

    def stack() -> ASGIApp:
        rest = framework()

        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            hot = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == "/route"
            await (direct if hot else rest)(scope, receive, send)

        return dispatch

    app.build_middleware_stack = stack  # type: ignore[method-assign]  # where Starlette itself joins its layers


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own schema, with the bodies that the endpoints read themselves."""
    if not app.openapi_schema:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _, definitions = models_json_schema(
            [(RouteRequest, "validation"), (BatchRequest, "validation")], ref_template="#/components/schemas/{model}"
        )
        schema["components"]["schemas"].update(definitions["$defs"])
        app.openapi_schema = schema
    return app.openapi_schema
