"""Looks names up in the values given to a template, and writes values as text.

A template reaches the keys of mappings and the items of sequences, and nothing else. No attribute is read, nothing is
called, no object is asked for its truth or its text unless its type is named here, and a look-up never changes the
value that it looks into.
"""

from __future__ import annotations

import dataclasses
import re
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from itertools import pairwise
from numbers import Number
from typing import Final, TypeAlias, TypeGuard, final

from blades._preview import short_repr, type_name

ContextStack: TypeAlias = tuple[object, ...]  # innermost first

_ABSENT: Final = object()
_SCALARS: Final = (str, int, float)  # checked before the abstract classes, which are slower
_COMMON: Final = (dict, list, *_SCALARS)
_NOT_LISTS: Final = (str, bytes, bytearray, memoryview)  # although they are sequences
_INDEX = re.compile(r"[0-9]{1,9}")


@final
class UnusableValueError(Exception):
    """Says why a value cannot be used as the template does. Never holds the value."""


def find(path: tuple[str, ...], scopes: ContextStack) -> object:
    """Resolve a dotted name. Only its first part is searched in outer contexts, as Mustache specifies."""
    if not path:
        return scopes[0]
    for scope in scopes:
        value = look_up(scope, path[0])
        if value is not _ABSENT:
            break
    else:
        raise UnusableValueError("is missing: no such name was given")
    for parent, name in pairwise(path) if len(path) > 1 else ():
        outer, value = value, look_up(value, name)
        if value is _ABSENT:
            raise UnusableValueError(f"is missing: {short_repr(parent)} has no key {short_repr(name)}{_kind(outer)}")
    return value


def look_up(value: object, name: str) -> object:
    """Return the value of a mapping's key or of a sequence's index, else `_ABSENT`. Creates no defaults."""
    if type(value) is dict:
        return value.get(name, _ABSENT)
    if isinstance(value, _SCALARS):
        return _ABSENT
    if isinstance(value, ChainMap):  # its own look-up would make a defaultdict in it grow
        found = (look_up(inner, name) for inner in value.maps)
        return next((inner for inner in found if inner is not _ABSENT), _ABSENT)
    if isinstance(value, Mapping):
        with suppress(KeyError):  # of a mapping that claims to have every key
            return value[name] if name in value else _ABSENT  # noqa: SIM401 - `get` of some mappings creates defaults
    elif is_list(value) and _INDEX.fullmatch(name) and int(name) < len(value):
        return value[int(name)]
    return _ABSENT


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, _NOT_LISTS)


def checked(value: object) -> object:
    """Return a value that a section may open: one that can be looked into or written. Other values raise."""
    if not isinstance(value, _COMMON) and not isinstance(value, Mapping) and not is_list(value):
        as_text(value)
    return value


def as_text(value: object) -> str:
    """Return a value as it is written."""
    if isinstance(value, str):
        return str.__str__(value)  # the value of a str-Enum, not its name
    if value is None:
        return ""
    if isinstance(value, Number):  # bool, Decimal and NumPy's numbers too
        try:
            return str(value.value if isinstance(value, Enum) else value)
        except ValueError:
            raise UnusableValueError("has more digits than Python writes: pass str of a shorter number") from None
    from datetime import date, time  # these three are rarely needed, and take milliseconds
    from pathlib import PurePath
    from uuid import UUID

    if isinstance(value, date | time | UUID | PurePath):
        return str(value)
    raise UnusableValueError(f"is of type {type_name(value)}, not text: {_hint(value)}")


def _kind(value: object) -> str:
    """Return what to say of a value that has no keys."""
    if isinstance(value, Mapping):
        return ""
    fields = _as_dict(value)
    return f", it is of type {type_name(value)}" + (f": pass {fields}" if fields else "")


def _hint(value: object) -> str:
    """Return how to give a value so that it can be written."""
    if fields := _as_dict(value):
        return f"pass {fields}, and write {{{{x.field}}}}"
    if isinstance(value, Mapping):
        return "write one of its keys, {{x.key}}, open it with {{#x}}{{key}}{{/x}}, or pass json.dumps(value)"
    if isinstance(value, bytes | bytearray | memoryview):
        return "decode it"
    if is_list(value):
        return "join it yourself, or loop over it with {{#items}}{{.}}{{/items}}"
    if callable(value):
        return "call it and pass what it returns"
    return "pass a list of it" if isinstance(value, Iterable) else "pass str(value), or a dict of what is needed of it"


def _as_dict(value: object) -> str:
    """Return the call that makes a dict of an object with fields."""
    if isinstance(value, type):
        return ""
    if dataclasses.is_dataclass(value):
        return "dataclasses.asdict(value)"
    return "value.model_dump()" if callable(getattr(type(value), "model_dump", None)) else ""
