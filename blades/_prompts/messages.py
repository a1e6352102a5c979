"""Messages and prompts: what goes to the model, as immutable values."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, final, overload

from blades._prompts.context import short

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
            raise ValueError(f"expected a role out of {', '.join(_ROLES)}; came {short(role)}")
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
        extra = "".join(f", {name}={short(value)}" for name, value in self._extra.items())
        return f"Message({self.role!r}, {short(self._content, 200)}{extra})"


class _HasMessage(Protocol):
    @property
    def message(self) -> Message: ...


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Prompt(Sequence[Message]):
    """The messages of a conversation so far: an immutable sequence, a slice of which is a `Prompt` again.

    ``prompt + other`` is a new, longer prompt. `other` is a text (a message of the user), a `Message` or a dict like
    one, another prompt or a list of messages, or a `Reply`, whose message is taken.

    Args:
        messages: The same, except a `Reply`.

    Raises:
        TypeError: What came is something else.
        ValueError: An empty text, or a dict that is no message.
    """

    _messages: tuple[Message, ...]

    def __init__(self, messages: PromptLike = ()) -> None:
        object.__setattr__(self, "_messages", tuple(messages_of(messages)))

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> Prompt: ...
    def __getitem__(self, index: int | slice) -> Message | Prompt:
        return prompt_of(self._messages[index]) if isinstance(index, slice) else self._messages[index]

    def __len__(self) -> int:
        return len(self._messages)

    def __add__(self, other: PromptLike | _HasMessage) -> Prompt:
        message = getattr(other, "message", None)
        return prompt_of((*self, *messages_of(message if isinstance(message, Message) else other)))

    def __repr__(self) -> str:
        return f"Prompt([{', '.join(map(repr, self))}])"

    def to_list(self) -> list[dict[str, Any]]:
        """Return the messages as the API takes them: new dicts, the caller's to change."""
        return [message.to_dict() for message in self]


PromptLike: TypeAlias = Prompt | str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]]


def prompt_of(messages: Iterable[Message]) -> Prompt:
    """Return a prompt of what are messages for sure: nothing is checked."""
    prompt = object.__new__(Prompt)
    object.__setattr__(prompt, "_messages", tuple(messages))
    return prompt


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


def messages_of(value: object) -> Iterable[Message]:
    """Return the messages in anything that `Prompt` takes."""
    if isinstance(value, str):
        if not value:
            raise ValueError("expected a text for the user's message; came an empty one")
        return [Message("user", value)]
    if isinstance(value, (Message, Mapping)):
        return [as_message(value)]
    if isinstance(value, (bytes, bytearray)) or not isinstance(value, Sequence):
        raise TypeError(
            f"expected a Prompt, a str, or a list of Messages or dicts; came {type_name(value)}{_cure(value)}"
        )
    messages = []
    for number, item in enumerate(value, 1):
        try:
            messages.append(item if isinstance(item, Message) else as_message(item))
        except (TypeError, ValueError) as error:
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"message {number}: {error}") from None
    return messages


def _cure(value: object) -> str:
    if hasattr(value, "build"):
        return ": call .build() on it"
    if isinstance(value, bytes | bytearray):
        return ": decode it"
    if isinstance(value, Awaitable):
        return ": await it"
    return ": make a list of it" if isinstance(value, Iterable) else ""


def _copy(value: Any) -> Any:
    """Return plain data of our own, which nobody else can change."""
    if isinstance(value, Mapping):
        return {key: _copy(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(inner) for inner in value]
    return value


def type_name(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"
