"""One message of a conversation, as the chat completions API has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

from blades._preview import short_repr, type_name

CANCELLED_KEY: Final = "cancelled"
"""The key of a saved message that marks a part of an answer. It is never sent."""
REASONING_KEY: Final = "reply_reasoning"
"""The key of a saved message that holds a reply's reasoning, by the server's own names. It is never sent itself."""

_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_MAX_DEPTH: Final = 100
Parts: TypeAlias = Sequence[Mapping[str, Any]]


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Message:
    """One message of a conversation, as the chat completions API has it. Immutable.

    Args:
        role: ``system``, ``developer``, ``user``, ``assistant``, ``tool``, or any other that a server knows.
        content: Text, or a list of the API's content parts (``{"type": "image_url", ...}``), passed through untouched.
            None only for ``assistant`` and ``function``, where tool calls may be all there is.
        cancelled: Whether this is a part of an answer whose stream was cancelled. Never sent.
        reply_reasoning: The reasoning of a reply, by the names that the server used (``{"reasoning_content": "..."}``).
            `Prompt.to_list` decides whether it is sent. Reasoning that must always be sent belongs in `extra`.
        extra: What else the API or a provider has on a message (``name``, ``tool_calls``, ``tool_call_id``, ...). It is
            kept and always sent; a value of None is left out.

    Raises:
        TypeError: A value of another type.
        ValueError: An empty role, or a value that contains itself.
    """

    role: str
    _content: str | list[dict[str, Any]] | None
    _extra: dict[str, Any]
    _reasoning: dict[str, Any]
    cancelled: bool

    def __init__(
        self,
        /,
        role: str,
        content: str | Parts | None = None,
        *,
        cancelled: bool = False,
        reply_reasoning: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> None:
        if not isinstance(role, str):
            raise TypeError(f"expected a role as a str, got {type_name(role)}: use 'system', 'user' or 'assistant'")
        if not role.strip():
            raise ValueError("expected a role, got an empty str: use 'system', 'user' or 'assistant'")
        if not isinstance(reply_reasoning, Mapping | None):
            raise TypeError(
                f"expected {REASONING_KEY} as a dict of the server's own fields, got {type_name(reply_reasoning)}: "
                'write {"reasoning_content": text}'
            )
        if not isinstance(content, str):
            content = _checked_content(role, content)
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "_content", content)
        object.__setattr__(self, "_extra", _copy_fields(extra) if extra else extra)
        object.__setattr__(self, "_reasoning", _copy_fields(reply_reasoning) if reply_reasoning else {})
        object.__setattr__(self, "cancelled", bool(cancelled))

    @property
    def content(self) -> str | list[dict[str, Any]] | None:
        """The text, a copy of the content parts, or None."""
        return self._content if isinstance(self._content, str) else _checked_content(self.role, self._content)

    @property
    def extra(self) -> dict[str, Any]:
        """A copy of all fields of the message except role, content and the reasoning of a reply."""
        return _copy_fields(self._extra)

    @property
    def reply_reasoning(self) -> dict[str, Any]:
        """A copy of the reasoning fields of the reply that this message was made from; empty for any other message."""
        return _copy_fields(self._reasoning)

    def to_dict(self, *, reasoning: bool | str | None = None) -> dict[str, Any]:
        """Return the message as the API takes it: a new dict, the caller's to change.

        Args:
            reasoning: Add the reasoning of a reply, by the server's own names; a str: under that name instead. Default:
                only if the message has tool calls (in a conversation, `Prompt.to_list` decides for all messages).
        """
        if reasoning is None:
            reasoning = "tool_calls" in self._extra
        fields = {"role": self.role, "content": self.content, **self.extra}
        if not reasoning or not self._reasoning:
            return fields
        kept = self.reply_reasoning
        if isinstance(reasoning, str):
            kept = {reasoning: kept[reasoning] if reasoning in kept else _text_of(kept)}
        return {**fields, **{name: value for name, value in kept.items() if name not in fields}}

    def to_saved(self) -> dict[str, Any]:
        """Return the message as plain data to be saved as JSON: ``Message(**data)`` is equal to this one.

        Two keys may be in it that `to_dict` leaves out, since no server knows them: ``cancelled`` (True) and
        ``reply_reasoning``.
        """
        saved = self.to_dict(reasoning=False)
        if self.cancelled:
            saved[CANCELLED_KEY] = True
        if self._reasoning:
            saved[REASONING_KEY] = self.reply_reasoning
        return saved

    def cut_short(self) -> Message:
        """Return the part of a cancelled answer that can be kept: without tool calls, which may be incomplete."""
        extra = {name: value for name, value in self._extra.items() if name != "tool_calls"}
        content = "" if self._content is None else self._content
        return Message(self.role, content, cancelled=True, reply_reasoning=self._reasoning, **extra)

    def __hash__(self) -> int:
        return hash((self.role, self._content if isinstance(self._content, str) else None))

    def __repr__(self) -> str:
        marks = {
            **({CANCELLED_KEY: True} if self.cancelled else {}),
            **({REASONING_KEY: self._reasoning} if self._reasoning else {}),
        }
        extra = "".join(f", {name}={short_repr(value)}" for name, value in {**self._extra, **marks}.items())
        return f"Message({short_repr(self.role)}, {short_repr(self._content, 200)}{extra})"


def reply_message(
    text: str,
    refusal: str = "",
    tool_calls: Sequence[Mapping[str, Any]] = (),
    reasoning_fields: Mapping[str, Any] | None = None,
) -> Message:
    """Return the assistant message that a reply adds to its conversation.

    Args:
        text: The answer.
        refusal: The refusal, ``""`` for none.
        tool_calls: The calls as the API has them, with every field that was sent. Arguments that are no JSON object go
            back as one: empty ones as ``{}``, any other text as ``{"invalid": text}``.
        reasoning_fields: The reasoning by the names that the server used.
    """
    extra: dict[str, Any] = {}
    if tool_calls:
        extra["tool_calls"] = [sendable_call(call) for call in tool_calls]
    if refusal:
        extra["refusal"] = refusal
    return Message("assistant", text or (None if extra else ""), reply_reasoning=reasoning_fields, **extra)


def sendable_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool call whose arguments are a JSON object: servers refuse, or crash on, anything else."""
    function = call.get("function")
    if not isinstance(function, Mapping):  # a custom tool's call has free text
        return dict(call)
    return {**call, "function": {**function, "arguments": _json_object(function.get("arguments"))}}


def as_message(value: object) -> Message:
    """Return a message: the value itself, or one made of a dict or of a message object of the official client."""
    if isinstance(value, Message):
        return value
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):  # a pydantic object, as the official client returns them
        value = dump(exclude_none=True)
    if not isinstance(value, Mapping):
        raise TypeError(f"expected a Message, or a dict with 'role' and 'content', got {type_name(value)}")
    fields = dict(value)  # now it has the keys that it lists, and no others
    if "role" not in fields:
        raise ValueError("expected a dict with 'role' and 'content', got one without 'role'")
    if wrong := [key for key in fields if not isinstance(key, str)]:
        raise TypeError(f"expected the names of a message's fields as str, got {type_name(wrong[0])}")
    return Message(**fields)


def _text_of(reasoning: Mapping[str, Any]) -> str:
    """Return reasoning as one text: the first text there is, or those in a list of details."""
    for value in reasoning.values():
        parts = value if isinstance(value, list) else [{"text": value}]
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        if text := "".join(text for text in texts if isinstance(text, str)):
            return text
    return ""


def _json_object(arguments: object) -> str:
    """Return the arguments of a call as the text of a JSON object."""
    import json  # takes milliseconds, and only tool calls need it

    if isinstance(arguments, str) and _is_json_object(arguments):
        return arguments
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        return "{}"
    return json.dumps(arguments if isinstance(arguments, dict) else {"invalid": arguments}, ensure_ascii=False)


def _is_json_object(text: str) -> bool:
    import json  # see _json_object

    def refuse(name: str) -> None:
        raise ValueError(name)  # NaN and Infinity, which Python reads although they are no JSON

    try:
        return isinstance(json.loads(text, parse_int=str, parse_constant=refuse), dict)
    except (ValueError, RecursionError):
        return False


def _checked_content(role: str, content: object) -> list[dict[str, Any]] | None:
    """Return a copy of a list of content parts, or None where that is allowed."""
    if content is None and role in {"assistant", "function"}:
        return None
    parts = content if isinstance(content, (list, tuple)) else ()
    wrong = [part for part in parts if not isinstance(part, Mapping)] if parts is content else [content]
    if wrong:
        # A message may be the value of a template's parameter, and such a value is never shown.
        what = f"Message({role!r}, ...)" if role in _ROLES else "a message"
        raise TypeError(f"expected text or a list of content parts (dicts) for {what}, got {type_name(wrong[0])}")
    return [_copy(part, "content") for part in parts]


def _copy_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the fields that are not None."""
    return {name: _copy(value, name) for name, value in fields.items() if value is not None}


def _copy(value: Any, name: object, depth: int = 0) -> Any:
    """Return plain data of our own, which nobody else can change."""
    if isinstance(value, str):
        return value
    if depth > _MAX_DEPTH:
        raise ValueError(
            f"expected plain data in a message, got {short_repr(name)} with more than {_MAX_DEPTH} levels: "
            "it may contain itself"
        )
    if isinstance(value, Mapping):
        return {key: _copy(inner, name, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(inner, name, depth + 1) for inner in value]
    return value
