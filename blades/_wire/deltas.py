"""The JSON of one event to typed parts: pure functions that take anything and raise nothing but ValueError.

What is not of the expected type counts as not sent. Each tolerance names the servers that need it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from blades._errors import StreamServerError
from blades._values import Usage, count

if TYPE_CHECKING:
    from collections.abc import Callable

Json: TypeAlias = dict[str, Any]

SHOWN = 200  # bytes or characters of foreign data in a message
MESSAGE_LIMIT = 4000  # characters of a server's own message that are kept


def fast_parser() -> Callable[[bytes], Any]:
    """Return the fastest reader there is; what it refuses must be given to `parse_lenient`.

    jiter comes with the official client, and needs a third of the time of `json.loads` for a usual event. It gives the
    same results, or refuses: lone surrogates, invalid UTF-8, more than 200 levels, a byte order mark.
    """
    try:
        from jiter import from_json  # noqa: PLC0415 - not at import of the package
    except ImportError:
        return _refuse
    # jiter 0.4.0, which openai 2.0 is content with, garbles escapes.
    return from_json if from_json(b'"\\u00e9"') == "\u00e9" else _refuse


def _refuse(_data: bytes) -> Any:
    raise ValueError


def parse_lenient(data: bytes) -> Any:
    """Parse JSON with `json`; invalid UTF-8 is replaced, surrogates may be alone in the texts.

    Raises:
        ValueError: It is not JSON, or too deep to be read.
    """
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deep") from None


def parse_object(data: bytes) -> Json | None:
    """Return the JSON object that bytes outside of any event are, if they are one."""
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        value = parse_lenient(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def clean(text: str) -> str:
    """Join the surrogates that are pairs, and replace the others: the result can be encoded."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def string(value: object) -> str | None:
    """Return a text that is not empty, or None."""
    return clean(value) if isinstance(value, str) and value else None


def shown(data: bytes) -> str:
    """Show the beginning of foreign data in a message."""
    text = data[: 4 * SHOWN + 4].decode("utf-8", "replace")
    return repr(text[:SHOWN]) + ("..." if len(text) > SHOWN else "")


def number(value: object) -> int | None:
    """Return an index as an int, also if it was sent as text; None if it is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:  # noqa: PLR2004 - any bound
        return int(value)
    return count(value)


def first_choice(choices: object) -> Json | None:
    """Return the choice with index 0, or without any index. Others belong to answers that were not asked for."""
    for choice in choices if type(choices) is list else ():
        if type(choice) is dict:
            index = choice.get("index")
            if not index or not number(index):
                return choice
    return None


def parts_of(delta: Json) -> tuple[str, str, str, list[Any]]:
    """Return text, reasoning, refusal and parts of tool calls that are in a delta, or in a whole message."""
    text = delta.get("content")
    # DeepSeek and vLLM say reasoning_content, OpenRouter and Groq say reasoning; some proxies send both.
    reasoning = delta.get("reasoning_content") or delta.get("reasoning")
    if type(text) is not str:
        text, thinking = _join_parts(text) if text else ("", "")
        reasoning = reasoning or thinking
    refusal, calls = delta.get("refusal"), delta.get("tool_calls")
    return (
        text,
        reasoning if type(reasoning) is str else "",
        refusal if type(refusal) is str else "",
        calls if type(calls) is list else [calls] if calls else [],
    )


def _join_parts(content: object) -> tuple[str, str]:
    """Join content that is a list of parts (Mistral): texts, and thinking that is again a list of parts."""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict) and part.get("type") == "thinking":
            thinking = part.get("thinking")
            thoughts += map(_text_of, thinking if isinstance(thinking, list) else [thinking])
        else:
            texts.append(_text_of(part))
    return "".join(texts), "".join(thoughts)


def _text_of(part: object) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""


def json_text(value: object) -> str:
    """Return JSON text that some servers send as text, others as the object itself; ``""`` for anything else."""
    if isinstance(value, str):
        return value
    if not isinstance(value, (dict, list)):
        return ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return ""


def parse_usage(event: Json) -> Usage | None:
    """Return the usage in an event; None if there is none, or none of its counts is a number."""
    groq = event.get("x_groq")
    for sent in (event.get("usage"), groq.get("usage") if isinstance(groq, dict) else None):
        if isinstance(sent, dict):
            prompt, completion, total = (
                count(sent.get(f"{name}_tokens")) for name in ("prompt", "completion", "total")
            )
            if (prompt, completion, total) != (None, None, None):
                return Usage(prompt, completion, total, sent)
    return None


def find_error(event: Json, *, named: bool) -> StreamServerError | None:
    """Return the error that an event tells of, if it does.

    Args:
        event: The event's JSON.
        named: The event as a whole is known to be an error (``event: error``, or an error body).
    """
    found = event.get("error") or event.get("error_message")  # the latter is DeepInfra's
    if not found:
        # An old vLLM says object, an Anthropic-like proxy type, several gateways only a code beside a message.
        coded = event.get("code") and string(event.get("message")) and "choices" not in event
        if not (named or coded or "error" in (event.get("object"), event.get("type"))):
            return None
        found = event
    return server_error(found, event)


def server_error(found: object, event: Json) -> StreamServerError:
    """Make the error from what a server sent as such: a text, or an object in an event."""
    fields = event | found if isinstance(found, dict) else event
    message = string(found)
    for name in ("message", "detail", "msg"):
        message = message or string(fields.get(name))
    message = message or clean(json_text(found)) or "(no message)"
    error = StreamServerError(f"The server sent an error: {message[:MESSAGE_LIMIT]}")
    error.type = string(fields.get("type")) or string(fields.get("error_type"))
    code = fields.get("code")
    error.code = str(code) if isinstance(code, int) and not isinstance(code, bool) else string(code)
    return error


def without_secrets(url: str) -> str:
    """Return a URL for a message: without user, password and query."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path
