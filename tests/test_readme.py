"""The README's blocks run as they stand, against a server started as it says."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHELL = [text for language, text in BLOCKS if language == "sh"]
PYTHON = [text for language, text in BLOCKS if language == "python"]


@pytest.fixture(name="port", scope="module")
def _port() -> Iterator[int]:
    """A server started by the README's first command, on a free port."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    first = next(text.strip() for language, text in BLOCKS if not language and text.startswith("make serve"))
    # The interpreter that runs the tests has everything that `make serve` would set up.
    command = [*first.split(), f"PORT={port}", f"BIN={Path(sys.executable).parent}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait(port, process)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended by itself"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError("the server was not ready in two minutes")


def _run(block: str, port: int, folder: Path) -> str:
    text = block.replace("/tmp/", f"{folder}/").replace("8080", str(port)).replace(".venv/bin/python", sys.executable)  # noqa: S108 - as the README says it
    return subprocess.run(["sh", "-ec", text], cwd=ROOT, check=True, capture_output=True, text=True, timeout=240).stdout


def test_the_readme_has_blocks_of_every_kind() -> None:
    """There is something to run: a server, requests, Python and batch work."""
    assert len(SHELL) >= 3
    assert PYTHON
    assert "make serve" in README


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.split("\n")[0][:50])
def test_shell_blocks_run(block: str, port: int, tmp_path: Path) -> None:
    """Each shell block ends without an error and prints or writes something."""
    if "curl" in block and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    output = _run(block, port, tmp_path)
    assert output or list(tmp_path.iterdir())


def test_the_first_requests_answer_with_the_tiers_that_the_readme_names(port: int, tmp_path: Path) -> None:
    """The typo goes to the small tier, the question of architecture to the large one."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    answers = [json.loads(_run(line, port, tmp_path)) for line in SHELL[0].splitlines()]
    assert [answer["tier"] for answer in answers] == ["small", "large"]


@pytest.mark.parametrize("block", PYTHON)
def test_python_blocks_run(block: str) -> None:
    """Each Python block runs from the checkout."""
    done = subprocess.run([sys.executable, "-c", block], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout


def test_the_file_tree_names_what_exists() -> None:
    """Every line of the tree is a file or folder of the checkout, and every module stands in it."""
    tree = next(text for language, text in BLOCKS if not language and "classifier/ " in text)
    folder, found = "", set()
    for line in tree.splitlines():
        name = line.split()[0]
        folder = name if not line.startswith(" ") else folder
        path = ROOT / name if not line.startswith(" ") else ROOT / folder / name
        assert path.exists(), line
        found.add(path)
    modules = {path for package in ("classifier", "training", "serve") for path in (ROOT / package).iterdir() if path.name[0] not in "_."}
    assert modules - {path.parent / path.name for path in found} == set()
