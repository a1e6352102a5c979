"""Cancelling in each phase of a request, by each means: `next()` returns at once, and the server notices."""

from __future__ import annotations

import threading
import time

import pytest

from blades import Agent, StreamState
from blades.testing import Answer, LocalServer, Stall
from cancel.scenes import MEANS, OPENINGS, WAITS, InThread, Scene, are_back, cancel, make_event, resources
from limits import LIMIT_SECONDS, SOON_SECONDS, wait_until


@pytest.mark.parametrize(
    ("phase", "means"),
    [
        *((phase, means) for phase in (*OPENINGS, *WAITS) for means in MEANS),
        *((f"{phase} tls", means) for phase in WAITS for means in ("cancel", "threading event")),
    ],
)
def test_reader_returns_and_server_notices(phase: str, means: str, scene: Scene, in_thread: InThread) -> None:
    """Both happen at once; the text is kept, and nothing more is sent."""
    stream = scene.start(make_event(means))
    handed_out: list[str] = []
    reader = in_thread(lambda: handed_out.extend(chunk.text for chunk in stream))
    scene.arrived(stream)
    began = time.monotonic()
    cancel(stream, means)
    reader.join(LIMIT_SECONDS)
    assert time.monotonic() - began < SOON_SECONDS
    assert scene.server_noticed()
    assert time.monotonic() - began < SOON_SECONDS
    assert stream.state is StreamState.CANCELLED
    assert stream.text == "".join(handed_out)
    assert not stream.next()
    if phase not in ("connect", "handshake", "proxy connect", "proxy handshake", "sending"):
        sent = [] if phase == "dns" else ["go"]
        assert scene.agent.run("sentinel").complete
        assert scene.sent_since() == [*sent, "sentinel"]


RELEASED = ["short connect" if phase == "connect" else phase for phase in OPENINGS]


@pytest.mark.parametrize("phase", [*RELEASED, *WAITS, "headers tls", "tokens tls", "proxy tokens tls"])
def test_threads_and_descriptors_are_released(phase: str, scene: Scene) -> None:
    """A cancelled stream holds no thread and no descriptor, even if it is kept and never read."""
    before = resources()
    stream = scene.start()
    if "tokens" in phase:
        assert next(stream).text + next(stream).text == "a b"
    scene.arrived(stream)
    stream.cancel()
    assert scene.server_noticed()
    wait_until(lambda: are_back(before))
    assert stream.state is StreamState.CANCELLED


@pytest.mark.parametrize("phase", ["headers", "tokens", "tokens tls"])
def test_busy_reader(phase: str, scene: Scene, in_thread: InThread) -> None:
    """The server notices while the reader is still in its loop body; then the loop ends."""
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
def test_event_set_while_opening(calls: int, server: LocalServer, agent: Agent) -> None:
    """At whichever poll the event is set, nothing more is sent, and a request that was sent is cancelled."""
    polls = 0

    class Late:
        def is_set(self) -> bool:
            """Count the polls, and be set after the last one."""
            nonlocal polls
            polls += 1
            return polls > calls

    server.default = Answer("a ", Stall())
    stream = agent.run_stream("go", cancel=Late())
    assert stream.reply().complete is False
    assert stream.state is StreamState.CANCELLED
    server.default = "fine"
    agent.run("sentinel")
    for request in server.requests[:-1]:
        assert request.left.wait(LIMIT_SECONDS)


def test_cancel_right_after_the_call(server: LocalServer, agent: Agent) -> None:
    """However far the opening thread is, the request is cancelled."""
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
