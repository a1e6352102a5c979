"""Each limit, in each phase, whatever the server sends meanwhile."""

from __future__ import annotations

import contextlib
import queue
import socket
import time
from functools import partial
from typing import Any

import openai
import pytest

from blades import Agent, Stream, StreamState, StreamTimeout
from blades.testing import Answer, LocalServer
from cancel.scenes import EMPTY_DELTA, LIMITS, OPENINGS, InThread, set_scene
from limits import LIMIT_SECONDS, SOON_SECONDS, WRONG_PATH_SECONDS


def pour(listener: socket.socket, data: bytes) -> None:
    """Answer one request with the same bytes again and again, until the client leaves."""
    client, _ = listener.accept()
    with client, contextlib.suppress(OSError):
        client.recv(65536)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
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


@pytest.mark.parametrize(("limit", "step"), [("timeout", EMPTY_DELTA), ("first_chunk_timeout", b": keep-alive\n\n")])
def test_flood_without_content(step: bytes, limit: str, in_thread: InThread) -> None:
    """Nor do bytes that arrive without a pause, so that no read ever waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        flood = in_thread(lambda: pour(listener, step * 500))
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", api_key="k")
        limits: dict[str, Any] = {limit: 1.0}
        with client, pytest.raises(StreamTimeout, match=f"{limit}=1 seconds"):
            Agent("test", model="m", client=client).run("go", **limits)
        with socket.create_connection(listener.getsockname()):  # in case the limit passed before the request left
            pass
        flood.join(LIMIT_SECONDS)
        assert not flood.is_alive()
