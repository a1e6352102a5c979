"""A load server for the benchmarks: one thread, one process, thousands of paced streams. Run it through `common.Load`.

`blades.testing.LocalServer` serves each connection in a thread of its own, at 60 us of CPU per event: benchmarks would
measure that server. This one knows a few answers, chosen by the first part of the URL, so that every client can request
them by its base URL (``http://127.0.0.1:PORT/paced-500-50/v1``):

=================== ====================================================================================================
``burst-N``         N events as fast as they are read, in HTTP chunks of 64 KiB
``each-N``          N events as fast as they are read, each an HTTP chunk of its own
``paced-N-RATE``    N events, RATE a second, each in a packet of its own; its text is the time it was sent, in
                    microseconds on the clock of `time.monotonic`, which processes share
``calls-N``         N tool calls in one answer, each in five events, in HTTP chunks of 64 KiB
``large-N``         one event with N characters of text, in HTTP chunks of 64 KiB
``stall-N``         N events, then silence
``silent``          the request is read, nothing is answered
``busy``            status 429 with ``Retry-After: 30``
``cut-N``           N events, then the regular end of the body: no finish reason, no ``[DONE]``
``/stats``          counts so far: connections, requests, and when clients left before the end of their answers
=================== ====================================================================================================
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import ssl
import sys
import tempfile
import time
from typing import Any

import trustme
from payloads import BUSY, END, FIRST, HEAD, LAST, PIECE, http_chunk, large_event, stamped, tool_calls, words


class Paced:
    """A paced answer in progress, ordered by when its next event is due."""

    def __init__(self, connection: Connection, count: int, rate: float) -> None:
        self.connection, self.left, self.period = connection, count, 1 / rate
        self.due = time.monotonic() + random.random() * self.period

    def __lt__(self, other: Paced) -> bool:
        return self.due < other.due


class Connection:
    """One accepted connection."""

    def __init__(self, server: Server, sock: Any, *, tls: bool) -> None:
        self.server, self.sock, self.handshaking = server, sock, tls
        self.received = b""
        self.sending: list[memoryview] = []  # last in, first out: the head is the last one
        self.repeat = 0  # how often `block` is still to be sent, before `rest`
        self.block = self.rest = b""
        self.answering = False
        self.open = True

    def ready(self, mask: int) -> None:
        """Receive and send what the socket is ready for."""
        try:
            if self.handshaking:
                self.sock.do_handshake()
                self.handshaking = False
            if mask & ~select.EPOLLOUT:
                self.read()
            if self.sending or self.repeat:
                self.send()
        except (ssl.SSLWantReadError, BlockingIOError):
            pass
        except ssl.SSLWantWriteError:
            self.watch(out=True)
        except OSError:
            self.close()

    def read(self) -> None:
        """Receive, and answer whole requests."""
        while True:
            try:
                data = self.sock.recv(65536)
            except (ssl.SSLWantReadError, BlockingIOError):
                return
            if not data:
                self.close()
                return
            self.received += data
            while self.request():
                pass

    def request(self) -> bool:
        """Take one request, if it is whole; return whether it was."""
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return False
        size = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        if len(body) < size:
            return False
        self.received = body[size:]
        self.answer(head.split(b" ", 2)[1].decode().split("/")[1])
        return True

    def answer(self, name: str) -> None:
        """Start an answer; see the table above."""
        server = self.server
        shape, *numbers = name.split("-")
        if shape == "stats":
            body = json.dumps(server.stats()).encode()
            self.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.write(body)
            return
        server.requests += 1
        if shape == "busy":
            self.write(BUSY)
            return
        self.answering = True
        if shape == "silent":
            return
        count = int(numbers[0])
        first = HEAD + http_chunk(FIRST)
        if shape == "paced":
            self.write(first)
            heapq.heappush(server.due, Paced(self, count, float(numbers[1])))
        elif shape in ("burst", "each"):
            size = min(count, 20_000)
            self.block, self.repeat = words(size, each=shape == "each"), count // size
            self.rest = http_chunk(END) + LAST
            self.write(first)
        elif shape in ("calls", "large"):
            self.answering = False
            self.write(first + (tool_calls if shape == "calls" else large_event)(count))
            self.write(http_chunk(END) + LAST)
        else:
            self.write(first + words(count, each=True))
            if shape == "cut":
                self.answering = False
                self.write(LAST)

    def step(self, paced: Paced) -> None:
        """Send one event of a paced answer."""
        paced.left -= 1
        if paced.left < 0:
            self.answering = False
            self.write(http_chunk(END) + LAST)
            return
        self.write(stamped())
        paced.due += paced.period
        heapq.heappush(self.server.due, paced)

    def write(self, data: bytes) -> None:
        """Send now if nothing waits before it, else later."""
        if self.sending:
            self.sending.insert(0, memoryview(data))
            return
        try:
            sent = self.sock.send(data)
        except (ssl.SSLWantWriteError, BlockingIOError):
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(data):
            self.sending.append(memoryview(data)[sent:])
        if self.sending or self.repeat:
            self.watch(out=True)

    def send(self) -> None:
        """Continue with what waits to be sent."""
        try:
            while self.sending or self.repeat:
                if not self.sending:
                    self.repeat -= 1
                    self.sending = [memoryview(self.block)]
                    if not self.repeat:
                        self.sending.insert(0, memoryview(self.rest))
                        self.answering = False
                sent = self.sock.send(self.sending[-1][: 4 * PIECE])
                self.sending[-1] = self.sending[-1][sent:]
                if not self.sending[-1]:
                    self.sending.pop()
        except (ssl.SSLWantWriteError, BlockingIOError):
            return
        self.watch(out=False)

    def watch(self, *, out: bool) -> None:
        """Set the events to wait for."""
        if self.open:
            mask = select.EPOLLIN | select.EPOLLRDHUP | (select.EPOLLOUT if out else 0)
            self.server.epoll.modify(self.sock.fileno(), mask)

    def close(self) -> None:
        """Close, and record it if the client left too early."""
        if self.open:
            self.open = False
            if self.answering:
                self.server.left.append(time.monotonic())
            del self.server.connections[self.sock.fileno()]
            self.sock.close()


class Server:
    """The loop."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.due: list[Paced] = []
        self.accepted = self.requests = 0
        self.left: list[float] = []
        self.late: list[float] = []  # how late events were sent, in seconds, since the last call of stats()
        authority = trustme.CA()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.context)
        self.authority = authority.cert_pem.bytes().decode()
        self.plain, self.tls = (socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(2))
        for listener in self.plain, self.tls:
            listener.setblocking(False)
            self.epoll.register(listener.fileno(), select.EPOLLIN)

    def stats(self) -> dict[str, Any]:
        """Return the counts; `late_p99_ms` is since the last call."""
        late, self.late = sorted(self.late), []
        return {
            "connections": self.accepted,
            "open": len(self.connections),
            "requests": self.requests,
            "left": self.left,
            "cpu_seconds": time.process_time(),
            "late_p99_ms": late[len(late) * 99 // 100] * 1000 if late else 0.0,
        }

    def accept(self, listener: socket.socket) -> None:
        """Accept all pending connections."""
        while True:
            try:
                sock: socket.socket = listener.accept()[0]
            except BlockingIOError:
                return
            self.accepted += 1
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = listener is self.tls
            if tls:
                sock = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            self.connections[sock.fileno()] = Connection(self, sock, tls=tls)
            self.epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLRDHUP)

    def run(self) -> None:
        """Serve for ever."""
        due = self.due
        listeners = {self.plain.fileno(): self.plain, self.tls.fileno(): self.tls}
        while True:
            wait = max(due[0].due - time.monotonic(), 0) if due else -1
            for number, mask in self.epoll.poll(wait):
                if number in listeners:
                    self.accept(listeners[number])
                elif number in self.connections:
                    self.connections[number].ready(mask)
            now = time.monotonic()
            while due and due[0].due <= now:
                paced = heapq.heappop(due)
                if paced.connection.open:
                    self.late.append(now - paced.due)
                    paced.connection.step(paced)


def main() -> None:
    """Print the two base URLs and the file of the authority to trust; serve until the standard input ends."""
    server = Server()
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as authority:
        authority.write(server.authority)
        authority.flush()
        plain, tls = (listener.getsockname()[1] for listener in (server.plain, server.tls))
        print(f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}", authority.name, flush=True)
        server.epoll.register(sys.stdin.fileno(), select.EPOLLHUP)
        server.connections[sys.stdin.fileno()] = _Parent()  # type: ignore[assignment] - quacks enough
        server.run()


class _Parent:
    """The standard input: when it ends, so does the process."""

    def ready(self, mask: int) -> None:
        del mask
        raise SystemExit


if __name__ == "__main__":
    main()
