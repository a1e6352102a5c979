"""The two ways in which the body of an answer is read; both keep the contract of `Response` in `cancel`.

`FastResponse` reads from the socket, in the reader's thread. `ReadAheadResponse` reads through the HTTP library, in the
thread that opened the request: its reader waits for a message, not for a socket, so that it is woken at once by a
cancel whatever the library is doing, and no exception of a caller's signal handler gets lost in there.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, final

from blades._clock import monotonic
from blades._errors import clear_frames
from blades._transport.arrivals import ARRIVED, ConnectionLost, DeadlinePassed
from blades._transport.cancel import DRAIN_SECONDS, RequestCancelled
from blades._transport.connection import StaleConnection
from blades._transport.library_body import is_wanted, pieces_of
from blades._transport.threads import run_detached

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blades._transport.fast_body import FastBody
    from blades._transport.opened import OpenedResponse

END_WAIT_SECONDS: Final = 0.002  # how long a reader waits, after a complete answer, for the end of its body
PROOF_WAIT_SECONDS: Final = 0.05  # how long the first reader of a process waits for the library to end its body
READ_AHEAD: Final = 16  # pieces


@final
class FastResponse:
    """An answer that is read from the socket by whoever asks for it."""

    __slots__ = ("_body", "_ended", "_opened", "_rest", "info")

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
        in_main_thread = threading.get_ident() == threading.main_thread().ident
        if connection is None or (connection.is_proven and not in_main_thread):
            self._let_library_end()
            return
        self._opened.scope.begin_read(monotonic() + DRAIN_SECONDS)
        # Not an Event, whose `wait` breaks when a signal handler raises in it: see `condition`.
        ended: SimpleQueue[None] = SimpleQueue()

        def try_it() -> None:
            self._let_library_end()
            connection.prove()
            ended.put(None)

        if not run_detached(try_it):
            self._opened.release()
            return
        try:
            ended.get(timeout=PROOF_WAIT_SECONDS)
        except Empty:
            connection.disprove()

    def _let_library_end(self) -> None:
        with suppress(Exception):
            for _ in self._opened.raw.stream:
                pass
        self._opened.release()


@final
class ReadAheadResponse:
    """An answer that is read through the HTTP library, by a thread that is not its reader's, if there is one.

    The server is informed of a cancel at once where there is a socket of this stream's own to shut down, else when it
    sends next; on HTTP/2 never, because the library sends no RST_STREAM: it only stops reading.
    """

    def __init__(self, opened: OpenedResponse) -> None:
        self.info = opened.info
        self._opened = opened
        self._scope = opened.scope
        self._ended = False
        self._released: SimpleQueue[None] = SimpleQueue()  # holds an item once the connection was released
        self._inline: Iterator[bytes] | None = None  # the body, where there is no other thread
        self._wanted: SimpleQueue[None] = SimpleQueue()  # one item for each piece that may be read ahead
        for _ in range(READ_AHEAD):
            self._wanted.put(None)
        # Whatever becomes of this object: an exception between two steps of its reader may lose it.
        self._scope.state.add_cleanup(partial(self._wanted.put, None))

    def read_all(self) -> None:
        """Read the body piece by piece, not further ahead than the reader can take: for the opening thread."""
        scope = self._scope
        try:
            for piece in pieces_of(self._opened):
                if scope.state.active:
                    self._wanted.get()
                if not is_wanted(scope.state):
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
            self._released.put(None)

    def read(self, deadline: float | None) -> bytes:
        """See `Response`."""
        while not self._ended and self._scope.state.active:
            if self._scope.reads_inline:
                return self._read_inline(deadline)
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
        if self._scope.reads_inline:
            if wait:
                with suppress(DeadlinePassed, ConnectionLost):
                    while self._read_inline(monotonic() + END_WAIT_SECONDS):
                        pass
            self._opened.close()
            return
        self._scope.begin_read(monotonic() + DRAIN_SECONDS)
        if wait:
            with suppress(Empty):
                self._released.get(timeout=END_WAIT_SECONDS)

    def close(self) -> bool:
        """See `Response`. The opening thread stops with the next piece; the scope has shut its socket down."""
        return self._opened.close() if self._scope.reads_inline else True

    def _read_inline(self, deadline: float | None) -> bytes:
        """Return the next piece, read in the calling thread. Raises as `Response.read` does."""
        self._scope.read_by(deadline)
        if self._inline is None:
            self._inline = pieces_of(self._opened)
        try:
            piece = next(self._inline, b"")
        except (RequestCancelled, StaleConnection):
            piece = b""
        except Exception as error:
            self._opened.release()
            if deadline is not None and monotonic() >= deadline:
                raise DeadlinePassed from None
            raise ConnectionLost(error) from error
        if not piece:
            self._ended = True
            self._opened.release()
        return piece
