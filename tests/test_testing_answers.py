"""Answers of `blades.testing` beyond plain text: tool calls, JSON that fits a schema, recordings."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import subprocess
import sys
from datetime import date  # noqa: TC003 - pydantic reads the annotation
from typing import TYPE_CHECKING, Any, Literal

import openai
import pydantic
import pytest

from blades.testing import Answer, LocalServer
from blades.testing._schema import fit
from limits import START_SECONDS, WRONG_PATH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openai.types.chat import ChatCompletion

QUESTION = "What did we say about tea?"
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string"}, "limit": {"type": "integer", "default": 5}},
            "required": ["query"],
        },
    },
}
READ = {
    "type": "function",
    "function": {"name": "read", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}},
}


@pytest.fixture
def client(server: LocalServer) -> Iterator[openai.OpenAI]:
    """The official client, for the server of the test."""
    settings: dict[str, Any] = {"api_key": "k", "max_retries": 0, "timeout": WRONG_PATH_SECONDS}
    with openai.OpenAI(base_url=server.base_url, **settings) as made:
        yield made


def stream(client: openai.OpenAI, messages: list[Any], **options: Any) -> tuple[str, list[dict[str, Any]], str | None]:
    """Return the text, the tool calls and the finish reason of a streamed answer, put together as clients do."""
    text, calls, reason = "", dict[int, dict[str, Any]](), None
    for part in client.chat.completions.create(model="m", messages=messages, stream=True, **options):
        for choice in part.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
            for call in choice.delta.tool_calls or ():
                made = calls.setdefault(call.index, {"id": call.id, "type": call.type, "name": "", "arguments": ""})
                assert call.function is not None
                made["name"] += call.function.name or ""
                made["arguments"] += call.function.arguments or ""
    return text, list(calls.values()), reason


def ask(client: openai.OpenAI, content: str = QUESTION, **options: Any) -> tuple[str, list[dict[str, Any]], str | None]:
    return stream(client, [{"role": "user", "content": content}], **options)


class TestToolCalls:
    """`Answer(tool_calls=...)`."""

    ANSWER = Answer("Let me see.", tool_calls=[("search", {"query": "茶"}), ("now", "{}"), ("cut", '{"a')])

    def test_they_are_streamed(self, server: LocalServer, client: openai.OpenAI) -> None:
        """Names and ids come first, the arguments in parts; the finish reason says so."""
        server.add(self.ANSWER)
        text, calls, reason = ask(client)
        assert (text, reason) == ("Let me see.", "tool_calls")
        assert calls == [
            {"id": "call_1_1", "type": "function", "name": "search", "arguments": '{"query":"茶"}'},
            {"id": "call_1_2", "type": "function", "name": "now", "arguments": "{}"},
            {"id": "call_1_3", "type": "function", "name": "cut", "arguments": '{"a'},
        ]

    def test_they_come_whole_without_a_stream(self, server: LocalServer, client: openai.OpenAI) -> None:
        """A request that is no stream gets them on the message."""
        server.add(self.ANSWER, Answer(tool_calls=[("now", {})]))
        ask_whole = client.chat.completions.create
        whole: ChatCompletion = ask_whole(model="m", messages=[{"role": "user", "content": "x"}])
        calls: Any = whole.choices[0].message.tool_calls
        assert [call.function.name for call in calls] == ["search", "now", "cut"]
        assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("Let me see.", "tool_calls")
        bare = ask_whole(model="m", messages=[{"role": "user", "content": "x"}])
        assert bare.choices[0].message.content is None

    def test_a_dict_is_a_whole_call(self, server: LocalServer) -> None:
        """Fields that the API does not know are sent."""
        call = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}, "extra_content": {"a": 1}}
        server.add(Answer(tool_calls=[call], finish_reason="length"))
        with openai.OpenAI(base_url=server.base_url, api_key="k") as client:
            options: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "model": "m", "stream": True}
            with client.chat.completions.with_streaming_response.create(**options) as response:
                events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
        choices = [event["choices"][0] for event in events]
        assert choices[0]["delta"] == {"role": "assistant", "tool_calls": [{"index": 0, **call}]}
        assert choices[-1]["finish_reason"] == "length"

    def test_others_are_refused(self) -> None:
        """A call that is neither a pair nor a dict raises."""
        wrong: Any = ["search"]
        with pytest.raises(
            TypeError, match=r"expected a \(name, arguments\) pair or a dict as tool call, got 'search'"
        ):
            Answer(tool_calls=wrong)


class TestDemoTools:
    """Without a script, the tools that a request offers are called once."""

    def test_each_is_called_once(self, client: openai.OpenAI) -> None:
        """The calls have plausible arguments; the answer after them is about their results."""
        tools: dict[str, Any] = {"tools": [SEARCH, READ, {"type": "custom", "custom": {"name": "other"}}]}
        _, calls, reason = ask(client, **tools)
        assert reason == "tool_calls"
        assert [(call["name"], json.loads(call["arguments"])) for call in calls] == [
            ("search", {"query": QUESTION, "limit": 5}),
            ("read", {"path": "."}),
        ]
        messages: list[Any] = [{"role": "user", "content": QUESTION}, assistant(calls)]
        messages += [
            {"role": "tool", "tool_call_id": call["id"], "content": f"result\n{call['name']}"} for call in calls
        ]
        text, calls, reason = stream(client, messages, **tools)
        assert (calls, reason) == ([], "stop")
        assert "The tools returned: “result search”, “result read”." in text
        _, calls, _ = stream(client, [*messages, {"role": "user", "content": "And now?"}], **tools)
        assert len(calls) == 2

    def test_in_chinese(self, client: openai.OpenAI) -> None:
        """The answer about the results is in the language of the question."""
        call = {"id": "c", "name": "read", "arguments": "{}"}
        messages = [{"role": "user", "content": "茶怎么样?"}, assistant([call])]
        messages.append({"role": "tool", "tool_call_id": "c", "content": "很好"})
        assert "工具返回了：“很好”。" in stream(client, messages, tools=[READ])[0]

    @pytest.mark.parametrize(
        ("options", "names"),
        [
            ({"tool_choice": "none"}, []),
            ({"tool_choice": "required"}, ["search", "read"]),
            ({"tool_choice": {"type": "function", "function": {"name": "read"}}}, ["read"]),
            ({"parallel_tool_calls": False}, ["search"]),
        ],
    )
    def test_options_are_honoured(self, options: dict[str, Any], names: list[str], client: openai.OpenAI) -> None:
        """tool_choice and parallel_tool_calls choose the calls."""
        assert [call["name"] for call in ask(client, tools=[SEARCH, READ], **options)[1]] == names


def assistant(calls: list[dict[str, Any]]) -> dict[str, Any]:
    functions = [{"name": call["name"], "arguments": call["arguments"]} for call in calls]
    return {
        "role": "assistant",
        "tool_calls": [
            {"id": call["id"], "type": "function", "function": function}
            for call, function in zip(calls, functions, strict=True)
        ],
    }


class Tag(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=20, max_length=22)
    parent: Tag | None


class Box(pydantic.BaseModel):
    title: str
    count: int = pydantic.Field(ge=3, lt=10)
    below: int = pydantic.Field(lt=-2)
    weight: float = pydantic.Field(gt=1, multiple_of=0.5)
    day: date
    url: pydantic.HttpUrl
    tags: list[Tag] = pydantic.Field(min_length=3)
    pair: tuple[int, str]
    by_name: dict[str, bool]
    kind: Literal["a", "b"]
    unique: set[str]
    maybe: int | None


class TestSchemas:
    """A requested schema is filled."""

    def test_the_answer_fits(self, client: openai.OpenAI) -> None:
        """Strict validation accepts it, whether streamed or whole, recursion and limits included."""
        described = {"name": "box", "schema": Box.model_json_schema()}
        options: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": described}}
        text, _, reason = ask(client, **options)
        assert reason == "stop"
        box = Box.model_validate_json(text)
        assert box.title == "example title"
        assert len(box.tags) == 3
        messages: list[Any] = [{"role": "user", "content": "x"}]
        whole: Any = client.chat.completions.create(model="m", messages=messages, **options)
        assert Box.model_validate_json(whole.choices[0].message.content) == box

    def test_any_object(self, client: openai.OpenAI) -> None:
        """json_object gets an object."""
        assert json.loads(ask(client, response_format={"type": "json_object"})[0]) == {"question": QUESTION}

    @pytest.mark.parametrize(
        ("schema", "value"),
        [
            (True, "example value"),
            ({}, "example value"),
            ({"type": ["null", "integer"], "maximum": 0}, 0),
            ({"type": "number", "exclusiveMaximum": 1}, 0),
            ({"const": 1}, 1),
            ({"enum": ["x", "y"]}, "x"),
            ({"examples": ["tea"], "type": "string"}, "tea"),
            ({"oneOf": [{"type": "null"}, {"type": "boolean"}]}, True),
            ({"anyOf": [{"type": "null"}], "type": "null"}, None),
            ({"allOf": [{"minimum": 7}, {"type": "integer"}]}, 7),
            ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer"}}}, 1),
            ({"$ref": "#"}, "example value"),
            ({"items": {"type": "integer"}, "maxItems": 1}, [1]),
            ({"type": "array"}, []),
            ({"properties": {"a": {"$ref": "#"}}, "required": []}, {"a": {"a": {"a": {}}}}),
            ({"type": "string", "format": "unheard-of"}, "example value"),
        ],
        ids=repr,
    )
    def test_values(self, schema: Any, value: Any) -> None:
        """Each kind of schema has its value; none recurses for ever."""
        assert fit(schema, QUESTION) == value

    def test_endless_requirements_end(self) -> None:
        """An object that requires itself, and a list of itself, cannot be fitted, only ended."""
        assert fit({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, QUESTION)
        assert fit({"items": {"$ref": "#"}, "minItems": 1}, QUESTION)


HEAD = b"HTTP/1.1 429 Slow down\r\nContent-Type: text/plain\r\nX-Served-By: them\r\n"
BODY = b'data: {"choices":[{"index":0,"delta":{"content":"\xe8\x8c\xb6"}}]}\n\n'


def raw_answer(server: LocalServer) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of a request's answer."""
    connection = http.client.HTTPConnection(*server.address, timeout=WRONG_PATH_SECONDS)
    with contextlib.closing(connection):
        body = json.dumps({"messages": [{"role": "user", "content": "x"}], "stream": True})
        connection.request("POST", "/v1/chat/completions", body)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.headers.items()}, response.read()


class TestRecordings:
    """`Answer.recorded` and ``python -m blades.testing --replay``."""

    def answer(self, folder: Path, server: LocalServer, recording: bytes) -> tuple[int, dict[str, str], bytes]:
        """Replay these bytes."""
        (folder / "capture.sse").write_bytes(recording)
        server.add(Answer.recorded(folder / "capture.sse"))
        return raw_answer(server)

    def test_a_body_alone(self, server: LocalServer, tmp_path: Path) -> None:
        """It is an event stream with status 200."""
        status, headers, body = self.answer(tmp_path, server, BODY)
        assert (status, headers["content-type"], body) == (200, "text/event-stream; charset=utf-8", BODY)

    def test_headers_beside_it(self, server: LocalServer, tmp_path: Path) -> None:
        """They are sent, but for those of the transport and for an encoding that was undone."""
        lines = HEAD + b"content-length: 7\r\ncontent-encoding: gzip\r\nset-cookie: a=b\r\n"
        (tmp_path / "capture.headers").write_bytes(lines)
        status, headers, body = self.answer(tmp_path, server, BODY)
        assert (status, headers["content-type"], headers["x-served-by"], body) == (429, "text/plain", "them", BODY)
        assert headers["content-length"] == str(len(BODY))
        assert not {"content-encoding", "set-cookie"} & headers.keys()

    @pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
    def test_a_whole_response(self, newline: bytes, server: LocalServer, tmp_path: Path) -> None:
        """The last head counts, with any line end; a body that HTTP had decoded is framed again."""
        head = b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        status, headers, body = self.answer(tmp_path, server, head.replace(b"\r\n", newline) + BODY)
        assert (status, headers["transfer-encoding"], body) == (429, "chunked", BODY)

    def test_a_body_that_is_chunked(self, server: LocalServer, tmp_path: Path) -> None:
        """It is sent byte for byte, a missing end included."""
        chunks = HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"%x\r\n%b\r\n" % (len(BODY), BODY)
        assert self.answer(tmp_path, server, chunks + b"0\r\n\r\n")[2] == BODY
        with pytest.raises(http.client.IncompleteRead):
            self.answer(tmp_path, server, chunks)

    def test_compressed(self, server: LocalServer, tmp_path: Path) -> None:
        """A body that is still compressed keeps its encoding."""
        packed = gzip.compress(BODY)
        _, headers, body = self.answer(tmp_path, server, HEAD + b"Content-Encoding: gzip\r\n\r\n" + packed)
        assert (headers["content-encoding"], headers["connection"], body) == ("gzip", "close", packed)

    def test_as_a_process(self, tmp_path: Path) -> None:
        """--replay answers each request with the recording; a file that is not there ends it with a sentence."""
        (tmp_path / "capture.sse").write_bytes(BODY)
        command = [sys.executable, "-m", "blades.testing", "--replay"]
        with subprocess.Popen([*command, tmp_path / "capture.sse"], stdout=subprocess.PIPE, text=True) as child:
            try:
                assert child.stdout is not None
                url = child.stdout.readline().strip()
                with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
                    assert [ask(client)[0] for _ in range(2)] == ["茶", "茶"]
            finally:
                child.terminate()
        missing = subprocess.run(
            [*command, tmp_path / "none.sse"], capture_output=True, text=True, timeout=START_SECONDS, check=False
        )
        assert missing.returncode == 2
        assert "cannot read the recording" in missing.stderr
        assert "Traceback" not in missing.stderr
