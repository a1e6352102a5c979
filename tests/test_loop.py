"""Streams that run tools, on real sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable  # noqa: TC003 - tools evaluate their annotations
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from blades import (
    Agent,
    Message,
    Prompt,
    Stream,
    StreamInterrupted,
    StreamState,
    StreamTimeout,
    Tool,
    ToolCall,
    ToolError,
    ToolFailed,
    ToolRoundsExceeded,
)
from blades._rounds import ANOTHER_FAILED, CANCELLED_BEFORE, CANCELLED_WHILE, CUT, DECLINED, FAILED, ROUNDS_EXCEEDED
from blades.testing import Answer, Cut, LocalServer, Request, Stall, chunk
from limits import LIMIT_SECONDS, SOON_SECONDS, WRONG_PATH_SECONDS, wait_until
from strict_api import refusal, strict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blades import Chunk


STALL_SECONDS = 2.0


def call(name: str, arguments: str = "{}", number: int = 0) -> dict[str, Any]:
    """Return one whole call as a server sends it."""
    return {
        "index": number,
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def asks(*calls: str | tuple[str, str], text: str = "", **options: Any) -> Answer:
    """Return an answer that calls tools, each in two parts."""
    named = [(each, "{}") if isinstance(each, str) else each for each in calls]
    steps: list[Any] = [text] if text else []
    for number, (name, arguments) in enumerate(named):
        steps.append(chunk(tool_calls=[call(name, arguments[:1], number)]))
        if arguments[1:]:
            steps.append(chunk(tool_calls=[{"index": number, "function": {"arguments": arguments[1:]}}]))
    return Answer(*steps, **{"finish_reason": "tool_calls", **options})


def scripted(*answers: str | Answer) -> LocalServer:
    """Return a server that gives these answers in order, and is as strict as the strictest."""
    left = list(answers)
    return LocalServer(default=strict(lambda _: left.pop(0)), pace=0)


def agent_of(server: LocalServer, *tools: Any, **options: Any) -> Agent[Any]:
    """Return an agent that has tools."""
    return Agent("test", model="m", base_url=server.base_url, api_key="k", tools=tools, **options)


def results(chunks: Sequence[Chunk]) -> list[tuple[str, str]]:
    """Return the results in the order in which they were returned."""
    return [(result.call.id, result.text) for chunk in chunks for result in chunk.tool_results]


def search(query: str) -> list[str]:
    """Search."""
    return [f"{query}!"]


def test_a_stream_runs_tools_between_its_requests() -> None:
    """One loop, one text, and messages that can be sent back."""
    with scripted(
        asks(("search", '{"query": "tea"}'), text="Let me see. "), asks("search", text="Once more. "), "Done."
    ) as server, agent_of(server, search) as agent:  # fmt: skip
        stream = agent.run_stream("Tea?")
        chunks = list(stream)
    assert stream.text == "Let me see. Once more. Done."
    assert results(chunks) == [
        ("call_0", '["tea!"]'),
        ("call_0", "Not run: the arguments do not fit. query: Field required."),
    ]
    roles = ["assistant", "tool", "assistant", "tool", "assistant"]
    assert [message.role for message in stream.messages] == roles
    assert stream.message.content == "Done."
    assert stream.finish_reason == "stop"
    assert stream.tool_calls == ()
    assert stream.state is StreamState.FINISHED
    reply = stream.reply()
    assert (reply.text, reply.complete, reply.messages) == (stream.text, True, stream.messages)
    assert len(server.requests) == 3
    sent = server.requests[2].json["messages"]
    assert sent == [{"role": "user", "content": "Tea?"}, *(message.to_dict() for message in stream.messages[:4])]
    assert [request.json["tools"] for request in server.requests] == [[Tool(search).to_dict()]] * 3
    assert stream.timing.chunks == len(chunks)
    assert refusal((Prompt("Tea?") + reply + "And?").to_list()) is None


def test_partial_data_is_that_of_the_present_answer() -> None:
    """Also where the texts of two answers have the same length."""
    with scripted(asks("search", text='{"a": 1}'), Answer('{"a": 2}')) as server, agent_of(server, search) as agent:
        stream = agent.run_stream("x")
        parts = [stream.partial for _ in stream]
    assert parts[0] == {"a": 1}
    assert parts[-1] == {"a": 2}


def test_usage_is_the_sum() -> None:
    """Of what the servers sent, details included."""
    first = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    second = {"prompt_tokens": 20, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}}
    with scripted(asks("search", usage=first), Answer("x", usage=second)) as server, agent_of(server, search) as agent:
        usage = agent.run("x").usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens) == (30, 6, None, 12)


def test_usage_is_none_if_an_answer_came_without() -> None:
    """It is never made up."""
    with (
        scripted(asks("search"), "x", asks("search"), "x") as server,
        agent_of(server, search, stream_options=None) as agent,
    ):
        assert agent.run("x").usage is None


def test_the_calls_of_an_answer_run_at_the_same_time() -> None:
    """Results are returned as they arrive, and sent in the order of the calls."""
    first_may_end = threading.Event()

    def first() -> str:
        assert first_may_end.wait(LIMIT_SECONDS)
        return "first"

    def second() -> str:
        return "second"

    with scripted(asks("first", "second"), "Done.") as server, agent_of(server, first, second) as agent:
        chunks = []
        for each in agent.run_stream("x"):
            chunks.append(each)
            if each.tool_results:
                first_may_end.set()
        sent = server.requests[1].json["messages"]
    assert results(chunks) == [("call_1", "second"), ("call_0", "first")]
    assert [message["content"] for message in sent if message["role"] == "tool"] == ["first", "second"]


class Slow:
    """A tool that waits for its event, and notes that it was set."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()

    def slow(self, cancel: threading.Event) -> str:
        """Take a minute."""
        self.began.set()
        if cancel.wait(WRONG_PATH_SECONDS):
            self.ended.set()
        return "too late"


def after(event: threading.Event, do: Callable[[], object]) -> threading.Thread:
    """Do something in a thread, once an event is set."""

    def wait() -> None:
        assert event.wait(LIMIT_SECONDS)
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def read(stream: Stream[Any]) -> None:
    for _ in stream:
        pass


def cancel_method(slow: Slow, chat: Any) -> Stream[Any]:
    stream: Stream[Any] = chat.run_stream("x")
    after(slow.began, stream.cancel)
    read(stream)
    return stream


def cancel_own_event(slow: Slow, chat: Any) -> Stream[Any]:
    stream: Stream[Any] = chat.run_stream("x")
    event = stream.cancel_event
    after(slow.began, event.set)
    read(stream)
    return stream


def cancel_event(slow: Slow, chat: Any, event: Any = None) -> Stream[Any]:
    event = event or threading.Event()
    stream: Stream[Any] = chat.run_stream("x", cancel=event)
    after(slow.began, event.set)
    read(stream)
    return stream


def cancel_other_event(slow: Slow, chat: Any) -> Stream[Any]:
    return cancel_event(slow, chat, multiprocessing.Event())


def leave_loop(slow: Slow, chat: Any) -> Stream[Any]:
    stream: Stream[Any] = chat.run_stream("x")
    for each in stream:
        if each.tool_results:  # that of the other call: the slow one is still running
            assert slow.began.wait(LIMIT_SECONDS)
            break
    return stream


def drop(slow: Slow, chat: Any) -> None:
    stream: Stream[Any] = chat.run_stream("x")
    while stream.next() and not stream.current().tool_results:
        pass
    assert slow.began.wait(LIMIT_SECONDS)
    del stream
    assert slow.ended.wait(LIMIT_SECONDS), "it takes a collection"
    gc.collect()


def ctrl_c(slow: Slow, chat: Any) -> Stream[Any]:
    stream: Stream[Any] = chat.run_stream("x")
    main = threading.get_ident()
    thread = after(slow.began, lambda: signal.pthread_kill(main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        read(stream)
    thread.join()
    return stream


def handler(slow: Slow, chat: Any) -> Stream[Any]:
    stream: Stream[Any] = chat.run_stream("x")
    before = signal.signal(signal.SIGUSR1, lambda *_: stream.cancel())
    main = threading.get_ident()
    thread = after(slow.began, lambda: signal.pthread_kill(main, signal.SIGUSR1))
    try:
        read(stream)
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    return stream


BY_SIGNAL = [ctrl_c, handler] if hasattr(signal, "pthread_kill") else []  # not on Windows


@pytest.mark.parametrize(
    "cancel",
    [cancel_method, cancel_own_event, cancel_event, cancel_other_event, leave_loop, drop, *BY_SIGNAL],
    ids=lambda function: function.__name__,
)  # fmt: skip
def test_a_cancel_while_a_tool_runs(cancel: Callable[[Slow, Any], Stream[Any] | None]) -> None:
    """`next()` returns at once, the tool is notified, nothing more is sent, and the conversation can go on."""
    slow = Slow()
    with (
        scripted(asks("slow", ("search", '{"query": "x"}'), text="I look. "), "Hello.") as server,
        agent_of(server, slow.slow, search) as agent,
    ):
        chat = agent.chat()
        began = time.monotonic()
        stream = cancel(slow, chat)
        assert time.monotonic() - began < SOON_SECONDS
        assert slow.ended.wait(LIMIT_SECONDS)
        assert len(server.requests) == 1
        if stream is not None:
            assert stream.state is StreamState.CANCELLED
            assert stream.text == "I look. "
            assert not stream.next()
        saved = chat.messages
        assert [message["role"] for message in saved[:4]] == ["user", "assistant", "tool", "tool"]
        assert saved[2]["content"] == CANCELLED_WHILE
        assert chat.run("And now?").text == "Hello."


def test_the_limit_of_the_whole_counts_while_a_tool_runs() -> None:
    """It raises, the tool is notified, and what the tools had done is in the messages."""
    slow = Slow()
    with scripted("Hello.", asks("slow", text="I look. ")) as server, agent_of(server, slow.slow) as agent:
        agent.run("x")  # imports the official client, which takes time
        chat = agent.chat()
        stream = chat.run_stream("x", timeout=1.0)
        with pytest.raises(StreamTimeout, match="within timeout=1 seconds") as caught:
            read(stream)
        assert slow.ended.wait(LIMIT_SECONDS)
        assert (caught.value.limit, caught.value.text) == ("timeout", "I look. ")
        assert caught.value.reply.messages == stream.messages
        assert [message.role for message in stream.messages] == ["assistant", "tool"]
        assert stream.state is StreamState.FAILED
        with pytest.raises(StreamTimeout):
            stream.next()
        assert len(server.requests) == 2


class Overtime:
    """Functions that return when a stream has taken longer than its limit."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.names: list[str] = []

    def _wait(self, name: str) -> None:
        stream = self.stream
        assert stream is not None
        self.names.append(name)
        wait_until(lambda: stream.timing.total > STALL_SECONDS)

    def first(self) -> str:
        """Take long."""
        self._wait("first")
        return "1"

    def second(self) -> str:
        """Take no time."""
        self._wait("second")
        return "2"

    def approve(self, each: ToolCall) -> bool:
        """Take long."""
        self._wait(f"approve {each.name}")
        return True


@pytest.mark.parametrize("how", ["in_reader", "approve"])
def test_no_tool_starts_after_the_limit_of_the_whole(how: str) -> None:
    """Neither in the reader's thread after a slow one, nor after a slow approval."""
    work = Overtime()
    tools = [Tool(work.first, in_reader=how == "in_reader"), Tool(work.second, in_reader=True)]
    with scripted("Hello.", asks("first", "second")) as server, agent_of(server, *tools) as agent:
        agent.run("x")  # imports the official client, which takes time
        approve = work.approve if how == "approve" else None
        work.stream = stream = agent.run_stream("x", timeout=STALL_SECONDS, approve=approve)
        with pytest.raises(StreamTimeout):
            read(stream)
        work.stream = None
        assert work.names == {"in_reader": ["first"], "approve": ["approve first", "approve second"]}[how]
        assert [message.content for message in stream.messages][2] == CANCELLED_BEFORE


def test_a_limit_that_has_passed_already_is_raised_by_the_stream() -> None:
    """Not by `run_stream`, which raises for wrong arguments alone."""
    with scripted("Hello.") as server, agent_of(server, search, timeout=1e-9) as agent:
        stream = agent.run_stream("x")
        with pytest.raises(StreamTimeout) as caught:
            stream.next()
        assert caught.value.limit == "timeout"
        assert stream.state is StreamState.FAILED


def test_a_tool_is_no_stall() -> None:
    """The limits between two chunks count the server's silence only."""

    def nap() -> str:
        time.sleep(STALL_SECONDS * 1.5)
        return "rested"

    with scripted("Hello.", asks("nap"), "Done.") as server, agent_of(server, nap) as agent:
        agent.run("x")  # imports the official client, which takes time
        assert agent.run("x", stall_timeout=STALL_SECONDS, first_chunk_timeout=STALL_SECONDS).text == "Done."


def test_a_server_that_stalls_in_the_second_request_is_a_stall() -> None:
    """Each request has the limits of a stream."""
    with scripted(asks("search", text="A"), Answer("B", Stall())) as server, agent_of(server, search) as agent:
        stream = agent.run_stream("x", stall_timeout=0.5, first_chunk_timeout=LIMIT_SECONDS)
        with pytest.raises(StreamTimeout) as caught:
            read(stream)
        assert caught.value.limit == "stall_timeout"
        assert caught.value.text == stream.text == "AB"
        assert [message.role for message in stream.messages] == ["assistant", "tool", "assistant"]


def test_a_cancel_while_the_second_request_is_opening() -> None:
    """The messages end with the results, and the conversation can go on."""
    with (
        scripted(asks(("search", '{"query": "x"}')), Answer(before_headers=[Stall()]), "Hello.") as server,
        agent_of(server, search) as agent,
    ):
        chat = agent.chat()
        stream = chat.run_stream("x")

        def cancel() -> None:
            wait_until(lambda: len(server.requests) == 2)
            assert server.requests[1].stalled.wait(LIMIT_SECONDS)
            stream.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        read(stream)
        thread.join()
        assert stream.state is StreamState.CANCELLED
        assert server.requests[1].left.wait(LIMIT_SECONDS)
        assert [message.role for message in stream.messages] == ["assistant", "tool"]
        assert chat.run("And now?").text == "Hello."


@pytest.mark.parametrize("cut", [Cut(), Stall()], ids=["cut", "cancelled"])
def test_an_answer_that_is_cut_after_a_round_keeps_the_round(cut: Any) -> None:
    """What the tools did is not forgotten."""
    with scripted(asks("search", text="A "), Answer("B ", cut), "Hello.") as server, agent_of(server, search) as agent:
        chat = agent.chat()
        stream = chat.run_stream("x")
        with pytest.raises(StreamInterrupted) if isinstance(cut, Cut) else nullcontext():
            for each in stream:
                if each.text == "B " and isinstance(cut, Stall):
                    stream.cancel()
        assert stream.text == "A B "
        assert [message.role for message in stream.messages] == ["assistant", "tool", "assistant"]
        assert [message["role"] for message in chat.messages] == ["user", "assistant", "tool", "assistant"]
        assert chat.run("And now?").text == "Hello."


def test_a_cancel_in_the_middle_of_the_calls() -> None:
    """Calls that may be cut are no calls."""
    part = chunk(tool_calls=[call("search", '{"que')])
    with scripted(Answer("A ", part, Stall()), "Hello.") as server, agent_of(server, search) as agent:
        chat = agent.chat()
        stream = chat.run_stream("x")
        for each in stream:
            if each.tool_calls:
                stream.cancel()
        assert [message.to_dict() for message in stream.messages] == [{"role": "assistant", "content": "A "}]
        assert chat.run("And now?").text == "Hello."


def test_nothing_changes_after_a_cancel() -> None:
    """A result that arrives later is dropped."""
    let, began = threading.Event(), threading.Event()

    def stubborn() -> str:
        began.set()
        assert let.wait(LIMIT_SECONDS)
        return "late"

    with scripted(asks("stubborn")) as server, agent_of(server, stubborn) as agent:
        stream = agent.run_stream("x")
        after(began, stream.cancel)
        read(stream)
        before = stream.messages
        let.set()
        wait_until(lambda: not any(thread.name == "blades-tool-stubborn" for thread in threading.enumerate()))
        assert not stream.next()
        assert stream.messages == before
        assert before[1].content == CANCELLED_WHILE


def fails() -> str:
    """Fail."""
    raise KeyError("secret")


def tells() -> str:
    """Tell."""
    raise ToolError("Try search.")


def test_a_tool_that_raises_fails_the_stream() -> None:
    """From its own exception; the conversation can go on."""
    slow = Slow()
    with scripted(asks("fails", "slow", text="A "), "Hello.") as server, agent_of(server, fails, slow.slow) as agent:
        chat = agent.chat()
        stream = chat.run_stream("x")
        with pytest.raises(ToolFailed, match=r"The tool 'fails' raised KeyError\('secret'\)") as caught:
            read(stream)
        assert isinstance(caught.value.__cause__, KeyError)
        assert caught.value.call.id == "call_0"
        assert caught.value.text == "A "
        assert slow.ended.wait(LIMIT_SECONDS) or not slow.began.is_set()
        assert [message.content for message in stream.messages] == ["A ", FAILED, ANOTHER_FAILED]
        with pytest.raises(ToolFailed):
            stream.next()
        assert chat.run("And now?").text == "Hello."


def test_a_tool_error_is_told_to_the_model() -> None:
    """The stream goes on."""
    with scripted(asks("tells"), "Fine.") as server, agent_of(server, tells) as agent:
        reply = agent.run("x")
    assert reply.messages[1].content == "Try search."
    assert reply.text == "Fine."


def test_a_tool_of_the_reader_may_use_its_sqlite_connection() -> None:
    """In the thread that reads the stream."""
    database = sqlite3.connect(":memory:")
    database.execute("create table notes (text)")

    def note(text: str) -> None:
        """Note it."""
        database.execute("insert into notes values (?)", (text,))

    with (
        scripted(asks(("note", '{"text": "a"}'), ("note", '{"text": "b"}')), "Noted.") as server,
        agent_of(server, Tool(note, in_reader=True)) as agent,
    ):
        assert agent.run("x").text == "Noted."
    assert database.execute("select text from notes").fetchall() == [("a",), ("b",)]
    database.close()


def test_ctrl_c_in_a_tool_of_the_reader() -> None:
    """It arrives as it is, and cancels the stream."""

    def interrupted() -> None:
        """Interrupt."""
        signal.raise_signal(signal.SIGINT)

    with (
        scripted(asks("interrupted"), "Hello.") as server,
        agent_of(server, Tool(interrupted, in_reader=True)) as agent,
    ):
        chat = agent.chat()
        stream = chat.run_stream("x")
        with pytest.raises(KeyboardInterrupt):
            read(stream)
        assert stream.state is StreamState.CANCELLED
        assert stream.messages[1].content == CANCELLED_WHILE
        assert chat.run("And now?").text == "Hello."


async def later(text: str) -> str:
    """Wait."""
    await asyncio.sleep(0)
    return text


def test_a_coroutine_function_is_a_tool() -> None:
    """Run in its thread."""
    with scripted(asks(("later", '{"text": "x"}')), "Fine.") as server, agent_of(server, later) as agent:
        assert agent.run("x").messages[1].content == "x"


def test_calls_that_were_cut_by_the_limit_of_tokens_are_not_run() -> None:
    """Even if the arguments look whole; the model is sent the reason."""
    ran: list[str] = []

    def record(text: str) -> None:
        """Record."""
        ran.append(text)

    cut = asks(("record", '{"text": "a"}'), ("record", '{"text": "b'), finish_reason="length")
    with scripted(cut, "Fine.") as server, agent_of(server, record) as agent:
        reply = agent.run("x")
    assert not ran
    assert [message.content for message in reply.messages] == [None, CUT, CUT, "Fine."]
    calls = reply.messages[0].extra["tool_calls"]
    assert [json.loads(each["function"]["arguments"]) for each in calls] == [{"text": "a"}, {"invalid": '{"text": "b'}]


def test_unknown_names_and_arguments_that_are_no_object_are_told() -> None:
    """The strict server accepts what goes back."""
    with (
        scripted(asks("serach", ("search", "[1]"), ("search", "")), "Fine.") as server,
        agent_of(server, search) as agent,
    ):
        sent = [message.content for message in agent.run("x").messages[1:4]]
    assert sent == [
        "Not run: there is no tool of this name. The tools are: search.",
        "Not run: the arguments are not a JSON object.",
        "Not run: the arguments do not fit. query: Field required.",
    ]


def test_declined_calls() -> None:
    """Asked in the reader's thread, before any runs."""
    asked: list[tuple[str, str]] = []

    def approve(each: ToolCall) -> bool | str:
        asked.append((each.name, threading.current_thread().name))
        answers: dict[str, bool | str] = {"search": True, "tells": False, "fails": "not today"}
        return answers[each.name]

    with (
        scripted(asks(("search", '{"query": "x"}'), "tells", "fails"), "Fine.") as server,
        agent_of(server, search, tells, fails, approve=approve) as agent,
    ):
        reply = agent.run("x")
    assert [message.content for message in reply.messages[1:4]] == ['["x!"]', DECLINED, "Not run: declined: not today"]
    name = threading.current_thread().name
    assert asked == [("search", name), ("tells", name), ("fails", name)]


def test_what_approve_raises_arrives_as_it_is() -> None:
    """The stream is cancelled, and the conversation can go on."""
    error = OSError("no terminal")

    def approve(_: ToolCall) -> bool:
        raise error

    with scripted(asks(("search", '{"query": "x"}')), "Hello.") as server, agent_of(server, search) as agent:
        chat = agent.chat()
        stream = chat.run_stream("x", approve=approve)
        with pytest.raises(OSError, match="no terminal") as caught:
            read(stream)
        assert caught.value is error
        assert stream.state is StreamState.CANCELLED
        assert stream.messages[1].content == CANCELLED_BEFORE
        assert chat.run("And now?").text == "Hello."


def test_the_limit_of_rounds() -> None:
    """So many requests, and then an error; the conversation can go on."""
    answers = [asks(("search", '{"query": "x"}'), text=f"{number} ") for number in range(3)]
    with scripted(*answers, "Hello.") as server, agent_of(server, search, max_rounds=3) as agent:
        chat = agent.chat()
        stream = chat.run_stream("x")
        with pytest.raises(ToolRoundsExceeded, match="max_rounds=3") as caught:
            read(stream)
        assert len(server.requests) == 3
        assert caught.value.text == "0 1 2 "
        assert [message.content for message in stream.messages][-1] == ROUNDS_EXCEEDED
        assert chat.run("And now?").text == "Hello."


def test_a_forced_tool_is_forced_once() -> None:
    """Otherwise there would be no end."""
    forced = {"type": "function", "function": {"name": "search"}}
    for choice, later_choice in (("required", None), (forced, None), ("auto", "auto")):
        with scripted(asks(("search", '{"query": "x"}')), "Fine.") as server, agent_of(server, search) as agent:
            agent.run("x", tool_choice=choice)
            assert [request.json.get("tool_choice") for request in server.requests] == [choice, later_choice]


def test_a_call_for_a_tool_that_is_a_dict_ends_the_stream() -> None:
    """All calls of that answer are the caller's, who answers them."""
    lookup = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {}}}}
    with (
        scripted(asks(("search", '{"query": "x"}'), "lookup"), "Fine.") as server,
        agent_of(server, search, lookup) as agent,
    ):
        chat = agent.chat()
        reply = chat.run("x")
        assert [each.name for each in reply.tool_calls] == ["search", "lookup"]
        assert reply.complete
        assert len(server.requests) == 1
        answers = [Message("tool", "1", tool_call_id="call_0"), Message("tool", "2", tool_call_id="call_1")]
        assert chat.run(answers).text == "Fine."
        assert server.requests[0].json["tools"] == [Tool(search).to_dict(), lookup]


def test_tools_of_a_call_replace_those_of_the_agent() -> None:
    """None, or an empty list: no tools."""
    with scripted("a", "b", "c", "d") as server, agent_of(server, search) as agent:
        agent.run("x")
        agent.run("x", tools=[tells])
        agent.run("x", tools=None)
        agent.run("x", tools=[])
        names = [[tool["function"]["name"] for tool in request.json.get("tools", [])] for request in server.requests]
    assert names == [["search"], ["tells"], [], []]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tools": search}, TypeError),
        ({"tools": ["search"]}, TypeError),
        ({"tools": [lambda *args: args]}, ValueError),
        ({"max_rounds": 0}, ValueError),
        ({"max_rounds": "3"}, TypeError),
        ({"approve": True}, TypeError),
        ({"response_format": list[int]}, TypeError),
    ],
    ids=str,
)
def test_wrong_arguments_raise_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    """For the agent and for a call."""
    with pytest.raises(error):
        Agent("test", model="m", **options)
    with LocalServer() as server, agent_of(server, search) as agent:
        with pytest.raises(error):
            agent.run_stream("x", **options)
        assert not server.requests


def test_an_event_that_is_set_before_means_that_nothing_is_sent() -> None:
    """With tools as without."""
    event = threading.Event()
    event.set()
    with scripted() as server, agent_of(server, search) as agent:
        stream = agent.run_stream("x", cancel=event)
        assert list(stream) == []
        assert stream.state is StreamState.CANCELLED
        assert (stream.text, stream.usage, stream.messages[0].content) == ("", None, "")
        assert not server.requests


def test_a_second_reader_is_refused_while_a_tool_runs() -> None:
    """A stream has one reader at a time."""
    slow = Slow()
    with scripted(asks("slow")) as server, agent_of(server, slow.slow) as agent:
        stream = agent.run_stream("x")
        thread = threading.Thread(target=read, args=(stream,))
        thread.start()
        assert slow.began.wait(LIMIT_SECONDS)
        with pytest.raises(RuntimeError, match="expected one reader"):
            stream.next()
        stream.cancel()
        thread.join(LIMIT_SECONDS)
        assert not thread.is_alive()


def test_sentences_go_over_rounds() -> None:
    """The joined pieces are the text."""
    pytest.importorskip("sentencex")
    with (
        scripted(asks(("search", '{"query": "x"}'), text="Let me "), "see. It is hot.") as server,
        agent_of(server, search) as agent,
    ):
        assert list(agent.run_stream("x").sentences()) == ["Let me see. ", "It is hot."]


def test_an_agent_that_is_closed_while_a_tool_runs() -> None:
    """Its stream goes on: the next request has a client, which is closed at the end of the stream."""

    def close() -> str:
        """Close the agent."""
        agent.close()
        assert server.connection_log[0].closed.wait(LIMIT_SECONDS)
        return "closed"

    with scripted(asks("close"), "Done.") as server:
        agent = agent_of(server, close)
        assert agent.run("x").message.content == "Done."
        assert server.wait_for_connection(2).closed.wait(LIMIT_SECONDS)


def test_an_agent_with_tools_can_be_pickled() -> None:
    """Functions of a module can; for others pickle says why not."""
    with scripted(asks(("search", '{"query": "x"}')), "Fine.") as server:
        agent = pickle.loads(pickle.dumps(agent_of(server, search)))
        with agent:
            assert agent.run("x").text == "Fine."
        with pytest.raises((pickle.PicklingError, AttributeError), match="local"):
            pickle.dumps(agent_of(server, Tool(partial(lambda: 1), name="local")))


def test_an_agent_without_tools_does_without_pydantic() -> None:
    """Making one imports nothing of it, nor starts a thread."""
    code = "import sys, threading; from blades import Agent; Agent('a', model='m'); "
    code += "print(sorted(sys.modules.keys() & {'pydantic', 'jiter', 'asyncio', 'openai'}), threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.split() == ["[]", "1"]


def test_no_cycle_keeps_a_stream_with_tools_alive() -> None:
    """Dropping it frees it, without a collection."""
    with scripted(asks(("search", '{"query": "x"}')), "Fine.") as server, agent_of(server, search) as agent:
        gc.collect()
        gc.disable()
        try:
            stream = agent.run_stream("x")
            read(stream)
            loop = weakref.ref(stream._call)
            del stream
            wait_until(lambda: loop() is None)
        finally:
            gc.enable()


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["approve", "tool", "in_reader"])
def test_no_cycle_keeps_a_stream_whose_tool_or_approval_failed(where: str, kind: type[BaseException]) -> None:
    """Nor does the exception, once it was dealt with."""

    def raise_it(*_: object) -> Any:
        raise kind

    def no_arguments() -> str:
        return str(raise_it())

    work = tells if where == "approve" else Tool(no_arguments, name="tells", in_reader=where == "in_reader")
    with scripted(asks("tells"), "Fine.") as server, agent_of(server, work) as agent:
        gc.collect()
        gc.disable()
        try:
            stream = agent.run_stream("x", approve=raise_it if where == "approve" else None)
            loop = weakref.ref(stream._call)
            with suppress(ToolFailed, kind):
                read(stream)
            del stream
            wait_until(lambda: loop() is None)
        finally:
            gc.enable()


class BoomError(Exception):
    """What a signal handler of the caller raises."""


# Thread.start(), interrupted by an exception, leaves a thread that stumbles over it and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")
def test_an_exception_of_a_signal_handler_at_any_moment() -> None:
    """It arrives as it is; the stream has ended, what it leaves can be sent, and no connection stays open."""

    def nap(number: int) -> int:
        """Nap."""
        time.sleep(0.002)
        return number

    def answer(request: Request) -> Answer | str:
        rounds = sum(message["role"] == "assistant" for message in request.json["messages"])
        return asks(("nap", '{"number": 1}'), ("nap", '{"number": 2}'), text="A ") if rounds < 3 else "Done."

    def boom(*_: object) -> None:
        raise BoomError

    before = signal.signal(signal.SIGALRM, boom)
    caught = 0
    with LocalServer(default=strict(answer), pace=0) as server, agent_of(server, nap) as agent:
        agent.run("x")
        for number in range(80):
            stream = None
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005 * (number + 1))
                stream = agent.run_stream("x")
                read(stream)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except BoomError:
                caught += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            if stream is not None:
                assert stream.state in {StreamState.CANCELLED, StreamState.FINISHED}
                assert refusal((Prompt("x") + stream.reply() + "y").to_list()) is None
        agent.close()
        stream = None
        wait_until(lambda: not any("LocalServer connection" in thread.name for thread in threading.enumerate()))
    signal.signal(signal.SIGALRM, before)
    assert caught


def test_spans_of_a_stream_with_tools() -> None:
    """One for the call, and below it one for each request and each run of a tool."""
    trace = pytest.importorskip("opentelemetry.trace")
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    simple = pytest.importorskip("opentelemetry.sdk.trace.export")
    exporter = export.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(simple.SimpleSpanProcessor(exporter))
    seen: list[Any] = []

    def look() -> str:
        """Look."""
        seen.append(trace.get_current_span().get_span_context().span_id)
        return "x"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "get_tracer", provider.get_tracer)
        with scripted(asks("look", "tells"), "Done.") as server, agent_of(server, look, tells) as agent:
            agent.run("x")
        wait_until(lambda: len(exporter.get_finished_spans()) == 5)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    call = spans["invoke_agent test"]
    others = [span for span in exporter.get_finished_spans() if span is not call]
    assert sorted(span.name for span in others) == ["chat m", "chat m", "execute_tool look", "execute_tool tells"]
    assert all(span.parent.span_id == call.context.span_id for span in others)
    assert seen == [spans["execute_tool look"].context.span_id]
    assert spans["execute_tool tells"].attributes["error.type"] == "ToolError"
    assert call.attributes["gen_ai.response.finish_reasons"] == ("stop",)


@pytest.mark.parametrize("ids", [["", ""], ["c", "c"], ["call_0_1", ""], ["call_0_1", "", "call_0_1", "call_0_1_1"]])
def test_each_call_has_an_id_of_its_own(ids: list[str]) -> None:
    """Some servers send none, or one for all calls; what goes back can go to any server."""
    parts = [{"index": n, "id": id_, "function": {"name": "tells", "arguments": "{}"}} for n, id_ in enumerate(ids)]
    with (
        scripted(Answer(chunk(tool_calls=parts), finish_reason="tool_calls"), "Fine.") as server,
        agent_of(server, tells) as agent,
    ):
        reply = agent.run("x")
    given = [each["id"] for each in reply.messages[0].extra["tool_calls"]]
    assert given == [message.extra["tool_call_id"] for message in reply.messages[1:-1]]
    assert len(set(given)) == len(ids)
    assert all(given)
    assert given[0] == ids[0] or not ids[0]


def test_a_tool_may_be_another_agent() -> None:
    """Its stream is cancelled by the event of the tool."""
    with (
        LocalServer(Answer("Half", Stall()), pace=0) as inner_server,
        agent_of(inner_server) as expert,
        scripted(asks("consult"), "Hello.") as server,
    ):
        began = threading.Event()

        def consult(cancel: threading.Event) -> str:
            """Consult the expert."""
            for each in (stream := expert.run_stream("x", cancel=cancel)):
                if each.text:
                    began.set()
            return stream.text

        with agent_of(server, consult) as agent:
            stream = agent.run_stream("x")
            after(began, stream.cancel)
            read(stream)
            assert stream.state is StreamState.CANCELLED
            assert inner_server.requests[0].left.wait(LIMIT_SECONDS)


def test_a_stream_error_of_approve_arrives_as_it_is() -> None:
    """Approving may use another agent, whose failure is not this stream's."""
    error = StreamInterrupted("elsewhere")

    def approve(_: ToolCall) -> bool:
        raise error

    with scripted(asks("tells")) as server, agent_of(server, tells, approve=approve) as agent:
        stream = agent.run_stream("x")
        with pytest.raises(StreamInterrupted) as caught:
            read(stream)
        assert caught.value is error
        assert caught.value.text == ""
        assert stream.state is StreamState.CANCELLED


@dataclass
class Box:
    """What tools and a type together end with."""

    size: int


def test_tools_and_a_type_together() -> None:
    """The last answer is parsed, and its beginning is the partial data."""
    with (
        scripted(asks("tells", text="thinking {"), '{"size": 3}') as server,
        agent_of(server, tells, response_format=Box) as agent,
    ):
        stream = agent.run_stream("x")
        partials = [stream.partial for _ in stream]
        assert stream.parsed == Box(3)
        assert stream.parsed is stream.reply().parsed
        assert partials[0] is None
        assert partials[-1] == {"size": 3}
        assert stream.text == 'thinking {{"size": 3}'
        reply = pickle.loads(pickle.dumps(stream.reply()))
        assert (reply.parsed, reply) == (Box(3), stream.reply())
