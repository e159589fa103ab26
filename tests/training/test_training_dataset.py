"""Rows -> examples: targets, pools, splits, labels that stand apart from their texts, and what is refused."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier import from_messages, from_text
from training.dataset import COLLECTIONS, Example, fold_of, held_out, join, read, read_all, targets_of, text_key
from training.files import DataError, base_texts, digest, rows_of

Row = dict[str, Any]

UNKNOWN = float("nan")
TIER_NAMES = ("small", "medium", "large")


def write(file: Path, rows: Sequence[Row]) -> Path:
    """``rows`` as JSONL."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def row(name: str = "1", **entries: Any) -> Row:
    """A row with a prompt of its own; without another label it is small."""
    label = {} if entries.keys() & {"tier", "votes", "outcomes"} else {"tier": "small"}
    return {"id": name, "prompt": f"What is number {name}?", **label, **entries}


def read_one(folder: Path, one: Row, pools: object = None, name: str = "rows.jsonl") -> Example:
    """The example that a row becomes, alone in its file."""
    if pools is not None:
        (folder / "pools.json").write_text(json.dumps(pools), encoding="utf-8")
    (example,) = read([write(folder / name, [one])])
    return example


# what a row says of sufficiency


@pytest.mark.parametrize(("tier", "targets", "label"), [("small", (1, 1, 1), 0), ("medium", (0, 1, 1), 1), ("large", (0, 0, 1), 2)])
def test_a_tier_suffices_from_itself_up(tmp_path: Path, tier: str, targets: tuple[float, ...], label: int) -> None:
    """A tier label gives 0 below it and 1 from it up."""
    example = read_one(tmp_path, row(tier=tier))
    assert (example.targets, example.label, example.kind) == (targets, label, "labelled")


def test_votes_give_the_share_of_voters_for_whom_a_tier_suffices(tmp_path: Path) -> None:
    """One voter of four says small, two say medium, one says large."""
    example = read_one(tmp_path, row(votes={"large": 1, "small": 1, "medium": 2}))
    assert (example.targets, example.label, example.kind) == ((0.25, 0.75, 1.0), 1, "labelled")


@pytest.mark.parametrize(
    ("votes", "label"),
    [({"small": 2, "medium": 2}, 1), ({"small": 2, "large": 2}, 2), ({"small": 3, "medium": 1, "large": 2}, 0), ({"medium": 1}, 1)],
)
def test_the_label_is_the_most_voted_tier_and_the_dearer_of_two_alike(tmp_path: Path, votes: dict[str, int], label: int) -> None:
    """Where voters are divided evenly, the error that hurts is avoided."""
    assert read_one(tmp_path, row(votes=votes)).label == label


@settings(deadline=None, max_examples=40)
@given(votes=st.dictionaries(st.sampled_from(TIER_NAMES), st.integers(1, 50) | st.floats(0.1, 9), min_size=1))
def test_targets_of_votes_never_fall_and_end_at_one(votes: dict[str, float]) -> None:
    """A dearer tier suffices for whom a cheaper one does, and the top tier for everybody."""
    with tempfile.TemporaryDirectory() as folder:
        example = read_one(Path(folder), row(votes=votes))
    assert np.all(np.diff(example.targets) >= 0)
    assert example.targets[-1] == pytest.approx(1)
    assert example.label is not None
    assert votes[TIER_NAMES[example.label]] == max(votes.values())


def test_outcomes_give_the_mean_score_of_the_models_pooled_for_a_tier(tmp_path: Path) -> None:
    """A model outside every pool says nothing; a pool counts with the models that were measured."""
    pools = {"rows": {"small": ["ant", "bee", "absent"], "medium": ["cat"], "large": ["dog", "eel"]}}
    example = read_one(tmp_path, row(outcomes={"ant": 0, "bee": 0.5, "cat": 1, "dog": 1, "eel": 0.5, "fox": 0}), pools)
    assert (example.targets, example.label, example.kind) == ((0.25, 1.0, 0.75), None, "outcomes")


def test_a_tier_whose_pool_is_missing_or_unmeasured_is_masked(tmp_path: Path) -> None:
    """Nothing is claimed of a tier that no measured model stands for."""
    example = read_one(tmp_path, row(outcomes={"ant": 0.5}), {"rows": {"small": ["ant"], "medium": ["cat"]}})
    np.testing.assert_equal(targets_of([example]), [[0.5, UNKNOWN, UNKNOWN]])


def test_each_source_has_pools_of_its_own(tmp_path: Path) -> None:
    """The same model may stand for different tiers in different sources."""
    pools = {"then": {"large": ["ant"]}, "now": {"small": ["ant"]}}
    (tmp_path / "pools.json").write_text(json.dumps(pools), encoding="utf-8")
    file = write(tmp_path / "rows.jsonl", [row("1", source="then", outcomes={"ant": 1}), row("2", source="now", outcomes={"ant": 1})])
    np.testing.assert_equal(targets_of(read([file])), [[UNKNOWN, UNKNOWN, 1], [1, UNKNOWN, UNKNOWN]])


@pytest.mark.parametrize("pools", [None, {"another source": {"small": ["ant"]}}])
def test_without_pools_for_its_source_outcomes_are_keyed_by_tier(tmp_path: Path, pools: object) -> None:
    """People who measured their own tiers need no pools.json."""
    example = read_one(tmp_path, row(outcomes={"small": 0.25, "large": 1}), pools)
    np.testing.assert_equal(targets_of([example]), [[0.25, UNKNOWN, 1]])


def test_tiers_may_have_other_names(tmp_path: Path) -> None:
    """The order of the tiers given is the order of the targets."""
    file = write(tmp_path / "rows.jsonl", [row("1", tier="cheap"), row("2", tier="dear")])
    assert [example.targets for example in read([file], ("cheap", "dear"))] == [(1, 1), (0, 1)]


# what else a row says


def test_a_row_says_more_where_it_wants_to(tmp_path: Path) -> None:
    """Every optional entry arrives; messages are read as requests are."""
    messages = [{"role": "user", "content": "hello there, my printer is on fire"}]
    entries = {"group": "g", "source": "s", "weight": 2, "split": "test", "task": "debug", "style": "terse", "language": "en"}
    entries["category"] = "c"
    example = read_one(tmp_path, {"id": 7, "messages": messages, "system": "be brief", "tier": "large", **entries})
    prompt = from_messages(messages, system="be brief")
    assert example == Example("7", "g", "s", prompt, (0, 0, 1), 2, "test", 2.0, "debug", "terse", "en", category="c")


def test_a_row_that_says_little_has_defaults(tmp_path: Path) -> None:
    """Source is the file's name, group the digest of the text, weight 1."""
    example = read_one(tmp_path, {"id": "1", "prompt": "hi there", "tier": "small"}, name="mine.jsonl")
    assert (example.source, example.group, example.weight) == ("mine", text_key("hi there"), 1.0)
    assert (example.task, example.style, example.language, example.category) == (None, None, None, None)
    assert example.prompt == from_text("hi there")


@pytest.mark.parametrize(
    ("source", "category", "stratum"),
    [(COLLECTIONS[0], "algebra", f"{COLLECTIONS[0]}/algebra"), (COLLECTIONS[0], None, COLLECTIONS[0]), ("quiz", "algebra", "quiz")],
    ids=["a collection", "a row that does not say", "a plain source"],
)
def test_figures_of_a_collection_are_taken_within_its_categories(tmp_path: Path, source: str, category: str | None, stratum: str) -> None:
    """It is many data sets under one name; elsewhere a category is a mere remark."""
    example = read_one(tmp_path, row(source=source, **({} if category is None else {"category": category})))
    assert (example.source, example.stratum) == (source, stratum)


def test_equal_conversations_share_a_group_and_others_do_not(tmp_path: Path) -> None:
    """A conversation's text is all of its turns."""
    turns = [{"role": "user", "content": "write a haiku"}, {"role": "assistant", "content": "..."}, {"role": "user", "content": "again"}]
    other = [{"role": "user", "content": "write a poem"}, *turns[1:]]
    rows = [{"id": str(index), "messages": messages, "tier": "small"} for index, messages in enumerate((turns, turns, other))]
    first, same, different = (example.group for example in read([write(tmp_path / "rows.jsonl", rows)]))
    assert first == same != different


def test_blank_lines_count_but_are_no_rows(tmp_path: Path) -> None:
    """A file edited by hand may hold them, and line numbers in errors stay those of the editor."""
    file = tmp_path / "rows.jsonl"
    file.write_text(f"\n{json.dumps(row('1'))}\r\n   \n{json.dumps(row('2'))}", encoding="utf-8")
    assert [example.id for example in read([file])] == ["1", "2"]
    file.write_text(f"\n{json.dumps(row('1'))}\n   \n{{", encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl:4: line: "):
        read([file])


def test_a_line_ends_at_a_newline_alone(tmp_path: Path) -> None:
    """Unicode's other line separators stand inside texts."""
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row(prompt="one\u2028two\x85three\x0cfour"), ensure_ascii=False) + "\n", encoding="utf-8")
    assert read([file])[0].prompt.text == "one\u2028two\x85three\x0cfour"


def test_folders_are_read_in_a_stable_order(tmp_path: Path) -> None:
    """Files by name, at any depth, and paths in the order given."""
    for name in ("b/2.jsonl", "b/deep/3.jsonl", "b/1.jsonl", "a/4.jsonl"):
        write(tmp_path / name, [row(Path(name).stem)])
    assert [example.id for example in read([tmp_path / "b", tmp_path / "a"])] == ["1", "2", "3", "4"]


# splits


def test_a_row_below_test_is_never_trained_on(tmp_path: Path) -> None:
    """Whatever the row itself says."""
    write(tmp_path / "test" / "t.jsonl", [row("1", split="train"), row("2"), row("3", split="test")])
    write(tmp_path / "deep" / "test" / "more" / "t.jsonl", [row("4", split="train", source="deep")])
    assert {example.split for example in read([tmp_path])} == {"test"}


def test_a_file_in_a_folder_called_test_is_a_test_file_by_itself(tmp_path: Path) -> None:
    """Naming the file instead of its folder changes nothing."""
    file = write(tmp_path / "test" / "t.jsonl", [row(str(index), split="train") for index in range(20)])
    assert {example.split for example in read([file])} == {"test"}


def test_where_a_folder_has_test_rows_its_others_are_trained_on(tmp_path: Path) -> None:
    """No hash takes a seventh of what was written for training, unless a row asks for it."""
    write(tmp_path / "test" / "t.jsonl", [row("t")])
    write(tmp_path / "rows.jsonl", [*(row(str(index)) for index in range(100)), row("own", split="test")])
    assert [example.id for example in read([tmp_path]) if example.split == "test"] == ["own", "t"]


def test_test_rows_of_one_folder_say_nothing_of_another(tmp_path: Path) -> None:
    """Beside prompts with a test folder, outcomes without one are still split by hash."""
    write(tmp_path / "prompts" / "test" / "t.jsonl", [row("t")])
    write(tmp_path / "outcomes" / "rows.jsonl", [row(str(index), outcomes={"small": 1}) for index in range(100)])
    splits = [example.split for example in read([tmp_path / "prompts", tmp_path / "outcomes"]) if example.kind == "outcomes"]
    assert set(splits) == {"train", "test"}


def test_otherwise_the_hash_of_the_group_decides(tmp_path: Path) -> None:
    """Held out are the rows whose group the hash holds out, and rows that say so themselves."""
    rows = [row(str(index), group=f"g{index}") for index in range(200)] + [row("a", split="test"), row("b", split="train")]
    examples = {example.id: example for example in read([write(tmp_path / "rows.jsonl", rows)])}
    assert all((examples[str(index)].split == "test") == held_out(f"g{index}") for index in range(200))
    assert (examples["a"].split, examples["b"].split) == ("test", "train")


def test_about_every_seventh_group_is_held_out() -> None:
    """As many as the constant says."""
    assert sum(held_out(f"group {index}") for index in range(7_000)) == pytest.approx(1_000, rel=0.1)


def test_the_hash_split_is_the_same_on_every_machine() -> None:
    """Figures of different runs are about the same rows only if this never changes."""
    assert [index for index in range(40) if held_out(f"g{index}")] == [1, 3, 15, 16, 17, 22, 25, 30, 32]
    assert [fold_of(f"g{index}", 5, 0) for index in range(12)] == [3, 3, 3, 4, 3, 2, 2, 1, 1, 1, 2, 4]


@settings(deadline=None, max_examples=30)
@given(groups=st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h"]), min_size=2, max_size=30))
def test_a_group_never_straddles_training_and_test(groups: list[str]) -> None:
    """Not within a file and not between files."""
    with tempfile.TemporaryDirectory() as folder:
        half = len(groups) // 2
        write(Path(folder) / "x.jsonl", [row(str(index), group=group) for index, group in enumerate(groups[:half])])
        write(Path(folder) / "y.jsonl", [row(str(index), group=group) for index, group in enumerate(groups[half:])])
        examples = read([Path(folder)])
    splits: dict[str, set[str]] = {}
    for example in examples:
        splits.setdefault(example.group, set()).add(example.split)
    assert all(len(sides) == 1 for sides in splits.values())


@given(text=st.text("abcdé ?!.,\t\n'ωя", max_size=40))
def test_texts_that_differ_in_case_spacing_or_punctuation_share_a_group(text: str) -> None:
    """The same question typed twice must not be learned and tested."""
    assert text_key(f"  {text.upper()} ?!") == text_key(text.replace(" ", " \n "))


def test_other_words_make_another_group() -> None:
    """Words and their order count, in any script."""
    keys = {text_key(text) for text in ("sort a list", "list a sort", "sort lists", "отсортируй список", "リストを並べ替える", "")}
    assert len(keys) == 6


def test_folds_keep_groups_together_and_change_with_the_seed() -> None:
    """Cross-fitting with another seed is another draw."""
    groups = [f"group {index}" for index in range(1_000)]
    folds = [fold_of(group, 5, 0) for group in groups]
    assert sorted(set(folds)) == [0, 1, 2, 3, 4]
    assert min(folds.count(fold) for fold in range(5)) > 150
    assert [fold_of(group, 5, 0) for group in groups] == folds != [fold_of(group, 5, 1) for group in groups]


# what is refused

BAD_ROWS: list[tuple[Row, str, str, str]] = [
    # (entries that replace those of a good row, the field named, what was found, what was expected)
    ({"id": None}, "id", "NoneType", "a string"),
    ({"id": 1.5}, "id", "float", "a string"),
    ({"id": ["x"]}, "id", "list", "a string"),
    ({"prompt": None}, "prompt", "neither", "exactly one of prompt and messages"),
    ({"messages": [{"role": "user", "content": "hi"}]}, "prompt", "both", "exactly one of prompt and messages"),
    ({"prompt": 3}, "prompt", "int", "a string"),
    ({"prompt": " \n "}, "prompt", "no text", "text or an image in a human turn"),
    ({"prompt": None, "messages": "hi"}, "messages", "something else", "a list of objects"),
    ({"prompt": None, "messages": []}, "messages", "no text", "text or an image in a human turn"),
    ({"prompt": None, "messages": [{"role": "oracle", "content": "hi"}]}, "messages.0.role", "another string", "one of "),
    ({"prompt": None, "messages": [{"role": "user", "content": 3}]}, "messages.0.content", "int", "a string or a list of parts"),
    ({"system": 3}, "system", "int", "a string or a list of parts"),
    ({"tools": "x"}, "tools", "str", "a list of objects"),
    ({"tier": "huge"}, "tier", "'huge'", "one of small, medium, large"),
    ({"tier": None}, "tier", "NoneType", "the name of a tier"),
    ({"tier": 2}, "tier", "int", "the name of a tier"),
    ({"votes": {"small": 1}}, "tier", "tier and votes", "exactly one of tier, votes, outcomes"),
    ({"group": 3}, "group", "int", "a string"),
    ({"source": ["x"]}, "source", "list", "a string"),
    ({"task": 3}, "task", "int", "a string"),
    ({"style": {}}, "style", "dict", "a string"),
    ({"language": True}, "language", "bool", "a string"),
    ({"category": 3}, "category", "int", "a string"),
    ({"split": "validation"}, "split", "'validation'", "train or test"),
    ({"weight": 0}, "weight", "0", "a number above 0"),
    ({"weight": -1.5}, "weight", "-1.5", "a number above 0"),
    ({"weight": "2"}, "weight", "'2'", "a number above 0"),
    ({"weight": True}, "weight", "True", "a number above 0"),
    ({"weight": float("nan")}, "weight", "nan", "a number above 0"),
    ({"weight": float("inf")}, "weight", "inf", "a number above 0"),
]

BAD_LABELS: list[tuple[Row, str, str, str]] = [
    ({}, "tier", "nothing", "exactly one of tier, votes, outcomes"),
    ({"votes": {"small": 1}, "outcomes": {"small": 1}}, "tier", "votes and outcomes", "exactly one of tier, votes, outcomes"),
    ({"votes": "small"}, "votes", "str", "{tier: number of votes}"),
    ({"votes": ["small"]}, "votes", "list", "{tier: number of votes}"),
    ({"votes": {"small": 1, "huge": 1}}, "votes", "'huge'", "one of small, medium, large"),
    ({"votes": {"small": -1}}, "votes", "-1", "a number above 0"),
    ({"votes": {"small": "1"}}, "votes", "'1'", "a number above 0"),
    ({"votes": {"small": True}}, "votes", "True", "a number above 0"),
    ({"votes": {"small": float("nan")}}, "votes", "nan", "a number above 0"),
    ({"votes": {"small": float("inf")}}, "votes", "inf", "a number above 0"),
    ({"outcomes": None}, "outcomes", "NoneType", "{model: score}"),
    ({"outcomes": [1, 0]}, "outcomes", "list", "{model: score}"),
    ({"outcomes": {}}, "outcomes", "dict", "{model: score}"),
    ({"outcomes": {"small": 1.5}}, "outcomes.small", "1.5", "a score in 0..1"),
    ({"outcomes": {"small": -0.1}}, "outcomes.small", "-0.1", "a score in 0..1"),
    ({"outcomes": {"small": "1"}}, "outcomes.small", "'1'", "a score in 0..1"),
    ({"outcomes": {"small": True}}, "outcomes.small", "True", "a score in 0..1"),
    ({"outcomes": {"small": float("nan")}}, "outcomes.small", "nan", "a score in 0..1"),
    ({"outcomes": {"gpt": 1}}, "outcomes", "no model of any pool", "models that pools.json names for this source, or tier names"),
]


def refused(folder: Path, rows: Sequence[Row]) -> DataError:
    """The error that reading ``rows`` raises."""
    with pytest.raises(DataError) as raised:
        read([write(folder / "rows.jsonl", rows)])
    return raised.value


@pytest.mark.parametrize(("entries", "field", "found", "expected"), BAD_ROWS, ids=[f"{field}-{found}" for _, field, found, _ in BAD_ROWS])
def test_a_malformed_row_is_refused_with_its_place(tmp_path: Path, entries: Row, field: str, found: str, expected: str) -> None:
    """The error names file, line and field, what was found and what was expected."""
    error = refused(tmp_path, [row("0"), row("1", **({"tier": "small"} | entries))])
    assert (error.file, error.line, error.field, str(error.found)) == (tmp_path / "rows.jsonl", 2, field, found)
    assert error.expected.startswith(expected)
    assert str(error) == f"{tmp_path / 'rows.jsonl'}:2: {field}: found {found}, expected {error.expected}"


@pytest.mark.parametrize(
    ("label", "field", "found", "expected"),
    BAD_LABELS,
    ids=[f"{field}-{found}-{index}" for index, (_, field, found, _) in enumerate(BAD_LABELS)],
)
def test_a_malformed_label_is_refused_with_its_place(tmp_path: Path, label: Row, field: str, found: str, expected: str) -> None:
    """Likewise for the three ways to say what suffices."""
    error = refused(tmp_path, [row("0"), {"id": "1", "prompt": "hello there", **label}])
    assert (error.file, error.line, error.field) == (tmp_path / "rows.jsonl", 2, field)
    assert (str(error.found), error.expected) == (found, expected)


@pytest.mark.parametrize(
    ("line", "found"),
    [("{", "no JSON ("), ('{"id": 1,}', "no JSON ("), ("[]", "list"), ('"text"', "str"), ("null", "NoneType"), ("3", "int")],
)
def test_a_line_that_is_no_object_is_refused_with_its_place(tmp_path: Path, line: str, found: str) -> None:
    """One JSON object a line is all that is read."""
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(row())}\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read([file])
    error = raised.value
    assert (error.file, error.line, error.field, error.expected) == (file, 2, "line", "one JSON object a line")
    assert str(error.found).startswith(found)


@pytest.mark.parametrize("entries", [{"tier": "huge"}, {"weight": 0}, {"split": "x"}, {"id": None}])
def test_no_refusal_repeats_the_prompt(tmp_path: Path, entries: Row) -> None:
    """Errors are logged; prompts never are."""
    assert "my password" not in str(refused(tmp_path, [row(prompt="my password is tulip", **entries)]))


def test_an_id_stands_once_in_its_source(tmp_path: Path) -> None:
    """1 and "1" are the same id, since ids are names."""
    error = refused(tmp_path, [row("1", id=1, prompt="one"), row("1", prompt="two")])
    assert (error.field, error.found) == ("id", "'1'")


def test_the_same_id_may_stand_in_two_sources(tmp_path: Path) -> None:
    """Sources number their rows as they like."""
    rows = [row("1", source="x"), row("1", source="y", prompt="other")]
    assert [example.source for example in read([write(tmp_path / "rows.jsonl", rows)])] == ["x", "y"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A misspelt path is not an empty data set."""
    with pytest.raises(DataError, match=r"none\.jsonl: file: found FileNotFoundError, expected a readable UTF-8 file"):
        read([tmp_path / "none.jsonl"])


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    """Latin-1 would be read as something else in silence."""
    (tmp_path / "rows.jsonl").write_bytes(b'{"id": "1", "prompt": "caf\xe9", "tier": "small"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl: file: found UnicodeDecodeError, expected a readable UTF-8 file"):
        read([tmp_path])


def test_a_folder_without_rows_is_named(tmp_path: Path) -> None:
    """Nor is a folder of other files."""
    (tmp_path / "rows.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match=r"folder: found no \*\.jsonl files, expected at least one"):
        read([tmp_path])


@pytest.mark.parametrize("content", ["{", "[]", '{"s": []}', '{"s": {"small": 3}}'])
def test_pools_of_another_shape_are_refused(tmp_path: Path, content: str) -> None:
    """The error names pools.json, not the rows beside it."""
    (tmp_path / "pools.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read([write(tmp_path / "rows.jsonl", [row()])])
    assert (raised.value.file, raised.value.field, raised.value.expected) == (
        tmp_path / "pools.json",
        "file",
        "{source: {tier: [model, ...]}}",
    )


# digests


def test_a_digest_names_every_file_that_is_read(tmp_path: Path) -> None:
    """By folder and file, with the sha256 of its bytes and its number of rows."""
    folder = tmp_path / "mine"
    one = write(folder / "one.jsonl", [row("1"), row("2")])
    two = write(folder / "test" / "two.jsonl", [row("3")])
    (folder / "notes.txt").write_text("not data", encoding="utf-8")
    assert digest(folder) == {
        "mine/one.jsonl": {"sha256": hashlib.sha256(one.read_bytes()).hexdigest(), "rows": 2},
        "mine/test/two.jsonl": {"sha256": hashlib.sha256(two.read_bytes()).hexdigest(), "rows": 1},
    }
    assert digest(one) == {"mine/one.jsonl": digest(folder)["mine/one.jsonl"]}


# lines


def test_rows_come_with_the_number_of_their_line(tmp_path: Path) -> None:
    """As an editor counts, blank lines included."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 1}\n\n{"b": [2]}\n', encoding="utf-8")
    assert list(rows_of(file)) == [(1, {"a": 1}), (3, {"b": [2]})]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    """Nor has one of blank lines."""
    file = tmp_path / "rows.jsonl"
    for content in ("", "\n \n"):
        file.write_text(content, encoding="utf-8")
        assert list(rows_of(file)) == []


def test_a_broken_line_is_refused_once_it_is_reached(tmp_path: Path) -> None:
    """With its place; the rows before it were good."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 1}\n{"a": \n', encoding="utf-8")
    rows = rows_of(file)
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(DataError, match=r"rows\.jsonl:2: line: found no JSON \(JSONDecodeError\), expected one JSON object a line"):
        next(rows)


# labels by id, texts elsewhere

TEXTS = [{"id": name, "prompt": f"What is number {name}?", "source": "elsewhere", "votes": 3} for name in ("1", "2", "3")]


def joined(folder: Path, labels: Sequence[Row], texts: Sequence[Row] = TEXTS) -> list[Example]:
    """What labels and texts make together."""
    return join(write(folder / "readers.jsonl", labels), write(folder / "texts" / "texts.jsonl", texts))


def not_joined(folder: Path, labels: Sequence[Row], texts: Sequence[Row] = TEXTS) -> DataError:
    """The error that joining them raises."""
    with pytest.raises(DataError) as raised:
        joined(folder, labels, texts)
    return raised.value


def test_a_label_finds_its_text_by_id(tmp_path: Path) -> None:
    """In the order of the labels; a text without a label is passed over."""
    examples = joined(tmp_path, [{"id": "3", "tier": "large"}, {"id": "1", "tier": "small"}])
    assert [(example.id, example.text, example.label) for example in examples] == [
        ("3", "What is number 3?", 2),
        ("1", "What is number 1?", 0),
    ]


def test_a_joined_row_is_what_it_would_be_in_one_file(tmp_path: Path) -> None:
    """Prompt, targets, group, split and, of a reader neither sure nor doubtful, weight: as where the text stands beside its label."""
    (together,) = read([write(tmp_path / "readers.jsonl", [row("2", tier="medium", task="debug")])])
    assert joined(tmp_path, [{"id": "2", "tier": "medium", "task": "debug", "sure": 2}]) == [together]


def test_the_source_is_the_file_of_the_labels(tmp_path: Path) -> None:
    """Who labelled is what sets them apart, not where the texts are from."""
    (example,) = joined(tmp_path, [{"id": "1", "tier": "small"}])
    assert example.source == "readers"


def test_votes_are_joined_too(tmp_path: Path) -> None:
    """They give shares as they do in one file."""
    (example,) = joined(tmp_path, [{"id": "1", "votes": {"small": 1, "medium": 2, "large": 1}}])
    assert (example.targets, example.label) == ((0.25, 0.75, 1.0), 1)


@pytest.mark.parametrize(("sure", "weight"), [({}, 1), ({"sure": 3}, 1.5), ({"sure": 2}, 1), ({"sure": 1.5}, 0.75), ({"sure": 1}, 0.5)])
def test_a_doubtful_label_weighs_less(tmp_path: Path, sure: Row, weight: float) -> None:
    """Half of a prompt where the reader was not sure at all, half as much again where he was; who does not say is in between."""
    (example,) = joined(tmp_path, [{"id": "1", "tier": "small", **sure}])
    assert example.weight == pytest.approx(weight)


@settings(deadline=None, max_examples=40)
@given(sure=st.floats(1, 3))
def test_doubt_changes_nothing_but_the_weight(sure: float) -> None:
    """Which grows with how sure the reader was."""
    with tempfile.TemporaryDirectory() as folder:
        (certain,) = joined(Path(folder), [{"id": "1", "tier": "large"}])
        (doubtful,) = joined(Path(folder), [{"id": "1", "tier": "large", "sure": sure}])
    assert doubtful.weight == pytest.approx(sure / 2)
    assert replace(doubtful, weight=certain.weight) == certain


def test_labels_may_be_of_other_tiers(tmp_path: Path) -> None:
    """The order of the tiers given is the order of the targets."""
    labels = write(tmp_path / "readers.jsonl", [{"id": "1", "tier": "dear"}])
    (example,) = join(labels, write(tmp_path / "texts.jsonl", TEXTS), ("cheap", "dear"))
    assert example.targets == (0, 1)


@pytest.mark.parametrize(("entries", "found"), [({"id": "9"}, "'9'"), ({}, "None"), ({"id": ""}, "''")], ids=["unknown", "none", "empty"])
def test_a_label_without_a_text_is_refused_with_its_place(tmp_path: Path, entries: Row, found: str) -> None:
    """The error names the line of the label, and where texts were looked for."""
    error = not_joined(tmp_path, [{"id": "1", "tier": "small"}, {"tier": "small", **entries}])
    assert (error.file, error.line, error.field, error.found) == (tmp_path / "readers.jsonl", 2, "id", found)
    assert error.expected == f"the id of a row of {tmp_path / 'texts' / 'texts.jsonl'}"


@pytest.mark.parametrize("sure", [0, 0.99, 3.01, -1, "3", True, None, [], float("nan"), float("inf")])
def test_a_reader_cannot_be_surer_than_sure(tmp_path: Path, sure: Any) -> None:
    """Nor less than not at all; the error names the line of the label."""
    error = not_joined(tmp_path, [{"id": "1", "tier": "small"}, {"id": "2", "tier": "small", "sure": sure}])
    assert (error.file, error.line, error.field) == (tmp_path / "readers.jsonl", 2, "sure")
    assert (error.found, error.expected) == (repr(sure), "a number from 1 to 3")


@pytest.mark.parametrize(
    ("label", "field"),
    [({}, "tier"), ({"tier": "huge"}, "tier"), ({"votes": {"small": 0}}, "votes"), ({"tier": "small", "votes": {"small": 1}}, "tier")],
    ids=["no label", "unknown tier", "no votes", "both"],
)
def test_a_malformed_label_without_text_is_refused_as_any(tmp_path: Path, label: Row, field: str) -> None:
    """With the line of the label."""
    error = not_joined(tmp_path, [{"id": "1", "tier": "small"}, {"id": "2", **label}])
    assert (error.file, error.line, error.field) == (tmp_path / "readers.jsonl", 2, field)


def test_a_label_finds_its_text_whether_ids_are_numbers_or_names(tmp_path: Path) -> None:
    """1 and "1" are the same id here too."""
    (example,) = joined(tmp_path, [{"id": 2, "tier": "small"}])
    (other,) = joined(tmp_path, [{"id": "7", "tier": "small"}], [{"id": 7, "prompt": "What is number 2?"}])
    assert (example.id, example.text) == ("2", "What is number 2?")
    assert (other.id, other.text) == ("7", "What is number 2?")


@pytest.mark.parametrize("again", ["1", 1], ids=["a name", "a number"])
def test_a_text_whose_id_stands_twice_is_refused_with_its_place(tmp_path: Path, again: object) -> None:
    """Which one the label is of, nobody could say."""
    error = not_joined(tmp_path, [{"id": "2", "tier": "small"}], [*TEXTS, {"id": again, "prompt": "Another"}])
    assert (error.file, error.line, error.field) == (tmp_path / "texts" / "texts.jsonl", 4, "id")
    assert (error.found, error.expected) == (repr(again), "an id that stands once")


@pytest.mark.parametrize("again", ["1", 1], ids=["a name", "a number"])
def test_a_label_whose_id_stands_twice_is_refused_with_its_place(tmp_path: Path, again: object) -> None:
    """As in one file."""
    error = not_joined(tmp_path, [{"id": "1", "tier": "small"}, {"id": again, "tier": "large"}])
    assert (error.file, error.line, error.field, error.found) == (tmp_path / "readers.jsonl", 2, "id", "'1'")
    assert error.expected == "an id that stands once in the source readers"


def test_joined_rows_of_a_group_stand_on_one_side(tmp_path: Path) -> None:
    """As in one file; the error names the line of the second label."""
    labels = [{"id": "1", "tier": "small", "group": "g", "split": "train"}, {"id": "2", "tier": "small", "group": "g", "split": "test"}]
    error = not_joined(tmp_path, labels)
    assert (error.file, error.line, error.field) == (tmp_path / "readers.jsonl", 2, "group")


def test_a_text_that_is_no_plain_prompt_cannot_be_joined(tmp_path: Path) -> None:
    """Nothing else is looked for there."""
    texts = [{"id": "1", "messages": [{"role": "user", "content": "hello"}]}]
    assert not_joined(tmp_path, [{"id": "1", "tier": "small"}], texts).field == "prompt"


@pytest.mark.parametrize("name", ["readers.jsonl", "texts.jsonl"])
def test_labels_and_texts_must_be_there(tmp_path: Path, name: str) -> None:
    """The error names the one that is not."""
    labels, texts = write(tmp_path / "readers.jsonl", []), write(tmp_path / "texts.jsonl", TEXTS)
    (tmp_path / name).unlink()
    with pytest.raises(DataError) as raised:
        join(labels, texts)
    assert (raised.value.file, raised.value.found) == (tmp_path / name, "FileNotFoundError")


def test_paths_and_joined_labels_are_read_together(tmp_path: Path) -> None:
    """First the rows, then those of each pair of files, in order."""
    rows = write(tmp_path / "rows" / "rows.jsonl", [row("a"), row("b")]).parent
    texts = write(tmp_path / "texts.jsonl", [{"id": name, "prompt": f"Text {name}"} for name in "xyz"])
    pairs = [(write(tmp_path / f"{name}.jsonl", [{"id": name, "tier": "large"}]), texts) for name in "yx"]
    found = read_all([rows], pairs)
    assert found == read([rows]) + join(*pairs[0]) + join(*pairs[1])
    assert [example.id for example in found] == ["a", "b", "y", "x"]


def test_joined_labels_may_be_all_there_is(tmp_path: Path) -> None:
    """Without paths; of other tiers as well."""
    texts = write(tmp_path / "texts.jsonl", [{"id": "x", "prompt": "Text"}])
    labels = write(tmp_path / "labels.jsonl", [{"id": "x", "tier": "dear"}])
    assert read_all([], [(labels, texts)], ("cheap", "dear")) == join(labels, texts, ("cheap", "dear"))
    assert read_all([], []) == []


def test_what_read_and_join_refuse_is_refused(tmp_path: Path) -> None:
    """With its place."""
    texts = write(tmp_path / "texts.jsonl", [{"id": "x", "prompt": "Text"}])
    labels = write(tmp_path / "labels.jsonl", [{"id": "nobody", "tier": "small"}])
    with pytest.raises(DataError, match="found 'nobody'"):
        read_all([], [(labels, texts)])
    with pytest.raises(DataError, match="found 'huge'"):
        read_all([write(tmp_path / "rows.jsonl", [row(tier="huge")])], [])


# the texts that behaviour is tried on


def test_base_texts_are_the_plain_prompts_below_test(tmp_path: Path) -> None:
    """By id, as they were written, at any depth; conversations are passed over, and so is what is trained on."""
    conversation = {"id": "3", "messages": [{"role": "user", "content": "hello"}], "tier": "small"}
    write(tmp_path / "test" / "a.jsonl", [row("1", prompt="  Why?  "), conversation])
    write(tmp_path / "more" / "test" / "b.jsonl", [row("2")])
    write(tmp_path / "rows.jsonl", [row("4"), row("5", split="test")])
    assert base_texts([tmp_path]) == {"1": "  Why?  ", "2": "What is number 2?"}


@pytest.mark.parametrize("prompt", [None, 3, ["x"], {}])
def test_a_prompt_that_is_no_string_is_no_base_text(tmp_path: Path, prompt: object) -> None:
    """What is wrong with such a row, reading says."""
    write(tmp_path / "test" / "a.jsonl", [row("1", prompt=prompt), row("2")])
    assert base_texts([tmp_path]) == {"2": "What is number 2?"}


def test_base_texts_are_found_in_files_that_are_named_themselves(tmp_path: Path) -> None:
    """As rows are."""
    below, beside = write(tmp_path / "test" / "a.jsonl", [row("1")]), write(tmp_path / "b.jsonl", [row("2")])
    assert base_texts([below, beside]) == {"1": "What is number 1?"}


def test_without_a_folder_of_tests_there_are_no_base_texts(tmp_path: Path) -> None:
    """Nor without any path."""
    write(tmp_path / "rows.jsonl", [row("1", split="test")])
    assert base_texts([tmp_path]) == base_texts([]) == {}
