"""Reading one answer: wait for it, feed what comes into the decoder, and judge how it ends.

Everything here but `Reader.reply` runs in the one thread that is inside `Stream.next`, which holds `Scope.reading`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, final

from blades._errors import StreamError, StreamInterrupted, StreamTimeout, without_traceback
from blades._values import StreamState
from blades._wire.decoder import CompletionDecoder

if TYPE_CHECKING:
    from blades._options import Timeouts
    from blades._transport.cancel import Response, Scope
    from blades._values import Chunk, Reply

TRAILER_WAIT_SECONDS: Final = 1.0  # how long to wait, after a finish reason, for usage and the end of the body
GRACE_SECONDS: Final = 0.02  # what has arrived is read, even by a consumer that asks for it after its time limit


@final
class Reader:
    """What is known of one answer, and the steps that make it more."""

    def __init__(self, scope: Scope, limits: Timeouts, *, require_finish: bool) -> None:
        self.scope = scope
        self.decoder = CompletionDecoder()
        self.started = time.monotonic()
        self._timeouts = limits
        self._require_finish = require_finish
        self._last_content = self.started

    def next_chunk(self) -> Chunk | None:
        """Find the next chunk, reading as much as that takes; None at the end, however it ends.

        Raises:
            Exception: why there is no more; the scope has failed then, and an error of ours tells what was handed out.
        """
        scope = self.scope
        try:
            return self._advance()
        except Exception as error:
            if isinstance(error, StreamError):
                error.reply, error.request_id = self.reply(), scope.request_id
                error.text = error.reply.text
            scope.failure = without_traceback(error)
            if not scope.move(StreamState.FAILED):
                return None  # cancelled meanwhile: that is why the rest failed
            scope.interrupt()  # the opening thread may still be at work
            raise
        except BaseException:
            scope.cancel()
            raise

    def reply(self) -> Reply:
        """Return what was handed out so far."""
        scope = self.scope
        return self.decoder.reply(complete=scope.state is StreamState.FINISHED, request_id=scope.request_id)

    def _advance(self) -> Chunk | None:
        scope, decoder = self.scope, self.decoder
        waiting_since: float | None = None
        at_end = False
        while not scope.cancelled():
            chunk = decoder.next_chunk()
            if chunk is not None:
                if chunk.finish_reason is None or chunk.text or chunk.reasoning or chunk.tool_calls:
                    self._last_content = time.monotonic()
                    if scope.first_content_at is None:
                        scope.first_content_at = self._last_content
                return chunk
            if at_end or (decoder.done and not decoder.needs_end):
                decoder.check_complete(require_finish=self._require_finish)
                self.finish(wait=True)
                return None
            now = time.monotonic()
            if waiting_since is None:
                waiting_since = now
            deadline, limit = self._deadline(waiting_since)
            if scope.state is StreamState.OPENING or scope.response is None:
                self._await_response(deadline, limit)
            elif deadline is not None and now >= deadline:
                at_end = self._late(limit)  # bytes may come for ever, and carry nothing
            else:
                at_end = self._read(scope.response, deadline, limit)
        return None

    def _await_response(self, deadline: float | None, limit: str) -> None:
        """Wait for the opening thread's result."""
        scope = self.scope
        try:
            scope.receive(deadline)
        except TimeoutError:
            raise self._timed_out(limit) from None
        if scope.failure is not None:
            raise scope.failure
        if scope.response is not None and scope.move(StreamState.STREAMING):
            self.decoder.start(scope.response.head)

    def _read(self, response: Response, deadline: float | None, limit: str) -> bool:
        """Feed the assembly with the next bytes; True at the end of the answer."""
        try:
            data = response.read(deadline)
        except TimeoutError:
            return self._late(limit)
        except Exception as error:
            if self.decoder.finished or not self.scope.live:
                return True  # nothing that matters is missing
            raise StreamInterrupted(
                f"The connection was cut in the middle of the answer ({type(error).__name__}: {error})."
            ) from error
        if data:
            self.decoder.feed(data)
        elif self.scope.live:
            self.decoder.end()
        return not data

    def _late(self, limit: str) -> bool:
        """Deal with a limit that was reached: True if nothing that matters is missing."""
        if not (self.decoder.finished or self.decoder.needs_end) and self.scope.live:
            raise self._timed_out(limit) from None
        return True

    def _deadline(self, waiting_since: float) -> tuple[float | None, str]:
        """Find the time limit that comes first, and its name."""
        timeout, first_chunk_timeout, stall_timeout = self._timeouts
        ends: list[tuple[float, str]] = []
        if timeout is not None:
            ends.append((self.started + timeout, "timeout"))
        if first_chunk_timeout is not None and self.scope.first_content_at is None:
            ends.append((self.started + first_chunk_timeout, "first_chunk_timeout"))
        elif stall_timeout is not None:
            ends.append((self._last_content + stall_timeout, "stall_timeout"))
        if self.decoder.finished or self.decoder.needs_end:
            ends.append((waiting_since + TRAILER_WAIT_SECONDS, ""))
        if not ends:
            return None, ""
        deadline, limit = min(ends)
        return max(deadline, waiting_since + GRACE_SECONDS), limit

    def _timed_out(self, limit: str) -> StreamTimeout:
        seconds: float = getattr(self._timeouts, limit)
        waited_for = {
            "timeout": "The answer did not end",
            "first_chunk_timeout": "No text came",
            "stall_timeout": "No more text came",
        }[limit]
        error = StreamTimeout(f"{waited_for} within {limit}={seconds:g} seconds.")
        error.limit, error.seconds = limit, seconds
        return error

    def finish(self, *, wait: bool) -> None:
        """End well; the rest of the body is read after that, so that the connection can be used again."""
        scope = self.scope
        if scope.move(StreamState.FINISHED, aside=not wait) and scope.response is not None:
            response, scope.response = scope.response, None
            response.finish(wait=wait)
