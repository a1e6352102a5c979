"""The two ways in which the body of an answer is read; both keep the contract of `Response` in `cancel`.

`FastResponse` reads from the socket, in the reader's thread. `ReadAheadResponse` reads through the HTTP library, in the
thread that opened the request: its reader waits for a message, not for a socket, so that it is woken at once by a
cancel whatever the library is doing, and no exception of a caller's signal handler gets lost in there.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from blades._clock import monotonic
from blades._errors import clear_frames
from blades._transport.cancel import ARRIVED, DRAIN_SECONDS, ConnectionLost, DeadlinePassed, RequestCancelled
from blades._transport.connection import StaleConnection, TrackedConnection
from blades._transport.encoding import decoded_pieces
from blades._transport.threads import run_detached
from blades._values import ResponseInfo, StreamState
from blades._wire.inflate import ENCODINGS, Inflater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blades._transport.cancel import CancelScope
    from blades._transport.fast_body import FastBody

END_WAIT_SECONDS: Final = 0.002  # how long a reader waits, after a complete answer, for the end of its body
PROOF_WAIT_SECONDS: Final = 0.05  # how long the first reader of a process waits for the library to end its body
READ_AHEAD: Final = 16  # pieces


class Owner(Protocol):
    """The client that a response belongs to."""

    def response_closed(self) -> None:
        """Count one stream fewer: a retired client is closed with its last one."""
        ...

    def close_later(self, close: Callable[[], object]) -> None:
        """Have something closed when there are threads again."""
        ...


@final
class OpenedResponse:
    """A response of the HTTP library whose headers have arrived, and what it takes to release it."""

    _is_finalizing = staticmethod(sys.is_finalizing)  # at the exit this module may be empty already

    def __init__(
        self, response: Any, scope: CancelScope, owner: Owner, base_url: str, connection: TrackedConnection | None
    ) -> None:
        headers = response.headers
        self.raw = response
        self.scope = scope
        self.connection = connection
        self.info = ResponseInfo(
            status=response.status_code,
            content_type=headers.get("content-type", ""),
            base_url=base_url,
            request_id=headers.get("x-request-id"),
        )
        self.is_closed = bool(getattr(response, "is_closed", False))  # a caller's hook has read it
        self.encoding = headers.get("content-encoding", "").strip().lower()
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked" and "content-length" not in headers
        self._owner: Owner | None = owner

    def __del__(self) -> None:
        if self._owner is not None and not self._is_finalizing():  # lost between two steps, by Ctrl-C
            self.close()

    def release(self) -> None:
        """Release the connection, here and now: for the thread that reads. Idempotent, raises no Exception."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        with suppress(Exception):
            self.raw.close()
            # The oldest HTTP library leaves the response in a cycle: it must not keep the call until a collection.
            self.raw.request.extensions.pop("trace", None)
        if self.connection is not None:
            self.connection.end_response(self.scope)
        self.scope.detach()
        owner.response_closed()

    def close(self) -> bool:
        """Release the connection in a thread of its own; return False if there are no more threads.

        Closing takes the connection pool's lock, which is not re-entrant, and the caller may be a signal handler or
        ``__del__`` that interrupted the pool.
        """
        owner = self._owner
        if owner is None or run_detached(self.release):
            return True
        owner.close_later(self.release)
        return False


@final
class FastResponse:
    """An answer that is read from the socket by whoever asks for it."""

    def __init__(self, opened: OpenedResponse, body: FastBody) -> None:
        self.info = opened.info
        self._opened = opened
        self._body = body
        self._rest: ReadAheadResponse | None = None  # reads what the fast path does not understand
        self._ended = False

    def read(self, deadline: float | None) -> bytes:
        """See `Response`."""
        if self._rest is not None:
            return self._rest.read(deadline)
        content = b"" if self._ended else self._body.read(deadline)
        if content:
            return content
        if not self._body.ended:
            self._rest = ReadAheadResponse(self._opened)
            if not run_detached(self._rest.read_all):
                self._opened.scope.read_inline()
                self._rest.read_all()
            return self._rest.read(deadline)
        if not self._ended:
            self._ended = True
            self._give_back()
        return b""

    def finish(self, *, wait: bool) -> None:
        """See `Response`."""
        if wait and self._rest is None and self._end_arrives(END_WAIT_SECONDS):
            return
        if self._rest is not None:
            self._rest.finish(wait=wait)
        elif not run_detached(self._drain):
            self.close()

    def close(self) -> bool:
        """See `Response`. A body that has ended was handed back, or is closed when this object is collected."""
        if self._rest is not None:
            return self._rest.close()
        return self._ended or self._opened.close()

    def _end_arrives(self, seconds: float) -> bool:
        """Read to the end of the body, if it arrives at once."""
        deadline = monotonic() + seconds
        while self._rest is None and (remaining := deadline - monotonic()) > 0 and self._body.wait(remaining):
            try:
                if not self.read(ARRIVED):
                    return True
            except DeadlinePassed:
                continue
            except ConnectionLost:
                self._opened.close()
                return True
        return False

    def _drain(self) -> None:
        """Read to the end of the body, in the background, so that the connection can be used again."""
        deadline = monotonic() + DRAIN_SECONDS
        with suppress(DeadlinePassed, ConnectionLost):
            while self.read(deadline):
                pass
        self._opened.release()

    def _give_back(self) -> None:
        """Let the library read the last chunk, which is all that the body is to it: its connection is free then.

        A library that is not known to read what is pushed back does it in the background: it may wait for ever. So
        does any library for the main thread, where an exception of a signal handler, in the midst of the library's
        code, would leave the connection taken in its pool for ever.
        """
        connection = self._opened.connection
        if connection is None or (connection.is_proven and threading.current_thread() is not threading.main_thread()):
            self._let_library_end()
            return
        self._opened.scope.begin_read(monotonic() + DRAIN_SECONDS)
        ended = threading.Event()

        def try_it() -> None:
            self._let_library_end()
            connection.prove()
            ended.set()

        if not run_detached(try_it):
            self._opened.release()
        elif not ended.wait(PROOF_WAIT_SECONDS):
            connection.disprove()

    def _let_library_end(self) -> None:
        with suppress(Exception):
            for _ in self._opened.raw.stream:
                pass
        self._opened.release()


@final
class ReadAheadResponse:
    """An answer that is read through the HTTP library, by a thread that is not its reader's.

    The server is informed of a cancel at once where there is a socket of this stream's own to shut down, else when it
    sends next; on HTTP/2 never, because the library sends no RST_STREAM: it only stops reading.
    """

    def __init__(self, opened: OpenedResponse) -> None:
        self.info = opened.info
        self._opened = opened
        self._scope = opened.scope
        self._ended = False
        self._released = threading.Event()
        self._wanted: SimpleQueue[None] = SimpleQueue()  # one item for each piece that may be read ahead
        for _ in range(READ_AHEAD):
            self._wanted.put(None)
        # Whatever becomes of this object: an exception between two steps of its reader may lose it.
        self._scope.state.add_cleanup(partial(self._wanted.put, None))

    def read_all(self) -> None:
        """Read the body piece by piece, not further ahead than the reader can take: for the opening thread."""
        scope = self._scope
        try:
            for piece in self._pieces():
                if scope.state.active and scope.read_timeout_seconds is None:
                    self._wanted.get()
                if not self._is_wanted():
                    break
                scope.deliver(piece)
            else:
                scope.deliver(b"")
        except (RequestCancelled, StaleConnection) as error:
            clear_frames(error)
        except Exception as error:  # whatever it is, the reader judges it
            clear_frames(error)
            scope.deliver(ConnectionLost(error))
        finally:
            self._opened.release()
            self._released.set()

    def read(self, deadline: float | None) -> bytes:
        """See `Response`."""
        while not self._ended and self._scope.state.active:
            arrival = self._scope.receive(deadline)
            if isinstance(arrival, ConnectionLost):
                try:
                    raise arrival
                finally:
                    del arrival  # else it keeps this frame, and that one the callers', until the next collection
            if isinstance(arrival, bytes):
                self._wanted.put(None)
                self._ended = not arrival
                return arrival
        return b""

    def finish(self, *, wait: bool) -> None:
        """See `Response`. The opening thread reads on to the end of the body, for a while."""
        self._scope.begin_read(monotonic() + DRAIN_SECONDS)
        if wait:
            self._released.wait(END_WAIT_SECONDS)

    def close(self) -> bool:
        """See `Response`. The opening thread stops with the next piece; the scope has shut its socket down."""
        return True

    def _is_wanted(self) -> bool:
        """Return whether the rest of the body is wanted: by the reader, or for the sake of the connection."""
        state = self._scope.state
        drains_until = (state.ended_at or monotonic()) + DRAIN_SECONDS
        return state.active or (state.value is StreamState.FINISHED and monotonic() < drains_until)

    def _pieces(self) -> Iterator[bytes]:
        """Read the decoded body through the library; no piece is empty."""
        opened = self._opened
        stream = getattr(opened.raw, "stream", None)  # may have another name in a version to come
        understood = opened.encoding in {"", "identity"} or opened.encoding in ENCODINGS
        if stream is None or opened.is_closed or not understood:
            yield from decoded_pieces(opened.raw, opened.encoding)
            return
        inflater = Inflater(opened.encoding) if opened.encoding in ENCODINGS else None
        for piece in stream:
            if not self._is_wanted():  # a socket that was shut down has data as long as the server floods it
                return
            if inflater is not None:
                yield from inflater.feed(piece)  # a small body may hold gigabytes: they are made piece by piece
            elif piece:
                yield piece
        connection = opened.connection
        if connection is not None and opened.chunked and connection.has_leftover:
            connection.retire()  # bytes after the end would be read as the answer to the next request
