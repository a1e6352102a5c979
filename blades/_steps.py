"""The steps of a stream that runs tools: each is an answer and the round that followed; and what they add up to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from blades._message import Message
from blades._rounds import CANCELLED_BEFORE, ROUNDS_EXCEEDED
from blades._values import Reply, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blades._call import Call
    from blades._rounds import Round
    from blades._tools import ToolSet
    from blades._values import ToolCall


@final
class Steps:
    """The calls so far, each with its round. Has the totals of a decoder, for all answers.

    `_steps` is changed in one step, since a signal handler may raise an exception between any two.
    """

    def __init__(self, tools: ToolSet) -> None:
        self._tools = tools
        self._steps: tuple[tuple[Call, Round | None], ...] = ()
        self._exceeded = False

    def __len__(self) -> int:
        return len(self._steps)

    def begin_call(self, call: Call) -> None:
        """Add a call, whose request is about to be sent."""
        self._steps = (*self._steps, (call, None))

    def begin_round(self, tools: Round) -> None:
        """Add the round of the last call."""
        self._steps = (*self._steps[:-1], (self._steps[-1][0], tools))

    def exceed_rounds(self) -> None:
        """Note that there is no round for the last call, because there were enough."""
        self._exceeded = True

    def asks_for_tools(self, call: Call) -> bool:
        """Return whether a call's answer asks for tools that can run."""
        return self._tools.can_run(call.decoder.tool_calls)

    @property
    def last_call(self) -> Call | None:
        """The call under way, or the last one."""
        return self._steps[-1][0] if self._steps else None

    @property
    def last_round(self) -> Round | None:
        """The round of the last call; None before it begins."""
        return self._steps[-1][1] if self._steps else None

    @property
    def sent_at(self) -> float | None:
        """When the first request was sent, on the clock of `monotonic`."""
        return self._steps[0][0].state.sent_at if self._steps else None

    @property
    def chunks(self) -> int:
        """The number of chunks of all answers."""
        return sum(call.decoder.chunks for call in self._calls)

    @property
    def _calls(self) -> list[Call]:
        return [call for call, _ in self._steps]

    # The totals

    @property
    def text(self) -> str:
        """The text of all answers."""
        return "".join([call.decoder.text for call in self._calls])

    @property
    def answer_text(self) -> str:
        """The text of the last answer."""
        return "" if self.last_call is None else self.last_call.decoder.text

    @property
    def reasoning(self) -> str:
        """The reasoning of all answers."""
        return "".join([call.decoder.reasoning for call in self._calls])

    @property
    def finish_reason(self) -> str | None:
        """The finish reason of the last answer."""
        return None if self.last_call is None else self.last_call.decoder.finish_reason

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls of the last answer."""
        return () if self.last_call is None else self.last_call.decoder.tool_calls

    @property
    def model(self) -> str | None:
        """The model that the last answer names."""
        return next((call.decoder.model for call in reversed(self._calls) if call.decoder.model), None)

    @property
    def id(self) -> str | None:
        """The id of the last answer that has one."""
        return next((call.decoder.id for call in reversed(self._calls) if call.decoder.id), None)

    @property
    def request_id(self) -> str | None:
        """The request id of the last response that has one."""
        return next((call.state.request_id for call in reversed(self._calls) if call.state.request_id), None)

    @property
    def usage(self) -> Usage | None:
        """The sum over all answers; None if one of them has no usage."""
        usages = [call.decoder.usage for call in self._calls]
        total: Usage | None = usages[0] if usages else None
        for usage in usages[1:]:
            total = None if total is None or usage is None else add_usage(total, usage)
        return total

    def messages(self) -> tuple[Message, ...]:
        """Return what the stream adds to the conversation."""
        found: list[Message] = []
        for number, (call, tools) in enumerate(self._steps):
            reply = call.reply()
            if tools is not None:
                found += _answered(reply, tools.texts(), number)
            elif reply.complete and self.asks_for_tools(call):
                # The last round was one too many; or an exception came before the round was made.
                reason = ROUNDS_EXCEEDED if self._exceeded else CANCELLED_BEFORE
                found += _answered(reply, [reason] * len(reply.tool_calls), number)
            elif reply.complete or reply.text or not found:
                found += reply.messages
        return tuple(found)

    def reply(self, *, complete: bool) -> Reply:
        """Return the result so far."""
        call = self.last_call
        if call is None:
            return Reply()
        messages = self.messages()
        return replace(
            call.reply(),
            text=self.text,
            reasoning=self.reasoning,
            usage=self.usage,
            model=self.model,
            id=self.id,
            request_id=self.request_id,
            complete=complete,
            _rounds=messages if len(messages) > 1 else (),
        )


def _answered(reply: Reply, texts: Sequence[str], number: int) -> list[Message]:
    """Return an assistant's message and the results of its calls.

    Some servers send calls without ids, or one id for all of them: each call is given an id of its own.
    """
    calls: dict[str, ToolCall] = {}
    for position, call in enumerate(reply.tool_calls):
        id_ = call.id or f"call_{number}_{position}"
        while id_ in calls:
            id_ += f"_{position}"
        calls[id_] = replace(call, id=id_)
    message = replace(reply, tool_calls=tuple(calls.values())).message
    return [message, *(Message("tool", text, tool_call_id=id_) for id_, text in zip(calls, texts, strict=True))]


def add_usage(first: Usage, second: Usage) -> Usage:
    """Add the tokens of two answers. What one of them lacks is None in the sum."""

    def add(a: Any, b: Any) -> Any:
        if isinstance(a, dict) and isinstance(b, dict):
            return {name: add(a.get(name), b.get(name)) for name in {**a, **b}}
        numbers = isinstance(a, int | float) and isinstance(b, int | float)
        return a + b if numbers else (b if a is None else a if b is None else b)

    def total(a: int | None, b: int | None) -> int | None:
        return None if a is None or b is None else a + b

    return Usage(
        total(first.prompt_tokens, second.prompt_tokens),
        total(first.completion_tokens, second.completion_tokens),
        total(first.total_tokens, second.total_tokens),
        raw=add(first.raw, second.raw),
    )
