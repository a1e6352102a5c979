"""One line that says how a stream ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blades._values import StreamState

if TYPE_CHECKING:
    from blades._output.protocol import PresentableStream

WORTH_SAYING_SECONDS: Final = 0.05  # to load the official client takes longer, to reuse it less
SHORTEST_SECONDS: Final = 0.01  # a rate over less would measure the clock


def describe(stream: PresentableStream, failure: BaseException | None) -> str:
    """Return the state, the tokens, and the times, as far as they are known.

    The rates are those of the arrival: from the first chunk to the last one, whatever the reader did in between.
    """
    state = stream.state.value
    if failure is not None:
        state = f"{state}: {type(failure).__name__}"
    elif stream.finish_reason not in {None, "stop"} and stream.state is StreamState.FINISHED:
        state = f"{state} ({stream.finish_reason})"
    parts = [state]
    tokens = None if stream.usage is None else stream.usage.completion_tokens
    if tokens is not None:
        parts.append(f"{tokens:,} tokens")
    timing = stream.timing
    if timing.first_chunk is None:
        return " · ".join(parts)
    sent = timing.sent
    if sent is None or sent < WORTH_SAYING_SECONDS:
        parts.append(f"first chunk after {timing.first_chunk:.2f} s")
    else:
        parts.append(f"request sent after {sent:.2f} s · first chunk {timing.first_chunk - sent:.2f} s later")
    seconds = (timing.total if timing.last_chunk is None else timing.last_chunk) - timing.first_chunk
    if timing.chunks > 1 and seconds >= SHORTEST_SECONDS:
        chunks = timing.chunks - 1  # the first one arrived at the start of these seconds
        if tokens is not None:
            parts.append(f"{tokens * chunks / timing.chunks / seconds:,.0f} tokens/s")
        parts.append(f"{chunks / seconds:,.0f} chunks/s")
    return " · ".join(parts)
