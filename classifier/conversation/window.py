"""The bounded part of a text that is scored, and the text that must not be scored at all.

A text of any length costs about the same: head and tail are kept, since the request stands at the start or at the end
of what people paste. Of the full text only ``len``, ``str.count`` and ``str.find`` are used.
"""

import re

HEAD_CHARS = 500
TAIL_CHARS = 400

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

# A sentence that speaks to whoever routes rather than to the model: it names a tier, a kind of model or a verdict *and* says to
# use it. Both halves are required and questions are never taken for it, so that "which model is large enough?" stays.
_TIERS = (
    "small|medium|large|big|cheap|strong|smart|powerful|expensive|capable|best|top|haiku|sonnet|opus|premium|flagship|frontier|"
    "smallest|largest|biggest|cheapest|cheaper|strongest|smartest|bigger|larger|smaller|stronger|smarter"
)
_KINDS = "model|models|tier|tiers|llm|llms"
_KIND = rf"\b(?:{_TIERS})[\s-]+(?:\w+[\s-]+)?(?:{_KINDS})\b"
_VERDICTS = "simple|complex|trivial|reasoning|easy|hard|critical|small|medium|large"
_LOUD = "SIMPLE|MEDIUM|COMPLEX|REASONING|TRIVIAL|EASY|HARD|SMALL|LARGE"
_REQUESTS = "request|prompt|query|task|message|question|conversation|requests|prompts|queries|tasks|messages|questions"
_CHOOSING = "use|using|pick|choose|select|route|send|assign|escalate|forward|switch|go|give"
_NEEDING = "need|needs|require|requires|deserve|deserves|go|goes"
_JUDGING = "route|classify|label|score|rate|mark|treat|tag"
_KEYS = "tier|complexity|difficulty|routing|route|model_tier"
_AT_ONCE = rf"(?:for|on|with|in)\s+(?:this|it|that|me|here|all|everything)(?:\s+(?:one|{_REQUESTS}))?\s*(?:$|[.,;!?:()])|(?:here|now|please|only|always|and|because|since|to)\b"
_END = rf"[\"'`*]*\s*(?:$|[.,;!?:()]|{_AT_ONCE})"


def _rule(pattern: str, *needed: str) -> tuple[tuple[frozenset[str], ...], re.Pattern[str]]:
    return tuple(frozenset(words.split("|")) for words in needed), re.compile(pattern, re.IGNORECASE)


# Sets of words of each of which one must stand in the text, which is quick to see, and what makes a sentence steering.
_RULES = (
    _rule(rf"\b(?:{_CHOOSING})\b[^.!?\n]{{0,50}}?{_KIND}{_END}", _KINDS, _CHOOSING, _TIERS),
    _rule(
        rf"\b(?:this|it|(?:this|the|my|every|each) (?:{_REQUESTS}))\s+(?:\w+ly |must )?(?:{_NEEDING})\b[^.!?\n]{{0,30}}?{_KIND}",
        _KINDS,
        _NEEDING,
        _TIERS,
    ),
    _rule(
        rf"\b(?:{_JUDGING})\s+(?:this|it|me|all|every|any|the)\b(?:\s+\w+)?\s+(?:as|to|for|into)\s+(?:an?\s+|the\s+)?[\"'`]?"
        rf"(?:{_TIERS}|{_VERDICTS})(?:[\s-]+(?:{_REQUESTS}|{_KINDS}))?{_END}",
        _JUDGING,
        f"{_TIERS}|{_VERDICTS}",
    ),
    _rule(
        rf"\b(?:every|this|each|the|my|all)\s+(?:{_REQUESTS})\s+(?:is|are|must be|should be|counts? as)\s+(?:an?\s+|the\s+)?[\"'`]?"
        rf"(?:(?-i:{_LOUD})|tier\b|(?:{_TIERS})[\s-]+(?:{_KINDS})\b)",
        _REQUESTS,
        f"{_LOUD}|{_KINDS}",
    ),
    _rule(
        rf"^\W*(?:{_KEYS})\s*[:=]\s*[\"'`]?(?:{_TIERS}|{_VERDICTS}|low|high|max|maximum|minimum|1|2|3|4|5)(?:[\"'`]*\s*[.,;!]*\s*$|\s+tier\b)",
        _KEYS,
    ),
    _rule(r"\b(?:ultrathink|megathink)\b", "ultrathink|megathink"),
    _rule(rf"^\W{{0,3}}(?-i:{_LOUD})(?:\s+(?-i:TASK|REQUEST|PROMPT|QUERY|QUESTION))?\W{{0,2}}(?:$|:)|^\s*\[(?-i:{_LOUD})\]", _LOUD),
    _rule(rf"^\s*\[(?:tier[ :=-]\w+|(?:{_VERDICTS}) (?:{_REQUESTS}))\]", f"tier|{_VERDICTS}", f"tier|{_REQUESTS}"),
    _rule(
        r"^\W*(?:attention|hey|hi|hello|dear|note to(?: the)?|instructions? for(?: the)?|to the)\s+(?:\w+\s+)?router\s*(?:[,:!.-]|$)",
        "router",
    ),
)
# What every rule needs some of: most texts have none, and are done with.
_HINTS = (
    "model",
    "tier",
    "llm",
    "think",
    "rout",
    "complexity",
    "difficulty",
    "classify",
    "label",
    "score",
    "rate ",
    "mark ",
    "treat",
    "tag ",
    "[",
)
_LOUD_HINTS = tuple(_LOUD.split("|"))
_WORD = re.compile(r"\w+")
_LONGEST_STEERING = 240
# A colon ends a sentence only after capitals or before a line break: "tier: large" must stay in one piece.
_SENTENCE_END = re.compile(r"(?:[.!?;][\"')\]]*|\]|:(?<=[A-Z][A-Z]:))\s+|\n+")
_SURROGATE = re.compile("[\ud800-\udfff]")


def without_injected(text: str) -> str:
    """``text`` without the blocks of ``INJECTED_TAGS``; an unclosed block is the person's own text and stays."""
    if "</" not in text:
        return text
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
    hints = _hints(text)
    if not hints:
        return text
    kept, position = [], 0
    for end in (*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)):
        sentence = text[position:end]
        position = end
        if not _is_steering(sentence.strip(), hints):
            kept.append(sentence)
    rest = "".join(kept).strip()
    return rest if any(map(str.isalnum, rest)) else text


def _hints(text: str) -> list[str]:
    lowered = text.lower()
    return [hint for hint in _HINTS if hint in lowered] + [hint.lower() for hint in _LOUD_HINTS if hint in text]


def _is_steering(sentence: str, hints: list[str]) -> bool:
    lowered = sentence.lower()
    if len(sentence) > _LONGEST_STEERING or sentence.endswith("?") or not any(hint in lowered for hint in hints):
        return False
    words = set(_WORD.findall(sentence))
    words.update([word.lower() for word in words])  # verdicts in capitals must stand in capitals
    return any(pattern.search(sentence) for needed, pattern in _RULES if not any(words.isdisjoint(group) for group in needed))


def scorable(text: str) -> tuple[str, bool]:
    """(the window of ``text`` that is scored, whether the text was cut).

    NUL and lone surrogates become U+FFFD here: they cannot be tokenised, and real traffic holds them.
    """
    text = text.strip()
    cut = len(text) > HEAD_CHARS + TAIL_CHARS
    window = f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}" if cut else text
    if "\0" in window:
        window = window.replace("\0", "\ufffd")
    if not window.isascii():
        window = _SURROGATE.sub("\ufffd", window)
    return without_steering(window.strip()), cut
