"""What a type checker knows of the public names. Checked by mypy with the rest of the tests, never run."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, assert_type

import blades
from blades import (
    Agent,
    BladesError,
    Chat,
    Chunk,
    ConfigError,
    Message,
    Prompt,
    PromptError,
    PromptTemplate,
    Reply,
    ReplyParseError,
    Stream,
    StreamError,
    StreamInterrupted,
    StreamProtocolError,
    StreamServerError,
    StreamState,
    StreamTimeout,
    StreamTruncated,
    Timing,
    Tool,
    ToolCall,
    ToolError,
    ToolFailed,
    ToolResult,
    ToolRoundsExceeded,
    Usage,
)
from blades.testing import Answer, LocalServer, Request

if TYPE_CHECKING:
    import openai

assert_type(blades.__all__, list[str])


def agents(client: openai.OpenAI, event: threading.Event) -> None:
    """An agent, its calls, and what can be given as a prompt."""
    agent = Agent("a", model="m", instructions=None, timeout=1, max_retries=None, temperature=0.5)
    assert_type(agent, Agent)
    assert_type(Agent("a", model="m", client=client), Agent)
    assert_type(agent.name, str)
    assert_type(agent.model, str)
    assert_type(agent.instructions, str | None)
    assert_type(agent.run_stream("text", cancel=event, timeout=None, seed=1), Stream)
    assert_type(agent.run_stream(PromptTemplate().user("x").build()), Stream)
    assert_type(agent.run_stream([Message("user", "x"), {"role": "user", "content": "x"}]), Stream)
    assert_type(agent.run("text", stall_timeout=1.5), Reply)
    with agent as same:
        assert_type(same, Agent)
    agent.run_stream(1)  # type: ignore[call-overload] # not a prompt
    agent.run("text", timeout="1")  # type: ignore[call-overload] # not a number of seconds


def chats(agent: Agent) -> None:
    """A conversation."""
    chat = agent.chat(system="s", history=[{"role": "user", "content": "x"}])
    assert_type(chat, Chat)
    assert_type(chat.run_stream("x", timeout=1), Stream)
    assert_type(chat.run("x", temperature=0.5, tools=[]), Reply)
    chat.run("x", temprature=0.5)  # type: ignore[call-overload] # no such option
    chat.run("x", temperature="hot")  # type: ignore[call-overload] # not a number
    assert_type(chat.messages, list[dict[str, Any]])
    agent.chat(history=chat.messages)
    agent.chat(history=Prompt("x"))


def streams(stream: Stream) -> None:
    """A stream, read in every way."""
    for chunk in stream:
        assert_type(chunk, Chunk)
    assert_type(next(stream), Chunk)
    assert_type(stream.next(), bool)
    assert_type(stream.current(), Chunk)
    assert_type(stream.reply(), Reply)
    assert_type(stream.print(), Reply)
    assert_type(stream.sentences("en", first_at=20, markdown="drop"), Generator[str, None, None])
    assert_type(stream.lines(), Generator[str, None, None])
    assert_type(stream.words(), Generator[str, None, None])
    stream.sentences(markdown="strip")  # type: ignore[arg-type] # "keep" or "drop"
    assert_type(stream.cancel_event, threading.Event)
    assert_type(stream.state, StreamState)
    assert_type(stream.text, str)
    assert_type(stream.reasoning, str)
    assert_type(stream.finish_reason, str | None)
    assert_type(stream.usage, Usage | None)
    assert_type(stream.model, str | None)
    assert_type(stream.id, str | None)
    assert_type(stream.request_id, str | None)
    assert_type(stream.tool_calls, tuple[ToolCall, ...])
    assert_type(stream.message, Message)
    assert_type(stream.timing, Timing)
    assert_type(stream.timing.first_chunk, float | None)
    assert_type(stream.timing.total, float)
    assert_type(stream.timing.chunks, int)
    with stream as same:
        assert_type(same, Stream)


@dataclass
class Box:
    """A type to answer with."""

    size: int


class Lid(TypedDict):
    """Another one."""

    color: str


def structured(agent: Agent) -> None:
    """A type that is given goes through to what it is parsed as."""
    assert_type(agent.run("x").parsed, Any)
    assert_type(agent.run("x", response_format=Box), Reply[Box])
    assert_type(agent.run("x", response_format=Box).parsed, Box)
    assert_type(agent.run_stream("x", response_format=Lid, timeout=1), Stream[Lid])
    assert_type(agent.run_stream("x", response_format=Lid).reply(), Reply[Lid])
    assert_type(agent.run_stream("x", response_format=Lid).print().parsed, Lid)
    assert_type(agent.run("x", response_format={"type": "json_object"}), Reply[Any])
    boxes = Agent("a", model="m", response_format=Box)
    assert_type(boxes, Agent[Box])
    assert_type(boxes.run("x"), Reply[Box])
    assert_type(boxes.run_stream("x", cancel=None).parsed, Box)
    assert_type(boxes.run("x", response_format=None), Reply[Any])
    assert_type(boxes.run("x", response_format=Lid), Reply[Lid])
    assert_type(boxes.chat(), Chat[Box])
    assert_type(boxes.chat().run("x"), Reply[Box])
    assert_type(boxes.chat().run_stream("x", response_format=Lid), Stream[Lid])
    anything: Reply[object] = boxes.run("x")
    del anything
    boxes.run("x", response_format="json")  # type: ignore[call-overload] # no type


def tools(call: ToolCall, chunk: Chunk, stream: Stream) -> None:
    """Functions and other callables, and what is asked about them."""

    def search(query: str, *, cancel: threading.Event) -> list[str]:
        return [query] if cancel.is_set() else []

    def approve(asked: ToolCall) -> bool | str:
        return "no" if asked == call else True

    tool = Tool(search, name="find", description="Find it.", in_reader=True)
    assert_type(tool, Tool)
    assert_type((tool.name, tool.description, tool.in_reader), tuple[str, str, bool])
    assert_type(tool.parameters, dict[str, Any])
    agent = Agent("a", model="m", tools=[search, tool, {"type": "function"}], max_rounds=3, approve=approve)
    assert_type(agent.run("x", tools=[tool], max_rounds=1, approve=None), Reply)
    for result in chunk.tool_results:
        assert_type((result.call, result.text, result.error, result.seconds), tuple[ToolCall, str, str | None, float])
    assert_type(stream.messages, tuple[Message, ...])
    assert_type(stream.reply().messages, tuple[Message, ...])
    assert_type(stream.partial, Any)
    agent.run("x", tools=["search"])  # type: ignore[list-item] # not a callable


def values(chunk: Chunk, reply: Reply, usage: Usage, call: ToolCall, result: ToolResult) -> None:
    """What a stream returns."""
    assert_type(chunk.text, str)
    assert_type(chunk.reasoning, str)
    assert_type(chunk.tool_calls, tuple[ToolCall, ...])
    assert_type(chunk.finish_reason, str | None)
    assert_type(chunk.usage, Usage | None)
    assert_type(chunk.raw, dict[str, Any])
    assert_type(reply.text, str)
    assert_type(reply.refusal, str)
    assert_type(reply.complete, bool)
    assert_type(reply.message, Message)
    assert_type(reply.usage, Usage | None)
    assert_type(usage.prompt_tokens, int | None)
    assert_type(usage.cached_tokens, int | None)
    assert_type(usage.raw, dict[str, Any])
    assert_type((call.index, call.id, call.arguments, call.input), tuple[int, str, str, str])
    assert_type((call.extra, call.to_dict()), tuple[dict[str, Any], dict[str, Any]])
    assert_type(chunk.tool_results, tuple[ToolResult, ...])
    assert_type((result.call, result.text, result.error, result.seconds), tuple[ToolCall, str, str | None, float])
    assert_type((reply.extra, reply.reasoning_fields), tuple[dict[str, Any], dict[str, Any]])
    chunk.text = "x"  # type: ignore[misc] # values do not change


def prompts(template: PromptTemplate, reply: Reply) -> None:
    """Templates, prompts and messages."""
    assert_type(PromptTemplate(partials={"a": "b"}), PromptTemplate)
    assert_type(template.system("{{a}}", {"a": 1}, b=[2]).user("x").assistant("y").history("h"), PromptTemplate)
    assert_type(template.message(Message("user", "x")), PromptTemplate)
    assert_type(template.variables, tuple[str, ...])
    prompt = template.build({"a": object()}, b=None)
    assert_type(prompt, Prompt)
    assert_type(prompt + reply + "next", Prompt)
    assert_type(prompt[0], Message)
    assert_type(prompt[1:], Prompt)
    assert_type(prompt.to_list(), list[dict[str, Any]])
    messages: Sequence[Message] = prompt
    assert_type(messages[0].role, str)
    assert_type(messages[0].content, str | list[dict[str, Any]] | None)


def errors(agent: Agent) -> None:
    """The tree, and what the exceptions carry."""
    try:
        agent.run("x")
    except StreamTimeout as timeout:
        standard: TimeoutError = timeout
        assert_type((timeout.limit, timeout.seconds), tuple[str, float])
        del standard
    except StreamServerError as refused:
        assert_type((refused.type, refused.code, refused.error), tuple[str | None, str | None, dict[str, Any]])
    except StreamProtocolError as protocol:
        assert_type((protocol.status, protocol.content_type, protocol.body), tuple[int | None, str, bytes])
    except ToolFailed as failed:
        assert_type(failed.call, ToolCall)
    except ToolRoundsExceeded as rounds:
        assert_type(rounds.text, str)
    except ReplyParseError as misfit:
        invalid: ValueError = misfit
        assert_type((misfit.text, misfit.reply, misfit.errors), tuple[str, Reply, tuple[dict[str, Any], ...]])
        del invalid
    except ToolError as told:
        assert_type(told.args, tuple[Any, ...])
    except (StreamInterrupted, StreamTruncated) as cut:
        family: StreamError = cut
        assert_type(cut.reply, Reply)
        assert_type(cut.request_id, str | None)
        del family
    except (ConfigError, PromptError) as wrong:
        base: BladesError = wrong
        del base


def testing() -> None:
    """The local server."""
    with LocalServer("a", Answer("b"), lambda request: request.headers["x"], pace=0) as server:
        assert_type(server, LocalServer)
        assert_type(server.base_url, str)
        assert_type(server.requests, list[Request])
        assert_type(server.wait_for_request(), Request)
