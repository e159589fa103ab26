"""Settings: defaults, then variables, then flags; what cannot be used is refused by the name under which it was given."""

import os
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.errors import ConfigError
from classifier.router import CATALOG, MODELS
from classifier.types import Path as ScorePath
from serve.settings import Settings

NUMBERS = {"port": (0, 65_535), "max_body": (1, 1 << 30), "max_batch": (1, 100_000), "accurate_threads": (1, 256)}


def test_nothing_given_means_the_documented_defaults() -> None:
    """Without variables and flags a server listens on loopback, takes 4 MiB and 256 requests, and looks twice where it matters."""
    assert Settings.read({}, {}) == Settings(
        host="127.0.0.1", port=8080, bundle=MODELS, catalog=CATALOG, path="auto", max_body=4 * 1024 * 1024, max_batch=256
    )


def test_the_accurate_path_has_half_of_the_cores_by_default() -> None:
    """And one at least; the rest are for the event loop and for others."""
    assert Settings.read({}, {}).accurate_threads == max(1, (os.cpu_count() or 1) // 2)


def test_every_setting_can_be_given_by_a_variable() -> None:
    """A variable is POINTSMAN_ and the setting's name in capitals."""
    environ = {
        "POINTSMAN_HOST": "0.0.0.0",  # noqa: S104 - read, never listened on
        "POINTSMAN_PORT": "9",
        "POINTSMAN_BUNDLE": "b",
        "POINTSMAN_CATALOG": "c.toml",
        "POINTSMAN_PATH": "fast",
        "POINTSMAN_ACCURATE_THREADS": "3",
        "POINTSMAN_MAX_BODY": "10",
        "POINTSMAN_MAX_BATCH": "11",
    }
    found = Settings.read(environ, {})
    assert found == Settings("0.0.0.0", 9, Path("b"), Path("c.toml"), "fast", 3, 10, 11)  # noqa: S104 - as above


def test_a_flag_wins_over_its_variable() -> None:
    """What stands on the command line is what counts, even where the variable could not be used."""
    assert Settings.read({"POINTSMAN_PORT": "abc", "POINTSMAN_MAX_BATCH": "2"}, {"port": "7", "max_batch": None}) == Settings(
        port=7, max_batch=2
    )


def test_variables_of_other_names_are_passed_over() -> None:
    """Only POINTSMAN_ and a setting's name is a setting."""
    assert Settings.read({"PORT": "1", "POINTSMAN_COLOUR": "red", "pointsman_port": "2"}, {}) == Settings()


@pytest.mark.parametrize("text", ["abc", "", "-1", "1.5", "8080 ", "0x10", "٣", "²", "1e3"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_written_in_plain_digits(name: str, text: str) -> None:
    """Anything else is refused with the variable's name, what was found and what was expected."""
    variable = f"POINTSMAN_{name.upper()}"
    with pytest.raises(ConfigError) as caught:
        Settings.read({variable: text}, {})
    low, high = NUMBERS[name]
    assert str(caught.value) == f"{variable}: found {text!r}, expected a whole number from {low} to {high}"


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_of_5000_digits_is_refused_as_any_other(name: str) -> None:
    """More than int() reads; the message holds its beginning."""
    with pytest.raises(ConfigError) as caught:
        Settings.read({}, {name: "9" * 5_000})
    assert "expected a whole number from" in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.sampled_from(sorted(NUMBERS)), st.integers(0, 1 << 34))
def test_a_number_is_taken_exactly_within_its_range(name: str, number: int) -> None:
    """Both ends of the range are allowed, nothing beyond them is."""
    low, high = NUMBERS[name]
    flags: dict[str, Any] = {name: str(number)}
    if low <= number <= high:
        assert getattr(Settings.read({}, flags), name) == number
    else:
        with pytest.raises(ConfigError, match=f"^--{name.replace('_', '-')}: "):
            Settings.read({}, flags)


@pytest.mark.parametrize(("name", "edge"), [(name, edge) for name, edges in NUMBERS.items() for edge in edges])
def test_the_ends_of_a_range_are_allowed(name: str, edge: int) -> None:
    """A limit that the message names can be set."""
    assert getattr(Settings.read({}, {name: edge}), name) == edge


@pytest.mark.parametrize("text", get_args(ScorePath))
def test_every_path_can_be_the_servers_own(text: ScorePath) -> None:
    """By flag as by variable."""
    assert Settings.read({}, {"path": text}) == Settings.read({"POINTSMAN_PATH": text}, {}) == Settings(path=text)


@pytest.mark.parametrize("text", ["slow", "", "FAST", "fast "])
def test_an_unknown_path_is_refused_with_the_known_ones(text: str) -> None:
    """The message names every path there is."""
    with pytest.raises(ConfigError, match=r"^--path: found .*, expected one of fast, auto, accurate$"):
        Settings.read({}, {"path": text})
