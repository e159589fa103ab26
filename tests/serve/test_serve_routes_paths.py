"""Which path answers a request: what the fast path settles, what it leaves pending, and who answers that."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier import Prompt, Router, Scores, from_text
from classifier.errors import PolicyError
from classifier.policy import decide, facts_of
from classifier.types import Path as ScorePath
from serve.routes import Pending, Service, direct_route
from serve.schemas import BatchResult, RouteRequest
from serve.settings import Settings

pytest_plugins = ("fixtures_of_serve",)

RouterWith = Callable[..., Router]
Route = Callable[..., dict[str, Any]]
Results = Sequence[Any]

PATIENT_MS, HURRIED_MS = 60_000, 1e-6
PROMPTS = [
    f"{verb} {thing}{tail}"
    for verb in ("Explain", "Fix", "Design", "Write")
    for thing in ("the login", "a list", "a parser for dates", "an authentication system")
    for tail in ("", " in Python", " for our app. Consider security and scalability.")
]
PROMPT = PROMPTS[0]
TEXTS = st.text(min_size=1, max_size=300).filter(str.strip)


@pytest.fixture(name="service", scope="module")
def _service(serving_router: Router) -> Service:
    """The shipped bundle, under its own policy."""
    return Service(serving_router, Settings(accurate_threads=1))


@pytest.fixture(name="wary_service", scope="module")
def _wary_service(wary: Router) -> Service:
    """A service that takes every prompt for close."""
    return Service(wary, Settings(accurate_threads=1))


@pytest.fixture(name="bold_service", scope="module")
def _bold_service(router_with: RouterWith) -> Service:
    """A service that takes every prompt for clear."""
    return Service(router_with(margin=0.0), Settings(accurate_threads=1))


@pytest.fixture(name="lone_service", scope="module")
def _lone_service(router_with: RouterWith) -> Service:
    """A service whose bundle has one path."""
    return Service(router_with(accurate=None), Settings())


@pytest.fixture(name="close", scope="module")
def _close(serving_router: Router) -> list[str]:
    """Prompts of which the shipped bundle's fast path is not sure."""
    found = [prompt for prompt in PROMPTS if looks_twice(serving_router, prompt)]
    assert found
    return found


@pytest.fixture(name="clear", scope="module")
def _clear(serving_router: Router) -> list[str]:
    """Prompts of which it is."""
    found = [prompt for prompt in PROMPTS if not looks_twice(serving_router, prompt)]
    assert found
    return found


def looks_twice(router: Router, text: str) -> bool:
    """Whether the accurate path is asked of a plain prompt on auto."""
    prompt = from_text(text)
    return router.looks_twice(router.score_fast([prompt])[0], facts_of(prompt))


def routed(service: Service, *items: dict[str, Any]) -> list[Any]:
    """What the service makes of requests before any of them is looked at twice."""
    return list(service.route([RouteRequest.model_validate(item) for item in items]))


def told(service: Service, *items: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers to requests that come together, to the end; errors are raised."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(direct_route(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await asyncio.gather(*(client.post("/route", json=item) for item in items))

    return [answer.json() for answer in asyncio.run(ask())]


def decisions(results: Sequence[BatchResult]) -> list[dict[str, Any]]:
    """The decisions of a batch that holds no error."""
    return [dict(result["decision"]) for result in results]


def lasting(decision: Any) -> dict[str, Any]:
    """A decision without what differs from one answer to the next."""
    return {name: value for name, value in decision.items() if name not in {"id", "router_ms"}}


def which(decision: Any) -> tuple[str, str]:
    """The path that scored, and why."""
    return decision["path"], decision["path_reason"]


def by_hand(router: Router, text: str, path: ScorePath) -> dict[str, Any]:
    """What a decision on a plain prompt must say, without any service."""
    prompt = from_text(text)
    (scores,) = router.score([prompt], path)
    decision = decide(scores, router.policy, facts_of(prompt))
    sufficiency = {tier: round(value, 6) for tier, value in zip(scores.tiers, scores.sufficiency, strict=True)}
    return {"tier": decision.tier, "sufficiency": sufficiency, "path": scores.path, "path_reason": scores.path_reason}


def counts(service: Service) -> dict[str, float]:
    """Decisions so far, by path and why."""
    found: dict[str, float] = {}
    for line in service.telemetry.exposition().decode().splitlines():
        if line.startswith("pointsman_decisions_total"):
            labels = dict(part.split("=") for part in line[line.index("{") + 1 : line.index("}")].split(","))
            name = f"{labels['path']} {labels['path_reason']}".replace('"', "")
            found[name] = found.get(name, 0) + float(line.rsplit(" ", 1)[1])
    return found


# what is left pending


def test_close_requests_are_left_pending_and_clear_ones_are_decided(service: Service, close: list[str], clear: list[str]) -> None:
    """By the bundle's own margin, each by itself and in its place."""
    mixed = [prompt for pair in zip(close, clear, strict=False) for prompt in pair]
    found = routed(service, *({"prompt": prompt} for prompt in mixed))
    assert [isinstance(result, Pending) for result in found] == [True, False] * (len(mixed) // 2)
    assert {which(result) for result in found[1::2]} == {("fast", "clear")}


def test_what_is_pending_holds_all_that_deciding_takes(wary_service: Service) -> None:
    """The request, its prompt and facts, and what the fast path said."""
    body = {"prompt": PROMPT, "tier_ceiling": "medium", "input_tokens": 7}
    (pending,) = routed(wary_service, body)
    assert pending.twice
    assert pending.request == RouteRequest.model_validate(body)
    assert pending.prompt == from_text(PROMPT)
    assert (pending.facts.tier_ceiling, pending.facts.input_tokens) == ("medium", 7)
    assert [pending.scores] == wary_service.router.score_fast([pending.prompt])
    assert (pending.scores.path, pending.scores.target_path) == ("fast", "auto")


def test_what_is_pending_is_no_decision_yet(wary: Router) -> None:
    """It is counted once it is one."""
    service = Service(wary, Settings())
    routed(service, *[{"prompt": prompt} for prompt in PROMPTS[:5]])
    assert counts(service) == {}


def test_what_is_pending_has_an_id_of_its_own(wary_service: Service) -> None:
    """Requests alike are two decisions in the end."""
    one, other = routed(wary_service, {"prompt": "x"}, {"prompt": "x"})
    assert one.decision_id != other.decision_id


@settings(deadline=None, max_examples=60)
@given(text=TEXTS, limits=st.fixed_dictionaries({}, optional={"min_sufficiency": st.floats(0, 1), "deadline_ms": st.floats(0.1, 1e6)}))
def test_the_fast_path_is_never_left_pending(wary_service: Service, text: str, limits: dict[str, float]) -> None:
    """However close the scores are: whoever asks for it has an answer at once."""
    (decision,) = routed(wary_service, {"prompt": text, "path": "fast", **limits})
    assert which(decision) == ("fast", "asked")


@pytest.mark.parametrize("prompt", PROMPTS[:6])
def test_the_accurate_path_is_asked_however_clear_the_scores_are(bold_service: Service, prompt: str) -> None:
    """Whoever asks for it gets it."""
    (clear, pending) = routed(bold_service, {"prompt": prompt}, {"prompt": prompt, "path": "accurate"})
    assert which(clear) == ("fast", "clear")
    assert isinstance(pending, Pending)


@pytest.mark.parametrize("tier", ["small", "medium", "large"])
def test_where_one_tier_is_left_there_is_nothing_to_look_at_twice(wary_service: Service, tier: str) -> None:
    """No second opinion would change the answer."""
    (decision,) = routed(wary_service, {"prompt": PROMPT, "tier_floor": tier, "tier_ceiling": tier})
    assert (which(decision), decision["tier"]) == (("fast", "clear"), tier)


def test_a_requests_own_target_is_what_is_close_or_not(service: Service, serving_router: Router) -> None:
    """Whoever asks for exactly what a tier offers is looked at twice; whoever asks for anything or for certainty is not."""
    (scores,) = serving_router.score_fast([from_text(PROMPT)])
    offered = scores.sufficiency[0]
    close, anything, certainty = routed(service, *({"prompt": PROMPT, "min_sufficiency": wish} for wish in (offered, 0, 1)))
    assert isinstance(close, Pending)
    assert which(anything) == which(certainty) == ("fast", "clear")


@pytest.mark.parametrize(("own", "reason"), [("fast", "asked"), ("auto", "clear")])
def test_the_servers_own_path_holds_where_a_request_names_none(router_with: RouterWith, own: ScorePath, reason: str) -> None:
    """An absent path and null are the same."""
    service = Service(router_with(margin=0.0), Settings(path=own))
    for body in ({"prompt": PROMPT}, {"prompt": PROMPT, "path": None}):
        (decision,) = routed(service, body)
        assert which(decision) == ("fast", reason)


def test_the_servers_own_path_can_be_the_accurate_one(router_with: RouterWith) -> None:
    """And a request can ask for another."""
    service = Service(router_with(margin=0.0), Settings(path="accurate"))
    absent, fast, auto = routed(service, *({"prompt": PROMPT, "path": path} for path in (None, "fast", "auto")))
    assert isinstance(absent, Pending)
    assert (which(fast), which(auto)) == (("fast", "asked"), ("fast", "clear"))


# who answers that


@pytest.mark.parametrize("path", get_args(ScorePath))
def test_with_time_enough_a_request_is_answered_as_the_router_answers_it(service: Service, path: ScorePath) -> None:
    """On every path: tier, scores, and why they are whose they are."""
    found = told(service, *({"prompt": prompt, "path": path, "deadline_ms": PATIENT_MS} for prompt in PROMPTS))
    expected = [by_hand(service.router, prompt, path) for prompt in PROMPTS]
    assert [{name: decision[name] for name in by_hand} for decision, by_hand in zip(found, expected, strict=True)] == expected


def test_on_auto_close_requests_are_answered_by_the_accurate_path(service: Service, close: list[str], clear: list[str]) -> None:
    """And clear ones by the fast one."""
    found = told(service, *({"prompt": prompt, "deadline_ms": PATIENT_MS} for prompt in (*close, *clear)))
    assert [which(decision) for decision in found] == [("accurate", "close")] * len(close) + [("fast", "clear")] * len(clear)


def test_a_decision_keeps_the_id_under_which_it_was_pending(wary_service: Service) -> None:
    """Ids are drawn together, once."""
    found = told(wary_service, *[{"prompt": "x", "deadline_ms": PATIENT_MS}] * 20)
    assert len({decision["id"] for decision in found}) == 20


def test_the_task_is_the_fast_paths_whoever_scores(wary_service: Service) -> None:
    """It is told once."""
    fast, accurate = told(wary_service, *({"prompt": PROMPT, "path": path, "deadline_ms": PATIENT_MS} for path in ("fast", "auto")))
    assert (fast["path"], accurate["path"]) == ("fast", "accurate")
    assert fast["task"] is not None
    assert (fast["task"], fast["task_probability"]) == (accurate["task"], accurate["task_probability"])


def test_decisions_are_counted_once_under_the_path_that_scored(wary: Router) -> None:
    """Pending or not, late or in time."""
    service = Service(wary, Settings())
    told(
        service,
        {"prompt": PROMPT, "path": "fast"},
        {"prompt": PROMPT, "deadline_ms": PATIENT_MS},
        {"prompt": PROMPT, "deadline_ms": HURRIED_MS},
        {"prompt": PROMPT, "path": "accurate", "deadline_ms": PATIENT_MS},
        {"prompt": PROMPT, "tier_ceiling": "small"},
    )
    assert counts(service) == {"fast asked": 1, "accurate close": 1, "fast deadline": 1, "accurate asked": 1, "fast clear": 1}


@pytest.mark.parametrize("path", ["auto", "accurate"])
def test_what_would_be_late_is_answered_as_the_fast_path_answers_it(wary_service: Service, path: str) -> None:
    """In everything but the reason, by the fast path's own target."""
    late = told(wary_service, *({"prompt": prompt, "path": path, "deadline_ms": HURRIED_MS} for prompt in PROMPTS))
    fast = told(wary_service, *({"prompt": prompt, "path": "fast"} for prompt in PROMPTS))
    assert [lasting(decision) for decision in late] == [{**lasting(decision), "path_reason": "deadline"} for decision in fast]


@pytest.mark.parametrize("path", ["auto", "accurate"])
def test_a_late_answer_goes_by_the_fast_paths_target(router_with: RouterWith, path: str) -> None:
    """Not by that of the path that was wished for."""
    service = Service(router_with(margin=50.0, targets={"fast": 1.0, "auto": 1e-9, "accurate": 1e-9}), Settings())
    late, fast = told(service, {"prompt": PROMPT, "path": path, "deadline_ms": HURRIED_MS}, {"prompt": PROMPT, "path": "fast"})
    (in_time,) = told(service, {"prompt": PROMPT, "path": path, "deadline_ms": PATIENT_MS})
    assert (late["tier"], fast["tier"], in_time["tier"]) == ("large", "large", "small")


def test_a_clear_request_is_never_late(bold_service: Service) -> None:
    """There is nothing to wait for."""
    for deadline_ms in (HURRIED_MS, PATIENT_MS):
        assert {
            which(decision) for decision in told(bold_service, *({"prompt": prompt, "deadline_ms": deadline_ms} for prompt in PROMPTS))
        } == {("fast", "clear")}


def test_a_deadline_is_no_matter_where_the_fast_path_was_asked_for(wary_service: Service) -> None:
    """The reason is the wish."""
    (decision,) = told(wary_service, {"prompt": PROMPT, "path": "fast", "deadline_ms": HURRIED_MS})
    assert which(decision) == ("fast", "asked")


@pytest.fixture(name="crowded")
def _crowded(wary: Router) -> Service:
    """A service whose lane has promised more than it can hold."""
    service = Service(wary, Settings(accurate_threads=1))
    assert service.lane is not None
    service.lane._promised = math.inf
    return service


@pytest.mark.parametrize("path", ["auto", "accurate"])
def test_what_others_would_make_late_is_answered_as_the_fast_path_answers_it(crowded: Service, path: str) -> None:
    """In everything but the reason."""
    late, fast = told(crowded, {"prompt": PROMPT, "path": path, "deadline_ms": PATIENT_MS}, {"prompt": PROMPT, "path": "fast"})
    assert lasting(late) == {**lasting(fast), "path_reason": "load"}


@pytest.mark.parametrize("path", get_args(ScorePath))
def test_limits_that_leave_no_tier_are_an_error_on_every_path(wary_service: Service, path: str) -> None:
    """Early or late, in the same words."""
    for limits in ({"tier_floor": "huge"}, {"max_cost_usd": 1e-12}, {"tier_floor": "large", "tier_ceiling": "small"}):
        with pytest.raises(PolicyError) as caught:
            told(wary_service, {"prompt": PROMPT, "path": path, "deadline_ms": PATIENT_MS, **limits})
        (error,) = routed(wary_service, {"prompt": PROMPT, "path": "fast", **limits})
        assert str(caught.value) == str(error)


@pytest.fixture(name="flawed")
def _flawed(wary: Router, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service whose accurate path fails wherever a zebra is in the prompt."""
    service, score = Service(wary, Settings()), wary.score_accurate

    def flawed(prompt: Prompt, fast: Scores) -> Scores:
        if "zebra" in prompt.text:
            raise ZeroDivisionError
        return score(prompt, fast)

    monkeypatch.setattr(wary, "score_accurate", flawed)
    return service


def test_an_unforeseen_error_of_the_accurate_path_reaches_the_one_at_fault(flawed: Service) -> None:
    """And nobody else, then or later."""
    with pytest.raises(ZeroDivisionError):
        told(flawed, {"prompt": "a zebra", "deadline_ms": PATIENT_MS})
    (decision,) = told(flawed, {"prompt": "a horse", "deadline_ms": PATIENT_MS})
    assert which(decision) == ("accurate", "close")
    assert counts(flawed) == {"accurate close": 1}


# batches, by content


@settings(deadline=None, max_examples=25)
@given(
    items=st.lists(
        st.fixed_dictionaries(
            {"prompt": st.sampled_from(PROMPTS)},
            optional={
                "path": st.sampled_from(get_args(ScorePath)),
                "tier_floor": st.sampled_from(["small", "medium", "large"]),
                "min_sufficiency": st.floats(0, 1),
            },
        ),
        max_size=6,
    ),
    deadlines=st.lists(st.floats(1e-6, 1e6), min_size=6, max_size=6),
)
def test_a_batch_is_answered_by_content_whatever_its_deadlines(
    service: Service, items: list[dict[str, Any]], deadlines: list[float]
) -> None:
    """The same twice, and the same as every request by itself that has time enough."""
    hurried = [{**item, "deadline_ms": deadline_ms} for item, deadline_ms in zip(items, deadlines, strict=False)]
    once, twice = service.route_items(hurried), service.route_items(hurried[::-1])[::-1]
    alone = told(service, *({**item, "deadline_ms": PATIENT_MS} for item in items))
    assert list(map(lasting, decisions(once))) == list(map(lasting, decisions(twice))) == list(map(lasting, alone))


@pytest.mark.parametrize("path", get_args(ScorePath))
def test_items_are_answered_as_the_router_answers_them(service: Service, path: ScorePath) -> None:
    """On every path, in their order."""
    found = decisions(service.route_items([{"prompt": prompt, "path": path, "deadline_ms": HURRIED_MS} for prompt in PROMPTS]))
    expected = [by_hand(service.router, prompt, path) for prompt in PROMPTS]
    assert [{name: decision[name] for name in by_hand} for decision, by_hand in zip(found, expected, strict=True)] == expected


def test_a_batch_takes_no_notice_of_the_crowd(crowded: Service) -> None:
    """It waits for its turn; whoever sends one has time."""
    found = decisions(crowded.route_items([{"prompt": prompt} for prompt in PROMPTS[:4]]))
    assert {which(decision) for decision in found} == {("accurate", "close")}


def test_every_item_is_counted_once_under_the_path_that_scored(wary: Router) -> None:
    """None of them is late."""
    service = Service(wary, Settings())
    service.route_items([{"prompt": PROMPT, "path": path, "deadline_ms": HURRIED_MS} for path in ("fast", "auto", "accurate", "accurate")])
    assert counts(service) == {"fast asked": 1, "accurate close": 1, "accurate asked": 2}


def test_an_item_that_the_accurate_path_fails_on_has_a_problem_in_its_place(flawed: Service) -> None:
    """A 500; those beside it are answered."""
    results = flawed.route_items([{"prompt": "a horse"}, {"prompt": "a zebra"}, {"prompt": "an ass"}])
    assert [list(result) for result in results] == [["decision"], ["error"], ["decision"]]
    assert results[1]["error"].status == 500
    assert counts(flawed) == {"accurate close": 2}


@pytest.mark.parametrize("path", get_args(ScorePath))
def test_an_item_without_an_allowed_tier_has_its_problem_on_every_path(wary_service: Service, path: str) -> None:
    """The same one."""
    before, wrong, after = wary_service.route_items(
        [{"prompt": "x"}, {"prompt": PROMPT, "path": path, "max_cost_usd": 1e-12}, {"prompt": "x"}]
    )
    assert (list(before), list(wrong), list(after)) == (["decision"], ["error"], ["decision"])
    assert wrong["error"].status == 422
    assert wrong["error"].detail == "max_cost_usd: no tier is allowed: excluded by budget"


# a bundle with one path


@pytest.mark.parametrize("path", get_args(ScorePath))
def test_a_bundle_of_one_path_answers_every_wish_alike(lone_service: Service, path: ScorePath) -> None:
    """And says that it has no other."""
    one, other = told(lone_service, {"prompt": PROMPT, "path": path, "deadline_ms": HURRIED_MS}, {"prompt": PROMPT})
    assert lasting(one) == lasting(other)
    assert which(one) == ("fast", "only_path")
    assert [lasting(decision) for decision in decisions(lone_service.route_items([{"prompt": PROMPT, "path": path}]))] == [lasting(one)]


def test_a_bundle_of_one_path_starts_no_lane(lone_service: Service) -> None:
    """There is nothing to run in it."""
    assert lone_service.lane is None


def test_a_bundle_of_one_path_leaves_nothing_pending(lone_service: Service) -> None:
    """Whatever is asked for."""
    found = routed(lone_service, *({"prompt": PROMPT, "path": path} for path in get_args(ScorePath)))
    assert not any(isinstance(result, Pending) for result in found)


def test_a_bundle_of_one_path_decides_by_the_fast_target(router_with: RouterWith) -> None:
    """Targets of paths that it does not have are passed over."""
    service = Service(router_with(accurate=None, targets={"fast": 1.0, "auto": 1e-9, "accurate": 1e-9}), Settings())
    assert [decision["tier"] for decision in told(service, *({"prompt": PROMPT, "path": path} for path in get_args(ScorePath)))] == [
        "large"
    ] * 3


# over HTTP, with the server as it is shipped


def test_over_http_a_close_request_is_looked_at_twice(route: Route, close: list[str], serving_router: Router) -> None:
    """Where the deadline allows it."""
    for prompt in close[:3]:
        decision, expected = route(prompt=prompt, deadline_ms=PATIENT_MS), by_hand(serving_router, prompt, "auto")
        assert {name: decision[name] for name in expected} == expected
        assert which(decision) == ("accurate", "close")


@pytest.mark.parametrize("path", ["auto", "accurate"])
def test_over_http_a_close_request_that_would_be_late_gets_what_the_fast_path_says(route: Route, close: list[str], path: str) -> None:
    """The same decision as for whoever asks for the fast path."""
    for prompt in close:
        late, fast = route(prompt=prompt, path=path, deadline_ms=HURRIED_MS), route(prompt=prompt, path="fast")
        assert which(late) == ("fast", "deadline")
        assert lasting(late) == {**lasting(fast), "path_reason": "deadline"}


def test_over_http_a_clear_request_is_never_late(route: Route, clear: list[str]) -> None:
    """Its answer is the same for any deadline."""
    for prompt in clear[:3]:
        hurried, patient = (route(prompt=prompt, deadline_ms=deadline_ms) for deadline_ms in (HURRIED_MS, PATIENT_MS))
        assert lasting(hurried) == lasting(patient)
        assert which(hurried) == ("fast", "clear")


def test_over_http_the_accurate_path_can_be_asked_for(route: Route, clear: list[str]) -> None:
    """Also of what is clear."""
    assert which(route(prompt=clear[0], path="accurate", deadline_ms=PATIENT_MS)) == ("accurate", "asked")


@pytest.mark.parametrize("path", ["slow", "", "Fast", "only_path"])
def test_over_http_a_path_that_there_is_not_is_refused_with_those_that_there_are(refused: Callable[..., Any], path: str) -> None:
    """In the field's name."""
    problem = refused(f'{{"prompt": "x", "path": "{path}"}}'.encode(), 422)
    assert problem["errors"][0]["field"] == "path"
    assert all(f"'{name}'" in problem["detail"] for name in get_args(ScorePath))


@settings(deadline=None, max_examples=40)
@given(text=TEXTS, path=st.sampled_from(get_args(ScorePath)), deadline_ms=st.floats(1e-6, 30))
def test_over_http_every_deadline_is_answered_by_one_path_or_the_other(route: Route, text: str, path: str, deadline_ms: float) -> None:
    """With a reason that fits the wish."""
    decision = route(prompt=text, path=path, deadline_ms=deadline_ms)
    late = {("fast", "deadline"), ("fast", "load")}
    assert (
        which(decision)
        in {
            "fast": {("fast", "asked")},
            "auto": {("fast", "clear"), ("accurate", "close"), *late},
            "accurate": {("accurate", "asked"), *late},
        }[path]
    )


def test_every_answer_can_be_had_again_without_a_service(service: Service) -> None:
    """A late one by asking for the fast path, any other by asking for what was asked."""
    for decision, prompt in zip(told(service, *({"prompt": prompt} for prompt in PROMPTS)), PROMPTS, strict=True):
        late = decision["path_reason"] in {"deadline", "load"}
        expected = by_hand(service.router, prompt, "fast" if late else "auto")
        assert (decision["tier"], decision["sufficiency"]) == (expected["tier"], expected["sufficiency"])


def test_scores_that_are_refused_are_not_changed_for_others(wary_service: Service) -> None:
    """A late request leaves nothing behind in one that was scored with it."""
    late, in_time = told(wary_service, {"prompt": PROMPT, "deadline_ms": HURRIED_MS}, {"prompt": PROMPT, "deadline_ms": PATIENT_MS})
    assert which(late) == ("fast", "deadline")
    assert lasting(in_time) == lasting(decisions(wary_service.route_items([{"prompt": PROMPT}]))[0])


def test_a_router_under_another_policy_scores_as_before(serving_router: Router, wary: Router) -> None:
    """What these tests rest on: the margin says who is asked, not what they say."""
    prompts = [from_text(prompt) for prompt in PROMPTS]
    assert wary.score_fast(prompts) == serving_router.score_fast(prompts)
    assert [replace(scores, path_reason="close", target_path="auto") for scores in serving_router.score(prompts, "accurate")] == wary.score(
        prompts
    )
