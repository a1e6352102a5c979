"""Cancelling in each phase of a request, by each means: the reader is free, the server is told, nobody else is hit."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import multiprocessing
import os
import queue
import signal
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

from blades import Agent, Stream, StreamInterrupted, StreamState, StreamTimeout
from blades._transport import cancel as cancelling
from blades._transport import client as official
from blades._transport import events as watching
from blades._values import ResponseInfo
from blades.testing import Answer, LocalServer, Stall
from proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blades._transport.events import Event

    InThread = Callable[[Callable[[], object]], threading.Thread]

LIMIT_SECONDS = 20.0  # how long to wait for what must happen
SOON_SECONDS = 1.0  # a wrong path takes 5 (connecting), 20 (backing off) or 30
OPENINGS = ("dns", "connect", "handshake", "proxy connect", "proxy handshake", "sending")
WAITS = ("headers", "headers re-used", "tokens", "tokens re-used", "proxy headers", "proxy tokens", "back-off")
EMPTY_DELTA = b'data: {"choices":[{"index":0,"delta":{"content":""}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
LIMITS = ("timeout", "first_chunk_timeout", "stall_timeout")
MEANS = ("cancel", "own event", "threading event", "multiprocessing event")


class Scene:
    """A request brought into one phase: what the tests below cancel.

    Args:
        phase: One of `OPENINGS` or `WAITS`, with " tls" behind it for TLS.
        server: Where the request goes.
        agent: Who sends it.
        arrived: Waits until the request is in its phase.
        told: Waits until the other side knows that it was cancelled, and tells whether it does.
    """

    def __init__(
        self,
        server: LocalServer,
        agent: Agent,
        arrived: Callable[[Stream], object],
        told: Callable[[], bool],
        *,
        prompt: str = "go",
    ) -> None:
        self.server = server
        self.agent = agent
        self.arrived = arrived
        self.told = told
        self.prompt = prompt
        self.sent = len(server.requests)

    def start(self, event: Event | None = None) -> Stream:
        """Start the stream."""
        return self.agent.run_stream(self.prompt, cancel=event)

    def sent_since(self) -> list[str]:
        """List the prompts that have arrived since the scene was set."""
        return [request.json["messages"][-1]["content"] for request in self.server.requests[self.sent :]]


def make(url: str, **settings: Any) -> Agent:
    return Agent("test", model="m", base_url=url, api_key="k", **settings)


@pytest.fixture(scope="module")
def tls_server() -> Iterator[LocalServer]:
    """A server with TLS, whose certificate takes a while to make."""
    with LocalServer(pace=0, tls=True) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """Let the official client import what it imports at its first request: on a busy machine that takes seconds."""
    with LocalServer(pace=0) as server, make(server.base_url) as agent:
        assert agent.run("warm").complete


@pytest.fixture
def trust(tls_server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", tls_server.certificate_file)


@pytest.fixture
def scene(
    phase: str, server: LocalServer, tls_server: LocalServer, trust: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    """Set the scene of a phase."""
    with contextlib.ExitStack() as stack:
        yield set_scene(phase, tls_server if phase.endswith("tls") else server, stack, monkeypatch)
        for used in (server, tls_server):
            used.release()


def set_scene(phase: str, server: LocalServer, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> Scene:
    phase = phase.removesuffix(" tls")
    if phase == "dns":
        made = set_dns(server, stack, monkeypatch)
    elif phase == "connect":
        made = set_connect(stack, monkeypatch)
    elif phase == "handshake":
        stalling = stack.enter_context(LocalServer(handshake="stall"))
        agent = stack.enter_context(make(stalling.base_url))
        made = Scene(stalling, agent, lambda _: stalling.wait_for_connection(), lambda: closed(stalling))
    elif phase == "sending":
        made = set_sending(stack)
    elif phase.startswith("proxy"):
        made = set_proxy(phase, server, stack, monkeypatch)
    else:
        made = set_answer(phase, server, stack)
    return made


def set_answer(phase: str, server: LocalServer, stack: contextlib.ExitStack) -> Scene:
    """An answer that stalls, or says to come again later."""
    agent = stack.enter_context(make(server.base_url))
    if "re-used" in phase:
        server.add("warm")
        agent.run("warm")
    number = len(server.requests) + 1
    if phase == "back-off":
        server.add(Answer.error(429, "later", headers={"Retry-After": "20"}))
        return Scene(server, agent, lambda _: turned_away(server, number), lambda: True)
    server.add(Answer(before_headers=[Stall()]) if phase.startswith("headers") else Answer("a ", "b", Stall()))
    text = "a b" if phase.startswith("tokens") else ""
    return Scene(server, agent, lambda stream: stalled(server, number, stream, text), lambda: left(server, number))


def set_dns(server: LocalServer, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A name service that does not answer; later it does, with the server's address."""
    asked, gate = threading.Event(), threading.Event()
    look_up = socket.getaddrinfo

    def slow(host: Any, *rest: Any, **more: Any) -> Any:
        if host != "slow.test":
            return look_up(host, *rest, **more)
        asked.set()
        gate.wait(30)
        return look_up("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    stack.callback(gate.set)
    agent = stack.enter_context(make(f"http://slow.test:{server.address[1]}/v1"))
    connections = server.connections

    def told() -> bool:
        gate.set()  # the address comes after all: a connection may be made then, and must be closed at once
        return server.wait_for_connection(connections + 1).closed_by_client.wait(LIMIT_SECONDS)

    return Scene(server, agent, lambda _: asked.wait(LIMIT_SECONDS), told)


def set_connect(stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A host that drops what is sent to it."""
    server = stack.enter_context(LocalServer(accept=False))
    called = threading.Event()
    connect = socket.create_connection

    def noted(*arguments: Any, **more: Any) -> socket.socket:
        called.set()
        return connect(*arguments, **more)

    monkeypatch.setattr(socket, "create_connection", noted)
    client = openai.OpenAI(base_url=server.base_url, api_key="k", timeout=openai.Timeout(None, connect=2))
    agent = Agent("test", model="m", client=stack.enter_context(client))
    return Scene(server, agent, lambda _: called.wait(LIMIT_SECONDS), lambda: True)


def set_sending(stack: contextlib.ExitStack) -> Scene:
    """A server that accepts and then reads nothing, while the request is larger than all buffers."""
    server = stack.enter_context(LocalServer())
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    agent = stack.enter_context(make(f"http://127.0.0.1:{listener.getsockname()[1]}/v1"))
    accepted: list[socket.socket] = []

    def arrived(_: Stream) -> None:
        accepted.append(stack.enter_context(listener.accept()[0]))
        accepted[0].settimeout(LIMIT_SECONDS)
        assert accepted[0].recv(1)

    def told() -> bool:
        with contextlib.suppress(ConnectionResetError):
            while accepted[0].recv(1 << 20):
                pass
        accepted[0].close()
        return True

    return Scene(server, agent, arrived, told, prompt="long" * 3_000_000)


def set_proxy(phase: str, server: LocalServer, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The agent's own client behind the proxy of the environment."""
    proxy = stack.enter_context(Proxy(answer=phase != "proxy connect"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy.url)
    if phase == "proxy handshake":
        server = stack.enter_context(LocalServer(handshake="stall"))
    url = server.base_url
    if phase == "proxy connect":
        url = url.replace("http:", "https:")
    agent = stack.enter_context(make(url))
    number = len(server.requests) + 1
    connections = server.connections
    if phase == "proxy connect":
        return Scene(server, agent, lambda _: proxy.asked.wait(LIMIT_SECONDS), lambda: proxy.left.wait(LIMIT_SECONDS))
    if phase == "proxy handshake":
        return Scene(
            server,
            agent,
            lambda _: server.wait_for_connection(connections + 1),
            lambda: closed(server, connections + 1),
        )
    tokens = phase == "proxy tokens"
    server.add(Answer("a ", "b", Stall()) if tokens else Answer(before_headers=[Stall()]))
    return Scene(
        server,
        agent,
        lambda stream: stalled(server, number, stream, "a b" if tokens else ""),
        lambda: left(server, number) and proxy.left.wait(LIMIT_SECONDS) and bool(proxy.heads),
    )


def turned_away(server: LocalServer, number: int) -> None:
    """Wait until the client has had an error status, and let go of its connection, perhaps before the body came."""
    server.wait_for_request(number)
    assert server.connection_log[-1].closed_by_client.wait(LIMIT_SECONDS)


def stalled(server: LocalServer, number: int, stream: Stream, text: str) -> None:
    assert server.wait_for_request(number).stalled.wait(LIMIT_SECONDS)
    wait_until(lambda: stream.text == text)


def left(server: LocalServer, number: int) -> bool:
    return server.wait_for_request(number).left.wait(LIMIT_SECONDS)


def closed(server: LocalServer, number: int = 1) -> bool:
    return server.wait_for_connection(number).closed_by_client.wait(LIMIT_SECONDS)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what nobody tells of."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.002)


def make_event(means: str) -> Event | None:
    if means == "threading event":
        return threading.Event()
    return multiprocessing.Event() if means == "multiprocessing event" else None


def cancel(stream: Stream, means: str) -> None:
    if means == "cancel":
        stream.cancel()
    else:
        stream.cancel_event.set()


class TestPhases:
    """Whatever the request is waiting for."""

    @pytest.mark.parametrize(
        ("phase", "means"),
        [
            *((phase, means) for phase in (*OPENINGS, *WAITS) for means in MEANS),
            *((f"{phase} tls", means) for phase in WAITS for means in ("cancel", "threading event")),
        ],
    )
    def test_the_reader_is_free_and_the_server_is_told(
        self, phase: str, means: str, scene: Scene, in_thread: InThread
    ) -> None:
        """At once, with the text kept, and nothing more is sent."""
        stream = scene.start(make_event(means))
        handed_out: list[str] = []
        reader = in_thread(lambda: handed_out.extend(chunk.text for chunk in stream))
        scene.arrived(stream)
        began = time.monotonic()
        cancel(stream, means)
        reader.join(LIMIT_SECONDS)
        assert time.monotonic() - began < SOON_SECONDS
        assert scene.told()
        assert time.monotonic() - began < SOON_SECONDS
        assert stream.state is StreamState.CANCELLED
        assert stream.text == "".join(handed_out)
        assert not stream.next()
        if phase not in ("connect", "handshake", "proxy connect", "proxy handshake", "sending"):
            sent = [] if phase == "dns" else ["go"]
            assert scene.agent.run("sentinel").complete
            assert scene.sent_since() == [*sent, "sentinel"]

    @pytest.mark.parametrize("phase", [*OPENINGS, *WAITS, "headers tls", "tokens tls", "proxy tokens tls"])
    def test_threads_and_descriptors_come_back(self, phase: str, scene: Scene) -> None:
        """A cancelled stream leaves nothing behind, though nobody reads it and it is kept."""
        before = resources()
        stream = scene.start()
        if "tokens" in phase:
            assert next(stream).text + next(stream).text == "a b"
        scene.arrived(stream)
        stream.cancel()
        assert scene.told()
        wait_until(lambda: are_back(before))
        assert stream.state is StreamState.CANCELLED

    @pytest.mark.parametrize("phase", ["headers", "tokens", "tokens tls"])
    def test_a_busy_consumer(self, phase: str, scene: Scene, in_thread: InThread) -> None:
        """The server is told while the consumer is still in its own loop body; then the loop ends."""
        inside, gate = threading.Event(), threading.Event()
        stream = scene.start()
        seen = []

        def consume() -> None:
            if phase == "headers":
                inside.set()
                gate.wait(LIMIT_SECONDS)
            for chunk in stream:
                seen.append(chunk.text)
                inside.set()
                gate.wait(LIMIT_SECONDS)

        reader = in_thread(consume)
        assert inside.wait(LIMIT_SECONDS)
        request = scene.server.wait_for_request(scene.sent + 1)
        assert request.stalled.wait(LIMIT_SECONDS)
        stream.cancel()
        assert request.left.wait(LIMIT_SECONDS)
        assert reader.is_alive()
        gate.set()
        reader.join(LIMIT_SECONDS)
        assert seen == ([] if phase == "headers" else ["a "])
        assert stream.text == "".join(seen)

    @pytest.mark.parametrize("calls", range(1, 9))
    def test_an_event_that_is_set_on_the_way(self, calls: int, server: LocalServer, agent: Agent) -> None:
        """Wherever the event is looked at: from there on nothing is sent, and what was sent is taken back."""
        asked = 0

        class Late:
            def is_set(self) -> bool:
                """Count, and tell whether that was often enough."""
                nonlocal asked
                asked += 1
                return asked > calls

        server.default = Answer("a ", Stall())
        stream = agent.run_stream("go", cancel=Late())
        assert stream.reply().complete is False
        assert stream.state is StreamState.CANCELLED
        server.default = "fine"
        agent.run("sentinel")
        for request in server.requests[:-1]:
            assert request.left.wait(LIMIT_SECONDS)

    def test_a_cancel_right_after_the_call(self, server: LocalServer, agent: Agent) -> None:
        """However far the opening thread is, the request is taken back."""
        server.default = Answer("a", Stall())
        streams = []
        for number in range(60):
            stream = agent.run_stream("go")
            threading.Event().wait(number * 0.0001)
            stream.cancel()
            streams.append(stream)
        assert {stream.state for stream in streams} == {StreamState.CANCELLED}
        server.default = "fine"
        assert agent.run("sentinel").text == "fine"
        for request in server.requests[:-1]:
            assert request.left.wait(LIMIT_SECONDS)


def resources() -> tuple[int, int]:
    """Count threads and descriptors of this process, its servers included."""
    gc.collect()
    return threading.active_count(), sum(1 for _ in Path("/dev/fd").iterdir())


def are_back(before: tuple[int, int]) -> bool:
    """Tell whether there are no more threads and descriptors than there were."""
    return all(now <= then for now, then in zip(resources(), before, strict=True))


class TestNoVictim:
    """A cancel hits its own stream and no other."""

    @pytest.mark.usefixtures("patient")
    def test_a_late_cancel_leaves_the_connection_to_the_next_stream(self, server: LocalServer, agent: Agent) -> None:
        """A finished stream's cancel, from many threads, while its connection serves another one."""
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
    def test_the_end_of_the_body_may_come_later_than_that_of_the_answer(
        self, pause: float, server: LocalServer, agent: Agent
    ) -> None:
        """The connection still serves the next stream: uvicorn, for one, sends the last, empty HTTP chunk by itself."""
        server.default = Answer("a", FINISH, b"data: [DONE]\n\n", pause, b": end\n\n", done=False)
        for _ in range(5):
            assert agent.run("go").text == "a"
        assert server.connections == 1

    def test_the_wait_for_it_is_long_enough_for_such_a_server(self, server: LocalServer, agent: Agent) -> None:
        """Not in each of ten tries, for a busy machine may be slower than that; a shorter wait gets none of them."""
        server.default = Answer("a", FINISH, b"data: [DONE]\n\n", 0.02, b": end\n\n", done=False)
        for _ in range(10):
            assert agent.run("go").text == "a"
        assert server.connections < 10

    def test_a_cancelled_stream_leaves_its_neighbours_alone(self, server: LocalServer, agent: Agent) -> None:
        """Of twenty streams at once every other one is cancelled, from many threads."""
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

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    def test_cancels_that_race_the_natural_end(
        self, *, tls: bool, server: LocalServer, tls_server: LocalServer, trust: None
    ) -> None:
        """One stream after the other, each cancelled about when it ends; no neighbour ever fails."""
        used = tls_server if tls else server
        used.default = "one two three"
        with make(used.base_url) as agent, ThreadPoolExecutor(4) as pool:
            states = [self.race(agent, pool, number) for number in range(200)]
            assert {StreamState.FINISHED, StreamState.CANCELLED} >= set(states)
            assert agent.run("sentinel").text == "one two three"

    def race(self, agent: Agent, pool: ThreadPoolExecutor, number: int) -> StreamState:
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

    def test_two_hundred_streams_at_once(self, server: LocalServer, agent: Agent) -> None:
        """On one agent, every third one cancelled; the others are whole, and all is given back."""
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

    def test_a_signal_handler_that_cancels(self, server: LocalServer, agent: Agent) -> None:
        """It fires again and again in the thread that reads, wherever that is; nothing hangs, and states are true."""
        server.default = "one two three four five six seven eight nine ten"
        current: list[Stream] = []
        states = set()

        def handler(number: int, frame: object) -> None:
            for stream in current:
                stream.cancel()

        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.003, 0.0017)
        try:
            for _ in range(300):
                stream = agent.run_stream("go")
                current[:] = [stream]
                text = "".join(chunk.text for chunk in stream)
                assert stream.text == text
                assert (stream.state is StreamState.CANCELLED) == stream.cancel_event.is_set()
                states.add(stream.state)
                current.clear()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert StreamState.CANCELLED in states
        assert states <= {StreamState.CANCELLED, StreamState.FINISHED}
        assert agent.run("sentinel").complete

    def test_a_handler_inside_the_table(self) -> None:
        """A cancel that comes while another step is being looked up wins; the step does not happen."""
        scope = cancelling.Scope()

        class Table(dict[StreamState, frozenset[StreamState]]):
            def __getitem__(self, key: StreamState) -> frozenset[StreamState]:
                found = super().__getitem__(key)
                if key is StreamState.OPENING and scope.live and not entered:
                    entered.append(key)
                    scope.cancel()
                return found

        entered: list[StreamState] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cancelling, "_NEXT", Table(cancelling._NEXT))
            assert not scope.move(StreamState.STREAMING)
        assert (scope.state, scope.live) == (StreamState.CANCELLED, False)

    def test_a_handler_inside_the_events_own_lock(self, in_thread: InThread) -> None:
        """A cancel from a handler that has interrupted the same thread inside cancel_event.set() does not wait."""
        scope = cancelling.Scope()
        event = scope.event
        assert isinstance(event, cancelling.CancelEvent)

        def interrupted() -> None:
            with event._cond:
                scope.cancel()

        in_thread(interrupted).join(LIMIT_SECONDS)
        assert event.is_set()
        assert event.wait(0)

    def test_a_cancel_that_was_broken_off_is_completed_by_the_next(
        self, server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C may come in the midst of cancel()."""
        server.add(Answer("a", Stall()))
        stream = agent.run_stream("go")
        next(stream)
        with monkeypatch.context() as patch:
            patch.setattr(cancelling, "shutdown", raise_interrupt)
            with pytest.raises(KeyboardInterrupt):
                stream.cancel()
        stream.close()
        assert server.wait_for_request().left.wait(LIMIT_SECONDS)
        assert stream.cancel_event.is_set()

    def test_streams_dropped_by_the_garbage_collector(self, server: LocalServer, agent: Agent) -> None:
        """Streams in cycles are ended wherever the collector runs, other streams' threads included."""
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

    @pytest.mark.parametrize("way", ["cancel", "close", "close when finished"])
    def test_a_handler_that_logs(self, way: str, server: LocalServer, agent: Agent, in_thread: InThread) -> None:
        """Ending a stream never waits for a logging handler, whose lock the interrupted thread may hold."""
        held = queue.Queue[Any]()

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                held.put(record)

        server.add(Answer("a", *([FINISH] if "finished" in way else []), Stall()))
        stream = agent.run_stream("go")
        while not (stream.finish_reason if "finished" in way else stream.text):
            next(stream)
        handler = Handler()
        cancelling.logger.addHandler(handler)
        level = cancelling.logger.level
        cancelling.logger.setLevel(logging.DEBUG)
        try:
            with held.mutex:
                in_thread(stream.cancel if way == "cancel" else stream.close).join(LIMIT_SECONDS)
                assert stream.state is (StreamState.FINISHED if "finished" in way else StreamState.CANCELLED)
                assert server.wait_for_request().left.wait(LIMIT_SECONDS)
            assert f"-> {stream.state.value}" in held.get(timeout=LIMIT_SECONDS).getMessage()
        finally:
            cancelling.logger.removeHandler(handler)
            cancelling.logger.setLevel(level)


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class TestEvents:
    """Foreign events and the thread that watches them."""

    def test_one_thread_while_it_is_needed(self, server: LocalServer, agent: Agent) -> None:
        """It starts with the first foreign event, serves all, and ends with the last; cancel() needs none."""
        server.default = Answer("a", Stall())
        kept = agent.run_stream("go")
        next(kept)
        assert watchers() == 0
        event = threading.Event()
        streams = [agent.run_stream("go", cancel=event) for _ in range(5)]
        for stream in streams:
            next(stream)
        assert watchers() == 1
        event.set()
        wait_until(lambda: {stream.state for stream in streams} == {StreamState.CANCELLED})
        wait_until(lambda: watchers() == 0)
        assert kept.state is StreamState.STREAMING
        again = threading.Event()
        stream = agent.run_stream("go", cancel=again)
        next(stream)
        again.set()
        assert not stream.next()
        kept.cancel()

    @pytest.mark.parametrize("error", [BrokenPipeError, asyncio.CancelledError])
    def test_an_event_that_raises_counts_as_set(
        self, error: type[BaseException], server: LocalServer, agent: Agent
    ) -> None:
        """Nobody could stop such a stream any more; the others are still watched."""

        class Broken:
            asked = 0

            def is_set(self) -> bool:
                self.asked += 1
                if self.asked > 4:
                    raise error
                return False

        server.default = Answer("a", Stall())
        event = multiprocessing.Event()
        other = agent.run_stream("go", cancel=event)
        next(other)
        stream = agent.run_stream("go", cancel=Broken())
        stream.reply()
        assert stream.state is StreamState.CANCELLED
        event.set()
        assert not other.next()

    def test_an_event_that_blocks_holds_up_its_own_stream_alone(
        self, server: LocalServer, agent: Agent, in_thread: InThread
    ) -> None:
        """Streams with a threading.Event are cancelled on time beside it."""
        gate, blocked = threading.Event(), threading.Event()

        class Blocking:
            def is_set(self) -> bool:
                if threading.current_thread().name == "blades-watcher":
                    blocked.set()
                    gate.wait(30)
                return False

        server.default = Answer("a", Stall())
        other = agent.run_stream("go", cancel=Blocking())
        assert blocked.wait(LIMIT_SECONDS)
        event = threading.Event()
        stream = agent.run_stream("go", cancel=event)
        next(stream)
        reader = in_thread(stream.reply)
        event.set()
        reader.join(LIMIT_SECONDS)
        assert stream.state is StreamState.CANCELLED
        gate.set()
        other.cancel()
        wait_until(lambda: watchers() == 0)

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_no_thread_to_be_had(
        self, error: type[BaseException], server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The call says so; the next one works. So it does when Ctrl-C came at that moment."""

        def refuse(_: object) -> None:
            raise error("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(error, match="can't start"):
                agent.run_stream("go", cancel=threading.Event())
        event = threading.Event()
        server.add(Answer("a", Stall()))
        stream = agent.run_stream("go", cancel=event)
        next(stream)
        event.set()
        assert not stream.next()


def watchers() -> int:
    return sum(thread.name == "blades-watcher" for thread in threading.enumerate())


def pour(listener: socket.socket, data: bytes) -> None:
    """Answer one request with the same bytes again and again until the client leaves, for half a minute at most."""
    client, _ = listener.accept()
    with client, contextlib.suppress(OSError):
        client.recv(65536)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            client.sendall(data)


class TestDeadlines:
    """Each limit, in each phase, whatever the server sends meanwhile."""

    @pytest.mark.parametrize("phase", [*OPENINGS, "headers", "headers tls", "back-off", "proxy headers"])
    def test_before_the_answer(
        self, phase: str, tls_server: LocalServer, trust: None, in_thread: InThread, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Connecting and retries count; the limit is named, and the server is told. All limits at a time."""
        seconds = 1.5  # long enough for a busy machine to bring every stream to the phase in question
        streams, ended = dict[str, Stream](), queue.SimpleQueue[str]()

        def read(limit: str) -> None:
            with pytest.raises(StreamTimeout, match=f" {limit}={seconds} seconds"):
                streams[limit].next()
            ended.put(limit)

        with contextlib.ExitStack() as stack:
            scenes = []
            for limit in LIMITS:
                server = tls_server if phase.endswith("tls") else stack.enter_context(LocalServer(pace=0))
                scene = set_scene(phase, server, stack, monkeypatch)
                limits: dict[str, Any] = {limit: seconds}
                streams[limit] = scene.agent.run_stream(scene.prompt, **limits)
                scene.arrived(streams[limit])
                in_thread(partial(read, limit))
                scenes.append(scene)
            assert {ended.get(timeout=LIMIT_SECONDS) for _ in LIMITS} == set(LIMITS)
            assert all(scene.told() for scene in scenes)
        for stream in streams.values():
            assert stream.timing.total < seconds + SOON_SECONDS
            assert stream.state is StreamState.FAILED

    @pytest.mark.parametrize("limit", LIMITS)
    @pytest.mark.parametrize(
        "step",
        [
            pytest.param(b": keep-alive\n\n", id="comments"),
            pytest.param(EMPTY_DELTA, id="empty deltas"),
            pytest.param(b"data: ", id="a line without end"),
        ],
    )
    def test_a_drip_that_carries_nothing(self, step: bytes, limit: str, server: LocalServer, agent: Agent) -> None:
        """Bytes that come slowly but all the time keep no limit from being reached."""
        agent.run("warm")
        text = [] if limit == "first_chunk_timeout" else ["a"]
        server.add(Answer(*text, *[part for _ in range(1500) for part in (step, 0.02)]))
        limits: dict[str, Any] = {limit: 0.5}
        stream = agent.run_stream("go", **limits)
        with pytest.raises(StreamTimeout, match=f"{limit}=0.5 seconds") as caught:
            stream.reply()
        assert caught.value.text == "".join(text)
        assert stream.timing.total < 0.5 + SOON_SECONDS
        assert server.wait_for_request(2).left.wait(LIMIT_SECONDS)

    @pytest.mark.parametrize(
        ("limit", "step"), [("timeout", EMPTY_DELTA), ("first_chunk_timeout", b": keep-alive\n\n")]
    )
    def test_a_flood_that_carries_nothing(self, step: bytes, limit: str, in_thread: InThread) -> None:
        """Nor do bytes that come without a pause, so that no read ever has to wait."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            flood = in_thread(lambda: pour(listener, step * 500))
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", api_key="k")
            limits: dict[str, Any] = {limit: 1.0}
            with client, pytest.raises(StreamTimeout, match=f"{limit}=1 seconds"):
                Agent("test", model="m", client=client).run("go", **limits)
            flood.join(LIMIT_SECONDS)
            assert not flood.is_alive()


class TestPlatforms:
    """What is not to be had everywhere."""

    def test_no_forks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Windows has no os.register_at_fork."""
        monkeypatch.delattr(os, "register_at_fork")
        watching.Watcher()

    def test_no_descriptor_for_a_handshake(
        self, tls_server: LocalServer, trust: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The handshake then cannot be interrupted, but it works; the stream can be, later."""

        def refuse(*_: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(socket, "fromfd", refuse)
        tls_server.add(Answer("a", Stall()))
        number = len(tls_server.requests) + 1
        with make(tls_server.base_url) as agent:
            stream = agent.run_stream("go")
            assert next(stream).text == "a"
            stream.cancel()
            assert left(tls_server, number)

    def test_a_connection_that_is_reset_before_its_handshake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The socket is closed, though the ssl module has let go of it: else there is a ResourceWarning."""
        made: list[ssl.SSLSocket] = []

        def reset(self: ssl.SSLSocket, *_: object) -> bytes:
            made.append(self)
            raise ConnectionResetError

        def not_connected(_: object) -> None:
            raise OSError(errno.ENOTCONN, "not connected")

        monkeypatch.setattr(ssl.SSLSocket, "recv", reset)
        monkeypatch.setattr(ssl.SSLSocket, "getpeername", not_connected)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            agent = make(f"https://127.0.0.1:{listener.getsockname()[1]}/v1", max_retries=0)
            with agent, pytest.raises(openai.APIConnectionError):
                agent.run("go")
        assert [sock.fileno() for sock in made] == [-1]

    @pytest.mark.parametrize("phase", ["headers", "tokens"])
    def test_a_shutdown_that_wakes_nobody(
        self, phase: str, scene: Scene, in_thread: InThread, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on Windows: the consumer waits elsewhere, and the server is told all the same."""
        monkeypatch.setattr(official, "SHUTDOWN_WAKES", False)
        monkeypatch.setattr(cancelling, "LONGEST_WAIT_SECONDS", 0.01)
        stream = scene.start()
        reader = in_thread(stream.reply)
        scene.arrived(stream)
        stream.cancel()
        reader.join(LIMIT_SECONDS)
        assert scene.told()
        assert stream.state is StreamState.CANCELLED
        assert scene.agent.run("sentinel", timeout=LIMIT_SECONDS).complete
        scene.server.add(Answer(Stall()))
        with pytest.raises(StreamTimeout, match="first_chunk_timeout"):
            scene.agent.run("go", first_chunk_timeout=0.2)


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
