"""The decoder: bytes to events."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blades._wire.sse import BYTE_ORDER_MARK, STRAY_BYTES, Event, EventDecoder, EventTooLongError
from wire_cases import cuts

LIMIT = 100


def events_of(pieces: list[bytes], *, end: bool = True, limit_bytes: int = 2**20) -> tuple[list[Event], EventDecoder]:
    decoder = EventDecoder(limit_bytes=limit_bytes)
    events: list[Event] = []
    for piece in pieces:
        decoder.feed(piece)
        events += iter(decoder.next_event, None)
    if end:
        decoder.end()
        events += iter(decoder.next_event, None)
    return events, decoder


def specified(body: bytes) -> list[Event]:
    """Decode as the specification reads, all at once; the last event needs no blank line."""
    text = body.removeprefix(BYTE_ORDER_MARK).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[Event] = []
    name, values, line_by_line = b"", list[bytes](), False
    for line in [*text.split(b"\n"), b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if values and field == b"data" and value.startswith(b"{") and values[-1].endswith(b"}"):
            # The one tolerance: another object needs no blank line before, and from then on none after.
            line_by_line = True
            events.append((name, b"\n".join(values)))
            name, values = b"", []
        if field == b"event":
            name = value.strip()
        elif field == b"data":
            values.append(value)
            if line_by_line and len(values) == 1 and value.endswith(b"}"):
                events.append((name, value))
                name, values = b"", []
        elif not line:
            if any(values) or len(values) > 1:
                events.append((name, b"\n".join(values)))
            name, values = b"", []
    return events


@pytest.mark.parametrize(
    ("body", "events"),
    [
        pytest.param(b"data: {a}\n\n", [(b"", b"{a}")], id="usual"),
        pytest.param(b"data:{a}\n\ndata:  b\n\n", [(b"", b"{a}"), (b"", b" b")], id="one space at most is dropped"),
        pytest.param(b"data: a\ndata\ndata: b\n\n", [(b"", b"a\n\nb")], id="several data lines"),
        pytest.param(b"event: x \ndata: a\n\ndata: b\n\n", [(b"x", b"a"), (b"", b"b")], id="a name is for one event"),
        pytest.param(b"event: x\ndata: {a}\n\n", [(b"x", b"{a}")], id="a name and an object"),
        pytest.param(b"data: a\ndata: {b}\n\n", [(b"", b"a\n{b}")], id="text and an object"),
        pytest.param(b"event: x\n\ndata: a\n\n", [(b"", b"a")], id="a name alone is no event"),
        pytest.param(b"data:\n\ndata: \n\n", [], id="empty data is no event"),
        pytest.param(b": c\nretry: 1\nid: 2\nid\nfoo: bar\n:\n\n", [], id="what is no data"),
        pytest.param(b"Data: a\n data: b\ndata : c\n\n", [], id="other names"),
        pytest.param(b"data: a\rdata: b\r\ndata: c\n\r\n", [(b"", b"a\nb\nc")], id="line ends"),
        pytest.param(b"data: {a}", [(b"", b"{a}")], id="no line end"),
        pytest.param(b"data: {a}\r", [(b"", b"{a}")], id="no blank line"),
        pytest.param(BYTE_ORDER_MARK + b"data: a\n\n", [(b"", b"a")], id="byte order mark"),
        pytest.param(b"\n\n" + BYTE_ORDER_MARK + b"data: a\n\n", [], id="byte order mark elsewhere"),
        pytest.param(
            "data: a\u2028\u0085\f\v\x1c\n\n".encode(), [(b"", "a\u2028\u0085\f\v\x1c".encode())], id="no ends"
        ),
    ],
)
def test_bytes_are_cut_into_events(body: bytes, events: list[Event]) -> None:
    """Each form gives its events, however it is cut."""
    for name, pieces in cuts(body):
        assert events_of(pieces)[0] == events, name


LINES = st.sampled_from(
    [
        b"data: {a}",
        b"data:b",
        b"data",
        b"data: ",
        b"event: x",
        b"event",
        b": c",
        b"id: 1",
        b"",
        b"",
        b"x",
        BYTE_ORDER_MARK,
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@settings(deadline=None)
@given(st.lists(st.tuples(LINES, ENDS), max_size=12), LINES, st.lists(st.integers(0, 150), max_size=6))
def test_any_lines_cut_anywhere_decode_as_specified(
    lines: list[tuple[bytes, bytes]], last: bytes, places: list[int]
) -> None:
    """The incremental decoder agrees with the specification applied to the whole."""
    body = b"".join(line + end for line, end in lines) + last
    bounds = sorted({0, len(body), *(min(place, len(body)) for place in places)})
    pieces = [body[start:stop] for start, stop in pairwise(bounds)]
    assert events_of(pieces)[0] == specified(body)


def test_an_event_waits_for_its_end() -> None:
    """Nothing is returned before the blank line, or the end of the body, is there."""
    decoder = EventDecoder()
    decoder.feed(b"data: {a}\n")
    assert decoder.next_event() is None
    decoder.feed(b"")
    decoder.feed(b"\n")
    assert decoder.next_event() == (b"", b"{a}")
    assert not decoder.unterminated
    decoder.feed(b"data: {b}")
    assert decoder.next_event() is None
    decoder.end()
    assert decoder.next_event() == (b"", b"{b}")
    assert decoder.unterminated
    assert decoder.next_event() is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"", (False, b""), id="empty"),
        pytest.param(b": c\n\n", (False, b""), id="comment"),
        pytest.param(b"id: 1\n", (True, b""), id="field"),
        pytest.param(b"one\n\n  \ntwo\n", (False, b"two"), id="the last line of a text"),
        pytest.param(b'\n{\n "a": 1\n}', (False, b'{\n "a": 1\n}'), id="all of an object"),
        pytest.param(b"data: a\n\n{\n}\n", (True, b"}"), id="the last line after an event"),
        pytest.param(b"data: a\n\n" + b"x" * 5000, (True, b"x" * STRAY_BYTES), id="not all of a long line"),
    ],
)
def test_lines_outside_of_events_are_kept(body: bytes, expected: tuple[bool, bytes]) -> None:
    """The last line in no field is there for messages, and a JSON body as a whole."""
    for name, pieces in cuts(body):
        decoder = events_of(pieces)[1]
        assert (decoder.is_stream, decoder.stray) == expected, name


@pytest.mark.parametrize(
    ("body", "events"),
    [
        pytest.param(b"data: " + b"a" * (LIMIT - 6) + b"\n\n", 1, id="a line of the limit"),
        pytest.param(b"data: {" + b"a" * (LIMIT - 7) + b"\n\n", 1, id="a usual line of the limit"),
        pytest.param((b"data: " + b"a" * 10 + b"\n\n") * 100, 100, id="many events"),
        pytest.param((b"data: {" + b"a" * 10 + b"\n\n") * 100, 100, id="many usual events"),
        pytest.param((b"data: " + b"a" * 27 + b"\n") * 3 + b"\n", 1, id="lines that sum up to the limit"),
        pytest.param(b": " + b"a" * 90 + b"\n", 0, id="a comment"),
        pytest.param((b": " + b"a" * 90 + b"\n") * 9, 0, id="many comments"),
        pytest.param((b"x" * 90 + b"\n") * 9, 0, id="many lines in no field"),
        pytest.param(b"{\n" + b"x" * 90 + b"\n}\n", 0, id="an object"),
    ],
)
def test_what_is_within_the_limit_is_read(body: bytes, events: int) -> None:
    """The limit is for one event, not for a stream."""
    for name, pieces in cuts(body):
        assert len(events_of(pieces, limit_bytes=LIMIT)[0]) == events, name


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"data: " + b"a" * (LIMIT - 5) + b"\n\n", id="line"),
        pytest.param(b"data: {" + b"a" * (LIMIT - 6) + b"\n\n", id="usual line"),
        pytest.param(b"a" * (LIMIT + 1), id="line without end"),
        pytest.param((b"data: " + b"a" * 27 + b"\n") * 3 + b"data\n\n", id="lines of one event"),
    ],
)
def test_what_is_past_the_limit_raises_after_the_events_before_it(rest: bytes) -> None:
    """Whole events before the endless one are returned, then it raises, and again if asked again."""
    body = b"data: one\n\n" + rest + b"data: two\n\n"
    for name, pieces in cuts(body):
        decoder = EventDecoder(limit_bytes=LIMIT)
        events = list[Event]()
        with pytest.raises(EventTooLongError):  # noqa: PT012 - where it raises depends on the cuts
            for piece in pieces:
                decoder.feed(piece)
                events += iter(decoder.next_event, None)
        assert events == [(b"", b"one")], name
        decoder.feed(b"data: three\n\n")
        decoder.end()
        for _ in range(2):
            with pytest.raises(EventTooLongError):
                decoder.next_event()


def test_an_object_past_the_limit_raises() -> None:
    """A body that may be one JSON object is kept, but not without bound."""
    body = b"{\n" + (b"x" * 40 + b"\n") * 3
    for _, pieces in cuts(body):
        with pytest.raises(EventTooLongError):
            events_of(pieces, limit_bytes=LIMIT)


def test_an_endless_line_is_refused_in_bounded_memory_and_time() -> None:
    """Past the limit nothing more is kept, and finding that out does not read the line again and again."""
    decoder = EventDecoder()
    piece = b"x" * 1000
    for _ in range(17_000):  # 17 MB in small pieces: 8 s if each were to cost a look at all before it
        decoder.feed(piece)
    with pytest.raises(EventTooLongError):
        decoder.next_event()
    assert sum(len(getattr(decoder, name)) for name in ("_partial", "_lines", "_data", "_stray")) == 0
