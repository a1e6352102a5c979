"""Texts and tool calls that grow."""

from __future__ import annotations

import sys
import threading
import time
import tracemalloc
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blades._values import ToolCall
from blades._wire.accumulate import FieldAccumulator, TextAccumulator
from blades._wire.tool_calls import ToolCallAccumulator
from limits import CPU_SECONDS, LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


PIECES = 200_000


def add(text: TextAccumulator, piece: str, *, may_have_surrogates: bool = False) -> str:
    """Add a piece as the decoder does; return what can be returned."""
    piece = text.prepare(piece, may_have_surrogates)
    text.append_once(next(SERIALS), piece)
    return piece


def flush(text: TextAccumulator) -> str:
    piece = text.flush()
    text.append_once(next(SERIALS), piece)
    return piece


def add_parts(calls: ToolCallAccumulator, sent: list[Any], *, may_have_surrogates: bool = False) -> list[ToolCall]:
    """Add parts of calls as the decoder does; return what can be returned."""
    parts = [part for part in calls.prepare(sent, may_have_surrogates) if part is not None]
    calls.commit(parts)
    return [prepared.part for prepared in parts]


SERIALS = count()


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@settings(deadline=None)
@given(st.lists(st.text(max_size=3) | st.just("x" * 600), max_size=30), st.sets(st.integers(0, 30)))
def test_a_text_is_its_pieces(pieces: list[str], reads: set[int]) -> None:
    """Whenever it is read, a text is what was added."""
    text = TextAccumulator()
    for number, piece in enumerate(pieces):
        assert add(text, piece) == piece
        if number in reads:
            assert text.get() == "".join(pieces[: number + 1])
    assert text.get() == "".join(pieces)
    assert bool(text) == bool("".join(pieces))


@pytest.mark.skipif(sys.gettrace() is not None, reason="a traced interpreter does not append in place")
@pytest.mark.parametrize("piece", [" word", "漢字", "é"])
def test_reading_a_long_text_after_each_piece_does_not_copy_it(piece: str) -> None:
    """The text is appended to in place: copying it would move 250 GB."""
    text = TextAccumulator()
    add(text, piece * (50_000_000 // len(piece.encode())))
    start = time.thread_time()
    length = len(text.get())
    for _ in range(5_000):
        add(text, piece)
        length += len(piece)
        assert len(text.get()) == length
        assert time.thread_time() - start < CPU_SECONDS  # usually 0.05


def test_a_text_takes_the_memory_of_its_characters() -> None:
    """Many small pieces are joined, also if nobody reads."""
    text = TextAccumulator()
    tracemalloc.start()
    for number in range(200_000):
        add(text, f"{number:05}"[-5:])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2_000_000  # a million characters; as separate strings 12 MB


def test_other_threads_read_while_one_adds(
    frequent_switches: None, in_thread: Callable[[Callable[[], object]], threading.Thread]
) -> None:
    """No reader ever misses a piece, sees one twice, or sees the text shrink."""
    text, over, wrong = TextAccumulator(), threading.Event(), list[str]()

    def read() -> None:
        length = 0
        while not over.is_set():
            seen = text.get()
            if len(seen) < length or (seen and seen[-6:] != f"{len(seen) // 6 - 1:06}"):
                wrong.append(seen[-20:])
                return
            length = len(seen)

    readers = [in_thread(read) for _ in range(3)]
    for number in range(PIECES):
        add(text, f"{number:06}")
    over.set()
    for reader in readers:
        reader.join(LIMIT_SECONDS)
    assert wrong == []
    assert text.get() == "".join(f"{number:06}" for number in range(PIECES))


@pytest.mark.parametrize(
    ("pieces", "handed_out", "rest"),
    [
        pytest.param(["a\ud83d", "\ude00b"], ["a", "\U0001f600b"], "", id="joined"),
        pytest.param(["\ud83d", "", "\ude00"], ["", "", "\U0001f600"], "", id="nothing between"),
        pytest.param(["\ud83d", "a"], ["", "\ufffda"], "", id="alone before text"),
        pytest.param(["\ud83d", "\ud83d", "\ude00"], ["", "\ufffd", "\U0001f600"], "", id="two first halves"),
        pytest.param(["\ude00a"], ["\ufffda"], "", id="second half alone"),
        pytest.param(["a\ud83d"], ["a"], "\ufffd", id="alone at the end"),
        pytest.param(["a"], ["a"], "", id="none"),
    ],
)
def test_halves_of_a_surrogate_pair_wait_for_each_other(pieces: list[str], handed_out: list[str], rest: str) -> None:
    """Every text returned can be encoded, and together they are the text."""
    text = TextAccumulator()
    assert [add(text, piece, may_have_surrogates=True) for piece in pieces] == handed_out
    assert (flush(text), flush(text)) == (rest, "")
    assert text.get() == "".join(handed_out) + rest


def test_parts_of_calls_name_the_call_they_belong_to() -> None:
    """A part has its call's index, and only what was sent with it."""
    calls = ToolCallAccumulator()
    assert calls.get() == ()
    assert not calls
    parts = add_parts(
        calls,
        [{"index": 3, "id": "a", "function": {"name": "f", "arguments": "{"}}, {"index": 1}, 5],
        may_have_surrogates=False,
    )
    assert parts == [ToolCall(3, "a", "f", "{")]
    parts = add_parts(
        calls,
        [{"index": 1, "type": "custom", "id": "b"}, {"index": 3, "function": {"arguments": "}"}}],
        may_have_surrogates=False,
    )
    assert parts == [ToolCall(1, "b", type="custom"), ToolCall(3, arguments="}")]
    assert calls.get() == (ToolCall(1, "b", type="custom"), ToolCall(3, "a", "f", "{}"))
    assert calls


def test_a_half_in_one_call_waits_while_another_goes_on() -> None:
    """Surrogates are joined per call, and those that stay alone are replaced at the end."""
    calls = ToolCallAccumulator()
    add_parts(calls, [{"index": 0, "function": {"name": "f", "arguments": "a\ud83d"}}], may_have_surrogates=True)
    add_parts(calls, [{"index": 1, "function": {"name": "g", "arguments": "b\ud83d"}}], may_have_surrogates=True)
    add_parts(calls, [{"index": 0, "function": {"arguments": "\ude00"}}], may_have_surrogates=True)
    parts = calls.flush()
    calls.commit(parts)
    calls.commit(parts)  # as after a signal in the middle of it
    assert [prepared.part for prepared in parts] == [ToolCall(1, arguments="\ufffd")]
    assert [call.arguments for call in calls.get()] == ["a\U0001f600", "b\ufffd"]


@pytest.mark.parametrize(
    ("parts", "assembled"),
    [
        pytest.param(
            [(None, "", "f", "1"), (None, "", "", "2"), (None, "", "f", "3")], [("f", "12"), ("f", "3")], id="names"
        ),
        pytest.param(
            [(None, "a", "f", "1"), (None, "b", "g", "2"), (None, "a", "f", "3")], [("f", "13"), ("g", "2")], id="ids"
        ),
        pytest.param(
            [(0, "a", "f", "1"), (0, "a", "f", "2"), (0, "a", "", "3")], [("f", "123")], id="all said each time"
        ),
        pytest.param([(0, "a", "get_", "1"), (0, "", "x", "2")], [("get_x", "12")], id="a name in parts"),
        pytest.param(
            [(0, "a", "f", "1"), (0, "b", "f", "2"), (0, "", "", "3")], [("f", "1"), ("f", "23")], id="one index"
        ),
        pytest.param(
            [(0, "a", "f", "1"), (0, "b", "", "2"), (0, "c", "", "3")], [("f", "123")], id="a new id each time"
        ),
        pytest.param(
            [(2, "a", "f", "1"), (0, "b", "g", "2"), (None, "c", "h", "3")],
            [("g", "2"), ("f", "1"), ("h", "3")],
            id="order",
        ),
        pytest.param([(None, "", "", "1")], [("", "1")], id="nothing but arguments"),
    ],
)
def test_parts_find_their_call(parts: list[tuple[int | None, str, str, str]], assembled: list[tuple[str, str]]) -> None:
    """By index if there is one, else by id, else a name begins a new call."""
    calls = ToolCallAccumulator()
    for index, id_, name, arguments in parts:
        add_parts(
            calls,
            [{"index": index, "id": id_, "function": {"name": name, "arguments": arguments}}],
            may_have_surrogates=False,
        )
    found = calls.get()
    assert [(call.name, call.arguments) for call in found] == assembled
    assert len({call.index for call in found}) == len(found)


@given(st.lists(st.dictionaries(st.sampled_from("ab"), st.text("xyz", min_size=1), max_size=2), max_size=30))
def test_fields_are_joined_however_often_they_are_merged(pieces: list[dict[str, str]]) -> None:
    """Merging on the way makes no difference, nor does adding the same piece again."""
    once, often = FieldAccumulator(), FieldAccumulator(pieces_limit=2)
    for serial, piece in enumerate(pieces):
        once.append_once(serial, piece)
        often.append_once(serial, piece)
        often.append_once(serial, piece)
        often.compact()
    expected = {name: "".join(piece.get(name, "") for piece in pieces) for name in "ab"}
    assert once.get() == often.get() == {name: text for name, text in expected.items() if text}


def test_many_fields_take_the_memory_of_their_values() -> None:
    """A field in each of many events is merged on the way, in linear time."""
    fields = FieldAccumulator()
    start = time.thread_time()
    tracemalloc.start()
    for serial in range(20_000):
        fields.append_once(serial, {"audio": {"id": "a", "data": f"{serial:010}"}})
        fields.compact()
    merged = fields.get()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(merged["audio"]["data"]) == 200_000
    assert kept < 10_000_000
    assert time.thread_time() - start < CPU_SECONDS
