"""An exception that the caller's signal handler raises while a presenter waits for the server."""

from __future__ import annotations

import io
import signal
from typing import TYPE_CHECKING

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
