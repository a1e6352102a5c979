"""A small HTTP proxy on loopback: CONNECT tunnels, and plain requests passed on. It can leave a CONNECT unanswered."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

BUFFER_SIZE = 65536


class Proxy:
    """Accepts until `close`. Call from any thread.

    Args:
        answer: False never answers a CONNECT.
    """

    def __init__(self, *, answer: bool = True) -> None:
        self.heads: list[bytes] = []
        """The head of each request that came first on its connection."""
        self.asked = threading.Event()
        """Set when the first such head has come."""
        self.left = threading.Event()
        """Set when a client has ended its connection."""
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            received = b""
            while b"\r\n\r\n" not in received:
                piece = client.recv(BUFFER_SIZE)
                if not piece:
                    return
                received += piece
            self.heads.append(received)
            self.asked.set()
            method, target = received.split()[:2]
            if method == b"CONNECT":
                if not self._answer:
                    client.recv(1)
                    self.left.set()
                    return
                address = target
            else:
                address = target.split(b"/")[2]
            host, _, port = address.decode().rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                self._sockets.add(server)
                if method == b"CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    path = b"/" + target.split(b"/", 3)[3]
                    server.sendall(received.replace(target, path, 1))  # a server is sent no absolute address
                self._relay(client, server)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    source, target = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    piece = source.recv(BUFFER_SIZE)
                    if not piece:
                        if source is client:
                            self.left.set()
                        return
                    target.sendall(piece)
