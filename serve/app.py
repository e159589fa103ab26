"""The application: a loaded router behind the endpoints."""

import gc
from importlib import metadata
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.routing import Route

from classifier import Router
from serve import problems
from serve.routes import Service, route, routes
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
    # The endpoint that every model call waits for is dispatched without the framework's dependencies, which it does not use;
    # its twin among ``routes`` documents it.
    app.router.routes.insert(0, Route("/route", route, methods=["POST"]))
    app.include_router(routes)
    problems.install(app, service.telemetry.refused)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # the documented way to extend the schema
    # What was loaded lives as long as the server; walking it in every collection would cost the tail of the latency.
    gc.collect()
    gc.freeze()
    return app


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
