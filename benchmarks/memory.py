"""Resident memory of processes, from /proc; None on systems without it."""

import re
from pathlib import Path

_PROC = Path("/proc")
_RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


def resident_mib(pid: int) -> float | None:
    """MiB of one process; None where it has ended as well."""
    try:
        found = _RESIDENT.search((_PROC / str(pid) / "status").read_text(encoding="utf-8"))
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def tree_mib(pid: int) -> float | None:
    """MiB of a process and all below it; pages that they share count for each."""
    own = resident_mib(pid)
    return None if own is None else own + sum(tree_mib(child) or 0.0 for child in _children(pid))


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for file in (_PROC / str(pid) / "task").glob("*/children") for word in file.read_text(encoding="utf-8").split()]
    except OSError:
        return []
