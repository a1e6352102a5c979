"""One line about a tool's run, for a terminal or a notebook: pure, bounded, without control characters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from blades._preview import printable

if TYPE_CHECKING:
    from blades._values import ToolCall, ToolResult

NAME_CHARACTERS: Final = 60
VALUE_CHARACTERS: Final = 40
ARGUMENTS_CHARACTERS: Final = 100
RESULT_CHARACTERS: Final = 60
PARSED_CHARACTERS: Final = 1_000_000  # longer texts are not parsed for the sake of one line


def tool_line(result: ToolResult) -> str:
    """Return a line such as ``search(query="tea") -> 3 items, 0.8 s``. HTML is left to the caller to escape."""
    if result.error is None:
        outcome = _describe(result.text)
    else:
        outcome = _short(f"failed: {result.error}", ARGUMENTS_CHARACTERS)
    return f"{call_line(result.call)} -> {outcome}, {result.seconds:.1f} s"


def call_line(call: ToolCall) -> str:
    """Return the part of such a line that is known before the tool has run."""
    return f"{_short(call.name, NAME_CHARACTERS)}({_arguments(call.arguments)})"


def _arguments(text: str) -> str:
    """Return the arguments as in a call of Python, or as the model wrote them if they are no JSON object."""
    values = _parse(text)
    if not isinstance(values, dict):
        return _short(text, ARGUMENTS_CHARACTERS)
    shown = ""
    for name, value in values.items():
        shown += f"{', ' * bool(shown)}{_short(name, VALUE_CHARACTERS)}={_short(_dump(value), VALUE_CHARACTERS)}"
        if len(shown) > ARGUMENTS_CHARACTERS:
            break
    return _short(shown, ARGUMENTS_CHARACTERS)


def _describe(text: str) -> str:
    """Return a short result itself, and the size of any other."""
    text = text.strip()
    value = _parse(text) if text[:1] in {"[", "{"} else None
    if isinstance(value, list):
        return _count(len(value), "item")
    if len(text) <= RESULT_CHARACTERS and len(text.splitlines()) <= 1:
        return printable(text) or "no text"
    if isinstance(value, dict):
        return _count(len(value), "field")
    return _count(len(text), "character")


def _parse(text: str) -> Any:
    """Return the parsed JSON; None if the text is no JSON, or is too long or too deep to be parsed here."""
    if len(text) > PARSED_CHARACTERS:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "…"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _short(text: str, limit: int) -> str:
    """Return a text on one line, bounded, printable."""
    shown = printable(text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
