"""Settings of the server, read once at the entry point: defaults, then POINTSMAN_* variables, then flags."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from classifier.errors import ConfigError
from classifier.router import CATALOG, MODELS
from classifier.types import Path as ScorePath

PREFIX = "POINTSMAN_"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server needs to know before it starts. Sizes in bytes."""

    host: str = "127.0.0.1"
    port: int = 8080
    bundle: Path = MODELS  # a bundle, or a folder of bundles with CURRENT
    catalog: Path = CATALOG
    path: ScorePath = "auto"
    accurate_threads: int = max(1, (os.cpu_count() or 1) // 2)  # the event loop needs a core as well
    max_body: int = 4 * 1024 * 1024
    max_batch: int = 256

    @classmethod
    def read(cls, environ: Mapping[str, str], flags: Mapping[str, Any]) -> "Settings":
        """Merge variables and flags over the defaults; flags that are None were not given.

        Raises:
            ConfigError: a value of the wrong kind or out of range, by the name under which it was given.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            variable = PREFIX + field.name.upper()
            if flags.get(field.name) is not None:
                values[field.name] = _parse(f"--{field.name.replace('_', '-')}", field.name, str(flags[field.name]))
            elif variable in environ:
                values[field.name] = _parse(variable, field.name, environ[variable])
        return cls(**values)


_RANGES = {"port": (0, 65_535), "max_body": (1, 1 << 30), "max_batch": (1, 100_000), "accurate_threads": (1, 256)}


def _parse(where: str, name: str, text: str) -> Any:
    if name in _RANGES:
        low, high = _RANGES[name]
        if not text.isascii() or not text.isdigit() or len(text) > 10 or not low <= int(text) <= high:
            raise ConfigError(where, repr(text[:40]), f"a whole number from {low} to {high}")
        return int(text)
    if name in ("bundle", "catalog"):
        return Path(text)
    if name == "path" and text not in get_args(ScorePath):
        raise ConfigError(where, repr(text), "one of " + ", ".join(get_args(ScorePath)))
    return text
