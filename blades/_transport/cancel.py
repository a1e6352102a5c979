"""Interrupting a request, whatever it is waiting for.

A `CancelScope` knows what a call is using at this moment: a socket, an open response, a thread that waits. The
platform's facts behind it:

- ``close()`` from another thread neither wakes a thread that is blocked in ``recv()`` nor informs the server;
  ``shutdown(SHUT_RDWR)`` does both at once, on plain and on TLS sockets; but see `SHUTDOWN_WAKES` of `_platform`.
- The number of a descriptor is used again as soon as it is closed. So only the thread that owns a connection closes
  it; all others only shut down, and only under the scope's lock, which the owner takes before it detaches a socket.
- A connection whose response is complete may already serve another stream. So a socket is attached from the first byte
  of the request to the end of the response, and not a moment longer.
- A signal handler, or ``__del__``, may run in a thread that is inside any of these methods: the lock is re-entrant,
  every method may be interrupted between any two statements and called again, and threads are woken through
  `queue.SimpleQueue`, whose ``put`` is documented to be re-entrant.
"""

from __future__ import annotations

import math
import socket
import threading
import weakref
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, final

from blades._clock import monotonic
from blades._platform import LONGEST_WAIT_SECONDS
from blades._transport.arrivals import WAITING, DeadlinePassed, Waiting
from blades._transport.condition import Condition
from blades._transport.deadlines import deadline_timer
from blades._transport.events import is_set, watcher_of
from blades._transport.threads import track_fork
from blades._values import StreamState

if TYPE_CHECKING:
    from blades._transport.arrivals import Arrival, Response
    from blades._transport.events import Event
    from blades._transport.state import CallState

POLL_RESOLUTION_SECONDS: Final = 0.001  # poll() counts in milliseconds
INLINE_OPENING_SECONDS: Final = 60.0  # the longest wait for headers where there is no thread but the reader's
DRAIN_SECONDS: Final = 5.0  # how long the end of a body is waited for in the background, to keep the connection


class RequestCancelled(BaseException):
    """Raised inside the official client to leave it. A BaseException, because it retries on any Exception."""


@final
class CancelEvent(threading.Event):
    """A stream's own event: setting it cancels at once, without anybody polling."""

    def __init__(self, scope: CancelScope) -> None:
        super().__init__()
        # Event's own lock is not re-entrant: a signal handler that cancels could find its own thread inside set().
        self._cond = Condition()
        self._scope = scope

    def set(self) -> None:
        """Set the event and cancel the stream."""
        super().set()
        self._scope.cancel()


@final
class CancelScope:
    """What one call is using, and the switch that takes it away. Call every method from any thread.

    `_lock` guards `_socket` and `_duplicate`: whoever shuts a socket down holds it, and so does whoever detaches one.

    Args:
        state: The life of the call.
        event: The caller's own event, whose setting cancels; None if there is none.
    """

    __slots__ = (
        "__weakref__",
        "_cancel_complete",
        "_deadline",
        "_duplicate",
        "_lock",
        "_opens_by",
        "_own_event",
        "_read_by",
        "_responses",
        "_socket",
        "_timed",
        "_watcher",
        "arrivals",
        "caller_event",
        "expired",
        "fresh_only",
        "reads_inline",
        "retries",
        "state",
        "wake_opener",
    )

    def __init__(self, state: CallState, event: Event | None = None) -> None:
        self.state = state
        self.caller_event = event
        self.arrivals: SimpleQueue[Arrival] = SimpleQueue()  # what the reader waits for
        self.wake_opener: SimpleQueue[None] = SimpleQueue()  # what the opening thread waits for when it has to sleep
        self.retries = 0  # how many times the official client has waited to try again
        self.fresh_only = False  # only a connection that no other request has used will do
        self.reads_inline = False  # the reader's own thread reads for the HTTP library: there is no other
        self._opens_by = self._read_by = math.inf  # in that case, the deadlines for the headers and for a read
        self.expired = False  # a deadline has passed while a thread was reading, and the socket was shut down for that
        self._responses: list[Response | Waiting] = [WAITING]  # empty while a thread has taken the response
        self._socket: socket.socket | None = None
        self._duplicate: socket.socket | None = None  # while the TLS layer has the original
        self._deadline: float | None = None  # of the read under way, on the clock of `monotonic`
        self._timed = False  # the deadline timer knows this scope
        self._cancel_complete = False
        self._own_event: weakref.ref[CancelEvent] | None = None
        self._lock = threading.RLock()
        self._watcher = None if event is None else watcher_of(event)
        track_fork(self)

    # Cancelling

    def start_watching(self) -> None:
        """Have the caller's event watched, if there is one, until the call ends."""
        if self._watcher is not None and self.caller_event is not None:
            self.state.add_cleanup(partial(self._watcher.discard, self))
            self._watcher.add(self, self.caller_event)
            if not self.state.active:  # its cleanups may have run before
                self._watcher.discard(self)

    def event(self) -> Event:
        """Return the event whose setting cancels: the caller's, or one made for this scope and kept by who asks."""
        if self.caller_event is not None:
            return self.caller_event
        with self._lock:
            own = None if self._own_event is None else self._own_event()
            if own is None:
                own = CancelEvent(self)
                self._own_event = weakref.ref(own)
        if self.state.value is StreamState.CANCELLED:
            threading.Event.set(own)
        return own

    def cancel(self) -> None:
        """End the call now: wake its reader, shut its socket down, release its connection. Idempotent, never raises.

        A cancel that was broken off by an exception (Ctrl-C in its midst), or could not start the thread that closes
        the connection, is completed by the next one.
        """
        self.state.transition(StreamState.CANCELLED)
        if self.state.value is StreamState.CANCELLED and not self._cancel_complete:
            self.state.settle()  # another thread may have begun to cancel, or an exception may have broken it off
            self.interrupt()
            released = self.release_response()
            own = None if self._own_event is None else self._own_event()
            if own is not None:
                threading.Event.set(own)
            self._cancel_complete = released

    def abort(self, response: Response | Waiting | None) -> None:
        """Cancel the call because of an exception in the thread that reads it, which may have taken the response.

        A response that was put back already is closed again, which does nothing. One that is drained at this moment
        belongs to another thread: it gets a deadline, in case the exception came before it was given one.
        """
        self.cancel()
        if self.state.value is StreamState.FINISHED:
            self.begin_read(monotonic() + DRAIN_SECONDS)
        elif self.state.value is StreamState.CANCELLED and not isinstance(response, Waiting | None):
            response.close()

    def poll(self) -> bool:
        """Return whether the call has ended. Asks the caller's event as well, so that no reader waits for a watcher."""
        if self.caller_event is not None and self.state.active and is_set(self.caller_event):
            self.cancel()
        return not self.state.active

    def raise_if_ended(self) -> None:
        """Raise `RequestCancelled` if the call has ended: nothing may be sent any more."""
        if self.poll():
            raise RequestCancelled

    def interrupt(self) -> None:
        """Shut the attached socket down, and wake whoever waits for this call."""
        self.arrivals.put(None)
        self.wake_opener.put(None)
        with self._lock:
            self._shut_down()

    # The response: taken by one thread at a time

    def take_response(self) -> Response | Waiting | None:
        """Take the response, or `WAITING` before there is one; None if another thread has it.

        Taking and putting back are one step each, so that an exception in between (Ctrl-C) can lose the response but
        not lock it: one that nobody has any more closes itself.
        """
        try:
            return self._responses.pop()
        except IndexError:
            return None

    def put_back(self, response: Response | Waiting) -> None:
        """Return what `take_response` gave, and release it if the call has ended meanwhile.

        That of a finished call is not kept: `Response.finish` releases it.
        """
        if not self.state.active and self.state.value is StreamState.FINISHED:
            return
        self._responses.append(response)
        if not self.state.active:
            self.release_response()

    def release_response(self) -> bool:
        """Close the response of an ended call, unless a thread is reading it: that one puts it back, which does this.

        Returns:
            False if the connection could not be released now: to be asked again.
        """
        released = True
        while (response := self.take_response()) is not None:
            if not isinstance(response, Waiting) and not response.close():
                self._responses.append(response)
                released = False
                break
        with suppress(Empty):
            while True:
                arrived: Any = self.arrivals.get_nowait()
                if hasattr(arrived, "close") and not arrived.close():
                    self._responses.append(arrived)
                    released = False
        self.arrivals.put(None)  # a reader may still be waiting
        return released

    # What the reader and the opening thread wait for

    def deliver(self, arrival: Arrival) -> bool:
        """Give the reader what has arrived; False if the call has ended, and a response is still the caller's."""
        if not self.state.active:
            return False
        self.arrivals.put(arrival)
        if not self.state.active:  # a cancel may have come before the reader
            self.release_response()
        return True

    def receive(self, deadline: float | None) -> Arrival:
        """Wait for the next arrival.

        Raises:
            DeadlinePassed: Nothing arrived until the deadline.
        """
        remaining = math.inf
        while True:
            if deadline is not None:
                remaining = max(deadline - monotonic(), 0)
            with suppress(Empty):
                return self.arrivals.get(timeout=min(remaining, LONGEST_WAIT_SECONDS))
            if remaining <= LONGEST_WAIT_SECONDS:
                raise DeadlinePassed

    def sleep(self, seconds: float) -> None:
        """Wait before a retry, unless the call ends before.

        Raises:
            RequestCancelled: The call has ended.
        """
        self.raise_if_ended()
        self.retries += 1
        deadline = min(monotonic() + seconds, self._opens_by)
        while (remaining := deadline - monotonic()) > 0 and self.state.active:
            with suppress(Empty):
                self.wake_opener.get(timeout=min(remaining, LONGEST_WAIT_SECONDS))
        self.raise_if_ended()
        self._raise_if_late()

    # The socket

    @property
    def has_socket(self) -> bool:
        """Whether an interruption would reach the connection."""
        return self._socket is not None

    def attach(self, sock: socket.socket) -> None:
        """Note the socket that this call is about to use. Attach first, then check: a cancel can come in between.

        Raises:
            RequestCancelled: The call has ended already.
        """
        if self._socket is not sock:
            self.detach()
            self._socket = sock
        if self.poll():
            self.interrupt()
            raise RequestCancelled

    def attach_duplicate(self) -> None:
        """Note that the TLS layer is taking over the attached socket: until then only a duplicate can be shut down.

        No Python object has the original then, and its number may be closed, and used again, at any moment.
        """
        with self._lock:
            sock = self._socket
            if sock is not None:
                try:
                    self._duplicate = socket.fromfd(sock.fileno(), sock.family, sock.type)
                except OSError:  # no descriptor left: this handshake then ends by its own time limit
                    self._socket = None

    def detach(self, sock: socket.socket | None = None) -> None:
        """Forget the socket (only this one, if one is given), before its owner closes it or lends it to another."""
        with self._lock:
            if sock is not None and sock is not self._socket:
                return
            self._socket = None
            if self._duplicate is not None:
                self._duplicate.close()
                self._duplicate = None
            self._deadline = None
            self._timed = False
            deadline_timer.discard(self)

    def read_inline(self, opens_by: float | None = None) -> None:
        """Note that the reader's own thread reads for the HTTP library: nobody reads ahead, nor wakes it.

        Args:
            opens_by: The deadline for the headers of the answer.
        """
        self.reads_inline = True
        if opens_by is not None:
            self._opens_by = opens_by

    def read_by(self, deadline: float | None) -> None:
        """Set the deadline of the reads that follow, where the reader's own thread does them."""
        self._read_by = math.inf if deadline is None else deadline

    def limit_read(self, timeout: float | None, *, opening: bool) -> float | None:
        """Return the time limit of a read of the HTTP library, given its own.

        Raises:
            RequestCancelled: There is no time left. The reader will find that its limit has passed.
        """
        if not self.reads_inline:
            return timeout
        if opening:
            self._raise_if_late()
        deadline = min(self._opens_by, monotonic() + INLINE_OPENING_SECONDS) if opening else self._read_by
        if deadline == math.inf:
            return timeout
        limit = max(deadline - monotonic(), POLL_RESOLUTION_SECONDS)
        return limit if timeout is None else min(timeout, limit)

    def needs_fresh_connection(self) -> None:
        """Note that the server had closed a connection while it was idle: the next one must be new."""
        self.fresh_only = True

    # The deadline of a read

    def begin_read(self, deadline: float | None) -> bool:
        """Have the socket shut down at a deadline, until `end_read`; False if no thread is there to do that."""
        self._deadline = deadline
        if deadline is None or (self._timed and deadline >= deadline_timer.wakes_at):
            return True
        with self._lock:
            if self._socket is not None:  # else there is nothing to shut down, nor anybody to discard this scope later
                self._timed = deadline_timer.add(self)
            return self._timed

    def end_read(self) -> None:
        """Say that nobody waits for the deadline any more."""
        self._deadline = None

    def expire(self, now: float) -> float:
        """Shut the socket down if the deadline of a read has passed; return the deadline that is still to come."""
        deadline = self._deadline
        if deadline is None:
            return math.inf
        if now < deadline:
            return deadline
        with self._lock:
            if self._deadline is not None and now >= self._deadline:
                self.expired = True
                self._deadline = None
                self._timed = False
                deadline_timer.discard(self)
                self._shut_down()
        return math.inf

    def abandon_after_fork(self) -> None:
        """Close nothing and shut nothing down: in a forked child, all of it is the parent's."""
        self._lock = threading.RLock()
        self._timed = False
        self.detach()

    def _raise_if_late(self) -> None:
        if monotonic() >= self._opens_by:
            raise RequestCancelled

    def _shut_down(self) -> None:
        """Shut down what is attached. Call with `_lock` held: else its owner could close the socket in between."""
        assert self._lock._is_owned(), "the lock must be held"  # type: ignore[attr-defined]  # noqa: SLF001
        sock = self._duplicate or self._socket
        if sock is not None:
            shut_down(sock)


def shut_down(sock: socket.socket) -> None:
    """End both directions of a connection: whoever waits on it wakes up, and the other side is informed."""
    with suppress(OSError):  # not connected any more, or closed: nothing left to interrupt
        if hasattr(socket.socket, "shutdown"):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # an SSLSocket's own shutdown would drop its TLS state
        else:
            sock.shutdown(socket.SHUT_RDWR)  # eventlet's sockets have nothing but their own
