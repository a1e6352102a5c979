"""What cancels a stream ends it where it is: no total changes after `freeze`, whatever the reading thread is doing."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from blades._wire import totals as totals_module
from blades._wire.decoder import CompletionDecoder
from limits import CPU_SECONDS, LIMIT_SECONDS
from wire_cases import DONE, HELLO, STOP, call, chunk, data, usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from blades._values import Reply

EVERYTHING = (
    HELLO
    + chunk(
        "a\u00e9",
        reasoning_content="why",
        refusal="no",
        images=[{"url": "x"}],
        tool_calls=[
            {"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}", "x": 1}, "y": "z"},
            {"index": 1, "id": "2", "custom": {"name": "g", "input": "i"}},
        ],
        event={"usage": usage(1, 2, 3), "citations": ["c"]},
    )
    + call({"arguments": '{"a":1}'}, index=0)
    + data({"choices": [], "usage": usage(4, 5, 6)})
    + chunk(finish="stop")
    + DONE
)


def totals(decoder: CompletionDecoder) -> tuple[Reply, int]:
    return decoder.reply(complete=False, request_id=None), decoder.chunks


class Interruption:
    """Freezes a decoder at one of the points where CPython may run a signal handler: after a call, or at its start."""

    def __init__(self, decoder: CompletionDecoder, point: int) -> None:
        self.left = point
        self.seen: tuple[Reply, int] | None = None
        self._decoder = decoder

    def __call__(self, _frame: FrameType, event: str, _argument: Any) -> None:
        """Count the points; freeze at the chosen one."""
        if event != "c_call":
            self.left -= 1
            if not self.left:
                sys.setprofile(None)
                self._decoder.freeze()
                self.seen = totals(self._decoder)


@pytest.mark.skipif(sys.getprofile() is not None, reason="another profiler is at work")
@pytest.mark.parametrize("has_gil", [True, False], ids=["GIL", "free-threaded"])
def test_a_signal_handler_can_freeze_between_any_two_steps(has_gil: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event is in the totals as a whole or not at all, and nothing is added later."""
    monkeypatch.setattr(totals_module, "HAS_GIL", has_gil)
    allowed = {repr(states) for states in states_between_events()}
    for point in range(1, 5_000):
        decoder = CompletionDecoder()
        decoder.feed(EVERYTHING)
        interruption = Interruption(decoder, point)
        sys.setprofile(interruption)
        try:
            for _ in iter(decoder.next_chunk, None):
                pass
        finally:
            sys.setprofile(None)
        if interruption.seen is None:
            assert point > 100
            return
        assert totals(decoder) == interruption.seen, point
        assert repr(interruption.seen) in allowed, point
        assert decoder.next_chunk() is None
    pytest.fail("the stream has no end")


def states_between_events() -> list[tuple[Reply, int]]:
    """Return the totals after each event."""
    states = []
    events = EVERYTHING.split(b"\n\n")
    for number in range(len(events)):
        decoder = CompletionDecoder()
        decoder.feed(b"".join(event + b"\n\n" for event in events[:number]))
        for _ in iter(decoder.next_chunk, None):
            pass
        states.append(totals(decoder))
    return states


@pytest.mark.parametrize("piece", [HELLO, EVERYTHING.removesuffix(DONE)], ids=["text", "everything"])
def test_another_thread_can_freeze_at_any_time(
    piece: bytes, in_thread: Callable[[Callable[[], object]], threading.Thread]
) -> None:
    """When `freeze` has returned, the totals stay, however far the reading thread was."""
    for attempt in range(30):
        decoder, started = CompletionDecoder(), threading.Event()

        def read(decoder: CompletionDecoder = decoder, started: threading.Event = started) -> None:
            decoder.feed(piece * 300)
            for _ in iter(decoder.next_chunk, None):
                started.set()

        reader = in_thread(read)
        assert started.wait(LIMIT_SECONDS)
        for _ in range(attempt * 20):
            pass
        decoder.freeze()
        before = totals(decoder)
        reader.join(LIMIT_SECONDS)
        assert not reader.is_alive()
        assert totals(decoder) == before


def test_a_frozen_stream_is_neither_finished_nor_failed_by_what_comes() -> None:
    """No chunk and no failure comes after it, and it can be frozen again."""
    decoder = CompletionDecoder()
    decoder.feed(HELLO + data({"error": "gone"}))
    assert decoder.next_chunk() is not None
    decoder.freeze()
    decoder.freeze()
    decoder.feed(STOP + DONE)
    decoder.end()
    assert decoder.next_chunk() is None
    assert (decoder.text, decoder.finish_reason, decoder.chunks) == ("Hel", None, 1)


@pytest.mark.parametrize(
    "marks",
    [
        pytest.param(lambda number: {"index": number, "id": f"call_{number}"}, id="index and id"),
        pytest.param(lambda number: {"id": f"call_{number}"}, id="id"),
        pytest.param(lambda number: {"index": 0, "id": f"call_{number}"}, id="one index"),
        pytest.param(lambda _: {}, id="nothing"),
    ],
)
def test_many_tool_calls_in_one_event_take_linear_time(marks: Callable[[int], dict[str, Any]]) -> None:
    """16,000 calls in one event are read in a moment: in quadratic time it took half a minute."""
    parts = [{**marks(number), "function": {"name": "f", "arguments": "{}"}} for number in range(16_000)]
    decoder = CompletionDecoder()
    decoder.feed(data({"id": "c", "choices": [{"delta": {"tool_calls": parts}}]}))
    start = time.thread_time()
    only = decoder.next_chunk()
    assert only is not None
    assert len(only.tool_calls) in (16_000, 1)
    assert len(decoder.tool_calls) == len(only.tool_calls)
    assert time.thread_time() - start < CPU_SECONDS


def test_a_freeze_within_a_long_event_is_noticed_within_it() -> None:
    """The reading thread leaves an event of many tool calls as soon as the stream is cancelled."""
    parts = [
        {"index": number, "id": f"c{number}", "function": {"name": "f", "arguments": "{}"}} for number in range(9_000)
    ]
    decoder = CompletionDecoder()
    decoder.feed(b"data: " + json.dumps({"choices": [{"delta": {"tool_calls": parts}}]}).encode() + b"\n\n")
    interruption = Interruption(decoder, 2_000)
    calls_after = 0

    def count_after(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls_after
        interruption(frame, event, argument)
        if interruption.seen is not None:
            sys.setprofile(count_rest)

    def count_rest(*_: Any) -> None:
        nonlocal calls_after
        calls_after += 1

    sys.setprofile(count_after)
    try:
        assert decoder.next_chunk() is None
    finally:
        sys.setprofile(None)
    assert calls_after < 100
    assert decoder.tool_calls == ()
