"""Cancel events of the caller's, and the thread that polls them."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading

import pytest

from blades import Agent, StreamState
from blades.testing import Answer, LocalServer, Stall
from cancel.scenes import (
    LIMIT_SECONDS,
    InThread,
    wait_until,
)


class TestEvents:
    """Foreign events and the thread that watches them."""

    def test_one_thread_while_it_is_needed(self, server: LocalServer, agent: Agent) -> None:
        """It starts with the first foreign event, serves all, and ends with the last; cancel() needs none."""
        server.default = Answer("a", Stall())
        kept = agent.run_stream("go")
        next(kept)
        assert watchers() == 0
        event = threading.Event()
        streams = [agent.run_stream("go", cancel=event) for _ in range(5)]
        for stream in streams:
            next(stream)
        assert watchers() == 1
        event.set()
        wait_until(lambda: {stream.state for stream in streams} == {StreamState.CANCELLED})
        wait_until(lambda: watchers() == 0)
        assert kept.state is StreamState.STREAMING
        again = threading.Event()
        stream = agent.run_stream("go", cancel=again)
        next(stream)
        again.set()
        assert not stream.next()
        kept.cancel()

    @pytest.mark.parametrize("error", [BrokenPipeError, asyncio.CancelledError])
    def test_an_event_that_raises_counts_as_set(
        self, error: type[BaseException], server: LocalServer, agent: Agent
    ) -> None:
        """Nobody could stop such a stream any more; the others are still watched."""

        class Broken:
            asked = 0

            def is_set(self) -> bool:
                self.asked += 1
                if self.asked > 4:
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

    def test_an_event_that_blocks_holds_up_its_own_stream_alone(
        self, server: LocalServer, agent: Agent, in_thread: InThread
    ) -> None:
        """Streams with a threading.Event are cancelled on time beside it."""
        gate, blocked = threading.Event(), threading.Event()

        class Blocking:
            def is_set(self) -> bool:
                if threading.current_thread().name == "blades-watcher":
                    blocked.set()
                    gate.wait(30)
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
        wait_until(lambda: watchers() == 0)

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_no_thread_to_be_had(
        self, error: type[BaseException], server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The call says so; the next one works. So it does when Ctrl-C came at that moment."""

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


def watchers() -> int:
    return sum(thread.name == "blades-watcher" for thread in threading.enumerate())
