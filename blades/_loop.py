"""A stream that runs tools: one call after another, and after each that calls tools a round of these."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, cast, final

from blades._call import Call, raise_again, timed_out
from blades._clock import monotonic
from blades._errors import StreamError, ToolRoundsExceeded, without_traceback
from blades._rounds import Outcome, Round
from blades._steps import Steps
from blades._transport.arrivals import DeadlinePassed
from blades._transport.cancel import CancelScope
from blades._transport.events import StopEvent
from blades._transport.state import CallState
from blades._values import Chunk, StreamState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context

    from blades._message import Message
    from blades._options import Timeouts
    from blades._rounds import StartSpan
    from blades._tools import Approve, ToolSet
    from blades._transport.events import Event
    from blades._values import Reply, Timing

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
        self._steps = Steps(tools)
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
        steps, call = self._steps, self._steps.last_call
        if call is not None and steps.last_round is None and call.decoder.finished and not steps.asks_for_tools(call):
            call.close()
            self.state.transition(StreamState.FINISHED, notify_in_thread=True)
        self.scope.cancel()

    def _advance(self) -> Chunk | None:
        while not self.scope.poll():
            tools = self._steps.last_round
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
        call = self._steps.last_call
        if call is None:
            raise AssertionError("the loop was not started")
        chunk = call.next_chunk()
        if chunk is not None:
            if self.state.value is StreamState.OPENING:
                self.state.transition(StreamState.STREAMING)
            self.state.content_arrived(call.state.last_content_at or monotonic())
        elif call.state.value is StreamState.FINISHED:
            if self._steps.asks_for_tools(call):
                self._begin_round(call)
            else:
                self.state.transition(StreamState.FINISHED)
        elif self.state.active:  # the call was cancelled by itself: nobody else would end the stream
            self.scope.cancel()
        return chunk

    def _begin_round(self, call: Call) -> None:
        if len(self._steps) >= self._max_rounds:
            self._steps.exceed_rounds()
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
        self._steps.begin_round(tools)
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
        messages = self._steps.messages()
        call = Call(self._timeouts, require_finish=self._require_finish, ends_by=self._ends_by)
        self._switch.attach(call=call)
        self._steps.begin_call(call)
        if not self.scope.poll():
            self._send(call, messages)
        if not self.state.active:  # the switch may have been used before it had this call
            self._switch.stop()

    def _is_failure(self, error: Exception) -> bool:
        """Return whether an exception is the stream's own, not one that the caller's code has raised in here."""
        call = self._steps.last_call
        return isinstance(error, StreamError) or (call is not None and call.state.value is StreamState.FAILED)

    # What is known so far

    @property
    def totals(self) -> Steps:
        """What the answers add up to."""
        return self._steps

    @property
    def answer_text(self) -> str:
        """The text of the last answer."""
        return self._steps.answer_text

    @property
    def request_id(self) -> str | None:
        """The request id of the last response that has one."""
        return self._steps.request_id

    def reply(self) -> Reply:
        """Return the result so far."""
        return self._steps.reply(complete=self.state.value is StreamState.FINISHED)

    def timing(self) -> Timing:
        """Return how long the stream has taken so far, tools included."""
        return self.state.timing(self._steps.chunks + self._results, self._steps.sent_at)
