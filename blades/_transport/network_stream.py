"""The HTTP library's network streams: what is known of their kinds, and of the calls of their methods."""

from __future__ import annotations

from typing import Any, Final, final

HTTP2_PREFACE: Final = b"PRI * HTTP/2.0"


@final
class StreamKinds:
    """What is known of each kind of network stream: how its library reads, as far as that was seen.

    ::

        read ──> proven | read past

    A library that read a body past `TrackedConnection.read` would wait for ever for the last chunk that is pushed back
    to it. So until one was seen to read that, it is pushed back in a thread of its own; and where it was waited for in
    vain, every further body is read through the library. What was seen stays true: nothing is ever removed here, and a
    proof, which may come late, counts more than a wait in vain. So no lock is needed.
    """

    def __init__(self) -> None:
        self._read: set[type] = set()
        self._proven: set[type] = set()
        self._waited_in_vain: set[type] = set()

    def note_read(self, kind: type) -> None:
        """Note that the library has read through the wrapper: the headers at least."""
        self._read.add(kind)

    def note_proof(self, kind: type) -> None:
        """Note that the library has read what was pushed back."""
        self._proven.add(kind)

    def note_wait_in_vain(self, kind: type) -> None:
        """Note that the library has not read what was pushed back."""
        self._waited_in_vain.add(kind)

    def is_read(self, kind: type) -> bool:
        """Return whether the library reads through the wrapper at all."""
        return kind in self._read

    def is_proven(self, kind: type) -> bool:
        """Return whether the library is known to read what is pushed back."""
        return kind in self._proven

    def is_read_past(self, kind: type) -> bool:
        """Return whether the library seems to read bodies past the wrapper."""
        return kind in self._waited_in_vain and kind not in self._proven


stream_kinds: Final = StreamKinds()


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
