"""What grows while an answer arrives: texts, tool calls, and fields that nobody here knows.

The decoder adds to all of them in steps, and each step is added as a whole or not at all, also if a signal handler
interrupts it and ends the stream (see `CompletionDecoder.freeze`). Hence two kinds of methods. Those that prepare a
step belong to the one thread that reads, and change nothing that a caller can see. Those that add (``append_once``) can
be called again for the same step, by a signal handler that found it half added: `serial`, which grows from step to
step, shows that a piece was added before.

CPython runs signal handlers and switches threads after calls and at backward jumps only. Where a method relies on that,
there is no call between the two statements that belong together.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, final

from blades._wire.deltas import clean
from blades._wire.merge import merge_fields

if TYPE_CHECKING:
    from blades._wire.deltas import Json

REPLACEMENT = "\ufffd"
PIECES_LIMIT = 512


@final
class TextAccumulator:
    """A text that grows: kept as pieces, joined on demand.

    Reading after each piece stays linear: CPython appends in place to a string with one reference, so `get` detaches
    the string from its attribute first. No call happens between detach and re-attach, hence no signal handler runs
    there. Other threads that read wait for the lock, which is re-entrant because a signal handler may read, too.
    """

    __slots__ = ("_joined", "_lock", "_serial", "pending_surrogate", "pieces")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._joined = ""
        self.pending_surrogate = ""  # the first half of a pair, held back until the second arrives
        self._serial = -1
        self._lock = RLock()

    def __bool__(self) -> bool:
        return bool(self._joined or self.pieces)

    def prepare(self, piece: str, may_have_surrogates: bool) -> str:  # once per token
        """Return the part of a new piece that can be returned: whole characters."""
        if may_have_surrogates or self.pending_surrogate:
            piece, self.pending_surrogate = self.pending_surrogate + piece, ""
            if "\ud800" <= piece[-1:] <= "\udbff":
                piece, self.pending_surrogate = piece[:-1], piece[-1]
            piece = clean(piece)
        return piece

    def flush(self) -> str:
        """Return a replacement for half of a surrogate pair that stayed alone, or ``""``."""
        pending, self.pending_surrogate = self.pending_surrogate, ""
        return REPLACEMENT if pending else ""

    def append_once(self, serial: int, piece: str) -> None:
        """Append a prepared piece, unless the piece with this serial was appended before."""
        if piece and self._serial < serial:
            self._serial = serial
            self.pieces.append(piece)
            if len(self.pieces) > PIECES_LIMIT:  # many small strings take much more memory than one
                self.get()

    def get(self) -> str:
        """Return the whole text."""
        with self._lock:
            pieces = self.pieces
            known = len(pieces)
            new = "".join(pieces[:known])  # another thread may append meanwhile
            if known:
                joined = self._joined
                self._joined = ""
                joined += new
                self._joined = joined
                del pieces[:known]
            return self._joined


@final
class FieldAccumulator:
    """Fields by name, each in pieces. See `merge_fields` for how they become one."""

    __slots__ = ("_limit", "_pieces", "_serial")

    def __init__(self, pieces_limit: int = PIECES_LIMIT) -> None:
        self._pieces: list[Json] = []
        self._serial = -1
        self._limit = pieces_limit

    def append_once(self, serial: int, fields: Json) -> None:
        """Add fields, unless those with this serial were added before."""
        if fields and self._serial < serial:
            self._serial = serial
            self._pieces.append(fields)

    def compact(self) -> None:
        """Merge the pieces if they are many. That can take long: the thread that adds does it, without a lock."""
        known = len(self._pieces)
        if known > self._limit:
            merged = [merge_fields(self._pieces[:known])]
            self._limit *= 2  # so that all of these mergers together take linear time
            self._pieces[:known] = merged

    def get(self) -> Json:
        """Return the fields, merged: a new dict that shares nothing with the pieces."""
        return merge_fields(self._pieces[:])
