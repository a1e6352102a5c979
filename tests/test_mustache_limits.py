"""Mustache: bounds, threads, and whatever Hypothesis finds."""

from __future__ import annotations

import pickle
import re
import threading
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blades import PromptError
from blades._prompts.mustache import MAX_DEPTH, compile_template, needed_names, render
from limits import CPU_SECONDS, LIMIT_SECONDS
from rendering import compiled, outcome, refusal, written

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


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
    """A template that multiplies or never ends raises within the limit."""
    if text.startswith("{{#t}}"):
        data["t"] = data  # true, and nothing but names to be looked for in vain
    template, others = compiled(text, partials)
    started = time.thread_time()
    with pytest.raises(PromptError, match=r"expected an end of sections|characters"):
        render(template, (data,), others)
    assert time.thread_time() - started < CPU_SECONDS


def test_deep_nesting_is_refused_at_once() -> None:
    """The error comes when the template is compiled."""
    assert "inside one another" in refusal("{{#a}}" * 100_000)


def test_depth_up_to_the_limit_is_rendered() -> None:
    """Nested sections work, and so does a tree by a partial that calls itself."""
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
    """Sixteen million characters take a second or two; half a minute if each tag copied the rest."""
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
    """Each name is listed once, in order, without those inside a section; partials are followed once."""
    template, others = compiled(
        "{{a.b}}{{#c}}{{x}}{{/c}}{{^d}}{{e}}{{/d}}{{>p}}{{a}}{{#.}}{{/.}}", {"p": "{{f}}{{>q}}", "q": "{{>p}}{{g}}"}
    )
    assert needed_names(template, others) == ["a", "c", "d", "e", "f", "g"]


def test_the_names_of_a_long_chain_of_partials_are_found() -> None:
    """The names are collected without recursion."""
    partials = {f"p{n}": f"{{{{>p{n + 1}}}}}" for n in range(5000)} | {"p5000": "{{last}}"}
    assert needed_names(*compiled("{{>p0}}", partials)) == ["last"]


def test_a_template_is_a_value() -> None:
    """Templates are equal by their texts, and are pickled whole at any depth."""
    template, _ = compiled("{{#a}}" * MAX_DEPTH + "x" + "{{/a}}" * MAX_DEPTH, {})
    copy = pickle.loads(pickle.dumps(template))
    assert copy == template
    assert copy.nodes == template.nodes
    assert copy != compiled("x", {})[0]


def test_threads_compile_and_render_alike() -> None:
    """Sixteen threads get what one gets, including the lines in errors."""
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
    """Any text compiles or raises PromptError, and what compiles renders."""
    try:
        template, others = compiled(text, {"p": "{{a}}"})
    except PromptError:
        return
    render(template, ({"a": [1, {"b": 2}]},), others)


@unhurried
@given(st.text())
def test_text_without_tags_comes_back(text: str) -> None:
    """Every character stays, in a message and in a partial."""
    text = re.sub(r"{+", "{", text)
    assert written(text) == text
    assert written("{{>p}}", {}, {"p": text}) == text


@unhurried
@given(st.text(), st.sampled_from(["{{v}}", "{{{v}}}", "{{#s}}{{v}}{{/s}}", "{{#v}}{{.}}{{/v}}", "{{>p}}", "  {{>p}}"]))
def test_any_value_comes_out_exactly(value: str, text: str) -> None:
    """Variables, sections and partials write a value unchanged."""
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
    """A partial is written as if each of its lines had the indentation of its tag."""
    data = {"v": "1", "t": True, "f": False}
    assert written("  {{>p}}", data, {"p": text}) == written(indented(text), data)
