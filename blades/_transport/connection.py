"""A connection of the HTTP library, watched: which request it serves, and the short way to the body of its answer.

A paced event costs the HTTP library's layers (h11's state machine, five generators, three system calls that each let
other threads run) more than all the rest together, so the usual body is read without them: `Body`. The invariant: the
library is given the headers alone, and then the last chunk. To it, the chunks between them were never sent; it stands
before the body meanwhile, and then finds the connection in order for the next request. What is unusual it reads itself.
"""

from __future__ import annotations

import _socket
import math
import os
import selectors
import socket
import ssl
import struct
import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, final

from blades._transport.cancel import shutdown
from blades._wire.chunked import Chunked

if TYPE_CHECKING:
    from blades._transport.cancel import Scope

LAST_CHUNK: Final = b"0\r\n\r\n"
READ_BYTES: Final = 65536
LONGEST_SECONDS: Final = 3600.0
LOOK_SECONDS: Final = 0.05
TIMER_SECONDS: Final = 0.001  # poll() counts in milliseconds
TIMEVAL: Final = "ll" if sys.platform in {"linux", "darwin"} else None  # Windows has no struct timeval here

Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)

current: ContextVar[Scope | None] = ContextVar("blades_scope", default=None)


@final
class Tap:
    """Stands before a connection's ``read`` and ``write``, to tell its request's scope of the socket.

    A request begins with a write in the thread that opens its stream: there the scope is known. The reads that follow,
    in whichever thread, belong to that request until the connection is lent to the next one.
    """

    def __init__(self, stream: Any) -> None:
        self.socket: socket.socket = stream.get_extra_info("socket")
        # Not TLS within TLS (a proxy's), and not where these modules are patched (gevent): all that waits elsewhere.
        self.is_usual = (
            socket.socket.recv is _socket.socket.recv
            and type(self.socket) in {socket.socket, ssl.SSLSocket}
            and not isinstance(stream.get_extra_info("ssl_object"), ssl.SSLObject)
        )
        self.before_body = False  # the library has read the headers of an answer and nothing after them
        self.timeout: float | None = None  # the library's, in seconds, for each read of this answer
        self._awaits_headers = False
        self._kept = b""  # read, but not given to the library yet
        self._scope: Scope | None = None
        self._process = os.getpid()
        self._read, self._write, self._close = stream.read, stream.write, stream.close
        stream.read, stream.write, stream.close = self.read, self.write, self.close

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send a part of a request."""
        self._scope = scope = current.get()
        self.before_body, self._awaits_headers = False, scope is not None
        if scope is not None and not scope.shared:
            scope.hold(self.socket)
        self._write(buffer, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read for the library."""
        self.before_body = False
        if self._kept:
            data, self._kept = self._kept[:max_bytes], self._kept[max_bytes:]
            return data
        scope = current.get()
        if scope is not None and scope.shared and self.is_usual:
            timeout = self._wait_for_others(scope, timeout)
        data = self.receive(max_bytes, timeout)
        if self._awaits_headers:
            self._awaits_headers, self.timeout = False, timeout
            data = self._keep_body(data)
        return data

    def receive(self, max_bytes: int, timeout: float | None) -> bytes:
        """Read what comes, in the library's way, until the scope's deadline at the latest."""
        deadline = None if self._scope is None else self._scope.deadline
        if deadline is not None:
            remaining = max(deadline - time.monotonic(), TIMER_SECONDS)
            timeout = remaining if timeout is None else min(timeout, remaining)
        data: bytes = self._read(max_bytes, timeout)
        if self._scope is not None:
            self._scope.tail = data[-len(LAST_CHUNK) :]
        return data

    def close(self) -> None:
        """Close the connection."""
        if self._scope is not None:
            self._scope.let_go(self.socket)
        if self._process == os.getpid():  # the caller's client may be closed while a thread reads: that one wakes up
            shutdown(self.socket)
        self._close()

    def take(self) -> bytes:
        """Take what the library has not been given yet."""
        data, self._kept = self._kept, b""
        return data

    def give(self, data: bytes) -> None:
        """Let the library read this next."""
        self.before_body, self._kept = False, data

    def _wait_for_others(self, scope: Scope, timeout: float | None) -> float | None:
        """Wait until there is something to read; return what is left of the time limit.

        One thread reads for all streams of a shared connection (HTTP/2), and those wait for it. So it must not stay
        when its own stream has ended; it leaves before it reads, when nothing is lost.

        Raises:
            Interrupted: the calling thread's stream has ended.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        decrypted = getattr(self.socket, "pending", int)
        with Selector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            while True:
                scope.check()
                remaining = max(deadline - time.monotonic(), TIMER_SECONDS)
                if decrypted() or selector.select(min(remaining, LOOK_SECONDS)) or remaining == TIMER_SECONDS:
                    return None if timeout is None else remaining

    def _keep_body(self, data: bytes) -> bytes:
        """Give the library the headers alone; all that came, if it is not plain where these end."""
        end = data.find(b"\n\r\n") + 3
        if data.startswith(b"HTTP/1.1 200") and end >= 3 and b"\n\n" not in data[:end]:  # noqa: PLR2004 - it was found
            self.before_body = True
            data, self._kept = data[:end], data[end:]
        return data


@final
class Body:
    """The body of an answer, by the short way. One reader at a time."""

    def __init__(self, tap: Tap, scope: Scope) -> None:
        self._tap = tap
        self._scope = scope
        self._chunked = Chunked()
        self._wait_seconds = 0.0  # what the socket's own time limit is set to; 0: not set, and not in blocking mode
        self._waits_in_kernel = TIMEVAL is not None and tap.is_usual

    @classmethod
    def of(cls, response: Any, scope: Scope) -> Body | None:
        """Find the short way to a response's body; None if the library must read it."""
        if not hasattr(getattr(response.stream, "_stream", None), "_httpcore_stream"):
            return None  # a caller's transport has put a stream of its own before the library's
        tap = getattr(getattr(response.extensions.get("network_stream"), "read", None), "__self__", None)
        headers = response.headers
        usual = headers.get("transfer-encoding", "").lower() == "chunked" and "content-length" not in headers
        return cls(tap, scope) if usual and isinstance(tap, Tap) and tap.before_body else None

    def read(self, deadline: float | None) -> bytes:
        """Read the next piece of the content; ``b""`` when the rest is the library's to read.

        Raises:
            TimeoutError: nothing came until the deadline (on the clock of `time.monotonic`).
            Exception: the connection was cut.
        """
        chunked = self._chunked
        while chunked.rest is None:
            data = self._tap.take() or self._receive(deadline)
            if not data:
                raise EOFError("the server closed the connection before the last chunk")
            content = chunked.feed(data)
            if content:
                return content
        if self._wait_seconds:
            self._set_wait(0)
        self._tap.give(chunked.rest)
        return b""

    def _receive(self, deadline: float | None) -> bytes:
        """Read what comes. Usually without system calls before it: each lets other threads run, and waits for them."""
        tap = self._tap
        remaining = math.inf if deadline is None else deadline - time.monotonic()
        if not self._waits_in_kernel or (tap.timeout is not None and tap.timeout < remaining):
            if self._wait_seconds:
                self._set_wait(0)
            self._scope.deadline = deadline
            return tap.receive(READ_BYTES, tap.timeout)
        while True:
            if not 0 < self._wait_seconds <= max(remaining, TIMER_SECONDS):
                self._set_wait(max(min(remaining, LONGEST_SECONDS) * 0.75, TIMER_SECONDS))  # seldom, not for each read
            try:
                data = tap.socket.recv(READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                remaining = math.inf if deadline is None else deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError from None
            else:
                self._scope.tail = data[-len(LAST_CHUNK) :]
                return data

    def _set_wait(self, seconds: float) -> None:
        """Set the socket's own time limit: unlike Python's, it needs no system call besides the one that reads.

        To Python, and to the TLS layer, the socket does not block: when it waited in vain, they return.
        """
        sock = self._tap.socket
        if not self._wait_seconds:
            sock.settimeout(0)
            os.set_blocking(sock.fileno(), True)
        self._wait_seconds = seconds
        wait = struct.pack(TIMEVAL or "", *divmod(int(seconds * 1e6), 1_000_000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
