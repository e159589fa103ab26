"""One pass over a prompt: everything the signals are computed from.

The words of the ask go once through a dictionary; structure is counted on the bounded window. No regular expression
here can backtrack over more than a word.
"""

import re
from dataclasses import dataclass

from classifier.signals.lexicon import FILLER, SUBSTRINGS, WORDS
from classifier.types import Prompt

_WORD = re.compile(r"\w+")
_TO_WORDS = bytes(ord(chr(byte).lower()) if byte < 128 and (chr(byte).isalnum() or byte == ord("_")) else ord(" ") for byte in range(256))
"""Makes of plain ASCII what lower-casing and ``_WORD`` make, in a tenth of the time."""
_LONG_WORD = 8  # letters; longer words are long
# Patterns begin with a literal or a set of characters, behind which the engine need not try, and look back from there.
_PATH = re.compile(
    r"\.(?<=\w\.)(?:py|pyi|ipynb|js|jsx|ts|tsx|vue|svelte|go|rs|rb|php|java|kt|kts|swift|cs|cpp|cc|hpp|ex|exs|sql|sh|ps1|tf|"
    r"ya?ml|toml|json|ini|env|md|rst|txt|csv|xlsx?|docx?|pdf|html|s?css|proto|gradle|lock|xml)\b"
)
_SNAKE_CASE = re.compile(r"_\w*(?<=\w\w)")
_CAMEL_CASE = re.compile(r"[A-Z](?<=[a-z].)\w*")
_EXCEPTION = re.compile(r"(?:Error|Exception|Fault|Panic)\b")
_ACRONYM = re.compile(r"[A-Z](?<!\w.)[A-Z]{1,5}(?!\w)")
_NUMBER = re.compile(r"[0-9](?<!\w.)\w*")
# Read after a line break was put in front of the window.
_FRAME = re.compile(r"\n\s*(?:at |File \"|#\d+ |goroutine |Caused by|Traceback|panic:)")
_LOG = re.compile(r"\n\W?(?:\d{4}-\d\d-\d\d|\w{3} +\d+ \d\d:|\d\d:\d\d:\d\d|(?:INFO|WARN|ERROR|DEBUG)\b)")
_DIFF = re.compile(r"\n(?:diff --git|@@ |\+\+\+ |--- |[+-](?![+-])\s*\S)")
_LIST = re.compile(r"\n\s*(?:[-*•]|\d{1,2}[.)])\s")
_MAIL = re.compile(r"\n(?:From|To|Cc|Subject|Date|Von|An|Betreff|De|Para|Asunto|Objet):")
_NON_LATIN = re.compile("[\u0250-\U0010ffff]")
_SENTENCE_END = re.compile(r"[.!?。！？](?:\s|$)")
_NOT_CODE = bytes(byte for byte in range(256) if chr(byte) not in "{}()[];=<>")

GROUPS = tuple(WORDS)
_INDEX = {group: index for index, group in enumerate(GROUPS)}


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split("|")]


def _dictionaries() -> tuple[dict[str, tuple[int, ...]], dict[str, dict[str, list[tuple[tuple[str, ...], int]]]]]:
    """(word -> groups, first word -> second word -> what follows in phrases that begin so, with their group)."""
    words: dict[str, tuple[int, ...]] = {}
    phrases: dict[str, dict[str, list[tuple[tuple[str, ...], int]]]] = {}
    for group, text in WORDS.items():
        for entry in dict.fromkeys(_entries(text)):
            first, *rest = entry.split()
            if rest:
                phrases.setdefault(first, {}).setdefault(rest[0], []).append((tuple(rest[1:]), _INDEX[group]))
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
    words = ask.encode().translate(_TO_WORDS).decode().split() if ask.isascii() else _WORD.findall(ask.lower())
    counts, filler = _count_words(words)
    non_latin = 0
    if not ask.isascii():
        non_latin = sum(map(str.isalpha, _NON_LATIN.findall(ask)))
        if non_latin:
            for term, group in _SUBSTRINGS:
                counts[group] += ask.count(term)
    lines = f"\n{window}" if "\n" in window else ""  # what a single line looks like says nothing of logs, diffs or lists
    return Scan(
        prompt=prompt,
        counts=counts,
        words=len(words),
        filler=filler,
        distinct=len(set(words)),
        long_words=sum(map(_LONG_WORD.__lt__, map(len, words))),
        sentences=len(_SENTENCE_END.findall(ask)),
        paths=len(_PATH.findall(window)),
        identifiers=len(_SNAKE_CASE.findall(window)) + len(_CAMEL_CASE.findall(window)) + window.count("()"),
        exceptions=len(_EXCEPTION.findall(window)),
        numbers=len(_NUMBER.findall(window)),
        acronyms=len(_ACRONYM.findall(window)),
        frames=len(_FRAME.findall(lines)),
        log_lines=len(_LOG.findall(lines)),
        diff_lines=len(_DIFF.findall(lines)),
        list_items=len(_LIST.findall(lines)),
        mail_headers=len(_MAIL.findall(lines)),
        code_symbols=len(window.encode("utf-8", "replace").translate(None, _NOT_CODE)),
        non_latin=non_latin,
    )


def _count_words(words: list[str]) -> tuple[list[int], int]:
    """(counts as ``Scan.counts`` has them, words of filler)."""
    counts = [0] * (2 * len(GROUPS))
    filler = 0
    for index, entry in enumerate(map(_ENTRIES.get, words)):
        if entry is None:
            continue
        is_filler, found, phrases = entry
        filler += is_filler
        if phrases and index + 1 < len(words) and words[index + 1] in phrases:
            following = phrases[words[index + 1]]
            found = (*found, *[group for rest, group in following if tuple(words[index + 2 : index + 2 + len(rest)]) == rest])
        for group in found:
            counts[group] += 1
        if index - filler < _OPENING_WORDS:
            for group in found:
                counts[len(GROUPS) + group] += 1
    return counts, filler
