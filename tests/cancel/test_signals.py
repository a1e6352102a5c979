"""A cancel from a signal handler, and one that a signal handler interrupts."""

from __future__ import annotations

import logging
import queue
import signal
from typing import Any

import pytest

from blades import Agent, Stream, StreamState
from blades._transport import cancel as cancelling
from blades.testing import Answer, LocalServer, Stall
from cancel.scenes import (
    FINISH,
    LIMIT_SECONDS,
    InThread,
)


class TestSignals:
    """A cancel may come between any two statements."""

    def test_a_signal_handler_that_cancels(self, server: LocalServer, agent: Agent) -> None:
        """It fires again and again in the thread that reads, wherever that is; nothing hangs, and states are true."""
        server.default = "one two three four five six seven eight nine ten"
        current: list[Stream] = []
        states = set()

        def handler(number: int, frame: object) -> None:
            for stream in current:
                stream.cancel()

        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.003, 0.0017)
        try:
            for _ in range(300):
                stream = agent.run_stream("go")
                current[:] = [stream]
                text = "".join(chunk.text for chunk in stream)
                assert stream.text == text
                assert (stream.state is StreamState.CANCELLED) == stream.cancel_event.is_set()
                states.add(stream.state)
                current.clear()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert StreamState.CANCELLED in states
        assert states <= {StreamState.CANCELLED, StreamState.FINISHED}
        assert agent.run("sentinel").complete

    def test_a_handler_inside_the_table(self) -> None:
        """A cancel that comes while another step is being looked up wins; the step does not happen."""
        scope = cancelling.Scope()

        class Table(dict[StreamState, frozenset[StreamState]]):
            def __getitem__(self, key: StreamState) -> frozenset[StreamState]:
                found = super().__getitem__(key)
                if key is StreamState.OPENING and scope.live and not entered:
                    entered.append(key)
                    scope.cancel()
                return found

        entered: list[StreamState] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cancelling, "_NEXT", Table(cancelling._NEXT))
            assert not scope.move(StreamState.STREAMING)
        assert (scope.state, scope.live) == (StreamState.CANCELLED, False)

    def test_a_handler_inside_the_events_own_lock(self, in_thread: InThread) -> None:
        """A cancel from a handler that has interrupted the same thread inside cancel_event.set() does not wait."""
        scope = cancelling.Scope()
        event = scope.event
        assert isinstance(event, cancelling.CancelEvent)

        def interrupted() -> None:
            with event._cond:
                scope.cancel()

        in_thread(interrupted).join(LIMIT_SECONDS)
        assert event.is_set()
        assert event.wait(0)

    def test_a_cancel_that_was_broken_off_is_completed_by_the_next(
        self, server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C may come in the midst of cancel()."""
        server.add(Answer("a", Stall()))
        stream = agent.run_stream("go")
        next(stream)
        with monkeypatch.context() as patch:
            patch.setattr(cancelling, "shutdown", raise_interrupt)
            with pytest.raises(KeyboardInterrupt):
                stream.cancel()
        stream.close()
        assert server.wait_for_request().left.wait(LIMIT_SECONDS)
        assert stream.cancel_event.is_set()

    @pytest.mark.parametrize("way", ["cancel", "close", "close when finished"])
    def test_a_handler_that_logs(self, way: str, server: LocalServer, agent: Agent, in_thread: InThread) -> None:
        """Ending a stream never waits for a logging handler, whose lock the interrupted thread may hold."""
        held = queue.Queue[Any]()

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                held.put(record)

        server.add(Answer("a", *([FINISH] if "finished" in way else []), Stall()))
        stream = agent.run_stream("go")
        while not (stream.finish_reason if "finished" in way else stream.text):
            next(stream)
        handler = Handler()
        cancelling.logger.addHandler(handler)
        level = cancelling.logger.level
        cancelling.logger.setLevel(logging.DEBUG)
        try:
            with held.mutex:
                in_thread(stream.cancel if way == "cancel" else stream.close).join(LIMIT_SECONDS)
                assert stream.state is (StreamState.FINISHED if "finished" in way else StreamState.CANCELLED)
                assert server.wait_for_request().left.wait(LIMIT_SECONDS)
            assert f"-> {stream.state.value}" in held.get(timeout=LIMIT_SECONDS).getMessage()
        finally:
            cancelling.logger.removeHandler(handler)
            cancelling.logger.setLevel(level)


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt
