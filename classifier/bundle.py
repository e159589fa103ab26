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


LAYOUT = Layout()
CURRENT = "CURRENT"
"""The file beside the bundles that names the one in use."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself. ``raw`` is the whole of manifest.json, for people."""

    version: str
    tiers: tuple[str, ...]
    signals: tuple[str, ...]
    basis: str
    prior: tuple[float, ...]
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
    for name in (LAYOUT.policy, LAYOUT.calibration, LAYOUT.head, LAYOUT.encoder, LAYOUT.tokenizer):
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


def targets(bundle: Path) -> dict[str, float]:
    """The target sufficiency of each path, from policy.json."""
    content = read_json(bundle / LAYOUT.policy)
    found = content.get("targets") if isinstance(content, dict) else None
    if (
        not isinstance(found, dict)
        or "fast" not in found
        or not all(not isinstance(value, bool) and isinstance(value, int | float) and 0 < value <= 1 for value in found.values())
    ):
        raise BundleError(f"{LAYOUT.policy}: targets", str(found)[:80], "a number above 0 and up to 1 for each path, fast among them")
    return found


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
            files={str(name): str(digest) for name, digest in raw["files"].items()},
            raw=raw,
        )
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise BundleError(LAYOUT.manifest, f"{type(error).__name__}: {error}", "the entries of format version 1") from error
    if not isinstance(raw["tiers"], list) or not 2 <= len(set(tiers)) == len(tiers) <= 8:
        raise BundleError(f"{LAYOUT.manifest}: tiers", list(tiers), "2 to 8 different names")
    if not all(0 < share < 1 for share in manifest.prior) or not math.isclose(sum(manifest.prior), 1, abs_tol=1e-6):
        raise BundleError(f"{LAYOUT.manifest}: prior", manifest.prior, "a share between 0 and 1 for each tier, 1 together")
    return manifest
