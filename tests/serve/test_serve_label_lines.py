"""One line of JSONL -> the same line with its decision, or what is wrong with it."""

import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier import Router, from_text
from classifier.types import Path as ScorePath
from serve.label.lines import Labelled, label

pytest_plugins = ("fixtures_of_serve",)

RouterWith = Callable[..., Router]

FIELDS = set("tier model confidence sufficiency reason path path_reason task task_probability truncated cost_usd model_version".split())


def labelled(router: Router, *lines: bytes, field: str = "pointsman", path: ScorePath = "auto") -> Labelled:
    """Lines numbered from 1, labelled."""
    return label(router, list(enumerate(lines, 1)), field, path)


def error_of(router: Router, line: bytes) -> str:
    """What is wrong with a line that cannot be labelled."""
    result = labelled(router, line)
    assert (result.lines, result.tiers) == ([], {})
    ((number, reason),) = result.errors
    assert number == 1
    return reason


def test_the_decision_is_one_field_at_the_lines_end(serving_router: Router) -> None:
    """With tier, model, confidence, sufficiency, reasons, cost, the kind of task and the bundle that scored."""
    (line,) = labelled(serving_router, b'{"prompt": "Fix the typo"}\n').lines
    row = json.loads(line)
    assert list(row) == ["prompt", "pointsman"]
    assert set(row["pointsman"]) == FIELDS
    assert list(row["pointsman"]["sufficiency"]) == list(row["pointsman"]["cost_usd"]) == list(serving_router.manifest.tiers)
    assert row["pointsman"]["confidence"] == row["pointsman"]["sufficiency"][row["pointsman"]["tier"]]
    assert row["pointsman"]["model_version"] == serving_router.manifest.version


@pytest.mark.parametrize("path", get_args(ScorePath))
def test_a_line_is_decided_as_the_router_decides_it_on_that_path(serving_router: Router, path: ScorePath) -> None:
    """Tier, scores and the reason for the path that scored."""
    prompts = [f"{verb} {thing}" for verb in ("Explain", "Fix", "Design", "Test") for thing in ("a list", "the login", "an index")]
    found = labelled(serving_router, *(json.dumps({"prompt": prompt}).encode() for prompt in prompts), path=path)
    for line, decision in zip(found.lines, serving_router.route([from_text(prompt) for prompt in prompts], path=path), strict=True):
        entry = json.loads(line)["pointsman"]
        assert (entry["tier"], entry["path"], entry["path_reason"]) == (
            decision.tier,
            decision.scores.path,
            decision.scores.path_reason,
        )
        assert list(entry["sufficiency"].values()) == [round(value, 6) for value in decision.scores.sufficiency]


@pytest.mark.parametrize(("path", "name"), [("fast", "fast"), ("accurate", "accurate")])
def test_a_path_that_is_asked_for_scores_every_line(serving_router: Router, path: ScorePath, name: str) -> None:
    """Clear or close."""
    (line,) = labelled(serving_router, b'{"prompt": "x"}', path=path).lines
    assert (json.loads(line)["pointsman"]["path"], json.loads(line)["pointsman"]["path_reason"]) == (name, "asked")


def test_on_auto_close_lines_alone_get_a_second_look(wary: Router, router_with: RouterWith) -> None:
    """Whether a line is close is a matter of the bundle's policy, and of no clock."""
    for router, expected in ((wary, ("accurate", "close")), (router_with(margin=0.0), ("fast", "clear"))):
        (line,) = labelled(router, b'{"prompt": "Write a parser"}').lines
        assert (json.loads(line)["pointsman"]["path"], json.loads(line)["pointsman"]["path_reason"]) == expected


def test_a_line_says_what_kind_of_task_it_is(serving_router: Router) -> None:
    """As the fast path sees it, whichever path scores."""
    (scores,) = serving_router.score_fast([from_text("Write a parser")])
    assert scores.task_probability is not None
    for path in get_args(ScorePath):
        (line,) = labelled(serving_router, b'{"prompt": "Write a parser"}', path=path).lines
        entry = json.loads(line)["pointsman"]
        assert (entry["task"], entry["task_probability"]) == (scores.task, round(scores.task_probability, 6))


def test_without_a_task_head_the_kind_of_task_is_null(router_with: RouterWith) -> None:
    """The fields are there all the same."""
    router = router_with()
    router.task = None
    (line,) = labelled(router, b'{"prompt": "x"}').lines
    entry = json.loads(line)["pointsman"]
    assert entry["task"] is entry["task_probability"] is None


@pytest.mark.parametrize(
    "line",
    [
        b'{"prompt":"x","n":1.50,"big":12345678901234567890,"e":1E+3}',
        b'{ "prompt" : "x" ,\t"b":[1,  2],"a":null }',
        '{"prompt": "é", "escaped": "\\u00e9\\/", "plain": "é"}'.encode(),
        b'{"z": 1, "prompt": "x", "a": 1, "z": 2}',
        b'{"prompt": "x", "half": "\\ud83d", "nul": "\\u0000"}',
        b'{"prompt": "x}", "nested": {"pointsman": {}}}',
    ],
)
def test_a_lines_own_bytes_are_kept(serving_router: Router, line: bytes) -> None:
    """Numbers, spaces, escapes, doubled names and the order of names come out as they went in."""
    (found,) = labelled(serving_router, line + b"\n").lines
    assert found.startswith(line[:-1].rstrip() + b', "pointsman": {')
    assert found.endswith(b"}}\n")
    assert json.loads(found)["prompt"] == json.loads(line)["prompt"]


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b"  \n"])
def test_any_line_ending_becomes_a_newline(serving_router: Router, ending: bytes) -> None:
    """The last line of a file has none."""
    assert labelled(serving_router, b'  {"prompt": "x"}' + ending).lines == labelled(serving_router, b'{"prompt": "x"}\n').lines


def test_another_field_may_hold_the_decision(serving_router: Router) -> None:
    """Any name that JSON can hold."""
    for field in ("tier by pointsman", 'say "tier"', "Stufe ä"):
        (line,) = labelled(serving_router, b'{"prompt": "x", "pointsman": "taken"}', field=field).lines
        assert json.loads(line)[field]["tier"]
        assert json.loads(line)["pointsman"] == "taken"


def test_tiers_are_counted(serving_router: Router) -> None:
    """Each labelled line once."""
    result = labelled(serving_router, *(b'{"prompt": "What is %d + 1?"}' % number for number in range(9)), b"broken")
    assert sum(result.tiers.values()) == len(result.lines) == 9
    for tier, count in result.tiers.items():
        assert sum(json.loads(line)["pointsman"]["tier"] == tier for line in result.lines) == count


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nope", "not valid JSON at column 1"),
        (b'{"prompt": "x"', "not valid JSON at column 15"),
        (b'{"prompt": "x"}{"prompt": "x"}', "not valid JSON at column 16"),
        (b'{"prompt": "\xff"}', "not valid UTF-8 at byte 12"),
        (b"5", "found int, expected a JSON object"),
        (b'["prompt"]', "found list, expected a JSON object"),
        (b"null", "found NoneType, expected a JSON object"),
        (b'{"prompt": " "}', "prompt: found no text"),
        (b'{"prompt": 5}', "prompt: found int, expected a string"),
        (b"{}", "expected exactly one of prompt and messages"),
        (b'{"text": "x"}', "expected exactly one of prompt and messages"),
        (b'{"prompt": "x", "messages": []}', "expected exactly one of prompt and messages"),
        (b'{"messages": [{"role": "wizard"}]}', "messages.0.role: found another string"),
        (b'{"messages": [5]}', "messages: found something else, expected a list of objects"),
        (b'{"prompt": "x", "tools": "hammer"}', "tools: found str, expected a list"),
        (b'{"prompt": "x", "pointsman": null}', "pointsman: the field is already there"),
        (b"[" * 50_000 + b"]" * 50_000, "nested too deeply"),
        (b'{"prompt": "x", "deep": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested too deeply"),
        (b'{"prompt": "x", "n": ' + b"9" * 5_000 + b"}", "Exceeds the limit"),
        (b'{"prompt": "' + b"many words " * 1_000_000 + b'"}', "no tier is allowed: excluded by context_window"),
    ],
)
def test_a_line_that_cannot_be_labelled_has_a_reason(serving_router: Router, line: bytes, reason: str) -> None:
    """Which says what was wrong with it."""
    assert reason in error_of(serving_router, line)


@pytest.mark.parametrize(
    "line", [b"zqxsecret", b'{"zqxsecret', b'{"messages": [{"role": "zqxsecret"}]}', b'{"prompt": ["zqxsecret"]}', b'{"zqxsecret": 1}']
)
def test_a_reason_never_repeats_the_line(serving_router: Router, line: bytes) -> None:
    """The errors file holds no prompt."""
    assert "zqxsecret" not in error_of(serving_router, line)


def test_numbers_of_wrong_lines_are_the_files_own(serving_router: Router) -> None:
    """In order, whichever step found the mistake, and blank lines count though they are passed over."""
    huge = b'{"prompt": "' + b"many words " * 1_000_000 + b'"}'
    result = labelled(serving_router, b"\n", huge, b'{"prompt": "x"}', b"broken", b"  \r\n", huge, b"{}")
    assert [number for number, _ in result.errors] == [2, 4, 6, 7]
    assert len(result.lines) == 1


def test_no_lines_are_no_result(serving_router: Router) -> None:
    """Neither is a chunk of blank ones."""
    assert labelled(serving_router) == labelled(serving_router, b"\n", b" ") == Labelled([], [], {})


ROWS = st.fixed_dictionaries(
    {"prompt": st.text(min_size=1).map(lambda text: "x" + text)},
    optional={
        "id": st.integers() | st.text(),
        "system": st.text(),
        "n": st.floats(allow_nan=False),
        "more": st.dictionaries(st.text(), st.none() | st.text()),
    },
)


@settings(deadline=None, max_examples=60)
@given(st.lists(ROWS, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_every_other_field_comes_back_as_it_was(
    serving_router: Router, rows: list[dict[str, Any]], plain: bool, indent: int | None
) -> None:
    """Whatever way its JSON was written."""
    separators = (",", ":") if indent else (", ", ": ")
    lines = [json.dumps(row, ensure_ascii=not plain, separators=separators).encode("utf-8", "surrogatepass") for row in rows]
    found = [json.loads(line) for line in labelled(serving_router, *lines).lines]
    assert [{name: value for name, value in row.items() if name != "pointsman"} for row in found] == rows


LINES = st.binary(max_size=30) | st.sampled_from(
    [b"", b" \r", b'{"prompt": "x"}', b'{"prompt": ""}', b"{", b"[]", b'{"messages": []}', b"\xff"]
)


@settings(deadline=None, max_examples=100)
@given(st.lists(LINES, max_size=12))
def test_no_line_is_lost(serving_router: Router, lines: list[bytes]) -> None:
    """Each that is not blank is a line or an error, once, and the good ones stay in order."""
    lines = [line.replace(b"\n", b"") for line in lines]
    result = labelled(serving_router, *lines)
    wrong = {number for number, _ in result.errors}
    assert len(wrong) == len(result.errors)
    written = [number for number, line in enumerate(lines, 1) if line.strip() and number not in wrong]
    assert len(result.lines) == len(written) == sum(result.tiers.values())
    assert [json.loads(line)["prompt"] for line in result.lines] == [json.loads(lines[number - 1].strip())["prompt"] for number in written]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=8))
def test_a_line_is_labelled_as_it_would_be_alone(serving_router: Router, prompts: list[str]) -> None:
    """Its neighbours change nothing."""
    lines = [json.dumps({"prompt": prompt}).encode() for prompt in prompts]
    together = labelled(serving_router, *lines)
    alone = [labelled(serving_router, line) for line in lines]
    assert together.lines == [line for one in alone for line in one.lines]
