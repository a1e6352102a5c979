"""The phases of a request, and what the tests of cancelling share."""

from __future__ import annotations

import _thread
import contextlib
import gc
import multiprocessing
import socket
import threading
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import openai
import pytest

from blades import Agent, Stream
from blades.testing import Answer, LocalServer, Stall
from limits import LIMIT_SECONDS, WRONG_PATH_SECONDS, wait_until
from proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blades._transport.events import Event

InThread: TypeAlias = "Callable[[Callable[[], object]], threading.Thread]"

BACK_OFF_SECONDS = 50.0  # the official client takes up to 60 from a server
OPENINGS = ("dns", "connect", "handshake", "proxy connect", "proxy handshake", "sending")
WAITS = ("headers", "headers re-used", "tokens", "tokens re-used", "proxy headers", "proxy tokens", "back-off")
EMPTY_DELTA = b'data: {"choices":[{"index":0,"delta":{"content":""}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
LIMITS = ("timeout", "first_chunk_timeout", "stall_timeout")
MEANS = ("cancel", "own event", "threading event", "multiprocessing event")


class Scene:
    """A request in one phase, which the tests cancel.

    Args:
        server: The server that the request goes to.
        agent: The agent that sends the request.
        arrived: Waits until the request is in its phase.
        server_noticed: Waits until the other side has seen the disconnect, and returns whether it has.
        prompt: The text to send.
    """

    def __init__(
        self,
        server: LocalServer,
        agent: Agent,
        arrived: Callable[[Stream], object],
        server_noticed: Callable[[], bool],
        *,
        prompt: str = "go",
    ) -> None:
        self.server = server
        self.agent = agent
        self.arrived = arrived
        self.server_noticed = server_noticed
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


def set_scene(phase: str, server: LocalServer, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Set the scene of one of `OPENINGS` or `WAITS`, with " tls" appended for TLS, or of "short connect"."""
    phase = phase.removesuffix(" tls")
    if phase == "dns":
        made = set_dns(server, stack, monkeypatch)
    elif phase.endswith("connect") and not phase.startswith("proxy"):
        made = set_connect(stack, monkeypatch, 2 if phase.startswith("short") else WRONG_PATH_SECONDS)
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
    """An answer that stalls, or a status that asks to try again later."""
    agent = stack.enter_context(make(server.base_url))
    if "re-used" in phase:
        server.add("warm")
        agent.run("warm")
    number = len(server.requests) + 1
    if phase == "back-off":
        server.add(Answer.error(429, "later", headers={"Retry-After": str(int(BACK_OFF_SECONDS))}))
        return Scene(server, agent, lambda _: refused(server, number), lambda: True)
    server.add(Answer(before_headers=[Stall()]) if phase.startswith("headers") else Answer("a ", "b", Stall()))
    text = "a b" if phase.startswith("tokens") else ""
    return Scene(server, agent, lambda stream: stalled(server, number, stream, text), lambda: left(server, number))


def set_dns(server: LocalServer, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A name service that does not answer; later it does, with the server's address."""
    looked_up, gate = threading.Event(), threading.Event()
    look_up = socket.getaddrinfo

    def slow(host: Any, *rest: Any, **more: Any) -> Any:
        if host != "slow.test":
            return look_up(host, *rest, **more)
        looked_up.set()
        gate.wait(WRONG_PATH_SECONDS)
        return look_up("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    stack.callback(gate.set)
    agent = stack.enter_context(make(f"http://slow.test:{server.address[1]}/v1"))
    connections = server.connections

    def server_noticed() -> bool:
        gate.set()  # a connection may be opened once the address is known, and must be closed at once
        return server.wait_for_connection(connections + 1).closed_by_client.wait(LIMIT_SECONDS)

    return Scene(server, agent, lambda _: looked_up.wait(LIMIT_SECONDS), server_noticed)


def set_connect(stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch, seconds: float) -> Scene:
    """A host that drops all packets, for a client that tries for so many seconds: only then its thread ends."""
    server = stack.enter_context(LocalServer(accept=False))
    called = threading.Event()
    connect = socket.create_connection

    def noted(*arguments: Any, **more: Any) -> socket.socket:
        called.set()
        return connect(*arguments, **more)

    monkeypatch.setattr(socket, "create_connection", noted)
    client = openai.OpenAI(base_url=server.base_url, api_key="k", timeout=openai.Timeout(None, connect=seconds))
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

    def server_noticed() -> bool:
        with contextlib.suppress(ConnectionResetError):
            while accepted[0].recv(1 << 20):
                pass
        accepted[0].close()
        return True

    return Scene(server, agent, arrived, server_noticed, prompt="long" * 2_000_000)


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


def refused(server: LocalServer, number: int) -> None:
    """Wait until the client has read an error status and closed its connection, perhaps before the body arrived."""
    server.wait_for_request(number)
    assert server.connection_log[-1].closed_by_client.wait(LIMIT_SECONDS)


def stalled(server: LocalServer, number: int, stream: Stream, text: str) -> None:
    assert server.wait_for_request(number).stalled.wait(LIMIT_SECONDS)
    wait_until(lambda: stream.text == text)


def left(server: LocalServer, number: int) -> bool:
    return server.wait_for_request(number).left.wait(LIMIT_SECONDS)


def closed(server: LocalServer, number: int = 1) -> bool:
    return server.wait_for_connection(number).closed_by_client.wait(LIMIT_SECONDS)


def make_event(means: str) -> Event | None:
    if means == "threading event":
        return threading.Event()
    return multiprocessing.Event() if means == "multiprocessing event" else None


def cancel(stream: Stream, means: str) -> None:
    if means == "cancel":
        stream.cancel()
    else:
        stream.cancel_event.set()


def refuse(*_: object) -> NoReturn:
    raise RuntimeError("can't start new thread")


@contextlib.contextmanager
def no_threads() -> Iterator[None]:
    """Let nothing of ours start a thread, as if the interpreter refused; the servers of the tests have theirs."""
    refused = FunctionType(refuse.__code__, {"__name__": "threading", "RuntimeError": RuntimeError})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refused)
        patch.setattr(threading.Thread, "start", refused)
        yield


def resources() -> tuple[int, int]:
    """Count threads and descriptors of this process, its servers included."""
    gc.collect()
    return threading.active_count(), sum(1 for _ in Path("/dev/fd").iterdir())


def are_back(before: tuple[int, int]) -> bool:
    """Return whether there are no more threads and descriptors than there were."""
    return all(now <= then for now, then in zip(resources(), before, strict=True))
