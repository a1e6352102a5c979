"""Splits the text of a stream into pieces: lines, words, or what another splitter makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from blades._values import StreamState

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from blades._output.protocol import ReadableStream, Splitter


def split(stream: ReadableStream, splitter: Splitter) -> Generator[str]:
    """Read a stream to its end and split its text, from the first character: text read earlier is included.

    Like a ``for`` loop over the stream, this loop owns it: leaving early closes it. When the stream fails, the rest of
    the text comes first, and then the exception. A caller's own exception (a signal handler's) is raised at once.
    """
    __tracebackhide__ = True
    in_next = False  # a RuntimeError of next() means that another thread reads the stream: leave the stream to it
    try:
        yield from splitter.feed(stream.text)
        while True:
            in_next = True
            if not stream.next():
                break
            in_next = False
            yield from splitter.feed(stream.current().text)
        in_next = False
        yield from splitter.end()
    except BaseException as error:
        if in_next and isinstance(error, Exception) and stream.state is StreamState.FAILED:
            in_next = False
            yield from splitter.end()
        elif not (in_next and isinstance(error, RuntimeError)):
            stream.close()
        raise


@final
class Lines:
    r"""Lines without their ends: ``\n``, with or without ``\r`` before it. Each part of a line is searched once."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def feed(self, text: str) -> Iterable[str]:
        """See `Splitter`."""
        first, *more = text.split("\n")
        self._parts.append(first)
        for part in more:
            yield "".join(self._parts).removesuffix("\r")
            self._parts = [part]

    def end(self) -> Iterable[str]:
        """See `Splitter`."""
        rest = "".join(self._parts)
        return [rest] if rest else []


@final
class Words:
    """Words, as `str.split` finds them. Each part of a word is searched once."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def feed(self, text: str) -> Iterable[str]:
        """See `Splitter`."""
        words = text.split()
        if text[:1].isspace():
            yield from self.end()
        if words:
            *whole, last = words
            for word in whole:
                yield "".join([*self._parts, word])
                self._parts = []
            self._parts.append(last)
            if text[-1].isspace():
                yield from self.end()

    def end(self) -> Iterable[str]:
        """See `Splitter`."""
        word, self._parts = "".join(self._parts), []
        return [word] if word else []
