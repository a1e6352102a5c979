"""Shows streams and replies in notebooks. IPython is used where it is already loaded, and never imported first.

A thread of its own reads the stream, and the thread that runs the cell draws it. Text that has arrived is thereby drawn
even if nothing more arrives for a while, and the stop button (`KeyboardInterrupt`, in the cell's thread) takes effect
at once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, final

from blades._output.folded import fold_calls, fold_reasoning
from blades._output.interrupts import DeferredInterrupt
from blades._output.markdown_html import make_renderer
from blades._output.status import describe
from blades._output.terminal import print_stream
from blades._output.transcript import Transcript
from blades._output.view import HINT, View, make_bundle
from blades._platform import LONGEST_WAIT_SECONDS
from blades._values import StreamState

if TYPE_CHECKING:
    from blades._output.protocol import PresentableStream
    from blades._values import Reply

LEAVE_SECONDS: Final = 2.0  # how long to wait, after the stop button, for a reader that returns within milliseconds
_RUNNING: Final = {StreamState.OPENING, StreamState.STREAMING}


@final
class Stopped(KeyboardInterrupt):
    """The stop button was pressed while a stream was shown. IPython shows this without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return ["Stopped: the answer above is partial, and the code after it did not run."]


def display_stream(stream: PresentableStream) -> None:
    """Do the work of `Stream.display`."""
    __tracebackhide__ = True
    shell = _shell()
    if getattr(shell, "kernel", None) is None:  # no IPython, or its terminal
        print_stream(stream, None, reasoning=False, escape=True, from_start=True)
        return
    transcript = Transcript(stream)
    view = View(stream, transcript, updates=_applies_updates(shell.kernel))
    stopped = False
    try:
        pause = 0.0
        while not transcript.ended.wait(pause):
            while not transcript.news.wait(LONGEST_WAIT_SECONDS):
                pass
            transcript.news.clear()
            with DeferredInterrupt():  # else a display might be shown without its handle being kept
                pause = view.draw()
    except KeyboardInterrupt:
        stopped = True
        stream.cancel()
        transcript.ended.wait(LEAVE_SECONDS)
    except BaseException:
        stream.cancel()
        raise
    try:
        with DeferredInterrupt():
            if stream.state not in _RUNNING:  # else another thread reads it
                view.draw(describe(stream, transcript.failure))
    except KeyboardInterrupt:
        stopped = True
    failure = transcript.take_failure()
    if stopped:
        raise Stopped from None
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # else it keeps this frame, which keeps it, and with it all the callers' frames


def display_result(stream: PresentableStream) -> None:
    """Display a stream that is the last expression of a cell."""
    __tracebackhide__ = True
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


def bundle_reply(reply: Reply) -> dict[str, str]:
    """Do the work of `Reply._repr_mimebundle_`: the text, plain and as HTML."""
    renderer = make_renderer()
    blocks = [fold_reasoning(reply.reasoning)] if reply.reasoning else []
    blocks += renderer.feed(reply.text or reply.refusal, whole=True)[:1]
    blocks += [fold_calls(reply.tool_calls)] if reply.tool_calls else []
    note = "" if reply.complete else "incomplete"
    hint = "" if renderer.is_rich else HINT
    return make_bundle(blocks, " · ".join(filter(None, (note, hint))))


def html_of_stream(stream: PresentableStream) -> tuple[str, str]:
    """Do the work of ``Stream._mime_``, which marimo calls: read the rest and return all of it."""
    return "text/html", bundle_reply(stream.reply())["text/html"]


def _shell() -> Any:
    """Return IPython's shell, if this is one."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def _applies_updates(kernel: Any) -> bool:
    """Return whether what is displayed can be updated here.

    Consoles (``jupyter console``, qtconsole, Spyder) and the Output widget ignore updates. The protocol does not say
    who shows a kernel's output; but notebooks send the id of the cell with its code, and consoles have no cells.
    """
    try:
        parent = kernel.get_parent()
        return "cellId" in parent["metadata"] and not _is_captured(parent["header"]["msg_id"])
    except (AttributeError, KeyError, TypeError):
        return False


def _is_captured(message_id: str) -> bool:
    """Return whether an Output widget shows what the cell displays."""
    ipywidgets = sys.modules.get("ipywidgets")
    if ipywidgets is None:
        return False
    widgets = ipywidgets.Widget.get_manager_state()["state"].values()
    return any(
        widget["model_name"] == "OutputModel" and widget["state"].get("msg_id") == message_id for widget in widgets
    )
