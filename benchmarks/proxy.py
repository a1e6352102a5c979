"""A proxy on loopback for the benchmarks: it opens a tunnel for each CONNECT, or never answers one."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

BUFFER_SIZE_BYTES = 65536


class Proxy:
    """Accepts connections for the duration of the ``with`` block.

    Args:
        answer: False leaves every CONNECT unanswered.
    """

    def __init__(self, *, answer: bool = True) -> None:
        self.asked = threading.Event()
        """Set when the first CONNECT has arrived."""
        self.left = threading.Event()
        """Set when a client whose CONNECT was not answered has disconnected."""
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(BUFFER_SIZE_BYTES)
            self.asked.set()
            if not self._answer:
                client.recv(1)
                self.left.set()
                return
            host, _, port = head.split()[1].decode().rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                threading.Thread(target=relay, args=(server, client), daemon=True).start()
                relay(client, server)


def relay(source: socket.socket, target: socket.socket) -> None:
    """Send on what one side sends, and then its end."""
    with contextlib.suppress(OSError):
        while data := source.recv(BUFFER_SIZE_BYTES):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
