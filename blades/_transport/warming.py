"""What a client does before its first stream, so that this one begins as early as any other."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from blades._transport.cancel import CancelScope
from blades._transport.connection import current_scope
from blades._transport.state import CallState

if TYPE_CHECKING:
    import openai


def warm(client: openai.OpenAI) -> None:
    """Open a connection, with the cheapest request that there is: for the list of models, whatever it says.

    The request has a scope of its own, as a stream has: so the connection is known, and the stream that uses it next
    can be cancelled from its first byte on.

    Raises:
        Exception: The server cannot be reached, or refuses.
    """
    current_scope.set(CancelScope(CallState(lambda: None)))
    client.models.with_raw_response.list()
    with suppress(Exception):
        _resolve_types(client)


def _resolve_types(client: openai.OpenAI) -> None:
    """Have the official client resolve the types of a request's parameters, which takes it a millisecond once.

    Raises:
        ValueError: In any case: the body has no end, so that it cannot be encoded, and nothing is sent.
    """
    endless: list[Any] = []
    endless.append(endless)
    messages: list[Any] = [{"role": "user", "content": "Hello"}]
    client.chat.completions.create(model="any", messages=messages, stream=True, extra_body={"endless": endless})
