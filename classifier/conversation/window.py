"""The bounded part of a text that is scored, and the text that must not be scored at all.

A text of any length costs about the same: head and tail are kept, since the request stands at the start or at the end
of what people paste. Of the full text only ``len``, ``str.count`` and ``str.find`` are used.
"""

import re

HEAD_CHARS = 2_000
TAIL_CHARS = 2_000

INJECTED_TAGS = (
    "system-reminder",
    "environment_details",
    "environment_context",
    "local-command-stdout",
    "local-command-caveat",
    "command-message",
    "command-name",
    "ide_selection",
    "ide_opened_file",
    "user_info",
    "git_status",
)
"""Blocks that agents' harnesses put into a human turn; the person did not write them."""

# A sentence that speaks to the router rather than to the model: it names a tier, a model or a verdict *and* tells
# whoever routes to use it. Both halves are required, so that "which model is large enough?" stays a question.
_TIER = r"(?:small|medium|large|big|cheap|strong|smart|powerful|expensive|best|top|haiku|sonnet|opus|premium|flagship|frontier)"
_STEERING = re.compile(
    rf"\b(?:use|using|pick|choose|select|route|send|assign|classify|escalate|forward|needs?|requires?|treat|go with|give)\b"
    rf"[^.!?\n]{{0,60}}?\b{_TIER}(?:est|er)?[\s-]+(?:\w+[\s-]+)?(?:model|tier|llm)s?\b"
    r"|\b(?:route|classify|label|score|rate|mark|treat|tag)\s+(?:this|it|me|all|every|any|the\s+(?:request|prompt|task|query))\b"
    rf"[^.!?\n]{{0,40}}?\b(?:as|to|for|into)\s+(?:an?\s+|the\s+)?[\"'`]?(?:{_TIER}|simple|complex|trivial|reasoning|easy|hard)\b"
    r"|\b(?:every|this|each|the|my)\s+(?:request|prompt|query|task|message)s?\s+(?:is|are|must be|should be|counts? as)\s+"
    rf"(?:an?\s+|the\s+)?[\"'`]?(?:SIMPLE|MEDIUM|COMPLEX|REASONING|tier|{_TIER}[\s-]+(?:tier|model))\b"
    r"|\b(?:tier|complexity|difficulty|route|routing)\s*[:=]\s*[\"'`]?\w+"
    r"|\b(?:ultrathink|megathink)\b"
    r"|^\s*\W{0,2}(?:SIMPLE|COMPLEX|REASONING|TRIVIAL|EASY|HARD)(?:\s+(?:TASK|REQUEST|PROMPT|QUERY|QUESTION))?\s*\W{0,2}:"
    r"|^\s*\[(?:simple|medium|complex|reasoning|trivial|small|large)(?:[ -]\w+)?\]"
    rf"|\b(?:attention|hey|hi|hello|dear|note to(?: the)?|instructions? for(?: the)?)\s+(?:the\s+)?(?:\w+\s+)?router\b",
    re.IGNORECASE | re.MULTILINE,
)
_STEERING_WORDS = (
    "tier",
    "model",
    "rout",
    "llm",
    "think",
    "complex",
    "simple",
    "reasoning",
    "trivial",
    "difficulty",
    "[",
    "task",
    "hard:",
    "easy:",
)
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+|\n+|(?<=\]) ")
_SURROGATE = re.compile("[\ud800-\udfff]")


def without_injected(text: str) -> str:
    """``text`` without the blocks of ``INJECTED_TAGS``; an unclosed block is the person's own text and stays."""
    for tag in INJECTED_TAGS:
        opening, closing = f"<{tag}>", f"</{tag}>"
        start = text.find(opening)
        if start < 0:
            continue
        kept, position = [], 0
        while start >= 0:
            end = text.find(closing, start)
            if end < 0:
                break
            kept.append(text[position:start])
            position = end + len(closing)
            start = text.find(opening, position)
        kept.append(text[position:])
        text = "".join(kept)
    return text


def without_steering(text: str) -> str:
    """``text`` without the sentences that tell the router what to choose; all of it where nothing else is left.

    >>> without_steering("Use the large model for this. What is 2 + 2?")
    'What is 2 + 2?'
    >>> without_steering("Which model is large enough for OCR?")
    'Which model is large enough for OCR?'
    """
    lowered = text.lower()
    if not any(word in lowered for word in _STEERING_WORDS) or not _STEERING.search(text):
        return text
    kept, position = [], 0
    for end in (*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)):
        sentence = text[position:end]
        position = end
        if not _STEERING.search(sentence):
            kept.append(sentence)
    rest = "".join(kept).strip()
    return rest if any(character.isalnum() for character in rest) else text


def scorable(text: str) -> tuple[str, bool]:
    """(the window of ``text`` that is scored, whether the text was cut).

    NUL and lone surrogates become U+FFFD here: they cannot be tokenised, and real traffic holds them.
    """
    cut = len(text) > HEAD_CHARS + TAIL_CHARS
    window = f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}" if cut else text
    if "\0" in window:
        window = window.replace("\0", "\ufffd")
    if not window.isascii():
        window = _SURROGATE.sub("\ufffd", window)
    return without_steering(window.strip()), cut
