"""Complexity signals: what each one counts, and what none of them counts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from classifier import Prompt, from_messages, from_text
from classifier.signals import NAMES, SIGNALS, signal_matrix

ANY_TEXT = (
    st.text(st.characters(exclude_categories=()), min_size=1, max_size=60)
    | st.text(st.sampled_from("aZ09_.()[]{}-+@#\\$\"'`?!:/| \n\té漢ß\0\ud800"), min_size=1, max_size=60)
).filter(str.strip)

# signal, a prompt that has it, its value there
EXAMPLES: list[tuple[str, str, float]] = [
    # size
    ("chars", "Sort these names", 16),
    ("lines", "Sort these:\nAnn\nBob", 3),
    ("ask_chars", "Which line fails?\n```\nint x = 1;\n```", 17),
    ("content_words", "Could you please sort these names", 3),
    ("sentences", "Sort these. Are they sorted? Then stop!", 3),
    ("words_per_sentence", "Sort these names. Count those cities.", 3),
    ("long_word_share", "Internationalisation is hard work", 0.25),
    ("distinct_word_share", "Buffalo buffalo buffalo eats", 0.5),
    ("pasted_share", "Which line fails?\n```\nx1234567\n```", 0.5),
    ("list_items", "Review:\n- the tone\n- the length\n1. the title", 3),
    ("truncated", "word " * 2_000, 1),
    # scope
    ("whole_scope", "Rename it across the entire codebase", 3),
    ("parts_mentioned", "Three services and two modules", 2),
    ("files_mentioned", "Move src/app.py and README.md into lib", 2),
    ("file_words", "Which folder holds the files?", 2),
    ("documents_mentioned", "Read both contracts and the memo", 2),
    ("acronyms", "Does the SDK speak HTTP?", 2),
    ("scale_words", "Forty million users", 2),
    ("horizon", "How will it look in ten years?", 1),
    # openness
    ("ambiguity", "Sometimes it is weird and nobody knows", 3),
    ("open_questions", "Should we buy it, and is it worth it?", 2),
    ("why", "Why is the sky blue?", 1),
    ("questions", "Really? Are you sure?", 2),
    ("choice", "Tea or coffee", 1),
    ("comparison", "List the pros and cons, and the difference", 3),
    ("analysis", "Evaluate the risks", 2),
    ("conflict", "These two disagree", 1),
    # reasoning
    ("conditionals", "Stop if it rains, unless you are in Rome", 2),
    ("constraints", "It must fit within the week", 2),
    ("numbers", "Add 12 and 13", 2),
    ("mathematics", "Sum the integers", 2),
    ("proof", "Show that it holds", 1),
    ("formula_marks", r"Expand $\frac{a}{b}$", 3),
    # work
    ("planning", "Plan the rollout", 2),
    ("executing", "Implement it", 1),
    ("mechanical", "Fix the typo in the list", 2),
    ("facts", "What is the capital of Peru?", 2),
    ("explaining", "Explain tides", 1),
    ("rewriting", "Rephrase this", 1),
    ("creative", "Tell me a joke", 1),
    ("testing", "Mock the clock", 1),
    ("documentation", "Put it in the changelog", 1),
    ("refactoring", "Decouple the two", 1),
    ("debugging", "It crashes", 1),
    ("given_plan", "Do it as described in the ticket", 2),
    # opening
    ("opens_planning", "Please design a school", 1),
    ("opens_executing", "Build a shed", 1),
    ("opens_mechanical", "Translate it into Dutch", 1),
    ("opens_fact", "Who was Ada Lovelace?", 1),
    ("opens_open_question", "Should we sell?", 1),
    ("opens_why", "Why does bread rise?", 1),
    ("opens_explaining", "Describe photosynthesis", 1),
    ("opens_rewriting", "Summarise the chapter", 1),
    # code
    ("code_fences", "Run\n```\na\n```\nand\n```\nb\n```", 2),
    ("code_symbol_share", "f(x);", 0.6),
    ("identifiers", "Call parse_row on rowCount via run()", 3),
    ("exceptions", "It raises KeyError and IOException", 2),
    ("stack_frames", 'It fails:\nTraceback (most recent call last):\n  File "a.py", line 1\n', 2),
    ("log_lines", "See:\n2026-05-01 12:00:03 started\nERROR stopped", 2),
    ("diff_lines", "Review:\n@@ -1 +1 @@\n-old\n+new", 3),
    ("concurrency", "A deadlock of two threads", 2),
    ("performance", "Reduce the latency", 1),
    # stakes
    ("security", "Rotate the credentials", 1),
    ("production", "An outage hit the customers", 2),
    ("money", "Split the mortgage", 1),
    ("migration", "After the cutover", 1),
    ("legal", "May the landlord keep it?", 1),
    ("health", "The patient has a symptom", 2),
    ("people", "Morale fell after the layoffs", 2),
    # output
    ("output_format", "Answer in JSON", 1),
    ("short_output", "In one word", 1),
    ("long_output", "A thorough essay", 2),
    # conversation
    ("mail_headers", "From: Ann\nSubject: Lunch\nShall we eat?", 2),
    # language
    ("english_share", "the cat is orange", 0.5),
    ("foreign_share", "die Katze schläft nicht", 0.5),
    ("non_latin_share", "日本ab", 0.5),
]

TURNS: list[tuple[str, list[dict[str, Any]], float]] = [
    ("human_turns", [{"role": "user", "content": "Sort these names"}, {"role": "user", "content": "Sketch a logo of two birds"}], 2),
    ("follow_up", [{"role": "user", "content": "Sort these names"}, {"role": "user", "content": "continue"}], 1),
    ("history_chars", [{"role": "user", "content": "Hello"}, {"role": "user", "content": "Sketch a logo of two birds"}], 5),
    ("images", [{"role": "user", "content": ["What bird?", {"type": "image_url"}, {"type": "image"}]}], 2),
]


def values(prompt: Prompt) -> dict[str, float]:
    """Every signal of one prompt, by name."""
    return dict(zip(NAMES, signal_matrix([prompt])[0].tolist(), strict=True))


# the table


def test_there_are_at_least_forty_signals() -> None:
    """The head reads a broad description of the prompt."""
    assert len(SIGNALS) >= 40


def test_names_are_unique() -> None:
    """A name is what a bundle and a person know a signal by."""
    assert len(set(NAMES)) == len(NAMES) == len(SIGNALS)


def test_every_signal_says_what_it_means() -> None:
    """Names can stand in JSON and in Prometheus, and a meaning stands beside each."""
    assert all(signal.name.isidentifier() and signal.name.islower() and signal.meaning for signal in SIGNALS)


def test_every_group_has_an_example() -> None:
    """No group of signals goes untested."""
    group = {signal.name: signal.group for signal in SIGNALS}
    assert {group[name] for name, *_ in (*EXAMPLES, *TURNS)} == set(group.values())


# what each counts


@pytest.mark.parametrize(("name", "text", "value"), EXAMPLES, ids=[name for name, *_ in EXAMPLES])
def test_a_signal_counts_what_it_says(name: str, text: str, value: float) -> None:
    """Each signal on a text written for it."""
    assert values(from_text(text))[name] == pytest.approx(value)


@pytest.mark.parametrize(("name", "messages", "value"), TURNS, ids=[name for name, *_ in TURNS])
def test_a_signal_of_the_conversation_counts_what_it_says(name: str, messages: list[dict[str, Any]], value: float) -> None:
    """Each signal that looks beyond the text, on turns written for it."""
    assert values(from_messages(messages))[name] == value


def test_a_plain_text_has_hardly_any_signal() -> None:
    """Words without a meaning for the work raise only sizes and the share of language."""
    raised = {name for name, value in values(from_text("Orange cats purr")).items() if value}
    sizes = {"chars", "lines", "ask_chars", "content_words", "words_per_sentence", "distinct_word_share", "human_turns"}
    assert raised == sizes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("planning", "この設計をレビューして"),
        ("open_questions", "我们应该怎么办"),
        ("why", "왜 그런가요"),
        ("mechanical", "Переведи на английский"),
        ("executing", "Schreibe einen Brief"),
        ("explaining", "Explique les marées"),
        ("debugging", "Hay un error: no funciona"),
    ],
)
def test_other_languages_are_read(name: str, text: str) -> None:
    """What a prompt asks for is seen in other languages and scripts too."""
    assert values(from_text(text))[name] > 0


def test_words_in_pasted_code_are_not_what_was_asked() -> None:
    """A word counts where the person wrote it, not in what was pasted."""
    text = "Tidy up the names in here\n```\n# plan the architecture, then prove the theorem\n```"
    found = values(from_text(text))
    assert (found["planning"], found["proof"]) == (0, 0)


def test_sizes_beyond_the_window_are_those_of_the_full_text() -> None:
    """A megabyte is a megabyte, though its middle is never read."""
    found = values(from_text("x\n" * 500_000 + "Why?"))
    assert (found["chars"], found["lines"], found["questions"], found["truncated"]) == (1_000_004, 500_001, 1, 1)


# what none counts

MEASURED_BY_CHARACTERS = {"chars", "ask_chars"}
SHARES_OF_ALL_WORDS = {"english_share", "foreign_share", "long_word_share", "distinct_word_share"}


@pytest.mark.parametrize(
    "polite", ["Please {}", "Could you please {}", "Hi, {}", "Hello! {}", "Kindly {}", "{} please", "{} asap", "Hey, can you really {}"]
)
@pytest.mark.parametrize(
    "request_", ["rename the variable in parser.py", "design a scalable login for three services", "explain why the sky looks blue"]
)
def test_politeness_is_not_complexity(polite: str, request_: str) -> None:
    """Politeness and filler change no count, neither of size by words nor of what is asked."""
    plain, wrapped = values(from_text(request_)), values(from_text(polite.format(request_)))
    ignored = MEASURED_BY_CHARACTERS | SHARES_OF_ALL_WORDS | ({"sentences"} if "!" in polite else set())
    assert {name: value for name, value in wrapped.items() if name not in ignored} == {
        name: value for name, value in plain.items() if name not in ignored
    }


@pytest.mark.parametrize("polite", ["Would you please", "Would you", "Could you", "Can you please"])
def test_a_polite_order_is_no_open_question(polite: str) -> None:
    """Only the form of "Would you please rename x to y" is a question."""
    found = values(from_text(f"{polite} rename x to y"))
    assert (found["open_questions"], found["opens_open_question"]) == (0, 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"system": "Plan and prove everything. " * 50},
        {"tools": [{"name": "deploy", "description": "Migrates production."}]},
    ],
    ids=["system", "tools"],
)
def test_what_is_only_sized_changes_no_signal(changed: dict[str, Any]) -> None:
    """A system prompt and a tool list are the same on every request of an application: they say nothing of this one."""
    messages = [{"role": "user", "content": "What is the capital of Peru?"}]
    assert values(from_messages(messages, **changed)) == values(from_messages(messages))


# the matrix


@settings(deadline=None, max_examples=300)
@given(text=ANY_TEXT)
@example("\0")
@example("\ud800")
@example("İ" * 50)
@example("9" * 5_000)
def test_signals_of_any_text_are_finite_and_not_negative(text: str) -> None:
    """The head takes logarithms: no text may give a negative number, an infinity or a NaN."""
    matrix = signal_matrix([from_text(text)])
    assert matrix.dtype == np.float32
    assert np.isfinite(matrix).all()
    assert (matrix >= 0).all()


@settings(deadline=None, max_examples=100)
@given(text=ANY_TEXT)
def test_shares_are_at_most_one(text: str) -> None:
    """A share of words, of letters or of the window lies between 0 and 1."""
    shares = {name: value for name, value in values(from_text(text)).items() if name.endswith("_share")}
    assert shares
    assert max(shares.values()) <= 1


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(ANY_TEXT, min_size=1, max_size=6))
def test_a_batch_equals_its_prompts_one_by_one(texts: Sequence[str]) -> None:
    """A prompt's signals never depend on its neighbours."""
    prompts = [from_text(text) for text in texts]
    np.testing.assert_array_equal(signal_matrix(prompts), np.vstack([signal_matrix([prompt]) for prompt in prompts]))


def test_no_prompts_give_no_rows() -> None:
    """An empty batch keeps its columns."""
    assert signal_matrix([]).shape == (0, len(NAMES))
