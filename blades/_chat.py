"""A conversation: the history that goes out with each turn, and comes back longer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from blades import _options as check
from blades._message import Message
from blades._prompts.messages import Prompt
from blades._values import StreamState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import EllipsisType

    from blades._agent import Agent
    from blades._stream import Stream
    from blades._transport.cancel import Scope
    from blades._transport.events import Event
    from blades._values import Reply
    from blades._wire.decoder import CompletionDecoder

MARK: Final = "cancelled"  # the key that tells a part of an answer; of ours, so it never goes out


class _Turn(NamedTuple):
    """A turn whose answer is not in the history yet. It must not hold the stream: dropping that one cancels it."""

    asked: list[dict[str, Any]]
    scope: Scope
    decoder: CompletionDecoder


@final
class Chat:
    """A conversation with an agent. Made by `Agent.chat`; a turn at a time, each from any thread."""

    def __init__(
        self, agent: Agent, system: str | None, history: Prompt | Sequence[Message | Mapping[str, Any]]
    ) -> None:
        if isinstance(history, str):
            raise TypeError("history must be a list of messages, not a str; load it first if it is JSON.")
        self._messages = Prompt(history).to_list()
        if system is not None:
            first = Message("system", check.text("system", system)).to_dict()
            self._messages[:1] = [first, *(kept for kept in self._messages[:1] if kept["role"] != "system")]
        self._agent = agent
        self._turn: _Turn | None = None
        self._lock = threading.RLock()  # a signal handler may read `messages`

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far, as plain dicts: save it as JSON, and give it to `Agent.chat` as `history` again.

        The turn under way is in it with what was asked; its answer follows when its stream has ended, and when this
        attribute is read again. The part that a cancelled stream handed out is marked by ``"cancelled": True``, which
        a chat never sends. A failed turn is taken out, question and all. The list is the chat's own: between two turns
        you may change it, for instance to drop what is long past.
        """
        with self._lock:
            self._settle()
            return self._messages

    def run_stream(
        self,
        prompt: Prompt | str | Sequence[Message | Mapping[str, Any]],
        *,
        cancel: Event | None = None,
        timeout: float | EllipsisType | None = ...,
        first_chunk_timeout: float | EllipsisType | None = ...,
        stall_timeout: float | EllipsisType | None = ...,
        **options: Any,
    ) -> Stream:
        """Take the next turn: send the conversation with `prompt` at its end, and return the stream of the answer.

        Args:
            prompt: The user's text; or messages, such as the results of the tools that the last answer called.
            cancel: As `Agent.run_stream`, and so are the others.
            timeout: See `cancel`.
            first_chunk_timeout: See `cancel`.
            stall_timeout: See `cancel`.
            options: See `cancel`.

        Raises:
            RuntimeError: The answer of the turn before is still being streamed.
            Exception: as `Agent.run_stream`. The conversation is then as it was.
        """
        with self._lock:
            self._settle()
            if self._turn is not None:
                raise RuntimeError(
                    "This chat is still streaming an answer: read it to its end, or cancel() it, before the next turn. "
                    "For two conversations at once make two chats."
                )
            asked = Prompt(prompt)
            stream = self._agent.run_stream(
                Prompt(self._sent()) + asked,
                cancel=cancel,
                timeout=timeout,
                first_chunk_timeout=first_chunk_timeout,
                stall_timeout=stall_timeout,
                **options,
            )
            self._turn = _Turn(asked.to_list(), stream._scope, stream._decoder)  # noqa: SLF001 - see _Turn
            self._messages += self._turn.asked
            return stream

    def run(
        self,
        prompt: Prompt | str | Sequence[Message | Mapping[str, Any]],
        *,
        cancel: Event | None = None,
        timeout: float | EllipsisType | None = ...,
        first_chunk_timeout: float | EllipsisType | None = ...,
        stall_timeout: float | EllipsisType | None = ...,
        **options: Any,
    ) -> Reply:
        """Take the next turn and wait for the whole answer: ``run_stream(...).reply()``, with the same arguments.

        Raises:
            Exception: as `run_stream` and `Stream.next`. The conversation is then as it was.
        """
        with self.run_stream(
            prompt,
            cancel=cancel,
            timeout=timeout,
            first_chunk_timeout=first_chunk_timeout,
            stall_timeout=stall_timeout,
            **options,
        ) as stream:
            return stream.reply()

    def __repr__(self) -> str:
        return f"<Chat with {self._agent!r}, {len(self.messages)} messages>"

    def _settle(self) -> None:
        """Enter the answer of a turn whose stream has ended."""
        if self._turn is None or self._turn.scope.live:
            return
        (asked, scope, decoder), self._turn = self._turn, None
        if scope.state is StreamState.FAILED:
            self._messages[:] = [kept for kept in self._messages if not any(kept is one for one in asked)]
        elif scope.state is StreamState.FINISHED:
            self._messages.append(decoder.reply(complete=True, request_id=None).message.to_dict())
        else:
            # Without its tool calls: they may be cut, and the API refuses calls that nobody answers.
            self._messages.append({"role": "assistant", "content": decoder.text, MARK: True})

    def _sent(self) -> list[dict[str, Any]]:
        """Return what goes out: without our marks, and without turns that were cancelled before anything was said.

        Many servers refuse an empty answer, and two questions in a row as well.
        """
        sent: list[dict[str, Any]] = []
        for message in self._messages:
            if message.get(MARK) and not message.get("content"):
                if sent and sent[-1]["role"] == "user":
                    sent.pop()
            else:
                sent.append({name: value for name, value in message.items() if name != MARK})
        return sent
