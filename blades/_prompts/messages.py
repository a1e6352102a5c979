"""Messages and prompts: what goes to the model, as immutable values."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, final, overload

from blades._message import Message, as_message
from blades._preview import type_name
from blades._prompts.outgoing import outgoing


class HasModelDump(Protocol):
    """A message object of the official client."""

    def model_dump(self, *, exclude_none: bool) -> dict[str, Any]:
        """Return the object's fields."""
        ...


class _HasMessage(Protocol):
    @property
    def message(self) -> Message: ...


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Prompt(Sequence[Message]):
    """The messages of a conversation so far: an immutable sequence, a slice of which is a `Prompt` again.

    ``prompt + other`` is a new, longer prompt. `other` is a text (a message of the user), a `Message` or a dict like
    one, another prompt or a list of messages, or a `Reply`, whose messages are added.

    Args:
        messages: Anything that ``+`` accepts, except a `Reply`. A dict may be one of `to_saved`, and a message may be
            an object of the official client.

    Raises:
        TypeError: A value of another type.
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

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def __add__(self, other: PromptLike | _HasMessage) -> Prompt:
        message = getattr(other, "message", None)
        if not isinstance(message, Message):
            return prompt_of((*self, *messages_of(other)))
        return prompt_of((*self, *(getattr(other, "messages", ()) or (message,))))

    def __repr__(self) -> str:
        return f"Prompt([{', '.join(map(repr, self))}])"

    def to_list(self, *, reasoning: bool | str | None = None) -> list[dict[str, Any]]:
        """Return the messages of a request as the API takes them: new dicts, the caller's to change.

        A cancelled answer without any text is left out together with its question, since servers refuse both an empty
        answer and two questions in a row.

        Args:
            reasoning: Whether messages that came from a reply have the reasoning, by the server's own names. Default:
                all of them if the conversation has tool calls, else none. A str sends it under that name, for a server
                that wants its own. Messages that did not come from a reply stay as they are.
        """
        return outgoing(self._messages, reasoning)

    def to_saved(self) -> list[dict[str, Any]]:
        """Return the messages as plain data to be saved as JSON: `Prompt` makes an equal prompt of it.

        See `Message.to_saved` for the two keys in it that are never sent.
        """
        return [message.to_saved() for message in self]


MessageLike: TypeAlias = Message | Mapping[str, Any] | HasModelDump
PromptLike: TypeAlias = Prompt | str | MessageLike | Sequence[MessageLike]


def prompt_of(messages: Iterable[Message]) -> Prompt:
    """Return a prompt of what are messages for sure: nothing is checked."""
    prompt = object.__new__(Prompt)
    object.__setattr__(prompt, "_messages", tuple(messages))
    return prompt


def messages_of(value: object) -> Iterable[Message]:
    """Return the messages in anything that `Prompt` takes."""
    if isinstance(value, str):
        if not value:
            raise ValueError("expected a text for the user's message, got an empty one")
        return [Message("user", value)]
    if isinstance(value, (Message, Mapping)) or hasattr(value, "model_dump"):
        return [as_message(value)]
    if isinstance(value, (bytes, bytearray)) or not isinstance(value, Sequence):
        raise TypeError(f"expected a Prompt, a str, or a list of messages, got {type_name(value)}{_hint(value)}")
    messages = []
    for number, item in enumerate(value, 1):
        try:
            messages.append(item if isinstance(item, Message) else as_message(item))
        except (TypeError, ValueError) as error:
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"message {number}: {error}") from None
    return messages


def _hint(value: object) -> str:
    if hasattr(value, "build"):
        return ": call .build() on it"
    if isinstance(value, bytes | bytearray):
        return ": decode it"
    if isinstance(value, Awaitable):
        return ": await it"
    return ": make a list of it" if isinstance(value, Iterable) else ""
