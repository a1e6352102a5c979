"""How long a cancel takes, phase by phase: until the consumer is free, and until the server has seen it.

Run it as ``python benchmarks/cancel.py`` (a minute and a half). The server is in the same process, so its share of the
interpreter lock is in the figures. Beside it stand `openai.Stream.close` from another thread and, when it is installed,
the token of pydantic-ai; and what the watcher of foreign events costs with a thousand live streams.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import math
import os
import resource
import socket
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai

from blades import Agent, Stream, StreamState
from blades.testing import Answer, LocalServer, Request, Stall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from proxy import Proxy

LIMIT = 30.0
SETTLE = 0.005  # seconds for a thread to get from the event that is seen to the call that blocks
OPEN_FILES = 8192


@dataclass
class Phase:
    """Milliseconds of one phase."""

    name: str
    free: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)

    def row(self) -> str:
        """Show it as a line of the table."""
        return f"{self.name:48} {len(self.free):5}  {figures(self.free)}   {figures(self.told)}"


def figures(values: list[float]) -> str:
    if not values:
        return f"{'-':>8}{'-':>9}{'-':>9}"
    ranked = sorted(values)
    p99 = ranked[math.ceil(len(ranked) * 0.99) - 1]
    return f"{statistics.median(ranked):8.2f}{p99:9.2f}{ranked[-1]:9.2f}"


def agent_for(url: str) -> Agent:
    return Agent("benchmark", model="m", base_url=url, api_key="k")


def measure(
    phase: Phase,
    start: Callable[[], Stream],
    arrive: Callable[[], Any],
    told_at: Callable[[Any], float | None],
    cancel: Callable[[Stream], object] = Stream.cancel,
) -> None:
    """Bring one stream into its phase, cancel it, and note how long it took."""
    stream = start()
    free_at: list[float] = []

    def read() -> None:
        for _ in stream:
            pass
        free_at.append(time.monotonic())

    reader = threading.Thread(target=read)
    reader.start()
    arrived = arrive()
    time.sleep(SETTLE)
    began = time.monotonic()
    cancel(stream)
    reader.join(LIMIT)
    assert stream.state is StreamState.CANCELLED, stream
    phase.free.append(1e3 * (free_at[0] - began))
    seen = told_at(arrived)
    if seen is not None:
        phase.told.append(1e3 * (seen - began))


def left_at(request: Request) -> float | None:
    assert request.left.wait(LIMIT)
    return request.left_at


def stalled(server: LocalServer) -> Callable[[], Request]:
    """Wait for the request that comes next, and until its answer has stopped."""
    number = len(server.requests) + 1

    def arrive() -> Request:
        request = server.wait_for_request(number, LIMIT)
        assert request.stalled.wait(LIMIT)
        return request

    return arrive


def answers(rounds: int, *, tls: bool, proxied: bool = False) -> Iterator[Phase]:
    """Headers and tokens, on new and re-used connections."""
    kind = ("TLS" if tls else "plain") + (", through a proxy" if proxied else "")
    headers, tokens = Answer(before_headers=[Stall()]), Answer("a ", "b ", Stall())
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(LocalServer(pace=0, tls=tls))
        if tls:
            stack.enter_context(environment(SSL_CERT_FILE=server.certificate_file))
        if proxied:
            proxy = stack.enter_context(Proxy())
            stack.enter_context(environment(HTTP_PROXY=proxy.url, HTTPS_PROXY=proxy.url))
        agent = stack.enter_context(agent_for(server.base_url))
        for what, answer in (("headers", headers), ("tokens", tokens)):
            for connection in ("new", "re-used"):
                phase = Phase(f"{what}, {connection} connection, {kind}")
                for _ in range(rounds):
                    if connection == "re-used":
                        server.add("warm")
                        agent.run("warm")
                    server.add(answer)
                    measure(phase, lambda: agent.run_stream("go"), stalled(server), left_at)
                yield phase


def foreign(rounds: int) -> Iterator[Phase]:
    """A `threading.Event` of the caller's own, which a thread has to look at."""
    phase = Phase("tokens, a threading.Event of the caller's")
    with LocalServer(pace=0, default=Answer("a ", "b ", Stall())) as server, agent_for(server.base_url) as agent:
        for _ in range(rounds):
            event = threading.Event()
            measure(
                phase,
                lambda event=event: agent.run_stream("go", cancel=event),
                stalled(server),
                left_at,
                lambda _, event=event: event.set(),
            )
    yield phase


def openings(rounds: int) -> Iterator[Phase]:
    """Before there is a connection that could carry a request."""
    phase = Phase("TLS handshake that is never finished")
    with LocalServer(handshake="stall") as server, agent_for(server.base_url) as agent:
        for number in range(1, rounds + 1):
            measure(
                phase,
                lambda: agent.run_stream("go"),
                lambda number=number: server.wait_for_connection(number),
                lambda connection: connection.closed.wait(LIMIT) and connection.closed_at,
            )
    yield phase
    phase = Phase("TCP connect to a host that does not answer")
    with LocalServer(accept=False) as server, agent_for(server.base_url) as agent:
        for _ in range(rounds):
            measure(phase, lambda: agent.run_stream("go"), lambda: None, lambda _: None)
    yield phase
    phase = Phase("DNS look-up that does not answer")
    look_up, gate = socket.getaddrinfo, threading.Event()
    socket.getaddrinfo = lambda *_, **__: gate.wait(LIMIT) and look_up("127.0.0.1", 9)  # type: ignore[assignment]
    with agent_for("http://slow.test:9/v1") as agent:
        for _ in range(rounds):
            measure(phase, lambda: agent.run_stream("go"), lambda: None, lambda _: None)
        gate.set()
        socket.getaddrinfo = look_up
    yield phase
    while any(thread.name == "blades-open" for thread in threading.enumerate()):
        time.sleep(0.1)  # a hundred threads that give up connecting, all at once, would disturb the phases after this


def proxy_connect(rounds: int) -> Iterator[Phase]:
    """A proxy that never answers CONNECT."""
    phase = Phase("CONNECT that a proxy does not answer")
    for _ in range(rounds):
        with Proxy(answer=False) as proxy, environment(HTTPS_PROXY=proxy.url), agent_for("https://a.test/v1") as agent:

            def told_at(_: object, proxy: Proxy = proxy) -> float:
                assert proxy.left.wait(LIMIT)
                return time.monotonic()

            measure(phase, lambda: agent.run_stream("go"), proxy.asked.wait, told_at)
    yield phase


def back_off(rounds: int) -> Iterator[Phase]:
    """429 with Retry-After: 20."""
    phase = Phase("back-off, 429 with Retry-After: 20")
    answer = Answer.error(429, "later", headers={"Retry-After": "20"})
    with LocalServer(default=answer) as server, agent_for(server.base_url) as agent:
        for number in range(1, rounds + 1):
            measure(
                phase,
                lambda: agent.run_stream("go"),
                lambda number=number: server.wait_for_request(number).answered.wait(LIMIT),
                lambda _: None,
            )
        assert len(server.requests) == rounds, "a request left after its cancel"
    yield phase


def busy(rounds: int) -> Iterator[Phase]:
    """The consumer is in its own loop body: only the server can be told."""
    phase = Phase("consumer busy in its loop body")
    with LocalServer(pace=0, default=Answer("a ", Stall())) as server, agent_for(server.base_url) as agent:
        for _ in range(rounds):
            arrive = stalled(server)
            stream = agent.run_stream("go")
            next(stream)
            request = arrive()
            began = time.monotonic()
            stream.cancel()
            seen = left_at(request)
            assert seen is not None
            phase.free.append(1e3 * (time.monotonic() - began))
            phase.told.append(1e3 * (seen - began))
    yield phase


def official(rounds: int) -> Iterator[Phase]:
    """`openai.Stream.close` from another thread, with a read timeout, without which nobody would come back."""
    phase = Phase("openai.Stream.close(), read timeout 2 s")
    with LocalServer(pace=0, default=Answer("a ", Stall())) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="k", timeout=2.0, max_retries=0)
        for _ in range(rounds):
            arrive = stalled(server)
            stream = client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "go"}], stream=True
            )
            free_at: list[float] = []

            def read(stream: Any = stream, free_at: list[float] = free_at) -> None:
                with contextlib.suppress(Exception):  # whatever it is, the reader is free then
                    for _ in stream:
                        pass
                free_at.append(time.monotonic())

            reader = threading.Thread(target=read)
            reader.start()
            request = arrive()
            time.sleep(SETTLE)
            began = time.monotonic()
            with contextlib.suppress(Exception):
                stream.close()
            reader.join(LIMIT)
            phase.free.append(1e3 * (free_at[0] - began))
            seen = left_at(request)
            assert seen is not None
            phase.told.append(1e3 * (seen - began))
    yield phase


def peer(rounds: int) -> Iterator[Phase]:
    """The cancellation token of pydantic-ai, in its synchronous interface."""
    try:
        import pydantic_ai  # noqa: PLC0415 - not everyone has it
        from pydantic_ai.models.openai import OpenAIChatModel  # noqa: PLC0415 - same
        from pydantic_ai.providers.openai import OpenAIProvider  # noqa: PLC0415 - same
    except ImportError:
        return
    phase = Phase(f"pydantic-ai {pydantic_ai.__version__}, CancellationToken, tokens")
    with LocalServer(pace=0, default=Answer("a ", Stall())) as server:
        model = OpenAIChatModel("m", provider=OpenAIProvider(base_url=server.base_url, api_key="k"))
        agent = pydantic_ai.Agent(model)
        for _ in range(rounds):
            arrive = stalled(server)
            token = pydantic_ai.CancellationToken()
            free_at: list[float] = []

            def read(token: Any = token, free_at: list[float] = free_at) -> None:
                with contextlib.suppress(BaseException), agent.run_stream_sync("go", cancellation_token=token) as run:
                    for _ in run.stream_text():
                        pass
                free_at.append(time.monotonic())

            reader = threading.Thread(target=read)
            reader.start()
            request = arrive()
            time.sleep(SETTLE)
            began = time.monotonic()
            token.cancel()
            reader.join(LIMIT)
            phase.free.append(1e3 * (free_at[0] - began))
            seen = left_at(request)
            assert seen is not None
            phase.told.append(1e3 * (seen - began))
    yield phase


def watcher(streams: int, seconds: float = 4.0) -> str:
    """Measure what watching the foreign events of so many idle streams costs, in a process that does nothing else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, OPEN_FILES)), hard))
    with LocalServer(pace=0, default=Answer("a ", Stall())) as server, agent_for(server.base_url) as agent:
        kept = []
        for _ in range(streams):
            stream = agent.run_stream("go", cancel=threading.Event())
            next(stream)
            kept.append(stream)
        used, began = time.process_time(), time.monotonic()
        time.sleep(seconds)
        share = (time.process_time() - used) / (time.monotonic() - began)
        for stream in kept:
            stream.cancel()
    return f"{streams} idle streams, each with a threading.Event: {100 * share:.2f}% of a core"


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a cancel takes, in milliseconds.")
    parser.add_argument("--watcher", action="store_true", help="measure the watcher only")
    parser.add_argument("--rounds", type=int, default=100, help="cancels in each phase")
    options = parser.parse_args()
    rounds = options.rounds
    if options.watcher:
        print(watcher(1000))
        return
    with LocalServer(pace=0) as server, agent_for(server.base_url) as agent:
        agent.run("warm")
    gc.collect()
    gc.freeze()  # else now and then a collection of all that was imported falls into a round, and takes 0.1 s
    print(f"openai {openai.__version__}, Python {sys.version.split()[0]}, {os.cpu_count()} cores; milliseconds\n")
    print(f"{'':48} {'':5}  {'consumer free':^26}   {'server told':^26}")
    head = f"{'median':>8}{'p99':>9}{'worst':>9}"
    print(f"{'phase':48} {'count':>5}  {head}   {head}")
    sections = (
        openings(rounds),
        proxy_connect(rounds),
        answers(rounds, tls=False),
        answers(rounds, tls=True),
        answers(rounds, tls=True, proxied=True),
        foreign(rounds),
        back_off(rounds),
        busy(rounds),
        official(3),
        peer(rounds // 2),
    )
    for section in sections:
        for phase in section:
            print(phase.row(), flush=True)
    print(f"\n{watcher(1000)}")


if __name__ == "__main__":
    main()
