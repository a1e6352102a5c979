"""A load server for the benchmarks: one thread, one process, thousands of paced streams. Run it through `common.Load`.

`blades.testing.LocalServer` serves each connection in a thread of its own, for 60 us of CPU per event: it would be what
is measured here. This one knows a few answers, chosen by the first part of the URL, so that every client can ask for
them by its base URL (``http://127.0.0.1:PORT/paced-500-50/v1``):

=================== ====================================================================================================
``burst-N``         N events as fast as they are read, in HTTP chunks of 64 KiB
``each-N``          N events as fast as they are read, each an HTTP chunk of its own
``paced-N-RATE``    N events, RATE a second, each in a packet of its own; its text is the time it was sent, in
                    microseconds on the clock of `time.monotonic`, which processes share
``stall-N``         N events, then silence
``silent``          the request is read, nothing is answered
``busy``            status 429, to be tried again in 30 seconds
``cut-N``           N events, then a proper end of the body: no finish reason, no ``[DONE]``
``/stats``          what happened so far: connections, requests, and when clients left before the end of their answers
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
from functools import cache
from pathlib import Path
from typing import Any

from blades.testing._certificate import make_certificate

FIELDS = (
    '"id":"chatcmpl-BxyzABCDEFGH1234567890","object":"chat.completion.chunk","created":1763836800,'
    '"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_1234567890"'
)
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nX-Request-Id: req_1\r\n\r\n"
)
BUSY = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 30\r\nContent-Length: 38\r\n\r\n"
    b'{"error":{"message":"Too many calls"}}'
)
PIECE = 65536
LAST = b"0\r\n\r\n"


def event(delta: str, finish_reason: str = "null") -> bytes:
    choice = f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish_reason}}}'
    return f'data: {{{FIELDS},"choices":[{choice}],"usage":null}}\n\n'.encode()


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


FIRST = event('{"role":"assistant","content":"","refusal":null}')
USAGE = '{"prompt_tokens":9,"completion_tokens":500,"total_tokens":509}'
END = event("{}", '"stop"') + f'data: {{{FIELDS},"choices":[],"usage":{USAGE}}}\n\ndata: [DONE]\n\n'.encode()
_BEFORE, _AFTER = event('{"content":"@"}').split(b"@")
_SIZE = b"%x\r\n" % (len(_BEFORE) + 17 + len(_AFTER))


def stamped() -> bytes:
    """Make the HTTP chunk of one event that says when it was sent."""
    return b"%b%b%016d %b\r\n" % (_SIZE, _BEFORE, time.monotonic_ns() // 1000, _AFTER)


@cache
def words(count: int, *, each: bool) -> bytes:
    """Make the HTTP chunks of so many events."""
    events = [event(f'{{"content":" word{number % 1000}"}}') for number in range(count)]
    if each:
        return b"".join(map(http_chunk, events))
    data = b"".join(events)
    return b"".join(http_chunk(data[start : start + PIECE]) for start in range(0, len(data), PIECE))


class Paced:
    """A running paced answer: its place in the queue of what is due next."""

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
        self.repeat = 0  # how often the same block is still to be sent, and what comes after it
        self.block = self.rest = b""
        self.answering = False
        self.open = True

    def ready(self, mask: int) -> None:
        """Do what the loop saw is possible."""
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
        """Take what came, and answer whole requests."""
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
        """Take one request, if it is whole."""
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
        """Begin an answer; see the table above."""
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
        """Go on with what waits to be sent."""
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
        """Say what to be woken for."""
        if self.open:
            mask = select.EPOLLIN | select.EPOLLRDHUP | (select.EPOLLOUT if out else 0)
            self.server.epoll.modify(self.sock.fileno(), mask)

    def close(self) -> None:
        """Close, and note it if the client left too early."""
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
        self.late: list[float] = []  # how late events were sent, in seconds, since the last look
        authority, key = make_certificate()
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "key.pem").write_text(key)
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(Path(folder, "key.pem"))
        self.authority = authority
        self.plain, self.tls = (socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(2))
        for listener in self.plain, self.tls:
            listener.setblocking(False)
            self.epoll.register(listener.fileno(), select.EPOLLIN)

    def stats(self) -> dict[str, Any]:
        """Tell what happened; how late events were sent, since the last time."""
        late, self.late = sorted(self.late), []
        return {
            "connections": self.accepted,
            "open": len(self.connections),
            "requests": self.requests,
            "left": self.left,
            "late_p99_ms": late[len(late) * 99 // 100] * 1000 if late else 0.0,
        }

    def accept(self, listener: socket.socket) -> None:
        """Accept all who wait."""
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
