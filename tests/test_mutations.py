"""Damaged streams: whatever comes, the reader gets chunks or a `StreamError`, and keeps the text.

``pytest tests/test_mutations.py --mutations=1000000`` tries more than by default.
"""

from __future__ import annotations

import json
import random
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blades._errors import StreamError
from blades._wire.decoder import CompletionDecoder
from wire_cases import (
    CAPTURES,
    COMPLETION,
    DONE,
    HELLO,
    HTML,
    JSON_ERROR,
    ROWS,
    STOP,
    call,
    chunk,
    data,
    recorded,
    replay,
    usage,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from blades._values import Chunk, Reply

BATCHES = 10
STREAMS = [
    *(case.body for case in ROWS if len(case.body) < 3_000),
    *(recorded(name)[2][:3_000] for name in CAPTURES),
    HELLO * 3 + STOP + data({"choices": [], "usage": usage(1, 2, 3)}) + DONE,
    json.dumps(COMPLETION, indent=1).encode(),
    json.dumps(JSON_ERROR).encode(),
    HTML,
]
ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", "x", "null", "error", "0", "[DONE]"),
    *("\ud83d", "\ude00", "\ud83d\ude00", "\u2028\x00\x85", [], {}, [[]], [None], ["x"], {"a": {}}, [{"index": 0}]),
    *({"content": "x"}, {"message": "m", "code": 1}, {"function": {"name": 5, "arguments": {"a": [1]}}}),
    *([{"type": "thinking", "thinking": [{"text": "x"}, 5]}, {"type": "text", "text": "\ud83d"}],),
]
KEYS = [
    "error",
    "choices",
    "delta",
    "content",
    "reasoning",
    "refusal",
    "message",
    "tool_calls",
    "function",
    "arguments",
]
KEYS += [
    "images",
    "reasoning_details",
    "thinking",
    "extra_content",
    "custom",
    "input",
    "citations",
    "logprobs",
    "metadata",
]
KEYS += [
    "base_resp",
    "errors",
    "detail",
    "text",
    "summary",
    "index",
    "id",
    "model",
    "finish_reason",
    "usage",
    "x_groq",
    "object",
    "type",
]
BYTES = b"\n\r\x00\x0b\x0c\x1c\x85\xff\xf0\xed\"'\\{}[]:, dataerror-0159eE"

Numbers = random.Random


def flip_bits(body: bytes, numbers: Numbers) -> bytes:
    damaged = bytearray(body)
    for _ in range(numbers.randint(1, 4)):
        damaged[numbers.randrange(len(damaged))] ^= 1 << numbers.randrange(8)
    return bytes(damaged)


def replace_bytes(body: bytes, numbers: Numbers) -> bytes:
    start = numbers.randrange(len(body))
    new = bytes(numbers.choices(BYTES, k=numbers.randint(0, 4)))
    return body[:start] + new + body[start + numbers.randint(0, 20) :]


def shuffle_lines(body: bytes, numbers: Numbers) -> bytes:
    lines = body.splitlines(keepends=True)
    for _ in range(numbers.randint(1, 3)):
        one, other = numbers.randrange(len(lines)), numbers.randrange(len(lines))
        match numbers.choice(["drop", "double", "swap", "join"]):
            case "drop" if len(lines) > 1:
                del lines[one], lines[other % len(lines)]
                lines = lines or [b"\n"]
            case "double":
                lines.insert(other, lines[one])
            case "join":
                lines[one] = lines[one].rstrip()
            case _:
                lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines) or b"\n"


def replace_values(body: bytes, numbers: Numbers) -> bytes:
    """Put unexpected values into the JSON of some lines, which stays JSON."""
    lines = body.split(b"\n")
    for number in numbers.choices(range(len(lines)), k=4):
        prefix = b"data: " if lines[number].startswith(b"data: ") else b""
        try:
            value = json.loads(lines[number].removeprefix(prefix))
        except ValueError:
            continue
        for _ in range(numbers.randint(1, 3)):
            value = replace_one(value, numbers)
        lines[number] = prefix + json.dumps(value).encode()
    return b"\n".join(lines)


def replace_one(value: Any, numbers: Numbers) -> Any:
    """Replace one value inside of a value, at any depth."""
    if isinstance(value, dict) and value and numbers.random() < 0.85:
        key = numbers.choice([*value, *value, numbers.choice(KEYS)])
        return {**value, key: replace_one(value.get(key), numbers)}
    if isinstance(value, list) and value and numbers.random() < 0.85:
        place = numbers.randrange(len(value))
        return [*value[:place], replace_one(value[place], numbers), *value[place + numbers.randint(0, 1) :]]
    return numbers.choice(ODD_VALUES)


MUTATIONS: list[Callable[[bytes, Numbers], bytes]] = [
    flip_bits,
    replace_bytes,
    shuffle_lines,
    replace_values,
    replace_values,
    replace_values,
]


def cut(body: bytes, numbers: Numbers) -> list[bytes]:
    places = sorted(numbers.randrange(len(body) + 1) for _ in range(numbers.choice([0, 1, 5, 50])))
    return [body[start:stop] for start, stop in zip([0, *places], [*places, len(body)], strict=True)]


def check(pieces: list[bytes]) -> tuple[list[Chunk], Reply, str]:
    """Read a stream to its end, whichever that is; assert what holds for each."""
    decoder = CompletionDecoder()
    chunks: list[Chunk] = []
    text, ending = "", "finished"

    def drain() -> None:
        nonlocal text
        for step in iter(decoder.next_chunk, None):
            text += step.text
            chunks.append(step)
            assert decoder.text == text  # nothing returned is taken back

    try:
        for piece in pieces:
            decoder.feed(piece)
            drain()
        decoder.end()
        drain()
        decoder.check_complete(require_finish=True)
    except StreamError as error:
        ending = f"{type(error).__name__}: {error}"
    reply = decoder.reply(complete=False, request_id=None)
    calls = [part for step in chunks for part in step.tool_calls]
    texts = [text, ending, reply.text, reply.reasoning, reply.refusal, reply.id, reply.model, reply.finish_reason]
    texts += [part for call in (*calls, *reply.tool_calls) for part in (call.id, call.name, call.arguments, call.type)]
    texts += [step.reasoning for step in chunks]
    texts += [json.dumps([reply.extra, reply.reasoning_fields, reply.message.to_dict()], ensure_ascii=False)]
    for part in texts:
        (part or "").encode()  # every text can be encoded
    assert "".join(part.arguments for part in calls) == "" or reply.tool_calls
    # Less than was returned if arguments that were "{}" at first are replaced.
    assert len("".join(part.arguments for part in calls)) >= sum(len(call.arguments) for call in reply.tool_calls)
    return chunks, reply, ending


@pytest.mark.parametrize("batch", range(BATCHES))
def test_damaged_streams_end_in_chunks_or_a_stream_error(batch: int, pytestconfig: pytest.Config) -> None:
    """Bits flipped, lines dropped, doubled and swapped, values replaced: nothing else escapes, however it is cut."""
    endings = set()
    for number in range(pytestconfig.getoption("--mutations") // BATCHES):
        numbers = Numbers(f"{batch} {number}")
        body = numbers.choice(STREAMS) or b"\n"
        for mutate in numbers.choices(MUTATIONS, k=numbers.randint(1, 3)):
            body = mutate(body, numbers) or b"\n"
        start = time.thread_time()
        try:
            whole = check([body])
            assert repr(check(cut(body, numbers))) == repr(whole)  # NaN in raw JSON is not equal to itself
        except BaseException as error:
            error.add_note(f"The stream was {body!r}.")
            raise
        assert time.thread_time() - start < 1, body
        endings.add(whole[2].partition(":")[0])
    assert endings == {"finished", "StreamTruncated", "StreamServerError", "StreamProtocolError"}


PIECES = st.text(st.characters(codec="utf-8"), max_size=4)
EVENTS = st.one_of(
    st.builds(lambda text: (chunk(text), text, ""), PIECES),
    st.builds(lambda text: (chunk(reasoning_content=text), "", text), PIECES),
    st.builds(lambda text: (call({"name": "f", "arguments": text}, index=0, id="a"), "", ""), PIECES),
    st.builds(lambda count: (data({"choices": [], "usage": usage(count, None, 1)}), "", ""), st.integers(0)),
    st.sampled_from(
        [(b": comment\n\n", "", ""), (b"retry: 1\n\n", "", ""), (STOP, "", ""), (b"event: ping\ndata: {}\n\n", "", "")]
    ),
)
LINE_ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@settings(deadline=None)
@given(
    st.lists(EVENTS, max_size=10), LINE_ENDS, st.lists(st.integers(0, 2_000), max_size=8), st.sampled_from([DONE, STOP])
)
def test_a_valid_stream_cut_anywhere_gives_the_same_reply(
    events: list[tuple[bytes, str, str]], line_end: bytes, places: list[int], last: bytes
) -> None:
    """Where the bytes are cut makes no difference, and the text is that of the events."""
    body = b"".join(event for event, _, _ in events) + last
    body = body.replace(b"\n", line_end)
    bounds = sorted({0, len(body), *(min(place, len(body)) for place in places)})
    pieces = [body[start:stop] for start, stop in pairwise(bounds)]
    outcome = replay(pieces)
    assert outcome == replay([body])
    assert (outcome.error is None) == bool(outcome.chunks)  # [DONE] after nothing at all is no answer
    assert outcome.reply.text == "".join(text for _, text, _ in events)
    assert outcome.reply.reasoning == "".join(reasoning for _, _, reasoning in events)
