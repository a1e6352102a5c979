"""Lines and words of a stream, and what every splitter has in common."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blades import Agent, Chunk, Reply, Stream, StreamInterrupted, StreamState
from blades._output.split import Lines, Words, split
from blades.testing import Answer, Cut, LocalServer, Stall
from limits import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Iterator

    from blades._output.protocol import Splitter

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
TEXTS = st.lists(st.sampled_from(["a", "bc", " ", "\n", "\r\n", "\r", "\t", "\u2028", "。", ". "])).map("".join)


def split_text(splitter: Splitter, text: str, sizes: list[int]) -> list[str]:
    pieces: list[str] = []
    for size in [*sizes, len(text)]:
        pieces += splitter.feed(text[:size])
        text = text[size:]
    return pieces + list(splitter.end())


@unhurried
@given(TEXTS, st.lists(st.integers(0, 4)))
def test_lines_are_those_of_the_text(text: str, sizes: list[int]) -> None:
    """In whatever chunks: a carriage return before a line feed is dropped, any other stays."""
    expected = re.split("\r?\n", text)
    assert split_text(Lines(), text, sizes) == (expected if expected[-1] else expected[:-1])


@unhurried
@given(TEXTS, st.lists(st.integers(0, 4)))
def test_words_are_those_of_the_text(text: str, sizes: list[int]) -> None:
    """In whatever chunks, as str.split returns them."""
    assert split_text(Words(), text, sizes) == text.split()


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

    def test_cancel_returns_the_rest(
        self, way: Callable[[Stream], Iterator[str]], server: LocalServer, agent: Agent
    ) -> None:
        """The loop ends after the last piece."""
        server.add(Answer("Yes.\nNot at", Stall()))
        stream = agent.run_stream("go")
        pieces = []
        for piece in way(stream):
            pieces.append(piece.strip())
            stream.cancel()
        assert " ".join(pieces) == "Yes. Not at"
        assert stream.state is StreamState.CANCELLED

    def test_failure_returns_the_rest_first(
        self, way: Callable[[Stream], Iterator[str]], server: LocalServer, agent: Agent
    ) -> None:
        """Then the loop raises the stream's own exception."""
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

    def test_second_reader_is_refused(
        self,
        way: Callable[[Stream], Iterator[str]],
        server: LocalServer,
        agent: Agent,
        in_thread: Callable[[Callable[[], object]], threading.Thread],
    ) -> None:
        """The first one continues."""
        server.add(Answer("Yes.\n", Stall(), "No."))
        stream = agent.run_stream("go")
        first: list[str] = []
        reader = in_thread(lambda: first.extend(way(stream)))
        assert server.wait_for_request().stalled.wait(LIMIT_SECONDS)
        in_thread(lambda: wait_until(lambda: stream.text == "Yes.\n" and not stream._call.scope._responses)).join(
            LIMIT_SECONDS
        )
        with pytest.raises(RuntimeError, match="got a second thread"):
            list(way(stream))
        server.release()
        reader.join(LIMIT_SECONDS)
        assert [piece.strip() for piece in first] == ["Yes.", "No."]


class ForeignError(RuntimeError):
    """An exception of the caller's own, of a class that the library raises, too."""


class InterruptedStream:
    """A stream that has read a chunk and is interrupted in the next step by an exception."""

    def __init__(self, error: BaseException, *, inside: bool) -> None:
        self.closed = False
        self.text = ""
        self.state = StreamState.STREAMING
        self._error = error
        self._inside = inside

    def next(self) -> bool:
        """Read a chunk, then fail, as `Stream.next` does: cancelled."""
        if self.text and self._inside:
            self.state = StreamState.CANCELLED
            raise self._error
        self.text = "Yes.\nNo"
        return True

    def current(self) -> Chunk:
        """Return the chunk, or fail between two calls of `next`."""
        if not self._inside:
            raise self._error
        return Chunk(self.text)

    def __iter__(self) -> Generator[Chunk]:
        while self.next():
            yield self.current()

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def reply(self) -> Reply:
        """Return the text so far."""
        return Reply(self.text)


@pytest.mark.parametrize(
    "error", [TimeoutError("soft limit"), ForeignError(), KeyboardInterrupt(), SystemExit(3)], ids=repr
)
def test_exception_of_a_signal_handler_is_raised_at_once(error: BaseException) -> None:
    """As it is, without the rest of the text before it: that would delay it, or lose it if the loop is left there."""
    pieces: list[str] = []
    with pytest.raises(type(error)) as caught:
        pieces.extend(split(InterruptedStream(error, inside=True), Lines()))
    assert caught.value is error
    assert pieces == ["Yes."]


@pytest.mark.parametrize("error", [TimeoutError("soft limit"), ForeignError(), KeyboardInterrupt()], ids=repr)
def test_exception_between_two_steps_closes_the_stream(error: BaseException) -> None:
    """A RuntimeError, too: it does not come from another thread's reading."""
    stream = InterruptedStream(error, inside=False)
    with pytest.raises(type(error)) as caught:
        list(split(stream, Lines()))
    assert caught.value is error
    assert stream.closed


@pytest.mark.parametrize("way", WAYS)
def test_frames_of_the_library_are_hidden(
    way: Callable[[Stream], Iterator[str]], server: LocalServer, agent: Agent
) -> None:
    """Where IPython honours it, a traceback does not show the splitting."""
    server.add(Answer("Yes.\nNo", Cut()))
    with pytest.raises(StreamInterrupted) as caught:
        list(way(agent.run_stream("go")))
    frames = [entry.frame for entry in caught.traceback if "_output" in str(entry.path)]
    assert frames
    assert all(frame.f_locals.get("__tracebackhide__") for frame in frames)
