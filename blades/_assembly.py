"""Bytes of an answer to chunks and totals: pure. No socket, no thread, no clock; `StreamError` is all that escapes.

The rules that hold everywhere:

- One event is parsed at a time, when the next chunk is asked for: the totals hold what was handed out, nothing more.
- What is not of the expected type counts as not sent; it stays in `Chunk.raw`.
- Every text that is handed out can be encoded: surrogates are joined across events, or replaced.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, final

from blades._errors import StreamError, StreamProtocolError, StreamTruncated
from blades._json import (
    SHOWN,
    Json,
    arguments_of,
    clean,
    error_in,
    fast_reader,
    first_choice,
    number,
    object_in,
    parts_of,
    read_slowly,
    server_error,
    shown,
    string,
    usage_of,
    without_secrets,
)
from blades._sse import BYTE_ORDER_MARK, EVENT_LIMIT_BYTES, Decoder, EventTooLongError
from blades._values import Chunk, Head, Reply, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Assembly", "Chunk", "Head", "Reply", "ToolCall", "Usage"]

A_STREAM = "a stream of chat completion chunks"
REPLACEMENT = "\ufffd"
PIECES_LIMIT = 512


@final
class Assembly:
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
        self.head = Head()
        self.done = False
        self.chunks = 0
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.model: str | None = None
        self.id: str | None = None
        self._decoder = Decoder(limit_bytes=limit_bytes)
        self._read_json = fast_reader()
        self._prefix = b""
        self._ended = False
        self._failure: StreamError | None = None
        self._text = Text()
        self._reasoning = Text()
        self._refusal = Text()
        self._calls = Calls()
        self._halves: dict[Hashable, str] = {}  # channel -> the first half of a surrogate pair

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
        return self.done or self.finish_reason is not None

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
        if len(self._prefix) < SHOWN:
            self._prefix += data[: SHOWN - len(self._prefix)]
        self._decoder.feed(data)

    def end(self) -> None:
        """Say that the body ended properly: what was waiting for more becomes available to `next_chunk`."""
        self._ended = True
        self._decoder.end()

    def next_chunk(self) -> Chunk | None:
        """Return the next chunk; None if that takes more bytes, or nothing is to come.

        Raises:
            StreamServerError: The server sent an error. Raised again if asked again, like every failure.
            StreamProtocolError: What came cannot be read as a stream of chat completion chunks.
        """
        try:
            while True:
                if self._failure is not None:
                    raise self._failure
                event = None if self.done else self._decoder.next_event()
                chunk = self._rest() if event is None else self._read(*event)
                if chunk is not None:
                    self.chunks += 1
                    return chunk
                if event is None:
                    return None
        except EventTooLongError:
            self._failure = self._protocol_error("an event or a body of at most 16 MiB", "a longer one")
            raise self._failure from None
        except StreamError as error:
            self._failure = error
            raise

    def verdict(self, *, require_finish: bool) -> None:
        """Return if the answer counts as whole. To be called after `end`, when `next_chunk` returned None.

        Args:
            require_finish: Whether an answer without finish reason and without ``[DONE]`` counts as cut short.

        Raises:
            StreamTruncated: The body ended, but not the answer.
            StreamServerError: The same, and the last line, in no event, is an error object.
            StreamProtocolError: The body is no stream.
        """
        if self.finished:
            return
        stray = self._decoder.stray
        self._check_stray(stray)
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
            if data.strip() == b"[DONE]":
                if self.finish_reason is None:
                    self._check_stray(self._decoder.stray)
                self.done = True
                return None
            event, odd = self._read_oddity(name, data), True
        if type(event) is not dict:
            if name == b"error":
                raise server_error(event, {})
            return None  # null, a list, a text
        if name or "error" in event or "choices" not in event:
            self._failure = error_in(event, named=name == b"error")
        return self._chunk(event, odd=odd)

    def _read_oddity(self, name: bytes, data: bytes) -> Any:
        try:
            return read_slowly(data)
        except ValueError as error:
            if name == b"error":  # plain text
                return data.decode("utf-8", "replace")
            raise self._protocol_error("JSON in each event", shown(data)) from error

    def _chunk(self, event: Json, *, odd: bool) -> Chunk | None:
        if self.id is None or self.model is None:
            self.id = self.id or string(event.get("id"))
            self.model = self.model or string(event.get("model"))
        usage = None
        if event.get("usage") or "x_groq" in event:
            usage = usage_of(event)
            self.usage = usage or self.usage
        choice = first_choice(event.get("choices"))
        return None if choice is None else self._choice_chunk(choice, usage, event, odd=odd)

    def _choice_chunk(self, choice: Json, usage: Usage | None, event: Json, *, odd: bool) -> Chunk | None:
        """Make the chunk, and add it to the totals."""
        delta = choice.get("delta")
        if type(delta) is not dict:
            delta = {}
        text, reasoning, refusal, calls = parts_of(delta)
        if "message" in choice and not (text or reasoning or refusal or calls):
            text, reasoning, refusal, calls = self._whole_message(choice["message"])
        if odd or self._halves:
            text, reasoning, refusal = map(self._join, ("text", "reasoning", "refusal"), (text, reasoning, refusal))
        parts = self._calls.add(calls, self._join) if calls else ()
        finish_reason = choice.get("finish_reason")
        if finish_reason:
            finish_reason = self._finish(finish_reason, choice, event)
        if not (text or reasoning or parts or finish_reason or refusal or delta.get("annotations")):
            return None
        if text:
            self._text.add(text)
        if reasoning:
            self._reasoning.add(reasoning)
        if refusal:
            self._refusal.add(refusal)
        return Chunk(text, reasoning, parts, finish_reason, usage, event)

    def _whole_message(self, message: object) -> tuple[str, str, str, list[Any]]:
        """Read a message that came instead of deltas; one that repeats them is not counted twice."""
        if not isinstance(message, dict) or self._text or self._reasoning or self._refusal or self._calls:
            return "", "", "", []
        return parts_of(message)

    def _finish(self, reason: object, choice: Json, event: Json) -> str | None:
        reason = string(reason)
        if reason == "error":
            if self._failure is None:
                message = "the answer ended with the finish reason 'error'"
                self._failure = server_error(choice.get("error") or message, event)
            return None
        if reason is None or reason == "null":
            return None
        self.finish_reason = reason
        return reason

    def _join(self, channel: Hashable, text: str) -> str:
        """Hold back the first half of a surrogate pair at the end of a text until the next text of its channel."""
        text = self._halves.pop(channel, "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            self._halves[channel] = text[-1]
            text = text[:-1]
        return clean(text)

    def _flush(self) -> Chunk:
        """Make a chunk of the halves that stayed alone."""
        halves, self._halves = self._halves, {}
        text, reasoning, refusal = (REPLACEMENT * (name in halves) for name in ("text", "reasoning", "refusal"))
        for total, piece in (self._text, text), (self._reasoning, reasoning), (self._refusal, refusal):
            if piece:
                total.add(piece)
        return Chunk(text, reasoning, self._calls.flush(halves))

    def _rest(self) -> Chunk | None:
        """Return what the end of the body, or of the answer, makes available."""
        if self._halves and (self._ended or self.done):
            return self._flush()
        if self._ended and not self.done and not self._decoder.is_stream:
            return self._whole_body()
        return None

    def _whole_body(self) -> Chunk | None:
        """Read a body that is one JSON object: a completion that was not streamed, or an error."""
        event = object_in(self._decoder.stray)
        if event is None:
            return None
        choice = first_choice(event.get("choices"))
        error = error_in(event, named=choice is None and any(name in event for name in ("message", "detail", "msg")))
        if error is not None:
            raise error
        self.done = choice is not None and isinstance(choice.get("message"), dict)
        return self._chunk(event, odd=True) if self.done else None

    def _check_stray(self, stray: bytes) -> None:
        """Raise if a line in no event is an error object: a server that fails does not always keep to the format."""
        event = object_in(stray)
        error = event and error_in(event, named=False)
        if error:
            raise error

    def _protocol_error(self, expected: str, came: str) -> StreamProtocolError:
        head = self.head
        error = StreamProtocolError(
            f"Expected {expected}, got {came} (status {head.status}, content type {head.content_type[:SHOWN]!r}). Check"
            f" that base_url {without_secrets(head.base_url)!r} is the API's: it usually ends in /v1."
        )
        error.status, error.content_type, error.body = head.status, head.content_type, self._prefix
        return error


@final
class Text:
    """A text that grows: kept as pieces, joined on demand. One thread adds, any thread reads.

    Reading after each piece stays linear: CPython appends in place to a string that nothing else refers to. That is why
    the string is taken off its attribute first. Nothing between there and the end of the block is a call, so that no
    signal (Ctrl-C) and no other thread comes in between; other readers wait for the lock. It is re-entrant because a
    signal handler may read, too.
    """

    __slots__ = ("_joined", "_lock", "_pieces")

    def __init__(self) -> None:
        self._joined = ""
        self._pieces: list[str] = []
        self._lock = RLock()

    def __bool__(self) -> bool:
        return bool(self._joined or self._pieces)

    def add(self, piece: str) -> None:
        """Append; many small strings are joined now and then, for the memory they take."""
        self._pieces.append(piece)
        if len(self._pieces) > PIECES_LIMIT:
            self.get()

    def get(self) -> str:
        """Return the whole text."""
        with self._lock:
            pieces = self._pieces
            number_of_pieces = len(pieces)
            if number_of_pieces:
                new = "".join(pieces[:number_of_pieces])
                joined = self._joined
                self._joined = ""
                joined += new
                self._joined = joined
                del pieces[:number_of_pieces]
            return self._joined


@final
class Call:
    """One tool call while it is assembled."""

    __slots__ = ("arguments", "id", "index", "name", "type")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.arguments = Text()
        self.type = "function"


@final
class Calls:
    """The tool calls of an answer, from their parts."""

    __slots__ = ("_by_index", "_calls")

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._by_index: dict[int, Call] = {}  # the server's index -> the call that its parts go to now

    def __bool__(self) -> bool:
        return bool(self._calls)

    def get(self) -> tuple[ToolCall, ...]:
        """Return the calls as far as they came."""
        calls = sorted(self._calls, key=lambda call: call.index)
        return tuple(ToolCall(call.index, call.id, call.name, call.arguments.get(), call.type) for call in calls)

    def add(self, parts: list[Any], join: Callable[[Hashable, str], str]) -> tuple[ToolCall, ...]:
        """Add the parts in one event, and return those that bring something."""
        return tuple(part for sent in parts if isinstance(sent, dict) and (part := self._add(sent, join)) is not None)

    def _add(self, sent: Json, join: Callable[[Hashable, str], str]) -> ToolCall | None:
        function = sent.get("function")
        if not isinstance(function, dict):
            function = {}
        id_, name = string(sent.get("id")) or "", string(function.get("name")) or ""
        arguments = arguments_of(function.get("arguments"))
        if not (id_ or name or arguments):
            return None
        call = self._find(number(sent.get("index")), id_, name)
        call.id = call.id or id_
        if call.name != name:  # some servers repeat the name in each part
            call.name += name
        call.type = string(sent.get("type")) or call.type
        arguments = join(call, arguments)
        call.arguments.add(arguments)
        return ToolCall(call.index, id_, name, arguments, call.type)

    def _find(self, index: int | None, id_: str, name: str) -> Call:
        """Find the call a part belongs to. Without an index, an id or a name begins a call, unless the id is known."""
        if index is not None:
            call = self._by_index.get(index)
            # Gemini numbers every call 0: an other id together with a name begins an other call.
            if call is not None and not (name and id_ and call.id and call.id != id_):
                return call
        elif id_:
            for call in self._calls:
                if call.id == id_:
                    return call
        elif self._calls and not name:
            return self._calls[-1]
        taken = {call.index for call in self._calls}
        call = Call(max(taken, default=-1) + 1 if index is None or index in taken else index)
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call

    def flush(self, halves: dict[Hashable, str]) -> tuple[ToolCall, ...]:
        """Add a replacement for each half that stayed alone."""
        alone = [call for call in self._calls if call in halves]
        for call in alone:
            call.arguments.add(REPLACEMENT)
        return tuple(ToolCall(call.index, arguments=REPLACEMENT, type=call.type) for call in alone)
