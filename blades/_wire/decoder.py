"""Bytes of an answer to chunks and totals: pure. No socket, no thread, no clock; `StreamError` is all that escapes.

The rules that hold everywhere:

- One event is parsed at a time, when the next chunk is asked for: the totals hold what was handed out, nothing more.
- What is not of the expected type counts as not sent; it stays in `Chunk.raw`.
- Every text that is handed out can be encoded: surrogates are joined across events, or replaced.
"""

from __future__ import annotations

from typing import Any, final

from blades._errors import StreamError, StreamProtocolError, StreamTruncated, without_traceback
from blades._values import Chunk, Reply, ResponseInfo, ToolCall, Usage
from blades._wire.accumulate import Calls, Text
from blades._wire.deltas import (
    Json,
    fast_parser,
    find_error,
    first_choice,
    parse_lenient,
    parse_object,
    parse_usage,
    parts_of,
    server_error,
    shown,
    string,
    without_secrets,
)
from blades._wire.sse import BYTE_ORDER_MARK, EVENT_LIMIT_BYTES, Decoder, EventTooLongError

PREFIX_BYTES = 200  # of the body, kept for errors
A_STREAM = "a stream of chat completion chunks"


@final
class CompletionDecoder:
    """One stream's state. One thread feeds it and takes chunks; the totals can be read from any thread at any time.

    Attributes:
        head: Set when the headers came; the errors tell from it where the answer came from.
        done: ``[DONE]`` was seen, or a whole completion instead of a stream: nothing more is to be read.
        chunks: How many chunks were handed out.
        finish_reason: The last one; None if there was none.
        usage: The last one; None if there was none.
        model: The first name of the model.
        id: The first identifier.
    """

    def __init__(self, *, limit_bytes: int = EVENT_LIMIT_BYTES) -> None:
        self.head = ResponseInfo()
        self.done = False
        self.chunks = 0
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.model: str | None = None
        self.id: str | None = None
        self._decoder = Decoder(limit_bytes=limit_bytes)
        self._read_json = fast_parser()
        self._prefix = b""
        self._ended = False
        self._failure: StreamError | None = None
        self._text = Text()
        self._reasoning = Text()
        self._refusal = Text()
        self._calls = Calls()

    @property
    def text(self) -> str:
        """The text that was handed out."""
        return self._text.get()

    @property
    def reasoning(self) -> str:
        """The reasoning that was handed out."""
        return self._reasoning.get()

    @property
    def refusal(self) -> str:
        """The refusal that was handed out, in `Chunk.raw`."""
        return self._refusal.get()

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, assembled from the parts that were handed out."""
        return self._calls.get()

    @property
    def finished(self) -> bool:
        """Whether the answer is known to be whole: ``[DONE]`` or a finish reason was seen."""
        return self._failure is None and (self.done or self.finish_reason is not None)

    def reply(self, *, complete: bool, request_id: str | None) -> Reply:
        """Return the totals."""
        return Reply(
            text=self.text,
            reasoning=self.reasoning,
            refusal=self.refusal,
            tool_calls=self.tool_calls,
            finish_reason=self.finish_reason,
            usage=self.usage,
            model=self.model,
            id=self.id,
            request_id=request_id,
            complete=complete,
        )

    def feed(self, data: bytes) -> None:
        """Add bytes of the body, cut anywhere."""
        if len(self._prefix) < PREFIX_BYTES:
            self._prefix = (self._prefix + data)[:PREFIX_BYTES]
        self._decoder.feed(data)

    def end(self) -> None:
        """Say that the body ended: what was waiting for more becomes available to `next_chunk`."""
        self._ended = True
        self._decoder.end()

    def next_chunk(self) -> Chunk | None:
        """Return the next chunk; None if that takes more bytes, or nothing is to come.

        Raises:
            StreamServerError: The server sent an error. Raised again if asked again, like every failure.
            StreamProtocolError: What came cannot be read as a stream of chat completion chunks.
        """
        try:
            while self._failure is None:
                event = None if self.done else self._decoder.next_event()
                if event is None:
                    chunk = self._rest()
                else:
                    name, data = event
                    chunk = self._read(name, data)
                if chunk is not None:
                    self.chunks += 1
                    return chunk
                if event is None and self._failure is None:
                    return None
        except EventTooLongError:
            self._failure = self._protocol_error("events of at most 16 MiB", "a longer one")
        except StreamError as error:
            self._failure = without_traceback(error)
            raise
        raise without_traceback(self._failure)

    def check_complete(self, *, require_finish: bool) -> None:
        """Return if the answer counts as whole. To be called after `end`, when `next_chunk` returned None.

        Args:
            require_finish: Whether an answer without finish reason and without ``[DONE]`` counts as cut short.

        Raises:
            StreamTruncated: The body ended, but not the answer.
            StreamServerError: The same, and a last line outside of the events is an error object.
            StreamProtocolError: The body is no stream.
        """
        if self.finished:
            return
        stray = self._check_stray()
        if self._failure is not None:
            raise without_traceback(self._failure)
        if not self._decoder.is_stream:
            if not stray and not self._prefix.removeprefix(BYTE_ORDER_MARK).strip():
                raise self._protocol_error(A_STREAM, "an empty body")
            declared = self.head.content_type.lower().startswith("text/event-stream")
            if stray and (not declared or stray.lstrip().startswith((b"<", b"{", b"["))):
                raise self._protocol_error(A_STREAM, shown(self._prefix))
        if require_finish:
            last_line = f" Its last line was {shown(stray)}." if stray else ""
            raise StreamTruncated(
                f"The body ended after {self.chunks} chunks without a finish reason and without [DONE]: the answer is"
                f" not whole.{last_line} Ask again; or pass require_finish=False if this server never sends either."
            )

    def _read(self, name: bytes, data: bytes) -> Chunk | None:
        """Read one event; return the chunk it makes, if it makes one."""
        odd = False  # whether there can be surrogates in the texts
        try:
            event = self._read_json(data)
        except ValueError:
            event, odd = self._parse_fallback(name, data), True
        if type(event) is not dict:
            if name == b"error":
                raise server_error(event, {})
            return None  # null, a list, a text
        if name or "error" in event or not event.get("choices"):
            self._failure = find_error(event, named=name == b"error")
        return self._chunk(event, odd)

    def _parse_fallback(self, name: bytes, data: bytes) -> Any:
        """Read what the fast reader refused."""
        bare = data.strip()
        if bare == b"[DONE]":
            if self.finish_reason is None:
                self._check_stray()
            self.done = True
        if bare in {b"", b"[DONE]"}:
            return None
        try:
            return parse_lenient(data)
        except ValueError as error:
            if name == b"error":  # plain text
                return data.decode("utf-8", "replace")
            # Where the body ends with the connection, a killed server leaves part of an event.
            if self._decoder.unterminated and (data.startswith(b"{") or b"[DONE]".startswith(data)):
                self._decoder.keep_stray(data)
                return None
            raise self._protocol_error("JSON in every event", shown(data)) from error

    def _chunk(self, event: Json, odd: bool) -> Chunk | None:  # noqa: FBT001 - once per token
        """Add an event to the totals; return the chunk it makes, if it makes one."""
        if self.model is None or self.id is None:
            self.model = self.model or string(event.get("model"))
            self.id = self.id or string(event.get("id"))
        usage = None
        if event.get("usage") or "x_groq" in event:
            usage = parse_usage(event)
            self.usage = usage or self.usage
        choice = first_choice(event.get("choices"))
        if choice is None:
            return None
        delta = choice.get("delta")
        if type(delta) is dict and len(delta) == 1 and not choice.get("finish_reason") and "message" not in choice:
            text = delta.get("content")
            if type(text) is str:  # what nearly every event is: a piece of text, and nothing else
                text = self._text.add(text, odd)
                return Chunk(text, "", (), None, usage, event) if text else None
        return self._unusual_chunk(choice, usage, event, odd)

    def _unusual_chunk(self, choice: Json, usage: Usage | None, event: Json, odd: bool) -> Chunk | None:  # noqa: FBT001
        delta = choice.get("delta")
        if type(delta) is not dict:
            delta = {}
        text, reasoning, refusal, sent_calls = parts_of(delta)
        message = choice.get("message")
        if type(message) is dict and not (text or reasoning or refusal or sent_calls or self._has_content()):
            # A whole message instead of deltas. One that repeats them at the end is not counted twice.
            text, reasoning, refusal, sent_calls = parts_of(message)
        text = self._text.add(text, odd) if text else ""
        reasoning = self._reasoning.add(reasoning, odd) if reasoning else ""
        refusal = self._refusal.add(refusal, odd) if refusal else ""
        calls = self._calls.add(sent_calls, odd) if sent_calls else ()
        finish_reason = choice.get("finish_reason")
        if finish_reason:
            finish_reason = self._finish(finish_reason, choice, event)
        if not (text or reasoning or refusal or calls or finish_reason or delta.get("annotations")):
            return None
        return Chunk(text, reasoning, calls, finish_reason, usage, event)

    def _has_content(self) -> bool:
        return bool(self._text or self._reasoning or self._refusal or self._calls)

    def _finish(self, sent: object, choice: Json, event: Json) -> str | None:
        reason = string(sent)
        if reason == "error":
            self._failure = self._failure or server_error(choice.get("error") or "finish reason 'error'", event)
        if reason in (None, "null", "error"):
            return None
        self.finish_reason = reason
        return reason

    def _rest(self) -> Chunk | None:
        """Return what the end of the body, or of the answer, makes available."""
        if self._ended and not self.done and not self._decoder.is_stream:
            return self._whole_body()
        if self._ended or self.done:
            text, reasoning, refusal = self._text.flush(), self._reasoning.flush(), self._refusal.flush()
            calls = self._calls.flush()
            if text or reasoning or refusal or calls:
                return Chunk(text, reasoning, calls)
        return None

    def _whole_body(self) -> Chunk | None:
        """Read a body that is one JSON object: a completion that was not streamed, or an error."""
        event = parse_object(self._decoder.stray)
        if event is None:
            return None
        choice = first_choice(event.get("choices"))
        named = choice is None and any(name in event for name in ("message", "detail", "msg"))
        self._failure = find_error(event, named=named)
        self.done = self._failure is None and choice is not None and isinstance(choice.get("message"), dict)
        return self._chunk(event, odd=True) if self.done else None

    def _check_stray(self) -> bytes:
        """Return the line outside of the events; a failure if it is an error object that lacks only its ``data:``."""
        stray = self._decoder.stray
        event = parse_object(stray)
        self._failure = find_error(event, named=False) if event else None
        return stray

    def _protocol_error(self, expected: str, came: str) -> StreamProtocolError:
        head = self.head
        error = StreamProtocolError(
            f"Expected {expected}, got {came} (status {head.status}, content type {head.content_type[:200]!r}). Check"
            f" that the base_url {without_secrets(head.base_url)!r} is the API's: it usually ends in /v1."
        )
        error.status, error.content_type, error.body = head.status, head.content_type, self._prefix
        return error
