"""Prints a stream: the text as it arrives, on a terminal without control sequences.

A terminal executes control sequences in the text written to it: they move the cursor, rename the window, fill the
clipboard, hide a link behind other words. Anybody whose text a model has read can make the model write them.
`TerminalFilter` removes them and keeps the readable text.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import closing, suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, final

from blades._output.tool_line import tool_line

if TYPE_CHECKING:
    from blades._output.protocol import ReadableStream, Writable
    from blades._values import Reply

SEQUENCE_LIMIT: Final = 64  # characters of a control sequence (CSI); the longest in use have about 30
STRING_LIMIT: Final = 4096  # characters of a control string (OSC, DCS, ...), which may hold a picture

# The C0 controls except tab and newline, DEL, the C1 controls, and the characters that override the reading direction.
# The marks U+200E, U+200F and U+061C stay: right-to-left languages need them, and they override nothing. A carriage
# return is removed, since the text after it would overwrite the line; a terminal needs only the newline of a CRLF.
_CONTROL = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\u202a-\u202e\u2066-\u2069]")

_ESC: Final = "\x1b"
_STRING_STARTS: Final = {"\x90", "\x98", "\x9d", "\x9e", "\x9f"}  # DCS, SOS, OSC, PM, APC in one character
_STRING_ENDS: Final = {"\x07", "\x18", "\x1a", "\x9c", "\n"}  # BEL, CAN, SUB, ST; no string in use goes over a newline
# Sequences of two characters that terminals know: reset, save and restore the cursor, index, keypad modes, shifts, ST.
# Before any other character only the ESC is removed: the character may be meant to be read.
_PAIRS: Final = "78=>cDEHMNOZno|}~\\"
# Sequences of three: the second character, and all that may follow it. Character sets, line sizes, encodings.
_TRIPLES: Final = {
    **dict.fromkeys("()*+", "0124567<=>ABCEHKQRYZ`"),
    **dict.fromkeys("-./", "ABFHLM"),
    "#": "34568",
    "%": "@G",
    " ": "FGLMN",
}


class _State(Enum):
    """The state of the filter."""

    TEXT = auto()
    ESCAPE = auto()  # after ESC
    TRIPLE = auto()  # after ESC and the first character of two
    SEQUENCE = auto()  # in CSI: parameters, then one final character
    STRING = auto()  # in OSC, DCS, SOS, PM or APC: anything, then a terminator


@final
class TerminalFilter:
    """Removes control sequences and control characters from a text that arrives in chunks.

    The result does not depend on the chunks. A sequence without an end hides a bounded number of characters, and a
    control string at most the rest of the line.
    """

    def __init__(self) -> None:
        self._state = _State.TEXT
        self._held = ""  # the visible character after ESC that belongs to a sequence only if another follows
        self._length = 0  # of the sequence or string so far

    def feed(self, text: str) -> str:
        """Return the part of the next chunk that a terminal may get."""
        if self._state is _State.TEXT and _CONTROL.search(text) is None:
            return text
        pieces: list[str] = []
        position = 0
        while position < len(text):
            if self._state is _State.TEXT:
                control = _CONTROL.search(text, position)
                end = len(text) if control is None else control.start()
                pieces.append(text[position:end])
                position = end
            if position < len(text):
                pieces.append(self._step(text[position]))
                position += 1
        return "".join(pieces)

    def flush(self) -> str:
        """Return the character that was held back at the end of the text."""
        held, self._held, self._state = self._held, "", _State.TEXT
        return held

    def _step(self, char: str) -> str:
        """Take one character; return it if it is visible, after the one that was held back."""
        if char == _ESC:
            visible = self.flush()
            self._state = _State.ESCAPE
            return visible
        match self._state:
            case _State.TEXT:
                return self._text(char)
            case _State.ESCAPE:
                return self._escape(char)
            case _State.TRIPLE:
                known = char in _TRIPLES[self._held]
                held = self.flush()
                return "" if known else held + self._text(char)
            case _State.SEQUENCE:
                return self._sequence(char)
        return self._string(char)

    def _text(self, char: str) -> str:
        self._state = _State.TEXT
        self._length = 0
        if char == "\x9b":
            self._state = _State.SEQUENCE
        elif char in _STRING_STARTS:
            self._state = _State.STRING
        return "" if _CONTROL.match(char) else char

    def _escape(self, char: str) -> str:
        if char in _TRIPLES:
            self._state = _State.TRIPLE
            self._held = char
            return ""
        if char == "[":
            return self._text("\x9b")
        if char in "]PX^_":
            return self._text("\x9d")
        visible = self._text(char)
        return "" if char in _PAIRS else visible

    def _sequence(self, char: str) -> str:
        self._length += 1
        if "@" <= char <= "~":
            self._state = _State.TEXT
            return ""
        if " " <= char <= "?" and self._length < SEQUENCE_LIMIT:
            return ""
        return self._text(char)  # not a sequence, which would end before this character

    def _string(self, char: str) -> str:
        self._length += 1
        if char in _STRING_ENDS or self._length >= STRING_LIMIT:
            self._state = _State.TEXT
        return "\n" if char == "\n" else ""


@final
class _Output:
    """A file to print to, and the state of its last line."""

    def __init__(self, file: Writable | None, *, escape: bool) -> None:
        self._file = file
        isatty = getattr(file, "isatty", None)
        self._terminal = isatty is not None and bool(isatty())
        self._filter = TerminalFilter() if escape and self._terminal else None
        # https://no-color.org: present and not empty. A dumb terminal would show the codes as text.
        self._dims = self._terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._dim = False
        self._tail = "\n\n"  # the last two characters written; at first, the start of a line

    def write(self, text: str, *, dim: bool = False) -> None:
        """Write a chunk at once, filtered for a terminal. An empty line separates a dim part from the rest."""
        if dim is not self._dim:
            self._leave()
            self._put("\n" * (2 - (self._tail[-1:] == "\n") - (self._tail == "\n\n")))
            self._dim = dim
            if dim and self._dims:
                self._send("\x1b[2m")
        self._put(text if self._filter is None else self._filter.feed(text))

    def write_line(self, line: str) -> None:
        """Write a dim line; to a terminal only."""
        if self._terminal:
            self.write("", dim=True)
            self._put("\n" * (self._tail[-1] != "\n"))
            self._put(f"{line}\n")

    def end(self) -> None:
        """Leave a terminal in its usual colour and at the start of a line. Nothing is added to a file."""
        self._leave()
        if self._terminal and self._tail[-1] != "\n":
            self._put("\n")

    def _leave(self) -> None:
        """End a part."""
        if self._filter is not None:
            self._put(self._filter.flush())
        if self._dim and self._dims:
            self._send("\x1b[22m")
        self._dim = False

    def _put(self, text: str) -> None:
        if text:
            self._tail = (self._tail + text)[-2:]  # set before writing, which an interrupt may end
            self._send(text)

    def _send(self, text: str) -> None:
        if self._file is None:  # a program without a console has no sys.stdout
            return
        try:
            self._file.write(text)
        except UnicodeEncodeError as error:
            if not self._terminal:
                raise  # a file must hold the whole text
            # The error of a codec made from a table names "charmap", which is another codec.
            encoding = getattr(self._file, "encoding", None) or error.encoding
            self._file.write(text.encode(encoding, "replace").decode(encoding))
        flush = getattr(self._file, "flush", None)
        if flush is not None:
            flush()


def print_stream(
    stream: ReadableStream, file: Writable | None, *, reasoning: bool, escape: bool, from_start: bool = False
) -> Reply:
    """Do the work of `Stream.print`. Whatever is raised, by the file too, the stream is closed before.

    Args:
        stream: The stream.
        file: As for `Stream.print`, like the next two.
        reasoning: See `file`.
        escape: See `file`.
        from_start: Write the text that was read before, too.
    """
    __tracebackhide__ = True
    try:
        output = _Output(sys.stdout if file is None else file, escape=escape)
    except BaseException:
        stream.close()
        raise
    try:
        if from_start and stream.text:
            output.write(stream.text)
        with closing(iter(stream)) as chunks:  # closes the stream, unless another thread reads it
            for chunk in chunks:
                if reasoning and chunk.reasoning:
                    output.write(chunk.reasoning, dim=True)
                if chunk.text:
                    output.write(chunk.text)
                for result in chunk.tool_results:
                    output.write_line(tool_line(result))
    except KeyboardInterrupt:
        stream.close()  # it may have been raised before the loop began
    except BaseException:
        with suppress(Exception):  # the file may be what failed; the first exception is the cause
            output.end()
        raise
    reply = stream.reply()
    if reply.refusal and not reply.text:
        output.write(reply.refusal)
    output.end()
    return reply
