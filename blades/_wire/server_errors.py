"""Errors that servers send inside a stream, each in its own shape, to `StreamServerError`: pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blades._errors import StreamServerError
from blades._preview import printable
from blades._wire.deltas import clean, json_text, string

if TYPE_CHECKING:
    from blades._wire.deltas import Json

PREVIEW_CHARACTERS: Final = 200  # of foreign data in a message
MESSAGE_LIMIT: Final = 4000  # characters of a server's own message that are kept

# Where the words are, in an error object or beside it: OpenAI and most; problem+json and FastAPI; some gateways;
# DeepInfra; Qianfan; MiniMax.
_MESSAGES: Final = ("message", "detail", "msg", "error_message", "error_msg", "status_msg", "Message", "title")
_TYPES: Final = ("type", "error_type")
_CODES: Final = ("code", "error_code", "status_code")
_ERROR_FIELDS: Final = frozenset({"error", "x_groq", "base_resp", "error_message", "error_msg"})  # also beside choices
# Codes that gateways send with every event when all is well.
_NO_ERROR: Final = frozenset({"", "0", "200", "ok", "success"})
_NESTED: Final = ("innererror", "inner_error", "cause", "error")


def find_error(event: Json, *, named: bool) -> StreamServerError | None:
    """Return the error that an event reports, if it does.

    Args:
        event: The event's JSON.
        named: The event as a whole is known to be an error (``event: error``, or an error body).
    """
    if not named and _ERROR_FIELDS.isdisjoint(event) and event.get("choices"):
        return None
    found = event.get("error")
    groq = event.get("x_groq")
    if not found and isinstance(groq, dict):
        found = groq.get("error")
    if not found:
        found = _find_status(event) or (event if named else None)
    if not found and not event.get("choices"):
        found = _find_unnamed(event)
    return server_error(found, event) if found else None


def _find_status(event: Json) -> Any:
    """Find what reports an error beside choices as well: MiniMax's ``base_resp``, Qianfan's and DeepInfra's fields."""
    base = event.get("base_resp")
    if isinstance(base, dict) and _code(base) is not None:
        return base
    if event.get("error_message") or (event.get("error_msg") and _code(event) is not None):
        return event
    return None


def _find_unnamed(event: Json) -> Any:
    """Find the error in an event that has no choices, nor a field that says ``error``."""
    # An old vLLM says so in object, an Anthropic-like proxy in type.
    if "error" in (event.get("object"), event.get("type")):
        return event
    errors = event.get("errors")
    if errors and isinstance(errors, list):  # Cloudflare
        return errors[0]
    for name, value in event.items():  # Bedrock: {"internalServerException": {"message": ...}}
        if name.endswith("Exception") and isinstance(value, dict):
            return {"type": name, **value}
    # FastAPI's detail, problem+json, a gateway's code beside a message, a message alone.
    detail = event.get("detail")
    code = event.get("code")
    if detail and isinstance(detail, str | list):
        return event
    if string(event.get("message")) and (code is None or _code(event) is not None):
        return event
    return None


def server_error(found: object, event: Json) -> StreamServerError:
    """Return the exception for what a server sent as an error.

    Args:
        found: A text, or an object in the event.
        event: The event.
    """
    fields = event | found if isinstance(found, dict) else event
    message = string(found) or _words(fields) or clean(json_text(found)) or "(no message)"
    specific = _specific(fields)
    if specific and specific not in message:
        message = f"{message}: {specific}"
    return StreamServerError(
        f"The server sent an error: {printable(message[:MESSAGE_LIMIT])}",
        type=next(filter(None, (string(fields.get(name)) for name in _TYPES)), None),
        code=_code(fields),
        error=found if isinstance(found, dict) else event or {"message": message},
    )


def _words(fields: Json) -> str | None:
    """Return the first text that an error says, in a list of details as well."""
    for name in _MESSAGES:
        value = fields.get(name)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = _words(value[0]) or json_text(value)
        if found := string(value):
            return found
    return None


def _specific(fields: Json) -> str | None:
    """Return the words of the server behind the server: OpenRouter's ``metadata.raw``, Azure's ``innererror``."""
    metadata = fields.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    found = string(raw) or (json_text(raw) if raw else None)
    for name in _NESTED:
        inner = fields.get(name)
        found = found or (_words(inner) if isinstance(inner, dict) else None)
    return found and clean(found)


def _code(fields: Json) -> str | None:
    """Return an error's code as text; None if there is none, or one that says that all is well."""
    for name in _CODES:
        code = fields.get(name)
        text = str(code) if isinstance(code, int) and not isinstance(code, bool) else string(code)
        if text is not None and text.lower() not in _NO_ERROR:
            return text
    return None


def preview(data: bytes) -> str:
    """Show the beginning of foreign data in a message."""
    text = data[: 4 * PREVIEW_CHARACTERS + 4].decode("utf-8", "replace")
    return repr(text[:PREVIEW_CHARACTERS]) + ("..." if len(text) > PREVIEW_CHARACTERS else "")
