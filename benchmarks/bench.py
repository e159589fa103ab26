"""What the sections of one run share: how many calls, which bundle, and two servers, started when first asked for."""

import json
import subprocess
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from benchmarks import corpus
from benchmarks.server import CHECKOUT, BrokenError, Server, command, environment, running
from classifier.types import Path as ScorePath

PATH: Final = "fast"  # the path that is measured by every section that does not say otherwise


class Bench:
    """One run. ``folder`` is for temporary files; what is started ends with ``stack``."""

    def __init__(self, bundle: Path, folder: Path, stack: ExitStack, *, quick: bool) -> None:
        self.bundle, self.folder, self.quick = bundle.resolve(), folder, quick
        self._stack = stack
        self._sent = 1

    def count(self, full: int) -> int:
        """``full``, or a tenth of it in a quick run."""
        return full // 10 if self.quick else full

    def serving(self, path: ScorePath = PATH) -> tuple[str, ...]:
        """The flags of a server or of the batch labeller that is measured."""
        return ("--bundle", str(self.bundle), "--path", path)

    @cached_property
    def ours(self) -> Server:
        """The server that is measured."""
        return self._stack.enter_context(running("serve", *self.serving()))

    @cached_property
    def echo(self) -> Server:
        """What it is compared with."""
        return self._stack.enter_context(running("benchmarks.echo"))

    def load(self, server: Server, prompts: Path, clients: int, requests: int, rate: int | None = None) -> dict[str, float]:
        """The figures of ``benchmarks.load`` in a process of its own; no request of a run is like another.

        Raises:
            BrokenError: the server failed.
        """
        options = {"--port": server.port, "--clients": clients, "--requests": requests, "--first": self._sent, "--seconds": 60}
        options |= {} if rate is None else {"--rate": rate}
        words = [str(word) for option in options.items() for word in option]
        self._sent += requests
        load = command("benchmarks.load", prompts, *words)
        try:
            done = subprocess.run(load, cwd=CHECKOUT, env=environment(), capture_output=True, check=False, timeout=120)
        except subprocess.TimeoutExpired as error:
            raise BrokenError("the load generator did not end") from error
        if done.returncode:
            raise BrokenError(f"the load generator failed: {done.stderr.decode(errors='replace').strip()}")
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures

    def file(self, name: str, *prompts: str) -> Path:
        """A temporary JSONL file of prompts."""
        return corpus.write(prompts, self.folder / name)
