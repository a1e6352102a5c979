"""Messages and prompts: what goes to the model, as immutable values."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, final, overload

from blades._message import Message, as_message
from blades._preview import type_name


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
