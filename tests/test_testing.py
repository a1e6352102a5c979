"""What `blades.testing` promises to the tests that use it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
import trustme
from freezegun import freeze_time

from blades.testing import Answer, Cut, End, LocalServer, Request, Reset, Stall, chunk
from limits import LIMIT_SECONDS, SOON_SECONDS, START_SECONDS, WRONG_PATH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def body_of(content: str = "Hi", **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": content}], **more}).encode()


def raw_request(body: bytes, *, headers: str = "", version: str = "1.1") -> bytes:
    head = f"POST /v1/chat/completions HTTP/{version}\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


STREAM = raw_request(body_of(stream=True))


def connect(server: LocalServer) -> socket.socket:
    plain = socket.create_connection(server.address, timeout=WRONG_PATH_SECONDS)
    if not server.certificate:
        return plain
    return ssl.create_default_context(cadata=server.certificate).wrap_socket(plain, server_hostname="127.0.0.1")


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        part = sock.recv(65536)
        assert part, f"the connection ended after {data!r}"
        data += part
    return data


@contextlib.contextmanager
def http_client(server: LocalServer) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(*server.address, timeout=WRONG_PATH_SECONDS)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, content: str = "Hi", **more: Any) -> http.client.HTTPResponse:
    connection.request("POST", "/v1/chat/completions", body_of(content, **more))
    return connection.getresponse()


def ask_once(server: LocalServer, content: str = "Hi", **more: Any) -> tuple[int, bytes]:
    with http_client(server) as connection:
        response = ask(connection, content, **more)
        return response.status, response.read()


def events_of(body: bytes) -> list[Any]:
    """Parse the events of a stream; [DONE] stays a str."""
    events = body.decode().split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") for event in events)
    return [event if event == "data: [DONE]" else json.loads(event[6:]) for event in events]


def stream_once(server: LocalServer, content: str = "Hi", **more: Any) -> list[Any]:
    status, body = ask_once(server, content, stream=True, **more)
    assert status == 200
    return events_of(body)


def text_of(events: list[Any]) -> str:
    choices = [choice for event in events if isinstance(event, dict) for choice in event["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def message_of(body: bytes) -> str:
    message = json.loads(body)["error"]["message"]
    assert isinstance(message, str)
    return message


# Answers


def test_a_text_is_streamed_as_completion_chunks() -> None:
    """A str comes as one event a word, then the finish event, then [DONE]."""
    with LocalServer("Hello there.", pace=0) as server:
        events = stream_once(server)
    assert events.pop() == "data: [DONE]"
    assert [event["choices"][0]["delta"] for event in events] == [
        {"role": "assistant", "content": "Hello"},
        {"content": " there."},
        {},
    ]
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, "stop"]
    assert {(event["object"], event["model"]) for event in events} == {("chat.completion.chunk", "m")}


@pytest.mark.parametrize(
    "text", ["", " ", "one", " two  words\n\n", "a\tb\r\nc", "请用三点 简洁 回答。", "mixed 中文text 😀 é"]
)
def test_a_text_arrives_as_written(text: str) -> None:
    """The words of a str, joined, are the str."""
    with LocalServer(text, pace=0) as server:
        assert text_of(stream_once(server)) == text


def test_usage_is_sent_when_asked_for() -> None:
    """The usage event exists only with include_usage, and holds the answer's usage where one is given."""
    with LocalServer("one two", "one two", Answer("one", usage={"total_tokens": 7}), pace=0) as server:
        assert not any("usage" in event for event in stream_once(server) if isinstance(event, dict))
        counted = stream_once(server, stream_options={"include_usage": True})[-2]
        given = stream_once(server, stream_options={"include_usage": True})[-2]
    assert counted["choices"] == []
    assert counted["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert given["usage"] == {"total_tokens": 7}


def test_a_request_without_stream_gets_one_completion() -> None:
    """The text comes as one JSON completion, after the pauses among its steps."""
    answer = Answer("Hello", 0.0, Stall(), " there.", finish_reason="length")
    with LocalServer(answer) as server, http_client(server) as connection:
        connection.request("POST", "/v1/chat/completions", body_of())
        request = server.wait_for_request()
        assert request.stalled.wait(LIMIT_SECONDS)
        request.release()
        response = connection.getresponse()
        whole = json.loads(response.read())
    assert response.headers["Content-Type"] == "application/json"
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "Hello there."}
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 2


def test_each_request_takes_the_next_answer() -> None:
    """Answers are used in order, those added later too; then the default answers."""

    def echo(request: Request) -> str:
        content = request.json["messages"][0]["content"]
        return f"echo {content}"

    with LocalServer("first", default="default", pace=0) as server:
        server.add(echo, lambda request: Answer.text(f"number {request.number}"))
        assert [text_of(stream_once(server, word)) for word in "abcd"] == ["first", "echo b", "number 3", "default"]
        server.default = "changed"
        assert text_of(stream_once(server)) == "changed"


def test_bytes_are_sent_as_they_are() -> None:
    """Each bytes step is one HTTP chunk, and nothing else is sent with done=False."""
    with LocalServer(Answer(b"da", b"", b"ta: \xff\n", b"\r", done=False)) as server, connect(server) as sock:
        sock.sendall(STREAM)
        head, _, body = read_until(sock, b"0\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"2\r\nda\r\n6\r\nta: \xff\n\r\n1\r\n\r\r\n0\r\n\r\n"


def test_a_dict_is_sent_verbatim() -> None:
    """A dict step is one event with its JSON, even with half of a surrogate pair in it."""
    call = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}}
    steps = [chunk("\ud83d"), chunk(tool_calls=[call]), {"error": "text"}, chunk("é", finish_reason="stop")]
    with LocalServer(Answer(*steps, finish_reason=None)) as server:
        events = stream_once(server)
    assert events == [*steps, "data: [DONE]"]


def test_the_epilogue_is_what_the_answer_says() -> None:
    """finish_reason=None leaves out the finish event, done=False all of it, End what follows it."""
    answers = (
        Answer("a", finish_reason=None),
        Answer("a", finish_reason="content_filter"),
        Answer("a", done=False),
        Answer("a", End(), "b"),
    )
    with LocalServer(*answers) as server:
        tails = [stream_once(server)[1:] for _ in answers]
        assert server.connections == 4
    assert tails[0] == ["data: [DONE]"]
    assert tails[1][0]["choices"][0]["finish_reason"] == "content_filter"
    assert tails[2:] == [[], []]


def test_text_options() -> None:
    """Answer.text cuts into words or not, and pauses between two of them."""
    assert Answer.text("a b c", pause=0.5).steps == ("a", 0.5, " b", 0.5, " c")
    assert Answer.text("a b c", words=False, pause=0.5).steps == ("a b c",)
    assert Answer.text("a", finish_reason="length").finish_reason == "length"


def test_a_raw_answer_is_the_body_given() -> None:
    """Answer.raw sends the body, its content type and its status, whether a stream was asked for or not."""
    page = Answer.raw(b"<html>", content_type="text/html", status=502, framing="length", headers={"X-A": "b"})
    with LocalServer(page, page, Answer.raw(b"")) as server, http_client(server) as connection:
        for stream in (True, False):
            response = ask(connection, stream=stream)
            assert (response.status, response.read()) == (502, b"<html>")
            assert (response.headers["Content-Type"], response.headers["X-A"]) == ("text/html", "b")
        assert ask(connection, stream=True).read() == b""


def test_a_pause_takes_its_time() -> None:
    """A number is a pause of that many seconds."""
    with LocalServer(Answer("a", 0.05, "b", 0.05)) as server:
        start = time.monotonic()
        assert text_of(stream_once(server)) == "ab"
    assert 0.1 <= time.monotonic() - start < SOON_SECONDS


@pytest.mark.parametrize(
    ("step", "error"),
    [
        pytest.param(None, TypeError, id="none"),
        pytest.param(True, TypeError, id="bool"),
        pytest.param(Stall, TypeError, id="class"),
        pytest.param(-1, ValueError, id="negative"),
        pytest.param(float("nan"), ValueError, id="nan"),
        pytest.param(float("inf"), ValueError, id="endless"),
    ],
)
def test_an_impossible_step_is_refused(step: Any, error: type[Exception]) -> None:
    """A step that cannot be played raises where it is written, and so does such a pace."""
    with pytest.raises(error, match=r"^expected "):
        Answer("text", step)
    with pytest.raises(error, match=r"^expected "):
        LocalServer(pace=step)


@pytest.mark.parametrize("step", ["text", b"bytes", {}, End()], ids=repr)
def test_only_delays_come_before_the_headers(step: Any) -> None:
    """Content before the headers is refused."""
    with pytest.raises(TypeError, match=r"^expected a number or Stall or Reset or Cut, got "):
        Answer(before_headers=[step])


def test_an_unknown_framing_is_refused() -> None:
    """The framings are named."""
    unknown: Any = "gzip"
    with pytest.raises(ValueError, match="'gzip'"):
        Answer(framing=unknown)


# Faults


def test_stalls_go_on_one_by_one() -> None:
    """Request.release lets one stall go on, also one that was not reached yet."""
    answer = Answer(b"one ", Stall(), b"two ", Stall(), Stall(), b"three", done=False)
    with LocalServer(answer) as server, connect(server) as sock:
        sock.sendall(STREAM)
        read_until(sock, b"one \r\n")
        request = server.wait_for_request()
        assert request.stalled.wait(LIMIT_SECONDS)
        request.release()
        read_until(sock, b"two \r\n")
        assert not request.answered.is_set()
        request.release()
        request.release()
        read_until(sock, b"three\r\n0\r\n\r\n")
        assert request.answered.wait(LIMIT_SECONDS)
        assert not request.stalled.is_set()
        assert not request.left.is_set()


def test_the_server_releases_every_stall() -> None:
    """LocalServer.release lets all stalls of all requests go on, present and later ones."""
    answer = Answer("a", Stall(), "b", Stall(), before_headers=[Stall()])
    with LocalServer(default=answer) as server, connect(server) as one, connect(server) as other:
        one.sendall(STREAM)
        other.sendall(STREAM)
        server.wait_for_request(2)
        server.release()
        assert b'"b"' in read_until(one, b"0\r\n\r\n")
        assert b'"b"' in read_until(other, b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(Answer("some", Reset(), "more"), ConnectionResetError, id="reset"),
        pytest.param(Answer("some", Cut(), "more"), http.client.IncompleteRead, id="cut, chunked"),
        pytest.param(Answer("some", Cut(), framing="length"), http.client.IncompleteRead, id="cut, length"),
        pytest.param(Answer(before_headers=[Reset()]), ConnectionResetError, id="reset before headers"),
        pytest.param(Answer(before_headers=[0, Cut()]), http.client.RemoteDisconnected, id="cut before headers"),
    ],
)
def test_a_fault_breaks_the_answer(answer: Answer, error: type[Exception]) -> None:
    """A reset and a cut are what the client sees, and neither counts as answered or left."""
    with LocalServer(answer) as server:
        with pytest.raises(error):
            ask_once(server, stream=True)
        request = server.wait_for_request()
        connection = server.wait_for_connection()
        assert connection.closed.wait(LIMIT_SECONDS)
        assert connection.closed_at is not None
        assert not any(event.is_set() for event in (request.answered, request.left, connection.closed_by_client))


def test_text_before_a_reset_can_be_read() -> None:
    """What was sent before the reset reaches the client."""
    with LocalServer(Answer("some", Stall(), Reset())) as server, connect(server) as sock:
        sock.sendall(STREAM)
        assert server.wait_for_request().stalled.wait(LIMIT_SECONDS)
        server.release()
        assert server.wait_for_connection().closed.wait(LIMIT_SECONDS)
        assert b'"some"' in sock.recv(65536)
        with pytest.raises(ConnectionResetError):
            read_all(sock)


# Framing and headers


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("answer", "http10", "version", "status_line", "header"),
    [
        pytest.param(Answer("a"), False, "1.1", "HTTP/1.1", "Transfer-Encoding: chunked", id="chunked"),
        pytest.param(Answer("a", framing="length"), False, "1.1", "HTTP/1.1", "Content-Length: ", id="length"),
        pytest.param(Answer("a", framing="close"), False, "1.1", "HTTP/1.1", "Connection: close", id="close"),
        pytest.param(Answer("a", http10=True), False, "1.1", "HTTP/1.0", "Connection: close", id="http10 answer"),
        pytest.param(Answer("a"), True, "1.1", "HTTP/1.0", "Connection: close", id="http10 server"),
        pytest.param(Answer("a"), False, "1.0", "HTTP/1.0", "Connection: close", id="http10 client"),
    ],
)
def test_the_end_of_the_body_is_told_as_asked(
    answer: Answer, *, http10: bool, version: str, status_line: str, header: str, tls: bool
) -> None:
    """Chunked, by length, by the end of the connection, and as HTTP/1.0: the client ends the connection if needed."""
    request = raw_request(body_of(stream=True), headers="Connection: keep-alive\r\n", version=version)
    with LocalServer(answer, http10=http10, tls=tls) as server, connect(server) as sock:
        sock.sendall(request)
        if header == "Connection: close":
            data = read_all(sock)
        else:
            data = read_until(sock, b"data: [DONE]\n\n" if "Length" in header else b"0\r\n\r\n")
        head, _, body = data.decode().partition("\r\n\r\n")
        assert head.startswith(f"{status_line} 200 OK\r\n")
        assert header in head
        assert ("Transfer-Encoding" in head) == ("chunked" in header)
        if "Length" in header:
            assert head.endswith(f"Content-Length: {len(body)}")
        assert server.wait_for_request().answered.wait(LIMIT_SECONDS)
        assert not server.requests[0].left.is_set()


def test_a_connection_is_used_again() -> None:
    """Requests over one connection carry its number; Connection: close ends it after the answer."""
    with LocalServer(default="Hello", pace=0) as server, http_client(server) as connection:
        for _ in range(3):
            ask(connection, stream=True).read()
        connection.request("POST", "/v1/chat/completions", body_of(), headers={"Connection": "close"})
        connection.getresponse().read()
        assert server.wait_for_connection().closed.wait(LIMIT_SECONDS)
        ask(connection).read()
        assert [request.connection for request in server.requests] == [1, 1, 1, 1, 2]
        assert server.connections == 2
        assert server.open_connections == 1


def test_pipelined_requests_are_answered_in_order() -> None:
    """A second request sent during the first answer is no sign of leaving, and is answered after it."""
    answers = Answer(b"one", Stall(), done=False), Answer(b"two", done=False)
    with LocalServer(*answers) as server, connect(server) as sock:
        sock.sendall(STREAM)
        assert server.wait_for_request().stalled.wait(LIMIT_SECONDS)
        sock.sendall(STREAM)
        server.release()
        data = read_until(sock, b"two\r\n0\r\n\r\n")
        assert data.index(b"one\r\n0\r\n\r\n") < data.index(b"two")


def test_given_headers_win() -> None:
    """A header of the answer replaces the server's own whatever its case, and None leaves it out."""
    answers = (
        Answer("a", headers={"content-type": "text/plain", "x-request-id": "mine"}),
        Answer("a", headers={"Content-Type": None}),
    )
    with LocalServer(*answers) as server, http_client(server) as connection:
        first = ask(connection, stream=True)
        first.read()
        assert first.headers.get_all("Content-Type") == ["text/plain"]
        assert first.headers.get_all("X-Request-Id") == ["mine"]
        second = ask(connection, stream=True)
        second.read()
        assert second.headers["Content-Type"] is None
        assert second.headers["X-Request-Id"] == "req_local_2"


def test_framing_can_be_done_by_hand() -> None:
    """With a Transfer-Encoding or Content-Length of its own, the body of an answer is sent unframed."""
    answers = (
        Answer(b"3\r\nabc\r\n0\r\n\r\n", headers={"transfer-encoding": "chunked"}, done=False),
        Answer(b"abc", headers={"content-length": "3"}, done=False),
    )
    with LocalServer(*answers) as server, http_client(server) as connection:
        assert ask(connection, stream=True).read() == b"abc"
        assert ask(connection, stream=True).read() == b"abc"


# Leaving


def close_it(sock: socket.socket) -> None:
    sock.close()


def reset_it(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def shut_it_down(sock: socket.socket) -> None:
    socket.socket.shutdown(sock, socket.SHUT_RDWR)


PHASES: dict[str, Answer] = {
    "stall before headers": Answer("late", before_headers=[Stall()]),
    "pause before headers": Answer("late", before_headers=[WRONG_PATH_SECONDS]),
    "stall": Answer("a", Stall()),
    "pause": Answer("a", WRONG_PATH_SECONDS),
    "pause, not a stream": Answer(b"{", WRONG_PATH_SECONDS, done=False, framing="length"),
    "held open after the last event": Answer("a", b"data: [DONE]\n\n", Stall(), done=False),
    "sending": Answer(*[b"x" * 1_000_000] * 100, done=False),
    "many small sends": Answer(*(step for _ in range(60_000) for step in (b"x", 0.001)), done=False),
}


@pytest.mark.parametrize("leave", [close_it, reset_it, shut_it_down])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_client_that_leaves_is_noticed(phase: str, *, tls: bool, leave: Callable[[socket.socket], None]) -> None:
    """In every phase, however the client leaves: `left` is set at once, while the phase takes a minute."""
    with LocalServer(PHASES[phase], tls=tls) as server:
        with connect(server) as sock:
            sock.sendall(STREAM)
            request = server.wait_for_request()
            if "stall" in phase or "held" in phase:
                assert request.stalled.wait(LIMIT_SECONDS)
            elif "headers" not in phase:
                sock.recv(100)
            start = time.monotonic()
            leave(sock)
            assert request.left.wait(LIMIT_SECONDS)
        assert request.left_at is not None
        assert request.left_at - start < SOON_SECONDS
        assert not request.answered.is_set()
        connection = server.wait_for_connection()
        assert connection.closed_by_client.wait(LIMIT_SECONDS)
        assert connection.closed.wait(LIMIT_SECONDS)
        assert server.open_connections == 0


def test_an_idle_client_that_leaves_is_noticed() -> None:
    """A kept connection that the client closes says so; its answered request was not left."""
    with LocalServer("Hello", pace=0) as server:
        ask_once(server, stream=True)
        assert server.wait_for_connection().closed_by_client.wait(LIMIT_SECONDS)
        assert server.requests[0].answered.is_set()
        assert not server.requests[0].left.is_set()


def test_a_client_that_leaves_inside_its_request_is_noticed() -> None:
    """A request that never arrives whole is not recorded, its connection is."""
    with LocalServer() as server:
        with connect(server) as sock:
            sock.sendall(STREAM[:-5])
        assert server.wait_for_connection().closed_by_client.wait(LIMIT_SECONDS)
        assert server.requests == []


def test_sending_goes_on_when_the_client_reads_again() -> None:
    """A full socket makes the server wait, not fail."""
    answer = Answer(*[b"x" * 1_000_000] * 20, done=False, framing="length")
    with LocalServer(answer) as server, http_client(server) as connection:
        response = ask(connection, stream=True)
        assert not server.wait_for_request().answered.is_set()
        assert len(response.read()) == 20_000_000


# Requests


def test_requests_are_recorded() -> None:
    """A request carries what was sent; header names match in any case."""
    before = time.monotonic()
    with LocalServer(pace=0, base_path="/openai/deployments/d") as server, http_client(server) as connection:
        headers = {"Authorization": "Bearer k", "X-Twice": "1"}
        connection.putrequest("POST", "/openai/deployments/d/chat/completions?api-version=1")
        for name, value in {**headers, "x-twice": "2", "Content-Length": str(len(body_of()))}.items():
            connection.putheader(name, value)
        connection.endheaders(body_of())
        connection.getresponse().read()
        request = server.wait_for_request()
    assert (request.number, request.connection, request.method) == (1, 1, "POST")
    assert request.path == "/openai/deployments/d/chat/completions?api-version=1"
    assert request.json == json.loads(body_of())
    assert request.headers["authorization"] == request.headers["AUTHORIZATION"] == "Bearer k"
    assert request.headers["x-twice"] == "1, 2"
    assert "x-other" not in request.headers
    assert "authorization" in list(request.headers)
    assert len(request.headers) == 5
    assert "Bearer" not in repr(request)
    assert before <= request.arrived_at <= time.monotonic()


def test_waiting_has_a_limit() -> None:
    """wait_for_request and wait_for_connection say what did not come."""
    with LocalServer() as server:
        with pytest.raises(TimeoutError, match=r"expected 1 requests within 0\.01 s, got 0"):
            server.wait_for_request(timeout=0.01)
        with pytest.raises(TimeoutError, match="expected 2 connections"):
            server.wait_for_connection(2, timeout=0.01)


def test_a_chunked_request_is_read() -> None:
    """A body in chunks, with an extension, after 100-continue was asked for and given."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    body = body_of()
    with LocalServer("Hello", pace=0) as server, connect(server) as sock:
        sock.sendall(head)
        read_until(sock, b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(b"5;x=y\r\n" + body[:5] + b"\r\n" + b"%X\r\n" % (len(body) - 5) + body[5:])
        sock.sendall(b"\r\n0\r\n\r\n")
        assert server.wait_for_request().json == json.loads(body)
        assert b"200 OK" in read_until(sock, b"}")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\r\n\r\n", 400, id="tls"),
        pytest.param(b"GET /\r\n\r\n", 400, id="no version"),
        pytest.param(b"GET / HTTP/2.0\r\n\r\n", 400, id="version 2"),
        pytest.param(b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400, id="no colon"),
        pytest.param(b"GET / HTTP/1.1\r\nname : x\r\n\r\n", 400, id="space before colon"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, id="negative length"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413, id="huge length"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, id="chunk size"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", 413, id="huge chunk"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"x" * 100_000, 431, id="endless header"),
    ],
)
def test_malformed_http_is_refused(data: bytes, status: int) -> None:
    """Nonsense gets an error and the end of its connection, and the server goes on."""
    with LocalServer(pace=0) as server:
        with connect(server) as sock:
            sock.sendall(data)
            answer = read_all(sock)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
        assert server.requests == []
        assert ask_once(server)[0] == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"{}"], ids=["none", "cut", "list", "no text", "empty"])
def test_a_body_without_messages_is_refused(body: bytes) -> None:
    """What is not a JSON object takes no scripted answer."""
    with LocalServer("scripted", pace=0) as server:
        with http_client(server) as connection:
            connection.request("POST", "/v1/chat/completions", body)
            response = connection.getresponse()
            assert response.status == 400
            assert "JSON object" in message_of(response.read())
        assert text_of(stream_once(server)) == "scripted"


def test_other_paths_and_methods_are_refused() -> None:
    """GET /v1/models lists a model; an unknown path is 404, a wrong method 405."""
    with LocalServer() as server, http_client(server) as connection:
        connection.request("GET", "/v1/models")
        assert json.loads(connection.getresponse().read())["data"][0]["id"] == "local-test"
        connection.request("GET", "/v1/nothing")
        response = connection.getresponse()
        assert response.status == 404
        assert message_of(response.read()) == "Invalid URL (GET /v1/nothing)"
        connection.request("GET", "/v1/chat/completions")
        response = connection.getresponse()
        response.read()
        assert (response.status, response.headers["Allow"]) == (405, "POST")
        connection.request("POST", "/v1/models", b"{}")
        assert connection.getresponse().status == 405


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/chat/completions", 200),
        ("/v1/chat/completions/", 200),
        ("/v1/chat/completions?api-version=1", 200),
        ("http://127.0.0.1:9/v1/chat/completions", 200),
        ("/v1//chat/completions", 404),
        ("http://127.0.0.1:9/chat/completions", 404),
        ("//v1/chat/completions", 404),
        ("/v1/chat/completions//", 404),
        ("/chat/completions", 404),
        ("/v1/chat/completions/chat/completions", 404),
        ("/v1/v1/chat/completions", 404),
        ("/V1/chat/completions", 404),
    ],
)
def test_wrong_path_is_not_found(path: str, status: int) -> None:
    """Only the API's own paths exist, as on real servers."""
    with LocalServer(pace=0) as server, http_client(server) as connection:
        connection.request("POST", path, body_of())
        response = connection.getresponse()
        body = response.read()
        assert response.status == status
        assert status == 200 or message_of(body) == f"Invalid URL (POST {path.removeprefix('http://127.0.0.1:9')})"


def test_base_path_can_be_chosen() -> None:
    """The paths and the base URL follow it."""
    with LocalServer(pace=0, base_path="/api/paas/v4") as server, official_client(server) as client:
        assert server.base_url.endswith("/api/paas/v4")
        assert len(list(create(client))) > 3


# The official client


@contextlib.contextmanager
def official_client(server: LocalServer, **more: Any) -> Iterator[openai.OpenAI]:
    settings = {"api_key": "key", "max_retries": 0, "timeout": WRONG_PATH_SECONDS, **more}
    with openai.OpenAI(base_url=server.base_url, **settings) as client:
        yield client


def create(client: openai.OpenAI) -> openai.Stream[Any]:
    return client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hi"}], stream=True, stream_options={"include_usage": True}
    )


def test_the_official_client_streams() -> None:
    """openai.OpenAI reads the stream and its usage."""
    with LocalServer("Hello there.", pace=0) as server, official_client(server) as client:
        chunks = list(create(client))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello there."
        assert chunks[-1].usage.total_tokens == 3
        assert [model.id for model in client.models.list()] == ["local-test"]


def test_the_official_client_raises_its_errors() -> None:
    """Errors have OpenAI's shape: message, type, code and headers reach the client's exceptions."""
    limit = Answer.error(429, "Slow down.", type="rate", code="too_fast", headers={"Retry-After": "20"})
    with LocalServer(limit, api_key="right") as server:
        with official_client(server, api_key="right") as client, pytest.raises(openai.RateLimitError) as limited:
            create(client)
        with official_client(server, api_key="wrong") as client, pytest.raises(openai.AuthenticationError) as refused:
            create(client)
    assert limited.value.response.headers["retry-after"] == "20"
    assert limited.value.body == {"message": "Slow down.", "type": "rate", "param": None, "code": "too_fast"}
    assert limited.value.request_id == "req_local_1"
    assert (refused.value.code, refused.value.type) == ("invalid_api_key", "invalid_request_error")


# Without a script


def test_the_default_answer_is_about_the_prompt() -> None:
    """It names the last question in its language, says that it is a test server, and is not long."""
    messages = [
        {"role": "user", "content": "first"},
        {"role": "user", "content": [{"type": "text", "text": "What is\nthe time?"}]},
        {"role": "assistant", "content": "x"},
    ]
    with LocalServer(pace=0) as server:
        english = stream_once(server, messages=messages)
        chinese = stream_once(server, "请回答 users，KT和T1谁最有可能在决赛中获得冠军")
        long = text_of(stream_once(server, "x" * 10_000))
    assert "“What is the time?”" in text_of(english)
    assert "local test server" in text_of(english)
    assert "“请回答 users，KT和T1谁最有可能在决赛中获得冠军”" in text_of(chinese)
    assert "本地测试服务器" in text_of(chinese)
    assert 60 <= len(english) <= 130
    assert 60 <= len(chinese) <= 130
    assert len(long) < 1000


def test_the_default_answer_comes_at_its_pace() -> None:
    """Two words are `pace` seconds apart."""
    with LocalServer(pace=0.01) as server:
        start = time.monotonic()
        events = stream_once(server, max_tokens=11)
    assert len(events) == 13
    assert time.monotonic() - start >= 0.1


@pytest.mark.parametrize(
    ("options", "text", "finish_reason"),
    [
        ({"max_tokens": 2}, "You asked:", "length"),
        ({"max_completion_tokens": 2, "max_tokens": 9}, "You asked:", "length"),
        ({"stop": ":"}, "You asked", "stop"),
        ({"stop": ["no such word", " asked"]}, "You", "stop"),
        ({"stop": "You"}, "", "stop"),
        ({"stop": ":", "max_tokens": 2}, "You asked", "stop"),
    ],
)
def test_the_default_answer_ends_where_asked(options: dict[str, Any], text: str, finish_reason: str) -> None:
    """max_tokens and stop cut it and decide the finish reason."""
    with LocalServer(pace=0) as server:
        events = stream_once(server, **options)
    assert text_of(events) == text
    assert events[-2]["choices"][0]["finish_reason"] == finish_reason


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "text"}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"stop": 5}, "stop"),
        ({"stop": [""]}, "stop"),
    ],
)
def test_the_default_answer_refuses_bad_parameters(options: dict[str, Any], param: str) -> None:
    """A parameter that OpenAI would refuse gets a 400 that names it."""
    with LocalServer() as server:
        status, body = ask_once(server, stream=True, **options)
    assert status == 400
    assert json.loads(body)["error"]["param"] == param


@pytest.mark.parametrize("messages", [[None], ["text"], [{"role": "user"}], [{"role": "user", "content": [1]}], 7])
def test_odd_messages_do_not_break_an_answer(messages: object) -> None:
    """A scripted answer counts what text there is in the messages."""
    with LocalServer("Hello", pace=0) as server:
        usage = stream_once(server, messages=messages, stream_options={"include_usage": True})[-2]["usage"]
    assert usage["prompt_tokens"] == 0


# TLS


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_tls_satisfies_strict_checks(name: str) -> None:
    """The certificate passes OpenSSL's strict verification for its names, and only with its authority."""
    with LocalServer("Hello", pace=0, tls=True) as server:
        assert server.base_url == f"https://127.0.0.1:{server.address[1]}/v1"
        assert Path(server.certificate_file).read_text() == server.certificate
        assert os.listdir(Path(server.certificate_file).parent) == ["authority.pem"]  # noqa: PTH208 - names, no paths
        context = ssl.create_default_context(cafile=server.certificate_file)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        plain = socket.create_connection(server.address, timeout=WRONG_PATH_SECONDS)
        with context.wrap_socket(plain, server_hostname=name) as sock:
            sock.sendall(STREAM)
            assert b'"Hello"' in read_until(sock, b"0\r\n\r\n")
        distrustful = ssl.create_default_context()
        plain = socket.create_connection(server.address, timeout=WRONG_PATH_SECONDS)
        with plain, pytest.raises(ssl.SSLCertVerificationError):
            distrustful.wrap_socket(plain, server_hostname=name)
    assert not Path(server.certificate_file).exists()


def test_the_official_client_trusts_the_certificate_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE makes the official client trust it."""
    with LocalServer("Hello", pace=0, tls=True) as server:
        monkeypatch.setenv("SSL_CERT_FILE", server.certificate_file)
        with official_client(server) as client:
            assert len(list(create(client))) == 3


def test_context_of_ones_own() -> None:
    """tls= takes an ssl.SSLContext; its authority is the caller's."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with LocalServer("Hello", pace=0, tls=context) as server:
        assert server.base_url.startswith("https://")
        assert (server.certificate, server.certificate_file) == ("", "")
        trusting = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        plain = socket.create_connection(server.address, timeout=WRONG_PATH_SECONDS)
        with trusting.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
            sock.sendall(STREAM)
            assert b'"Hello"' in read_until(sock, b"0\r\n\r\n")


def test_tls_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without trustme the error says what to install, and nothing stays open; without TLS nothing is missing."""
    monkeypatch.delitem(sys.modules, "blades.testing._tls", raising=False)
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ImportError, match=r"pip install trustme"):
        LocalServer(tls=True)
    with LocalServer("Hello", pace=0) as server:
        assert text_of(stream_once(server)) == "Hello"


def test_a_client_without_handshake_is_in_nobodys_way() -> None:
    """A client that connects and sends nothing blocks no other client, and is noticed when it leaves."""
    with LocalServer("Hello", pace=0, tls=True) as server:
        with socket.create_connection(server.address, timeout=WRONG_PATH_SECONDS):
            silent = server.wait_for_connection()
            with connect(server) as sock:
                sock.sendall(STREAM)
                read_until(sock, b"0\r\n\r\n")
            assert not silent.closed.is_set()
        assert silent.closed_by_client.wait(LIMIT_SECONDS)


@pytest.mark.parametrize("leave", [close_it, reset_it, shut_it_down])
def test_a_stalled_handshake_lasts_until_the_client_leaves(leave: Callable[[socket.socket], None]) -> None:
    """handshake="stall" accepts and stays silent; the client's leaving is recorded on the connection."""
    with LocalServer(handshake="stall") as server:
        assert server.base_url.startswith("https://")
        context = ssl.create_default_context()
        with socket.create_connection(server.address, timeout=WRONG_PATH_SECONDS) as plain:
            plain.settimeout(0.05)
            with pytest.raises(TimeoutError):
                context.wrap_socket(plain, server_hostname="127.0.0.1")
        assert server.wait_for_connection(1).closed_by_client.wait(LIMIT_SECONDS)
        with socket.create_connection(server.address, timeout=WRONG_PATH_SECONDS) as plain:
            connection = server.wait_for_connection(2)
            assert not connection.closed_by_client.is_set()
            leave(plain)
            assert connection.closed_by_client.wait(LIMIT_SECONDS)
        assert server.requests == []


def test_a_handshake_can_be_reset() -> None:
    """handshake="reset" resets the connection after the client's first bytes."""
    with LocalServer(handshake="reset") as server:
        context = ssl.create_default_context()
        plain = socket.create_connection(server.address, timeout=WRONG_PATH_SECONDS)
        with plain, pytest.raises(ConnectionResetError):
            context.wrap_socket(plain, server_hostname="127.0.0.1")
        assert server.wait_for_connection().closed.wait(LIMIT_SECONDS)
        assert not server.connection_log[0].closed_by_client.is_set()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse where Linux drops")
def test_connecting_can_hang() -> None:
    """With accept=False a connection is neither accepted nor refused."""
    with LocalServer(accept=False) as server:
        with pytest.raises(TimeoutError):
            socket.create_connection(server.address, timeout=0.2)
        assert server.connections == 0


# The life of a server


def test_many_streams_at_once() -> None:
    """200 connections stall together and go on together."""
    count = 200
    with LocalServer(default=Answer("a", Stall(), "b")) as server, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(server)) for _ in range(count)]
        for sock in socks:
            sock.sendall(STREAM)
        server.wait_for_request(count)
        assert server.open_connections == count
        server.release()
        for sock in socks:
            assert b'"b"' in read_until(sock, b"0\r\n\r\n")
        assert {request.connection for request in server.requests} == set(range(1, count + 1))


def test_frozen_clock() -> None:
    """Pace, pauses, waits and records are those of real time, started before the freeze or during it."""
    start = time.monotonic()
    with LocalServer(pace=0.01) as before, freeze_time("2020-01-01"), LocalServer(pace=0.01) as during:
        for server in (before, during):
            server.add("Hello there.", Answer("a", 0.05, "b"))
            assert [text_of(stream_once(server)) for _ in range(2)] == ["Hello there.", "ab"]
            with pytest.raises(TimeoutError):
                server.wait_for_request(3, timeout=0.01)
    for server in (before, during):
        assert start < server.requests[0].arrived_at < time.monotonic()


def test_high_descriptors_work() -> None:
    """A process with more than 1,024 descriptors open is served as well."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1400:
        pytest.skip("the hard limit on open files is too low")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1400), hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.callback(os.close, os.dup(0))
        with LocalServer(Answer("a", Stall(), "b")) as server, connect(server) as sock:
            assert sock.fileno() > 1024
            sock.sendall(STREAM)
            assert server.wait_for_request().stalled.wait(LIMIT_SECONDS)
            server.release()
            read_until(sock, b"0\r\n\r\n")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_close_ends_everything(*, tls: bool) -> None:
    """Stalled, idle and silent clients are cut off at once, no thread is left, and nobody counts as having left."""
    threads = set(threading.enumerate())
    server = LocalServer("Hello", default=Answer("a", Stall()), pace=0, tls=tls)
    with connect(server) as idle, connect(server) as stalled, socket.create_connection(server.address) as silent:
        idle.sendall(STREAM)
        read_until(idle, b"0\r\n\r\n")
        stalled.sendall(STREAM)
        assert server.wait_for_request(2).stalled.wait(LIMIT_SECONDS)
        server.wait_for_connection(3)
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < SOON_SECONDS
        assert set(threading.enumerate()) == threads
        assert idle.recv(100) == b""
        assert silent.recv(100) == b""
        assert read_until(stalled, b"\n\n\r\n")
        assert stalled.recv(100) == b""
    assert server.open_connections == 0
    assert not server.requests[1].left.is_set()
    assert not any(connection.closed_by_client.is_set() for connection in server.connection_log)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(server.address, timeout=WRONG_PATH_SECONDS)
    server.close()


def test_a_script_that_raises_is_reported() -> None:
    """The client gets a 500, `errors` the exception, and the end of ``with`` raises it."""

    def broken(request: Request) -> str:
        raise LookupError("no such answer")

    def wrong(request: Request) -> Any:
        return 5

    unserializable: dict[str, Any] = {"key": {1, 2}}
    server = LocalServer(broken, wrong, Answer(unserializable), "Hello", pace=0)
    for _ in range(3):
        status, body = ask_once(server, stream=True)
        assert status == 500
        assert "a scripted answer raised" in message_of(body)
    assert text_of(stream_once(server)) == "Hello"
    with pytest.raises(RuntimeError, match="a scripted answer raised LookupError") as caught, server:
        pass
    assert isinstance(caught.value.__cause__, LookupError)
    assert [type(error) for error in server.errors] == [LookupError, TypeError, TypeError]


def test_a_failing_test_keeps_its_own_error() -> None:
    """An exception out of the ``with`` block is not replaced by that of a script."""
    wrong: Any = 5
    server = LocalServer(wrong)
    ask_once(server)
    with pytest.raises(KeyError, match="own"), server:
        raise KeyError("own")
    assert len(server.errors) == 1


def test_the_port_can_be_chosen() -> None:
    """A port in use is refused with an OSError."""
    with LocalServer() as server:
        assert repr(server) == f"<LocalServer {server.base_url}, 0 requests>"
        with pytest.raises(OSError, match="in use"):
            LocalServer(port=server.address[1])


# As a process


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "blades.testing", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_as_a_process(number: int) -> None:
    """It prints its base URL, serves, and ends quietly with 0 at a signal, in the middle of an answer too."""
    with process("--pace", "30", "--api-key", "right") as child:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        match = re.fullmatch(r"http://(127\.0\.0\.1):([0-9]+)/v1", url)
        assert match, url
        with socket.create_connection((match[1], int(match[2])), timeout=WRONG_PATH_SECONDS) as sock:
            sock.sendall(raw_request(body_of(stream=True), headers="Authorization: Bearer right\r\n"))
            read_until(sock, b"\n\n\r\n")
            child.send_signal(number)
            out, err = child.communicate(timeout=START_SECONDS)
    assert (out, err, child.returncode) == ("", "", 0)


@pytest.mark.parametrize("option", ["--port=99999", "--pace=-1", "--host=256.0.0.1"])
def test_a_process_that_cannot_start_says_why(option: str) -> None:
    """In a sentence, without a traceback."""
    with process(option) as child:
        out, err = child.communicate(timeout=START_SECONDS)
    assert (out, child.returncode) == ("", 2)
    assert "error: " in err.splitlines()[-1]
    assert "Traceback" not in err


def test_tls_on_a_plain_port_is_refused_at_once(server: LocalServer) -> None:
    """The client need not wait for the end of its patience."""
    context = ssl.create_default_context()
    with (
        socket.create_connection(server.address, timeout=WRONG_PATH_SECONDS) as sock,
        pytest.raises(ssl.SSLError, match=r"(?i)wrong.version.number"),
    ):
        context.wrap_socket(sock, server_hostname="localhost")


def test_the_process_serves_tls() -> None:
    """With --tls the second line says what to trust."""
    with process("--tls", "--pace", "0") as child:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        variable, _, path = child.stdout.readline().strip().partition("=")
        assert variable == "SSL_CERT_FILE"
        context = ssl.create_default_context(cafile=path)
        port = int(url.rpartition(":")[2].removesuffix("/v1"))
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=WRONG_PATH_SECONDS)
        assert "local test server" in text_of(events_of(ask(connection, stream=True).read()))
        connection.close()
        child.terminate()
        assert child.wait(timeout=START_SECONDS) == 0
        assert not Path(path).exists()


def test_importing_it_is_light() -> None:
    """It imports neither openai nor TLS nor a parser of arguments, and `import blades` does not import it."""
    code = "import sys, blades; first = set(sys.modules); import blades.testing; print(*first, '|', *sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    first, _, second = out.partition("|")
    assert "blades.testing" not in first.split()
    assert not {"openai", "ssl", "argparse", "tempfile", "http", "asyncio"} & set(second.split())
