"""What grows while an answer comes: texts and tool calls. One thread adds, any thread reads."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, final

from blades._values import ToolCall
from blades._wire.deltas import clean, json_text, number, string

if TYPE_CHECKING:
    from blades._wire.deltas import Json

REPLACEMENT = "\ufffd"
PIECES_LIMIT = 512


@final
class Text:
    """A text that grows: kept as pieces, joined on demand.

    Reading after each piece stays linear: CPython appends in place to a string that nothing else refers to, so the
    string is taken off its attribute for that. There is no call between there and the end of the block, hence no switch
    to a signal handler (Ctrl-C) that would see or leave it halfway. Other threads that read wait for the lock; it is
    re-entrant because a signal handler may read, too.
    """

    __slots__ = ("_half", "_joined", "_lock", "_pieces")

    def __init__(self) -> None:
        self._joined = ""
        self._pieces: list[str] = []
        self._half = ""  # the first half of a surrogate pair, held back until the second comes
        self._lock = RLock()

    def __bool__(self) -> bool:
        return bool(self._joined or self._pieces)

    def add(self, piece: str, odd: bool) -> str:  # noqa: FBT001 - once per token
        """Append a piece, and return what of it can be handed out.

        Args:
            piece: The new text.
            odd: There can be surrogates in it.
        """
        if odd or self._half:
            piece, self._half = self._half + piece, ""
            if "\ud800" <= piece[-1:] <= "\udbff":
                piece, self._half = piece[:-1], piece[-1]
            piece = clean(piece)
        if piece:
            self._pieces.append(piece)
            if len(self._pieces) > PIECES_LIMIT:  # many small strings take much more memory than one
                self.get()
        return piece

    def flush(self) -> str:
        """Append a replacement for a half that stayed alone, and return it."""
        half, self._half = self._half, ""
        return self.add(REPLACEMENT if half else "", odd=False)

    def get(self) -> str:
        """Return the whole text."""
        with self._lock:
            pieces = self._pieces
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
class _Call:
    """One tool call while its parts come."""

    __slots__ = ("arguments", "id", "index", "name", "type")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.arguments = Text()
        self.type = "function"


@final
class Calls:
    """The tool calls of an answer, assembled from their parts."""

    __slots__ = ("_by_index", "_calls")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}  # the server's index -> the call that its parts go to now

    def __bool__(self) -> bool:
        return bool(self._calls)

    def get(self) -> tuple[ToolCall, ...]:
        """Return the calls as far as they came."""
        calls = sorted(self._calls, key=lambda call: call.index)
        return tuple(ToolCall(call.index, call.id, call.name, call.arguments.get(), call.type) for call in calls)

    def add(self, sent: list[Any], odd: bool) -> tuple[ToolCall, ...]:  # noqa: FBT001 - as for Text
        """Add the parts that came in one event, and return those that bring something."""
        parts = (self._add(part, odd) for part in sent if isinstance(part, dict))
        return tuple(part for part in parts if part is not None)

    def flush(self) -> tuple[ToolCall, ...]:
        """Add replacements for halves that stayed alone, and return them."""
        parts = (ToolCall(call.index, arguments=call.arguments.flush(), type=call.type) for call in self._calls)
        return tuple(part for part in parts if part.arguments)

    def _add(self, sent: Json, odd: bool) -> ToolCall | None:  # noqa: FBT001 - as for Text
        function = sent.get("function")
        if not isinstance(function, dict):
            function = {}
        id_, name = string(sent.get("id")) or "", string(function.get("name")) or ""
        arguments = json_text(function.get("arguments"))
        if not (id_ or name or arguments):
            return None
        call = self._find(number(sent.get("index")), id_, name)
        call.id = call.id or id_
        if call.name != name:  # some servers repeat it in every part
            call.name += name
        call.type = string(sent.get("type")) or call.type
        return ToolCall(call.index, id_, name, call.arguments.add(arguments, odd), call.type)

    def _find(self, index: int | None, id_: str, name: str) -> _Call:
        """Find the call that a part belongs to, or begin one."""
        if index is not None:
            call = self._by_index.get(index)
            # Gemini numbers every call 0: another id together with a name begins another call.
            if call is not None and not (name and id_ and call.id and call.id != id_):
                return call
        elif id_:
            for call in self._calls:
                if call.id == id_:
                    return call
        elif self._calls and not name:
            return self._calls[-1]
        taken = {call.index for call in self._calls}
        call = _Call(max(taken, default=-1) + 1 if index is None or index in taken else index)
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call
