"""python -m serve.label in.jsonl -o out.jsonl: add a tier to every line."""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from classifier import Router
from classifier.bundle import find
from classifier.errors import PointsmanError
from classifier.router import CATALOG, MODELS
from classifier.types import Path as ScorePath
from serve.label.engine import run


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m serve.label",
        description="Add to every line of a JSONL file the tier that its prompt needs. Lines hold `prompt` or `messages`; everything else is kept.",
        epilog="Exit code 0: every line is labelled; 1: some lines are in OUT.errors.jsonl; 2: nothing could be done.",
    )
    result.add_argument("input", type=Path, help="JSONL file")
    result.add_argument("-o", "--output", type=Path, required=True, help="JSONL file to write; replaced only when the run is complete")
    result.add_argument("--field", default="pointsman", help="where the decision is put in each line (%(default)s)")
    result.add_argument("--bundle", type=Path, default=MODELS, help="a bundle, or a folder of bundles with CURRENT (%(default)s)")
    result.add_argument("--catalog", type=Path, default=CATALOG, help="which models stand behind the tiers (%(default)s)")
    result.add_argument("--path", choices=get_args(ScorePath), default="auto", help="how much time to spend on a prompt (%(default)s)")
    result.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Label a file; see the exit codes in ``--help``."""
    arguments = parser().parse_args(argv)
    console = Console(stderr=True)
    if arguments.workers < 1:
        return _fail(f"--workers: found {arguments.workers}, expected 1 or more")
    try:
        for file in _written(arguments.output):
            if file.exists() and file.samefile(arguments.input):
                return _fail(f"{file} is the input, and would be written over")
        arguments.bundle = find(arguments.bundle)  # one bundle for the whole run, wherever CURRENT moves
        return _label(arguments, Router.load(arguments.bundle, arguments.catalog), console)
    except (PointsmanError, OSError) as error:
        return _fail(str(error))


def _written(output: Path) -> tuple[Path, Path, Path]:
    """(the result, where it is written until it is complete, where lines that cannot be labelled are named)."""
    return output, output.with_name(output.name + ".partial"), output.with_name(f"{output.stem}.errors.jsonl")


def _label(arguments: argparse.Namespace, router: Router, console: Console) -> int:
    output, partial, errors_file = _written(arguments.output)
    if output.is_dir():
        return _fail(f"{output} is a folder, expected a file to write")
    total, failed, start = Counter[str](), 0, time.perf_counter()
    columns = (
        TextColumn("labelling"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rate]:,.0f} lines/s"),
        TimeRemainingColumn(),
    )
    with ExitStack() as stack:
        source = stack.enter_context(arguments.input.open("rb"))
        target = stack.enter_context(partial.open("wb"))
        errors = stack.enter_context(errors_file.open("w", encoding="utf-8"))
        progress = stack.enter_context(Progress(*columns, console=console, transient=not console.is_terminal))
        task = progress.add_task("", total=arguments.input.stat().st_size, rate=0.0)
        for result, size in run(source, router, arguments.bundle, arguments.catalog, arguments.field, arguments.path, arguments.workers):
            target.writelines(result.lines)
            total.update(result.tiers)
            failed += len(result.errors)
            for number, reason in result.errors:
                errors.write(json.dumps({"file": str(arguments.input), "line": number, "error": reason}) + "\n")
            rate = (total.total() + failed) / (time.perf_counter() - start)
            progress.update(task, advance=size, rate=rate)
    partial.replace(output)
    if not failed:
        errors_file.unlink()
    mix = ", ".join(f"{tier} {count}" for tier, count in sorted(total.items()))
    console.print(
        f"{total.total()} lines labelled in {time.perf_counter() - start:.1f} s ({mix or 'none'}) -> {output}",
        highlight=False,
        soft_wrap=True,
    )
    if failed:
        console.print(f"{failed} lines could not be labelled: see {errors_file}", highlight=False, soft_wrap=True)
    return 1 if failed else 0


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
