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
from cancel.scenes import (
    EMPTY_DELTA,
    LIMIT_SECONDS,
    LIMITS,
    OPENINGS,
    SOON_SECONDS,
    InThread,
    set_scene,
)


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
