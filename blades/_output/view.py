"""Draws the parts of a stream into a notebook.

An answer is a row of displays. The last one is updated while the answer grows; when it is long, it is left as it is and
another one is begun, so that a drawing costs the same at the end of a long answer as at its start. Where displays
cannot be updated, each one holds what has ended since the one before: paragraph by paragraph, the same text.
"""

from __future__ import annotations

import json
import re
import time
from html import escape
from typing import TYPE_CHECKING, Any, Final, final

from blades._output.folded import fold_calls, fold_reasoning, fold_results, without_controls
from blades._output.markdown_html import make_renderer, write_code
from blades._output.plain_html import Block, PlainRenderer
from blades._values import StreamState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blades._output.markdown_html import MarkdownRenderer
    from blades._output.protocol import PresentableStream
    from blades._output.transcript import Part, Transcript

PERIOD_SECONDS: Final = 1 / 15  # between two drawings, at least
CPU_SHARE: Final = 0.1  # of a core, for drawing, at most
# The browser lays out a whole display each time, which no kernel sees: JupyterLab took 3 to 4 microseconds a character,
# and some milliseconds a formula. This keeps it near a tenth as well.
CHARACTERS_PER_SECOND: Final = 30_000
FORMULA_COST_CHARACTERS: Final = 300
SECTION_CHARACTERS: Final = 4_000  # of one display that is updated
# Each display that cannot be updated is longer than the one before: JupyterLab hides all but the first 50 of a cell.
GROWTH_CHARACTERS: Final = 40
HINT: Final = "to format it: pip install markdown-it-py nh3"
_other_fence = re.compile(r"\s*```(?!json)")  # a list in another language's code is no structured answer


def make_bundle(blocks: Sequence[Block], note: str = "") -> dict[str, str]:
    """Return what a front end is given: HTML, and the same as plain text.

    Args:
        blocks: What to show.
        note: What to say below.
    """
    html = "".join(block.html for block in blocks)
    plain = without_controls("".join(block.source for block in blocks)).strip("\n")
    if note:
        state, dot, rest = escape(note).partition(" · ")
        html += f"<small><b>{state}</b>{dot}{rest}</small>"
        plain += f"\n\n[{note}]" if plain else f"[{note}]"
    return {"text/html": html, "text/plain": plain}


def pause_after(characters: int, formulas: int, cost_seconds: float) -> float:
    """Return how many seconds to wait after a drawing of so much that took so much of the processor."""
    weight = characters + FORMULA_COST_CHARACTERS * formulas
    return max(PERIOD_SECONDS, cost_seconds / CPU_SHARE, weight / CHARACTERS_PER_SECOND)


@final
class View:
    """What the notebook shows of a stream."""

    def __init__(self, stream: PresentableStream, transcript: Transcript, *, updates: bool) -> None:
        self._stream = stream
        self._transcript = transcript
        self._updates = updates
        self._complete = 0  # parts that will not change any more
        self._drawing: _PartDrawing | None = None  # of the first part that may

    def draw(self, note: str = "") -> float:
        """Show the answer as it is now, and return how many seconds to wait until the next time.

        Args:
            note: How the stream ended, if it has: this is then the last drawing.
        """
        started = time.thread_time()
        parts = list(self._transcript.parts)
        tail = self._tail(note)
        pause = PERIOD_SECONDS
        for part in parts[self._complete :]:
            last = part is parts[-1]
            drawing = self._drawing = self._drawing or _PartDrawing(part, updates=self._updates)
            drawing.draw(self._partial() if last else None, tail if last else (), note if last else "", ended=not last)
            pause = pause_after(drawing.characters, drawing.formulas, time.thread_time() - started)
            if not last:
                self._complete += 1
                self._drawing = None
        if note and not parts:
            _Section(updates=self._updates).show(tail, note, final=True)
        return pause

    def _tail(self, note: str) -> list[Block]:
        """Return what is shown below the last part: calls that have no result, and a refusal at the end."""
        answered = {result.call.id for part in self._transcript.parts for result in part.results}
        calls = [call for call in self._stream.tool_calls if call.id not in answered or not call.id]
        tail = [fold_calls(calls)] if calls else []
        if note and self._stream.state is StreamState.FINISHED and not self._stream.text:
            tail += PlainRenderer().feed(self._stream.reply().refusal, whole=True)[:1]
        return tail

    def _partial(self) -> Block | None:
        """Return the data of a structured answer received so far."""
        data = getattr(self._stream, "partial", None)
        if data is None or _other_fence.match(self._stream.text):
            return None
        text = json.dumps(data, indent=2, ensure_ascii=False, default=str)
        return Block(f"{text}\n", write_code(text, "json"))


@final
class _PartDrawing:
    """The displays of one part."""

    def __init__(self, part: Part, *, updates: bool) -> None:
        self._part = part
        self._updates = updates
        self._renderer: MarkdownRenderer | PlainRenderer = make_renderer()
        self._sections = [_Section(updates=updates)]
        self.characters = 0  # of what was drawn
        self.formulas = 0

    def draw(self, data: Block | None, tail: Sequence[Block], note: str, *, ended: bool) -> None:
        """Draw what is new.

        Args:
            data: What to show instead of a text.
            tail: What to show below.
            note: What to say below that, at the end of the stream.
            ended: Whether the part is complete.
        """
        whole = ended or bool(note)
        section, still_open = self._sections[-1], Block()
        if self._part.kind == "reasoning":
            section.replace(fold_reasoning(self._part.text))
        elif self._part.kind == "tools":
            section.replace(fold_results(self._part.results))
        elif data is not None:
            still_open = data
        else:
            closed, still_open = self._renderer.feed(self._part.take(), whole=whole)
            section.add(closed)
            limit = SECTION_CHARACTERS if self._updates else GROWTH_CHARACTERS * (len(self._sections) - 1)
            if not whole and section.characters > limit:
                section.show((), final=True)
                section = _Section(updates=self._updates)
                self._sections.append(section)
            if whole and self._renderer.has_references:
                for earlier in self._sections:
                    earlier.render_again(self._renderer)
            if note and not self._renderer.is_rich:
                note = f"{note} · {HINT}"
        section.show([still_open, *tail], note, final=whole)
        self.characters = section.characters + _count_characters(still_open)
        self.formulas = section.formulas + _count_formulas(still_open)


@final
class _Section:
    """One display. Where there are no updates it is shown once, when nothing in it will change."""

    def __init__(self, *, updates: bool) -> None:
        self._updates = updates
        self._blocks: list[Block] = []
        self._handle: Any = None
        self._shown: dict[str, str] = {}
        self.characters = 0
        self.formulas = 0

    def add(self, block: Block) -> None:
        """Add a block that will not change any more."""
        self._blocks.append(block)
        self.characters += _count_characters(block)
        self.formulas += _count_formulas(block)

    def replace(self, block: Block) -> None:
        """Show this block instead of all others."""
        self._blocks.clear()
        self.characters = self.formulas = 0
        self.add(block)

    def render_again(self, renderer: MarkdownRenderer | PlainRenderer) -> None:
        """Render the blocks again, with addresses that were not known before; show them if they were shown."""
        source = "".join(block.source for block in self._blocks)
        self.replace(Block(source, renderer.render_again(source)))
        if self._handle is not None:
            self.show((), final=True)

    def show(self, below: Sequence[Block], note: str = "", *, final: bool) -> None:
        """Show the blocks, and those below them for now."""
        bundle = make_bundle([*self._blocks, *below], note)
        if bundle == self._shown or not bundle["text/html"] or not (final or self._updates):
            return
        self._shown = bundle
        if self._handle is not None:
            self._handle.update(bundle, raw=True)
            return
        from IPython import display  # IPython is loaded, else this is not reached

        show: Any = display.display
        if self._updates:
            self._handle = show(bundle, raw=True, display_id=True)
        else:
            show({**bundle, "text/plain": f"{bundle['text/plain']}\n"}, raw=True)


def _count_characters(block: Block) -> int:
    """Return the length to lay out: of the text, or of what is folded; the tags of code weigh little."""
    return max(len(block.source), len(block.html) // 4)


def _count_formulas(block: Block) -> int:
    return block.html.count("\\(") + block.html.count("\\[") + block.html.count("\\begin{")
