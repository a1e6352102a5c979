"""An exception that the caller's signal handler raises while a stream waits for the server."""

from __future__ import annotations

import io
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from blades import Agent, Stream, StreamState
from blades.testing import Answer, LocalServer, Stall
from limits import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")


class SoftLimitError(RuntimeError):
    """As task queues raise it, of a class that the library raises, too."""


@pytest.fixture
def alarm() -> Iterator[Callable[[BaseException], None]]:
    """Raise an exception from a signal handler, in the main thread, in 0.3 seconds."""
    before = signal.getsignal(signal.SIGALRM)

    def set_alarm(error: BaseException) -> None:
        def handle(*_: object) -> None:
            raise error

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.3)

    yield set_alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("error", [SoftLimitError(), TimeoutError("soft limit"), OSError("soft limit")], ids=repr)
@pytest.mark.parametrize(
    "present",
    [
        pytest.param(list, id="for"),
        pytest.param(Stream.next, id="next"),
        pytest.param(next, id="built-in next"),
        pytest.param(Stream.reply, id="reply"),
        pytest.param(lambda stream: list(stream.lines()), id="lines"),
        pytest.param(lambda stream: list(stream.words()), id="words"),
        pytest.param(lambda stream: list(stream.sentences()), id="sentences"),
        pytest.param(lambda stream: stream.print(io.StringIO()), id="print"),
    ],
)
def test_it_arrives_as_it_is(
    server: LocalServer,
    agent: Agent,
    alarm: Callable[[BaseException], None],
    present: Callable[[Stream], object],
    error: Exception,
) -> None:
    """The stream is cancelled, and the server notices."""
    server.add(Answer("Yes.\nNo", Stall()))
    stream = agent.run_stream("go")
    assert stream.next()
    alarm(error)
    with pytest.raises(type(error)) as caught:
        present(stream)
    assert caught.value is error
    assert stream.state is StreamState.CANCELLED
    assert server.requests[0].left.wait(LIMIT_SECONDS)


FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


@pytest.mark.parametrize("error", [SoftLimitError(), TimeoutError("soft limit"), OSError("soft limit")], ids=repr)
@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("stall_timeout", [300.0, None], ids=["limit", "no limit"])
@pytest.mark.parametrize("phase", ["headers", "tokens", "rest"])
def test_in_each_phase(  # parameters and fixtures
    phase: str,
    framing: Any,
    stall_timeout: float | None,
    error: Exception,
    server: LocalServer,
    agent: Agent,
    alarm: Callable[[BaseException], None],
) -> None:
    """Before the headers, between two tokens, and while the rest of an answer is awaited that is complete already."""
    steps: list[Any] = {"headers": [], "tokens": ["a", Stall()], "rest": ["a", FINISH, Stall()]}[phase]
    server.add(Answer(*steps, before_headers=[] if steps else [Stall()], done=False, framing=framing))
    stream = agent.run_stream("go", stall_timeout=stall_timeout)
    for _ in steps[:-1]:
        next(stream)
    server.wait_for_request()
    alarm(error)
    with pytest.raises(type(error)) as caught:
        stream.reply()
    assert caught.value is error
    assert stream.state in {StreamState.CANCELLED, StreamState.FINISHED}
    assert server.requests[0].left.wait(LIMIT_SECONDS)


def test_in_a_chat(server: LocalServer, agent: Agent, alarm: Callable[[BaseException], None]) -> None:
    """The turn has ended, and the next one can begin."""
    server.add(Answer("a", Stall()), "b")
    chat = agent.chat()
    alarm(SoftLimitError())
    with pytest.raises(SoftLimitError):
        chat.run("go")
    assert chat.run("again").text == "b"


def test_in_the_event_of_the_caller(server: LocalServer, agent: Agent) -> None:
    """Ctrl-C while the stream looks at an event is not an answer of the event."""

    class Interrupted(threading.Event):
        def is_set(self) -> bool:
            if threading.current_thread() is threading.main_thread() and chunks:
                raise KeyboardInterrupt
            return False

    chunks: list[object] = []
    server.add(Answer("a", Stall()))
    stream = agent.run_stream("go", cancel=Interrupted())
    chunks.append(next(stream))
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert stream.state is StreamState.CANCELLED
