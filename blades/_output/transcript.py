"""Reads a stream in a thread of its own and keeps its parts in the order of their arrival."""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:
    from blades._output.protocol import PresentableStream
    from blades._values import ToolResult


@final
class Part:
    """A run of text, of reasoning, or of tool results. One thread appends, another one reads."""

    def __init__(self, kind: Literal["text", "reasoning", "tools"]) -> None:
        self.kind = kind
        self.pieces: list[str] = []
        self.results: list[ToolResult] = []

    @property
    def text(self) -> str:
        """The text or reasoning that was not taken yet. It becomes one piece, before those that arrive meanwhile."""
        text = self.take()
        self.pieces.insert(0, text)
        return text

    def take(self) -> str:
        """Take what has arrived since the last call, while more may be appended behind it."""
        count = len(self.pieces)
        text = "".join(self.pieces[:count])
        del self.pieces[:count]
        return text


@final
class Transcript:
    """The parts of a stream, which a thread of its own reads to its end."""

    def __init__(self, stream: PresentableStream) -> None:
        self.news = Event()
        self.ended = Event()
        self.failure: BaseException | None = None
        self.parts: list[Part] = []
        self._add("reasoning", stream.reasoning)
        self._add("text", stream.text)
        Thread(target=self._run, args=(stream,), name="blades-display", daemon=True).start()

    def take_failure(self) -> BaseException | None:
        """Return the exception that ended the stream, and forget it: it holds frames."""
        failure, self.failure = self.failure, None
        return failure

    def _run(self, stream: PresentableStream) -> None:
        try:
            while stream.next():
                chunk = stream.current()
                self._add("reasoning", chunk.reasoning)
                self._add("text", chunk.text)
                if chunk.tool_results:
                    self._part("tools").results.extend(chunk.tool_results)
                self.news.set()
        except BaseException as error:  # raised again in the cell's thread
            self.failure = error
        finally:
            self.ended.set()
            self.news.set()

    def _add(self, kind: Literal["text", "reasoning"], text: str) -> None:
        if text:
            self._part(kind).pieces.append(text)

    def _part(self, kind: Literal["text", "reasoning", "tools"]) -> Part:
        """Return the last part, or a new one if that is of another kind."""
        if not self.parts or self.parts[-1].kind != kind:
            self.parts.append(Part(kind))
        return self.parts[-1]
