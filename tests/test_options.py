"""Argument validation."""

from __future__ import annotations

import math
import subprocess
import sys
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessage

from blades import _options
from blades._option_types import CallOptions, Options, RunArguments
from blades._transport.client import official_names

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


def names() -> AbstractSet[str]:
    return {"temperature", "max_tokens", "functions", "brand_new", "stop", "model"}


def error(**values: Any) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        _options.options(values, names)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("temprature", "did you mean 'temperature'?", id="typing error"),
        pytest.param("apikey", "did you mean 'api_key', an argument of Agent(...)?", id="apikey"),
        pytest.param("url", "did you mean 'base_url', an argument of Agent(...)?", id="url"),
        pytest.param("system", "did you mean 'instructions', an argument of Agent(...)?", id="system"),
        pytest.param("function", "did you mean 'tools', an argument of Agent(...), run() and run_", id="function"),
        pytest.param("timeouts", "did you mean 'timeout', an argument of", id="timeouts"),
        pytest.param("API_KEY", "did you mean 'api_key'", id="capitals"),
        pytest.param("base_url", "'base_url': it is an argument of Agent(...)", id="another call's argument"),
        pytest.param("cancel", "it is an argument of run() and run_stream()", id="of the call"),
        pytest.param("zzz", "got 'zzz': a parameter of your provider's own", id="like no other"),
        pytest.param("top_k", "goes into extra_body={'top_k': ...}", id="a provider's own"),
        pytest.param("messages", "the prompt is the first argument", id="messages"),
        pytest.param("stream", "answers are always streamed", id="stream"),
    ],
)
def test_an_unknown_option_gets_a_suggestion(name: str, expected: str) -> None:
    """The message names what was meant, and where it belongs."""
    message = error(**{name: "hunter2"})
    assert message.startswith("expected an option of chat.completions.create")
    assert expected in message
    assert "hunter2" not in message
    assert ("extra_body" in message) == (name in {"temprature", "timeouts", "top_k", "zzz"})


def test_what_the_installed_client_knows_passes() -> None:
    """Known or new, unchanged; the client is not asked about known ones."""

    def never() -> AbstractSet[str]:
        raise AssertionError

    values: dict[str, Any] = {"temperature": 0.5, "stop": ["a"], "extra_body": {"top_k": 1}, "model": "m", "n": 1}
    assert _options.options(values, never) is values
    assert _options.options({"brand_new": None}, names) == {"brand_new": None}


def test_the_listed_options_are_the_official_ones() -> None:
    """No name is let through that the installed client would refuse, and types are given for the same names."""
    assert official_names() >= _options._KNOWN_OPTIONS
    typed = CallOptions.__annotations__.keys()
    assert typed == _options._KNOWN_OPTIONS - {"tools", "response_format"}
    assert {*RunArguments.__annotations__, "response_format"} - typed == set(_options._RUN_ARGUMENTS)
    assert typed - Options.__annotations__.keys() == {"model"}


class Opaque:
    pass


class Int64:
    """A number as NumPy's."""

    def tolist(self) -> int:
        """Return an int."""
        return 5


class Float64(float):
    """A float, as NumPy's is one."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(Int64(), "max_tokens of type Int64: call .tolist() on it", id="numpy"),
        pytest.param({"a": [1, {"b": Int64()}]}, "max_tokens['a'][1]['b'] of type Int64: call", id="nested"),
        pytest.param({1}, "max_tokens of type set: make a list of it", id="set"),
        pytest.param(iter([1]), "max_tokens of type list_iterator: make a list", id="iterator"),
        pytest.param(b"x", "max_tokens of type bytes: decode it", id="bytes"),
        pytest.param(Decimal(1), "max_tokens of type Decimal: give a str, a number", id="decimal"),
        pytest.param([Opaque()], "max_tokens[0] of type Opaque: give a str", id="object"),
        pytest.param(math.nan, "max_tokens=nan: give a finite number", id="nan"),
    ],
)
def test_what_is_no_json_is_named(value: object, expected: str) -> None:
    """The message names the option, the place in it, and what to do."""
    assert error(temperature=1, max_tokens=value).startswith(f"expected options that JSON can hold, got {expected}")


def test_a_cyclic_option_is_refused() -> None:
    """It would have no end."""
    loop: list[Any] = []
    loop.append(loop)
    assert "with more than 100 levels: it may contain itself" in error(stop=loop)


@pytest.mark.parametrize(
    "value", [None, openai.NOT_GIVEN, Float64(1), ChatCompletionMessage(role="assistant"), {"a": (1, True, "x")}]
)
def test_what_the_official_client_writes_passes(value: object) -> None:
    """Its own marks, and whatever it converts."""
    assert _options.options({"extra_body": value}, names) == {"extra_body": value}


def test_headers_are_no_json() -> None:
    """The official client takes marks and values of its own there."""
    values = {"extra_headers": {"X": b"x"}, "extra_query": {"a": {1}}}
    assert _options.options(values, names) is values


def test_functions_are_tools() -> None:
    """A callable is meant as a tool; dicts are the API's older way."""
    assert error(functions=[len]) == "expected functions as a list of dicts, got a callable: use tools="
    assert _options.options({"functions": [{"name": "f"}]}, names)


def test_one_answer_is_one_stream() -> None:
    """More than one choice is refused."""
    assert error(n=2) == "expected n as 1, got 2: start one stream for each answer"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(SimpleNamespace(), "got SimpleNamespace", id="no event"),
        pytest.param(SimpleNamespace, "got the class SimpleNamespace: call it", id="class"),
    ],
)
def test_what_is_no_event_is_refused(value: Any, expected: str) -> None:
    """The message names what was given."""
    with pytest.raises(TypeError, match=rf"expected cancel as an event with is_set\(\), .*{expected}"):
        _options.event(value)


def test_a_secret_is_not_repeated() -> None:
    """Not even an empty one."""
    with pytest.raises(ValueError, match="expected api_key as a text, got an empty one"):
        _options.text("api_key", " ", secret=True)


def test_nothing_here_imports_the_official_client() -> None:
    """An agent is made without it."""
    code = "import blades._options as o, sys; o.client(None, alone=True); sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
