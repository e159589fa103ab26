"""Batch labelling: lines a second and memory of python -m serve.label."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import corpus
from benchmarks.bench import Bench
from benchmarks.memory import resident_mib, tree_mib
from benchmarks.server import CHECKOUT, BrokenError, command, environment, tail
from benchmarks.table import Budget, Row

ROUNDS = 3
_EVERY = 0.1  # seconds between two looks at the memory


@dataclass(frozen=True, slots=True)
class Labelling:
    """One run. ``samples`` are (MiB of the parent, MiB of parent and children) in order of time; empty without /proc."""

    seconds: float
    samples: list[tuple[float, float]]

    @property
    def growth(self) -> float | None:
        """Highest memory in the last half of the run over the highest in the second quarter, when all workers are up."""
        totals = [total for _, total in self.samples]
        quarter = len(totals) // 4
        return max(totals[2 * quarter :]) / max(totals[quarter : 2 * quarter]) if quarter else None


def batch(bench: Bench) -> Iterator[Row]:
    """Median prompts, each made different by a number."""
    lines = bench.count(50_000)
    source = corpus.write(corpus.numbered(corpus.median(), lines), bench.folder / "batch.jsonl")
    runs = [_label(bench, source, lines) for _ in range(1 if bench.quick else ROUNDS)]
    rate = {"rate": lines / median(run.seconds for run in runs)}
    yield Row("batch", f"{lines:,} median prompts, start included", "lines/s", rate, budget=Budget("rate", ">=", 5_000.0))
    samples = [sample for run in runs for sample in run.samples]
    peaks = {
        "parent": max((parent for parent, _ in samples), default=None),
        "all processes": max((total for _, total in samples), default=None),
    }
    yield Row("batch", "peak memory", "MiB", peaks)
    # Most of a short run is start, when memory has to grow.
    growths = [run.growth for run in runs if run.growth is not None]
    growth = {"last half / second quarter": median(growths) if growths else None}
    yield Row("batch", "memory over time", "", growth, budget=None if bench.quick else Budget("last half / second quarter", "<=", 1.1))


def _label(bench: Bench, source: Path, lines: int) -> Labelling:
    target = source.with_suffix(".out.jsonl")
    samples: list[tuple[float, float]] = []
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            command("serve.label", source, "-o", target, *bench.serving()), cwd=CHECKOUT, env=environment(), stdout=log, stderr=log
        )
        try:
            while process.poll() is None:
                parent, total = resident_mib(process.pid), tree_mib(process.pid)
                if parent is not None and total is not None:
                    samples.append((parent, total))
                time.sleep(_EVERY)
            seconds = time.perf_counter() - start
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode:
            raise BrokenError(f"serve.label ended with {process.returncode}:\n{tail(log)}")
    with target.open("rb") as written:
        found = sum(1 for _ in written)
    if found != lines:
        raise BrokenError(f"serve.label wrote {found} lines, expected {lines}")
    return Labelling(seconds, samples)
