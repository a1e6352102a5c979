"""Messages and prompts."""

from __future__ import annotations

import copy
import json
import pickle
from collections import UserDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.chat import ChatCompletionMessage

from blades import Message, Prompt, PromptTemplate, Reply
from blades._message import reply_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "what is it?"},
    {"type": "image_url", "image_url": {"url": "data:..."}},
]
CALLS: list[dict[str, Any]] = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


# Message


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(Message("user", "hi"), {"role": "user", "content": "hi"}, id="text"),
        pytest.param(Message(role="user", content=""), {"role": "user", "content": ""}, id="empty-text"),
        pytest.param(Message("user", PARTS), {"role": "user", "content": PARTS}, id="parts"),
        pytest.param(Message("user", tuple(PARTS)), {"role": "user", "content": PARTS}, id="tuple-of-parts"),
        pytest.param(
            Message("assistant", tool_calls=CALLS),
            {"role": "assistant", "content": None, "tool_calls": CALLS},
            id="tool-calls",
        ),
        pytest.param(
            Message("tool", "42", tool_call_id="1"), {"role": "tool", "content": "42", "tool_call_id": "1"}, id="tool"
        ),
        pytest.param(
            Message("assistant", "a", reasoning_content="b", refusal=None, audio=None),
            {"role": "assistant", "content": "a", "reasoning_content": "b"},
            id="what-is-none-is-left-out",
        ),
        pytest.param(
            Message("user", [UserDict(type="text", text="x")], self="y"),
            {"role": "user", "content": [{"type": "text", "text": "x"}], "self": "y"},
            id="any-mapping-any-name",
        ),
        pytest.param(Message("developer", "d"), {"role": "developer", "content": "d"}, id="developer"),
        pytest.param(
            Message("function", None, name="f"), {"role": "function", "content": None, "name": "f"}, id="function"
        ),
    ],
)
def test_a_message_goes_out_as_it_came(message: Message, expected: dict[str, Any]) -> None:
    """The message becomes a plain dict, of which an equal message is made."""
    assert message.to_dict() == expected
    assert json.loads(json.dumps(message.to_dict())) == expected
    assert Prompt([message.to_dict()])[0] == message


@pytest.mark.parametrize("role", ["developer", "critic", "ipython"])
def test_any_role_passes(role: str) -> None:
    """The API may grow, and some servers have roles of their own."""
    assert Message(role, "x").to_dict() == {"role": role, "content": "x"}


@pytest.mark.parametrize(
    ("role", "error", "expected"),
    [
        pytest.param("", ValueError, "expected a role, got an empty str", id="empty"),
        pytest.param(" ", ValueError, "expected a role, got an empty str", id="white-space"),
        pytest.param(None, TypeError, "expected a role as a str, got None", id="none"),
        pytest.param(["user"], TypeError, "expected a role as a str, got list", id="list"),
    ],
)
def test_a_role_that_is_no_text_is_refused(role: Any, error: type[Exception], expected: str) -> None:
    """The message names what was given and what to use."""
    with pytest.raises(error, match=f"{expected}: use 'system', 'user' or 'assistant'"):
        Message(role, "x")


@pytest.mark.parametrize(
    ("role", "content", "kind"),
    [
        pytest.param("user", None, "None", id="none"),
        pytest.param("system", 5, "int", id="number"),
        pytest.param("assistant", b"x", "bytes", id="bytes"),
        pytest.param("user", {"type": "text"}, "dict", id="one-part"),
        pytest.param("user", ["text"], "str", id="part-that-is-text"),
        pytest.param("user", iter(PARTS), "list_iterator", id="iterator"),
    ],
)
def test_content_of_another_type_is_refused(role: str, content: Any, kind: str) -> None:
    """The message says what was expected and what was given."""
    expected = rf"expected text or a list of content parts \(dicts\) for Message\('{role}', \.\.\.\), got {kind}$"
    with pytest.raises(TypeError, match=expected):
        Message(role, content)


def test_a_value_that_contains_itself_is_refused() -> None:
    """The message names the field."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="got 'annotations' with more than 100 levels: it may contain itself"):
        Message("assistant", "x", annotations=loop)


class Everything(Mapping[str, Any]):
    """A mapping that claims to have every key."""

    def __getitem__(self, key: str) -> Any:
        return "user"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __contains__(self, key: object) -> bool:
        return True


def test_only_the_keys_that_a_mapping_lists_count() -> None:
    """A mapping that claims every key has no role."""
    with pytest.raises(ValueError, match="got one without 'role'"):
        Prompt(Everything())
    with pytest.raises(TypeError, match="expected the names of a message's fields as str, got int"):
        Prompt([{"role": "user", "content": "x", 1: 2}])  # type: ignore[dict-item]  # the point of the test


def test_the_official_clients_messages_are_taken() -> None:
    """A list may hold the message objects that the official client returns, with a provider's fields."""
    official = ChatCompletionMessage.model_validate(
        {"role": "assistant", "content": None, "tool_calls": CALLS, "reasoning_content": "r"}
    )
    (message,) = Prompt([official])
    assert message.to_dict() == {"role": "assistant", "content": None, "tool_calls": CALLS, "reasoning_content": "r"}


def test_a_message_cannot_be_changed() -> None:
    """Changes of its arguments, or of what it returns, leave a message as it was."""
    parts = copy.deepcopy(PARTS)
    calls = copy.deepcopy(CALLS)
    message = Message("assistant", parts, tool_calls=calls)
    with pytest.raises(AttributeError):
        message.role = "user"  # type: ignore[misc]  # the point of the test
    parts[0]["text"] = "changed"
    calls[0]["id"] = "changed"
    content = message.content
    assert isinstance(content, list)
    content[1]["image_url"]["url"] = "changed"
    message.extra["tool_calls"][0]["id"] = "changed"
    message.to_dict()["tool_calls"].clear()
    assert message == Message("assistant", PARTS, tool_calls=CALLS)


def test_messages_are_values() -> None:
    """Messages are equal by role, content and the rest, are hashed alike, and are pickled and copied whole."""
    message = Message("assistant", PARTS, tool_calls=CALLS)
    assert pickle.loads(pickle.dumps(message)) == message
    assert copy.deepcopy(message) == message
    assert len({message, Message("assistant", tuple(PARTS), tool_calls=tuple(CALLS))}) == 1
    assert len({message, Message("assistant", PARTS), Message("user", PARTS), Message("user", "x")}) == 4


def test_a_message_shows_what_is_in_it() -> None:
    """The repr is the call that makes the message, with long texts shortened."""
    assert repr(Message("user", "hi", name="Ann")) == "Message('user', 'hi', name='Ann')"
    assert len(repr(Message("user", "x" * 10_000, data="y" * 10_000))) < 400


# Messages of replies


def called(arguments: Any = "{}", id_: str = "1", **more: Any) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "f", "arguments": arguments}, **more}


def test_the_reasoning_of_a_reply_is_kept_apart() -> None:
    """Reasoning has the server's own name; by default it goes out with tool calls only."""
    message = reply_message("a", tool_calls=CALLS, reasoning_fields={"reasoning_content": "r"})
    assert message.reply_reasoning == {"reasoning_content": "r"}
    assert message.extra == {"tool_calls": CALLS}
    assert message.to_dict(reasoning=False) == {"role": "assistant", "content": "a", "tool_calls": CALLS}
    assert message.to_dict() == {**message.to_dict(reasoning=False), "reasoning_content": "r"}
    plain = reply_message("a", reasoning_fields={"reasoning_content": "r"})
    assert plain.to_dict() == {"role": "assistant", "content": "a"}
    assert plain.to_dict(reasoning=True) == {**plain.to_dict(), "reasoning_content": "r"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param('{"a": 1}', '{"a": 1}', id="object"),
        pytest.param("", "{}", id="none"),
        pytest.param(" \n", "{}", id="white-space"),
        pytest.param('{"a": ', '{"invalid": "{\\"a\\": "}', id="cut"),
        pytest.param("[1]", '{"invalid": "[1]"}', id="list"),
        pytest.param(None, "{}", id="null"),
        pytest.param({"a": 1}, '{"a": 1}', id="dict"),
        pytest.param('{"a": NaN}', '{"invalid": "{\\"a\\": NaN}"}', id="nan"),
        pytest.param("[" * 100_000, json.dumps({"invalid": "[" * 100_000}), id="deep"),
        pytest.param(f'{{"a": {"9" * 5000}}}', f'{{"a": {"9" * 5000}}}', id="long-number"),
    ],
)
def test_arguments_go_back_as_an_object(arguments: Any, expected: str) -> None:
    """A call that was cut, or that the model wrote wrongly, is accepted by servers that parse it."""
    message = reply_message("", tool_calls=[called(arguments, extra_content={"google": 1})])
    assert message.content is None
    assert message.extra["tool_calls"] == [called(expected, extra_content={"google": 1})]


def test_the_call_of_a_custom_tool_goes_back_as_it_was() -> None:
    """Its input is free text."""
    call = {"id": "1", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    assert reply_message("", tool_calls=[call]).extra == {"tool_calls": [call]}


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(Message("user", PARTS), id="user"),
        pytest.param(reply_message("a", "no", CALLS, {"reasoning": "r", "reasoning_details": [{"a": 1}]}), id="reply"),
        pytest.param(reply_message("a", "", CALLS, {"reasoning": "r"}).cut_short(), id="cancelled"),
    ],
)
def test_a_saved_message_is_restored(message: Message) -> None:
    """JSON keeps everything, and our own keys are never among the API's."""
    saved = json.loads(json.dumps(message.to_saved()))
    assert Message(**saved) == message
    assert not {"cancelled", "reply_reasoning"} & message.to_dict(reasoning=True).keys()
    assert Prompt([saved]).to_saved() == [saved]


def test_a_part_of_an_answer_has_no_calls() -> None:
    """They may be cut; the reasoning stays."""
    part = reply_message("", "", CALLS, {"reasoning": "r"}).cut_short()
    assert part == Message("assistant", "", cancelled=True, reply_reasoning={"reasoning": "r"})
    assert "cancelled=True, reply_reasoning={'reasoning': 'r'}" in repr(part)


def test_reasoning_that_is_no_dict_is_refused() -> None:
    """The message says how to write it."""
    with pytest.raises(TypeError, match="expected reply_reasoning as a dict of the server's own fields, got str"):
        Message("assistant", "x", reply_reasoning="r")  # type: ignore[arg-type]  # the point of the test


# Prompt

SYSTEM, USER, ANSWER = Message("system", "s"), Message("user", "u"), Message("assistant", "a")


def test_a_prompt_is_a_sequence_of_messages() -> None:
    """A prompt does all that a sequence does; a slice is a prompt again."""
    prompt = Prompt([SYSTEM, {"role": "user", "content": "u"}, ANSWER])
    assert list(prompt) == [SYSTEM, USER, ANSWER]
    assert (len(prompt), prompt[0], prompt[-1]) == (3, SYSTEM, ANSWER)
    assert prompt[1:] == Prompt([USER, ANSWER])
    assert prompt[::-1] == Prompt(list(reversed(prompt))) == Prompt([ANSWER, USER, SYSTEM])
    assert USER in prompt
    assert prompt.index(USER) == 1
    assert not Prompt()
    with pytest.raises(IndexError):
        prompt[3]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param("u", id="text"),
        pytest.param(USER, id="message"),
        pytest.param({"role": "user", "content": "u"}, id="dict"),
        pytest.param(Prompt([USER]), id="prompt"),
        pytest.param([USER], id="list"),
        pytest.param(({"role": "user", "content": "u"},), id="tuple"),
        pytest.param(deque([USER]), id="deque"),
    ],
)
def test_a_prompt_is_continued(other: Any) -> None:
    """Everything that can be messages is added, or makes a prompt; the shorter prompt stays as it was."""
    prompt = Prompt([SYSTEM])
    assert prompt + other == Prompt([SYSTEM, USER])
    assert prompt == Prompt([SYSTEM])
    assert Prompt(other) == Prompt([USER])


def test_a_reply_continues_a_prompt() -> None:
    """The reply's message is added."""
    prompt = Prompt("q") + Reply(text="a") + "and?"
    assert prompt == Prompt([Message("user", "q"), Message("assistant", "a"), Message("user", "and?")])


@dataclass
class ToolReply:
    """A reply of several messages, as streams with tools have."""

    messages: tuple[Message, ...]

    @property
    def message(self) -> Message:
        """The last one."""
        return self.messages[-1]


def test_a_reply_with_several_messages_adds_them_all() -> None:
    """The calls and the results between question and answer belong to the conversation."""
    messages = (Message("assistant", tool_calls=CALLS), Message("tool", "1", tool_call_id="1"), ANSWER)
    assert Prompt("u") + ToolReply(messages) == Prompt([USER, *messages])


async def never() -> None: ...


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda: None, "got None$", id="none"),
        pytest.param(lambda: 5, "got int$", id="number"),
        pytest.param(lambda: b"hi", "got bytes: decode it", id="bytes"),
        pytest.param(PromptTemplate, r"got PromptTemplate: call \.build\(\) on it", id="template"),
        pytest.param(lambda: (m for m in [USER]), "generator: make a list of it", id="generator"),
        pytest.param(lambda: {USER}, "got set: make a list of it", id="set"),
        pytest.param(lambda: [USER, "u"], "message 2: expected a Message, .*got str", id="text-in-list"),
        pytest.param(lambda: [[USER]], "message 1: expected a Message, .*got list", id="list-in-list"),
        pytest.param(lambda: [{"role": "user", "content": 1}], "message 1: .*content.*got int", id="content"),
    ],
)
@pytest.mark.parametrize("use", [Prompt, Prompt([SYSTEM]).__add__], ids=["Prompt", "+"])
def test_what_is_no_prompt_is_refused(make: Callable[[], Any], expected: str, use: Callable[[Any], Prompt]) -> None:
    """The message says what was expected, what was given, and what to do."""
    with pytest.raises(TypeError, match=expected):
        use(make())


def test_a_coroutine_is_refused() -> None:
    """The message says to await the coroutine."""
    coroutine = never()
    with pytest.raises(TypeError, match="got coroutine: await it"):
        Prompt(coroutine)  # type: ignore[arg-type]  # the point of the test
    coroutine.close()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("", "expected a text for the user's message, got an empty one", id="empty-text"),
        pytest.param({"content": "x"}, "got one without 'role'", id="dict-without-role"),
        pytest.param([USER, {}], "message 2: expected a dict with 'role'", id="empty-dict-in-list"),
        pytest.param([{"role": "", "content": "x"}], "message 1: expected a role, got an empty", id="role"),
    ],
)
def test_what_is_no_message_is_refused(value: Any, expected: str) -> None:
    """The message names the place in the list."""
    with pytest.raises(ValueError, match=expected):
        Prompt(value)


def test_prompts_are_values() -> None:
    """Prompts are immutable, equal and hashed by their messages, and pickled whole."""
    prompt = Prompt([SYSTEM, Message("user", PARTS)])
    assert pickle.loads(pickle.dumps(prompt)) == prompt
    assert len({prompt, Prompt(list(prompt)), prompt[:1]}) == 2
    assert Prompt(prompt) == prompt
    with pytest.raises(AttributeError):
        prompt._messages = ()  # type: ignore[misc]  # the point of the test


def test_a_prompt_gives_what_the_api_takes() -> None:
    """Each call returns new dicts."""
    prompt = Prompt([SYSTEM, Message("user", PARTS)])
    dicts = prompt.to_list()
    assert dicts == [{"role": "system", "content": "s"}, {"role": "user", "content": PARTS}]
    dicts[1]["content"].clear()
    assert prompt.to_list()[1]["content"] == PARTS


def test_a_prompt_shows_its_messages() -> None:
    """The repr is the call that makes the prompt."""
    assert repr(Prompt([SYSTEM, USER])) == "Prompt([Message('system', 's'), Message('user', 'u')])"
