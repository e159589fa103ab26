"""Decisions in this process: latency by length, and side by side with LiteLLM's routers."""

import gc
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from statistics import fmean, median

from benchmarks import corpus, peers
from benchmarks.bench import PATH, Bench
from benchmarks.table import Budget, Row
from benchmarks.timing import percentile, seconds_each, there_and_back
from classifier import Router, from_text

ROUNDS = 5
MILLION_BUDGET = Budget("p99", "<=", 20.0)  # ms, of 200 calls
EXPLAINED_BUDGET = Budget("p99", "<", 5.0)  # ms


def decision(bench: Bench) -> Iterator[Row]:
    """Text -> decision, by length of the text."""
    decide = _decide(bench)
    bands = corpus.bands()
    calls = bench.count(400)
    times: dict[int, list[list[float]]] = {band: [] for band in bands}
    for order in there_and_back(list(bands), ROUNDS):
        for band in order:
            times[band].append(seconds_each(decide, islice(cycle(bands[band]), calls)))
    for band, rounds in times.items():
        shares = {"p50": 0.5, "p99": 0.99}
        figures = {name: median(percentile(one, share) for one in rounds) * 1e6 for name, share in shares.items()}
        yield Row("decision", f"<= {band:,} chars ({len(bands[band])} prompts)", "us", figures)
    count = bench.count(200)
    ms = [second * 1e3 for second in seconds_each(decide, corpus.numbered([corpus.joined(corpus.MIB)], count))]
    yield Row("decision", f"1 MiB, {count} calls", "ms", tail(ms), budget=MILLION_BUDGET)
    texts = corpus.unbroken()
    ms = [second * 1e3 for second in seconds_each(decide, islice(cycle(texts), bench.count(40)))]
    yield Row("decision", f"1 MiB without a space ({len(texts)} kinds)", "ms", tail(ms), budget=MILLION_BUDGET)
    yield _explained(bench)


def _explained(bench: Bench) -> Row:
    """Text -> decision and what moved it."""
    router = ready_router(bench)
    if router.typical is None:
        return Row("decision", "explained, whole corpus", note="skipped: this bundle has no typical values")

    def explain(text: str) -> object:
        prompt = from_text(text)
        (decision,) = router.route((prompt,), path=PATH)
        return router.explain(prompt, decision)

    ms = [second * 1e3 for second in seconds_each(explain, islice(cycle(corpus.read()), bench.count(1_000)))]
    return Row("decision", "explained, whole corpus", "ms", tail(ms), budget=EXPLAINED_BUDGET)


def beside_peers(bench: Bench) -> Iterator[Row]:
    """The same prompts through LiteLLM's routers, in turn with ours."""
    found = peers.load()
    ours = _decide(bench)
    calls = {"ours": ours} | {peer.name: peer.call for peer in found if peer.call is not None}
    rounds = max(bench.count(30), 3)
    # Prompts of one length: p50, which a pause of the machine does not move. Of all lengths: the mean, which is what they cost.
    for what, prompts, figure in (("median prompts", corpus.median(), "p50"), ("whole corpus", corpus.read(), "mean")):
        seconds = _rounds(calls, prompts, rounds, median if figure == "p50" else fmean)
        for peer in found:
            if peer.call is None:
                yield Row("peers", f"{what}: LiteLLM {peer.name}", note=f"skipped: {peer.reason}")
                continue
            ratio = median(theirs / mine for theirs, mine in zip(seconds[peer.name], seconds["ours"], strict=True))
            yield Row(
                "peers",
                f"{what}: LiteLLM {peer.name}",
                "us",
                {figure: median(seconds["ours"]) * 1e6},
                {figure: median(seconds[peer.name]) * 1e6},
                ratio,
                "peer/ours",
                Budget("ratio", ">", 1.0, goal=4.0) if figure == "p50" and peer.name == peers.COMPLEXITY else None,
            )


def _rounds(
    calls: dict[str, Callable[[str], object]], prompts: tuple[str, ...], rounds: int, figure: Callable[[list[float]], float]
) -> dict[str, list[float]]:
    """``figure`` of the seconds a call, by name and round; a round has each of them do all prompts."""
    result: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():  # regular expressions compile, caches fill
        seconds_each(call, prompts)
    for order in there_and_back(list(calls), rounds):
        for name in order:
            result[name].append(figure(seconds_each(calls[name], prompts)))
    return result


def tail(times: list[float]) -> dict[str, float]:
    """What a list of times comes to."""
    return {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99), "max": max(times)}


def ready_router(bench: Bench) -> Router:
    """The bundle that is measured, as a server holds it."""
    router = Router.load(bench.bundle)
    router.warm()
    # What was loaded (by peers too) is not walked in every collection.
    gc.collect()
    gc.freeze()
    return router


def _decide(bench: Bench) -> Callable[[str], object]:
    router = ready_router(bench)
    return lambda text: router.route((from_text(text),), path=PATH)
