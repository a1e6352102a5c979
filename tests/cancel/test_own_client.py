"""Cancelling on a caller's own client."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any

import openai
import pytest

from blades import Agent, StreamInterrupted, StreamState
from blades.testing import Answer, LocalServer, Stall
from limits import LIMIT_SECONDS, SOON_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cancel.scenes import InThread


def test_closing_the_client_wakes_the_reader(server: LocalServer, in_thread: InThread) -> None:
    """client.close() interrupts a running stream; no thread is left waiting."""
    server.add(Answer("a", Stall()))
    client = openai.OpenAI(base_url=server.base_url, api_key="own")
    stream = Agent("test", model="m", client=client).run_stream("go")
    next(stream)
    caught: list[BaseException] = []

    def read() -> None:
        try:
            stream.next()
        except StreamInterrupted as error:
            caught.append(error)

    reader = in_thread(read)
    client.close()
    reader.join(LIMIT_SECONDS)
    assert [error.text for error in caught if isinstance(error, StreamInterrupted)] == ["a"]


@pytest.mark.parametrize("phase", ["headers", "tokens", "busy"])
def test_custom_transport(
    phase: str, server: LocalServer, agent: Agent, in_thread: InThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`next()` returns at once; the server notices when it sends the next bytes, not later."""
    with openai.OpenAI(base_url=server.base_url, api_key="own", http_client=untraceable()) as client:
        agent = Agent("test", model="m", client=client)
        assert agent.run("warm").complete
        server.add(Answer(before_headers=[Stall()]) if phase == "headers" else Answer("a ", Stall(), *"bcdefgh"))
        stream = agent.run_stream("go")
        if phase == "busy":
            assert next(stream).text == "a "
        reader = in_thread(stream.reply)
        request = server.wait_for_request(2)
        assert request.stalled.wait(LIMIT_SECONDS)
        if phase == "tokens":
            wait_until(lambda: stream.text == "a ")
        began = time.monotonic()
        stream.cancel()
        reader.join(LIMIT_SECONDS)
        assert time.monotonic() - began < SOON_SECONDS
        assert stream.state is StreamState.CANCELLED
        request.release()
        assert server.connection_log[-1].closed_by_client.wait(LIMIT_SECONDS)
        assert agent.run("sentinel").complete


def test_connection_opened_by_other_code(server: LocalServer, in_thread: InThread) -> None:
    """Nothing tracked the connection when it was opened; once the answer has begun, a cancel closes it."""
    with openai.OpenAI(base_url=server.base_url, api_key="own") as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "before"}])
        server.add(Answer("a ", Stall()))
        stream = Agent("test", model="m", client=client).run_stream("go")
        reader = in_thread(stream.reply)
        request = server.wait_for_request(2)
        assert request.stalled.wait(LIMIT_SECONDS)
        wait_until(lambda: stream.text == "a ")
        stream.cancel()
        reader.join(LIMIT_SECONDS)
        assert request.left.wait(LIMIT_SECONDS)
        assert server.connections == 1


def test_hook_that_reads_the_answer(server: LocalServer) -> None:
    """The stream has the whole answer and leaves the connection to the next stream."""
    hooks = {"response": [lambda response: response.read()]}
    http_client = openai.DefaultHttpxClient(event_hooks=hooks)
    with openai.OpenAI(base_url=server.base_url, api_key="own", http_client=http_client) as client:
        agent = Agent("test", model="m", client=client)
        for text in ("first", "second", "third"):
            server.add(Answer(text))
        streams = [agent.run_stream("go") for _ in range(3)]
        assert {stream.reply().text for stream in streams} == {"first", "second", "third"}


def test_transport_that_changes_the_answer(server: LocalServer) -> None:
    """The stream reads the changed answer."""
    with openai.OpenAI(base_url=server.base_url, api_key="own", http_client=shouting()) as client:
        server.add(Answer("one ", "two"))
        assert Agent("test", model="m", client=client).run("go").text == "ONE two"


def test_hook_that_raises(server: LocalServer) -> None:
    """The reader gets the exception instead of waiting for an answer to a request that was never sent."""

    class Stop(BaseException):
        pass

    def hook(_: object) -> None:
        raise Stop

    http_client = openai.DefaultHttpxClient(event_hooks={"request": [hook]})
    with openai.OpenAI(base_url=server.base_url, api_key="own", http_client=http_client) as client:
        stream = Agent("test", model="m", client=client).run_stream("go")
        with pytest.raises(Stop):
            stream.next()
        assert stream.state is StreamState.CANCELLED


def test_failure_that_cannot_be_explained(server: LocalServer) -> None:
    """The reader gets the exception without a note, instead of waiting for its limit."""

    def hook(_: object) -> None:
        raise ssl.SSLCertVerificationError("made by hand")  # it lacks what the standard library's own has

    http_client = openai.DefaultHttpxClient(event_hooks={"request": [hook]})
    with openai.OpenAI(base_url=server.base_url, api_key="own", http_client=http_client, max_retries=0) as client:
        stream = Agent("test", model="m", client=client, stall_timeout=LIMIT_SECONDS).run_stream("go")
        with pytest.raises(openai.APIConnectionError):
            stream.next()
        assert stream.state is StreamState.FAILED


def test_read_ahead_stops_at_the_next_piece(server: LocalServer) -> None:
    """Once the reader has left, the connection is closed as soon as the server sends on."""
    server.add(Answer("a", Stall(), "b", Stall()))
    with openai.OpenAI(base_url=server.base_url, api_key="own", http_client=untraceable()) as client:
        stream = Agent("test", model="m", client=client).run_stream("go")
        assert next(stream).text == "a"
        request = server.wait_for_request()
        assert request.stalled.wait(LIMIT_SECONDS)
        stream.cancel()
        request.release()
        assert request.left.wait(LIMIT_SECONDS)


def test_read_ahead_waits_for_a_slow_reader(server: LocalServer) -> None:
    """The answer is read a bounded number of pieces ahead; nothing is lost or reordered."""
    words = [f"{number} " for number in range(100)]
    server.add(Answer(*words))
    with openai.OpenAI(base_url=server.base_url, api_key="own", http_client=untraceable()) as client:
        stream = Agent("test", model="m", client=client).run_stream("go")
        assert stream.reply().text == "".join(words)
        assert stream.state is StreamState.FINISHED


def untraceable() -> Any:
    """Make an HTTP client whose transport hides its socket and has no trace hook."""
    with openai.DefaultHttpxClient() as plain:
        transport = type(plain._transport)

    class Untraceable(transport):  # type: ignore[misc, valid-type]
        def handle_request(self, request: Any) -> Any:
            request.extensions.pop("trace", None)
            response = super().handle_request(request)
            del response.extensions["network_stream"]
            return response

    return openai.DefaultHttpxClient(transport=Untraceable())


def shouting() -> Any:
    """Make an HTTP client whose transport changes the answer."""
    with openai.DefaultHttpxClient() as plain:
        transport = type(plain._transport)

    class Shouting(transport):  # type: ignore[misc, valid-type]
        def handle_request(self, request: Any) -> Any:
            response = super().handle_request(request)

            class Changed(type(response.stream).__bases__[0]):  # type: ignore[misc]
                stream = response.stream

                def __iter__(self) -> Iterator[bytes]:
                    return (piece.replace(b"one", b"ONE") for piece in self.stream)

                def close(self) -> None:
                    self.stream.close()

            response.stream = Changed()
            return response

    return openai.DefaultHttpxClient(transport=Shouting())
