"""The exceptions of blades.

::

    BladesError
    ├── ConfigError                 no key, or settings that must not be combined
    ├── PromptError                 a template or its parameters (also a ValueError)
    ├── ReplyParseError             an answer that is not of the type asked for (also a ValueError)
    ├── ToolError                   raised by a tool, to report a failure to the model
    └── StreamError                 the stream failed before the answer was complete
        ├── StreamTruncated         the body ended properly, but the answer had not
        ├── StreamInterrupted       the connection was cut
        ├── StreamServerError       the server sent an error inside the stream
        ├── StreamProtocolError     the response is not a stream of chat completion chunks
        ├── StreamTimeout           one of the caller's limits was reached (also a TimeoutError)
        ├── ToolFailed              a tool raised an exception that was no ToolError
        └── ToolRoundsExceeded      the model asked for tools in the last round that was allowed

Until the answer starts, the official client's own exceptions (``openai.APIError`` and its children) pass
through unchanged, and so does what the caller's own code raises. Any other exception out of a stream is a bug of this
library. All of them survive pickling, so that they reach the caller from worker processes as they were raised.
"""

from __future__ import annotations

from contextlib import suppress
from types import MemberDescriptorType
from typing import Any, TypeVar, final

from blades._values import Reply, ToolCall

AnyError = TypeVar("AnyError", bound=BaseException)


# Tracebacks name an exception by its module: each class is called what a caller imports it as.
class BladesError(Exception):
    """The base of every exception that is this library's own."""

    __module__ = "blades"


@final
class ConfigError(BladesError):
    """No API key was found, or a key and a base URL come from places that must not be combined."""

    __module__ = "blades"


@final
class PromptError(BladesError, ValueError):
    """A template that cannot be compiled, or parameters that do not fit it. Never holds a parameter's value."""

    __module__ = "blades"


@final
class ReplyParseError(BladesError, ValueError):
    """An answer is not of the type that was asked for: cancelled, cut by its length, refused, no JSON, or misfitting.

    Attributes:
        text: The text of the answer.
        reply: The answer.
        errors: What does not fit, one dict for each place, as pydantic describes it; empty if nothing could be checked.
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
    """Raised by a tool: the message is sent to the model as the result of the call, and the stream goes on."""

    __module__ = "blades"


class StreamError(BladesError):
    """The stream failed before the answer was complete.

    Attributes:
        text: What was handed out before the failure.
        reply: The same as a partial `Reply`.
        request_id: The ``x-request-id`` header of the answer, if the server sent one.
    """

    __module__ = "blades"

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.text: str = ""
        self.reply: Reply = Reply()
        self.request_id: str | None = None

    def attach_reply(self, reply: Reply) -> None:
        """Set what was handed out before the failure. The stream does so when it fails."""
        self.text, self.reply, self.request_id = reply.text, reply, reply.request_id


@final
class StreamTruncated(StreamError):  # noqa: N818 - says what happened to the stream
    """The body ended properly before the answer was complete: no finish reason, and no text before ``[DONE]``."""

    __module__ = "blades"


@final
class StreamInterrupted(StreamError):  # noqa: N818 - says what happened to the stream
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
class StreamTimeout(StreamError, TimeoutError):  # noqa: N818 - says what happened to the stream
    """One of the caller's limits was reached.

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
class ToolFailed(StreamError):  # noqa: N818 - says what happened to the stream
    """A tool raised an exception that was no `ToolError`. ``__cause__`` is that exception.

    Attributes:
        call: The call that failed.
    """

    __module__ = "blades"

    def __init__(self, *args: object, call: ToolCall | None = None) -> None:
        super().__init__(*args)
        self.call = ToolCall() if call is None else call


@final
class ToolRoundsExceeded(StreamError):  # noqa: N818 - says what happened to the stream
    """The model asked for tools in the last of ``max_rounds`` requests."""

    __module__ = "blades"


def without_traceback(error: AnyError) -> AnyError:
    """Return an exception that says the same as one that was raised, to be kept instead of it.

    The traceback of the first one has every frame that it passes, the caller's among them: a stream that kept it would
    keep all that these frames refer to, and itself, until the next garbage collection. An exception that cannot be
    copied (only the code of an extension can make pydantic's ValidationError) is kept as it is.
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


def _copy_error(error: AnyError) -> AnyError:
    """Copy one exception without its traceback, context and cause; return the exception itself if that fails."""
    kind = type(error)
    built_in: Any = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    try:
        # Not the class's own constructor: its parameters are unknown.
        copy: AnyError = built_in.__new__(kind, *error.args)
        built_in.__init__(copy, *error.args)
    except Exception:  # noqa: BLE001 - whatever a foreign class does: the original will do
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
