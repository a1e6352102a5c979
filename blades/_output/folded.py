"""Reasoning and tool calls as HTML: one dim line each, which opens when it is clicked. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blades._output.plain_html import Block, escape_text
from blades._output.terminal import TerminalFilter
from blades._output.tool_line import call_line, tool_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blades._values import ToolCall, ToolResult

_DIM: Final = "color:var(--jp-ui-font-color2,#808080)"
_WRAPPED: Final = "white-space:pre-wrap"
FOLDED_CHARACTERS: Final = 20_000  # of arguments or a result: a front end may freeze over megabytes that nobody opens


def fold_reasoning(reasoning: str) -> Block:
    """Return the reasoning, folded; as plain text, only how long it is."""
    line = f"Reasoning ({len(reasoning):,} characters)"
    content = f'<blockquote style="{_WRAPPED}">{escape_text(without_controls(reasoning).strip())}</blockquote>'
    return Block(f"[{line}]\n", _fold(line, content))


def fold_results(results: Iterable[ToolResult]) -> Block:
    """Return calls with their results, each folded."""
    lines = [(tool_line(result), result.call.arguments, result.text) for result in results]
    return Block(
        "".join(f"{line}\n" for line, *_ in lines), "".join(_fold(line, *map(_pre, rest)) for line, *rest in lines)
    )


def fold_calls(calls: Iterable[ToolCall]) -> Block:
    """Return calls that have no result, each folded."""
    lines = [(call_line(call), call.arguments) for call in calls]
    return Block("".join(f"\n{line}" for line, _ in lines), "".join(_fold(line, _pre(text)) for line, text in lines))


def without_controls(text: str) -> str:
    """Return text without control sequences: consoles show plain text in a terminal."""
    terminal = TerminalFilter()
    return terminal.feed(text) + terminal.flush()


def _fold(line: str, *content: str) -> str:
    return f'<details><summary style="{_DIM}">{escape_text(line)}</summary>{"".join(content)}</details>\n'


def _pre(text: str) -> str:
    shown = without_controls(text[:FOLDED_CHARACTERS])
    if len(text) > FOLDED_CHARACTERS:
        shown += f"\n… {len(text) - FOLDED_CHARACTERS:,} more characters"
    return f'<pre style="{_WRAPPED}">{escape_text(shown)}</pre>' if shown.strip() else ""
