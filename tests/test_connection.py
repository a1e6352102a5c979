"""The fast path to a body: when it is taken, what it leaves to the HTTP library, and in which order."""

from __future__ import annotations

import json
import socket
import ssl
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import openai
import pytest

from blades import Agent, StreamInterrupted, StreamTimeout
from blades._clock import monotonic
from blades._platform import SHUTDOWN_WAKES
from blades._transport import fast_body
from blades._transport.arrivals import ConnectionLost
from blades._transport.cancel import CancelScope
from blades._transport.connection import TrackedConnection, current_scope
from blades._transport.fast_body import FastBody
from blades._transport.response import FastResponse
from blades._transport.state import CallState
from blades.testing import Answer, Cut, LocalServer, Reset, Stall, chunk
from limits import LIMIT_SECONDS, SOON_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blades import Stream

CHUNKED = {"Transfer-Encoding": "chunked"}
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def framed(text: str, size: str = "{:x}", end: bytes = b"\r\n") -> bytes:
    """Give one HTTP chunk with one event."""
    data = b"data: " + json.dumps(chunk(text)).encode() + b"\n\n"
    return size.format(len(data)).encode() + b"\r\n" + data + end


DONE = b"e\r\ndata: [DONE]\n\n\r\n"


def is_fast(stream: Stream) -> bool:
    """Return whether a stream that has begun takes the fast path."""
    return isinstance(stream._call.scope._responses[0], FastResponse)


@pytest.fixture(autouse=True)
def _proven(server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the fast path, also where the suite runs without it; the first answer of a process proves it possible."""
    monkeypatch.setattr(fast_body, "ENABLED", True)
    server.add("warm")
    agent.run("warm")


needs_fast_path = pytest.mark.skipif(not SHUTDOWN_WAKES, reason="no fast path on this platform")


class TestWhole:
    """Answers that arrive whole, whichever way."""

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    @pytest.mark.usefixtures("patient")
    @needs_fast_path
    def test_a_common_answer_takes_the_fast_path(self, *, tls: bool) -> None:
        """And the library finds the connection in order for the next request."""
        with LocalServer(tls=tls) as server:
            for _ in range(3):
                server.add(Answer("a", "b", Stall(), "c"))
            context = ssl.create_default_context(cafile=server.certificate_file) if tls else True
            http_client: Any = openai.DefaultHttpxClient(verify=context)
            client = openai.OpenAI(base_url=server.base_url, api_key="k", http_client=http_client)
            agent = Agent("t", model="m", client=client)
            for _ in range(3):
                stream = agent.run_stream("go")
                assert stream.next()
                assert is_fast(stream)
                server.release()
                assert stream.reply().text == "abc"
            assert server.connections == 1
            http_client.close()

    @pytest.mark.parametrize(
        "answer",
        [
            Answer("a", Stall(), "b", framing="length", usage={"total_tokens": 1}),
            Answer("a", Stall(), "b", framing="close"),
            Answer("a", Stall(), "b", http10=True),
        ],
        ids=["length", "close", "HTTP/1.0"],
    )
    def test_other_framings_are_left_to_the_library(self, server: LocalServer, agent: Agent, answer: Answer) -> None:
        """A body that is not chunked costs the library little."""
        server.add(answer)
        stream = agent.run_stream("go")
        assert stream.next()
        assert not is_fast(stream)
        server.release()
        assert stream.reply().text == "ab"

    @pytest.mark.parametrize(
        "steps",
        [
            [framed("a"), framed("b", "{:x};name=value"), framed("c"), DONE, b"0\r\n\r\n"],
            [framed("a"), framed("b", "000{:X}"), framed("c") + DONE, b"0\r\nTrailer: 1\r\n\r\n"],
            [
                framed("a")[:9],
                framed("a")[9:],
                framed("b")[:-1],
                b"\n" + framed("c") + DONE[:1],
                DONE[1:] + b"0\r\n\r\n",
            ],
            [framed("a") + framed("b") + framed("c") + DONE + b"0\r\n\r\n"],
        ],
        ids=["extension", "size and trailer", "cut", "at once"],
    )
    @pytest.mark.usefixtures("patient")
    def test_uncommon_chunks(self, server: LocalServer, agent: Agent, steps: list[bytes]) -> None:
        """Every spelling of the coding gives the text, and a connection that can be used again."""
        for _ in range(2):
            server.add(Answer(*steps, headers=CHUNKED, done=False))
            assert agent.run("go").text == "abc"
        assert server.connections == 1


@needs_fast_path
class TestCut:
    """Answers that do not arrive whole."""

    @pytest.mark.parametrize(
        ("steps", "said"),
        [
            ([framed("a"), framed("b", end=b"xx")], "RemoteProtocolError"),
            ([framed("a"), framed("b"), b"zz\r\n"], "RemoteProtocolError"),
            ([framed("a"), framed("b"), b"ff\r\nda", Cut()], "EOFError"),
            ([framed("a"), framed("b"), Cut()], "EOFError"),
            ([framed("a"), framed("b"), 0.2, Reset()], "ConnectionResetError"),
        ],
        ids=["end of chunk", "size", "inside", "between", "reset"],
    )
    def test_a_cut_body_raises(self, server: LocalServer, agent: Agent, steps: list[Any], said: str) -> None:
        """What came before is kept, and the next call has a connection of its own."""
        server.add(Answer(*steps, headers=CHUNKED, done=False))
        with pytest.raises(StreamInterrupted, match=said) as caught:
            agent.run("go")
        assert caught.value.text == "ab"
        assert agent.run("sentinel").complete
        assert server.connections == 2


class TestTimeLimits:
    """Time limits on the fast path, and after it."""

    @needs_fast_path
    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    def test_a_wait_is_as_long_as_the_limit(self, *, tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """However often the socket's own limit has to be set for it."""
        with LocalServer(Answer("a", Stall()), tls=tls) as server:
            if tls:
                monkeypatch.setenv("SSL_CERT_FILE", server.certificate_file)
            with Agent("t", model="m", base_url=server.base_url, api_key="k") as agent:
                stream = agent.run_stream("go", first_chunk_timeout=LIMIT_SECONDS, stall_timeout=0.5)
                assert stream.next()
                assert is_fast(stream)
                began = time.monotonic()
                with pytest.raises(StreamTimeout, match="stall_timeout"):
                    stream.next()
                assert 0.3 < time.monotonic() - began < LIMIT_SECONDS

    def test_no_limit_at_all(self, server: LocalServer, agent: Agent) -> None:
        """Nothing is waited for but the server."""
        server.add(Answer("a", 0.3, "b"))
        assert agent.run("go", stall_timeout=None).text == "ab"

    @pytest.mark.usefixtures("patient")
    def test_a_limit_does_not_stay_on_the_socket(self, server: LocalServer, agent: Agent) -> None:
        """The next request on the same connection waits for its headers as long as it likes."""
        whole = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        server.add(Answer(whole, done=False))  # in one piece, which no busy machine takes apart
        assert agent.run("go", first_chunk_timeout=LIMIT_SECONDS, stall_timeout=0.8).complete
        server.add(Answer("a", before_headers=[1.0]))
        assert agent.run("go", stall_timeout=None).text == "a"
        assert server.connections == 1

    @needs_fast_path
    def test_the_limits_of_a_callers_client_apply(self, server: LocalServer) -> None:
        """The shorter limit wins, whoever set it."""
        client = openai.OpenAI(base_url=server.base_url, api_key="k", timeout=1.0)
        server.default = Answer("a", Stall())
        stream = Agent("t", model="m", client=client).run_stream("go")
        assert stream.next()
        assert is_fast(stream)
        with pytest.raises(StreamInterrupted, match="own time limit"):
            stream.next()
        client.close()

    def test_a_callers_limit_does_not_stay_on_the_socket(self, server: LocalServer) -> None:
        """The limits of the client and of the stream take turns at being the shorter one, and each is kept."""
        server.add(Answer(chunk(role="assistant"), 0.1, "a", 0.1, chunk(finish_reason="stop"), Stall()))
        with openai.OpenAI(base_url=server.base_url, api_key="k", timeout=30) as client:
            began = time.monotonic()
            assert Agent("t", model="m", client=client).run("go", first_chunk_timeout=20, stall_timeout=60).complete
            assert time.monotonic() - began < SOON_SECONDS


class Fake:
    """A connection of the HTTP library that reads what it was given."""

    def __init__(self, *data: bytes) -> None:
        self.data = list(data)

    def get_extra_info(self, _name: str) -> None:
        """Have no socket."""

    def read(self, _max_bytes: int, _timeout: float | None = None) -> bytes:
        """Give the next piece."""
        return self.data.pop(0)

    def write(self, _buffer: bytes, _timeout: float | None = None) -> None:
        """Send nothing."""

    def close(self) -> None:
        """Have nothing to close."""


@pytest.fixture
def scope() -> Iterator[CancelScope]:
    """A scope whose request is being sent by this thread."""
    scope = CancelScope(CallState(lambda: None))
    token = current_scope.set(scope)
    yield scope
    current_scope.reset(token)


def track(stream: Fake) -> TrackedConnection:
    """Track a connection without a socket."""
    return TrackedConnection(stream, current_scope.get())


class TestHeaders:
    """Where the library is made to stop."""

    def test_the_library_reads_the_headers_alone(self, scope: CancelScope) -> None:
        """What came with them is kept for the body."""
        stream = Fake(HEAD + b"1\r\na", b"\r\n")
        tracked = track(stream)
        stream.write(b"request")
        assert stream.read(65536, 7.0) == HEAD
        assert (tracked.at_body_start, tracked.timeout_seconds) == (True, 7.0)
        assert tracked.take_buffered() == b"1\r\na"
        tracked.push_back(b"0\r\n\r\n")
        assert not tracked.at_body_start
        assert stream.read(2) + stream.read(65536) == b"0\r\n\r\n"
        assert stream.read(65536) == b"\r\n"

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD,
            b"HTTP/1.1 429 Too Many Requests\r\n\r\n{}",
            b"HTTP/1.0 200 OK\r\n\r\ndata: 1\n\n",
            b"HTTP/1.1 200 OK\nA: b\n\ndata: 1\r\n\r\n",
            HEAD[:-2],
            b"\x05\x00\x00\x01\n\n\r\n\n\r\n",
            b"",
        ],
        ids=["interim", "status", "HTTP/1.0", "bare LF", "cut", "SOCKS", "closed"],
    )
    def test_unusual_headers_are_left_alone(self, scope: CancelScope, data: bytes) -> None:
        """The library is given all that came, at once."""
        stream = Fake(data)
        tracked = track(stream)
        stream.write(b"request")
        assert stream.read(65536) == data
        assert not tracked.at_body_start

    def test_a_library_is_proven_by_what_it_reads(self, scope: CancelScope) -> None:
        """One that reads past the wrapper would wait for ever for what is pushed back."""

        class Unknown(Fake):
            pass

        stream = Unknown(HEAD + b"1\r\na", b"\r\n")
        tracked = track(stream)
        stream.write(b"request")
        assert stream.read(65536) == HEAD
        assert tracked.unused_method is None
        tracked.push_back(b"0\r\n\r\n")
        tracked.prove()
        assert not tracked.is_proven
        tracked.disprove()
        assert tracked.unused_method == "read"
        assert stream.read(65536) == b"0\r\n\r\n"
        tracked.prove()
        tracked.disprove()  # by a waiting thread that has just lost its patience
        assert tracked.is_proven
        assert tracked.unused_method is None

    def test_requests_of_others_are_left_alone(self) -> None:
        """A caller's own requests on the same client are not looked into."""
        stream = Fake(HEAD + b"1\r\na")
        track(stream)
        stream.write(b"request")
        assert stream.read(65536) == HEAD + b"1\r\na"

    def test_tls_within_tls_is_read_by_its_own_layer(self) -> None:
        """The socket would give the outer layer's content."""
        outer, inner = ssl.create_default_context(), ssl.create_default_context()
        inside = inner.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
        with outer.wrap_socket(socket.socket(), server_hostname="localhost") as sock:
            extra = {"socket": sock, "ssl_object": inside}
            stream = SimpleNamespace(get_extra_info=extra.get, read=None, write=None, close=None)
            assert not TrackedConnection(stream).supports_fast_path
            del extra["ssl_object"]
            assert TrackedConnection(stream).supports_fast_path


@pytest.mark.parametrize("deadline", [None, monotonic() + LIMIT_SECONDS], ids=["no limit", "limit"])
def test_a_connection_that_the_system_timed_out_is_lost(scope: CancelScope, deadline: float | None) -> None:
    """ETIMEDOUT is a TimeoutError in Python, too, but no limit of the caller's has passed."""
    methods: dict[str, Any] = {"__name__": "socket"}  # raised as by the socket's own method
    exec("def recv(size): raise TimeoutError(110, 'Connection timed out')", methods)
    sock = SimpleNamespace(recv=methods["recv"], settimeout=lambda _: None)
    connection: Any = SimpleNamespace(socket=sock, take_buffered=lambda: b"", timeout_seconds=None)
    with pytest.raises(ConnectionLost, match="Connection timed out"):
        FastBody(connection, scope).read(deadline)
