"""How an answer becomes headers and bytes. No input, no output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, final

from blades.testing._answers import EVENT_STREAM, MODEL, Cut, End, encode_json, make_stamp
from blades.testing._words import content_of, split_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blades.testing._answers import Answer, Delay, Step

__all__ = ["EncodedAnswer", "encode", "request_json"]

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
class EncodedAnswer(NamedTuple):
    """An answer made ready for one request."""

    before: tuple[Delay, ...]
    head: bytes
    body: list[bytes | Delay]
    ending: bytes
    chunked: bool
    close: bool


def encode(answer: Answer, request: RequestLike, *, http10: bool) -> EncodedAnswer:
    """Decide on headers and framing, and encode."""
    steps, content_type = _encode_body(answer, request)
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


def _encode_body(answer: Answer, request: RequestLike) -> tuple[list[bytes | Delay], str]:
    """Return the body of an answer as the pieces and pauses to send, and its content type."""
    asked = request_json(request)
    ended = next((index for index, step in enumerate(answer.steps) if isinstance(step, End)), None)
    steps = answer.steps[:ended]
    calls = _make_calls(answer, request) if ended is None else []
    text = "".join(step for step in steps if isinstance(step, str))
    usage = dict(answer.usage) if answer.usage is not None else _count(asked, text)
    stamp = make_stamp(asked.get("model") or MODEL)
    if answer.done and not asked.get("stream") and not any(isinstance(step, bytes | dict) for step in answer.steps):
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if calls:
            message |= {"content": text or None, "tool_calls": calls}
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
        whole = encode_json({**stamp, "object": "chat.completion", "choices": [choice], "usage": usage})
        delays = [step for step in answer.steps if not isinstance(step, str | bytes | dict | End)]
        return [*delays, whole], "application/json"
    stamp["object"] = "chat.completion.chunk"
    opening = b'data: %b,"choices":[{"index":0,"delta":{' % encode_json(stamp)[:-1]
    body = _encode_steps(steps, calls, opening)
    if answer.done and ended is None:
        if answer.finish_reason is not None:
            body.append(b'%b},"finish_reason":%b}]}\n\n' % (opening, encode_json(answer.finish_reason)))
        options = asked.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            body.append(b"data: %b\n\n" % encode_json({**stamp, "choices": [], "usage": usage}))
        body.append(b"data: [DONE]\n\n")
    return body, EVENT_STREAM


def _encode_steps(steps: Sequence[Step], calls: list[dict[str, Any]], opening: bytes) -> list[bytes | Delay]:
    """Return the events of the steps and of the calls; the first delta made here carries the role."""
    role = b'"role":"assistant",'
    body: list[bytes | Delay] = []
    for step in steps:
        if isinstance(step, str):
            body.append(b'%b%b"content":%b},"finish_reason":null}]}\n\n' % (opening, role, encode_json(step)))
            role = b""
        elif isinstance(step, dict):
            body.append(b"data: %b\n\n" % encode_json(step))
        elif step != b"" and not isinstance(step, End):  # an empty chunk would be the last one
            body.append(step)
    parts = [{"index": index, **part} for index, call in enumerate(calls) for part in _call_parts(call)]
    for part in parts:
        body.append(b'%b%b"tool_calls":%b},"finish_reason":null}]}\n\n' % (opening, role, encode_json([part])))
        role = b""
    return body


def _make_calls(answer: Answer, request: RequestLike) -> list[dict[str, Any]]:
    """Return the answer's tool calls in the API's shape."""
    calls = []
    for number, call in enumerate(answer.tool_calls, 1):
        if isinstance(call, tuple):
            name, arguments = call
            text = arguments if isinstance(arguments, str) else encode_json(arguments).decode()
            function = {"name": name, "arguments": text}
            call = {"id": f"call_{request.number}_{number}", "type": "function", "function": function}  # noqa: PLW2901
        calls.append(call)
    return calls


def _call_parts(call: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the deltas of a call as servers send them: all but the arguments, and these in two parts."""
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(arguments, str):
        return [call]
    half = len(arguments) // 2
    opening = {**call, "function": {**function, "arguments": ""}}
    return [opening, *({"function": {"arguments": part}} for part in (arguments[:half], arguments[half:]) if part)]


def _count(asked: dict[str, Any], text: str) -> dict[str, int]:
    """Count words as if they were tokens."""
    messages = asked.get("messages")
    prompt = sum(len(split_words(content_of(item))) for item in messages) if isinstance(messages, list) else 0
    completion = len(split_words(text))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def request_json(request: RequestLike) -> dict[str, Any]:
    try:
        asked = request.json
    except ValueError:
        asked = None
    return asked if isinstance(asked, dict) else {}
