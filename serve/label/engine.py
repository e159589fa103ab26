"""Many lines over every core, in order and with flat memory: chunks go out to worker processes, a bounded number at a time."""

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from pathlib import Path

from classifier import Router
from classifier.types import Path as ScorePath
from serve.label.lines import Labelled, label

CHUNK = 512  # lines
_AHEAD = 4  # chunks a worker may lag behind the reader

Numbered = list[tuple[int, bytes]]
_router: Router | None = None  # of a worker process


def run(
    lines: Iterable[bytes], router: Router, bundle: Path, catalog: Path, field: str, path: ScorePath, workers: int
) -> Iterator[tuple[Labelled, int]]:
    """(result, bytes read) of each chunk, in the order of the input and the same for any number of workers.

    A file of a single chunk is labelled in this process, which is faster than starting others.

    ``router`` is the bundle at ``bundle``, loaded: workers load it again for themselves.
    """
    chunks = _chunks(lines)
    first = list(islice(chunks, 2))
    if workers == 1 or len(first) < 2:
        for chunk in chain(first, chunks):
            yield label(router, chunk, field, path), _size(chunk)
        return
    # Spawned, not forked: onnxruntime's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(bundle, catalog)) as pool:
        pending: deque[tuple[Future[Labelled], int]] = deque()
        for chunk in chain(first, chunks):
            pending.append((pool.submit(_work, chunk, field, path), _size(chunk)))
            if len(pending) > workers * _AHEAD:
                future, size = pending.popleft()
                yield future.result(), size
        for future, size in pending:
            yield future.result(), size


def _chunks(lines: Iterable[bytes]) -> Iterator[Numbered]:
    numbered = enumerate(lines, 1)
    while chunk := list(islice(numbered, CHUNK)):
        yield chunk


def _size(chunk: Numbered) -> int:
    return sum(len(line) for _, line in chunk)


def _start(bundle: Path, catalog: Path) -> None:
    global _router  # noqa: PLW0603 - the one thing a worker process keeps between chunks
    _router = Router.load(bundle, catalog)


def _work(chunk: Numbered, field: str, path: ScorePath) -> Labelled:
    assert _router is not None
    return label(_router, chunk, field, path)
