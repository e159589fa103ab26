"""Bundles on disk: written to a staging folder, finished with their figures, moved into place in one step."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
from numpy.typing import NDArray

from classifier import signals as signal_table
from classifier.bundle import CURRENT, FORMAT_VERSION, LAYOUT
from training import encoders, report
from training.calibrate import Calibration
from training.dataset import Example, text_key
from training.figures import without_nan
from training.graphs import with_calibration
from training.risk import Risk

STAGED = ".staged"
HEADS = {"rubric": LAYOUT.head, "outcomes": LAYOUT.outcomes}
"""Where the graph of each basis lies; the rubric's is the one that serves."""
_STATED = {
    LAYOUT.head: (),
    LAYOUT.outcomes: ("outcomes",),
    LAYOUT.accurate_head: ("accurate",),
    LAYOUT.accurate_outcomes: ("accurate", "outcomes"),
}
"""Where calibration.json states what a graph holds."""
SEEN = "seen.npz"
"""Digests of the training prompts, by which later runs keep what a bundle was trained on out of its evaluation."""
ANALYSIS = "analysis"
"""Fitted estimators, for later analysis. Outside the manifest: nothing that serves may read them."""
PACKAGES = ("numpy", "onnxruntime", "tokenizers", "scikit-learn", "scipy", "onnx")
TUNING = ("torch", "transformers")


def write(
    models: Path,
    *,
    encoder: Path,
    vectors: NDArray[np.float32] | None,
    heads: Mapping[str, onnx.ModelProto],
    tiers: Sequence[str],
    prior: Sequence[float],
    calibrations: Mapping[str, Calibration],
    risk: Risk,
    facts: Mapping[str, Any],
    seen: Sequence[Example],
    estimators: Any,
    task: onnx.ModelProto | None = None,
    typical: Mapping[str, Any] | None = None,
) -> Path:
    """Write everything that scores into a new folder below ``models/.staged``; it loads, but says nothing of quality yet."""
    folder = _fresh(models)
    fast = folder / LAYOUT.fast
    fast.mkdir(parents=True)
    shutil.copyfile(encoder / "tokenizer.json", fast / "tokenizer.json")
    if vectors is None:
        shutil.copyfile(encoder / "encoder.onnx", fast / "encoder.onnx")  # byte for byte: what did not change stays the same file
    else:
        save(fast / "encoder.onnx", encoders.static_onnx(vectors, dict(facts["encoder"])))
    for name, graph in heads.items():
        save(folder / HEADS[name], graph)
    if task is not None:
        save(folder / LAYOUT.task, task)
    if typical is not None:
        _json(folder / LAYOUT.typical, typical)
    _json(folder / LAYOUT.calibration, {"basis": "rubric", **_stated(calibrations, tiers)})
    _json(folder / LAYOUT.policy, {"targets": {"fast": risk.target}, "risk": {"fast": asdict(risk)}})
    _remember(folder, {seen_key(example) for example in seen})
    (folder / ANALYSIS).mkdir()
    joblib.dump(estimators, folder / ANALYSIS / "head.joblib", compress=3)
    manifest = {
        "format_version": FORMAT_VERSION,
        "version": folder.name,
        "created": _today(),
        "tiers": list(tiers),
        "paths": ["fast"],
        "prior": dict(zip(tiers, prior, strict=True)),
        "signals": list(signal_table.NAMES),
        **facts,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "packages": _versions(PACKAGES),
    }
    _write_manifest(folder, manifest)
    return folder


def copy(bundle: Path, models: Path, *, accurate: bool = False) -> Path:
    """A staged copy of ``bundle`` without its figures, and unless asked for without its accurate path, whose files are the same byte for byte."""
    folder = _fresh(models)
    left = (LAYOUT.metrics, LAYOUT.model_card, LAYOUT.report, *(() if accurate else (LAYOUT.accurate,)))
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns(*left))
    if not accurate:
        (folder / LAYOUT.accurate).mkdir()
    return folder


def extend(
    folder: Path,
    *,
    calibrations: Mapping[str, Calibration],
    policy: Mapping[str, Any],
    facts: Mapping[str, Any],
    seen: Sequence[Example] = (),
) -> None:
    """Let a staged bundle say that it has the accurate path as well, and that it has ``seen`` those examples too."""
    if not (keys := {seen_key(example) for example in seen}) <= (before := seen_by(folder)):
        _remember(folder, keys | before)
    manifest = json.loads((folder / LAYOUT.manifest).read_bytes())
    stated = json.loads((folder / LAYOUT.calibration).read_bytes())
    _json(folder / LAYOUT.calibration, {**stated, "accurate": _stated(calibrations, manifest["tiers"])})
    _json(folder / LAYOUT.policy, dict(policy))
    origin = {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain"))}
    accurate = {**facts["accurate"], **origin, "packages": _versions((*PACKAGES, *TUNING))}
    _write_manifest(
        folder, {**manifest, **facts, "accurate": accurate, "version": folder.name, "created": _today(), "paths": ["fast", "accurate"]}
    )


def restate(
    folder: Path,
    *,
    calibrations: Mapping[str, Calibration],
    policy: Mapping[str, Any],
    facts: Mapping[str, Any],
    recalibration: Mapping[str, Any],
    seen: Sequence[Example],
) -> None:
    """Let a staged copy bear other ``calibrations``, by the graph's file, of which nothing else changes; another ``policy``; and ``facts``.
    ``recalibration`` says where they come from; the rows that were learned from join those that the bundle has ``seen``.
    """
    manifest = json.loads((folder / LAYOUT.manifest).read_bytes())
    stated = json.loads((folder / LAYOUT.calibration).read_bytes())
    for name, calibration in calibrations.items():
        save(folder / name, with_calibration(onnx.load(folder / name), calibration))
        part = stated
        for key in _STATED[name]:
            part = part[key]
        part |= _stated({"rubric": calibration}, manifest["tiers"])
    manifest |= facts
    stated["basis"] = manifest["basis"]
    _json(folder / LAYOUT.calibration, stated)
    _json(folder / LAYOUT.policy, dict(policy))
    _remember(folder, seen_by(folder) | {seen_key(example) for example in seen})
    origin = {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain")), "packages": _versions(PACKAGES)}
    _write_manifest(folder, {**manifest, "recalibration": {**recalibration, **origin}, "version": folder.name, "created": _today()})


def save(file: Path, graph: onnx.ModelProto) -> None:
    """Write ``graph``."""
    onnx.save(graph, str(file))


def _fresh(models: Path) -> Path:
    return models / STAGED / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"


def _stated(calibrations: Mapping[str, Calibration], tiers: Sequence[str]) -> dict[str, Any]:
    """The rubric's calibration by part and tier, and the others' below their names."""
    by_name = {
        name: {part: dict(zip(tiers, values, strict=True)) for part, values in asdict(calibration).items()}
        for name, calibration in calibrations.items()
    }
    return {**by_name.pop("rubric"), **by_name}


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def _versions(packages: Sequence[str]) -> dict[str, str]:
    return {name: metadata.version(name) for name in packages}


def finish(folder: Path, metrics: Mapping[str, Any], *, parity: float) -> Path:
    """Add metrics, report and model card, name the bundle by date and content, and return the renamed staging folder."""
    manifest = json.loads((folder / LAYOUT.manifest).read_bytes())
    digest = hashlib.sha256("".join(manifest["files"][name] for name in sorted(manifest["files"]) if name != SEEN).encode()).hexdigest()
    manifest["version"] = f"{manifest['created']}-{digest[:8]}"
    manifest["parity"] = parity
    metrics = {**metrics, "bundle": manifest["version"]}
    manifest["metrics"] = report.headline(metrics)
    _json(folder / LAYOUT.metrics, metrics)
    report.write(folder, manifest, metrics)
    _write_manifest(folder, manifest)
    target = folder.with_name(manifest["version"])
    if target.exists():
        shutil.rmtree(target)
    return folder.rename(target)


def promote(staged: Path, models: Path) -> Path:
    """Move a finished bundle into ``models`` and let CURRENT name it; each step is atomic. A bundle of the same name and
    therefore of the same content is replaced.
    """
    target = models / staged.name
    if target.exists():
        shutil.rmtree(target)
    staged.rename(target)
    pointer = models / f".{CURRENT}.new"
    pointer.write_text(f"{target.name}\n", encoding="utf-8")
    pointer.replace(models / CURRENT)
    shutil.rmtree(models / STAGED, ignore_errors=True)
    return target


def seen_key(example: Example) -> int:
    """64-bit digest of the normalised scored text."""
    return int(text_key(example.prompt.text), 16)


def seen_by(bundle: Path) -> set[int]:
    """Digests of the prompts that a bundle was trained on; empty for one that does not say."""
    file = bundle / SEEN
    if not file.is_file():
        return set()
    with np.load(file, allow_pickle=False) as arrays:
        return set(arrays["digests"].tolist())


def _remember(folder: Path, keys: set[int]) -> None:
    np.savez_compressed(folder / SEEN, digests=np.array(sorted(keys), dtype=np.uint64))


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name != LAYOUT.manifest and ANALYSIS not in path.relative_to(folder).parts
    )
    manifest["files"] = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    _json(folder / LAYOUT.manifest, manifest)


def _json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(without_nan(value), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, cwd=Path(__file__).parent).stdout.strip()  # noqa: S603, S607 - fixed words, and git from the PATH is the user's own
    except (OSError, subprocess.CalledProcessError):
        return None  # trained outside a checkout
