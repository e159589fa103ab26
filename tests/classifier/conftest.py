"""The shipped bundle, loaded once, and copies of it to damage."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from classifier import Router
from classifier.bundle import LAYOUT, Manifest, find, verify
from classifier.router import MODELS, Accurate
from classifier.signals import NAMES

Rewrite = Callable[[str, bytes], None]


@pytest.fixture(name="shipped", scope="session")
def _shipped() -> Path:
    """The bundle that CURRENT names. Read-only: damage a ``bundle`` instead."""
    return find(MODELS)


@pytest.fixture(name="manifest", scope="session")
def _manifest(shipped: Path) -> Manifest:
    """What the shipped bundle says of itself."""
    return verify(shipped, NAMES)


@pytest.fixture(name="router", scope="session")
def _router(shipped: Path) -> Router:
    """The shipped bundle, ready to score."""
    return Router.load(shipped)


@pytest.fixture(name="accurate", scope="session")
def _accurate(router: Router) -> Accurate:
    """The accurate path of the shipped bundle."""
    assert router.accurate is not None
    return router.accurate


@pytest.fixture(name="fast_alone", scope="session")
def _fast_alone(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Router:
    """The shipped bundle without its accurate path, ready to score; its policy.json still names all three targets."""
    folder = tmp_path_factory.mktemp("fast_alone") / shipped.name
    shutil.copytree(shipped, folder, ignore=shutil.ignore_patterns("analysis", LAYOUT.accurate))
    raw = json.loads((folder / LAYOUT.manifest).read_bytes())
    files = {name: digest for name, digest in raw["files"].items() if not name.startswith(f"{LAYOUT.accurate}/")}
    (folder / LAYOUT.manifest).write_text(json.dumps({**raw, "paths": ["fast"], "files": files}), encoding="utf-8")
    return Router.load(folder)


@pytest.fixture(name="bundle")
def _bundle(shipped: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the shipped bundle that a test may damage; gone after it, since a hundred copies would fill gigabytes."""
    copy = tmp_path / shipped.name
    yield Path(shutil.copytree(shipped, copy, ignore=shutil.ignore_patterns("analysis")))
    shutil.rmtree(copy)


@pytest.fixture(name="edit_manifest")
def _edit_manifest(bundle: Path) -> Callable[..., None]:
    """Replace entries of the bundle's manifest."""

    def edit(**entries: Any) -> None:
        file = bundle / LAYOUT.manifest
        file.write_text(json.dumps({**json.loads(file.read_bytes()), **entries}), encoding="utf-8")

    return edit


@pytest.fixture(name="rewrite")
def _rewrite(bundle: Path, edit_manifest: Callable[..., None]) -> Rewrite:
    """Replace a file of the bundle and its digest, as a careful forger would."""

    def rewrite(name: str, content: bytes) -> None:
        (bundle / name).write_bytes(content)
        files = json.loads((bundle / LAYOUT.manifest).read_bytes())["files"]
        edit_manifest(files={**files, name: hashlib.sha256(content).hexdigest()})

    return rewrite


@pytest.fixture(name="compass_folder")
def _compass_folder(tmp_path: Path) -> Path:
    """An encoder of three words in two dimensions: east (3, 0), north (0, 4), west (-3, 0)."""
    folder = tmp_path / "compass"
    folder.mkdir()
    tokenizer = Tokenizer(WordLevel({"east": 0, "north": 1, "west": 2}))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    initialisers = [
        numpy_helper.from_array(np.array([[3, 0], [0, 4], [-3, 0]], np.float32), "table"),
        numpy_helper.from_array(np.array([0], np.int64), "axis"),
        numpy_helper.from_array(np.array(1e-12, np.float32), "tiny"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axis"], ["sum"], keepdims=1),
        helper.make_node("ReduceL2", ["sum"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Max", ["length", "tiny"], ["divisor"]),
        helper.make_node("Div", ["sum", "divisor"], ["embedding"]),
    ]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 2])]
    graph = helper.make_graph(nodes, "compass", inputs, outputs, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"teacher": "a compass"})
    onnx.save(model, str(folder / "encoder.onnx"))
    return folder
