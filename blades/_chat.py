"""A conversation: each request includes the whole history, and each answer is added to it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, final, overload

from blades import _options
from blades._message import Message
from blades._preview import short_repr
from blades._prompts.messages import Prompt, prompt_of
from blades._prompts.outgoing import complete
from blades._values import StreamState, T_co

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

    from blades._call import Call
    from blades._loop import ToolLoop
    from blades._option_types import RunArguments
    from blades._prompts.messages import PromptLike
    from blades._stream import Stream
    from blades._values import Reply


class _Sender(Protocol):
    """What a chat needs of an agent."""

    @property
    def run_stream(self) -> Callable[..., Stream]: ...


T = TypeVar("T")


@final
class Chat(Generic[T_co]):
    """A conversation with an agent. Made by `Agent.chat`; a turn at a time, each from any thread."""

    def __init__(
        self, agent: _Sender, system: str | None, history: Prompt | Sequence[Message | Mapping[str, Any]]
    ) -> None:
        if isinstance(history, str):
            raise TypeError("expected history as a list of messages, got a str: use json.loads(...) if it is JSON")
        self._messages = Prompt(history).to_saved()
        if system is not None:
            first = Message("system", _options.text("system", system)).to_saved()
            self._messages[:1] = [first, *(kept for kept in self._messages[:1] if kept["role"] != "system")]
        self._agent = agent
        # The turn under way. Not its stream: dropping the last reference to a stream cancels it.
        self._turn: Call | ToolLoop | None = None
        self._asked: list[dict[str, Any]] = []  # what the turn under way has added to the messages
        self._lock = threading.RLock()  # re-entrant: a signal handler may read `messages`

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far, as plain dicts: save it as JSON, and give it to `Agent.chat` as `history` again.

        The turn under way is in it with its question; the answer is added when its stream has ended. The part of an
        answer that was read from a cancelled stream has ``"cancelled": True``, and reasoning is kept under
        ``"reply_reasoning"``: neither key is ever sent (see docs/templates.md). A failed turn is removed, question and
        all, unless tools have run in it. The list is the chat's own: between two turns you may change it, for instance
        to drop old messages.
        """
        with self._lock:
            self._commit_turn()
            return self._messages

    @overload
    def run_stream(self, prompt: PromptLike, **options: Unpack[RunArguments]) -> Stream[T_co]: ...
    @overload
    def run_stream(
        self, prompt: PromptLike, *, response_format: type[T], **options: Unpack[RunArguments]
    ) -> Stream[T]: ...
    @overload
    def run_stream(
        self, prompt: PromptLike, *, response_format: Mapping[str, Any] | None, **options: Unpack[RunArguments]
    ) -> Stream[Any]: ...
    def run_stream(self, prompt: PromptLike, **options: Any) -> Stream[Any]:
        """Take the next turn: send the conversation with `prompt` at its end, and return the stream of the answer.

        Tool calls that `prompt` does not answer are answered for it, with a sentence that says so.

        Args:
            prompt: The user's text; or messages, such as the results of the tools that the last answer called.
            options: The keyword arguments of `Agent.run_stream`.

        Raises:
            RuntimeError: The answer of the previous turn is still being streamed.
            ValueError: A tool's result that belongs to no call of the last answer.
            Exception: As `Agent.run_stream`. The conversation is then as it was.
        """
        with self._lock:
            self._commit_turn()
            if self._turn is not None:
                raise RuntimeError(
                    "expected the previous turn to have ended, got one that is still streaming: read it to its end, or "
                    "cancel() it, before the next turn. For two conversations at once make two chats."
                )
            asked = Prompt(prompt)
            stream = self._agent.run_stream(self._outgoing(asked), **options)
            self._turn = stream._call  # noqa: SLF001 - see __init__
            self._asked = asked.to_saved()
            self._messages += self._asked
            return stream

    @overload
    def run(self, prompt: PromptLike, **options: Unpack[RunArguments]) -> Reply[T_co]: ...
    @overload
    def run(self, prompt: PromptLike, *, response_format: type[T], **options: Unpack[RunArguments]) -> Reply[T]: ...
    @overload
    def run(
        self, prompt: PromptLike, *, response_format: Mapping[str, Any] | None, **options: Unpack[RunArguments]
    ) -> Reply[Any]: ...
    def run(self, prompt: PromptLike, **options: Any) -> Reply[Any]:
        """Take the next turn and wait for the whole answer: ``run_stream(...).reply()``, with the same arguments.

        Raises:
            Exception: As `run_stream` and `Stream.next`. The conversation is then as it was.
        """
        with self.run_stream(prompt, **options) as stream:
            return stream.reply()

    def __repr__(self) -> str:
        return f"<Chat with {self._agent!r}, {len(self.messages)} messages>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled or copied: keep its messages, and give them to chat(history=...)")

    def _commit_turn(self) -> None:
        """Add the answer of a turn whose stream has ended."""
        turn = self._turn
        if turn is None or turn.state.active:
            return
        self._turn = None
        messages = turn.reply().messages
        if turn.state.value is StreamState.FAILED and len(messages) == 1:
            asked = set(map(id, self._asked))
            self._messages[:] = [kept for kept in self._messages if id(kept) not in asked]
        elif turn.state.value is StreamState.FINISHED:
            self._messages += prompt_of(messages).to_saved()
        else:  # cancelled, or failed after tools have run
            *whole, last = messages
            if last.role != "assistant":  # cancelled between two rounds of tool calls
                whole, last = [*whole, last], Message("assistant", "")
            self._messages += prompt_of([*whole, last.cut_short()]).to_saved()

    def _outgoing(self, asked: Prompt) -> Prompt:
        """Return the conversation to be sent: one that the API accepts, whatever the turns before were like."""
        messages = prompt_of(complete(Prompt(self._messages) + asked))
        kept = set(map(id, messages))
        for message in asked:
            if message.role == "tool" and id(message) not in kept:
                raise ValueError(
                    "expected results of the last answer's tool calls, got one for "
                    f"{short_repr(message.extra.get('tool_call_id'))}: give each call one result, with the id of the "
                    "call as tool_call_id, in the turn after it"
                )
        return messages
