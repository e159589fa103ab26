"""The catalog: which model stands behind a tier."""

from pathlib import Path
from typing import Any

import pytest

from classifier.catalog import CAPABILITIES, read_catalog
from classifier.errors import ConfigError
from classifier.router import CATALOG
from classifier.types import Model

GOOD = """
[tiers.small]
model = "model-s"
input_usd = 1
output_usd = 5.5
context_window = 200_000
latency_ms = 900
capabilities = ["tools", "vision"]
token_factor = 1.25

[tiers.large]
model = "model-l"
input_usd = 0
output_usd = 0.0
context_window = 1_000
latency_ms = 0.5
"""


NUMBERS = {
    "input_usd": "a number, 0 or more",
    "output_usd": "a number, 0 or more",
    "context_window": "a whole number, 1 or more",
    "latency_ms": "a number, 0 or more",
    "token_factor": "a number, 0.01 or more",
}


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    """A catalog of two tiers without a fault."""
    file = tmp_path / "models.toml"
    file.write_text(GOOD, encoding="utf-8")
    return file


def refused(file: Path, content: str, tiers: tuple[str, ...] = ("small", "large")) -> ConfigError:
    """The error by which a catalog is refused."""
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_catalog(file, tiers)
    return caught.value


def test_the_shipped_catalog_loads() -> None:
    """config/catalog.toml has a model for each of the default tiers, dearer from tier to tier, that can use tools and see."""
    models = read_catalog(CATALOG, ("small", "medium", "large"))
    costs = [model.cost_usd(1_000, 500) for model in models]
    assert costs == sorted(set(costs))
    assert all(model.capabilities == set(CAPABILITIES) for model in models)


def test_entries_become_models(file: Path) -> None:
    """Every entry is read; capabilities and token factor have defaults."""
    assert read_catalog(file, ("small", "large")) == (
        Model("small", "model-s", 1.0, 5.5, 200_000, 900.0, frozenset({"tools", "vision"}), 1.25),
        Model("large", "model-l", 0.0, 0.0, 1_000, 0.5, frozenset(), 1.0),
    )


def test_models_come_in_the_order_of_the_bundles_tiers(file: Path) -> None:
    """Order is the bundle's, and tiers of other bundles are passed over."""
    assert [model.id for model in read_catalog(file, ("large", "small"))] == ["model-l", "model-s"]
    assert [model.id for model in read_catalog(file, ("large",))] == ["model-l"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error says which file was looked for."""
    missing = tmp_path / "nowhere.toml"
    with pytest.raises(ConfigError) as caught:
        read_catalog(missing, ("small",))
    assert (caught.value.where, caught.value.found, caught.value.expected) == (str(missing), "no readable file", "a catalog")


@pytest.mark.parametrize("content", [b"[tiers.small", b"\xff\xfe\x00", b"a = 1\na = 2"], ids=["unclosed", "bytes", "twice"])
def test_what_is_no_toml_is_named(file: Path, content: bytes) -> None:
    """A broken file is an error of the file, not of an entry."""
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="found no TOML") as caught:
        read_catalog(file, ("small",))
    assert caught.value.where == str(file)


@pytest.mark.parametrize("content", ["", "[tiers]", GOOD.replace("tiers.small", "tiers.tiny")], ids=["empty", "no tiers", "another tier"])
def test_a_tier_without_a_model_is_named(file: Path, content: str) -> None:
    """Every tier of the bundle needs a table."""
    error = refused(file, content)
    assert (error.where, error.found) == ("models.toml: tiers.small", "no table")


def test_a_tier_that_is_no_table_is_named(file: Path) -> None:
    """A tier is a table, not the name of a model."""
    error = refused(file, 'tiers.small = "model-s"')
    assert (error.where, error.found) == ("models.toml: tiers.small", "str")


@pytest.mark.parametrize("content", ["tiers = 3", "tiers = []", 'tiers = "small"'], ids=["number", "list", "string"])
def test_tiers_that_are_no_table_are_named(file: Path, content: str) -> None:
    """Tiers stand in a table, one table each."""
    error = refused(file, content)
    assert (error.where, error.expected) == ("models.toml: tiers", "a table with a table for each tier")


def with_entry(key: str, value: str) -> str:
    """The catalog with another value of ``key`` for either tier."""
    return "\n".join(f"{key} = {value}" if line.startswith(f"{key} =") else line for line in GOOD.splitlines())


@pytest.mark.parametrize(("key", "expected"), NUMBERS.items(), ids=NUMBERS)
@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("-1", "-1"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("true", "True"),
        ('"3"', "'3'"),
        ("[3]", "[3]"),
        ("9" * 400, "9" * 40),
    ],
    ids=["negative", "nan", "infinite", "truth", "string", "list", "400 digits"],
)
def test_a_wrong_number_is_named(file: Path, key: str, expected: str, value: str, found: str) -> None:
    """Prices, sizes and factors are finite numbers, none below its least value."""
    error = refused(file, with_entry(key, value))
    assert (error.where, error.found, error.expected) == (f"models.toml: tiers.small.{key}", found, expected)


@pytest.mark.parametrize(("key", "value"), [("token_factor", "0"), ("context_window", "0"), ("context_window", "1.7")])
def test_a_size_that_no_model_has_is_named(file: Path, key: str, value: str) -> None:
    """A factor of 0 would make every prompt fit, and tokens are whole."""
    error = refused(file, with_entry(key, value))
    assert (error.where, error.found, error.expected) == (f"models.toml: tiers.small.{key}", value, NUMBERS[key])


@pytest.mark.parametrize("key", ["model", "input_usd", "output_usd", "context_window", "latency_ms"])
def test_a_missing_entry_is_named(file: Path, key: str) -> None:
    """Whatever has no default must stand in the file."""
    head, tail = GOOD.split("[tiers.large]")
    lines = [line for line in tail.splitlines() if not line.startswith(key)]
    error = refused(file, f"{head}[tiers.large]\n" + "\n".join(lines))
    assert (error.where, error.found) == (f"models.toml: tiers.large.{key}", "None")


def test_an_unknown_entry_is_named(file: Path) -> None:
    """A misspelt entry is not taken for its default."""
    error = refused(file, GOOD.replace("token_factor", "token_faktor"))
    assert (error.where, error.found) == ("models.toml: tiers.small.token_faktor", "an unknown entry")
    assert "token_factor" in str(error.expected)


@pytest.mark.parametrize(
    ("entry", "value", "found"),
    [
        ("model", '""', "''"),
        ("model", '" "', "' '"),
        ("model", "3", "3"),
        ("capabilities", '["tools", "telepathy"]', "['tools', 'telepathy']"),
        ("capabilities", '"tools"', "'tools'"),
        ("capabilities", "[1]", "[1]"),
        ("capabilities", '[["tools"]]', "[['tools']]"),
    ],
)
def test_a_wrong_word_is_named(file: Path, entry: str, value: str, found: Any) -> None:
    """A model has an id, and capabilities are a list of known ones."""
    error = refused(file, with_entry(entry, value), ("small",))
    assert (error.where, error.found) == (f"models.toml: tiers.small.{entry}", found)


def test_an_error_says_where_what_and_what_else(file: Path) -> None:
    """One line that a person can act on."""
    assert (
        str(refused(file, GOOD.replace("input_usd = 1", "input_usd = -1")))
        == "models.toml: tiers.small.input_usd: found -1, expected a number, 0 or more"
    )
