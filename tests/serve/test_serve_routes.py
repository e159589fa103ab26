"""POST /route over HTTP: every field of a decision, and every limit a request may set; and the service behind it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier import Prompt, Router, Scores, from_text
from classifier.errors import MalformedPromptError, PolicyError
from classifier.types import Path as ScorePath
from serve.problems import describe
from serve.routes import Pending, Service
from serve.schemas import BatchResult, RouteRequest
from serve.settings import Settings

pytest_plugins = ("fixtures_of_serve",)

Route = Callable[..., dict[str, Any]]

PROMPTS = (
    "Fix the typo in README.md",
    "What is the capital of France?",
    "Write unit tests for this function: def area(r): return 3.14 * r * r",
    "Plan an authentication system for our app. Consider security, UX, and scalability.",
    "Warum ist der Himmel blau?",
    "x",
)
FIELDS = set(
    "id tier model confidence sufficiency probabilities reason reasons policy path path_reason cached task task_probability novelty truncated "
    "plan_first cost_usd model_version router_ms".split()
)
TIERS = ["small", "medium", "large"]
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
THOUSAND = {"input_tokens": 1_000, "expected_output_tokens": 100}  # costs .0015, .0045 and .01125 USD by the tests' catalog


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_decision_has_every_field_of_the_contract(route: Route, prompt: str) -> None:
    """Names are fixed from the start; what this version does not know is null."""
    decision = route(prompt=prompt)
    assert set(decision) >= FIELDS
    assert {name for name in FIELDS if decision[name] is None} == {"novelty"}
    assert (decision["policy"], decision["path"]) == ("default", {"clear": "fast", "close": "accurate"}[decision["path_reason"]])
    assert decision["cached"] is decision["plan_first"] is False


@pytest.mark.parametrize("prompt", PROMPTS)
def test_numbers_by_tier_are_listed_cheapest_first(route: Route, prompt: str) -> None:
    """All of them name the same tiers in the same order."""
    decision = route(prompt=prompt)
    assert list(decision["sufficiency"]) == list(decision["probabilities"]) == list(decision["cost_usd"]) == TIERS


@pytest.mark.parametrize("prompt", PROMPTS)
def test_sufficiency_never_falls_from_a_cheaper_tier_to_a_dearer_one(route: Route, prompt: str) -> None:
    """A dearer model does whatever a cheaper one does."""
    values = list(route(prompt=prompt)["sufficiency"].values())
    assert values == sorted(values)
    assert values[0] >= 0
    assert values[-1] <= 1


@pytest.mark.parametrize("prompt", PROMPTS)
def test_probabilities_are_differences_of_sufficiency_and_sum_to_one(route: Route, prompt: str) -> None:
    """The top tier's is what the others leave."""
    decision = route(prompt=prompt)
    sufficiency, probabilities = decision["sufficiency"], decision["probabilities"]
    assert sum(probabilities.values()) == pytest.approx(1, abs=2e-6)
    assert probabilities["small"] == sufficiency["small"]
    assert probabilities["medium"] == pytest.approx(sufficiency["medium"] - sufficiency["small"], abs=2e-6)
    assert probabilities["large"] == pytest.approx(1 - sufficiency["medium"], abs=2e-6)


@pytest.mark.parametrize("limits", [{}, {"tier_floor": "large"}, {"tier_ceiling": "small"}, {"min_sufficiency": 0}])
def test_confidence_is_the_sufficiency_of_the_tier_that_is_returned(route: Route, limits: dict[str, Any]) -> None:
    """Whatever moved the tier."""
    decision = route(prompt=PROMPTS[3], **limits)
    assert decision["confidence"] == decision["sufficiency"][decision["tier"]]


@pytest.mark.parametrize(("tier", "model"), [("small", "tiny-1"), ("medium", "middle-1"), ("large", "grand-1")])
def test_the_model_is_what_the_catalog_puts_behind_the_tier(route: Route, tier: str, model: str) -> None:
    """Models are swapped by editing a file."""
    assert route(prompt="x", tier_floor=tier, tier_ceiling=tier)["model"] == model


def test_the_model_version_is_the_bundle_that_scored(route: Route, client: httpx.Client) -> None:
    """The one that GET /model describes."""
    assert route(prompt="x")["model_version"] == client.get("/model").json()["version"]


def test_every_decision_has_an_id_of_its_own(route: Route) -> None:
    """Two answers to one prompt are told apart by it, and by nothing else but the time they took."""
    one, other = route(prompt="x"), route(prompt="x")
    assert one["id"] != other["id"]
    differing = {"id", "router_ms"}
    assert {name: one[name] for name in FIELDS - differing} == {name: other[name] for name in FIELDS - differing}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_likeliest_task_is_named_with_its_probability(route: Route, serving_router: Router, prompt: str) -> None:
    """The same on every path: the fast one tells it."""
    (scores,) = serving_router.score_fast([from_text(prompt)])
    for path in get_args(ScorePath):
        decision = route(prompt=prompt, path=path)
        assert decision["task"] == scores.task
        assert decision["task_probability"] == pytest.approx(scores.task_probability, abs=1e-6)


def test_the_time_is_measured(route: Route) -> None:
    """In milliseconds, more than none."""
    assert route(prompt="x")["router_ms"] > 0


# cost


def test_cost_is_priced_by_the_catalog_for_every_tier(route: Route) -> None:
    """Tokens of input and reply at each model's prices, times its token factor."""
    assert route(prompt="x", **THOUSAND)["cost_usd"] == pytest.approx({"small": 0.0015, "medium": 0.0045, "large": 0.01125})


def test_an_absent_reply_length_is_the_policys(route: Route) -> None:
    """500 tokens; an expected reply of none costs its input alone."""
    assert route(prompt="x", input_tokens=0)["cost_usd"]["small"] == pytest.approx(500 * 5 / 1e6)
    assert route(prompt="x", input_tokens=0, expected_output_tokens=0)["cost_usd"]["large"] == 0


@pytest.mark.parametrize(
    "more",
    [
        {"system": "s" * 3_600},
        {"system": [{"type": "text", "text": "s" * 3_600}]},
        {"tools": [{"name": "f", "description": "d" * 3_600}]},
    ],
)
def test_system_prompts_and_tools_are_sized_never_scored(route: Route, more: dict[str, Any]) -> None:
    """A thousand tokens more cost a thousand tokens more; what is said of the prompt stays the same."""
    plain, larger = route(prompt=PROMPTS[2]), route(prompt=PROMPTS[2], **more)
    assert larger["sufficiency"] == plain["sufficiency"]
    assert larger["cost_usd"]["small"] - plain["cost_usd"]["small"] == pytest.approx(0.001, rel=0.05)


# limits and their reasons: min_sufficiency 0 asks for the cheapest tier, 1 for the dearest, whatever the model thinks


@pytest.mark.parametrize(
    ("limits", "tier", "reasons"),
    [
        ({"min_sufficiency": 0}, "small", ["sufficient"]),
        ({"min_sufficiency": 0, "tier_floor": "small"}, "small", ["sufficient"]),
        ({"min_sufficiency": 0, "tier_floor": "medium"}, "medium", ["floor"]),
        ({"min_sufficiency": 0, "tier_floor": "large"}, "large", ["floor"]),
        ({"min_sufficiency": 0, "input_tokens": 50_000}, "medium", ["context_window"]),
        ({"min_sufficiency": 0, "input_tokens": 500_000}, "large", ["context_window"]),
        ({"min_sufficiency": 0, "input_tokens": 7_000, "expected_output_tokens": 1_001}, "medium", ["context_window"]),
        ({"min_sufficiency": 0, "input_tokens": 7_000, "expected_output_tokens": 1_000}, "small", ["sufficient"]),
        ({"min_sufficiency": 0, "input_tokens": 50_000, "tier_floor": "large"}, "large", ["context_window", "floor"]),
        ({"min_sufficiency": 1, "tier_ceiling": "small"}, "small", ["ceiling"]),
        ({"min_sufficiency": 1, "tier_ceiling": "medium"}, "medium", ["ceiling"]),
        ({"min_sufficiency": 1, "max_model_latency_ms": 500}, "small", ["latency"]),
        ({"min_sufficiency": 1, "max_model_latency_ms": 7_999.9}, "medium", ["latency"]),
        ({"min_sufficiency": 1, "max_cost_usd": 0.0015, **THOUSAND}, "small", ["budget"]),
        ({"min_sufficiency": 1, "max_cost_usd": 0.01, **THOUSAND}, "medium", ["budget"]),
        ({"min_sufficiency": 1, "tier_ceiling": "medium", "max_model_latency_ms": 500}, "small", ["ceiling", "latency"]),
        ({"min_sufficiency": 1, "tier_ceiling": "small", "max_model_latency_ms": 500}, "small", ["ceiling"]),
    ],
)
def test_a_limit_is_honoured_and_named(route: Route, limits: dict[str, Any], tier: str, reasons: list[str]) -> None:
    """The reasons are the limits that moved the tier, in order; the last of them is the reason."""
    decision = route(prompt=PROMPTS[3], **limits)
    assert decision["sufficiency"]["medium"] < 1
    assert (decision["tier"], decision["reasons"], decision["reason"]) == (tier, reasons, reasons[-1])


def test_a_model_that_cannot_see_is_given_no_image(route: Route) -> None:
    """The tests' small model has no vision."""
    decision = route(messages=[{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}], min_sufficiency=0)
    assert (decision["tier"], decision["reasons"]) == ("medium", ["capability"])


def test_a_tier_that_suffices_at_what_is_asked_is_taken(route: Route) -> None:
    """Asking for exactly what a tier offers, or for less, gives that tier; asking for more does not."""
    for path in ("fast", "accurate"):
        offered = route(prompt=PROMPTS[2], path=path)["sufficiency"]["small"]
        assert route(prompt=PROMPTS[2], path=path, min_sufficiency=offered - 0.001)["tier"] == "small"
        assert route(prompt=PROMPTS[2], path=path, min_sufficiency=offered + 0.001)["tier"] != "small"


@pytest.mark.parametrize("path", get_args(ScorePath))
def test_without_a_wish_the_paths_target_holds(route: Route, client: httpx.Client, path: str) -> None:
    """It is the one that GET /model shows, and min_sufficiency of that value changes nothing."""
    target = client.get("/model").json()["targets"][path]
    for prompt in PROMPTS:
        assert route(prompt=prompt, path=path)["tier"] == route(prompt=prompt, path=path, min_sufficiency=target)["tier"]


@settings(deadline=None, max_examples=40)
@given(limits=st.fixed_dictionaries({}, optional={"tier_floor": st.sampled_from(TIERS), "tier_ceiling": st.sampled_from(TIERS)}))
def test_floor_and_ceiling_are_never_crossed(client: httpx.Client, limits: dict[str, str]) -> None:
    """Either the tier lies between them or the request is refused because there is none."""
    floor, ceiling = TIERS.index(limits.get("tier_floor", "small")), TIERS.index(limits.get("tier_ceiling", "large"))
    answer = client.post("/route", json={"prompt": PROMPTS[3], **limits})
    if floor > ceiling:
        assert answer.status_code == 422
    else:
        assert floor <= TIERS.index(answer.json()["tier"]) <= ceiling


@pytest.mark.parametrize("more", [{"path": "auto"}, {"path": None}, {"policy": "default"}, {"tools": []}, {"system": ""}])
def test_options_that_change_nothing_here_are_taken(route: Route, more: dict[str, Any]) -> None:
    """With one policy, and auto for the server's own path, the answer is the same."""
    for prompt in PROMPTS:
        assert route(prompt=prompt, **more)["sufficiency"] == route(prompt=prompt)["sufficiency"]


@pytest.mark.parametrize(
    "more",
    [
        *({"current_tier": tier, "cached_input_tokens": 900_000} for tier in TIERS),
        *({"phase": phase} for phase in ("plan", "execute", "verify")),
        {"current_tier": None, "cached_input_tokens": None, "phase": None},
    ],
)
def test_fields_of_later_versions_are_accepted_and_change_nothing(route: Route, more: dict[str, Any]) -> None:
    """Clients can send them from the start."""
    one, other = route(prompt=PROMPTS[3]), route(prompt=PROMPTS[3], **more)
    differing = {"id", "router_ms"}
    assert {name: other[name] for name in other.keys() - differing} == {name: one[name] for name in one.keys() - differing}


# conversations

OPENAI = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "Read config.yaml and tell me which port the server uses, please."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "read", "arguments": '{"path": "config.yaml"}'}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "port: 80"},
]
ANTHROPIC = [
    {"role": "user", "content": [{"type": "text", "text": "Read config.yaml and tell me which port the server uses, please."}]},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "read", "input": {"path": "config.yaml"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "port: 80"}]}]},
]


def test_a_single_message_is_scored_as_the_prompt_it_holds(route: Route) -> None:
    """In either vendor's shape."""
    plain = route(prompt=PROMPTS[3])["sufficiency"]
    assert route(messages=[{"role": "user", "content": PROMPTS[3]}])["sufficiency"] == plain
    assert route(messages=[{"role": "user", "content": [{"type": "text", "text": PROMPTS[3]}]}])["sufficiency"] == plain


def test_both_vendors_shapes_of_a_conversation_are_routed(route: Route) -> None:
    """Tool calls, tool results and system prompts where each vendor puts them."""
    tool = {"name": "read", "description": "Reads a file", "input_schema": {"type": "object"}}
    assert route(messages=OPENAI, tools=[{"type": "function", "function": tool}])["tier"] in TIERS
    assert route(messages=ANTHROPIC, system="You are terse.", tools=[tool])["tier"] in TIERS


def test_a_turn_of_tool_results_alone_keeps_the_last_human_turns_scores(route: Route) -> None:
    """What a tool says is read by the model, not by the router."""
    other = [*ANTHROPIC[:-1], {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "Prove P = NP. " * 50}]}]
    assert route(messages=other)["sufficiency"] == route(messages=ANTHROPIC)["sufficiency"]


def test_an_image_without_words_is_routed(route: Route) -> None:
    """In both vendors' shapes, to a model that can see."""
    openai = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    for part in (IMAGE, openai):
        assert route(messages=[{"role": "user", "content": [part]}])["tier"] != "small"


def test_truncated_says_that_head_and_tail_alone_were_scored(route: Route) -> None:
    """A text that fits is scored whole."""
    assert route(prompt="a short one")["truncated"] is False
    assert route(prompt="many words " * 2_000)["truncated"] is True


# texts that strict parsers refuse


@pytest.mark.parametrize(
    "text", ["\\u0000", "a \\u0000 b", "\\ud83d", "\\ude00", "a \\ud83d b", "\\ud83d\\ud83d\\ude00", "\\ude00\\ud83d", "\\ud83d\\n"]
)
def test_nul_and_lone_surrogates_are_routed_as_the_replacement_character(client: httpx.Client, text: str) -> None:
    """Real traffic holds them, cut out of emoji and binary files."""
    answer = client.post("/route", content=f'{{"prompt": "{text} is this?", "deadline_ms": 60000}}'.encode())
    assert answer.status_code == 200
    mended = text.replace("\\ud83d\\ude00", "\U0001f600")
    for escape in ("\\u0000", "\\ud83d", "\\ude00"):
        mended = mended.replace(escape, "\ufffd")
    expected = client.post("/route", json={"prompt": f"{mended} is this?".replace("\\n", "\n"), "deadline_ms": 60_000})
    assert answer.json()["sufficiency"] == expected.json()["sufficiency"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": [{"role": "user", "content": "\\ud83d \\u0000"}]}',
        b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "hi \\ude00"}]}]}',
        b'{"prompt": "x", "system": "\\ud83d", "tools": [{"\\ud83d": "\\ude00"}]}',
    ],
)
def test_half_a_character_is_routed_wherever_it_stands(client: httpx.Client, body: bytes) -> None:
    """In messages, system prompts and tools, in names as in values."""
    assert client.post("/route", content=body).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_the_content_type_does_not_matter(client: httpx.Client, content_type: str) -> None:
    """A gateway that forgets it is served all the same."""
    assert client.post("/route", content=b'{"prompt": "x"}', headers={"content-type": content_type}).status_code == 200


# the service, which works stage by stage on what it is given together

RIGHT: list[Any] = [
    *({"prompt": prompt} for prompt in PROMPTS),
    {"prompt": PROMPTS[0], "path": "fast", "tier_floor": "medium"},
    {"prompt": PROMPTS[3], "path": "auto", "tier_ceiling": "small", "min_sufficiency": 1},
    {"messages": OPENAI, "input_tokens": 50_000},
    {"messages": ANTHROPIC, "system": "You are terse.", "tools": [{"name": "read"}]},
]
CANNOT_BE_ROUTED: list[tuple[Any, type[Exception]]] = [
    ({}, MalformedPromptError),
    ({"prompt": " ", "path": "fast"}, MalformedPromptError),
    ({"messages": [{"role": "wizard", "content": "x"}]}, MalformedPromptError),
    ({"prompt": "x", "tier_floor": "huge"}, PolicyError),
    ({"prompt": "x", "max_cost_usd": 1e-12, "path": "fast"}, PolicyError),
]
NO_REQUESTS: list[Any] = [5, None, [], "x", {"prompt": 5}, {"promt": "x"}, {"prompt": "x", "tier_floor": 1}]


@pytest.fixture(name="service")
def _service(serving_router: Router) -> Service:
    """A service that has counted nothing yet."""
    return Service(serving_router, Settings())


@pytest.fixture(name="shared", scope="module")
def _shared(serving_router: Router) -> Service:
    """A service for tests that ask it again and again, and look at no counter."""
    return Service(serving_router, Settings())


def requests_of(items: Sequence[Any]) -> list[RouteRequest]:
    """Items of the right shape, as requests."""
    return [RouteRequest.model_validate(item) for item in items]


def lasting(results: Sequence[Any]) -> list[Any]:
    """Results without what differs from one answer to the next, and errors as something that can be compared."""
    return [
        (type(result).__name__, str(result))
        if isinstance(result, Exception)
        else replace(result, start=0, decision_id="")
        if isinstance(result, Pending)
        else {name: value for name, value in result.items() if name not in {"id", "router_ms"}}
        for result in results
    ]


def unwrapped(results: Sequence[BatchResult]) -> list[Any]:
    """What is inside the results of a batch."""
    return [result["decision"] if "decision" in result else {"error": result["error"].model_dump()} for result in results]


def counted(service: Service, name: str) -> float:
    """The sum of a counter over all its labels."""
    lines = service.telemetry.exposition().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


SOME_OF_ALL = st.lists(st.sampled_from([*RIGHT, *(item for item, _ in CANNOT_BE_ROUTED)]), max_size=8)


@settings(deadline=None, max_examples=60)
@given(items=SOME_OF_ALL)
def test_requests_together_get_the_results_they_get_one_by_one(shared: Service, items: list[Any]) -> None:
    """In their order, whatever stands beside them; of decisions and of what is left pending, all but the id and the time."""
    service, requests = shared, requests_of(items)
    alone = [result for request in requests for result in service.route([request])]
    assert lasting(service.route(requests)) == lasting(alone)


@pytest.mark.parametrize(("wrong", "kind"), CANNOT_BE_ROUTED)
def test_an_error_is_the_result_of_its_own_request_alone(service: Service, wrong: Any, kind: type[Exception]) -> None:
    """It is returned, not raised, and right ones on both sides of it are decided."""
    before, error, after = service.route(requests_of([RIGHT[0], wrong, RIGHT[1]]))
    assert type(error) is kind
    assert not isinstance(before, Exception)
    assert lasting([before, after]) == lasting(service.route(requests_of(RIGHT[:2])))


@pytest.fixture(name="flawed")
def _flawed(serving_router: Router, service: Service, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets scoring fail wherever a zebra is among the prompts; how many were scored at a time."""
    score, sizes = serving_router.score_fast, list[int]()

    def flawed(prompts: Sequence[Prompt], path: ScorePath = "auto") -> list[Scores]:
        sizes.append(len(prompts))
        if any("zebra" in prompt.text for prompt in prompts):
            raise ZeroDivisionError
        return list(score(prompts, path))

    monkeypatch.setattr(serving_router, "score_fast", flawed)
    return sizes


def test_an_unforeseen_error_in_scoring_refuses_the_one_at_fault(service: Service, flawed: list[int]) -> None:
    """Those that were to be scored with it get what they would have got without it."""
    one, other = ({"prompt": prompt, "path": "fast"} for prompt in PROMPTS[:2])
    before, error, after = service.route(requests_of([one, {"prompt": "a zebra", "path": "fast"}, other]))
    assert type(error) is ZeroDivisionError
    assert lasting([before, after]) == lasting(service.route(requests_of([one, other])))
    assert counted(service, "pointsman_decisions_total") == 4


def test_requests_are_scored_one_by_one_only_where_scoring_them_together_fails(service: Service, flawed: list[int]) -> None:
    """And of a path without the one at fault all at once still."""
    service.route(requests_of([{"prompt": "x"}] * 4))
    assert flawed == [4]
    flawed.clear()
    service.route(requests_of([{"prompt": "a zebra"}, {"prompt": "x"}, *[{"prompt": "x", "path": "fast"}] * 3]))
    assert sorted(flawed) == [1, 1, 2, 3]


def test_an_item_at_fault_has_a_problem_in_its_place(service: Service, flawed: list[int]) -> None:
    """A 500, whatever it was."""
    results = service.route_items([RIGHT[0], {"prompt": "a zebra"}, RIGHT[1]])
    assert [list(result) for result in results] == [["decision"], ["error"], ["decision"]]
    assert results[1]["error"].status == 500


def test_nothing_but_errors_is_a_result_as_well(service: Service) -> None:
    """There is nothing to score then."""
    results = service.route(requests_of([item for item, _ in CANNOT_BE_ROUTED]))
    assert [type(result) for result in results] == [kind for _, kind in CANNOT_BE_ROUTED]


def test_no_requests_have_no_results(service: Service) -> None:
    """Neither as requests nor as items."""
    assert service.route([]) == []
    assert service.route_items([]) == []


def test_each_decision_is_counted_and_nothing_else_is(service: Service) -> None:
    """Who turns errors into problems counts those, and what is pending is no decision yet."""
    results = service.route(requests_of([*RIGHT, *(item for item, _ in CANNOT_BE_ROUTED)]))
    decisions = [result for result in results if not isinstance(result, Exception | Pending)]
    assert counted(service, "pointsman_decisions_total") == len(decisions) > 0
    assert counted(service, "pointsman_problems_total") == 0


def test_ids_are_different_among_requests_alike(service: Service) -> None:
    """They were decided together, and are two decisions."""
    one, other = service.route(requests_of([{"prompt": "x", "path": "fast"}] * 2))
    assert not isinstance(one, Exception | Pending)
    assert not isinstance(other, Exception | Pending)
    assert one["id"] != other["id"]


@settings(deadline=None, max_examples=60)
@given(items=st.lists(st.sampled_from([*RIGHT, *(item for item, _ in CANNOT_BE_ROUTED), *NO_REQUESTS]), max_size=8))
def test_items_together_get_the_results_they_get_one_by_one(shared: Service, items: list[Any]) -> None:
    """As they were sent, those that are no requests included."""
    alone = [result for item in items for result in shared.route_items([item])]
    assert lasting(unwrapped(shared.route_items(items))) == lasting(unwrapped(alone))


@pytest.mark.parametrize("wrong", [*NO_REQUESTS, *(item for item, _ in CANNOT_BE_ROUTED)])
def test_a_wrong_item_among_right_ones_has_a_problem_in_its_place(service: Service, wrong: Any) -> None:
    """Counted as one; the items beside it are decided as requests are."""
    results = service.route_items([RIGHT[0], wrong, RIGHT[1]])
    assert [list(result) for result in results] == [["decision"], ["error"], ["decision"]]
    assert results[1]["error"].status == 422
    assert counted(service, "pointsman_problems_total") == 1
    assert lasting(unwrapped(results[::2])) == lasting(unwrapped(service.route_items(RIGHT[:2])))


@pytest.mark.parametrize(("wrong", "kind"), CANNOT_BE_ROUTED)
def test_the_problem_of_an_item_describes_its_error(service: Service, wrong: Any, kind: type[Exception]) -> None:
    """The same words as for the request alone."""
    (error,) = service.route(requests_of([wrong]))
    (result,) = service.route_items([wrong])
    assert isinstance(error, kind)
    assert result["error"] == describe(error)
