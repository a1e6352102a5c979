"""The server's side of one HTTP/1.1 connection, for `blades.testing`.

A `Wire` never blocks in a read or a write. It waits in ``poll`` for its socket, so that a client that disconnects ends
every phase (handshake, idling, pausing, stalling, sending) within milliseconds, by raising `ClientLeft`. ``select``
would fail on descriptors from 1,024 up.
"""

from __future__ import annotations

import contextlib
import math
import re
import selectors
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, final

from blades.testing._platform import LINGER_FORMAT, Selector, now

if TYPE_CHECKING:
    import ssl

__all__ = ["BadRequest", "ClientLeft", "Ended", "Headers", "Selector", "Wire", "read_request", "shutdown"]

_TLS_HANDSHAKE = b"\x16"
_HEAD_LIMIT = 64 * 1024
_BODY_LIMIT = 64 * 1024 * 1024


class ClientLeft(Exception):  # not an error: the work for this client is over
    """The client disconnected (or the server is closing, which looks the same)."""


class Ended(Exception):  # not an error: the work for this client is over
    """The server itself has ended the connection."""


class BadRequest(Exception):  # answered, never raised to a user
    """The bytes are no HTTP request that can be served; `status` answers them."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@final
class Headers(Mapping[str, str]):
    """The headers of a request: names match in any case and iterate in lower case; repeated ones are joined."""

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in items:
            key = name.lower()
            self._values[key] = f"{self._values[key]}, {value}" if key in self._values else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self._values)})"


@final
class Received(NamedTuple):
    """A whole request, as received."""

    method: str
    path: str
    headers: Headers
    body: bytes
    http10: bool


@final
class Wire:
    """A non-blocking socket that notices a disconnect during every operation. For its own thread only.

    Args:
        sock: The connection.
        closing: A socket on which something arrives, and is never read, when the server closes. On Windows, shutting
            the connection down wakes nobody.
    """

    def __init__(self, sock: socket.socket, closing: socket.socket) -> None:
        self.received = bytearray()
        """Bytes that have arrived and were not taken yet."""
        self._sock = sock
        self._retryable: tuple[type[OSError], ...] = (BlockingIOError,)
        self._next_check_at = 0.0
        self._selector = Selector()
        self._selector.register(sock, selectors.EVENT_READ)
        self._selector.register(closing, selectors.EVENT_READ)
        self._closing = closing

    def close(self) -> None:
        """Release the selector; the caller closes the socket."""
        self._selector.close()

    def handshake(self, sock: ssl.SSLSocket) -> None:
        """Do the TLS handshake on the socket that the wire was made with."""
        import ssl  # slow to import; loaded already where there is TLS

        self._retryable = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
        while True:
            try:
                sock.do_handshake()
            except self._retryable:
                self._select(None)
            except OSError:
                raise ClientLeft from None
            else:
                return

    def wait(self, timeout: float | None = None, *, writable: bool = False) -> list[Any]:
        """Wait until something happens, read what has arrived, and return the sockets that are ready.

        Raises:
            ClientLeft: The client closed, reset, or shut down its sending side.
        """
        if writable:
            self._selector.modify(self._sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        ready = self._select(timeout)
        if writable:
            self._selector.modify(self._sock, selectors.EVENT_READ)
        self._next_check_at = now() + 0.005
        if self._sock in ready:
            self._receive()
        return ready

    def _select(self, timeout: float | None) -> list[Any]:
        ready = [key.fileobj for key, _ in self._selector.select(timeout)]
        if self._closing in ready:
            raise ClientLeft
        return ready

    def _receive(self) -> None:
        while True:
            try:
                data = self._sock.recv(65536)
            except self._retryable:
                return
            except OSError:
                raise ClientLeft from None
            if not data:
                raise ClientLeft
            self.received += data

    def pause(self, seconds: float) -> None:
        """Wait; for ever with `math.inf`."""
        deadline = now() + seconds
        while (left := deadline - now()) > 0:
            self.wait(None if left == math.inf else left)

    def wait_for_wakeup(self, wakeup: socket.socket) -> None:
        """Wait until something was sent to this socket, and read it."""
        self._selector.register(wakeup, selectors.EVENT_READ)
        try:
            while wakeup not in self.wait():
                pass
            wakeup.recv(64)
        finally:
            self._selector.unregister(wakeup)

    def send(self, data: bytes) -> None:
        """Send all of it, in one call where the socket takes it."""
        # Sending does not fail to a client that only shut down its own sending side: check for that now and then.
        if now() >= self._next_check_at:
            self.wait(0)
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except self._retryable:
                self.wait(writable=True)
            except OSError:
                raise ClientLeft from None

    def reset(self) -> NoReturn:
        """Make the close of the socket a reset."""
        linger = struct.pack(LINGER_FORMAT, 1, 0)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        raise Ended

    def cut(self) -> NoReturn:
        """End both directions at once, with TLS without the close_notify that would make the end a proper one."""
        shutdown(self._sock)
        raise Ended

    def finish(self) -> NoReturn:
        """End the server's side properly, then give the client a second for its own: closing at once could reset it."""
        unwrap = getattr(self._sock, "unwrap", None)
        with contextlib.suppress(OSError):
            if unwrap is not None:
                unwrap()
        shutdown(self._sock, socket.SHUT_WR)
        with contextlib.suppress(ClientLeft):
            self.pause(1)
        raise Ended


def shutdown(sock: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    """Shut a socket down, below TLS if there is any: the method of a TLS socket also drops its session."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, how)


def read_request(wire: Wire) -> Received:
    """Wait for the next whole request.

    Raises:
        BadRequest: The request cannot be parsed; the connection cannot go on.
        ClientLeft: The client disconnected first.
    """
    while (end := wire.received.find(b"\r\n\r\n")) < 0:
        if len(wire.received) > _HEAD_LIMIT:
            raise BadRequest(431, "The headers of the request are too large.")
        if wire.received.startswith(_TLS_HANDSHAKE):  # its line break may never arrive
            raise BadRequest(400, "A TLS handshake was sent to a port that speaks plain HTTP.")
        wire.wait()
    lines = _take(wire, end + 4).decode("latin-1").strip("\r\n").split("\r\n")
    match = re.fullmatch(r"([A-Z]+) (\S+) HTTP/1\.([01])", lines[0])
    if match is None:
        raise BadRequest(400, f"Not an HTTP/1 request line: {lines[0]!r:.200}")
    fields = [line.partition(":") for line in lines[1:]]
    if not all(colon and re.fullmatch(r"[^\s:]+", name) for name, colon, _ in fields):
        raise BadRequest(400, "The request has a line among its headers that is not one.")
    headers = Headers((name, value.strip()) for name, _, value in fields)
    if headers.get("expect", "").lower() == "100-continue":
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    return Received(match[1], match[2], headers, _read_body(wire, headers), match[3] == "0")


def _read_body(wire: Wire, headers: Headers) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = b""
        while part := _read_chunk(wire):
            body += part
            _check_size(len(body))
        return body
    length = headers.get("content-length", "0")
    if not re.fullmatch("[0-9]{1,18}", length):
        raise BadRequest(400, f"Not a Content-Length: {length!r:.200}")
    return _take(wire, int(length))


def _read_chunk(wire: Wire) -> bytes:
    while (end := wire.received.find(b"\r\n")) < 0:
        _check_size(len(wire.received))
        wire.wait()
    line = _take(wire, end + 2)
    match = re.match(rb"[0-9A-Fa-f]{1,15}(?=\s*[;\r])", line)
    if match is None:
        raise BadRequest(400, f"Not the size of a chunk: {line!r:.200}")
    return _take(wire, int(match[0], 16) + 2)[:-2]


def _take(wire: Wire, size: int) -> bytes:
    _check_size(size)
    while len(wire.received) < size:
        wire.wait()
    data = bytes(wire.received[:size])
    del wire.received[:size]
    return data


def _check_size(size: int) -> None:
    if size > _BODY_LIMIT:
        raise BadRequest(413, "The request is too large.")
