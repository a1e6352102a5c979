"""What goes to the server of a conversation: the reasoning of replies, and an answer for every tool call.

Some servers refuse a request without the reasoning of earlier answers (DeepSeek, Kimi, MiMo, once there was a tool
call), others refuse one with it (Groq, Cerebras, Mistral). No rule fits both, so the default may have to be changed
once a server has refused it: `other_reasoning` reads such a refusal.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from blades._message import Message, sendable_call

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UNANSWERED: Final = "No result: this call was not answered."
"""What the model reads in place of the result of a call that nobody answered."""

Reasoning: TypeAlias = bool | str
"""Whether the reasoning of replies is sent; a str: under that name, whatever the server called it that it came from."""

_ERROR_CHARACTERS: Final = 100_000  # of a body that are searched: a server may repeat the whole request in it
# `thinking` alone is the name of an option, too. Patterns are texts here: few programs ever need them compiled.
_FIELD: Final = (
    r"(?i)(reasoning(?:_content|_details|_text)?)(?![\w-])|thought_?signature|thinking_blocks"
    r"|messages\W{1,3}\d+\W.{0,40}?\bthinking\b"
)
# Groq and Cerebras (unsupported), Mistral and other validators (extra_forbidden, not permitted), gateways.
_REFUSED: Final = (
    "(?i)unsupported|not (?:supported|permitted|allowed)|forbidden|unknown|unrecogni[sz]ed|unexpected|additional prop"
)
# DeepSeek and MiMo (passed back), Kimi and Gemini (missing).
_DEMANDED: Final = "(?i)passed back|pass it back|missing|required|must (?:be|have|contain|include)"
_UNCLEAR: Final = "(?i)invalid|illegal|cannot be|incorrect"


def names_reasoning_field(text: str) -> bool:
    """Return whether a server's error (400 or 422, the whole body) is about the reasoning in a request, or its lack."""
    text = text[:_ERROR_CHARACTERS]
    return bool(re.search(_FIELD, text) and any(re.search(words, text) for words in (_REFUSED, _DEMANDED, _UNCLEAR)))


def other_reasoning(text: str, sent: Reasoning) -> Reasoning | None:
    """Return what to do about the reasoning in a second request, or None if a second request is in vain.

    Args:
        text: The server's error, the whole body.
        sent: What the first request did.
    """
    text = text[:_ERROR_CHARACTERS]
    field = re.search(_FIELD, text)
    if field is None or not names_reasoning_field(text):
        return None
    if re.search(_REFUSED, text):
        return False if sent else None
    if re.search(_DEMANDED, text) and (name := (field[1] or "").lower()) and name != sent:
        return name
    return not sent


def has_reasoning(messages: Iterable[Message]) -> bool:
    """Return whether there is reasoning of a reply to be sent or left out."""
    return any(message.reply_reasoning for message in messages)


def sends_reasoning(messages: Iterable[Message]) -> bool:
    """Return whether reasoning is sent by default: only in a conversation that has tool calls."""
    return any(message.role == "tool" or "tool_calls" in message.extra for message in messages)


def outgoing(messages: Sequence[Message], reasoning: Reasoning | None = None) -> list[dict[str, Any]]:
    """Return the messages of a request. `reasoning` is that of `Prompt.to_list`."""
    if reasoning is None:
        reasoning = has_reasoning(messages) and sends_reasoning(messages)
    sent: list[dict[str, Any]] = []
    for message in messages:
        if message.cancelled and _is_empty(message):
            if sent and sent[-1]["role"] == "user":
                sent.pop()
        else:
            sent.append(message.to_dict(reasoning=reasoning))
    return sent


def complete(messages: Iterable[Message]) -> list[Message]:
    """Return a conversation that no server refuses for its tool calls or for an empty answer.

    Each call has a JSON object as arguments, and is answered once, in the order of the calls, directly behind the
    message that it is in: `UNANSWERED` stands for a missing result, and a result of no such call is left out. An empty
    answer counts as cancelled. The messages that stay as they are stay the same objects.
    """
    completed: list[Message] = []
    waiting: list[tuple[str, list[Message]]] = []  # the calls of the last answer, each with its result or nothing
    unanswered: dict[str, deque[list[Message]]] = {}  # the latter, by the id's repr: nobody checks that it is a str

    def answer_calls() -> None:
        for id_, results in waiting:
            completed.append(results[0] if results else Message("tool", UNANSWERED, tool_call_id=id_))
        waiting.clear()
        unanswered.clear()

    for message in messages:
        if message.role == "tool":
            open_calls = unanswered.get(repr(message.extra.get("tool_call_id")))
            if open_calls:
                open_calls.popleft().append(message)
            continue
        answer_calls()
        calls = _calls(message)
        for call in calls:
            results: list[Message] = []
            waiting.append((call["id"], results))
            unanswered.setdefault(repr(call["id"]), deque()).append(results)
        if calls:
            message = _with_calls(message, [sendable_call(call) for call in calls])  # noqa: PLW2901 - the one to keep
        elif message.role == "assistant" and _is_empty(message):
            message = message.cut_short()  # noqa: PLW2901 - the same
        completed.append(message)
    answer_calls()
    return completed


def _calls(message: Message) -> list[dict[str, Any]]:
    """Return the tool calls that the API would want answers to."""
    calls = message.extra.get("tool_calls") if message.role == "assistant" else None
    return [call for call in calls if isinstance(call, dict) and "id" in call] if isinstance(calls, list) else []


def _with_calls(message: Message, calls: list[dict[str, Any]]) -> Message:
    extra = {**message.extra, "tool_calls": calls}
    return Message(
        message.role,
        message.content,
        cancelled=message.cancelled,
        reply_reasoning=message.reply_reasoning,
        **extra,
    )


def _is_empty(message: Message) -> bool:
    return not message.content and not any(value for name, value in message.extra.items() if name != "name")
