"""An OpenAI-compatible server on loopback that answers what a test scripts.

    with LocalServer("Hello there.", pace=0) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="any")

It is made for testing code that streams: every answer is a list of steps (text, raw bytes, pauses, faults), every
request is recorded, and a client that leaves is noticed within milliseconds. Without a script it answers with
readable text about the prompt it got, at a human pace. ``python -m blades.testing`` runs it as a process.

One thread serves each connection; it never blocks in a read or a write, but waits in ``poll`` for its socket, so that
a disconnect ends every phase: handshake, idling, pausing, stalling and sending. A client that shuts down only its
sending side counts as gone.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeAlias, TypeVar, final

if TYPE_CHECKING:
    import ssl
    import tempfile
    from types import TracebackType

__all__ = ["Answer", "Connection", "Cut", "End", "LocalServer", "Request", "Reset", "Stall", "chunk"]

Framing: TypeAlias = Literal["chunked", "length", "close"]

_T = TypeVar("_T")
_MODEL = "local-test"
_HEAD_LIMIT = 64 * 1024
_BODY_LIMIT = 64 * 1024 * 1024
_POLL: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


@final
@dataclass(frozen=True, slots=True)
class Stall:
    """Send nothing more until `Request.release`, `LocalServer.release`, or the client leaves."""


@final
@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection (TCP RST): the client gets "connection reset by peer"."""


@final
@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection in the middle: a chunked or length-framed body is left incomplete."""


@final
@dataclass(frozen=True, slots=True)
class End:
    """End the body properly, right here: no later step, no finish reason, no usage, no ``[DONE]``."""


Fault: TypeAlias = Stall | Reset | Cut | End
Step: TypeAlias = str | bytes | dict[str, Any] | float | Fault


def chunk(content: str | None = None, *, finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    """Make the ``chat.completion.chunk`` of one delta, to be used (or changed first) as a step.

    Args:
        content: The delta's text; None leaves it out.
        finish_reason: The choice's finish reason.
        delta: Further fields of the delta, such as ``tool_calls=[...]`` or ``reasoning_content="..."``.
    """
    if content is not None:
        delta = {"content": content, **delta}
    return {
        "id": "chatcmpl-local",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": _MODEL,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


@final
class Answer:
    r"""What the server sends for one request: steps, played in order, and how they are framed.

    A step is one of

    - `str`: one event with this text as its content delta;
    - `dict`: one event ``data: <its JSON>``, verbatim (see `chunk`);
    - `bytes`: sent exactly as they are, in one ``send`` and one HTTP chunk;
    - a number: a pause of that many seconds, ended early by the client leaving;
    - `Stall`, `Reset`, `Cut`, `End`.

    After the steps come the finish event, the usage event if the request asked for one, and ``data: [DONE]``. A
    request that does not ask for a stream gets the text as one JSON completion (pauses and faults come before it);
    but an answer with `bytes` or `dict` steps is always sent as it is.

    Args:
        steps: The steps of the body.
        status: The HTTP status.
        headers: Added to the server's own headers, which they override whatever their case. With a
            ``Content-Length`` or ``Transfer-Encoding`` of your own the body bytes are sent without further framing.
        framing: How the end of the body is told: "chunked", "length", or "close" (the end of the connection).
        before_headers: Pauses, stalls and faults before the status line; `Cut` closes without a byte.
        finish_reason: Of the finish event; None sends no such event.
        usage: Sent if the request asked for usage; None counts words, which is only an approximation.
        done: False sends nothing after the steps: no finish event, no usage, no ``[DONE]``.
        http10: Answer as an HTTP/1.0 server, which closes the connection after each body.

    Raises:
        TypeError: A step of another type.
        ValueError: A pause that is negative or not finite, or an unknown framing.
    """

    __slots__ = (
        "before_headers", "done", "finish_reason", "framing", "headers", "http10", "status", "steps", "usage",
    )  # fmt: skip

    def __init__(
        self,
        *steps: Step,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        framing: Framing = "chunked",
        before_headers: Sequence[float | Fault] = (),
        finish_reason: str | None = "stop",
        usage: Mapping[str, Any] | None = None,
        done: bool = True,
        http10: bool = False,
    ) -> None:
        for step in steps:
            _check_step(step, (str, bytes, dict))
        for step in before_headers:
            _check_step(step, ())
        if framing not in ("chunked", "length", "close"):
            raise ValueError(f'framing must be "chunked", "length" or "close", not {framing!r}')
        self.steps = steps
        self.status = status
        self.headers = dict(headers or {})
        self.framing: Framing = framing
        self.before_headers = tuple(before_headers)
        self.finish_reason = finish_reason
        self.usage = usage
        self.done = done
        self.http10 = http10

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, {len(self.steps)} steps)"

    @classmethod
    def text(cls, text: str, *, words: bool = True, pause: float = 0.0, **options: Any) -> Answer:
        """Answer with this text, word by word (or as one event), with `pause` seconds between the events.

        Args:
            text: The whole text.
            words: False sends it as one event.
            pause: Seconds between two events.
            options: As for `Answer`: ``finish_reason``, ``usage``, ``framing``, ``headers``, ...
        """
        pieces = _tokens(text) if words else [text]
        steps: list[Step] = []
        for piece in pieces:
            if steps and pause:
                steps.append(pause)
            steps.append(piece)
        return cls(*steps, **options)

    @classmethod
    def raw(cls, body: bytes, *, content_type: str = "text/event-stream; charset=utf-8", **options: Any) -> Answer:
        """Answer with exactly this body, sent at once.

        Args:
            body: All of it.
            content_type: The ``Content-Type``, unless ``headers`` has one.
            options: As for `Answer`: ``status``, ``framing``, ``headers``, ...
        """
        headers = {"Content-Type": content_type, **(options.pop("headers", None) or {})}
        return cls(*([body] if body else []), headers=headers, done=False, **options)

    @classmethod
    def error(
        cls,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002 - the name of the field in OpenAI's error object
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Answer with an error status and OpenAI's JSON error object."""
        error = {"message": message, "type": type, "param": param, "code": code}
        return cls.raw(
            _json({"error": error}),
            content_type="application/json",
            status=status,
            headers=headers,
            framing="length",
        )


@final
class Headers(Mapping[str, str]):
    """The headers of a request; names are matched in any case and iterated in lower case."""

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
        return f"Headers({sorted(self._values)})"


@final
@dataclass(eq=False, slots=True)
class Connection:
    """One accepted TCP connection. Times are of `time.monotonic`; events may be waited for from any thread."""

    number: int
    """1 for the first connection of the server."""
    opened_at: float
    closed_by_client: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set as soon as the client closed, reset or shut down the connection before the server did."""
    closed: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the connection ended, whoever ended it."""
    closed_at: float | None = None


@final
@dataclass(eq=False, slots=True)
class Request:
    """One request that has arrived whole, and what became of its answer. Call it from any thread."""

    method: str
    path: str
    headers: Headers
    body: bytes = field(repr=False)
    connection: int
    """The number of the connection it came on: equal numbers mean a re-used connection."""
    http10: bool = field(default=False, repr=False)
    arrived_at: float = field(default_factory=time.monotonic, repr=False)
    left: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the client went away before its answer was whole."""
    left_at: float | None = field(default=None, repr=False)
    answered: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the whole answer was sent. Neither this nor `left` is set after `Reset` or `Cut`."""
    stalled: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set while the answer waits in a `Stall`: all that comes before it has been sent."""
    _releases: float = field(default=0, init=False, repr=False)
    _bell: socket.socket | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: The body is not JSON.
        """
        return json.loads(self.body)

    def release(self) -> None:
        """Let one `Stall` of this answer go on: the present one, or else the next one it comes to."""
        self._release(1)

    def _release(self, count: float) -> None:
        with self._lock:
            self._releases += count
            if self._bell is not None:
                self._bell.send(b"\0")

    def _take_release(self) -> bool:
        with self._lock:
            if self._releases < 1:
                return False
            self._releases -= 1
            return True

    def _stall(self, wire: _Wire) -> None:
        if self._take_release():
            return
        near, far = socket.socketpair()
        with near, far:
            with self._lock:
                self._bell = far
                if self._releases:
                    far.send(b"\0")
            self.stalled.set()
            try:
                while not self._take_release():
                    wire.wait_for(near)
            finally:
                self.stalled.clear()
                with self._lock:
                    self._bell = None


Script: TypeAlias = str | Answer | Callable[[Request], str | Answer]


@final
class LocalServer:
    """An OpenAI-compatible server on loopback; it runs from its construction until `close`.

    Each chat request takes the next scripted answer, and `default` once the script is used up. An answer is a `str`
    (streamed word by word), an `Answer`, or a callable that is given the `Request` and returns one of these; while a
    callable runs, nobody looks whether its client leaves.

    Args:
        answers: The first scripted answers; `add` queues more.
        default: What answers when no scripted answer is left: readable text about the prompt, if not given.
        tls: Serve HTTPS, with a certificate made on the spot; see `certificate`.
        handshake: "stall" accepts connections but never answers the TLS handshake; "reset" resets them instead.
        http10: Answer all requests as an HTTP/1.0 server.
        pace: Seconds between two words of a `str` answer and of the readable text.
        api_key: Refuse requests without this bearer key, as OpenAI does.
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.

    Raises:
        OSError: The address is not available.

    Leaving a ``with`` block raises `RuntimeError` if a scripted callable had raised, so that a broken script cannot
    go unnoticed: clear `errors` where that was expected.
    """

    default: Script
    """What answers when the script is used up."""
    requests: list[Request]
    """All requests that arrived whole, in order of arrival."""
    connection_log: list[Connection]
    """All connections accepted, in order."""
    errors: list[Exception]
    """What scripted callables raised; the client got a 500."""
    certificate: str
    """With TLS: the throw-away CA certificate to trust, as PEM; else empty."""
    certificate_file: str
    """With TLS: the path of a file with `certificate`, until `close` (``SSL_CERT_FILE``, ``cafile=``); else empty."""

    def __init__(
        self,
        *answers: Script,
        default: Script | None = None,
        tls: bool = False,
        handshake: Literal["stall", "reset"] | None = None,
        http10: bool = False,
        pace: float = 0.03,
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._pace = pace
        self._api_key = api_key
        self._http10 = http10
        self._handshake = handshake
        self._answers = deque(answers)
        self.default = default if default is not None else self._talk
        self.requests = []
        self.connection_log = []
        self.errors = []
        self.certificate = self.certificate_file = ""
        self._changed = threading.Condition()
        self._closing = False
        self._sockets: dict[int, socket.socket] = {}
        self._threads: set[threading.Thread] = set()
        self._context: ssl.SSLContext | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._listener = socket.create_server((host, port), backlog=4096)
        self._listener.setblocking(False)
        self._doorbell = socket.socketpair()
        if tls or handshake:
            self._make_certificate()
        scheme = "https" if tls or handshake else "http"
        self.base_url = f"{scheme}://{host}:{self._listener.getsockname()[1]}/v1"
        self._acceptor = threading.Thread(target=self._accept, name="LocalServer", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self.errors and error is None:
            raise RuntimeError(f"a scripted answer of the LocalServer raised {self.errors[0]!r}") from self.errors[0]

    def __repr__(self) -> str:
        return f"<LocalServer {self.base_url}, {len(self.requests)} requests>"

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        return len(self.connection_log)

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return sum(not connection.closed.is_set() for connection in tuple(self.connection_log))

    def add(self, *answers: Script) -> None:
        """Queue more answers. Call from any thread."""
        with self._changed:
            self._answers.extend(answers)

    def wait_for_request(self, number: int = 1, timeout: float = 10.0) -> Request:
        """Wait until that many requests have arrived whole, and return the last of these.

        Raises:
            TimeoutError: They had not after `timeout` seconds.
        """
        return self._wait_for(self.requests, number, timeout, "requests")

    def wait_for_connection(self, number: int = 1, timeout: float = 10.0) -> Connection:
        """Wait until that many connections were accepted, and return the last of these.

        Raises:
            TimeoutError: They had not been after `timeout` seconds.
        """
        return self._wait_for(self.connection_log, number, timeout, "connections")

    def _wait_for(self, items: list[_T], number: int, timeout: float, name: str) -> _T:
        with self._changed:
            if not self._changed.wait_for(lambda: len(items) >= number, timeout):
                raise TimeoutError(f"expected {number} {name} within {timeout} s, {len(items)} came")
            return items[number - 1]

    def release(self) -> None:
        """Let every `Stall` go on, of all requests that have arrived so far. Call from any thread."""
        with self._changed:
            requests = tuple(self.requests)
        for request in requests:
            request._release(math.inf)  # noqa: SLF001 - the same module

    def close(self) -> None:
        """End all connections and threads at once, stalled ones too. Idempotent; call from any thread."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            for sock in self._sockets.values():
                _shutdown(sock)
        deadline = time.monotonic() + 1
        self._doorbell[1].send(b"\0")
        self._acceptor.join(1)
        _shutdown(self._listener)
        for closable in (self._listener, *self._doorbell):
            closable.close()
        for thread in tuple(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._directory is not None:
            self._directory.cleanup()

    def _make_certificate(self) -> None:
        import ssl  # noqa: PLC0415 - slow to import, and most servers do without
        import tempfile  # noqa: PLC0415 - same

        from blades._certificate import make_certificate  # noqa: PLC0415 - same

        authority, chain = make_certificate()
        self._directory = tempfile.TemporaryDirectory(prefix="blades-testing-")
        directory = Path(self._directory.name)
        (directory / "authority.pem").write_text(authority)
        (directory / "server.pem").write_text(chain)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(directory / "server.pem")
        (directory / "server.pem").unlink()
        self.certificate = authority
        self.certificate_file = str(directory / "authority.pem")

    def _accept(self) -> None:
        with _POLL() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._doorbell[0], selectors.EVENT_READ)
            while True:
                selector.select()
                if self._closing:
                    return
                with contextlib.suppress(OSError):
                    self._welcome(self._listener.accept()[0])

    def _welcome(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._changed:
            connection = Connection(len(self.connection_log) + 1, time.monotonic())
            self.connection_log.append(connection)
            self._changed.notify_all()
            thread = threading.Thread(target=self._serve, args=(connection, sock), daemon=True)
            self._threads.add(thread)
        thread.start()

    def _serve(self, connection: Connection, sock: socket.socket) -> None:
        wire: _Wire | None = None
        try:
            if self._context is not None and self._handshake is None:
                sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            with self._changed:
                if self._closing:
                    return
                self._sockets[connection.number] = sock
            wire = _Wire(sock)
            self._converse(connection, wire)
        except (_ClientLeft, OSError):
            if not self._closing:
                connection.closed_by_client.set()
        except _Ended:
            pass
        finally:
            # Once it is out of the table nobody else touches the socket, so it may be closed.
            with self._changed:
                self._sockets.pop(connection.number, None)
                self._threads.discard(threading.current_thread())
            if wire is not None:
                wire.close()
            sock.close()
            connection.closed_at = time.monotonic()
            connection.closed.set()

    def _converse(self, connection: Connection, wire: _Wire) -> None:
        if self._handshake is not None:
            if self._handshake == "reset":
                wire.wait()
                wire.reset()
            wire.pause(math.inf)
        wire.handshake()
        while True:
            try:
                request = _read_request(wire, connection.number)
            except _BadRequest as bad:
                self._play(Answer.error(bad.status, str(bad), headers={"Connection": "close"}), None, wire)
                wire.finish()
            with self._changed:
                self.requests.append(request)
                self._changed.notify_all()
            try:
                again = self._play(self._choose(request), request, wire)
            except _ClientLeft:
                if not self._closing:
                    request.left_at = time.monotonic()
                    request.left.set()
                raise
            request.answered.set()
            if not again:
                wire.finish()

    def _choose(self, request: Request) -> Answer:
        """Answer what is not a chat request; find and run the script for what is one."""
        refusal = _route(request, self._api_key)
        if refusal is not None:
            return refusal
        with self._changed:
            script = self._answers.popleft() if self._answers else self.default
        try:
            made = script(request) if callable(script) else script
            answer = Answer.text(made, pause=self._pace) if isinstance(made, str) else made
            if not isinstance(answer, Answer):
                raise TypeError(f"an answer must be a str or an Answer, not {answer!r:.200}")
        except Exception as error:  # noqa: BLE001 - whatever a test's own function raises
            self.errors.append(error)
            return Answer.error(500, f"the scripted answer raised {error!r}", type="server_error")
        return answer

    def _talk(self, request: Request) -> Answer:
        return _talk(request.json, self._pace)

    def _play(self, answer: Answer, request: Request | None, wire: _Wire) -> bool:
        """Send an answer; return whether the connection may be used again."""
        http10 = self._http10 or answer.http10 or (request is not None and request.http10)
        body, whole = _plan(answer, request)
        framing: Framing | None = "length" if whole else answer.framing
        if http10 and framing == "chunked":
            framing = "close"
        headers = {
            "Content-Type": "application/json" if whole else "text/event-stream; charset=utf-8",
            "X-Request-Id": f"req_local_{len(self.requests)}",
        }
        given = {name.lower(): value for name, value in answer.headers.items()}
        if {"content-length", "transfer-encoding"} & given.keys():
            framing = None
        elif framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        elif framing == "length":
            headers["Content-Length"] = str(_length(body))
        asked = request.headers.get("connection", "") if request is not None else ""
        close = http10 or framing == "close" or "close" in (asked.lower(), given.get("connection", "").lower())
        if close:
            headers["Connection"] = "close"
        for step in answer.before_headers:
            _do(step, request, wire, None)
        wire.send(_head(answer, headers, "HTTP/1.0" if http10 else "HTTP/1.1"))
        _send_body(body, request, wire, framing)
        return not close


def _route(request: Request, api_key: str | None) -> Answer | None:
    """Answer whatever is not a proper chat request; None if it is one."""
    path = request.path.partition("?")[0].rstrip("/")
    chat = path.endswith("/chat/completions")
    allowed = "POST" if chat else "GET"
    answer: Answer | None = None
    if api_key is not None and request.headers.get("authorization") != f"Bearer {api_key}":
        message = "Incorrect API key provided to the local test server."
        answer = Answer.error(401, message, code="invalid_api_key")
    elif not chat and path != "/v1/models":
        answer = Answer.error(404, f"Unknown request URL: {request.method} {path}.", code="unknown_url")
    elif request.method != allowed:
        message = f"Method {request.method} is not allowed here, only {allowed}."
        answer = Answer.error(405, message, code="method_not_supported", headers={"Allow": allowed})
    elif not chat:
        model = {"id": _MODEL, "object": "model", "created": 1700000000, "owned_by": "blades.testing"}
        body = _json({"object": "list", "data": [model]})
        answer = Answer.raw(body, content_type="application/json", framing="length")
    elif not _asked(request):
        answer = Answer.error(400, "The body of the request must be a JSON object.")
    return answer


def _head(answer: Answer, headers: dict[str, str], version: str) -> bytes:
    given = {name.lower() for name in answer.headers}
    ours = {name: value for name, value in headers.items() if name.lower() not in given}
    lines = [f"{version} {answer.status} {_REASONS.get(answer.status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in (ours | answer.headers).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _send_body(
    body: list[bytes | float | Fault], request: Request | None, wire: _Wire, framing: Framing | None
) -> None:
    for step in body:
        if isinstance(step, bytes):
            wire.send(b"%x\r\n%b\r\n" % (len(step), step) if framing == "chunked" else step)
        elif isinstance(step, End):
            break
        else:
            _do(step, request, wire, framing)
    if framing == "chunked":
        wire.send(b"0\r\n\r\n")


def _do(step: float | Fault, request: Request | None, wire: _Wire, framing: Framing | None) -> None:
    """Play a step that sends nothing."""
    if isinstance(step, Stall):
        if request is not None:
            request._stall(wire)  # noqa: SLF001 - the same module
    elif isinstance(step, Reset):
        wire.reset()
    elif isinstance(step, Cut):
        if framing == "chunked":
            wire.send(b"ff\r\ndata: {")
        raise _Ended
    elif not isinstance(step, End):
        wire.pause(step)


class _ClientLeft(Exception):  # noqa: N818 - not an error: it ends the work for a client
    """The client is gone (or the server is closing, which looks the same)."""


class _Ended(Exception):  # noqa: N818 - not an error: it ends a connection's thread
    """The server has ended the connection."""


class _BadRequest(Exception):  # noqa: N818 - answered, never seen
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Wire:
    """The server's side of one connection: a non-blocking socket, watched for its end whatever is being done."""

    def __init__(self, sock: socket.socket) -> None:
        self.inbox = bytearray()
        self._sock = sock
        self._again: tuple[type[OSError], ...] = (BlockingIOError,)
        self._selector = _POLL()
        self._selector.register(sock, selectors.EVENT_READ)

    def close(self) -> None:
        self._selector.close()

    def handshake(self) -> None:
        if type(self._sock) is socket.socket:
            return
        import ssl  # noqa: PLC0415 - loaded already where there is TLS

        assert isinstance(self._sock, ssl.SSLSocket)  # noqa: S101 - for the type checker
        self._again = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
        while True:
            try:
                self._sock.do_handshake()
            except self._again:
                self._selector.select()
            else:
                return

    def wait(self, timeout: float | None = None, *, writable: bool = False) -> list[Any]:
        """Wait for news once, and take in what came; return the descriptors that are ready."""
        if writable:
            self._selector.modify(self._sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        ready = [key.fileobj for key, _ in self._selector.select(timeout)]
        if writable:
            self._selector.modify(self._sock, selectors.EVENT_READ)
        if self._sock in ready:
            self._absorb()
        return ready

    def _absorb(self) -> None:
        while True:
            try:
                data = self._sock.recv(65536)
            except self._again:
                return
            except OSError:
                raise _ClientLeft from None
            if not data:
                raise _ClientLeft
            self.inbox += data

    def pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.wait(None if left == math.inf else left)

    def wait_for(self, bell: socket.socket) -> None:
        self._selector.register(bell, selectors.EVENT_READ)
        try:
            while bell not in self.wait():
                pass
            bell.recv(64)
        finally:
            self._selector.unregister(bell)

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except self._again:
                self.wait(writable=True)
            except OSError:
                raise _ClientLeft from None

    def reset(self) -> NoReturn:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Ended

    def finish(self) -> NoReturn:
        """End our side, then wait a little for the client to end its own: closing at once could reset it."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
        with contextlib.suppress(_ClientLeft):
            self.pause(1)
        raise _Ended


def _shutdown(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _read_request(wire: _Wire, connection: int) -> Request:
    while (end := wire.inbox.find(b"\r\n\r\n")) < 0:
        if len(wire.inbox) > _HEAD_LIMIT:
            raise _BadRequest(431, "The headers of the request are too large.")
        wire.wait()
    lines = wire.inbox[:end].decode("latin-1").lstrip("\r\n").split("\r\n")
    del wire.inbox[: end + 4]
    match = re.fullmatch(r"([A-Z]+) (\S+) HTTP/1\.([01])", lines[0])
    if match is None:
        raise _BadRequest(400, f"Not an HTTP request line: {lines[0]!r:.200}")
    fields = [line.partition(":") for line in lines[1:]]
    if not all(name and colon and name == name.strip() for name, colon, _ in fields):
        raise _BadRequest(400, "Not an HTTP header line.")
    headers = Headers((name, value.strip()) for name, _, value in fields)
    if headers.get("expect", "").lower() == "100-continue":
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = b"".join(iter(lambda: _read_chunk(wire), b""))
    else:
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise _BadRequest(400, f"Not a Content-Length: {length!r:.200}")
        body = _read_exactly(wire, int(length))
    return Request(match[1], match[2], headers, body, connection, match[3] == "0")


def _read_exactly(wire: _Wire, size: int) -> bytes:
    if size > _BODY_LIMIT:
        raise _BadRequest(413, "The body of the request is too large.")
    while len(wire.inbox) < size:
        wire.wait()
    data = bytes(wire.inbox[:size])
    del wire.inbox[:size]
    return data


def _read_chunk(wire: _Wire) -> bytes:
    while (end := wire.inbox.find(b"\r\n")) < 0:
        wire.wait()
    line = _read_exactly(wire, end + 2)
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError:
        raise _BadRequest(400, f"Not a chunk size: {line!r:.200}") from None
    return _read_exactly(wire, size + 2)[:-2]


def _plan(answer: Answer, request: Request | None) -> tuple[list[bytes | float | Fault], bool]:
    """Turn an answer's steps into what is sent; True if that is a JSON completion."""
    asked = _asked(request)
    text = "".join(step for step in answer.steps if isinstance(step, str))
    usage = answer.usage or _usage(asked, text)
    model = asked.get("model") if isinstance(asked.get("model"), str) else _MODEL
    stamp = {"id": "chatcmpl-local", "created": int(time.time()), "model": model}
    plain = not any(isinstance(step, bytes | dict) for step in answer.steps)
    if plain and answer.done and answer.status == 200 and not asked.get("stream"):  # noqa: PLR2004
        steps: list[bytes | float | Fault] = [step for step in answer.steps if not isinstance(step, str | bytes | dict)]
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
        whole = {**stamp, "object": "chat.completion", "choices": [choice], "usage": usage}
        return [*steps, _json(whole)], True
    stamp["object"] = "chat.completion.chunk"
    opening = _json(stamp)[:-1] + b',"choices":[{"index":0,"delta":'
    role = '"role":"assistant",'
    plan: list[bytes | float | Fault] = []
    for step in answer.steps:
        if isinstance(step, str):
            delta = b'{%b"content":%b}' % (role.encode(), _json(step))
            plan.append(b'data: %b%b,"finish_reason":null}]}\n\n' % (opening, delta))
            role = ""
        elif isinstance(step, dict):
            plan.append(b"data: %b\n\n" % _json(step))
        else:
            plan.append(step)
    if answer.done:
        if answer.finish_reason is not None:
            plan.append(b'data: %b{},"finish_reason":%b}]}\n\n' % (opening, _json(answer.finish_reason)))
        options = asked.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            plan.append(b"data: %b\n\n" % _json({**stamp, "choices": [], "usage": usage}))
        plan.append(b"data: [DONE]\n\n")
    return plan, False


def _length(body: list[bytes | float | Fault]) -> int:
    total = 0
    for step in body:
        if isinstance(step, End):
            break
        total += len(step) if isinstance(step, bytes) else 64 * isinstance(step, Cut)
    return total


def _asked(request: Request | None) -> dict[str, Any]:
    try:
        asked = request.json if request is not None else None
    except ValueError:
        asked = None
    return asked if isinstance(asked, dict) else {}


def _usage(asked: dict[str, Any], text: str) -> dict[str, int]:
    prompt = sum(len(_tokens(_text(message))) for message in asked.get("messages") or ())
    completion = len(_tokens(text))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


_CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_TOKEN = re.compile(rf"\s*(?:[{_CJK}]{{1,2}}|[^\s{_CJK}]+)|\s+")


def _tokens(text: str) -> list[str]:
    """Cut a text into words, or pairs of ideographs; joined they are the text again."""
    return _TOKEN.findall(text)


def _text(message: Any) -> str:
    """The text of a message, whose content may be a list of parts."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


_ENGLISH = (
    'You asked: "{question}". This is the local test server of blades, so no model has thought about it; the words '
    "only come one after the other, at the pace at which a model would send them. That is enough to watch an answer "
    "grow, to stop it half-way and see what is kept, and to count what was used. For a real answer, point base_url "
    "at a real provider and give its key."
)
_CHINESE = (
    "您问的是：“{question}”。这里是 blades 的本地测试服务器，背后没有任何模型，所以我并不知道真正的答案；"
    "这些文字只是按照模型的速度一个一个地发送出来。您可以看着回答逐渐变长，可以随时取消并查看已经收到的部分，"
    "也可以检查用量统计。想要真正的回答，请把 base_url 指向真实的服务，并提供它的密钥。"
)


def _talk(asked: dict[str, Any], pace: float) -> Answer:
    """Answer with readable text about the last user message, as far as `max_tokens` and `stop` allow."""
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        return Answer.error(400, "messages must be a list of at least one message.", param="messages")
    users = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
    question = " ".join(_text((users or messages)[-1]).split())
    if len(question) > 200:  # noqa: PLR2004 - a line or two
        question = question[:200] + "…"
    template = _CHINESE if re.search(f"[{_CJK}]", question) else _ENGLISH
    text = template.replace("{question}", question)
    stops = asked.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0]
    tokens = _tokens(text)
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
    finish_reason = "stop"
    if isinstance(limit, int) and limit < len(tokens):
        tokens, finish_reason = tokens[:limit], "length"
    return Answer.text("".join(tokens), pause=pace, finish_reason=finish_reason)


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half of a surrogate pair: only its escape can be sent
        return json.dumps(value, separators=(",", ":")).encode()


def _check_step(step: object, further: tuple[type, ...]) -> None:
    if isinstance(step, int | float) and not isinstance(step, bool):
        if not 0 <= step < math.inf:
            raise ValueError(f"a pause must be a number of seconds, at least 0 and finite, not {step!r}")
    elif not isinstance(step, (*further, Stall, Reset, Cut, End)):
        kinds = ["a number", *(kind.__name__ for kind in further), "Stall()", "Reset()", "Cut()", "End()"]
        raise TypeError(f"a step must be {', '.join(kinds)}, not {step!r:.200}")


_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 413: "Content Too Large", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; the first line printed is the base URL."""
    import argparse  # noqa: PLC0415 - only the command needs it
    import signal  # noqa: PLC0415 - same

    parser = argparse.ArgumentParser(prog="python -m blades.testing", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--tls", action="store_true", help="the second line printed is SSL_CERT_FILE=...")
    parser.add_argument("--pace", type=float, default=0.03, metavar="SECONDS", help="between two words")
    parser.add_argument("--api-key", help="refuse requests without this bearer key")
    options = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with LocalServer(**vars(options)) as server:
            print(server.base_url, flush=True)  # noqa: T201 - the command's output
            if options.tls:
                print(f"SSL_CERT_FILE={server.certificate_file}", flush=True)  # noqa: T201 - same
            while True:
                time.sleep(3600)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
