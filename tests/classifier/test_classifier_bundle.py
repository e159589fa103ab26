"""A bundle: a folder that is verified before any of it is used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifier import Router
from classifier.bundle import CURRENT, FORMAT_VERSION, LAYOUT, Manifest, find, targets, verify
from classifier.errors import BundleError
from classifier.signals import NAMES

FAST = ("policy.json", "calibration.json", "fast/head.onnx", "fast/encoder.onnx", "fast/tokenizer.json")
ACCURATE = ("accurate/head.onnx", "accurate/encoder.onnx", "accurate/tokenizer.json")
BOTH_PATHS = ("fast", "accurate")
MIB = 1 << 20


def refused(action: Callable[[], object]) -> BundleError:
    """The error by which a bundle is refused; it says what was found and what was expected."""
    with pytest.raises(BundleError) as caught:
        action()
    error = caught.value
    assert str(error) == f"{error.what}: found {error.found}, expected {error.expected}"
    return error


# the shipped one


def test_the_shipped_bundle_is_verified(shipped: Path, manifest: Manifest) -> None:
    """Every file is the one that training wrote, and the code is the one that trained."""
    assert manifest.version == shipped.name
    assert manifest.signals == NAMES
    assert manifest.tiers == ("small", "medium", "large")
    assert manifest.paths == BOTH_PATHS
    assert sum(manifest.prior) == pytest.approx(1)
    assert manifest.raw["format_version"] == FORMAT_VERSION


def test_every_file_that_ships_is_in_the_manifest(bundle: Path, manifest: Manifest) -> None:
    """Nothing lies in the folder that nobody vouches for."""
    found = {file.relative_to(bundle).as_posix() for file in bundle.rglob("*") if file.is_file()}
    assert found == {*manifest.files, LAYOUT.manifest}
    assert {*FAST, *ACCURATE} <= found


def test_the_shipped_bundle_holds_no_pickle(manifest: Manifest) -> None:
    """Plain files only: nothing that runs when it is read."""
    assert {Path(name).suffix for name in manifest.files} <= {".json", ".onnx", ".md", ".txt", ".svg", ".npz"}


def test_the_shipped_bundle_is_small(bundle: Path) -> None:
    """At most 12 MiB to answer by on the fast path, 32 MiB in all."""
    sizes = {file: file.stat().st_size for file in bundle.rglob("*") if file.is_file()}
    assert sum(size for file, size in sizes.items() if file.parent.name == LAYOUT.fast) <= 12 * MIB
    assert sum(sizes.values()) <= 32 * MIB


# damage


def test_a_flipped_byte_is_found_in_every_file(bundle: Path, manifest: Manifest) -> None:
    """One changed bit anywhere stops start-up with the file, the digest found and the digest expected."""
    for name, digest in manifest.files.items():
        content = (bundle / name).read_bytes()
        place = len(content) // 2
        (bundle / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        error = refused(lambda: verify(bundle, NAMES))
        (bundle / name).write_bytes(content)
        assert (error.what, error.expected) == (name, f"sha256 {digest}")
        assert str(error.found).startswith("sha256 ")
    assert verify(bundle, NAMES) == manifest


def test_a_missing_file_is_found(bundle: Path, manifest: Manifest) -> None:
    """Whichever file is gone is named."""
    for name, digest in manifest.files.items():
        hidden = (bundle / name).rename(bundle / "hidden")
        error = refused(lambda: verify(bundle, NAMES))
        hidden.rename(bundle / name)
        assert (error.what, error.found, error.expected) == (name, "no file", f"sha256 {digest}")
    assert verify(bundle, NAMES) == manifest


@pytest.mark.parametrize("name", [LAYOUT.head, LAYOUT.policy, LAYOUT.accurate_encoder, LAYOUT.task])
def test_a_damaged_bundle_is_not_loaded(bundle: Path, name: str) -> None:
    """The router refuses what verification refuses."""
    (bundle / name).write_bytes((bundle / name).read_bytes() + b" ")
    assert refused(lambda: Router.load(bundle)).what == name


def test_an_empty_file_is_found(bundle: Path) -> None:
    """A copy that ran out of disk is refused."""
    (bundle / LAYOUT.encoder).write_bytes(b"")
    assert refused(lambda: verify(bundle, NAMES)).what == LAYOUT.encoder


# the manifest


def test_a_renamed_signal_is_found(bundle: Path, edit_manifest: Callable[..., None]) -> None:
    """A head must never be fed signals that it was not trained on: the first one that differs is named."""
    edit_manifest(signals=[*NAMES[:3], "content_wordz", *NAMES[4:]])
    error = refused(lambda: verify(bundle, NAMES))
    assert (error.what, error.found, error.expected) == ("signals[3]", "'content_wordz'", repr(NAMES[3]))


def test_reordered_signals_are_found(bundle: Path, edit_manifest: Callable[..., None]) -> None:
    """The same names in another order are other signals."""
    edit_manifest(signals=[NAMES[1], NAMES[0], *NAMES[2:]])
    assert refused(lambda: verify(bundle, NAMES)).what == "signals[0]"


@pytest.mark.parametrize("signals", [NAMES[:-1], (*NAMES, "one_more"), ()], ids=["fewer", "more", "none"])
def test_another_number_of_signals_is_found(bundle: Path, edit_manifest: Callable[..., None], signals: tuple[str, ...]) -> None:
    """A bundle of a version with fewer or more signals is refused."""
    edit_manifest(signals=signals)
    error = refused(lambda: verify(bundle, NAMES))
    assert (error.what, error.found) == ("signals", f"{len(signals)} signals in the bundle")
    assert error.expected == f"{len(NAMES)} in this version"


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, "1", None, True])
def test_another_format_is_found(bundle: Path, edit_manifest: Callable[..., None], version: Any) -> None:
    """A bundle of a newer format is refused before anything else of it is believed."""
    edit_manifest(format_version=version, files={}, signals=None)
    error = refused(lambda: verify(bundle, NAMES))
    assert (error.what, error.found, error.expected) == ("manifest.json: format_version", version, FORMAT_VERSION)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"{'tiers': 3}", b"[" * 100_000], ids=["empty", "cut", "no utf-8", "python", "deep"]
)
def test_a_manifest_that_is_no_json_is_refused(bundle: Path, content: bytes) -> None:
    """A broken manifest is named, and what it should be."""
    (bundle / LAYOUT.manifest).write_bytes(content)
    error = refused(lambda: verify(bundle, NAMES))
    assert (error.what, error.expected) == ("manifest.json", "a JSON file")
    assert str(error.found).startswith("no JSON")


def test_a_missing_manifest_is_refused(bundle: Path) -> None:
    """A folder without a manifest is no bundle."""
    (bundle / LAYOUT.manifest).unlink()
    assert refused(lambda: verify(bundle, NAMES)).found == "no readable file"


@pytest.mark.parametrize(("content", "found"), [("[]", "list"), ("null", "NoneType"), ("3", "int")])
def test_a_manifest_that_is_no_object_is_refused(bundle: Path, content: str, found: str) -> None:
    """JSON of another kind is no manifest."""
    (bundle / LAYOUT.manifest).write_text(content, encoding="utf-8")
    error = refused(lambda: verify(bundle, NAMES))
    assert (error.what, error.found, error.expected) == ("manifest.json", found, "an object")


@pytest.mark.parametrize("entry", ["version", "tiers", "signals", "basis", "prior", "paths", "files"])
def test_a_manifest_without_an_entry_is_refused(bundle: Path, entry: str) -> None:
    """Whichever entry is missing is named."""
    raw = json.loads((bundle / LAYOUT.manifest).read_bytes())
    del raw[entry]
    (bundle / LAYOUT.manifest).write_text(json.dumps(raw), encoding="utf-8")
    error = refused(lambda: verify(bundle, NAMES))
    assert error.what == "manifest.json"
    assert entry in str(error.found)


@pytest.mark.parametrize(
    "entries",
    [
        {"tiers": 3},
        {"signals": None},
        {"files": ["policy.json"]},
        {"prior": [0.6, 0.3, 0.1]},
        {"prior": {"small": 1}},
        {"tiers": ["a", "b"]},
        {"paths": 3},
        {"paths": None},
    ],
    ids=str,
)
def test_a_manifest_with_an_entry_of_another_kind_is_refused(
    bundle: Path, edit_manifest: Callable[..., None], entries: dict[str, Any]
) -> None:
    """Entries of the wrong kind, and a prior that does not fit the tiers, are errors of the manifest."""
    edit_manifest(**entries)
    assert refused(lambda: verify(bundle, NAMES)).what == "manifest.json"


@pytest.mark.parametrize("tiers", [["one"], ["twin", "other", "twin"], [*"abcdefghi"], []], ids=["one", "twins", "nine", "none"])
def test_two_to_eight_different_tiers_are_required(bundle: Path, edit_manifest: Callable[..., None], tiers: list[str]) -> None:
    """Other numbers of tiers, and two tiers of one name, are refused."""
    edit_manifest(tiers=tiers, prior=dict.fromkeys(tiers, 0.1))
    error = refused(lambda: verify(bundle, NAMES))
    assert (error.what, error.found, error.expected) == ("manifest.json: tiers", tiers, "2 to 8 different names")


def test_tiers_are_a_list_of_names(bundle: Path, edit_manifest: Callable[..., None]) -> None:
    """A word is not a list of its letters."""
    edit_manifest(tiers="ab", prior={"a": 0.5, "b": 0.5})
    error = refused(lambda: verify(bundle, NAMES))
    assert (error.what, error.expected) == ("manifest.json: tiers", "2 to 8 different names")


@pytest.mark.parametrize(
    "shares",
    [(float("nan"), 0.3, 0.1), (float("inf"), 0.3, 0.1), (0.9, 0.3, -0.2), (1.0, 0.0, 0.0), (0.6, 0.3, 0.2)],
    ids=["nan", "infinite", "negative", "zero", "above one"],
)
def test_a_prior_is_shares_of_one(bundle: Path, edit_manifest: Callable[..., None], shares: tuple[float, ...]) -> None:
    """Every tier has a share of the traffic, and together they are all of it."""
    edit_manifest(prior=dict(zip(("small", "medium", "large"), shares, strict=True)))
    error = refused(lambda: verify(bundle, NAMES))
    assert (error.what, error.expected) == ("manifest.json: prior", "a share between 0 and 1 for each tier, 1 together")


@pytest.mark.parametrize("name", ["policy\0.json", "x" * 300], ids=["nul", "300 characters"])
def test_a_name_that_no_file_can_have_is_a_missing_file(
    bundle: Path, manifest: Manifest, edit_manifest: Callable[..., None], name: str
) -> None:
    """What the file system refuses to look for is not there."""
    edit_manifest(files={**manifest.files, name: "0" * 64})
    error = refused(lambda: verify(bundle, NAMES))
    assert (error.what, error.found) == (name, "no file")


@pytest.mark.parametrize("name", [*FAST, *ACCURATE])
def test_a_serving_file_without_a_digest_is_refused(
    bundle: Path, manifest: Manifest, edit_manifest: Callable[..., None], name: str
) -> None:
    """Leaving a file out of the manifest does not exempt it from verification."""
    edit_manifest(files={other: digest for other, digest in manifest.files.items() if other != name})
    error = refused(lambda: verify(bundle, NAMES))
    assert (error.what, error.found) == ("manifest.json: files", f"no entry for {name}")


def test_a_bundle_of_one_path_needs_no_file_of_the_other(bundle: Path, manifest: Manifest, edit_manifest: Callable[..., None]) -> None:
    """Only what the manifest's paths name has to be there."""
    shutil.rmtree(bundle / LAYOUT.accurate)
    files = {name: digest for name, digest in manifest.files.items() if name not in ACCURATE and name != LAYOUT.accurate_outcomes}
    edit_manifest(paths=["fast"], files=files)
    assert verify(bundle, NAMES).paths == ("fast",)


def test_what_serves_depends_on_the_paths() -> None:
    """The fast path's files always, the accurate path's where there is one."""
    assert set(LAYOUT.serving(("fast",))) == set(FAST)
    assert set(LAYOUT.serving(BOTH_PATHS)) == {*FAST, *ACCURATE}


@pytest.mark.parametrize(
    "paths",
    [
        [],
        ["accurate"],
        ["accurate", "fast"],
        ["fast", "fast"],
        ["fast", "auto"],
        ["fast", "accurate", "slow"],
        [["fast"]],
        "fast",
        {"fast": 1},
    ],
    ids=str,
)
def test_paths_are_the_fast_one_or_both(bundle: Path, edit_manifest: Callable[..., None], paths: Any) -> None:
    """Every bundle has the fast path; `auto` is a way to ask, not a path; other paths are of other versions."""
    edit_manifest(paths=paths)
    error = refused(lambda: verify(bundle, NAMES))
    assert (error.what, error.found, error.expected) == ("manifest.json: paths", paths, '["fast"] or ["fast", "accurate"]')


@pytest.mark.parametrize("kind", ["relative", "absolute", "link"])
def test_a_path_outside_the_bundle_is_refused(
    bundle: Path, manifest: Manifest, edit_manifest: Callable[..., None], tmp_path: Path, kind: str
) -> None:
    """Neither `..`, nor a path from the root, nor a link leads out of the bundle."""
    digest = manifest.files[LAYOUT.policy]
    outside = Path(shutil.copy(bundle / LAYOUT.policy, tmp_path / "outside.json"))
    (bundle / "link.json").symlink_to(outside)
    name = {"relative": "../outside.json", "absolute": str(outside), "link": "link.json"}[kind]
    edit_manifest(files={**manifest.files, name: digest})
    error = refused(lambda: verify(bundle, NAMES))
    assert (error.what, error.found, error.expected) == ("manifest.json: files", name, "paths within the bundle")


# targets and margin


def told(folder: Path, content: Any, paths: tuple[str, ...] = BOTH_PATHS) -> tuple[dict[str, float], float]:
    """What a policy.json of this content says."""
    (folder / LAYOUT.policy).write_text(json.dumps(content), encoding="utf-8")
    return targets(folder, paths)


def test_the_shipped_bundle_has_a_target_for_each_path_and_a_margin(shipped: Path) -> None:
    """They are what training wrote down, and the margin lets `auto` look twice now and then."""
    stated = json.loads((shipped / LAYOUT.policy).read_bytes())
    found, margin = targets(shipped, BOTH_PATHS)
    assert (found, margin) == (stated["targets"], stated["margin"])
    assert set(found) == {"fast", "auto", "accurate"}
    assert margin > 0


def test_a_bundle_of_one_path_needs_the_fast_target_alone(tmp_path: Path) -> None:
    """Without a margin none is asked for: there is nobody to ask again."""
    assert told(tmp_path, {"targets": {"fast": 0.9}}, ("fast",)) == ({"fast": 0.9}, 0.0)


def test_a_target_may_be_one_and_a_margin_zero(tmp_path: Path) -> None:
    """Whole numbers are numbers, and the ends of the range belong to it."""
    every = {"fast": 1, "auto": 1.0, "accurate": 0.001}
    assert told(tmp_path, {"targets": every, "margin": 0}) == (every, 0)


@pytest.mark.parametrize("missing", ["fast", "auto", "accurate"])
def test_with_two_paths_every_way_to_ask_needs_its_target(tmp_path: Path, missing: str) -> None:
    """The target of one path says nothing of another: its decisions go wrong elsewhere."""
    some = {path: 0.9 for path in ("fast", "auto", "accurate") if path != missing}
    error = refused(lambda: told(tmp_path, {"targets": some}))
    expected = "a number above 0 and up to 1 for each of accurate, auto, fast"
    assert (error.what, error.found, error.expected) == ("policy.json: targets", str(some), expected)


@pytest.mark.parametrize("value", [0, -0.5, 1.001, 7, True, "0.9", None, [0.9], float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("path", ["fast", "auto", "accurate"])
def test_a_target_of_any_path_is_a_probability(tmp_path: Path, path: str, value: Any) -> None:
    """Even one that a bundle of one path does not use."""
    every = {"fast": 0.9, "auto": 0.9, "accurate": 0.9, path: value}
    assert refused(lambda: told(tmp_path, {"targets": every})).what == "policy.json: targets"
    error = refused(lambda: told(tmp_path, {"targets": every}, ("fast",)))
    assert (error.what, error.expected) == ("policy.json: targets", "a number above 0 and up to 1 for each of fast")


@pytest.mark.parametrize("content", [None, [], 3, "targets", {}, {"targets": None}, {"targets": ["fast"]}, {"fast": 0.9}], ids=str)
@pytest.mark.parametrize("paths", [("fast",), BOTH_PATHS], ids="+".join)
def test_a_policy_of_another_shape_is_refused(tmp_path: Path, content: Any, paths: tuple[str, ...]) -> None:
    """Without targets nothing can be decided."""
    assert refused(lambda: told(tmp_path, content, paths)).what == "policy.json: targets"


@pytest.mark.parametrize(
    "margin", [-0.1, -1, True, "1.25", None, [1], {}, float("nan"), 20.1, float("inf"), 10**400], ids=lambda margin: str(margin)[:12]
)
@pytest.mark.parametrize("paths", [("fast",), BOTH_PATHS], ids="+".join)
def test_a_margin_is_a_number_from_zero_to_twenty(tmp_path: Path, margin: Any, paths: tuple[str, ...]) -> None:
    """On a bundle of either kind."""
    every = {"fast": 0.9, "auto": 0.9, "accurate": 0.9}
    error = refused(lambda: told(tmp_path, {"targets": every, "margin": margin}, paths))
    assert (error.what, error.found, error.expected) == ("policy.json: margin", str(margin)[:80], "a number from 0 to 20")


# finding one


def test_a_bundle_is_found_by_its_own_folder(shipped: Path) -> None:
    """A folder with a manifest is meant itself."""
    assert find(shipped) == shipped


def test_a_folder_of_bundles_means_the_current_one(bundle: Path, tmp_path: Path) -> None:
    """CURRENT names it, with or without white space around the name."""
    (tmp_path / CURRENT).write_text(f" {bundle.name}\n", encoding="utf-8")
    assert find(tmp_path) == bundle
    assert verify(find(tmp_path), NAMES).version == bundle.name


@pytest.mark.parametrize("name", ["", "empty", "missing"])
def test_a_place_without_a_bundle_is_named(tmp_path: Path, name: str) -> None:
    """A folder without a bundle, or no folder at all, says what was looked for."""
    (tmp_path / "empty").mkdir()
    error = refused(lambda: find(tmp_path / name))
    assert (error.what, error.found) == (str(tmp_path / name), "no manifest.json and no CURRENT")
    assert error.expected == "a bundle, or a folder of bundles with CURRENT"


@pytest.mark.parametrize(
    "nonsense",
    ["", "\n", "2020-01-01-00000000", ".", "..", "../..", "x" * 300, "/", "a/b", "a\0b", "one\ntwo", "../{name}", "./{name}", "{name}/"],
)
def test_a_current_that_names_no_bundle_beside_it_is_refused(bundle: Path, tmp_path: Path, nonsense: str) -> None:
    """CURRENT holds the name of a bundle in the same folder, and nothing else."""
    name = nonsense.format(name=bundle.name)
    (tmp_path / CURRENT).write_text(name, encoding="utf-8")
    error = refused(lambda: find(tmp_path))
    assert (error.what, error.found) == (str(tmp_path / CURRENT), repr(name.strip()[:80]))
    assert error.expected == "the name of a bundle in the same folder"


def test_a_folder_above_is_not_current(bundle: Path) -> None:
    """`..` is no name, even where a bundle lies there."""
    (bundle / "inner").mkdir()
    (bundle / "inner" / CURRENT).write_text("..", encoding="utf-8")
    error = refused(lambda: find(bundle / "inner"))
    assert (error.what, error.found) == (str(bundle / "inner" / CURRENT), "'..'")


def test_a_current_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 name nothing."""
    (tmp_path / CURRENT).write_bytes(b"\xff\xfe\x00")
    error = refused(lambda: find(tmp_path))
    assert (error.what, error.found, error.expected) == (str(tmp_path / CURRENT), "no UTF-8", "the name of a bundle in the same folder")
