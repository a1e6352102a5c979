"""Bytes to server-sent events: pure, incremental, after the specification, with the tolerances real servers need.

The specification is https://html.spec.whatwg.org/multipage/server-sent-events.html. What differs from it:

- The last event counts also without its blank line, or any line end (LitServe, transformers).
- Lines that belong to no field are kept (`Decoder.stray`): a proxy's ``upstream error: timeout``, or a body that is
  no event stream at all.
- ``id`` and ``retry`` are read and dropped: nothing here reconnects.

Nothing is decoded to text before whole events are there, so a character cut between two reads needs no care, and
U+2028, U+0085 and form feed are no line ends.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias, final

EVENT_LIMIT_BYTES = 16 * 2**20
STRAY_BYTES = 4096  # enough for the error object of a server that forgot the data: before it
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Event: TypeAlias = tuple[bytes, bytes]
"""The ``event`` field (``b""`` if there was none) and the data, its lines joined with LF; never empty data."""


class EventTooLongError(Exception):
    """An event, a line, or a body that is no event stream, is past the limit: nothing more can be read."""


@final
class Decoder:
    """One stream's decoder. Feed it bytes cut anywhere; take events until there is None.

    Attributes:
        is_stream: A field of an event stream was seen (a comment alone is not enough).
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_limit",
        "_lines",
        "_name",
        "_partial",
        "_size",
        "_stray",
        "_stray_size",
        "_too_long",
        "is_stream",
    )

    def __init__(self, *, limit_bytes: int = EVENT_LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._lines: deque[bytes] = deque()  # whole lines, not looked at yet
        self._partial = bytearray()  # the line that has no end yet
        self._after_cr = False  # the last byte was CR: an LF that follows belongs to it
        self._at_start = True
        self._too_long = False  # raised once the lines before it are used up
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0
        self._stray: list[bytes] = []
        self._stray_size = 0
        self.is_stream = False

    @property
    def stray(self) -> bytes:
        """The last line that belongs to no field; all of them if they may be a JSON body instead of a stream."""
        return b"\n".join(self._stray)

    def feed(self, data: bytes) -> None:
        """Add bytes. Cheap: they are cut into lines, and looked at by `next_event`."""
        if self._too_long or not data:
            return
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._too_long = len(self._partial) + len(data) > self._limit
        lines = data.split(b"\n")
        last = lines.pop()
        if lines:
            if self._partial:
                lines[0] = bytes(self._partial) + lines[0]
                self._partial.clear()
            if self._at_start:
                self._at_start = False
                lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
        self._partial += last
        if self._too_long:
            self._check_lengths(lines)
        self._lines.extend(lines)

    def _check_lengths(self, lines: list[bytes]) -> None:
        """Find out whether one line is past the limit, or only the sum of several."""
        for number, line in enumerate(lines):
            if len(line) > self._limit:
                del lines[number:]
                self._partial.clear()
                return
        self._too_long = len(self._partial) > self._limit
        if self._too_long:
            self._partial.clear()

    def end(self) -> None:
        """Say that the body ended: the last line and the last event need no end of their own."""
        self._after_cr = False
        self.feed(b"\n\n")

    def next_event(self) -> Event | None:
        """Return the next event; None if more bytes are needed.

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
            if line:
                self._field(line)
            elif event := self._dispatch():
                return event
        if self._too_long:
            raise EventTooLongError
        return None

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._size += len(line)
            if self._size > self._limit:
                self._give_up()
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._name = value.strip()
        elif name not in (b"", b"id", b"retry"):
            self._keep_stray(line)
            return
        self.is_stream = self.is_stream or name != b""

    def _dispatch(self) -> Event | None:
        name, data = self._name, b"\n".join(self._data)
        self._name = b""
        self._data.clear()
        self._size = 0
        return (name, data) if data else None

    def _keep_stray(self, line: bytes) -> None:
        if not line.strip():
            return
        first = self._stray[0] if self._stray else line
        if self.is_stream or not first.lstrip().startswith(b"{"):
            self._stray = [line[:STRAY_BYTES]]
            return
        self._stray_size += len(line)
        if self._stray_size > self._limit:
            self._give_up()
        self._stray.append(line)

    def _give_up(self) -> None:
        self._too_long = True
        self._lines.clear()
        self._partial.clear()
        self._data.clear()
        self._stray.clear()
        raise EventTooLongError
