"""Sentences of a text that is still being written."""

from __future__ import annotations

import builtins
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import sentencex
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from blades._output.sentences import LONGEST, OPEN, Sentences
from blades.testing import Answer, LocalServer, Stall
from limits import CPU_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from blades import Agent

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


def cut(text: str, sizes: list[int] | None = None, *, language: str = "en", first_at: int | None = None) -> list[str]:
    """Feed a text in parts of these sizes, over and over; at once, if there are none."""
    sentences = Sentences(sentencex.segment, language, first_at)
    pieces: list[str] = []
    rest, number = text, 0
    while rest:
        size = sizes[number % len(sizes)] if sizes else len(rest)
        pieces += sentences.feed(rest[:size])
        rest, number = rest[size:], number + 1
    pieces += sentences.end()
    assert "".join(pieces) == text
    return pieces


CASES = {
    "plain": ("en", "Hello there. |Is it you? |Yes! |So it is"),
    "titles and initials": ("en", "Dr. Smith met J. R. R. Tolkien. |Mr. T was there. |Ms. The is a name."),
    "latin abbreviations": ("en", "Use e.g. The Times, i.e. This one. |Cf. The other. |Done."),
    "countries": ("en", "In the U.S. Treasury. |He lives in the U.S. |The end."),
    "times": ("en", "At 5 p.m. |Then we left. |At 5 p.m. Eastern."),
    "numbers": ("en", "It costs $3.14 or 1,000.50 each. |In 1999. |Then not. |No. 5 is alive."),
    "versions": ("en", "Python 3.11.4 is out. |v1.2.3. |Then v2."),
    "addresses": ("en", "See https://a.example/b.c?d=e.F!g. |Or a.b@c.example. |Or Node.js. |Or x.Y here."),
    "ellipses": ("en", "Wait... what? |Wait... |What? |And so… on. |Yes…"),
    "one letter ends a sentence": ("en", "Take vitamin C. |Then go. |It was I. |The end."),
    "marks in a row": ("en", "What?! |No!! |Well..."),
    "quotes stay whole": ("en", 'He said "Wow. Really. Yes." |Then he left. |"Bye!" she said.'),
    "typographic quotes": ("en", "“One. Two.” |Three. |It’s. |So."),
    "quote after quote": ("en", '"One." |"Two." |(Three. Four.) Five.'),
    "inches are no quotes": ("en", 'He is 5\'10" tall. |It is 6" wide. |Yes.'),
    "brackets stay whole": ("en", "See (this. And that) here. |Use `a.b. c` now. |Done."),
    "references": ("en", "One.[1] |Two.[23] |Three. |[4] Five."),
    "emphasis": ("en", "**Bold.** |Next one. |*It.* |_Yes._ |~~No.~~ |End."),
    "faces": ("en", "Hello. |😀 Yes. |- No."),
    "paragraphs": ("en", "A heading\n\n|Some text.\n\n|\nMore.\n \t\n|End"),
    "lines of one paragraph": ("en", "roses are red\nviolets are blue.\n|you too."),
    "leading white space": ("en", "\n\n  Yes. |No."),
    "bullets": ("en", "Take:\n|- milk\n|- eggs. |And more.\n  |* tea\nend"),
    "numbered list": ("en", "Steps:\n|1. Go to A. |Then B.\n|2. Next one.\n|a) First\n|B. Second"),
    "not a list": ("en", "It was\n-5 degrees in\n2024. |Yes\n**No** and\n1.5 more."),
    "headings and fences": ("en", "Text\n|## More\n|```\ncode. More.\n|```\nText."),
    "chinese": ("zh", "你好。|今天好吗？|很好！|３．１４是π。|他说……好。"),
    "chinese quotes": ("zh", "“今天好吗？你呢？”|他说：“你好。”|（真的。）|「是『吗？』吧。」|好。"),
    "chinese with latin": ("zh", "用GPT-4吧!|版本3.14好?|对。|Then go. |好。"),
    "japanese": ("ja", "「こんにちは。」|と言った。|次の文。"),
    "hindi": ("hi", "हाँ। |ठीक है। |अच्छा।"),
    "german": ("de", "Am 3. Mai kam Dr. Müller, z. B. heute. |„Hallo. Wie geht’s?“ sagte er. |»Gut. Ja.« |Ende."),
    "french": ("fr", "Il dit : « Bonjour. Ça va ? » |Puis il part. |M. Dupont arrive. |Oui ! |Non ?"),
    "spanish": ("es", "¿Qué? |Sí. |¡Hola! |El Sr. García vino."),
    "nothing": ("en", ""),
    "white space": ("en", " \n\n \n"),
}


@pytest.mark.parametrize("sizes", [None, [1], [3, 1, 4]], ids=["whole", "character by character", "cut"])
@pytest.mark.parametrize(("language", "text"), CASES.values(), ids=CASES)
def test_sentences(language: str, text: str, sizes: list[int] | None) -> None:
    """A bar is where a piece ends, however the text arrives."""
    pieces = cut(text.replace("|", ""), sizes, language=language)
    assert pieces == [piece for piece in text.split("|") if piece]


def test_marks_that_come_late_begin_the_next_piece() -> None:
    """Nothing waits behind the first mark. Marks that arrive in time belong to their sentence."""
    assert cut("真的？！好。”完") == ["真的？！", "好。”", "完"]
    sentences = Sentences(sentencex.segment, "zh")
    assert list(sentences.feed("真的？")) == ["真的？"]
    assert list(sentences.feed("！太好了。")) == ["！太好了。"]


PROSE = (
    "It was the best of times. It was the worst of times! Was it not? Mr. Dickens wrote so, i.e. he meant it. "
    "The novel cost $3.50 in 1859. Its first part came out in the U.K. on April 30. People liked it... mostly. "
    '"Recalled to life," said the messenger. "What does it mean?" asked Jerry. Nobody knew (not even Mr. Lorry). '
)


def test_prose_is_split_as_sentencex_splits_the_whole() -> None:
    """Deciding early changes nothing in ordinary prose."""
    assert cut(PROSE, [2]) == sentencex.segment("en", PROSE)


@pytest.mark.parametrize(
    ("sure", "settling"),
    [
        pytest.param("你好。", "", id="at the mark in Chinese"),
        pytest.param("“你好。”", "", id="at the closing quote in Chinese"),
        pytest.param("Hello there. ", "N", id="at the next letter"),
        pytest.param('"Hello there." ', '"N', id="at the next letter, behind a quote"),
        pytest.param("In the U.S. ", "The ", id="at the next word after an abbreviation"),
        pytest.param("Hello there.\n\n", "", id="at an empty line"),
        pytest.param("A heading\n\n", "", id="at an empty line after anything"),
        pytest.param("- One\n", "- T", id="at the next item"),
    ],
)
def test_a_sentence_comes_as_soon_as_it_is_certain(sure: str, settling: str) -> None:
    """Not with the character before, and with no more than that."""
    sentences = Sentences(sentencex.segment, "en")
    text = sure + settling
    assert list(sentences.feed(text[:-1])) == []
    assert list(sentences.feed(text[-1])) == [sure]


class TestFirstAt:
    """The first piece may go at a clause mark."""

    @pytest.mark.parametrize(
        ("text", "pieces"),
        [
            pytest.param("One, two, three, four.", ["One, two, ", "three, four."], id="comma"),
            pytest.param("Now wait; then go, then.", ["Now wait; ", "then go, then."], id="semicolon"),
            pytest.param("The list: a, b.", ["The list: ", "a, b."], id="colon"),
            pytest.param("The end - or not.", ["The end - ", "or not."], id="hyphen"),
            pytest.param("The end – or not.", ["The end – ", "or not."], id="en dash"),
            pytest.param("The end——or not.", ["The end——", "or not."], id="em dashes"),
            pytest.param("你好，你好，朋友，再见。", ["你好，你好，朋友，", "再见。"], id="chinese"),
            pytest.param("Yes, no,\n\nSo, so.", ["Yes, no,", "\n\nSo, so."], id="end of a line"),
            pytest.param("At 1,000,000 or 12:30:15 go.", ["At 1,000,000 or 12:30:15 go."], id="numbers"),
            pytest.param("Yes. One, two, three, four.", ["Yes. ", "One, two, three, four."], id="a sentence is first"),
        ],
    )
    @pytest.mark.parametrize("sizes", [None, [1]], ids=["whole", "character by character"])
    def test_only_the_first_and_not_before(self, text: str, pieces: list[str], sizes: list[int] | None) -> None:
        """The mark and one white space after it are in the piece, and count."""
        assert cut(text, sizes, first_at=8) == pieces

    def test_the_rest_of_a_quotation_stays_whole(self) -> None:
        """A piece that went early has not closed the quote."""
        assert cut('"One, two. Three." Four.', first_at=3) == ['"One, ', 'two. Three." ', "Four."]


class TestBounds:
    """The work is bounded, whatever the text."""

    def test_a_quote_that_is_never_closed_holds_only_so_long(self) -> None:
        """After that, sentences are split again."""
        pieces = cut('"' + "So it is. " * 60)
        assert OPEN < len(pieces[0]) < OPEN + 20
        assert set(pieces[1:]) == {"So it is. "}

    @pytest.mark.parametrize(
        ("text", "longest"),
        [
            pytest.param("word " * 1000, LONGEST, id="at white space"),
            pytest.param("x" * 5000, LONGEST, id="anywhere, if there is none"),
            pytest.param("字、" * 3000, LONGEST, id="at a clause mark"),
        ],
    )
    def test_a_very_long_sentence_is_cut(self, text: str, longest: int) -> None:
        """Sooner than never."""
        pieces = cut(text, [7])
        assert max(map(len, pieces)) <= longest
        assert len(pieces) == -(-len(text) // longest)
        assert not text.endswith(" ") or all(piece.endswith(" ") for piece in pieces)

    @pytest.mark.parametrize("text", ["e.g. x ", "...", "(", "\n", ". ", 'a. "', "你好，", "x", "[1"], ids=repr)
    def test_the_time_grows_with_the_length_alone(self, text: str) -> None:
        """Fifty thousand characters, four at a time, on texts that are hard: quadratic would be minutes."""
        began = time.process_time()
        cut(text * (50_000 // len(text)), [4])
        assert time.process_time() - began < CPU_SECONDS

    def test_white_space_without_end_settles_it(self) -> None:
        """A sentence does not wait for a letter that may never arrive."""
        assert list(Sentences(sentencex.segment, "en").feed("Yes. " + " " * 200)) != []


FRAGMENTS = [
    *("Hello there", " world", "Dr", "e.g", "U.S", "p.m", "A", "J", "3", "14", "x.com", "the", "The", "Then", "😀"),
    *(
        "“",
        "”",
        '"',
        "'",
        "(",
        ")",
        "[1]",
        "[",
        "`",
        "**",
        "*",
        "_",
        "!",
        "?",
        "...",
        "…",
        " « ",
        " » ",
        "।",
        "「",
        "」",
    ),
    *(
        ".",
        ".",
        ". ",
        ". ",
        " ",
        " ",
        "\n",
        "\n\n",
        "\t",
        "\r\n",
        "- ",
        "1. ",
        "# ",
        "```",
        ",",
        ", ",
        "; ",
        " - ",
        "—",
    ),
    *("你好", "。", "！", "？", "，"),
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)
LATE = re.compile("(?<=[。！？])[。！？”’」』»\"'`)\\]}*_~]+")


@unhurried
@given(
    TEXTS, st.lists(st.integers(1, 7), min_size=1), st.sampled_from(["en", "de", "zh"]), st.none() | st.integers(1, 9)
)
@example("Hello.[2] Then.", [1], "en", None)
@example("Oui ! » Non", [1], "fr", None)
def test_any_way_of_arriving_gives_the_same_sentences(
    text: str, sizes: list[int], language: str, first_at: int | None
) -> None:
    """Except marks directly after 。 and the like, which may arrive too late. Nothing is lost or doubled."""
    cut(text, sizes, language=language, first_at=first_at)
    text = LATE.sub("", text)
    arrived = cut(text, sizes, language=language, first_at=first_at)
    assert arrived == cut(text, language=language, first_at=first_at)


SPANS = ["Dr. Who", "e.g. This", "3.14", "J. R. R. Tolkien", "https://a.example/B.C?d=E", "v1.2.3", "U.S. Navy", "a.B"]


@unhurried
@given(st.lists(st.sampled_from([*SPANS, "word", "And.", "No!"]), max_size=12), st.lists(st.integers(1, 5), min_size=1))
def test_no_cut_is_inside_what_belongs_together(words: list[str], sizes: list[int]) -> None:
    """Names, numbers, addresses."""
    ends, end = set(), 0
    for piece in cut(" ".join(words), sizes):
        ends.add(end := end + len(piece))
    begin = 0
    for word in words:
        assert not ends & set(range(begin + 1, begin + len(word)))
        begin += len(word) + 1


class PanicException(BaseException):
    """As sentencex raises it when its Rust code panics."""


class TestSentencex:
    """What sentencex does not judge is no end."""

    @pytest.mark.parametrize("space", "\x85\xa0\u1680\u2000\u2009\u2028\u202f\u3000", ids=ascii)
    def test_any_white_space_before_a_mark(self, space: str) -> None:
        """The text arrives whole, though sentencex panics when it sees some of these."""
        assert cut(f"plan B{space}. Then the end. Yes.", [1])[-1] == "Yes."

    def test_lone_surrogates_stay(self) -> None:
        """The pieces are those of the text, of which sentencex sees a copy."""
        assert cut("One \ud83d. Two \ude00 more. Three.") == ["One \ud83d. ", "Two \ude00 more. ", "Three."]

    def test_a_panic_loses_nothing(self) -> None:
        """The text goes on to the next end."""

        def segment(_language: str, text: str) -> list[str]:
            if "bad" in text:
                raise PanicException
            pieces: list[str] = sentencex.segment("en", text)
            return pieces

        sentences = Sentences(segment, "en")
        assert [*sentences.feed("One. A bad one. Two.\n\nThree. "), *sentences.end()] == [
            "One. ",
            "A bad one. Two.\n\n",
            "Three. ",
        ]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, TimeoutError])
    def test_other_exceptions_pass(self, error: type[BaseException]) -> None:
        """A signal handler may raise them while sentencex works."""

        def segment(_language: str, _text: str) -> list[str]:
            raise error

        with pytest.raises(error):
            list(Sentences(segment, "en").feed("One. Two. Three."))


class TestStream:
    """What Stream.sentences adds."""

    def test_a_sentence_is_there_while_the_next_is_written(self, server: LocalServer, agent: Agent) -> None:
        """Through a real stream, with the first piece early."""
        server.add(Answer("Well, ", "it is. ", "S", Stall(), "o."))
        sentences = agent.run_stream("go").sentences("en", first_at=4)
        assert [next(sentences), next(sentences)] == ["Well, ", "it is. "]
        server.release()
        assert list(sentences) == ["So."]

    def test_marks_of_markdown_are_left_out_on_request(self, server: LocalServer, agent: Agent) -> None:
        """And pieces that were nothing else."""
        server.add("# Title\n\n**Bold.** See [this](http://a.b/).\n\n---\n\nDone.")
        sentences = agent.run_stream("go").sentences(markdown="drop")
        assert list(sentences) == ["Title\n\n", "Bold. ", "See this.\n\n", "Done."]

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            pytest.param({"language": 1}, TypeError, "language code such as 'en', got int", id="language"),
            pytest.param({"language": "\ud83d"}, ValueError, "language code such as 'en'", id="language, a surrogate"),
            pytest.param({"first_at": "x"}, TypeError, "first_at as an int", id="first_at"),
            pytest.param({"markdown": True}, ValueError, "'keep' or 'drop', got True", id="markdown"),
            pytest.param({"markdown": []}, ValueError, "'keep' or 'drop', got \\[\\]", id="markdown, a list"),
        ],
    )
    def test_wrong_arguments_are_refused_at_once(
        self, agent: Agent, arguments: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        """At the call, not in the loop."""
        with pytest.raises(error, match=message):
            agent.run_stream("go").sentences(**arguments)

    def test_without_the_extra_the_error_says_what_to_install(
        self, server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At the call; lines and words do without."""
        real: Callable[..., object] = builtins.__import__

        def without(name: str, *more: Any) -> object:
            if name == "sentencex":
                raise ModuleNotFoundError("No module named 'sentencex'", name=name)
            return real(name, *more)

        monkeypatch.delitem(sys.modules, "sentencex")
        monkeypatch.setattr(builtins, "__import__", without)
        server.add("One two.")
        stream = agent.run_stream("go")
        with pytest.raises(ImportError, match=r"pip install sentencex"):
            stream.sentences()
        assert list(stream.words()) == ["One", "two."]
