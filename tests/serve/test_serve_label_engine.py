"""Chunks of lines over worker processes: the same result, in order, whatever their number."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from classifier import Router
from classifier.bundle import find
from classifier.router import MODELS
from classifier.types import Path as ScorePath
from serve.label.engine import CHUNK, run
from serve.label.lines import Labelled

pytest_plugins = ("fixtures_of_serve",)

Run = Callable[[Iterable[bytes], int], Iterator[tuple[Labelled, int]]]


class Reader:
    """Lines of a file, some of them broken, and how many were taken."""

    def __init__(self, lines: int) -> None:
        self.lines, self.taken = lines, 0

    def __iter__(self) -> Iterator[bytes]:
        for number in range(self.lines):
            self.taken += 1
            yield b"broken\n" if number % 100 == 7 else b'{"prompt": "What is %d + 2?", "id": %d}\n' % (number % 5, number)


@pytest.fixture(name="labelled")
def _labelled(serving_router: Router, serving_catalog: Path) -> Run:
    """The engine with the shipped bundle: ``labelled(lines, workers)``."""
    return lambda lines, workers: run(lines, serving_router, find(MODELS), serving_catalog, "pointsman", "fast", workers)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1])
def test_every_line_is_in_one_chunk(labelled: Run, size: int) -> None:
    """Also where the last chunk is short, and where there is none."""
    found = list(labelled(Reader(size), 1))
    assert len(found) == -(-size // CHUNK)
    assert sum(len(result.lines) + len(result.errors) for result, _ in found) == size


def test_sizes_are_bytes_that_were_read(labelled: Run) -> None:
    """Together they are the file's, so that progress ends at 100 %."""
    assert sum(size for _, size in labelled(Reader(1_200), 1)) == sum(map(len, Reader(1_200)))


def test_line_numbers_run_on_from_chunk_to_chunk(labelled: Run) -> None:
    """They are places in the file."""
    errors = [number for result, _ in labelled(Reader(1_200), 1) for number, _ in result.errors]
    assert errors == list(range(8, 1_201, 100))


def test_workers_give_the_same_chunks_in_the_same_order(labelled: Run) -> None:
    """However many there are, bit for bit."""
    size = 11 * CHUNK + 5  # more than two workers are given at once
    alone = list(labelled(Reader(size), 1))
    assert len(alone) == 12
    assert list(labelled(Reader(size), 2)) == alone


@pytest.mark.parametrize("path", ["auto", "accurate"])
def test_workers_take_the_path_that_is_asked_for(serving_router: Router, serving_catalog: Path, path: ScorePath) -> None:
    """Bit for bit as one process takes it."""

    def labelled(workers: int) -> list[tuple[Labelled, int]]:
        return list(run(Reader(CHUNK + 1), serving_router, find(MODELS), serving_catalog, "pointsman", path, workers))

    alone = labelled(1)
    assert labelled(2) == alone
    paths = {json.loads(line)["pointsman"]["path"] for result, _ in alone for line in result.lines}
    assert path == "auto" or paths == {path}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_is_read_only_a_few_chunks_ahead(labelled: Run, workers: int) -> None:
    """Memory stays flat however long the file is."""
    reader = Reader(20 * CHUNK)
    chunks = labelled(reader, workers)
    next(chunks)
    assert reader.taken <= 12 * CHUNK
    assert sum(1 for _ in chunks) == 19


def test_a_file_of_one_chunk_is_labelled_by_the_router_that_is_there(serving_router: Router, tmp_path: Path) -> None:
    """No worker is started to load a bundle of its own, which would fail here."""
    ((result, _),) = run(Reader(5), serving_router, tmp_path / "none", tmp_path / "none", "pointsman", "auto", 2)
    assert len(result.lines) == 5
