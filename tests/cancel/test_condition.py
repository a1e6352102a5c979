"""An exception of a signal handler's at the moment when the main thread has taken, or returns, a condition's lock."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from blades._transport.cancel import CancelEvent
from blades._transport.condition import Condition
from blades._transport.deadlines import DeadlineTimer
from blades._transport.events import StopEvent
from cancel.internals import make_scope
from limits import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class SoftLimitError(Exception):
    """As task queues raise it."""


class Never:
    """Something without a deadline."""

    def expire(self, now: float) -> float:
        """Return that there is no deadline."""
        return now + LIMIT_SECONDS


def use_stop_event() -> Callable[[], object]:
    """Return what sets the event of the tools."""
    return StopEvent().set


def use_cancel_event() -> Callable[[], object]:
    """Return what sets a stream's own event."""
    return CancelEvent(make_scope()).set


def use_timer() -> Callable[[], object]:
    """Return what adds a deadline."""
    timer, item = DeadlineTimer(), Never()
    timer.add(item)
    return lambda: timer.add(item)


def use_condition() -> Callable[[], object]:
    """Return what notifies."""
    condition = Condition()

    def notify() -> None:
        with condition:
            condition.notify()

    return notify


@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage traces this thread itself")
@pytest.mark.parametrize("event", ["call", "return"])
@pytest.mark.parametrize("method", ["__enter__", "__exit__"])
@pytest.mark.parametrize("use", [use_stop_event, use_cancel_event, use_timer, use_condition])
def test_no_exception_leaves_the_lock_held(use: Callable[[], Callable[[], object]], method: str, event: str) -> None:
    """Another thread can take it afterwards: with a lock left held, all further streams would stand still."""
    work = use()

    def trace(frame: FrameType, what: str, argument: object) -> Any:
        if frame.f_globals["__name__"] == "threading" and frame.f_code.co_name == method and what == event:
            sys.settrace(None)
            raise SoftLimitError
        return trace

    sys.settrace(trace)
    with suppress(SoftLimitError):
        work()
    sys.settrace(None)
    other = threading.Thread(target=work, daemon=True)
    other.start()
    other.join(LIMIT_SECONDS)
    assert not other.is_alive()
