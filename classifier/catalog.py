"""The catalog: which model stands behind a tier, read from a TOML file."""

import tomllib
from pathlib import Path
from typing import Any, get_args

from classifier.errors import ConfigError
from classifier.types import Capability, Model

CAPABILITIES = get_args(Capability)
_LARGEST = 1e12


def read_catalog(file: Path, tiers: tuple[str, ...]) -> tuple[Model, ...]:
    """The models behind ``tiers``, from ``[tiers.<name>]`` tables of a TOML file; tiers of other bundles are passed over.

    Raises:
        ConfigError: the file, a tier or an entry is missing or of the wrong kind.
    """
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8")).get("tiers", {})
    except OSError as error:
        raise ConfigError(str(file), "no readable file", "a catalog") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(str(file), f"no TOML ({type(error).__name__})", "a catalog") from error
    if not isinstance(tables, dict):
        raise ConfigError(f"{file.name}: tiers", type(tables).__name__, "a table with a table for each tier")
    return tuple(_model(f"{file.name}: tiers.{tier}", tier, tables.get(tier)) for tier in tiers)


def _model(where: str, tier: str, table: Any) -> Model:
    if not isinstance(table, dict):
        raise ConfigError(where, "no table" if table is None else type(table).__name__, "a table with the model of this tier")

    def number(key: str, default: float | None = None, *, whole: bool = False, least: float = 0) -> float:
        value = table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not least <= value <= _LARGEST:
            raise ConfigError(f"{where}.{key}", _shown(value), f"a {'whole ' if whole else ''}number, {least} or more")
        return float(value)

    known = {"model", "input_usd", "output_usd", "context_window", "latency_ms", "capabilities", "token_factor"}
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}.{key}", "an unknown entry", "one of " + ", ".join(sorted(known)))
    model_id, capabilities = table.get("model"), table.get("capabilities", [])
    if not isinstance(model_id, str) or not model_id.strip():
        raise ConfigError(f"{where}.model", repr(model_id), "the id of a model")
    if not isinstance(capabilities, list) or any(name not in CAPABILITIES for name in capabilities):
        raise ConfigError(f"{where}.capabilities", repr(capabilities), f"a list of {', '.join(CAPABILITIES)}")
    return Model(
        tier=tier,
        id=model_id,
        input_usd=number("input_usd"),
        output_usd=number("output_usd"),
        context_window=int(number("context_window", whole=True, least=1)),
        latency_ms=number("latency_ms"),
        capabilities=frozenset(capabilities),
        token_factor=number("token_factor", 1.0, least=0.01),
    )


def _shown(value: object) -> str:
    try:
        return repr(value)[:40]
    except ValueError:  # Python refuses to print whole numbers of thousands of digits
        return "a very large number"
