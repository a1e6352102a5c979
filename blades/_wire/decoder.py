"""Bytes of an answer to chunks and totals: pure. No socket, no thread, no clock; `StreamError` is all that escapes.

The rules that hold everywhere:

- One event is parsed at a time, when the next chunk is asked for: the totals hold what was returned, nothing more.
- A chunk is made for every event that holds anything; what is not understood is merged into `Reply.extra`.
- Every text that is returned can be encoded: surrogates are joined across events, or replaced.
- An event is added to the totals as a whole, at one point in time, and not after `freeze`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from blades._errors import StreamTruncated
from blades._values import Chunk, ResponseInfo
from blades._wire.deltas import (
    Delta,
    Json,
    fast_parser,
    first_choice,
    parse_delta,
    parse_lenient,
    parse_object,
    parse_usage,
)
from blades._wire.protocol_errors import A_STREAM, is_foreign, protocol_error
from blades._wire.repetition import Repetition
from blades._wire.server_errors import find_error, preview, server_error
from blades._wire.sse import BYTE_ORDER_MARK, DONE, EVENT_LIMIT_BYTES, EventDecoder, EventTooLongError, single_event
from blades._wire.totals import Totals

if TYPE_CHECKING:
    from blades._errors import StreamError, StreamProtocolError

PREFIX_BYTES: Final = 200  # of the body, kept for errors


@final
class CompletionDecoder(Totals):
    """The state of one stream. One thread feeds it and takes chunks; any thread reads the totals at any time.

    Attributes:
        done: ``[DONE]`` was seen, or a whole completion instead of a stream: no further chunk is to be expected.
        between_events: Nothing is left of what was fed: the next chunk takes more bytes.
    """

    __slots__ = (
        "_ended",
        "_events",
        "_failed",
        "_failure",
        "_first_event",
        "_info",
        "_limit_bytes",
        "_parse_json",
        "_prefix",
        "_repetition",
        "_saw_choices",
        "between_events",
        "done",
    )

    def __init__(self, *, limit_bytes: int = EVENT_LIMIT_BYTES) -> None:
        super().__init__()
        self.done = False
        self._info = ResponseInfo()
        self._limit_bytes = limit_bytes
        self._events = EventDecoder(limit_bytes=limit_bytes)
        self._parse_json = fast_parser()
        self._repetition = Repetition()
        self._prefix = b""
        self._first_event = b""
        self._saw_choices = False
        self._ended = False
        self._failure: StreamError | None = None  # to be raised when the chunk of its event was returned
        self._failed = False
        self.between_events = False

    @property
    def finished(self) -> bool:
        """Whether the answer is known to be whole, so that a cut or a time limit would not matter any more."""
        known = self.finish_reason is not None or (self.done and self._ended)
        return known and self._failure is None and not self._failed

    @property
    def needs_end(self) -> bool:
        """Whether ``[DONE]`` came without a finish reason: then the answer counts only if the body ends properly."""
        return self.done and self.finish_reason is None and not self._ended

    def start(self, info: ResponseInfo) -> None:
        """Set what the errors report of the response. Called when its headers have arrived."""
        self._info = info

    def feed(self, data: bytes) -> None:
        """Add bytes of the body, cut anywhere. What follows ``[DONE]`` is dropped."""
        if self.done:
            return
        self.between_events = False
        if len(self._prefix) < PREFIX_BYTES:
            self._prefix = (self._prefix + data)[:PREFIX_BYTES]
        self._events.feed(data)

    def end(self) -> None:
        """Mark the proper end of the body: what was waiting for more becomes available to `next_chunk`."""
        self.between_events = False
        self._ended = True
        self._events.end()

    def next_chunk(self, data: bytes = b"") -> Chunk | None:
        """Add bytes, as `feed` does, and return the next chunk; None if that takes more, or nothing is to come.

        Raises:
            StreamServerError: The server sent an error. No further chunk comes after a failure.
            StreamProtocolError: The body cannot be read as a stream of chat completion chunks.
        """
        single = single_event(data, self._limit_bytes) if data and self.between_events else None
        if single is not None:
            chunk = self._read(b"", single)
            self.between_events = self._failure is None
            if chunk is not None:
                return chunk
        elif data:
            self.feed(data)
        return None if self.between_events else self._next_queued()

    def _next_queued(self) -> Chunk | None:
        """Return the next chunk of what was fed."""
        while not (self.frozen or self._failed):
            if self._failure is not None:
                raise self._take_failure()
            try:
                event = None if self.done else self._events.next_event()
                chunk = self._read_rest() if event is None else self._read(event[0], event[1])
            except EventTooLongError:
                self._failure = self._protocol_error("events of at most 16 MiB", "a longer one")
            else:
                if chunk is not None:
                    return chunk
                if event is None and self._failure is None:
                    may_go_on = not (self._ended or self.done) and len(self._prefix) == PREFIX_BYTES
                    self.between_events = may_go_on and self._events.between_events
                    return None
        return None

    def check_complete(self, *, require_finish: bool) -> None:
        """Return if the answer counts as whole, else raise. Called when `next_chunk` returned None for the last time.

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
                raise self._protocol_error(A_STREAM, "an empty body")
            declared = self._info.content_type.lower().startswith("text/event-stream")
            if stray and (not declared or stray.lstrip().startswith((b"<", b"{", b"["))):
                raise self._protocol_error(A_STREAM, preview(self._prefix))
        if self._first_event and not self._saw_choices:
            raise self._protocol_error(A_STREAM, preview(self._first_event))

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

    def _read_object(self, name: bytes, data: bytes, event: Json, may_have_surrogates: bool) -> Chunk | None:
        self._saw_choices = self._saw_choices or "choices" in event
        self._first_event = self._first_event or data[: 4 * PREFIX_BYTES + 4]
        choice = first_choice(event.get("choices"))
        self._failure = find_error(event, named=name == b"error")
        delta = Delta() if choice is None else parse_delta(choice, message=not self._has_content)
        if choice is not None and self._failure is None:
            error = choice.get("error") or (choice.get("finish_reason") == "error" and "finish reason 'error'")
            self._failure = server_error(error, event) if error else None
        if self._failure is None and not self._saw_choices and is_foreign(event):
            self._failure = self._protocol_error(A_STREAM, preview(data))
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

    def _add(self, event: Json, choice: Json | None, delta: Delta, may_have_surrogates: bool) -> Chunk | None:
        """Add an event to the totals; return the chunk it makes, if it makes one."""
        event_fields, choice_fields = self._repetition.new_fields(event, choice)
        if delta.text and choice_fields.get("text") == delta.text:
            del choice_fields["text"]  # Together repeats the text for clients of the older completions API
        # Beside a choice, only what is more than a text or a number is content: servers put their names there.
        more = event_fields and any(choice is None or isinstance(each, list | dict) for each in event_fields.values())
        return self._add_event(
            event,
            delta,
            {**event_fields, **choice_fields, **delta.extra} if choice_fields or delta.extra else event_fields,
            parse_usage(event, choice),
            content=bool(choice_fields or delta.extra or more),
            may_have_surrogates=may_have_surrogates,
        )

    def _read_rest(self) -> Chunk | None:
        """Return what the end of the body, or of the answer, makes available."""
        if self._ended and not self.done and not self._events.is_stream:
            return self._read_whole_body()
        if not (self._ended or self.done):
            return None
        return self._flush()

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
        failure, self._failure, self._failed = self._failure, None, True
        assert failure is not None
        return failure

    def _protocol_error(self, expected: str, got: str) -> StreamProtocolError:
        return protocol_error(expected, got, self._info, self._prefix, hint=not self._saw_choices)
