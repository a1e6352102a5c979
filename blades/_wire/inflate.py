"""Compressed bytes of a body to its content: pure, in bounded pieces, one at a time.

A body of 200 kB can hold gigabytes. So each piece is made when it is asked for, and none before.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterator

ENCODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})
PIECE_BYTES: Final = 65536
# zlib copies what it did not use of its input, at each end of a member and each full piece: from short input, little.
_INPUT_BYTES: Final = 4096
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


@final
class EncodingError(ValueError):
    """A body is not in the encoding that its ``Content-Encoding`` header names, or is damaged."""


@final
class Inflater:
    """The decoder of one body. Feed it bytes cut anywhere.

    Args:
        encoding: One of `ENCODINGS`, in any case.

    Raises:
        ValueError: Another encoding.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in ENCODINGS:
            raise ValueError(f"expected an encoding out of {', '.join(sorted(ENCODINGS))}, got {encoding[:80]!r}")
        self._inflate = zlib.decompressobj(_GZIP)
        self._buffer = b""
        self._position = 0  # in the buffer: what is before was used
        self._more = False  # a piece was full: there may be content without any further input
        self._at_start = True  # of a member
        self._begun = False
        self._over = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add bytes; return an iterator over the content that they complete.

        The pieces are at most 64 KiB long and never empty. Each is made when the iterator is asked for it. An iterator
        may be dropped before its end: the next one goes on there.

        Raises:
            EncodingError: Raised by the iterator: the body is not in that encoding, or damaged.
        """
        self._buffer = self._buffer[self._position :] + data
        self._position = 0
        return self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        while (self._more or self._position < len(self._buffer)) and not self._over:
            if self._at_start and not self._begin():
                return
            taken = self._buffer[self._position : self._position + _INPUT_BYTES]
            try:
                piece = self._inflate.decompress(taken, PIECE_BYTES)
            except zlib.error as error:
                raise EncodingError(
                    f"expected a body in {self._encoding}, as its Content-Encoding says, got damaged data ({error})"
                ) from error
            ended = self._inflate.eof
            rest = self._inflate.unused_data if ended else self._inflate.unconsumed_tail
            self._position += len(taken) - len(rest)
            self._more = len(piece) == PIECE_BYTES and not ended
            if ended:
                self._at_start = self._encoding != "deflate"
                self._over = not self._at_start
                self._inflate = zlib.decompressobj(_GZIP)
            if piece:
                yield piece

    def _begin(self) -> bool:
        """Choose the format by the first two bytes; False if they are not there yet."""
        start = self._buffer[self._position : self._position + 2]
        if self._encoding == "deflate":
            if len(start) == 2:  # of the zlib format, which "deflate" means; some servers send bare data
                zlib_header = start[0] & 15 == zlib.DEFLATED and int.from_bytes(start, "big") % 31 == 0
                self._inflate = zlib.decompressobj(_ZLIB if zlib_header else _RAW)
        elif not _GZIP_MAGIC.startswith(start):
            if self._begun:  # after the end of a member: padding, or nothing that is meant for us
                self._over = True
                return False
            shown = self._buffer[self._position : self._position + 40]
            raise EncodingError(
                f"expected a body in {self._encoding}, got {shown!r}: its Content-Encoding header is false"
            )
        self._at_start = len(start) < len(_GZIP_MAGIC)
        self._begun = self._begun or not self._at_start
        return not self._at_start
