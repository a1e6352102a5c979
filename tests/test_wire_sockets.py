"""Every oddity of the wire, and every recorded answer, over real sockets through `Stream`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import openai
import pytest

from blades import Agent, StreamError, StreamProtocolError, StreamServerError, StreamState
from blades.testing import Answer, Cut, LocalServer, Stall
from wire_cases import BASE_URL, CAPTURES, DONE, HELLO, ROWS, STOP, Case, cuts, recorded, recorded_text

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES = 3000  # longer bodies are not sent byte by byte here; the pure core gets them so


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[LocalServer, Agent]]:
    """One server and one agent for all cases: making a client takes longer than a case."""
    with LocalServer() as server:
        yield server, Agent("test", model="m", base_url=server.base_url, api_key="k", max_retries=0)


def served(case: Case, pieces: list[bytes]) -> Answer:
    """Script the answer of a case, sent in these pieces."""
    steps: list[bytes | Cut | Stall] = list(filter(None, pieces))
    if case.ending in ("cut", "hold"):
        steps.append(Cut() if case.ending == "cut" else Stall())
    headers: dict[str, str | None] = {"Content-Type": case.content_type or None, "X-Request-Id": "req-7"}
    if case.encoding:
        headers["Content-Encoding"] = case.encoding
    framing: Literal["close", "chunked"] = "close" if case.ending == "close" else "chunked"
    return Answer(*steps, status=case.status, headers=headers, framing=framing, done=False)


@pytest.mark.parametrize(
    ("case", "how"),
    [
        pytest.param(case, how, id=f"{case} {how}")
        for case in ROWS
        for how in ("whole", "byte by byte", "at random")
        if how != "byte by byte" or len(case.encoded) <= MOST_BYTES
    ],
)
def test_a_row_of_the_wire_table_gives_its_result(case: Case, how: str, shared: tuple[LocalServer, Agent]) -> None:
    """Text, totals and ending of each row; every failure has the text, the reply and the request id on it."""
    server, agent = shared
    ways = cuts(case.encoded, seed=case.row)
    pieces = next(pieces for name, pieces in ways if name.startswith(how.removesuffix("random")))
    server.default = served(case, pieces)
    stream = agent.run_stream("go")
    texts: list[str] = []
    if case.client_error:
        with pytest.raises(getattr(openai, case.client_error)):
            list(stream)
        assert stream.state is StreamState.FAILED
        return
    if case.error is None:
        texts += [chunk.text for chunk in stream]
        assert stream.state is StreamState.FINISHED
    else:
        with pytest.raises(case.error) as caught:
            texts.extend(chunk.text for chunk in stream)  # what came before the failure stays in the list
        assert case.message.replace(BASE_URL, server.base_url) in str(caught.value)
        check_failure(caught.value, stream.text, case)
        with pytest.raises(case.error) as again:
            stream.next()
        assert repr(again.value) == repr(caught.value)
        assert vars(again.value) == vars(caught.value)
    assert tuple(texts) == case.texts
    assert (stream.text, stream.reasoning) == (case.text, case.reasoning)
    usage = stream.usage and (stream.usage.prompt_tokens, stream.usage.completion_tokens, stream.usage.total_tokens)
    assert (stream.finish_reason, usage) == (case.finish_reason, case.usage)
    assert tuple((call.id, call.name, call.arguments) for call in stream.tool_calls) == case.tool_calls


def check_failure(error: StreamError, text: str, case: Case) -> None:
    """Check what a user finds on an error."""
    assert error.text == text == case.text
    assert (error.reply.text, error.reply.refusal, error.reply.complete) == (case.text, case.refusal, False)
    assert error.request_id == "req-7"
    if isinstance(error, StreamServerError):
        assert (error.type, error.code) == (case.type, case.code)


@pytest.mark.parametrize("name", CAPTURES)
def test_a_recorded_answer_ends_as_stated(name: str, shared: tuple[LocalServer, Agent]) -> None:
    """Answers of real servers, with their status and headers, as a user of the library meets them."""
    server, agent = shared
    status, content_type, body = recorded(name)
    stated = CAPTURES[name]
    server.default = Answer.raw(body, status=status, content_type=content_type)
    stream = agent.run_stream("go")
    if stated.client_error:
        with pytest.raises(getattr(openai, stated.client_error)):
            stream.reply()
    elif stated.error is not None:
        with pytest.raises(stated.error, match=re.escape(stated.message)) as caught:
            stream.reply()
        assert caught.value.text == recorded_text(body)[0]
    else:
        assert stream.reply().text == recorded_text(body)[0]
        assert stream.finish_reason == stated.finish_reason


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_a_false_encoding_header_is_named(encoding: str, shared: tuple[LocalServer, Agent]) -> None:
    """A gzip header on plain text raises an error that says so, with the beginning of the body."""
    server, agent = shared
    server.default = Answer.raw(HELLO + STOP + DONE, headers={"Content-Encoding": encoding})
    with pytest.raises(StreamProtocolError, match=r"got b'data: .*its Content-Encoding header is false"):
        agent.run("go")
