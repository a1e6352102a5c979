"""Cancel events of the caller's, and the thread that polls them."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from typing import TYPE_CHECKING

import pytest

from blades import Agent, StreamState
from blades.testing import Answer, LocalServer, Stall
from cancel.internals import POLLER_THREAD, WAITER_THREAD, count_threads, limit_waiters
from limits import LIMIT_SECONDS, WRONG_PATH_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cancel.scenes import InThread


class Polled:
    """An event of another kind than `threading.Event`: it can only be polled."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Set it."""
        self._event.set()

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._event.is_set()


@pytest.mark.parametrize(
    ("make_event", "name"), [(threading.Event, WAITER_THREAD), (Polled, POLLER_THREAD)], ids=["plain", "polled"]
)
def test_one_thread_for_all_streams_of_an_event(
    make_event: Callable[[], threading.Event], name: str, server: LocalServer, agent: Agent
) -> None:
    """The thread starts with the first stream, serves all, and ends after the last; cancel() needs none."""
    server.default = Answer("a", Stall())
    kept = agent.run_stream("go")
    next(kept)
    assert count_threads(name) == 0
    event = make_event()
    streams = [agent.run_stream("go", cancel=event) for _ in range(5)]
    for stream in streams:
        next(stream)
    assert count_threads(name) == 1
    event.set()
    wait_until(lambda: {stream.state for stream in streams} == {StreamState.CANCELLED})
    wait_until(lambda: count_threads(name) == 0)
    assert kept.state is StreamState.STREAMING
    again = make_event()
    stream = agent.run_stream("go", cancel=again)
    next(stream)
    again.set()
    assert not stream.next()
    kept.cancel()


def test_more_events_than_waiting_threads(server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events beyond the limit are polled; each cancels its own stream alone."""
    limit_waiters(monkeypatch, 2)
    server.default = Answer("a", Stall())
    stops = [threading.Event() for _ in range(4)]
    streams = [agent.run_stream("go", cancel=stop) for stop in stops]
    for stream in streams:
        next(stream)
    assert (count_threads(WAITER_THREAD), count_threads(POLLER_THREAD)) == (2, 1)
    for stop, stream in zip(stops, streams, strict=True):
        assert stream.state is StreamState.STREAMING
        stop.set()
        assert not stream.next()
    wait_until(lambda: (count_threads(WAITER_THREAD), count_threads(POLLER_THREAD)) == (0, 0))


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
    wait_until(lambda: count_threads(POLLER_THREAD) == 0)


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
