"""The exception tree."""

from __future__ import annotations

import errno
import json
import pickle
import socket
import ssl
from typing import Any

import openai
import pydantic
import pytest

import blades
from blades import (
    Agent,
    BladesError,
    ConfigError,
    PromptError,
    Reply,
    ReplyParseError,
    StreamError,
    StreamInterrupted,
    StreamProtocolError,
    StreamServerError,
    StreamState,
    StreamTimeout,
    StreamTruncated,
    ToolCall,
    ToolError,
    ToolFailed,
    ToolRoundsExceeded,
)
from blades._errors import without_traceback
from blades.testing import Answer, End, LocalServer

REQUEST: Any = openai.OpenAI(api_key="k")._client.build_request("POST", "http://127.0.0.1")
RESPONSE: Any = type("Response", (), {"request": REQUEST, "status_code": 429, "headers": {}})()
STREAM_ERRORS = [
    StreamTruncated,
    StreamInterrupted,
    StreamServerError,
    StreamProtocolError,
    StreamTimeout,
    ToolFailed,
    ToolRoundsExceeded,
]


class OddError(ValueError):
    """Takes other arguments than it keeps."""

    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}", "more")


class SlottedError(Exception):
    """Keeps a value in a slot."""

    __slots__ = ("detail", "unset")

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.detail = 7


def test_the_tree_is_as_documented() -> None:
    """Users catch by base class, and by the standard exceptions that two of them also are."""
    assert all(issubclass(error, StreamError) for error in STREAM_ERRORS)
    assert all(issubclass(error, BladesError) for error in (StreamError, ConfigError, PromptError))
    assert all(issubclass(error, BladesError) for error in (ReplyParseError, ToolError))
    assert issubclass(PromptError, ValueError)
    assert issubclass(ReplyParseError, ValueError)
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


@pytest.mark.parametrize(
    "error",
    [
        StreamTimeout("message"),
        StreamServerError("message", "more"),
        openai.APITimeoutError(request=REQUEST),
        openai.APIConnectionError(message="message", request=REQUEST),
        openai.RateLimitError("message", response=RESPONSE, body={"code": "slow"}),
        KeyError("name"),
        OSError(errno.ECONNRESET, "message"),
        ImportError("message", name="module"),
        UnicodeEncodeError("utf-8", "a\ud83d", 1, 2, "surrogates not allowed"),
        ssl.SSLCertVerificationError(1, "message"),
        socket.gaierror(socket.EAI_NONAME, "message"),
        json.JSONDecodeError("message", "{", 1),
        ExceptionGroup("message", [ValueError("inner")]),
        KeyboardInterrupt(),
        AttributeError("message", name="name", obj=5),
        NameError("message", name="name"),
        ImportError("message", name="module", path="/path"),
        FileNotFoundError(errno.ENOENT, "message", "/path"),
        OddError(5),
        SlottedError("message"),
        StreamServerError("message", type="t", code="c", error={"a": 1}),
        ToolFailed("message", call=ToolCall(name="f")),
        ReplyParseError("message", text="t", reply=Reply("t"), errors=({"loc": ()},)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_copy_of_an_exception_says_the_same(error: BaseException) -> None:
    """Of any kind: its text, its attributes and its cause; but it has no traceback."""
    error.add_note("note")
    with pytest.raises(type(error)) as caught:
        raise error from LookupError("cause")
    copy = without_traceback(caught.value)
    assert type(copy) is type(error)
    assert (str(copy), repr(copy), copy.args) == (str(error), repr(error), error.args)
    assert vars(copy) == vars(error)
    for name in ("name", "path", "obj", "errno", "strerror", "filename", "detail"):
        assert getattr(copy, name, None) == getattr(error, name, None)
    assert repr(copy.__cause__) == repr(error.__cause__)
    assert copy.__traceback__ is None


def test_what_cannot_be_copied_is_raised_again_itself(server: LocalServer) -> None:
    """A caller's hook raises an exception that only the code of an extension can make; the stream fails."""

    def hook(_: object) -> None:
        pydantic.TypeAdapter(int).validate_python("no number")

    http_client = openai.DefaultHttpxClient(event_hooks={"response": [hook]})
    with openai.OpenAI(base_url=server.base_url, api_key="k", http_client=http_client, max_retries=0) as client:
        stream = Agent("test", model="m", client=client).run_stream("go")
        for _ in range(2):
            with pytest.raises((pydantic.ValidationError, openai.APIConnectionError)) as caught:
                stream.next()  # an official client 2.x wraps it
            assert isinstance(caught.value.__cause__ or caught.value, pydantic.ValidationError)
            assert stream.state is StreamState.FAILED


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


def test_exceptions_are_called_as_they_are_imported() -> None:
    """A traceback names an exception by its public name, under which pickle finds it as well."""
    for name in blades.__all__:
        value = getattr(blades, name)
        if isinstance(value, type) and issubclass(value, BaseException):
            assert (value.__module__, value.__qualname__) == ("blades", name)
            assert type(pickle.loads(pickle.dumps(value("message")))) is value


def test_an_error_says_what_was_handed_out() -> None:
    """A reply attached to an error is on its three attributes."""
    error = StreamTruncated("message")
    assert (error.text, error.reply, error.request_id) == ("", Reply(), None)
    error.attach_reply(Reply("half", request_id="r"))
    assert (error.text, error.reply.text, error.request_id) == ("half", "half", "r")


def test_causes_in_a_circle_are_copied_once() -> None:
    """A chain of causes that leads back to itself has an end."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    copy = without_traceback(first)
    assert copy.__cause__ is not None
    assert copy.__cause__ is not second
    assert copy.__cause__.__cause__ is None


def test_what_cannot_be_copied_is_kept() -> None:
    """An exception that only an extension can make is returned as it is."""
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(int).validate_python("no number")
    assert without_traceback(caught.value) is caught.value


def test_the_exceptions_among_its_arguments_are_copied_as_well() -> None:
    """The HTTP library's are made of those of the layer below, whose tracebacks refer to the same frames."""
    try:
        raise OSError(5, "below")
    except OSError as below:
        error = ConnectionError(below)
    copy = without_traceback(error)
    assert repr(copy) == repr(error)
    assert error.args[0].__traceback__ is not None
    assert copy.args[0].__traceback__ is None
