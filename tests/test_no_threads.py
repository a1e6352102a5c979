"""No thread can be started: the limit of the system is reached for a moment, or the interpreter is exiting."""

from __future__ import annotations

import _thread
import builtins
import gzip
import threading
from types import FunctionType
from typing import Any

import openai
import pytest

from blades import Agent, StreamState, StreamTimeout
from blades._platform import SHUTDOWN_WAKES
from blades._transport import fast_body, response
from blades._transport.deadlines import deadline_timer
from blades.testing import Answer, LocalServer, Stall
from cancel.scenes import FINISH, no_threads
from limits import LIMIT_SECONDS, SOON_SECONDS, wait_until

OF_THE_FAST_PATH = ["blades-deadlines", "detached"] if SHUTDOWN_WAKES and fast_body.ENABLED else []
WORDS = ["word "] * 50  # more pieces than are read ahead


@pytest.fixture(autouse=True)
def _warm(server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a connection that can be used again, and the server's thread for it."""
    monkeypatch.setattr(response, "END_WAIT_SECONDS", LIMIT_SECONDS)
    monkeypatch.setattr(response, "PROOF_WAIT_SECONDS", LIMIT_SECONDS)
    assert agent.run("warm").complete


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(*WORDS), id="fast path"),
        pytest.param(Answer(*WORDS, framing="length"), id="through the library"),
        pytest.param(
            Answer(
                *[gzip.compress(b'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n')] * 50,
                gzip.compress(FINISH),
                headers={"Content-Encoding": "gzip"},
                done=False,
            ),
            id="compressed",
        ),
        pytest.param(
            Answer(b"1;extension\r\n\n\r\n", *[b"%x\r\n%b\r\n" % (len(FINISH), FINISH)] * 30, b"0\r\n\r\n",
                   headers={"Transfer-Encoding": "chunked"}, done=False),
            id="left to the library",
        ),
    ],
)  # fmt: skip
def test_stream_is_opened_and_read_in_the_callers_thread(answer: Answer, server: LocalServer, agent: Agent) -> None:
    """However many pieces the answer has."""
    server.add(answer)
    with no_threads():
        reply = agent.run("go", timeout=LIMIT_SECONDS)
    assert reply.complete
    assert reply.text in {"", "".join(WORDS)}


@pytest.mark.parametrize("limit", ["timeout", "first_chunk_timeout", "stall_timeout"])
@pytest.mark.parametrize("phase", ["headers", "tokens", "tokens through the library", "back-off"])
def test_limits_hold(limit: str, phase: str, server: LocalServer, agent: Agent) -> None:
    """There is no thread that ends reads at their deadlines."""
    server.add({
        "headers": Answer(before_headers=[Stall()]),
        "tokens": Answer(Stall()),
        "tokens through the library": Answer(Stall(), framing="close"),
        "back-off": Answer.error(503, "later", headers={"Retry-After": "50"}),
    }[phase])  # fmt: skip
    limits: dict[str, Any] = {limit: 1.0}
    with no_threads():
        stream = agent.run_stream("go", **limits)
        with pytest.raises(StreamTimeout, match=limit):
            stream.next()
    assert stream.timing.total < SOON_SECONDS
    assert agent.run("sentinel").complete


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_chunks_come_as_they_arrive(framing: Any, server: LocalServer, agent: Agent) -> None:
    """The reader gets what came before a stall, and its limit ends the stall; whether or not the library reads."""
    server.add(Answer("a", "b", Stall(), framing=framing))
    with no_threads():
        stream = agent.run_stream("go", first_chunk_timeout=LIMIT_SECONDS, stall_timeout=1.0)
        assert [next(stream).text for _ in range(2)] == ["a", "b"]
        with pytest.raises(StreamTimeout, match="stall_timeout"):
            stream.next()
    assert stream.timing.total < SOON_SECONDS
    assert agent.run("sentinel").complete


@pytest.mark.parametrize("way", ["cancel", "close", "drop"])
def test_connection_of_a_cancelled_stream_is_released_later(way: str, server: LocalServer, agent: Agent) -> None:
    """It is closed at once for the server, and given back to the pool when there are threads again."""
    server.default = Answer("a", Stall())
    streams = [agent.run_stream("go") for _ in range(5)]
    for stream in streams:
        assert next(stream).text == "a"
    with no_threads():
        for stream in streams if way != "drop" else ():
            getattr(stream, way)()
            assert stream.state is StreamState.CANCELLED
        del stream, streams
    for request in server.requests[1:]:
        assert request.left.wait(LIMIT_SECONDS)
    server.default = "ok"
    assert agent.run("next").complete
    adapter = agent._holder()._adapters[0]
    assert adapter is not None
    wait_until(lambda: adapter._open_streams == 0)
    pool = adapter._client._client._transport._pool  # type: ignore[attr-defined]
    wait_until(lambda: all(connection.is_idle() or connection.is_closed() for connection in pool.connections))


def test_status_is_the_official_clients(server: LocalServer, agent: Agent) -> None:
    """An error status is raised where it always is."""
    server.add(Answer.error(400, "no"))
    with no_threads():
        stream = agent.run_stream("go")
        with pytest.raises(openai.BadRequestError):
            stream.next()


@pytest.mark.parametrize("name", ["blades-open", "blades-tool-tool", *OF_THE_FAST_PATH])
def test_an_exception_of_a_signal_handler_is_no_lack_of_threads(
    name: str, server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It arrives as it is, also a RuntimeError, which is what the interpreter raises if it starts no thread."""
    wait_until(lambda: not deadline_timer._running)
    start, start_detached = threading.Thread.start, _thread.start_new_thread
    errors = [RuntimeError("soft limit")]

    def tool() -> None:
        """Do nothing."""

    def interrupted_start(thread: threading.Thread) -> None:
        if thread.name == name and errors:
            raise errors.pop()
        start(thread)

    def interrupted_detached(function: Any, arguments: Any) -> None:
        if errors:
            raise errors.pop()
        start_detached(function, arguments)

    with monkeypatch.context() as patch:
        if name == "detached":
            patch.setattr(_thread, "start_new_thread", interrupted_detached)
        else:
            patch.setattr(threading.Thread, "start", interrupted_start)
        server.add(Answer(tool_calls=[("tool", {})]))
        with pytest.raises(RuntimeError, match="soft limit"):
            agent.run("go", tools=[tool])
    assert agent.run("again").complete


def test_nor_is_one_that_the_threading_module_replaces(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised while `threading` waits for a lock, it can leave that lock released: the module then complains of it."""

    def interrupted(_: threading.Thread) -> None:
        try:
            raise SystemError("soft limit")
        finally:
            raise RuntimeError("release unlocked lock")

    start = FunctionType(interrupted.__code__, {**vars(builtins), "__name__": "threading"})
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        try:
            raise KeyError
        except KeyError:  # the caller handles an exception of its own
            with pytest.raises(SystemError, match="soft limit"):
                agent.run_stream("go")
    assert agent.run("again").complete
