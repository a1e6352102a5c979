"""The fast path: a chunked body is read directly from the socket. This file can be removed; see `ENABLED`.

A paced event costs the HTTP library's layers (h11's state machine, five generators, three system calls that each let
other threads run) more than all the rest of a stream together. The invariant: to the library, the body is empty. It
reads the headers of the answer and the terminating chunk, and nothing in between; so its connection is in order for
the next request. Whatever is uncommon is left to the library: another encoding of the transfer, trailers, extensions.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Final, final

from blades._clock import monotonic
from blades._platform import Selector
from blades._transport.arrivals import ARRIVED, ConnectionLost, DeadlinePassed
from blades._transport.cancel import POLL_RESOLUTION_SECONDS
from blades._transport.threads import raised_by
from blades._wire.chunked import LAST_CHUNK, Chunked

if TYPE_CHECKING:
    from blades._transport.cancel import CancelScope
    from blades._transport.connection import TrackedConnection

ENABLED = True
"""The switch: where this is False, every body is read through the HTTP library."""

READ_BYTES: Final = 65536
PACED_READ_BYTES: Final = 4096  # until one is full: Python allocates this much before each read, and trims it after
MIN_READ_SECONDS: Final = 0.02  # what has arrived is read, even if a slow reader asks after its deadline


@final
class FastBody:
    """The body of one answer. One reader at a time.

    Attributes:
        ended: The body was read to its proper end; else, after `read` returned ``b""``, the rest is the library's.
    """

    __slots__ = (
        "_begun",
        "_chunked",
        "_client_limit",
        "_connection",
        "_read_bytes",
        "_receive_from_socket",
        "_scope",
        "ended",
    )

    def __init__(self, connection: TrackedConnection, scope: CancelScope) -> None:
        self.ended = False
        self._connection = connection
        self._scope = scope
        self._chunked = Chunked()
        self._begun = self._chunked.decode(connection.take_buffered())  # what came with the headers
        self._read_bytes = PACED_READ_BYTES
        self._client_limit = connection.timeout_seconds  # the caller's client may have a limit of its own for each read
        self._receive_from_socket = connection.socket.recv
        connection.socket.settimeout(None)

    def read(self, deadline: float | None) -> bytes:
        """Return the next piece of the content; ``b""`` when the connection was handed back to the library.

        Raises:
            DeadlinePassed: Nothing arrived until the deadline.
            ConnectionLost: The connection failed.
        """
        if self._begun:
            content, self._begun = self._begun, b""
            return content
        chunked, scope = self._chunked, self._scope
        while chunked.handed_back is None:
            ends_at, by_client = deadline, False  # by the limit of the caller's client
            if deadline == ARRIVED or self._client_limit is not None:
                ends_at, by_client = self._narrow(deadline)
            data, lost = b"", None
            try:
                # In one system call: the deadline timer ends it by shutting the socket down.
                watched = scope.begin_read(ends_at)
                data = self._receive_from_socket(self._read_bytes) if watched else self._receive_with_timeout(ends_at)
            except OSError as error:
                if not raised_by(error, __name__, ssl.__name__, socket.__name__):
                    raise  # by a signal handler of the caller's, in the midst of the call
                lost = error
            finally:
                scope.end_read()
                if not data:
                    clear_tls_errors(self._connection.socket)
            if not data:
                raise self._reason(lost, by_client=by_client)
            self._read_bytes = READ_BYTES if len(data) >= PACED_READ_BYTES else PACED_READ_BYTES
            content = chunked.decode(data)
            if content:
                return content
        self._hand_back(chunked.handed_back)
        return b""

    def wait(self, seconds: float) -> bool:
        """Return whether there is something to read, waiting for it a little."""
        sock = self._connection.socket
        if self._begun or self._chunked.handed_back is not None or getattr(sock, "pending", int)():
            return True
        with Selector() as selector:
            selector.register(sock, 1)  # selectors.EVENT_READ
            return bool(selector.select(seconds))

    def _hand_back(self, rest: bytes) -> None:
        connection = self._connection
        if rest.startswith(LAST_CHUNK):
            self.ended = True
            if rest != LAST_CHUNK:
                connection.retire()  # what follows would be read as the answer to the next request
                rest = LAST_CHUNK
        # The library has read nothing since the headers: for it, the rest follows them directly.
        assert connection.at_body_start, "the HTTP library has read from the connection meanwhile"
        connection.push_back(rest)

    def _narrow(self, deadline: float | None) -> tuple[float | None, bool]:
        """Return when a read must end, and whether that is the limit of the caller's client for each read.

        Raises:
            DeadlinePassed: The deadline is `ARRIVED`, and nothing has.
        """
        if deadline == ARRIVED:
            if not self.wait(0):
                raise DeadlinePassed
            deadline = monotonic() + MIN_READ_SECONDS  # part of a TLS record may be all that is there
        if self._client_limit is None:
            return deadline, False
        clients = monotonic() + self._client_limit
        return (clients, True) if deadline is None or clients <= deadline else (deadline, False)

    def _reason(self, lost: OSError | None, *, by_client: bool) -> DeadlinePassed | ConnectionLost:
        """Return why a read has brought nothing: the exception for it."""
        # A TimeoutError with a number is the system's: the other side does not answer any more (TCP keep-alive).
        if not (self._scope.expired or (isinstance(lost, TimeoutError) and lost.errno is None)):
            return ConnectionLost(lost or EOFError("the server closed the connection before the last chunk"))
        if by_client:
            return ConnectionLost(TimeoutError("the client's own time limit for a read was reached"))
        return DeadlinePassed()

    def _receive_with_timeout(self, deadline: float | None) -> bytes:
        """Read where no thread can be started any more, at the interpreter's exit."""
        sock = self._connection.socket
        if deadline is not None:
            sock.settimeout(max(deadline - monotonic(), POLL_RESOLUTION_SECONDS))
        try:
            return sock.recv(READ_BYTES)
        finally:
            sock.settimeout(None)


def clear_tls_errors(sock: socket.socket) -> None:
    """Clear what a failed read has left in this thread's queue of OpenSSL's errors.

    CPython reports it as an `OSError` and leaves it there (https://github.com/python/cpython/issues/148594): the
    thread's next read that has to wait, on whichever TLS connection, would fail with it. Each new TLS object clears it.
    """
    if isinstance(sock, ssl.SSLSocket):
        sock.context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
