"""A server as strict as the strictest: it refuses an unknown field, a call without its result, an empty answer.

::

    with LocalServer(default=strict(lambda request: "Fine.")) as server: ...
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from blades.testing import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blades.testing import Request

ROLES = {"system", "developer", "user", "assistant", "tool"}
FIELDS = {"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "audio"}
REASONING_FIELDS = {"reasoning_content", "reasoning", "reasoning_details"}


def strict(
    answer: Callable[[Request], str | Answer], *rules: Callable[[list[dict[str, Any]]], str | None]
) -> Callable[[Request], str | Answer]:
    """Return a script for `LocalServer`: 400 with the reason if a rule refuses the messages, else the answer.

    Args:
        answer: The answer to a request that nobody refuses.
        rules: Return why they refuse a list of messages, or None; `refusal` comes before them.
    """

    def script(request: Request) -> str | Answer:
        messages = request.json["messages"]
        reasons = (rule(messages) for rule in (refusal, *rules))
        reason = next((reason for reason in reasons if reason), None)
        return answer(request) if reason is None else Answer.error(400, reason)

    return script


def refusal(messages: list[dict[str, Any]]) -> str | None:
    """Return why the API refuses these messages, or None."""
    return next(_faults(messages), None)


def _faults(messages: list[dict[str, Any]]) -> Iterator[str]:
    waiting: list[str] = []  # the ids of the calls that have no result yet, in order
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        calls = message.get("tool_calls", [])
        if message["role"] not in ROLES:
            yield f"{place}: unknown role"
        if unknown := message.keys() - FIELDS - REASONING_FIELDS:
            yield f"{place}: {sorted(unknown)} is not permitted"
        if message["role"] == "tool":
            if not waiting or message.get("tool_call_id") != waiting.pop(0):
                yield f"{place}: a message of role 'tool' must answer the calls before it, in their order"
            continue
        if waiting:
            yield f"{place}: the calls {waiting} must be answered first"
        if not message.get("content") and not calls and not message.get("refusal"):
            yield f"{place}: must have either content or tool_calls"
        yield from _faults_of_calls(place, calls)
        waiting = [call["id"] for call in calls]
    if waiting:
        yield f"the calls {waiting} must be answered"


def _faults_of_calls(place: str, calls: list[dict[str, Any]]) -> Iterator[str]:
    if not all(map(_has_object, calls)):
        yield f"{place}: arguments must be a JSON object"
    if len({call["id"] for call in calls}) < len(calls):
        yield f"{place}: duplicate id of a tool call"


def wants_reasoning(messages: list[dict[str, Any]]) -> str | None:
    """Refuse as DeepSeek does: once there was a tool call, every answer needs its reasoning."""
    answers = [message for message in messages if message["role"] == "assistant"]
    if any(message.get("tool_calls") for message in answers) and not all(
        message.get("reasoning_content") for message in answers
    ):
        return "The `reasoning_content` in the thinking mode must be passed back to the API."
    return None


def refuses_reasoning(messages: list[dict[str, Any]]) -> str | None:
    """Refuse as Groq does: no message may have reasoning."""
    for number, message in enumerate(messages):
        if REASONING_FIELDS & message.keys():
            place = f"'messages.{number}'"
            return (
                f"{place} : for 'role:assistant' the following must be satisfied[({place} : property "
                "'reasoning_content' is unsupported)]"
            )
    return None


def _has_object(call: dict[str, Any]) -> bool:
    try:
        return isinstance(json.loads(call["function"]["arguments"]), dict)
    except ValueError:
        return False
