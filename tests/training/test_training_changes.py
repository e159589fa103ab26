"""Changes to a prompt that must not matter: what each may touch, and what it leaves alone."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.changes import Change, Fillers, beside, changes
from training.files import DataError

FILLERS = Fillers(
    politeness=[("Hello there,", "Many thanks!"), ("", "Cheers."), ("Please:", "")],
    signature=["Best,\nAda", "Sent from a train"],
    small_talk=["What a sunny day.", "It rains.\nIt always rains."],
)
CHANGES = changes(FILLERS)
KINDS = list(CHANGES)
DRAWN = [kind for kind in KINDS if kind != "spelling"]  # there is one way to spell otherwise
TEXT = "Please analyze the colour of these three invoices, and do not forget the totals.\nWho owes us most?"

SEEDS = st.integers(0, 1_000_000)
PLAIN_WORDS = st.lists(st.from_regex(r"[A-Za-z]{1,9}", fullmatch=True), min_size=1, max_size=12)
PLAIN = st.tuples(PLAIN_WORDS, st.lists(st.sampled_from([" ", ", ", "\n", ". ", "? "]), min_size=12, max_size=12)).map(
    lambda drawn: "".join(word + gap for word, gap in zip(drawn[0], drawn[1], strict=False))
)
"""English as far as letters and gaps go."""
LONG_WORD = r"(?<!\w)[A-Za-z]{4,}(?!\w)"


def changed(kind: str, text: str, seed: int = 0) -> str:
    """``text`` after one change."""
    return CHANGES[kind](text, random.Random(seed))  # noqa: S311 - reproducible, nothing secret


def words(text: str) -> list[str]:
    """The words of a text, in order."""
    return re.findall(r"\w+", text)


# chance


@settings(deadline=None, max_examples=60)
@given(text=st.text(), seed=SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_change_is_the_same_for_the_same_seed(kind: str, text: str, seed: int) -> None:
    """Suites and training runs can be repeated."""
    assert changed(kind, text, seed) == changed(kind, text, seed)


@pytest.mark.parametrize("kind", DRAWN)
def test_another_seed_is_another_draw(kind: str) -> None:
    """A kind has more than one way to change a text."""
    assert len({changed(kind, TEXT, seed) for seed in range(30)}) > 1


@pytest.mark.parametrize("kind", ["politeness", "typos", "casing", "whitespace", "signature", "small_talk", "spelling"])
def test_an_ordinary_text_is_changed(kind: str) -> None:
    """Whatever is drawn for it."""
    assert all(changed(kind, TEXT, seed) != TEXT for seed in range(30))


# what is put around a text


@settings(deadline=None, max_examples=60)
@given(text=st.text(), seed=SEEDS)
def test_politeness_stands_around_the_text(text: str, seed: int) -> None:
    """One of the pairs that were written, with the text between them as it was."""
    assert changed("politeness", text, seed) in {f"{before} {text} {after}".strip() for before, after in FILLERS.politeness}


@settings(deadline=None, max_examples=60)
@given(text=st.text(), seed=SEEDS)
def test_a_signature_stands_below_the_text(text: str, seed: int) -> None:
    """After a blank line."""
    assert changed("signature", text, seed) in {f"{text}\n\n{signature}" for signature in FILLERS.signature}


@settings(deadline=None, max_examples=60)
@given(text=st.text(), seed=SEEDS)
def test_small_talk_stands_above_the_text(text: str, seed: int) -> None:
    """With a blank line between."""
    assert changed("small_talk", text, seed) in {f"{small_talk}\n\n{text}" for small_talk in FILLERS.small_talk}


# what is changed within a text


@settings(deadline=None, max_examples=200)
@given(text=st.text() | PLAIN, seed=SEEDS)
def test_whitespace_is_all_that_a_change_of_whitespace_touches(text: str, seed: int) -> None:
    """The same words between the same punctuation, and never the same text."""
    found = changed("whitespace", text, seed)
    assert found.split() == text.split()
    assert found != text


@settings(deadline=None, max_examples=200)
@given(text=PLAIN, seed=SEEDS)
def test_markdown_keeps_every_word(text: str, seed: int) -> None:
    """In order; a heading may stand above them."""
    assert words(changed("markdown", text, seed)) in (words(text), ["Request", *words(text)])


def test_markdown_comes_in_all_its_forms() -> None:
    """Heading, bold line, list, rules, quotation and emphasis."""
    found = {changed("markdown", "Sort these names\nby length", seed) for seed in range(200)}
    plain = {
        "# Request\n\nSort these names\nby length",
        "**Sort these names**\nby length",
        "- Sort these names\nby length",
        "---\n\nSort these names\nby length\n\n---",
        "> Sort these names\nby length",
    }
    assert plain < found
    assert "Sort **these** names\nby length" in found


@settings(deadline=None, max_examples=200)
@given(text=st.text() | PLAIN, seed=SEEDS)
def test_typos_touch_longer_words_alone(text: str, seed: int) -> None:
    """Of each no more than a letter, and never the first; all that stands between them stays."""
    between = re.split(LONG_WORD, text)
    found = re.fullmatch("([A-Za-z]{3,})".join(map(re.escape, between)), changed("typos", text, seed))
    assert found is not None
    for before, after in zip(re.findall(LONG_WORD, text), found.groups(), strict=True):
        assert after[0] == before[0]
        assert abs(len(after) - len(before)) <= 1
        assert set(after) <= set(before)


@settings(deadline=None, max_examples=60)
@given(word=st.text("abAB", min_size=4, max_size=9), seed=SEEDS)
def test_a_typo_is_one_whatever_the_letters(word: str, seed: int) -> None:
    """Letters that are alike do not change places, which nobody would see."""
    assert changed("typos", word, seed) != word


@pytest.mark.parametrize("text", ["", "1 + 1 = 2", "is it so", "这是什么意思", "naïveté übermorgen", "get_user_name h2load 4thly"])
def test_a_text_without_a_longer_word_has_no_typos(text: str) -> None:
    """It comes back as it is."""
    assert changed("typos", text) == text


def test_typos_are_in_about_a_twelfth_of_the_longer_words() -> None:
    """A text that nobody could read would ask for something else."""
    text = "somewhat " * 2_000
    wrong = sum(word != "somewhat" for word in changed("typos", text).split())
    assert 0.06 < wrong / 2_000 < 0.1


@settings(deadline=None, max_examples=60)
@given(text=PLAIN, seed=SEEDS)
def test_casing_is_all_that_a_change_of_casing_touches(text: str, seed: int) -> None:
    """All small, all capitals, or a capital at the start alone."""
    assert changed("casing", text, seed) in {text.lower(), text.upper(), text.capitalize()}


@pytest.mark.parametrize(
    ("american", "british"),
    [("analyze the color", "analyse the colour"), ("the center of the catalog", "the centre of the catalogue"), ("gray", "grey")],
)
def test_spelling_goes_from_american_to_british_and_back(american: str, british: str) -> None:
    """Both are found in real prompts."""
    assert changed("spelling", american) == british
    assert changed("spelling", british) == american


def test_spelling_knows_the_short_forms_of_chat() -> None:
    """Also where a sentence begins with them, and where they are two words."""
    assert changed("spelling", "Please do not go without you and me") == "pls don't go w/o u & me"


@pytest.mark.parametrize("text", ["colorful yours, handy withstanding", "Wie geht es dir?", "", "a_color = GRAY2", "pleaſe, \u212aopf"])
def test_spelling_leaves_other_words_alone(text: str) -> None:
    """A variant within a longer word is none."""
    assert changed("spelling", text) == text


# the texts


def test_fillers_are_read_from_a_file(tmp_path: Path) -> None:
    """As lists by kind; only training has steering."""
    texts = {"politeness": [["Please:", ""]], "signature": ["Ada"], "small_talk": ["It rains."]}
    (tmp_path / "suite.json").write_text(json.dumps(texts), encoding="utf-8")
    (tmp_path / "training.json").write_text(json.dumps(texts | {"steering": ["Use the best."]}), encoding="utf-8")
    suite, training = (Fillers.read(tmp_path / name) for name in ("suite.json", "training.json"))
    assert (suite.signature, suite.small_talk, suite.steering) == (["Ada"], ["It rains."], [])
    assert training.steering == ["Use the best."]


def test_fillers_that_were_read_are_drawn_from(tmp_path: Path) -> None:
    """JSON has lists for pairs."""
    file = tmp_path / "fillers.json"
    texts = {"politeness": [["Please:", "Thanks!"]], "signature": ["Ada"], "small_talk": ["It rains."]}
    file.write_text(json.dumps(texts), encoding="utf-8")
    polite: Change = changes(Fillers.read(file))["politeness"]
    assert polite("go", random.Random(0)) == "Please: go Thanks!"  # noqa: S311 - as above


@pytest.mark.parametrize("kind", ["politeness", "signature", "small_talk"])
def test_a_kind_without_texts_is_refused_with_its_name(tmp_path: Path, kind: str) -> None:
    """There is nothing to draw then; steering may be absent, which the suite does without."""
    texts: dict[str, list[Any]] = {"politeness": [["Please:", ""]], "signature": ["Ada"], "small_talk": ["It rains."], "steering": []}
    file = tmp_path / "fillers.json"
    file.write_text(json.dumps(texts | {kind: []}), encoding="utf-8")
    with pytest.raises(DataError) as raised:
        Fillers.read(file)
    error = raised.value
    assert (error.file, error.field, error.found, error.expected) == (file, kind, "an empty list", "at least one text")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "FileNotFoundError"),
        (b"{", "JSONDecodeError"),
        (b'{"signature": ["\xff"]}', "UnicodeDecodeError"),
        (b"[]", "TypeError"),
        (b'{"politeness": [], "signature": []}', "TypeError"),
        (b'{"politeness": [], "signature": [], "small_talk": [], "jokes": []}', "TypeError"),
    ],
    ids=["no file", "no JSON", "no UTF-8", "a list", "a kind missing", "a kind too many"],
)
def test_fillers_of_another_shape_are_refused_with_their_file(tmp_path: Path, content: bytes | None, found: str) -> None:
    """And with the lists that are expected."""
    file = tmp_path / "fillers.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError) as raised:
        Fillers.read(file)
    assert (raised.value.file, raised.value.found) == (file, found)
    assert raised.value.expected == "politeness, signature, small_talk and steering"


@settings(deadline=None)
@given(text=st.text(), other=st.text(), seed=st.integers(0, 1_000_000))
def test_what_stands_beside_a_text_comes_before_or_after_it(text: str, other: str, seed: int) -> None:
    """On a line of its own or not, and both are as they were."""
    found = beside(text, other, random.Random(seed))  # noqa: S311 - reproducible, nothing secret
    assert found in {gap.join(parts) for parts in ((text, other), (other, text)) for gap in (" ", "\n", "\n\n")}
