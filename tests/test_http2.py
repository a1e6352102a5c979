"""HTTP/2, by a caller's own client: many streams share a connection, and ending one must not hit the others.

What the official client's HTTP library cannot do is not asked of it. It does not guard a connection's state against
threads that send at once (a bare client loses requests then), so each request is sent when the one before it has
arrived. And one thread reads for all, which then wait until its own stream has ended, though their bytes have come.
"""

from __future__ import annotations

import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import openai
import pytest
import trustme

from blades import Agent, StreamState, StreamTimeout
from http2 import Server
from limits import LIMIT_SECONDS, SOON_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blades import Stream


@pytest.fixture(params=["tls", "prior knowledge"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Start a server that speaks nothing but HTTP/2."""
    context = None
    if request.param == "tls":
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
    with Server(context) as server:
        yield server


@pytest.fixture
def agent(server: Server) -> Iterator[Agent]:
    """Make an agent with an HTTP/2 client, whose connection is open."""
    prior_knowledge = server.base_url.startswith("http:")
    http_client = openai.DefaultHttpxClient(http2=True, http1=not prior_knowledge)
    with openai.OpenAI(base_url=server.base_url, api_key="k", http_client=http_client, max_retries=0) as client:
        agent = Agent("test", model="m", client=client)
        first = start(agent, server)
        server.release()
        assert first.reply().text == "a b"
        yield agent
        assert server.connections == 1


def start(agent: Agent, server: Server, **options: Any) -> Stream:
    """Start a stream, and wait until the server has its request."""
    stream = agent.run_stream("go", **options)
    assert server.arrived.acquire(timeout=LIMIT_SECONDS)
    return stream


def test_streams_share_a_connection(server: Server, agent: Agent) -> None:
    """It is HTTP/2 indeed, and answers are whole."""
    streams = [start(agent, server) for _ in range(3)]
    server.release()
    assert [stream.reply().text for stream in streams] == ["a b"] * 3
    assert server.requests == 1 + 3


@pytest.mark.parametrize("phase", ["tokens", "headers"])
def test_a_cancel_frees_its_reader_and_leaves_the_others_alone(phase: str, server: Server, agent: Agent) -> None:
    """Nobody shuts the shared connection down; the other streams and the next ones work."""
    server.quiet = phase == "headers"
    streams = [start(agent, server) for _ in range(4)]
    began = time.monotonic()
    for stream in streams[:2]:
        threading.Timer(0.01, stream.cancel).start()
        assert stream.reply().text in {"", "a "}
    assert time.monotonic() - began < SOON_SECONDS
    server.release()
    assert [stream.reply().text for stream in streams[2:]] == ["a b"] * 2
    cancelled, finished = StreamState.CANCELLED, StreamState.FINISHED
    assert [stream.state for stream in streams] == [cancelled, cancelled, finished, finished]
    last = start(agent, server)
    server.release()
    assert last.reply().text == "a b"


@pytest.mark.parametrize("phase", ["tokens", "headers"])
def test_a_cancelled_stream_stops_reading_for_the_others(phase: str, server: Server, agent: Agent) -> None:
    """The next stream on its connection is not held up, however silent the server is about the cancelled one."""
    for _ in range(5):
        server.quiet = phase == "headers"
        silent = start(agent, server)
        assert server.quiet or next(silent).text == "a "
        silent.cancel()
        server.quiet = False
        following = start(agent, server)
        assert next(following).text == "a "
        server.release()
        assert following.reply().text == "a b"


def test_a_cancel_before_the_request_leaves(server: Server, agent: Agent) -> None:
    """Nothing is sent, and the connection stays in order."""
    cancelled = threading.Event()
    cancelled.set()
    assert agent.run_stream("go", cancel=cancelled).reply().text == ""
    last = start(agent, server)
    server.release()
    assert last.reply().text == "a b"
    assert server.requests == 1 + 1


def test_a_limit_ends_its_own_stream_only(server: Server, agent: Agent) -> None:
    """A stall of one stream is nothing to the other."""
    other = start(agent, server)
    stalled = start(agent, server, stall_timeout=1.0)
    with pytest.raises(StreamTimeout, match="stall_timeout=1"):
        stalled.reply()
    server.release()
    assert other.reply().text == "a b"


def test_the_clients_own_read_limit(server: Server, agent: Agent) -> None:
    """It is the HTTP library's to raise, though another wait comes before its own."""
    client = agent._client
    assert client is not None
    impatient = Agent("test", model="m", client=client.with_options(timeout=1.0))
    stream = start(impatient, server)
    assert next(stream).text == "a "
    with pytest.raises(Exception, match=r"(?i)timed out"):
        next(stream)
