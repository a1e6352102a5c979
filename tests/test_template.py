"""Prompt templates: building prompts from Mustache."""

from __future__ import annotations

import copy
import pickle
import threading
from collections import ChainMap, UserDict, defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blades import Message, Prompt, PromptError, PromptTemplate
from limits import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable


def problems(template: PromptTemplate, params: Any = None, /, **more: Any) -> list[str]:
    """Return the lines of the error that a build raises, without its first one."""
    with pytest.raises(PromptError) as caught:
        template.build(params, **more)
    first, *rest = str(caught.value).split("\n  ")
    assert first.startswith("cannot fill in the template")
    return rest


def texts(prompt: Prompt) -> list[Any]:
    return [message.content for message in prompt]


def test_each_method_adds_a_message() -> None:
    """The messages have their roles and their order."""
    template = (
        PromptTemplate()
        .system("s {{a}}")
        .history("past")
        .user("u {{a}}")
        .assistant("a {{a}}")
        .message(Message("tool", "t"))
    )
    prompt = template.build(a=1, past=[{"role": "user", "content": "h"}])
    assert [message.role for message in prompt] == ["system", "user", "user", "assistant", "tool"]
    assert texts(prompt) == ["s 1", "h", "u 1", "a 1", "t"]


def test_a_template_is_immutable() -> None:
    """Each method returns a new one; parameters are copied when they are given."""
    params = {"a": 1}
    partials = {"p": "1"}
    empty = PromptTemplate(partials=partials)
    one = empty.user("{{a}}{{>p}}", params)
    two = one.user("more")
    params["a"] = 2
    partials["p"] = "2"
    assert [len(template.build()) for template in (empty, one, two)] == [0, 1, 2]
    assert texts(one.build()) == ["11"]
    with pytest.raises(AttributeError):
        one._entries = ()  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("at_message", "at_build", "expected"),
    [
        pytest.param(({"a": 1, "b": 2}, {}), (None, {}), "12", id="at-the-message"),
        pytest.param((None, {}), ({"a": 1}, {"b": 2}), "12", id="at-build"),
        pytest.param(({"a": 1}, {}), (None, {"b": 2}), "12", id="both"),
        pytest.param(({"a": 1}, {"b": 1}), ({"b": 2}, {}), "12", id="build-wins"),
        pytest.param(({"a": 1, "b": 1}, {"b": 2}), (None, {}), "12", id="keywords-win"),
        pytest.param((UserDict(a=1), {}), (ChainMap({"b": 2}, {"a": 3}), {}), "32", id="any-mapping"),
        pytest.param((None, {}), ({"a": 1, "b": 2, 3: 4, None: 5}, {}), "12", id="uncommon-keys"),
    ],
)
def test_parameters_are_given_at_the_message_or_at_build(at_message: Any, at_build: Any, expected: str) -> None:
    """Values are given as a mapping, as keywords, or both."""
    template = PromptTemplate().user("{{a}}{{b}}", at_message[0], **at_message[1])
    assert texts(template.build(at_build[0], **at_build[1])) == [expected]


def test_any_keyword_can_be_a_name() -> None:
    """The names of the methods' own arguments can be used, too."""
    template = PromptTemplate().user("{{self}}{{params}}{{template}}", template=1, params=2)
    assert texts(template.build(self=3)) == ["321"]


def test_a_mapping_that_makes_defaults_is_never_grown() -> None:
    """A missing name stays missing there."""
    first: defaultdict[str, object] = defaultdict(lambda: "made up")
    template = PromptTemplate().user("{{a}}")
    assert texts(template.build(ChainMap(first, {"a": "given"}))) == ["given"]
    assert len(problems(template, first)) == 2
    assert not first


def test_all_missing_names_are_in_one_error() -> None:
    """The error has message, role, line, name, reason and the names given, never a value."""
    template = (
        PromptTemplate(partials={"p": "\n{{in_partial}}"})
        .system("{{a}}\n{{user.name}}", secret="hunter2")
        .message(Message("assistant", "{{never}}"))
        .user("{{#b}}{{/b}}{{ok}}{{>p}}")
        .user("{{ok}}")
        .history("past")
    )
    assert problems(template, ok="hunter2", user={"password": "hunter2"}) == [
        "message 1 (system), line 1: 'a' is missing: no such name was given",
        "message 1 (system), line 2: 'user.name' is missing: 'user' has no key 'name'",
        "message 1 (system) was given 'secret', 'ok', 'user'",
        "message 3 (user), line 1: 'b' is missing: no such name was given",
        "message 3 (user), partial 'p', line 2: 'in_partial' is missing: no such name was given",
        "message 3 (user) was given 'ok', 'user'",
        "message 5 (history): 'past' is missing: no such name was given",
        "message 5 (history) was given 'ok', 'user'",
    ]


def test_the_names_given_are_bounded() -> None:
    """Fifty names are listed, and the error says so if there is none."""
    many = {f"name{n}": n for n in range(1000)}
    _, names = problems(PromptTemplate().user("{{x}}"), many)
    assert "'name49' and 950 more" in names
    assert "'name50'" not in names
    assert problems(PromptTemplate().user("{{x}}"))[1] == "message 1 (user) was given no names"


def test_a_wrong_value_is_told_with_the_rest() -> None:
    """The problem has the type of the value."""
    lines = problems(PromptTemplate().user("{{d}}{{x}}"), d={"k": "hunter2"})
    assert lines[0].startswith("message 1 (user), line 1: 'd' is of type dict, not text")
    assert "hunter2" not in str(lines)


def test_partials_are_written_indented() -> None:
    """Each line of a partial that stands alone is indented."""
    template = PromptTemplate(partials={"rules": "- one\n- {{two}}\n"}).system("Rules:\n  {{>rules}}\n")
    assert texts(template.build(two="2\n3")) == ["Rules:\n  - one\n  - 2\n3\n"]


def test_a_prompt_error_is_a_value_error() -> None:
    """Code that knows nothing of this library can catch the error."""
    with pytest.raises(ValueError, match="no such name was given"):
        PromptTemplate().user("{{x}}").build()


def test_a_faulty_template_raises_when_it_is_added() -> None:
    """The error names the message that was being added."""
    with pytest.raises(PromptError, match=r"^message 2 \(user\), line 2: expected an end of the section 'x', got none"):
        PromptTemplate().system("fine").user("\n{{#x}}")
    with pytest.raises(PromptError, match=r"^partial 'p', line 1: expected a partial out of those given, got 'q'$"):
        PromptTemplate(partials={"p": "{{>q}}"})


# History


@pytest.mark.parametrize(
    "past",
    [
        pytest.param([Message("user", "{{x}}"), Message("assistant", "a", refusal="r")], id="messages"),
        pytest.param(({"role": "user", "content": "{{x}}"}, Message("assistant", "a", refusal="r")), id="dicts"),
        pytest.param(Prompt("{{x}}") + Message("assistant", "a", refusal="r"), id="prompt"),
    ],
)
def test_a_history_is_passed_verbatim(past: Any) -> None:
    """The messages of a history are not rendered, and nothing is lost."""
    prompt = PromptTemplate().history("past").user("{{x}}").build(past=past, x=1)
    assert prompt == Prompt([Message("user", "{{x}}"), Message("assistant", "a", refusal="r"), Message("user", "1")])


@pytest.mark.parametrize("past", [None, False, [], (), Prompt()])
def test_an_absent_history_is_no_messages(past: Any) -> None:
    """A history is omitted like a section."""
    assert texts(PromptTemplate().history("past").user("x").build(past=past)) == ["x"]


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        pytest.param("text", "expected a list of messages, got str", id="text"),
        pytest.param({"role": "user", "content": "x"}, "a list of messages, got dict", id="dict"),
        pytest.param(Message("user", "x"), "expected a list of messages, got Message", id="message"),
        pytest.param(True, "got bool", id="true"),
        pytest.param(PromptTemplate(), "call .build() on it", id="template"),
        pytest.param(iter([]), "make a list of it", id="iterator"),
        pytest.param([{"role": "", "content": "x"}], "message 1: expected a role, got an empty", id="role"),
        pytest.param([Message("user", "x"), "y"], "message 2: expected a Message", id="text-in-list"),
        pytest.param([{"role": "hunter2"}], "content parts (dicts) for a message, got None", id="value of a role"),
    ],
)
def test_a_history_of_something_else_is_a_problem(past: Any, expected: str) -> None:
    """The error has this problem and all others."""
    first, second, _ = problems(PromptTemplate().history("past").user("{{x}}"), past=past)
    assert first.startswith("message 1 (history): ")
    assert expected in first
    assert "hunter2" not in first
    assert "'x' is missing" in second


@pytest.mark.parametrize("name", [None, 1, ["a"]])
def test_a_history_has_a_name(name: Any) -> None:
    """The name of a history is a str."""
    with pytest.raises(TypeError, match="expected the name of a history as a str, got"):
        PromptTemplate().history(name)


# Content parts


def test_the_texts_of_content_parts_are_rendered() -> None:
    """Only the texts are rendered; other fields pass through untouched."""
    image: dict[str, Any] = {"type": "image_url", "image_url": {"url": "{{not_rendered}}"}}
    text: dict[str, Any] = {"type": "text", "text": "{{a}}", "cache_control": {"type": "ephemeral"}}
    parts = [text, image, {"type": "text", "text": 1}]
    original = copy.deepcopy(parts)
    (message,) = PromptTemplate().user(parts, a="x").build()
    assert message.content == [{**text, "text": "x"}, image, {"type": "text", "text": 1}]
    assert parts == original


def test_a_problem_in_a_part_names_the_part() -> None:
    """The problem has the number of the part."""
    parts = [{"type": "text", "text": "fine"}, {"type": "text", "text": "\n{{x}}"}]
    assert problems(PromptTemplate().user(parts))[0].startswith("message 1 (user), part 2, line 2: 'x' is missing")
    with pytest.raises(PromptError, match=r"message 1 \(user\), part 1, line 1: expected '}}'"):
        PromptTemplate().user([{"type": "text", "text": "{{"}])


# Likely mistakes


@pytest.mark.parametrize("role", ["user", "system", "assistant"])
def test_a_single_brace_with_a_value_is_refused(role: str) -> None:
    """A value for the name shows that it was meant to be filled in."""
    with pytest.raises(
        PromptError, match=rf"^message 1 \({role}\), line 2: expected two braces, {{{{who}}}}, got one: "
    ):
        getattr(PromptTemplate(), role)("Hello\n{who}", who="us")


def test_a_single_brace_without_a_value_warns() -> None:
    """The warning points at the caller's line; the text is written as it is."""
    with pytest.warns(
        UserWarning, match=r"line 1: expected two braces, \{\{who\}\}, got one: \{who\} is wri"
    ) as caught:
        template = PromptTemplate().user("Hello {who}")
    assert caught[0].filename == __file__
    assert texts(template.build(who="us")) == ["Hello {who}"]
    with pytest.warns(UserWarning, match="part 1, line 1"):
        PromptTemplate().user([{"type": "text", "text": "{a}"}])


@pytest.mark.parametrize(
    "text",
    ["{{a}} {b}", '{"a": 1}', "{ a }", "{}", "{0}", r"\frac{a}{b}", "${HOME}", "x_{i}^{n}", "f{a}", "{a: b}", "{%a%}"],
)
def test_other_braces_are_text(text: str) -> None:
    """JSON, LaTeX, shell variables, and single braces beside a tag stay as they are."""
    assert texts(PromptTemplate().user(text, a=1).build()) == [text.replace("{{a}}", "1")]


def test_an_empty_message_of_the_user_is_a_problem() -> None:
    """Servers refuse an empty text; one that is meant is added as a message."""
    template = PromptTemplate().system("").user("{{#a}}x{{/a}}").user("{{b}}")
    first, second, _ = problems(template, a=None)
    assert first.startswith("message 2 (user): expected a text, got an empty one: servers refuse that; leave the mess")
    assert "'b' is missing" in second
    assert texts(PromptTemplate().message(Message("user", "")).build()) == [""]
    assert texts(PromptTemplate().user("{{b}}").build(b=" ")) == [" "]


# Wrong arguments


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda new: new().system(None), "got None", id="none"),
        pytest.param(lambda new: new().assistant(None), "got None", id="none-for-the-assistant"),
        pytest.param(lambda new: new().user(b"x"), "got bytes", id="bytes"),
        pytest.param(lambda new: new().user(["x"]), "got str", id="parts-of-text"),
        pytest.param(lambda new: new().user("x", 5), "expected a dict of values by name, got", id="params"),
        pytest.param(lambda new: new().build([1]), "expected a dict of values by name, got", id="build-params"),
        pytest.param(lambda new: new().message("x"), "expected a Message, or a dict", id="message"),
        pytest.param(lambda new: new(partials="x"), "expected a dict of values by name, got", id="partials"),
        pytest.param(lambda new: new(partials={"p": 1}), "expected the partial 'p' as a str, got", id="partial"),
    ],
)
def test_an_argument_of_another_type_is_refused(call: Callable[[Any], object], expected: str) -> None:
    """The message says what was expected and what was given."""
    with pytest.raises(TypeError, match=expected):
        call(PromptTemplate)


# A value


def test_variables_are_the_names_that_build_needs() -> None:
    """Names that have a value are left out, and so are names inside a section."""
    template = (
        PromptTemplate(partials={"p": "{{f}}"})
        .system("{{a}}{{b.c}}{{given}}", given=1)
        .history("past")
        .user([{"type": "text", "text": "{{a}}{{#d}}{{x}}{{/d}}{{^e}}{{>p}}{{/e}}"}])
        .message(Message("user", "{{no}}"))
    )
    assert template.variables == ("a", "b", "past", "d", "e", "f")


def test_a_template_shows_how_it_was_made() -> None:
    """The repr has the names and never a value."""
    template = (
        PromptTemplate(partials={"p": "x"}).system("Be {{a}}", a="hunter2").history("h").message(Message("user", "u"))
    )
    assert repr(template) == (
        "PromptTemplate(partials=['p']).system('Be {{a}}', a=...).history('h').message(Message('user', 'u'))"
    )
    assert repr(PromptTemplate()) == "PromptTemplate()"


def test_templates_are_values() -> None:
    """Templates are equal by texts, parameters and partials, and are pickled whole."""

    def made(text: str = "{{#a}}{{b}}{{/a}}", partial: str = "x", value: int = 1) -> PromptTemplate:
        return PromptTemplate(partials={"p": partial}).system(text, b=value).history("h")

    assert made() == made()
    assert made() != made("{{a}}")
    assert made() != made(partial="y")
    assert made() != made(value=2)
    loaded = pickle.loads(pickle.dumps(made()))
    assert loaded == made()
    assert loaded.build(a=True, h=[]) == made().build(a=True, h=[]) == Prompt([Message("system", "1")])


def test_one_template_serves_many_threads() -> None:
    """Sixteen threads build at once, each with its own parameters."""
    template = PromptTemplate(partials={"p": "{{#l}}{{.}}{{/l}}"}).user("{{n}}\n  {{>p}}")
    results: dict[int, set[Prompt]] = {n: set() for n in range(16)}
    start = threading.Barrier(16)

    def work(number: int) -> None:
        start.wait(LIMIT_SECONDS)
        for _ in range(100):
            results[number].add(template.build(n=number, l=[number] * 20))

    threads = [threading.Thread(target=work, args=(number,)) for number in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECONDS)
        assert not thread.is_alive()
    assert results == {n: {Prompt(f"{n}\n  {f'{n}' * 20}")} for n in range(16)}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.text(min_size=1), st.dictionaries(st.text(), st.text()))
def test_a_text_given_as_a_parameter_arrives_as_written(value: str, others: dict[str, str]) -> None:
    """Any text is written unchanged, whatever else is given."""
    (message,) = PromptTemplate().user("{{value}}", others).build(value=value)
    assert message.content == value
