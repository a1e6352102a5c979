"""What a stream returns: chunks, tool calls, usage, and the whole reply. Immutable, comparable, picklable."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NamedTuple, Protocol, final

from blades._message import Message, reply_message
from blades._preview import short_repr

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import TypeVar

    T_co = TypeVar("T_co", covariant=True, default=Any)
else:  # typing's own has no default before Python 3.13, and none is needed when the program runs
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)

CUSTOM: Final = "custom"
"""The type of a call whose input is a text of any form, not JSON."""


REPR_CHARACTERS: Final = 60  # of a text in a repr


@final
class StreamState(Enum):
    """Where a stream is. The last three are terminal: they stay."""

    OPENING = "opening"
    """The request is on its way; the response headers have not arrived."""
    STREAMING = "streaming"
    """The answer has begun."""
    FINISHED = "finished"
    """The answer is complete."""
    CANCELLED = "cancelled"
    """Cancelled, or closed before its end."""
    FAILED = "failed"
    """Ended by an exception."""


@final
@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool: a part of it in a chunk, the whole of it in `Stream.tool_calls` and `Reply.tool_calls`.

    Attributes:
        index: Which call of the answer this is, as the server counts, or counted here if it does not. The parts of one
            call share it.
        id: The server's identifier, which the tool's result must name; in a part, ``""`` if it was not sent.
        name: The name of the function or custom tool; in a part, ``""`` if it was not sent.
        arguments: JSON text as the model wrote it, not checked; in a part, the piece. If the server sent an object
            instead of a string, this is its JSON text. The input of a custom call, which need not be JSON.
        type: ``"function"``, ``"custom"``, or whatever the server sent.
        extra: The call's other fields (``extra_content``, ...), which are sent back with it. Other fields inside of
            ``function`` or ``custom`` are here under that name.
    """

    index: int = 0
    id: str = ""
    name: str = ""
    arguments: str = ""
    type: str = "function"
    extra: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @property
    def input(self) -> str:
        """The input of a custom call; ``""`` for any other call."""
        return self.arguments if self.type == CUSTOM else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the call as it stands in an assistant message of the API, with every field that the server sent."""
        shape, content = (CUSTOM, "input") if self.type == CUSTOM else ("function", "arguments")
        inner = self.extra.get(shape)
        fields = {name: value for name, value in self.extra.items() if name != shape}
        named = {**(inner if isinstance(inner, dict) else {}), "name": self.name, content: self.arguments}
        return {**fields, "id": self.id, "type": self.type, shape: named}


@final
@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of one tool call.

    Attributes:
        call: The call.
        text: What the model is sent as the call's result.
        error: Why there is no result, None if there is one. The model is sent the reason as `text`.
        seconds: How long the tool ran, in seconds.
    """

    call: ToolCall
    text: str = ""
    error: str | None = None
    seconds: float = 0.0


@final
@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of a request and its answer, as the server counted them. A missing count is None, never 0.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens of the answer, reasoning included.
        total_tokens: The sum, if the server sent it: it is not computed here.
        raw: The whole object as sent, with every detail.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    raw: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @property
    def cached_tokens(self) -> int | None:
        """Tokens of the prompt that were in the server's cache; None if the server did not say."""
        # ``prompt_cache_hit_tokens`` is DeepSeek's name, beside OpenAI's; ``input_tokens_details`` is that of servers
        # that count ``input_tokens``.
        found = self._detail("prompt_tokens_details", "cached_tokens")
        found = found if found is not None else self._detail("input_tokens_details", "cached_tokens")
        return found if found is not None else count(self.raw.get("prompt_cache_hit_tokens"))

    @property
    def reasoning_tokens(self) -> int | None:
        """Tokens of the answer that were reasoning; None if the server did not say."""
        found = self._detail("completion_tokens_details", "reasoning_tokens")
        return found if found is not None else self._detail("output_tokens_details", "reasoning_tokens")

    def _detail(self, group: str, name: str) -> int | None:
        details = self.raw.get(group)
        return count(details.get(name)) if isinstance(details, dict) else None


COUNT_DIGITS: Final = 18


def count(value: object) -> int | None:
    """Return a number of tokens as an int, None if it is not a number (servers send null, ``12.0``, or ``"12"``)."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= COUNT_DIGITS:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@final
@dataclass(frozen=True, slots=True, init=False)
class Chunk:
    """One step of an answer: the content of one event. ``str(chunk)`` is its text.

    Attributes:
        text: The new text, ``""`` if this chunk has something else.
        reasoning: New text of the model's reasoning, whatever its name on the wire is (``reasoning_content``,
            ``reasoning``, a part of type ``thinking``, ...).
        tool_calls: New parts of tool calls.
        finish_reason: Why the answer ended, verbatim, if this event says so.
        usage: The usage in the same event, if any. Usage in an event of its own makes no chunk: read `Stream.usage`.
        raw: The event's JSON as parsed, with all that is not named above (images, audio, ``logprobs``, ``refusal``, a
            field that only this server knows, ...). Shared, not copied: do not change it.
        tool_results: Results of tools that have run since the last chunk.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    raw: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)
    tool_results: tuple[ToolResult, ...] = ()

    # Made once per token. The constructor that dataclass writes for a frozen class costs more than parsing the JSON.
    def __init__(  # as dataclass would write it
        self,
        text: str = "",
        reasoning: str = "",
        tool_calls: tuple[ToolCall, ...] = (),
        finish_reason: str | None = None,
        usage: Usage | None = None,
        raw: dict[str, Any] | None = None,
        tool_results: tuple[ToolResult, ...] = (),
    ) -> None:
        _set_text(self, text)
        _set_reasoning(self, reasoning)
        _set_tool_calls(self, tool_calls)
        _set_finish_reason(self, finish_reason)
        _set_usage(self, usage)
        _set_raw(self, {} if raw is None else raw)
        _set_tool_results(self, tool_results)

    def __str__(self) -> str:
        return self.text


_set_text, _set_reasoning, _set_tool_calls, _set_finish_reason, _set_usage, _set_raw, _set_tool_results = (
    vars(Chunk)[name].__set__ for name in Chunk.__slots__
)


@final
class UnfrozenChunk:
    """What a chunk of text is while it is filled in: the same slots, without the protection of a frozen class.

    Nearly every token makes one, and the setters of a frozen class take a fifth of the CPU of a chunk. Without a GIL,
    the change of class would stop all threads: there, the constructor is called.
    """

    __slots__ = Chunk.__slots__

    def freeze(self, text: str, raw: dict[str, Any]) -> Chunk:
        """Become ``Chunk(text, raw=raw)``."""
        self.text, self.reasoning, self.tool_calls, self.tool_results = text, "", (), ()
        self.finish_reason = self.usage = None
        self.raw = raw
        self.__class__ = Chunk  # type: ignore[assignment]
        return self  # type: ignore[return-value]


class ReplyParser(Protocol[T_co]):
    """What makes an object of a text: a type that was given as `response_format`."""

    def parse(self, text: str, reply: Reply[Any]) -> T_co:
        """Validate the text of an answer, or raise `ReplyParseError`."""


@final
@dataclass(frozen=True, slots=True)
class Reply(Generic[T_co]):
    """An answer, complete or partial. ``str(reply)`` is its text.

    A stream that ran tools has several answers: `text`, `reasoning` and `usage` are those of all of them, the rest is
    that of the last one.

    Attributes:
        text: The text.
        reasoning: The model's reasoning, ``""`` if the server sent none.
        refusal: The model's refusal, ``""`` if there is none.
        tool_calls: The assembled tool calls, in order.
        finish_reason: The last one sent, verbatim; None if the server sent none.
        usage: The last one sent; None if the server sent none.
        model: The model that answered, as the server names it.
        id: The first identifier the server sent.
        request_id: The ``x-request-id`` header, to be quoted to the server's support.
        complete: Whether the stream finished. A cancelled or failed stream leaves a partial answer.
        extra: All other fields that the server sent (images, audio, citations, ``logprobs``, ...), under its own names,
            merged: texts joined, lists appended (items that have an ``index`` merged), objects merged, the last number
            kept. Of fields that identify (``id``, ``type``, ``name``, ...) the last is kept.
        reasoning_fields: The reasoning under the server's own names (``reasoning_content``, ``reasoning_details``,
            ...), merged in the same way: a server that requires the reasoning is sent these.
    """

    _make_bundle: ClassVar[Callable[[Reply[Any]], dict[str, str]] | None] = None

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    id: str | None = None
    request_id: str | None = None
    complete: bool = False
    extra: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)
    reasoning_fields: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)

    _rounds: tuple[Message, ...] = ()
    _parser: ReplyParser[T_co] | None = field(default=None, compare=False)
    _parsed: list[T_co] = field(default_factory=list, init=False, compare=False)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        text = short_repr(self.text, REPR_CHARACTERS)
        return f"Reply(text={text}, finish_reason={short_repr(self.finish_reason)}, complete={self.complete})"

    @classmethod
    def display_with(cls, make_bundle: Callable[[Reply], dict[str, str]]) -> None:
        """Set what a notebook shows of a reply, by media type. A value knows no notebook: `Stream` brings this."""
        cls._make_bundle = make_bundle

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        make_bundle = vars(Reply)["_make_bundle"]
        return {"text/plain": self.text} if make_bundle is None else make_bundle(self)

    @property
    def parsed(self) -> T_co:
        """The answer as an object of the type that was given as `response_format`. Validated when it is read first.

        Raises:
            ReplyParseError: The answer is no such object. The message names the first cause.
            TypeError: No type was given.
        """
        if self._parser is None:
            raise TypeError("expected a type as response_format, got none: pass response_format=YourType to the call")
        if not self._parsed:
            content = self.message.content
            self._parsed.append(self._parser.parse(content if isinstance(content, str) else "", self))
        return self._parsed[0]

    @property
    def messages(self) -> tuple[Message, ...]:
        """What to add to the conversation: the answer, or all answers and the results of their tool calls.

        They are valid after any ending. A part of an answer has no tool calls, since these may be cut. An empty answer
        counts as cancelled, since no server takes it back.
        """
        if self._rounds:
            return self._rounds
        if self.complete:
            can_be_kept = bool(self.text or self.refusal or self.tool_calls)
        else:
            can_be_kept = bool(self.text) and not self.tool_calls
        return (self.message if can_be_kept else self.message.cut_short(),)

    @property
    def message(self) -> Message:
        """The answer as an assistant message for the next request, with every field that the server may require.

        Of a stream that ran tools it is the last answer.
        """
        if self._rounds:
            return next(message for message in reversed(self._rounds) if message.role == "assistant")
        calls = [call.to_dict() for call in self.tool_calls]
        return reply_message(self.text, self.refusal, calls, self.reasoning_fields)


@final
class Timing(NamedTuple):
    """How long a stream took, in seconds from the call."""

    first_chunk: float | None
    """Seconds from the call to the first content (text, reasoning, tool call), None before it."""
    total: float
    """Seconds from the call to the end, or until now."""
    chunks: int
    """How many chunks were returned."""
    sent: float | None = None
    """Seconds from the call until the request left this process; the first one of a process waits for the import of the
    official client. None before that, and where it cannot be known."""
    last_chunk: float | None = None
    """Seconds from the call to the arrival of the last content so far."""


@final
@dataclass(frozen=True, slots=True)
class ResponseInfo:
    """The properties of a response that errors report."""

    status: int = 200
    content_type: str = ""
    base_url: str = ""
    request_id: str | None = None
