"""What a bundle is: a folder of plain files that are verified before any of them is used. No pickle, no code."""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifier.errors import BundleError

FORMAT_VERSION = 1
"""The folder format. To bump it: raise the number; keep reading the version before, or say in CHANGELOG.md that bundles
must be retrained; add a test that a bundle of the new version is refused by name where only the old one is known."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of a bundle lie, relative to its folder."""

    manifest: str = "manifest.json"
    policy: str = "policy.json"
    calibration: str = "calibration.json"
    metrics: str = "metrics.json"
    model_card: str = "MODEL_CARD.md"
    report: str = "report"
    fast: str = "fast"
    head: str = "fast/head.onnx"
    outcomes: str = "fast/outcomes.onnx"  # the same for measured outcomes; read by training, not by serving
    encoder: str = "fast/encoder.onnx"
    tokenizer: str = "fast/tokenizer.json"
    accurate: str = "accurate"  # optional, as ``paths`` in the manifest says
    accurate_head: str = "accurate/head.onnx"
    accurate_outcomes: str = "accurate/outcomes.onnx"
    accurate_encoder: str = "accurate/encoder.onnx"
    accurate_tokenizer: str = "accurate/tokenizer.json"
    task: str = "task.onnx"  # optional
    typical: str = "typical.json"  # optional

    def serving(self, paths: tuple[str, ...]) -> tuple[str, ...]:
        """The files without which a bundle with these paths cannot serve."""
        accurate = (self.accurate_head, self.accurate_encoder, self.accurate_tokenizer) if "accurate" in paths else ()
        return (self.policy, self.calibration, self.head, self.encoder, self.tokenizer, *accurate)


LAYOUT = Layout()
MAX_MARGIN = 20
"""In logits: beyond any that a sufficiency in float32 has."""
CURRENT = "CURRENT"
"""The file beside the bundles that names the one in use."""
_LARGEST = 1e9  # of a signal's typical value
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself. ``raw`` is the whole of manifest.json, for people."""

    version: str
    tiers: tuple[str, ...]
    signals: tuple[str, ...]
    basis: str
    prior: tuple[float, ...]
    paths: tuple[str, ...]  # "fast", and "accurate" where it has one
    files: dict[str, str]  # path within the bundle -> sha256
    raw: dict[str, Any]


def find(path: Path) -> Path:
    """The bundle at ``path``: itself, or what ``CURRENT`` names where ``path`` is a folder of bundles.

    Raises:
        BundleError: there is neither.
    """
    if (path / LAYOUT.manifest).is_file():
        return path
    pointer = path / CURRENT
    try:
        name = pointer.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BundleError(str(path), "no manifest.json and no CURRENT", "a bundle, or a folder of bundles with CURRENT") from error
    except ValueError as error:
        raise BundleError(str(pointer), "no UTF-8", "the name of a bundle in the same folder") from error
    if not _NAME.fullmatch(name) or not (path / name / LAYOUT.manifest).is_file():
        raise BundleError(str(pointer), repr(name[:80]), "the name of a bundle in the same folder")
    return path / name


def read_json(file: Path) -> Any:
    """Contents of a JSON file of the bundle; BundleError where it is missing or broken."""
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise BundleError(file.name, "no readable file", "a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(file.name, f"no JSON ({type(error).__name__})", "a JSON file") from error


def verify(bundle: Path, signals: tuple[str, ...]) -> Manifest:
    """The manifest, once every file is the one that training wrote and the code is the one that trained.

    Raises:
        BundleError: a newer format, a missing or changed file, other signals than ``signals``.
    """
    manifest = _manifest(read_json(bundle / LAYOUT.manifest))
    for name, expected in manifest.files.items():
        found = _digest(bundle, name)
        if found != expected:
            raise BundleError(name, f"sha256 {found}" if found else "no file", f"sha256 {expected}")
    for name in LAYOUT.serving(manifest.paths):
        if name not in manifest.files:
            raise BundleError(f"{LAYOUT.manifest}: files", f"no entry for {name}", "an entry for every file that serves")
    if manifest.signals != signals:
        place = next((i for i, (a, b) in enumerate(zip(manifest.signals, signals, strict=False)) if a != b), None)
        if place is None:
            raise BundleError("signals", f"{len(manifest.signals)} signals in the bundle", f"{len(signals)} in this version")
        raise BundleError(f"signals[{place}]", repr(manifest.signals[place]), repr(signals[place]))
    return manifest


def _digest(bundle: Path, name: str) -> str | None:
    """sha256 of a file of the bundle, None where there is none."""
    try:
        file = (bundle / name).resolve()
        if not file.is_relative_to(bundle.resolve()):
            raise BundleError(f"{LAYOUT.manifest}: files", name, "paths within the bundle")
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None


def targets(bundle: Path, paths: tuple[str, ...]) -> tuple[dict[str, float], float]:
    """(the target sufficiency of each path; the margin around it, in logits, within which the accurate path is asked), from policy.json."""
    content = read_json(bundle / LAYOUT.policy)
    content = content if isinstance(content, dict) else {}
    found, margin = content.get("targets"), content.get("margin", 0.0)
    expected = {"fast", "auto", "accurate"} if "accurate" in paths else {"fast"}
    if not isinstance(found, dict) or not expected <= set(found) or not all(_number(value) and 0 < value <= 1 for value in found.values()):
        raise BundleError(
            f"{LAYOUT.policy}: targets", str(found)[:80], f"a number above 0 and up to 1 for each of {', '.join(sorted(expected))}"
        )
    if not _number(margin) or not 0 <= margin <= MAX_MARGIN:
        raise BundleError(f"{LAYOUT.policy}: margin", str(margin)[:80], f"a number from 0 to {MAX_MARGIN}")
    return found, margin


def typical(bundle: Path, signals: tuple[str, ...], dim: int) -> tuple[list[float], list[float]]:
    """(the typical value of each of ``signals``; the mean embedding, of length ``dim``), from typical.json."""
    content = read_json(bundle / LAYOUT.typical)
    content = content if isinstance(content, dict) else {}
    by_name, embedding = content.get("signals"), content.get("embedding")
    by_name = by_name if isinstance(by_name, dict) else {}
    for name in signals:
        if not _number(by_name.get(name)) or not 0 <= by_name[name] <= _LARGEST:
            raise BundleError(f"{LAYOUT.typical}: signals.{name}", str(by_name.get(name))[:80], f"a number from 0 to {_LARGEST:.0e}")
    if not isinstance(embedding, list) or len(embedding) != dim or not all(_number(value) and -1 <= value <= 1 for value in embedding):
        found = f"{len(embedding)} values" if isinstance(embedding, list) else type(embedding).__name__
        raise BundleError(f"{LAYOUT.typical}: embedding", found, f"{dim} numbers from -1 to 1")
    return [by_name[name] for name in signals], embedding


def _number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float)


def _manifest(raw: Any) -> Manifest:
    if not isinstance(raw, dict):
        raise BundleError(LAYOUT.manifest, type(raw).__name__, "an object")
    found = raw.get("format_version")
    if found != FORMAT_VERSION or isinstance(found, bool):
        raise BundleError(f"{LAYOUT.manifest}: format_version", found, FORMAT_VERSION)
    try:
        tiers = tuple(map(str, raw["tiers"]))
        manifest = Manifest(
            version=str(raw["version"]),
            tiers=tiers,
            signals=tuple(map(str, raw["signals"])),
            basis=str(raw["basis"]),
            prior=tuple(float(raw["prior"][tier]) for tier in tiers),
            paths=tuple(map(str, raw["paths"])),
            files={str(name): str(digest) for name, digest in raw["files"].items()},
            raw=raw,
        )
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise BundleError(LAYOUT.manifest, f"{type(error).__name__}: {error}", "the entries of format version 1") from error
    if not isinstance(raw["tiers"], list) or not 2 <= len(set(tiers)) == len(tiers) <= 8:
        raise BundleError(f"{LAYOUT.manifest}: tiers", list(tiers), "2 to 8 different names")
    if manifest.paths not in (("fast",), ("fast", "accurate")) or not isinstance(raw["paths"], list):
        raise BundleError(f"{LAYOUT.manifest}: paths", raw["paths"], '["fast"] or ["fast", "accurate"]')
    if not all(0 < share < 1 for share in manifest.prior) or not math.isclose(sum(manifest.prior), 1, abs_tol=1e-6):
        raise BundleError(f"{LAYOUT.manifest}: prior", manifest.prior, "a share between 0 and 1 for each tier, 1 together")
    return manifest
