"""Each limit, in each phase, whatever the server sends meanwhile."""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
import time
from functools import partial
from typing import Any

import openai
import pytest

from blades import Agent, Stream, StreamState, StreamTimeout
from blades.testing import Answer, LocalServer, Stall
from cancel.scenes import EMPTY_DELTA, FINISH, LIMITS, OPENINGS, InThread, make, set_scene
from limits import LIMIT_SECONDS, SOON_SECONDS, WRONG_PATH_SECONDS, wait_until

EMPTY_GZIP_BLOCK = b"\0\0\0\xff\xff"  # stored, without content
GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"  # how a compressed body begins


def pour(listener: socket.socket, data: bytes, head: bytes = b"") -> None:
    """Answer one request with the same bytes again and again, after what begins the body, until the client leaves."""
    client, _ = listener.accept()
    with client, contextlib.suppress(OSError):
        client.recv(65536)
        encoding = b"Content-Encoding: gzip\r\n" if head else b""
        client.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n" + encoding + b"\r\n" + head
        )
        end = time.monotonic() + WRONG_PATH_SECONDS
        while time.monotonic() < end:
            client.sendall(data)


@pytest.mark.parametrize("phase", [*OPENINGS, "headers", "headers tls", "back-off", "proxy headers"])
def test_before_the_answer(
    phase: str, tls_server: LocalServer, trust: None, in_thread: InThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting and retries count; the limit is named, and the server notices. All limits run at the same time."""
    seconds = 1.0
    streams, ended = dict[str, Stream](), queue.SimpleQueue[str]()

    def read(limit: str) -> None:
        with pytest.raises(StreamTimeout, match=f" {limit}={seconds:g} seconds"):
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
        assert all(scene.server_noticed() for scene in scenes)
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
def test_drip_without_content(step: bytes, limit: str, server: LocalServer, agent: Agent) -> None:
    """Bytes without content that arrive slowly but all the time extend no limit."""
    text = [] if limit == "first_chunk_timeout" else ["a"]
    pauses = int(WRONG_PATH_SECONDS / 0.02)
    server.add(Answer(*text, *[part for _ in range(pauses) for part in (step, 0.02)]))
    limits: dict[str, Any] = {"first_chunk_timeout": LIMIT_SECONDS, limit: 0.5}
    stream = agent.run_stream("go", **limits)
    server.wait_for_request(timeout=LIMIT_SECONDS)
    with pytest.raises(StreamTimeout, match=f"{limit}=0.5 seconds") as caught:
        stream.reply()
    if limit != "timeout":  # on a busy machine the whole limit may pass before the first chunk
        assert caught.value.text == "".join(text)
    assert stream.timing.total < SOON_SECONDS
    assert server.wait_for_request().left.wait(LIMIT_SECONDS)


@pytest.mark.parametrize(
    ("limit", "step", "head"),
    [
        ("timeout", EMPTY_DELTA, b""),
        ("first_chunk_timeout", b": keep-alive\n\n", b""),
        ("timeout", EMPTY_GZIP_BLOCK, GZIP),
        ("first_chunk_timeout", EMPTY_GZIP_BLOCK, GZIP),
        ("stall_timeout", EMPTY_GZIP_BLOCK, GZIP),
    ],
    ids=["events", "comments", "gzip, timeout", "gzip, first_chunk_timeout", "gzip, stall_timeout"],
)
def test_flood_without_content(step: bytes, limit: str, head: bytes, in_thread: InThread) -> None:
    """Nor do bytes that arrive without a pause, so that no read ever waits, or hold nothing once they are decoded."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        flood = in_thread(lambda: pour(listener, step * 500, head))
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", api_key="k")
        limits: dict[str, Any] = {limit: 1.0}
        with client, pytest.raises(StreamTimeout, match=f"{limit}=1 seconds"):
            Agent("test", model="m", client=client).run("go", **limits)
        with socket.create_connection(listener.getsockname()):  # in case the limit passed before the request left
            pass
        flood.join(LIMIT_SECONDS)
        assert not flood.is_alive()


def test_tokens_without_a_pause_extend_no_limit(server: LocalServer, agent: Agent) -> None:
    """`timeout` is the whole stream: at most one chunk that had arrived before is handed out after it."""
    seconds = 1.0
    agent.run("warm")
    server.add(Answer(*[step for _ in range(int(WRONG_PATH_SECONDS / 0.002)) for step in ("w", 0.002)]))
    stream = agent.run_stream("go", timeout=seconds)
    ends_by = time.monotonic() + seconds
    times: list[float] = []
    with pytest.raises(StreamTimeout, match="timeout=1 seconds"):
        times.extend(time.monotonic() for _ in stream)
    assert sum(at > ends_by for at in times) <= 2  # one may have arrived in time and be noted late
    assert server.wait_for_request(2).left.wait(LIMIT_SECONDS)


@pytest.mark.parametrize("limit", LIMITS[::2])
def test_slow_reader_gets_what_has_arrived_once(limit: str, server: LocalServer, agent: Agent) -> None:
    """Asked for after the limit, one chunk that is there already is handed out, and not another."""
    agent.run("warm")
    server.add(Answer("a", "b", "c", "d", Stall()))
    limits: dict[str, Any] = {limit: 1.0}
    stream = agent.run_stream("go", **limits)
    assert next(stream).text == "a"
    assert server.wait_for_request(2).stalled.wait(LIMIT_SECONDS)
    wait_until(lambda: stream.timing.total > 1.5)
    assert next(stream).text == "b"
    rest = [next(stream).text for _ in "cd" if limit == "stall_timeout"]  # each was content, and begins a new wait
    with pytest.raises(StreamTimeout, match=limit):
        stream.next()
    assert stream.text == "ab" + "".join(rest)


def test_repeated_finish_reason_ends_the_stream(server: LocalServer, agent: Agent) -> None:
    """However long a server repeats it, the answer is complete: its rest is awaited for a moment only."""
    repeats = int(WRONG_PATH_SECONDS / 0.01)
    server.add(Answer("a", *[step for _ in range(repeats) for step in (FINISH, 0.01)], done=False))
    began = time.monotonic()
    reply = agent.run("go", stall_timeout=WRONG_PATH_SECONDS)
    assert time.monotonic() - began < SOON_SECONDS
    assert (reply.text, reply.complete) == ("a", True)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("limit", LIMITS[::2])
def test_signals_extend_no_limit(
    limit: str, *, tls: bool, server: LocalServer, tls_server: LocalServer, trust: None
) -> None:
    """A sampling profiler sends one every few milliseconds; each interrupts the wait for the server."""
    used = tls_server if tls else server
    signals: list[None] = []
    before = signal.signal(signal.SIGALRM, lambda *_: signals.append(None))
    with make(used.base_url) as agent:
        agent.run("warm")
        used.add(Answer("a", WRONG_PATH_SECONDS))
        limits: dict[str, Any] = {limit: 1.0}
        stream = agent.run_stream("go", **limits)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            with pytest.raises(StreamTimeout, match=limit):
                stream.reply()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert signals
    assert stream.timing.total < SOON_SECONDS
