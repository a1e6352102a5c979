"""One round of tool calls: which of them run, in which thread, and what the model is sent about each.

The calls run in threads of their own, and their outcomes are delivered to the thread that reads the stream. No function
here blocks, except while a tool runs in the reader's thread.
"""

from __future__ import annotations

import functools
import json
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, final

from blades._clock import monotonic
from blades._errors import ToolError, ToolFailed
from blades._preview import short_repr, type_name
from blades._transport.threads import start_thread
from blades._values import Reply, ToolResult

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from contextvars import Context

    from blades._tools import Approve, Tool, ToolSet
    from blades._values import ToolCall

# What the model is sent for a call that has no result. Each reason has one sentence, the same in every conversation.
CANCELLED_BEFORE: Final = "Not run: cancelled before this call had started."
CANCELLED_WHILE: Final = "Cancelled while this call was running: it may have had an effect."
DECLINED: Final = "Not run: declined."
ROUNDS_EXCEEDED: Final = "Not run: the limit of rounds was reached."
FAILED: Final = "Failed: the tool raised an exception."
ANOTHER_FAILED: Final = "Not finished: another tool failed."
CUT: Final = "Not run: the answer was cut off before this call was complete. Make the arguments shorter."
FILTERED: Final = "Not run: the content filter stopped the answer."


@final
class Outcome(NamedTuple):
    """How one call of a round ended, as it is delivered to the reader."""

    position: int
    result: ToolResult
    failure: BaseException | None = None


MOST_THREADS: Final = 64  # of a round: what a model calls is no reason to run out of threads

_Ready: TypeAlias = tuple["Tool", dict[str, Any]]
StartSpan: TypeAlias = "Callable[[ToolCall], Callable[[str | None, BaseException | None], None] | None]"


@final
class Round:
    """The calls of one answer, on their way to their results.

    The reader's thread makes it, starts it, and takes one outcome after the other; `stop` is called from any thread.
    Two things are decided once for each call, by the atomic `dict.setdefault`: whether it starts before the
    stream ends, and whether its result is returned before that.

    Args:
        calls: The calls, in order.
        tools: What they may call.
        stop_event: Given to the tools that take one.
        deliver: Takes the outcomes of calls that ran in a thread, in that thread. It must not refer to the stream: a
            stream that nobody else holds ends, also while its tools run.
        context: The caller's context variables. Each call runs in a copy.
        start_span: Starts the tracing of a call, in its context, and returns what ends it; None for no tracing.
    """

    def __init__(
        self,
        calls: Sequence[ToolCall],
        tools: ToolSet,
        *,
        stop_event: threading.Event,
        deliver: Callable[[Outcome], object],
        context: Context,
        start_span: StartSpan | None = None,
    ) -> None:
        self.calls: Final = tuple(calls)
        self._stop_event = stop_event
        self._deliver = deliver
        self._context = context
        self._start_span = start_span
        self._starts: dict[int, bool] = {}  # False: the call was cancelled first, or cannot run
        self._ends: dict[int, ToolResult | None] = {}  # None: the stream ended first
        self._failed_at: int | None = None
        self._ready: dict[int, _Ready] = {}
        self._outcomes: deque[Outcome] = deque()  # of calls that were not run
        self._tools = tools

    def prepare(self, finish_reason: str | None) -> None:
        """Decide which calls can run: the answer is whole, and the arguments fit."""
        refusal = {"length": CUT, "content_filter": FILTERED}.get(finish_reason or "")
        for position, call in enumerate(self.calls):
            try:
                if refusal is not None:
                    raise ToolError(refusal)
                self._ready[position] = self._tools.prepare(call)
            except ToolError as error:
                self._refuse(position, str(error))

    def ask(self, approve: Approve) -> None:
        """Ask about each call that can run. What `approve` raises passes through, and no call runs."""
        for position in list(self._ready):
            answer = approve(self.calls[position])
            if not isinstance(answer, bool | str):
                raise TypeError(f"expected True, False or a reason (a str) from approve(), got {type_name(answer)}")
            if answer is not True:
                del self._ready[position]
                self._refuse(position, f"{DECLINED[:-1]}: {answer}" if answer else DECLINED)
            if self._stop_event.is_set():
                return

    def start(self) -> None:
        """Start the threads. Where none can be started, the reader's thread runs the calls."""
        if self._stop_event.is_set():
            self.stop()
        waiting = deque((position, ready) for position, ready in self._ready.items() if not ready[0].in_reader)
        names = [tool.name for _, (tool, _) in waiting]
        for name in names[:MOST_THREADS]:
            target = functools.partial(self._run_waiting, waiting)
            if not start_thread(target, f"blades-tool-{name}"):
                break
            self._ready = {position: ready for position, ready in self._ready.items() if ready[0].in_reader}

    def next_outcome(self) -> Outcome | None:
        """Return an outcome without waiting: of a refused call, or of a tool that this thread runs now.

        None: all others will be delivered.

        Raises:
            BaseException: A tool that runs here was interrupted, for instance by Ctrl-C.
        """
        if self._outcomes:
            return self._outcomes.popleft()
        if not self._ready:
            return None
        position, (tool, arguments) = next(iter(self._ready.items()))
        del self._ready[position]
        return self._run(position, tool, arguments, Exception)

    def take(self, outcome: Outcome) -> ToolResult | None:
        """Record an outcome and return its result; None if the stream ended first.

        Raises:
            ToolFailed: The tool raised an exception, which is the cause.
        """
        call, error = outcome.result.call, outcome.failure
        if error is None:
            return self._ends.setdefault(outcome.position, outcome.result)
        self._failed_at = outcome.position
        raise ToolFailed(f"The tool {call.name!r} raised {short_repr(error, 200)}", call=call) from error

    @property
    def done(self) -> bool:
        """Whether every call has its result."""
        return len(self._ends) == len(self.calls)

    def stop(self) -> None:
        """Let no further call start, and no further result be returned. Takes no lock."""
        for position in range(len(self.calls)):
            self._ends.setdefault(position, None)
            self._starts.setdefault(position, False)

    def texts(self) -> list[str]:
        """Return what the model is sent for each call, in order: its result, or the reason why there is none."""
        return [self._text(position) for position in range(len(self.calls))]

    def _text(self, position: int) -> str:
        result = self._ends.get(position)
        if result is not None:
            return result.text
        if self._failed_at is not None:
            return FAILED if position == self._failed_at else ANOTHER_FAILED
        return CANCELLED_WHILE if self._starts.get(position) else CANCELLED_BEFORE

    def _refuse(self, position: int, text: str) -> None:
        self._starts[position] = False
        self._outcomes.append(Outcome(position, ToolResult(self.calls[position], text, error=text)))

    def _run_waiting(self, waiting: deque[tuple[int, _Ready]]) -> None:
        """Run one waiting call after another, in a thread."""
        while waiting:
            with suppress(IndexError):  # another thread was faster
                position, (tool, arguments) = waiting.popleft()
                outcome = self._run(position, tool, arguments, BaseException)
                if outcome is not None:
                    self._deliver(outcome)

    def _run(self, position: int, tool: Tool, arguments: dict[str, Any], caught: type[BaseException]) -> Outcome | None:
        """Run one call, unless it was cancelled before; whatever goes wrong is its failure, so that nobody waits."""
        if not self._starts.setdefault(position, True):
            return None
        call, began = self.calls[position], monotonic()
        try:
            text, reason = self._context.copy().run(self._run_in_span, call, tool, arguments)
        except caught as error:  # raised again by `take`, in the reader's thread
            return Outcome(position, ToolResult(call, seconds=monotonic() - began), error)
        return Outcome(position, ToolResult(call, text, reason, monotonic() - began))

    def _run_in_span(self, call: ToolCall, tool: Tool, arguments: dict[str, Any]) -> tuple[str, str | None]:
        """Run one call, traced; return what the model is sent, and the same as the reason if there is no result."""
        end_span = None if self._start_span is None else self._start_span(call)
        text = ""
        failure: BaseException | None = None
        try:
            text = encodable(result_text(tool.run(arguments, self._stop_event)))
        except ToolError as error:
            failure = error
            text = encodable(str(error))
            return text, text
        except BaseException as error:
            failure = error
            raise
        else:
            return text, None
        finally:
            if end_span is not None:
                end_span(None if self._stop_event.is_set() else text, failure)
            del failure  # whose traceback has this frame


def result_text(value: object) -> str:
    """Write what a tool returned as the model is to read it; the answer of another agent is its text."""
    if isinstance(value, str | Reply):
        return value if isinstance(value, str) else value.text
    from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

    try:
        try:
            return to_json(value).decode()
        except PydanticSerializationError as error:
            if "surrogates" not in str(error):
                raise
            # The name of a file, for instance, whose bytes are not UTF-8: json writes what pydantic refuses.
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=to_jsonable_python)
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"expected a str or what pydantic can write as JSON from a tool, got {type_name(value)} ({error}): return "
            "text made of it, a dict, a list, a dataclass or a pydantic model"
        ) from None


def encodable(text: str) -> str:
    """Replace lone surrogates, which no request can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
