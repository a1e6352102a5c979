"""Markdown from a model as HTML that can do nothing: pure.

The HTML is made here, with markdown-it-py, which escapes whatever HTML the text holds; nh3 then removes each tag,
attribute, style and address that is not on the lists below, so that two libraries would have to fail together. No text
of the model's is in an attribute, except the addresses of web and mail links.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, final

from blades._output.formulas import add_formulas, is_harmless, write_formula
from blades._output.highlight import highlight
from blades._output.plain_html import Block, PlainRenderer, escape_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

_TAG_NAMES: Final = """
a blockquote br code del div em h1 h2 h3 h4 h5 h6 hr kbd li ol p pre s span strong sub sup table tbody td th thead tr ul
"""
TAGS: Final = frozenset(_TAG_NAMES.split())
ATTRIBUTES: Final = {
    "*": set[str](),
    "a": {"href"},
    "ol": {"start"},
    "code": {"style"},
    "pre": {"style"},
    "span": {"style"},
    "td": {"style"},
    "th": {"style"},
}
STYLES: Final = frozenset({"background-color", "color", "font-weight", "padding", "text-align"})
SCHEMES: Final = frozenset({"http", "https", "mailto"})

BRACKET_LIMIT: Final = 300  # opening brackets in one paragraph; the parser's time grows with their square

_BLOCK_STYLE: Final = "background-color:var(--jp-cell-editor-background, #80808018);padding:0.5em"
_CODE_STYLE: Final = "background-color:transparent"

_address = re.compile(r"(?:https?://|mailto:)[^\s\\]", re.IGNORECASE)
_tag = re.compile(r"<(br|/?(?:sub|sup|kbd))\s*/?>", re.IGNORECASE)
_line_end = re.compile(r"\r\n?|\n")


def write_code(code: str, language: str = "") -> str:
    """Return a block of code as HTML."""
    return f'<pre style="{_BLOCK_STYLE}"><code style="{_CODE_STYLE}">{highlight(code, language)}</code></pre>\n'


def render(text: str) -> str:
    """Return Markdown as HTML.

    Raises:
        ImportError: markdown-it-py or nh3 is not installed.
    """
    return MarkdownRenderer().feed(text, whole=True)[0].html


@final
class MarkdownRenderer:
    """Renders a text that grows. A block that has ended is rendered once: the work is linear in the length."""

    def __init__(self) -> None:
        """Load the two libraries.

        Raises:
            ImportError: one of them is not installed.
        """
        self._parser = _make_parser()
        self._clean = _make_cleaner()
        self._references: dict[str, Any] = {}
        self._open = ""  # the text that has not ended

    is_rich = True

    @property
    def has_references(self) -> bool:
        """Whether the text defines addresses, which earlier blocks may have used."""
        return bool(self._references)

    def feed(self, text: str, *, whole: bool = False) -> tuple[Block, Block]:
        """Add text; return what has ended with it, and what is still open.

        Args:
            text: What follows the text before.
            whole: Nothing more follows, so that nothing is open.
        """
        raw = self._open = self._open + text
        if raw.endswith("\r") and not whole:  # the line feed may still come
            raw = raw[:-1]
        rest = _line_end.sub("\n", raw)
        environment: dict[str, Any] = {"references": dict(self._references), "whole": whole}
        tokens = self._parser.parse(rest, environment)
        starts = [i for i, token in enumerate(tokens) if token.level == 0 and token.nesting >= 0 and token.map]
        first_open, end_line = len(tokens), rest.count("\n")
        if not whole:
            # What may still turn out to belong to the block before: a formula without its end, a first line that is not
            # whole yet.
            while starts and (tokens[starts[-1]].info == "open" or _first_line(tokens[starts[-1]]) >= end_line):
                starts.pop()
            first_open = starts[-1] if starts else 0
            end_line = _first_line(tokens[first_open]) if first_open else 0
        length = len(rest) if whole else _line_offset(rest, end_line)
        defined = environment["references"].items()
        self._references |= {name: value for name, value in defined if whole or value["map"][1] <= end_line}
        self._open = self._open[len(raw) if whole else _line_offset(raw, end_line) :]
        return (
            Block(rest[:length], self._write(tokens[:first_open], environment)),
            Block(rest[length:], self._write(tokens[first_open:], environment)),
        )

    def render_again(self, source: str) -> str:
        """Return some of the text as HTML again, with all addresses that have been defined by now."""
        environment = {"references": dict(self._references), "whole": True}
        return self._write(self._parser.parse(source, environment), environment)

    def _write(self, tokens: Sequence[Token], environment: dict[str, Any]) -> str:
        html: str = self._parser.renderer.render(tokens, self._parser.options, environment) if tokens else ""
        cleaned: str = self._clean(html)
        return cleaned


def make_renderer() -> MarkdownRenderer | PlainRenderer:
    """Return a renderer of Markdown, or of plain text where the libraries for it are not installed."""
    try:
        return MarkdownRenderer()
    except ImportError:
        return PlainRenderer()


def _first_line(token: Token) -> int:
    return token.map[0] if token.map else 0


def _line_offset(text: str, line: int) -> int:
    """Return where a line begins."""
    offset = 0
    for end in islice(_line_end.finditer(text), line):
        offset = end.end()
    return offset


@cache
def _make_cleaner() -> Any:
    import nh3  # an extra

    return nh3.Cleaner(
        tags=set(TAGS),
        attributes=ATTRIBUTES,
        url_schemes=set(SCHEMES),
        filter_style_properties=set(STYLES),
        link_rel="noopener noreferrer",
    ).clean


@cache
def _make_parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # an extra

    class Parser(MarkdownIt):
        def validateLink(self, url: str) -> bool:  # noqa: N802 - the parser's name
            return _address.match(url) is not None

    parser = Parser("js-default", {"html": False, "linkify": False, "typographer": False})
    parser.disable(["linkify", "replacements", "smartquotes"])
    add_formulas(parser)
    parser.inline.ruler.before("html_inline", "plain_tag", _parse_tag)
    parser.core.ruler.before("inline", "bracket_limit", _limit_brackets)
    parser.core.ruler.after("inline", "image_links", _replace_images)
    for name, rule in _RULES.items():
        parser.add_render_rule(name, rule)
    return parser


def _parse_tag(state: StateInline, silent: bool) -> bool:  # the parser's interface
    """Parse a few tags without attributes, which models use in tables and formulas of chemistry."""
    found = _tag.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        state.push("plain_tag", "", 0).content = f"<{found[1].lower()}>"
    state.pos = found.end()
    return True


def _limit_brackets(state: StateCore) -> None:
    """Make no links in a paragraph of brackets."""
    for block in state.tokens:
        if block.type == "inline" and block.content.count("[") > BRACKET_LIMIT:
            block.content = block.content.replace("[", "&#91;")


def _replace_images(state: StateCore) -> None:
    """Make each image a link to it, or within a link its text: to load an image is a request."""
    from markdown_it.token import Token  # an extra

    for block in state.tokens:
        children, depth = block.children or [], 0
        if not any(child.type == "image" for child in children):
            continue
        replaced: list[Token] = []
        for child in children:
            depth += child.nesting if child.type in {"link_open", "link_close"} else 0
            if child.type != "image":
                replaced.append(child)
                continue
            address = str(child.attrGet("src") or "")
            label = Token("text", "", 0, content=child.content or address)
            if depth:
                replaced.append(label)
            else:
                opening = Token("link_open", "a", 1, attrs={"href": address})
                replaced += [opening, label, Token("link_close", "a", -1)]
        block.children = replaced


def _write_text(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return escape_text(tokens[index].content)


def _write_tag(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return tokens[index].content


def _write_block(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    token = tokens[index]
    return write_code(token.content, token.info.split(maxsplit=1)[0] if token.info.strip() else "")


def _write_link(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    """Write the start of a link without its title; the parser lets an empty address through."""
    address = str(tokens[index].attrGet("href") or "")
    return f'<a href="{escape(address)}">' if _address.match(address) else "<a>"


def _write_cell(renderer: Any, tokens: Sequence[Token], index: int, options: Any, *_: Any) -> str:
    """Write a cell of a table with its alignment, since notebooks align to the right by default."""
    token = tokens[index]
    if token.attrGet("style") is None:
        token.attrSet("style", "text-align:left")
    written: str = renderer.renderToken(tokens, index, options, {})
    return written


def _write_formula(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    token = tokens[index]
    if token.info == "open" or not is_harmless(token.content):
        code = f"<code>{escape(token.content, quote=False)}</code>"
        return f"<pre>{code}</pre>\n" if token.block else code
    text = escape(write_formula(token.content, display=token.info == "display"), quote=False)
    return f"<div>{text}</div>\n" if token.block else f"<span>{text}</span>"


_RULES: Final[dict[str, Callable[..., str]]] = {
    "text": _write_text,
    "plain_tag": _write_tag,
    "fence": _write_block,
    "code_block": _write_block,
    "formula": _write_formula,
    "link_open": _write_link,
    "td_open": _write_cell,
    "th_open": _write_cell,
}
