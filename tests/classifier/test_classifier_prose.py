"""What a person wrote, told apart from what the person pasted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier import from_text
from classifier.conversation.prose import ASK_HEAD_CHARS, ASK_TAIL_CHARS, ask_of

ASK = "Why does the nightly export fail since Tuesday?"

PASTED = {
    "fence": "```python\nsome words of plain prose in a fence\nx = 1\n```",
    "log": "2026-05-01 12:00:03 INFO export started\n2026-05-01 12:00:04 ERROR export failed\n[12:00:05] retrying",
    "level log": "ERROR: connection refused\nWARN [pool] retrying\nDEBUG | closing",
    "python trace": 'Traceback (most recent call last):\n  File "export.py", line 3, in main\n    rows = fetch(db)',
    "java trace": "\tat com.acme.Export.run(Export.java:14)\n\tat com.acme.Main.main(Main.java:3)\nCaused by: java.io.IOException",
    "diff": "diff --git a/export.py b/export.py\n--- a/export.py\n+++ b/export.py\n@@ -1,2 +1,2 @@\n-    limit\n+    count",
    "code": "def main(argv):\n    total = 0\n    for row in rows:\n        total += row.price\n    return total;",
    "sql": "SELECT id, total\nFROM orders\nWHERE total > 3\nORDER BY id",
    "table": "| id | total |\n|----|-------|\n| 1 | 3.5 |",
    "json": '{\n  "id": 1,\n  "rows": [1, 2, 3]\n}',
    "shell": "$ make export\n#!/bin/sh\n// a comment",
    "quoted mail": "> On Tuesday you wrote that\n> the export runs",
    "numbers": "12.50 13.75 14.00 15.25\n101, 202, 303, 404",
}


@pytest.mark.parametrize("pasted", PASTED.values(), ids=PASTED)
@pytest.mark.parametrize("order", ["ask first", "ask last"])
def test_the_ask_is_found_beside_pasted_material(pasted: str, order: str) -> None:
    """Code, logs, traces, diffs and tables are not the person's words, before or after the question."""
    text = f"{ASK}\n\n{pasted}" if order == "ask first" else f"{pasted}\n\n{ASK}"
    assert ask_of(text) == ASK


@pytest.mark.parametrize(
    "text",
    [
        ASK,
        "Dear team,\nthe export has failed twice this week.\nCan somebody look into it?\nRegards, Ann",
        "Please write a story:\n- a dragon\n- a bakery\n1. keep it short",
        "Überprüfe den Vertrag.\nWelche Klausel ist riskant?",
        "この設計をレビューしてください。\n問題点は何ですか",
    ],
    ids=["one line", "mail", "list", "german", "japanese"],
)
def test_prose_is_kept_whole(text: str) -> None:
    """Ordinary lines in any language are the ask."""
    assert ask_of(text) == text


def test_a_single_line_is_never_taken_for_pasted() -> None:
    """Somebody whose whole message looks like code asked about it."""
    assert ask_of("x = [i for i in range(3)];") == "x = [i for i in range(3)];"


@pytest.mark.parametrize("text", ["```\nint x = 1;\n```", "fix:\n```\nint x = 1;\n```"], ids=["no word", "one word"])
def test_where_hardly_any_prose_stands_out_the_window_is_the_ask(text: str) -> None:
    """A few letters say nothing without what was pasted."""
    assert ask_of(text) == text


def test_an_unclosed_fence_hides_what_follows() -> None:
    """Half a fenced block is still code."""
    assert ask_of(f"{ASK}\n```\nplain words that nobody closed") == ASK


def test_of_long_prose_head_and_tail_are_kept() -> None:
    """The ask is bounded more tightly than the window: the request stands at either end."""
    text = "h" * ASK_HEAD_CHARS + " middle " * 200 + "t" * ASK_TAIL_CHARS
    assert ask_of(text) == "h" * ASK_HEAD_CHARS + "\n" + "t" * ASK_TAIL_CHARS


@settings(deadline=None, max_examples=150)
@given(lines=st.lists(st.text(max_size=60) | st.sampled_from([ASK, "```", *PASTED.values()]), max_size=80))
def test_the_ask_is_bounded_and_taken_from_the_text(lines: list[str]) -> None:
    """Whatever is pasted, the ask is short, and made of lines that were sent."""
    text = "\n".join(lines)
    ask = ask_of(text)
    assert len(ask) <= ASK_HEAD_CHARS + ASK_TAIL_CHARS + 1
    assert all(line in text for line in ask.split("\n"))


@settings(deadline=None, max_examples=100)
@given(text=st.text(min_size=1).filter(str.strip))
def test_a_prompt_that_says_something_has_an_ask(text: str) -> None:
    """No text is emptied by telling prose and paste apart."""
    prompt = from_text(text)
    assert prompt.ask.strip() or not prompt.text.strip()
