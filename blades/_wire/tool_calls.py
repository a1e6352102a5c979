"""Parts of tool calls to calls: which call each part belongs to, and the calls so far.

Servers differ in how they mark the parts of one call: by index, by id, by name, by some of them, or by nothing. The
rules for that share one idea: a part that could begin another call does so only if the call before it is complete, and
a call is complete when the brackets of its arguments are closed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from blades._values import CUSTOM, ToolCall
from blades._wire.accumulate import FieldAccumulator, TextAccumulator
from blades._wire.deltas import json_text, number, string, unknown_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blades._wire.deltas import Json

_BRACKETS: Final = re.compile(r'\\.|\\\Z|["{}\[\]]', re.DOTALL)
_NAME_LIMIT: Final = 4096  # characters: a name that grows for ever would take quadratic time
_PART_FIELDS: Final = frozenset({"index", "id", "type", "function", CUSTOM})
_INNER_FIELDS: Final = {"function": frozenset({"name", "arguments"}), CUSTOM: frozenset({"name", "input"})}


@final
class _SentPart(NamedTuple):
    """What is in a part as the server sent it."""

    server_index: int | None
    id: str
    name: str
    arguments: str
    type: str
    extra: dict[str, Any]


@final
class PreparedPart(NamedTuple):
    """A part that has found its call."""

    serial: int
    call: _Call
    identity: tuple[str, str, str]
    part: ToolCall
    arguments: TextAccumulator


@final
class _Call:
    """One tool call while its parts come: what was committed, and what finding its parts takes."""

    __slots__ = (
        "arguments",
        "depth",
        "escaped",
        "extra",
        "id",
        "identity",
        "in_string",
        "index",
        "last_piece",
        "length",
        "name",
        "target",
        "type",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.identity = ("", "", "function")
        self.arguments = self.target = TextAccumulator()
        self.extra = FieldAccumulator()
        self.id = self.name = self.last_piece = ""
        self.type = "function"
        self.length = self.depth = 0
        self.in_string = self.escaped = False

    @property
    def complete(self) -> bool:
        """Whether the arguments are a whole JSON value, by their brackets. The input of a custom call need not be."""
        return self.length > 0 and not self.depth and not self.in_string and self.type != CUSTOM

    def is_repeated_by(self, sent: _SentPart) -> bool:
        """Return whether a part is this whole call once more (sent at the end by several gateways)."""
        if not sent.name or sent.name != self.name or len(sent.arguments) != self.length or not self.complete:
            return False
        return sent.arguments == self.last_piece or sent.arguments == self.target.get()

    def prepare(self, serial: int, sent: _SentPart, may_have_surrogates: bool) -> PreparedPart:
        """Take a part in; return what `commit` needs."""
        self.id = self.id or sent.id
        if sent.name != self.name and len(self.name) < _NAME_LIMIT:  # some servers repeat it in every part
            self.name += sent.name
        self.type = sent.type or self.type
        if self.last_piece == "{}" and self.length == len("{}") and sent.arguments.lstrip().startswith("{"):
            # An empty object first, the real arguments after it.
            self.length = 0
            self.target = TextAccumulator()
        piece = self.target.prepare(sent.arguments, may_have_surrogates)
        if sent.arguments:
            self._scan(sent.arguments)
        part = ToolCall(self.index, sent.id, sent.name, piece, self.type, sent.extra)
        return PreparedPart(serial, self, (self.id, self.name, self.type), part, self.target)

    def flush(self, serial: int) -> PreparedPart | None:
        """Return a part with a replacement for half of a surrogate pair that stayed alone."""
        piece = self.target.flush()
        part = ToolCall(self.index, arguments=piece, type=self.type)
        return PreparedPart(serial, self, (self.id, self.name, self.type), part, self.target) if piece else None

    def commit(self, prepared: PreparedPart) -> None:
        """Add a prepared part to what callers see. The same part can be committed again."""
        self.identity = prepared.identity
        self.arguments = prepared.arguments
        prepared.arguments.append_once(prepared.serial, prepared.part.arguments)
        self.extra.append_once(prepared.serial, prepared.part.extra)

    def get(self) -> ToolCall:
        """Return the call as far as it was committed."""
        id_, name, type_ = self.identity
        return ToolCall(self.index, id_, name, self.arguments.get(), type_, self.extra.get())

    def _scan(self, piece: str) -> None:
        """Follow the brackets of the arguments through a new piece."""
        if not self.length and piece.isspace():
            return
        self.length += len(piece)
        self.last_piece = piece
        start, self.escaped = int(self.escaped), False
        for found in _BRACKETS.finditer(piece, start):
            character = found[0][0]
            if character == '"':
                self.in_string = not self.in_string
            elif character == "\\":
                self.escaped = len(found[0]) == 1
            elif not self.in_string:
                self.depth += 1 if character in "{[" else -1


@final
class ToolCallAccumulator:
    """The tool calls of an answer, assembled from their parts."""

    __slots__ = ("_all", "_by_id", "_by_index", "_committed", "_last", "_next_index", "_serial")

    def __init__(self) -> None:
        self._committed: dict[int, _Call] = {}
        self._all: dict[int, _Call] = {}
        self._by_index: dict[int, _Call] = {}  # the server's index -> the call that its parts go to now
        self._by_id: dict[str, _Call] = {}
        self._last: _Call | None = None
        self._next_index = 0
        self._serial = 0

    def __bool__(self) -> bool:
        return bool(self._committed)

    def get(self) -> tuple[ToolCall, ...]:
        """Return the calls so far."""
        calls = self._committed.copy()
        return tuple(calls[index].get() for index in sorted(calls))

    def prepare(self, sent: Sequence[Any], may_have_surrogates: bool) -> Iterator[PreparedPart | None]:
        """Find the call of each part of one event; None for a part without content.

        An iterator, because there may be many thousand parts in an event, and the stream may be cancelled meanwhile.
        """
        for part in sent:
            read = _read_part(part) if isinstance(part, dict) else None
            call = self._find(read) if read is not None else None
            if read is None or call is None or call.is_repeated_by(read):
                yield None
            else:
                self._serial += 1
                yield call.prepare(self._serial, read, may_have_surrogates)

    def flush(self) -> list[PreparedPart]:
        """Return replacements for halves of surrogate pairs that stayed alone."""
        self._serial += 1
        parts = [call.flush(self._serial) for call in self._all.values()]
        return [part for part in parts if part is not None]

    def commit(self, parts: list[PreparedPart]) -> None:
        """Add prepared parts to what callers see. The same parts can be committed again."""
        for prepared in parts:
            self._committed[prepared.call.index] = prepared.call
            prepared.call.commit(prepared)

    def _find(self, sent: _SentPart) -> _Call:
        """Find the call that a part belongs to, or begin one."""
        call = self._by_index.get(sent.server_index) if sent.server_index is not None else None
        if call is None and sent.id:
            call = self._by_id.get(sent.id)
            if call and sent.server_index is not None and (call.complete or sent.name not in ("", call.name)):
                call = None  # one id for all calls
        if call is None and sent.server_index is None and (not sent.id or not sent.name or _goes_on(self._last, sent)):
            call = self._last
        if call is None or _begins_call(call, sent):
            call = self._begin(sent.server_index)
        if sent.server_index is not None:
            self._by_index[sent.server_index] = call
        if sent.id:
            self._by_id.setdefault(sent.id, call)
            if sent.name:
                self._by_id[sent.id] = call
        self._last = call
        return call

    def _begin(self, index: int | None) -> _Call:
        if index is None or index in self._all:
            index = self._next_index
        self._next_index = max(self._next_index, index + 1)
        call = self._all[index] = _Call(index)
        return call


def _begins_call(call: _Call, sent: _SentPart) -> bool:
    """Return whether a part begins another call, although its index, its id or its place point to this one."""
    if not sent.name or not call.name:
        return False
    other_name = sent.name != call.name
    if sent.id and call.id:
        # Gemini numbers every call 0. Others invent an id for each part, and repeat the name.
        return sent.id != call.id and (call.complete or other_name)
    if sent.id or call.id:
        # A name in parts, or an id that arrives late.
        return call.complete and sent.arguments.lstrip().startswith("{") and (other_name or bool(sent.id))
    if sent.server_index is None:
        # There is neither an index nor an id: only the name is left to compare.
        return call.complete or other_name
    return call.complete and not call.is_repeated_by(sent)


def _goes_on(call: _Call | None, sent: _SentPart) -> bool:
    """Return whether a part with an id that is new, and no index, goes on with the arguments of the last call."""
    if call is None or not call.length or call.complete or sent.name != call.name:
        return False
    return bool(sent.arguments) and not sent.arguments.lstrip().startswith("{")


def _read_part(sent: Json) -> _SentPart | None:
    """Read one part; None if there is nothing in it."""
    shape, content = "function", "arguments"
    inner = sent.get(shape)
    if not isinstance(inner, dict) and isinstance(sent.get(CUSTOM), dict):
        shape, content = CUSTOM, "input"
        inner = sent[CUSTOM]
    if not isinstance(inner, dict):
        inner = {}
    id_, name = string(sent.get("id")) or "", string(inner.get("name")) or ""
    arguments = json_text(inner.get(content))
    extra = unknown_fields(sent, _PART_FIELDS)
    if more := unknown_fields(inner, _INNER_FIELDS[shape]):
        extra[shape] = more
    if not (id_ or name or arguments or extra):
        return None
    type_ = string(sent.get("type")) or (CUSTOM if shape == CUSTOM else "")
    return _SentPart(number(sent.get("index")), id_, name, arguments, type_, extra)
