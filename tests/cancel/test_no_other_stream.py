"""A cancel ends its own stream and no other."""

from __future__ import annotations

import gc
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from blades import Agent, StreamError, StreamState
from blades.testing import Answer, LocalServer, Reset, Stall
from cancel.scenes import FINISH, are_back, make, resources
from limits import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from cancel.scenes import InThread


@pytest.mark.usefixtures("patient")
def test_late_cancel_leaves_the_connection_to_the_next_stream(server: LocalServer, agent: Agent) -> None:
    """Many threads cancel a finished stream while its connection serves another one."""
    server.add("first")
    first = agent.run_stream("go")
    first.reply()
    server.add(Answer("a ", Stall(), "b"))
    second = agent.run_stream("go")
    assert next(second).text == "a "
    with ThreadPoolExecutor(8) as pool:
        for _ in range(200):
            pool.submit(first.cancel)
            pool.submit(first.close)
    del first
    server.release()
    assert second.reply().text == "a b"
    assert server.connections == 1


@pytest.mark.parametrize("pause", [0.0, 0.005, 0.02], ids=["at once", "soon", "late"])
@pytest.mark.usefixtures("patient")
def test_body_may_end_after_the_answer(pause: float, server: LocalServer, agent: Agent) -> None:
    """The connection still serves the next stream: uvicorn, for one, sends the last, empty HTTP chunk by itself."""
    server.default = Answer("a", FINISH, b"data: [DONE]\n\n", pause, b": end\n\n", done=False)
    for _ in range(5):
        assert agent.run("go").text == "a"
    assert server.connections == 1


def test_late_end_of_a_body_is_awaited_in_the_background(server: LocalServer, agent: Agent) -> None:
    """The reader does not wait for it, and a later stream uses the connection again."""
    server.add(Answer("a", FINISH, b"data: [DONE]\n\n", Stall(), b": end\n\n", done=False))
    assert agent.run("go").complete
    request = server.wait_for_request()
    assert request.stalled.wait(LIMIT_SECONDS)
    request.release()
    assert request.answered.wait(LIMIT_SECONDS)
    wait_until(lambda: agent.run("go").complete and server.requests[-1].connection == 1)


def test_cancelled_stream_leaves_the_others_alone(server: LocalServer, agent: Agent) -> None:
    """Many threads cancel every other one of twenty concurrent streams."""
    server.default = Answer("a ", Stall(), "b")
    streams = [agent.run_stream("go") for _ in range(20)]
    for stream in streams:
        assert next(stream).text == "a "
    with ThreadPoolExecutor(10) as pool:
        for stream in streams[::2] * 10:
            pool.submit(stream.cancel)
    server.release()
    assert [stream.reply().text for stream in streams] == ["a ", "a b"] * 10
    assert [stream.state for stream in streams[:2]] == [StreamState.CANCELLED, StreamState.FINISHED]


@pytest.mark.parametrize("ending", ["cancel", "limit", "reset"])
def test_end_leaves_other_tls_connections_of_the_thread_alone(
    ending: str, tls_server: LocalServer, trust: None, in_thread: InThread
) -> None:
    """OpenSSL keeps its errors by thread: none is left that the next read would find, on whichever connection."""
    context = ssl.create_default_context(cafile=tls_server.certificate_file)
    host, port = tls_server.base_url.removeprefix("https://").removesuffix("/v1").split(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain, server_hostname=host) as other,
        make(tls_server.base_url) as agent,
    ):
        other.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            other.recv(1)
        for _ in range(5):  # an error is left only if the end comes while the reader waits
            end(agent, tls_server, ending, in_thread)
        with pytest.raises(ssl.SSLWantReadError):
            other.recv(1)


def end(agent: Agent, server: LocalServer, ending: str, in_thread: InThread) -> None:
    server.add(Answer("a", Reset() if ending == "reset" else Stall()))
    number = len(server.requests) + 1
    stream = agent.run_stream("go", stall_timeout=0.5 if ending == "limit" else None)

    def cancel() -> None:
        assert server.wait_for_request(number).stalled.wait(LIMIT_SECONDS)
        stream.cancel()

    if ending == "cancel":
        in_thread(cancel)
        stream.reply()
    else:
        with pytest.raises(StreamError):
            stream.reply()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_cancel_races_the_end(*, tls: bool, server: LocalServer, tls_server: LocalServer, trust: None) -> None:
    """Each of many streams is cancelled about when it ends; no other stream fails."""
    used = tls_server if tls else server
    used.default = "one two three"
    with make(used.base_url) as agent, ThreadPoolExecutor(4) as pool:
        states = [race(agent, pool, number) for number in range(200)]
        assert {StreamState.FINISHED, StreamState.CANCELLED} >= set(states)
        assert agent.run("sentinel").text == "one two three"


def race(agent: Agent, pool: ThreadPoolExecutor, number: int) -> StreamState:
    """Cancel one stream from other threads while its last words come."""
    stream = agent.run_stream("go")
    texts = [next(stream).text for _ in range(2)]
    for _ in range(3):
        pool.submit(stream.cancel)
    texts += [chunk.text for chunk in stream]
    assert stream.text == "".join(texts)
    if stream.state is StreamState.FINISHED:
        assert stream.text == "one two three"
    return stream.state


def test_two_hundred_concurrent_streams(server: LocalServer, agent: Agent) -> None:
    """Every third stream of an agent is cancelled; the others are whole, and no thread or descriptor is left."""
    agent.run("warm")
    before = resources()
    server.default = lambda request: Answer(request.json["messages"][-1]["content"], Stall(), " end")
    streams = [agent.run_stream(str(number)) for number in range(200)]
    for number, stream in enumerate(streams):
        assert next(stream).text == str(number)
    for stream in streams[::3]:
        stream.cancel()
    server.release()
    texts = [stream.reply().text for stream in streams]
    assert texts == [f"{number} end" if number % 3 else str(number) for number in range(200)]
    agent.close()
    wait_until(lambda: are_back(before))


def test_streams_collected_in_any_thread(server: LocalServer, agent: Agent) -> None:
    """The collector ends streams in cycles in whatever thread it runs, those of other streams included."""
    server.default = "one two three four five"
    thresholds = gc.get_threshold()

    def drop(number: int) -> None:
        stream = agent.run_stream("dropped")
        if number % 2:
            next(stream)
        cycle: list[Any] = [stream]
        cycle.append(cycle)

    def read(number: int) -> str:
        drop(number)
        return agent.run("read").text

    gc.set_threshold(40, 2, 2)
    try:
        with ThreadPoolExecutor(6) as pool:
            texts = set(pool.map(read, range(120)))
    finally:
        gc.set_threshold(*thresholds)
    assert texts == {"one two three four five"}
