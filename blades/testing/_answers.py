"""What `blades.testing` sends: the steps of an answer, and how they become headers and bytes. No input, no output."""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "MODEL",
    "Answer",
    "Cut",
    "Delay",
    "EncodedAnswer",
    "End",
    "Reset",
    "Stall",
    "check_steps",
    "chunk",
    "encode_json",
    "plan",
    "request_json",
    "talk",
]  # fmt: skip

MODEL = "local-test"
_EVENT_STREAM = "text/event-stream; charset=utf-8"
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed"}
_REASONS |= {429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


class RequestLike(Protocol):
    """What an answer depends on: a request."""

    number: int
    headers: Mapping[str, str]
    http10: bool

    @property
    def json(self) -> Any: ...


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
    return {**_stamp(MODEL), "object": "chat.completion.chunk", "choices": [choice]}


@final
class Answer:
    """What the server sends for one request: steps, played in order, and how they are framed.

    A step is one of

    - `str`: one event with this text as its content delta;
    - `dict`: one event ``data: <its JSON>``, verbatim (see `chunk`);
    - `bytes`: sent exactly as they are, in one ``send`` and one HTTP chunk;
    - a number: a pause of that many seconds;
    - `Stall()`, `Reset()`, `Cut()`, `End()`.

    After the steps come the finish event, the usage event if the request asked for it, and ``data: [DONE]``. A request
    that did not ask for a stream gets the text as one JSON completion, after all pauses and faults; but an answer
    with `bytes` or `dict` steps is sent as it is, whatever was asked.

    Args:
        steps: The steps of the body.
        status: The HTTP status.
        headers: They override the server's own, and a value of None leaves one of these out. With ``Content-Length`` or
            ``Transfer-Encoding`` among them, the body is sent without any framing.
        framing: How the end of the body is told: "chunked", by its "length", or by the "close" of the connection.
        before_headers: Pauses, `Stall`, `Reset` and `Cut` (closes without a byte) before the status line.
        finish_reason: Sent in an event of its own; None sends none.
        usage: Sent if asked for; None counts words, which is only an approximation.
        done: False sends nothing after the steps: no finish event, no usage, no ``[DONE]``.
        http10: Answer as an HTTP/1.0 server, which closes the connection after each body.

    Raises:
        TypeError: A step that is none of these.
        ValueError: A pause that is negative or not finite, or an unknown framing.
    """

    def __init__(
        self,
        *steps: Step,
        status: int = 200,
        headers: Mapping[str, str | None] | None = None,
        framing: Framing = "chunked",
        before_headers: Sequence[Delay] = (),
        finish_reason: str | None = "stop",
        usage: Mapping[str, Any] | None = None,
        done: bool = True,
        http10: bool = False,
    ) -> None:
        check_steps(steps, (str, bytes, dict, Stall, Reset, Cut, End))
        check_steps(before_headers, (Stall, Reset, Cut))
        if framing not in ("chunked", "length", "close"):
            raise ValueError(f'framing must be "chunked", "length" or "close", not {framing!r}')
        self.steps = steps
        self.status = status
        self.headers: dict[str, str | None] = dict(headers or {})
        self.framing: Framing = framing
        self.before_headers: tuple[Delay, ...] = tuple(before_headers)
        self.finish_reason = finish_reason
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
        for word in _words(text) if words else [text]:
            steps += [pause, word] if steps and pause else [word]
        return cls(*steps, **options)

    @classmethod
    def raw(cls, body: bytes, *, content_type: str = _EVENT_STREAM, **options: Any) -> Answer:
        """Answer with exactly this body, sent at once.

        Args:
            body: All of it.
            content_type: The ``Content-Type``, unless `headers` has one.
            options: As for `Answer`: ``status``, ``framing``, ``headers``, ...
        """
        headers = {"Content-Type": content_type, **(options.pop("headers", None) or {})}
        return cls(body, headers=headers, done=False, **options)

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


@final
class EncodedAnswer(NamedTuple):
    """An answer made ready for one request."""

    before: tuple[Delay, ...]
    head: bytes
    body: list[bytes | Delay]
    ending: bytes
    chunked: bool
    close: bool


def plan(answer: Answer, request: RequestLike, *, http10: bool) -> EncodedAnswer:
    """Decide on headers and framing, and encode."""
    steps, content_type = _encode(answer, request_json(request))
    http10 = http10 or answer.http10 or request.http10
    framing = "length" if content_type == "application/json" else answer.framing
    if http10 and framing == "chunked":
        framing = "close"
    given = {name.lower(): value or "" for name, value in answer.headers.items()}
    asked = request.headers.get("connection", "").lower()
    close = http10 or framing == "close" or asked == "close" or given.get("connection", "").lower() == "close"
    headers: dict[str, str | None] = {"Content-Type": content_type}
    headers["X-Request-Id"] = f"req_local_{request.number}"
    if close:
        headers["Connection"] = "close"
    chunked = framing == "chunked" and not {"content-length", "transfer-encoding"} & given.keys()
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
        steps = [b"%x\r\n%b\r\n" % (len(step), step) if isinstance(step, bytes) else step for step in steps]
    elif framing == "length" and "transfer-encoding" not in given:
        # A body that is cut must have been announced longer than it is.
        sizes = [len(step) if isinstance(step, bytes) else isinstance(step, Cut) for step in steps]
        headers["Content-Length"] = str(sum(sizes))
    headers = {name: value for name, value in headers.items() if name.lower() not in given} | answer.headers
    lines = [f"HTTP/1.{0 if http10 else 1} {answer.status} {_REASONS.get(answer.status, 'Unnamed')}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return EncodedAnswer(answer.before_headers, head, steps, b"0\r\n\r\n" if chunked else b"", chunked, close)


def _encode(answer: Answer, asked: dict[str, Any]) -> tuple[list[bytes | Delay], str]:
    """Turn an answer into what is sent in its body, up to its end, and the type of that."""
    steps = answer.steps
    ended = next((index for index, step in enumerate(steps) if isinstance(step, End)), None)
    text = "".join(step for step in steps[:ended] if isinstance(step, str))
    usage = dict(answer.usage) if answer.usage is not None else _count(asked, text)
    stamp = _stamp(asked.get("model") or MODEL)
    if answer.done and not asked.get("stream") and not any(isinstance(step, bytes | dict) for step in steps):
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
        whole = encode_json({**stamp, "object": "chat.completion", "choices": [choice], "usage": usage})
        delays = [step for step in steps if not isinstance(step, str | bytes | dict | End)]
        return [*delays, whole], "application/json"
    stamp["object"] = "chat.completion.chunk"
    opening = b'data: %b,"choices":[{"index":0,"delta":{' % encode_json(stamp)[:-1]
    role = b'"role":"assistant",'
    body: list[bytes | Delay] = []
    for step in steps[:ended]:
        if isinstance(step, str):
            body.append(b'%b%b"content":%b},"finish_reason":null}]}\n\n' % (opening, role, encode_json(step)))
            role = b""
        elif isinstance(step, dict):
            body.append(b"data: %b\n\n" % encode_json(step))
        elif step != b"" and not isinstance(step, End):  # an empty chunk would be the last one
            body.append(step)
    if answer.done and ended is None:
        if answer.finish_reason is not None:
            body.append(b'%b},"finish_reason":%b}]}\n\n' % (opening, encode_json(answer.finish_reason)))
        options = asked.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            body.append(b"data: %b\n\n" % encode_json({**stamp, "choices": [], "usage": usage}))
        body.append(b"data: [DONE]\n\n")
    return body, _EVENT_STREAM


def _stamp(model: Any) -> dict[str, Any]:
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


_IDEOGRAPHS = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_WORD = re.compile(rf"\s*(?:[{_IDEOGRAPHS}]{{1,2}}|[^\s{_IDEOGRAPHS}]+)|\s+")
_ENGLISH = (
    "You asked: “{question}”. This is the local test server of blades, so no model has thought about it: these words "
    "only come one by one, at the pace at which a model would send them. That is enough to watch an answer grow, "
    "to cancel it half-way and see what is kept, and to read how many tokens were used. For a real answer, set "
    "the base URL and the key of a real provider."
)
_CHINESE = (
    "您问的是：“{question}”。这里是 blades 的本地测试服务器，背后没有任何模型，所以我并不知道真正的答案；"
    "这些文字只是按照模型的速度一个一个地发送出来。您可以看着回答逐渐变长，可以随时取消并查看已经收到的部分，"
    "也可以查看用量统计。想要真正的回答，请设置真实服务的地址和密钥。"
)


def talk(asked: dict[str, Any], pace: float) -> Answer:
    """Answer with readable text about the last user message, in its language, as far as the request allows."""
    messages, limit = asked.get("messages"), asked.get("max_completion_tokens", asked.get("max_tokens"))
    stops = asked.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(messages, list) or not messages:
        return Answer.error(400, "messages must be a list of at least one message.", param="messages")
    if limit is not None and not (isinstance(limit, int) and limit > 0):
        return Answer.error(400, "max_tokens must be a positive integer.", param="max_tokens")
    if not (isinstance(stops, list) and all(isinstance(stop, str) and stop for stop in stops)):
        return Answer.error(400, "stop must be a string or a list of strings.", param="stop")
    users = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
    question = " ".join(_content((users or messages)[-1]).split())
    question = question if len(question) <= 200 else f"{question[:200]}…"  # noqa: PLR2004 - two lines
    template = _CHINESE if re.search(f"[{_IDEOGRAPHS}]", question) else _ENGLISH
    text = template.replace("{question}", question)
    for stop in stops:
        text = text.partition(stop)[0]
    words = _words(text)
    finish_reason = "stop" if limit is None or len(words) <= limit else "length"
    return Answer.text("".join(words[:limit]), pause=pace, finish_reason=finish_reason)


def _count(asked: dict[str, Any], text: str) -> dict[str, int]:
    """Count words as if they were tokens."""
    messages = asked.get("messages")
    prompt = sum(len(_words(_content(item))) for item in messages) if isinstance(messages, list) else 0
    completion = len(_words(text))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _words(text: str) -> list[str]:
    """Cut a text into words or pairs of ideographs, each with the space before it; joined they are the text."""
    return _WORD.findall(text)


def _content(message: Any) -> str:
    """Return the text of a message, whose content may be a list of parts."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def request_json(request: RequestLike) -> dict[str, Any]:
    try:
        asked = request.json
    except ValueError:
        asked = None
    return asked if isinstance(asked, dict) else {}
