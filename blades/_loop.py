"""A stream that runs tools: one call after another, and after each that calls tools a round of these."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast, final

from blades._call import Call, raise_again, timed_out
from blades._clock import monotonic
from blades._errors import StreamError, ToolRoundsExceeded, without_traceback
from blades._message import Message
from blades._rounds import CANCELLED_BEFORE, ROUNDS_EXCEEDED, Outcome, Round
from blades._transport.cancel import CancelScope, DeadlinePassed
from blades._transport.events import StopEvent
from blades._transport.state import CallState
from blades._values import Chunk, Reply, StreamState, Timing, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context

    from blades._options import Timeouts
    from blades._rounds import StartSpan
    from blades._tools import Approve, ToolSet
    from blades._transport.events import Event
    from blades._values import ToolCall

# A signal that comes just before a thread begins to wait goes unnoticed until it wakes, and a tool may take hours.
LONGEST_WAIT_SECONDS: Final = 1.0


@final
class StopSwitch:
    """What ends with the stream: the call under way, the round under way, and the event that the tools were given.

    It is an object of its own, so that the state does not refer to the loop: nothing would be released before the
    next garbage collection.
    """

    def __init__(self) -> None:
        self.event = StopEvent()
        self._call: Call | None = None
        self._round: Round | None = None

    def attach(self, *, call: Call | None = None, tools: Round | None = None) -> None:
        """Note what `stop` is to end. Attach first, then check whether the stream has ended in between."""
        self._call, self._round = call, tools

    def stop(self) -> None:
        """Set the event, and end what is attached. Call from any thread."""
        self.event.set()
        if self._round is not None:
            self._round.stop()
        if self._call is not None:
            self._call.scope.cancel()


@final
class ToolLoop:
    """As many calls as the model needs. It has the interface of `Call`, so `Stream` does not know the difference.

    The state and the scope are those of the whole stream: each call has its own, and is cancelled with the whole.

    Args:
        send: Sends the request of a call, with these messages after the prompt. It must not refer to the stream.
        tools: The tools.
        timeouts: `timeout` is that of the whole; the others count in each call.
        event: The caller's own event.
        require_finish: As for `Call`.
        context: The caller's context variables, for the tools.
        max_rounds: How many requests may be sent.
        approve: Asked about each call before any of the round runs.
        start_span: Starts the tracing of a tool.
    """

    def __init__(
        self,
        send: Callable[[Call, Sequence[Message]], None],
        tools: ToolSet,
        timeouts: Timeouts,
        event: Event | None,
        *,
        require_finish: bool,
        context: Context,
        max_rounds: int,
        approve: Approve | None = None,
        start_span: StartSpan | None = None,
    ) -> None:
        self._switch = StopSwitch()
        self.state = CallState(self._switch.stop)
        self.scope = CancelScope(self.state, event)
        self._send = send
        self._tools = tools
        self._timeouts = timeouts
        self._require_finish = require_finish
        self._context = context
        self._max_rounds = max_rounds
        self._approve = approve
        self._start_span = start_span
        # The calls so far, each with the round that followed. Changed in one step, since a signal handler may raise an
        # exception between any two.
        self._steps: tuple[tuple[Call, Round | None], ...] = ()
        self._exceeded = False
        self._approve_error: Exception | None = None  # what `approve` has raised: not a failure of the stream
        self._results = 0
        timeout = timeouts.timeout
        self._ends_by = math.inf if timeout is None else self.state.started_at + timeout

    def start(self) -> None:
        """Send the first request."""
        self._send_request()

    # Reading

    def next_chunk(self) -> Chunk | None:
        """Return the next chunk, of a call or of a round; None when the stream has ended. See `Call.next_chunk`."""
        scope = self.scope
        token: Any = None  # a loop has no response: the thread that has taken `WAITING` is the reader
        try:
            try:
                token = scope.take_response()
                if token is not None and self.state.active:
                    return self._advance()
            except Exception as error:
                is_callers_own = error is self._approve_error
                self._approve_error = None  # and no local variable: the traceback of the exception has this frame
                if is_callers_own or not self._is_failure(error):
                    raise
                if isinstance(error, StreamError):
                    error.attach_reply(self.reply())
                if not self.state.transition(StreamState.FAILED, failure=without_traceback(error)):
                    return None  # cancelled meanwhile: that is why the rest failed
                raise
            finally:
                if token is not None:
                    scope.put_back(token)
        except BaseException:
            scope.abort(token)  # which does nothing to a stream that has failed
            raise
        raise_again(self.state, has_reader=token is None)
        return None

    def close(self) -> None:
        """End the stream: as finished if its last answer is known to be complete, else as cancelled. Never raises."""
        call = self._call
        if call is not None and self._round is None and call.decoder.finished and not self._asks_for_tools(call):
            call.close()
            self.state.transition(StreamState.FINISHED, notify_in_thread=True)
        self.scope.cancel()

    def _advance(self) -> Chunk | None:
        while not self.scope.poll():
            tools = self._round
            if tools is not None and tools.done:
                self._raise_if_late()
                self._send_request()
                continue
            chunk = self._next_of_call() if tools is None else self._next_of_round(tools)
            if chunk is not None:
                return chunk
        return None

    def _next_of_call(self) -> Chunk | None:
        """Return a chunk of the call; at its end begin a round, or end the stream."""
        call = self._call
        if call is None:
            raise AssertionError("the loop was not started")
        chunk = call.next_chunk()
        if chunk is not None:
            if self.state.value is StreamState.OPENING:
                self.state.transition(StreamState.STREAMING)
            self.state.content_arrived(call.state.last_content_at or monotonic())
        elif call.state.value is StreamState.FINISHED:
            if self._asks_for_tools(call):
                self._begin_round(call)
            else:
                self.state.transition(StreamState.FINISHED)
        elif self.state.active:  # the call was cancelled by itself: nobody else would end the stream
            self.scope.cancel()
        return chunk

    def _asks_for_tools(self, call: Call) -> bool:
        return self._tools.can_run(call.decoder.tool_calls)

    def _begin_round(self, call: Call) -> None:
        if len(self._steps) >= self._max_rounds:
            self._exceeded = True
            raise ToolRoundsExceeded(
                f"The model asked for tools in each of max_rounds={self._max_rounds} requests: allow more, or tell the "
                "model when to stop."
            )
        tools = Round(
            call.decoder.tool_calls,
            self._tools,
            stop_event=self._switch.event,
            deliver=cast("Callable[[Outcome], object]", self.scope.arrivals.put),
            context=self._context,
            start_span=self._start_span,
        )
        tools.prepare(call.decoder.finish_reason)
        self._switch.attach(tools=tools)
        self._steps = (*self._steps[:-1], (call, tools))
        if self._approve is not None:
            try:
                tools.ask(self._approve)
            except Exception as error:
                self._approve_error = error
                raise
            self._raise_if_late()
        tools.start()

    def _next_of_round(self, tools: Round) -> Chunk | None:
        """Return a chunk with the next result; None if something else woke this thread."""
        self._raise_if_late()  # before `next_outcome`, which may run a tool
        outcome = tools.next_outcome()
        if outcome is None:
            try:
                arrival: Any = self.scope.receive(min(self._ends_by, monotonic() + LONGEST_WAIT_SECONDS))
            except DeadlinePassed:
                return None
            if not isinstance(arrival, Outcome):
                return None
            outcome = arrival
        if self.scope.poll():
            return None
        try:
            result = tools.take(outcome)
        finally:
            del outcome  # the traceback of its failure may have this frame
        if result is None:
            return None
        self._results += 1
        self.state.content_arrived(monotonic())
        return Chunk(tool_results=(result,))

    def _raise_if_late(self) -> None:
        if monotonic() >= self._ends_by:
            raise timed_out("timeout", self._timeouts)

    def _send_request(self) -> None:
        messages = self.messages()
        call = Call(self._timeouts, require_finish=self._require_finish, ends_by=self._ends_by)
        self._switch.attach(call=call)
        self._steps = (*self._steps, (call, None))
        if not self.scope.poll():
            self._send(call, messages)
        if not self.state.active:  # the switch may have been used before it had this call
            self._switch.stop()

    @property
    def _call(self) -> Call | None:
        return self._steps[-1][0] if self._steps else None

    @property
    def _round(self) -> Round | None:
        return self._steps[-1][1] if self._steps else None

    def _is_failure(self, error: Exception) -> bool:
        """Return whether an exception is the stream's own, not one that the caller's code has raised in here."""
        call = self._call
        return isinstance(error, StreamError) or (call is not None and call.state.value is StreamState.FAILED)

    # What is known so far

    @property
    def totals(self) -> ToolLoop:
        """The loop itself, which has the text, the usage and the other totals."""
        return self

    @property
    def _calls(self) -> list[Call]:
        return [call for call, _ in self._steps]

    @property
    def text(self) -> str:
        """The text of all answers."""
        return "".join([call.decoder.text for call in self._calls])

    @property
    def answer_text(self) -> str:
        """The text of the last answer."""
        return "" if self._call is None else self._call.decoder.text

    @property
    def reasoning(self) -> str:
        """The reasoning of all answers."""
        return "".join([call.decoder.reasoning for call in self._calls])

    @property
    def finish_reason(self) -> str | None:
        """The finish reason of the last answer."""
        return None if self._call is None else self._call.decoder.finish_reason

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls of the last answer."""
        return () if self._call is None else self._call.decoder.tool_calls

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
            elif reply.complete and self._asks_for_tools(call):
                # The last round was one too many; or an exception came before the round was made.
                reason = ROUNDS_EXCEEDED if self._exceeded else CANCELLED_BEFORE
                found += _answered(reply, [reason] * len(reply.tool_calls), number)
            elif reply.complete or reply.text or not found:
                found += reply.messages
        return tuple(found)

    def reply(self) -> Reply:
        """Return the result so far."""
        call = self._call
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
            complete=self.state.value is StreamState.FINISHED,
            _rounds=messages if len(messages) > 1 else (),
        )

    def timing(self) -> Timing:
        """Return how long the stream has taken so far, tools included."""
        calls = self._calls
        chunks = sum(call.decoder.chunks for call in calls) + self._results
        return self.state.timing(chunks, calls[0].state.sent_at if calls else None)


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
