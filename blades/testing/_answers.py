"""Scripted answers: the steps that `blades.testing` plays for one request."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

from blades.testing._recording import read_recording
from blades.testing._words import split_words

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

__all__ = [
    "EVENT_STREAM",
    "MODEL",
    "Answer",
    "Cut",
    "Delay",
    "End",
    "Reset",
    "Stall",
    "check_steps",
    "chunk",
    "encode_json",
    "make_stamp",
]  # fmt: skip

MODEL = "local-test"
EVENT_STREAM = "text/event-stream; charset=utf-8"


@final
@dataclass(frozen=True, slots=True)
class Stall:
    """Send nothing more until `Request.release`, `LocalServer.release`, or the client leaves."""


@final
@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection (TCP RST); the client may still read what was sent before."""


@final
@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection in the middle: a chunked or length-framed body stays incomplete."""


@final
@dataclass(frozen=True, slots=True)
class End:
    """End the body properly, right here: no later step, no finish reason, no usage, no ``[DONE]``."""


Framing: TypeAlias = Literal["chunked", "length", "close"]
Delay: TypeAlias = float | Stall | Reset | Cut
ToolCall: TypeAlias = tuple[str, Any] | dict[str, Any]
Step: TypeAlias = str | bytes | dict[str, Any] | Delay | End


def chunk(content: str | None = None, *, finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    """Make the ``chat.completion.chunk`` of one delta, to be used as a step, or changed first.

    Args:
        content: The delta's text; None leaves it out.
        finish_reason: The choice's finish reason.
        delta: More fields of the delta, such as ``tool_calls=[...]`` or ``reasoning_content="..."``.
    """
    whole = delta if content is None else {"content": content, **delta}
    choice = {"index": 0, "delta": whole, "finish_reason": finish_reason}
    return {**make_stamp(MODEL), "object": "chat.completion.chunk", "choices": [choice]}


@final
class Answer:
    """What the server sends for one request: steps, played in order, and how they are framed.

    A step is one of

    - `str`: one event with this text as its content delta;
    - `dict`: one event ``data: <its JSON>``, verbatim (see `chunk`);
    - `bytes`: sent exactly as they are, in one ``send`` and one HTTP chunk;
    - a number: a pause of that many seconds;
    - `Stall()`, `Reset()`, `Cut()`, `End()`.

    After the steps come the tool calls, the finish event, the usage event if the request asked for it, and ``data:
    [DONE]``. A request that did not ask for a stream gets one JSON completion, after all pauses and faults; but an
    answer with `bytes` or `dict` steps is sent as it is, whatever was asked.

    Args:
        steps: The steps of the body.
        status: The HTTP status.
        headers: Headers that override the server's own; a value of None leaves one of these out. With
            ``Content-Length`` or ``Transfer-Encoding`` among them, the body is sent without any framing.
        framing: What ends the body: "chunked" encoding, its "length", or the "close" of the connection.
        before_headers: Pauses, `Stall`, `Reset` and `Cut` (closes without a byte) before the status line.
        tool_calls: The tools to call, each as ``(name, arguments)``: an object, or a `str` that is sent unchanged. A
            dict is a whole call of the API's shape. The finish reason "stop" becomes "tool_calls" then.
        finish_reason: Sent in an event of its own; None sends none.
        usage: Sent if asked for; None counts words, which is only an approximation.
        done: False sends nothing after the steps: no finish event, no usage, no ``[DONE]``.
        http10: Answer as an HTTP/1.0 server, which closes the connection after each body.

    Raises:
        TypeError: A step or a tool call that is none of these.
        ValueError: A pause that is negative or not finite, or an unknown framing.
    """

    def __init__(
        self,
        *steps: Step,
        status: int = 200,
        headers: Mapping[str, str | None] | None = None,
        framing: Framing = "chunked",
        before_headers: Sequence[Delay] = (),
        tool_calls: Sequence[ToolCall] = (),
        finish_reason: str | None = "stop",
        usage: Mapping[str, Any] | None = None,
        done: bool = True,
        http10: bool = False,
    ) -> None:
        check_steps(steps, (str, bytes, dict, Stall, Reset, Cut, End))
        check_steps(before_headers, (Stall, Reset, Cut))
        if framing not in ("chunked", "length", "close"):
            raise ValueError(f'expected "chunked", "length" or "close" as framing, got {framing!r:.200}')
        for call in tool_calls:
            if not isinstance(call, dict | tuple):
                raise TypeError(f"expected a (name, arguments) pair or a dict as tool call, got {call!r:.200}")
        self.steps = steps
        self.status = status
        self.headers: dict[str, str | None] = dict(headers or {})
        self.framing: Framing = framing
        self.before_headers: tuple[Delay, ...] = tuple(before_headers)
        self.tool_calls: tuple[ToolCall, ...] = tuple(tool_calls)
        self.finish_reason = "tool_calls" if tool_calls and finish_reason == "stop" else finish_reason
        self.usage = usage
        self.done = done
        self.http10 = http10

    def __repr__(self) -> str:
        return f"<Answer {self.status}, {len(self.steps)} steps>"

    @classmethod
    def text(cls, text: str, *, words: bool = True, pause: float = 0.0, **options: Any) -> Answer:
        """Answer with this text, word by word, with a pause of `pause` seconds between two.

        Args:
            text: The whole text.
            words: False sends it as one event.
            pause: Seconds.
            options: As for `Answer`: ``finish_reason``, ``usage``, ``framing``, ``headers``, ...
        """
        steps: list[Step] = []
        for word in split_words(text) if words else [text]:
            steps += [pause, word] if steps and pause else [word]
        return cls(*steps, **options)

    @classmethod
    def raw(cls, body: bytes, *, content_type: str = EVENT_STREAM, **options: Any) -> Answer:
        """Answer with exactly this body, sent at once.

        Args:
            body: All of it.
            content_type: The ``Content-Type``, unless `headers` has one.
            options: As for `Answer`: ``status``, ``framing``, ``headers``, ...
        """
        headers = {"Content-Type": content_type, **(options.pop("headers", None) or {})}
        return cls(body, headers=headers, done=False, **options)

    @classmethod
    def recorded(cls, file: str | os.PathLike[str]) -> Answer:
        """Answer with the bytes of a file: a recorded answer of some server.

        Args:
            file: A whole HTTP response, as ``curl --include`` prints it, or the body alone. A body's status line and
                headers may stand beside it, in a file whose name ends in ``.headers`` instead.

        Raises:
            OSError: The file cannot be read.
        """
        status, headers, framing, body = read_recording(Path(file))
        return cls(body, status=status, headers=headers, framing=framing, done=False)

    @classmethod
    def error(
        cls,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002 - the field's name in OpenAI's error object
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> Answer:
        """Answer with this HTTP status and OpenAI's JSON error object."""
        body = encode_json({"error": {"message": message, "type": type, "param": param, "code": code}})
        return cls.raw(body, content_type="application/json", status=status, headers=headers, framing="length")


def make_stamp(model: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-local", "object": "", "created": int(time.time()), "model": model}


def encode_json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half of a surrogate pair can only be sent as an escape
        return json.dumps(value, separators=(",", ":")).encode()


def check_steps(steps: Sequence[object], allowed: tuple[type, ...]) -> None:
    for step in steps:
        if isinstance(step, int | float) and not isinstance(step, bool):
            if not 0 <= step < math.inf:
                raise ValueError(f"expected a pause in seconds, at least 0 and finite, got {step!r}")
        elif not isinstance(step, allowed):
            names = ["a number", *(kind.__name__ for kind in allowed)]
            raise TypeError(f"expected {' or '.join(names)}, got {step!r:.200}")
