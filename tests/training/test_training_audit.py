"""``python -m training.audit``: what it finds, in which order, and what stands in the file that a person goes through."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from training import audit as audit_module
from training.audit import (
    Audit,
    Pair,
    Row,
    Side,
    Suspect,
    audit,
    duplicates,
    main,
    parser,
    places_of,
    records,
    rows_against,
    rows_from,
    summary,
)
from training.dataset import TIERS, Example, held_out, read, read_all, text_key
from training.files import DataError
from training.fit import ENCODER
from training.heads import FAMILIES, PerBasis, Trees

pytest_plugins = ("tests.training.fixtures_of_training",)

Json = dict[str, Any]

SMALL, MEDIUM, LARGE = range(3)
ASK = "Please write unit tests for the function below, and mind the empty list"
NEARLY = "Please write unit tests for the funtcion below and mind the empty list!"
OTHER = "Which rivers of Peru are longer than the Rhine?"


def row(name: str, text: str, label: int | None = SMALL, *, side: Side = "train", group: str | None = "", line: int = 1) -> Row:
    """A row of a group of its own, unless another is given."""
    return Row(name, "made", Path("made.jsonl"), line, side, text, group=name if group == "" else group, label=label)


def write_rows(file: Path, rows: Sequence[Json]) -> Path:
    """``rows`` as JSONL."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return file


def rows_in(file: Path) -> list[Json]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def pairs(*rows: Row) -> list[tuple[str, str, str]]:
    """(kind, id, id of the other) of every pair, in the order in which they are to be read."""
    return [(pair.kind, rows[pair.row].id, rows[pair.other].id) for pair in duplicates(rows)]


def quiet() -> Progress:
    """Progress that nobody sees."""
    return Progress(console=Console(quiet=True))


# conflicts


@pytest.mark.parametrize(("text", "exact"), [(ASK.upper(), True), (NEARLY, False)], ids=["exact", "near"])
def test_rows_that_say_the_same_under_different_labels_are_a_conflict(text: str, exact: bool) -> None:
    """Also where they say it with a typo; the pair is listed once."""
    (pair,) = duplicates([row("a", ASK, SMALL), row("b", OTHER, LARGE), row("c", text, MEDIUM)])
    assert (pair.kind, pair.row, pair.other, pair.exact) == ("conflict", 0, 2, exact)
    assert pair.similarity == 1 if exact else 0.6 <= pair.similarity < 1


@pytest.mark.parametrize("label", [SMALL, None], ids=["the same label", "outcomes"])
def test_rows_that_do_not_disagree_are_no_conflict(label: int | None) -> None:
    """The same label twice is no error, and measured outcomes are no label."""
    assert pairs(row("a", ASK, SMALL), row("b", ASK, label)) == []


def test_test_rows_conflict_with_each_other_too() -> None:
    """A test set can contradict itself, whatever a model thinks of it."""
    assert pairs(row("a", ASK, SMALL, side="test"), row("b", ASK, LARGE, side="test"), row("c", OTHER)) == [("conflict", "a", "b")]


def test_a_row_stands_beside_its_closest_contradiction() -> None:
    """Rather than beside every one; what is less alike follows, beside its own closest."""
    found = pairs(row("a", ASK, SMALL), row("b", NEARLY, LARGE), row("c", ASK, MEDIUM))
    assert found == [("conflict", "a", "c"), ("conflict", "a", "b")]


def test_every_row_of_a_text_that_stands_often_is_named() -> None:
    """Beside one other each, not beside all: as many findings as rows, not as pairs of them."""
    rows = [row(f"{at}", "continue", at % 2) for at in range(400)]
    found = duplicates(rows)
    assert {at for pair in found for at in (pair.row, pair.other)} == set(range(400))
    assert len(found) < 400


def test_a_test_row_does_not_hide_a_conflict() -> None:
    """Though it contradicts both rows as well, and comes first."""
    found = pairs(row("t", ASK, MEDIUM, side="test"), row("a", ASK, SMALL), row("b", NEARLY, LARGE))
    assert ("conflict", "a", "b") in found


def test_conflicts_within_a_group_are_marked() -> None:
    """Variants of one scenario may differ in their tier on purpose."""
    (pair,) = duplicates([row("a", ASK, SMALL, group="one"), row("b", NEARLY, LARGE, group="one")])
    assert pair.same_group


# contamination


@pytest.mark.parametrize("side", ["test", "against"])
@pytest.mark.parametrize("label", [SMALL, LARGE, None], ids=["same label", "another", "none"])
def test_a_training_row_that_is_also_tested_on_is_contamination(side: Side, label: int | None) -> None:
    """Whatever the labels say, exact or nearly; the training row comes first, since it is the one to drop."""
    assert pairs(row("tested", ASK, label, side=side), row("learned", NEARLY), row("else", OTHER)) == [
        ("contamination", "learned", "tested")
    ]


def test_outcomes_can_be_contaminated() -> None:
    """They are learned from as well."""
    assert pairs(row("learned", ASK, None), row("tested", ASK, side="test")) == [("contamination", "learned", "tested")]


def test_rows_that_nothing_is_learned_from_do_not_contaminate_each_other() -> None:
    """A benchmark may hold a test row."""
    assert pairs(row("a", ASK, side="test"), row("b", ASK, None, side="against"), row("c", OTHER)) == []


def test_every_training_row_that_repeats_a_test_row_is_named() -> None:
    """Dropping one of them would not be enough."""
    found = pairs(row("a", ASK), row("b", ASK), row("c", NEARLY), row("t", ASK, side="test"), row("u", NEARLY, side="test"))
    assert found == [("contamination", "a", "t"), ("contamination", "b", "t"), ("contamination", "c", "u")]


def test_a_group_on_both_sides_is_contamination_however_little_alike_its_rows_are() -> None:
    """Training refuses it; here every such row is listed, beside the group's first test row."""
    rows = [row("a", ASK, group="one"), row("t", OTHER, side="test", group="one"), row("u", "Why?", side="test", group="one")]
    (pair,) = duplicates(rows)
    assert (pair.kind, pair.row, pair.other, pair.same_group) == ("contamination", 0, 1, True)
    assert pair.similarity < 0.2


def test_texts_without_a_word_are_not_the_same() -> None:
    """Though nothing is left of them where punctuation does not count."""
    (pair,) = duplicates([row("a", "???", group="one"), row("t", "!!!", side="test", group="one")])
    assert (pair.exact, pair.similarity) == (False, 0)


def test_rows_without_a_group_do_not_share_one() -> None:
    """As those of ``--against``."""
    assert pairs(row("a", ASK, group=None), row("b", OTHER, None, side="against", group=None)) == []


def test_contamination_comes_before_conflicts_and_the_closest_pairs_first() -> None:
    """The order in which they are to be read."""
    rows = [row("a", ASK, SMALL), row("b", NEARLY, MEDIUM), row("c", OTHER, SMALL), row("d", OTHER, LARGE)]
    assert pairs(*rows, row("t", NEARLY, MEDIUM, side="test")) == [
        ("contamination", "b", "t"),
        ("contamination", "a", "t"),
        ("conflict", "c", "d"),
        ("conflict", "a", "b"),
    ]


# where rows stand


def test_places_are_those_of_the_rows_as_they_are_read(tmp_path: Path) -> None:
    """Through folders, files and labels by id, blank lines included."""
    rows: list[Json] = [{"id": f"{at}", "prompt": f"Question {at}?", "tier": "small"} for at in range(5)]
    folder = write_rows(tmp_path / "prompts" / "b.jsonl", rows[:3]).parent
    (folder / "a.jsonl").write_text("\n\n" + json.dumps(rows[3]) + "\n\n" + json.dumps(rows[4]) + "\n", encoding="utf-8")
    labels = write_rows(tmp_path / "labels.jsonl", [{"id": "x", "tier": "small"}])
    texts = write_rows(tmp_path / "texts.jsonl", [{"id": "w", "prompt": OTHER}, {"id": "x", "prompt": ASK}])
    found = rows_from(read_all([folder], [(labels, texts)]), places_of([folder], [(labels, texts)]))
    assert [(one.id, one.file.name, one.line) for one in found] == [
        (rows[3]["id"], "a.jsonl", 3),
        (rows[4]["id"], "a.jsonl", 5),
        *((rows[at]["id"], "b.jsonl", at + 1) for at in range(3)),
        ("x", "labels.jsonl", 1),
    ]


def test_prompts_to_hold_against_need_no_label(tmp_path: Path) -> None:
    """Nor an id: their line names them."""
    file = write_rows(tmp_path / "bench.jsonl", [{"prompt": ASK, "answer": 7}, {"id": 3, "source": "mine", "prompt": OTHER}])
    assert [(one.id, one.source, one.line, one.text, one.side, one.label) for one in rows_against([file])] == [
        ("1", "bench", 1, ASK, "against", None),
        ("3", "mine", 2, OTHER, "against", None),
    ]


def test_a_row_to_hold_against_without_a_prompt_is_refused(tmp_path: Path) -> None:
    """With its place."""
    file = write_rows(tmp_path / "bench.jsonl", [{"prompt": ASK}, {"question": OTHER}])
    with pytest.raises(DataError, match=r"bench\.jsonl:2: prompt: found"):
        rows_against([file])


# the heads


def found_by(monkeypatch: pytest.MonkeyPatch, examples: Sequence[Example], says: Sequence[int], probabilities: Sequence[Any]) -> Audit:
    """An audit of ``examples`` whose heads say what they are told to say of the training rows."""
    monkeypatch.setattr(audit_module, "ENOUGH", 1)
    monkeypatch.setattr(audit_module, "held_out_probabilities", lambda *_: np.array(probabilities))
    monkeypatch.setattr(audit_module, "contradicted", lambda *_: np.array(says))
    rows = rows_from(examples, [(Path("made.jsonl"), at) for at in range(len(examples))])
    return audit(examples, rows, ENCODER, TIERS, quiet())


@pytest.fixture(name="three")
def _three(tmp_path: Path) -> list[Example]:
    """A training row a tier, labelled small, medium and large, between a test row and an outcome."""
    texts = {"small": ASK, "medium": OTHER, "large": "Design our payments platform."}
    rows: list[Json] = [{"id": tier, "prompt": text, "tier": tier, "split": "train"} for tier, text in texts.items()]
    rows.insert(0, {"id": "tested", "prompt": "Good morning", "tier": "large", "split": "test"})
    rows.insert(2, {"id": "measured", "prompt": "Name a colour", "outcomes": {"small": 1}, "split": "train"})
    return read([write_rows(tmp_path / "made.jsonl", rows)])


def test_the_widest_disagreement_comes_first(monkeypatch: pytest.MonkeyPatch, three: list[Example]) -> None:
    """By how much likelier the heads find their tier; only training rows with a label are judged."""
    found = found_by(monkeypatch, three, [LARGE, -1, SMALL], [[0.3, 0.1, 0.6], [0, 1, 0], [0.9, 0.1, 0]])
    assert [(three[one.row].id, one.says, round(one.margin, 6)) for one in found.suspects] == [("large", SMALL, 0.9), ("small", LARGE, 0.3)]
    assert np.isnan(found.probabilities).all(axis=1).tolist() == [True, False, True, False, False]


def test_of_two_in_conflict_the_less_believed_comes_first(monkeypatch: pytest.MonkeyPatch, three: list[Example]) -> None:
    """Whatever their order in the data."""
    same = [replace(one, prompt=three[1].prompt) if one.id == "large" else one for one in three]
    for large, expected in ((0.6, ("small", "large")), (0.1, ("large", "small"))):
        found = found_by(monkeypatch, same, [-1, -1, -1], [[0.3, 0.1, 0.6], [0, 1, 0], [0.3, 0.7 - large, large]])
        assert [(same[pair.row].id, same[pair.other].id) for pair in found.pairs] == [expected]


def test_with_too_few_labels_the_heads_are_not_asked(three: list[Example]) -> None:
    """Duplicates are found all the same, and the summary says what is missing."""
    rows = rows_from(three, [(Path("made.jsonl"), at) for at in range(5)])
    found = audit(three, [*rows, row("bench", ASK, None, side="against")], ENCODER, TIERS, quiet())
    assert [pair.kind for pair in found.pairs] == ["contamination"]
    assert "not looked for: found 1 small, 1 medium, 1 large labelled training rows, expected at least 30 a tier" in summary(found, TIERS)


def test_without_training_rows_there_is_nothing_to_audit(three: list[Example]) -> None:
    """That is a mistake in the call."""
    with pytest.raises(ValueError, match="no training rows"):
        audit(three[:1], rows_from(three[:1], [(Path("made.jsonl"), 1)]), ENCODER, TIERS, quiet())


# what is written


FOUND = Audit(
    rows=[row("a", ASK, SMALL, line=7), row("b", OTHER, LARGE, side="test"), row("c", NEARLY, None)],
    pairs=[
        Pair("contamination", 0, 1, 0.70004, exact=False, same_group=True),
        Pair("contamination", 2, 1, 1.0, exact=True, same_group=False),
    ],
    suspects=[Suspect(0, LARGE, 0.2)],
    probabilities=np.array([[0.30001, 0.4, 0.29999], [np.nan] * 3, [np.nan] * 3]),
)


def test_a_pair_is_written_with_both_rows_and_what_the_heads_say() -> None:
    """Kind, places, labels and probabilities: all that a person needs to find and judge it."""
    assert records(FOUND, TIERS)[0] == {
        "kind": "contamination",
        "id": "a",
        "source": "made",
        "file": "made.jsonl",
        "line": 7,
        "split": "train",
        "label": "small",
        "says": "medium",
        "probability": 0.4,
        "label_probability": 0.3,
        "similarity": 0.7,
        "exact": False,
        "same_group": True,
        "other": {"id": "b", "source": "made", "file": "made.jsonl", "line": 1, "split": "test", "label": "large"},
    }


def test_of_a_row_without_a_label_the_heads_say_nothing() -> None:
    """They were not asked."""
    record = records(FOUND, TIERS)[1]
    assert record["label"] is None
    assert not record.keys() & {"says", "probability", "label_probability"}


def test_a_suspect_is_written_with_the_tier_that_the_heads_mean() -> None:
    """Which confidence by tier decides, not the largest probability; last, since it is an opinion."""
    record = records(FOUND, TIERS)[-1]
    assert (record["kind"], record["says"], record["probability"], record["label_probability"]) == ("suspect", "large", 0.3, 0.3)
    assert "other" not in record


def test_prompts_are_written_only_where_they_are_asked_for() -> None:
    """Of both rows of a pair."""
    silent, told = (json.dumps(records(FOUND, TIERS, text=text)) for text in (False, True))
    assert not any(text in silent for text in (ASK, OTHER, NEARLY))
    assert all(text in told for text in (ASK, OTHER, NEARLY))


def test_the_summary_counts_every_kind() -> None:
    """What was looked through, pairs by how alike they are, suspects by tier."""
    assert [line.split() for line in summary(FOUND, TIERS).splitlines()] == [
        "2 training rows, 1 test rows, 0 rows that must not be trained on".split(),
        "contamination 2 1 exact, 1 within a group".split(),
        "conflict 0 0 exact, 0 within a group".split(),
        "suspect 1 small that looks large 1".split(),
    ]


# the command


@pytest.fixture(name="planted", scope="module")
def _planted(tiny_prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """(a folder of prompts with a copy that has another label and one that is tested on, the ids of training rows with a wrong label)."""
    folder = tmp_path_factory.mktemp("planted") / "prompts"
    learned = [one for one in rows_in(tiny_prompts / "made.jsonl") if not held_out(text_key(one["prompt"]))]
    right = [one for one in learned if one["id"].startswith(one["tier"])]
    contradiction = {**right[0], "id": "contradiction", "prompt": right[0]["prompt"].upper(), "tier": "large"}
    write_rows(folder / "made.jsonl", [*learned, contradiction])
    write_rows(folder / "test" / "made.jsonl", [{"id": "leak", "prompt": right[1]["prompt"] + "!", "tier": "medium"}])
    return folder, {one["id"] for one in learned if not one["id"].startswith(one["tier"])}


def few_trees(seed: int) -> PerBasis:
    """As many as so few rows need."""
    few = partial(Trees, seed, iterations=20)
    return PerBasis(few, few)


@pytest.fixture(name="run", scope="module")
def _run(planted: tuple[Path, set[str]], tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[Json]]:
    """(exit code, findings) of an audit of the planted prompts."""
    output = tmp_path_factory.mktemp("out") / "audit.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "trees", few_trees)
        code = main(["--prompts", str(planted[0]), "-o", str(output)])
    return code, rows_in(output)


def test_findings_are_no_failure(run: tuple[int, list[Json]]) -> None:
    """They are for a person to judge."""
    assert run[0] == 0
    assert {one["kind"] for one in run[1]} == {"contamination", "conflict", "suspect"}


def test_what_was_planted_is_found(run: tuple[int, list[Json]], planted: tuple[Path, set[str]]) -> None:
    """The row that is tested on, the text with two labels, and of the wrong labels most; no right one is suspected here."""
    kinds = {kind: [one for one in run[1] if one["kind"] == kind] for kind in ("contamination", "conflict", "suspect")}
    assert [one["other"]["id"] for one in kinds["contamination"]] == ["leak"]
    assert "contradiction" in {at["id"] for one in kinds["conflict"] for at in (one, one["other"]) if one["exact"]}
    suspected, wrong = {one["id"] for one in kinds["suspect"]}, planted[1]
    assert suspected <= wrong | {"contradiction"}
    assert len(suspected & wrong) > len(wrong) / 2


def test_heads_are_asked_about_training_rows_alone(run: tuple[int, list[Json]]) -> None:
    """Each finding starts from one, with what they say; a test row is at most the other one."""
    assert {one["split"] for one in run[1]} == {"train"}
    assert all("says" in one for one in run[1])
    assert not any("says" in one["other"] for one in run[1] if "other" in one)


def test_each_finding_leads_to_its_line(run: tuple[int, list[Json]]) -> None:
    """File and line hold the row of that id and label."""
    for one in run[1]:
        for place in (one, *([one["other"]] if "other" in one else [])):
            found = json.loads(Path(place["file"]).read_text(encoding="utf-8").split("\n")[place["line"] - 1])
            assert (found["id"], found["tier"]) == (place["id"], place["label"])


@pytest.fixture(name="few")
def _few(tmp_path: Path) -> Path:
    """Two rows with one text and two labels: too few for heads, so that the command is quick."""
    rows = [{"id": "a", "prompt": ASK, "tier": "small", "split": "train"}, {"id": "b", "prompt": ASK, "tier": "large", "split": "train"}]
    return write_rows(tmp_path / "few.jsonl", rows)


@pytest.mark.parametrize(("kinds", "code"), [(["conflict"], 3), (["contamination", "suspect"], 0), (["contamination", "conflict"], 3)])
def test_kinds_can_be_made_a_failure(few: Path, tmp_path: Path, kinds: list[str], code: int) -> None:
    """Of which the findings are written all the same."""
    output = tmp_path / "audit.jsonl"
    assert main(["--prompts", str(few), "-o", str(output), "--fail-on", *kinds]) == code
    assert len(rows_in(output)) == 1


def test_the_command_holds_training_rows_against_a_benchmark(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its rows are counted, and every row that repeats one is found; prompts are written on demand."""
    bench = write_rows(tmp_path / "bench.jsonl", [{"prompt": NEARLY}])
    output = tmp_path / "audit.jsonl"
    assert main(["--prompts", str(few), "--against", str(bench), "--text", "-o", str(output)]) == 0
    found = rows_in(output)
    assert [(one["kind"], one["id"], one["other"].get("text")) for one in found] == [
        ("contamination", "a", NEARLY),
        ("contamination", "b", NEARLY),
        ("conflict", "a", ASK),
    ]
    assert "2 training rows, 0 test rows, 1 rows that must not be trained on" in capsys.readouterr().out


def test_the_same_text_on_both_sides_is_found_rather_than_refused(tmp_path: Path) -> None:
    """Rows without a group are of the group of their text, which training refuses to split."""
    folder = write_rows(tmp_path / "prompts" / "a.jsonl", [{"id": "a", "prompt": ASK, "tier": "small"}]).parent
    write_rows(folder / "test" / "b.jsonl", [{"id": "b", "prompt": ASK, "tier": "small"}])
    with pytest.raises(DataError, match="groups on one side"):
        read([folder])
    assert main(["--prompts", str(folder), "-o", str(tmp_path / "audit.jsonl"), "--fail-on", "contamination"]) == 3


def test_measured_outcomes_are_looked_through_too(tmp_path: Path) -> None:
    """For what is tested on; they have no label to doubt."""
    measured = [{"id": text, "prompt": text, "outcomes": {"small": 0.5}, "split": "train"} for text in (ASK, OTHER)]
    leak = {"id": "leak", "prompt": NEARLY, "tier": "small", "split": "test"}
    output = tmp_path / "audit.jsonl"
    assert main(["--prompts", str(write_rows(tmp_path / "made.jsonl", [*measured, leak])), "-o", str(output)]) == 0
    assert [(one["id"], one["label"], one["other"]["id"]) for one in rows_in(output)] == [(ASK, None, "leak")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": 1, "prompt": "x", "tier": "huge"}', "rows.jsonl:1: tier: found 'huge'"),
        ("[]", "rows.jsonl:1: line: found list"),
        ("", "found no training rows"),
    ],
)
def test_bad_input_ends_the_command_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    """Exit code 1, one line that names it, and no file."""
    file, output = tmp_path / "rows.jsonl", tmp_path / "audit.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    assert main(["--prompts", str(file), "-o", str(output)]) == 1
    assert said in capsys.readouterr().err
    assert not output.exists()


def test_a_file_that_exists_is_not_written_over(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A review may stand in it, or the data themselves."""
    before = few.read_bytes()
    assert main(["--prompts", str(few), "-o", str(few)]) == 1
    assert "expected one that does not exist yet" in capsys.readouterr().err
    assert few.read_bytes() == before


@pytest.mark.parametrize(
    "arguments", [[], ["-o", "x", "--fail-on", "doubt"], ["-o", "x", "--against"]], ids=["no output", "no kind", "empty"]
)
def test_arguments_that_mean_nothing_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """By argparse, with the usage."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m training.audit" in capsys.readouterr().err


def test_the_bundled_prompts_are_audited_unless_others_are_named() -> None:
    """With the encoder of the checkout, and without their texts."""
    arguments = parser().parse_args(["-o", "x"])
    assert (arguments.prompts, arguments.encoder, arguments.text) == ([Path("data/prompts")], ENCODER, False)
