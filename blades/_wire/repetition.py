"""What a server repeats in each event: the names of the fields, and the values of most of them.

A stream has thousands of events that differ in a piece of text alone. They are found here by the names of their fields;
which of them must be empty is worked out once for each combination of names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from blades._wire.deltas import CHOICE_FIELDS, EVENT_FIELDS, holds_data

if TYPE_CHECKING:
    from blades._wire.deltas import Json

_PLAIN_EVENT: Final = EVENT_FIELDS - {"usage", "error", "x_groq"}
_PLAIN_CHOICE: Final = frozenset({"index", "delta"})
_PLAIN_DELTA: Final = frozenset({"content", "role"})
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
# These bring something new in each event, also if it is the same as before.
_GROWING: Final = frozenset({"logprobs", "text", "token_ids"})


@final
class Repetition:
    """The names and values that were seen last in one stream."""

    __slots__ = ("_choice_names", "_event_names", "_last", "_shape", "_unknown_names")

    def __init__(self) -> None:
        self._shape: list[str | None] = []  # the names in the event, None, and the names in its choice
        self._event_names: tuple[str, ...] = ()  # those of the shape that must be empty, or repeated
        self._choice_names: tuple[str, ...] = ()
        self._unknown_names: tuple[tuple[str, ...], tuple[str, ...]] = (), ()  # of the event and of the choice
        self._last: Json = {}

    def only_text(self, event: Json) -> str | None:
        """Return the text of an event that brings nothing else; None for any other event."""
        try:
            (choice,) = event["choices"]
            delta = choice["delta"]
            text = delta.get("content")
        except (AttributeError, KeyError, TypeError, ValueError):  # no such choice
            return None
        if type(text) is not str or choice.get("index") or (len(delta) > 1 and _more_than_text(delta)):
            return None
        if [*event, None, *choice] != self._shape:
            self._learn(event, choice)
        for name in self._choice_names:
            if choice[name] is not None and not self._is_repeated(name, choice[name]):
                return None
        for name in self._event_names:
            if event[name] is not None and not self._is_repeated(name, event[name]):
                return None
        return text

    def new_fields(self, event: Json, choice: Json | None) -> tuple[Json, Json]:
        """Return the unknown fields of an event and of its choice, without what the event before had as well.

        Of a list that goes on where the one before ended (Perplexity's citations), the new items are returned.
        """
        choice = choice or {}
        if [*event, None, *choice] != self._shape:
            self._learn(event, choice)
        event_names, choice_names = self._unknown_names
        return (
            self._new_of(event, event_names) if event_names else {},
            self._new_of(choice, choice_names) if choice_names else {},
        )

    def _new_of(self, sent: Json, names: tuple[str, ...]) -> Json:
        """Return those of the fields that hold something new."""
        new: Json = {}
        for name in names:
            value = sent[name]
            if value is None or not holds_data(value):
                continue
            last = None if name in _GROWING else self._last.get(name)
            self._last[name] = value
            if isinstance(value, list) and isinstance(last, list) and value[: len(last)] == last:
                value = value[len(last) :]
            if value != last and holds_data(value):
                new[name] = value
        return new

    def _is_repeated(self, name: str, value: object) -> bool:
        return value in _EMPTY or (name not in _KNOWN and value == self._last.get(name, _EMPTY))

    def _learn(self, event: Json, choice: Json) -> None:
        self._shape = [*event, None, *choice]
        self._event_names = tuple([name for name in event if name not in _PLAIN_EVENT])
        self._choice_names = tuple([name for name in choice if name not in _PLAIN_CHOICE])
        self._unknown_names = tuple(event.keys() - EVENT_FIELDS), tuple(choice.keys() - CHOICE_FIELDS)


def _more_than_text(delta: Json) -> bool:
    """Return whether there is anything but text in a delta."""
    return any(value not in _EMPTY and name not in _PLAIN_DELTA for name, value in delta.items())


_KNOWN: Final = EVENT_FIELDS | CHOICE_FIELDS | _GROWING
