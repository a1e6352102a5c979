"""What servers really send, as data: one case per row of the wire table, and every recorded answer.

The same cases run against the pure core (`test_wire.py`) and over sockets. `replays` is the one helper that runs bytes
whole, byte by byte, and at random cuts.
"""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from blades._errors import (
    StreamError,
    StreamInterrupted,
    StreamProtocolError,
    StreamServerError,
    StreamTruncated,
)
from blades._values import Chunk, Reply, ResponseInfo
from blades._wire.decoder import CompletionDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPTURES_FOLDER = Path(__file__).parents[1].parent / "shared" / "captures"
BASE_URL = "http://127.0.0.1:1/v1"
BIG_BYTES = 300_000  # bodies above are cut into pieces of 64 KiB, not into bytes

Counts: TypeAlias = tuple[int | None, int | None, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A body, and what its reader gets.

    Attributes:
        row: The row of the wire table.
        name: What is special.
        body: The bytes, before any content encoding.
        status: The HTTP status.
        content_type: The header; ``""`` for none.
        gzipped: The body is to be sent with ``Content-Encoding: gzip``.
        ending: What follows the body: its proper ``end``, its end by closing the connection (``close``), a connection
            that is ``cut``, or one that is held open (``hold``).
        texts: The text of each chunk, in order.
        reasoning, refusal, finish_reason, usage, tool_calls, model, id: The totals; calls are (id, name, arguments).
        error: What is raised; None if the stream finishes.
        message: A part of that error's message.
        type, code: Those of a `StreamServerError`.
        client_error: The name of the official client's exception, for answers that never become a stream.
    """

    row: int
    name: str
    body: bytes
    status: int = 200
    content_type: str = "text/event-stream"
    gzipped: bool = False
    ending: Literal["end", "close", "cut", "hold"] = "end"
    texts: tuple[str, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    finish_reason: str | None = None
    usage: Counts | None = None
    tool_calls: tuple[tuple[str, str, str], ...] = ()
    model: str | None = None
    id: str | None = None
    error: type[StreamError] | None = None
    message: str = ""
    type: str | None = None
    code: str | None = None
    client_error: str = ""

    def __str__(self) -> str:
        return f"{self.row:02}-{self.name}"

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.texts)

    @property
    def encoded(self) -> bytes:
        """The bytes on the wire."""
        return gzip.compress(self.body) if self.gzipped else self.body


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a body: comparable, so that every way of cutting it can be seen to give the same."""

    chunks: tuple[Chunk, ...]
    reply: Reply
    error: tuple[type[StreamError], str] | None
    type: str | None = None
    code: str | None = None
    texts: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(chunk.text for chunk in self.chunks))


def cuts(body: bytes, *, seed: int = 0) -> Iterator[tuple[str, list[bytes]]]:
    """Cut a body in every way that is to give the same: whole, byte by byte, at random places."""
    yield "whole", [body]
    step = 1 if len(body) <= BIG_BYTES else 65536
    yield "byte by byte", [body[start : start + step] for start in range(0, len(body), step)]
    for number in range(3):
        numbers = random.Random(f"{seed} {number}")
        places = sorted(numbers.randrange(len(body) + 1) for _ in range(min(len(body), numbers.choice([1, 5, 50]))))
        bounds = zip([0, *places], [*places, len(body)], strict=True)
        yield f"at {places[:5]}...", [body[start:stop] for start, stop in bounds]


def replay(
    pieces: list[bytes], *, head: ResponseInfo | None = None, ending: str = "end", require_finish: bool = True
) -> Outcome:
    """Run pieces of a body through the pure core, as `Stream` does."""
    decoder = CompletionDecoder()
    decoder.start(head or ResponseInfo(200, "text/event-stream", BASE_URL))
    chunks: list[Chunk] = []
    error: StreamError | None = None
    try:
        for piece in pieces:
            if decoder.done:
                break
            decoder.feed(piece)
            chunks += iter(decoder.next_chunk, None)
        if ending in {"end", "close"} and not decoder.done:
            decoder.end()
            chunks += iter(decoder.next_chunk, None)
        if ending == "cut" and not decoder.finished:
            raise StreamInterrupted("cut")
        decoder.check_complete(require_finish=require_finish)
    except StreamError as raised:
        error = raised
    reply = decoder.reply(complete=error is None, request_id=None)
    assert decoder.chunks == len(chunks)
    assert reply.text == "".join(map(str, chunks))
    assert reply.reasoning == "".join(chunk.reasoning for chunk in chunks)
    kind, code = (error.type, error.code) if isinstance(error, StreamServerError) else (None, None)
    return Outcome(tuple(chunks), reply, None if error is None else (type(error), str(error)), kind, code)


def replays(
    body: bytes, *, head: ResponseInfo | None = None, ending: str = "end", require_finish: bool = True, seed: int = 0
) -> Outcome:
    """Run a body whole, byte by byte, and at random cuts; assert that each gives the same, and return it."""
    outcomes = {
        name: replay(pieces, head=head, ending=ending, require_finish=require_finish)
        for name, pieces in cuts(body, seed=seed)
    }
    expected = outcomes["whole"]
    for name, outcome in outcomes.items():
        assert outcome == expected, f"cut {name}"
    return expected


# The words of the table


def data(value: Any, end: str = "\n\n") -> bytes:
    """Make an event whose data is JSON."""
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}{end}".encode()


def chunk(content: Any = None, *, finish: Any = None, event: dict[str, Any] | None = None, **delta: Any) -> bytes:
    """Make an event as OpenAI sends it; `event` is merged into its top level."""
    if content is not None:
        delta = {"content": content, **delta}
    value = {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": []}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return data({**value, "choices": [choice], **(event or {})})


def usage(prompt: Any, completion: Any, total: Any) -> dict[str, Any]:
    """Make a usage object."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


def call(function: Any, **more: Any) -> bytes:
    """Make an event with one part of a tool call."""
    return chunk(tool_calls=[{**more, "function": function}])


HELLO = chunk("Hel") + chunk("lo")
STOP = chunk(finish="stop")
DONE = b"data: [DONE]\n\n"
COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": usage(1, 2, 3),
}
HTML = b"<!DOCTYPE html>\n<html><head>\n<title>Welcome</title></head>\n<body>: root\n</body></html>\n"
JSON_ERROR = {"error": {"message": "No such model: x", "type": "invalid_request_error", "code": "model_not_found"}}

_HELLO: dict[str, Any] = {"texts": ("Hel", "lo"), "model": "m", "id": "c1"}
_FINISHED: dict[str, Any] = {"texts": ("Hel", "lo", ""), "finish_reason": "stop", "model": "m", "id": "c1"}
_ORIGIN: dict[str, Any] = {"model": "m", "id": "c1"}

ROWS: tuple[Case, ...] = (
    Case(
        row=1,
        name="json-error",
        body=json.dumps(JSON_ERROR).encode(),
        content_type="application/json",
        error=StreamServerError,
        message="No such model: x",
        type="invalid_request_error",
        code="model_not_found",
    ),
    Case(
        row=1,
        name="json-error-pretty-printed-after-blank-lines",
        body=b"\n \n" + json.dumps(JSON_ERROR, indent=2).encode(),
        error=StreamServerError,
        message="No such model: x",
        type="invalid_request_error",
        code="model_not_found",
    ),
    Case(
        row=1,
        name="json-error-after-comments",
        body=b": OPENROUTER PROCESSING\n\n" + json.dumps(JSON_ERROR, indent=0).encode(),
        error=StreamServerError,
        message="No such model: x",
        type="invalid_request_error",
        code="model_not_found",
    ),
    Case(
        row=1,
        name="json-detail",
        body=b'{"detail": "Not Found"}',
        content_type="application/json",
        error=StreamServerError,
        message="Not Found",
    ),
    Case(row=2, name="html", body=HTML, content_type="text/html", error=StreamProtocolError, message="<!DOCTYPE html>"),
    Case(row=2, name="html-named-a-stream", body=HTML, error=StreamProtocolError, message=repr(BASE_URL)),
    Case(
        row=2,
        name="text",
        body=b"It works!\n",
        content_type="text/plain; charset=utf-8",
        error=StreamProtocolError,
        message="'It works!\\n' (status 200, content type 'text/plain; charset=utf-8')",
    ),
    Case(
        row=2,
        name="json-of-something-else",
        body=b'{"status": "ok", "choices": []}',
        content_type="application/json",
        error=StreamProtocolError,
        message='{"status": "ok", "choices": []}',
    ),
    Case(
        row=3,
        name="completion",
        body=json.dumps(COMPLETION).encode(),
        content_type="application/json",
        texts=("Hello",),
        finish_reason="stop",
        usage=(1, 2, 3),
        **_ORIGIN,
    ),
    Case(
        row=3,
        name="completion-pretty-printed",
        body=b"\xef\xbb\xbf\r\n" + json.dumps(COMPLETION, indent=4).replace("\n", "\r\n").encode() + b"\r\n",
        texts=("Hello",),
        finish_reason="stop",
        usage=(1, 2, 3),
        **_ORIGIN,
    ),
    Case(
        row=3,
        name="completion-without-finish-reason",
        body=b'{"choices": [{"message": {"content": "a\\ud83d", "reasoning": "why"}}]}',
        content_type="",
        texts=("a", "\ufffd"),
        reasoning="why",
    ),
    Case(
        row=3,
        name="completion-in-an-event",
        body=data(COMPLETION),
        texts=("Hello",),
        finish_reason="stop",
        usage=(1, 2, 3),
        **_ORIGIN,
    ),
    Case(row=4, name="empty", body=b"", error=StreamProtocolError, message="an empty body"),
    Case(row=4, name="blank", body=b"\xef\xbb\xbf \r\n\n", error=StreamProtocolError, message="an empty body"),
    Case(row=5, name="wrong-type", body=HELLO + STOP + DONE, content_type="text/html", **_FINISHED),
    Case(row=5, name="no-type", body=HELLO + STOP + DONE, content_type="", **_FINISHED),
    Case(
        row=6,
        name="error-event",
        body=HELLO + data({"error": {"message": "overloaded", "type": "server_error", "code": 503}}) + DONE,
        error=StreamServerError,
        message="overloaded",
        type="server_error",
        code="503",
        **_HELLO,
    ),
    Case(
        row=6,
        name="error-with-text-in-one-event",
        body=HELLO + chunk(" you", event={"error": {"message": "cut off"}}) + STOP,
        texts=("Hel", "lo", " you"),
        error=StreamServerError,
        message="cut off",
        **_ORIGIN,
    ),
    Case(
        row=6,
        name="error-with-no-message",
        body=data({"error": {"status": 3, "why": ["é"]}}),
        error=StreamServerError,
        message='{"status": 3, "why": ["é"]}',
    ),
    Case(
        row=6,
        name="error-object-of-an-old-vllm",
        body=data({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}),
        error=StreamServerError,
        message="too long",
        type="BadRequestError",
        code="400",
    ),
    Case(
        row=6,
        name="error-fields-of-deepinfra",
        body=data({"choices": None, "error_type": "BadRequestError", "error_message": "too long", "code": 400}),
        error=StreamServerError,
        message="too long",
        type="BadRequestError",
        code="400",
    ),
    Case(
        row=6,
        name="error-type-alone",
        body=data({"type": "error"}),
        error=StreamServerError,
        message='{"type": "error"}',
        type="error",
    ),
    Case(
        row=6,
        name="error-code-beside-a-message",
        body=HELLO + data({"code": 1210, "message": "bad parameter"}),
        error=StreamServerError,
        message="bad parameter",
        code="1210",
        **_HELLO,
    ),
    Case(
        row=6,
        name="error-with-its-code-outside",
        body=data({"code": 7, "error": {"message": "x", "type": 5}}),
        error=StreamServerError,
        message="x",
        code="7",
    ),
    Case(
        row=6,
        name="error-code-that-is-none",
        body=data({"error": "x", "code": True}),
        error=StreamServerError,
        message="x",
    ),
    Case(
        row=6,
        name="code-and-message-that-are-no-error",
        body=chunk("Hel", event={"code": 200, "message": "ok"})
        + data({"code": 200, "choices": None})
        + data({"code": 0, "message": "success"})
        + chunk("lo")
        + STOP,
        texts=("Hel", "", "lo", ""),
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(
        row=6,
        name="error-that-is-none",
        body=chunk("Hel", event={"error": None}) + chunk("lo", event={"error": {}}) + STOP,
        **_FINISHED,
    ),
    Case(
        row=7,
        name="error-text",
        body=HELLO + data({"error": "out of memory"}),
        error=StreamServerError,
        message="out of memory",
        **_HELLO,
    ),
    Case(
        row=8,
        name="named-error",
        body=HELLO + b'event: error\ndata: {"message": "went away", "code": "x"}\n\n',
        error=StreamServerError,
        message="went away",
        code="x",
        **_HELLO,
    ),
    Case(
        row=8,
        name="named-error-plain-text",
        body=HELLO + b"event: error\ndata: upstream \xff went\ndata: away\n\n",
        error=StreamServerError,
        message="upstream \ufffd went\\naway",
        **_HELLO,
    ),
    Case(
        row=8,
        name="named-error-json-text",
        body=b'event:error\ndata:"no"\n\n',
        error=StreamServerError,
        message="error: no",
    ),
    Case(
        row=8,
        name="named-error-nothing-said",
        body=b"event:error\ndata:null\n\n",
        error=StreamServerError,
        message="(no message)",
    ),
    Case(
        row=8,
        name="named-error-in-the-shape-of-a-chunk",
        body=b"event: error\n" + chunk("", event={"message": "went away"}),
        error=StreamServerError,
        message="went away",
        **_ORIGIN,
    ),
    Case(
        row=8, name="other-names", body=b"event: message\n" + HELLO + b"event: ping\ndata: {}\n\n" + STOP, **_FINISHED
    ),
    Case(
        row=9,
        name="not-json",
        body=HELLO + b"data: {" + b"ab" * 300 + b"\n\n" + STOP,
        error=StreamProtocolError,
        message=f"got '{{{'ab' * 99}a'... (status 200",
        **_HELLO,
    ),
    Case(
        row=9,
        name="nested-too-deep",
        body=HELLO + b"data: " + b'{"a":' * 100_000 + b"\n\n",
        error=StreamProtocolError,
        message="JSON",
        **_HELLO,
    ),
    Case(
        row=10,
        name="bare-line",
        body=HELLO + b"upstream error: timeout\n",
        error=StreamTruncated,
        message="'upstream error: timeout'",
        **_HELLO,
    ),
    Case(
        row=10,
        name="bare-line-alone",
        body=b"upstream error: timeout",
        error=StreamTruncated,
        message="'upstream error: timeout'",
    ),
    Case(
        row=10,
        name="bare-json-error",
        body=HELLO + json.dumps(JSON_ERROR).encode() + b"\n\n" + DONE,
        error=StreamServerError,
        message="No such model: x",
        type="invalid_request_error",
        code="model_not_found",
        **_HELLO,
    ),
    Case(
        row=10,
        name="bare-json-error-at-the-end",
        body=HELLO + b'{"error": "gone"}',
        error=StreamServerError,
        message="gone",
        **_HELLO,
    ),
    Case(
        row=11,
        name="comments",
        body=b": keep-alive\n\n:\n"
        + chunk("Hel")
        + b": OPENROUTER PROCESSING\n\n"
        + chunk("lo")
        + b":x\n"
        + STOP
        + DONE,
        **_FINISHED,
    ),
    Case(
        row=11,
        name="only-comments",
        body=b": keep-alive\n\n: keep-alive\n\n",
        error=StreamTruncated,
        message="0 chunks",
    ),
    Case(
        row=12,
        name="retry-id-and-empty-data",
        body=b"retry: 3000\n\nid: 7\n\nid\n\n"
        + chunk("Hel")
        + b"data:\n\ndata:  \n\ndata\n\nevent: error\n\n"
        + chunk("lo")
        + STOP
        + DONE,
        **_FINISHED,
    ),
    Case(row=13, name="byte-order-mark", body=b"\xef\xbb\xbf" + HELLO + STOP + DONE, **_FINISHED),
    Case(row=14, name="no-space", body=(HELLO + STOP + DONE).replace(b"data: ", b"data:"), **_FINISHED),
    Case(row=14, name="crlf", body=(HELLO + STOP + DONE).replace(b"\n", b"\r\n"), **_FINISHED),
    Case(row=14, name="cr", body=(HELLO + STOP + DONE).replace(b"\n", b"\r"), **_FINISHED),
    Case(
        row=14,
        name="mixed-line-ends",
        body=chunk("Hel").replace(b"\n\n", b"\r\n\r")
        + chunk("lo").replace(b"\n\n", b"\r\r\n")
        + STOP.replace(b"\n\n", b"\n\r\n")
        + DONE,
        **_FINISHED,
    ),
    Case(
        row=14,
        name="several-data-lines",
        body=HELLO.replace(b'"choices":', b'\ndata: "choices":\r\ndata:') + STOP + DONE,
        **_FINISHED,
    ),
    Case(row=15, name="no-blank-line", body=HELLO + STOP.rstrip() + b"\n", **_FINISHED),
    Case(row=15, name="no-line-end", body=HELLO + STOP.rstrip(), **_FINISHED),
    Case(row=15, name="done-without-line-end", body=HELLO + DONE.strip(), **_HELLO),
    Case(
        row=16,
        name="exact-text",
        body=chunk("h\u00e9\u2028\u2029\u0085") + chunk("\u6f22\u5b57\U0001f600") + chunk("a\fb") + b"\f\n" + STOP,
        texts=("h\u00e9\u2028\u2029\u0085", "\u6f22\u5b57\U0001f600", "a\fb", ""),
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(
        row=17,
        name="invalid-utf-8",
        body=chunk("a?b").replace(b"?", b"\xff") + chunk("?").replace(b"?", b"\xe2\x82") + STOP,
        texts=("a\ufffdb", "\ufffd", ""),
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(
        row=18,
        name="200-kB",
        body=chunk("x" * 200_000) + STOP,
        texts=("x" * 200_000, ""),
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(
        row=18,
        name="endless-line",
        body=HELLO + b"data: {" + b"x" * 17 * 2**20,
        error=StreamProtocolError,
        message="16 MiB",
        **_HELLO,
    ),
    Case(
        row=18,
        name="endless-event",
        body=HELLO + (b"data: {" + b"x" * 2**20 + b"\n") * 17,
        error=StreamProtocolError,
        message="16 MiB",
        **_HELLO,
    ),
    Case(
        row=18,
        name="endless-body",
        body=b"{\n" + (b" " * 2**20 + b"\n") * 17,
        error=StreamProtocolError,
        message="16 MiB",
    ),
    Case(
        row=19,
        name="no-choices",
        body=data({"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
        + data({"choices": None})
        + data({"object": "x"})
        + HELLO
        + STOP
        + data({"choices": [], "usage": usage(1, 2, 3)})
        + DONE,
        usage=(1, 2, 3),
        **_FINISHED,
    ),
    Case(
        row=20,
        name="no-delta",
        body=data({"choices": [{"index": 0}]})
        + data({"choices": [{"index": 0, "delta": None}]})
        + data({"choices": [{"delta": "text"}, 1, None]})
        + data({"choices": {"0": 1}})
        + data({"choices": ["x"]})
        + data(None)
        + data([1])
        + data("x")
        + data(5)
        + HELLO
        + STOP,
        **_FINISHED,
    ),
    Case(
        row=21,
        name="role",
        body=chunk("", role="assistant") + chunk(role="assistant", refusal=None) + HELLO + STOP,
        **_FINISHED,
    ),
    Case(
        row=22,
        name="finish-reason-with-text",
        body=chunk("Hello", finish="stop") + DONE,
        texts=("Hello",),
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(
        row=23,
        name="text-after-finish-reason",
        body=chunk("Hel", finish="length") + chunk("lo") + chunk(finish="stop") + chunk("!") + DONE,
        texts=("Hel", "lo", "", "!"),
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(
        row=24,
        name="several-usages",
        body=chunk("Hel", event={"usage": usage(1, 1, 2)})
        + chunk("lo", event={"usage": None})
        + STOP
        + data({"choices": [], "usage": usage(1, 2, 3)})
        + data({"choices": [], "usage": usage(None, None, None)})
        + DONE,
        usage=(1, 2, 3),
        **_FINISHED,
    ),
    Case(
        row=24,
        name="x_groq",
        body=data({"id": "c1", "model": "m", "choices": [], "x_groq": {"id": "r"}})
        + HELLO
        + chunk(finish="stop", event={"x_groq": {"usage": usage(4, 5, 9)}})
        + DONE,
        usage=(4, 5, 9),
        **_FINISHED,
    ),
    Case(row=24, name="null-counts", body=HELLO + STOP + data({"usage": usage(None, None, None)}), **_FINISHED),
    Case(
        row=24,
        name="some-counts",
        body=HELLO + STOP + data({"choices": [], "usage": usage(True, 7.0, "3")}),
        usage=(None, 7, 3),
        **_FINISHED,
    ),
    Case(
        row=25, name="no-finish-reasons", body=chunk("Hel", finish="") + chunk("lo", finish="null") + STOP, **_FINISHED
    ),
    Case(
        row=25,
        name="null-is-no-ending",
        body=chunk("Hel", finish="") + chunk("lo", finish="null"),
        error=StreamTruncated,
        message="2 chunks",
        **_HELLO,
    ),
    Case(row=25, name="no-text", body=chunk("Hel", finish=1) + chunk("lo", finish={"a": 1}) + STOP, **_FINISHED),
    Case(
        row=26,
        name="finish-reason-error",
        body=HELLO + chunk(finish="error") + DONE,
        error=StreamServerError,
        message="finish reason 'error'",
        **_HELLO,
    ),
    Case(
        row=26,
        name="finish-reason-error-with-text",
        body=chunk("Hel")
        + data(
            {
                "choices": [
                    {
                        "delta": {"content": "lo"},
                        "finish_reason": "error",
                        "error": {"message": "Provider disconnected", "code": 502},
                    }
                ]
            }
        ),
        error=StreamServerError,
        message="Provider disconnected",
        code="502",
        **_HELLO,
    ),
    Case(
        row=26,
        name="finish-reason-error-of-openrouter",
        body=HELLO
        + chunk("", finish="error", event={"error": {"code": "server_error", "message": "Provider disconnected"}}),
        error=StreamServerError,
        message="Provider disconnected",
        code="server_error",
        **_HELLO,
    ),
    Case(
        row=27,
        name="unknown-finish-reason",
        body=chunk("Hello", finish="insufficient_system_resource"),
        texts=("Hello",),
        finish_reason="insufficient_system_resource",
        **_ORIGIN,
    ),
    Case(
        row=28,
        name="parts",
        body=chunk(
            [{"type": "thinking", "thinking": [{"type": "text", "text": "let "}, {"type": "text", "text": "me"}, 1]}]
        )
        + chunk([{"type": "thinking", "thinking": " see"}])
        + chunk([{"type": "text", "text": "Hel"}, "lo", {"type": "reference", "reference_ids": [1]}, None, {"text": 5}])
        + chunk({"type": "text", "text": "!"})
        + chunk(5)
        + STOP,
        texts=("", "", "Hello", "!", "", ""),
        reasoning="let me see",
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(
        row=29,
        name="reasoning",
        body=chunk(reasoning_content="a", content="")
        + chunk(reasoning="b")
        + chunk(reasoning="c", reasoning_content="c")
        + chunk("Hello", reasoning=None, reasoning_content=None)
        + chunk("!", reasoning={"x": 1})
        + STOP,
        texts=("", "", "", "Hello", "!", ""),
        reasoning="abc",
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(
        row=30,
        name="whole-message-at-the-end",
        body=HELLO
        + data(
            {"choices": [{"delta": {}, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
        )
        + DONE,
        **_FINISHED,
    ),
    Case(
        row=30,
        name="whole-message-beside-each-delta",
        body=data({"choices": [{"delta": {"content": "Hel"}, "message": {"content": "Hel"}}]})
        + data({"choices": [{"delta": {"content": "lo"}, "message": {"content": "Hello"}}]})
        + data({"choices": [{"delta": {"content": ""}, "message": {"content": "Hello"}, "finish_reason": "stop"}]}),
        texts=("Hel", "lo", ""),
        finish_reason="stop",
    ),
    Case(
        row=30,
        name="whole-message-beside-an-empty-delta",
        body=data({"choices": [{"delta": {"content": ""}, "message": {"content": "Hello"}}]}) + STOP,
        texts=("Hello", ""),
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(
        row=31,
        name="tool-calls-interleaved",
        body=call({"name": "f", "arguments": ""}, index=0, id="a", type="function")
        + call({"name": "g", "arguments": '{"y":'}, index=1, id="b", type="function")
        + call({"arguments": '{"x":'}, index=0)
        + call({"arguments": ' "\u00e9"}', "name": None}, index=0, id=None)
        + call({"arguments": " 2}"}, index="1")
        + call(None, index=0)
        + chunk(tool_calls=None)
        + chunk(tool_calls=["x", {"index": 0, "function": {"arguments": ""}}])
        + chunk(finish="tool_calls")
        + DONE,
        texts=("",) * 7,
        tool_calls=(("a", "f", '{"x": "\u00e9"}'), ("b", "g", '{"y": 2}')),
        finish_reason="tool_calls",
        **_ORIGIN,
    ),
    Case(
        row=31,
        name="tool-calls-without-index",
        body=call({"name": "f", "arguments": '{"x":'}, id="a")
        + call({"arguments": "1"})
        + call({"name": "f", "arguments": "}"}, id="a")
        + call({"name": "g", "arguments": {"y": [1, "\u00e9"]}})
        + chunk(tool_calls={"function": {"name": "h", "arguments": 5}})
        + chunk(finish="tool_calls"),
        texts=("",) * 6,
        tool_calls=(("a", "f", '{"x":1}'), ("", "g", '{"y": [1, "\u00e9"]}'), ("", "h", "")),
        finish_reason="tool_calls",
        **_ORIGIN,
    ),
    Case(
        row=31,
        name="tool-calls-all-numbered-0",
        body=call({"name": "f", "arguments": "{}"}, index=0, id="a")
        + call({"name": "f", "arguments": '{"b":'}, index=0, id="b")
        + call({"arguments": "1}"}, index=0, id="other")
        + chunk(finish="tool_calls"),
        texts=("",) * 4,
        tool_calls=(("a", "f", "{}"), ("b", "f", '{"b":1}')),
        finish_reason="tool_calls",
        **_ORIGIN,
    ),
    Case(row=32, name="no-done", body=HELLO + STOP, **_FINISHED),
    Case(row=33, name="held-open-after-finish-reason", body=HELLO + STOP, ending="hold", **_FINISHED),
    Case(
        row=33,
        name="held-open-after-late-usage",
        body=HELLO + STOP + data({"choices": [], "usage": usage(1, 2, 3)}),
        ending="hold",
        usage=(1, 2, 3),
        **_FINISHED,
    ),
    Case(row=34, name="held-open-after-done", body=HELLO + STOP + DONE, ending="hold", **_FINISHED),
    Case(row=35, name="done-without-finish-reason", body=HELLO + DONE, **_HELLO),
    Case(row=36, name="neither", body=HELLO, error=StreamTruncated, message="2 chunks", **_HELLO),
    Case(
        row=36,
        name="ends-after-the-role",
        body=chunk(role="assistant"),
        error=StreamTruncated,
        message="0 chunks",
        **_ORIGIN,
    ),
    Case(row=37, name="cut", body=HELLO, ending="cut", error=StreamInterrupted, **_HELLO),
    Case(
        row=37,
        name="cut-inside-an-event",
        body=HELLO + b'data: {"choi',
        ending="cut",
        error=StreamInterrupted,
        **_HELLO,
    ),
    Case(row=37, name="cut-after-finish-reason", body=HELLO + STOP + b'data: {"choi', ending="cut", **_FINISHED),
    Case(
        row=38,
        name="refusal",
        body=chunk(refusal="I can") + chunk(refusal="not.") + STOP + DONE,
        texts=("", "", ""),
        refusal="I cannot.",
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(
        row=39,
        name="unknown-fields",
        body=data(
            {
                "id": "c1",
                "model": "m",
                "nonsense": [{}],
                "choices": [
                    {"delta": {"content": "Hel", "audio": 1}, "logprobs": {"content": [{"token": "Hel"}]}, "x": {}}
                ],
            }
        )
        + chunk("lo", annotations=[{"type": "url_citation"}])
        + STOP,
        **_FINISHED,
    ),
    Case(
        row=39,
        name="annotations-alone",
        body=HELLO + chunk(annotations=[{"type": "url_citation"}]) + STOP,
        texts=("Hel", "lo", "", ""),
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(row=40, name="gzip", body=HELLO + STOP + DONE, gzipped=True, **_FINISHED),
    Case(
        row=41,
        name="stream_options-refused",
        status=400,
        content_type="application/json",
        body=b'{"error": {"message": "unknown field stream_options", "type": "invalid_request_error"}}',
        client_error="BadRequestError",
    ),
    Case(
        row=42,
        name="several-choices",
        body=data(
            {
                "id": "c1",
                "model": "m",
                "choices": [{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "Hel"}}],
            }
        )
        + data({"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]})
        + data({"choices": [{"index": "0", "delta": {"content": "lo"}}, {"index": "1", "delta": {"content": "no"}}]})
        + STOP,
        **_FINISHED,
    ),
    Case(
        row=43,
        name="error-without-line-end",
        body=HELLO
        + b'data: {"error": {"message": "Internal Server Error", "type": "internal", "code": "internal_error"}}',
        error=StreamServerError,
        message="Internal Server Error",
        type="internal",
        code="internal_error",
        **_HELLO,
    ),
    Case(row=44, name="closed-after-finish-reason", body=HELLO + STOP, ending="close", **_FINISHED),
    Case(row=44, name="closed-after-done", body=HELLO + DONE, ending="close", **_HELLO),
    Case(row=44, name="closed-early", body=HELLO, ending="close", error=StreamTruncated, message="2 chunks", **_HELLO),
    Case(
        row=44,
        name="closed-inside-an-event",
        body=HELLO + b'data: {"choices":[{"delta":{"con',
        ending="close",
        error=StreamTruncated,
        message='{"choices":[{"delta":{"con',
        **_HELLO,
    ),
    Case(
        row=44,
        name="closed-inside-done",
        body=HELLO + b"data: [DO",
        ending="close",
        error=StreamTruncated,
        message="'[DO'",
        **_HELLO,
    ),
    Case(
        row=44,
        name="closed-inside-an-event-after-finish-reason",
        body=HELLO + STOP + b'data: {"cho',
        ending="close",
        **_FINISHED,
    ),
    Case(
        row=45,
        name="surrogates",
        body=b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ude00b"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"c\\ude00"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ud83d"},"finish_reason":"stop"}]}\n\n',
        texts=("a", "\U0001f600b", "\ufffdc\ufffd", "", "\ufffd"),
        finish_reason="stop",
    ),
    Case(
        row=45,
        name="surrogates-elsewhere",
        body=b'data: {"id":"\\ud83d","choices":[{"delta":{"reasoning":"a\\ud83d","refusal":"b\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"c\\ud83d"}}]}}]}\n\n'
        b'data: {"choices":[{"delta":{"reasoning":"\\ude00"}}]}\n\n'
        b'data: {"choices":[{"delta":{"refusal":"!"}}]}\n\n'
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\ude00\\ud83d"}}]}}]}\n\n'
        b"data: [DONE]\n\n",
        texts=("", "", "", "", "", ""),
        reasoning="a\U0001f600",
        refusal="b\ufffd!",
        tool_calls=(("", "f", "c\U0001f600\ufffd"),),
        id="\ufffd",
    ),
    Case(
        row=45,
        name="surrogate-before-the-end",
        body=b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}',
        texts=("\ufffd",),
        error=StreamTruncated,
    ),
    Case(row=46, name="done-then-cut", body=HELLO + DONE, ending="cut", error=StreamInterrupted, **_HELLO),
    Case(row=47, name="no-text", body=STOP + DONE, texts=("",), finish_reason="stop", **_ORIGIN),
    Case(
        row=48,
        name="usage-in-the-finish-chunk",
        body=HELLO + chunk(finish="stop", event={"usage": usage(16, 33, 49)}),
        usage=(16, 33, 49),
        **_FINISHED,
    ),
    Case(
        row=49,
        name="usage-with-choices",
        body=HELLO + STOP + chunk("", event={"usage": usage(9, 41, 50), "object": "text_completion"}) + DONE,
        usage=(9, 41, 50),
        **_FINISHED,
    ),
    Case(
        row=49,
        name="usage-of-zeros",
        body=HELLO + chunk(finish="stop", event={"usage": usage(0, 0, 0)}) + DONE,
        usage=(0, 0, 0),
        **_FINISHED,
    ),
    Case(
        row=50,
        name="a-new-id-each",
        body=data({"id": "", "choices": []}) + HELLO + chunk(finish="stop", event={"id": "c2", "model": "m2"}),
        **_FINISHED,
    ),
    Case(
        row=50,
        name="model-before-id",
        body=data({"model": "m", "choices": []}) + chunk("Hello", finish="stop", event={"model": "m2"}),
        texts=("Hello",),
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(
        row=50,
        name="ids-that-are-no-text",
        body=data({"id": 5, "model": {}, "choices": []}) + HELLO + STOP,
        **_FINISHED,
    ),
    Case(
        row=51,
        name="all-at-once",
        body=HELLO * 500 + STOP + DONE,
        texts=("Hel", "lo") * 500 + ("",),
        finish_reason="stop",
        **_ORIGIN,
    ),
    Case(row=52, name="html", status=502, content_type="text/html", body=HTML, client_error="InternalServerError"),
    Case(
        row=52,
        name="text",
        status=500,
        content_type="text/plain",
        body=b"Internal Server Error",
        client_error="InternalServerError",
    ),
    Case(
        row=52,
        name="detail",
        status=422,
        content_type="application/json",
        body=b'{"detail":[{"type":"missing","msg":"Field required"}]}',
        client_error="UnprocessableEntityError",
    ),
    Case(
        row=52,
        name="error-text",
        status=429,
        content_type="application/json",
        body=b'{"error": "slow down"}',
        client_error="RateLimitError",
    ),
)


@dataclass(frozen=True, slots=True)
class Capture:
    """How a recorded answer ends. Its text is what `recorded_text` finds in it.

    Attributes:
        chunks: How many chunks are handed out.
        characters: The length of the text.
        finish_reason, usage, error, message, client_error: As in `Case`.
    """

    chunks: int = 0
    characters: int = 0
    finish_reason: str | None = None
    usage: Counts | None = None
    error: type[StreamError] | None = None
    message: str = ""
    client_error: str = ""


def _refused(name: str) -> Capture:
    return Capture(client_error=name)


CAPTURES: dict[str, Capture] = {
    "litellm_badkey": _refused("BadRequestError"),
    "litellm_down": _refused("InternalServerError"),
    "litellm_gptoss-midstream_error": Capture(error=StreamServerError, message="expected peg-native format"),
    "litellm_lcp-empty_upstream": Capture(1, 0, "stop"),
    "litellm_lcp-interrupted": Capture(1, 0, "stop", (8, 0, 8)),
    "litellm_mock-5xx": _refused("InternalServerError"),
    "litellm_mock-badjson": _refused("BadRequestError"),
    "litellm_mock-badmodel": _refused("BadRequestError"),
    "litellm_mock-badtemp": Capture(55, 162, "stop"),
    "litellm_mock-badtype": _refused("BadRequestError"),
    "litellm_mock-ctx": _refused("BadRequestError"),
    "litellm_mock-nomessages": _refused("BadRequestError"),
    "litellm_mock-nostream": Capture(1, 162, "stop", (10, 20, 30)),
    "litellm_mock-plain": Capture(55, 162, "stop"),
    "litellm_mock-ratelimit": _refused("RateLimitError"),
    "litellm_mock-toolong": Capture(55, 162, "stop"),
    "litellm_mock-usage": Capture(55, 162, "stop", (9, 41, 50)),
    "litellm_sigTERM": Capture(201, 977, "length", (22, 200, 222)),
    "litellm_slow-upstream_killed": Capture(
        104, 509, error=StreamServerError, message="Response payload is not completed"
    ),
    "litellm_think": Capture(200, 996, "length", (67, 200, 267)),
    "litellm_tiny-badjson": _refused("BadRequestError"),
    "litellm_tiny-badmodel": _refused("BadRequestError"),
    "litellm_tiny-badtemp": _refused("BadRequestError"),
    "litellm_tiny-badtype": _refused("BadRequestError"),
    "litellm_tiny-nomessages": _refused("BadRequestError"),
    "litellm_tiny-nostream": Capture(1, 35, "length", (25, 8, 33)),
    "litellm_tiny-plain": Capture(9, 33, "length"),
    "litellm_tiny-toolong": _refused("BadRequestError"),
    "litellm_tiny-usage": Capture(9, 40, "length", (25, 8, 33)),
    "litserve-badjson": _refused("UnprocessableEntityError"),
    "litserve-badmodel": Capture(21, 70, "stop", (0, 0, 0)),
    "litserve-badtemp": _refused("UnprocessableEntityError"),
    "litserve-badtype": _refused("UnprocessableEntityError"),
    "litserve-fail": Capture(5, 15, error=StreamServerError, message="Internal Server Error"),
    "litserve-nomessages": _refused("UnprocessableEntityError"),
    "litserve-nostream": Capture(1, 70, "stop", (0, 0, 0)),
    "litserve-plain": Capture(21, 70, "stop", (0, 0, 0)),
    "litserve-toolong": Capture(21, 70, "stop", (0, 0, 0)),
    "litserve-usage": Capture(21, 70, "stop", (0, 0, 0)),
    "nginx-sigTERM": Capture(100, 493, error=StreamTruncated, message="100 chunks"),
    "nginx_gzipbuf-slow": Capture(61, 273, "length"),
    "nginx_h2-slow": Capture(21, 101, "length"),
    "nginx_nobuf-slow": Capture(61, 280, "length"),
    "nginx_ten-disconnect": Capture(12, 144, error=StreamTruncated, message="12 chunks"),
    "nginx_ten-slow": Capture(61, 301, "length"),
    "transformers-badjson": _refused("UnprocessableEntityError"),
    "transformers-badmodel": _refused("InternalServerError"),
    "transformers-badtemp": _refused("InternalServerError"),
    "transformers-badtype": _refused("InternalServerError"),
    "transformers-natural_stop": Capture(33, 156, "stop", (16, 33, 49)),
    "transformers-nomessages": _refused("InternalServerError"),
    "transformers-nostream": Capture(1, 38, "length", (18, 8, 26)),
    "transformers-plain": Capture(9, 43, "length", (18, 8, 26)),
    "transformers-temp_negative": Capture(error=StreamServerError, message="has to be a strictly positive float"),
    "transformers-toolong": Capture(error=StreamTruncated, message="0 chunks"),
    "transformers-top_p_bad": Capture(31, 139, "length", (16, 30, 46)),
    "transformers-usage": Capture(9, 43, "length", (18, 8, 26)),
}


def recorded(name: str) -> tuple[int, str, bytes]:
    """Read a recorded answer: status, content type, body."""
    body = (CAPTURES_FOLDER / f"{name}.sse").read_bytes()
    headers = CAPTURES_FOLDER / f"{name}.headers"
    if not headers.exists():  # two were recorded without; they are plain streams
        return 200, "text/event-stream", body
    first, *lines = headers.read_text().splitlines()
    fields = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), fields["content-type"], body


def recorded_text(body: bytes) -> tuple[str, str]:
    """Find text and reasoning in a well-formed body the simplest way there is, as a second opinion."""
    lines = [line.removeprefix("data: ") for line in body.decode().split("\n") if line.startswith(("data: {", "{"))]
    deltas = [
        choice.get("delta") or choice.get("message") or {}
        for line in lines
        for choice in json.loads(line).get("choices", [])
    ]
    text, reasoning = ("".join(delta.get(key) or "" for delta in deltas) for key in ("content", "reasoning_content"))
    return text, reasoning
