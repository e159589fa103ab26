"""The table of signals: name, group, meaning, function."""

from collections.abc import Callable
from dataclasses import dataclass

from classifier.signals.scan import GROUPS, Scan


@dataclass(frozen=True, slots=True)
class Signal:
    """One readable number of a prompt: what ``function`` makes of a scan, or the scan's own count at the place ``count``.

    ``meaning`` is shown to people beside the value.
    """

    name: str
    group: str
    meaning: str
    function: Callable[[Scan], float] | None = None
    count: int | None = None


def _counted(name: str, group: str, lexicon_group: str, meaning: str) -> Signal:
    return Signal(name, group, meaning, count=GROUPS.index(lexicon_group))


def _opening(name: str, lexicon_group: str, meaning: str) -> Signal:
    return Signal(name, "opening", meaning, count=len(GROUPS) + GROUPS.index(lexicon_group))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


SIGNALS: tuple[Signal, ...] = (
    # size
    Signal("chars", "size", "characters of the scored text", lambda s: s.prompt.chars),
    Signal("lines", "size", "lines of the scored text", lambda s: s.prompt.lines),
    Signal("ask_chars", "size", "characters a person wrote, as far as they can be told from pasted material", lambda s: len(s.prompt.ask)),
    Signal("content_words", "size", "words of the ask that are not filler", lambda s: s.words - s.filler),
    Signal("sentences", "size", "sentences of the ask", lambda s: s.sentences),
    Signal(
        "words_per_sentence",
        "size",
        "mean length of a sentence, in words without filler",
        lambda s: (s.words - s.filler) / (s.sentences or 1),
    ),
    Signal("long_word_share", "size", "share of words longer than eight letters", lambda s: _share(s.long_words, s.words)),
    Signal("distinct_word_share", "size", "share of words that are not repeats", lambda s: _share(s.distinct, s.words)),
    Signal(
        "pasted_share",
        "size",
        "share of the window that is pasted code, logs or tables",
        lambda s: 1 - _share(len(s.prompt.ask), max(len(s.prompt.text), len(s.prompt.ask))),
    ),
    Signal("list_items", "size", "lines that are list items", lambda s: s.list_items),
    Signal("truncated", "size", "1 where the text is longer than the window", lambda s: float(s.prompt.truncated)),
    # scope
    _counted("whole_scope", "scope", "whole_scope", "mentions of a whole: the entire codebase, all services, from scratch"),
    _counted("parts_mentioned", "scope", "parts", "mentions of parts: services, modules, teams, regions"),
    Signal("files_mentioned", "scope", "file names and paths", lambda s: s.paths),
    _counted("file_words", "scope", "files", "mentions of files and folders"),
    _counted("documents_mentioned", "scope", "documents", "mentions of documents, reports, contracts"),
    Signal("acronyms", "scope", "words in capitals, two to six letters", lambda s: s.acronyms),
    _counted("scale_words", "scope", "scale_words", "mentions of volume: millions, users, requests per second"),
    _counted("horizon", "scope", "horizon", "mentions of a long time: years, quarters, growth"),
    # openness
    _counted("ambiguity", "openness", "ambiguity", "words of doubt: sometimes, weird, nobody knows"),
    _counted("open_questions", "openness", "open_question", "asks what to do: should we, best way, what would you"),
    _counted("why", "openness", "why", "asks for causes"),
    Signal("questions", "openness", "question marks in the full text", lambda s: s.prompt.questions),
    _counted("choice", "openness", "choice", "alternatives: or, versus, whether, options"),
    _counted("comparison", "openness", "comparison", "comparisons and trade-offs"),
    _counted("analysis", "openness", "analysis", "verbs of analysis and judgement, risks and consequences"),
    _counted("conflict", "openness", "conflict", "words of contradiction"),
    # reasoning and constraints
    _counted("conditionals", "reasoning", "conditional", "if, unless, depending, however"),
    _counted("constraints", "reasoning", "constraint", "must, without, at least, only, but"),
    Signal("numbers", "reasoning", "groups of digits in the window", lambda s: s.numbers),
    _counted("mathematics", "reasoning", "mathematics", "mathematical words"),
    _counted("proof", "reasoning", "proof", "asks for a proof or a derivation"),
    Signal("formula_marks", "reasoning", "marks of LaTeX formulas", lambda s: s.prompt.text.count("\\") + s.prompt.text.count("$")),
    # what is to be done
    _counted("planning", "work", "planning", "verbs and nouns of planning and design"),
    _counted("executing", "work", "executing", "verbs of execution: implement, write, fix"),
    _counted("mechanical", "work", "mechanical", "mechanical work: rename, extract, translate, sort"),
    _counted("facts", "work", "fact", "asks for a fact or a definition"),
    _counted("explaining", "work", "explain", "asks for an explanation"),
    _counted("rewriting", "work", "rewriting", "asks to rewrite or to summarise"),
    _counted("creative", "work", "creative", "poems, stories, slogans"),
    _counted("testing", "work", "tests", "words of testing"),
    _counted("documentation", "work", "docs", "words of documentation"),
    _counted("refactoring", "work", "refactor", "words of restructuring"),
    _counted("debugging", "work", "debugging", "words of failure"),
    _counted("given_plan", "work", "given_plan", "refers to a plan, spec or ticket that is to be followed"),
    _opening("opens_planning", "planning", "opens with planning or design"),
    _opening("opens_executing", "executing", "opens with a verb of execution"),
    _opening("opens_mechanical", "mechanical", "opens with mechanical work"),
    _opening("opens_fact", "fact", "opens with a question of fact"),
    _opening("opens_open_question", "open_question", "opens with a question of what to do"),
    _opening("opens_why", "why", "opens with a why"),
    _opening("opens_explaining", "explain", "opens with a request to explain"),
    _opening("opens_rewriting", "rewriting", "opens with a request to rewrite or summarise"),
    # code
    Signal("code_fences", "code", "fenced blocks in the full text", lambda s: s.prompt.fences // 2),
    Signal(
        "code_symbol_share", "code", "share of brackets and operators in the window", lambda s: _share(s.code_symbols, len(s.prompt.text))
    ),
    Signal("identifiers", "code", "names in snake_case or camelCase, calls", lambda s: s.identifiers),
    Signal("exceptions", "code", "names of errors and exceptions", lambda s: s.exceptions),
    Signal("stack_frames", "code", "lines of a stack trace", lambda s: s.frames),
    Signal("log_lines", "code", "lines that look like a log", lambda s: s.log_lines),
    Signal("diff_lines", "code", "lines of a diff", lambda s: s.diff_lines),
    _counted("concurrency", "code", "concurrency", "races, locks, retries, load"),
    _counted("performance", "code", "performance", "latency, memory, caches"),
    # stakes
    _counted("security", "stakes", "security", "security and access"),
    _counted("production", "stakes", "production", "production, outages, lost data"),
    _counted("money", "stakes", "money", "payments, prices, taxes"),
    _counted("migration", "stakes", "migration", "migrations and cutovers"),
    _counted("legal", "stakes", "legal", "law and contracts"),
    _counted("health", "stakes", "health", "medicine"),
    _counted("people", "stakes", "people", "employment, conflict, negotiation"),
    # output
    _counted("output_format", "output", "output_format", "a named output format"),
    _counted("short_output", "output", "short_output", "asks for a short answer"),
    _counted("long_output", "output", "long_output", "asks for a long or detailed answer"),
    # conversation
    Signal("human_turns", "conversation", "human turns so far", lambda s: s.prompt.human_turns),
    Signal("follow_up", "conversation", "1 where the last turn is a short follow-up", lambda s: float(s.prompt.follow_up)),
    Signal("history_chars", "conversation", "characters of earlier turns", lambda s: s.prompt.history_chars),
    Signal("images", "conversation", "images", lambda s: s.prompt.images),
    Signal("mail_headers", "conversation", "lines of a pasted e-mail's head", lambda s: s.mail_headers),
    # language
    Signal("english_share", "language", "share of words that are English function words", lambda s: _share(s.group("english"), s.words)),
    Signal(
        "foreign_share",
        "language",
        "share of words that are function words of other European languages",
        lambda s: _share(s.group("foreign"), s.words),
    ),
    Signal("non_latin_share", "language", "share of letters outside the Latin alphabet", lambda s: _share(s.non_latin, len(s.prompt.ask))),
)
