"""Interrupting a request, whatever it is waiting for.

A `Scope` is one request as its cancellers see it: the state, and the socket it is using at this moment. The
platform's facts behind it:

- ``close()`` from another thread does not wake a thread that is blocked in ``recv()``, nor does it tell the server;
  ``shutdown(SHUT_RDWR)`` does both at once, on Linux and macOS, on plain and on TLS sockets. On Windows it tells the
  server, but wakes nobody (see `SHUTDOWN_WAKES`), and a thread that waits for a lock does not see Ctrl-C.
- A descriptor's number is used again as soon as it is closed. So only the thread that owns a connection closes it;
  all others only shut down, and only under the scope's lock, which the owner takes before it lets a socket go.
- A connection whose response is complete may already serve another stream. So a socket is held from the first byte
  of the request to the end of the response, and not a moment longer.
- After ``fork()`` the child has the parent's sockets, where it would take the parent's bytes, and the locks that other
  threads held, which nobody will release there: its copies of the parent's scopes are given up at once.
- At the interpreter's exit daemon threads stop for ever, wherever they are, with the locks that they hold.
- A signal handler, or ``__del__``, may run in a thread that is inside any of these functions: the lock is re-entrant,
  each step leaves a state that the others can start from, and waking uses `queue.SimpleQueue`, whose ``put`` is
  documented to be re-entrant.
"""

from __future__ import annotations

import _thread
import logging
import math
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol, final
from weakref import WeakSet

from blades._transport.events import is_set, other_watcher, watcher
from blades._values import StreamState

if TYPE_CHECKING:
    from collections.abc import Callable

    from blades._transport.events import Event
    from blades._values import ResponseInfo


logger = logging.getLogger("blades")


_ENDS = frozenset({StreamState.FINISHED, StreamState.CANCELLED, StreamState.FAILED})
_NEXT = {
    StreamState.OPENING: _ENDS | {StreamState.STREAMING},
    StreamState.STREAMING: _ENDS,
    **dict.fromkeys(_ENDS, frozenset[StreamState]()),
}


SHUTDOWN_WAKES: Final = sys.platform != "win32"  # https://github.com/python/cpython/issues/91913
LONGEST_WAIT_SECONDS: Final = threading.TIMEOUT_MAX if SHUTDOWN_WAKES else 0.1  # how long Ctrl-C may go unseen


class Response(Protocol):
    """An open answer; see `blades._transport.client.OpenResponse`."""

    head: ResponseInfo

    def read(self, deadline: float | None) -> bytes:
        """Read the next piece; ``b""`` is the proper end."""
        ...

    def finish(self, *, wait: bool) -> None:
        """Give the connection back after a whole answer."""
        ...

    def close(self) -> bool:
        """Release the connection, without waiting for it; False if that cannot be done now. Never raises."""
        ...


class Interrupted(BaseException):
    """Raised inside the official client to leave it. A BaseException, because it retries on any Exception."""


@final
class CancelEvent(threading.Event):
    """A stream's own event: setting it cancels at once, without anybody polling."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        super().__init__()
        # Event's own lock is not re-entrant: a signal handler that cancels could find its own thread inside set().
        self._cond = threading.Condition(threading.RLock())
        self._cancel = cancel

    def set(self) -> None:
        """Set the event and cancel the stream."""
        super().set()
        self._cancel()


@final
class Scope:
    """One request: its state, what it is using, and the switch that takes it away. All methods: from any thread."""

    def __init__(self, event: Event | None = None) -> None:
        self.state: StreamState = StreamState.OPENING
        self.live: bool = True  # state is not final; a plain attribute, because it is read once per chunk
        self.first_content_at: float | None = None  # on the clock of time.monotonic, as the next
        self.ended_at: float | None = None
        self.request_id: str | None = None
        self.on_end: Callable[[], None] | None = None  # told once, see `_tell`
        self.foreign_event = event
        self.event: Event = CancelEvent(self.cancel) if event is None else event
        self.inbox: SimpleQueue[bytes | Exception | None] = SimpleQueue()  # what the consumer waits for; None wakes it
        self.interruption: SimpleQueue[None] = SimpleQueue()  # what the opening thread waits for when it has to sleep
        self.reading: threading.Lock = threading.Lock()  # held by the one thread that is inside the response
        self.response: Response | None = None
        self.failure: BaseException | None = None  # why there is no response, or no more of it
        self.deadline: float | None = None  # of the read under way, on the clock of time.monotonic
        self.tail = b""  # the last bytes that came on the connection
        self.shared = False  # the connection carries other streams as well (HTTP/2): never to be shut down
        self._socket: socket.socket | None = None
        self._handshake: socket.socket | None = None  # a duplicate, while the TLS layer has the original
        self._told = False  # a cancel was carried out to its end
        self._lock = threading.RLock()
        self._watcher = watcher if type(event) is threading.Event else other_watcher
        _scopes.add(self)

    def watch(self) -> None:
        """Have the foreign event looked at, if there is one, until the request ends."""
        if self.foreign_event is not None:
            self._watcher.add(self, self.foreign_event)

    def move(self, state: StreamState, *, aside: bool = False) -> bool:
        """Go to a state; False if the table has no such step, which means that somebody else was first.

        Others are told of a cancel in a thread of its own, and of another step if it is `aside`: the calling thread may
        be in a signal handler or ``__del__``, which have interrupted it, perhaps with the locks of those others.
        """
        with self._lock:
            was = self.state
            live = state not in _ENDS
            # Looking into the table runs Python code, where a signal handler may cancel; the rest of this does not.
            if state not in _NEXT[was] or self.state is not was:
                return False
            self.state, self.live = state, live
            if not live:
                self.ended_at = time.monotonic()
        if not live:
            self._watcher.discard(self)
        if self.on_end is not None or logger.isEnabledFor(logging.DEBUG):
            tell = partial(self._tell, was, state)
            in_background(tell) if aside or state is StreamState.CANCELLED else tell()
        return True

    def _tell(self, was: StreamState, state: StreamState) -> None:
        """Tell others of a step."""
        logger.debug("stream %x: %s -> %s, request id %s", id(self), was.value, state.value, self.request_id)
        if state in _ENDS and self.on_end is not None:
            self.on_end()

    def cancel(self) -> None:
        """End the request now: wake the consumer, tell the server. Idempotent, never raises.

        A cancel that was broken off by an exception (Ctrl-C in its midst) is carried out by the next one.
        """
        self.move(StreamState.CANCELLED)
        if self.state is StreamState.CANCELLED and not self._told:
            self.interrupt()
            self.dispose()
            if isinstance(self.event, CancelEvent):
                threading.Event.set(self.event)
            self._told = True

    def cancelled(self) -> bool:
        """Tell whether to stop; looks at the foreign event as well, so that nobody need wait for the watcher."""
        if self.live and self.foreign_event is not None and is_set(self.foreign_event):
            self.cancel()
        return not self.live

    def check(self) -> None:
        """Raise `Interrupted` if the request has ended; nothing may be sent any more."""
        if self.cancelled():
            raise Interrupted

    def interrupt(self) -> None:
        """Shut the socket down if one is in use, and wake whoever waits for this request."""
        with self._lock:
            sock = self._handshake or self._socket
            if sock is not None:
                shutdown(sock)
        self.inbox.put(None)
        self.interruption.put(None)

    def deliver(self, response: Response) -> bool:
        """Hand the opened response over to the consumer; False if it came too late and is the caller's to close."""
        with self._lock:
            delivered = self.live
            if delivered:
                self.response = response
                self.request_id = response.head.request_id
        self.inbox.put(None)
        return delivered

    def receive(self, deadline: float | None) -> bytes | Exception | None:
        """Wait for what comes into the inbox.

        Raises:
            TimeoutError: nothing came until the deadline (on the clock of `time.monotonic`).
        """
        remaining = math.inf
        while True:
            if deadline is not None:
                remaining = max(deadline - time.monotonic(), 0)
            with suppress(Empty):
                return self.inbox.get(timeout=min(remaining, LONGEST_WAIT_SECONDS))
            if remaining <= LONGEST_WAIT_SECONDS:
                raise TimeoutError

    def fail(self, error: BaseException) -> None:
        """Say why there will be no response; too late if the request has ended for another reason."""
        with self._lock:
            if self.live:
                self.failure = error
        self.inbox.put(None)

    def dispose(self) -> None:
        """Close the response of an ended request, unless a thread is reading it: that one will call this again."""
        if self.reading.acquire(blocking=False):
            try:
                if self.response is not None and self.response.close():
                    self.response = None
            finally:
                self.reading.release()

    def give_up(self) -> None:
        """End the copy that a forked child has of a request: its connection is the parent's."""
        self._lock, self.reading = threading.RLock(), threading.Lock()
        self.let_go()
        if self.live:
            self.failure = RuntimeError(
                "This stream belongs to the process that started it, from which this one was forked: read it there, or "
                "start a stream here."
            )
            self.state, self.live = StreamState.FAILED, False

    def sleep(self, seconds: float) -> None:
        """Wait, unless the request ends before.

        Raises:
            Interrupted: the request has ended.
        """
        self.check()
        with suppress(Empty):
            self.interruption.get(timeout=seconds)
        self.check()

    @property
    def holds_socket(self) -> bool:
        """Whether an interruption would reach the socket."""
        return self._socket is not None

    def hold(self, sock: socket.socket) -> None:
        """Note the socket that this request is about to use. First note, then check: a cancel can come between.

        Raises:
            Interrupted: the request has ended already.
        """
        self.let_go()
        if not self.shared:
            self._socket = sock
        if self.cancelled():
            self.interrupt()
            raise Interrupted

    def hold_handshake(self) -> None:
        """Note that the TLS layer is taking the held socket over: until it is done, only a duplicate can be shut down.

        No Python object has the original then, and its number may be closed, and used again, at any moment.
        """
        with self._lock:
            sock = self._socket
            if sock is not None:
                try:
                    self._handshake = socket.fromfd(sock.fileno(), sock.family, sock.type)
                except OSError:  # no descriptor left: this handshake then ends by its own time limit
                    self._socket = None

    def let_go(self, sock: socket.socket | None = None) -> None:
        """Forget the socket (only this one, if one is given) before its owner closes it or lends it out."""
        with self._lock:
            if sock is not None and sock is not self._socket:
                return
            self._socket = None
            if self._handshake is not None:
                self._handshake.close()
                self._handshake = None


_scopes: WeakSet[Scope] = WeakSet()


def _give_up_scopes() -> None:
    for scope in list(_scopes):
        scope.give_up()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_give_up_scopes)


def in_background(function: Callable[[], None]) -> bool:
    """Run a function in a short-lived thread, without waiting for it to start; False if that cannot be done.

    `threading.Thread.start` waits for the thread: forever, in ``__del__`` while the interpreter is finalizing.
    """
    if sys.is_finalizing():
        return False
    try:
        _thread.start_new_thread(function, ())
    except RuntimeError:  # no more threads, or the process is ending, and its sockets with it
        return False
    return True


def shutdown(sock: socket.socket) -> None:
    """End both directions of a connection: whoever waits on it wakes up, and the other side is told."""
    with suppress(OSError):  # not connected any more, or closed: nothing left to interrupt
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # an SSLSocket's own shutdown would drop its TLS state
