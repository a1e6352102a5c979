"""Messages and prompts."""

from __future__ import annotations

import copy
import json
import pickle
from collections import UserDict, deque
from typing import TYPE_CHECKING, Any

import pytest

from blades import Message, Prompt, PromptTemplate, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """As a plain dict, from which the same message is made again."""
    assert message.to_dict() == expected
    assert json.loads(json.dumps(message.to_dict())) == expected
    assert Prompt([message.to_dict()])[0] == message


@pytest.mark.parametrize("role", ["User", "bot", "", None, 1, ["user"]])
def test_an_unknown_role_is_refused(role: Any) -> None:
    """With the roles that there are."""
    with pytest.raises(ValueError, match=r"expected a role out of system, developer, user, .*; came"):
        Message(role, "x")


@pytest.mark.parametrize(
    ("role", "content", "kind"),
    [
        pytest.param("user", None, "None", id="none"),
        pytest.param("system", 5, "a value of type int", id="number"),
        pytest.param("assistant", b"x", "a value of type bytes", id="bytes"),
        pytest.param("user", {"type": "text"}, "a value of type dict", id="one-part"),
        pytest.param("user", ["text"], "a value of type str", id="part-that-is-text"),
        pytest.param("user", iter(PARTS), "a value of type list_iterator", id="iterator"),
    ],
)
def test_content_of_another_type_is_refused(role: str, content: Any, kind: str) -> None:
    """With what was expected and what came."""
    with pytest.raises(TypeError, match=f"expected a {role} message's content: .*; came {kind}"):
        Message(role, content)


def test_a_message_cannot_be_changed() -> None:
    """Not by its attributes, not by what it was made of, not by what it hands out."""
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
    """Equal by role, content and the rest; hashed alike; pickled and copied whole."""
    message = Message("assistant", PARTS, tool_calls=CALLS)
    assert pickle.loads(pickle.dumps(message)) == message
    assert copy.deepcopy(message) == message
    assert len({message, Message("assistant", tuple(PARTS), tool_calls=tuple(CALLS))}) == 1
    assert len({message, Message("assistant", PARTS), Message("user", PARTS), Message("user", "x")}) == 4


def test_a_message_shows_what_is_in_it() -> None:
    """As it would be written, long texts shortened."""
    assert repr(Message("user", "hi", name="Ann")) == "Message('user', 'hi', name='Ann')"
    assert len(repr(Message("user", "x" * 10_000, data="y" * 10_000))) < 400


# Prompt

SYSTEM, USER, ANSWER = Message("system", "s"), Message("user", "u"), Message("assistant", "a")


def test_a_prompt_is_a_sequence_of_messages() -> None:
    """With all that a sequence does; a slice is a prompt again."""
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
    """By all that can be messages; the shorter one stays as it was. A prompt is made of the same."""
    prompt = Prompt([SYSTEM])
    assert prompt + other == Prompt([SYSTEM, USER])
    assert prompt == Prompt([SYSTEM])
    assert Prompt(other) == Prompt([USER])


def test_a_reply_continues_a_prompt() -> None:
    """With its message."""
    prompt = Prompt("q") + Reply(text="a") + "and?"
    assert prompt == Prompt([Message("user", "q"), Message("assistant", "a"), Message("user", "and?")])


async def never() -> None: ...


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda: None, "came None$", id="none"),
        pytest.param(lambda: 5, "came a value of type int$", id="number"),
        pytest.param(lambda: b"hi", "came a value of type bytes: decode it", id="bytes"),
        pytest.param(PromptTemplate, r"came a value of type PromptTemplate: call \.build\(\) on it", id="template"),
        pytest.param(lambda: (m for m in [USER]), "generator: make a list of it", id="generator"),
        pytest.param(lambda: {USER}, "came a value of type set: make a list of it", id="set"),
        pytest.param(lambda: [USER, "u"], "message 2: expected a Message, .* type str", id="text-in-list"),
        pytest.param(lambda: [[USER]], "message 1: expected a Message, .*came a value of type list", id="list-in-list"),
        pytest.param(lambda: [{"role": "user", "content": 1}], "message 1: .*content.* type int", id="content"),
    ],
)
@pytest.mark.parametrize("use", [Prompt, Prompt([SYSTEM]).__add__], ids=["Prompt", "+"])
def test_what_is_no_prompt_is_refused(make: Callable[[], Any], expected: str, use: Callable[[Any], Prompt]) -> None:
    """With what was expected, what came, and what to do."""
    with pytest.raises(TypeError, match=expected):
        use(make())


def test_a_coroutine_is_refused() -> None:
    """With the advice to await it."""
    coroutine = never()
    with pytest.raises(TypeError, match="came a value of type coroutine: await it"):
        Prompt(coroutine)  # type: ignore[arg-type]  # the point of the test
    coroutine.close()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("", "expected a text for the user's message; came an empty one", id="empty-text"),
        pytest.param({"content": "x"}, "came one without 'role'", id="dict-without-role"),
        pytest.param([USER, {}], "message 2: expected a dict with 'role'", id="empty-dict-in-list"),
        pytest.param([{"role": "usr", "content": "x"}], "message 1: expected a role out of", id="role"),
    ],
)
def test_what_is_no_message_is_refused(value: Any, expected: str) -> None:
    """With its place in the list."""
    with pytest.raises(ValueError, match=expected):
        Prompt(value)


def test_prompts_are_values() -> None:
    """Immutable, equal and hashed by their messages, pickled whole."""
    prompt = Prompt([SYSTEM, Message("user", PARTS)])
    assert pickle.loads(pickle.dumps(prompt)) == prompt
    assert len({prompt, Prompt(list(prompt)), prompt[:1]}) == 2
    assert Prompt(prompt) == prompt
    with pytest.raises(AttributeError):
        prompt._messages = ()  # type: ignore[misc]  # the point of the test


def test_a_prompt_gives_what_the_api_takes() -> None:
    """New dicts each time."""
    prompt = Prompt([SYSTEM, Message("user", PARTS)])
    dicts = prompt.to_list()
    assert dicts == [{"role": "system", "content": "s"}, {"role": "user", "content": PARTS}]
    dicts[1]["content"].clear()
    assert prompt.to_list()[1]["content"] == PARTS


def test_a_prompt_shows_its_messages() -> None:
    """As it would be written."""
    assert repr(Prompt([SYSTEM, USER])) == "Prompt([Message('system', 's'), Message('user', 'u')])"
