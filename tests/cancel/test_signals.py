"""A cancel from a signal handler, and one that a signal handler interrupts."""

from __future__ import annotations

import logging
import queue
import signal
from typing import Any

import pytest

from blades import Agent, Stream, StreamState
from blades.testing import Answer, LocalServer, Stall
from cancel.internals import LOGGER, interrupt_shutdown, lock_of, make_scope, stream_while_cancelling
from cancel.scenes import FINISH, InThread
from limits import LIMIT_SECONDS


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")
def test_signal_handler_that_cancels(server: LocalServer, agent: Agent) -> None:
    """The handler interrupts the reading thread everywhere; nothing hangs, and every state is right."""
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


def test_cancel_during_a_transition() -> None:
    """A cancel while another transition is looked up wins; that transition is not taken."""
    scope = make_scope()
    with pytest.MonkeyPatch.context() as patch:
        assert not stream_while_cancelling(patch, scope)
    assert (scope.state.value, scope.state.active) == (StreamState.CANCELLED, False)


def test_cancel_inside_the_lock_of_the_event(in_thread: InThread) -> None:
    """A cancel does not wait in a handler that has interrupted its thread inside cancel_event.set()."""
    scope = make_scope()
    event = scope.event()

    def interrupted() -> None:
        with lock_of(event):
            scope.cancel()

    in_thread(interrupted).join(LIMIT_SECONDS)
    assert event.is_set()


def test_interrupted_cancel_is_completed_by_the_next(
    server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may interrupt cancel()."""
    server.add(Answer("a", Stall()))
    stream = agent.run_stream("go")
    next(stream)
    with monkeypatch.context() as patch:
        interrupt_shutdown(patch)
        with pytest.raises(KeyboardInterrupt):
            stream.cancel()
    stream.close()
    assert server.wait_for_request().left.wait(LIMIT_SECONDS)
    assert stream.cancel_event.is_set()


@pytest.mark.parametrize("way", ["cancel", "close", "close when finished"])
def test_cancel_inside_a_logging_handler(way: str, server: LocalServer, agent: Agent, in_thread: InThread) -> None:
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
    LOGGER.addHandler(handler)
    level = LOGGER.level
    LOGGER.setLevel(logging.DEBUG)
    try:
        with held.mutex:
            in_thread(stream.cancel if way == "cancel" else stream.close).join(LIMIT_SECONDS)
            assert stream.state is (StreamState.FINISHED if "finished" in way else StreamState.CANCELLED)
            assert server.wait_for_request().left.wait(LIMIT_SECONDS)
        assert f"-> {stream.state.value}" in held.get(timeout=LIMIT_SECONDS).getMessage()
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
