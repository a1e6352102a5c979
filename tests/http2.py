"""A small HTTP/2 server on loopback for a caller's own client. An answer sends "a " and then waits for `release`."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":%s}]}\n\n'
FIRST = EVENT % (b"a ", b"null")
LAST = EVENT % (b"b", b'"stop"') + b"data: [DONE]\n\n"
HEADERS = [(":status", "200"), ("content-type", "text/event-stream")]


class Server:
    """Serves until `close`. Call from any thread.

    Args:
        context: For TLS, to which ALPN is added; None serves plain HTTP/2 with prior knowledge.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.arrived = threading.Semaphore(0)
        """Released once for each request."""
        self.quiet = False
        """Send not even the headers before `release`."""
        self.connections = 0
        self.requests = 0
        self._context = context
        if context is not None:
            context.set_alpn_protocols(["h2"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "http" if context is None else "https"
        self.base_url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._lock = threading.Lock()
        self._open: list[tuple[socket.socket, H2Connection, int]] = []
        self._unbegun: set[int] = set()
        self._sockets: list[socket.socket] = []
        self._closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        self._closing.set()
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self._listener.close()

    def release(self) -> None:
        """Send the rest of all answers."""
        with self._lock:
            answers, self._open = self._open, []
            for sock, connection, stream in answers:
                if stream in self._unbegun:
                    connection.send_headers(stream, HEADERS)
                    connection.send_data(stream, FIRST)
                connection.send_data(stream, LAST, end_stream=True)
                sock.sendall(connection.data_to_send())

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_side=True)
        self._sockets.append(sock)
        connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        with sock, contextlib.suppress(OSError):
            connection.initiate_connection()
            sock.sendall(connection.data_to_send())
            while data := sock.recv(65536):
                with self._lock:
                    for event in connection.receive_data(data):
                        if isinstance(event, RequestReceived):
                            self.requests += 1
                        elif isinstance(event, StreamEnded):
                            assert event.stream_id is not None
                            self._answer(sock, connection, event.stream_id)
                    sock.sendall(connection.data_to_send())

    def _answer(self, sock: socket.socket, connection: H2Connection, stream: int) -> None:
        if self.quiet:
            self._unbegun.add(stream)
        else:
            connection.send_headers(stream, HEADERS)
            connection.send_data(stream, FIRST)
        self._open.append((sock, connection, stream))
        self.arrived.release()
