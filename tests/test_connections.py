"""What becomes of connections between streams: used again, replaced, never used again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import openai
import pytest

from blades import Agent, _opening
from blades._transport import response
from blades.testing import Answer, LocalServer, Stall
from limits import LIMIT_SECONDS, SOON_SECONDS, wait_until
from proxy import Proxy
from raw_server import Asked, RawServer, Sent, answer

if TYPE_CHECKING:
    from collections.abc import Iterator

MOVED = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /v1/moved\r\nContent-Length: 0\r\n\r\n"
LATER = b"HTTP/1.1 503 Later\r\nRetry-After-Ms: 1\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "END_WAIT_SECONDS", LIMIT_SECONDS)
    monkeypatch.setattr(response, "PROOF_WAIT_SECONDS", LIMIT_SECONDS)


def make(server: RawServer, **settings: Any) -> Agent:
    return Agent("test", model="m", base_url=server.base_url, api_key="k", **settings)


class TestClosedWhileIdle:
    """A server closes a connection that it had announced to keep."""

    @pytest.mark.parametrize("then", ["close", "reset"])
    @pytest.mark.parametrize("retries", [0, 2])
    def test_a_request_that_meets_the_end_is_sent_again_at_once(self, then: Any, retries: int) -> None:
        """Without a back-off, without using up a retry, and once only."""

        def script(asked: Asked) -> Sent:
            if asked.number > 1:
                return Sent(b"", then)  # as if the end of the connection and the request had crossed on their way
            return Sent(answer(asked.prompt))

        with RawServer(script) as server, make(server, max_retries=retries) as agent:
            began = time.monotonic()
            for number in range(8):
                assert agent.run(str(number)).text == str(number)
            assert time.monotonic() - began < SOON_SECONDS
            assert [asked.prompt for asked in server.asked if asked.number == 1] == [str(number) for number in range(8)]
            assert len(server.asked) == 15

    def test_every_idle_connection_is_dead(self) -> None:
        """However many there are, the stream is answered on a fresh one, having been sent twice at most."""
        gate: list[bool] = []

        def script(asked: Asked) -> Sent:
            if asked.prompt == "many":
                wait_until(lambda: len(server.asked) >= 6 or gate)
            return Sent(answer(asked.prompt)) if asked.number == 1 else Sent(b"", "reset")

        with RawServer(script) as server, make(server, max_retries=0) as agent:
            streams = [agent.run_stream("many") for _ in range(6)]
            assert [stream.reply().text for stream in streams] == ["many"] * 6
            gate.append(True)
            assert agent.run("last").text == "last"
            assert [asked.prompt for asked in server.asked].count("last") == 2

    def test_a_fresh_connection_that_ends_is_an_error(self) -> None:
        """It is the official client's, since no idle time explains the end."""
        with RawServer(lambda _: Sent(b"", "reset")) as server, make(server, max_retries=0) as agent:
            with pytest.raises(openai.APIConnectionError):
                agent.run("go")
            assert len(server.asked) == 1

    def test_a_half_answer_is_not_asked_for_again(self) -> None:
        """A byte of an answer has arrived: what the server has done is not known."""

        def script(asked: Asked) -> Sent:
            return Sent(answer("ok")) if asked.number == 1 else Sent(b"HTTP/1.1 200 OK\r\nConte", "close")

        with RawServer(script) as server, make(server, max_retries=0) as agent:
            assert agent.run("first").text == "ok"
            with pytest.raises(openai.APIConnectionError):
                agent.run("second")
            assert [asked.prompt for asked in server.asked] == ["first", "second"]

    def test_a_redirect_may_use_the_fresh_connection(self) -> None:
        """The second request of a call is not sent to yet another one, again and again."""

        def script(asked: Asked) -> Sent:
            if asked.prompt == "first" and asked.number == 1:
                return Sent(answer("first"))
            if asked.connection == 1:
                return Sent(b"", "reset")
            return Sent(MOVED if asked.number == 1 else answer("second"))

        with RawServer(script) as server, make(server, max_retries=1) as agent:
            assert agent.run("first").text == "first"
            assert agent.run("second").text == "second"
            assert [(asked.connection, asked.number) for asked in server.asked] == [(1, 1), (1, 2), (2, 1), (2, 2)]

    def test_a_server_that_ends_every_second_request(self) -> None:
        """One redirect on each fresh connection and no answer after it ends in an error, not in a loop."""

        def script(asked: Asked) -> Sent:
            if asked.prompt == "first":
                return Sent(answer("first"))
            return Sent(MOVED) if asked.number == 1 else Sent(b"", "reset")

        with RawServer(script) as server, make(server, max_retries=0) as agent:
            assert agent.run("first").text == "first"
            with pytest.raises(openai.APIConnectionError):
                agent.run("second", timeout=LIMIT_SECONDS)
            assert len(server.asked) < 8


FOREIGN = {
    "answer": answer("SOMEBODY ELSE'S"),
    "answer of known length": answer("SOMEBODY ELSE'S", "length"),
    "refusal": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}",
    "status to try again": b"HTTP/1.1 503 Later\r\nRetry-After: 50\r\nContent-Length: 0\r\n\r\n",
    "something else": b"<html>\r\n\r\n",
}


class TestLeftOver:
    """A server sends more than the end of an answer."""

    @pytest.mark.parametrize("framing", ["chunked", "length"])
    @pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN.keys())
    def test_it_is_no_answer_to_the_next_request(self, foreign: bytes, framing: Any) -> None:
        """Each stream gets its own answer, however often that happens, also where nothing is tried again."""

        def script(asked: Asked) -> Sent:
            return Sent(answer(asked.prompt, framing) + (foreign if asked.connection < 3 else b""))

        with RawServer(script) as server, make(server, max_retries=0) as agent:
            for prompt in ("one", "two", "three", "four"):
                assert agent.run(prompt, timeout=LIMIT_SECONDS).text == prompt
            assert server.connections == 3


class TestForwardProxy:
    """A plain proxy passes requests to an http:// server on; some relay all that follows as it is."""

    @pytest.fixture
    def proxy(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
        """The proxy of the environment, with a password."""
        with Proxy() as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", "//user:secret@"))
            yield proxy

    def test_no_connection_is_used_again(self, server: LocalServer, proxy: Proxy) -> None:
        """Each request begins a connection, so that the proxy reads each one's head."""
        server.default = "ok"
        with Agent("test", model="m", base_url=server.base_url, api_key="k", max_retries=0) as agent:
            assert [agent.run("go").text for _ in range(3)] == ["ok"] * 3
        assert len(proxy.heads) == server.connections == 3

    @pytest.mark.parametrize("status", [MOVED, LATER], ids=["redirect", "retry"])
    def test_nor_within_one_call(self, proxy: Proxy, status: bytes) -> None:
        """A redirect and a retry are new requests, too."""

        def script(asked: Asked) -> Sent:
            if asked.connection == 1:
                return Sent(status)
            return Sent(answer("ok"))

        with RawServer(script) as server, make(server, max_retries=1) as agent:
            assert agent.run("go", timeout=LIMIT_SECONDS).text == "ok"
            assert [asked.number for asked in server.asked] == [1, 1]
            assert len(proxy.heads) == 2

    def test_a_tunnel_is_used_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Through CONNECT the proxy sees nothing, and the server is sent no password."""
        with LocalServer(default="ok", tls=True, pace=0) as server, Proxy() as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            monkeypatch.setenv("SSL_CERT_FILE", server.certificate_file)
            with Agent("test", model="m", base_url=server.base_url, api_key="k", max_retries=0) as agent:
                assert [agent.run("go").text for _ in range(3)] == ["ok"] * 3
            assert len(proxy.heads) == server.connections == 1


def test_as_many_idle_connections_as_the_official_client_keeps(agent: Agent, server: LocalServer) -> None:
    """After any number of parallel streams."""
    agent.run("go")
    adapter = agent._holder()._adapters[0]
    assert adapter is not None
    pool = adapter._client._client._transport._pool  # type: ignore[attr-defined]
    official = openai.DEFAULT_CONNECTION_LIMITS
    assert pool._max_keepalive_connections == official.max_keepalive_connections
    assert pool._max_connections == official.max_connections


class TestManyStreams:
    """An agent makes another client for each hundred streams that are open at the same time: here for each two."""

    @pytest.fixture(autouse=True)
    def _two_of_a_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_opening, "STREAMS_OF_A_CLIENT", 2)

    def test_their_connections_are_used_again(self, server: LocalServer, agent: Agent) -> None:
        """Five streams have three clients, and no later stream opens a connection."""
        server.default = Answer("a ", Stall(), "b")
        for _ in range(2):
            streams = [agent.run_stream("go") for _ in range(5)]
            assert [next(stream).text for stream in streams] == ["a "] * 5
            server.release()
            assert [stream.reply().text for stream in streams] == ["a b"] * 5
            holder = agent._holder()
            wait_until(lambda: not any(adapter._open_streams for adapter in holder._adapters))  # noqa: B023
            assert len(holder._adapters) == 3
        assert server.connections == 5

    def test_all_clients_are_closed(self, server: LocalServer, agent: Agent) -> None:
        """Each with its last stream."""
        server.default = Answer("a ", Stall(), "b")
        streams = [agent.run_stream("go") for _ in range(5)]
        assert [next(stream).text for stream in streams] == ["a "] * 5
        agent.close()
        assert server.open_connections == 5
        server.release()
        assert [stream.reply().text for stream in streams] == ["a b"] * 5
        wait_until(lambda: server.open_connections == 0)

    def test_client_that_was_given_is_the_only_one(self, server: LocalServer) -> None:
        """The agent knows no more of it than its public methods."""
        server.default = Answer("a ", Stall(), "b")
        with openai.OpenAI(base_url=server.base_url, api_key="k") as client:
            agent = Agent("test", model="m", client=client)
            streams = [agent.run_stream("go") for _ in range(5)]
            assert [next(stream).text for stream in streams] == ["a "] * 5
            assert len(agent._holder()._adapters) == 1
            server.release()
            assert [stream.reply().text for stream in streams] == ["a b"] * 5
