"""Errors -> RFC 9457 problem details, in one place. No problem ever repeats what the client sent."""

import difflib
import logging
import traceback
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from classifier.errors import MalformedPromptError, PointsmanError, PolicyError
from serve.schemas import Problem, RouteRequest

MEDIA_TYPE = "application/problem+json"
logger = logging.getLogger("pointsman")


class ProblemError(Exception):
    """Raised by endpoints; becomes the response."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


def problem(status: HTTPStatus, detail: str, errors: list[dict[str, str]] | None = None) -> Problem:
    """A problem whose title is the status's own phrase."""
    return Problem(title=status.phrase, status=status.value, detail=detail, errors=errors)


def describe(error: Exception, known: Sequence[str] = tuple(RouteRequest.model_fields)) -> Problem:
    """The problem that an error of reading, validating or deciding a request is; ``known`` are the fields it may have."""
    if isinstance(error, ProblemError):
        return error.problem
    if isinstance(error, ValidationError):
        errors = [_validation(entry, known) for entry in error.errors(include_url=False, include_context=True, include_input=True)]
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"{first['field']}: found {first['found']}, expected {first['expected']}{more}", errors
        )
    if isinstance(error, MalformedPromptError):
        entry = {"field": error.field, "found": error.found, "expected": error.expected}
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), [entry])
    if isinstance(error, PolicyError):
        entry = {"field": error.field or "request", "found": "a request that cannot be met", "expected": str(error)}
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), [entry])
    if isinstance(error, PointsmanError):
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    # The message of an unforeseen error may hold anything; type and place are enough to find it.
    places = " <- ".join(
        f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in reversed(traceback.extract_tb(error.__traceback__)[-6:])
    )
    logger.error("unexpected %s at %s", type(error).__name__, places)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an unexpected error; it has been logged")


def response(found: Problem) -> Response:
    """The problem as a response."""
    return Response(found.model_dump_json(exclude_none=True), status_code=found.status, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` with a problem."""

    async def on_http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        answer = response(problem(status, status.description or status.phrase))
        answer.headers.update(error.headers or {})
        return answer

    async def on_any(_request: Request, error: Exception) -> Response:
        return response(describe(error))

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        HTTPException: on_http,
        ProblemError: on_any,
        ValidationError: on_any,
        PointsmanError: on_any,
        Exception: on_any,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


_KINDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "list": "a list",
    "dict": "an object",
    "bool": "a truth value",
    "NoneType": "null",
}


def _validation(entry: Any, known: Sequence[str]) -> dict[str, str]:
    found = _KINDS.get(type(entry["input"]).__name__, "something else")
    if entry["type"] == "extra_forbidden":
        name = str(entry["loc"][-1])
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.7) if len(name) <= 64 else []
        hint = f"; did you mean {close[0]}?" if close else ""
        return {"field": "an unknown field", "found": found, "expected": f"only {', '.join(known)}{hint}"}
    if entry["type"] == "missing":
        found = "nothing"
    elif entry["type"] == "too_short" or entry["type"] == "too_long":
        found = f"{len(entry['input'])} items"
    elif (
        isinstance(entry["input"], int | float)
        and not isinstance(entry["input"], bool)
        and entry["type"].startswith(("greater", "less", "finite"))
    ):
        found = "a number out of range"
    field = (
        ".".join(str(part) for part in entry["loc"] if not (isinstance(part, str) and ("[" in part or part in {"str", "list", "dict"})))
        or "body"
    )
    expected = entry["msg"].removeprefix("Input should be ")
    return {"field": field, "found": found, "expected": expected}
