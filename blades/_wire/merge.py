"""Pieces of fields that nobody here knows, to one value for each field: pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blades._wire.deltas import clean

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from blades._wire.deltas import Json

# Servers repeat these in each piece, so the last one is kept instead of all of them joined. The severity is Azure's, in
# its judgement of each piece.
_IDENTIFIERS: Final = frozenset({"id", "type", "format", "role", "name", "object", "index", "mime_type", "severity"})
_DEPTH_LIMIT: Final = 50  # below that, the last value is kept as sent


def merge_fields(pieces: Iterable[Json], depth: int = 0) -> Json:
    """Merge objects: texts joined, lists appended, objects merged, the last number kept; null counts as not sent.

    An item of a list that has an ``index`` is merged with the items of the same index and ``type``. Of values of
    different kinds, all are kept, in a list. The first object decides on the order of the fields.
    """
    values: dict[str, list[Any]] = {}
    for piece in pieces:
        for name, value in piece.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {clean(name): _merge_values(name, found, depth + 1) for name, found in values.items()}


def _merge_values(name: str, values: list[Any], depth: int) -> Any:
    """Merge the values of one field."""
    if depth > _DEPTH_LIMIT:
        return values[-1]
    kinds = {_kind(value) for value in values}
    if len(kinds) > 1:
        values = [[value] if type(value) is not list else value for value in values]
        kinds = {list}
    if kinds == {str}:
        return clean(values[-1] if name in _IDENTIFIERS else "".join(values))
    if kinds == {dict}:
        return merge_fields(values, depth)
    if kinds == {list}:
        return _merge_lists(values, depth)
    return values[-1]


def _merge_lists(lists: list[list[Any]], depth: int) -> list[Any]:
    """Append lists; merge the items that have an index."""
    groups: dict[Hashable, list[Any]] = {}
    for items in lists:
        for item in items:
            index = item.get("index") if type(item) is dict else None
            if type(index) is int:
                kind = item.get("type")
                groups.setdefault((index, kind if type(kind) is str else ""), []).append(item)
            else:
                groups[None, len(groups)] = [item]
    return [_merge_values("", group, depth + 1) if group[0] is not None else None for group in groups.values()]


def _kind(value: object) -> type:
    """Return what a value is merged as."""
    return type(value) if isinstance(value, str | dict | list) else float
