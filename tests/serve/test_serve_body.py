"""Bytes -> model: encodings, escapes and depth, without a server around them."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve.body import parse, too_many, validated
from serve.problems import ProblemError
from serve.schemas import BatchRequest, RouteRequest


def detail_of(body: bytes) -> str:
    """What a body that is no JSON in UTF-8 is refused with."""
    with pytest.raises(ProblemError) as caught:
        parse(body, RouteRequest)
    assert caught.value.problem.status == 400
    return caught.value.problem.detail


def halves(text: str) -> list[int]:
    """The UTF-16 code units that JSON escapes name."""
    data = text.encode("utf-16-le", "surrogatepass")
    return [int.from_bytes(data[place : place + 2], "little") for place in range(0, len(data), 2)]


@given(st.text())
def test_any_text_comes_through_as_it_was_sent(text: str) -> None:
    """Written plainly or in escapes, it is the same text."""
    for ascii_only in (True, False):
        body = json.dumps({"prompt": text}, ensure_ascii=ascii_only).encode()
        assert parse(body, RouteRequest).prompt == text


@given(st.text(st.characters(min_codepoint=0x1F600, max_codepoint=0x1F64F) | st.sampled_from("ab "), min_size=1), st.data())
def test_text_cut_between_the_halves_of_a_character_is_read(text: str, data: st.DataObject) -> None:
    """Every lone half becomes one U+FFFD; whole characters stay."""
    units = halves(text)
    start = data.draw(st.integers(0, len(units)))
    cut = units[start : data.draw(st.integers(start, len(units)))]
    escaped = "".join(f"\\u{unit:04x}" for unit in cut)
    expected = b"".join(unit.to_bytes(2, "little") for unit in cut).decode("utf-16-le", "replace")
    assert parse(f'{{"prompt": "{escaped}"}}'.encode(), RouteRequest).prompt == expected


@pytest.mark.parametrize(
    "body",
    [b'{"prompt": "x", "tools": [{"\\ud83d": "\\ude00"}]}', b'{"messages": [{"role": "user", "content": "\\ud83d", "\\ud83d": null}]}'],
)
def test_lone_surrogates_are_mended_in_keys_and_at_any_depth(body: bytes) -> None:
    """What comes out can be written as UTF-8."""
    assert "\ufffd" in json.dumps(parse(body, RouteRequest).model_dump(), ensure_ascii=False).encode().decode()


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "not valid JSON"),
        (b"   ", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"prompt": "a"} b', "not valid JSON"),
        (b"{'prompt': 'a'}", "not valid JSON"),
        (b'{"prompt": "a\0"}', "not valid JSON"),
        (b'{"prompt": "\\ud83"}', "not valid JSON"),
        (b'{"prompt": "\\uzzzz"}', "not valid JSON"),
        (b'{"prompt": "\\ud83d"', "not valid JSON"),
        (b'{"prompt": "\\ud83d", "min_sufficiency": NaN}', "not valid JSON"),
        *((b'{"prompt": "x", "tools": [{"a": %s}]}' % number, "not valid JSON") for number in (b"NaN", b"Infinity", b"-Infinity")),
        (b'{"prompt": "\xff"}', "not valid UTF-8"),
        (b'{"prompt": "\xed\xa0\xbd"}', "not valid UTF-8"),
        (b'{"prompt": "\xc3', "not valid"),
        (b"[" * 50_000, "nested too deeply"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_in_utf8_is_named(body: bytes, what: str) -> None:
    """Each of the three ways to be wrong has words of its own, and all say what was expected."""
    detail = detail_of(body)
    assert what in detail
    assert detail.endswith("expected a JSON object in UTF-8")


def test_the_place_of_a_mistake_is_given() -> None:
    """A person finds the comma."""
    assert "at line 2 column 15" in detail_of(b'{\n"prompt": "a",}')


def test_json_of_another_shape_is_a_validation_error() -> None:
    """With half a character in it as well as without."""
    for body in (b"[]", b'["\\ud83d"]'):
        with pytest.raises(ValidationError):
            parse(body, RouteRequest)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    """Bytes are a model, malformed, or of another shape."""
    with contextlib.suppress(ProblemError, ValidationError):
        assert isinstance(parse(body, RouteRequest), RouteRequest)


def test_a_batch_over_the_limit_says_how_many_it_holds() -> None:
    """Found and expected, as everywhere."""
    problem = too_many(5_000, 256).problem
    assert (problem.status, problem.detail) == (422, "requests: found 5000 items, expected at most 256")
    assert problem.errors == [{"field": "requests", "found": "5000 items", "expected": "at most 256"}]


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "what is NaN?"])
def test_words_that_look_like_numbers_are_words_in_a_string(text: str) -> None:
    """People ask about them."""
    assert parse(json.dumps({"prompt": text}).encode(), RouteRequest).prompt == text


@pytest.mark.parametrize(
    ("model", "body", "meant"),
    [
        (RouteRequest, b'{"prompt": "x", "tier_flor": 1}', "tier_floor"),
        (RouteRequest, b'{"prompt": "\\ud83d", "tier_flor": 1}', "tier_floor"),
        (BatchRequest, b'{"requests": [{}], "request": 1}', "requests"),
    ],
)
def test_an_unknown_field_is_refused_with_the_fields_of_that_very_model(
    model: type[RouteRequest | BatchRequest], body: bytes, meant: str
) -> None:
    """A field of a request is none of a batch."""
    with pytest.raises(ProblemError) as caught:
        parse(body, model)
    known = ", ".join(model.model_fields)
    assert caught.value.problem.detail == f"an unknown field, expected only {known}; did you mean {meant}?"


def test_parsed_json_is_refused_as_its_bytes_would_be() -> None:
    """Items of a batch are requests like any other."""
    with pytest.raises(ProblemError, match="Unprocessable"):
        validated({"promt": "x"}, RouteRequest)
    with pytest.raises(ValidationError):
        validated(5, RouteRequest)
    assert validated({"prompt": "x"}, RouteRequest) == parse(b'{"prompt": "x"}', RouteRequest)
