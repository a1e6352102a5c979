"""One message of a conversation, as the chat completions API has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

from blades._preview import short_repr, type_name

_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
Parts: TypeAlias = Sequence[Mapping[str, Any]]


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Message:
    """One message of a conversation, as the chat completions API has it. Immutable.

    Args:
        role: ``system``, ``developer``, ``user``, ``assistant``, ``tool`` or ``function``.
        content: Text, or a list of the API's content parts (``{"type": "image_url", ...}``), passed through untouched.
            None only for ``assistant`` and ``function``, where tool calls may be all there is.
        extra: What else the API or a provider has on a message (``name``, ``tool_calls``, ``tool_call_id``,
            ``reasoning_content``, ...). It is kept and goes out again; what is None is left out.

    Raises:
        ValueError: The role is another one.
        TypeError: The content is of another type.
    """

    role: str
    _content: str | list[dict[str, Any]] | None
    _extra: dict[str, Any]

    def __init__(self, /, role: str, content: str | Parts | None = None, **extra: Any) -> None:
        if role not in _ROLES:
            raise ValueError(f"expected a role out of {', '.join(_ROLES)}; came {short_repr(role)}")
        if not isinstance(content, str):
            content = _checked_content(role, content)
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "_content", content)
        kept = {name: _copy(value) for name, value in extra.items() if value is not None} if extra else extra
        object.__setattr__(self, "_extra", kept)

    @property
    def content(self) -> str | list[dict[str, Any]] | None:
        """The text, a copy of the content parts, or None."""
        return self._content if isinstance(self._content, str) else _checked_content(self.role, self._content)

    @property
    def extra(self) -> dict[str, Any]:
        """A copy of what the message has besides role and content."""
        return {name: _copy(value) for name, value in self._extra.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the message as the API takes it: a new dict, the caller's to change."""
        return {"role": self.role, "content": self.content, **self.extra}

    def __hash__(self) -> int:
        return hash((self.role, self._content if isinstance(self._content, str) else None))

    def __repr__(self) -> str:
        extra = "".join(f", {name}={short_repr(value)}" for name, value in self._extra.items())
        return f"Message({self.role!r}, {short_repr(self._content, 200)}{extra})"


def as_message(value: object) -> Message:
    """Return a message, made of a dict if it is not one."""
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"expected a Message, or a dict with 'role' and 'content'; came {type_name(value)}")
    if "role" not in value:
        raise ValueError("expected a dict with 'role' and 'content'; came one without 'role'")
    return Message(**value)


def _checked_content(role: str, content: object) -> list[dict[str, Any]] | None:
    """Return a copy of a list of content parts, or None where that is allowed."""
    if content is None and role in {"assistant", "function"}:
        return None
    parts = content if isinstance(content, (list, tuple)) else ()
    wrong = [part for part in parts if not isinstance(part, Mapping)] if parts is content else [content]
    if wrong:
        raise TypeError(f"expected a {role} message's content: a str or a list of dicts; came {type_name(wrong[0])}")
    return [_copy(part) for part in parts]


def _copy(value: Any) -> Any:
    """Return plain data of our own, which nobody else can change."""
    if isinstance(value, Mapping):
        return {key: _copy(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(inner) for inner in value]
    return value
