"""The life of one call: where it is, why it ended, who is notified.

::

    OPENING ──> STREAMING ──> FINISHED | CANCELLED | FAILED
       └───────────────────────^

A step that `_TRANSITIONS` does not have is refused: the second of two endings learns that the call has already ended.
Terminal states stay.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Final, final

from blades._clock import monotonic
from blades._transport.threads import run_detached, track_fork
from blades._values import StreamState, Timing

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("blades")

_TERMINAL: Final = frozenset({StreamState.FINISHED, StreamState.CANCELLED, StreamState.FAILED})
_TRANSITIONS: Final = {
    StreamState.OPENING: _TERMINAL | {StreamState.STREAMING},
    StreamState.STREAMING: _TERMINAL,
    **dict.fromkeys(_TERMINAL, frozenset[StreamState]()),
}


@final
class CallState:
    """The state of one call. Call every method from any thread or signal handler.

    `_lock` guards `value`, `active`, `failure` and `ended_at`: they change together, in `transition`. It is re-entrant,
    because a signal handler may cancel while its own thread is inside.

    Args:
        freeze: Called once when the call ends, before `transition` returns: nothing may be added to the answer any
            more. It must return at once, and may be called by a signal handler.
    """

    __slots__ = (
        "__weakref__",
        "_cleanups",
        "_freeze",
        "_lock",
        "_on_end",
        "active",
        "ended_at",
        "failure",
        "first_content_at",
        "last_content_at",
        "request_id",
        "sent_at",
        "started_at",
        "value",
    )

    def __init__(self, freeze: Callable[[], None]) -> None:
        self.value: StreamState = StreamState.OPENING
        self.active: bool = True  # the state is not terminal; a plain attribute, because it is read at each chunk
        self.failure: BaseException | None = None
        self.request_id: str | None = None
        self.started_at: float = monotonic()
        self.sent_at: float | None = None
        self.first_content_at: float | None = None
        self.last_content_at: float | None = None
        self.ended_at: float | None = None
        self._lock = threading.RLock()
        self._freeze = freeze
        self._on_end: Callable[[], None] | None = None
        self._cleanups: list[Callable[[], object]] = []
        track_fork(self)

    def transition(
        self, to: StreamState, *, failure: BaseException | None = None, notify_in_thread: bool = False
    ) -> bool:
        """Go to a state; return False if the call is not in a state from which that is possible.

        Listeners run in a new thread after a cancel, and where `notify_in_thread` says so: the caller may be a signal
        handler or ``__del__`` that interrupted code holding the listeners' locks.
        """
        terminal = to in _TERMINAL
        with self._lock:
            before = self.value
            # Looking up an Enum key runs Enum.__hash__, Python code, in which a signal handler may cancel: compare the
            # state again. No call happens between that and the assignments.
            if to not in _TRANSITIONS[before] or self.value is not before:
                return False
            self.value, self.active, self.failure = to, not terminal, failure
            if terminal:
                self.ended_at = monotonic()
        if terminal:
            self.settle()
        if self._on_end is not None or logger.isEnabledFor(logging.DEBUG):
            notify = partial(self._notify, before, to)
            run_detached(notify) if notify_in_thread or to is StreamState.CANCELLED else notify()
        return True

    def settle(self) -> None:
        """Freeze the answer of a call that has ended, and clean up. Idempotent.

        Whoever cancels a call that another thread is ending at this moment must not return before the answer is frozen.
        """
        self._freeze()
        cleanups, self._cleanups = self._cleanups, []  # which refer to this object in turn
        for cleanup in cleanups:
            cleanup()

    def on_end(self, listener: Callable[[], None]) -> None:
        """Have a listener called once, after the call has ended. Only before the request is sent."""
        self._on_end = listener

    def add_cleanup(self, cleanup: Callable[[], object]) -> None:
        """Have something called at the end, in whichever thread ends the call: at once, without taking a lock."""
        self._cleanups.append(cleanup)

    def response_started(self, request_id: str | None) -> None:
        """Note what the headers said."""
        self.request_id = request_id

    def request_sent(self) -> None:
        """Note that the request is leaving this process; the first one counts."""
        if self.sent_at is None:
            self.sent_at = monotonic()

    def content_arrived(self, at: float) -> None:
        """Note the time of a chunk, on the clock of `monotonic`."""
        self.last_content_at = at
        if self.first_content_at is None:
            self.first_content_at = at

    def timing(self, chunks: int, sent_at: float | None) -> Timing:
        """Return the times so far, in seconds from the start.

        Args:
            chunks: How many chunks were returned.
            sent_at: When the first request left this process.
        """
        return Timing(
            first_chunk=self._since_start(self.first_content_at),
            total=(self.ended_at or monotonic()) - self.started_at,
            chunks=chunks,
            sent=self._since_start(sent_at),
            last_chunk=self._since_start(self.last_content_at),
        )

    def abandon_after_fork(self) -> None:
        """End the copy that a forked child has: the connection belongs to the parent, and so do held locks."""
        self._lock = threading.RLock()
        if self.active:
            self.failure = RuntimeError(
                "This stream belongs to the process that started it, from which this one was forked: read it there, or "
                "start a stream here."
            )
            self.value, self.active = StreamState.FAILED, False

    def _since_start(self, at: float | None) -> float | None:
        return None if at is None else at - self.started_at

    def _notify(self, before: StreamState, after: StreamState) -> None:
        logger.debug("stream %x: %s -> %s, request id %s", id(self), before.value, after.value, self.request_id)
        if after in _TERMINAL:
            listener, self._on_end = self._on_end, None
            if listener is not None:
                listener()
