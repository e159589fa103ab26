"""One pass over a prompt: everything the signals are computed from.

The words of the ask go once through a dictionary; structure is counted on the bounded window. No regular expression
here can backtrack over more than a line.
"""

import re
from dataclasses import dataclass

from classifier.signals.lexicon import FILLER, SUBSTRINGS, WORDS
from classifier.types import Prompt

_WORD = re.compile(r"\w+")
_STRUCTURE = re.compile(
    r"(?P<path>[\w./-]*\w\.(?:py|pyi|ipynb|js|jsx|ts|tsx|vue|svelte|go|rs|rb|php|java|kt|kts|swift|cs|cpp|cc|hpp|ex|exs|sql|sh|ps1|tf|"
    r"ya?ml|toml|json|ini|env|md|rst|txt|csv|xlsx?|docx?|pdf|html|s?css|proto|gradle|lock|xml)\b)"
    r"|(?P<exception>\b[A-Za-z_]\w*(?:Error|Exception|Fault|Panic)\b)"
    r"|(?P<number>\b\d[\d.,]*)"
    r"|(?P<identifier>\b(?:\w+_\w+|[a-z]+[A-Z]\w*)\b|\b\w+\(\))"
    r"|(?P<acronym>\b[A-Z]{2,6}\b)"
)
_FRAME = re.compile(r"^\s*(?:at |File \"|#\d+ |goroutine |Caused by|Traceback|panic:)", re.MULTILINE)
_LOG = re.compile(r"^\W?(?:\d{4}-\d\d-\d\d|\w{3} +\d+ \d\d:|\d\d:\d\d:\d\d|(?:INFO|WARN|ERROR|DEBUG)\b)", re.MULTILINE)
_DIFF = re.compile(r"^(?:diff --git|@@ |\+\+\+ |--- |[+-](?![+-])\s*\S)", re.MULTILINE)
_LIST = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s", re.MULTILINE)
_MAIL = re.compile(r"^(?:From|To|Cc|Subject|Date|Von|An|Betreff|De|Para|Asunto|Objet):", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?。！？](?:\s|$)")
_CODE_SYMBOLS = "{}()[];=<>"

GROUPS = tuple(WORDS)
_INDEX = {group: index for index, group in enumerate(GROUPS)}


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split("|")]


def _dictionaries() -> tuple[dict[str, tuple[int, ...]], dict[str, list[tuple[tuple[str, ...], int]]]]:
    """(word -> groups, first word -> its phrases with their group)."""
    words: dict[str, tuple[int, ...]] = {}
    phrases: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for group, text in WORDS.items():
        for entry in dict.fromkeys(_entries(text)):
            first, *rest = entry.split()
            if rest:
                phrases.setdefault(first, []).append((tuple(rest), _INDEX[group]))
            else:
                words[first] = (*words.get(first, ()), _INDEX[group])
    return words, phrases


_WORDS, _PHRASES = _dictionaries()
_FILLER = frozenset(FILLER.split())
_SUBSTRINGS = [(term, _INDEX[group]) for group, text in SUBSTRINGS.items() for term in _entries(text)]
_OPENING_WORDS = 4


@dataclass(slots=True)
class Scan:
    """Counts of one prompt. ``groups[i]`` counts the entries of lexicon group ``GROUPS[i]`` in the ask."""

    prompt: Prompt
    groups: list[int]
    opening: list[int]  # the same within the first words of the ask, where the verb of a request stands
    words: int
    filler: int
    distinct: int
    long_words: int
    sentences: int
    structure: dict[str, int]
    frames: int
    log_lines: int
    diff_lines: int
    list_items: int
    mail_headers: int
    code_symbols: int
    non_latin: int

    def group(self, name: str) -> int:
        """How often entries of the lexicon group ``name`` stand in the ask."""
        return self.groups[_INDEX[name]]

    def opens_with(self, name: str) -> int:
        """The same within the first words of the ask."""
        return self.opening[_INDEX[name]]


def scan(prompt: Prompt) -> Scan:
    """All counts of one prompt; cost is bounded by the window."""
    ask, window = prompt.ask, prompt.text
    words = _WORD.findall(ask.lower())
    groups, opening, filler = _count_words(words)
    non_latin = 0
    if not ask.isascii():
        non_latin = sum(1 for character in ask if character > "\u024f" and character.isalpha())
        if non_latin:
            for term, group in _SUBSTRINGS:
                groups[group] += ask.count(term)
    structure: dict[str, int] = {}
    for match in _STRUCTURE.finditer(window):
        kind = match.lastgroup or ""
        structure[kind] = structure.get(kind, 0) + 1
    lines = window if "\n" in window else ""  # what a single line looks like says nothing of logs, diffs or lists
    return Scan(
        prompt=prompt,
        groups=groups,
        opening=opening,
        words=len(words),
        filler=filler,
        distinct=len(set(words)),
        long_words=sum(1 for word in words if len(word) > 8),
        sentences=len(_SENTENCE_END.findall(ask)),
        structure=structure,
        frames=len(_FRAME.findall(lines)),
        log_lines=len(_LOG.findall(lines)),
        diff_lines=len(_DIFF.findall(lines)),
        list_items=len(_LIST.findall(lines)),
        mail_headers=len(_MAIL.findall(lines)),
        code_symbols=sum(map(window.count, _CODE_SYMBOLS)),
        non_latin=non_latin,
    )


def _count_words(words: list[str]) -> tuple[list[int], list[int], int]:
    """(entries of each group, the same within the first words that are not filler, words of filler)."""
    groups, opening = [0] * len(GROUPS), [0] * len(GROUPS)
    filler = 0
    for index, word in enumerate(words):
        filler += word in _FILLER
        found = _WORDS.get(word, ())
        phrases = _PHRASES.get(word)
        if phrases:
            found = (*found, *(group for rest, group in phrases if tuple(words[index + 1 : index + 1 + len(rest)]) == rest))
        for group in found:
            groups[group] += 1
            opening[group] += index - filler < _OPENING_WORDS
    return groups, opening, filler
