"""The server over loopback HTTP, beside a bare echo of the same bodies: latency, throughput, start and memory."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import corpus
from benchmarks.bench import Bench
from benchmarks.inprocess import MILLION_BUDGET
from benchmarks.memory import resident_mib
from benchmarks.server import Server, running
from benchmarks.table import Budget, Row
from benchmarks.timing import there_and_back

ROUNDS = 5
STARTS = 3
CLIENTS = (8, 16)

Rounds = dict[str, list[dict[str, float]]]


def http(bench: Bench) -> Iterator[Row]:
    """One client."""
    prompts = upto_8k(bench)
    rounds = _alternate(bench, prompts, 1, bench.count(1_000), ROUNDS)
    yield Row(
        "http",
        "one client, prompts up to 8 kB (peer: echo)",
        "ms",
        medians(rounds["ours"], "p50", "p99"),
        medians(rounds["echo"], "p50", "p99"),
        _ratio(rounds, "echo", "ours", "p50"),
        "echo/ours p50",
        Budget("p99", "<", 5.0),
    )
    count = bench.count(200)
    rounds = _alternate(bench, million(bench), 1, count, 1)
    yield Row(
        "http",
        f"one client, 1 MiB, {count} calls (peer: echo)",
        "ms",
        medians(rounds["ours"], "p50", "p99", "max"),
        medians(rounds["echo"], "p50", "p99", "max"),
        _ratio(rounds, "echo", "ours", "p50"),
        "echo/ours p50",
        MILLION_BUDGET,
    )


def throughput(bench: Bench) -> Iterator[Row]:
    """As many as one worker can answer."""
    for clients in CLIENTS:
        rounds = _alternate(bench, corpus.FILE, clients, bench.count(4_000), ROUNDS)
        yield Row(
            "throughput",
            f"{clients} clients (peer: echo)",
            "req/s",
            medians(rounds["ours"], "rate"),
            medians(rounds["echo"], "rate"),
            _ratio(rounds, "ours", "echo", "rate"),
            "ours/echo",
            Budget("ratio", ">=", 0.35),
        )
        # A generator that fills its core would cap the echo, and flatter us.
        busy = {f"beside {name}": median(one["busy"] for one in figures) for name, figures in rounds.items()}
        yield Row("throughput", f"{clients} clients: load generator", "of a core", busy, budget=Budget("beside echo", "<", 0.95))


def process(bench: Bench) -> Iterator[Row]:
    """Start and memory."""
    yield start("server", bench.serving(), 2.5)
    bench.load(bench.ours, corpus.FILE, CLIENTS[0], bench.count(2_000))
    yield memory("server", bench.ours, 250.0)


def upto_8k(bench: Bench) -> Path:
    """A file of prompts of every length that is usual."""
    return bench.file("upto8k.jsonl", *corpus.read(), *corpus.longest())


def million(bench: Bench) -> Path:
    """A file of one prompt of 1 MiB."""
    return bench.file("million.jsonl", corpus.joined(corpus.MIB))


def start(section: str, flags: tuple[str, ...], limit: float) -> Row:
    """How long a server with ``flags`` takes to be ready, and the seconds it has for it."""
    seconds = []
    for _ in range(STARTS):
        with running("serve", *flags) as server:
            seconds.append(server.ready_seconds)
    return Row(section, "start of the process to /readyz", "s", {"median": median(seconds)}, budget=Budget("median", "<", limit))


def memory(section: str, server: Server, limit: float) -> Row:
    """What a server holds by now, and the MiB that it may."""
    resident = {"resident": resident_mib(server.process.pid)}
    return Row(section, "memory of the worker after the run", "MiB", resident, budget=Budget("resident", "<", limit))


def _alternate(bench: Bench, prompts: Path, clients: int, requests: int, rounds: int) -> Rounds:
    """The figures of ours and echo, by round, after a short warm-up of both."""
    servers = {"ours": bench.ours, "echo": bench.echo}
    result: Rounds = {name: [] for name in servers}
    for server in servers.values():
        bench.load(server, prompts, clients, min(requests, 50))
    for order in there_and_back(list(servers), rounds):
        for name in order:
            result[name].append(bench.load(servers[name], prompts, clients, requests))
    return result


def medians(rounds: list[dict[str, float]], *names: str) -> dict[str, float]:
    """Figure by figure, over the rounds."""
    return {name: median(one[name] for one in rounds) for name in names}


def _ratio(rounds: Rounds, above: str, below: str, figure: str) -> float:
    """The median of the rounds' own ratios: what slows the machine for a while slows both."""
    return median(one[figure] / other[figure] for one, other in zip(rounds[above], rounds[below], strict=True))
