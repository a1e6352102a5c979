"""Bytes of an answer to chunks and totals: pure. No socket, no thread, no clock; `StreamError` is all that escapes.

The rules that hold everywhere:

- One event is parsed at a time, when the next chunk is asked for: the totals hold what was handed out, nothing more.
- A chunk is made for every event that holds anything; what is not understood is merged into `Reply.extra`.
- Every text that is handed out can be encoded: surrogates are joined across events, or replaced.
- An event is added to the totals as a whole, at one point in time, and not after `freeze`.
"""

from __future__ import annotations

import sys
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from blades._errors import StreamProtocolError, StreamTruncated
from blades._values import Chunk, Reply, ResponseInfo, ToolCall, Usage
from blades._wire.accumulate import PIECES_LIMIT, FieldAccumulator, TextAccumulator
from blades._wire.deltas import (
    Delta,
    Json,
    fast_parser,
    first_choice,
    parse_delta,
    parse_lenient,
    parse_object,
    parse_usage,
    string,
)
from blades._wire.repetition import Repetition
from blades._wire.server_errors import find_error, preview, server_error, without_secrets
from blades._wire.sse import BYTE_ORDER_MARK, DONE, EVENT_LIMIT_BYTES, EventDecoder, EventTooLongError
from blades._wire.tool_calls import PreparedPart, ToolCallAccumulator

if TYPE_CHECKING:
    from blades._errors import StreamError

HAS_GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
PREFIX_BYTES: Final = 200  # of the body, kept for errors
_A_STREAM: Final = "a stream of chat completion chunks"
# Types of events of the Responses API and of Anthropic's own API; Gemini's events have candidates.
_FOREIGN_TYPES: Final = ("response.", "message_", "content_block_")


@final
class _Step(NamedTuple):
    """What one event changes. The last six are the totals after it."""

    serial: int
    text: str
    reasoning: str
    refusal: str
    parts: list[PreparedPart]
    reasoning_fields: Json
    extra: Json
    chunks: int
    finish_reason: str | None
    usage: Usage | None
    model: str | None
    id: str | None


@final
class CompletionDecoder:
    """The state of one stream. One thread feeds it and takes chunks; any thread reads the totals at any time.

    Attributes:
        done: ``[DONE]`` was seen, or a whole completion instead of a stream: no further chunk is to be expected.
        chunks: How many chunks were handed out.
        finish_reason: The last one; None if there was none.
        usage: The last one; None if there was none.
        model: The first name of the model.
        id: The first identifier.
    """

    def __init__(self, *, limit_bytes: int = EVENT_LIMIT_BYTES) -> None:
        self.done = False
        self.chunks = 0
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.model: str | None = None
        self.id: str | None = None
        self._info = ResponseInfo()
        self._events = EventDecoder(limit_bytes=limit_bytes)
        self._parse_json = fast_parser()
        self._repetition = Repetition()
        self._prefix = b""
        self._first_event = b""
        self._saw_choices = False
        self._ended = False
        self._failure: StreamError | None = None  # to be raised when the chunk of its event was handed out
        self._failed = False
        self._text = TextAccumulator()
        self._reasoning = TextAccumulator()
        self._refusal = TextAccumulator()
        self._calls = ToolCallAccumulator()
        self._reasoning_fields = FieldAccumulator()
        self._extra = FieldAccumulator()
        self._lock = RLock()  # guards the totals against `freeze`
        self._append_lock = None if HAS_GIL else self._lock  # the GIL is lock enough for one append
        self._frozen = False
        self._serial = 0
        self._step: _Step | None = None  # being added to the totals

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
    def extra(self) -> Json:
        """The fields that were not understood, merged: a new dict."""
        return self._extra.get()

    @property
    def finished(self) -> bool:
        """Whether the answer is known to be whole, so that a cut or a time limit would not matter any more."""
        known = self.finish_reason is not None or (self.done and self._ended)
        return known and self._failure is None and not self._failed

    @property
    def needs_end(self) -> bool:
        """Whether ``[DONE]`` has come without a finish reason: whether the body ends properly decides (see `end`)."""
        return self.done and self.finish_reason is None and not self._ended

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
            extra=self.extra,
            reasoning_fields=self._reasoning_fields.get(),
        )

    def start(self, info: ResponseInfo) -> None:
        """Set what the errors report of the response. To be called when its headers have come."""
        self._info = info

    def feed(self, data: bytes) -> None:
        """Add bytes of the body, cut anywhere. What follows ``[DONE]`` is dropped."""
        if self.done:
            return
        if len(self._prefix) < PREFIX_BYTES:
            self._prefix = (self._prefix + data)[:PREFIX_BYTES]
        self._events.feed(data)

    def end(self) -> None:
        """Mark the proper end of the body: what was waiting for more becomes available to `next_chunk`."""
        self._ended = True
        self._events.end()

    def freeze(self) -> None:
        """End the stream where it is: no total changes any more, and `next_chunk` returns None.

        Can be called from any thread and from a signal handler, whatever the thread that reads is doing.
        """
        with self._lock:
            self._frozen = True
            self._add_step()  # if this thread was adding one when the signal came

    def next_chunk(self) -> Chunk | None:
        """Return the next chunk; None if that takes more bytes, or nothing is to come.

        Raises:
            StreamServerError: The server sent an error. No further chunk comes after a failure.
            StreamProtocolError: The body cannot be read as a stream of chat completion chunks.
        """
        while not self._frozen:
            if self._failure is not None:
                raise self._take_failure()
            try:
                event = None if self.done else self._events.next_event()
                chunk = self._read_rest() if event is None else self._read(*event)
            except EventTooLongError:
                self._failure = self._protocol_error("events of at most 16 MiB", "a longer one")
            else:
                if chunk is not None or (event is None and self._failure is None):
                    return chunk
        return None

    def check_complete(self, *, require_finish: bool) -> None:
        """Return if the answer counts as whole. To be called when `next_chunk` returned None and nothing is to come.

        Args:
            require_finish: Whether an answer needs a finish reason, or ``[DONE]`` after some content.

        Raises:
            StreamTruncated: The body ended, but not the answer.
            StreamServerError: The same, and the last thing not understood is an error object.
            StreamProtocolError: The body is no stream.
        """
        if self.finish_reason is not None or (self.done and not self._events.is_stream):
            return
        stray = self._check_stray()
        if self._failure is not None:
            raise self._take_failure()
        self._check_stream(stray)
        if not require_finish or (self.done and self.chunks and not stray):
            return
        missing = "a finish reason" if self.done else "a finish reason or [DONE]"
        got = "[DONE]" if self.done else "the end of the body"
        last = f"; the last thing not understood was {preview(stray)}" if stray else ""
        raise StreamTruncated(
            f"expected {missing}, got {got} after {self.chunks} chunks{last}: ask again, or pass require_finish=False"
            " if this server never sends one"
        )

    def _check_stream(self, stray: bytes) -> None:
        """Raise if the body is not a stream of chat completion chunks."""
        if not self._events.is_stream:
            if not stray and not self._prefix.removeprefix(BYTE_ORDER_MARK).strip():
                raise self._protocol_error(_A_STREAM, "an empty body")
            declared = self._info.content_type.lower().startswith("text/event-stream")
            if stray and (not declared or stray.lstrip().startswith((b"<", b"{", b"["))):
                raise self._protocol_error(_A_STREAM, preview(self._prefix))
        if self._first_event and not self._saw_choices:
            raise self._protocol_error(_A_STREAM, preview(self._first_event))

    def _read(self, name: bytes, data: bytes) -> Chunk | None:
        """Read one event; return the chunk it makes, if it makes one."""
        may_have_surrogates = False
        try:
            event = self._parse_json(data)
        except ValueError:
            event, may_have_surrogates = self._parse_fallback(name, data), True
        if type(event) is dict:
            if self.id is not None and self.model is not None and not name:
                text = self._repetition.only_text(event)
                if text is not None:  # what nearly every event is: a piece of text, and nothing else
                    return self._add_text(text, may_have_surrogates, event)
        else:
            if name == b"error":
                self._failure = server_error(event, {})
            elif event is not None:
                self._events.keep_stray(data)
            return None
        if name == b"ping" or event.get("type") == "ping":
            if len(event) > 1:
                self._events.keep_stray(data)
            return None
        return self._read_object(name, data, event, may_have_surrogates)

    def _read_object(self, name: bytes, data: bytes, event: Json, may_have_surrogates: bool) -> Chunk | None:  # noqa: FBT001
        self._saw_choices = self._saw_choices or "choices" in event
        self._first_event = self._first_event or data[: 4 * PREFIX_BYTES + 4]
        choice = first_choice(event.get("choices"))
        self._failure = find_error(event, named=name == b"error")
        delta = Delta() if choice is None else parse_delta(choice, message=not self._has_content())
        if choice is not None and choice.get("finish_reason") == "error":
            self._failure = self._failure or server_error(choice.get("error") or "finish reason 'error'", event)
        if self._failure is None and not self._saw_choices and _is_foreign(event):
            self._failure = self._protocol_error(_A_STREAM, preview(data))
        if self._failure is not None and choice is None:
            return None
        return self._add(event, choice, delta, may_have_surrogates)

    def _parse_fallback(self, name: bytes, data: bytes) -> Any:
        """Read what the fast parser refused; None if nothing is in it."""
        bare = data.strip()
        if bare == DONE:
            if self.finish_reason is None:
                self._check_stray()
            self.done = True
        if bare in {b"", DONE}:
            return None
        try:
            return parse_lenient(data)
        except ValueError as error:
            if name == b"error":  # plain text
                return data.decode("utf-8", "replace")
            # Where the body ends with the connection, a killed server leaves part of an event. Text that does not look
            # like JSON is a keep-alive of some proxies.
            if self._events.unterminated or not bare.startswith((b"{", b"[")):
                self._events.keep_stray(data)
                return None
            self._failure = self._protocol_error("JSON in every event", preview(data))
            self._failure.__cause__ = error
            return None

    def _add_text(self, text: str, may_have_surrogates: bool, event: Json) -> Chunk | None:  # noqa: FBT001
        """Add an event that is a piece of text, and nothing else."""
        accumulator = self._text
        if may_have_surrogates or accumulator.pending_surrogate:
            text = accumulator.prepare(text, may_have_surrogates)
        if not text:
            return None
        pieces, lock = accumulator.pieces, self._append_lock
        if lock is not None:
            lock.acquire()
        try:
            if self._frozen:
                return None
            # No call from the check to the end of the append: see `accumulate`.
            self.chunks += 1
            pieces.append(text)
        finally:
            if lock is not None:
                lock.release()
        if len(pieces) > PIECES_LIMIT:
            accumulator.get()
        return Chunk(text, "", (), None, None, event)

    def _add(self, event: Json, choice: Json | None, delta: Delta, may_have_surrogates: bool) -> Chunk | None:  # noqa: FBT001
        """Add an event to the totals; return the chunk it makes, if it makes one."""
        event_fields, choice_fields = self._repetition.new_fields(event, choice)
        if delta.text and choice_fields.get("text") == delta.text:
            del choice_fields["text"]  # Together repeats the text for clients of the older completions API
        text = self._text.prepare(delta.text, may_have_surrogates) if delta.text else ""
        reasoning = self._reasoning.prepare(delta.reasoning, may_have_surrogates) if delta.reasoning else ""
        refusal = self._refusal.prepare(delta.refusal, may_have_surrogates) if delta.refusal else ""
        parts: list[PreparedPart] = []
        for part in self._calls.prepare(delta.tool_calls, may_have_surrogates) if delta.tool_calls else ():
            if self._frozen:
                return None
            if part is not None:
                parts.append(part)
        finish_reason = None if delta.finish_reason == "error" else delta.finish_reason
        usage = parse_usage(event, choice)
        # Beside a choice, only what is more than a text or a number is content: servers put their names there.
        content = event_fields and (choice is None or any(map(_is_compound, event_fields.values())))
        more = delta.extra or delta.reasoning_fields or choice_fields or content
        holds = text or reasoning or refusal or parts or finish_reason or more
        step = _Step(
            self._serial,
            text,
            reasoning,
            refusal,
            parts,
            delta.reasoning_fields,
            {**event_fields, **choice_fields, **delta.extra} if choice_fields or delta.extra else event_fields,
            self.chunks + bool(holds),
            finish_reason or self.finish_reason,
            usage or self.usage,
            self.model or string(event.get("model")),
            self.id or string(event.get("id")),
        )
        if not self._commit(step) or not holds:
            return None
        shown = tuple([part.part for part in parts]) if parts else ()
        return Chunk(text, reasoning, shown, finish_reason, usage, event)

    def _commit(self, step: _Step) -> bool:
        """Add a step to the totals; False if they are frozen."""
        self._serial += 1
        with self._lock:
            if self._frozen:
                return False
            self._step = step  # No call from the check to here: whoever freezes from now on adds the rest of the step.
            self._add_step()
        return True

    def _add_step(self) -> None:
        """Add the current step, or what is left of it. The lock must be held."""
        step = self._step
        if step is None:
            return
        self.chunks, self.finish_reason, self.usage = step.chunks, step.finish_reason, step.usage
        self.model, self.id = step.model, step.id
        if step.text:
            self._text.append_once(step.serial, step.text)
        if step.reasoning:
            self._reasoning.append_once(step.serial, step.reasoning)
        if step.refusal:
            self._refusal.append_once(step.serial, step.refusal)
        if step.parts:
            self._calls.commit(step.parts)
        if step.reasoning_fields:
            self._reasoning_fields.append_once(step.serial, step.reasoning_fields)
        if step.extra:
            self._extra.append_once(step.serial, step.extra)
        self._step = None

    def _has_content(self) -> bool:
        return bool(self._text or self._reasoning or self._refusal or self._calls)

    def _read_rest(self) -> Chunk | None:
        """Return what the end of the body, or of the answer, makes available."""
        if self._ended and not self.done and not self._events.is_stream:
            return self._read_whole_body()
        if not (self._ended or self.done):
            return None
        text, reasoning, refusal = self._text.flush(), self._reasoning.flush(), self._refusal.flush()
        parts = self._calls.flush()
        if not (text or reasoning or refusal or parts):
            return None
        totals = (self.chunks + 1, self.finish_reason, self.usage, self.model, self.id)
        step = _Step(self._serial, text, reasoning, refusal, parts, {}, {}, *totals)
        shown = tuple([part.part for part in parts])
        return Chunk(text, reasoning, shown) if self._commit(step) else None

    def _read_whole_body(self) -> Chunk | None:
        """Read a body that is one JSON object: a completion that was not streamed, or an error."""
        event = parse_object(self._events.stray)
        if event is None:
            return None
        choice = first_choice(event.get("choices"))
        named = choice is None and any(name in event for name in ("message", "detail", "msg"))
        self._failure = find_error(event, named=named)
        self.done = self._failure is None and choice is not None and isinstance(choice.get("message"), dict)
        return self._add(event, choice, parse_delta(choice), True) if self.done and choice else None

    def _check_stray(self) -> bytes:
        """Return the last thing not understood; a failure if it is an error object that lacks only its ``data:``."""
        stray = self._events.stray
        event = parse_object(stray)
        self._failure = find_error(event, named=False) if event else None
        return stray

    def _take_failure(self) -> StreamError:
        """Return the failure, to be raised. It is not kept: its traceback would keep this object."""
        failure, self._failure, self._failed, self._frozen = self._failure, None, True, True
        assert failure is not None  # noqa: S101
        return failure

    def _protocol_error(self, expected: str, got: str) -> StreamProtocolError:
        info = self._info
        hint = ""
        if not self._saw_choices:
            hint = _base_url_hint(info.base_url, empty=not self._prefix)
        return StreamProtocolError(
            f"expected {expected}, got {got} (status {info.status}, content type {info.content_type[:200]!r}){hint}",
            status=info.status,
            content_type=info.content_type,
            body=self._prefix,
        )


def _is_compound(value: object) -> bool:
    return isinstance(value, list | dict)


def _is_foreign(event: Json) -> bool:
    """Return whether an event is one of another API."""
    type_ = event.get("type")
    return "candidates" in event or (isinstance(type_, str) and type_.startswith(_FOREIGN_TYPES))


def _base_url_hint(base_url: str, *, empty: bool) -> str:
    """Return what may be wrong with the base URL, if anything."""
    url = without_secrets(base_url)
    if not url.rstrip("/").endswith("/v1"):
        return f": check that the base_url {url!r} is the API's: it usually ends in /v1"
    return "" if empty else f": check that the base_url {url!r} is that of a chat completions API"
