"""Bytes of a chunked HTTP/1.1 body to its content: pure, incremental, and only what is usual.

The coding is that of RFC 9112, section 7.1. The last chunk, trailers, chunk extensions and whatever is malformed are
left to the HTTP library, which stands before a chunk all the while: see `Chunked.rest`.
"""

from __future__ import annotations

import re
from typing import final

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_SIZE_BEGUN = re.compile(rb"[0-9A-Fa-f]{1,8}\r?\Z")
_END = b"\r\n"


@final
class Chunked:
    """One body's decoder. Feed it bytes cut anywhere.

    Attributes:
        rest: What the HTTP library must read instead, beginning where a chunk begins; None as long as it need not.
            After that, nothing more may be fed.
    """

    def __init__(self) -> None:
        self.rest: bytes | None = None
        self._held = b""  # a size, or the end of a chunk, that is cut
        self._left = 0  # to the end of this chunk, what is held and the CRLF after it included; 0 between chunks

    def feed(self, data: bytes) -> bytes:
        """Add bytes; return the content in them."""
        if self._held:
            data, self._held = self._held + data, b""
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
                self._held = data[content_end:]
                left = end - size + len(self._held)
                break
            if data[content_end:end] != _END:
                self.rest = _END  # where a size should be: the library says what it says of a malformed body
                break
            position, left = end, 0
        self._left = left
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _leave(self, data: bytes) -> None:
        """Deal with what is no whole size of a chunk."""
        if _SIZE_BEGUN.match(data):
            self._held = data
        else:
            self.rest = data
