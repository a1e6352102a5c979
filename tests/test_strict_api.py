"""The strict server of the tests refuses what it should."""

from __future__ import annotations

from typing import Any

import pytest

from strict_api import refusal, refuses_reasoning, wants_reasoning

USER = {"role": "user", "content": "q"}
RESULT = {"role": "tool", "content": "7", "tool_call_id": "c1"}


def called(arguments: str = "{}", *ids: str, **more: Any) -> dict[str, Any]:
    calls = [
        {"id": id_, "type": "function", "function": {"name": "f", "arguments": arguments}} for id_ in ids or ["c1"]
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls, **more}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        pytest.param([USER, called(), RESULT, USER], None, id="answered"),
        pytest.param([USER, called()], "must be answered", id="not answered"),
        pytest.param([USER, called(), USER], "must be answered first", id="answered late"),
        pytest.param([USER, called(), RESULT, RESULT], "must answer the calls", id="answered twice"),
        pytest.param([USER, called("{}", "c0", "c1"), RESULT], "in their order", id="another order"),
        pytest.param([USER, called("{}", "c1", "c1")], "duplicate id", id="one id for two calls"),
        pytest.param([USER, called("")], "JSON object", id="no arguments"),
        pytest.param([USER, called("[]")], "JSON object", id="a list as arguments"),
        pytest.param([USER, {"role": "assistant", "content": ""}], "either content or", id="empty answer"),
        pytest.param([{**USER, "cancelled": True}], "['cancelled'] is not permitted", id="unknown field"),
        pytest.param([{**USER, "role": "bot"}], "unknown role", id="unknown role"),
    ],
)
def test_the_rules_of_the_api(messages: list[dict[str, Any]], reason: str | None) -> None:
    """Each rule has a case."""
    assert reason in refusal(messages) if reason else refusal(messages) is None  # type: ignore[operator]


def test_the_rules_about_reasoning() -> None:
    """One wants it once there was a call, the other refuses it."""
    bare, full = [USER, called(), RESULT], [USER, called(reasoning_content="r"), RESULT]
    assert [wants_reasoning(messages) is None for messages in (bare, full, [USER])] == [False, True, True]
    assert [refuses_reasoning(messages) is None for messages in (bare, full)] == [True, False]
