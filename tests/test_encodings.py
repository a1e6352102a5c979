"""Answers with a ``Content-Encoding`` other than gzip and deflate, which only the HTTP library may know."""

from __future__ import annotations

import gzip
import sys
from typing import TYPE_CHECKING

import pytest

from blades import StreamProtocolError, StreamState
from blades._transport.library_body import _is_decoded
from blades.testing import Answer
from wire_cases import DONE, STOP, chunk

if TYPE_CHECKING:
    from blades import Agent
    from blades.testing import LocalServer

BODY = chunk("Grüße aus Köln") + STOP + DONE


def brotli(data: bytes) -> bytes:
    """Encode data as one uncompressed block of RFC 7932, section 9.2, and the empty last one."""
    return (1 << 20 | (len(data) - 1) << 4).to_bytes(3, "little") + data + b"\x03"


def zstd(data: bytes) -> bytes:
    """Encode data as one frame of RFC 8878 with one raw block."""
    header = b"\x28\xb5\x2f\xfd\x60" + (len(data) - 256).to_bytes(2, "little")
    return header + (len(data) << 3 | 1).to_bytes(3, "little") + data


ENCODED = {"br": brotli(BODY), "zstd": zstd(BODY)}


def response_class() -> type:
    """Return the class of responses of the HTTP library that the official client uses."""
    library = sys.modules.get("httpx2") or sys.modules["httpx"]
    kind: type = library.Response
    return kind


@pytest.fixture(params=sorted(ENCODED))
def encoding(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["whole", "byte by byte"])
def answer(request: pytest.FixtureRequest, encoding: str) -> Answer:
    """An answer in that encoding, whether or not it was asked for."""
    body = ENCODED[encoding]
    pieces = [body] if request.param == "whole" else [bytes([byte]) for byte in body]
    return Answer(*pieces, headers={"Content-Encoding": encoding}, done=False)


def test_what_the_library_decodes(encoding: str, answer: Answer, server: LocalServer, agent: Agent) -> None:
    """The text arrives, and the connection is used again."""
    agent.run("warm")
    if encoding not in server.requests[0].headers["accept-encoding"]:
        pytest.skip(f"nothing installed decodes {encoding}")
    server.add(answer)
    assert agent.run("go").text == "Grüße aus Köln"
    assert agent.run("again").complete


def test_what_nobody_decodes(
    encoding: str, answer: Answer, server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error names the encoding, and what to do."""
    agent.run("warm")
    decoders = sys.modules[f"{response_class().__module__.partition('.')[0]}._decoders"].SUPPORTED_DECODERS
    monkeypatch.delitem(decoders, encoding, raising=False)
    server.add(answer)
    stream = agent.run_stream("go")
    expected = rf"can decode here, got '{encoding}': pass extra_headers=.*, or install 'httpx2?\[brotli,zstd\]'"
    with pytest.raises(StreamProtocolError, match=expected):
        stream.reply()
    assert (stream.state, stream.text) == (StreamState.FAILED, "")
    assert agent.run("again", extra_headers={"Accept-Encoding": "identity"}).complete
    assert server.requests[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("name", ["utf-8", "none", "UTF-8, identity"])
def test_a_name_that_is_no_encoding(name: str, server: LocalServer, agent: Agent) -> None:
    """Plain text is read whatever the header calls it."""
    server.add(Answer.raw(BODY, headers={"Content-Encoding": name}))
    assert agent.run("go").text == "Grüße aus Köln"


def test_two_encodings(server: LocalServer, agent: Agent) -> None:
    """The library undoes both; what cannot be undone is named."""
    headers: dict[str, str | None] = {"Content-Encoding": "gzip, gzip"}
    server.add(Answer.raw(gzip.compress(gzip.compress(BODY)), headers=headers), Answer.raw(BODY, headers=headers))
    assert agent.run("go").text == "Grüße aus Köln"
    with pytest.raises(StreamProtocolError, match=r"cannot decode the body: expected a body in 'gzip, gzip', got dam"):
        agent.run("go")


def test_only_what_can_be_decoded_is_asked_for(server: LocalServer, agent: Agent) -> None:
    """Each encoding in the request's header is decoded here."""
    agent.run("go")
    asked = server.requests[0].headers["accept-encoding"].split(", ")
    assert {"gzip", "deflate"} <= set(asked)
    assert all(_is_decoded(response_class()(200), name) for name in asked)
    assert not _is_decoded(response_class()(200), "compress")
