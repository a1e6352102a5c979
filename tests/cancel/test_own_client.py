"""Cancelling on a caller's own client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import openai
import pytest

from blades import Agent, StreamInterrupted, StreamState
from blades._transport import cancel as cancelling
from blades._transport import client as official
from blades._values import ResponseInfo
from blades.testing import Answer, LocalServer, Stall
from cancel.scenes import (
    LIMIT_SECONDS,
    SOON_SECONDS,
    InThread,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestOwnClient:
    """A caller's own client."""

    def test_closing_it_wakes_the_reader(self, server: LocalServer, in_thread: InThread) -> None:
        """client.close() under a running stream cuts it; nobody is left waiting."""
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
    def test_a_transport_of_ones_own(
        self, phase: str, server: LocalServer, agent: Agent, in_thread: InThread, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The reader is freed at once; the server is told when the next bytes come, and not a piece later."""
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

    def test_a_connection_that_the_caller_has_made(self, server: LocalServer, in_thread: InThread) -> None:
        """It was not seen when it was made; once the answer has begun, a cancel reaches it all the same."""
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

    def test_a_hook_that_reads_the_answer(self, server: LocalServer) -> None:
        """Its stream has the whole answer, and leaves the connection to the next one."""
        hooks = {"response": [lambda response: response.read()]}
        http_client = openai.DefaultHttpxClient(event_hooks=hooks)
        with openai.OpenAI(base_url=server.base_url, api_key="own", http_client=http_client) as client:
            agent = Agent("test", model="m", client=client)
            for text in ("first", "second", "third"):
                server.add(Answer(text))
            streams = [agent.run_stream("go") for _ in range(3)]
            assert {stream.reply().text for stream in streams} == {"first", "second", "third"}

    def test_a_transport_that_changes_the_answer(self, server: LocalServer) -> None:
        """What it makes of the answer is what is read."""
        with openai.OpenAI(base_url=server.base_url, api_key="own", http_client=shouting()) as client:
            server.add(Answer("one ", "two"))
            assert Agent("test", model="m", client=client).run("go").text == "ONE two"

    def test_a_hook_that_raises_anything(self, server: LocalServer) -> None:
        """The reader gets it, instead of waiting for an answer that nobody asks for any more."""

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

    def test_it_stops_at_the_next_piece(self) -> None:
        """Pieces that could still be read ahead are not, once the consumer has left."""
        scope = cancelling.Scope()
        response = Pieces(scope)
        official.PumpedResponse(response, scope).pump()  # type: ignore[arg-type]
        assert response.read_count == 3
        assert response.closed

    def test_a_slow_consumer_is_waited_for(self, server: LocalServer) -> None:
        """The answer is not read further ahead than the consumer can take, and nothing is lost or mixed up."""
        words = [f"{number} " for number in range(100)]
        server.add(Answer(*words))
        with openai.OpenAI(base_url=server.base_url, api_key="own", http_client=untraceable()) as client:
            stream = Agent("test", model="m", client=client).run_stream("go")
            assert stream.reply().text == "".join(words)
            assert stream.state is StreamState.FINISHED


class Pieces:  # the methods are those of `blades._transport.client.OpenResponse`
    """A response whose consumer leaves during the third piece."""

    def __init__(self, scope: cancelling.Scope) -> None:
        self.scope = scope
        self.head = ResponseInfo(status=200, content_type="text/event-stream", base_url="", request_id=None)
        self.read_count = 0
        self.closed = False

    def read(self, deadline: float | None) -> bytes:
        """Count the pieces."""
        self.read_count += 1
        if self.read_count == 3:
            assert self.scope.response is not None
            self.scope.response.close()
        return b"piece"

    def release(self) -> None:
        """Note it."""
        self.closed = True


def untraceable() -> Any:
    """Make an HTTP client with a transport that tells nobody what it does, nor on which socket."""
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
    """Make an HTTP client with a transport that changes what it hands on."""
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
