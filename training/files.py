"""JSONL files of rows: which ones a path stands for, their lines, and their digests. Knows nothing of what a row means."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from classifier.errors import PointsmanError


class DataError(PointsmanError):
    """A row that cannot be learned from: names file, line and field, what was found and what was expected."""

    def __init__(self, file: Path, line: int | None, field: str, found: object, expected: str) -> None:
        place = f"{file}:{line}" if line else str(file)
        super().__init__(f"{place}: {field}: found {found}, expected {expected}")
        self.file, self.line, self.field, self.found, self.expected = file, line, field, found, expected


def jsonl_files(path: Path) -> list[Path]:
    """``path`` itself, or every JSONL file below it in a stable order."""
    return sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]


def rows_of(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line that is not blank.

    Raises:
        DataError: a file that cannot be read as UTF-8, or a line that is no JSON object.
    """
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(file, None, "file", type(error).__name__, "a readable UTF-8 file") from error
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(file, number, "line", f"no JSON ({type(error).__name__})", "one JSON object a line") from error
        if not isinstance(row, dict):
            raise DataError(file, number, "line", type(row).__name__, "one JSON object a line")
        yield number, row


def base_texts(paths: Sequence[Path]) -> dict[str, str]:
    """Text by id of every plain prompt that stands below a folder ``test/``."""
    files = [(file, path) for path in paths for file in jsonl_files(path)]
    return {
        str(row.get("id")): row["prompt"]
        for file, path in files
        if below_test(file, path)
        for _, row in rows_of(file)
        if isinstance(row.get("prompt"), str)
    }


def digest(path: Path) -> dict[str, dict[str, object]]:
    """By file name, sha256 and rows of every JSONL file that ``path`` stands for."""
    result: dict[str, dict[str, object]] = {}
    for file in jsonl_files(path):
        content = file.read_bytes()
        name = str(file.relative_to(path)) if path.is_dir() else file.name
        result[f"{path.name}/{name}" if path.is_dir() else f"{path.parent.name}/{name}"] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "rows": sum(1 for line in content.splitlines() if line.strip()),
        }
    return result


def digests(paths: Iterable[Path]) -> dict[str, dict[str, object]]:
    """``digest`` of all ``paths``."""
    return {name: value for path in paths for name, value in digest(path).items()}


def below_test(file: Path, root: Path) -> bool:
    """Whether a folder ``test`` stands between ``file`` and what was asked for; for a single file, right above it."""
    return "test" in (file.relative_to(root.parent).parts[:-1] if root.is_dir() else file.parts[-4:-1])
