"""Errors -> RFC 9457 problem details, in one place. No problem ever repeats what the client sent."""

import difflib
import logging
import traceback
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from classifier.errors import MalformedPromptError, PointsmanError, PolicyError
from serve.schemas import Problem

MEDIA_TYPE = "application/problem+json"
_LONGEST_NAME = 64
logger = logging.getLogger("pointsman")


class ProblemError(Exception):
    """Raised by endpoints; becomes the response."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


def problem(status: HTTPStatus, detail: str, errors: list[dict[str, str]] | None = None) -> Problem:
    """A problem whose title is the status's own phrase."""
    return Problem(title=status.phrase, status=status.value, detail=detail, errors=errors)


def unknown_field(name: str, known: Sequence[str]) -> Problem:
    """A field that the request may not have. Suggests the closest known one, and does not repeat the client's own."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7) if len(name) <= _LONGEST_NAME else []
    expected = f"only {', '.join(known)}" + (f"; did you mean {close[0]}?" if close else "")
    entry = {"field": "an unknown field", "found": "a field of another name", "expected": expected}
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"an unknown field, expected {expected}", [entry])


def describe(error: Exception) -> Problem:
    """The problem that an error of reading, validating or deciding a request is."""
    if isinstance(error, ProblemError):
        return error.problem
    if isinstance(error, ValidationError):
        errors = [_validation(entry) for entry in error.errors(include_url=False, include_context=False, include_input=True)]
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        detail = f"{first['field']}: found {first['found']}, expected {first['expected']}{more}"
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors)
    if isinstance(error, MalformedPromptError):
        entry = {"field": error.field, "found": error.found, "expected": error.expected}
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), [entry])
    if isinstance(error, PolicyError):
        entry = {"field": error.field or "request", "found": "a request that cannot be met", "expected": str(error)}
        detail = f"{error.field}: {error}" if error.field and error.field not in str(error) else str(error)
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, [entry])
    if isinstance(error, PointsmanError):
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    # The message of an unforeseen error may hold anything; type and place are enough to find it.
    frames = reversed(traceback.extract_tb(error.__traceback__)[-6:])
    places = " <- ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames)
    logger.error("unexpected %s at %s", type(error).__name__, places)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an unexpected error; it has been logged")


def response(found: Problem) -> Response:
    """The problem as a response."""
    return Response(found.model_dump_json(), status_code=found.status, media_type=MEDIA_TYPE)


def install(app: FastAPI, count: Callable[[int], None]) -> None:
    """Answer every error of ``app`` with a problem, and ``count`` its status."""

    async def on_http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        count(status.value)
        answer = response(problem(status, status.description or status.phrase))
        answer.headers.update(error.headers or {})
        return answer

    async def on_known(_request: Request, error: Exception) -> Response:
        found = describe(error)
        count(found.status)
        return response(found)

    app.add_exception_handler(HTTPException, on_http)
    for kind in (ProblemError, ValidationError, PointsmanError):
        app.add_exception_handler(kind, on_known)
    app.add_middleware(Shield, count=count)


class Shield:
    """The last resort: whatever escapes becomes a 500, and its message, which may hold anything, goes nowhere.

    The framework's own last resort raises again for the server to log, message and all.
    """

    def __init__(self, app: ASGIApp, count: Callable[[int], None]) -> None:
        self.app, self.count = app, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for the app where it failed, unless an answer has begun or nobody is there to read it."""
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - describe() logs type and place
            found = describe(error)
            self.count(found.status)
            if not begun and scope["type"] == "http":
                await response(found)(scope, receive, send)


_KINDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "list": "a list",
    "dict": "an object",
    "bool": "a truth value",
    "NoneType": "null",
}


def _validation(entry: Any) -> dict[str, str]:
    value, kind = entry["input"], entry["type"]
    # The names that pydantic gives to the members of a union are no part of the path.
    parts = [str(part) for part in entry["loc"] if not (isinstance(part, str) and ("[" in part or part in {"str", "list", "dict"}))]
    found, expected = _KINDS.get(type(value).__name__, "something else"), entry["msg"].removeprefix("Input should be ")
    if kind == "missing":
        found, expected = "nothing", "a value"
    elif kind == "too_short":
        found, expected = f"{len(value)} items", "at least 1"
    elif kind in {"model_type", "dict_type"}:
        expected = "an object"
    elif kind.startswith(("greater", "less", "finite")):
        found = "a number out of range"
    return {"field": ".".join(parts) or "body", "found": found, "expected": expected}
