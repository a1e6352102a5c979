"""How long a cancel takes in each phase of a stream: until `next()` returns, and until the server notices.

Run: python benchmarks/cancel.py (a minute and a half). The server runs in the same process, so its share of the
interpreter lock is in the figures. `openai.Stream.close` from another thread is measured for comparison.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import socket
import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import openai
from common import figure, lay_out, percentile, verdict

from blades import Agent, Stream, StreamState
from blades.testing import Answer, LocalServer, Request, Stall
from proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT_SECONDS = 30.0
SETTLE_SECONDS = 0.005
"""Longer than a thread needs from the event that the benchmark sees to the call that blocks."""
READ_TIMEOUT_SECONDS = 2.0
FIGURES = ("median", "p99", "worst")


@dataclass
class Phase:
    """The milliseconds of one phase."""

    name: str
    median_goal_ms: float | None = None
    p99_goal_ms: float | None = None
    returned_ms: list[float] = field(default_factory=list)
    noticed_ms: list[float] = field(default_factory=list)

    def cells(self) -> list[str]:
        """Return a line of the table."""
        goal, met = "", None
        if self.median_goal_ms is not None and self.p99_goal_ms is not None:
            goal = f"median <= {self.median_goal_ms:g}, p99 <= {self.p99_goal_ms:g}"
            median, p99 = statistics.median(self.returned_ms), percentile(self.returned_ms, 99)
            met = median <= self.median_goal_ms and p99 <= self.p99_goal_ms
        count = f"{len(self.returned_ms)}"
        return [self.name, count, *figures(self.returned_ms), *figures(self.noticed_ms), goal, verdict(met)]


def figures(values: list[float]) -> list[str]:
    """Return median, p99 and the largest value."""
    if not values:
        return ["-", "-", "-"]
    return [figure(value) for value in (statistics.median(values), percentile(values, 99), max(values))]


def agent_for(url: str) -> Agent:
    return Agent("benchmark", model="m", base_url=url, api_key="k")


def measure(
    phase: Phase,
    read: Callable[[], object],
    arrive: Callable[[], Any],
    noticed_at: Callable[[Any], float | None],
    cancel: Callable[[], object],
) -> None:
    """Bring one reader into its phase, cancel, and record how long it took."""
    returned_at: list[float] = []

    def run() -> None:
        with contextlib.suppress(Exception):  # the official client raises when it is closed
            read()
        returned_at.append(time.monotonic())

    reader = threading.Thread(target=run)
    reader.start()
    arrived = arrive()
    time.sleep(SETTLE_SECONDS)
    began = time.monotonic()
    cancel()
    reader.join(LIMIT_SECONDS)
    phase.returned_ms.append(1e3 * (returned_at[0] - began))
    noticed = noticed_at(arrived)
    if noticed is not None:
        phase.noticed_ms.append(1e3 * (noticed - began))


def measure_stream(
    phase: Phase,
    stream: Stream,
    arrive: Callable[[], Any],
    noticed_at: Callable[[Any], float | None],
    cancel: Callable[[], object] | None = None,
) -> None:
    """Measure one of our streams."""
    measure(phase, lambda: sum(1 for _ in stream), arrive, noticed_at, cancel or stream.cancel)
    assert stream.state is StreamState.CANCELLED, stream


def left_at(request: Request) -> float | None:
    assert request.left.wait(LIMIT_SECONDS)
    return request.left_at


def stalled(server: LocalServer) -> Callable[[], Request]:
    """Return a function that waits for the next request, and until its answer stalls."""
    number = len(server.requests) + 1

    def arrive() -> Request:
        request = server.wait_for_request(number, LIMIT_SECONDS)
        assert request.stalled.wait(LIMIT_SECONDS)
        return request

    return arrive


def openings(rounds: int) -> Iterator[Phase]:
    """Measure the phases before a connection can carry a request."""
    phase = Phase("DNS look-up without an answer")
    look_up, gate = socket.getaddrinfo, threading.Event()
    socket.getaddrinfo = lambda *_, **__: gate.wait(LIMIT_SECONDS) and look_up("127.0.0.1", 9)  # type: ignore[assignment]
    with agent_for("http://slow.test:9/v1") as agent:
        for _ in range(rounds):
            measure_stream(phase, agent.run_stream("go"), lambda: None, lambda _: None)
        gate.set()
        socket.getaddrinfo = look_up
    yield phase
    phase = Phase("TCP connect without an answer")
    with LocalServer(accept=False) as server, agent_for(server.base_url) as agent:
        for _ in range(rounds):
            measure_stream(phase, agent.run_stream("go"), lambda: None, lambda _: None)
    yield phase
    phase = Phase("TLS handshake without an answer")
    with LocalServer(handshake="stall") as server, agent_for(server.base_url) as agent:
        for number in range(1, rounds + 1):
            measure_stream(
                phase,
                agent.run_stream("go"),
                lambda number=number: server.wait_for_connection(number),
                lambda connection: connection.closed.wait(LIMIT_SECONDS) and connection.closed_at,
            )
    yield phase
    while any(thread.name.startswith("blades-open") for thread in threading.enumerate()):
        time.sleep(0.1)  # a hundred threads whose connect fails at the same time would disturb the next phases


def proxy_connect(rounds: int) -> Iterator[Phase]:
    """Measure a proxy that never answers CONNECT."""
    phase = Phase("CONNECT to a proxy without an answer")
    for _ in range(rounds):
        with Proxy(answer=False) as proxy, environment(HTTPS_PROXY=proxy.url), agent_for("https://a.test/v1") as agent:

            def noticed_at(_: object, proxy: Proxy = proxy) -> float:
                assert proxy.left.wait(LIMIT_SECONDS)
                return time.monotonic()

            measure_stream(phase, agent.run_stream("go"), proxy.asked.wait, noticed_at)
    yield phase


def answers(rounds: int, *, tls: bool, proxied: bool = False) -> Iterator[Phase]:
    """Measure the wait for headers and for tokens, on new and re-used connections."""
    kind = ("TLS" if tls else "plain") + (", through a proxy" if proxied else "")
    headers, tokens = Answer(before_headers=[Stall()]), Answer("a ", "b ", Stall())
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(LocalServer(pace=0, tls=tls))
        if tls:
            stack.enter_context(environment(SSL_CERT_FILE=server.certificate_file))
        if proxied:
            proxy = stack.enter_context(Proxy())
            stack.enter_context(environment(HTTPS_PROXY=proxy.url))
        agent = stack.enter_context(agent_for(server.base_url))
        for what, answer in (("headers", headers), ("tokens", tokens)):
            for connection in ("new", "re-used"):
                phase = Phase(f"{what}, {connection} connection, {kind}")
                for _ in range(rounds):
                    if connection == "re-used":
                        server.add("warm")
                        agent.run("warm")
                    server.add(answer)
                    arrive = stalled(server)
                    measure_stream(phase, agent.run_stream("go"), arrive, left_at)
                yield phase


def caller_event(rounds: int) -> Iterator[Phase]:
    """Measure a `threading.Event` of the caller."""
    phase = Phase("tokens, cancelled by a threading.Event of the caller", 1.0, 2.0)
    with LocalServer(pace=0, default=Answer("a ", "b ", Stall())) as server, agent_for(server.base_url) as agent:
        for _ in range(rounds):
            event, arrive = threading.Event(), stalled(server)
            measure_stream(phase, agent.run_stream("go", cancel=event), arrive, left_at, event.set)
    yield phase


def back_off(rounds: int) -> Iterator[Phase]:
    """Measure 429 with Retry-After: 20."""
    phase = Phase("back-off, 429 with Retry-After: 20")
    answer = Answer.error(429, "later", headers={"Retry-After": "20"})
    with LocalServer(default=answer) as server, agent_for(server.base_url) as agent:
        for number in range(1, rounds + 1):
            measure_stream(
                phase,
                agent.run_stream("go"),
                lambda number=number: server.wait_for_request(number).answered.wait(LIMIT_SECONDS),
                lambda _: None,
            )
        assert len(server.requests) == rounds, "a request left after its cancel"
    yield phase


def busy(rounds: int) -> Iterator[Phase]:
    """Measure a reader in its own loop body: `cancel()` itself returns, and the server notices."""
    phase = Phase("reader busy in its loop body")
    with LocalServer(pace=0, default=Answer("a ", Stall())) as server, agent_for(server.base_url) as agent:
        for _ in range(rounds):
            arrive = stalled(server)
            stream = agent.run_stream("go")
            next(stream)
            request = arrive()
            began = time.monotonic()
            stream.cancel()
            phase.returned_ms.append(1e3 * (time.monotonic() - began))
            noticed = left_at(request)
            assert noticed is not None
            phase.noticed_ms.append(1e3 * (noticed - began))
    yield phase


def official(rounds: int) -> Iterator[Phase]:
    """Measure `openai.Stream.close` from another thread, with a read timeout, without which it would not end."""
    phase = Phase(f"openai.Stream.close(), read timeout {READ_TIMEOUT_SECONDS:g} s")
    messages: Any = [{"role": "user", "content": "go"}]
    with LocalServer(pace=0, default=Answer("a ", Stall())) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="k", timeout=READ_TIMEOUT_SECONDS, max_retries=0)
        for _ in range(rounds):
            arrive = stalled(server)
            stream = client.chat.completions.create(model="m", messages=messages, stream=True)

            def close(stream: Any = stream) -> None:
                with contextlib.suppress(Exception):
                    stream.close()

            measure(phase, lambda stream=stream: sum(1 for _ in stream), arrive, left_at, close)
    yield phase


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables for the duration of the ``with`` block."""
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
    parser.add_argument("--rounds", type=int, default=100, help="cancels in each phase")
    rounds = parser.parse_args().rounds
    with LocalServer(pace=0) as server, agent_for(server.base_url) as agent:
        agent.run("warm")
    gc.collect()
    gc.freeze()  # otherwise a collection of all that was imported falls into a round now and then, and takes 0.1 s
    sections = (
        openings(rounds),
        proxy_connect(rounds),
        answers(rounds, tls=False),
        answers(rounds, tls=True),
        answers(rounds, tls=True, proxied=True),
        caller_event(rounds),
        back_off(rounds),
        busy(rounds),
        official(3),
    )
    figures_of = [f"{what}: {name}" for what in ("next() returns", "server notices") for name in FIGURES]
    head = ["phase", "count", *figures_of, "goal", ""]
    print(lay_out([head, *(phase.cells() for section in sections for phase in section)]))


if __name__ == "__main__":
    main()
