"""Bytes of a chunked HTTP/1.1 body to its content: pure, incremental, and only what is common.

The coding is that of RFC 9112, section 7.1. The last chunk, trailers, chunk extensions and whatever is malformed are
left to the HTTP library, which is at the beginning of a chunk all the while: see `Chunked.handed_back`.
"""

from __future__ import annotations

import re
from typing import Final, final

LAST_CHUNK: Final = b"0\r\n\r\n"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_SIZE_BEGUN = re.compile(rb"[0-9A-Fa-f]{1,8}\r?\Z")
_END = b"\r\n"


@final
class Chunked:
    """The decoder of one body. Feed it bytes cut anywhere.

    Attributes:
        handed_back: What the HTTP library must read instead, beginning where a chunk begins; None as long as it need
            not. After that, nothing more may be decoded. `LAST_CHUNK` is handed back whole, whatever follows it.
    """

    __slots__ = ("_left", "_pending", "handed_back")

    def __init__(self) -> None:
        self.handed_back: bytes | None = None
        self._pending = b""  # a size, the end of a chunk, or the last chunk, if it is cut
        self._left = 0  # to the end of this chunk, what is pending and the CRLF after it included; 0 between chunks

    def decode(self, data: bytes) -> bytes:
        """Add bytes; return the content in them."""
        if self._pending:
            data, self._pending = self._pending + data, b""
        elif not self._left:
            parts = data.split(_END, 2)
            if len(parts) == 3 and parts[1] and not parts[2] and parts[0] == b"%x" % len(parts[1]):
                return parts[1]  # one whole chunk, which is what nearly every read of a paced answer brings
        pieces = []
        position, size, left = 0, len(data), self._left
        while position < size:
            if not left:
                found = _SIZE.match(data, position)
                left = int(found[1], 16) if found else 0
                if not found or not left:
                    self._leave(data[position:])
                    break
                position = found.end()
                left += len(_END)
            end = position + left
            content_end = end - len(_END)
            if position < content_end:
                pieces.append(data[position:content_end])
            if end > size:
                self._pending = data[content_end:]
                left = end - size + len(self._pending)
                break
            if data[content_end:end] != _END:
                self.handed_back = _END  # where a size should be: the library raises its own error
                break
            position, left = end, 0
        self._left = left
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _leave(self, data: bytes) -> None:
        """Keep what may become a size or the last chunk; hand back anything else."""
        if _SIZE_BEGUN.match(data) or (len(data) < len(LAST_CHUNK) and LAST_CHUNK.startswith(data)):
            self._pending = data
        else:
            self.handed_back = data
