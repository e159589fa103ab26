"""python -m benchmarks: one table of latency, throughput, memory and peers, with the budgets beside the figures."""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.auto import auto
from benchmarks.batch import batch
from benchmarks.bench import PATH, Bench
from benchmarks.inprocess import beside_peers, decision
from benchmarks.server import BrokenError
from benchmarks.serving import http, process, throughput
from benchmarks.table import Row, render
from classifier.bundle import find
from classifier.errors import PointsmanError
from classifier.router import MODELS

SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "decision": decision,
    "auto": auto,
    "peers": beside_peers,  # behind decision: what it imports would weigh on the other figures
    "http": http,
    "throughput": throughput,
    "server": process,
    "batch": batch,
}
_PACKAGES = ("fastapi", "litellm", "numpy", "onnxruntime", "pydantic", "tokenizers", "uvicorn", "uvloop")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure decisions, server and batch labelling on benchmarks/corpus.jsonl, in turn with their peers.",
        epilog="Ratios are the headline: absolute times drift with the machine. Exit code 0 whatever is missed; 1: something broke.",
    )
    result.add_argument("--quick", action="store_true", help="a tenth of the counts: shows that everything runs, measures little")
    result.add_argument("--only", nargs="+", choices=tuple(SECTIONS), default=tuple(SECTIONS), help="sections to run (all)")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures there as well")
    result.add_argument("--bundle", type=Path, default=MODELS, help="a bundle, or a folder of bundles with CURRENT (models/)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Exit code 1: something that was to be measured does not work."""
    arguments = parser().parse_args(argv)
    rows: list[Row] = []
    broken = ""
    try:
        about = _about(find(arguments.bundle), quick=arguments.quick)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            bench = Bench(arguments.bundle, folder, stack, quick=arguments.quick)
            for name in (name for name in SECTIONS if name in arguments.only):
                print(f"measuring: {name}", file=sys.stderr)
                rows.extend(SECTIONS[name](bench))
    except (BrokenError, PointsmanError) as error:
        broken = str(error)
    if rows:
        print(", ".join(f"{name} {value}" for name, value in about.items() if name != "packages") + "\n")
        print(render(rows))
        if arguments.json:
            text = json.dumps({"about": about, "rows": [row.to_json() for row in rows]}, indent=2)
            arguments.json.write_text(text + "\n", encoding="utf-8")
    if broken:
        print(broken, file=sys.stderr)
    return 1 if broken else 0


def _about(bundle: Path, *, quick: bool) -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "bundle": bundle.name,
        "path": f"{PATH} (save in section auto)",
        "run": "quick" if quick else "full",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else "n/a",
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
