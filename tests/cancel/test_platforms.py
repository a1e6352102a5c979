"""What a platform may lack."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import openai
import pytest

from blades import StreamState, StreamTimeout
from blades._transport import cancel as cancelling
from blades._transport import client as official
from blades._transport import events as watching
from blades.testing import Answer, LocalServer, Stall
from cancel.scenes import (
    LIMIT_SECONDS,
    InThread,
    Scene,
    left,
    make,
)


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
