"""Strips Markdown markers for reading aloud: pure. Not a parser: a marker that it does not recognise stays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blades._output.protocol import Splitter

_FENCE: Final = re.compile(r"\s*(?:```|~~~)")
RULE_LENGTH: Final = 3  # marks, at least
_RULE_MARKS: Final = ({"-"}, {"*"}, {"_"})
_PREFIX: Final = re.compile(r"[ \t]*(?:>[ \t]?)*(?:#{1,6}[ \t]+|[-*+•][ \t]+(?:\[[ xX]\][ \t]+)?)?")
# Linear: from each character that opens something, the search ends at the next one like it. A run of ticks is closed by
# a run of the same length, so only the last run of each of three lengths can be searched for in vain.
_INLINE: Final = re.compile(
    r"(?P<ticks>`{1,3}+)(?!`)(?P<code>.+?)(?<!`)(?P=ticks)(?!`)"
    r"|!?\[(?P<text>(?:!\[[^\[\]]*\]\([^()\s]*\)|[^\[\]])*+)\]"
    r"\([^()\s]*(?:\([^()\s]*\)[^()\s]*)?(?:\s+(?:\"[^\"]*\"|'[^']*')\s*|\s[^()]*)?\)"
    r"|<(?P<address>https?://[^<>\s]+)>"
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
            if _is_rule(line):
                return ""
            prefix = _PREFIX.match(line)
            line = line[prefix.end() if prefix else 0 :]
        return _INLINE.sub(_kept, line)


def _is_rule(line: str) -> bool:
    """Return whether a line is a thematic break (``* * *``) or separates the head of a table (``|---|:-:|``)."""
    compact = "".join(line.split())
    if len(compact) >= RULE_LENGTH and set(compact) in _RULE_MARKS:
        return True
    return not compact.strip("-:|") and "|" in compact.partition("-")[2]


def _kept(mark: re.Match[str]) -> str:
    """Return the part of a marker that is read aloud."""
    text = mark["text"]
    if text is not None:
        return _INLINE.sub(_kept, text)
    return mark["code"] or mark["address"] or mark["escaped"] or ""
