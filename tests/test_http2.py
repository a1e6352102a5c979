"""HTTP/2, by a caller's own client: many streams share a connection, and cancelling one must not hit the others."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import openai
import pytest

pytest.importorskip("h2")

from blades import Agent, StreamState, StreamTimeout
from blades._certificate import make_certificate
from http2 import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LIMIT_SECONDS = 20.0
SOON_SECONDS = 1.0


@pytest.fixture(params=["tls", "prior knowledge"])
def connect(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[Server, Agent]]]:
    """Make a server and an agent with an HTTP/2 client."""
    made: list[Any] = []

    def make(**options: Any) -> tuple[Server, Agent]:
        certificate = None
        if request.param == "tls":
            authority, certificate = tmp_path / "authority.pem", tmp_path / "server.pem"
            for file, text in zip((authority, certificate), make_certificate(), strict=True):
                file.write_text(text)
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        server = Server(certificate, **options)
        http_client = openai.DefaultHttpxClient(http2=True, http1=certificate is not None)
        client = openai.OpenAI(base_url=server.base_url, api_key="k", http_client=http_client)
        made.extend((server, client))
        return server, Agent("test", model="m", client=client)

    yield make
    for one in made:
        one.close()


def test_streams_share_a_connection(connect: Callable[..., tuple[Server, Agent]]) -> None:
    """It is HTTP/2 indeed, and answers are whole."""
    server, agent = connect()
    streams = [agent.run_stream("go") for _ in range(3)]
    for stream in streams:
        assert next(stream).text == "a "
    server.release()
    assert [stream.reply().text for stream in streams] == ["a b"] * 3
    assert (server.connections, server.requests) == (1, 3)


@pytest.mark.parametrize("quiet", [False, True], ids=["tokens", "headers"])
def test_a_cancel_frees_its_reader_and_leaves_the_others_alone(
    quiet: bool,  # noqa: FBT001 - a parameter of the test
    connect: Callable[..., tuple[Server, Agent]],
    in_thread: Callable[[Callable[[], object]], threading.Thread],
) -> None:
    """Nobody shuts the shared connection down; its next streams work."""
    server, agent = connect(quiet=quiet)
    streams = [agent.run_stream("go") for _ in range(4)]
    readers = [in_thread(stream.reply) for stream in streams]
    for _ in streams:
        assert server.asked.acquire(timeout=LIMIT_SECONDS)
    began = time.monotonic()
    for stream, reader in zip(streams[:2], readers[:2], strict=True):
        stream.cancel()
        reader.join(LIMIT_SECONDS)
    assert time.monotonic() - began < SOON_SECONDS
    server.release()
    for reader in readers[2:]:
        reader.join(LIMIT_SECONDS)
    cancelled, finished = StreamState.CANCELLED, StreamState.FINISHED
    assert [stream.state for stream in streams] == [cancelled, cancelled, finished, finished]
    assert [stream.text for stream in streams[2:]] == ["a b"] * 2
    last = agent.run_stream("go")
    assert server.asked.acquire(timeout=LIMIT_SECONDS)
    server.release()
    assert last.reply().text == "a b"
    assert server.connections == 1


@pytest.mark.parametrize("quiet", [False, True], ids=["tokens", "headers"])
def test_a_cancelled_stream_stops_reading_for_the_others(
    quiet: bool,  # noqa: FBT001 - a parameter of the test
    connect: Callable[..., tuple[Server, Agent]],
) -> None:
    """The next stream on its connection is not held up, however silent the server is about the cancelled one."""
    server, agent = connect(comments=False)
    warm = agent.run_stream("go")
    assert next(warm).text == "a "
    assert server.asked.acquire(timeout=LIMIT_SECONDS)
    server.release()
    warm.reply()
    for _ in range(5):
        server.quiet = quiet
        silent = agent.run_stream("go")
        assert quiet or next(silent).text == "a "
        assert server.asked.acquire(timeout=LIMIT_SECONDS)
        silent.cancel()
        server.quiet = False
        following = agent.run_stream("go")
        assert next(following).text == "a "
        assert server.asked.acquire(timeout=LIMIT_SECONDS)
        server.release()
        assert following.reply().text == "a b"
    assert server.connections == 1


def test_cancels_before_the_request_leaves(connect: Callable[..., tuple[Server, Agent]]) -> None:
    """Whatever the opening threads were doing, the connection stays in order."""
    server, agent = connect()
    warm = agent.run_stream("go")
    assert next(warm).text == "a "
    for number in range(60):
        stream = agent.run_stream("go")
        threading.Event().wait(number * 0.0001)
        stream.cancel()
    server.release()
    assert warm.reply().text == "a b"
    last = agent.run_stream("go")
    assert next(last).text == "a "
    server.release()
    assert last.reply().text == "a b"
    assert server.connections == 1


def test_a_limit(connect: Callable[..., tuple[Server, Agent]]) -> None:
    """A stall of one stream is its own."""
    server, agent = connect()
    other = agent.run_stream("go")
    assert next(other).text == "a "
    with pytest.raises(StreamTimeout, match=r"stall_timeout=0\.3") as caught:
        agent.run("go", stall_timeout=0.3)
    assert caught.value.text in ("", "a ")
    server.release()
    assert other.reply().text == "a b"
