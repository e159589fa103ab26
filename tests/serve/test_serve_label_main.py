"""python -m serve.label: files in, files out, and what the exit code says."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from classifier.bundle import LAYOUT, find
from classifier.router import MODELS
from serve.label.__main__ import main
from serve.label.engine import CHUNK

pytest_plugins = ("fixtures_of_serve",)

Run = Callable[..., int]

GOOD: list[dict[str, Any]] = [
    {"id": 1, "prompt": "Fix the typo in README.md"},
    {"id": 2, "prompt": "Plan an authentication system for our app. Consider security, UX, and scalability.", "system": "s" * 400},
    {
        "id": 3,
        "messages": [
            {"role": "user", "content": "Write a parser."},
            {"role": "assistant", "content": "Which?"},
            {"role": "user", "content": "JSON"},
        ],
    },
    {"id": 4, "messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}], "tools": [{"name": "zoom"}]},
    {"id": 5, "prompt": "Résumé \ud83d 🙂 \0 " * 400},
]
BROKEN = {
    2: (b"no json", "not valid JSON"),
    4: (b'{"prompt": "\xff"}', "not valid UTF-8"),
    5: (b"[]", "expected a JSON object"),
    7: (b'{"prompt": " "}', "found no text"),
    8: (b'{"id": 1}', "expected exactly one of prompt and messages"),
    10: (b'{"prompt": "x", "pointsman": 1}', "the field is already there"),
    11: (b"[" * 50_000, "nested too deeply"),
}


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    """Five good lines."""
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in GOOD))
    return file


@pytest.fixture(name="target")
def _target(tmp_path: Path) -> Path:
    """Where the labelled lines go, in a folder of their own."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "labelled.jsonl"


@pytest.fixture(name="run")
def _run(serving_catalog: Path, source: Path, target: Path) -> Run:
    """Label ``source`` into ``target`` in this process; further flags win."""

    def run(*flags: str) -> int:
        return main([str(source), "-o", str(target), "--catalog", str(serving_catalog), *flags])

    return run


@pytest.fixture(name="endless")
def _endless(checkout: Path, plain_environ: dict[str, str], tmp_path: Path, target: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run whose input, a pipe, never ends; its output is there from a run before."""
    target.write_text("old", encoding="utf-8")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    flags = [str(pipe), "-o", str(target), "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-m", "serve.label", *flags], cwd=checkout, env=plain_environ, stderr=subprocess.DEVNULL)
    try:
        os.write(writer, b'{"prompt": "What is new?"}\n' * (2 * CHUNK + 1))
        yield process
    finally:
        process.kill()
        process.wait(60)
        os.close(writer)


def wait_for_lines(process: subprocess.Popen[bytes], target: Path) -> None:
    """Return once a run has written lines beside its output."""
    while not any(file.stat().st_size for file in target.parent.iterdir() if file != target):
        assert process.poll() is None
        time.sleep(0.05)


def errors_of(target: Path) -> Path:
    """The file beside an output that holds what could not be labelled."""
    return target.with_name(f"{target.stem}.errors.jsonl")


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def command(checkout: Path, environ: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    """The command as a person gives it."""
    return subprocess.run(
        [sys.executable, "-m", "serve.label", *flags], cwd=checkout, env=environ, capture_output=True, timeout=250, check=False, text=True
    )


def test_every_line_is_labelled_and_keeps_its_fields(run: Run, target: Path) -> None:
    """In the order of the input; exit code 0, and nothing but the output is left behind."""
    assert run() == 0
    rows = rows_of(target)
    assert [{name: value for name, value in row.items() if name != "pointsman"} for row in rows] == GOOD
    assert all(row["pointsman"]["tier"] in {"small", "medium", "large"} for row in rows)
    assert [file.name for file in target.parent.iterdir()] == [target.name]


def test_a_person_is_told_how_many_lines_and_where(run: Run, target: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """On stderr, with the mix of tiers."""
    run()
    said = capfd.readouterr()
    assert said.out == ""
    assert "5 lines labelled" in said.err
    assert f"-> {target}" in said.err
    mix = {tier: sum(row["pointsman"]["tier"] == tier for row in rows_of(target)) for tier in ("small", "medium", "large")}
    assert ", ".join(f"{tier} {count}" for tier, count in sorted(mix.items()) if count) in said.err


@pytest.mark.parametrize("path", ["fast", "accurate"])
def test_the_path_can_be_chosen(run: Run, target: Path, path: str) -> None:
    """Every line then says that it was asked for."""
    assert run("--path", path) == 0
    assert {(row["pointsman"]["path"], row["pointsman"]["path_reason"]) for row in rows_of(target)} == {(path, "asked")}


def test_without_a_path_lines_are_looked_at_twice_where_it_matters(run: Run, target: Path) -> None:
    """As with auto, to the byte, and again when it is run again."""
    written = []
    for flags in ((), ("--path", "auto"), ("--path", "auto")):
        assert run(*flags) == 0
        written.append(target.read_bytes())
    assert written[0] == written[1] == written[2]
    assert {row["pointsman"]["path_reason"] for row in rows_of(target)} <= {"clear", "close"}


def test_decisions_are_those_of_the_server(run: Run, target: Path, client: httpx.Client) -> None:
    """Bit for bit, for prompts and conversations, where the server has the time that a file has."""
    run()
    for row, labelled in zip(GOOD, rows_of(target), strict=True):
        body = {name: value for name, value in row.items() if name != "id"}
        decision = client.post("/route", content=json.dumps({**body, "deadline_ms": 60_000}).encode()).json()
        assert labelled["pointsman"] == {name: decision[name] for name in labelled["pointsman"]}


def test_wrong_lines_go_to_the_errors_file_and_the_rest_is_labelled(run: Run, source: Path, target: Path) -> None:
    """With their number and what is wrong with them; exit code 1."""
    good = iter(GOOD)
    lines = [BROKEN[number][0] if number in BROKEN else json.dumps(next(good)).encode() for number in range(1, 13)]
    source.write_bytes(b"\n".join(lines))
    assert run() == 1
    assert [row["id"] for row in rows_of(target)] == [1, 2, 3, 4, 5]
    errors = rows_of(errors_of(target))
    assert [error["line"] for error in errors] == list(BROKEN)
    assert {error["file"] for error in errors} == {str(source)}
    assert all(reason in error["error"] for error, (_, reason) in zip(errors, BROKEN.values(), strict=True))


def test_a_file_of_wrong_lines_alone_is_an_empty_output_and_its_errors(run: Run, source: Path, target: Path) -> None:
    """Exit code 1 still: something was done."""
    source.write_bytes(b"a\nb\n")
    assert run() == 1
    assert target.read_bytes() == b""
    assert [error["line"] for error in rows_of(errors_of(target))] == [1, 2]


def test_errors_of_an_earlier_run_are_gone_when_all_is_well(run: Run, source: Path, target: Path) -> None:
    """A person who mended the lines is not shown the old ones."""
    good = source.read_bytes()
    source.write_bytes(b"broken\n")
    assert run() == 1
    source.write_bytes(good)
    assert run() == 0
    assert not errors_of(target).exists()


@pytest.mark.parametrize("content", [b"", b"\n \r\n\n"])
def test_an_empty_file_is_labelled_as_an_empty_file(run: Run, source: Path, target: Path, content: bytes) -> None:
    """No lines, no errors, exit code 0."""
    source.write_bytes(content)
    assert run() == 0
    assert target.read_bytes() == b""
    assert not errors_of(target).exists()


def test_an_earlier_output_is_replaced(run: Run, target: Path) -> None:
    """Not appended to."""
    target.write_text("old", encoding="utf-8")
    assert run() == 0
    assert len(rows_of(target)) == len(GOOD)


def test_a_missing_input_is_named(run: Run, source: Path, target: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, with or without an output of an earlier run, which stays."""
    source.unlink()
    assert run() == 2
    target.write_text("old", encoding="utf-8")
    assert run() == 2
    assert str(source) in capfd.readouterr().err
    assert target.read_text(encoding="utf-8") == "old"
    assert [file.name for file in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_input_and_output_may_not_be_the_same_file(
    run: Run, source: Path, target: Path, capfd: pytest.CaptureFixture[str], link: Callable[[Path, Path], None] | None
) -> None:
    """By any of its names; the file stays as it was."""
    before = source.read_bytes()
    same = source
    if link is not None:
        link(source, target)
        same = target
    assert run("-o", str(same)) == 2
    assert f"{same} is the input" in capfd.readouterr().err
    assert source.read_bytes() == before


def test_an_output_folder_that_is_not_there_is_named(run: Run, target: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is not made in silence."""
    assert run("-o", str(target.parent / "none" / "out.jsonl")) == 2
    assert "none" in capfd.readouterr().err


@pytest.mark.parametrize("workers", ["0", "-1"])
def test_there_is_at_least_one_worker(run: Run, target: Path, capfd: pytest.CaptureFixture[str], workers: str) -> None:
    """Found and expected are said, and nothing is written."""
    assert run("--workers", workers) == 2
    assert capfd.readouterr().err == f"--workers: found {workers}, expected 1 or more\n"
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize("flags", [("--path", "slow"), ("--workers", "many"), ("--colour",)])
def test_a_flag_that_cannot_be_used_is_refused(run: Run, flags: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    """With the usage, as argparse has it."""
    with pytest.raises(SystemExit) as caught:
        run(*flags)
    assert caught.value.code == 2
    assert flags[0] in capfd.readouterr().err


def test_a_broken_bundle_is_named_and_the_output_stays(run: Run, target: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, with what was found and what was expected."""
    target.write_text("old", encoding="utf-8")
    bundle = Path(shutil.copytree(find(MODELS), tmp_path / "bundle", ignore=shutil.ignore_patterns("analysis")))
    with (bundle / LAYOUT.head).open("ab") as head:
        head.write(b"!")
    assert run("--bundle", str(bundle)) == 2
    said = capfd.readouterr().err
    assert f"{LAYOUT.head}: found sha256 " in said
    assert "expected sha256 " in said
    assert target.read_text(encoding="utf-8") == "old"


def test_a_folder_without_a_bundle_is_named(run: Run, target: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Before anything is written."""
    assert run("--bundle", str(tmp_path)) == 2
    assert f"{tmp_path}: found no manifest.json and no CURRENT" in capfd.readouterr().err
    assert not list(target.parent.iterdir())


def test_the_decisions_field_can_be_named(run: Run, target: Path) -> None:
    """So that a file can be labelled twice."""
    assert run("--field", "routing") == 0
    assert all("routing" in row and "pointsman" not in row for row in rows_of(target))


def test_the_output_is_replaced_only_when_the_run_is_complete(endless: subprocess.Popen[bytes], target: Path) -> None:
    """A run that is killed on the way leaves the output of the run before."""
    wait_for_lines(endless, target)
    endless.kill()
    endless.wait(60)
    assert target.read_text(encoding="utf-8") == "old"


def test_lines_are_labelled_while_more_are_read(endless: subprocess.Popen[bytes], target: Path) -> None:
    """An input that never ends is labelled all the same, into a file of its own."""
    wait_for_lines(endless, target)
    first = target.with_name(f"{target.name}.partial").read_bytes().splitlines()[0]
    assert json.loads(first)["pointsman"]["tier"] in {"small", "medium", "large"}


@pytest.mark.parametrize("name", ["out.jsonl", "out.errors.jsonl", "out.jsonl.partial"])
def test_an_input_is_never_overwritten(tmp_path: Path, name: str) -> None:
    """Not by the errors file or the unfinished output of its own run either."""
    source = tmp_path / name
    source.write_bytes(b'{"prompt": "x"}\n')
    assert main([str(source), "-o", str(tmp_path / "out.jsonl"), "--workers", "1"]) == 2
    assert source.read_bytes() == b'{"prompt": "x"}\n'
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("flag", ["--catalog", "--bundle"])
def test_a_run_that_cannot_start_leaves_everything_as_it_was(run: Run, target: Path, tmp_path: Path, flag: str) -> None:
    """Also the errors of the run before."""
    errors_of(target).write_text("old\n", encoding="utf-8")
    assert run(flag, str(tmp_path / "none")) == 2
    assert errors_of(target).read_text(encoding="utf-8") == "old\n"
    assert list(target.parent.iterdir()) == [errors_of(target)]


def test_any_number_of_workers_writes_the_same_files(checkout: Path, plain_environ: dict[str, str], tmp_path: Path) -> None:
    """Over several chunks, long lines among short ones, close ones among clear ones, with wrong lines in between."""
    source = tmp_path / "in.jsonl"
    with source.open("wb") as sink:
        for number in range(2 * CHUNK + 77):
            task = ("What is", "Explain", "Write a parser for", "Review")[number % 4]
            text = f"{task} part {number}. " * (1 + 200 * (number % 50 == 0))
            sink.write(b"broken\n" if number % 300 == 299 else json.dumps({"id": number, "prompt": text}).encode() + b"\n")
    outputs = [tmp_path / f"{workers}.jsonl" for workers in (1, 2)]
    for workers, output in enumerate(outputs, 1):
        process = command(checkout, plain_environ, str(source), "-o", str(output), "--workers", str(workers))
        assert process.returncode == 1, process.stderr
        assert "3 lines could not be labelled" in process.stderr
    one, two = outputs
    assert [row["id"] for row in rows_of(one)] == [number for number in range(2 * CHUNK + 77) if number % 300 != 299]
    assert [error["line"] for error in rows_of(errors_of(one))] == [300, 600, 900]
    assert {row["pointsman"]["path"] for row in rows_of(one)} == {"fast", "accurate"}
    assert two.read_bytes() == one.read_bytes()
    assert errors_of(two).read_bytes() == errors_of(one).read_bytes()


def test_help_says_what_the_exit_codes_mean(checkout: Path, plain_environ: dict[str, str]) -> None:
    """All three."""
    process = command(checkout, plain_environ, "--help")
    assert process.returncode == 0
    for words in ("0: every line is labelled", "1: some lines are in OUT.errors.jsonl", "2: nothing could be done"):
        assert words in " ".join(process.stdout.split())
