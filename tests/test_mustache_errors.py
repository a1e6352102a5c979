"""Mustache: what is missing or does not fit, what is not compiled, and how it is said."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from pydantic import BaseModel

from rendering import compiled, outcome, problem, refusal

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


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
    """The problem has the reason; only mappings and sequences are looked into."""
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
    """The message has its type and a hint, never its value; nothing is called and nothing is used up."""
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
    """The object's truth is not evaluated, and its names are not searched in an outer scope."""
    assert "not text" in problem(text, {"x": value, "l": [value], "name": "outer"})


def test_a_number_with_too_many_digits_is_a_problem() -> None:
    """Python refuses to write the number; that error becomes a problem."""
    assert "more digits" in problem("{{n}}", {"n": 10**5000})


def test_all_problems_are_found_at_once() -> None:
    """Each problem is listed once, in order, with its own line."""
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
    """Line breaks of every kind before the tag are counted."""
    assert problem(before.format("{{missing}}"), {"ok": "1\n2\n3"}).startswith(f"text, line {line}: 'missing'")


@pytest.mark.parametrize(("before", "line"), LINES)
def test_the_line_of_a_fault_is_true(before: str, line: int) -> None:
    """Line breaks of every kind before the tag are counted."""
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
    """The error says what was expected and what to do."""
    assert expected in refusal(text)


def test_an_error_in_a_partial_is_found_without_reaching_it() -> None:
    """All partials are compiled, whether used or not."""
    assert refusal("", {"p": "\n{{#x}}"}) == "partial p, line 2: expected an end of the section 'x', got none"


def test_messages_are_bounded() -> None:
    """A long name is shortened in the message."""
    name = "x" * 100_000
    assert len(problem(f"{{{{{name}}}}}")) < 200
    assert len(refusal(f"{{{{#{name}}}}}{{{{/y}}}}")) < 300
    assert len(refusal(f"{{{{{name}|y}}}}")) < 300
