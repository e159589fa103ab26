"""python -m benchmarks.load: POST prompts to a server on this machine and print what it took, as JSON.

One thread and one selector over keep-alive connections, each with one request in flight. All but the number at a prompt's
end is rendered before the clock starts; the number makes every request differ, so that no cache answers. Talks to
127.0.0.1 alone, and no longer or more often than it is told.

Without a rate, a connection sends its next request as soon as it has an answer. With one, requests fall due at random as
those of independent clients do, and wait for a free connection: their time counts from when they were due, so that neither
a slow server nor a slow generator makes the figures look better.
"""

import argparse
import json
import math
import random
import re
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, repeat
from pathlib import Path

from benchmarks.timing import percentile

HOST = "127.0.0.1"
_STALLED = 20.0  # seconds without any answer
_AT_ONCE = -math.inf  # when a request is due that is to be sent as soon as a connection is free
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class LoadError(Exception):
    """The server closed, stalled, or answered with something else than 200."""


@dataclass(slots=True)
class Client:
    """A connection with one request in flight."""

    connection: socket.socket
    started: float = 0.0
    buffer: bytearray = field(default_factory=bytearray)

    def send(self, request: bytes, due: float) -> None:
        """Start the clock, or have started it when the request was due, and send."""
        self.started = time.perf_counter() if due == _AT_ONCE else due
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


class Sender:
    """Sends requests, over the connections that are free, when they are due: in order of ``dues``, seconds from now."""

    def __init__(self, pool: Sequence[Client], templates: Sequence[bytes], first: int, dues: Iterator[float], seconds: float) -> None:
        self.free, self.sent = deque(pool), 0
        self._templates, self._first, self._seconds = templates, first, seconds
        self._dues, self._next = dues, next(dues, None)
        self._start = time.perf_counter()

    def send(self) -> float | None:
        """Send all that can be; seconds until the next request is due, None where nothing is left or no connection free."""
        while self.free and self._next is not None:
            now = time.perf_counter() - self._start
            if now >= self._seconds:
                self._next = None
            elif self._next > now:
                return self._next - now
            else:
                request = self._templates[self.sent % len(self._templates)] + b'%09d"}' % (self._first + self.sent)
                self.free.popleft().send(request, self._start + self._next)
                self.sent, self._next = self.sent + 1, next(self._dues, None)
        return None


def drive(
    port: int, templates: Sequence[bytes], clients: int, requests: int, seconds: float, first: int = 0, rate: float | None = None
) -> dict[str, float]:
    """Send ``requests``, numbered from ``first``, over ``clients`` connections; none any more after ``seconds``.

    Returns requests answered, seconds, requests a second, latencies in ms, and the share of one core that this process used.
    """
    pool = [Client(socket.create_connection((HOST, port), timeout=_STALLED)) for _ in range(clients)]
    times: list[float] = []
    # The default selector would round up to a millisecond, which matters where there is more to wait for than answers.
    with selectors.DefaultSelector() if rate is None else selectors.SelectSelector() as selector:
        for client in pool:
            client.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(client.connection, selectors.EVENT_READ, client)
        busy, start = time.process_time(), time.perf_counter()
        sender = Sender(pool, templates, first, _dues(requests, rate, first), seconds)
        while (wait := sender.send()) is not None or len(times) < sender.sent:
            ready = selector.select(_STALLED if wait is None else wait)
            if not ready and wait is None:
                raise LoadError(f"no answer for {_STALLED:g} s")
            for key, _ in ready:
                if key.data.receive():
                    times.append(time.perf_counter() - key.data.started)
                    sender.free.append(key.data)
                    sender.send()
        wall, busy = time.perf_counter() - start, time.process_time() - busy
    for client in pool:
        client.connection.close()
    return {
        "requests": sender.sent,
        "seconds": wall,
        "rate": sender.sent / wall,
        "p50": percentile(times, 0.5) * 1e3,
        "p99": percentile(times, 0.99) * 1e3,
        "max": max(times) * 1e3,
        "busy": busy / wall,
    }


def _dues(requests: int, rate: float | None, seed: int) -> Iterator[float]:
    """When each request is due, in seconds from the start: as soon as it can be sent, or at random with ``rate`` a second."""
    if rate is None:
        return repeat(_AT_ONCE, requests)
    gaps = random.Random(seed)  # noqa: S311 - not for secrets
    return accumulate(gaps.expovariate(rate) for _ in range(requests))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.load", description="POST prompts to /route of a server on 127.0.0.1.")
    result.add_argument("prompts", type=Path, help="JSONL file with a prompt in each line, sent over and over")
    result.add_argument("--port", type=_upto(65_535), required=True, help="port on 127.0.0.1")
    result.add_argument("--clients", type=_upto(256), default=1, help="connections (%(default)s)")
    result.add_argument("--requests", type=_upto(1_000_000), default=1_000, help="how many (%(default)s)")
    result.add_argument("--rate", type=_upto(100_000), help="requests a second, whatever the answers take (as many as are answered)")
    result.add_argument("--first", type=_upto(900_000_000), default=1, help="number of the first request (%(default)s)")
    result.add_argument("--seconds", type=_upto(300), default=60, help="send none after this many seconds (%(default)s)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Print one JSON object. Exit code 1: the server failed."""
    arguments = parser().parse_args(argv)
    with arguments.prompts.open(encoding="utf-8") as lines:
        templates = [template(json.loads(line)["prompt"]) for line in lines]
    try:
        figures = drive(
            arguments.port, templates, arguments.clients, arguments.requests, arguments.seconds, arguments.first, arguments.rate
        )
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
