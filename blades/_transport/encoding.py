"""Bodies in an encoding that `blades._wire.inflate` does not know: the HTTP library decodes them, if it can.

It skips the names in a ``Content-Encoding`` that it does not know, and returns such a body as it came. Some servers put
a name there that is no encoding ("utf-8", "none") before a body that is plain text.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any, Final

from blades._wire.inflate import EncodingError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROBE: Final = b"not encoded"
_START_BYTES: Final = 64  # of a compressed body, they are never text
_CONTROL = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f]")


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
