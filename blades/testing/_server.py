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

import math
import selectors
import socket
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar, final

from blades.testing._answers import Answer, check_steps
from blades.testing._demo import demo_answer
from blades.testing._encode import encode
from blades.testing._http import BadRequest, ClientLeft, Ended, Selector, Wire, read_request, shutdown
from blades.testing._play import play, refuse
from blades.testing._records import Connection, Request

if TYPE_CHECKING:
    import ssl
    import tempfile
    from collections.abc import Callable
    from types import TracebackType

    from blades.testing._encode import EncodedAnswer

__all__ = ["LocalServer"]

_T = TypeVar("_T")
Script: TypeAlias = "str | Answer | Callable[[Request], str | Answer]"


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
                play(encode(refusal, unknown, http10=self._http10), unknown, wire)
                wire.finish()
            with self._changed:
                request = Request(len(self.requests) + 1, connection.number, *received)
                self.requests.append(request)
                self._changed.notify_all()
            try:
                chosen = self._choose(request)
                play(chosen, request, wire)
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
            answer = refuse(request, self._api_key) or self._run_script(request)
            return encode(answer, request, http10=self._http10)
        except Exception as error:  # noqa: BLE001 - whatever a test's own function raises
            self.errors.append(error)
            answer = Answer.error(500, f"a scripted answer raised {error!r}", type="server_error")
            return encode(answer, request, http10=self._http10)

    def _run_script(self, request: Request) -> Answer:
        with self._changed:
            script = self._answers.popleft() if self._answers else self.default
        answer = script(request) if callable(script) else script
        if isinstance(answer, str):
            return Answer.text(answer, pause=self._pace)
        if not isinstance(answer, Answer):
            raise TypeError(f"expected a str or an Answer from the script, got {answer!r:.200}")
        return answer
