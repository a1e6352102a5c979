"""The values that a stream returns."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from blades._values import Chunk, Reply, ResponseInfo, ToolCall, ToolResult, UnfrozenChunk, Usage

CALL = ToolCall(index=0, id="a", name="f", arguments='{"x": 1}')
RESULT = ToolResult(CALL, "7", None, 0.5)
USAGE = Usage(1, 2, 3, {"prompt_tokens": 1})
CHUNK = Chunk("text", "reasoning", (CALL,), "stop", USAGE, {"choices": []}, (RESULT,))
REPLY = Reply(text="text", tool_calls=(CALL,), usage=USAGE, complete=True)
VALUES = [CALL, USAGE, CHUNK, REPLY, ResponseInfo(200, "text/event-stream", "http://x/v1", "r")]
each_value = pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)


@each_value
def test_a_value_survives_pickling_and_copying(value: Any) -> None:
    """Values reach other processes as they were, and equal values have equal hashes."""
    for other in pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value), dataclasses.replace(value):
        assert other == value
        assert hash(other) == hash(value)


def test_unfrozen_chunk_becomes_a_constructed_one() -> None:
    """A chunk of text is the same object as from the constructor, and is frozen as well."""
    made = UnfrozenChunk().freeze("text", {"choices": []})
    assert type(made) is Chunk
    assert made == Chunk("text", raw={"choices": []})
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.text = "other"  # type: ignore[misc]


@each_value
def test_a_value_cannot_be_changed(value: Any) -> None:
    """No attribute can be set, deleted or added."""
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, "other")
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(value, name)
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        value.other = 1
    assert not hasattr(value, "__dict__")


def test_a_chunk_is_what_it_was_made_from() -> None:
    """The own constructor sets each field, and the defaults are those of the fields."""
    assert [getattr(CHUNK, field.name) for field in dataclasses.fields(Chunk)] == [
        "text",
        "reasoning",
        (CALL,),
        "stop",
        USAGE,
        {"choices": []},
        (RESULT,),
    ]
    assert dataclasses.astuple(Chunk()) == ("", "", (), None, None, {}, ())
    assert Chunk(text="a") == Chunk("a", "", (), None, None, {}, ())
    assert Chunk(text="a") != Chunk(text="b")


def test_the_text_of_a_value_is_its_str() -> None:
    """`print` shows what a reader wants; `repr` leaves the raw JSON out."""
    assert (str(CHUNK), str(REPLY)) == ("text", "text")
    assert "choices" not in repr(CHUNK)


@pytest.mark.parametrize(
    ("raw", "cached", "reasoning"),
    [
        pytest.param({}, None, None, id="none"),
        pytest.param(
            {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 7}},
            0,
            7,
            id="openai",
        ),
        pytest.param({"prompt_cache_hit_tokens": 5, "prompt_tokens_details": None}, 5, None, id="deepseek"),
        pytest.param(
            {"prompt_tokens_details": [1], "output_tokens_details": {"reasoning_tokens": "7"}}, None, 7, id="types"
        ),
    ],
)
def test_usage_tells_the_details_that_were_sent(raw: dict[str, Any], cached: int | None, reasoning: int | None) -> None:
    """What the server did not send is None, never 0."""
    usage = Usage(1, 2, 3, raw)
    assert (usage.cached_tokens, usage.reasoning_tokens) == (cached, reasoning)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        pytest.param(Reply(text="Hello"), {"content": "Hello"}, id="text"),
        pytest.param(Reply(), {"content": ""}, id="nothing"),
        pytest.param(
            REPLY,
            {
                "content": "text",
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
            },
            id="text and tool calls",
        ),
        pytest.param(Reply(refusal="No."), {"content": None, "refusal": "No."}, id="refusal"),
        pytest.param(Reply(reasoning="why", text="so"), {"content": "so"}, id="reasoning is not sent back"),
    ],
)
def test_a_reply_is_the_message_for_the_next_turn(reply: Reply, message: dict[str, Any]) -> None:
    """The message has the shape of the API."""
    assert reply.message.to_dict() == {"role": "assistant", **message}


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        pytest.param(
            ToolCall(0, "a", "f", "{}", extra={"extra_content": {"google": {"thought_signature": "s"}}}),
            {
                "id": "a",
                "type": "function",
                "function": {"name": "f", "arguments": "{}"},
                "extra_content": {"google": {"thought_signature": "s"}},
            },
            id="a field of the call",
        ),
        pytest.param(
            ToolCall(0, "a", "f", "{}", extra={"function": {"signature": "s"}}),
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}", "signature": "s"}},
            id="a field of the function",
        ),
        pytest.param(
            ToolCall(0, "a", "sh", "ls -l", "custom"),
            {"id": "a", "type": "custom", "custom": {"name": "sh", "input": "ls -l"}},
            id="custom",
        ),
        pytest.param(
            ToolCall(0, "a", "f"),
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            id="no arguments",
        ),
        pytest.param(
            ToolCall(0, "a", "f", '{"x'),
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"invalid": "{\\"x"}'}},
            id="arguments that were cut",
        ),
    ],
)
def test_a_call_goes_back_as_it_came(call: ToolCall, sent: dict[str, Any]) -> None:
    """Every field that came with a call is sent back with it, and its arguments are an object."""
    (found,) = Reply(tool_calls=(call,)).message.to_dict()["tool_calls"]
    assert found == sent
    assert call.input == (call.arguments if call.type == "custom" else "")


def test_a_call_with_other_fields_survives_pickling() -> None:
    """The other fields come along, and count for equality, not for the hash."""
    call = ToolCall(0, "a", "f", extra={"x": [1]})
    assert pickle.loads(pickle.dumps(call)) == call != ToolCall(0, "a", "f")
    assert hash(call) == hash(ToolCall(0, "a", "f"))
