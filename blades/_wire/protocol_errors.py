"""Bodies that are no stream of chat completion chunks, to `StreamProtocolError`: pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blades._errors import StreamProtocolError

if TYPE_CHECKING:
    from blades._values import ResponseInfo
    from blades._wire.deltas import Json

A_STREAM: Final = "a stream of chat completion chunks"
# Types of events of the Responses API and of Anthropic's own API; Gemini's events have candidates.
_FOREIGN_TYPES: Final = ("response.", "message_", "content_block_")


def protocol_error(expected: str, got: str, info: ResponseInfo, body: bytes, *, hint: bool) -> StreamProtocolError:
    """Return the exception for a body that cannot be read.

    Args:
        expected: What was expected.
        got: What was found instead, as it is to be shown.
        info: Of the response.
        body: Its first bytes.
        hint: The base URL may be the reason.
    """
    advice = _advice(info.base_url, empty=not body) if hint else ""
    return StreamProtocolError(
        f"expected {expected}, got {got} (status {info.status}, content type {info.content_type[:200]!r}){advice}",
        status=info.status,
        content_type=info.content_type,
        body=body,
    )


def is_foreign(event: Json) -> bool:
    """Return whether an event is one of another API."""
    type_ = event.get("type")
    return "candidates" in event or (isinstance(type_, str) and type_.startswith(_FOREIGN_TYPES))


def _advice(base_url: str, *, empty: bool) -> str:
    """Return what to do about the base URL, if that can help."""
    url = without_secrets(base_url)
    if not url.rstrip("/").endswith("/v1"):
        return f": check that the base_url {url!r} is the API's: it usually ends in /v1"
    return "" if empty else f": check that the base_url {url!r} is that of a chat completions API"


def without_secrets(url: str) -> str:
    """Return a URL for a message: without user, password and query."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path
