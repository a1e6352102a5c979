"""Foreign values and texts in a message: bounded, on one line, without control characters."""

from __future__ import annotations

import re
from typing import Final

# C0, DEL, C1, line separators, marks and overrides of bidirectional text, lone surrogates: characters that can move the
# cursor, change the order in which a text is read, or fail to be encoded.
_CONTROL: Final = "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"


def printable(text: str) -> str:
    r"""Return a text with its control characters escaped as in a Python string: ``\x1b``, ``\n``, ``\u202e``."""
    return text if text.isascii() and text.isprintable() else re.sub(_CONTROL, _escape, text)


def short_repr(value: object, limit: int = 80) -> str:
    """Return the `repr` of a value, at most `limit` characters of it, printable."""
    if isinstance(value, str | bytes) and len(value) > limit:
        value = value[:limit]  # the closing quote does not fit, either way
        return f"{printable(repr(value))[: limit - 1]}…"
    try:
        text = printable(repr(value))
    except Exception:  # the class is not ours, and a message about something else is being written
        text = f"<{type_name(value)}>"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def type_name(value: object) -> str:
    """Return the name of a value's type, for a message: ``int``, ``None``."""
    return "None" if value is None else printable(type(value).__name__)


def _escape(match: re.Match[str]) -> str:
    return repr(match[0])[1:-1]
