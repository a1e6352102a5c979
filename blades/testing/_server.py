"""An OpenAI-compatible server on loopback that answers what a test scripts.

::

    with LocalServer("Hello there.", pace=0) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="any")

For testing code that streams: an answer is a list of steps (text, raw bytes, pauses, faults), every request is
recorded, and a client that leaves is noticed within milliseconds. Without a script it answers with readable text about
the prompt it got, at a human pace. ``python -m blades.testing`` runs it as a process, for any client. It uses one
thread for each connection, and the standard library only.
"""

from __future__ import annotations

import json
import math
import selectors
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar, final

from blades.testing._answers import (
    MODEL,
    Answer,
    Cut,
    Delay,
    EncodedAnswer,
    End,
    Reset,
    Stall,
    check_steps,
    chunk,
    encode_json,
    plan,
    request_json,
    talk,
)
from blades.testing._http import BadRequest, ClientLeft, Ended, Selector, Wire, read_request, shutdown

if TYPE_CHECKING:
    import ssl
    import tempfile
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

__all__ = ["Answer", "Connection", "Cut", "End", "LocalServer", "Request", "Reset", "Stall", "chunk"]

_T = TypeVar("_T")
Script: TypeAlias = "str | Answer | Callable[[Request], str | Answer]"


@final
@dataclass(eq=False, slots=True)
class Connection:
    """One accepted TCP connection. Times are of `time.monotonic`; wait for its events from any thread."""

    number: int
    """1 for the server's first connection."""
    opened_at: float = field(default_factory=time.monotonic)
    closed_by_client: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set as soon as the client closed, reset or shut down the connection, if it did so before the server."""
    closed: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the connection has ended, whoever ended it."""
    closed_at: float | None = None


@final
@dataclass(eq=False, slots=True)
class Request:
    """One request that arrived whole, and what became of its answer. Call it from any thread."""

    number: int
    """1 for the server's first request; its answer has the header ``X-Request-Id: req_local_<number>``."""
    connection: int
    """The number of the connection that it came on: equal numbers mean a connection that was used again."""
    method: str
    path: str
    headers: Mapping[str, str]
    """Names match in any case."""
    body: bytes = field(repr=False)
    http10: bool = field(default=False, repr=False)
    arrived_at: float = field(default_factory=time.monotonic, repr=False)
    """By `time.monotonic`, as `left_at`."""
    left: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set as soon as the client went away before its answer was whole."""
    left_at: float | None = field(default=None, repr=False)
    answered: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the whole answer was sent. After `Reset` and `Cut` neither this nor `left` is set."""
    stalled: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set while the answer waits in a `Stall`: everything before it has been sent."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _releases: float = field(default=0, init=False, repr=False)
    _bell: socket.socket | None = field(default=None, init=False, repr=False)

    @property
    def json(self) -> Any:
        """The body, parsed.

        Raises:
            ValueError: It is not JSON.
        """
        return json.loads(self.body)

    def release(self) -> None:
        """Let one `Stall` of this answer go on: the present one, or else the next that it comes to."""
        self._release(1)

    def _release(self, count: float) -> None:
        with self._lock:
            self._releases += count
            if self._bell is not None:
                self._bell.send(b"\0")

    def _take_release(self, bell: socket.socket | None) -> bool:
        """Use up a release, if there is one; else ring this bell when there is."""
        with self._lock:
            released = self._releases >= 1
            self._releases -= released
            self._bell = None if released else bell
            return released

    def _stall(self, wire: Wire) -> None:
        near, far = socket.socketpair()
        with near, far:
            try:
                while not self._take_release(far):
                    self.stalled.set()
                    wire.wait_for(near)
                    self.stalled.clear()
            finally:
                with self._lock:
                    self._bell = None


@final
class LocalServer:
    """An OpenAI-compatible server on loopback; it runs from its construction until `close`, or the end of ``with``.

    Each chat request takes the next scripted answer, and `default` once these are used up. An answer is a `str`
    (streamed word by word), an `Answer`, or a callable that is given the `Request` and returns one of these; while it
    runs, nobody looks whether its client leaves. Every other request is answered as OpenAI would: ``GET /v1/models``
    lists a model, a body that is no JSON object is refused.

    Args:
        answers: The first scripted answers; `add` queues more.
        default: What answers when the script is used up; None: readable text about the prompt.
        tls: Serve HTTPS, with a certificate made on the spot: see `certificate`.
        handshake: "stall" accepts connections but never answers the TLS handshake; "reset" resets them instead.
        accept: False lets connecting hang, as to a host that drops packets (Linux only).
        http10: Answer everything as an HTTP/1.0 server.
        pace: Seconds between two words of a `str` and of the readable text.
        api_key: Refuse requests without this bearer key, as OpenAI does.
        host: The IPv4 address to listen on.
        port: The port to listen on; 0 takes a free one.

    Raises:
        OSError: The address is not available.
        RuntimeError: At the end of ``with``, if a scripted callable has raised: a broken script cannot go unnoticed.
            Clear `errors` where that is expected.
    """

    address: tuple[str, int]
    """The host and port it listens on."""
    base_url: str
    """What to give to a client, such as ``http://127.0.0.1:49152/v1``."""
    certificate: str
    """With TLS the PEM text of the throw-away authority that a client must trust; else empty."""
    certificate_file: str
    """With TLS the path of a file with `certificate`, until `close` (``cafile=``, ``SSL_CERT_FILE``); else empty."""
    default: Script
    """What answers when the script is used up."""
    requests: list[Request]
    """All requests that arrived whole, in order of arrival."""
    connection_log: list[Connection]
    """All connections that were accepted, in order."""
    errors: list[Exception]
    """What scripted callables raised; the client got a 500."""

    def __init__(
        self,
        *answers: Script,
        default: Script | None = None,
        tls: bool = False,
        handshake: Literal["stall", "reset"] | None = None,
        accept: bool = True,
        http10: bool = False,
        pace: float = 0.03,
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        check_steps([pace], ())
        self.default = default if default is not None else lambda request: talk(request.json, pace)
        self.requests = []
        self.connection_log = []
        self.errors = []
        self.certificate = self.certificate_file = ""
        self._answers = deque(answers)
        self._handshake = handshake
        self._http10 = http10
        self._pace = pace
        self._api_key = api_key
        self._changed = threading.Condition()
        self._closing = False
        self._sockets: dict[int, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._context: ssl.SSLContext | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._listener = socket.create_server((host, port), backlog=4096 if accept else 0)
        self._listener.setblocking(False)
        self._bells = socket.socketpair()
        self.address = self._listener.getsockname()
        self.base_url = f"{'https' if tls or handshake else 'http'}://{host}:{self.address[1]}/v1"
        if tls and not handshake:
            self._make_certificate()
        # One connection that is not accepted fills a queue of length 0; Linux drops the packets of any further one.
        self._fillers = [] if accept else [socket.create_connection(self.address)]
        self._acceptor = threading.Thread(target=self._accept, args=(accept,), name="LocalServer", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self.errors and error is None:
            raise RuntimeError(f"a scripted answer raised {self.errors[0]!r}") from self.errors[0]

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

    def wait_for_request(self, number: int = 1, timeout: float = 60.0) -> Request:
        """Wait until that many requests have arrived whole, and return the last of them.

        Raises:
            TimeoutError: They have not after `timeout` seconds.
        """
        return self._wait_for(self.requests, number, timeout, "requests")

    def wait_for_connection(self, number: int = 1, timeout: float = 60.0) -> Connection:
        """Wait until that many connections were accepted, and return the last of them.

        Raises:
            TimeoutError: They were not after `timeout` seconds.
        """
        return self._wait_for(self.connection_log, number, timeout, "connections")

    def _wait_for(self, items: list[_T], number: int, timeout: float, name: str) -> _T:
        with self._changed:
            if not self._changed.wait_for(lambda: len(items) >= number, timeout):
                raise TimeoutError(f"expected {number} {name} within {timeout} s, {len(items)} came")
            return items[number - 1]

    def release(self) -> None:
        """Let every `Stall` go on of all requests that have arrived so far. Call from any thread."""
        with self._changed:
            requests = tuple(self.requests)
        for request in requests:
            request._release(math.inf)  # noqa: SLF001 - of this module

    def close(self) -> None:
        """End all connections and threads, stalled ones too, within a second. Idempotent; call from any thread."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            for sock in self._sockets.values():
                shutdown(sock)
        deadline = time.monotonic() + 1
        self._bells[1].send(b"\0")
        self._acceptor.join()
        shutdown(self._listener)
        for listening in (self._listener, *self._bells, *self._fillers):
            listening.close()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._directory is not None:
            self._directory.cleanup()

    def _make_certificate(self) -> None:
        import ssl  # noqa: PLC0415 - slow to import, and most servers do without
        import tempfile  # noqa: PLC0415 - same

        from blades.testing._certificate import make_certificate  # noqa: PLC0415 - same

        authority, server = make_certificate()
        self._directory = tempfile.TemporaryDirectory(prefix="blades-testing-")
        trusted, secret = (Path(self._directory.name, name) for name in ("authority.pem", "server.pem"))
        trusted.write_text(authority)
        secret.write_text(server)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(secret)
        secret.unlink()
        self.certificate, self.certificate_file = authority, str(trusted)

    def _accept(self, accept: bool) -> None:  # noqa: FBT001 - a thread's argument
        with Selector() as selector:
            selector.register(self._bells[0], selectors.EVENT_READ)
            if accept:
                selector.register(self._listener, selectors.EVENT_READ)
            while selector.select() and not self._closing:
                try:
                    sock, _ = self._listener.accept()
                except OSError:  # a client that left again at once, or no descriptor left for it
                    time.sleep(0.01)
                else:
                    self._welcome(sock)

    def _welcome(self, sock: socket.socket) -> None:
        with self._changed:
            connection = Connection(len(self.connection_log) + 1)
            self.connection_log.append(connection)
            self._changed.notify_all()
        name = f"LocalServer connection {connection.number}"
        thread = threading.Thread(target=self._serve, args=(connection, sock), name=name, daemon=True)
        thread.start()
        self._threads = [old for old in self._threads if old.is_alive()] + [thread]

    def _serve(self, connection: Connection, sock: socket.socket) -> None:
        """Be the thread of one connection."""
        wire: Wire | None = None
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            with self._changed:
                self._sockets[connection.number] = sock
                if self._closing:
                    return
            wire = Wire(sock)
            self._converse(connection, wire, sock)
        except (ClientLeft, OSError):
            if not self._closing:
                connection.closed_by_client.set()
        except Ended:
            pass
        finally:
            with self._changed:  # once out of the table, nobody else touches the socket, and it may be closed
                self._sockets.pop(connection.number, None)
            if wire is not None:
                wire.close()
            sock.close()
            connection.closed_at = time.monotonic()
            connection.closed.set()

    def _converse(self, connection: Connection, wire: Wire, sock: Any) -> None:
        """Serve one request after the other, until `ClientLeft` or `Ended`."""
        if self._handshake == "reset":
            wire.wait()
            wire.reset()
        if self._handshake == "stall":
            wire.pause(math.inf)
        if self._context is not None:
            wire.handshake(sock)
        while True:
            try:
                received = read_request(wire)
            except BadRequest as bad:
                # Nothing is known about this request, and where the next one would begin is not either.
                unknown = Request(0, connection.number, "", "", {}, b"")
                refusal = Answer.error(bad.status, str(bad), headers={"Connection": "close"})
                _play(plan(refusal, unknown, http10=self._http10), unknown, wire)
                wire.finish()
            with self._changed:
                request = Request(len(self.requests) + 1, connection.number, *received)
                self.requests.append(request)
                self._changed.notify_all()
            try:
                chosen = self._choose(request)
                _play(chosen, request, wire)
            except ClientLeft:
                if not self._closing:
                    request.left_at = time.monotonic()
                    request.left.set()
                raise
            request.answered.set()
            if chosen.close:
                wire.finish()

    def _choose(self, request: Request) -> EncodedAnswer:
        """Answer what is no proper chat request; find and run the script for what is one."""
        try:
            answer = _refuse(request, self._api_key) or self._run_script(request)
            return plan(answer, request, http10=self._http10)
        except Exception as error:  # noqa: BLE001 - whatever a test's own function raises
            self.errors.append(error)
            answer = Answer.error(500, f"a scripted answer raised {error!r}", type="server_error")
            return plan(answer, request, http10=self._http10)

    def _run_script(self, request: Request) -> Answer:
        with self._changed:
            script = self._answers.popleft() if self._answers else self.default
        answer = script(request) if callable(script) else script
        if isinstance(answer, str):
            return Answer.text(answer, pause=self._pace)
        if not isinstance(answer, Answer):
            raise TypeError(f"expected a str or an Answer from the script, got {answer!r:.200}")
        return answer


def _refuse(request: Request, api_key: str | None) -> Answer | None:
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
        message = f"Not allowed to make {request.method} requests to {path}, only {allowed}."
        answer = Answer.error(405, message, code="method_not_supported", headers={"Allow": allowed})
    elif not chat:
        model = {"id": MODEL, "object": "model", "created": 1700000000, "owned_by": "blades.testing"}
        body = encode_json({"object": "list", "data": [model]})
        answer = Answer.raw(body, content_type="application/json", framing="length")
    elif not request_json(request):
        answer = Answer.error(400, "The body of the request must be a JSON object that holds messages.")
    return answer


def _play(answer: EncodedAnswer, request: Request, wire: Wire) -> None:
    for delay in answer.before:
        _wait(delay, request, wire)
    wire.send(answer.head)
    for step in answer.body:
        if isinstance(step, bytes):
            wire.send(step)
        else:
            if isinstance(step, Cut) and answer.chunked:
                wire.send(b"ff\r\ndata: {")
            _wait(step, request, wire)
    wire.send(answer.ending)


def _wait(delay: Delay, request: Request, wire: Wire) -> None:
    if isinstance(delay, Stall):
        request._stall(wire)  # noqa: SLF001 - of this module
    elif isinstance(delay, Reset):
        wire.reset()
    elif isinstance(delay, Cut):
        wire.cut()
    else:
        wire.pause(delay)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM. The first line printed is the base URL."""
    import argparse  # noqa: PLC0415 - only the command needs it
    import signal  # noqa: PLC0415 - same

    parser = argparse.ArgumentParser(prog="python -m blades.testing", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--tls", action="store_true", help="print SSL_CERT_FILE=... as the second line")
    parser.add_argument("--pace", type=float, default=0.03, metavar="SECONDS", help="between two words")
    parser.add_argument("--api-key", help="refuse requests without this bearer key")
    options = parser.parse_args(arguments)
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        with LocalServer(**vars(options)) as server:
            trust = f"\nSSL_CERT_FILE={server.certificate_file}" if options.tls else ""
            print(server.base_url + trust, flush=True)  # noqa: T201 - the command's output
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        return 0
