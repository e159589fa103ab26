"""Who may import whom, proven on the source and in a clean interpreter."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("classifier", "training", "serve")

VOCABULARY = {"types", "errors", "runtime"}
LEAVES = {"conversation", "signals", "encoder", "head", "explain", "policy", "catalog", "bundle"}

SCORING = {"numpy", "onnxruntime", "tokenizers"}
TRAINING_ONLY = {"sklearn", "torch", "onnx", "joblib", "scipy", "matplotlib"}
ENCODER_ONLY = {"sentence_transformers", "model2vec", "torch", "transformers"}
OF_THE_EXTRA = {"training.encoders", "training.finetune"}  # imported inside functions, so that the modules load without it
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}

LOAD_AND_SCORE = """
import json, sys
import serve.__main__, serve.app, serve.label, serve.label.__main__
from serve.settings import Settings
from classifier import Router, from_text
serve.app.create_app(Settings())
(decision,) = Router.load().route([from_text("What is the capital of France?")])
print(json.dumps([decision.tier, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def module_name(file: Path) -> str:
    """``classifier/signals/scan.py`` -> ``classifier.signals.scan``."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(*packages: str) -> list[Path]:
    """Every Python file of these packages."""
    return [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]


def imported(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    r"""Everything that ``module`` imports, at any depth of its code, by absolute dotted name.

    >>> sorted(imported("import a.b as c\ndef f():\n    from .d import e, g", "p.q.r"))
    ['a.b', 'p.q.d.e', 'p.q.d.g']
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".") if is_package else module.split(".")[:-1]
            base = package[: len(package) - node.level + 1] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


@cache
def imports_of(file: Path) -> frozenset[str]:
    """Everything that a file of the checkout imports."""
    return frozenset(imported(file.read_text(encoding="utf-8"), module_name(file), is_package=file.stem == "__init__"))


def packages_of(file: Path) -> set[str]:
    """Top-level packages that a file imports."""
    return {name.partition(".")[0] for name in imports_of(file)}


def rooms_of(file: Path) -> set[str]:
    """Modules directly under ``classifier`` that a file imports; the package itself is ``classifier``."""
    rooms = set()
    for name in imports_of(file):
        package, _, rest = name.partition(".")
        room = rest.partition(".")[0]
        if package == "classifier":
            rooms.add(room if room in VOCABULARY | LEAVES | {"router"} else "classifier")
    return rooms


def room_of(file: Path) -> str:
    """The module directly under ``classifier`` that a file of it belongs to; '' for the package's own file."""
    return (*module_name(file).split("."), "")[1]


def each(files: list[Path]) -> pytest.MarkDecorator:
    """A test of every file, under its name."""
    return pytest.mark.parametrize("file", files, ids=module_name)


# the source


@pytest.mark.parametrize("package", PACKAGES)
def test_there_is_source_to_check(package: str) -> None:
    """The rules below look at something."""
    assert len(sources(package)) > 5


def test_every_module_of_the_classifier_has_its_place() -> None:
    """A new module is written into the rules above before it joins."""
    assert {room_of(file) for file in sources("classifier")} == VOCABULARY | LEAVES | {"router", ""}


@each([file for file in sources("classifier") if room_of(file) in VOCABULARY])
def test_the_vocabulary_imports_nothing_of_ours(file: Path) -> None:
    """types, errors and runtime stand at the bottom."""
    assert not packages_of(file) & {*PACKAGES}


@each([file for file in sources("classifier") if room_of(file) in LEAVES])
def test_leaves_import_only_the_vocabulary(file: Path) -> None:
    """Leaf modules do not know each other, nor the router: each can be read and tested alone."""
    assert rooms_of(file) <= VOCABULARY | {room_of(file)}


def test_the_router_joins_the_leaves() -> None:
    """All of them meet in one module, and only there."""
    assert rooms_of(ROOT / "classifier" / "router.py") >= LEAVES
    joining = [module_name(file) for file in sources("classifier") if len(rooms_of(file) & LEAVES - {room_of(file)}) > 1]
    assert joining == ["classifier.router"]


@each(sources("classifier"))
def test_the_classifier_knows_neither_training_nor_serving(file: Path) -> None:
    """What scores does not know who asks, nor who taught it."""
    assert not packages_of(file) & {"training", "serve"}


@each(sources("classifier"))
def test_the_classifier_needs_three_packages(file: Path) -> None:
    """numpy, onnxruntime, tokenizers and the standard library are all that scoring takes."""
    assert packages_of(file) <= SCORING | {"classifier"} | sys.stdlib_module_names


@each(sources("training"))
def test_training_never_imports_serving(file: Path) -> None:
    """What learns does not need what answers."""
    assert "serve" not in packages_of(file)


@each(sources("serve"))
def test_serving_never_imports_training_nor_its_packages(file: Path) -> None:
    """A server installs none of what training needs."""
    assert not packages_of(file) & (TRAINING_ONLY | ENCODER_ONLY | {"training"})


@each([file for file in sources(*PACKAGES) if module_name(file) not in OF_THE_EXTRA])
def test_only_two_modules_import_the_packages_of_the_encoder_extra(file: Path) -> None:
    """One distils with them, the other fine-tunes; both do without until they are asked to."""
    assert not packages_of(file) & ENCODER_ONLY


@each(sources("classifier", "serve"))
def test_nothing_that_serves_can_unpickle(file: Path) -> None:
    """No module that reads pickles is imported, by name or by a computed name, and numpy is never allowed to."""
    assert not packages_of(file) & UNPICKLERS
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    keywords = {node.arg: node.value for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    assert not (names | attributes | {name.rpartition(".")[2] for name in imports_of(file)}) & {"__import__", "import_module"}
    assert "allow_pickle" not in keywords or ast.unparse(keywords["allow_pickle"]) == "False"


@pytest.mark.parametrize("folder", [*PACKAGES, "benchmarks", "tests"])
def test_no_module_is_named_utils(folder: str) -> None:
    """A module is named after what it does."""
    names = {part for file in sources(folder) for part in file.relative_to(ROOT).with_suffix("").parts}
    assert not names & {"utils", "util"}


# a clean interpreter


def test_a_server_loads_and_scores_without_what_training_needs() -> None:
    """Importing server and labeller, loading the bundle and routing a prompt brings in no package of training, not even indirectly."""
    command = [sys.executable, "-W", "error", "-c", LOAD_AND_SCORE]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    tier, modules = json.loads(run.stdout)
    assert tier in {"small", "medium", "large"}
    assert {"serve", "classifier", *SCORING} <= set(modules)
    assert not set(modules) & (TRAINING_ONLY | ENCODER_ONLY | {"training"})
