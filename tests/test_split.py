"""Lines and words of a stream, and what holds for every way of cutting one into pieces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blades import Agent, Stream, StreamInterrupted, StreamState
from blades._output.split import Lines, Words
from blades.testing import Answer, Cut, LocalServer, Stall
from limits import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from blades._output.protocol import Splitter

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
TEXTS = st.lists(st.sampled_from(["a", "bc", " ", "\n", "\r\n", "\r", "\t", "\u2028", "。", ". "])).map("".join)


def cut(splitter: Splitter, text: str, sizes: list[int]) -> list[str]:
    pieces: list[str] = []
    for size in [*sizes, len(text)]:
        pieces += splitter.feed(text[:size])
        text = text[size:]
    return pieces + list(splitter.end())


@unhurried
@given(TEXTS, st.lists(st.integers(0, 4)))
def test_lines_are_those_of_the_text(text: str, sizes: list[int]) -> None:
    """However it is cut: a carriage return before the line feed is dropped, any other stays."""
    expected = re.split("\r?\n", text)
    assert cut(Lines(), text, sizes) == (expected if expected[-1] else expected[:-1])


@unhurried
@given(TEXTS, st.lists(st.integers(0, 4)))
def test_words_are_those_of_the_text(text: str, sizes: list[int]) -> None:
    """However it is cut, as str.split has them."""
    assert cut(Words(), text, sizes) == text.split()


WAYS = [
    pytest.param(Stream.lines, id="lines"),
    pytest.param(Stream.words, id="words"),
    pytest.param(Stream.sentences, id="sentences"),
]


@pytest.mark.parametrize("way", WAYS)
class TestStreams:
    """Lines, words and sentences read a stream in the same way."""

    def test_a_piece_comes_as_soon_as_it_is_whole(
        self, way: Callable[[Stream], Iterator[str]], server: LocalServer, agent: Agent
    ) -> None:
        """While the server is still waiting to send the rest."""
        server.add(Answer("Yes.", "\nN", Stall(), "o."))
        pieces = way(agent.run_stream("go"))
        assert next(pieces).strip() == "Yes."
        assert not server.requests[0].answered.is_set()
        server.release()
        assert list(pieces) == ["No."]

    def test_leaving_early_ends_the_stream(
        self, way: Callable[[Stream], Iterator[str]], server: LocalServer, agent: Agent
    ) -> None:
        """As with a loop over the stream, even when the stream is kept."""
        server.add(Answer("Yes.\nN", Stall()))
        stream = agent.run_stream("go")
        for _ in way(stream):
            break
        assert stream.state is StreamState.CANCELLED
        assert server.requests[0].left.wait(LIMIT_SECONDS)

    def test_a_cancel_hands_out_the_rest(
        self, way: Callable[[Stream], Iterator[str]], server: LocalServer, agent: Agent
    ) -> None:
        """The loop ends as ever, after the last piece."""
        server.add(Answer("Yes.\nNot at", Stall()))
        stream = agent.run_stream("go")
        pieces = []
        for piece in way(stream):
            pieces.append(piece.strip())
            stream.cancel()
        assert " ".join(pieces) == "Yes. Not at"
        assert stream.state is StreamState.CANCELLED

    def test_a_failure_hands_out_the_rest_first(
        self, way: Callable[[Stream], Iterator[str]], server: LocalServer, agent: Agent
    ) -> None:
        """Then it raises, with the stream's own exception."""
        server.add(Answer("Yes.\nNo", Cut()))
        stream = agent.run_stream("go")
        pieces: list[str] = []
        with pytest.raises(StreamInterrupted) as caught:
            pieces.extend(way(stream))
        assert [piece.strip() for piece in pieces] == ["Yes.", "No"]
        assert caught.value.text == "Yes.\nNo"

    def test_what_was_read_before_is_included(
        self, way: Callable[[Stream], Iterator[str]], server: LocalServer, agent: Agent
    ) -> None:
        """The pieces are those of the whole text, also of a stream that has ended."""
        server.add(Answer("Yes", ".\nNo."))
        stream = agent.run_stream("go")
        assert stream.next()
        assert [piece.strip() for piece in way(stream)] == ["Yes.", "No."]
        assert [piece.strip() for piece in way(stream)] == ["Yes.", "No."]

    def test_a_second_reader_is_refused_and_does_no_harm(
        self,
        way: Callable[[Stream], Iterator[str]],
        server: LocalServer,
        agent: Agent,
        in_thread: Callable[[Callable[[], object]], threading.Thread],
    ) -> None:
        """The loop that has the stream goes on."""
        server.add(Answer("Yes.\n", Stall(), "No."))
        stream = agent.run_stream("go")
        first: list[str] = []
        reader = in_thread(lambda: first.extend(way(stream)))
        assert server.wait_for_request().stalled.wait(LIMIT_SECONDS)
        in_thread(lambda: wait_until(lambda: stream.text == "Yes.\n" and stream._scope.reading.locked())).join(
            LIMIT_SECONDS
        )
        with pytest.raises(RuntimeError, match="another thread"):
            list(way(stream))
        server.release()
        reader.join(LIMIT_SECONDS)
        assert [piece.strip() for piece in first] == ["Yes.", "No."]
