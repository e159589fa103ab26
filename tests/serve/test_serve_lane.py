"""Lane: the accurate path's threads, and who is let onto them."""

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier import Prompt, Router, Scores, from_text
from classifier.policy import decide, facts_of
from classifier.types import Path as ScorePath
from classifier.types import PathReason
from serve import lane as module
from serve.lane import SPARE, Lane

pytest_plugins = ("fixtures_of_serve",)

PATIENT_MS = 60_000
PROMPTS = [
    from_text(text)
    for text in (
        "Write a parser for dates",
        "x",
        "Plan an authentication system for our app. Consider security, UX, and scalability.",
        "なぜこの競合状態は負荷時にだけ起きるのですか",
        "x = 1\n" * 2_000 + "Why does it hang?",
    )
]
PROMPT = PROMPTS[0]
TEXTS = st.text(min_size=1, max_size=2_000).filter(str.strip)


def tokens(router: Router, prompt: Prompt) -> int:
    """How many of them the accurate path reads."""
    assert router.accurate is not None
    return router.accurate.encoder.length(prompt.text)


class Parts(Router):
    """A router of the parts of another one."""

    def __init__(self, router: Router) -> None:
        super().__init__(router.manifest, router.encoder, router.head, router.policy, router.accurate, router.task)


class Paced(Parts):
    """Its accurate path takes 2 ms and one more for every ten tokens, times ``pace``, by a clock of its own and no other."""

    def __init__(self, router: Router) -> None:
        super().__init__(router)
        self.seconds, self.pace, self.runs = 0.0, 1.0, 0

    def score_accurate(self, prompt: Prompt, fast: Scores) -> Scores:
        """The clock moves on; what is said is of no interest where pace is."""
        self.runs += 1
        self.seconds += self.pace * (2 + tokens(self, prompt) / 10) / 1e3
        return replace(fast, path="accurate", path_reason="close")


class Gated(Parts):
    """Its accurate path waits at a gate; ``most`` is how many did so at once."""

    def __init__(self, router: Router) -> None:
        super().__init__(router)
        self.enter: Callable[[float], Any] = lambda _seconds: True  # False: waited in vain
        self.lock = threading.Lock()
        self.waiting = self.most = 0

    def score_accurate(self, prompt: Prompt, fast: Scores) -> Scores:
        """As ever, once the gate is open."""
        with self.lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        assert self.enter(60) is not False
        with self.lock:
            self.waiting -= 1
        return super().score_accurate(prompt, fast)


class Failing(Parts):
    """Its accurate path fails while it is told to."""

    fails = False

    def score_accurate(self, prompt: Prompt, fast: Scores) -> Scores:
        """As ever, or not at all."""
        if self.fails:
            raise ZeroDivisionError
        return super().score_accurate(prompt, fast)


@pytest.fixture(name="paced")
def _paced(serving_router: Router, monkeypatch: pytest.MonkeyPatch) -> Paced:
    """A router whose accurate path takes exactly as long as it says, by the clock that lanes look at."""
    paced = Paced(serving_router)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: paced.seconds))
    return paced


@pytest.fixture(name="lane")
def _lane(paced: Paced) -> Lane:
    """A lane of one thread that has measured its pace and let nobody in yet."""
    return Lane(paced, 1)


@pytest.fixture(name="measured", scope="module")
def _measured(serving_router: Router) -> Lane:
    """A lane by the clock on the wall."""
    return Lane(serving_router, 2)


def fast_of(router: Router, prompt: Prompt, path: ScorePath = "auto") -> Scores:
    """What the fast path says of ``prompt``."""
    (scores,) = router.score_fast([prompt], path)
    return scores


def asked(lane: Lane, prompt: Prompt, left_ms: float, path: ScorePath = "auto") -> Scores:
    """What a lane says to a request by itself, whose deadline leaves ``left_ms`` and what is to be spared."""
    return asyncio.run(lane.score(prompt, fast_of(lane.router, prompt, path), SPARE * left_ms))


def together(lane: Lane, prompts: Sequence[Prompt], left_ms: float) -> list[Scores]:
    """The same for requests that come in the same round of the event loop."""

    async def ask() -> list[Scores]:
        return await asyncio.gather(*(lane.score(prompt, fast_of(lane.router, prompt), SPARE * left_ms) for prompt in prompts))

    return asyncio.run(ask())


# the estimate


def test_the_estimate_is_what_the_accurate_path_takes(lane: Lane) -> None:
    """A fixed part and a part by the token, from two probes when the server starts."""
    for prompt in PROMPTS[:4]:
        assert lane.estimate_ms(prompt) == pytest.approx(2 + tokens(lane.router, prompt) / 10, rel=0.02)


@pytest.mark.parametrize("text", ["東京駅の線路の切り替えはどうなっていますか。" * 4, "a[i]=(b<<3)|c;" * 9], ids=["kanji", "dense code"])
def test_a_short_text_of_many_tokens_is_no_short_text(lane: Lane, text: str) -> None:
    """Characters are no measure of what a transformer reads: here a token is one or two of them."""
    words = from_text("word " * (len(text) // 5))
    assert lane.estimate_ms(from_text(text)) > 2 * (lane.estimate_ms(words) - 2)


@settings(deadline=None, max_examples=100)
@given(one=TEXTS, other=TEXTS)
def test_the_estimate_never_falls_with_a_texts_tokens(measured: Lane, one: str, other: str) -> None:
    """On the machine at hand as by any other clock."""
    shorter, longer = sorted((from_text(one), from_text(other)), key=lambda prompt: tokens(measured.router, prompt))
    assert 0 < measured.estimate_ms(shorter) <= measured.estimate_ms(longer)


def test_the_estimate_is_bounded(lane: Lane) -> None:
    """Head and tail of a long text are what is scored, and a transformer reads no more than it can: no text takes longer than another."""
    longest = [from_text("word " * words) for words in (1_000, 200_000)] + [replace(PROMPT, text="x-" * chars) for chars in (900, 9_000)]
    assert {lane.estimate_ms(prompt) for prompt in longest} == {lane.estimate_ms(longest[0])}
    assert lane.estimate_ms(longest[0]) == pytest.approx(2 + 128 / 10, rel=0.02)


def test_a_clock_that_sees_no_time_pass_is_no_error(paced: Paced) -> None:
    """Everybody is let in then."""
    paced.pace = 0.0
    lane = Lane(paced, 1)
    assert lane.estimate_ms(PROMPT) == 0
    assert [asked(lane, PROMPT, 0).path for _ in range(2)] == ["accurate"] * 2


# with time enough


@pytest.mark.parametrize(("path", "reason"), [("auto", "close"), ("accurate", "asked")])
@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt.text[:20])
def test_with_time_enough_the_answer_is_the_accurate_paths(measured: Lane, prompt: Prompt, path: ScorePath, reason: PathReason) -> None:
    """To the last bit, with the reason for which it was asked."""
    found = asked(measured, prompt, PATIENT_MS, path)
    assert found == measured.router.score_accurate(prompt, fast_of(measured.router, prompt, path))
    assert (found.path, found.path_reason, found.target_path) == ("accurate", reason, path)


def test_requests_that_come_together_get_what_is_their_own(measured: Lane) -> None:
    """Whatever order the threads take them in."""
    expected = [measured.router.score_accurate(prompt, fast_of(measured.router, prompt)) for prompt in PROMPTS * 4]
    assert together(measured, PROMPTS * 4, PATIENT_MS) == expected


def test_a_deadline_that_is_just_met_is_met(lane: Lane) -> None:
    """As long as the estimate is enough; the least bit less is not."""
    own = lane.estimate_ms(PROMPT)
    assert asked(lane, PROMPT, math.nextafter(own, 0)).path_reason == "deadline"
    assert asked(lane, PROMPT, own).path == "accurate"


# with too little


@pytest.mark.parametrize("left_ms", [0.1, 1e-6, 0, -5.0, -math.inf])
@pytest.mark.parametrize("path", ["auto", "accurate"])
def test_what_would_come_after_its_deadline_keeps_the_fast_paths_scores(lane: Lane, paced: Paced, path: ScorePath, left_ms: float) -> None:
    """And says so; the accurate path does not even begin."""
    before = paced.runs
    fast = fast_of(paced, PROMPT, path)
    assert asked(lane, PROMPT, left_ms, path) == replace(fast, path_reason="deadline", target_path="fast")
    assert fast.path == "fast"
    assert paced.runs == before


@pytest.mark.parametrize("path", ["auto", "accurate"])
def test_what_is_refused_is_decided_as_the_fast_path_decides_it(lane: Lane, paced: Paced, path: ScorePath) -> None:
    """By the fast path's own target: auto's was chosen for scores of which the close ones are looked at twice."""
    policy = replace(paced.policy, targets={"fast": 0.999, "auto": 0.001, "accurate": 0.001})
    for prompt in PROMPTS:
        refused, fast = asked(lane, prompt, 0, path), fast_of(paced, prompt, "fast")
        decision = decide(refused, policy, facts_of(prompt))
        assert replace(decision, scores=fast) == decide(fast, policy, facts_of(prompt))


# in a crowd


@pytest.fixture(name="gated")
def _gated(serving_router: Router) -> Gated:
    """A router with a gate, which is open as long as nobody closes it."""
    return Gated(serving_router)


def behind(lane: Lane, gated: Gated, ahead: int, left_of: Callable[[float], float]) -> tuple[list[Scores], Scores]:
    """What is said to ``ahead`` patient requests, and to one that comes while they are under way and has ``left_of(its estimate)``."""

    async def scenario() -> tuple[list[Scores], Scores]:
        fast, gate = fast_of(gated, PROMPT), threading.Event()
        gated.enter = gate.wait
        try:
            others = [asyncio.create_task(lane.score(PROMPT, fast, PATIENT_MS)) for _ in range(ahead)]
            await asyncio.sleep(0)  # they have come
            last = asyncio.create_task(lane.score(PROMPT, fast, SPARE * left_of(lane.estimate_ms(PROMPT))))
            await asyncio.sleep(0)
        finally:
            gate.set()
        return await asyncio.gather(*others), await last

    return asyncio.run(scenario())


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (1, 5), (2, 1), (2, 7), (4, 4)])
def test_whoever_would_be_late_because_of_others_is_turned_away(gated: Gated, threads: int, ahead: int) -> None:
    """Those that came before take their share of the threads, and are not disturbed."""
    before, last = behind(Lane(gated, threads), gated, ahead, lambda own: own * (1 + 0.9 * ahead / threads))
    assert last == replace(fast_of(gated, PROMPT), path_reason="load", target_path="fast")
    assert [scores.path for scores in before] == ["accurate"] * ahead


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (1, 5), (2, 1), (2, 7), (4, 4)])
def test_whoever_can_wait_for_others_does(gated: Gated, threads: int, ahead: int) -> None:
    """The line is as long as deadlines allow."""
    before, last = behind(Lane(gated, threads), gated, ahead, lambda own: own * (1 + 1.1 * ahead / threads))
    assert [scores.path for scores in (*before, last)] == ["accurate"] * (ahead + 1)


def test_a_request_that_is_done_leaves_the_others_theirs(gated: Gated) -> None:
    """One of two has its answer, and whoever comes then waits for the other alone."""
    lane, ends = Lane(gated, 1), [threading.Event(), threading.Event()]
    gates = chain(ends, repeat(ends[1]))
    gated.enter = lambda seconds: next(gates).wait(seconds)

    async def scenario() -> list[PathReason]:
        fast = fast_of(gated, PROMPT)
        one, other = (asyncio.create_task(lane.score(PROMPT, fast, PATIENT_MS)) for _ in ends)
        await asyncio.sleep(0)
        ends[0].set()
        await one
        hasty = asyncio.create_task(lane.score(PROMPT, fast, SPARE * lane.estimate_ms(PROMPT)))
        await asyncio.sleep(0)
        ends[1].set()
        return [(await hasty).path_reason, (await other).path_reason]

    assert asyncio.run(scenario()) == ["load", "close"]


def test_whoever_would_be_late_by_itself_is_not_told_of_others(gated: Gated) -> None:
    """However many there are."""
    _, last = behind(Lane(gated, 1), gated, 3, lambda own: own / 2)
    assert last.path_reason == "deadline"


@pytest.mark.parametrize("threads", [1, 3])
def test_no_more_run_at_once_than_there_are_threads(gated: Gated, threads: int) -> None:
    """And as many as that do."""
    lane = Lane(gated, threads)
    gated.enter = threading.Barrier(threads).wait  # nobody goes on alone
    assert {scores.path for scores in together(lane, [PROMPT] * 4 * threads, PATIENT_MS)} == {"accurate"}
    assert gated.most == threads


def test_the_event_loop_goes_on_while_a_request_is_looked_at_twice(gated: Gated) -> None:
    """Others are answered by the fast path meanwhile."""
    lane, gate = Lane(gated, 1), threading.Event()
    gated.enter = gate.wait

    async def scenario() -> Scores:
        task = asyncio.create_task(lane.score(PROMPT, fast_of(gated, PROMPT), PATIENT_MS))
        await asyncio.sleep(0)
        gate.set()  # which would never come about if the loop waited
        return await task

    assert asyncio.run(scenario()).path == "accurate"


# what is promised is given back


def has_room(lane: Lane) -> bool:
    """Whether a lane has promised nothing to anybody: there is room for a request with not the least time to spare."""
    return asked(lane, PROMPT, lane.estimate_ms(PROMPT)).path == "accurate"


def test_a_request_that_is_done_leaves_its_room_to_the_next(lane: Lane) -> None:
    """Every one of many."""
    assert all(has_room(lane) for _ in range(5))


def test_an_error_in_scoring_is_raised_to_the_one_that_asked(serving_router: Router) -> None:
    """Whose answer it is; nothing is made up in its stead."""
    failing = Failing(serving_router)
    lane = Lane(failing, 1)
    failing.fails = True
    with pytest.raises(ZeroDivisionError):
        asked(lane, PROMPT, PATIENT_MS)


def test_a_request_that_failed_leaves_its_room_to_the_next(serving_router: Router) -> None:
    """And the lane goes on."""
    failing = Failing(serving_router)
    lane = Lane(failing, 1)
    failing.fails = True
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            asked(lane, PROMPT, PATIENT_MS)
    failing.fails = False
    assert has_room(lane)


def test_a_request_that_was_turned_away_takes_no_room(lane: Lane) -> None:
    """Nothing was promised to it."""
    for _ in range(5):
        asked(lane, PROMPT, 0)
    assert has_room(lane)


def test_a_request_whose_caller_has_gone_leaves_its_room_to_the_next(gated: Gated) -> None:
    """A lane does not fill up with answers that nobody waits for."""
    lane, gate = Lane(gated, 1), threading.Event()
    gated.enter = gate.wait

    async def scenario() -> None:
        task = asyncio.create_task(lane.score(PROMPT, fast_of(gated, PROMPT), PATIENT_MS))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gate.set()

    asyncio.run(scenario())
    assert has_room(lane)


def test_a_crowd_leaves_all_of_its_room(lane: Lane) -> None:
    """But for the last bits of a sum."""
    together(lane, PROMPTS * 6, PATIENT_MS)
    assert asked(lane, PROMPT, lane.estimate_ms(PROMPT) * (1 + 1e-9)).path == "accurate"


# what runs teach


def slowed(lane: Lane, paced: Paced, pace: float, runs: int = 60) -> None:
    """Let requests through, one after another, while the accurate path takes ``pace`` times as long as its probes did."""
    paced.pace = pace
    fast = fast_of(paced, PROMPT)

    async def ask() -> None:
        for _ in range(runs):
            await lane.score(PROMPT, fast, PATIENT_MS)

    asyncio.run(ask())


def refused(lane: Lane, times: int) -> list[float]:
    """Let requests come too late, one after another; the estimate after each."""
    fast, estimates = fast_of(lane.router, PROMPT), []

    async def ask() -> None:
        for _ in range(times):
            assert (await lane.score(PROMPT, fast, 0)).path_reason == "deadline"
            estimates.append(lane.estimate_ms(PROMPT))

    asyncio.run(ask())
    return estimates


@pytest.mark.parametrize("pace", [1.0, 1.5, 4.0])
def test_the_estimate_follows_what_runs_take(lane: Lane, paced: Paced, pace: float) -> None:
    """A machine that has got busy is slower than its probes."""
    before = lane.estimate_ms(PROMPT)
    slowed(lane, paced, pace)
    assert lane.estimate_ms(PROMPT) == pytest.approx(pace * before, rel=0.03)


def test_one_slow_run_is_no_slow_machine(lane: Lane, paced: Paced) -> None:
    """A hiccup moves the estimate by a tenth of what it was off."""
    before = lane.estimate_ms(PROMPT)
    slowed(lane, paced, 3.0, runs=1)
    assert lane.estimate_ms(PROMPT) == pytest.approx(1.2 * before, rel=0.02)


def test_slowness_passes_with_quicker_runs(lane: Lane, paced: Paced) -> None:
    """The estimate comes back to what the probes said."""
    before = lane.estimate_ms(PROMPT)
    slowed(lane, paced, 3.0)
    slowed(lane, paced, 1.0)
    assert lane.estimate_ms(PROMPT) == pytest.approx(before, rel=0.03)


def test_runs_that_were_let_in_together_teach_what_each_of_them_took(lane: Lane, paced: Paced) -> None:
    """No more: a burst on a machine at half its pace doubles the estimate at most."""
    before = lane.estimate_ms(PROMPT)
    paced.pace = 2.0
    together(lane, [PROMPT] * 100, PATIENT_MS)
    assert lane.estimate_ms(PROMPT) <= 2.05 * before


def test_a_failed_run_teaches_nothing(serving_router: Router) -> None:
    """How long it took says nothing of the others."""
    failing = Failing(serving_router)
    lane = Lane(failing, 1)
    before = lane.estimate_ms(PROMPT)
    failing.fails = True
    with pytest.raises(ZeroDivisionError):
        asked(lane, PROMPT, PATIENT_MS)
    assert lane.estimate_ms(PROMPT) == before


# what refusals make it forget


def test_slowness_is_forgotten_with_refusals(lane: Lane, paced: Paced) -> None:
    """A little with each."""
    slowed(lane, paced, 3.0)
    estimates = refused(lane, 20)
    assert estimates == sorted(estimates, reverse=True)
    assert len(set(estimates)) == len(estimates)
    assert estimates[1] > 0.95 * estimates[0]


def test_no_refusal_lets_the_estimate_fall_below_the_probes(lane: Lane, paced: Paced) -> None:
    """However many there are."""
    before = lane.estimate_ms(PROMPT)
    slowed(lane, paced, 3.0)
    assert refused(lane, 200)[-1] == before


def test_refusals_alone_change_no_estimate(lane: Lane) -> None:
    """There is nothing to forget."""
    before = lane.estimate_ms(PROMPT)
    assert set(refused(lane, 20)) == {before}


def test_slowness_is_forgotten_with_refusals_for_load_as_well(lane: Lane, paced: Paced) -> None:
    """Those that are turned away because of others."""
    slowed(lane, paced, 3.0)
    slow = lane.estimate_ms(PROMPT)
    found = together(lane, [PROMPT] * 4, 1.5 * slow)
    assert [scores.path_reason for scores in found] == ["close", "load", "load", "load"]
    assert lane.estimate_ms(PROMPT) < 0.98 * slow


def test_a_lane_that_turns_everybody_away_opens_again(lane: Lane, paced: Paced) -> None:
    """The crowd may have gone, and nobody would tell it."""
    left_ms = 1.5 * lane.estimate_ms(PROMPT)
    slowed(lane, paced, 3.0)
    assert asked(lane, PROMPT, left_ms).path_reason == "deadline"
    paced.pace = 1.0
    assert any(asked(lane, PROMPT, left_ms).path == "accurate" for _ in range(100))


def test_a_lane_holds_no_text(lane: Lane) -> None:
    """Only numbers are learned."""
    asked(lane, from_text("zqxsecretjv"), PATIENT_MS)
    held: dict[str, Any] = {name: value for name, value in vars(lane).items() if not isinstance(value, float | int)}
    assert set(held) == {"router", "_pool", "_length"}
