"""The path that a server takes unless told otherwise: the accurate one where it can change the decision and is in time."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks import corpus
from benchmarks.bench import Bench
from benchmarks.inprocess import ready_router, tail
from benchmarks.server import Server, running
from benchmarks.serving import CLIENTS, medians, memory, million, start, upto_8k
from benchmarks.table import Budget, Row
from benchmarks.timing import seconds_each
from classifier import Decision, Router, from_text
from classifier.types import Path as ScorePath

ROUNDS = 3
OPEN = 64  # connections of the open loop: more than are ever in use by a server that keeps up
_MEDIAN_BUDGET = Budget("p50", "<", 3.0)  # ms
_TAIL_BUDGET = Budget("p99", "<", 20.0)  # ms

Outcomes = Counter[str]
"""How many decisions went which way: ``accurate``, or why the fast path had the last word."""


def auto(bench: Bench) -> Iterator[Row]:
    """In this process, and over HTTP: alone, at half of what the server can do, with long prompts; start and memory."""
    router = ready_router(bench)
    if router.accurate is None:
        yield Row("auto", "accurate path", note="skipped: this bundle has none")
        return
    yield from _in_process(bench, router)
    with running("serve", *bench.serving("auto")) as server:
        yield from _one_client(bench, server)
        yield from _half_of_capacity(bench, server)
        yield from _million(bench, server)
        yield memory("auto", server, 350.0)
    yield start("auto", bench.serving("auto"), 3.0)


def _in_process(bench: Bench, router: Router) -> Iterator[Row]:
    for name, prompts in (("whole corpus", corpus.read()), ("median prompts", corpus.median())):
        decide = _decide(router, "auto")
        ms = _milliseconds(decide, prompts, bench.count(1_000))
        yield Row("auto", f"decision, {name}", "ms", tail(ms), budget=_MEDIAN_BUDGET)
        yield _shares(f"decision, {name}", Counter(_outcome(decide(prompt)) for prompt in prompts))
    for band, prompts in corpus.bands().items():
        ms = _milliseconds(_decide(router, "accurate"), prompts, bench.count(200))
        yield Row("auto", f"decision on accurate, <= {band:,} chars ({len(prompts)} prompts)", "ms", tail(ms))


def _one_client(bench: Bench, server: Server) -> Iterator[Row]:
    what = "one client, prompts up to 8 kB"
    rounds, outcomes = _rounds(bench, server, upto_8k(bench), 1, bench.count(1_000))
    yield Row("auto", what, "ms", medians(rounds, "p50"), budget=_MEDIAN_BUDGET)
    yield Row("auto", what, "ms", medians(rounds, "p99", "max"), budget=_TAIL_BUDGET)
    yield _shares(what, outcomes)


def _half_of_capacity(bench: Bench, server: Server) -> Iterator[Row]:
    what = f"capacity: {CLIENTS[0]} clients"
    rounds, outcomes = _rounds(bench, server, corpus.FILE, CLIENTS[0], bench.count(2_000))
    capacity = medians(rounds, "rate")
    yield Row("auto", what, "req/s", capacity)
    yield _shares(what, outcomes)
    rate = max(round(capacity["rate"] / 2), 1)
    what = f"half of capacity: {rate} req/s"
    rounds, outcomes = _rounds(bench, server, corpus.FILE, OPEN, bench.count(2_000), rate)
    yield Row("auto", what, "ms", medians(rounds, "p50", "p99", "max"), budget=_TAIL_BUDGET)
    yield _shares(what, outcomes)


def _million(bench: Bench, server: Server) -> Iterator[Row]:
    count = bench.count(200)
    figures = bench.load(server, million(bench), 1, count)
    yield Row("auto", f"one client, 1 MiB, {count} calls", "ms", medians([figures], "p50", "p99", "max"), budget=Budget("p99", "<=", 25.0))


def _decide(router: Router, path: ScorePath) -> Callable[[str], Decision]:
    return lambda text: router.route((from_text(text),), path=path)[0]


def _milliseconds(decide: Callable[[str], object], prompts: tuple[str, ...], calls: int) -> list[float]:
    return [second * 1e3 for second in seconds_each(decide, islice(cycle(prompts), calls))]


def _rounds(
    bench: Bench, server: Server, prompts: Path, clients: int, requests: int, rate: int | None = None
) -> tuple[list[dict[str, float]], Outcomes]:
    """Figures by round, after a short warm-up, and what became of the requests of all rounds."""
    bench.load(server, prompts, clients, min(requests, 50))
    before = _outcomes(server)
    rounds = [bench.load(server, prompts, clients, requests, rate) for _ in range(ROUNDS)]
    return rounds, _outcomes(server) - before


def _outcomes(server: Server) -> Outcomes:
    """Of all decisions since the server started, by its own count."""
    result = Outcomes()
    for family in text_string_to_metric_families(server.request("GET", "/metrics").body.decode()):
        for sample in family.samples:
            if sample.name == "pointsman_decisions_total":
                result[_outcome_of(sample.labels["path"], sample.labels["path_reason"])] += int(sample.value)
    return result


def _outcome(decision: Decision) -> str:
    return _outcome_of(decision.scores.path, decision.scores.path_reason)


def _outcome_of(path: str, path_reason: str) -> str:
    return path if path == "accurate" else path_reason


def _shares(what: str, outcomes: Outcomes) -> Row:
    total = max(outcomes.total(), 1)
    shares = {name: outcomes[name] / total for name in ("accurate", "clear", "deadline", "load")}
    return Row("auto", f"{what}: paths", "of all", shares)
