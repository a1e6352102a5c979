"""Showing a stream in a notebook, live. IPython is used where it is already there, and never imported first.

The stream is read in a thread of its own, and drawn by the thread that runs the cell: so what has come is drawn even if
nothing more comes for a while, and the stop button (`KeyboardInterrupt`, in the cell's thread) finds it ready to leave.
"""

from __future__ import annotations

import sys
import time
from html import escape
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final, final

from blades._output.sanitize import closed, folded, harmless
from blades._output.terminal import print_stream
from blades._values import StreamState

if TYPE_CHECKING:
    from blades._stream import Stream

PERIOD_SECONDS: Final = 1 / 15  # between two drawings, at least
SHARE: Final = 0.1  # of the processor, for drawing, at most
# The browser lays out the whole text each time, which no kernel sees: JupyterLab took 3 to 4 microseconds a character,
# and some milliseconds a formula. This keeps it near a tenth as well.
CHARACTERS_A_SECOND: Final = 30_000
CHARACTERS_A_DOLLAR: Final = 300
WAKE_SECONDS: Final = 0.2  # how often a wait looks up: on Windows, only then does an interrupt get through
LEAVE_SECONDS: Final = 2.0  # how long to wait, after the stop button, for a reader that comes back within milliseconds


def display_stream(stream: Stream) -> None:
    """Do the work of `Stream.display`."""
    if getattr(_shell(), "kernel", None) is None:  # no IPython, or its terminal
        print_stream(stream, None, reasoning=False, escape=True)
        return
    view = _View(stream)
    reader = _Reader(stream)
    try:
        pause = 0.0
        while not reader.ended.wait(pause):
            while not reader.news.wait(WAKE_SECONDS):
                pass
            reader.news.clear()
            pause = view.draw()
    except KeyboardInterrupt:
        stream.cancel()
        reader.ended.wait(LEAVE_SECONDS)
    except BaseException:
        stream.cancel()
        raise
    if stream.state not in _RUNNING:  # else it was not ours: another thread reads it
        view.draw(_line(stream, reader.failure))
    failure, reader.failure = reader.failure, None
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # else it keeps this frame, which keeps it, and with it all the callers' frames


def display_result(stream: Stream) -> None:
    """Display a stream that is the last expression of a cell."""
    try:
        display_stream(stream)
    except Exception as error:
        # IPython shows what a display method raises, but takes the cell for a success, and runs the next ones.
        shell = _shell()
        result = getattr(getattr(shell, "displayhook", None), "exec_result", None)
        if result is None:
            raise
        shell.showtraceback()
        result.error_in_exec = error


def pause_after(markdown: str, cost_seconds: float) -> float:
    """Return how many seconds to wait after a drawing that took so much of the processor."""
    weight = len(markdown) + CHARACTERS_A_DOLLAR * markdown.count("$")
    return max(PERIOD_SECONDS, cost_seconds / SHARE, weight / CHARACTERS_A_SECOND)


def _shell() -> Any:
    """Return IPython's shell, if this is one."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


_RUNNING: Final = {StreamState.OPENING, StreamState.STREAMING}


@final
class _Reader:
    """Reads a stream to its end in a thread of its own."""

    def __init__(self, stream: Stream) -> None:
        self.news = Event()
        self.ended = Event()
        self.failure: BaseException | None = None
        Thread(target=self._run, args=(stream,), name="blades-display", daemon=True).start()

    def _run(self, stream: Stream) -> None:
        try:
            while stream.next():
                self.news.set()
        except BaseException as error:  # noqa: BLE001 - raised again in the cell's thread
            self.failure = error
        finally:
            self.ended.set()
            self.news.set()


@final
class _View:
    """One display in the notebook, made when there is something to show."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._handle: Any = None
        self._length = 0
        self._reasoning = 0, ""  # its length, and as it is shown

    def draw(self, line: str = "") -> float:
        """Show the answer as it is now, and return how many seconds to wait until the next time.

        Args:
            line: What to say below it, at the end.
        """
        started = time.thread_time()
        text, reasoning = self._stream.text, self._stream.reasoning
        if line and not text:
            text = self._refusal()
        length = len(text) + len(reasoning)
        if length == self._length and not line:
            return PERIOD_SECONDS
        self._length = length
        if len(reasoning) > self._reasoning[0]:
            self._reasoning = len(reasoning), folded(reasoning)
        markdown = self._reasoning[1] + harmless(text)
        if line:
            state, dot, rest = escape(line).partition(" · ")
            markdown = f"{closed(markdown)}\n\n<small><b>{state}</b>{dot}{rest}</small>"
        self._show({"text/markdown": markdown, **({"text/plain": f"{text}\n\n[{line}]"} if line else {})})
        return pause_after(markdown, time.thread_time() - started)

    def _refusal(self) -> str:
        finished = self._stream.state is StreamState.FINISHED
        return self._stream.reply().refusal if finished else ""

    def _show(self, bundle: dict[str, str]) -> None:
        if self._handle is None:
            from IPython import display  # noqa: PLC0415 - IPython is there, else this is not reached

            show: Any = display.display
            self._handle = show(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def _line(stream: Stream, failure: BaseException | None) -> str:
    """Describe how a stream ended: state, tokens, times."""
    state = stream.state.value
    if failure is not None:
        state = f"{state}: {type(failure).__name__}"
    elif stream.finish_reason not in {None, "stop"} and stream.state is StreamState.FINISHED:
        state = f"{state} ({stream.finish_reason})"
    parts = [state]
    usage, timing = stream.usage, stream.timing
    if usage is not None and usage.completion_tokens is not None:
        parts.append(f"{usage.completion_tokens:,} tokens")
    if timing.first_chunk is not None:
        parts.append(f"first chunk after {timing.first_chunk:.2f} s")
        streaming = timing.total - timing.first_chunk
        if timing.chunks > 1 and streaming > 0:
            parts.append(f"{(timing.chunks - 1) / streaming:,.0f} chunks/s")
    return " · ".join(parts)
