"""Random valid streams, read by this library and by the official client: both give the same."""

from __future__ import annotations

import gzip
import json
import zlib
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState

from blades import Agent
from blades.testing import Answer, LocalServer
from wire_cases import DONE, chunk, data, replays, usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENCODE: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}

TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
CALLS = st.lists(st.tuples(st.sampled_from(["f", "get_weather"]), st.lists(TEXTS, max_size=3)), max_size=3)
PIECES = st.lists(
    st.one_of(
        st.tuples(st.just("content"), TEXTS),
        st.tuples(st.just("refusal"), TEXTS),
        st.tuples(st.just("call"), st.integers(0, 2)),
    ),
    max_size=12,
)
ENDS = st.tuples(
    st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    st.none() | st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[LocalServer, Agent, openai.OpenAI]]:
    """One server, and both ways to ask it: making a client takes longer than an example."""
    with LocalServer() as server, openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        yield server, Agent("test", model="m", base_url=server.base_url, api_key="k", max_retries=0), client


def stream_of(
    pieces: list[tuple[str, Any]], calls: list[tuple[str, list[str]]], end: tuple[str, tuple[int, int] | None]
) -> bytes:
    """Write a stream as OpenAI does: each call begins with its name, its arguments follow in pieces."""
    events = [chunk("", role="assistant")]
    begun = 0
    left = {index: list(arguments) for index, (_, arguments) in enumerate(calls)}
    for kind, value in pieces:
        if kind != "call":
            events.append(chunk(**{kind: value}))
        elif value < begun and left[value]:
            part = {"index": value, "function": {"arguments": left[value].pop(0)}}
            events.append(chunk(tool_calls=[part]))
        elif begun < len(calls):
            function = {"name": calls[begun][0], "arguments": ""}
            part = {"index": begun, "id": f"call_{begun}", "type": "function", "function": function}
            events.append(chunk(tool_calls=[part]))
            begun += 1
    reason, tokens = end
    events.append(chunk(finish=reason))
    if tokens is not None:
        events.append(data({"choices": [], "usage": usage(*tokens, sum(tokens))}))
    return b"".join(events) + DONE


def officially(client: openai.OpenAI) -> dict[str, Any]:
    """Return what the official client reads, by its own accumulation."""
    state = ChatCompletionStreamState()
    messages: Any = [{"role": "user", "content": "go"}]
    for event in client.chat.completions.create(model="m", messages=messages, stream=True):
        state.handle_chunk(event)
    snapshot = state.current_completion_snapshot
    (choice,) = snapshot.choices
    found = choice.message
    return {
        "text": found.content or "",
        "refusal": found.refusal or "",
        "calls": [(call.id, call.function.name, call.function.arguments) for call in found.tool_calls or ()],
        "finish_reason": choice.finish_reason,
        "usage": snapshot.usage
        and (snapshot.usage.prompt_tokens, snapshot.usage.completion_tokens, snapshot.usage.total_tokens),
        "ids": (snapshot.id, snapshot.model),
    }


@settings(deadline=None, max_examples=60)
@given(
    pieces=PIECES,
    calls=CALLS,
    end=ENDS,
    encoding=st.sampled_from(sorted(ENCODE)),
    framing=st.sampled_from(["chunked", "length", "close"]),
)
def test_both_clients_read_the_same(
    *,
    shared: tuple[LocalServer, Agent, openai.OpenAI],
    pieces: list[tuple[str, Any]],
    calls: list[tuple[str, list[str]]],
    end: tuple[str, tuple[int, int] | None],
    encoding: str,
    framing: Literal["chunked", "length", "close"],
) -> None:
    """Text, refusal, tool calls, finish reason, usage, id and model agree, in every transfer encoding."""
    server, agent, client = shared
    body = ENCODE[encoding](stream_of(pieces, calls, end))
    server.default = Answer.raw(body, headers={"Content-Encoding": encoding or None}, framing=framing)
    reply = agent.run("go")
    found = reply.usage
    ours = {
        "text": reply.text,
        "refusal": reply.refusal,
        "calls": [(call.id, call.name, call.arguments) for call in reply.tool_calls],
        "finish_reason": reply.finish_reason,
        "usage": found and (found.prompt_tokens, found.completion_tokens, found.total_tokens),
        "ids": (reply.id, reply.model),
    }
    assert ours == officially(client)


LEAF = object()
NAMES = st.text("xyz", min_size=1, max_size=2)
SHAPES = st.recursive(
    st.just(LEAF),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=6,
)
PLACES = st.sampled_from(["delta", "choice", "event", "only event"])


@settings(deadline=None)
@given(st.lists(st.tuples(PLACES, NAMES, SHAPES), min_size=1, max_size=6))
def test_no_unknown_value_is_lost(fields: list[tuple[str, str, Any]]) -> None:
    """Every text in a field that nobody here knows is in some chunk's raw event, and in the reply's other fields."""
    leaves = (f"<{number}>" for number in count())
    body = b""
    for place, name, shape in fields:
        value = filled(shape, leaves)
        if place == "delta":
            body += chunk(**{name: value})
        elif place == "choice":
            body += data({"choices": [{"index": 0, "delta": {}, name: value}]})
        elif place == "event":
            body += chunk("text", event={name: value})
        else:
            body += data({"choices": [], name: value})
    outcome = replays(body + chunk(finish="stop"))
    raw = json.dumps([step.raw for step in outcome.chunks])
    extra = json.dumps(outcome.reply.extra)
    for number in range(int(next(leaves)[1:-1])):
        assert f"<{number}>" in raw
        assert f"<{number}>" in extra


def filled(shape: Any, leaves: Iterator[str]) -> Any:
    """Put a text of its own at each leaf."""
    if isinstance(shape, list):
        return [filled(inner, leaves) for inner in shape]
    if isinstance(shape, dict):
        return {name: filled(inner, leaves) for name, inner in shape.items()}
    return next(leaves)
