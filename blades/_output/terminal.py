"""Printing a stream: text as it comes, and nothing but text where a terminal would obey it.

A terminal takes orders from what is written to it: move the cursor, rename the window, fill the clipboard, hide a link
behind other words. A model can be made to write such orders by anybody whose text it has read. `TerminalFilter` takes
them out, and keeps what is left to read.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import closing, suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from blades._output.protocol import ReadableStream, Writable
    from blades._values import Reply

SEQUENCE_LIMIT: Final = 64  # characters of a control sequence (CSI); the longest in use have about 30
STRING_LIMIT: Final = 4096  # characters of a control string (OSC, DCS, ...): a clipboard or a picture may be long

# Everything below a space but tab and newline, DEL, the C1 controls, and the characters that turn the reading direction
# round. The marks U+200E, U+200F and U+061C stay: right-to-left languages need them, and they override nothing. A
# carriage return goes: it lets what follows overwrite the line. Of a CRLF the newline is left, which is all a terminal
# needs.
_CONTROL = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\u202a-\u202e\u2066-\u2069]")

_ESC: Final = "\x1b"
_STRING_STARTS: Final = {"\x90", "\x98", "\x9d", "\x9e", "\x9f"}  # DCS, SOS, OSC, PM, APC in one character
_STRING_ENDS: Final = {"\x07", "\x18", "\x1a", "\x9c", "\n"}  # BEL, CAN, SUB, ST; no string in use goes over a newline
# Sequences of two characters that terminals know: reset, save and restore the cursor, index, keypad modes, shifts, ST.
# After any other character a lone ESC goes alone: what follows it may be meant to be read.
_PAIRS: Final = "78=>cDEHMNOZno|}~\\"
# Those of three: what may follow the second character. Character sets, line sizes, encodings, 7-bit controls.
_TRIPLES: Final = {
    **dict.fromkeys("()*+", "0124567<=>ABCEHKQRYZ`"),
    **dict.fromkeys("-./", "ABFHLM"),
    "#": "34568",
    "%": "@G",
    " ": "FGLMN",
}


class _At(Enum):
    """Where the filter is."""

    TEXT = auto()
    ESCAPE = auto()  # after ESC
    TRIPLE = auto()  # after ESC and the first character of two
    SEQUENCE = auto()  # in CSI: parameters, then one final character
    STRING = auto()  # in OSC, DCS, SOS, PM or APC: anything, then a terminator


@final
class TerminalFilter:
    """Takes control sequences and control characters out of a text that comes in pieces.

    The result is the same however the text is cut. What never ends hides a bounded number of characters, and of a
    string no more than the rest of the line.
    """

    def __init__(self) -> None:
        self._at = _At.TEXT
        self._held = ""  # the visible character after ESC that belongs to a sequence only if another follows
        self._length = 0  # of the sequence or string so far

    def feed(self, text: str) -> str:
        """Return what of the next piece may reach a terminal."""
        if self._at is _At.TEXT and _CONTROL.search(text) is None:
            return text
        pieces: list[str] = []
        position = 0
        while position < len(text):
            if self._at is _At.TEXT:
                control = _CONTROL.search(text, position)
                end = len(text) if control is None else control.start()
                pieces.append(text[position:end])
                position = end
            if position < len(text):
                pieces.append(self._step(text[position]))
                position += 1
        return "".join(pieces)

    def flush(self) -> str:
        """Return what was held back at the end of the text."""
        held, self._held, self._at = self._held, "", _At.TEXT
        return held

    def _step(self, char: str) -> str:
        """Take one character, and return what is visible of it (and of one that was held back)."""
        if char == _ESC:
            visible = self.flush()
            self._at = _At.ESCAPE
            return visible
        match self._at:
            case _At.TEXT:
                return self._text(char)
            case _At.ESCAPE:
                return self._escape(char)
            case _At.TRIPLE:
                known = char in _TRIPLES[self._held]
                held = self.flush()
                return "" if known else held + self._text(char)
            case _At.SEQUENCE:
                return self._sequence(char)
        return self._string(char)

    def _text(self, char: str) -> str:
        self._at = _At.TEXT
        self._length = 0
        if char == "\x9b":
            self._at = _At.SEQUENCE
        elif char in _STRING_STARTS:
            self._at = _At.STRING
        return "" if _CONTROL.match(char) else char

    def _escape(self, char: str) -> str:
        if char in _TRIPLES:
            self._at = _At.TRIPLE
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
            self._at = _At.TEXT
            return ""
        if " " <= char <= "?" and self._length < SEQUENCE_LIMIT:
            return ""
        return self._text(char)  # no sequence: it ends before this character

    def _string(self, char: str) -> str:
        self._length += 1
        if char in _STRING_ENDS or self._length >= STRING_LIMIT:
            self._at = _At.TEXT
        return "\n" if char == "\n" else ""


@final
class _Output:
    """A file to print to, and what is known about it."""

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
        """Write a piece at once, filtered for a terminal; a dim part stands apart from the rest by an empty line."""
        if dim is not self._dim:
            self._leave()
            self._put("\n" * (2 - (self._tail[-1:] == "\n") - (self._tail == "\n\n")))
            self._dim = dim
            if dim and self._dims:
                self._send("\x1b[2m")
        self._put(text if self._filter is None else self._filter.feed(text))

    def end(self) -> None:
        """Leave a terminal as it was: in its usual colour, at the start of a line. Nothing is added to a file."""
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
            self._tail = (self._tail + text)[-2:]  # before it is written: an interrupt may come in between
            self._send(text)

    def _send(self, text: str) -> None:
        if self._file is None:  # a program without a console has no sys.stdout
            return
        try:
            self._file.write(text)
        except UnicodeEncodeError as error:
            if not self._terminal:
                raise  # what is kept must be whole
            self._file.write(text.encode(error.encoding, "replace").decode(error.encoding))
        flush = getattr(self._file, "flush", None)
        if flush is not None:
            flush()


def print_stream(stream: ReadableStream, file: Writable | None, *, reasoning: bool, escape: bool) -> Reply:
    """Do the work of `Stream.print`."""
    output = _Output(sys.stdout if file is None else file, escape=escape)
    try:
        with closing(iter(stream)) as chunks:  # leaving it ends the stream
            for chunk in chunks:
                if reasoning and chunk.reasoning:
                    output.write(chunk.reasoning, dim=True)
                if chunk.text:
                    output.write(chunk.text)
    except KeyboardInterrupt:
        stream.close()  # it may have come before the loop began
    except BaseException:
        with suppress(OSError, ValueError):  # the file may be what failed
            output.end()
        raise
    reply = stream.reply()
    if reply.refusal and not reply.text:
        output.write(reply.refusal)
    output.end()
    return reply
