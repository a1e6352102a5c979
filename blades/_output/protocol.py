"""What the presenters need of the objects that they present: `Stream` has all of it, and tests can do with less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from blades._values import Chunk, Reply, StreamState, Timing, ToolCall, Usage


class Splitter(Protocol):
    """Takes a text chunk by chunk and returns pieces of it as they become certain."""

    def feed(self, text: str) -> Iterable[str]:
        """Take more text; return the pieces that are certain now. They must be consumed before the next call."""
        ...

    def end(self) -> Iterable[str]:
        """Return the remaining pieces: the text is complete."""
        ...


class ReadableStream(Protocol):
    """The part of a stream that `split` and `print_stream` read. `next` closes a stream that it fails to read."""

    @property
    def state(self) -> StreamState:
        """Where the stream is."""
        ...

    @property
    def text(self) -> str:
        """The text returned so far."""
        ...

    def next(self) -> bool:
        """Move to the next chunk; False at the end. RuntimeError: another thread reads the stream."""
        ...

    def current(self) -> Chunk:
        """Return the chunk that `next` moved to."""
        ...

    def __iter__(self) -> Generator[Chunk]: ...

    def close(self) -> None:
        """Close the stream; an unfinished one is thereby cancelled."""
        ...

    def reply(self) -> Reply:
        """Read the rest and return the whole result."""
        ...


class PresentableStream(ReadableStream, Protocol):
    """The part of a stream that a live display shows."""

    @property
    def reasoning(self) -> str:
        """The reasoning returned so far."""
        ...

    @property
    def finish_reason(self) -> str | None:
        """The last finish reason."""
        ...

    @property
    def usage(self) -> Usage | None:
        """The token counts."""
        ...

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls so far."""
        ...

    @property
    def timing(self) -> Timing:
        """Seconds and chunks so far."""
        ...

    def cancel(self) -> None:
        """Cancel the stream, from any thread."""
        ...


class Writable(Protocol):
    """A file to print to. `isatty`, `flush` and `encoding` are used if it has them."""

    def write(self, text: str, /) -> object:
        """Write a text."""
        ...
