"""One line about a tool's run."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blades import ToolCall, ToolResult
from blades._output.tool_line import tool_line

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
LIMIT_SECONDS = 10.0
LONGEST = 400  # characters, escapes included


def line(arguments: str = '{"query": "tea"}', text: str = "3", error: str | None = None, name: str = "search") -> str:
    return tool_line(ToolResult(ToolCall(0, "call_1", name, arguments), text, error, 0.84))


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        pytest.param('["a", "b", "c"]', "3 items", id="list"),
        pytest.param("[1]", "1 item", id="list of one"),
        pytest.param("42", "42", id="number"),
        pytest.param('{"celsius": 3}', '{"celsius": 3}', id="short object"),
        pytest.param(json.dumps({str(n): n for n in range(1000)}), "1,000 fields", id="long object"),
        pytest.param("Sunny.\n", "Sunny.", id="short text"),
        pytest.param("one\ntwo", "7 characters", id="lines"),
        pytest.param("x" * 2000, "2,000 characters", id="long text"),
        pytest.param("[" * 100_000, "100,000 characters", id="too deep"),
        pytest.param("[no list", "[no list", id="no JSON"),
        pytest.param("", "no text", id="empty"),
    ],
)
def test_result_is_shown_or_measured(text: str, outcome: str) -> None:
    """A short result is shown, and of any other its size."""
    assert line(text=text) == f'search(query="tea") -> {outcome}, 0.8 s'


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        pytest.param('{"query": "tea", "limit": 5, "deep": {"a": [null]}}', 'query="tea", limit=5, deep={"a": [null]}'),
        pytest.param("{}", ""),
        pytest.param("", ""),
        pytest.param('{"query": "te', '{"query": "te'),
        pytest.param("[1, 2]", "[1, 2]"),
        pytest.param(json.dumps({"query": "中" * 50}), f'query="{"中" * 38}…'),
    ],
)
def test_arguments_are_shown_as_in_a_call(arguments: str, shown: str) -> None:
    """Or as the model wrote them, if they are no object."""
    assert line(arguments) == f"search({shown}) -> 3, 0.8 s"


def test_failure_is_shown_with_its_reason() -> None:
    """Instead of the text that the model gets."""
    assert line(text="Nothing.", error="no such\nfile") == 'search(query="tea") -> failed: no such\\nfile, 0.8 s'


def test_control_characters_are_escaped() -> None:
    """In the name, the arguments, the result and the reason."""
    bad = "\x1b]0;x\x07\x9b31m\u202e\n"
    assert line(json.dumps({bad: bad}), bad, None, bad).isprintable()
    assert line(bad, "3", bad, bad).isprintable()


@unhurried
@given(st.text(), st.text(), st.none() | st.text(), st.text())
def test_line_is_one_bounded_line(arguments: str, text: str, error: str | None, name: str) -> None:
    """Whatever a model or a tool writes."""
    shown = line(arguments, text, error, name)
    assert len(shown.splitlines()) == 1
    assert len(shown) <= LONGEST
    assert "\x1b" not in shown


@pytest.mark.parametrize("big", ["x", "[", '{"a":', "[1],", "\x1b"], ids=repr)
def test_time_is_bounded(big: str) -> None:
    """For arguments and results of megabytes."""
    began = time.process_time()
    shown = line(big * 5_000_000, big * 5_000_000, big * 5_000_000)
    assert len(shown) <= LONGEST
    assert time.process_time() - began < LIMIT_SECONDS
