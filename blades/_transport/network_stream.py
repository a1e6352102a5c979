"""The HTTP library's network streams: what is known of their kinds, and of the calls of their methods."""

from __future__ import annotations

from typing import Any, Final

HTTP2_PREFACE: Final = b"PRI * HTTP/2.0"

proven_kinds: Final[set[type]] = set()
"""Kinds of network streams whose library was seen to read through `TrackedConnection.read` what follows the headers.

A library that read it past the wrapper would wait for ever for the last chunk that is pushed back to it. So until that
was seen once, it is given back to the library in a thread of its own; and where it was waited for in vain, every
further body is read through the library.
"""

disproven_kinds: Final[set[type]] = set()
reading_kinds: Final[set[type]] = set()  # whose library was seen to read through the wrapper at all


def speaks_http2(stream: Any) -> bool:
    """Return whether the two sides have agreed on HTTP/2, where they did so by TLS."""
    alpn = getattr(stream.get_extra_info("ssl_object"), "selected_alpn_protocol", None)
    return alpn is not None and alpn() == "h2"


def with_timeout(
    seconds: float | None, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put another time limit in the place of a read's own, if it has one."""
    if len(arguments) > 1:
        return (arguments[0], seconds, *arguments[2:]), named
    return arguments, named | {"timeout": seconds} if "timeout" in named else named


def beginning(buffer: Any) -> bytes:
    """Return the first bytes that are sent; b"" if the library has come to pass something else."""
    try:
        return bytes(buffer[: len(HTTP2_PREFACE)])
    except TypeError:
        return b""
