"""A test of somebody else's freezes the clock: no time limit waits for it, and no time is measured by it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from freezegun import freeze_time

from blades import Agent, StreamState, StreamTimeout
from blades.testing import Answer, LocalServer, Stall
from limits import LIMIT_SECONDS, SOON_SECONDS, WRONG_PATH_SECONDS

PAST = "2020-01-01"


@pytest.fixture(autouse=True)
def _warm(agent: Agent) -> None:
    """Freezing would freeze the official client's import, too."""
    assert agent.run("warm").complete


@pytest.mark.parametrize("limit", ["timeout", "first_chunk_timeout", "stall_timeout"])
@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_limits_end_a_stalled_stream(limit: str, framing: Any, server: LocalServer, agent: Agent) -> None:
    """On the fast path and through the HTTP library."""
    text = [] if limit == "first_chunk_timeout" else ["a"]
    server.add(Answer(*text, Stall(), framing=framing))
    limits: dict[str, Any] = {limit: 1.0}
    began = time.monotonic()
    with freeze_time(PAST), pytest.raises(StreamTimeout, match=limit):
        agent.run("go", **limits)
    assert time.monotonic() - began < SOON_SECONDS


def test_held_connection_ends_a_finished_stream(server: LocalServer, agent: Agent) -> None:
    """What may follow a finish reason is awaited for a moment of real time."""
    server.add(Answer("a", {"choices": [{"delta": {}, "finish_reason": "stop"}]}, WRONG_PATH_SECONDS, done=False))
    began = time.monotonic()
    with freeze_time(PAST):
        assert agent.run("go").complete
    assert time.monotonic() - began < SOON_SECONDS


def test_back_off_ends(server: LocalServer, agent: Agent) -> None:
    """The official client's wait before a retry is one of real time."""
    server.add(Answer.error(503, "later", headers={"Retry-After-Ms": "20"}), "ok")
    with freeze_time(PAST):
        assert agent.run("go").text == "ok"


@pytest.mark.parametrize("when", ["begun", "read"])
def test_times_are_those_of_a_clock_that_goes_on(when: str, server: LocalServer, agent: Agent) -> None:
    """A stream that was begun or read while the clock stood still has lasted some seconds, not years."""
    server.add(Answer("a", 0.1, "b"))
    if when == "begun":
        with freeze_time(PAST):
            stream = agent.run_stream("go")
        reply = stream.reply()
    else:
        stream = agent.run_stream("go")
        with freeze_time(PAST):
            reply = stream.reply()
    assert (reply.text, stream.state) == ("ab", StreamState.FINISHED)
    assert stream.timing.first_chunk is not None
    assert 0 <= stream.timing.first_chunk <= stream.timing.total < LIMIT_SECONDS
