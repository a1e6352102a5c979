"""Plain text as HTML, where it looks the same: pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Block:
    """Some blocks of a text.

    Attributes:
        source: The Markdown.
        html: The same as HTML.
    """

    source: str = ""
    html: str = ""


def escape_text(text: str) -> str:
    """Return text as HTML in which a front end finds no formula: each sign of one is in an element of its own."""
    return re.sub(r"[$\\]", r"<span>\g<0></span>", escape(text, quote=False))


@final
class PlainRenderer:
    """Shows a text as it is, where markdown-it-py or nh3 is not installed."""

    is_rich = False
    has_references = False

    def __init__(self) -> None:
        self._open = ""  # the text that has not ended

    def feed(self, text: str, *, whole: bool = False) -> tuple[Block, Block]:
        """Add text; return the paragraphs that have ended with it, and what is still open."""
        text = self._open + text
        closed, gap, self._open = (text, "", "") if whole else text.rpartition("\n\n")
        closed += gap
        return Block(closed, self.render_again(closed)), Block(self._open, self.render_again(self._open))

    def render_again(self, source: str) -> str:
        """Return text as HTML. In this element, no front end looks for formulas."""
        text = escape(source.strip("\n"), quote=False)
        return f'<pre style="white-space:pre-wrap;font-family:inherit">{text}</pre>\n' if text else ""
