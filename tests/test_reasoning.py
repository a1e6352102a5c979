"""Reasoning that one server wants back and another refuses, in whole conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from blades import Agent, Message, Prompt
from blades.testing import Answer, LocalServer, chunk
from strict_api import refuses_reasoning, strict, wants_reasoning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blades.testing import Request

CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}
RESULT = Message("tool", "7", tool_call_id="c1")
REFUSALS = {
    "Groq": "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property "
    "'reasoning_content' is unsupported)]",
    "Cerebras": "messages.1.assistant.reasoning_content: property 'messages.1.assistant.reasoning_content' is "
    "unsupported",
    "Mistral": '[{"type":"extra_forbidden","loc":["body","messages",1,"assistant","reasoning_content"],"msg":"Extra '
    'inputs are not permitted","input":"r"}]',
}
DEMANDS = {
    "DeepSeek": "The `reasoning_content` in the thinking mode must be passed back to the API.",
    "Kimi": "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1",
}


def thinking(name: str = "reasoning_content") -> Callable[[Request], Answer]:
    """Return a model that thinks, calls a tool for a first question, and answers any other request."""

    def answer(request: Request) -> Answer:
        if request.json["messages"][-1]["role"] == "user" and len(request.json["messages"]) == 1:
            return Answer(chunk(**{name: "Let me see."}), chunk(tool_calls=[CALL]), finish_reason="tool_calls")
        return Answer(chunk(**{name: "Seven, then."}), "It is 7.")

    return answer


@pytest.fixture
def wanting() -> Iterator[LocalServer]:
    """A server as DeepSeek's."""
    with LocalServer(default=strict(thinking(), wants_reasoning), pace=0) as running:
        yield running


@pytest.fixture
def refusing() -> Iterator[LocalServer]:
    """A server as Groq's."""
    with LocalServer(default=strict(thinking("reasoning"), refuses_reasoning), pace=0) as running:
        yield running


def agent_of(server: LocalServer) -> Agent:
    return Agent("test", model="m", base_url=server.base_url, api_key="k", max_retries=0)


@pytest.mark.parametrize("kind", ["wanting", "refusing"])
@pytest.mark.parametrize("way", ["prompt", "chat"])
def test_a_tool_call_and_what_follows(kind: str, way: str, request: pytest.FixtureRequest) -> None:
    """Both kinds of server accept every request of a conversation, whichever way it is kept."""
    server: LocalServer = request.getfixturevalue(kind)
    with agent_of(server) as agent:
        if way == "chat":
            chat = agent.chat()
            texts = [chat.run(asked).text for asked in ("How many?", [RESULT], "Sure?")]
        else:
            prompt = Prompt("How many?")
            texts = []
            for following in ([RESULT], "Sure?", "Really?"):
                reply = agent.run(prompt)
                texts.append(reply.text)
                prompt = prompt + reply + following
    assert texts == ["", "It is 7.", "It is 7."]


def test_the_agent_remembers_what_a_server_refuses(refusing: LocalServer) -> None:
    """One request is refused, once; another model is another matter."""
    with agent_of(refusing) as agent:
        chat = agent.chat()
        for asked in ("How many?", [RESULT], "Sure?", "Really?"):
            chat.run(asked)
        assert len(refusing.requests) == 5
        chat.run("And now?", model="another")
        assert len(refusing.requests) == 7


@pytest.mark.parametrize("first", ["wanting", "refusing"])
def test_a_conversation_moves_to_a_server_of_the_other_kind(first: str, request: pytest.FixtureRequest) -> None:
    """The history goes from one to the other and back."""
    one: LocalServer = request.getfixturevalue(first)
    other: LocalServer = request.getfixturevalue("refusing" if first == "wanting" else "wanting")
    with agent_of(one) as here, agent_of(other) as there:
        chat = here.chat()
        chat.run("How many?")
        chat.run([RESULT])
        moved = there.chat(history=chat.messages)
        assert moved.run("Sure?").text == "It is 7."
        assert here.chat(history=moved.messages).run("Really?").text == "It is 7."


@pytest.mark.parametrize("name", [*REFUSALS, *DEMANDS])
def test_a_refusal_is_answered_by_a_second_request(name: str) -> None:
    """It goes out once, without a pause, whatever the server's words are."""
    status, text = 422 if name == "Mistral" else 400, REFUSALS.get(name) or DEMANDS[name]
    history = [
        Message("user", "q"),
        Message("assistant", "a", reply_reasoning={"reasoning_content": "r"}),
        *([Message("assistant", tool_calls=[CALL]), RESULT] if name in REFUSALS else []),
        Message("user", "q"),
    ]
    with LocalServer(Answer.error(status, text), "Fine.", pace=0) as server, agent_of(server) as agent:
        assert agent.run(history).text == "Fine."
        sent = [[message.get("reasoning_content") for message in each.json["messages"]] for each in server.requests]
        assert [reasoning[1] for reasoning in sent] == (["r", None] if name in REFUSALS else [None, "r"])


def test_a_second_refusal_is_raised() -> None:
    """The official client's exception, with the server's words; there is no third request."""
    text = DEMANDS["DeepSeek"]
    history = [
        Message("user", "q"),
        Message("assistant", "a", reply_reasoning={"reasoning": "r"}),
        Message("user", "q"),
    ]
    with (
        LocalServer(Answer.error(400, text), Answer.error(400, text), pace=0) as server,
        agent_of(server) as agent,
        pytest.raises(openai.BadRequestError, match="must be passed back"),
    ):
        agent.run(history)
    assert len(server.requests) == 2


@pytest.mark.parametrize("answer", [Answer.error(400, "Invalid API key."), Answer.error(401, DEMANDS["Kimi"])])
def test_another_refusal_is_raised_at_once(answer: Answer) -> None:
    """Only a 400 or 422 about reasoning is worth a second request."""
    history = [
        Message("user", "q"),
        Message("assistant", "a", reply_reasoning={"reasoning": "r"}),
        Message("user", "q"),
    ]
    with LocalServer(answer, pace=0) as server, agent_of(server) as agent, pytest.raises(openai.APIStatusError):
        agent.run(history)
    assert len(server.requests) == 1


def test_what_the_caller_wrote_is_never_changed(refusing: LocalServer) -> None:
    """A field of the caller's own is sent, refused, and not sent again without it."""
    history: list[dict[str, Any]] = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a", "reasoning_content": "mine"},
        {"role": "user", "content": "q"},
    ]
    with agent_of(refusing) as agent, pytest.raises(openai.BadRequestError, match="unsupported"):
        agent.run(history)
    assert len(refusing.requests) == 1


def test_a_signature_of_a_call_goes_back() -> None:
    """Gemini refuses the next request without it."""
    signed = {**CALL, "extra_content": {"google": {"thought_signature": "s"}}}

    def needs_signature(messages: list[dict[str, Any]]) -> str | None:
        calls = [call for message in messages for call in message.get("tool_calls", ())]
        if all(call.get("extra_content") == signed["extra_content"] for call in calls):
            return None
        return "Function call is missing a thought_signature in functionCall parts."

    def answer(request: Request) -> str | Answer:
        first = len(request.json["messages"]) == 1
        return Answer(chunk(tool_calls=[signed]), finish_reason="tool_calls") if first else "It is 7."

    with LocalServer(default=strict(answer, needs_signature), pace=0) as server, agent_of(server) as agent:
        chat = agent.chat()
        chat.run("How many?")
        assert chat.run([RESULT]).text == "It is 7."
