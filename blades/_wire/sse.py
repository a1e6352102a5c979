"""Bytes to server-sent events: pure, incremental, after the specification, with the tolerances real servers need.

The specification is https://html.spec.whatwg.org/multipage/server-sent-events.html. What differs from it:

- The last event counts without its blank line, too, or without any line end (LitServe ends so).
- Whole JSON objects on consecutive ``data`` lines are events of their own (GLM and Kimi gateways send one line feed
  between events). No JSON goes on with ``{`` or ``[DONE]`` on a new line after a line that ends with ``}``.
- Lines that belong to no field are kept for messages (`EventDecoder.stray`): a proxy's ``upstream error: timeout``,
  or a body that is no event stream at all.
- ``id`` and ``retry`` are dropped: nothing here reconnects.

No byte is decoded to text here, so that a character cut between two reads needs no care. `bytes.splitlines` ends lines
at CR, LF and CRLF only, as the specification does; `str.splitlines` would at U+2028, U+0085 and form feed, too.
"""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from typing import TypeAlias, final

EVENT_LIMIT_BYTES = 16 * 2**20
STRAY_BYTES = 4096  # enough for the error object of a server that forgot the ``data:`` before it
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DONE = b"[DONE]"

Event: TypeAlias = tuple[bytes, bytes]
"""The ``event`` field (``b""`` if there was none) and the data, its lines joined with LF: never empty."""


class EventTooLongError(Exception):
    """An event, a line, or a body that is no event stream, is past the limit: nothing more can be read."""


def single_event(data: bytes, limit_bytes: int) -> bytes | None:
    """Return the data of an event if the bytes are just one, in the common form; else None.

    Between two events, nothing has to be queued for one that arrives alone.
    """
    lines = data.splitlines()
    if len(lines) == 2 and not lines[1] and lines[0].startswith(b"data: {") and len(data) <= limit_bytes:
        return lines[0][6:]
    return None


@final
class EventDecoder:
    """The decoder of one stream. Feed it bytes cut anywhere; take events until there is None.

    Attributes:
        is_stream: A field of an event stream was seen; a comment alone is not enough.
        unterminated: The body ended inside the event that was returned last.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_data_size",
        "_ended",
        "_limit",
        "_line_by_line",
        "_lines",
        "_name",
        "_partial",
        "_stray",
        "_stray_size",
        "_too_long",
        "is_stream",
        "unterminated",
    )

    def __init__(self, *, limit_bytes: int = EVENT_LIMIT_BYTES) -> None:
        self.is_stream = False
        self.unterminated = False
        self._ended = False
        self._limit = limit_bytes
        self._lines: deque[bytes] = deque()  # whole lines, not parsed yet
        self._partial = bytearray()  # the line that has no end yet
        self._after_cr = False  # the last byte was CR: an LF that follows belongs to it
        self._at_start = True
        self._too_long = False  # raised when the lines before it are used up
        self._name = b""
        self._data: list[bytes] = []
        self._data_size = 0
        self._line_by_line = False  # two events were seen without a blank line between them
        self._stray: list[bytes] = []
        self._stray_size = 0

    @property
    def stray(self) -> bytes:
        """The last line that belongs to no field; all of them while they may be a JSON body instead of a stream."""
        return b"\n".join(self._stray)

    @property
    def between_events(self) -> bool:
        """Whether nothing is left of what was fed: neither a whole event nor the beginning of one."""
        return self.is_stream and not (self._lines or self._partial or self._data or self._name)

    def feed(self, data: bytes) -> None:
        """Add bytes: cut into lines here, parsed by `next_event`."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if self._too_long or not data:
            return
        may_be_too_long = len(self._partial) + len(data) > self._limit
        lines = data.splitlines()
        self._after_cr = data.endswith(b"\r")
        rest = b"" if self._after_cr or data.endswith(b"\n") else lines.pop()
        if lines:
            if self._partial:
                lines[0] = bytes(self._partial) + lines[0]
                self._partial.clear()
            if self._at_start:
                self._at_start = False
                lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
        self._partial += rest
        if may_be_too_long:
            short = list(takewhile(lambda line: len(line) <= self._limit, lines))
            self._too_long = len(short) < len(lines) or len(self._partial) > self._limit
            lines = short
        self._lines += lines

    def end(self) -> None:
        """Mark the end of the body: the last line and the last event need no end of their own."""
        if self._partial:
            self.feed(b"\n")
        self._ended = True

    def next_event(self) -> Event | None:
        """Return the next event; None if that takes more bytes.

        Raises:
            EventTooLongError: Past the limit. Every whole event before that point was returned.
        """
        lines = self._lines
        while lines:
            line = lines.popleft()
            if line.startswith(b"data: {") and lines and not lines[0] and not self._data and not self._name:
                # What nearly every event is: one line of data and a blank line.
                lines.popleft()
                self.is_stream = True
                return b"", line[6:]
            if not line:
                event = self._dispatch()
            elif self._begins_event(line):
                self._line_by_line = True
                lines.appendleft(line)
                event = self._dispatch()
            else:
                self._field(line)
                whole = self._line_by_line and len(self._data) == 1 and self._data[0].endswith((b"}", DONE))
                event = self._dispatch() if whole else None
            if event:
                return event
        if self._too_long:
            self._abandon()
        self.unterminated = self._ended
        return self._dispatch() if self._ended else None

    def keep_stray(self, line: bytes) -> None:
        """Keep a line that is no part of an event."""
        if self.is_stream or not (self._stray or [line])[0].lstrip().startswith(b"{"):
            if line.strip():
                self._stray = [line[:STRAY_BYTES]]
            return
        self._stray_size += len(line)
        if self._stray_size > self._limit:
            self._abandon()
        self._stray.append(line)

    def _begins_event(self, line: bytes) -> bool:
        """Return whether a line cannot go on with the event before it, although there was no blank line."""
        if not self._data or not line.startswith(b"data:") or not self._data[-1].rstrip().endswith(b"}"):
            return False
        return line[5:].lstrip().startswith((b"{", DONE))

    def _dispatch(self) -> Event | None:
        name, data = self._name, b"\n".join(self._data)
        self._name, self._data, self._data_size = b"", [], 0
        return (name, data) if data else None

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data_size += len(line)
            if self._data_size > self._limit:
                self._abandon()
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._name = value.strip()
        elif not name:
            return  # a comment
        elif name not in (b"id", b"retry"):
            self.keep_stray(line)
            return
        self.is_stream = True

    def _abandon(self) -> None:
        self._too_long = True
        for kept in self._lines, self._partial, self._data, self._stray:
            kept.clear()
        raise EventTooLongError
