"""Mustache: what is written."""

from __future__ import annotations

from collections import ChainMap, OrderedDict, UserDict, defaultdict, deque, namedtuple
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings

from rendering import outcome, written

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


class Colour(str, Enum):  # noqa: UP042 - the older way is what many programs have
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Size(int, Enum):
    BIG = 9


Point = namedtuple("Point", "x y")  # noqa: PYI024 - as other people's data comes


# What is written


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        pytest.param("{{a}}{{{a}}}{{&a}}{{& a }}", {"a": "<&\"'>"}, "<&\"'>" * 4, id="never-escaped"),
        pytest.param("{{ a }}{{\ta\n}}", {"a": 1}, "11", id="padding"),
        pytest.param("{{a}}}", {"a": 1}, "1}", id="brace-after"),
        pytest.param('{"k": {"v": {{a}} } }', {"a": 1}, '{"k": {"v": 1 } }', id="json-around"),
        pytest.param("def f(): return {x: {y}}", {}, "def f(): return {x: {y}}", id="code"),
        pytest.param('{{=<% %>=}}{{"a": <%a%>}}', {"a": 1}, '{{"a": 1}}', id="literal-braces"),
        pytest.param("{{=<% %>=}}<%a%><%={{ }}=%>{{a}}", {"a": 1}, "11", id="delimiters-and-back"),
        pytest.param("{{=| |=}}|&a|", {"a": 1}, "1", id="one-delimiter-for-both"),
        pytest.param("{{=《 》=}}《a》", {"a": 1}, "1", id="cjk-delimiters"),
        pytest.param("{{用户.名}}说", {"用户": {"名": "张三"}}, "张三说", id="cjk"),
        pytest.param("{{🦊}} {{שם}}", {"🦊": "🦊🏽‍🚀", "שם": "שלום"}, "🦊🏽‍🚀 שלום", id="emoji-and-rtl"),
        pytest.param("{{a-b}}{{@i}}{{$ref}}{{x:y}}", {"a-b": 1, "@i": 2, "$ref": 3, "x:y": 4}, "1234", id="names"),
        pytest.param("{{v}}", {"v": "{{x}} {{#y}} {{=<% %>=}}"}, "{{x}} {{#y}} {{=<% %>=}}", id="value-is-no-template"),
        pytest.param("{{#v}}{{.}}{{/v}}", {"v": ["{{x}}", "{{/v}}"]}, "{{x}}{{/v}}", id="item-is-no-template"),
        pytest.param(
            "{{#l}}<{{.}}>{{/l}}", {"l": [0, 1, "", None, False, 0.0]}, "<0><1><><><False><0.0>", id="falsy-items"
        ),
        pytest.param("{{#l}}-{{/l}}", {"l": [[], {}, None]}, "---", id="empty-items"),
        pytest.param("{{l.0.k}}{{l.1.0}}{{l.1.1}}", {"l": [{"k": 1}, (2, 3)]}, "123", id="items-by-index"),
        pytest.param("{{#rows}}{{0}}={{1}};{{/rows}}", {"rows": [("a", 1), ("b", 2)]}, "a=1;b=2;", id="pairs"),
        pytest.param("{{#l}}{{#.}}{{.}}{{/.}}|{{/l}}", {"l": [[1, 2], [3]]}, "12|3|", id="lists-in-lists"),
        pytest.param("{{#o}}{{a}}{{b}}{{/o}}", {"o": {"a": 1}, "b": 2}, "12", id="outer-names-are-seen"),
        pytest.param("{{#a}}{{#b}}{{x}}{{/b}}{{/a}}", {"a": {"x": 1}, "b": {"x": 2}, "x": 3}, "2", id="innermost-wins"),
        pytest.param("{{#n}}[{{n}}{{.}}]{{/n}}", {"n": "ab"}, "[abab]", id="text-opens-once"),
        pytest.param("{{#x}}y{{/x}}{{^x}}n{{/x}}", {"x": 0}, "n", id="zero-is-false"),
        pytest.param("{{#x}}y{{/x}}{{^x}}n{{/x}}", {"x": None}, "n", id="none-is-false"),
        pytest.param("{{#x}}y{{/x}}{{^x}}n{{/x}}", {"x": ()}, "n", id="empty-is-false"),
        pytest.param("{{#x}}y{{/x}}{{^x}}n{{/x}}", {"x": date(2026, 1, 2)}, "y", id="date-is-true"),
        pytest.param("{{^a}}{{b}}{{/a}}", {"a": False, "b": 1}, "1", id="inverted-sees-names"),
        pytest.param("{{#a}}{{#a}}x{{/a}}{{/a}}", {"a": True}, "x", id="section-in-itself"),
        pytest.param("{{!anything {{ goes}}a{{! }}", {}, "a", id="comments"),
        pytest.param("", {}, "", id="empty"),
    ],
)
def test_text_is_written_as_it_is_meant(text: str, data: object, expected: str) -> None:
    """Text is unescaped and exact, and names are resolved as the specification says."""
    assert written(text, data) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        (True, "True"),
        (12, "12"),
        (1.5, "1.5"),
        (1e300, "1e+300"),
        (2 + 1j, "(2+1j)"),
        (None, ""),
        (Colour.RED, "red"),
        (Level.HIGH, "3"),
        (Size.BIG, "9"),
        (Decimal("1.10"), "1.10"),
        (Fraction(1, 3), "1/3"),
        (date(2026, 11, 22), "2026-11-22"),
        (datetime(2026, 11, 22, 8, tzinfo=timezone.utc), "2026-11-22 08:00:00+00:00"),  # noqa: UP017 - 3.11 has both
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a/b"), "/a/b"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_written_as_text(value: object, expected: str) -> None:
    """Each type that has one obvious text is written as that."""
    assert written("{{x}}{{#l}}{{.}}{{/l}}", {"x": value, "l": [value]}) == expected * 2


@pytest.mark.parametrize(
    "data",
    [
        {"a": {"b": "x"}},
        OrderedDict(a=OrderedDict(b="x")),
        UserDict(a=UserDict(b="x")),
        MappingProxyType({"a": MappingProxyType({"b": "x"})}),
        ChainMap[str, Any]({"c": "y"}, {"a": ChainMap({"c": "y"}, {"b": "x"})}),
        {"a": defaultdict(str, b="x")},
    ],
    ids=lambda data: type(data).__name__,
)
def test_any_mapping_is_walked(data: object) -> None:
    """Every mapping works, not only a dict."""
    assert written("{{a.b}}{{#a}}{{b}}{{/a}}", data) == "xx"


@pytest.mark.parametrize(
    "items", [[1, 2], (1, 2), deque([1, 2]), range(1, 3), Point(1, 2)], ids=lambda i: type(i).__name__
)
def test_any_sequence_is_walked(items: object) -> None:
    """Every sequence works, not only a list."""
    assert written("{{#l}}{{.}}{{/l}}{{l.1}}", {"l": items}) == "122"


def test_a_mapping_that_makes_defaults_is_never_grown() -> None:
    """A look-up creates no default, in a `ChainMap` too, where the default would also hide the name's value."""
    inner: defaultdict[str, str] = defaultdict(lambda: "made up")
    outer: defaultdict[str, Any] = defaultdict(lambda: "made up")
    outer.update(inner=inner, chain=ChainMap(inner, {"a": "given"}))
    text, problems = outcome("{{x}}{{inner.x}}{{#inner}}y{{/inner}}{{#x}}{{/x}}{{^x}}{{/x}}{{chain.a}}", outer)
    assert text == "given"
    assert len(problems) == 2  # x once, inner.x once
    assert not inner
    assert set(outer) == {"inner", "chain"}


# Whitespace


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a\n{{#x}}\nb\n{{/x}}\nc", "a\nb\nc", id="sections"),
        pytest.param("a\r\n{{#x}}\r\nb\r\n{{/x}}\r\nc", "a\r\nb\r\nc", id="crlf"),
        pytest.param("a\n\t{{#x}}\t\nb\n \t {{/x}} \t\nc", "a\nb\nc", id="tabs"),
        pytest.param("{{!c}}\n\t{{! c }}\n{{=<% %>=}}\n<%! c %>", "", id="nothing-else"),
        pytest.param("a\n  {{! two\n lines }}  \nb", "a\nb", id="comment-of-two-lines"),
        pytest.param("a\n{{#x}}\n\n{{/x}}\nb", "a\n\nb", id="blank-line-stays"),
        pytest.param("a\n{{#x}}{{/x}}\nb", "a\n\nb", id="two-tags-on-a-line"),
        pytest.param("a\n {{#x}}{{/x}} \nb", "a\n  \nb", id="two-tags-and-spaces"),
        pytest.param("a {{!c}}\nb", "a \nb", id="text-before"),
        pytest.param("{{!c}} a\nb", " a\nb", id="text-after"),
        pytest.param("{{v}}\n{{v}}\n", "V\nV\n", id="variables-do-not-stand-alone"),
        pytest.param("a\n{{!c}}   ", "a\n", id="spaces-at-the-end"),
        pytest.param("　{{!c}}\nb", "　\nb", id="ideographic-space-is-text"),
        pytest.param("a\n\f{{!c}}\nb", "a\n\f\nb", id="form-feed-is-text"),
        pytest.param("{{#x}}\r\n{{v}}\r\n{{/x}}\r\n", "V\r\n", id="crlf-variable"),
    ],
)
def test_lines_with_only_a_tag_vanish(text: str, expected: str) -> None:
    """Spaces, tabs and the line break around such a tag are removed, as the specification says."""
    assert written(text, {"x": True, "v": "V"}) == expected


@pytest.mark.parametrize(
    ("text", "partials", "expected"),
    [
        pytest.param(">\n  {{>p}}\n<", {"p": "a\nb\n"}, ">\n  a\n  b\n<", id="each-line"),
        pytest.param("\t{{>p}}\r\n<", {"p": "a\r\nb\r\n"}, "\ta\r\n\tb\r\n<", id="tab-and-crlf"),
        pytest.param("  {{>p}}\n<", {"p": "a\nb"}, "  a\n  b<", id="no-line-break-at-the-end"),
        pytest.param("  {{>p}}", {"p": "{{v}}\n{{v}}"}, "  1\n2\n  1\n2", id="not-the-lines-of-a-value"),
        pytest.param("  {{>p}}", {"p": "{{#t}}\nx\n{{/t}}\ny"}, "  x\n  y", id="sections-alone"),
        pytest.param("  {{>p}}", {"p": "{{#t}}x{{/t}}\n{{#t}}\n{{v}}{{/t}}"}, "  x\n  1\n2", id="sections-inside"),
        pytest.param("  {{>p}}", {"p": "{{#l}}\n- {{.}}\n{{/l}}\n"}, "  - 1\n  - 2\n", id="items"),
        pytest.param("  {{>p}}", {"p": "a\n {{>q}}\nb", "q": "c\nd\n"}, "  a\n   c\n   d\n  b", id="nested"),
        pytest.param("  {{>p}}", {"p": "{{>q}}!\n", "q": "c\nd"}, "  c\nd!\n", id="nested-inline"),
        pytest.param("  {{>p}}|", {"p": "a\nb"}, "  a\nb|", id="inline"),
        pytest.param("{{=<% %>=}}<%>p%>", {"p": "{{t}}"}, "True", id="own-delimiters"),
        pytest.param("{{#o}}{{>p}}{{/o}}", {"p": "{{name}}"}, "inner", id="sees-the-section"),
        pytest.param("{{>a/b.txt}}{{> 部 }}", {"a/b.txt": "1", "部": "2"}, "12", id="names-of-any-kind"),
        pytest.param("{{>p}}", {"p": ""}, "", id="empty"),
    ],
)
def test_a_partial_is_written_where_it_is_called(text: str, partials: dict[str, str], expected: str) -> None:
    """A partial sees its caller's names, and its lines are indented if it stands alone."""
    data = {"v": "1\n2", "t": True, "l": [1, 2], "o": {"name": "inner"}, "name": "outer"}
    assert written(text, data, partials) == expected
