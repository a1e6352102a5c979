"""Cancel events of the caller's, and the thread that polls them."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from typing import TYPE_CHECKING

import pytest

from blades import Agent, StreamState
from blades.testing import Answer, LocalServer, Stall
from cancel.internals import POLLER_THREAD, count_pollers
from limits import LIMIT_SECONDS, WRONG_PATH_SECONDS, wait_until

if TYPE_CHECKING:
    from cancel.scenes import InThread


def test_one_poller_for_all_events(server: LocalServer, agent: Agent) -> None:
    """The poller starts with the first event, polls all of them, and ends with the last; cancel() needs none."""
    server.default = Answer("a", Stall())
    kept = agent.run_stream("go")
    next(kept)
    assert count_pollers() == 0
    event = threading.Event()
    streams = [agent.run_stream("go", cancel=event) for _ in range(5)]
    for stream in streams:
        next(stream)
    assert count_pollers() == 1
    event.set()
    wait_until(lambda: {stream.state for stream in streams} == {StreamState.CANCELLED})
    wait_until(lambda: count_pollers() == 0)
    assert kept.state is StreamState.STREAMING
    again = threading.Event()
    stream = agent.run_stream("go", cancel=again)
    next(stream)
    again.set()
    assert not stream.next()
    kept.cancel()


@pytest.mark.parametrize("error", [BrokenPipeError, asyncio.CancelledError])
def test_event_that_raises_counts_as_set(error: type[BaseException], server: LocalServer, agent: Agent) -> None:
    """Otherwise nobody could cancel such a stream; the other events are still polled."""

    class Broken:
        polls = 0

        def is_set(self) -> bool:
            self.polls += 1
            if self.polls > 4:
                raise error
            return False

    server.default = Answer("a", Stall())
    event = multiprocessing.Event()
    other = agent.run_stream("go", cancel=event)
    next(other)
    stream = agent.run_stream("go", cancel=Broken())
    stream.reply()
    assert stream.state is StreamState.CANCELLED
    event.set()
    assert not other.next()


def test_blocking_event_delays_its_own_stream_only(server: LocalServer, agent: Agent, in_thread: InThread) -> None:
    """Streams with a threading.Event are cancelled on time beside it."""
    gate, blocked = threading.Event(), threading.Event()

    class Blocking:
        def is_set(self) -> bool:
            if threading.current_thread().name == POLLER_THREAD:
                blocked.set()
                gate.wait(WRONG_PATH_SECONDS)
            return False

    server.default = Answer("a", Stall())
    other = agent.run_stream("go", cancel=Blocking())
    assert blocked.wait(LIMIT_SECONDS)
    event = threading.Event()
    stream = agent.run_stream("go", cancel=event)
    next(stream)
    reader = in_thread(stream.reply)
    event.set()
    reader.join(LIMIT_SECONDS)
    assert stream.state is StreamState.CANCELLED
    gate.set()
    other.cancel()
    wait_until(lambda: count_pollers() == 0)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_watcher_thread_cannot_start(
    error: type[BaseException], server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call raises the error, Ctrl-C at that moment included; the next call works."""

    def refuse(_: object) -> None:
        raise error("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(error, match="can't start"):
            agent.run_stream("go", cancel=threading.Event())
    event = threading.Event()
    server.add(Answer("a", Stall()))
    stream = agent.run_stream("go", cancel=event)
    next(stream)
    event.set()
    assert not stream.next()
