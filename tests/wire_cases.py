"""What servers really send, as data: one case per row of the wire table, and every recorded answer.

The same cases run against the pure core (`test_wire.py`) and over sockets. `replays` is the one helper that runs bytes
whole, byte by byte, and at random cuts.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import zlib
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
    from collections.abc import Callable, Iterator

CAPTURES_FOLDER = Path(__file__).parent / "captures"
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
        encoding: The ``Content-Encoding`` header; the body is compressed so unless `plain`.
        plain: The header is false.
        ending: What follows the body: its proper ``end``, its end by closing the connection (``close``), a connection
            that is ``cut``, or one that is held open (``hold``).
        texts: The text of each chunk, in order.
        reasoning, refusal, finish_reason, usage, tool_calls, model, id: The totals; calls are (id, name, arguments).
        extra, reasoning_fields: Those of the reply; None if they do not matter.
        error: What is raised; None if the stream finishes.
        message: A part of that error's message.
        type, code: Those of a `StreamServerError`.
        object: A part of the error object of a `StreamServerError`.
        client_error: The name of the official client's exception, for answers that never become a stream.
    """

    row: int
    name: str
    body: bytes
    status: int = 200
    content_type: str = "text/event-stream"
    encoding: str = ""
    plain: bool = False
    ending: Literal["end", "close", "cut", "hold"] = "end"
    texts: tuple[str, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    finish_reason: str | None = None
    usage: Counts | None = None
    tool_calls: tuple[tuple[str, str, str], ...] = ()
    model: str | None = None
    id: str | None = None
    extra: dict[str, Any] | None = None
    reasoning_fields: dict[str, Any] | None = None
    error: type[StreamError] | None = None
    message: str = ""
    type: str | None = None
    code: str | None = None
    object: dict[str, Any] = field(default_factory=dict)
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
        if self.plain or not self.encoding:
            return self.body
        return (zlib.compress if self.encoding == "deflate" else gzip.compress)(self.body)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a body: comparable, so that every way of cutting it can be seen to give the same."""

    chunks: tuple[Chunk, ...]
    reply: Reply
    error: tuple[type[StreamError], str] | None
    type: str | None = None
    code: str | None = None
    object: dict[str, Any] = field(default_factory=dict)
    texts: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(chunk.text for chunk in self.chunks))


def cuts(body: bytes, *, seed: int = 0) -> Iterator[tuple[str, list[bytes]]]:
    """Cut a body in every way that is to give the same: whole, by events, byte by byte, at random places."""
    yield "whole", [body]
    yield "event by event", [piece for piece in re.split(rb"(?<=\n\n)|(?<=\n\r\n)", body) if piece]
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
            if decoder.done and not decoder.needs_end:
                break
            first = decoder.next_chunk(piece)
            if first is not None:
                chunks.append(first)
                chunks += iter(decoder.next_chunk, None)
        if ending in {"end", "close"} and (decoder.needs_end or not decoder.done):
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
    server = error if isinstance(error, StreamServerError) else StreamServerError()
    shown = None if error is None else (type(error), str(error))
    return Outcome(tuple(chunks), reply, shown, server.type, server.code, server.error)


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

_ORIGIN: dict[str, Any] = {"model": "m", "id": "c1"}
_HELLO: dict[str, Any] = {"texts": ("Hel", "lo"), "model": "m", "id": "c1"}


def finishes(row: int, name: str, body: bytes, *texts: str, **more: Any) -> Case:
    """Make the case of a stream that finishes; without texts, as ``HELLO + STOP`` does."""
    usual = {"texts": texts or ("Hel", "lo", ""), "finish_reason": "stop", **_ORIGIN}
    return Case(row=row, name=name, body=body, **{**usual, **more})


def fails(row: int, name: str, body: bytes, error: type[StreamError], message: str = "", **more: Any) -> Case:
    """Make the case of a stream that raises."""
    return Case(row=row, name=name, body=body, error=error, message=message, **more)


_PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KPIC"}}
_AFTER: dict[str, Any] = {"texts": ("Hel", "lo", ""), "finish_reason": "stop", **_ORIGIN}


def _alone(name: str, *values: Any, merged: Any, where: str = "delta") -> Case:
    """Make the case of an unknown field that comes alone in its events."""
    places: dict[str, Callable[[Any], bytes]] = {
        "delta": lambda value: chunk(**{name: value}),
        "choice": lambda value: data({"choices": [{"index": 0, "delta": {}, name: value}]}),
        "event": lambda value: data({"choices": [], name: value}),
    }
    body = HELLO + b"".join(map(places[where], values)) + STOP + DONE
    return finishes(53, f"{name}-alone", body, "Hel", "lo", *("",) * len(values), "", extra={name: merged})


def _thinks(name: str, *values: Any, fields: dict[str, Any] | None = None) -> Case:
    """Make the case of reasoning, "let me see", under a name."""
    body = b"".join(chunk(**{name: value}) for value in values) + HELLO + STOP + DONE
    texts = (*("",) * len(values), "Hel", "lo", "")
    return finishes(54, f"{name}-of-{len(values)}", body, *texts, reasoning="let me see", reasoning_fields=fields)


def _error(name: str, event: Any, message: str, after: bytes = b"", **more: Any) -> Case:
    """Make the case of an error in a provider's own shape."""
    return fails(56, name, HELLO + data(event) + after, StreamServerError, message, **{**_HELLO, **more})


def _calls(name: str, *parts: dict[str, Any], made: tuple[tuple[str, str, str], ...], row: int = 61) -> Case:
    """Make the case of parts of tool calls, each in its own event."""
    body = b"".join(chunk(tool_calls=[part]) for part in parts) + chunk(finish="tool_calls") + DONE
    repeated = name.endswith("-repeated")  # which makes no chunk
    return finishes(row, name, body, *("",) * (len(parts) + 1 - repeated), finish_reason="tool_calls", tool_calls=made)


def _part(name: str | None, arguments: str, **more: Any) -> dict[str, Any]:
    return {**more, "function": {"name": name, "arguments": arguments}}


WIDE_ROWS: tuple[Case, ...] = (
    _alone("images", [_PICTURE], [_PICTURE], merged=[_PICTURE, _PICTURE]),
    _alone(
        "audio",
        {"id": "a", "transcript": "Hel", "data": "QUJD"},
        {"id": "a", "transcript": "lo", "data": "REVG", "expires_at": 5},
        merged={"id": "a", "transcript": "Hello", "data": "QUJDREVG", "expires_at": 5},
    ),
    _alone(
        "function_call",
        {"name": "f", "arguments": '{"x":'},
        {"arguments": "1}"},
        merged={"name": "f", "arguments": '{"x":1}'},
    ),
    _alone(
        "provider_specific_fields",
        {"thinking_blocks": [{"thinking": "deep"}]},
        merged={"thinking_blocks": [{"thinking": "deep"}]},
    ),
    _alone("reference", [{"url": "http://a"}], merged=[{"url": "http://a"}]),
    _alone("extra_content", {"google": {"thought_signature": "s"}}, merged={"google": {"thought_signature": "s"}}),
    _alone(
        "parts",
        [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}],
        [{"index": 1, "text": "c"}, 5],
        merged=[{"index": 1, "text": "bc"}, {"index": 0, "text": "a"}, 5],
    ),
    _alone("mood", "a", 1, ["b"], merged=["a", 1, "b"]),
    _alone("weight", 1, 0, 2.5, merged=2.5),
    _alone("text", "Hel", "Hel", merged="HelHel", where="choice"),
    _alone("logprobs", {"content": [1]}, {"content": [1]}, merged={"content": [1, 1]}, where="choice"),
    _alone("citations", ["http://a"], ["http://a", "http://b"], merged=["http://a", "http://b"], where="event"),
    _alone("search_results", [{"title": "hit"}], merged=[{"title": "hit"}], where="event"),
    finishes(
        53,
        "what-every-event-repeats",
        chunk("Hel", event={"citations": ["http://a"], "provider": "X"})
        + chunk("", event={"citations": ["http://a"], "provider": "X"})
        + chunk("lo", event={"citations": ["http://a"], "provider": "X"})
        + STOP,
        extra={"citations": ["http://a"], "provider": "X"},
    ),
    finishes(
        53,
        "names-of-servers-are-no-content",
        chunk("", role="assistant", event={"provider": "X"}) + HELLO + STOP,
        extra={"provider": "X"},
    ),
    finishes(
        53,
        "beside-text",
        chunk("Hel", note="a", event={"seq": 1}) + chunk("lo", note="b", event={"seq": 2}) + STOP,
        extra={"note": "ab", "seq": 2},
    ),
    finishes(
        53,
        "azure",
        data({"choices": [{"delta": {"content": "Hel"}, "content_filter_results": {"hate": {"severity": "safe"}}}]})
        + data({"choices": [{"delta": {"content": "lo"}, "content_filter_results": {"hate": {"severity": "low"}}}]})
        + STOP,
        extra={"content_filter_results": {"hate": {"severity": "low"}}},
    ),
    finishes(
        53,
        "nothing-in-it",
        HELLO
        + chunk(
            images=[],
            reasoning_details=[{"text": None}],
            note="",
            provider_specific_fields={"citations": None, "x": [{}]},
        )
        + STOP,
        extra={},
    ),
    finishes(
        53,
        "strange-content",
        chunk([{"type": "image_url", "image_url": {"url": "data:"}}, {"type": "text", "text": "Hello"}]) + STOP,
        "Hello",
        "",
        extra={"content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
    ),
    finishes(
        53,
        "text-of-older-completions-beside-the-same",
        HELLO.replace(b'"index":0', b'"index":0,"text":"Hel"', 1) + STOP,
        extra={},
    ),
    _thinks("reasoning_text", "let ", "me see"),
    _thinks("thinking", "let ", {"text": "me see"}),
    _thinks("thoughts", "let me see", fields={"thoughts": "let me see"}),
    _thinks(
        "reasoning_details",
        [{"type": "reasoning.text", "text": "let ", "index": 0, "format": "x"}],
        [{"type": "reasoning.summary", "summary": "me ", "index": 1}],
        [{"type": "reasoning.text", "text": "see", "index": 0, "format": "x"}],
        [{"type": "reasoning.encrypted", "data": "s", "index": 0}],
        fields={
            "reasoning_details": [
                {"type": "reasoning.text", "text": "let see", "index": 0, "format": "x"},
                {"type": "reasoning.summary", "summary": "me ", "index": 1},
                {"type": "reasoning.encrypted", "data": "s", "index": 0},
            ]
        },
    ),
    _thinks(
        "content",
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "let "}]}],
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "me see"}]}],
        fields={},
    ),
    finishes(
        54,
        "several-names-count-once",
        chunk(reasoning="a", reasoning_details=[{"type": "reasoning.text", "text": "a"}]) + HELLO + STOP,
        *("", "Hel", "lo", ""),
        reasoning="a",
        reasoning_fields={"reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a"}]},
    ),
    finishes(
        55,
        "signature-alone",
        chunk(reasoning_content="a")
        + chunk(reasoning_details=[{"type": "reasoning.text", "signature": "s"}])
        + chunk([{"type": "thinking", "thinking": [], "signature": "t"}])
        + STOP,
        *("", "", "", ""),
        reasoning="a",
        reasoning_fields={
            "reasoning_content": "a",
            "reasoning_details": [{"type": "reasoning.text", "signature": "s"}],
        },
        extra={"content": [{"type": "thinking", "thinking": [], "signature": "t"}]},
    ),
    _error("qianfan", {"error_code": 336003, "error_msg": "bad messages"}, "bad messages", code="336003"),
    _error(
        "qianfan-then-done", {"error_code": 336003, "error_msg": "bad messages"}, "bad messages", DONE, code="336003"
    ),
    _error(
        "minimax",
        {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        "insufficient balance",
        code="1008",
        object={"status_msg": "insufficient balance"},
    ),
    finishes(
        56,
        "minimax-no-error",
        chunk("Hello", event={"base_resp": {"status_code": 0, "status_msg": ""}}) + STOP,
        "Hello",
        "",
    ),
    _error(
        "cloudflare", {"errors": [{"message": "capacity exceeded", "code": 3040}]}, "capacity exceeded", code="3040"
    ),
    _error("groq", {"choices": [], "x_groq": {"id": "r", "error": "over capacity"}}, "over capacity"),
    fails(
        56,
        "groq-beside-a-finish-reason",
        HELLO + chunk(finish="stop", event={"x_groq": {"error": "over capacity"}}) + DONE,
        StreamServerError,
        "over capacity",
        **_AFTER,
    ),
    _error(
        "bedrock",
        {"internalServerException": {"message": "bedrock is down"}},
        "bedrock is down",
        type="internalServerException",
    ),
    fails(
        56,
        "in-the-choice",
        HELLO + data({"choices": [{"index": 0, "delta": {}, "error": {"message": "lost", "code": 502}}]}) + DONE,
        StreamServerError,
        "lost",
        code="502",
        **_HELLO,
    ),
    _error("message-alone", {"message": "too many tokens"}, "too many tokens"),
    _error("problem+json", {"title": "Quota", "status": 429, "detail": "daily quota is used up"}, "daily quota"),
    _error("fastapi", {"detail": [{"loc": ["body"], "msg": "engine dead"}]}, "engine dead"),
    _error("fastapi-of-nothing", {"detail": [{"loc": ["body"]}]}, '[{"loc": ["body"]}]'),
    fails(
        57,
        "line-then-done",
        HELLO + b"upstream error: timeout\n\n" + DONE,
        StreamTruncated,
        "got [DONE] after 2 chunks; the last thing not understood was 'upstream error: timeout'",
        **_HELLO,
    ),
    fails(
        57, "text-then-done", HELLO + b"data: out of memory\n\n" + DONE, StreamTruncated, "'out of memory'", **_HELLO
    ),
    fails(57, "json-text-then-end", HELLO + b'data: "gone"\n\n', StreamTruncated, "'\"gone\"'", **_HELLO),
    finishes(57, "line-then-finish-reason", HELLO + b"upstream error: timeout\n\n" + STOP + DONE),
    fails(
        58,
        "openrouter",
        HELLO
        + data(
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 429,
                    "metadata": {"raw": "slow down", "provider_name": "X"},
                    "retry_after": 7,
                }
            }
        ),
        StreamServerError,
        "Provider returned error: slow down",
        code="429",
        object={"metadata": {"raw": "slow down", "provider_name": "X"}, "retry_after": 7},
        **_HELLO,
    ),
    fails(
        58,
        "openrouter-raw-object",
        data({"error": {"message": "Provider returned error", "metadata": {"raw": {"detail": "slow"}}}}),
        StreamServerError,
        'Provider returned error: {"detail": "slow"}',
    ),
    fails(
        58,
        "azure",
        data({"error": {"message": "filtered", "innererror": {"code": "X", "message": "for violence"}}}),
        StreamServerError,
        "filtered: for violence",
        object={"innererror": {"code": "X", "message": "for violence"}},
    ),
    fails(
        59,
        "gemini",
        data({"candidates": [{"content": {"parts": [{"text": "GREETING"}]}}]}),
        StreamProtocolError,
        "GREETING",
    ),
    fails(
        59,
        "responses",
        b"event: response.output_text.delta\n" + data({"type": "response.output_text.delta", "delta": "GREETING"}),
        StreamProtocolError,
        f"check that the base_url {BASE_URL!r} is that of a chat completions API",
    ),
    fails(
        59,
        "anthropic",
        data({"type": "message_start", "message": {"role": "assistant"}}) + data({"type": "content_block_stop"}),
        StreamProtocolError,
        "message_start",
    ),
    fails(59, "ollama", data({"message": {"content": "Hi"}, "done": True}), StreamProtocolError, '"Hi"', texts=("",)),
    _calls(
        "custom",
        {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sh", "input": "{ls"}},
        {"index": 0, "custom": {"input": " -l}"}},
        {"index": 1, "id": "b", "custom": {"name": "sh", "input": "pwd"}},
        made=(("a", "sh", "{ls -l}"), ("b", "sh", "pwd")),
        row=60,
    ),
    _calls(
        "a-new-id-in-each-part",
        _part("f", '{"a"', index=0, id="1"),
        _part(None, ":", index=0, id="2"),
        _part(None, "1}", index=0, id="3"),
        made=(("1", "f", '{"a":1}'),),
    ),
    _calls(
        "a-new-id-and-the-name-in-each-part",
        _part("f", '{"a"', index=0, id="1"),
        _part("f", ":", index=0, id="2"),
        _part("f", "1}", index=0, id="3"),
        made=(("1", "f", '{"a":1}'),),
    ),
    _calls(
        "a-new-id-and-the-name-in-each-part-without-index",
        _part("f", '{"a"', id="1"),
        _part("f", ":", id="2"),
        _part(None, "1}", id="3"),
        _part("f", "{}", id="4"),
        made=(("1", "f", '{"a":1}'), ("4", "f", "{}")),
    ),
    _calls(
        "the-name-alone-in-each-part",
        _part("f", '{"a"'),
        _part("f", ":"),
        _part("f", '"\\"}"}'),
        _part("g", "{}"),
        made=(("", "f", '{"a":"\\"}"}'), ("", "g", "{}")),
    ),
    _calls(
        "one-id-under-two-indexes",
        _part("exec", "", index=0, id="X"),
        _part("exec", '{"a"', index=1, id="X"),
        _part(None, ":1}", index=1),
        made=(("X", "exec", '{"a":1}'),),
    ),
    _calls(
        "one-id-for-all",
        _part("f", "{}", index=0, id="X"),
        _part("f", '{"a":1}', index=1, id="X"),
        made=(("X", "f", "{}"), ("X", "f", '{"a":1}')),
    ),
    _calls(
        "two-calls-at-index-0-without-ids",
        _part("f", '{"a":1}', index=0),
        _part("f", '{"a":2}', index=0),
        _part("g", "{}", index=0),
        made=(("", "f", '{"a":1}'), ("", "f", '{"a":2}'), ("", "g", "{}")),
    ),
    _calls(
        "an-empty-object-first",
        _part("f", "{}", index=0, id="a"),
        _part(None, '{"a"', index=0),
        _part(None, ":1}", index=0),
        made=(("a", "f", '{"a":1}'),),
    ),
    _calls(
        "a-whole-call-repeated",
        _part("f", '{"a":', index=0, id="a"),
        _part(None, "1}", index=0),
        _part("f", '{"a":1}', index=0, id="a"),
        made=(("a", "f", '{"a":1}'),),
    ),
    _calls(
        "an-id-that-comes-late",
        _part("f", '{"a":', index=0),
        _part("f", "1}", index=0, id="a"),
        _part("f", '{"a":2}', index=0, id="b"),
        made=(("a", "f", '{"a":1}'), ("b", "f", '{"a":2}')),
    ),
    _calls(
        "white-space-before-the-arguments",
        _part("f", " ", index=0, id="a"),
        _part("f", '\n{"a":', index=0, id="b"),
        _part("f", '"\\', index=0, id="c"),
        _part("f", '""}', index=0, id="d"),
        made=(("a", "f", ' \n{"a":"\\""}'),),
    ),
    _calls("no-arguments", _part("f", "", index=0, id="a"), made=(("a", "f", ""),), row=62),
    finishes(
        63,
        "moonshot",
        HELLO + data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage(1, 2, 3)}]}) + DONE,
        usage=(1, 2, 3),
    ),
    finishes(
        63,
        "other-names-as-text",
        HELLO + STOP + data({"choices": [], "usage": {"input_tokens": "1", "output_tokens": "2"}}) + DONE,
        usage=(1, 2, None),
    ),
    finishes(64, "line-by-line", (HELLO + STOP + DONE).replace(b"\n\n", b"\n")),
    finishes(64, "line-by-line-held-open", (HELLO + STOP + DONE).replace(b"\n\n", b"\n"), ending="hold"),
    finishes(64, "line-by-line-with-a-name", b"event: message\n" + (HELLO + STOP).replace(b"\n\n", b"\r\n")),
    finishes(65, "x-gzip", HELLO + STOP + DONE, encoding="x-gzip"),
    finishes(65, "deflate", HELLO + STOP + DONE, encoding="deflate"),
    finishes(
        66,
        "keep-alives-as-data",
        b"data: : OPENROUTER PROCESSING\n\n"
        + chunk("Hel")
        + b"data: ping\n\nevent: ping\ndata: {}\n\n"
        + b'event: ping\ndata: {"time": 5}\n\ndata: {"type": "ping"}\n\ndata: {"type": "ping", "time": 5}\n\n'
        + chunk("lo")
        + STOP
        + DONE,
        extra={},
    ),
    fails(
        66,
        "only-keep-alives",
        b"data: ping\n\n" * 3,
        StreamTruncated,
        "0 chunks; the last thing not understood was 'ping'",
    ),
    finishes(
        67,
        "numbers-without-end",
        HELLO.replace(b'"index":0', b'"index":' + b"0" * 1)
        + chunk("!", event={"created": 5}).replace(b'"created":5', b'"created":' + b"7" * 5000)
        + STOP.replace(b'"index":0', b'"index":' + b"1" * 5000)
        + DONE,
        *("Hel", "lo", "!", ""),
    ),
    finishes(
        67,
        "usage-without-end",
        HELLO + STOP + data({"choices": [], "usage": usage(1, 2, 3)}).replace(b":2", b":" + b"2" * 5000),
        usage=(1, None, 3),
    ),
    fails(
        71,
        "control-characters",
        data({"error": {"message": "a\x1b]0;title\x07b\u202ec\x9bd", "type": "x"}}),
        StreamServerError,
        r"a\x1b]0;title\x07b\u202ec\x9bd",
        type="x",
    ),
    fails(
        71,
        "control-characters-in-a-line",
        HELLO + b"\x1b[31mred\n",
        StreamTruncated,
        r"'\x1b[31mred'",
        **_HELLO,
    ),
)

ROWS: tuple[Case, ...] = (
    fails(
        1,
        "json-error",
        json.dumps(JSON_ERROR).encode(),
        StreamServerError,
        "No such model: x",
        content_type="application/json",
        type="invalid_request_error",
        code="model_not_found",
    ),
    fails(
        1,
        "json-error-pretty-printed-after-blank-lines",
        b"\n \n" + json.dumps(JSON_ERROR, indent=2).encode(),
        StreamServerError,
        "No such model: x",
        type="invalid_request_error",
        code="model_not_found",
    ),
    fails(
        1,
        "json-error-after-comments",
        b": OPENROUTER PROCESSING\n\n" + json.dumps(JSON_ERROR, indent=0).encode(),
        StreamServerError,
        "No such model: x",
        type="invalid_request_error",
        code="model_not_found",
    ),
    fails(
        1, "json-detail", b'{"detail": "Not Found"}', StreamServerError, "Not Found", content_type="application/json"
    ),
    fails(2, "html", HTML, StreamProtocolError, "<!DOCTYPE html>", content_type="text/html"),
    fails(2, "html-named-a-stream", HTML, StreamProtocolError, repr(BASE_URL)),
    fails(
        2,
        "text",
        b"It works!\n",
        StreamProtocolError,
        "'It works!\\n' (status 200, content type 'text/plain; charset=utf-8')",
        content_type="text/plain; charset=utf-8",
    ),
    fails(
        2,
        "json-of-something-else",
        b'{"status": "ok", "choices": []}',
        StreamProtocolError,
        '{"status": "ok", "choices": []}',
        content_type="application/json",
    ),
    finishes(
        3, "completion", json.dumps(COMPLETION).encode(), "Hello", content_type="application/json", usage=(1, 2, 3)
    ),
    finishes(
        3,
        "completion-pretty-printed",
        b"\xef\xbb\xbf\r\n" + json.dumps(COMPLETION, indent=4).replace("\n", "\r\n").encode() + b"\r\n",
        "Hello",
        usage=(1, 2, 3),
    ),
    finishes(
        3,
        "completion-without-finish-reason",
        b'{"choices": [{"message": {"content": "a\\ud83d", "reasoning": "why"}}]}',
        "a",
        "�",
        content_type="",
        reasoning="why",
        finish_reason=None,
        model=None,
        id=None,
    ),
    finishes(3, "completion-in-an-event", data(COMPLETION), "Hello", usage=(1, 2, 3)),
    fails(4, "empty", b"", StreamProtocolError, "an empty body"),
    fails(4, "blank", b"\xef\xbb\xbf \r\n\n", StreamProtocolError, "an empty body"),
    finishes(5, "wrong-type", HELLO + STOP + DONE, content_type="text/html"),
    finishes(5, "no-type", HELLO + STOP + DONE, content_type=""),
    fails(
        6,
        "error-event",
        HELLO + data({"error": {"message": "overloaded", "type": "server_error", "code": 503}}) + DONE,
        StreamServerError,
        "overloaded",
        type="server_error",
        code="503",
        **_HELLO,
    ),
    fails(
        6,
        "error-with-text-in-one-event",
        HELLO + chunk(" you", event={"error": {"message": "cut off"}}) + STOP,
        StreamServerError,
        "cut off",
        texts=("Hel", "lo", " you"),
        **_ORIGIN,
    ),
    fails(
        6,
        "error-with-no-message",
        data({"error": {"status": 3, "why": ["é"]}}),
        StreamServerError,
        '{"status": 3, "why": ["é"]}',
    ),
    fails(
        6,
        "error-object-of-an-old-vllm",
        data({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}),
        StreamServerError,
        "too long",
        type="BadRequestError",
        code="400",
    ),
    fails(
        6,
        "error-fields-of-deepinfra",
        data({"choices": None, "error_type": "BadRequestError", "error_message": "too long", "code": 400}),
        StreamServerError,
        "too long",
        type="BadRequestError",
        code="400",
    ),
    fails(6, "error-type-alone", data({"type": "error"}), StreamServerError, '{"type": "error"}', type="error"),
    fails(
        6,
        "error-code-beside-a-message",
        HELLO + data({"code": 1210, "message": "bad parameter"}),
        StreamServerError,
        "bad parameter",
        code="1210",
        **_HELLO,
    ),
    fails(
        6,
        "error-with-its-code-outside",
        data({"code": 7, "error": {"message": "x", "type": 5}}),
        StreamServerError,
        "x",
        code="7",
    ),
    fails(6, "error-code-that-is-none", data({"error": "x", "code": True}), StreamServerError, "x"),
    finishes(
        6,
        "code-and-message-that-are-no-error",
        chunk("Hel", event={"code": 200, "message": "ok"})
        + data({"code": 200, "choices": None})
        + data({"code": 0, "message": "success"})
        + chunk("lo")
        + STOP,
        "Hel",
        "",
        "lo",
        "",
    ),
    finishes(6, "error-that-is-none", chunk("Hel", event={"error": None}) + chunk("lo", event={"error": {}}) + STOP),
    fails(7, "error-text", HELLO + data({"error": "out of memory"}), StreamServerError, "out of memory", **_HELLO),
    fails(
        8,
        "named-error",
        HELLO + b'event: error\ndata: {"message": "went away", "code": "x"}\n\n',
        StreamServerError,
        "went away",
        code="x",
        **_HELLO,
    ),
    fails(
        8,
        "named-error-plain-text",
        HELLO + b"event: error\ndata: upstream \xff went\ndata: away\n\n",
        StreamServerError,
        "upstream � went\\naway",
        **_HELLO,
    ),
    fails(8, "named-error-json-text", b'event:error\ndata:"no"\n\n', StreamServerError, "error: no"),
    fails(8, "named-error-nothing-said", b"event:error\ndata:null\n\n", StreamServerError, "(no message)"),
    fails(
        8,
        "named-error-in-the-shape-of-a-chunk",
        b"event: error\n" + chunk("", event={"message": "went away"}),
        StreamServerError,
        "went away",
        **_ORIGIN,
    ),
    finishes(8, "other-names", b"event: message\n" + HELLO + b"event: ping\ndata: {}\n\n" + STOP),
    fails(
        9,
        "not-json",
        HELLO + b"data: {" + b"ab" * 300 + b"\n\n" + STOP,
        StreamProtocolError,
        f"got '{{{'ab' * 99}a'... (status 200",
        **_HELLO,
    ),
    fails(9, "nested-too-deep", HELLO + b"data: " + b'{"a":' * 100000 + b"\n\n", StreamProtocolError, "JSON", **_HELLO),
    fails(
        10, "bare-line", HELLO + b"upstream error: timeout\n", StreamTruncated, "'upstream error: timeout'", **_HELLO
    ),
    fails(10, "bare-line-alone", b"upstream error: timeout", StreamTruncated, "'upstream error: timeout'"),
    fails(
        10,
        "bare-json-error",
        HELLO + json.dumps(JSON_ERROR).encode() + b"\n\n" + DONE,
        StreamServerError,
        "No such model: x",
        type="invalid_request_error",
        code="model_not_found",
        **_HELLO,
    ),
    fails(10, "bare-json-error-at-the-end", HELLO + b'{"error": "gone"}', StreamServerError, "gone", **_HELLO),
    finishes(
        11,
        "comments",
        b": keep-alive\n\n:\n" + chunk("Hel") + b": OPENROUTER PROCESSING\n\n" + chunk("lo") + b":x\n" + STOP + DONE,
    ),
    fails(11, "only-comments", b": keep-alive\n\n: keep-alive\n\n", StreamTruncated, "0 chunks"),
    finishes(
        12,
        "retry-id-and-empty-data",
        b"retry: 3000\n\nid: 7\n\nid\n\n"
        + chunk("Hel")
        + b"data:\n\ndata:  \n\ndata\n\nevent: error\n\n"
        + chunk("lo")
        + STOP
        + DONE,
    ),
    finishes(13, "byte-order-mark", b"\xef\xbb\xbf" + HELLO + STOP + DONE),
    finishes(14, "no-space", (HELLO + STOP + DONE).replace(b"data: ", b"data:")),
    finishes(14, "crlf", (HELLO + STOP + DONE).replace(b"\n", b"\r\n")),
    finishes(14, "cr", (HELLO + STOP + DONE).replace(b"\n", b"\r")),
    finishes(
        14,
        "mixed-line-ends",
        chunk("Hel").replace(b"\n\n", b"\r\n\r")
        + chunk("lo").replace(b"\n\n", b"\r\r\n")
        + STOP.replace(b"\n\n", b"\n\r\n")
        + DONE,
    ),
    finishes(14, "several-data-lines", HELLO.replace(b'"choices":', b'\ndata: "choices":\r\ndata:') + STOP + DONE),
    finishes(15, "no-blank-line", HELLO + STOP.rstrip() + b"\n"),
    finishes(15, "no-line-end", HELLO + STOP.rstrip()),
    finishes(15, "done-without-line-end", HELLO + DONE.strip(), "Hel", "lo", finish_reason=None),
    finishes(
        16,
        "exact-text",
        chunk("hé\u2028\u2029\x85") + chunk("漢字😀") + chunk("a\x0cb") + b"\x0c\n" + STOP,
        "hé\u2028\u2029\x85",
        "漢字😀",
        "a\x0cb",
        "",
    ),
    finishes(
        17,
        "invalid-utf-8",
        chunk("a?b").replace(b"?", b"\xff") + chunk("?").replace(b"?", b"\xe2\x82") + STOP,
        "a�b",
        "�",
        "",
    ),
    finishes(18, "200-kB", chunk("x" * 200000) + STOP, "x" * 200000, ""),
    fails(18, "endless-line", HELLO + b"data: {" + b"x" * 17 * 2**20, StreamProtocolError, "16 MiB", **_HELLO),
    fails(
        18, "endless-event", HELLO + (b"data: {" + b"x" * 2**20 + b"\n") * 17, StreamProtocolError, "16 MiB", **_HELLO
    ),
    fails(18, "endless-body", b"{\n" + (b" " * 2**20 + b"\n") * 17, StreamProtocolError, "16 MiB"),
    finishes(
        19,
        "no-choices",
        data({"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
        + data({"choices": None})
        + data({"object": "x"})
        + HELLO
        + STOP
        + data({"choices": [], "usage": usage(1, 2, 3)})
        + DONE,
        usage=(1, 2, 3),
    ),
    finishes(
        20,
        "no-delta",
        data({"choices": [{"index": 0}]})
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
    ),
    finishes(21, "role", chunk("", role="assistant") + chunk(role="assistant", refusal=None) + HELLO + STOP),
    finishes(22, "finish-reason-with-text", chunk("Hello", finish="stop") + DONE, "Hello"),
    finishes(
        23,
        "text-after-finish-reason",
        chunk("Hel", finish="length") + chunk("lo") + chunk(finish="stop") + chunk("!") + DONE,
        "Hel",
        "lo",
        "",
        "!",
    ),
    finishes(
        24,
        "several-usages",
        chunk("Hel", event={"usage": usage(1, 1, 2)})
        + chunk("lo", event={"usage": None})
        + STOP
        + data({"choices": [], "usage": usage(1, 2, 3)})
        + data({"choices": [], "usage": usage(None, None, None)})
        + DONE,
        usage=(1, 2, 3),
    ),
    finishes(
        24,
        "x_groq",
        data({"id": "c1", "model": "m", "choices": [], "x_groq": {"id": "r"}})
        + HELLO
        + chunk(finish="stop", event={"x_groq": {"usage": usage(4, 5, 9)}})
        + DONE,
        usage=(4, 5, 9),
    ),
    finishes(24, "null-counts", HELLO + STOP + data({"usage": usage(None, None, None)})),
    finishes(
        24, "some-counts", HELLO + STOP + data({"choices": [], "usage": usage(True, 7.0, "3")}), usage=(None, 7, 3)
    ),
    finishes(25, "no-finish-reasons", chunk("Hel", finish="") + chunk("lo", finish="null") + STOP),
    fails(
        25,
        "null-is-no-ending",
        chunk("Hel", finish="") + chunk("lo", finish="null"),
        StreamTruncated,
        "2 chunks",
        **_HELLO,
    ),
    finishes(25, "no-text", chunk("Hel", finish=1) + chunk("lo", finish={"a": 1}) + STOP),
    fails(
        26,
        "finish-reason-error",
        HELLO + chunk(finish="error") + DONE,
        StreamServerError,
        "finish reason 'error'",
        **_HELLO,
    ),
    fails(
        26,
        "finish-reason-error-with-text",
        chunk("Hel")
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
        StreamServerError,
        "Provider disconnected",
        code="502",
        **_HELLO,
    ),
    fails(
        26,
        "finish-reason-error-of-openrouter",
        HELLO
        + chunk("", finish="error", event={"error": {"code": "server_error", "message": "Provider disconnected"}}),
        StreamServerError,
        "Provider disconnected",
        code="server_error",
        **_HELLO,
    ),
    finishes(
        27,
        "unknown-finish-reason",
        chunk("Hello", finish="insufficient_system_resource"),
        "Hello",
        finish_reason="insufficient_system_resource",
    ),
    finishes(
        28,
        "parts",
        chunk([{"type": "thinking", "thinking": [{"type": "text", "text": "let "}, {"type": "text", "text": "me"}, 1]}])
        + chunk([{"type": "thinking", "thinking": " see"}])
        + chunk([{"type": "text", "text": "Hel"}, "lo", {"type": "reference", "reference_ids": [1]}, None, {"text": 5}])
        + chunk({"type": "text", "text": "!"})
        + chunk(5)
        + STOP,
        "",
        "",
        "Hello",
        "!",
        "",
        "",
        reasoning="let me see",
    ),
    finishes(
        29,
        "reasoning",
        chunk(reasoning_content="a", content="")
        + chunk(reasoning="b")
        + chunk(reasoning="c", reasoning_content="c")
        + chunk("Hello", reasoning=None, reasoning_content=None)
        + chunk("!", reasoning={"x": 1})
        + STOP,
        "",
        "",
        "",
        "Hello",
        "!",
        "",
        reasoning="abc",
    ),
    finishes(
        30,
        "whole-message-at-the-end",
        HELLO
        + data(
            {"choices": [{"delta": {}, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
        )
        + DONE,
    ),
    finishes(
        30,
        "whole-message-beside-each-delta",
        data({"choices": [{"delta": {"content": "Hel"}, "message": {"content": "Hel"}}]})
        + data({"choices": [{"delta": {"content": "lo"}, "message": {"content": "Hello"}}]})
        + data({"choices": [{"delta": {"content": ""}, "message": {"content": "Hello"}, "finish_reason": "stop"}]}),
        "Hel",
        "lo",
        "",
        model=None,
        id=None,
    ),
    finishes(
        30,
        "whole-message-beside-an-empty-delta",
        data({"choices": [{"delta": {"content": ""}, "message": {"content": "Hello"}}]}) + STOP,
        "Hello",
        "",
    ),
    finishes(
        31,
        "tool-calls-interleaved",
        call({"name": "f", "arguments": ""}, index=0, id="a", type="function")
        + call({"name": "g", "arguments": '{"y":'}, index=1, id="b", type="function")
        + call({"arguments": '{"x":'}, index=0)
        + call({"arguments": ' "é"}', "name": None}, index=0, id=None)
        + call({"arguments": " 2}"}, index="1")
        + call(None, index=0)
        + chunk(tool_calls=None)
        + chunk(tool_calls=["x", {"index": 0, "function": {"arguments": ""}}])
        + chunk(finish="tool_calls")
        + DONE,
        *(("",) * 7),
        tool_calls=(("a", "f", '{"x": "é"}'), ("b", "g", '{"y": 2}')),
        finish_reason="tool_calls",
    ),
    finishes(
        31,
        "tool-calls-without-index",
        call({"name": "f", "arguments": '{"x":'}, id="a")
        + call({"arguments": "1"})
        + call({"name": "f", "arguments": "}"}, id="a")
        + call({"name": "g", "arguments": {"y": [1, "é"]}})
        + chunk(tool_calls={"function": {"name": "h", "arguments": 5}})
        + chunk(finish="tool_calls"),
        *(("",) * 6),
        tool_calls=(("a", "f", '{"x":1}'), ("", "g", '{"y": [1, "é"]}'), ("", "h", "")),
        finish_reason="tool_calls",
    ),
    finishes(
        31,
        "tool-calls-all-numbered-0",
        call({"name": "f", "arguments": "{}"}, index=0, id="a")
        + call({"name": "f", "arguments": '{"b":'}, index=0, id="b")
        + call({"arguments": "1}"}, index=0, id="other")
        + chunk(finish="tool_calls"),
        *(("",) * 4),
        tool_calls=(("a", "f", "{}"), ("b", "f", '{"b":1}')),
        finish_reason="tool_calls",
    ),
    finishes(32, "no-done", HELLO + STOP),
    finishes(33, "held-open-after-finish-reason", HELLO + STOP, ending="hold"),
    finishes(
        33,
        "held-open-after-late-usage",
        HELLO + STOP + data({"choices": [], "usage": usage(1, 2, 3)}),
        ending="hold",
        usage=(1, 2, 3),
    ),
    finishes(34, "held-open-after-done", HELLO + STOP + DONE, ending="hold"),
    finishes(35, "done-without-finish-reason", HELLO + DONE, "Hel", "lo", finish_reason=None),
    fails(36, "neither", HELLO, StreamTruncated, "2 chunks", **_HELLO),
    fails(36, "ends-after-the-role", chunk(role="assistant"), StreamTruncated, "0 chunks", **_ORIGIN),
    fails(37, "cut", HELLO, StreamInterrupted, ending="cut", **_HELLO),
    fails(37, "cut-inside-an-event", HELLO + b'data: {"choi', StreamInterrupted, ending="cut", **_HELLO),
    finishes(37, "cut-after-finish-reason", HELLO + STOP + b'data: {"choi', ending="cut"),
    finishes(
        38, "refusal", chunk(refusal="I can") + chunk(refusal="not.") + STOP + DONE, "", "", "", refusal="I cannot."
    ),
    finishes(
        39,
        "unknown-fields",
        data(
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
    ),
    finishes(
        39, "annotations-alone", HELLO + chunk(annotations=[{"type": "url_citation"}]) + STOP, "Hel", "lo", "", ""
    ),
    finishes(40, "gzip", HELLO + STOP + DONE, encoding="gzip"),
    Case(
        row=41,
        name="stream_options-refused",
        body=b'{"error": {"message": "unknown field stream_options", "type": "invalid_request_error"}}',
        status=400,
        content_type="application/json",
        client_error="BadRequestError",
    ),
    finishes(
        42,
        "several-choices",
        data(
            {
                "id": "c1",
                "model": "m",
                "choices": [{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "Hel"}}],
            }
        )
        + data({"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]})
        + data({"choices": [{"index": "0", "delta": {"content": "lo"}}, {"index": "1", "delta": {"content": "no"}}]})
        + STOP,
    ),
    fails(
        43,
        "error-without-line-end",
        HELLO + b'data: {"error": {"message": "Internal Server Error", "type": "internal", "code": "internal_error"}}',
        StreamServerError,
        "Internal Server Error",
        type="internal",
        code="internal_error",
        **_HELLO,
    ),
    finishes(44, "closed-after-finish-reason", HELLO + STOP, ending="close"),
    finishes(44, "closed-after-done", HELLO + DONE, "Hel", "lo", ending="close", finish_reason=None),
    fails(44, "closed-early", HELLO, StreamTruncated, "2 chunks", ending="close", **_HELLO),
    fails(
        44,
        "closed-inside-an-event",
        HELLO + b'data: {"choices":[{"delta":{"con',
        StreamTruncated,
        '{"choices":[{"delta":{"con',
        ending="close",
        **_HELLO,
    ),
    fails(44, "closed-inside-done", HELLO + b"data: [DO", StreamTruncated, "'[DO'", ending="close", **_HELLO),
    finishes(44, "closed-inside-an-event-after-finish-reason", HELLO + STOP + b'data: {"cho', ending="close"),
    finishes(
        45,
        "surrogates",
        b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ude00b"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"c\\ude00"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ud83d"},"finish_reason":"stop"}]}\n\n',
        "a",
        "😀b",
        "�c�",
        "",
        "�",
        model=None,
        id=None,
    ),
    finishes(
        45,
        "surrogates-elsewhere",
        b'data: {"id":"\\ud83d","choices":[{"delta":{"reasoning":"a\\ud83d","refusal":"b\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"c\\ud83d"}}]}}]}\n\n'
        b'data: {"choices":[{"delta":{"reasoning":"\\ude00"}}]}\n\n'
        b'data: {"choices":[{"delta":{"refusal":"!"}}]}\n\n'
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\ude00\\ud83d"}}]}}]}\n\n'
        b"data: [DONE]\n\n",
        "",
        "",
        "",
        "",
        "",
        "",
        reasoning="a😀",
        refusal="b�!",
        tool_calls=(("", "f", "c😀�"),),
        id="�",
        finish_reason=None,
        model=None,
    ),
    fails(
        45,
        "surrogate-before-the-end",
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}',
        StreamTruncated,
        texts=("�",),
    ),
    fails(46, "done-then-cut", HELLO + DONE, StreamInterrupted, ending="cut", **_HELLO),
    fails(46, "done-after-nothing", chunk(role="assistant") + DONE, StreamTruncated, "0 chunks", **_ORIGIN),
    finishes(46, "done-held-open", HELLO + DONE, "Hel", "lo", finish_reason=None, ending="hold"),
    finishes(47, "no-text", STOP + DONE, ""),
    finishes(
        48,
        "usage-in-the-finish-chunk",
        HELLO + chunk(finish="stop", event={"usage": usage(16, 33, 49)}),
        usage=(16, 33, 49),
    ),
    finishes(
        49,
        "usage-with-choices",
        HELLO + STOP + chunk("", event={"usage": usage(9, 41, 50), "object": "text_completion"}) + DONE,
        usage=(9, 41, 50),
    ),
    finishes(
        49, "usage-of-zeros", HELLO + chunk(finish="stop", event={"usage": usage(0, 0, 0)}) + DONE, usage=(0, 0, 0)
    ),
    finishes(
        50,
        "a-new-id-each",
        data({"id": "", "choices": []}) + HELLO + chunk(finish="stop", event={"id": "c2", "model": "m2"}),
    ),
    finishes(
        50,
        "model-before-id",
        data({"model": "m", "choices": []}) + chunk("Hello", finish="stop", event={"model": "m2"}),
        "Hello",
    ),
    finishes(50, "ids-that-are-no-text", data({"id": 5, "model": {}, "choices": []}) + HELLO + STOP),
    finishes(51, "all-at-once", HELLO * 500 + STOP + DONE, *(("Hel", "lo") * 500 + ("",))),
    Case(row=52, name="html", body=HTML, status=502, content_type="text/html", client_error="InternalServerError"),
    Case(
        row=52,
        name="text",
        body=b"Internal Server Error",
        status=500,
        content_type="text/plain",
        client_error="InternalServerError",
    ),
    Case(
        row=52,
        name="detail",
        body=b'{"detail":[{"type":"missing","msg":"Field required"}]}',
        status=422,
        content_type="application/json",
        client_error="UnprocessableEntityError",
    ),
    Case(
        row=52,
        name="error-text",
        body=b'{"error": "slow down"}',
        status=429,
        content_type="application/json",
        client_error="RateLimitError",
    ),
    *WIDE_ROWS,
)


@dataclass(frozen=True, slots=True)
class Capture:
    """How a recorded answer ends. Its text is what `recorded_text` finds in it.

    Attributes:
        chunks: How many chunks are returned.
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
    "litellm_gptoss-midstream_error": Capture(0, 0, error=StreamServerError, message="expected peg-native format"),
    "litellm_lcp-empty_upstream": Capture(1, 0, "stop"),
    "litellm_lcp-interrupted": Capture(1, 0, "stop", (8, 0, 8)),
    "litellm_mock-5xx": _refused("InternalServerError"),
    "litellm_mock-badjson": _refused("BadRequestError"),
    "litellm_mock-badmodel": _refused("BadRequestError"),
    "litellm_mock-badtype": _refused("BadRequestError"),
    "litellm_mock-ctx": _refused("BadRequestError"),
    "litellm_mock-nomessages": _refused("BadRequestError"),
    "litellm_mock-nostream": Capture(1, 162, "stop", (10, 20, 30)),
    "litellm_mock-plain": Capture(10, 27, "stop"),
    "litellm_mock-ratelimit": _refused("RateLimitError"),
    "litellm_mock-usage": Capture(9, 24, "stop", (9, 41, 50)),
    "litellm_sigTERM": Capture(8, 33, "length", (22, 200, 222)),
    "litellm_slow-upstream_killed": Capture(
        9, 49, error=StreamServerError, message="Response payload is not completed"
    ),
    "litellm_think": Capture(8, 16, "length", (67, 200, 267)),
    "litellm_tiny-badtemp": _refused("BadRequestError"),
    "litellm_tiny-nostream": Capture(1, 35, "length", (25, 8, 33)),
    "litellm_tiny-toolong": _refused("BadRequestError"),
    "litellm_tiny-usage": Capture(9, 40, "length", (25, 8, 33)),
    "litserve-badjson": _refused("UnprocessableEntityError"),
    "litserve-badtype": _refused("UnprocessableEntityError"),
    "litserve-fail": Capture(5, 15, error=StreamServerError, message="Internal Server Error"),
    "litserve-nostream": Capture(1, 70, "stop", (0, 0, 0)),
    "litserve-plain": Capture(10, 30, "stop", (0, 0, 0)),
    "nginx-sigTERM": Capture(10, 53, error=StreamTruncated, message="10 chunks"),
    "nginx_h2-slow": Capture(9, 44, "length"),
    "nginx_nobuf-slow": Capture(9, 37, "length"),
    "nginx_ten-disconnect": Capture(12, 144, error=StreamTruncated, message="12 chunks"),
    "transformers-badjson": _refused("UnprocessableEntityError"),
    "transformers-badtemp": _refused("InternalServerError"),
    "transformers-natural_stop": Capture(10, 47, "stop", (16, 33, 49)),
    "transformers-nostream": Capture(1, 38, "length", (18, 8, 26)),
    "transformers-plain": Capture(9, 43, "length", (18, 8, 26)),
    "transformers-temp_negative": Capture(0, 0, error=StreamServerError, message="has to be a strictly positive float"),
    "transformers-toolong": Capture(0, 0, error=StreamTruncated, message="0 chunks"),
    "transformers-top_p_bad": Capture(10, 44, "length", (16, 30, 46)),
}


def recorded(name: str) -> tuple[int, str, bytes]:
    """Read a recorded answer: status, content type, body."""
    head, _, body = (CAPTURES_FOLDER / f"{name}.http").read_bytes().partition(b"\r\n\r\n")
    status, content_type = head.decode().split("\r\n")
    return int(status.split()[1]), content_type.removeprefix("Content-Type: "), body


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
