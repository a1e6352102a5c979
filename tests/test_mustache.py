"""Mustache: what is written, what is refused, and how it says so."""

from __future__ import annotations

import pickle
import re
import threading
import time
from collections import ChainMap, OrderedDict, UserDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from blades import PromptError
from blades._prompts.mustache import MAX_DEPTH, compile_template, needed_names, render
from limits import CPU_SECONDS, LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blades._prompts.mustache import Template


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


def compiled(text: str, partials: Mapping[str, str]) -> tuple[Template, dict[str, Template]]:
    """Compile a text and its partials."""
    others = {name: compile_template(t, f"partial {name}", partials, is_partial=True) for name, t in partials.items()}
    return compile_template(text, "text", partials), others


def outcome(text: str, data: object = None, partials: Mapping[str, str] | None = None) -> tuple[str, list[str]]:
    """Render a text with data as its only scope."""
    template, others = compiled(text, partials or {})
    return render(template, ({} if data is None else data,), others)


def written(text: str, data: object = None, partials: Mapping[str, str] | None = None) -> str:
    """Return the rendered text of a case that has no problem."""
    result, problems = outcome(text, data, partials)
    assert problems == []
    return result


def problem(text: str, data: object = None, partials: Mapping[str, str] | None = None) -> str:
    """Return the only problem of a case."""
    (line,) = outcome(text, data, partials)[1]
    return line


def refusal(text: str, partials: Mapping[str, str] | None = None) -> str:
    """Return why a text is not compiled."""
    with pytest.raises(PromptError) as caught:
        compiled(text, partials or {})
    return str(caught.value)


class Colour(str, Enum):  # noqa: UP042 - the older way is what many programs have
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Size(int, Enum):
    BIG = 9


Point = namedtuple("Point", "x y")  # noqa: PYI024 - as other people's data comes


@dataclass
class Data:
    name: str


class Model(BaseModel):
    name: str


class Account:
    password = "hunter2"

    def __str__(self) -> str:
        return "hunter2"


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
        pytest.param("{{a-b}}{{@i}}{{$ref}}{{x:y}}", {"a-b": 1, "@i": 2, "$ref": 3, "x:y": 4}, "1234", id="odd-names"),
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
    """Unescaped, exact, walked as the specification says."""
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
    """Not only dict."""
    assert written("{{a.b}}{{#a}}{{b}}{{/a}}", data) == "xx"


@pytest.mark.parametrize(
    "items", [[1, 2], (1, 2), deque([1, 2]), range(1, 3), Point(1, 2)], ids=lambda i: type(i).__name__
)
def test_any_sequence_is_walked(items: object) -> None:
    """Not only list."""
    assert written("{{#l}}{{.}}{{/l}}{{l.1}}", {"l": items}) == "122"


def test_a_mapping_that_makes_defaults_is_never_grown() -> None:
    """Looking a name up changes nothing, in a `ChainMap` too, where it would hide the name's value besides."""
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
    """As the specification says, and nothing besides spaces, tabs and their line break."""
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
    """With its caller's names, and with its own lines indented if it stands alone."""
    data = {"v": "1\n2", "t": True, "l": [1, 2], "o": {"name": "inner"}, "name": "outer"}
    assert written(text, data, partials) == expected


# What is missing or does not fit


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        pytest.param("{{x}}", {}, "line 1: 'x' is missing: no such name was given", id="variable"),
        pytest.param("{{#x}}{{/x}}", {}, "line 1: 'x' is missing", id="section"),
        pytest.param("{{^x}}{{/x}}", {}, "line 1: 'x' is missing", id="inverted"),
        pytest.param("{{{x}}}", {}, "line 1: 'x' is missing", id="triple"),
        pytest.param("{{a.b.c}}", {"a": {"b": {}}}, "line 1: 'a.b.c' is missing: 'b' has no key 'c'", id="chain"),
        pytest.param("{{#a.b}}{{/a.b}}", {"a": {}}, "'a' has no key 'b'", id="chain-in-section"),
        pytest.param(
            "{{#s}}{{a.x}}{{/s}}", {"s": {"a": {}}, "a": {"x": 1}}, "'a' has no key 'x'", id="no-fall-through"
        ),
        pytest.param("{{#l}}{{k}}{{/l}}", {"l": [{}, {}]}, "'k' is missing", id="in-items-once"),
        pytest.param("{{l.2}}", {"l": [1, 2]}, "'l' has no key '2', it is of type list", id="index-too-high"),
        pytest.param("{{l.-1}}", {"l": [1, 2]}, "'l' has no key '-1'", id="index-from-the-end"),
        pytest.param("{{l.١}}", {"l": [1, 2]}, "'l' has no key '١'", id="index-in-other-digits"),
        pytest.param("{{l." + "9" * 5000 + "}}", {"l": [1]}, "'l' has no key '999", id="index-huge"),
        pytest.param("{{s.0}}", {"s": "text"}, "'s' has no key '0', it is of type str", id="characters"),
        pytest.param("{{b.0}}", {"b": b"text"}, "'b' has no key '0', it is of type bytes", id="bytes"),
        pytest.param("{{n.x}}", {"n": None}, "'n' has no key 'x', it is of type None", id="none"),
        pytest.param("{{u.password}}", {"u": Account()}, "it is of type Account", id="attribute"),
        pytest.param("{{u.__class__.__init__}}", {"u": "x"}, "it is of type str", id="dunder"),
        pytest.param("{{f.__globals__}}", {"f": compiled}, "it is of type function", id="globals"),
        pytest.param("{{d.items}}", {"d": {"a": 1}}, "'d' has no key 'items'", id="method"),
        pytest.param("{{p.x}}", {"p": Point(1, 2)}, "it is of type Point", id="field-of-namedtuple"),
        pytest.param("{{d.1}}", {"d": {1: "x"}}, "'d' has no key '1'", id="key-that-is-no-text"),
        pytest.param("{{a.b}}", {"a.b": 1}, "'a.b' is missing", id="dotted-key"),
    ],
)
def test_a_missing_name_is_a_problem(text: str, data: object, expected: str) -> None:
    """Wherever it is used, with the reason; nothing is looked into but mappings and sequences."""
    found = problem(text, data)
    assert expected in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("value", "kind", "hint"),
    [
        ({"k": "hunter2"}, "dict", "write one of its keys, {{x.key}}, open it with {{#x}}{{key}}{{/x}}, or pass json."),
        (["hunter2"], "list", "join it yourself, or loop over it with {{#items}}{{.}}{{/items}}"),
        (("hunter2",), "tuple", "join it yourself"),
        ({"hunter2"}, "set", "pass a list of it"),
        (b"hunter2", "bytes", "decode it"),
        (bytearray(b"hunter2"), "bytearray", "decode it"),
        (memoryview(b"hunter2"), "memoryview", "decode it"),
        (Account(), "Account", "pass str(value), or a dict of what is needed of it"),
        (Data("hunter2"), "Data", "pass dataclasses.asdict(value), and write {{x.field}}"),
        (Model(name="hunter2"), "Model", "pass value.model_dump(), and write {{x.field}}"),
        (Account, "type", "call it and pass what it returns"),
        (Model, "ModelMetaclass", "call it"),
        (lambda: "hunter2", "function", "call it"),
        (str.upper, "method_descriptor", "call it"),
        ((text for text in ["hunter2"]), "generator", "pass a list of it"),
        (iter(["hunter2"]), "list_iterator", "pass a list of it"),
        (object(), "object", "pass str(value)"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_what_is_not_text_is_refused_as_text(value: object, kind: str, hint: str) -> None:
    """The message has its type and a cure, never its value; nothing is called and nothing is used up."""
    found = problem("{{x}}", {"x": value})
    assert f"line 1: 'x' is of type {kind}, not text: {hint}" in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        pytest.param(Data("hunter2"), "type Data: pass dataclasses.asdict(value)", id="dataclass"),
        pytest.param(Model(name="hunter2"), "type Model: pass value.model_dump()", id="pydantic"),
    ],
)
@pytest.mark.parametrize("text", ["{{x.name}}", "{{#x}}{{name}}{{/x}}"])
def test_an_object_with_fields_gets_its_cure(value: object, hint: str, text: str) -> None:
    """No attribute is read: the caller makes a dict."""
    found = problem(text, {"x": value})
    assert hint.split(": ")[1] in found
    assert "hunter2" not in found


@pytest.mark.parametrize("value", [{"a"}, b"x", Account(), compiled, iter([1])], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("text", ["{{#x}}{{name}}{{/x}}", "{{^x}}{{name}}{{/x}}", "{{#l}}{{name}}{{/l}}"])
def test_what_can_be_neither_walked_nor_written_is_refused_in_a_section(value: object, text: str) -> None:
    """An object's truth is not asked, and names are not looked for past it in an outer scope."""
    assert "not text" in problem(text, {"x": value, "l": [value], "name": "outer"})


def test_a_number_with_too_many_digits_is_a_problem() -> None:
    """Python refuses to write it; that error does not come out."""
    assert "more digits" in problem("{{n}}", {"n": 10**5000})


def test_all_problems_are_found_at_once() -> None:
    """Each once, in order, with its own line; what is not missing does not hide what is."""
    text = "{{a}}\n{{b.c}} {{ok}}\n{{#d}}\n{{never_reached}}\n{{/d}}\n{{e}}{{e}}\n{{>p}}"
    _, problems = outcome(text, {"b": {}, "ok": 1, "e": []}, {"p": "\n{{f}}"})
    assert [line.split(": ")[0] for line in problems] == [
        "text, line 1",
        "text, line 2",
        "text, line 3",
        "text, line 6",
        "text, partial p, line 2",
    ]


LINES = [
    pytest.param("a\nb\n{}", 3, id="text"),
    pytest.param("a\r\nb\r\n{}", 3, id="crlf"),
    pytest.param("{{{{!one\ntwo\nthree}}}}\n{}", 4, id="comment-of-lines-alone"),
    pytest.param("x{{{{!one\ntwo}}}}{}", 2, id="comment-of-lines"),
    pytest.param("{{{{ok\n}}}}{}", 2, id="variable-of-lines"),
    pytest.param("{{{{#ok}}}}\n{{{{/ok}}}}\n{}", 3, id="lines-that-vanish"),
    pytest.param("{{{{#ok}}}}\r\n{{{{/ok}}}}\r\n{}", 3, id="lines-that-vanish-crlf"),
    pytest.param("{{{{=<%\n%>=}}}}\n<%={{{{ }}}}=%>\n{}", 4, id="delimiters"),
    pytest.param("\u2028\x0b\x0c\x85{}", 1, id="other-separators"),
]


@pytest.mark.parametrize(("before", "line"), LINES)
def test_the_line_of_a_problem_is_true(before: str, line: int) -> None:
    """Whatever came before the tag."""
    assert problem(before.format("{{missing}}"), {"ok": "1\n2\n3"}).startswith(f"text, line {line}: 'missing'")


@pytest.mark.parametrize(("before", "line"), LINES)
def test_the_line_of_a_fault_is_true(before: str, line: int) -> None:
    """Whatever came before the tag."""
    assert refusal(before.format("{{#open}}\n")).startswith(f"text, line {line}: ")
    assert refusal(before.format("{{}}\n")).startswith(f"text, line {line}: ")
    assert refusal(before.format("{{")).startswith(f"text, line {line}: ")


# What is not compiled


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("{{x", "expected '}}' behind '{{', got none", id="unclosed"),
        pytest.param("x {{", "expected '}}' behind '{{'", id="trailing-braces"),
        pytest.param("{{x}", "expected '}}' behind '{{'", id="one-brace"),
        pytest.param("{{=<% %>=}}<%x}}", "expected '%>' behind '<%', got none", id="unclosed-with-own-delimiters"),
        pytest.param("{{}}", "expected a name in a tag", id="empty"),
        pytest.param("{{ }}", "expected a name in a tag", id="blank"),
        pytest.param("{{　}}", "expected a name in a tag", id="ideographic-blank"),
        pytest.param("{{#}}{{/}}", "expected a name in a tag", id="empty-section"),
        pytest.param("{{/}}", "expected a name in a tag", id="empty-close"),
        pytest.param("{{>}}", "expected a name in a tag", id="empty-partial"),
        pytest.param("{{&}}", "expected a name in a tag", id="empty-ampersand"),
        pytest.param("{{{}}}", "expected a name in a tag", id="empty-triple"),
        pytest.param("{{#a}}\n{{b}}", "line 1: expected an end of the section 'a', got none", id="section-not-closed"),
        pytest.param("\n{{^a}}", "line 2: expected an end of the section 'a', got none", id="inverted-not-closed"),
        pytest.param("\n{{/a}}", "line 2: expected no end, got the end of 'a'", id="stray-close"),
        pytest.param("{{#a}}{{/a}}{{/a}}", "expected no end, got the end of 'a'", id="closed-twice"),
        pytest.param(
            "{{#a}}\n{{#b}}\n{{/a}}", "line 3: expected the end of 'b' of line 2, got the end of 'a'", id="crossed"
        ),
        pytest.param("{{={{=}}", "expected two delimiters", id="delimiters-one"),
        pytest.param("{{=a b c=}}", "expected two delimiters", id="delimiters-three"),
        pytest.param("{{=a= b=}}", "expected two delimiters", id="delimiters-with-equals"),
        pytest.param("{{=}}", "expected two delimiters", id="delimiters-none"),
        pytest.param("{{=<% %>}}", "expected two delimiters", id="delimiters-not-closed"),
        pytest.param("{{{x}}", "expected '}}}' behind '{{{', got none", id="triple-not-closed"),
        pytest.param("{{{x}} }", "expected '}}}' behind '{{{', got none", id="triple-closed-late"),
        pytest.param("{{=<% %>=}}<%{x}%>", "expected '}}}' behind '{{{'", id="triple-with-own-delimiters"),
        pytest.param("{{first name}}", "a name has no spaces", id="space"),
        pytest.param("{{ a . b }}", "a name has no spaces", id="spaces-around-a-dot"),
        pytest.param("{{#if x}}{{/if}}", "there are no helpers", id="if"),
        pytest.param("{{#each xs}}{{/each}}", "there are no helpers", id="each"),
        pytest.param("{{x|upper}}", "there are no filters", id="filter"),
        pytest.param("{{ x | upper }}", "there are no filters", id="filter-with-spaces"),
        pytest.param('{{"a": 1}}', "change the delimiters: {{=<% %>=}}", id="json"),
        pytest.param("{{'a'}}", "change the delimiters", id="quotes"),
        pytest.param("{{{ {x} }}}", "change the delimiters", id="brace-inside"),
        pytest.param("{{x[0]}}", "the first item of a list is {{list.0}}", id="subscript"),
        pytest.param("{{f(x)}}", "there are no calls", id="call"),
        pytest.param("{{ #x }}", "right after the braces", id="space-before-the-sign"),
        pytest.param("{{.x}}", "one dot between", id="dot-first"),
        pytest.param("{{x.}}", "one dot between", id="dot-last"),
        pytest.param("{{x..y}}", "one dot between", id="two-dots"),
        pytest.param("{{..}}", "one dot between", id="only-dots"),
        pytest.param("{{>p}}", "expected a partial out of those given, got 'p'", id="no-such-partial"),
        pytest.param(
            "{{#no}}{{>p}}{{/no}}", "expected a partial out of those given, got 'p'", id="no-such-partial-in-section"
        ),
    ],
)
def test_a_faulty_template_is_not_compiled(text: str, expected: str) -> None:
    """It raises when it is added, saying what was wrong and what to do."""
    assert expected in refusal(text)


def test_an_error_in_a_partial_is_found_without_reaching_it() -> None:
    """All partials are compiled."""
    assert refusal("", {"p": "\n{{#x}}"}) == "partial p, line 2: expected an end of the section 'x', got none"


def test_messages_are_bounded() -> None:
    """However long the name is."""
    name = "x" * 100_000
    assert len(problem(f"{{{{{name}}}}}")) < 200
    assert len(refusal(f"{{{{#{name}}}}}{{{{/y}}}}")) < 300
    assert len(refusal(f"{{{{{name}|y}}}}")) < 300


# Bounds

DIGITS = list(range(10))


@pytest.mark.parametrize(
    ("text", "data", "partials"),
    [
        pytest.param("{{>p}}", {}, {"p": "{{>p}}"}, id="recursive"),
        pytest.param("{{>p}}", {}, {"p": "x{{>q}}", "q": "y{{>p}}"}, id="mutually-recursive"),
        pytest.param("{{>p}}", {"n": True}, {"p": "{{#n}}{{>p}}{{>p}}{{/n}}"}, id="recursive-twice"),
        pytest.param("  {{>p}}", {}, {"p": "x\n  {{>p}}\n"}, id="recursive-and-indented"),
        pytest.param(" " * 100_000 + "{{>p}}", {}, {"p": " " * 100_000 + "{{>p}}\n"}, id="indentation"),
        pytest.param("{{#l}}" * 20 + "{{/l}}" * 20, {"l": DIGITS}, {}, id="sections"),
        pytest.param("{{#l}}" * 20 + "{{.}}" + "{{/l}}" * 20, {"l": DIGITS}, {}, id="sections-with-text"),
        pytest.param("{{#l}}" * 20 + "{{missing}}" + "{{/l}}" * 20, {"l": DIGITS}, {}, id="sections-with-problems"),
        pytest.param("{{#t}}" * 97 + "{{#l}}{{x}}{{/l}}" + "{{/t}}" * 97, {"t": {}, "l": [1] * 10**6}, {}, id="scopes"),
        pytest.param(
            "{{>p0}}", {}, {f"p{n}": f"{{{{>p{n + 1}}}}}" * 10 for n in range(20)} | {"p20": "x"}, id="partials"
        ),
        pytest.param(
            " {{>p0}}",
            {},
            {f"p{n}": f" {{{{>p{n + 1}}}}}\n" * 10 for n in range(20)} | {"p20": "x\n" * 1000},
            id="partials-of-lines",
        ),
        pytest.param("{{#l}}{{>p}}{{/l}}", {"l": DIGITS * 1000}, {"p": "x" * 10**5}, id="long-partial"),
        pytest.param("{{#l}}{{v}}{{/l}}", {"l": DIGITS * 1000, "v": "x" * 10**5}, {}, id="long-value"),
        pytest.param("{{#l}}  {{>p}}\n{{/l}}", {"l": DIGITS * 1000}, {"p": "x\n" * 10**5}, id="long-indented-partial"),
    ],
)
def test_a_bomb_is_defused(text: str, data: dict[str, Any], partials: dict[str, str]) -> None:
    """It raises soon, whatever it multiplies."""
    if text.startswith("{{#t}}"):
        data["t"] = data  # true, and nothing but names to be looked for in vain
    template, others = compiled(text, partials)
    started = time.thread_time()
    with pytest.raises(PromptError, match=r"expected an end of sections|characters"):
        render(template, (data,), others)
    assert time.thread_time() - started < CPU_SECONDS


def test_deep_nesting_is_refused_at_once() -> None:
    """Where it is written, not where it is rendered."""
    assert "inside one another" in refusal("{{#a}}" * 100_000)


def test_depth_up_to_the_limit_is_rendered() -> None:
    """Sections, and a tree by a partial that calls itself."""
    assert written("{{#a}}" * MAX_DEPTH + "x" + "{{/a}}" * MAX_DEPTH, {"a": True}) == "x"
    tree: dict[str, Any] = {"name": "leaf", "children": []}
    for _ in range(MAX_DEPTH // 2 - 1):
        tree = {"name": "node", "children": [tree]}
    partials = {"tree": "{{name}}\n{{#children}}\n {{>tree}}\n{{/children}}\n"}
    lines = written("{{>tree}}", tree, partials).splitlines()
    assert lines[-1] == " " * (MAX_DEPTH // 2 - 1) + "leaf"


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param("line with {{name}} in it\n", id="tags"),
        pytest.param("{{#l}}{{x}}{{/l}}", id="sections-on-one-line"),
        pytest.param("{{!\n}}\n \t", id="comments"),
        pytest.param("{ { } }\n" * 20, id="literals"),
    ],
)
def test_a_huge_template_compiles_in_linear_time(unit: str) -> None:
    """This takes a second or two; if each tag copied the rest of these sixteen million characters, half a minute."""
    text = (unit + "." * 200) * 80_000
    started = time.thread_time()
    compile_template(text, "text", (), is_partial=True)
    assert time.thread_time() - started < CPU_SECONDS


def test_many_items_are_rendered() -> None:
    """The bounds leave room for any real prompt."""
    items = [{"name": "n", "price": n} for n in range(100_000)]
    text = written("{{#items}}- {{name}}: {{price}}\n{{/items}}", {"items": items})
    assert text.count("\n") == 100_000


# The rest


def test_needed_names_are_those_asked_of_the_parameters() -> None:
    """Each once, in order; not those inside a section, which its value may have; partials are followed once."""
    template, others = compiled(
        "{{a.b}}{{#c}}{{x}}{{/c}}{{^d}}{{e}}{{/d}}{{>p}}{{a}}{{#.}}{{/.}}", {"p": "{{f}}{{>q}}", "q": "{{>p}}{{g}}"}
    )
    assert needed_names(template, others) == ["a", "c", "d", "e", "f", "g"]


def test_the_names_of_a_long_chain_of_partials_are_found() -> None:
    """Without recursion."""
    partials = {f"p{n}": f"{{{{>p{n + 1}}}}}" for n in range(5000)} | {"p5000": "{{last}}"}
    assert needed_names(*compiled("{{>p0}}", partials)) == ["last"]


def test_a_template_is_a_value() -> None:
    """Equal by its text, and pickled whole, at any depth."""
    template, _ = compiled("{{#a}}" * MAX_DEPTH + "x" + "{{/a}}" * MAX_DEPTH, {})
    copy = pickle.loads(pickle.dumps(template))
    assert copy == template
    assert copy.nodes == template.nodes
    assert copy != compiled("x", {})[0]


def test_threads_compile_and_render_alike() -> None:
    """Sixteen at once get what one gets, lines in errors included."""
    text = "a\n" * 50 + "{{#l}}{{.}}{{/l}}\n{{missing}}"
    expected = outcome(text, {"l": list(range(50))})
    results: list[object] = []
    start = threading.Barrier(16)

    def work() -> None:
        start.wait(LIMIT_SECONDS)
        results.extend(outcome(text, {"l": list(range(50))}) for _ in range(20))
        results.append(refusal("\n\n{{#a}}"))

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECONDS)
        assert not thread.is_alive()
    assert results.count(expected) == 16 * 20
    assert results.count("text, line 3: expected an end of the section 'a', got none") == 16


SIGNS = ["{{", "}}", "{{{", "}}}", "{{#", "{{/", "{{^", "{{>", "{{!", "{{=", "=}}", "{{&", "<%", "%>", "|", "{", "="]
PIECES = st.sampled_from([*SIGNS, "a", "b", "p", ".", "..", '"', "if", " ", "\n", "\r\n", "\t", "　"])
SOUP = st.lists(PIECES | st.text(max_size=3), max_size=25).map("".join)


@unhurried
@given(SOUP)
def test_any_text_compiles_or_raises_prompt_error(text: str) -> None:
    """And what compiles renders, with problems or without."""
    try:
        template, others = compiled(text, {"p": "{{a}}"})
    except PromptError:
        return
    render(template, ({"a": [1, {"b": 2}]},), others)


@unhurried
@given(st.text())
def test_text_without_tags_comes_back(text: str) -> None:
    """Character by character, as a message and as a partial."""
    text = re.sub(r"{+", "{", text)
    assert written(text) == text
    assert written("{{>p}}", {}, {"p": text}) == text


@unhurried
@given(st.text(), st.sampled_from(["{{v}}", "{{{v}}}", "{{#s}}{{v}}{{/s}}", "{{#v}}{{.}}{{/v}}", "{{>p}}", "  {{>p}}"]))
def test_any_value_comes_out_exactly(value: str, text: str) -> None:
    """Through variables, sections and partials."""
    indent = "  " if text.startswith(" ") else ""
    assert written(text, {"v": value, "s": [1]}, {"p": "{{v}}"}) == indent + value


def indented(text: str) -> str:
    """Indent each line of a text."""
    return "".join(f"  {line}" for line in re.split(r"(?<=\n)", text) if line)


LINES_OF_TAGS = st.recursive(
    st.sampled_from(["x", "{{v}}", "{{!c}}", "{{! two\nlines }}", " ", "\n", "\r\n"]),
    lambda inner: (
        st.lists(inner, max_size=6).map("".join)
        | inner.map("{{{{#t}}}}{}{{{{/t}}}}".format)
        | inner.map("{{{{^f}}}}\n{}{{{{/f}}}}\n".format)
    ),
)


@unhurried
@given(LINES_OF_TAGS)
def test_an_indented_partial_is_its_text_indented(text: str) -> None:
    """The specification's own wording: as if its lines had been written with the indentation before them."""
    data = {"v": "1", "t": True, "f": False}
    assert written("  {{>p}}", data, {"p": text}) == written(indented(text), data)
