"""python -m serve: how a server starts, what stops it from starting, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path

import httpx
import pytest

from classifier.bundle import LAYOUT, find
from classifier.router import CATALOG, MODELS
from serve.__main__ import main, parser
from serve.settings import Settings

pytest_plugins = ("fixtures_of_serve",)

Launched = tuple[subprocess.Popen[bytes], str, Path]
Launch = Callable[..., AbstractContextManager[Launched]]


@pytest.fixture(name="bundle_copy")
def _bundle_copy(tmp_path: Path) -> Iterator[Path]:
    """A copy of the shipped bundle to damage, gone after the test."""
    copy = tmp_path / "bundle"
    yield Path(shutil.copytree(find(MODELS), copy, ignore=shutil.ignore_patterns("analysis")))
    shutil.rmtree(copy)


@pytest.fixture(name="no_variables", autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that the tests run on."""
    for name in os.environ:
        if name.startswith("POINTSMAN_"):
            monkeypatch.delenv(name)


@pytest.fixture(name="cannot_start")
def _cannot_start(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line with which ``main`` refuses to start with the given flags."""

    def cannot_start(*flags: str) -> str:
        assert main(flags) == 2
        said = capfd.readouterr()
        assert said.out == ""
        (line,) = said.err.splitlines()
        assert line.startswith("cannot start: ")
        return line

    return cannot_start


@pytest.fixture(name="small_server", scope="module")
def _small_server(launch: Launch) -> Iterator[str]:
    """A server with limits from variables, of which a flag overrides one; bundle and catalog are the defaults."""
    with launch("--max-batch", "3", POINTSMAN_MAX_BATCH="2", POINTSMAN_MAX_BODY="300", POINTSMAN_PORT="none", POINTSMAN_PATH="fast") as (
        _,
        url,
        _log,
    ):
        yield url


def flip(file: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def edit(bundle: Path, entry: str, value: object) -> None:
    """Replace one entry of a bundle's manifest."""
    file = bundle / LAYOUT.manifest
    file.write_text(json.dumps({**json.loads(file.read_bytes()), entry: value}), encoding="utf-8")


def test_a_flag_wins_over_its_variable(small_server: str) -> None:
    """Three requests at most as the flag says, not two; the port is the flag's, though its variable is no number."""
    requests = [{"prompt": "x"}] * 4
    assert httpx.post(f"{small_server}/route/batch", json={"requests": requests[:3]}).status_code == 200
    refused = httpx.post(f"{small_server}/route/batch", json={"requests": requests})
    assert refused.json()["detail"] == "requests: found 4 items, expected at most 3"


def test_a_variable_wins_over_the_default(small_server: str) -> None:
    """300 bytes at most as the variable says, not 4 MiB."""
    assert httpx.post(f"{small_server}/route", content=b'{"prompt": "x"}'.ljust(300)).status_code == 200
    assert (
        httpx.post(f"{small_server}/route", content=b'{"prompt": "x"}'.ljust(301)).json()["detail"]
        == "the body is larger than the limit of 300 bytes"
    )


def test_the_default_bundle_and_catalog_are_those_of_the_checkout(small_server: str) -> None:
    """What CURRENT names, and every model of config/catalog.toml."""
    found = httpx.get(f"{small_server}/model").json()
    assert found["version"] == find(MODELS).name
    tables = tomllib.loads(CATALOG.read_text(encoding="utf-8"))["tiers"]
    assert {tier: entry["model"] for tier, entry in found["catalog"].items()} == {tier: tables[tier]["model"] for tier in found["tiers"]}


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_ends_with_exit_code_0(launch: Launch, ending: signal.Signals) -> None:
    """As an orchestrator and as Ctrl+C tell it, with no traceback in the log."""
    with launch() as (process, url, log):
        assert httpx.get(f"{url}/readyz").status_code == 200
        process.send_signal(ending)
        assert process.wait(60) == 0
        assert "Traceback" not in log.read_text(encoding="utf-8")


def test_a_bundle_is_found_by_its_own_folder_as_well(launch: Launch, bundle_copy: Path) -> None:
    """Without a CURRENT beside it."""
    with launch("--bundle", str(bundle_copy)) as (_, url, _log):
        assert httpx.post(f"{url}/route", json={"prompt": "x"}).status_code == 200


def test_every_setting_has_a_flag_that_help_explains() -> None:
    """Of the same name, so that none can be set by a variable alone."""
    text = parser().format_help()
    for field in fields(Settings):
        assert f"--{field.name.replace('_', '-')} " in text


@pytest.mark.parametrize(
    ("own", "asked", "path"),
    [("fast", None, "fast"), ("accurate", None, "accurate"), ("fast", "accurate", "accurate"), ("accurate", "fast", "fast")],
)
def test_the_servers_path_holds_where_a_request_names_none(launch: Launch, own: str, asked: str | None, path: str) -> None:
    """And where one does, it has its will."""
    with launch("--path", own, "--accurate-threads", "1") as (_, url, _log):
        body = {"prompt": "x", "deadline_ms": 60_000, **({} if asked is None else {"path": asked})}
        decision = httpx.post(f"{url}/route", json=body, timeout=120).json()
        assert (decision["path"], decision["path_reason"]) == (path, "asked")


@pytest.mark.parametrize(
    ("flags", "variables", "code", "message"),
    [
        ((), {"POINTSMAN_PORT": "abc"}, 2, "cannot start: POINTSMAN_PORT: found 'abc', expected a whole number from 0 to 65535\n"),
        (("--path", "slow"), {}, 2, "cannot start: --path: found 'slow', expected one of fast, auto, accurate\n"),
        (("--accurate-threads", "0"), {}, 2, "cannot start: --accurate-threads: found '0', expected a whole number from 1 to 256\n"),
    ],
)
def test_the_process_ends_with_2_and_one_line(
    checkout: Path, plain_environ: dict[str, str], flags: tuple[str, ...], variables: dict[str, str], code: int, message: str
) -> None:
    """Nothing else is said: no traceback, no usage."""
    process = subprocess.run(
        [sys.executable, "-m", "serve", *flags],
        cwd=checkout,
        env={**plain_environ, **variables},
        capture_output=True,
        timeout=120,
        check=False,
        text=True,
    )
    assert (process.returncode, process.stdout, process.stderr) == (code, "", message)


@pytest.mark.parametrize("name", [*LAYOUT.serving(("fast", "accurate")), LAYOUT.task])
def test_a_flipped_bit_stops_start_up(cannot_start: Callable[..., str], bundle_copy: Path, name: str) -> None:
    """In any file that serves, with the digest that was found and the one that was expected."""
    expected = json.loads((bundle_copy / LAYOUT.manifest).read_bytes())["files"][name]
    flip(bundle_copy / name)
    line = cannot_start("--bundle", str(bundle_copy))
    assert f"{name}: found sha256 " in line
    assert line.endswith(f"expected sha256 {expected}")


@pytest.mark.parametrize("name", [LAYOUT.head, LAYOUT.tokenizer, LAYOUT.policy, LAYOUT.accurate_encoder, LAYOUT.task])
def test_a_missing_file_stops_start_up(cannot_start: Callable[..., str], bundle_copy: Path, name: str) -> None:
    """By its name."""
    (bundle_copy / name).unlink()
    assert f"{name}: found no file, expected sha256 " in cannot_start("--bundle", str(bundle_copy))


def test_a_renamed_signal_stops_start_up(cannot_start: Callable[..., str], bundle_copy: Path) -> None:
    """The head was trained on another one."""
    signals = json.loads((bundle_copy / LAYOUT.manifest).read_bytes())["signals"]
    edit(bundle_copy, "signals", [*signals[:3], "renamed", *signals[4:]])
    assert f"signals[3]: found 'renamed', expected '{signals[3]}'" in cannot_start("--bundle", str(bundle_copy))


def test_a_newer_format_stops_start_up(cannot_start: Callable[..., str], bundle_copy: Path) -> None:
    """An older server does not guess what a newer bundle means."""
    edit(bundle_copy, "format_version", 99)
    assert "manifest.json: format_version: found 99, expected 1" in cannot_start("--bundle", str(bundle_copy))


def test_a_folder_without_a_bundle_stops_start_up(cannot_start: Callable[..., str], tmp_path: Path) -> None:
    """As does one whose CURRENT names nothing."""
    assert "found no manifest.json and no CURRENT" in cannot_start("--bundle", str(tmp_path))
    (tmp_path / "CURRENT").write_text("gone\n", encoding="utf-8")
    assert "found 'gone', expected the name of a bundle in the same folder" in cannot_start("--bundle", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tiers", "found no TOML"),
        ("", "tiers.small: found no table, expected a table with the model of this tier"),
        ('[tiers.small]\nmodel = "a"\n', "tiers.small.input_usd: found None, expected a number"),
        ('[tiers.small]\nmodel = "a"\nprice = 1\n', "tiers.small.price: found an unknown entry, expected one of "),
    ],
)
def test_a_catalog_that_cannot_be_used_stops_start_up(cannot_start: Callable[..., str], tmp_path: Path, text: str, message: str) -> None:
    """With the file, the entry, what was found and what was expected."""
    catalog = tmp_path / "prices.toml"
    catalog.write_text(text, encoding="utf-8")
    line = cannot_start("--catalog", str(catalog))
    assert "prices.toml" in line
    assert message in line
    assert "expected" in line


def test_a_missing_catalog_stops_start_up(cannot_start: Callable[..., str], tmp_path: Path) -> None:
    """By its path."""
    assert f"{tmp_path / 'none.toml'}: found no readable file, expected a catalog" in cannot_start("--catalog", str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "abc"),
        ("PORT", "65536"),
        ("MAX_BODY", "0"),
        ("MAX_BATCH", "many"),
        ("PATH", "slow"),
        ("ACCURATE_THREADS", "257"),
        ("BUNDLE", "nowhere"),
        ("CATALOG", "nowhere"),
    ],
)
def test_a_variable_that_cannot_be_used_stops_start_up(
    cannot_start: Callable[..., str], monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    """With what was found and what was expected."""
    monkeypatch.setenv(f"POINTSMAN_{variable}", text)
    line = cannot_start()
    assert "found" in line
    assert "expected" in line
