"""Everything that the tests of this folder know of the inside of `blades._transport`: the one place to adapt."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from blades._transport import cancel as cancelling
from blades._transport import client as official
from blades._transport import events
from blades._values import ResponseInfo, StreamState

if TYPE_CHECKING:
    import contextlib
    import logging

    import pytest

LOGGER: Final[logging.Logger] = cancelling.logger
POLLER_THREAD: Final = "blades-watcher"


def make_scope() -> cancelling.Scope:
    """Make the scope of a call that has sent nothing yet."""
    return cancelling.Scope()


def lock_of(event: object) -> contextlib.AbstractContextManager[object]:
    """Return the lock inside a stream's own cancel event."""
    assert isinstance(event, cancelling.CancelEvent)
    return event._cond


def count_pollers() -> int:
    """Count the threads that poll cancel events."""
    return sum(thread.name == POLLER_THREAD for thread in threading.enumerate())


def make_poller() -> object:
    """Make the object that polls cancel events."""
    return events.Watcher()


def stream_while_cancelling(patch: pytest.MonkeyPatch, scope: cancelling.Scope) -> bool:
    """Step to STREAMING, with a cancel while the transition is looked up, and return whether the step was taken."""
    entered: list[StreamState] = []

    class Table(dict[StreamState, frozenset[StreamState]]):
        def __getitem__(self, key: StreamState) -> frozenset[StreamState]:
            found = super().__getitem__(key)
            if key is StreamState.OPENING and scope.live and not entered:
                entered.append(key)
                scope.cancel()
            return found

    patch.setattr(cancelling, "_NEXT", Table(cancelling._NEXT))
    return scope.move(StreamState.STREAMING)


def interrupt_shutdown(patch: pytest.MonkeyPatch) -> None:
    """Raise `KeyboardInterrupt` where a cancel shuts a socket down."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    patch.setattr(cancelling, "shutdown", interrupt)


def let_shutdown_wake_nobody(patch: pytest.MonkeyPatch) -> None:
    """Behave as on Windows, where shutting a socket down wakes no thread that reads from it."""
    patch.setattr(official, "SHUTDOWN_WAKES", False)
    patch.setattr(cancelling, "LONGEST_WAIT_SECONDS", 0.01)


class Pieces:  # the methods are those of `blades._transport.client.OpenResponse`
    """A response that is cancelled during its third piece."""

    def __init__(self, scope: cancelling.Scope) -> None:
        self.scope = scope
        self.head = ResponseInfo(status=200, content_type="text/event-stream", base_url="", request_id=None)
        self.read_count = 0
        self.closed = False

    def read(self, deadline: float | None) -> bytes:
        """Count the pieces."""
        self.read_count += 1
        if self.read_count == 3:
            assert self.scope.response is not None
            self.scope.response.close()
        return b"piece"

    def release(self) -> None:
        """Note that the response was closed."""
        self.closed = True


def read_ahead() -> Pieces:
    """Read `Pieces` ahead until the end, and return them."""
    scope = make_scope()
    response = Pieces(scope)
    official.PumpedResponse(response, scope).pump()  # type: ignore[arg-type]
    return response
