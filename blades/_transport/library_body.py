"""The body of an answer, read through the HTTP library.

What `blades._wire.inflate` does not know, the library decodes, if it can. It skips the names in a ``Content-Encoding``
that it does not know, and returns such a body as it came. Some servers put a name there that is no encoding ("utf-8",
"none") before a body that is plain text.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any, Final

from blades._clock import monotonic
from blades._transport.cancel import DRAIN_SECONDS
from blades._values import StreamState
from blades._wire.inflate import ENCODINGS, EncodingError, Inflater

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blades._transport.opened import OpenedResponse
    from blades._transport.state import CallState

_PROBE: Final = b"not encoded"
_START_BYTES: Final = 64  # of a compressed body, they are never text
_CONTROL = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f]")


def pieces_of(opened: OpenedResponse) -> Iterator[bytes]:
    """Read the decoded body through the library; no piece is empty.

    Raises:
        EncodingError: The body is in an encoding that nobody here knows, or damaged.
    """
    stream = getattr(opened.raw, "stream", None)  # may have another name in a version to come
    understood = opened.encoding in {"", "identity"} or opened.encoding in ENCODINGS
    if stream is None or opened.is_closed or not understood:
        yield from decoded_pieces(opened.raw, opened.encoding)
        return
    inflater = Inflater(opened.encoding) if opened.encoding in ENCODINGS else None
    for piece in stream:
        if not is_wanted(opened.scope.state):  # a socket that was shut down has data as long as the server floods it
            return
        if inflater is not None:
            yield from inflater.feed(piece)  # a small body may hold gigabytes: they are made piece by piece
        elif piece:
            yield piece
    connection = opened.connection
    if connection is not None and opened.chunked and connection.has_leftover:
        connection.retire()  # bytes after the end would be read as the answer to the next request


def is_wanted(state: CallState) -> bool:
    """Return whether the rest of a body is wanted: by the reader, or for the sake of the connection."""
    drains_until = (state.ended_at or monotonic()) + DRAIN_SECONDS
    return state.active or (state.value is StreamState.FINISHED and monotonic() < drains_until)


def decoded_pieces(response: Any, encoding: str) -> Iterator[bytes]:
    """Read a body through the HTTP library; no piece is empty.

    Raises:
        EncodingError: The body is in an encoding that nobody here knows, or damaged.
    """
    unknown = [name for name in re.split(r"[\s,]+", encoding) if not _is_decoded(response, name)]
    start = codecs.getincrementaldecoder("utf-8")()
    left = _START_BYTES if unknown else 0
    try:
        for piece in filter(None, response.iter_bytes()):
            if left:
                begin = piece[:left]
                left -= len(begin)
                start.decode(begin)
                if _CONTROL.search(begin):
                    raise _unknown(response, unknown)
            yield piece
    except UnicodeDecodeError:
        raise _unknown(response, unknown) from None
    except Exception as error:
        if type(error).__name__ != "DecodingError":
            raise
        raise EncodingError(f"expected a body in {encoding[:80]!r}, got damaged data ({error})") from error


def _is_decoded(response: Any, name: str) -> bool:
    """Return whether the HTTP library decodes an encoding: then what is not encoded does not come through unchanged."""
    if name in {"", "identity"}:
        return True
    try:
        return bool(type(response)(200, headers={"content-encoding": name}, content=_PROBE).content != _PROBE)
    except Exception:  # the library's DecodingError; or there is no such way to ask any more
        return True


def _unknown(response: Any, names: list[str]) -> EncodingError:
    library = type(response).__module__.partition(".")[0]
    return EncodingError(
        f"expected an encoding that {library} can decode here, got {', '.join(names)[:80]!r}: "
        "pass extra_headers={'Accept-Encoding': 'identity'}, or install "
        f"'{library}[brotli,zstd]'"
    )
