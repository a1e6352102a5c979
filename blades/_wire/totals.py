"""What was returned of one answer: the totals, and the one place where an event is added to them."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, NamedTuple, final

from blades._platform import HAS_GIL
from blades._values import Chunk, Reply, ToolCall, UnfrozenChunk, Usage
from blades._wire.accumulate import PIECES_LIMIT, FieldAccumulator, TextAccumulator
from blades._wire.deltas import string
from blades._wire.tool_calls import PreparedPart, ToolCallAccumulator

if TYPE_CHECKING:
    from blades._wire.deltas import Delta, Json


@final
class _Step(NamedTuple):
    """What one event changes. The last five are the totals after it."""

    serial: int
    text: str
    reasoning: str
    refusal: str
    parts: list[PreparedPart]
    reasoning_fields: Json
    extra: Json
    chunks: int
    finish_reason: str | None
    usage: Usage | None
    model: str | None
    id: str | None


class Totals:
    """The totals of one stream. One thread adds; any thread reads, and freezes.

    Attributes:
        chunks: How many chunks were returned.
        finish_reason: The last one; None if there was none.
        usage: The last one; None if there was none.
        model: The first name of the model.
        id: The first identifier.
        frozen: Nothing changes any more.
    """

    __slots__ = (
        "__weakref__",
        "_append_lock",
        "_calls",
        "_extra",
        "_lock",
        "_reasoning",
        "_reasoning_fields",
        "_refusal",
        "_serial",
        "_step",
        "_text",
        "chunks",
        "finish_reason",
        "frozen",
        "id",
        "model",
        "usage",
    )

    def __init__(self) -> None:
        self.chunks = 0
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.model: str | None = None
        self.id: str | None = None
        self.frozen = False
        self._text = TextAccumulator()
        self._reasoning = TextAccumulator()
        self._refusal = TextAccumulator()
        self._calls = ToolCallAccumulator()
        self._reasoning_fields = FieldAccumulator()
        self._extra = FieldAccumulator()
        self._lock = RLock()  # guards all of this against `freeze`
        self._append_lock = None if HAS_GIL else self._lock  # the GIL is lock enough for one append
        self._serial = 0
        self._step: _Step | None = None  # being added

    @property
    def text(self) -> str:
        """The text that was returned."""
        return self._text.get()

    @property
    def reasoning(self) -> str:
        """The reasoning that was returned."""
        return self._reasoning.get()

    @property
    def refusal(self) -> str:
        """The refusal that was returned, in `Chunk.raw`."""
        return self._refusal.get()

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, assembled from the parts that were returned."""
        return self._calls.get()

    @property
    def extra(self) -> Json:
        """The fields that were not understood, merged: a new dict."""
        return self._extra.get()

    @property
    def _has_content(self) -> bool:
        """Whether any text or tool call was returned."""
        return bool(self._text or self._reasoning or self._refusal or self._calls)

    def reply(self, *, complete: bool, request_id: str | None) -> Reply:
        """Return the totals as a reply."""
        return Reply(
            text=self.text,
            reasoning=self.reasoning,
            refusal=self.refusal,
            tool_calls=self.tool_calls,
            finish_reason=self.finish_reason,
            usage=self.usage,
            model=self.model,
            id=self.id,
            request_id=request_id,
            complete=complete,
            extra=self.extra,
            reasoning_fields=self._reasoning_fields.get(),
        )

    def freeze(self) -> None:
        """Let nothing change any more. From any thread or signal handler, whatever the thread that adds is doing."""
        with self._lock:
            self.frozen = True
            self._add_step()  # if the signal interrupted this thread while it was adding one

    def _add_text(self, text: str, may_have_surrogates: bool, event: Json) -> Chunk | None:  # per token
        """Add an event that is a piece of text, and nothing else; return its chunk, if it makes one."""
        accumulator = self._text
        if may_have_surrogates or accumulator.pending_surrogate:
            text = accumulator.prepare(text, may_have_surrogates)
        if not text:
            return None
        pieces, lock = accumulator.pieces, self._append_lock
        if lock is not None:
            lock.acquire()
        try:
            if self.frozen:
                return None
            # No call from the check to the end of the append: see `accumulate`.
            self.chunks += 1
            pieces.append(text)
        finally:
            if lock is not None:
                lock.release()
        if len(pieces) > PIECES_LIMIT:
            accumulator.get()
        return UnfrozenChunk().freeze(text, event) if lock is None else Chunk(text, raw=event)

    def _add_event(
        self, event: Json, delta: Delta, extra: Json, usage: Usage | None, *, content: bool, may_have_surrogates: bool
    ) -> Chunk | None:
        """Add any event; return its chunk, if it makes one.

        Args:
            event: The event.
            delta: What its choice brings.
            extra: Its fields that are not understood.
            usage: Its usage.
            content: There is something in it that makes a chunk, whatever is in the delta.
            may_have_surrogates: There may be surrogates in its texts.
        """
        text = self._text.prepare(delta.text, may_have_surrogates) if delta.text else ""
        reasoning = self._reasoning.prepare(delta.reasoning, may_have_surrogates) if delta.reasoning else ""
        refusal = self._refusal.prepare(delta.refusal, may_have_surrogates) if delta.refusal else ""
        parts: list[PreparedPart] = []
        for part in self._calls.prepare(delta.tool_calls, may_have_surrogates) if delta.tool_calls else ():
            if self.frozen:
                return None
            if part is not None:
                parts.append(part)
        holds = text or reasoning or refusal or parts or delta.finish_reason or delta.reasoning_fields or content
        step = _Step(
            self._serial,
            text,
            reasoning,
            refusal,
            parts,
            delta.reasoning_fields,
            extra,
            self.chunks + bool(holds),
            delta.finish_reason or self.finish_reason,
            usage or self.usage,
            self.model or string(event.get("model")),
            self.id or string(event.get("id")),
        )
        if not self._commit(step) or not holds:
            return None
        shown = tuple([part.part for part in parts]) if parts else ()
        return Chunk(text, reasoning, shown, delta.finish_reason, usage, event)

    def _flush(self) -> Chunk | None:
        """Add replacements for halves of surrogate pairs that stayed alone; return their chunk, if there are any."""
        text, reasoning, refusal = self._text.flush(), self._reasoning.flush(), self._refusal.flush()
        parts = self._calls.flush()
        if not (text or reasoning or refusal or parts):
            return None
        after = (self.chunks + 1, self.finish_reason, self.usage, self.model, self.id)
        step = _Step(self._serial, text, reasoning, refusal, parts, {}, {}, *after)
        return Chunk(text, reasoning, tuple([part.part for part in parts])) if self._commit(step) else None

    def _commit(self, step: _Step) -> bool:
        """Add a step to the totals; False if they are frozen."""
        self._serial += 1
        with self._lock:
            if self.frozen:
                return False
            # No call from the check to here. Whoever freezes from now on adds the rest of the step.
            self._step = step
            self._add_step()
        if step.reasoning_fields:
            self._reasoning_fields.compact()
        if step.extra:
            self._extra.compact()
        return True

    def _add_step(self) -> None:
        """Add the current step, or the rest of it if a signal interrupted that. The lock must be held."""
        step = self._step
        if step is None:
            return
        self.chunks, self.finish_reason, self.usage = step.chunks, step.finish_reason, step.usage
        self.model, self.id = step.model, step.id
        if step.text:
            self._text.append_once(step.serial, step.text)
        if step.reasoning:
            self._reasoning.append_once(step.serial, step.reasoning)
        if step.refusal:
            self._refusal.append_once(step.serial, step.refusal)
        if step.parts:
            self._calls.commit(step.parts)
        if step.reasoning_fields:
            self._reasoning_fields.append_once(step.serial, step.reasoning_fields)
        if step.extra:
            self._extra.append_once(step.serial, step.extra)
        self._step = None
