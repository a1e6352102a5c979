"""An exception of a signal handler's at every step of a stream: Ctrl-C, a task queue's time limit."""

from __future__ import annotations

import _thread
import dis
import sys
import threading
from typing import TYPE_CHECKING, Any, final

import pytest

from blades import Agent, Stream, StreamState
from blades._transport.threads import start_thread
from blades.testing import Answer, LocalServer
from cancel.scenes import are_back, resources
from limits import wait_until

if TYPE_CHECKING:
    from types import CodeType, FrameType

# After these instructions CPython runs signal handlers. No test can stop it at others.
CHECKED = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD", "RESUME"}
# But not between a call that fails and the except clause: raised there, the interpreter keeps the handled exception.
FAILED = "PUSH_EXC_INFO"


class SoftLimitError(Exception):
    """As task queues raise it."""


ERRORS = (KeyboardInterrupt, SoftLimitError, TimeoutError, OSError, RuntimeError)


@final
class Interrupter:
    """Raises an exception in this thread, at one of the steps where a signal handler could raise it.

    Args:
        at: The step.
        error: What to raise.
        package: Whose steps count.
    """

    def __init__(self, at: int, error: BaseException, package: str = "blades") -> None:
        self.steps = 0
        self._package = package
        self._at = at
        self._errors = [error]  # not kept once raised: its traceback refers to this object
        self._names: dict[CodeType, dict[int, str]] = {}
        self._before: dict[FrameType, str | None] = {}

    def __enter__(self) -> None:
        sys._getframe().f_trace_opcodes = True  # CPython 3.12 looks for such a frame once, in settrace()
        sys.settrace(self._enter)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        self._before.clear()

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = str(frame.f_globals.get("__name__"))
        if name.partition(".")[0] != self._package or name.startswith("blades.testing"):
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return":
            self._before.pop(frame, None)
        elif event == "opcode":
            names = self._names.get(frame.f_code)
            if names is None:
                names = {found.offset: found.opname for found in dis.get_instructions(frame.f_code)}
                self._names[frame.f_code] = names
            before, name = self._before.get(frame), names.get(frame.f_lasti)
            self._before[frame] = name
            checked = before in CHECKED and name != FAILED
            self.steps += checked
            if checked and self.steps == self._at:
                sys.settrace(None)
                raise self._errors.pop()
        return self._step


def drain(stream: Stream) -> None:
    for _ in stream:
        pass


def read_stepwise(stream: Stream) -> None:
    while stream.next():
        stream.current()


@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage traces this thread itself")
@pytest.mark.parametrize(
    ("read", "framing", "stride"),
    [(drain, "chunked", 1), (read_stepwise, "chunked", 3), (Stream.reply, "length", 3)],
    ids=["for", "next", "reply, read ahead"],
)
def test_exception_at_any_step_arrives_and_releases_all(
    read: Any, framing: Any, stride: int, server: LocalServer, agent: Agent
) -> None:
    """It arrives as it is; the stream has ended; no connection is left taken, no thread and no descriptor."""
    server.default = Answer("one ", "two", framing=framing)
    assert agent.run("warm").complete
    before = resources()
    at, steps = 1, 1
    while at <= steps:
        error = ERRORS[at % len(ERRORS)]("soft limit")
        stream = agent.run_stream("go", cancel=threading.Event() if at % 2 else None)
        next(stream)
        interrupter = Interrupter(at, error)
        caught: BaseException | None = None
        try:
            with interrupter:
                read(stream)
        except BaseException as raised:  # it is looked at below
            caught = raised
        if interrupter.steps >= at:
            assert caught is error
            assert stream.state in {StreamState.CANCELLED, StreamState.FINISHED}
            steps = at + stride
        del stream, caught, error
        at += stride
    assert steps > 100
    assert sys.exception() is None  # the steps were ones that the interpreter allows
    assert agent.run("sentinel").complete
    adapter = agent._holder()._adapters[0]
    assert adapter is not None
    wait_until(lambda: adapter._open_streams == 0)
    agent.close()
    wait_until(lambda: are_back(before))


@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage traces this thread itself")
# A thread whose start was broken off stumbles over that when it runs, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_exception_at_any_step_of_starting_a_thread_arrives() -> None:
    """`threading.Thread.start` puts exceptions of its own in the place of some."""
    before, at, steps = _thread._count(), 1, 1
    while at <= steps:
        error = ERRORS[at % len(ERRORS)]("soft limit")
        interrupter = Interrupter(at, error, "threading")
        caught: BaseException | None = None
        try:
            with interrupter:
                assert start_thread(threading.Event().set, "test")
        except BaseException as raised:  # it is looked at below
            caught = raised
        if interrupter.steps >= at:
            assert caught is error
            steps = at + 1
        del caught, error
        at += 1
    assert steps > 10
    wait_until(lambda: _thread._count() <= before)  # what they say must not be taken for the next test's
