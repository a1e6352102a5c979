"""Markdown without its markers."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blades._output.split import Lines
from blades._output.strip_markdown import StripMarkdown
from limits import CPU_SECONDS

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


class Given:
    """A splitter whose pieces are given: what is fed, between broken bars."""

    def feed(self, text: str) -> list[str]:
        """See `Splitter`."""
        return text.split("¦")

    def end(self) -> list[str]:
        """See `Splitter`."""
        return ["**end**"]


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        pytest.param("# ResponseInfo *it*\n", "ResponseInfo it\n", id="heading"),
        pytest.param("> > said\n", "said\n", id="quote"),
        pytest.param("- a\n* b\n  + c\n- [x] d\n", "a\nb\nc\nd\n", id="bullets"),
        pytest.param("1. a\n", "1. a\n", id="numbers stay"),
        pytest.param("**a** *b* ***c*** __d__ _e_ ~~f~~", "a b c d e f", id="emphasis"),
        pytest.param("这是**重点**内容", "这是重点内容", id="emphasis without spaces"),
        pytest.param("2 * 3 ** 4, 2*3, 2**3, snake_case", "2 * 3  4, 2*3, 2**3, snake_case", id="not emphasis"),
        pytest.param("use `a*b` and ``c`d``", "use a*b and c`d", id="code"),
        pytest.param("[a **b**](http://x/y_(z) 't') ![c](d) <https://e.f>", "a b c https://e.f", id="links"),
        pytest.param("[![a](b)](c) [d [e](f) [g](h(i)j 'k (l)')", "a [d e g", id="images in links, open brackets"),
        pytest.param("a ``b` c`` ```d``` `e", "a b` c d e", id="runs of ticks"),
        pytest.param(r"\*not\* it", "*not* it", id="escapes"),
        pytest.param("a\n---\n***\n|---|:-:|\n", "a\n", id="rules"),
        pytest.param("```python\n# x *y*\n```\n# z\n", "# x *y*\nz\n", id="fences"),
        pytest.param("a\n  ¦- b ¦- c", "a\nb - c", id="a line goes on in the next piece"),
    ],
)
def test_marks(marked: str, plain: str) -> None:
    """The text to be read aloud stays."""
    assert "".join(StripMarkdown(Given()).feed(marked)) == plain


def test_pieces_of_markers_alone_are_left_out() -> None:
    """And so is white space alone; the last piece is stripped like the others."""
    plain = StripMarkdown(Given())
    assert list(plain.feed("a ¦\n¦---\n¦** ¦b")) == ["a ", "b"]
    assert list(plain.end()) == ["end"]


@pytest.mark.parametrize(
    "hard",
    [
        *(
            "-|-|",
            "- ",
            "|",
            "*",
            "* ",
            "_",
            "a_",
            "_ ",
            "`",
            "`a``b",
            "[",
            "![",
            "[]",
            "[](",
            "[]( ",
            "[](a '",
            '[](a "',
        ),
        *(
            "[](a ",
            "[](a(",
            "[![](a)",
            "[]((",
            "<http://",
            "<http://a",
            "\\",
            "> ",
            "#",
            "~",
            " ",
            "\t",
            "**a",
            "[x] - ",
        ),
    ],
    ids=repr,
)
@pytest.mark.parametrize("end", ["", "x", "]", ")"])
def test_time_is_linear_in_the_length(hard: str, end: str) -> None:
    """Lines that a regular expression can search again from each character: quadratic would be hours."""
    began = time.process_time()
    list(StripMarkdown(Given()).feed(hard * (200_000 // len(hard)) + end))
    assert time.process_time() - began < CPU_SECONDS


@unhurried
@given(st.text(alphabet="ab *_`[]()<>\\#->~|!\n"))
def test_nothing_is_invented(text: str) -> None:
    """The result is a part of the text, in order."""
    rest = iter(text)
    assert all(character in rest for character in "".join(StripMarkdown(Given()).feed(text)))


@unhurried
@given(st.text(alphabet="ab.,\n"))
def test_text_without_marks_stays(text: str) -> None:
    """Line by line, but for the white space alone."""
    assert list(StripMarkdown(Lines()).feed(text + "\n")) == [line for line in text.split("\n") if line]
