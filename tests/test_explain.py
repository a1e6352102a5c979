"""Notes on the official client's exceptions: what was asked of whom, and what may be the cause."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import openai
import pytest

from blades import Agent
from blades.testing import Answer, LocalServer, Reset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "sk-secret"


def note_of(base_url: str, model: str = "m") -> str:
    """Ask a server that will not answer, and return the note on the official client's exception."""
    with Agent("test", model=model, base_url=base_url, api_key=KEY, max_retries=0) as agent:
        with pytest.raises(openai.OpenAIError) as caught:
            agent.run("go")
        with pytest.raises(type(caught.value)):  # it is the official client's, unchanged in type, each time
            agent.run("go")
    (note,) = caught.value.__notes__
    assert KEY not in note
    return note


def test_refused_port() -> None:
    """The host and port where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and no other process can listen there meanwhile
        port = taken.getsockname()[1]
        note = note_of(f"http://127.0.0.1:{port}/v1")
    assert f"nothing listens on 127.0.0.1:{port}" in note
    assert note.startswith(f"asked: POST http://127.0.0.1:{port}/v1/chat/completions")
    assert "base URL: base_url=; key: api_key=" in note


def test_unknown_host() -> None:
    """The host's name."""
    assert "the host no-such-host.invalid:80 is not known" in note_of("http://no-such-host.invalid:80/v1")


def test_tls_on_a_plain_port(in_thread: Callable[[Callable[[], object]], object]) -> None:
    """The other scheme is proposed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_in_plain_text() -> None:
            for _ in range(2):
                client, _ = listener.accept()
                with client:
                    client.recv(65536)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

        in_thread(answer_in_plain_text)
        assert "try http:// instead" in note_of(f"https://127.0.0.1:{listener.getsockname()[1]}/v1")


def test_tls_handshake_without_an_answer() -> None:
    """A server may wait for the end of what it takes for a request: the other scheme is proposed."""
    with (
        LocalServer(handshake="stall") as server,
        openai.OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0, timeout=0.2) as client,
        pytest.raises(openai.APITimeoutError) as caught,
    ):
        Agent("test", model="m", client=client).run("go")
    assert "did not answer the TLS handshake in time" in caught.value.__notes__[0]
    assert "begins with http://" in caught.value.__notes__[0]


def test_certificate_that_nobody_trusts() -> None:
    """The variable that cures it is named."""
    with LocalServer(tls=True) as server:
        assert "SSL_CERT_FILE" in note_of(server.base_url)


def test_plain_request_on_a_tls_port(server: LocalServer) -> None:
    """A server that hangs up may speak TLS."""
    server.default = Answer(before_headers=[Reset()])
    assert note_of(server.base_url).startswith("asked: POST http://127.0.0.1")
    server.default = Answer.error(400, "The plain HTTP request was sent to HTTPS port")
    assert "must begin with https://" in note_of(server.base_url)


def test_missing_version_in_the_path(server: LocalServer) -> None:
    """The hint is given where it can help, and only there."""
    assert "usually ends in /v1" in note_of(server.base_url.removesuffix("/v1"))
    server.default = Answer.error(404, "no such model")
    note = note_of(server.base_url)
    assert "usually ends in /v1" not in note
    assert "does not know this path or this model" in note


def test_wrong_key_and_its_source(server: LocalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The place where the key was found is named, never the key."""
    server.default = Answer.error(401, "Incorrect API key", code="invalid_api_key")
    assert "the server refuses the key" in note_of(server.base_url)
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL={server.base_url}\n")
    monkeypatch.chdir(tmp_path)
    with Agent("test", model="m", max_retries=0) as agent, pytest.raises(openai.AuthenticationError) as caught:
        agent.run("go")
    assert str(tmp_path / ".env") in caught.value.__notes__[0]


def test_callers_own_client(server: LocalServer) -> None:
    """Nobody here knows where its settings come from."""
    server.default = Answer.error(401, "no")
    with (
        openai.OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        Agent("test", model="m", client=client).run("go")
    assert "with a client of your own" in caught.value.__notes__[0]


def test_unknown_base_url(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not say any more where it sends requests: no other place is named."""
    server.default = Answer.error(401, "no")
    with openai.OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        monkeypatch.setattr("blades._opening.base_url_of", lambda _client: "")
        with pytest.raises(openai.AuthenticationError) as caught:
            Agent("test", model="m", client=client).run("go")
    assert "asked: POST .../chat/completions" in caught.value.__notes__[0]
