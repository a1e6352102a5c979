"""Splits a growing text into sentences: pure. sentencex judges the ends; this module decides when to ask it.

A possible end of a sentence is judged once, on the text up to a fixed point behind it. So the sentences do not depend
on the chunks in which the text arrives, with one exception: nothing waits behind a 。, so a mark directly behind it
(！”) may arrive too late for its sentence and then starts the next piece. Each possible end is judged on a bounded part
of the text and each character is passed once: the cost is linear in the length.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING, Final, final

from blades._output.strip_markdown import StripMarkdown
from blades._preview import short_repr, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blades._output.protocol import Splitter

    Segment = Callable[[str, str], list[str]]

CONTEXT: Final = 1000  # characters before a possible end that sentencex sees
HORIZON: Final = 64  # characters after a possible end that are waited for, at most
OPEN: Final = 240  # characters within which an open quote or bracket is expected to close
LONGEST: Final = 2000  # characters; a longer sentence is cut at white space

_CLOSER: Final = r"[\"'”’»›)\]}）】」』》〉*_~`]"
_MARKS: Final = (
    r"(?P<wide>[。！？｡]+)"
    r"|(?P<end>[.!?…؟۔।॥։።။។᠃᠉‼⁇⁈⁉．]+)"
    r"|(?P<line>\n)"
    r"|(?P<pair>[\"`“”„«»「」『』《》（）()\[\]{}【】])"
)
# A possible end of a piece starts with one of these.
_TOKEN: Final = re.compile(_MARKS)
_TOKEN_OR_CLAUSE: Final = re.compile(
    _MARKS + r"|(?P<clause>[、，；：]|—+(?!—|\Z)|[,;:–](?:(?=\n)|[^\S\n])|[^\S\n]-[^\S\n])"
)
_AFTER: Final = re.compile(rf"(?P<closers>(?:{_CLOSER}|\[\d+\]|(?:[«“]|[ \u00a0\u202f]»)(?=\s|\Z))*)\s*")
_AFTER_WIDE: Final = re.compile(rf"{_CLOSER}*")
_CITATION_BEGUN: Final = re.compile(r"\[\d*\Z")
_PARAGRAPH: Final = re.compile(r"\s*?\n[^\S\n]*\n")
_LETTER: Final = re.compile(r"[^\W_]")
_SPACE: Final = re.compile(r"\s")
_WIDE_SPACE: Final = re.compile(r"[^\S\x00-\x7f]")
_ITEM: Final = re.compile(r"\n\s*(?:(?:[-*+•–]|\d{1,3}[.)]|[A-Za-z][.)]|#{1,6})[ \t]+\S|```)")
_ITEM_BEGUN: Final = re.compile(r"\n\s*(?:(?:[-*+•–]|\d{1,3}[.)]?|[A-Za-z][.)]?|#{1,6})[ \t]*|`{1,2})?\Z")
_ITEM_MARKER: Final = re.compile(r"\s*(?:[-*+•–]\s+)?\**(?:\d{1,3}|[A-Za-z])")
# After words of letters the next character decides; after initials, numbers and the like, the next word does.
_PLAIN: Final = re.compile(r"(?<![^\W\d_]\.)(?<![^\W\d_])[^\W\d_]{2,}" + _CLOSER + r"*\Z")
_NEVER: Final = re.compile(r"(?:\b(?:[Dd]r|[Mm]rs?|[Mm]s|[Pp]rof|[Cc]f|vs|viz)|\b[eE]\.\s?g|\b[iI]\.\s?e)\Z")
_NO_SPACES: Final = re.compile(r"[\u0e00-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")
_CLOSER_OF: Final = dict(zip('“„«»「『《（【([{"`', '”“»«」』》）】)]}"`', strict=True))


def make_splitter(language: object, first_at: object, markdown: object) -> Splitter:
    """Return the splitter that `Stream.sentences` describes.

    Raises:
        ImportError: The extra is not installed.
        TypeError: A value has the wrong type.
        ValueError: A value is impossible.
    """
    if not isinstance(language, str):
        raise TypeError(f"expected a language code such as 'en', got {type_name(language)}")
    if not (language.strip() and language.isascii()):
        raise ValueError(f"expected a language code such as 'en', got {short_repr(language)}")
    if not (first_at is None or (isinstance(first_at, int) and not isinstance(first_at, bool))):
        raise TypeError(f"expected first_at as an int (characters) or None, got {type_name(first_at)}")
    if first_at is not None and first_at < 0:
        raise ValueError(f"expected first_at as 0 or more characters, got {short_repr(first_at)}")
    if markdown not in ("keep", "drop"):
        raise ValueError(f"expected markdown as 'keep' or 'drop', got {short_repr(markdown)}")
    try:
        from sentencex import segment  # an optional extra
    except ImportError as error:
        raise ImportError(
            "Stream.sentences() needs the package sentencex: pip install sentencex. "
            "Stream.lines() and Stream.words() do not need it."
        ) from error
    sentences = Sentences(segment, language, first_at)
    return sentences if markdown == "keep" else StripMarkdown(sentences)


@final
class Sentences:
    """The state of one text; a `Splitter`. The pieces joined are the text."""

    def __init__(self, segment: Segment, language: str, first_at: int | None = None) -> None:
        self._segment = segment
        self._language = language
        self._first_at = first_at
        self._text = ""  # the unfinished sentence and the text after it
        self._start = 0  # of the sentence
        self._position = 0  # the text before it has been searched
        self._open: list[tuple[str, int]] = []  # expected closing marks, each with the position of its opening mark
        self._final = False

    def feed(self, text: str) -> Iterator[str]:
        """Add text."""
        self._text = self._text[self._start :] + text
        self._position -= self._start
        self._open = [(mark, at - self._start) for mark, at in self._open]
        self._start = 0
        return self._cut()

    def end(self) -> Iterator[str]:
        """Return the rest: the text is complete."""
        self._final = True
        yield from self._cut()
        if self._start < len(self._text):
            yield self._text[self._start :]

    def _cut(self) -> Iterator[str]:
        while (end := self._next_end()) is not None:
            piece, self._start = self._text[self._start : end], end
            self._position = max(self._position, end)
            self._first_at = None
            yield piece

    def _next_end(self) -> int | None:
        """Return the end of the sentence; None if finding it takes more text."""
        tokens = _TOKEN if self._first_at is None else _TOKEN_OR_CLAUSE
        limit = self._start + LONGEST
        while token := tokens.search(self._text, self._position, limit):
            end: int | None = 0  # 0: the sentence does not end here
            if token.lastgroup == "pair":
                self._open = self._opened(*token.span())
            elif token.lastgroup == "wide":
                end = self._after_wide(*token.span())
            elif token.lastgroup == "line":
                end = self._after_line(token.start())
            elif token.lastgroup == "clause":
                end = token.end() if token.end() - self._start >= (self._first_at or 0) else 0
            else:
                end = self._after_terminator(*token.span())
            if end is None:
                return None
            self._position = max(token.end(), end)
            if end:
                return end
        self._position = max(self._position, min(len(self._text), limit) - 2)  # a clause mark takes up to three
        if len(self._text) < limit:
            return None
        return max(self._text.rfind(mark, limit - LONGEST // 2, limit) for mark in " \n、，；") + 1 or limit

    def _after_wide(self, begin: int, at: int) -> int | None:
        """Judge 。 and the like, which end a sentence at once, outside of quotes. A late one starts the next piece."""
        if begin == self._start:
            return 0
        closers = _AFTER_WIDE.match(self._text, at)
        after = closers.end() if closers else at
        opened = self._opened(at, after)
        if self._holds(opened, after):
            return None if after == len(self._text) and not self._final else 0
        self._open = opened
        return after

    def _after_line(self, at: int) -> int | None:
        """Judge the end of a line: an empty line or an item of a list ends the sentence before it."""
        visible, settled = self._visible(at)
        paragraph = _PARAGRAPH.match(self._text, at, visible)
        if paragraph or _ITEM.match(self._text, at, visible):
            self._open = []
            after = paragraph.end() if paragraph else at + 1
            return 0 if self._text[self._start : after].isspace() else after
        return None if not settled and _ITEM_BEGUN.match(self._text, at, visible) else 0

    def _after_terminator(self, begin: int, at: int) -> int | None:
        """Judge marks that may end a sentence, as soon as enough text has arrived after them."""
        visible, settled = self._visible(at)
        following = _AFTER.match(self._text, at, visible)
        closed, after = (following.end("closers"), following.end()) if following else (at, at)
        if paragraph := _PARAGRAPH.match(self._text, closed, visible):
            self._open = []
            return paragraph.end()
        if not settled and (after == visible or _CITATION_BEGUN.match(self._text, after, visible)):
            return None
        opened = self._opened(at, closed)
        ended = (
            after < len(self._text)  # else this is the end of the text
            and not self._is_inside(begin, at, closed, after)
            and not self._holds(opened, closed)
            and self._is_followed(begin, at, after)
        )
        if ended:
            self._open = opened
        return None if ended is None else after * ended

    def _is_followed(self, begin: int, at: int, after: int) -> bool | None:
        """Judge by the first letter that follows, or by the first word; None if judging takes more text."""
        visible, settled = self._visible(at)
        letter = _LETTER.search(self._text, after, visible)
        if letter is None and not settled:
            return None
        first = letter.start() if letter else visible
        if _PLAIN.search(self._text, max(self._start, begin - HORIZON), begin) and self._ends(at, first, first + 1):
            return True
        space = _SPACE.search(self._text, first, visible)
        if space is None and not settled:
            return None
        return self._ends(at, first, space.start() if space else visible)

    def _is_inside(self, begin: int, at: int, closed: int, after: int) -> bool:
        """Return whether the marks belong to an abbreviation, a list number, an address, a version or a file name."""
        text = self._text
        if closed == after:
            spaceless = _NO_SPACES.match(text, after) or text[begin:at].strip(".!?…")
            if not spaceless or text[after].isdigit():
                return True
        line = text.rfind("\n", self._start, begin) + 1 or self._start
        return text[begin:at] == "." and bool(
            _ITEM_MARKER.fullmatch(text, line, begin) or _NEVER.search(text, max(self._start, begin - 8), begin)
        )

    def _ends(self, at: int, first: int, known: int) -> bool:
        """Return whether sentencex, given the text to `known`, ends a sentence between `at` and `first`, a letter."""
        begin = max(self._start, at - CONTEXT)
        # sentencex 1.0 panics on white space outside of ASCII, and takes no lone surrogates: it gets others as long.
        text = _WIDE_SPACE.sub(" ", self._text[begin:known]).encode(errors="replace").decode()
        try:
            lengths = [len(sentence) for sentence in self._segment(self._language, text)]
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # a BaseException that cannot be imported
                raise
            return False
        return any(at <= end <= first and end < known for end in accumulate(lengths, initial=begin))

    def _visible(self, at: int) -> tuple[int, bool]:
        """Return how far to look beyond a position, and whether more text cannot change the judgement."""
        horizon = at + HORIZON
        return min(len(self._text), horizon), self._final or len(self._text) >= horizon

    def _opened(self, begin: int, end: int) -> list[tuple[str, int]]:
        """Return the quotes and brackets that are open after a part of the text."""
        opened = self._open
        for at in range(begin, end):
            mark = self._text[at]
            expected = [closer for closer, _ in opened]
            if mark in expected:
                opened = opened[: len(expected) - 1 - expected[::-1].index(mark)]
            elif mark in _CLOSER_OF and not (mark in '"`' and at and self._text[at - 1].isalnum()):
                opened = [*opened[-7:], (_CLOSER_OF[mark], at)]
        return opened

    def _holds(self, opened: list[tuple[str, int]], at: int) -> bool:
        """Return whether a quote or bracket is open that is still expected to close."""
        return any(at - since < OPEN for _, since in opened)
