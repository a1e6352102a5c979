"""An answer in pieces that make sense: as lines, as words, or as a cutter of another module makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from blades._stream import Stream


class Splitter(Protocol):
    """Text in, finished pieces out."""

    def feed(self, text: str) -> Iterable[str]:
        """Take more text; return the pieces that are certain now."""
        ...

    def end(self) -> Iterable[str]:
        """Return what is left: no more text comes."""
        ...


def pieces(stream: Stream, cutter: Splitter) -> Generator[str]:
    """Read a stream to its end and cut its text, from the first character: what was handed out before is included.

    As a ``for`` loop over the stream, this owns it: leaving early ends it. When it fails, what is left of the text
    comes first, and then the exception.
    """
    try:
        yield from cutter.feed(stream.text)
        while True:
            try:
                if not stream.next():
                    break
            except RuntimeError:  # another thread has the stream
                raise
            except Exception:
                yield from cutter.end()
                raise
            yield from cutter.feed(stream.current().text)
        yield from cutter.end()
    except RuntimeError:  # this loop never had the stream
        raise
    except BaseException:
        stream.close()
        raise


@final
class Lines:
    r"""Lines without their ends: ``\n``, with or without ``\r`` before it. A part of a line is looked at once."""

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
    """Words, as `str.split` cuts them. A part of a word is looked at once."""

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
