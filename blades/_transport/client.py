"""The official client: the only module that imports it.

Requests go through ``chat.completions.with_streaming_response``, so that authentication, retries, proxies and Azure
are the official client's. Two of its hooks are used, and one feature of its HTTP library:

- ``_prepare_request(request)`` runs before each attempt, outside the part that retries: nothing leaves once the
  stream has ended, and each request gets a ``trace`` callback.
- ``_sleep_for_retry`` waits between attempts, as long as ``_calculate_retry_timeout`` says; here it can be interrupted.
- The trace callback is told of each new connection and of the end of each response. A connection is tapped once, when
  it is made, to learn which request it is serving, and to read its answer in the cheaper way: see
  `blades._transport.connection`.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
import traceback
import weakref
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, cast, final

import openai

from blades._transport.cancel import SHUTDOWN_WAKES, Interrupted, Scope, in_background
from blades._transport.connection import LAST_CHUNK, TIMER_SECONDS, Body, Tap, current
from blades._values import ResponseInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

CONNECT_TIMEOUT_SECONDS: Final = 5.0  # the official client's own; what follows is limited by the stream's limits
IDLE_SECONDS: Final = 60.0  # a person answers a chat within that; the official client's 5 s would reconnect each time
DRAIN_SECONDS: Final = 0.05
PIECES_AHEAD: Final = 16


@final
class Connector:
    """One official client, shared by all streams of an agent. Thread-safe."""

    def __init__(self, client: openai.OpenAI, *, owned: bool) -> None:
        self.client = client
        if owned:
            # Not __del__: together with the client, in a cycle, its sockets could be collected before it closes them.
            # Not at exit either: daemon threads that read a stream would tell of an error, or hold a lock for ever.
            weakref.finalize(self, _close, client).atexit = False
        self._left = threading.local()  # the drain that the calling thread left behind, if any
        _hook(client)

    @classmethod
    def make(cls, api_key: str, base_url: str | None, max_retries: int | None) -> Connector:
        """Make a client. Everything that the official client reads from the environment by itself stays so."""
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)(keepalive_expiry=IDLE_SECONDS)
        timeout = openai.Timeout(None, connect=CONNECT_TIMEOUT_SECONDS)
        client = openai.OpenAI(
            api_key=api_key,
            base_url=base_url or "https://api.openai.com/v1",  # the official default; an empty variable must not win
            max_retries=openai.DEFAULT_MAX_RETRIES if max_retries is None else max_retries,
            http_client=openai.DefaultHttpxClient(limits=limits, timeout=timeout),
            timeout=timeout,
        )
        return cls(client, owned=True)

    @classmethod
    def adopt(cls, client: openai.OpenAI, max_retries: int | None) -> Connector:
        """Use a caller's client: a copy, which shares its connections, so that the caller's own is not changed."""
        options: dict[str, Any] = {} if max_retries is None else {"max_retries": max_retries}
        return cls(client.with_options(**options), owned=False)

    def run(self, body: Mapping[str, Any], scope: Scope, left_by: threading.Event | None) -> None:
        """Send the request and hand its answer over to the scope, or its failure: the opening thread's work."""
        current.set(scope)
        if left_by is not None:
            left_by.wait(DRAIN_SECONDS)
        try:
            manager = self.client.chat.completions.with_streaming_response.create(**body, stream=True)
            response = OpenResponse(manager.__enter__().http_response, scope, self)
        except Interrupted as interrupted:
            # In the frames that it passed are cycles, which keep the client until the next garbage collection.
            traceback.clear_frames(interrupted.__traceback__)
            return
        except Exception as error:
            # The official client lets its HTTP library's exceptions through where it reads the body of an error status.
            if isinstance(error, openai.OpenAIError) or not hasattr(type(error), "request"):
                raise
            raise openai.APIConnectionError(request=cast("Any", error).request) from error
        if not (scope.holds_socket and SHUTDOWN_WAKES):
            PumpedResponse(response, scope).pump()
        elif not scope.deliver(response):
            response.release()

    def leave(self) -> threading.Event:
        """Note that the calling thread leaves a drain behind; return the event to set when it is done."""
        event = self._left.drain = threading.Event()
        return event

    def left_by_this_thread(self) -> threading.Event | None:
        """Take the drain that the calling thread left behind; waiting for it gets its connection back."""
        event, self._left.drain = getattr(self._left, "drain", None), None
        return event


@final
class OpenResponse:
    """An answer whose headers have come. One reader at a time; closed by it, or by anybody while none is reading."""

    def __init__(self, response: Any, scope: Scope, connector: Connector) -> None:
        self._response = response
        self._scope = scope
        self._connector: Connector | None = connector  # which closes its client when the last one lets go of it
        headers = response.headers
        self.head = ResponseInfo(
            status=response.status_code,
            content_type=headers.get("content-type", ""),
            base_url=str(connector.client.base_url).rstrip("/"),
            request_id=headers.get("x-request-id"),
        )
        # Content that is not encoded is taken as it comes, without the two layers of generators that decode it.
        encoded = headers.get("content-encoding", "identity") != "identity" or response.is_closed  # a hook has read it
        self._pieces: Iterator[bytes] = response.iter_bytes() if encoded else iter(response.stream)
        self._body = None if encoded else Body.of(response, scope)
        stream = response.extensions.get("network_stream")
        if stream is not None and not (response.is_closed or scope.holds_socket or scope.shared):
            _tap(stream, scope)  # the caller's own request has made this connection

    def __del__(self) -> None:  # when Ctrl-C came between any two steps
        if self._connector is not None:
            in_background(self._response.close)

    def read(self, deadline: float | None) -> bytes:
        """Read the next piece; ``b""`` is the proper end.

        Raises:
            TimeoutError: nothing came until the deadline (on the clock of `time.monotonic`).
            Exception: the transport's own, when the connection was cut.
        """
        if self._body is not None:
            content = self._body.read(deadline)
            if content:
                return content
            self._body = None
        self._scope.deadline = deadline
        try:
            while (piece := next(self._pieces, None)) is not None:
                if piece:
                    return piece
        except Exception as error:
            if deadline is not None and time.monotonic() >= deadline - TIMER_SECONDS:
                raise TimeoutError from error
            raise
        self.release()
        return b""

    def drain(self, seconds: float) -> bool:
        """Read what is left, for so long, and release the connection; True if it can be used again."""
        deadline = time.monotonic() + seconds
        try:
            while self.read(deadline):
                pass
        except Exception:  # noqa: BLE001 - the answer is whole; this is only about its connection
            return False
        return True

    def finish(self, *, wait: bool) -> None:
        """Give the connection back after a whole answer: now if its end has come, else in the background.

        Not with a short time limit here, and then again in the background: the HTTP library closes a connection whose
        reading failed, if only by a time limit.
        """
        try:
            if wait and self._scope.tail == LAST_CHUNK and self.drain(TIMER_SECONDS):
                return
        except BaseException:
            self.close()
            raise
        drained = threading.Event() if self._connector is None else self._connector.leave()

        def drain_and_close() -> None:
            self.drain(DRAIN_SECONDS)
            self.release()
            drained.set()

        in_background(drain_and_close)
        if wait:
            drained.wait(TIMER_SECONDS)

    def close(self) -> bool:
        """Release the connection in a thread of its own; False if there are no more threads.

        It takes the connection pool's lock, which is not re-entrant: the caller may be a signal handler or ``__del__``
        that interrupted the pool. Nor is it made to be interrupted, as the main thread can be. Nothing waits for it.
        """
        return in_background(self.release)

    def release(self) -> None:
        """Release the connection, here and now; for its reader. Idempotent, raises no Exception."""
        with suppress(Exception):
            self._response.close()
        # An exception that somebody keeps has frames that refer to this: they must not keep the client in turn.
        self._connector, self._body, self._pieces = None, None, iter(())


@final
class PumpedResponse:
    """An answer whose reader cannot be woken (on HTTP/2, a custom transport, Windows): the opening thread reads it.

    The consumer waits for its inbox instead and is interrupted as ever. The server is told at once where there is a
    socket of this stream's own to shut down, else when the next bytes come; on HTTP/2 never, for the HTTP library sends
    no RST_STREAM: it only stops reading.
    """

    def __init__(self, response: OpenResponse, scope: Scope) -> None:
        self.head = response.head
        self._response = response
        self._scope = scope
        self._left = False
        self._wanted: SimpleQueue[bool] = SimpleQueue()  # one True for each piece that may be read ahead
        for _ in range(PIECES_AHEAD):
            self._wanted.put(True)

    def pump(self) -> None:
        """Read the answer piece by piece into the inbox, not further ahead than the consumer can take."""
        inbox = self._scope.inbox
        if self._scope.deliver(self):
            piece: bytes | Exception = b"..."
            while piece and self._wanted.get() and not self._left:
                try:
                    piece = self._response.read(None)
                except Interrupted:
                    break
                except Exception as error:  # noqa: BLE001 - whatever it is, the consumer judges it
                    inbox.put(error)
                    break
                inbox.put(piece)
        self._response.release()

    def read(self, deadline: float | None) -> bytes:
        """Take the next piece; the same contract as `OpenResponse.read`, but ``b""`` when the stream has ended."""
        piece = self._scope.receive(deadline)
        self._wanted.put(True)
        if isinstance(piece, Exception):
            raise piece
        return piece or b""

    def finish(self, *, wait: bool) -> None:
        """Let the reader come to the end by itself: it may read as far ahead as ever, and no further."""
        del wait
        self._wanted.put(False)

    def close(self) -> bool:
        """Stop reading; takes effect when the next bytes come. Any thread may call this, it only sends a word."""
        self._left = True
        self._wanted.put(False)
        return True


def _close(client: openai.OpenAI) -> None:
    with suppress(Exception):
        client.close()


def _hook(client: Any) -> None:
    """Let this client's requests be interrupted. Inert for requests that no stream has sent."""
    prepare_request = client._prepare_request  # noqa: SLF001 - a documented hook of the official client
    sleep_for_retry = client._sleep_for_retry  # noqa: SLF001

    def prepare(request: Any) -> None:
        scope = current.get()
        if scope is not None:
            scope.check()
            request.extensions["trace"] = _tracer(scope)
        prepare_request(request)

    def sleep(*, retries_taken: int, max_retries: int, options: Any, response: Any) -> None:
        scope = current.get()
        if scope is None:
            sleep_for_retry(retries_taken=retries_taken, max_retries=max_retries, options=options, response=response)
            return
        headers = None if response is None else response.headers
        scope.check()
        scope.sleep(client._calculate_retry_timeout(max_retries - retries_taken, options, headers))  # noqa: SLF001

    client._prepare_request = prepare  # noqa: SLF001
    client._sleep_for_retry = sleep  # noqa: SLF001


def _tracer(scope: Scope) -> Callable[[str, Mapping[str, Any]], None]:
    """Make the callback that follows one request through the HTTP library."""

    def trace(event: str, info: Mapping[str, Any]) -> None:
        layer, _, step = event.partition(".")
        if step == "response_closed.started":
            scope.let_go()
        elif layer == "http2":
            scope.shared = True
            scope.let_go()
            if step == "send_request_headers.started":  # later than here, an exception would break other streams
                scope.check()
        elif step in ("connect_tcp.started", "send_request_headers.started"):
            scope.check()
        elif step == "start_tls.started":
            scope.hold_handshake()
        elif step == "start_tls.failed":
            scope.let_go()
            _close_half_made(info["exception"])
        elif step in ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete"):
            _tap(info["return_value"], scope)

    return trace


def _close_half_made(error: BaseException | None) -> None:
    """Close the socket of a handshake that never began: the ssl module forgets it where the connection was reset."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            sock = frame.f_locals.get("self")
            if isinstance(sock, ssl.SSLSocket):
                sock.close()
        error = error.__context__


def _tap(stream: Any, scope: Scope) -> None:
    """Watch a new connection of the HTTP library, which is given up at once if its stream has ended meanwhile."""
    tls = stream.get_extra_info("ssl_object")
    if tls is not None and tls.selected_alpn_protocol() == "h2":
        scope.shared = True
    if not isinstance(stream.get_extra_info("socket"), socket.socket):
        return  # a network backend of the caller's own: it cannot be interrupted
    try:
        scope.hold(Tap(stream).socket)
    except Interrupted:
        stream.close()
        raise


def official_names() -> AbstractSet[str]:
    """Return the names of the parameters of ``chat.completions.create`` in the installed official client."""
    import inspect  # noqa: PLC0415 - for an option that is not known here

    from openai.resources.chat.completions import Completions  # noqa: PLC0415 - the same

    return inspect.signature(Completions.create).parameters.keys() - {"self", "timeout", "messages", "stream"}
