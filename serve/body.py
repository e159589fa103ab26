"""Bytes of a request body -> a validated model. Knows limits and encodings, nothing of routing."""

import json
import re
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from serve.problems import ProblemError, problem, unknown_field

Model = TypeVar("Model", bound=BaseModel)
_SURROGATES = re.compile("[\ud800-\udfff]")


async def read(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body of a request; a ProblemError 413 as soon as more than ``limit`` bytes are announced or sent.

    Raises ClientDisconnect where nobody waits for an answer.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit)
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return b"".join(chunks)


def parse(body: bytes, model: type[Model]) -> Model:
    """``body`` as ``model``.

    Raises:
        ProblemError: 400, no JSON or no UTF-8; 422, an unknown field.
        ValidationError: JSON of another shape.
    """
    # pydantic's parser lets NaN and Infinity pass where anything may stand; they are no JSON, and rare enough to look twice.
    if b"NaN" in body or b"Infinity" in body:
        return validated(_lenient(body), model)
    try:
        return _without_unknown(model.model_validate_json(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] != "json_invalid":
            raise
        reason = str(first.get("ctx", {}).get("error", ""))
    # Real traffic holds halves of surrogate pairs, cut out of emoji; strict parsers refuse them, people must not be.
    if "surrogate" not in reason and "hex escape" not in reason:
        raise _malformed(reason)
    return validated(_lenient(body), model)


def validated(value: Any, model: type[Model]) -> Model:
    """``value``, JSON that was parsed already, as ``model``; raises as ``parse`` does."""
    return _without_unknown(model.model_validate(value))


def _without_unknown(request: Model) -> Model:
    if request.model_extra:
        raise ProblemError(unknown_field(next(iter(request.model_extra)), tuple(type(request).model_fields)))
    return request


def _lenient(body: bytes) -> Any:
    """Parsed by the standard library, which accepts lone surrogate escapes; they become U+FFFD."""
    try:
        return _mended(json.loads(body.decode("utf-8"), parse_constant=_refuse))
    except UnicodeDecodeError as error:
        raise _malformed("unicode") from error
    except json.JSONDecodeError as error:
        raise _malformed(f"at line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise _malformed("recursion") from error
    except ValueError as error:
        raise _malformed("") from error


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value


def _refuse(_constant: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON")


def _malformed(reason: str) -> ProblemError:
    kind = "nested too deeply" if "recursion" in reason else "not valid UTF-8" if "unicode" in reason.lower() else "not valid JSON"
    place = re.search(r"at line \d+ column \d+", reason)
    return ProblemError(
        problem(HTTPStatus.BAD_REQUEST, f"the body is {kind}" + (f", {place[0]}" if place else "") + "; expected a JSON object in UTF-8")
    )


def _too_large(limit: int) -> ProblemError:
    return ProblemError(problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than the limit of {limit} bytes"))


def too_many(found: int, limit: int) -> ProblemError:
    """A batch of more items than the limit."""
    entry = {"field": "requests", "found": f"{found} items", "expected": f"at most {limit}"}
    return ProblemError(problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"requests: found {found} items, expected at most {limit}", [entry]))
