"""The exception tree."""

from __future__ import annotations

import pickle

import pytest

import blades
from blades import (
    Agent,
    BladesError,
    ConfigError,
    PromptError,
    StreamError,
    StreamInterrupted,
    StreamProtocolError,
    StreamServerError,
    StreamTimeout,
    StreamTruncated,
)
from blades.testing import Answer, End, LocalServer

STREAM_ERRORS = [StreamTruncated, StreamInterrupted, StreamServerError, StreamProtocolError, StreamTimeout]


def test_the_tree_is_as_documented() -> None:
    """Users catch by base class, and by the standard exceptions that two of them also are."""
    assert all(issubclass(error, StreamError) for error in STREAM_ERRORS)
    assert all(issubclass(error, BladesError) for error in (StreamError, ConfigError, PromptError))
    assert issubclass(PromptError, ValueError)
    assert issubclass(StreamTimeout, TimeoutError)


def test_an_error_of_a_stream_survives_pickling(server: LocalServer, agent: Agent) -> None:
    """From a worker process it arrives with its text, reply and request id."""
    server.add(Answer("half", End(), headers={"X-Request-Id": "req-1"}))
    with pytest.raises(StreamTruncated) as caught:
        agent.run("go")
    landed = pickle.loads(pickle.dumps(caught.value))
    assert type(landed) is StreamTruncated
    assert str(landed) == str(caught.value)
    assert (landed.text, landed.reply, landed.request_id) == ("half", caught.value.reply, "req-1")


@pytest.mark.parametrize("error", STREAM_ERRORS)
def test_details_survive_pickling(error: type[StreamError]) -> None:
    """Whatever is on an error comes along."""
    raised = error("message")
    raised.text = "half"
    landed = pickle.loads(pickle.dumps(raised))
    assert (type(landed), landed.args, landed.text) == (error, ("message",), "half")


def test_the_public_names_are_sorted_and_there() -> None:
    """`from blades import *` gives what the documentation names."""
    assert blades.__all__ == sorted(blades.__all__)
    assert all(hasattr(blades, name) for name in blades.__all__)
