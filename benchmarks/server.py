"""Starts and ends the project's own commands: servers on a free loopback port, and single requests to them."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CHECKOUT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
_PATIENCE = 60.0  # seconds until a server must be ready
_POLL = 0.01


class BrokenError(Exception):
    """What was to be measured or tried does not work."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and how many seconds it took from the start of its process until /readyz said 200."""

    process: subprocess.Popen[bytes]
    port: int
    ready_seconds: float

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """One request over a connection of its own. OSError or HTTPException where there is no answer."""
        return _request(self.port, method, path, body)

    def stop(self) -> int:
        """Ask the process to end and wait for it; its exit code, negative for a signal. Killed after 20 s."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def command(module: str, *arguments: str | Path) -> list[str]:
    """``python -m module ...`` with this interpreter; to be run in the checkout."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def environment() -> dict[str, str]:
    """This process' own, without the settings of a server that the user may run."""
    return {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}


@contextmanager
def running(module: str, *arguments: str | Path) -> Iterator[Server]:
    """``python -m module --port PORT ...``, ready; ended on leaving.

    Raises:
        BrokenError: it ended or was not ready in time; with the last lines that it wrote.
    """
    with tempfile.TemporaryFile() as log:
        port = _free_port()
        start = time.perf_counter()
        process = subprocess.Popen(
            command(module, "--port", str(port), *arguments), cwd=CHECKOUT, env=environment(), stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait(process, port, log)
            server = Server(process, port, time.perf_counter() - start)
            yield server
        finally:
            Server(process, port, 0.0).stop()


def tail(log: IO[bytes]) -> str:
    """The last lines of a log, for a message."""
    log.seek(max(log.seek(0, os.SEEK_END) - 2_000, 0))
    return log.read().decode(errors="replace").strip()


def _wait(process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    deadline = time.perf_counter() + _PATIENCE
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise BrokenError(f"{process.args!r} ended with {process.returncode} before it was ready:\n{tail(log)}")
        try:
            if _request(port, "GET", "/readyz", None).status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(_POLL)
    raise BrokenError(f"{process.args!r} was not ready after {_PATIENCE:g} s:\n{tail(log)}")


def _request(port: int, method: str, path: str, body: bytes | None) -> Answer:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
        response = connection.getresponse()
        return Answer(response.status, response.headers.get_content_type(), response.read())
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
