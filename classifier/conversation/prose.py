"""What the person says, told apart from what the person pasted.

Works line by line on the bounded window, with cheap tests that err towards keeping a line: a log line taken for prose
costs a little accuracy, a question taken for a log line costs the decision.
"""

import re

ASK_HEAD_CHARS = 300
ASK_TAIL_CHARS = 300
_FEW_LETTERS = 12  # an ask with fewer letters says nothing without what was pasted

_PASTED = re.compile(
    r"\s*(?:"
    r"\S*\d{1,2}:\d\d:\d\d"  # clock times: logs
    r"|\[?\d{4}-\d\d-\d\d[T ]"
    r"|(?:at|in) [\w$.<>/]+[(:]"  # stack frames
    r"|File \"|Traceback \(|Caused by:|goroutine \d|panic:|#\d+ +0x"
    r"|diff --git|@@ |\+\+\+ |--- |index [0-9a-f]{7}|[+-] {2,}\S|[+-]\t"
    r"|[|+>}\])]"  # tables, quoted mail, closing brackets
    r"|[{\[(<]\s*(?:$|[\"'{\[</\w])"
    r"|(?:def|class|import|from|return|const|let|var|function|func|fn|public|private|protected|static|export|async|package|struct|impl|"
    r"elif|else|try|except|catch|finally|switch|case|print|echo|console|using|namespace|interface|enum|type|module|end)\b.*[:;{}()=]\s*\S*$"
    r"|(?:if|for|while)\b.*[:{]$"
    r"|(?:SELECT|INSERT|UPDATE|DELETE|FROM|WHERE|JOIN|GROUP BY|ORDER BY|CREATE|ALTER|DROP|WITH)\b.*$"
    r"|\$ |#include|#!|//|/\*|\*/|<!--|<\?"
    r"|[\w.\[\]\"'-]+\s*(?:=|:=|\+=|=>|->)\s*\S"  # assignments
    r"|(?:INFO|WARN|WARNING|ERROR|DEBUG|TRACE|FATAL)\b[\s:\]|]"
    r")"
)
_NO_SYMBOLS = bytes(byte for byte in range(256) if chr(byte) not in '{}[]()<>=;|\\_$#@&*+%~^`"/')
_NO_DIGITS = bytes(byte for byte in range(256) if chr(byte) not in "0123456789")
_SYMBOL_SHARE = 0.2


def ask_of(window: str) -> str:
    r"""The prose of ``window``, its head and tail; the window's own head and tail where no prose stands out.

    >>> ask_of("Which line fails?\n```\nint x = 1;\n```")
    'Which line fails?'
    """
    text = window if "\n" not in window else "\n".join(_prose_lines(window))
    if sum(map(str.isalpha, text[:40])) < _FEW_LETTERS and sum(map(str.isalpha, text[:200])) < _FEW_LETTERS:
        text = window
    if len(text) <= ASK_HEAD_CHARS + ASK_TAIL_CHARS:
        return text
    return f"{text[:ASK_HEAD_CHARS]}\n{text[-ASK_TAIL_CHARS:]}"


def _prose_lines(window: str) -> list[str]:
    kept, fenced = [], False
    for line in window.split("\n"):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and line.strip() and not _is_pasted(line):
            kept.append(line)
    return kept


def _is_pasted(line: str) -> bool:
    if _PASTED.match(line):
        return True
    visible = len(line.strip())
    encoded = line.encode("utf-8", "replace")
    if len(encoded.translate(None, _NO_SYMBOLS)) > _SYMBOL_SHARE * visible:
        return True
    if line[-1] in "{};" and line[0] in " \t":
        return True
    return len(encoded.translate(None, _NO_DIGITS)) > 0.4 * visible
