"""What a platform may lack."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from blades import StreamState, StreamTimeout
from blades.testing import Answer, LocalServer, Stall
from cancel.internals import let_shutdown_wake_nobody
from cancel.scenes import InThread, Scene, left, make
from limits import LIMIT_SECONDS, START_SECONDS


def test_no_forks() -> None:
    """Windows has no os.register_at_fork."""
    script = "import os, random; del os.register_at_fork; import blades; assert blades.Agent"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=START_SECONDS)


def test_no_descriptor_for_a_handshake(tls_server: LocalServer, trust: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a handshake works, but cannot be interrupted; its stream can be cancelled after it."""

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


@pytest.mark.parametrize("phase", ["headers", "tokens"])
def test_shutdown_wakes_nobody(phase: str, scene: Scene, in_thread: InThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: the reader waits elsewhere, and the server still notices the cancel."""
    let_shutdown_wake_nobody(monkeypatch)
    stream = scene.start()
    reader = in_thread(stream.reply)
    scene.arrived(stream)
    stream.cancel()
    reader.join(LIMIT_SECONDS)
    assert scene.server_noticed()
    assert stream.state is StreamState.CANCELLED
    assert scene.agent.run("sentinel", timeout=LIMIT_SECONDS).complete
    scene.server.add(Answer(Stall()))
    with pytest.raises(StreamTimeout, match="first_chunk_timeout"):
        scene.agent.run("go", first_chunk_timeout=1)
