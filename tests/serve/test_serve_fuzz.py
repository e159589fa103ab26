"""Whatever bytes come in: a decision or a problem goes out, and never a 5xx."""

import json
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

pytest_plugins = ("fixtures_of_serve",)

PATHS = st.sampled_from(["/route", "/route/batch"])
NAMES = (
    "prompt messages system tools policy tier_floor tier_ceiling min_sufficiency max_model_latency_ms max_cost_usd expected_output_tokens "
    "input_tokens path deadline_ms requests role content type text image_url tool_calls"
).split()
WORDS = [
    "user",
    "system",
    "assistant",
    "tool",
    "text",
    "image",
    "tool_result",
    "small",
    "medium",
    "large",
    "fast",
    "auto",
    "default",
    "",
    " ",
    "\0",
]

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.sampled_from(WORDS)


def nested(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """JSON of any shape, with names that mean something here among its keys."""
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=5),
        max_leaves=15,
    )


JSON = nested(SCALARS)
ALMOST_JSON = nested(SCALARS | st.floats() | st.text(st.characters(exclude_categories=())))
TEXT = st.text(min_size=1) | st.sampled_from(WORDS)
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(WORDS)}, optional={"text": TEXT | JSON, "content": JSON}) | TEXT, max_size=3
)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(WORDS[:4]), "content": TEXT | PARTS | st.none()}, optional={"tool_calls": JSON})
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "prompt": TEXT,
        "messages": st.lists(MESSAGE, max_size=4),
        "system": TEXT | PARTS,
        "tools": st.lists(st.dictionaries(TEXT, JSON, max_size=2), max_size=2),
        "tier_floor": st.sampled_from(["small", "medium", "large"]),
        "tier_ceiling": st.sampled_from(["small", "medium", "large"]),
        "min_sufficiency": st.floats(0, 1) | st.sampled_from([0, 1]),
        "max_model_latency_ms": st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        "max_cost_usd": st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        "expected_output_tokens": st.integers(0, 10**9),
        "input_tokens": st.integers(0, 10**9),
        "path": st.sampled_from(["fast", "auto", "accurate"]),
        "deadline_ms": st.floats(min_value=0, exclude_min=True, allow_infinity=False) | st.sampled_from([1e-6, 60_000]),
    },
)
REASONS = {"fast": {"asked", "clear", "deadline", "load"}, "accurate": {"asked", "close"}}


def check(answer: httpx.Response) -> None:
    """A decision, a batch of results, or a whole problem."""
    assert answer.status_code in {200, 400, 422}, answer.text
    found = answer.json()
    if answer.status_code == 200:
        assert answer.headers["content-type"] == "application/json"
        for result in found.get("results", [{"decision": found}]):
            check_result(result)
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert found["status"] == answer.status_code
        assert found["title"]
        assert found["detail"]


def check_result(result: dict[str, Any]) -> None:
    """A decision that adds up, or a refusal that the client can do something about."""
    if "error" in result:
        assert result["error"]["status"] in {400, 422}
        return
    decision = result["decision"]
    values = list(decision["sufficiency"].values())
    assert values == sorted(values)
    assert decision["confidence"] == decision["sufficiency"][decision["tier"]]
    assert abs(sum(decision["probabilities"].values()) - 1) < 3e-6
    assert decision["reason"] == decision["reasons"][-1]
    assert decision["path_reason"] in REASONS[decision["path"]]


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=500), PATHS)
def test_any_bytes_are_answered(client: httpx.Client, body: bytes, path: str) -> None:
    """Mostly with a 400."""
    check(client.post(path, content=body))


@settings(deadline=None, max_examples=100)
@given(ALMOST_JSON, PATHS)
def test_any_json_is_answered(client: httpx.Client, body: Any, path: str) -> None:
    """Also with the NaN and the lone surrogates that Python writes."""
    check(client.post(path, content=json.dumps(body).encode()))


@settings(deadline=None, max_examples=100)
@given(st.binary(min_size=1, max_size=3), st.data())
def test_a_request_with_broken_bytes_in_it_is_answered(client: httpx.Client, noise: bytes, data: st.DataObject) -> None:
    """Wherever in a good request they stand."""
    body = json.dumps({"messages": [{"role": "user", "content": "Fix it \ud83d\ude00"}], "tier_floor": "small", "input_tokens": 7}).encode()
    place = data.draw(st.integers(0, len(body)))
    check(client.post("/route", content=body[:place] + noise + body[place + data.draw(st.integers(0, 3)) :]))


@settings(deadline=None, max_examples=100)
@given(st.lists(REQUEST, min_size=1, max_size=4))
def test_requests_of_the_right_shape_are_answered(client: httpx.Client, requests: list[dict[str, Any]]) -> None:
    """Alone and in a batch, with the same status for each."""
    alone = [client.post("/route", json=request) for request in requests]
    together = client.post("/route/batch", json={"requests": requests})
    for answer in (*alone, together):
        check(answer)
    assert together.status_code == 200
    assert ["decision" in result for result in together.json()["results"]] == [answer.status_code == 200 for answer in alone]


def test_the_server_is_well_after_all_that(client: httpx.Client) -> None:
    """A fuzz that ends a server in its last example would not show."""
    assert client.post("/route", json={"prompt": "What is new?"}).status_code == 200
