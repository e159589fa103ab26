"""OpenAI and Anthropic messages -> Prompt: which text is scored, and what is only sized."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from classifier import Prompt, from_messages, from_row, from_text
from classifier.conversation.messages import FOLLOW_UP_CHARS, ROLES
from classifier.conversation.window import HEAD_CHARS, TAIL_CHARS
from classifier.errors import MalformedPromptError

Json = dict[str, Any]

ASK = "What locks does Postgres take when an index is built concurrently?"
BASE64 = "iVBORw0KGgo" * 500
OPENAI_IMAGE: Json = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}}
RESPONSES_IMAGE: Json = {"type": "input_image", "image_url": f"data:image/png;base64,{BASE64}"}
ANTHROPIC_IMAGE: Json = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}}
IMAGES = pytest.mark.parametrize("image", [OPENAI_IMAGE, RESPONSES_IMAGE, ANTHROPIC_IMAGE], ids=["openai", "responses", "anthropic"])

TOOL_USE: Json = {"type": "tool_use", "id": "t1", "name": "read_file", "input": {"path": "plan.md"}}
TOOL_RESULT: Json = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rows: 12"}]}
TOOL_CALLS: list[Json] = [{"id": "t1", "type": "function", "function": {"name": "read_file", "arguments": '{"path": "plan.md"}'}}]
TOOLS: list[Json] = [{"name": "read_file", "description": "Reads a file.", "input_schema": {"type": "object"}}]

# Everything that can stand in JSON, lone surrogates and NUL included.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40) | st.text(st.sampled_from("\0\ud800\udfff \n?`<>"), max_size=20)
ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
KINDS = st.sampled_from(["text", "input_text", "image", "image_url", "tool_result", "tool_use", "document", "thinking", None])
PARTS = st.fixed_dictionaries({}, optional={"type": KINDS | ANY_JSON, "text": ANY_TEXT | ANY_JSON, "content": ANY_JSON})
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(sorted(ROLES)) | ANY_JSON, "content": ANY_TEXT | st.lists(PARTS | ANY_JSON, max_size=4) | ANY_JSON},
    optional={"tool_calls": ANY_JSON},
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "prompt": ANY_TEXT | ANY_JSON,
        "messages": st.lists(MESSAGES | ANY_JSON, max_size=4) | ANY_JSON,
        "system": st.lists(PARTS, max_size=2) | ANY_JSON,
        "tools": st.lists(PARTS, max_size=2) | ANY_JSON,
        "tier_floor": ANY_JSON,
    },
)


def user(content: Any) -> Json:
    """A human turn."""
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> Json:
    """An answer."""
    return {"role": "assistant", "content": content, **more}


def outcome_of(row: Json) -> Prompt | MalformedPromptError:
    """What becomes of ``row``."""
    try:
        return from_row(row)
    except MalformedPromptError as error:
        return error


def refused(row: Json) -> MalformedPromptError:
    """The error by which ``row`` is refused."""
    with pytest.raises(MalformedPromptError) as caught:
        from_row(row)
    return caught.value


# shapes


@pytest.mark.parametrize(
    "content",
    [
        ASK,
        [{"type": "text", "text": ASK}],
        [{"type": "text", "text": ASK, "cache_control": {"type": "ephemeral"}}],
        [{"type": "input_text", "text": ASK}],
        [{"text": ASK}],
        [ASK],
    ],
    ids=["string", "part", "cached part", "responses part", "part without a type", "list of strings"],
)
def test_every_vendors_text_is_scored_alike(content: Any) -> None:
    """A text means the same in every shape in which OpenAI's and Anthropic's clients send it."""
    assert from_messages([user(content)]) == from_text(ASK)


def test_a_prompt_is_a_conversation_of_one_turn() -> None:
    """``prompt`` and ``messages`` of one human turn are the same request."""
    assert from_row({"prompt": ASK}) == from_row({"messages": [user(ASK)]}) == from_text(ASK)


def test_parts_of_a_turn_are_joined_by_lines() -> None:
    """Text parts of one turn are scored together, in order."""
    assert (
        from_messages([user([{"type": "text", "text": "Explain this:"}, {"type": "text", "text": "x = 1"}])]).text == "Explain this:\nx = 1"
    )


def test_entries_that_mean_nothing_here_are_passed_over() -> None:
    """Rows hold labels and settings beside the prompt; None counts as absent."""
    row = {"id": "7", "prompt": ASK, "messages": None, "system": None, "tools": None, "tier": "small", "weight": 0.5}
    assert from_row(row) == from_text(ASK)


def test_facts_of_the_full_text_are_counted_before_the_cut() -> None:
    """Length, lines, question marks and fences are those of all that was sent."""
    text = "Why?\n" * 3_000 + "```\nx\n```"
    prompt = from_text(text)
    assert (prompt.chars, prompt.lines, prompt.questions, prompt.fences) == (len(text), 3_003, 3_000, 2)
    assert prompt.truncated


@pytest.mark.parametrize("blank", [" ", "\n", "\t", "\u2003"], ids=["space", "line", "tab", "em space"])
def test_padding_is_neither_scored_nor_counted(blank: str) -> None:
    """Thousands of blanks around a question neither push it out of the window nor make it longer."""
    assert from_text(blank * 3_000 + ASK + blank * 3_000) == from_text(ASK)


@pytest.mark.parametrize(
    "steering",
    ["Use the large model for this.", "[COMPLEX]\ntier: large", "Use ```the``` large model for this.", "Use the large model for this?!"],
    ids=["sentence", "lines", "fences", "question mark"],
)
def test_removed_steering_is_not_counted(steering: str) -> None:
    """What tells the router what to choose moves no size either: neither characters, lines, questions nor fences."""
    prompt = from_text(f"{steering}\n{ASK}")
    assert prompt == from_text(f"{ASK}\n{steering}") == from_text(ASK)
    assert (prompt.chars, prompt.lines, prompt.questions, prompt.fences) == (len(ASK), 1, 1, 0)


# images and documents


@IMAGES
def test_an_image_is_counted_and_its_data_is_not(image: Json) -> None:
    """An image beside a text makes a need for vision, not a long prompt."""
    prompt = from_messages([user([image, {"type": "text", "text": ASK}])])
    assert (prompt.text, prompt.images, prompt.total_chars) == (ASK, 1, len(ASK))


@IMAGES
def test_a_turn_of_images_alone_is_routed(image: Json) -> None:
    """Somebody who sends two pictures without a word asked something."""
    prompt = from_messages([user([image, image])])
    assert (prompt.text, prompt.images, prompt.human_turns) == ("", 2, 1)


@IMAGES
def test_images_of_all_turns_are_counted(image: Json) -> None:
    """A model that answers the last turn still reads the pictures of the first."""
    assert from_messages([user([image]), assistant("A cat."), user(ASK)]).images == 1


@pytest.mark.parametrize(
    "part",
    [
        {"type": "document", "source": {"type": "text", "data": "The parties agree."}},
        {"type": "file", "file": {"filename": "contract.pdf", "file_data": "The parties agree."}},
        {"type": "input_audio", "input_audio": {"data": "The parties agree.", "format": "wav"}},
        {"type": "a_kind_of_next_year", "value": "The parties agree."},
    ],
    ids=lambda part: part["type"],
)
def test_documents_and_unknown_parts_are_sized_not_scored(part: Json) -> None:
    """What the model has to read beside the question is material; a vendor's new part never breaks routing."""
    prompt = from_messages([user([part, {"type": "text", "text": ASK}])])
    assert (prompt.text, prompt.ask) == (ASK, ASK)
    assert prompt.tool_result_chars >= len("The parties agree.")


# what is sized


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_messages_are_sized_not_scored(role: str) -> None:
    """OpenAI's system and developer messages count as system prompt."""
    prompt = from_messages([{"role": role, "content": "You are a helpful assistant."}, user(ASK)])
    assert (prompt.text, prompt.system_chars, prompt.human_turns) == (ASK, 28, 1)


@pytest.mark.parametrize("system", ["Be brief. Be kind.", [{"text": "Be brief. "}, {"text": "Be kind."}]], ids=["string", "parts"])
@pytest.mark.parametrize("request_", [{"prompt": ASK}, {"messages": [user(ASK)]}], ids=["prompt", "messages"])
def test_a_system_prompt_beside_the_request_is_sized(request_: Json, system: Any) -> None:
    """Anthropic places the system prompt beside the messages, as a string or as parts."""
    prompt = from_row({**request_, "system": system})
    assert prompt.text == ASK
    assert prompt.system_chars >= len("Be brief. Be kind.")


@pytest.mark.parametrize("request_", [{"prompt": ASK}, {"messages": [user(ASK)]}], ids=["prompt", "messages"])
def test_tools_are_counted_and_sized(request_: Json) -> None:
    """Tool definitions make a need and a size, never a difficulty."""
    prompt = from_row({**request_, "tools": [*TOOLS, *TOOLS]})
    assert (prompt.text, prompt.tools, prompt.tool_chars) == (
        ASK,
        2,
        2 * len("nameread_filedescriptionReads a file.input_schematypeobject"),
    )


@pytest.mark.parametrize(
    "call",
    [
        assistant([{"type": "text", "text": "Reading."}, TOOL_USE]),
        assistant(None, tool_calls=TOOL_CALLS),
        {"role": "model", "content": "Done."},
    ],
    ids=["anthropic", "openai", "gemini"],
)
def test_the_assistants_turns_are_history(call: Json) -> None:
    """Answers and tool calls are sized as history and never scored."""
    prompt = from_messages([user("Hi there"), call, user(ASK)])
    assert (prompt.text, prompt.assistant_turns, prompt.human_turns) == (ASK, 1, 2)
    assert prompt.history_chars > len("Hi there")


@pytest.mark.parametrize(
    "result",
    [
        {"role": "tool", "tool_call_id": "t1", "content": "rows: 12"},
        {"role": "function", "name": "f", "content": "rows: 12"},
        user([TOOL_RESULT]),
    ],
    ids=["openai", "openai function", "anthropic"],
)
def test_a_turn_of_tool_results_keeps_the_last_human_turn(result: Json) -> None:
    """In an agent's loop the question stays what the person asked, however many results follow."""
    conversation = [user(ASK), assistant(None, tool_calls=TOOL_CALLS), result]
    prompt = from_messages([*conversation, assistant([TOOL_USE]), result])
    assert (prompt.text, prompt.ask, prompt.human_turns, prompt.follow_up) == (ASK, ASK, 1, False)
    assert prompt.tool_result_chars >= 2 * len("rows: 12")


def test_a_text_beside_a_tool_result_is_scored() -> None:
    """A person who interrupts an agent is heard."""
    prompt = from_messages([user("Run the tests of the parser"), assistant([TOOL_USE]), user([TOOL_RESULT, {"type": "text", "text": ASK}])])
    assert (prompt.text, prompt.human_turns) == (ASK, 2)


@settings(deadline=None, max_examples=60)
@given(system=ANY_TEXT, tools=st.lists(st.dictionaries(ANY_TEXT, ANY_JSON, max_size=3), max_size=3), result=ANY_JSON, answer=ANY_JSON)
def test_what_is_sized_never_changes_what_is_scored(system: str, tools: list[Json], result: Any, answer: Any) -> None:
    """Whatever a harness sends along, text and ask are the person's."""
    messages = [
        {"role": "system", "content": system},
        user(ASK),
        assistant(answer, tool_calls=result),
        {"role": "tool", "content": result},
        user([{"type": "tool_result", "content": result}]),
    ]
    prompt = from_row({"messages": messages, "system": system, "tools": tools})
    assert (prompt.text, prompt.ask, prompt.chars, prompt.human_turns) == (ASK, ASK, len(ASK), 1)
    assert (prompt.tools, prompt.system_chars) == (len(tools), 2 * len(system))


def test_the_size_of_a_request_is_the_sum_of_its_parts() -> None:
    """Every character that a model has to read is counted once."""
    prompt = from_messages(
        [user("What is the size of the orders table, in megabytes?"), assistant("12"), {"role": "tool", "content": "abc"}, user(ASK)],
        system="Be brief.",
        tools=[{"name": "ls"}],
    )
    parts = (prompt.chars, prompt.history_chars, prompt.tool_result_chars, prompt.system_chars, prompt.tool_chars)
    assert parts == (len(ASK), 51 + 2, 3, 9, 6)
    assert prompt.total_chars == sum(parts)


# harness blocks


@pytest.mark.parametrize("tag", ["system-reminder", "environment_details", "ide_selection", "git_status"])
def test_a_harness_block_is_not_the_persons_text(tag: str) -> None:
    """What a harness injects into a human turn is neither scored nor counted."""
    assert from_messages([user(f"<{tag}>Always use the planner.</{tag}>\n{ASK}")]).text == ASK


def test_a_turn_that_only_a_harness_filled_is_no_turn() -> None:
    """A reminder after the question does not replace it."""
    prompt = from_messages([user(ASK), assistant("Looking."), user("<system-reminder>Be safe.</system-reminder>\n")])
    assert (prompt.text, prompt.human_turns) == (ASK, 1)


# follow-ups


@pytest.mark.parametrize(
    "reply",
    [
        "yes, do it",
        "do both",
        "continue",
        "why?",
        "2",
        "and in French?",
        "now in French",
        "same for the other two",
        "Now write the unit tests for it as well",
    ],
)
def test_a_short_follow_up_is_scored_with_what_it_follows(reply: str) -> None:
    """A short turn that leans on what was said before has the difficulty of what was said before."""
    prompt = from_messages([user(ASK), assistant("A share update exclusive lock."), user(reply)])
    assert (prompt.text, prompt.follow_up, prompt.human_turns) == (f"{ASK}\n{reply}", True, 2)


@pytest.mark.parametrize(
    "reply",
    [
        "thanks",
        "Thank you so much!",
        "ok thanks, bye",
        "perfect, that works!",
        "looks good",
        "no thanks",
        "never mind",
        "good morning",
        "👍",
        "danke",
        "merci beaucoup",
        "Hi!",
    ],
)
def test_thanks_and_greetings_are_not_joined(reply: str) -> None:
    """Closing words and small talk need no answer of the tier that the question needed."""
    prompt = from_messages([user(ASK), assistant("A share update exclusive lock."), user(reply)])
    assert (prompt.text, prompt.follow_up) == (reply, False)


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "What is 2+2?",
        "How do I boil an egg properly?",
        "Translate hello to German",
        "Write a note to my landlord",
        "Write a haiku on the sea in autumn, please",
        f"And {'then ' * FOLLOW_UP_CHARS}",
    ],
    ids=["capital", "sum", "egg", "translation", "note", "haiku", "long"],
)
def test_a_question_of_its_own_is_scored_alone(question: str) -> None:
    """A turn that can be understood by itself, or that is long, is not a follow-up."""
    prompt = from_messages([user(ASK), assistant("A share update exclusive lock."), user(question)])
    assert (prompt.text, prompt.follow_up) == (question.strip(), False)


def test_follow_ups_of_follow_ups_reach_the_question() -> None:
    """Three short replies in a row are read together with the question before them."""
    prompt = from_messages([user("What is the capital of France?"), user(ASK), user("why?"), user("go on"), user("more")])
    assert prompt.text == f"{ASK}\nwhy?\ngo on\nmore"


def test_a_follow_up_reaches_back_over_few_turns_only() -> None:
    """A conversation of short replies alone stays bounded."""
    prompt = from_messages([user(ASK), *(user(f"step {number}") for number in range(100))])
    assert prompt.text == "step 95\nstep 96\nstep 97\nstep 98\nstep 99"


def test_a_first_turn_follows_nothing() -> None:
    """The first human turn is scored as it is, however short."""
    prompt = from_messages([{"role": "system", "content": "Be brief."}, assistant("How can I help?"), user("continue")])
    assert (prompt.text, prompt.follow_up) == ("continue", False)


def test_joined_turns_are_not_counted_as_history() -> None:
    """A turn is scored or sized, never both."""
    assert from_messages([user(ASK), user("why?")]).history_chars == 0


# what is refused


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ""},
        {"prompt": " \t\r\n\u2003"},
        {"prompt": "<system-reminder>Be safe.</system-reminder>"},
        {"prompt": "", "system": "You are a pirate.", "tools": TOOLS},
        {"messages": []},
        {"messages": [user("  ")]},
        {"messages": [user([])]},
        {"messages": [user([TOOL_RESULT])]},
        {"messages": [{"role": "system", "content": ASK}, assistant(ASK)]},
    ],
    ids=["empty", "blank", "harness", "system", "no messages", "blank turn", "no parts", "tool result", "nobody asks"],
)
def test_nothing_to_route_is_refused(row: Json) -> None:
    """Blank text with nothing else says what was found and what was expected, and where."""
    error = refused(row)
    field = "prompt" if "prompt" in row else "messages"
    assert (error.field, error.found, error.expected) == (field, "no text", "text or an image in a human turn")
    assert str(error) == f"{field}: found no text, expected text or an image in a human turn"


@pytest.mark.parametrize(
    ("row", "field", "found"),
    [
        ({}, "prompt", "neither"),
        ({"system": "You are a pirate."}, "prompt", "neither"),
        ({"prompt": ASK, "messages": [user(ASK)]}, "prompt", "both"),
        ({"prompt": 3}, "prompt", "int"),
        ({"prompt": [ASK]}, "prompt", "list"),
        ({"messages": {"role": "user"}}, "messages", "something else"),
        ({"messages": ASK}, "messages", "something else"),
        ({"messages": [ASK]}, "messages", "something else"),
        ({"prompt": ASK, "system": 3}, "system", "int"),
        ({"prompt": ASK, "system": {"text": "x"}}, "system", "dict"),
        ({"prompt": ASK, "tools": {"name": "x"}}, "tools", "dict"),
        ({"prompt": ASK, "tools": "ls"}, "tools", "str"),
        ({"messages": [user(ASK), {"content": ASK}]}, "messages.1.role", "NoneType"),
        ({"messages": [{"role": "wizard", "content": ASK}]}, "messages.0.role", "another string"),
        ({"messages": [{"role": ["user"], "content": ASK}]}, "messages.0.role", "list"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "NoneType"),
        ({"messages": [user(3)]}, "messages.0.content", "int"),
        ({"messages": [user({"type": "text", "text": ASK})]}, "messages.0.content", "dict"),
        ({"messages": [user([ASK, 3])]}, "messages.0.content.1", "int"),
        ({"messages": [user([{"type": 3}])]}, "messages.0.content.0.type", "int"),
        ({"messages": [user([{"type": "text"}])]}, "messages.0.content.0.text", "NoneType"),
        ({"messages": [user([{"type": "text", "text": ["x"]}])]}, "messages.0.content.0.text", "list"),
    ],
)
def test_an_unknown_shape_is_refused_by_place(row: Json, field: str, found: str) -> None:
    """The error names the entry as a path, what stood there and what should have."""
    error = refused(row)
    assert (error.field, error.found) == (field, found)
    assert error.expected


@settings(deadline=None, max_examples=400)
@given(row=ROWS | st.dictionaries(ANY_TEXT, ANY_JSON, max_size=4))
@example({"prompt": ASK, "system": [{"type": ["image"]}], "tools": [{"type": {"image": None}}]})
def test_any_json_is_a_prompt_or_a_named_error(row: Json) -> None:
    """No JSON that a client can send raises anything but MalformedPromptError, and what is accepted can be scored."""
    outcome = outcome_of(row)
    if isinstance(outcome, MalformedPromptError):
        assert outcome.field
        assert str(outcome) == f"{outcome.field}: found {outcome.found}, expected {outcome.expected}"
    else:
        assert outcome.text or outcome.images
        assert len(outcome.text) <= HEAD_CHARS + TAIL_CHARS + 1
        assert b"\0" not in outcome.text.encode()


MARKER = "marzipan"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": {MARKER: MARKER}},
        {"prompt": MARKER, "messages": [user(MARKER)]},
        {"messages": [{"role": MARKER, "content": MARKER}]},
        {"messages": [user([{"type": "text", "text": [MARKER]}])]},
        {"messages": [user([{"type": [MARKER], "text": MARKER}])]},
        {"messages": [user({MARKER: MARKER})]},
        {"prompt": MARKER, "tools": MARKER},
        {"prompt": MARKER, "system": {MARKER: MARKER}},
        {"prompt": "", "system": MARKER},
    ],
)
def test_an_error_echoes_nothing(row: Json) -> None:
    """What a person wrote never stands in an error."""
    error = refused(row)
    assert MARKER not in f"{error}{error.args}{error.field}{error.found}{error.expected}"


def nested(depth: int) -> Any:
    """Lists within lists."""
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("place", ["system", "tools", "answer", "tool call", "tool result", "part"])
def test_deep_nesting_is_sized(place: str) -> None:
    """No nesting exhausts the stack, wherever a foreign value is accepted."""
    deep = nested(50_000)
    rows: dict[str, Json] = {
        "system": {"prompt": ASK, "system": deep},
        "tools": {"prompt": ASK, "tools": deep},
        "answer": {"messages": [user(ASK), assistant(deep)]},
        "tool call": {"messages": [user(ASK), assistant(None, tool_calls=deep)]},
        "tool result": {"messages": [user(ASK), {"role": "tool", "content": deep}]},
        "part": {"messages": [user([ASK, {"type": "tool_result", "content": deep}])]},
    }
    prompt = from_row(rows[place])
    assert prompt.text == ASK
    assert prompt.total_chars > len(ASK)


@pytest.mark.parametrize("strange", ["\0", "\ud800", "a\0b\udfff"])
def test_real_traffic_is_not_refused(strange: str) -> None:
    """Escaped NULs and lone surrogates are routed, as U+FFFD."""
    prompt = from_row({"messages": [user([{"type": "text", "text": strange}])]})
    assert "\ufffd" in prompt.text
    assert not {"\0", *map(chr, range(0xD800, 0xE000))} & {*prompt.text, *prompt.ask}
