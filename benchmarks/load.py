"""python -m benchmarks.load: POST prompts to a server on this machine and print what it took, as JSON.

One thread and one selector over keep-alive connections, each with one request in flight. All but the number at a prompt's
end is rendered before the clock starts; the number makes every request differ, so that no cache answers. Talks to
127.0.0.1 alone, and no longer or more often than it is told.
"""

import argparse
import json
import re
import selectors
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.timing import percentile

HOST = "127.0.0.1"
_STALLED = 20.0  # seconds without any answer
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class LoadError(Exception):
    """The server closed, stalled, or answered with something else than 200."""


@dataclass(slots=True)
class Client:
    """A connection with one request in flight."""

    connection: socket.socket
    started: float = 0.0
    buffer: bytearray = field(default_factory=bytearray)

    def send(self, request: bytes) -> None:
        """Start the clock and send."""
        self.started = time.perf_counter()
        self.connection.sendall(request)

    def receive(self) -> bool:
        """Take what has come; whether the response is complete.

        Raises:
            LoadError: it never will be, or it is no 200.
        """
        chunk = self.connection.recv(1 << 18)
        if not chunk:
            raise LoadError("the server closed the connection")
        self.buffer += chunk
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        if not self.buffer.startswith(b"HTTP/1.1 200 "):
            raise LoadError(f"the server answered {bytes(self.buffer[:40])!r}")
        length = _LENGTH.search(self.buffer, 0, end + 2)
        if length is None:
            raise LoadError("the response has no content-length")
        if len(self.buffer) < end + 4 + int(length[1]):
            return False
        self.buffer.clear()
        return True


def template(prompt: str) -> bytes:
    """A request up to the nine digits that end its prompt."""
    body = json.dumps({"prompt": f"{prompt} #"}, ensure_ascii=False).removesuffix('"}').encode()
    head = f"POST /route HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body) + 11}\r\n\r\n"
    return head.encode() + body


def drive(port: int, templates: Sequence[bytes], clients: int, requests: int, seconds: float, first: int = 0) -> dict[str, float]:
    """Send ``requests``, numbered from ``first``, over ``clients`` connections; none any more after ``seconds``.

    Returns requests answered, seconds, requests a second, latencies in ms, and the share of one core that this process used.
    """
    pool = [Client(socket.create_connection((HOST, port), timeout=_STALLED)) for _ in range(clients)]
    times: list[float] = []
    sent = 0
    with selectors.DefaultSelector() as selector:
        for client in pool:
            client.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(client.connection, selectors.EVENT_READ, client)
        busy, start = time.process_time(), time.perf_counter()
        for client in pool[:requests]:
            client.send(templates[sent % len(templates)] + b'%09d"}' % (first + sent))
            sent += 1
        while len(times) < sent:
            ready = selector.select(_STALLED)
            if not ready:
                raise LoadError(f"no answer for {_STALLED:g} s")
            for key, _ in ready:
                if not key.data.receive():
                    continue
                now = time.perf_counter()
                times.append(now - key.data.started)
                if sent < requests and now - start < seconds:
                    key.data.send(templates[sent % len(templates)] + b'%09d"}' % (first + sent))
                    sent += 1
        wall, busy = time.perf_counter() - start, time.process_time() - busy
    for client in pool:
        client.connection.close()
    return {
        "requests": sent,
        "seconds": wall,
        "rate": sent / wall,
        "p50": percentile(times, 0.5) * 1e3,
        "p99": percentile(times, 0.99) * 1e3,
        "max": max(times) * 1e3,
        "busy": busy / wall,
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.load", description="POST prompts to /route of a server on 127.0.0.1.")
    result.add_argument("prompts", type=Path, help="JSONL file with a prompt in each line, sent over and over")
    result.add_argument("--port", type=_upto(65_535), required=True, help="port on 127.0.0.1")
    result.add_argument("--clients", type=_upto(256), default=1, help="connections (%(default)s)")
    result.add_argument("--requests", type=_upto(1_000_000), default=1_000, help="how many (%(default)s)")
    result.add_argument("--first", type=_upto(900_000_000), default=1, help="number of the first request (%(default)s)")
    result.add_argument("--seconds", type=_upto(300), default=60, help="send none after this many seconds (%(default)s)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Print one JSON object. Exit code 1: the server failed."""
    arguments = parser().parse_args(argv)
    with arguments.prompts.open(encoding="utf-8") as lines:
        templates = [template(json.loads(line)["prompt"]) for line in lines]
    try:
        figures = drive(arguments.port, templates, arguments.clients, arguments.requests, arguments.seconds, arguments.first)
    except (LoadError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(figures))
    return 0


def _upto(limit: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= limit:
            raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1 to {limit}")
        return int(text)

    return number


if __name__ == "__main__":
    sys.exit(main())
