"""One connection of the HTTP library, wrapped for two purposes.

It notifies the cancel scope of the socket that its request uses. And it enables the fast path, by withholding what
follows the headers of an answer: see `blades._transport.fast_body`, which this module does without.
"""

from __future__ import annotations

import _socket
import errno
import math
import os
import selectors
import socket
import ssl
import weakref
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

from blades._clock import monotonic
from blades._platform import Selector
from blades._transport.cancel import POLL_RESOLUTION_SECONDS, shut_down
from blades._transport.network_stream import (
    HTTP2_PREFACE,
    beginning,
    speaks_http2,
    stream_kinds,
    with_timeout,
)

if TYPE_CHECKING:
    from blades._transport.cancel import CancelScope

LAST_CHUNK: Final = b"0\r\n\r\n"
POLL_SECONDS: Final = 0.05  # how often a thread that reads for other streams looks whether its own has ended

current_scope: ContextVar[CancelScope | None] = ContextVar("blades_scope", default=None)

current_connection: ContextVar[TrackedConnection | None] = ContextVar("blades_connection", default=None)
"""The connection that carries the request of the thread that opens a stream."""


class StaleConnection(BaseException):
    """A connection that had been idle turned out to be closed: the request is to be sent again, on a fresh one.

    A BaseException, because the official client would count any Exception as one of its retries, and wait before it.
    """


def _fail_closed(*_: Any, **_named: Any) -> NoReturn:
    raise OSError(errno.EBADF, "this connection is closed")


def _do_nothing(*_: Any, **_named: Any) -> None:
    pass


@final
class TrackedConnection:
    """Stands before a connection's ``read``, ``write`` and ``close``.

    A request begins with a write in the thread that opens its stream: there the scope is known. The reads that follow,
    in whichever thread, belong to that request until the connection is lent to the next one.

    Args:
        stream: The HTTP library's network stream, whose three methods are replaced.
        opener: The scope whose request the connection was opened for; None if a request of other code was that.
    """

    def __init__(self, stream: Any, opener: CancelScope | None = None) -> None:
        self.socket: socket.socket = stream.get_extra_info("socket")
        tls = stream.get_extra_info("ssl_object")
        # Not TLS within TLS (a proxy's), and not where these modules are patched (gevent): both wait elsewhere.
        self.supports_fast_path = (
            socket.socket.recv is _socket.socket.recv
            and type(self.socket) in {socket.socket, ssl.SSLSocket}
            and not isinstance(tls, ssl.SSLObject)
        )
        self.multiplexed = speaks_http2(stream)  # other streams use it, too
        self.kind = type(stream)
        self.timeout_seconds: float | None = None  # the HTTP library's own, for each read of this answer
        self.at_body_start = False  # the library has read the headers of an answer and nothing after them
        self.last_bytes = b""  # the end of what was read
        self._received_bytes = 0  # of the answer to the present request
        self._requests = 0 if opener is not None else 1
        self._writing = self._writes_here = False
        self._reusable = True
        self._opener = weakref.ref(opener) if opener is not None else lambda: None
        self._awaits_headers = False
        self._withheld = b""  # read, but not given to the library yet
        self._scope: CancelScope | None = None
        self._process = os.getpid()
        self._read: Any = stream.read
        self._write: Any = stream.write
        self._close: Any = stream.close
        self._replace_methods(stream)

    def _replace_methods(self, stream: Any) -> None:
        """Replace all three methods, or none.

        Raises:
            AttributeError: One of them cannot be replaced.
        """
        original = {"read": self._read, "write": self._write, "close": self._close}
        replaced = []
        try:
            for name in original:
                setattr(stream, name, getattr(self, name))
                replaced.append(name)
        except (AttributeError, TypeError):
            for name in replaced:
                setattr(stream, name, original[name])
            raise

    # What the HTTP library calls. Arguments that are not known here are passed on.

    def write(self, *arguments: Any, **named: Any) -> Any:
        """Send a part of a request."""
        if not self._writing or (self._scope is not current_scope.get() and not self.multiplexed):
            self._begin_request(beginning(arguments[0] if arguments else named.get("buffer")))
        scope = self._scope
        if scope is not None:
            scope.attach(self.socket)
            scope.state.request_sent()
        return self._write(*arguments, **named)

    def read(self, *arguments: Any, **named: Any) -> Any:
        """Read for the library: at most so many bytes, with a time limit."""
        self.at_body_start = self._writing = False
        if self._withheld:
            return self._take_withheld(arguments[0] if arguments else named.get("max_bytes"))
        given = timeout = arguments[1] if len(arguments) > 1 else named.get("timeout")
        reader = current_scope.get()
        if reader is not None and self.multiplexed and self.supports_fast_path:
            timeout = self._wait_for_others(reader, timeout)
        scope = self._scope
        try:
            limit = timeout if scope is None else scope.limit_read(timeout, opening=self._awaits_headers)
            if limit is not given:
                arguments, named = with_timeout(limit, arguments, named)
            data = self._read(*arguments, **named)
        except Exception as error:
            cause = error.__cause__ or error
            if isinstance(cause, TimeoutError) and scope is not None:
                scope.limit_read(timeout, opening=self._awaits_headers)  # which raises if that was the limit
            elif isinstance(cause, OSError):
                self._raise_if_stale()
            raise
        if type(data) is not bytes:
            return data
        if not data:
            self._raise_if_stale()
        stream_kinds.note_read(self.kind)
        self._received_bytes += len(data)
        self.last_bytes = (self.last_bytes + data)[-len(LAST_CHUNK) :]
        if self._awaits_headers:
            self._awaits_headers, self.timeout_seconds = False, limit
            data = self._withhold_body(data)
        return data

    def close(self, *arguments: Any, **named: Any) -> Any:
        """Close the connection."""
        if self._scope is not None:
            self._scope.detach(self.socket)
        self._scope = None
        if self._process == os.getpid():  # the caller's client may be closed while a thread reads: that one wakes up
            shut_down(self.socket)
        try:
            return self._close(*arguments, **named)
        finally:
            self.unwrap()

    def unwrap(self) -> None:
        """Detach from the library's stream, which is closed or has become the inside of another.

        The oldest HTTP library leaves a closed stream in a cycle: it must not keep anything of this package.
        """
        stream = getattr(self._read, "__self__", None)
        for name in ("read", "write", "close"):
            with suppress(AttributeError):
                delattr(stream, name)
        self._read = self._write = _fail_closed
        self._close = _do_nothing

    # What the response calls

    def raise_if_answered_in_advance(self) -> None:
        """Raise `StaleConnection` if no byte has arrived since the request: what was read answers another."""
        if not stream_kinds.is_read(self.kind) or self._received_bytes or self.multiplexed:
            return
        if self._scope is not None and self._requests > 1:
            self.retire()
            raise StaleConnection

    def take_buffered(self) -> bytes:
        """Take what the library has not been given yet."""
        data, self._withheld = self._withheld, b""
        return data

    def push_back(self, data: bytes) -> None:
        """Let the library read this next: the end of what was read past it."""
        self.at_body_start, self._withheld = False, data
        self.last_bytes = data[-len(LAST_CHUNK) :]

    def end_response(self, scope: CancelScope) -> None:
        """Detach a request whose answer has ended. By now the connection may serve another one, which is let be."""
        if self._scope is scope:
            self._scope = None
        scope.detach(self.socket)

    def retire(self) -> None:
        """Let no further request use this connection: to its pool, it looks closed by the server."""
        self._reusable = False
        shut_down(self.socket)

    @property
    def has_leftover(self) -> bool:
        """Whether something has come after the end of a chunked answer, as far as that is seen here."""
        return self._is_read_here and not self.last_bytes.endswith(LAST_CHUNK[1:])

    @property
    def is_proven(self) -> bool:
        """Whether the library is known to read what is pushed back."""
        return stream_kinds.is_proven(self.kind)

    def prove(self) -> None:
        """Note that the library has read what was pushed back, if it has."""
        if not self._withheld:
            stream_kinds.note_proof(self.kind)

    def disprove(self) -> None:
        """Note that the library has not read what was pushed back: no further body is withheld from it."""
        stream_kinds.note_wait_in_vain(self.kind)

    @property
    def unused_method(self) -> str | None:
        """The name of a method that the library does not call any more, once an answer has been read."""
        if not self._writes_here:
            return "write"
        return None if self._is_read_here else "read"

    @property
    def _is_read_here(self) -> bool:
        return stream_kinds.is_read(self.kind) and not stream_kinds.is_read_past(self.kind)

    def _begin_request(self, begin: bytes) -> None:
        """Find the scope of a request, and refuse a connection that must not carry it.

        Raises:
            StaleConnection: Only a fresh connection will do. Nothing was sent.
        """
        if begin.startswith(HTTP2_PREFACE):
            self.multiplexed = True
        self._writes_here = True
        previous, self._scope = self._scope, None if self.multiplexed else current_scope.get()
        scope = self._scope
        if previous is not None and previous is not scope:  # nothing has reported the end of its response
            previous.detach(self.socket)
        current_connection.set(None if scope is None else self)
        if scope is not None and self._requests and not (self._reusable and self._is_fresh_for(scope)):
            raise StaleConnection
        self._requests += 1
        self._received_bytes = 0
        self._writing = True
        self.at_body_start, self._awaits_headers = False, scope is not None

    def _take_withheld(self, max_bytes: int | None) -> bytes:
        data, self._withheld = self._withheld[:max_bytes], self._withheld[max_bytes or len(self._withheld) :]
        return data

    def _is_fresh_for(self, scope: CancelScope) -> bool:
        """Return whether this connection will do for a call: one that needs a fresh one has opened it itself."""
        return not scope.fresh_only or self._opener() is scope

    def _raise_if_stale(self) -> None:
        """Raise `StaleConnection` if the server had closed this connection before the present request reached it.

        A call that was given a fresh connection is not given another: a server may answer the first request on each
        (with a redirect, or a status that is tried again) and close before it answers the second.
        """
        scope = self._scope
        if scope is None or self._requests < 2 or self._received_bytes or self.multiplexed:  # re-used
            return
        scope.raise_if_ended()
        if not scope.expired and not (scope.fresh_only and self._opener() is scope):
            raise StaleConnection

    def _wait_for_others(self, scope: CancelScope, timeout: float | None) -> float | None:
        """Wait until there is something to read; return what is left of the time limit.

        One thread reads for all streams of a multiplexed connection, and those wait for it. So it must not stay when
        its own stream has ended; it leaves before it reads, when nothing is lost.

        Raises:
            RequestCancelled: The calling thread's stream has ended.
        """
        deadline = math.inf if timeout is None else monotonic() + timeout
        decrypted = getattr(self.socket, "pending", int)
        with Selector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            while True:
                scope.raise_if_ended()
                remaining = max(deadline - monotonic(), POLL_RESOLUTION_SECONDS)
                wait_seconds = min(remaining, POLL_SECONDS)
                if decrypted() or selector.select(wait_seconds) or remaining == POLL_RESOLUTION_SECONDS:
                    return None if timeout is None else remaining

    def _withhold_body(self, data: bytes) -> bytes:
        """Return the headers alone, where the body can be read by the fast path; else all that was read."""
        end = data.find(b"\n\r\n") + 3
        head = data[:end].lower()
        if (
            end >= 3  # it was found
            and not stream_kinds.is_read_past(self.kind)
            and head.startswith(b"http/1.1 200")
            and b"\n\n" not in head
            and b"\ntransfer-encoding: chunked\r\n" in head
            and b"\ncontent-encoding:" not in head
        ):
            self.at_body_start = True
            data, self._withheld = data[:end], data[end:]
        return data
