"""The exceptions of blades.

::

    BladesError
    ├── ConfigError                 no key, or settings that must not be combined
    ├── PromptError                 a template or its parameters (also a ValueError)
    ├── ReplyParseError             an answer that does not fit the requested type (also a ValueError)
    ├── ToolError                   raised by a tool, to report a failure to the model
    └── StreamError                 the stream failed before the answer was complete
        ├── StreamTruncated         the body ended properly, but the answer had not
        ├── StreamInterrupted       the connection was cut
        ├── StreamServerError       the server sent an error inside the stream
        ├── StreamProtocolError     the response is not a stream of chat completion chunks
        ├── StreamTimeout           a time limit was reached (also a TimeoutError)
        ├── ToolFailed              a tool raised an exception other than ToolError
        └── ToolRoundsExceeded      the model called tools in the last round that was allowed

Until the response starts, the official client's exceptions (``openai.APIError`` and its subclasses) pass through, and
so does whatever the caller's own code raises. `Stream.next` lists the few others; anything else is a bug. All of these
classes survive pickling, so that worker processes can report them.
"""

from __future__ import annotations

from contextlib import suppress
from types import MemberDescriptorType
from typing import Any, TypeVar, final

from blades._values import Reply, ToolCall

AnyError = TypeVar("AnyError", bound=BaseException)


# A traceback shows an exception's module: `blades.StreamTimeout`, as a caller imports it.
class BladesError(Exception):
    """The base class of this library's exceptions."""

    __module__ = "blades"


@final
class ConfigError(BladesError):
    """No usable API key or base URL was found, or the two come from places that must not be combined."""

    __module__ = "blades"


@final
class PromptError(BladesError, ValueError):
    """A template cannot be compiled, or its parameters do not fit. The message never contains a parameter's value."""

    __module__ = "blades"


@final
class ReplyParseError(BladesError, ValueError):
    """An answer does not fit the requested type: it is cancelled, cut by its length, a refusal, not JSON, or different.

    Attributes:
        text: The text of the answer.
        reply: The answer.
        errors: Each place that does not fit, as pydantic describes it; empty if nothing could be checked.
    """

    __module__ = "blades"

    def __init__(
        self,
        *args: object,
        text: str = "",
        reply: Reply | None = None,
        errors: tuple[dict[str, Any], ...] = (),
    ) -> None:
        super().__init__(*args)
        self.text = text
        self.reply = Reply() if reply is None else reply
        self.errors = errors


class ToolError(BladesError):
    """Raise it in a tool: the model gets its message as the result of the call, and the stream goes on."""

    __module__ = "blades"


class StreamError(BladesError):
    """The stream failed before the answer was complete.

    Attributes:
        text: The text that was returned before the failure.
        reply: The partial answer.
        request_id: The ``x-request-id`` header of the response, if the server sent one.
    """

    __module__ = "blades"

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.text: str = ""
        self.reply: Reply = Reply()
        self.request_id: str | None = None

    def attach_reply(self, reply: Reply) -> None:
        """Set the partial answer. The stream does so when it fails."""
        self.text, self.reply, self.request_id = reply.text, reply, reply.request_id


@final
class StreamTruncated(StreamError):  # says what happened to the stream
    """The body ended properly before the answer was complete: no finish reason, and no ``[DONE]`` after any content."""

    __module__ = "blades"


@final
class StreamInterrupted(StreamError):  # says what happened to the stream
    """The connection was cut in the middle of the answer. ``__cause__`` is the transport's own exception."""

    __module__ = "blades"


@final
class StreamServerError(StreamError):
    """The server sent an error inside the stream.

    Attributes:
        type: The server's ``error.type``, if it sent one.
        code: The server's ``error.code`` as text, if it sent one.
        error: The whole error object as the server sent it, in its own shape; the event if its error is a text.
    """

    __module__ = "blades"

    def __init__(
        self,
        *args: object,
        type: str | None = None,  # noqa: A002 - the server's own name
        code: str | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(*args)
        self.type = type
        self.code = code
        self.error: dict[str, Any] = {} if error is None else error


@final
class StreamProtocolError(StreamError):
    """The response is not a stream of chat completion chunks.

    Attributes:
        status: The HTTP status.
        content_type: The ``Content-Type`` header, ``""`` if there was none.
        body: The first 200 bytes of the body.
    """

    __module__ = "blades"

    def __init__(self, *args: object, status: int | None = None, content_type: str = "", body: bytes = b"") -> None:
        super().__init__(*args)
        self.status = status
        self.content_type = content_type
        self.body = body


@final
class StreamTimeout(StreamError, TimeoutError):  # says what happened to the stream
    """A time limit was reached.

    Attributes:
        limit: ``"first_chunk_timeout"``, ``"stall_timeout"`` or ``"timeout"``.
        seconds: The value of that limit, in seconds.
    """

    __module__ = "blades"

    def __init__(self, *args: object, limit: str = "", seconds: float = 0.0) -> None:
        super().__init__(*args)
        self.limit = limit
        self.seconds = seconds


@final
class ToolFailed(StreamError):  # says what happened to the stream
    """A tool raised an exception other than `ToolError`. ``__cause__`` is that exception.

    Attributes:
        call: The call that failed.
    """

    __module__ = "blades"

    def __init__(self, *args: object, call: ToolCall | None = None) -> None:
        super().__init__(*args)
        self.call = ToolCall() if call is None else call


@final
class ToolRoundsExceeded(StreamError):  # says what happened to the stream
    """The model called tools in the last of ``max_rounds`` requests."""

    __module__ = "blades"


def without_traceback(error: AnyError) -> AnyError:
    """Return a copy of an exception without its traceback, to be stored.

    A traceback refers to every frame that the exception passed, the caller's included: a stream that stored it would
    keep all objects of these frames, and itself, until the next garbage collection. An exception that cannot be
    copied (pydantic's ValidationError, for instance, which only an extension module can make) is returned unchanged.
    """
    copy = _copy_error(error)
    original: BaseException = error
    copied: BaseException = copy
    seen = {id(original)}
    while (cause := original.__cause__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        copied.__cause__ = _copy_error(cause)
        original, copied = cause, copied.__cause__
    return copy


def clear_frames(error: BaseException | None) -> None:
    """Drop the local variables of the frames that an exception has passed, and those of what it was raised from.

    Whoever keeps the exception must not keep them in turn. And in CPython 3.12 and 3.13, `contextlib` leaves a cycle
    in the frame that has thrown an exception into a generator, which would keep the whole stack until it is collected.
    """
    import traceback  # only a failure needs it

    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _copy_error(error: AnyError, *, nested: bool = True) -> AnyError:
    """Copy one exception without its traceback, context and cause; return the exception itself if that fails.

    The exceptions among its arguments are copied likewise: the HTTP library's are made of those of the layer below.
    """
    kind = type(error)
    built_in: Any = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    arguments = error.args
    if nested:
        arguments = tuple(
            _copy_error(item, nested=False) if isinstance(item, BaseException) else item for item in arguments
        )
    try:
        # The class's own constructor is not called: its parameters are unknown.
        copy: AnyError = built_in.__new__(kind, *arguments)
        built_in.__init__(copy, *arguments)
    except Exception:  # whatever a foreign class does: the original will do
        return error
    vars(copy).update(vars(error))
    # What is in slots: ImportError.path, AttributeError.obj, OSError.filename, and slots of Python classes.
    for base in kind.__mro__:
        for name, member in vars(base).items():
            if isinstance(member, MemberDescriptorType):
                with suppress(AttributeError, TypeError):  # not set, or read-only and thus set from `args`
                    value = getattr(error, name)
                    if value is not None:
                        setattr(copy, name, value)
    return copy
