"""Mustache, strict and safe: text to a tree, a tree and parameters to text. Pure, linear, no state.

The core of the specification (https://github.com/mustache/spec), except that text is never escaped and that a missing
name is an error instead of a blank. A value is written as it is and never parsed as a template.

chevron's tokenizer parses each tag. Where a tag starts, and whether it stands alone on its line, is found here: chevron
copies the rest of the template at every tag, which is quadratic, and does not report where a tag stood.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, final

from blades._errors import PromptError
from blades._preview import short_repr
from blades._prompts.context import ContextStack, UnusableValueError, as_text, checked, find, is_list

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

MAX_DEPTH: Final = 100  # sections and partials inside one another
MAX_STEPS: Final = 1_000_000  # parts written and items walked for one text: well below a second
MAX_LENGTH: Final = 50_000_000  # characters of one text, more than any model reads


@final
class _Tag(NamedTuple):  # made for each tag, and defined at import: twenty times cheaper than a data class
    kind: str  # as chevron calls it: variable, no escape, section, inverted section, end, partial
    name: str
    path: tuple[str, ...]  # the names to walk, none for {{.}}
    line: int
    indent: str | None  # the white space before the tag, if it is alone on its line
    body: tuple[_Node, ...] = ()


_Node: TypeAlias = str | _Tag | None  # None: the start of a line in a partial, which may have to be indented


@final
class Template(NamedTuple):
    """A compiled text. `where` names it in every message: ``message 1 (system)``."""

    where: str
    nodes: tuple[_Node, ...]


# Text to tree

_VARIABLES = ("variable", "no escape")
_LINE_END = re.compile(r"[ \t]*+(?:\r?\n|\Z)")
_BRACES = "for literal braces change the delimiters: {{=<% %>=}}"
_NAME_FAULTS = {
    r"(?:if|unless|each|with|for)\s": "there are no helpers: {{#x}}...{{/x}} is written if x is true, once per item",
    r".*\|": "there are no filters: pass the finished value",
    r".*[\"'{}]": _BRACES,
    r".*\s": f"a name has no spaces; {_BRACES}",
    r".*[()\[\]]": "there are no calls and no subscripts: the first item of a list is {{list.0}}",
    r"[#^/>!=&.]|.*\.\.|.*\.\Z": "a name is a word, or words with one dot between them, right after the braces",
}
_NAME_FAULT = re.compile("|".join(f"({pattern})" for pattern in _NAME_FAULTS), re.DOTALL)


def compile_template(text: str, where: str, partials: Container[str], *, is_partial: bool = False) -> Template:
    """Compile a text, or raise `PromptError` with the line at fault. `partials` are the names it may call."""
    body: list[_Node] = []
    opened: list[tuple[_Tag, list[_Node]]] = []  # the open sections, each with the body around it
    for node in _nodes(text, where, is_partial=is_partial):
        if not isinstance(node, _Tag) or node.kind in _VARIABLES:
            body.append(node)
        elif node.kind == "partial":
            if node.name not in partials:
                raise _error(where, node.line, f"expected a partial out of those given, got {short_repr(node.name)}")
            body.append(node)
        elif node.kind != "end":
            opened.append((node, body))
            body = []
            if len(opened) > MAX_DEPTH:
                raise _error(where, node.line, f"expected at most {MAX_DEPTH} sections inside one another, got more")
        elif opened and opened[-1][0].name == node.name:
            section, outer = opened.pop()
            outer.append(section._replace(body=tuple(body)))
            body = outer
        else:
            last = f"the end of {short_repr(opened[-1][0].name)} of line {opened[-1][0].line}" if opened else "no end"
            raise _error(where, node.line, f"expected {last}, got the end of {short_repr(node.name)}")
    if opened:
        section = opened[-1][0]
        raise _error(where, section.line, f"expected an end of the section {short_repr(section.name)}, got none")
    return Template(where, tuple(body))


def _nodes(text: str, where: str, *, is_partial: bool) -> Iterator[_Node]:
    """Cut a text into literals and tags. Comments, and the rest of a line that holds only a tag, are left out."""
    opening, closing = "{{", "}}"
    position, line, fresh = 0, 1, True  # fresh: a line starts at position
    paths: dict[tuple[str, str], tuple[str, ...]] = {}
    while (start := text.find(opening, position)) >= 0:
        literal = text[position:start]
        line += literal.count("\n")
        kind, name, position = _read_tag(text, start, (opening, closing), where, line)
        indent = literal[literal.rfind("\n") + 1 :]
        first = (fresh or "\n" in literal) and not indent.strip(" \t")
        alone = _LINE_END.match(text, position) if first and kind not in _VARIABLES else None
        if alone:
            literal = literal[: len(literal) - len(indent)]
            position = alone.end()
        yield from _lines(literal, fresh=fresh, goes_on=not alone) if is_partial else (literal,)
        fresh = bool(alone)
        if kind == "set delimiter":
            opening, closing = name.split()
        elif kind != "comment":
            if (kind, name) not in paths:
                paths[kind, name] = _path(kind, name, where, line)
            yield _Tag(kind, name, paths[kind, name], line, indent if alone else None)
        line += text.count("\n", start, position)
    yield from _lines(text[position:], fresh=fresh, goes_on=False) if is_partial else (text[position:],)


def _lines(literal: str, *, fresh: bool, goes_on: bool) -> Iterator[str | None]:
    """Mark each line that starts in a literal and has something on it: text, or a tag if the line goes on."""
    for number, piece in enumerate(re.split(r"(?<=\n)", literal)):
        if (number or fresh) and (piece or goes_on):
            yield None
        yield piece


def _read_tag(text: str, start: int, delimiters: tuple[str, str], where: str, line: int) -> tuple[str, str, int]:
    """Return the kind and the name of the tag at `start`, and where it ends."""
    from chevron.tokenizer import ChevronError, parse_tag  # takes milliseconds

    opening, closing = delimiters
    inside = start + len(opening)
    end = text.find(closing, inside)
    if end < 0:
        raise _error(where, line, f"expected {closing!r} behind {opening!r}, got none: {_BRACES}")
    tag = text[inside : end + len(closing) + 1]  # one more character: the third brace of a triple
    try:
        (kind, name), rest = parse_tag(tag, opening, closing) if end > inside else (("", ""), "")
    except ChevronError:
        kind, name, rest = "set delimiter", "", ""
    if kind == "set delimiter" and not re.fullmatch(r"[^\s=]+\s+[^\s=]+", name):
        raise _error(where, line, "expected two delimiters without '=', a space between them: write {{=<% %>=}}")
    if kind == "no escape?":
        raise _error(where, line, f"expected '}}}}}}' behind '{{{{{{', got none: {_BRACES}")
    if not name and kind != "comment":
        raise _error(where, line, f"expected a name in a tag, got none: {_BRACES}")
    return kind, name, inside + len(tag) - len(rest)


def _path(kind: str, name: str, where: str, line: int) -> tuple[str, ...]:
    if name == "." or kind in {"partial", "end"}:
        return ()
    if fault := _NAME_FAULT.match(name):
        hint = list(_NAME_FAULTS.values())[(fault.lastindex or 1) - 1]
        raise _error(where, line, f"expected a name, got {short_repr(name)}: {hint}")
    return tuple(name.split("."))


def _error(where: str, line: int, message: str) -> PromptError:
    return PromptError(f"{where}, line {line}: {message}")


# Tree to text


def render(template: Template, scopes: ContextStack, partials: Mapping[str, Template]) -> tuple[str, list[str]]:
    """Return the text, and the problems of the parameters: where, which name and why, never a value.

    Raises:
        PromptError: One of the limits above was reached.
    """
    written: list[str] = []
    problems: dict[str, None] = {}  # an ordered set: a name is often missing once per item
    steps = MAX_STEPS

    def write(nodes: tuple[_Node, ...], scopes: ContextStack, where: str, indent: str, depth: int) -> None:
        nonlocal steps
        steps -= (2 + len(nodes)) * (1 + depth // 10) + len(indent)  # a name is looked for in every scope
        if steps < 0 or depth > MAX_DEPTH:
            raise PromptError(
                f"{where}: expected an end of sections and partials, got none: look for a partial that calls itself"
            )
        for node in nodes:
            if not isinstance(node, _Tag):
                written.append(indent if node is None else node)
                continue
            try:
                if node.kind in _VARIABLES:
                    value = find(node.path, scopes)
                    written.append(value if type(value) is str else as_text(value))
                elif node.kind == "partial":
                    partial = partials[node.name]
                    inside = f"{template.where}, {partial.where}"
                    inner_indent = "" if node.indent is None else indent + node.indent
                    write(partial.nodes, scopes, inside, inner_indent, depth + 1)
                else:
                    for inner in _inner_scopes(node, scopes):
                        write(node.body, inner, where, indent, depth + 1)
            except UnusableValueError as problem:
                steps -= 10
                problems[f"{where}, line {node.line}: {short_repr(node.name)} {problem}"] = None

    write(template.nodes, scopes, template.where, "", 0)
    if sum(map(len, written)) > MAX_LENGTH:
        raise PromptError(f"{template.where}: the text has more than {MAX_LENGTH:,} characters")
    return "".join(written), list(problems)


def needed_names(template: Template, partials: Mapping[str, Template]) -> list[str]:
    """Return the names that the parameters need. Those inside a section are left out: its value may have them."""
    names: dict[str, None] = {}
    called: set[str] = set()
    queue = [template.nodes]
    for nodes in queue:  # grows as it is walked
        for node in nodes:
            if isinstance(node, _Tag):
                names.update(dict.fromkeys(node.path[:1]))
                if node.kind == "inverted section":
                    queue.append(node.body)
                elif node.kind == "partial" and node.name not in called:
                    called.add(node.name)
                    queue.append(partials[node.name].nodes)
    return list(names)


def _inner_scopes(section: _Tag, scopes: ContextStack) -> Iterable[ContextStack]:
    """Return the scopes that the body of a section is written in, one after the other."""
    value = checked(find(section.path, scopes))
    if section.kind == "inverted section":
        return () if value else (scopes,)
    if is_list(value):
        return ((checked(item), *scopes) for item in value)
    return ((value, *scopes),) if value else ()
