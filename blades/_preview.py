"""Values of any kind in a message: bounded, on one line."""

from __future__ import annotations


def short_repr(value: object, limit: int = 80) -> str:
    """Return the `repr` of a value, bounded."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def type_name(value: object) -> str:
    """Return the type of a value, for a message."""
    return "None" if value is None else f"a value of type {type(value).__name__}"
