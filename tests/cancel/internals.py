"""Everything that the tests of this folder know of the inside of `blades._transport`: the one place to adapt."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from blades._transport import cancel as cancelling
from blades._transport import client as official
from blades._transport import events
from blades._transport import state as life
from blades._values import StreamState

if TYPE_CHECKING:
    import contextlib
    import logging

    import pytest

LOGGER: Final[logging.Logger] = life.logger
POLLER_THREAD: Final = "blades-poller"
WAITER_THREAD: Final = "blades-event"


def make_scope() -> cancelling.CancelScope:
    """Make the scope of a call that has sent nothing yet."""
    return cancelling.CancelScope(life.CallState(lambda: None))


def lock_of(event: object) -> contextlib.AbstractContextManager[object]:
    """Return the lock inside a stream's own cancel event."""
    assert isinstance(event, cancelling.CancelEvent)
    return event._cond


def count_threads(name: str) -> int:
    """Count the threads of a name."""
    return sum(thread.name == name for thread in threading.enumerate())


def limit_waiters(patch: pytest.MonkeyPatch, most: int) -> None:
    """Have at most so many threads that wait for an event each."""
    patch.setattr(events, "MAX_WAITERS", most)


def stream_while_cancelling(patch: pytest.MonkeyPatch, scope: cancelling.CancelScope) -> bool:
    """Step to STREAMING, with a cancel while the transition is looked up, and return whether the step was taken."""
    entered: list[StreamState] = []

    class Table(dict[StreamState, frozenset[StreamState]]):
        def __getitem__(self, key: StreamState) -> frozenset[StreamState]:
            found = super().__getitem__(key)
            if key is StreamState.OPENING and scope.state.active and not entered:
                entered.append(key)
                scope.cancel()
            return found

    patch.setattr(life, "_TRANSITIONS", Table(life._TRANSITIONS))
    return scope.state.transition(StreamState.STREAMING)


def interrupt_shutdown(patch: pytest.MonkeyPatch) -> None:
    """Raise `KeyboardInterrupt` where a cancel shuts a socket down."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    patch.setattr(cancelling, "shut_down", interrupt)


def let_shutdown_wake_nobody(patch: pytest.MonkeyPatch) -> None:
    """Behave as on Windows, where shutting a socket down wakes no thread that reads from it."""
    patch.setattr(official, "SHUTDOWN_WAKES", False)
    patch.setattr(cancelling, "LONGEST_WAIT_SECONDS", 0.01)
