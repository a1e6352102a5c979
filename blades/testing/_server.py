"""The server: its connections and threads, and which answer a request gets."""

from __future__ import annotations

import math
import selectors
import socket
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, final

from blades.testing._answers import Answer, check_steps
from blades.testing._demo import demo_answer
from blades.testing._encode import encode
from blades.testing._http import BadRequest, ClientLeft, Ended, Selector, Wire, read_request, shutdown
from blades.testing._platform import now
from blades.testing._play import end_with_error, play, refuse, run
from blades.testing._records import Connection, Request

if TYPE_CHECKING:
    import ssl
    import tempfile
    from types import TracebackType

    from blades.testing._encode import EncodedAnswer
    from blades.testing._play import Script

__all__ = ["LocalServer"]

_T = TypeVar("_T")


@final
class LocalServer:
    """An OpenAI-compatible server on loopback; it runs from its construction until `close`, or the end of ``with``.

    Each chat request takes the next scripted answer, and `default` once these are used up. An answer is a `str`
    (streamed word by word), an `Answer`, or a callable that is given the `Request` and returns one of these; while it
    runs, its client's disconnect is not noticed. Every other request is answered as by OpenAI: ``GET /v1/models`` lists
    a model, another path gets 404, a body that is no JSON object 400.

    Args:
        answers: The first scripted answers; `add` queues more.
        default: The answer when the script is used up. Default: readable text about the prompt, calls of the tools that
            are offered, or JSON that fits the requested schema.
        tls: Serve HTTPS, with a certificate made by ``trustme`` (see `certificate`), or with this context.
        handshake: "stall" accepts connections and never answers the TLS handshake; "reset" resets them instead.
        accept: False makes connecting hang, as to a host that drops packets (Linux only).
        http10: Answer everything as an HTTP/1.0 server.
        pace: Seconds between two words of a `str` and of the readable text.
        api_key: Refuse requests without this bearer key, as OpenAI does.
        base_path: The path before ``/chat/completions`` and ``/models``.
        host: The IPv4 address to listen on.
        port: The port to listen on; 0 takes a free one.

    Raises:
        ImportError: ``tls=True`` without trustme.
        OSError: The address is not available.
        RuntimeError: At the end of ``with``, if a scripted callable has raised: a broken script cannot go unnoticed.
            Clear `errors` where that is expected.
    """

    address: tuple[str, int]
    """The host and port it listens on."""
    base_url: str
    """The base URL for a client, such as ``http://127.0.0.1:49152/v1``."""
    certificate: str
    """With ``tls=True`` the PEM text of the throw-away authority that a client must trust; else empty."""
    certificate_file: str
    """The path of a file with `certificate`, until `close`, for ``cafile=`` or ``SSL_CERT_FILE``; else empty."""
    default: Script
    """The answer when the script is used up."""
    requests: list[Request]
    """All requests that arrived whole, in order of arrival."""
    connection_log: list[Connection]
    """All connections that were accepted, in order."""
    errors: list[Exception]
    """Exceptions of scripted callables; the client got a 500."""

    def __init__(
        self,
        *answers: Script,
        default: Script | None = None,
        tls: bool | ssl.SSLContext = False,
        handshake: Literal["stall", "reset"] | None = None,
        accept: bool = True,
        http10: bool = False,
        pace: float = 0.03,
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        base_path: str = "/v1",
    ) -> None:
        check_steps([pace], ())
        self.default = default if default is not None else lambda request: demo_answer(request.json, pace)
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
        self._base_path = base_path
        self._context = None if isinstance(tls, bool) else tls
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        if tls is True:
            from blades.testing._tls import make_certificate  # an extra, and slow to import
        self._listener = socket.create_server((host, port), backlog=4096 if accept else 0)
        self._listener.setblocking(False)
        self._wakeup = socket.socketpair()
        self.address = self._listener.getsockname()
        self.base_url = f"{'https' if tls or handshake else 'http'}://{host}:{self.address[1]}{base_path}"
        if tls is True and not handshake:
            self._context, self.certificate, self._directory = make_certificate(host)
            self.certificate_file = str(Path(self._directory.name, "authority.pem"))
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
            TimeoutError: Fewer have arrived after `timeout` seconds.
        """
        return self._wait_for(self.requests, number, timeout, "requests")

    def wait_for_connection(self, number: int = 1, timeout: float = 60.0) -> Connection:
        """Wait until that many connections were accepted, and return the last of them.

        Raises:
            TimeoutError: Fewer were accepted after `timeout` seconds.
        """
        return self._wait_for(self.connection_log, number, timeout, "connections")

    def _wait_for(self, items: list[_T], number: int, timeout: float, name: str) -> _T:
        deadline = now() + timeout
        with self._changed:
            while len(items) < number:
                left = deadline - now()
                if left <= 0:
                    raise TimeoutError(f"expected {number} {name} within {timeout} s, got {len(items)}")
                self._changed.wait(left)
            return items[number - 1]

    def release(self) -> None:
        """Continue after every `Stall` of all requests that have arrived so far. Call from any thread."""
        with self._changed:
            requests = tuple(self.requests)
        for request in requests:
            request._release_all()

    def close(self) -> None:
        """End all connections and threads, stalled ones too, within a second. Idempotent; call from any thread."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            for sock in self._sockets.values():
                shutdown(sock)
        deadline = now() + 1
        self._wakeup[1].send(b"\0")
        self._acceptor.join()
        shutdown(self._listener)
        for thread in self._threads:
            thread.join(max(0.0, deadline - now()))
        for listening in (self._listener, *self._wakeup, *self._fillers):
            listening.close()
        if self._directory is not None:
            self._directory.cleanup()

    def _accept(self, accept: bool) -> None:  # a thread's argument
        with Selector() as selector:
            selector.register(self._wakeup[0], selectors.EVENT_READ)
            if accept:
                selector.register(self._listener, selectors.EVENT_READ)
            while selector.select() and not self._closing:
                try:
                    sock, _ = self._listener.accept()
                except OSError:  # the client has disconnected already, or no descriptor is left for it
                    time.sleep(0.01)
                else:
                    self._start_serving(sock)

    def _start_serving(self, sock: socket.socket) -> None:
        with self._changed:
            connection = Connection(len(self.connection_log) + 1)
            self.connection_log.append(connection)
            self._changed.notify_all()
        name = f"LocalServer connection {connection.number}"
        thread = threading.Thread(target=self._serve, args=(connection, sock), name=name, daemon=True)
        thread.start()
        self._threads = [old for old in self._threads if old.is_alive()] + [thread]

    def _serve(self, connection: Connection, sock: socket.socket) -> None:
        """Run the thread of one connection."""
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
            wire = Wire(sock, self._wakeup[0])
            self._serve_requests(connection, wire, sock)
        except (ClientLeft, OSError):
            if not self._closing:
                connection.closed_by_client.set()
        except Ended:
            pass
        finally:
            with self._changed:  # no other thread uses a socket that is not in the table
                self._sockets.pop(connection.number, None)
            if wire is not None:
                wire.close()
            sock.close()
            connection._close()

    def _serve_requests(self, connection: Connection, wire: Wire, sock: Any) -> None:
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
                end_with_error(wire, bad, http10=self._http10)
            with self._changed:
                request = Request(len(self.requests) + 1, connection.number, *received)
                self.requests.append(request)
                self._changed.notify_all()
            try:
                chosen = self._choose(request)
                play(chosen, request, wire)
            except ClientLeft:
                if not self._closing:
                    request._leave()
                raise
            request.answered.set()
            if chosen.close:
                wire.finish()

    def _choose(self, request: Request) -> EncodedAnswer:
        """Refuse what is no proper chat request; find and run the script for what is one."""
        try:
            answer = refuse(request, self._base_path, self._api_key) or run(self._next_script(), request, self._pace)
            return encode(answer, request, http10=self._http10)
        except Exception as error:  # whatever a test's own function raises
            self.errors.append(error)
            answer = Answer.error(500, f"a scripted answer raised {error!r}", type="server_error")
            return encode(answer, request, http10=self._http10)

    def _next_script(self) -> Script:
        with self._changed:
            return self._answers.popleft() if self._answers else self.default
