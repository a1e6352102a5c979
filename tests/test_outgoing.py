"""What goes to the server of a conversation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blades import Message, Prompt
from blades._message import reply_message
from blades._prompts.outgoing import (
    UNANSWERED,
    complete,
    has_reasoning,
    names_reasoning_field,
    other_reasoning,
    outgoing,
    sends_reasoning,
)
from strict_api import refusal

CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
OTHER: dict[str, Any] = {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}
ASKED = Message("user", "q")
ANSWER = reply_message("a", reasoning_fields={"reasoning_content": "r"})
CALLED = reply_message("", tool_calls=[CALL], reasoning_fields={"reasoning": "r2", "reasoning_details": [{"x": 1}]})
RESULT = Message("tool", "7", tool_call_id="c1")
UNKNOWN = Message("tool", UNANSWERED, tool_call_id="c1")
BY_HAND = Message("assistant", "b", reasoning_content="by hand")


def reasoning_of(sent: list[dict[str, Any]]) -> list[Any]:
    return [message.get("reasoning_content", message.get("reasoning")) for message in sent]


# Reasoning


@pytest.mark.parametrize(
    ("messages", "forced", "expected"),
    [
        pytest.param([ASKED, ANSWER, ASKED], None, [None, None, None], id="no tool calls"),
        pytest.param([ANSWER, CALLED, RESULT], None, ["r", "r2", None], id="tool calls"),
        pytest.param([ANSWER, RESULT], None, ["r", None], id="tool results alone"),
        pytest.param([ASKED, ANSWER], True, [None, "r"], id="forced"),
        pytest.param([ANSWER, CALLED, RESULT], False, [None, None, None], id="forced away"),
        pytest.param([BY_HAND, ANSWER], None, ["by hand", None], id="by hand"),
        pytest.param([BY_HAND, CALLED], False, ["by hand", None], id="by hand, forced away"),
    ],
)
def test_reasoning_is_sent_where_there_are_tool_calls(
    messages: list[Message],
    forced: bool | None,  # a parameter of the test
    expected: list[Any],
) -> None:
    """Every message of a reply has it then, and otherwise none; what the caller wrote stays."""
    assert reasoning_of(Prompt(messages).to_list(reasoning=forced)) == expected
    assert reasoning_of(Prompt(Prompt(messages).to_saved()).to_list(reasoning=forced)) == expected


def test_whether_there_is_anything_to_reverse() -> None:
    """A resend makes sense only with reasoning of a reply; by default it depends on tool calls."""
    assert (has_reasoning([ASKED, BY_HAND, CALLED]), has_reasoning([ASKED, BY_HAND])) == (True, False)
    assert (sends_reasoning([ASKED, CALLED]), sends_reasoning([ASKED, ANSWER])) == (True, False)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("The `reasoning_content` in the thinking mode must be passed back to the API.", id="DeepSeek"),
        pytest.param(
            '{"error":{"code":"400","message":"Param Incorrect","param":"The reasoning_content in the thinking mode '
            'must be passed back to the API.","type":""}}',
            id="MiMo",
        ),
        pytest.param(
            "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2", id="Kimi"
        ),
        pytest.param("Missing `reasoning_content` field in the assistant message at index 1.", id="DeepSeek, older"),
        pytest.param(
            "'messages.2' : for 'role:assistant' the following must be satisfied[('messages.2' : property "
            "'reasoning_content' is unsupported)]",
            id="Groq",
        ),
        pytest.param(
            "messages.2.assistant.reasoning_content: property 'messages.2.assistant.reasoning_content' is unsupported",
            id="Cerebras",
        ),
        pytest.param(
            '{"detail":[{"type":"extra_forbidden","loc":["body","messages",31,"assistant","reasoning_content"],'
            '"msg":"Extra inputs are not permitted","input":"x"}]}',
            id="Mistral",
        ),
        pytest.param("messages.1.assistant.reasoning: Extra inputs are not permitted", id="reasoning"),
        pytest.param("Unknown parameter: 'messages[1].thinking'.", id="thinking"),
        pytest.param("Function call is missing a thought_signature in functionCall parts.", id="Gemini"),
    ],
)
def test_a_refusal_of_reasoning_is_recognised(text: str) -> None:
    """The wordings are those of real servers, of both kinds."""
    assert names_reasoning_field(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Invalid API key.",
        "property 'reasoning_effort' is unsupported",
        "This model's maximum context length is 8192 tokens; reasoning tokens count.",
        "Unrecognized request argument supplied: thinking",
        "An assistant message with 'tool_calls' must be followed by tool messages.",
    ],
)
def test_another_refusal_is_not_taken_for_one(text: str) -> None:
    """A second request would be in vain."""
    assert not names_reasoning_field(text)


DEMAND = "The `reasoning_content` in the thinking mode must be passed back to the API."
REFUSAL = "messages.2.assistant.reasoning_content: property 'messages.2.assistant.reasoning_content' is unsupported"


@pytest.mark.parametrize(
    ("text", "sent", "expected"),
    [
        pytest.param(DEMAND, False, "reasoning_content", id="demanded"),
        pytest.param(DEMAND, True, "reasoning_content", id="demanded under another name"),
        pytest.param(DEMAND, "reasoning_content", False, id="demanded in vain"),
        pytest.param(REFUSAL, True, False, id="refused"),
        pytest.param(REFUSAL, "reasoning_content", False, id="refused under another name"),
        pytest.param(REFUSAL, False, None, id="refused although none was sent"),
        pytest.param("reasoning_content is invalid", True, False, id="unclear"),
        pytest.param("reasoning_content is invalid", False, True, id="unclear, the other way"),
        pytest.param("missing a thought_signature", False, True, id="signature"),
        pytest.param("Invalid API key.", True, None, id="another error"),
    ],
)
def test_what_to_do_after_a_refusal(text: str, sent: bool | str, expected: bool | str | None) -> None:
    """The second request sends the reasoning under the name that the server asks for, or not at all."""
    assert other_reasoning(text, sent) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"reasoning": "r"}, "r", id="text"),
        pytest.param({"reasoning_details": [{"text": "a"}, {"data": 1}, {"text": "b"}]}, "ab", id="details"),
        pytest.param({"reasoning_content": "r", "reasoning": "s"}, "r", id="own name"),
        pytest.param({"signature": 1}, "", id="no text"),
    ],
)
def test_reasoning_goes_out_under_another_name(fields: dict[str, Any], expected: str) -> None:
    """A conversation may move from one server to another."""
    sent = reply_message("a", reasoning_fields=fields).to_dict(reasoning="reasoning_content")
    assert sent == {"role": "assistant", "content": "a", "reasoning_content": expected}
    assert Prompt([ASKED, BY_HAND]).to_list(reasoning="reasoning") == [ASKED.to_dict(), BY_HAND.to_dict()]


# Cancelled answers


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param(["user", "", "user"], ["user"], id="question"),
        pytest.param(["system", "user", ""], ["system"], id="at the end"),
        pytest.param(["user", "a", ""], ["user", "assistant"], id="answer before"),
        pytest.param(["tool", ""], ["tool"], id="tool before"),
    ],
)
def test_a_cancelled_answer_without_text_is_left_out(messages: list[str], expected: list[str]) -> None:
    """Its question goes with it; a result of a tool stays, since its call would be refused without."""
    marked = {"": Message("assistant", "", cancelled=True), "a": Message("assistant", "a", cancelled=True)}
    prompt = [marked.get(role) or Message(role, "x") for role in messages]
    assert [message["role"] for message in outgoing(prompt)] == expected


# Tool calls


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([CALLED, RESULT, ASKED], [CALLED, RESULT, ASKED], id="answered"),
        pytest.param([CALLED, ASKED], [CALLED, UNKNOWN, ASKED], id="not answered"),
        pytest.param([CALLED], [CALLED, UNKNOWN], id="at the end"),
        pytest.param([CALLED, CALLED, RESULT], [CALLED, UNKNOWN, CALLED, RESULT], id="twice"),
        pytest.param([ASKED, RESULT], [ASKED], id="no call"),
        pytest.param([ASKED, reply_message(""), ASKED], [ASKED, Message("assistant", "", cancelled=True), ASKED]),
    ],
)
def test_every_call_is_answered(messages: list[Message], expected: list[Message]) -> None:
    """A sentence stands for a result that is not there."""
    assert complete(messages) == expected


def test_results_are_put_in_the_order_of_the_calls() -> None:
    """Several servers want that; what is no result of these calls is left out."""
    called = reply_message("", tool_calls=[CALL, OTHER])
    second, stray = Message("tool", "8", tool_call_id="c2"), Message("tool", "9", tool_call_id="c3")
    assert complete([called, stray, second, RESULT]) == [called, RESULT, second]
    assert complete([called, second]) == [called, UNKNOWN, second]
    assert complete([called, RESULT, RESULT]) == [
        called,
        RESULT,
        Message("tool", UNANSWERED, tool_call_id="c2"),
    ]


def test_calls_without_an_id_are_answered_one_by_one() -> None:
    """Some servers give none."""
    called = reply_message("", tool_calls=[{**CALL, "id": ""}, {**CALL, "id": ""}])
    first, second = Message("tool", "1", tool_call_id=""), Message("tool", "2", tool_call_id="")
    assert complete([called, first, second]) == [called, first, second]


def test_arguments_of_an_old_history_are_repaired() -> None:
    """In the request only; other fields of the message stay."""
    call = {**CALL, "function": {"name": "f", "arguments": '{"a'}}
    message = Message("assistant", "x", tool_calls=[call], refusal="no", reply_reasoning={"reasoning": "r"})
    first, _ = complete([message])
    assert first.extra["tool_calls"][0]["function"]["arguments"] == '{"invalid": "{\\"a"}'
    assert (first.extra["refusal"], first.reply_reasoning) == ("no", {"reasoning": "r"})
    assert message.extra["tool_calls"] == [call]


def test_what_is_no_call_is_left_alone() -> None:
    """Whatever a caller wrote there is for the server to judge."""
    unusual = Message("assistant", "x", tool_calls="none", function_call={"name": "f"})
    assert complete([unusual, ASKED]) == [unusual, ASKED]


ids = st.sampled_from(["c1", "c2", "c3"])
calls = st.builds(
    lambda id_, arguments: {"id": id_, "type": "function", "function": {"name": "f", "arguments": arguments}},
    ids,
    st.sampled_from(["{}", "", '{"a', "[1]", "null"]),
)
answers = st.builds(
    lambda text, tool_calls, *, cancelled: Message(
        "assistant", text, tool_calls=tool_calls or None, cancelled=cancelled
    ),
    st.sampled_from([None, "", "x"]),
    st.lists(calls, max_size=3, unique_by=lambda call: call["id"]),
    cancelled=st.booleans(),
)
conversations = st.lists(
    st.one_of(
        st.builds(Message, st.sampled_from(["user", "system"]), st.just("q")),
        answers,
        st.builds(lambda id_: Message("tool", "7", tool_call_id=id_), ids),
    )
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(conversations)
def test_any_conversation_is_accepted(messages: list[Message]) -> None:
    """Whatever is missing, doubled or cut, the strictest server takes what goes out."""
    sent = outgoing(complete(messages))
    assert refusal(sent) is None
    assert outgoing(complete(complete(messages))) == sent
