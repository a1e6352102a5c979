"""What a template sees of the values given to it, and how it writes them.

This is all that it can reach: the keys of mappings and the items of sequences. No attribute is read, nothing is called,
no object is asked for its truth or its text unless it is of a type named here, and a look-up never changes what it
looks into.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import pairwise
from numbers import Number
from typing import Final, TypeAlias, TypeGuard, final

from blades._preview import short_repr

ContextStack: TypeAlias = tuple[object, ...]  # the innermost first

_ABSENT: Final = object()
_SCALARS: Final = (str, int, float)  # these and the next spare the slower look at the abstract classes
_COMMON: Final = (dict, list, *_SCALARS)
_NOT_LISTS: Final = (str, bytes, bytearray, memoryview)  # although they are sequences
_INDEX = re.compile(r"[0-9]{1,9}")


@final
class UnusableValueError(Exception):
    """Why a value cannot be used as the template does. Never holds the value."""


def find(path: tuple[str, ...], scopes: ContextStack) -> object:
    """Return the value of a path. Only its first name is looked for further out: a broken path is not mended."""
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
            kind = "" if isinstance(outer, Mapping) else f", it is of type {type(outer).__name__}"
            raise UnusableValueError(f"is missing: {short_repr(parent)} has no key {short_repr(name)}{kind}")
    return value


def look_up(value: object, name: str) -> object:
    """Return what a mapping has under a key, or a sequence at an index, else `_ABSENT`. Makes no defaults."""
    if type(value) is dict:
        return value.get(name, _ABSENT)
    if isinstance(value, _SCALARS):
        return _ABSENT
    if isinstance(value, ChainMap):  # if it were asked itself, a defaultdict in it would grow
        found = (look_up(inner, name) for inner in value.maps)
        return next((inner for inner in found if inner is not _ABSENT), _ABSENT)
    if isinstance(value, Mapping):
        return value[name] if name in value else _ABSENT  # noqa: SIM401 - `get` of some mappings makes defaults
    if is_list(value) and _INDEX.fullmatch(name) and int(name) < len(value):
        return value[int(name)]
    return _ABSENT


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, _NOT_LISTS)


def known(value: object) -> object:
    """Return a value that a section may open: one that can be walked or written."""
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
            raise UnusableValueError("has more digits than Python writes") from None
    from datetime import date, time  # noqa: PLC0415 - these three are rarely needed, and take milliseconds
    from pathlib import PurePath  # noqa: PLC0415
    from uuid import UUID  # noqa: PLC0415

    if isinstance(value, date | time | UUID | PurePath):
        return str(value)
    cure = "pass text made of it (json.dumps, str, decode), or open a dict or list with a section, {{#x}}...{{/x}}"
    if callable(value):
        cure = "call it and pass what it returns"
    raise UnusableValueError(f"is of type {type(value).__name__}, which is not text: {cure}")
