"""A server that sends any bytes and ends its connections when it likes: what no proper HTTP server does."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


class Asked(NamedTuple):
    """A request: the number of its connection, its number there (both from 1), its path and its prompt."""

    connection: int
    number: int
    path: str
    prompt: str


class Sent(NamedTuple):
    """What is sent, and what becomes of the connection."""

    data: bytes = b""
    then: Literal["keep", "close", "reset"] = "keep"


def body(text: str) -> bytes:
    """Return the events of an answer."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": "stop"}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\ndata: [DONE]\n\n"


def answer(text: str, framing: Literal["chunked", "length"] = "chunked") -> bytes:
    """Return a whole answer, headers included."""
    events = body(text)
    if framing == "length":
        return HEAD + b"Content-Length: %d\r\n\r\n" % len(events) + events
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(events) + events + b"\r\n0\r\n\r\n"


class RawServer:
    """Asks a script what to send for each request. Call from any thread."""

    def __init__(self, script: Callable[[Asked], Sent]) -> None:
        self.asked: list[Asked] = []
        """The requests that have arrived whole, in order."""
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._sockets: set[socket.socket] = set()
        self.connections = 0
        """How many connections were accepted so far."""
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in (self._listener, *tuple(self._sockets)):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                self._sockets.add(client)
                threading.Thread(target=self._serve, args=(client, self.connections), daemon=True).start()

    def _serve(self, client: socket.socket, connection: int) -> None:
        with client, client.makefile("rb") as stream, contextlib.suppress(OSError):
            number = 0
            while (line := stream.readline()) != b"":
                length = 0
                while (header := stream.readline()) not in {b"\r\n", b""}:
                    name, _, value = header.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                request: dict[str, Any] = json.loads(stream.read(length) or b"{}")
                number += 1
                asked = Asked(connection, number, line.split()[1].decode(), request["messages"][-1]["content"])
                self.asked.append(asked)
                data, then = self._script(asked)
                client.sendall(data)
                if then == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if then != "keep":
                    return
