"""python -m benchmarks.smoke: a real server, a real request, a real batch. Checks shapes, not tiers, and no times."""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from benchmarks.server import CHECKOUT, BrokenError, Server, command, environment, running
from classifier.types import PathReason

PROMPT = "Our nightly export fails once a week with a timeout. How do I find out why?"
SECRET = "violet-harbour-4711"  # noqa: S105 - stands for text that no problem may repeat
_DECISION = {
    *("id", "tier", "model", "confidence", "sufficiency", "probabilities", "reason"),
    *("path", "path_reason", "cost_usd", "model_version"),
}
_PATHS = ("fast", "accurate")
_PATH_REASONS = get_args(PathReason)
_STOPPED = (0, -15)  # uvicorn may raise the signal again once it has shut down


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.smoke", description="Try the server and the batch labeller once.")
    result.add_argument("--bundle", type=Path, help="a bundle, or a folder of bundles with CURRENT (models/)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Try everything once. Exit code 1: something is off, and the message says what."""
    bundle: Path | None = parser().parse_args(argv).bundle
    flags = () if bundle is None else ("--bundle", str(bundle.resolve()))
    try:
        with running("serve", *flags) as server:
            print(f"python -m serve: ready after {server.ready_seconds:.1f} s")
            _route(server)
            _accurate(server)
            _route_batch(server)
            _malformed(server)
            code = server.stop()
            _expect(code in _STOPPED, f"the server ended with {code}, expected one of {_STOPPED}")
            print(f"SIGTERM: ended with {code}")
        _label(flags)
    except (BrokenError, OSError, http.client.HTTPException, ValueError) as error:
        print(f"smoke: {error}", file=sys.stderr)
        return 1
    return 0


def _route(server: Server) -> None:
    decision = _post(server, "/route", {"prompt": PROMPT}, 200, "application/json")
    _check_decision(decision, "POST /route")
    print(f"POST /route: {decision['tier']}, confidence {decision['confidence']:.2f}, {decision['reason']}")


def _accurate(server: Server) -> None:
    where = "path accurate"
    paths = json.loads(server.request("GET", "/model").body)["manifest"]["paths"]
    # Time enough, so that a busy machine does not refuse.
    decision = _post(server, "/route", {"prompt": PROMPT, "path": "accurate", "deadline_ms": 60_000}, 200, "application/json")
    _check_decision(decision, where)
    found = (decision["path"], decision["path_reason"])
    expected = ("accurate", "asked") if "accurate" in paths else ("fast", "only_path")
    _expect(found == expected, f"{where}: scored by {found}, expected {expected}")
    print(f"{where}: scored by {found[0]} ({found[1]})")


def _route_batch(server: Server) -> None:
    where = "POST /route/batch"
    results = _post(server, "/route/batch", {"requests": [{"prompt": PROMPT}, {"prompt": 7}]}, 200, "application/json").get("results", [])
    _expect(len(results) == 2, f"{where}: {len(results)} results, expected 2")
    good, bad = results
    _expect(set(good) == {"decision"}, f"{where}: the good item got {sorted(good)}")
    _check_decision(good["decision"], where)
    _expect(set(bad) == {"error"}, f"{where}: the bad item got {sorted(bad)}")
    _expect(bad["error"].get("status") == 422 and "prompt" in bad["error"].get("detail", ""), f"{where}: the error names no field")
    print(f"{where}: one decision, one error ({bad['error']['detail']})")


def _malformed(server: Server) -> None:
    found = _post(server, "/route", b'{"prompt": "%s' % SECRET.encode(), 400, "application/problem+json")
    _expect({"title", "status", "detail"} <= set(found), f"malformed body: the problem has only {sorted(found)}")
    _expect(SECRET not in json.dumps(found), "malformed body: the problem repeats what was sent")
    print(f"malformed body: 400 ({found['detail']})")


def _label(flags: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        lines = [json.dumps({"id": number, "prompt": PROMPT}) for number in (1, 3)]
        source.write_text("\n".join((lines[0], '{"id": 2, "prompt": ', lines[1])) + "\n", encoding="utf-8")
        done = subprocess.run(
            command("serve.label", source, "-o", target, *flags),
            cwd=CHECKOUT,
            env=environment(),
            capture_output=True,
            check=False,
            timeout=120,
        )
        said = done.stderr.decode(errors="replace").strip()
        _expect(done.returncode == 1, f"serve.label: ended with {done.returncode}, expected 1 for a broken line: {said}")
        rows, errors = _lines(target), _lines(target.with_name("out.errors.jsonl"))
    _expect([row.get("id") for row in rows] == [1, 3], f"serve.label: wrote {len(rows)} lines, expected the first and the third")
    _expect(all("tier" in row.get("pointsman", {}) for row in rows), "serve.label: a line without a tier")
    _expect([error.get("line") for error in errors] == [2], f"serve.label: {len(errors)} errors, expected one for line 2")
    print(f"python -m serve.label: two lines labelled, one error ({errors[0]['error']})")


def _check_decision(decision: Any, where: str) -> None:
    _expect(not (missing := _DECISION - set(decision)), f"{where}: the decision lacks {sorted(missing)}")
    _expect(decision["path"] in _PATHS, f"{where}: scored by {decision['path']!r}, expected one of {_PATHS}")
    _expect(decision["path_reason"] in _PATH_REASONS, f"{where}: path_reason {decision['path_reason']!r}, expected one of {_PATH_REASONS}")
    tiers = list(decision["sufficiency"])
    _expect(decision["tier"] in tiers and list(decision["probabilities"]) == tiers, f"{where}: tiers differ within the decision")
    values = list(decision["sufficiency"].values())
    _expect(values == sorted(values) and values[0] >= 0 and values[-1] <= 1, f"{where}: sufficiency falls, or leaves 0..1")
    _expect(abs(sum(decision["probabilities"].values()) - 1) < 1e-4, f"{where}: probabilities do not sum to 1")
    _expect(decision["confidence"] == decision["sufficiency"][decision["tier"]], f"{where}: confidence is not the tier's sufficiency")


def _post(server: Server, path: str, body: dict[str, Any] | bytes, status: int, media_type: str) -> dict[str, Any]:
    answer = server.request("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode())
    _expect(answer.status == status, f"POST {path}: status {answer.status}, expected {status}")
    _expect(answer.media_type == media_type, f"POST {path}: {answer.media_type}, expected {media_type}")
    found: Any = json.loads(answer.body)
    _expect(isinstance(found, dict), f"POST {path}: the answer is no JSON object")
    result: dict[str, Any] = found
    return result


def _lines(file: Path) -> list[dict[str, Any]]:
    _expect(file.exists(), f"serve.label: {file.name} was not written")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise BrokenError(message)


if __name__ == "__main__":
    sys.exit(main())
