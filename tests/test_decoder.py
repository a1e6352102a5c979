"""The assembly: bytes to chunks, totals and verdict. What servers send is in the wire table, `wire.py`."""

from __future__ import annotations

import gc
import json
import pickle
import tracemalloc

import pytest

from blades._errors import StreamError, StreamProtocolError, StreamServerError
from blades._values import ResponseInfo
from blades._wire.decoder import CompletionDecoder
from wire_cases import BASE_URL, DONE, HELLO, HTML, ROWS, STOP, Case, chunk, data, replays

HEAD = ResponseInfo(200, "text/html", "https://user:secret@example.com/v1?key=secret", "r1")


def test_a_usual_stream_is_handed_out_chunk_by_chunk() -> None:
    """Nothing is parsed before it is asked for: the totals are those of what was returned."""
    decoder = CompletionDecoder()
    decoder.feed(HELLO + STOP + data({"choices": [], "usage": {"prompt_tokens": 1}}) + DONE + b"data: not read\n\n")
    assert (decoder.text, decoder.chunks, decoder.id) == ("", 0, None)
    first = decoder.next_chunk()
    assert (str(first), decoder.text, decoder.chunks, decoder.finished) == ("Hel", "Hel", 1, False)
    second = decoder.next_chunk()
    assert (str(second), decoder.text, decoder.finish_reason) == ("lo", "Hello", None)
    last = decoder.next_chunk()
    assert last is not None
    assert (last.text, last.finish_reason, decoder.finished, decoder.done) == ("", "stop", True, False)
    assert decoder.usage is None
    assert decoder.next_chunk() is None
    assert (decoder.done, decoder.chunks) == (True, 3)
    assert decoder.next_chunk() is None
    decoder.check_complete(require_finish=True)
    reply = decoder.reply(complete=True, request_id="r1")
    assert (reply.text, reply.finish_reason, reply.model, reply.id) == ("Hello", "stop", "m", "c1")
    assert (reply.request_id, reply.complete, reply.reasoning, reply.refusal) == ("r1", True, "", "")


def test_a_chunk_holds_what_came_with_it() -> None:
    """Usage in the event of a chunk is on the chunk, and the event's JSON is as it was parsed."""
    (only,) = replays(chunk("a", event={"usage": {"total_tokens": 3}, "x": [1]}) + DONE).chunks
    assert only.usage is not None
    assert (only.usage.prompt_tokens, only.usage.total_tokens, only.usage.raw) == (None, 3, {"total_tokens": 3})
    assert only.raw["x"] == [1]
    assert only.raw["choices"][0]["logprobs"] is None


def test_an_error_in_the_event_of_the_finish_reason_is_a_failure() -> None:
    """The answer is not known to be whole, whether or not anybody reads on."""
    decoder = CompletionDecoder()
    decoder.feed(chunk("a", finish_reason="stop", event={"error": {"message": "boom"}}) + DONE)
    assert decoder.next_chunk() is not None
    assert not decoder.finished
    with pytest.raises(StreamServerError, match="boom"):
        decoder.next_chunk()


def test_parts_of_tool_calls_are_on_the_chunks() -> None:
    """Each chunk has the parts of its event, and the totals the assembled calls."""
    start = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": "{}"}}
    outcome = replays(chunk(tool_calls=[start]) + chunk("text", tool_calls=[more]) + DONE)
    first, second = outcome.chunks
    assert [(part.index, part.id, part.name, part.arguments) for part in first.tool_calls] == [(0, "a", "f", "")]
    assert [(part.index, part.id, part.name, part.arguments) for part in second.tool_calls] == [(0, "", "", "{}")]
    assert second.text == "text"
    (call,) = outcome.reply.tool_calls
    assert (call.id, call.name, call.arguments, call.type) == ("a", "f", "{}", "function")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(HELLO + b"data: {no JSON\n\n" + STOP, StreamProtocolError, id="event"),
        pytest.param(HELLO + data({"error": "down"}) + STOP, StreamServerError, id="error"),
        pytest.param(HELLO + b"data: " + b"x" * 300, StreamProtocolError, id="limit"),
    ],
)
def test_a_failure_is_raised_once(body: bytes, error: type[StreamError]) -> None:
    """Nothing comes after a failure, and the text stays. The caller keeps the exception, not the decoder."""
    decoder = CompletionDecoder(limit_bytes=250)
    decoder.feed(body)
    assert [str(decoder.next_chunk()) for _ in range(2)] == ["Hel", "lo"]
    with pytest.raises(error):
        decoder.next_chunk()
    decoder.feed(HELLO)
    decoder.end()
    assert decoder.next_chunk() is None
    assert not decoder.finished
    assert decoder.text == "Hello"


def test_a_protocol_error_tells_what_came_without_secrets() -> None:
    """Status, content type, the first 200 bytes, a hint at the base URL; not what is secret in it."""
    decoder = CompletionDecoder()
    decoder.start(HEAD)
    decoder.feed(b"<html>" + b"x" * 300)
    decoder.end()
    assert decoder.next_chunk() is None
    with pytest.raises(StreamProtocolError) as caught:
        decoder.check_complete(require_finish=False)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.status, error.content_type, error.body) == (200, "text/html", b"<html>" + b"x" * 194)
    assert str(error) == (
        f"expected a stream of chat completion chunks, got '<html>{'x' * 194}' (status 200, content type 'text/html'):"
        " check that the base_url 'https://example.com/v1' is that of a chat completions API"
    )


def test_the_cause_of_a_protocol_error_is_kept() -> None:
    """An event that is no JSON has the reader's exception as its cause."""
    decoder = CompletionDecoder()
    decoder.feed(b"data: {no JSON}\n\n")
    with pytest.raises(StreamProtocolError) as caught:
        decoder.next_chunk()
    assert isinstance(caught.value.__cause__, json.JSONDecodeError)


def test_a_server_error_is_bounded() -> None:
    """A server's message is kept, but not without end."""
    outcome = replays(data({"error": {"message": "x" * 100_000}}))
    assert outcome.error is not None
    assert outcome.error[1] == "The server sent an error: " + "x" * 4000


@pytest.mark.parametrize("body", [HELLO, b": only a comment\n\n"], ids=["text", "comment"])
def test_without_require_finish_a_proper_end_is_enough(body: bytes) -> None:
    """The caller can say that a server never sends a finish reason."""
    assert replays(body, require_finish=False).error is None
    assert replays(body).error is not None


@pytest.mark.parametrize("body", [b"", b"plain", b"<html>"], ids=str)
def test_without_require_finish_what_is_no_stream_still_raises(body: bytes) -> None:
    """A body that is no answer at all does not become an empty one."""
    outcome = replays(body, head=ResponseInfo(200, "text/plain", BASE_URL), require_finish=False)
    assert outcome.error is not None
    assert outcome.error[0] is StreamProtocolError


def test_a_truncated_answer_tells_what_to_do() -> None:
    """The message says how far it came, and what can be done."""
    outcome = replays(HELLO + b"proxy: gone\n")
    assert outcome.error is not None
    assert outcome.error[1] == (
        "expected a finish reason or [DONE], got the end of the body after 2 chunks; the last thing not understood was"
        " 'proxy: gone': ask again, or pass require_finish=False if this server never sends one"
    )


def test_a_long_stream_takes_the_memory_of_its_text() -> None:
    """Chunks that the caller drops are gone, events and their bytes as well."""
    piece = chunk("word ") * 100
    decoder = CompletionDecoder()

    def run(times: int) -> None:
        for _ in range(times):
            decoder.feed(piece)
            for _ in iter(decoder.next_chunk, None):
                pass

    run(1)
    gc.collect()
    tracemalloc.start()
    run(200)
    gc.collect()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert decoder.chunks == 20_100
    assert kept < 3 * len(decoder.text) + 100_000
    assert peak < 1_000_000  # 3 MB of events went through


@pytest.mark.parametrize("case", {case.error: case for case in ROWS if len(case.body) < 10_000}.values(), ids=str)
def test_a_stream_leaves_no_reference_cycle(case: Case) -> None:
    """What a stream took is gone when the stream is, however it ended, without a garbage collection."""

    def read() -> None:
        decoder = CompletionDecoder()
        decoder.feed(case.body)
        try:
            list(iter(decoder.next_chunk, None))
            decoder.end()
            list(iter(decoder.next_chunk, None))
            decoder.check_complete(require_finish=True)
        except StreamError:
            decoder.reply(complete=False, request_id=None)

    read()
    gc.collect()
    gc.disable()
    try:
        read()
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("base_url", "body", "hint"),
    [
        pytest.param(
            "https://x.example", HTML, "'https://x.example' is the API's: it usually ends in /v1", id="no /v1"
        ),
        pytest.param("https://x.example/", b"", "it usually ends in /v1", id="no /v1, empty"),
        pytest.param("https://x.example/v1/", HTML, "is that of a chat completions API", id="a page"),
        pytest.param("https://x.example/v1", b"", "", id="empty"),
        pytest.param("https://x.example", HELLO + b"data: {nonsense\n\n", "", id="one broken event"),
    ],
)
def test_the_base_url_is_named_where_it_may_be_wrong(base_url: str, body: bytes, hint: str) -> None:
    """An empty answer of the right address, or one broken event of a stream, has another reason."""
    outcome = replays(body, head=ResponseInfo(200, "text/html", base_url))
    assert outcome.error is not None
    raised, message = outcome.error
    assert raised is StreamProtocolError
    assert ("base_url" in message) == bool(hint)
    assert message.endswith(hint)
