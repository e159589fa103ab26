"""OpenAI and Anthropic messages -> Prompt.

A message is a mapping with ``role`` and ``content``; content is a string or a list of parts, as either vendor's API
documents them. Parts of a kind that is not known here are sized, so that a new vendor feature never breaks routing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from classifier.conversation.prose import ask_of
from classifier.conversation.window import scorable, without_injected
from classifier.errors import MalformedPromptError
from classifier.types import Prompt

FOLLOW_UP_CHARS = 80
_FEW_WORDS = 3
_FEW_CHARS = 24
_JOINED_TURNS = 4  # a follow-up reaches back over this many human turns at most

# Words by which a turn leans on what was said before; words that would be common in turns of their own are not among them.
_LEANING = frozenset(
    "yes yeah yep no nope ok okay sure continue proceed ahead again also too instead now then same it its that this these those them "
    "one ones other others another both rest more less shorter longer else first second third last next previous above below but "
    "ja nein weiter auch nochmal das dies oui non aussi encore cela si sí eso también sim isso também questo anche ook tak też evet "
    "bunu да нет это".split()
)
_STANDALONE = frozenset(
    "what who whom whose when where which translate define convert calculate write explain draw sort list name capital was wer wie qui que qué qual chi wat".split()
)
# "Thanks!" needs no answer of the tier that the question before it needed.
_CLOSING = re.compile(
    r"(?:ok(?:ay)?|great|perfect|awesome|nice|cool|good|job|nice one|looks?|got it|never ?mind|no(?= thanks)|works?|that works?|morning|evening|night|day|"
    r"many|thanks?(?: you)?|thx|ty|cheers|danke|vielen|merci|beaucoup|muchas|gracias|obrigad[oa]|muito|grazie|mille|dank je|"
    r"hi|hello|hey|bye|goodbye|lol|so much|a lot|very much|for (?:your|the) help|[\s,.!:)\U0001f300-\U0001faff])+",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+")
_IMAGE_PARTS = frozenset({"image", "image_url", "input_image"})
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_HUMAN_ROLES = frozenset({"user"})
_SYSTEM_ROLES = frozenset({"system", "developer"})
_ASSISTANT_ROLES = frozenset({"assistant", "model"})
_TOOL_ROLES = frozenset({"tool", "function"})
ROLES = _HUMAN_ROLES | _SYSTEM_ROLES | _ASSISTANT_ROLES | _TOOL_ROLES


def from_text(text: str) -> Prompt:
    """A plain prompt.

    Raises:
        MalformedPromptError: the text is blank.
    """
    conversation = _Conversation()
    conversation.add_human(text)
    return conversation.prompt(field_name="prompt")


def from_row(row: Mapping[str, Any]) -> Prompt:
    """A prompt or a conversation as rows of data, lines of traffic and requests hold it.

    ``row`` has either ``prompt``, a string, or ``messages``, a list of objects; ``system`` (a string or a list of parts) and
    ``tools`` (a list) may stand beside either. Other entries are passed over; an entry that is None counts as absent.

    Raises:
        MalformedPromptError: an entry of another kind, both or neither, or nothing to route.
    """
    prompt, messages, system, tools = (row.get(name) for name in ("prompt", "messages", "system", "tools"))
    if (prompt is None) == (messages is None):
        raise MalformedPromptError("prompt", "neither" if prompt is None else "both", "exactly one of prompt and messages")
    if not isinstance(prompt, str | None):
        raise MalformedPromptError("prompt", type(prompt).__name__, "a string")
    if not isinstance(messages, list | None) or not all(isinstance(item, Mapping) for item in messages or ()):
        raise MalformedPromptError("messages", "something else", "a list of objects")
    if not isinstance(system, str | list | None):
        raise MalformedPromptError("system", type(system).__name__, "a string or a list of parts")
    if not isinstance(tools, list | None):
        raise MalformedPromptError("tools", type(tools).__name__, "a list of objects")
    if prompt is None:
        return from_messages(messages or (), system=system, tools=tools)
    conversation = _Conversation(system_chars=_size(system), tools=len(tools or ()), tool_chars=_size(tools))
    conversation.add_human(prompt)
    return conversation.prompt(field_name="prompt")


def from_messages(
    messages: Sequence[Mapping[str, Any]],
    *,
    system: str | Sequence[Mapping[str, Any]] | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> Prompt:
    """A conversation in OpenAI's or Anthropic's shape; ``system`` and ``tools`` as Anthropic and OpenAI place them.

    Raises:
        MalformedPromptError: a message of an unknown role or shape, or no human turn with text or an image.
    """
    conversation = _Conversation(system_chars=_size(system), tools=len(tools or ()), tool_chars=_size(tools))
    for index, message in enumerate(messages):
        conversation.add(message, f"messages.{index}")
    return conversation.prompt(field_name="messages")


@dataclass(slots=True)
class _Conversation:
    """What has been read so far, one message after another."""

    system_chars: int = 0
    tools: int = 0
    tool_chars: int = 0
    tool_result_chars: int = 0
    assistant_chars: int = 0
    assistant_turns: int = 0
    images: int = 0
    human: list[str] = field(default_factory=list)  # human turns, each "" where it held images alone

    def add(self, message: Mapping[str, Any], where: str) -> None:
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or role not in ROLES:
            found = "another string" if isinstance(role, str) else type(role).__name__
            raise MalformedPromptError(f"{where}.role", found, "one of " + ", ".join(sorted(ROLES)))
        if role in _SYSTEM_ROLES:
            self.system_chars += _size(content)
        elif role in _TOOL_ROLES:
            self.tool_result_chars += _size(content)
        elif role in _ASSISTANT_ROLES:
            self.assistant_turns += 1
            self.assistant_chars += _size(content) + _size(message.get("tool_calls"))
        elif isinstance(content, str):
            self.add_human(content)
        elif isinstance(content, Sequence):
            self._add_parts(content, f"{where}.content")
        else:
            raise MalformedPromptError(f"{where}.content", type(content).__name__, "a string or a list of parts")

    def add_human(self, text: str, *, images: int = 0) -> None:
        """A human turn. One that only a harness filled is no turn."""
        self.images += images
        text = without_injected(text)
        if images or text.strip():
            self.human.append(text)

    def _add_parts(self, parts: Sequence[Any], where: str) -> None:
        texts, images = [], 0
        for index, part in enumerate(parts):
            if isinstance(part, str):
                texts.append(part)
                continue
            if not isinstance(part, Mapping):
                raise MalformedPromptError(f"{where}.{index}", type(part).__name__, "a string or an object with a type")
            kind = part.get("type")
            if kind is not None and not isinstance(kind, str):
                raise MalformedPromptError(f"{where}.{index}.type", type(kind).__name__, "a string")
            if kind in _TEXT_PARTS or (kind is None and "text" in part):
                if not isinstance(part.get("text"), str):
                    raise MalformedPromptError(f"{where}.{index}.text", type(part.get("text")).__name__, "a string")
                texts.append(part["text"])
            elif kind in _IMAGE_PARTS:
                images += 1
            else:  # tool results, and documents, files or audio: material that the model reads
                self.tool_result_chars += _size(part)
        self.add_human("\n".join(texts), images=images)

    def prompt(self, field_name: str) -> Prompt:
        """Raises MalformedPromptError where there is nothing to route."""
        if not self.human:
            raise MalformedPromptError(field_name, "no text", "text or an image in a human turn")
        first = len(self.human) - 1
        reach = max(0, first - _JOINED_TURNS)
        while first > reach and _is_follow_up(self.human[first]):
            first -= 1
        joined = self.human[first:]
        text = joined[0] if len(joined) == 1 else "\n".join(joined)
        window, truncated = scorable(text)
        full = text if truncated else window  # what was taken out of a text must not be counted either
        return Prompt(
            text=window,
            ask=ask_of(window),
            chars=len(full),
            lines=full.count("\n") + 1,
            questions=full.count("?"),
            fences=full.count("```"),
            truncated=truncated,
            follow_up=len(joined) > 1,
            human_turns=len(self.human),
            assistant_turns=self.assistant_turns,
            system_chars=self.system_chars,
            history_chars=self.assistant_chars + sum(map(len, self.human[:first])),
            tools=self.tools,
            tool_chars=self.tool_chars,
            tool_result_chars=self.tool_result_chars,
            images=self.images,
        )


def _is_follow_up(text: str) -> bool:
    """Whether a turn needs the turns before it to be understood.

    >>> _is_follow_up("yes, do it"), _is_follow_up("What is the capital of France?"), _is_follow_up("thanks a lot!")
    (True, False, False)
    """
    text = text.strip()
    if len(text) > FOLLOW_UP_CHARS or not text or _CLOSING.fullmatch(text):
        return False
    words = _WORD.findall(text.lower())
    if not _LEANING.isdisjoint(words):
        return True
    return len(words) <= _FEW_WORDS and len(text) <= _FEW_CHARS and _STANDALONE.isdisjoint(words[:1])


def _size(value: Any) -> int:
    """Characters of all strings within JSON-like ``value``, keys included; images count nothing.

    Iterative, so that no nesting can exhaust the stack.
    """
    if isinstance(value, str):
        return len(value)
    total, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, Mapping):
            kind = item.get("type")
            if isinstance(kind, str) and kind in _IMAGE_PARTS:
                continue
            total += sum(map(len, item))
            stack.extend(item.values())
        elif isinstance(item, Iterable) and not isinstance(item, bytes):
            stack.extend(item)
        elif item is not None:
            total += 4  # a number or a truth value
    return total
