"""The exceptions of blades.

::

    BladesError
    ├── ConfigError             no key, or settings that must not be combined
    ├── PromptError             a template or its parameters (also a ValueError)
    └── StreamError             a stream ended otherwise than finished or cancelled
        ├── StreamTruncated     the body ended properly, but the answer had not
        ├── StreamInterrupted   the connection was cut
        ├── StreamServerError   the server sent an error inside the stream
        ├── StreamProtocolError what came is not a stream of chat completion chunks
        └── StreamTimeout       one of the caller's limits was reached (also a TimeoutError)

Until the answer starts, the official client's own exceptions (``openai.APIError`` and its children) pass
through unchanged. Any other exception out of a stream is a bug of this library. All of them survive pickling, so that
they reach the caller from worker processes as they were raised.
"""

from __future__ import annotations

from typing import Any, TypeVar, final

from blades._values import Reply

AnyError = TypeVar("AnyError", bound=BaseException)


class BladesError(Exception):
    """The base of every exception that is this library's own."""


@final
class ConfigError(BladesError):
    """No API key was found, or a key and a base URL come from places that must not be combined."""


@final
class PromptError(BladesError, ValueError):
    """A template that cannot be compiled, or parameters that do not fit it. Never holds a parameter's value."""


class StreamError(BladesError):
    """A stream that was cut short.

    Attributes:
        text: What was handed out before the failure.
        reply: The same as a partial `Reply`.
        request_id: The ``x-request-id`` header of the answer, if the server sent one.
    """

    text: str = ""
    reply: Reply
    request_id: str | None = None

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.reply = Reply()


@final
class StreamTruncated(StreamError):  # noqa: N818 - says what happened to the stream
    """The body ended properly, but neither a finish reason nor ``[DONE]`` had come: the answer is not whole."""


@final
class StreamInterrupted(StreamError):  # noqa: N818 - says what happened to the stream
    """The connection was cut in the middle of the answer. ``__cause__`` is the transport's own exception."""


@final
class StreamServerError(StreamError):
    """The server sent an error inside the stream.

    Attributes:
        type: The server's ``error.type``, if it sent one.
        code: The server's ``error.code`` as text, if it sent one.
    """

    type: str | None = None
    code: str | None = None


@final
class StreamProtocolError(StreamError):
    """What came is not a stream of chat completion chunks.

    Attributes:
        status: The HTTP status.
        content_type: The ``Content-Type`` header, ``""`` if there was none.
        body: The first 200 bytes of what came.
    """

    status: int | None = None
    content_type: str = ""
    body: bytes = b""


@final
class StreamTimeout(StreamError, TimeoutError):  # noqa: N818 - says what happened to the stream
    """One of the caller's limits was reached.

    Attributes:
        limit: ``"first_chunk_timeout"``, ``"stall_timeout"`` or ``"timeout"``.
        seconds: The value of that limit, in seconds.
    """

    limit: str = ""
    seconds: float = 0.0


def without_traceback(error: AnyError) -> AnyError:
    """Make an exception that says the same as one that was raised, to be kept instead of it.

    The traceback of the first one has every frame that it passes, the caller's among them: a stream that kept it would
    keep all that these frames refer to, and itself, until the next garbage collection. An exception that only the code
    of an extension can make (pydantic's ValidationError) is kept as it is.
    """
    built_in: Any = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
    try:
        copy: AnyError = built_in.__new__(type(error), *error.args)
        built_in.__init__(copy, *error.args)
    except TypeError:
        return error
    vars(copy).update(vars(error))
    if error.__cause__ is not None:
        copy.__cause__ = without_traceback(error.__cause__)
    return copy
