"""One pass over a prompt: everything the signals are computed from.

The words of the ask go once through a dictionary; structure is counted on the bounded window. No regular expression
here can backtrack over more than a word.
"""

import re
from dataclasses import dataclass

from classifier.signals.lexicon import FILLER, SUBSTRINGS, WORDS
from classifier.types import Prompt

_WORD = re.compile(r"\w+")
_LONG_WORD = re.compile(r"\w{9,}")
_PATH = re.compile(
    r"(?<=\w)\.(?:py|pyi|ipynb|js|jsx|ts|tsx|vue|svelte|go|rs|rb|php|java|kt|kts|swift|cs|cpp|cc|hpp|ex|exs|sql|sh|ps1|tf|"
    r"ya?ml|toml|json|ini|env|md|rst|txt|csv|xlsx?|docx?|pdf|html|s?css|proto|gradle|lock|xml)\b"
)
_EXCEPTION_ENDS = ("Error", "Exception", "Fault", "Panic")
_LONGEST_ACRONYM = 6
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
_ENTRIES = {word: (word in _FILLER, _WORDS.get(word, ()), _PHRASES.get(word)) for word in {*_WORDS, *_PHRASES, *_FILLER}}
"""Word -> (whether it is filler, its groups, the phrases that it begins): one look-up a word."""
_SUBSTRINGS = [(term, _INDEX[group]) for group, text in SUBSTRINGS.items() for term in _entries(text)]
_OPENING_WORDS = 4


@dataclass(slots=True)
class Scan:
    """Counts of one prompt.

    ``counts`` holds the entries of each lexicon group in the ask, in the order of ``GROUPS``, and then the same within the
    first words of the ask, where the verb of a request stands.
    """

    prompt: Prompt
    counts: list[int]
    words: int
    filler: int
    distinct: int
    long_words: int
    sentences: int
    paths: int
    identifiers: int
    exceptions: int
    numbers: int
    acronyms: int
    frames: int
    log_lines: int
    diff_lines: int
    list_items: int
    mail_headers: int
    code_symbols: int
    non_latin: int

    def group(self, name: str) -> int:
        """How often entries of the lexicon group ``name`` stand in the ask."""
        return self.counts[_INDEX[name]]


def scan(prompt: Prompt) -> Scan:
    """All counts of one prompt; cost is bounded by the window."""
    ask, window = prompt.ask, prompt.text
    words = _WORD.findall(ask.lower())
    counts, filler = _count_words(words)
    non_latin = 0
    if not ask.isascii():
        non_latin = sum(1 for character in ask if character > "\u024f" and character.isalpha())
        if non_latin:
            for term, group in _SUBSTRINGS:
                counts[group] += ask.count(term)
    identifiers, exceptions, numbers, acronyms = _count_shapes(window)
    lines = window if "\n" in window else ""  # what a single line looks like says nothing of logs, diffs or lists
    return Scan(
        prompt=prompt,
        counts=counts,
        words=len(words),
        filler=filler,
        distinct=len(set(words)),
        long_words=len(_LONG_WORD.findall(ask)),
        sentences=len(_SENTENCE_END.findall(ask)),
        paths=len(_PATH.findall(window)),
        identifiers=identifiers + window.count("()"),
        exceptions=exceptions,
        numbers=numbers,
        acronyms=acronyms,
        frames=len(_FRAME.findall(lines)),
        log_lines=len(_LOG.findall(lines)),
        diff_lines=len(_DIFF.findall(lines)),
        list_items=len(_LIST.findall(lines)),
        mail_headers=len(_MAIL.findall(lines)),
        code_symbols=sum(map(window.count, _CODE_SYMBOLS)),
        non_latin=non_latin,
    )


def _count_words(words: list[str]) -> tuple[list[int], int]:
    """(counts as ``Scan.counts`` has them, words of filler)."""
    counts = [0] * (2 * len(GROUPS))
    filler = 0
    for index, word in enumerate(words):
        entry = _ENTRIES.get(word)
        if entry is None:
            continue
        is_filler, found, phrases = entry
        filler += is_filler
        if phrases:
            found = (*found, *[group for rest, group in phrases if tuple(words[index + 1 : index + 1 + len(rest)]) == rest])
        for group in found:
            counts[group] += 1
            if index - filler < _OPENING_WORDS:
                counts[len(GROUPS) + group] += 1
    return counts, filler


def _count_shapes(window: str) -> tuple[int, int, int, int]:
    """(identifiers, names of exceptions, groups of digits, acronyms) among the words of the window, by their look."""
    identifiers = exceptions = numbers = acronyms = 0
    for word in _WORD.findall(window):
        if word.islower():
            identifiers += "_" in word
        elif word[0].isdigit():
            numbers += 1
        elif word.isupper() and word.isalpha():
            acronyms += 1 < len(word) <= _LONGEST_ACRONYM
        elif word.endswith(_EXCEPTION_ENDS):
            exceptions += 1
        elif "_" in word or (word[0].islower() and word.isascii()):
            identifiers += 1
    return identifiers, exceptions, numbers, acronyms
