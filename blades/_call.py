"""One call under way: waits for the response, decodes it, enforces the time limits, decides how it ended."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

from blades._clock import monotonic
from blades._errors import StreamError, StreamInterrupted, StreamProtocolError, StreamTimeout, without_traceback
from blades._preview import printable, type_name
from blades._transport.arrivals import ARRIVED, WAITING, ConnectionLost, DeadlinePassed, OpeningFailed, Waiting
from blades._transport.cancel import CancelScope
from blades._transport.state import CallState
from blades._values import StreamState, Timing
from blades._wire.decoder import CompletionDecoder
from blades._wire.inflate import EncodingError

if TYPE_CHECKING:
    from blades._options import Timeouts
    from blades._transport.arrivals import Response
    from blades._transport.events import Event
    from blades._values import Chunk, Reply

# How long, after the answer is complete, usage and the end of the body are waited for.
TRAILER_WAIT_SECONDS: Final = 1.0

_EXPECTED: Final = {
    "timeout": "the end of the answer",
    "first_chunk_timeout": "the first content",
    "stall_timeout": "further content",
}


class OtherReaderError(RuntimeError):
    """Another thread is reading the stream: nothing has happened to the stream itself."""


@final
class Call:
    """One answer, chunk by chunk. Read by one thread at a time: whoever has taken the response out of the scope."""

    __slots__ = (
        "_complete_since",
        "_ends_by",
        "_overtime",
        "_require_finish",
        "_stall_seconds",
        "_timeouts",
        "decoder",
        "scope",
        "state",
    )

    def __init__(
        self, timeouts: Timeouts, event: Event | None = None, *, require_finish: bool, ends_by: float | None = None
    ) -> None:
        self.decoder = CompletionDecoder()
        self.state = CallState(self.decoder.freeze)
        self.scope = CancelScope(self.state, event)
        self._timeouts = timeouts
        self._stall_seconds = math.inf if timeouts.stall_timeout is None else timeouts.stall_timeout
        self._require_finish = require_finish
        if ends_by is None:
            ends_by = math.inf if timeouts.timeout is None else self.state.started_at + timeouts.timeout
        self._ends_by = ends_by
        self._overtime = False  # a chunk was returned although a limit had passed: from now on, the limit counts
        self._complete_since: float | None = None

    def next_chunk(self) -> Chunk | None:
        """Return the next chunk, reading as much as that takes; None when the call has ended.

        Raises:
            StreamError: The answer was cut short. Raised again if asked again, like the next.
            Exception: The response never started: what the official client raised.
            RuntimeError: Another thread is reading.
            BaseException: What a signal handler of the caller's raised meanwhile: the call is then cancelled.
        """
        scope, state = self.scope, self.state
        response: Response | Waiting | None = None
        try:
            try:
                response = scope.take_response()
                if response is not None and state.active:
                    if isinstance(response, Waiting):
                        response = self._await_response() or WAITING
                        if isinstance(response, Waiting):
                            return None
                    return self._advance(response)
            except StreamError as error:
                if not self._fail(error):
                    return None  # cancelled meanwhile: that is why the rest failed
                raise
            finally:
                if response is not None:
                    scope.put_back(response)
        except BaseException:
            scope.abort(response)  # which does nothing to a call that has failed
            raise
        raise_again(self.state, has_reader=response is None)
        return None

    @property
    def totals(self) -> CompletionDecoder:
        """The decoder, which has the text, the usage and the other totals."""
        return self.decoder

    @property
    def answer_text(self) -> str:
        """The text of the last answer."""
        return self.decoder.text

    def reply(self) -> Reply:
        """Return the answer so far."""
        complete = self.state.value is StreamState.FINISHED
        return self.decoder.reply(complete=complete, request_id=self.state.request_id)

    @property
    def request_id(self) -> str | None:
        """The ``x-request-id`` header of the response."""
        return self.state.request_id

    def timing(self) -> Timing:
        """Return how long the call has taken so far."""
        return self.state.timing(self.decoder.chunks, self.state.sent_at)

    def deadline(self) -> float | None:
        """Return the time limit that comes first, on the clock of `monotonic`; None if there is none."""
        return self._deadline(monotonic())[0]

    def close(self) -> None:
        """End the call: as finished if the answer is known to be complete, else as cancelled. Never raises."""
        if self.state.active and self.decoder.finished:
            response = self.scope.take_response()
            if response is not None:
                self._finish(response, wait=False)
        self.scope.cancel()

    def _fail(self, error: BaseException) -> bool:
        if isinstance(error, StreamError):
            error.attach_reply(self.reply())
        if not self.state.transition(StreamState.FAILED, failure=without_traceback(error)):
            return False
        self.scope.interrupt()  # the opening thread may still be at work
        return True

    def _await_response(self) -> Response | None:
        """Wait for the opening thread's result; None if the call ends before."""
        scope = self.scope
        while not scope.poll():
            deadline, limit = self._deadline(monotonic())
            try:
                arrival = scope.receive(deadline)
            except DeadlinePassed:
                raise timed_out(limit, self._timeouts) from None
            if isinstance(arrival, OpeningFailed):
                # Anything but an Exception, from a caller's hook or transport, ends the call as Ctrl-C does.
                if isinstance(arrival.error, Exception) and not self._fail(arrival.error):
                    return None
                raise arrival.take()
            if arrival is None or isinstance(arrival, (bytes, ConnectionLost)):
                continue
            self.state.response_started(arrival.info.request_id)
            self.decoder.start(arrival.info)
            self.state.transition(StreamState.STREAMING)
            return arrival
        return None

    def _advance(self, response: Response) -> Chunk | None:
        scope, state, decoder = self.scope, self.state, self.decoder
        now, data, ended = monotonic(), b"", False
        if now >= self._ends_by and self._overtime:
            raise timed_out("timeout", self._timeouts)
        while state.active and (scope.caller_event is None or not scope.poll()):
            chunk = decoder.next_chunk(data) if data or not decoder.between_events else None
            if chunk is not None:
                if chunk.finish_reason is None and self._complete_since is None and now < self._ends_by:
                    state.content_arrived(now)  # which is all there is to note of nearly every chunk
                    self._overtime = False
                else:
                    self._note(chunk, now)
                return chunk
            if ended or (decoder.done and not decoder.needs_end):
                decoder.check_complete(require_finish=self._require_finish)
                self._finish(response, wait=True)
                return None
            data = self._read(response, now)
            ended = not data
            now = monotonic()
        return None

    def _read(self, response: Response, now: float) -> bytes:
        """Return the next bytes of the body; ``b""`` at the end of the answer."""
        deadline, limit = self._deadline(now)
        if deadline is not None and now >= deadline:
            if self._overtime:
                return self._late(limit)
            self._overtime, deadline = True, ARRIVED
        try:
            data = response.read(deadline)
        except DeadlinePassed:
            return self._late(limit)
        except ConnectionLost as lost:
            return self._lost(lost.cause)
        if not data and self.state.active:
            self.decoder.end()
        return data

    def _late(self, limit: str) -> bytes:
        """Raise for a limit that has passed, or return ``b""``, for the end, if only the trailer is missing."""
        if limit and self.state.active:
            raise timed_out(limit, self._timeouts) from None
        if self.decoder.needs_end:
            self.decoder.end()
        return b""

    def _lost(self, cause: Exception) -> bytes:
        """Raise for a connection that failed, or return ``b""``, for the end, if only the trailer is missing."""
        if self.state.active and not self.decoder.finished:
            if isinstance(cause, EncodingError):
                raise StreamProtocolError(f"cannot decode the body: {printable(str(cause))}") from cause
            raise StreamInterrupted(
                f"expected the rest of the answer, got a cut connection ({type_name(cause)}: {printable(str(cause))}): "
                "ask again"
            ) from cause
        return b""

    def _note(self, chunk: Chunk, now: float) -> None:
        """Note when a chunk arrived. After a finish reason, only content counts: a server may repeat it for ever."""
        has_content = chunk.finish_reason is None or bool(chunk.text or chunk.reasoning or chunk.tool_calls)
        if has_content:
            self.state.content_arrived(now)
        if self.decoder.finished and (has_content or self._complete_since is None):
            self._complete_since = now
        if now >= self._ends_by:
            self._overtime = True
        elif has_content:
            self._overtime = False

    def _finish(self, response: Response | Waiting, *, wait: bool) -> None:
        if self.state.transition(StreamState.FINISHED, notify_in_thread=not wait) and not isinstance(response, Waiting):
            response.finish(wait=wait)

    def _deadline(self, now: float) -> tuple[float | None, str]:
        """Return the time limit that comes first, and its name: ``""`` for the wait after a complete answer."""
        state, decoder = self.state, self.decoder
        since, seconds, limit = state.last_content_at, self._stall_seconds, "stall_timeout"
        if since is None:
            since = state.started_at
            if self._timeouts.first_chunk_timeout is not None:
                seconds, limit = self._timeouts.first_chunk_timeout, "first_chunk_timeout"
        deadline = since + seconds
        if deadline >= self._ends_by:
            deadline, limit = self._ends_by, "timeout"
        if decoder.done or decoder.finish_reason is not None:
            deadline, limit = self._trailer_deadline(deadline, limit, now)
        return (None if deadline == math.inf else deadline), limit

    def _trailer_deadline(self, deadline: float, limit: str, now: float) -> tuple[float, str]:
        """Return the same for an answer of which, as far as is known, only the trailer is missing."""
        decoder = self.decoder
        if decoder.finished or decoder.needs_end:
            if self._complete_since is None:
                self._complete_since = now
            if self._complete_since + TRAILER_WAIT_SECONDS < deadline or decoder.finished:
                deadline, limit = min(deadline, self._complete_since + TRAILER_WAIT_SECONDS), ""
        return deadline, limit


def raise_again(state: CallState, *, has_reader: bool) -> None:
    """Raise again what a call that has failed raised before.

    Args:
        state: The state of the call.
        has_reader: Whether another thread was reading the call when this one asked for a chunk.

    Raises:
        OtherReaderError: The call is active, and another thread is reading it.
        BaseException: Why the call failed.
    """
    if state.active and has_reader:
        raise OtherReaderError("expected one reader of a stream, got a second thread: read it in one thread at a time")
    if state.value is StreamState.FAILED and state.failure is not None:
        raise without_traceback(state.failure)


def timed_out(limit: str, timeouts: Timeouts) -> StreamTimeout:
    """Return the error for a limit that has passed."""
    seconds: float = getattr(timeouts, limit)
    message = f"expected {_EXPECTED[limit]} within {limit}={seconds:g} seconds, got none: ask again, or allow more"
    return StreamTimeout(message, limit=limit, seconds=seconds)
