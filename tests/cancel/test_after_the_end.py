"""What an ended stream leaves: nothing that changes any more, and nothing for the garbage collector."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import openai
import pytest

from blades import Agent, Stream, StreamError, StreamState
from blades.testing import Answer, Cut, End, LocalServer, Stall
from limits import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cancel.scenes import InThread

WORDS = 3000


@pytest.fixture
def restless() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def has_chunks(stream: Stream, number: int) -> bool:
    return stream.timing.chunks >= number


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("cancellers", [1, 3])
def test_nothing_changes_after_a_cancel(
    framing: Any, cancellers: int, server: LocalServer, agent: Agent, in_thread: InThread
) -> None:
    """When cancel() has returned, in whichever of several threads, text and totals are what they stay."""
    server.default = Answer(*["w "] * WORDS, framing=framing)
    cancelled = 0
    for number in range(40):
        stream = agent.run_stream("go")
        seen: list[str] = []
        after: list[tuple[object, ...]] = []

        def totals(stream: Stream = stream) -> tuple[object, ...]:
            return stream.text, stream.timing.chunks, stream.state, stream.timing.total

        def read(stream: Stream = stream, seen: list[str] = seen) -> None:
            seen.extend(chunk.text for chunk in stream)

        def cancel(stream: Stream = stream, after: list[Any] = after, totals: Callable[[], Any] = totals) -> None:
            stream.cancel()
            after.append(totals())

        reader = in_thread(read)
        wait_until(partial(has_chunks, stream, number))
        for thread in [in_thread(cancel) for _ in range(cancellers)]:
            thread.join(LIMIT_SECONDS)
        reader.join(LIMIT_SECONDS)
        cancelled += stream.state is StreamState.CANCELLED
        assert after == [totals()] * cancellers
        assert len(seen) <= stream.timing.chunks
        assert stream.text.startswith("".join(seen))
    assert cancelled


ANSWERS = {
    "finished": Answer("a", "b"),
    "cut": Answer("a", Cut()),
    "truncated": Answer("a", End()),
    "error event": Answer("a", {"error": {"message": "no"}}),
    "status": Answer.error(400, "no"),
    "stalled": Answer("a", Stall()),
    "silent": Answer(before_headers=[Stall()]),
    "read ahead": Answer("a", "b", framing="length"),
    "read ahead, stalled": Answer("a", Stall(), framing="length"),
    "read ahead, cut": Answer("a", Cut(), framing="length"),
}


def leave(stream: Stream) -> None:
    for _ in stream:
        break


def read_all(stream: Stream) -> None:
    list(stream)


def cancel(stream: Stream) -> None:
    stream.cancel()
    assert not stream.next()


@pytest.mark.parametrize("end", [read_all, leave, cancel, Stream.close], ids=["read", "leave", "cancel", "close"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_no_reference_cycle_is_left(
    answer: Answer, end: Callable[[Stream], None], server: LocalServer, agent: Agent
) -> None:
    """However a stream has ended, all of it is freed at once, without the garbage collector."""
    assert agent.run("warm").complete

    def run() -> None:
        server.add(answer)
        with contextlib.suppress(StreamError, openai.BadRequestError):
            end(agent.run_stream("go", timeout=1.0))

    for _ in range(2):  # what is made once is made now
        run()
    adapter = agent._holder()._adapters[0]
    assert adapter is not None
    wait_until(lambda: adapter._open_streams == 0)
    gc.collect()
    gc.disable()
    try:
        run()
        wait_until(lambda: adapter._open_streams == 0)
        wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "blades-open"])
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        names = {type(found).__name__ for found in gc.garbage if type(found).__module__.startswith("blades.")}
        assert names <= {"_Hook"}  # of a client of a test before, which is a cycle itself
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
