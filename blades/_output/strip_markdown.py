"""Strips Markdown markers for reading aloud: pure. Not a parser: a marker that it does not recognise stays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blades._output.protocol import Splitter

_FENCE: Final = re.compile(r"\s*(?:```|~~~)")
_RULE: Final = re.compile(r"\s*(?:([-*_])(?:[ \t]*\1){2,}|\|?[ \t:|-]*-[ \t:|-]*\|[ \t:|-]*)\s*\Z")
_PREFIX: Final = re.compile(r"[ \t]*(?:>[ \t]?)*(?:#{1,6}[ \t]+|[-*+•][ \t]+(?:\[[ xX]\][ \t]+)?)?")
_INLINE: Final = re.compile(
    r"(?P<ticks>`+)(?P<code>.+?)(?P=ticks)"
    r"|!?\[(?P<text>[^\]]*)\]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)?(?:\s[^)]*)?\)"
    r"|<(?P<address>https?://[^>\s]+)>"
    r"|\\(?P<escaped>[!-/:-@\[-`{-~])"
    r"|`+|~~"
    r"|\*{2,3}(?!\d)|(?<![\w*])\*(?=[^\s*])|(?<=[^\s*])\*(?![\w*])"
    r"|(?<![^\W_])_+(?=\S)|(?<=\S)_+(?![^\W_])"
)


@final
class StripMarkdown:
    """The pieces of a splitter without the markers of headings, lists, quotes and emphasis; a link is its text."""

    def __init__(self, splitter: Splitter) -> None:
        self._splitter = splitter
        self._in_code = False
        self._at_line_start = True

    def feed(self, text: str) -> Iterator[str]:
        """See `Splitter`."""
        return self._strip(self._splitter.feed(text))

    def end(self) -> Iterator[str]:
        """See `Splitter`."""
        return self._strip(self._splitter.end())

    def _strip(self, pieces: Iterable[str]) -> Iterator[str]:
        for piece in pieces:
            plain = "".join(self._strip_line(line) for line in piece.splitlines(keepends=True))
            if plain and not plain.isspace():
                yield plain

    def _strip_line(self, line: str) -> str:
        begins = self._at_line_start
        self._at_line_start = line.endswith(("\n", "\r")) or (begins and line.isspace())
        if begins and _FENCE.match(line):
            self._in_code = not self._in_code
            return ""
        if self._in_code:
            return line
        if begins:
            if _RULE.match(line):
                return ""
            prefix = _PREFIX.match(line)
            line = line[prefix.end() if prefix else 0 :]
        return _INLINE.sub(_kept, line)


def _kept(mark: re.Match[str]) -> str:
    """Return the part of a marker that is read aloud."""
    text = mark["text"]
    if text is not None:
        return _INLINE.sub(_kept, text)
    return mark["code"] or mark["address"] or mark["escaped"] or ""
