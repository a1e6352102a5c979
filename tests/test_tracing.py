"""Each call is a span, by the conventions for generative AI; without OpenTelemetry nothing happens."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import weakref
from contextvars import ContextVar, copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import openai
import pytest

from blades import Agent, Message, Reply, StreamError, StreamState, ToolCall, Usage
from blades.testing import Answer, Cut, LocalServer, Stall, chunk

pytest.importorskip("opentelemetry.sdk.trace")
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from blades._output import tracing
from limits import LIMIT_SECONDS, START_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "sk-a-secret"
PROMPT = "a private question"
TEXT = "a private answer"


class Ended(SpanProcessor):
    """Hands over each span as it ends, in whichever thread."""

    def __init__(self) -> None:
        self.spans: SimpleQueue[ReadableSpan] = SimpleQueue()

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span."""
        self.spans.put(span)

    def next(self) -> ReadableSpan:
        """Wait for the next span."""
        return self.spans.get(timeout=LIMIT_SECONDS)

    def next_of(self, name: str) -> dict[str, Any]:
        """Wait for the next span and return its attributes."""
        span = self.next()
        assert span.name == name
        return dict(span.attributes or {})


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    """The process's tracer provider, which can be set only once."""
    made = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(made)
    return made


@pytest.fixture
def ended(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> Ended:
    """The spans that end during a test."""
    monkeypatch.delenv(tracing.CAPTURE_VARIABLE, raising=False)
    processor = Ended()
    monkeypatch.setattr(provider._active_span_processor, "_span_processors", (processor,))
    return processor


def test_a_call_is_a_span(server: LocalServer, ended: Ended) -> None:
    """It records request and answer under the names of the conventions."""
    usage = {
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    server.add(Answer(TEXT, usage=usage, finish_reason="length"))
    options: dict[str, Any] = {"temperature": 0.5, "max_tokens": 7, "stop": ["end", "stop"], "seed": 1}
    with Agent("poet", model="model-1", base_url=server.base_url, api_key=KEY, **options) as agent:
        stream = agent.run_stream(PROMPT, top_p=1, reasoning_effort="low", response_format={"type": "json_object"})
        stream.reply()
    span = ended.next()
    attributes = dict(span.attributes or {})
    first_chunk = attributes.pop("gen_ai.response.time_to_first_chunk")
    assert first_chunk == pytest.approx(stream.timing.first_chunk, abs=0.1)
    assert attributes == {
        "gen_ai.agent.name": "poet",
        "gen_ai.operation.name": "chat",
        "gen_ai.output.type": "json",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.model": "model-1",
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.request.seed": 1,
        "gen_ai.request.stop_sequences": ("end", "stop"),
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1,
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.response.id": stream.id,
        "gen_ai.response.model": stream.model,
        "gen_ai.usage.cache_read.input_tokens": 8,
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "openai.api.type": "chat_completions",
        "server.address": "127.0.0.1",
        "server.port": server.address[1],
    }
    assert (span.name, span.kind, span.parent) == ("chat model-1", trace.SpanKind.CLIENT, None)
    assert span.status.status_code is trace.StatusCode.UNSET
    assert span.events == ()
    assert KEY not in span.to_json()


def test_nothing_is_invented(agent: Agent, server: LocalServer, ended: Ended) -> None:
    """What the server did not send is not on the span."""
    server.add(Answer(b'data: {"choices": [{"delta": {"content": "x"}}]}\n\ndata: [DONE]\n\n', done=False))
    agent.run(PROMPT)
    named = [name for name in ended.next_of("chat test-model") if name.startswith(("gen_ai.response", "gen_ai.usage"))]
    assert named == ["gen_ai.response.time_to_first_chunk"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(Answer("Hel", Cut()), "StreamInterrupted", id="cut"),
        pytest.param(Answer("Hel", done=False), "StreamTruncated", id="truncated"),
        pytest.param(Answer.error(400, f"{PROMPT} {KEY}"), "BadRequestError", id="status"),
    ],
)
def test_a_failure_is_an_error(agent: Agent, server: LocalServer, ended: Ended, answer: Answer, error: str) -> None:
    """Its class is recorded. Its message is not: it can hold parts of keys and prompts."""
    server.add(answer)
    with pytest.raises((StreamError, openai.OpenAIError)):
        agent.run(PROMPT)
    span = ended.next()
    found = dict(span.attributes or {})
    assert found["error.type"] == error
    assert ("gen_ai.response.id" in found) == error.startswith("Stream")  # the partial answer is recorded
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, None)
    assert not any(text in span.to_json() for text in (PROMPT, KEY, "Hel"))


def leave_loop(agent: Agent) -> None:
    for _ in agent.run_stream(PROMPT):
        break


def cancel_before(agent: Agent) -> None:
    cancel = threading.Event()
    cancel.set()
    agent.run(PROMPT, cancel=cancel)


def drop(agent: Agent) -> None:
    agent.run_stream(PROMPT).next()


@pytest.mark.parametrize("end", [leave_loop, cancel_before, drop])
def test_a_cancelled_call_is_no_error(
    agent: Agent, server: LocalServer, ended: Ended, end: Callable[[Agent], None]
) -> None:
    """Its status is unset, an attribute says so. The span keeps no reference to the stream, so dropping it cancels."""
    server.add(Answer("Hel", Stall()))
    end(agent)
    span = ended.next()
    attributes = dict(span.attributes or {})
    assert attributes["blades.cancelled"] is True
    assert "error.type" not in attributes
    assert span.status.status_code is trace.StatusCode.UNSET


def test_nothing_is_kept(agent: Agent, ended: Ended) -> None:
    """When a call is over, neither its stream nor its scope waits for the garbage collector."""
    gc.disable()
    try:
        stream = agent.run_stream(PROMPT)
        stream.reply()
        gone = weakref.ref(stream), weakref.ref(stream._call.totals)
        ended.next()
        del stream
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("value", [None, "false", "event_only", "no_content"])
def test_text_stays_private(
    agent: Agent, server: LocalServer, ended: Ended, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """A span holds nothing of prompt and answer by default."""
    if value is not None:
        monkeypatch.setenv(tracing.CAPTURE_VARIABLE, value)
    server.add(TEXT)
    agent.run(PROMPT)
    shown = ended.next().to_json()
    assert PROMPT not in shown
    assert TEXT not in shown


@pytest.mark.parametrize("value", ["true", "SPAN_ONLY", "span_and_event"])
def test_text_is_recorded_on_request(
    server: LocalServer, ended: Ended, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """By the conventions' own variable, in the conventions' parts, as JSON."""
    monkeypatch.setenv(tracing.CAPTURE_VARIABLE, value)
    call = {"index": 0, "id": "call_2", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    server.add(Answer(chunk(reasoning_content="Hm."), TEXT, chunk(tool_calls=[call])))
    asked = {"id": "call_1", "type": "function", "function": {"name": "ask", "arguments": '{"who": "me"}'}}
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    prompt = [
        Message("user", [{"type": "text", "text": PROMPT}, picture]),
        Message("assistant", None, tool_calls=[asked, "no call", {"type": "custom"}]),
        Message("tool", "42", tool_call_id="call_1"),
    ]
    with Agent("a", model="m", instructions="Be brief.", base_url=server.base_url, api_key=KEY) as agent:
        agent.run(prompt)
    attributes = ended.next_of("chat m")
    assert json.loads(attributes["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": PROMPT}, picture]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "call_1", "name": "ask", "arguments": '{"who": "me"}'}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "42"}]},
    ]
    assert json.loads(attributes["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm."},
                {"type": "text", "content": TEXT},
                {"type": "tool_call", "id": "call_2", "name": "look", "arguments": "{}"},
            ],
            "finish_reason": "stop",
        }
    ]


def test_no_answer_is_no_message(agent: Agent, server: LocalServer, ended: Ended, monkeypatch: Any) -> None:
    """An answer without a word is not recorded as one."""
    monkeypatch.setenv(tracing.CAPTURE_VARIABLE, "true")
    server.add(Answer())
    agent.run(PROMPT)
    attributes = ended.next_of("chat test-model")
    assert "gen_ai.input.messages" in attributes
    assert "gen_ai.output.messages" not in attributes


def test_spans_nest(server: LocalServer, ended: Ended) -> None:
    """The caller's span is the parent, and the HTTP library's request, in the opening thread, is a child."""
    tracer = trace.get_tracer("test")

    def instrument(_request: object) -> None:
        with tracer.start_as_current_span("http"):
            pass

    http = openai.DefaultHttpxClient(event_hooks={"request": [instrument]})
    client = openai.OpenAI(base_url=server.base_url, api_key=KEY, http_client=http)
    with client, tracer.start_as_current_span("caller"):
        Agent("a", model="m", client=client).run(PROMPT)
    spans = {span.name: span for span in (ended.next() for _ in range(3))}
    caller, chat, request = (spans[name] for name in ("caller", "chat m", "http"))
    assert chat.parent == caller.context
    assert request.parent == chat.context
    assert (chat.attributes or {})["server.port"] == server.address[1]


BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
CALL = ToolCall(0, "call_1", "search", '{"query": "tea"}')


def test_tool_call_has_spans_for_requests_and_tools(ended: Ended) -> None:
    """The spans of its requests and tools are children of the call's, and each is current where it works."""
    context = copy_context()
    end_call = context.run(tracing.start_agent_span, "poet", BODY, None)
    request_context, tool_context = context.copy(), context.copy()
    end_request = request_context.run(tracing.start_span, "poet", BODY, None)
    end_tool = tool_context.run(tracing.start_tool_span, CALL)
    assert end_call is not None
    assert end_request is not None
    assert end_tool is not None
    current = [run.run(trace.get_current_span) for run in (context, request_context, tool_context)]
    end_request(Reply(finish_reason="tool_calls"), StreamState.FINISHED, None, 0.5)
    end_tool("3 items", None)
    end_call(Reply(usage=Usage(7, 5)), StreamState.FINISHED, None, 0.5)
    request, tool, call = (ended.next() for _ in range(3))
    assert [span.name for span in (call, request, tool)] == ["invoke_agent poet", "chat m", "execute_tool search"]
    assert [span.context for span in (call, request, tool)] == [span.get_span_context() for span in current]
    assert call.parent is None
    assert request.parent == tool.parent == call.context
    assert (call.kind, request.kind, tool.kind) == (
        trace.SpanKind.INTERNAL,
        trace.SpanKind.CLIENT,
        trace.SpanKind.INTERNAL,
    )
    attributes = dict(call.attributes or {})
    assert attributes["gen_ai.operation.name"] == "invoke_agent"
    assert attributes["gen_ai.usage.input_tokens"] == 7
    assert dict(tool.attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.call.id": "call_1",
        "gen_ai.tool.type": "function",
    }


@pytest.mark.parametrize(
    ("result", "failure", "expected"),
    [
        pytest.param(None, LookupError(KEY), {"error.type": "LookupError"}, id="failed"),
        pytest.param(f"Not found: {KEY}", LookupError(KEY), {"error.type": "LookupError"}, id="failed, with a text"),
        pytest.param(None, None, {"blades.cancelled": True}, id="cancelled"),
    ],
)
def test_end_of_a_tool_is_recorded(
    ended: Ended, result: str | None, failure: Exception | None, expected: dict[str, Any]
) -> None:
    """A failure by its class alone; a tool that the stream did not wait for is cancelled."""
    end = copy_context().run(tracing.start_tool_span, CALL)
    assert end is not None
    end(result, failure)
    span = ended.next()
    assert expected.items() <= dict(span.attributes or {}).items()
    assert (span.status.status_code is trace.StatusCode.ERROR) == (failure is not None)
    assert not any(text in span.to_json() for text in (KEY, "tea"))


def test_arguments_and_result_of_a_tool_are_recorded_on_request(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable that records prompts and answers."""
    monkeypatch.setenv(tracing.CAPTURE_VARIABLE, "true")
    end = copy_context().run(tracing.start_tool_span, CALL)
    assert end is not None
    end("3 items", None)
    attributes = ended.next_of("execute_tool search")
    assert attributes["gen_ai.tool.call.arguments"] == '{"query": "tea"}'
    assert attributes["gen_ai.tool.call.result"] == "3 items"


def test_tool_that_nobody_records_has_no_span(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the API alone there is nothing to end."""
    monkeypatch.setattr(trace, "get_tracer", trace.NoOpTracerProvider().get_tracer)
    assert copy_context().run(tracing.start_tool_span, CALL) is None
    assert copy_context().run(tracing.start_agent_span, "poet", BODY, None) is None
    assert ended.spans.empty()


def test_context_is_carried(server: LocalServer) -> None:
    """Any context variable of the caller is seen in the opening thread, and stays the caller's there."""
    variable = ContextVar("variable", default="unset")
    seen: list[str] = []

    def hook(_request: object) -> None:
        seen.append(variable.get())
        variable.set("opening thread")

    http = openai.DefaultHttpxClient(event_hooks={"request": [hook]})
    with openai.OpenAI(base_url=server.base_url, api_key=KEY, http_client=http) as client:
        variable.set("caller")
        Agent("a", model="m", client=client).run(PROMPT)
    assert seen == ["caller"]
    assert variable.get() == "caller"


def test_a_span_that_nobody_records_costs_no_more(agent: Agent, ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the API alone, or a call that is not sampled, nothing waits for the end."""
    monkeypatch.setattr(trace, "get_tracer", trace.NoOpTracerProvider().get_tracer)
    stream = agent.run_stream(PROMPT)
    assert stream._call.state._on_end is None
    assert stream.reply().complete
    assert ended.spans.empty()


@pytest.mark.parametrize(
    ("url", "provider", "port"),
    [
        ("https://api.openai.com/v1", "openai", 443),
        ("https://eu.openai.azure.com/openai/deployments/d", "azure.ai.openai", 443),
        ("https://api.deepseek.com", "deepseek", 443),
        ("https://notapi.deepseek.com", "openai", 443),
        ("http://vllm/v1", "openai", 80),
        ("HTTPS://[::1]:8443/v1", "openai", 8443),
        ("http://host:port/v1", "openai", None),
    ],
)
def test_provider_is_found_by_its_host(url: str, provider: str, port: int | None) -> None:
    """An unknown server counts as openai; the client judges an impossible URL."""
    found = tracing._server(url)
    assert found["gen_ai.provider.name"] == provider
    assert found.get("server.port") == port


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"stop": "end"}, {"gen_ai.request.stop_sequences": ["end"]}),
        ({"max_completion_tokens": 5}, {"gen_ai.request.max_tokens": 5}),
        ({"service_tier": "flex"}, {"openai.request.service_tier": "flex"}),
        ({"response_format": {"type": "text"}}, {"gen_ai.output.type": "text"}),
        ({"response_format": {"type": "json_schema"}}, {"gen_ai.output.type": "json"}),
        ({"seed": openai.NOT_GIVEN, "stop": [1], "temperature": True, "response_format": "json"}, {}),
        ({"reasoning_effort": None, "stop": None, "response_format": {}}, {}),
    ],
)
def test_well_formed_options_are_recorded(options: dict[str, Any], expected: dict[str, Any]) -> None:
    """Other options are left out: the server judges them."""
    found = tracing._request({"model": "m", **options})
    always = {"gen_ai.operation.name", "gen_ai.request.model", "gen_ai.request.stream", "openai.api.type"}
    assert {name: value for name, value in found.items() if name not in always} == expected


def test_without_opentelemetry_nothing_is_imported(server: LocalServer) -> None:
    """A program that does not use it does not load it, installed or not."""
    program = """
import sys
from blades import Agent
assert Agent("a", model="m", base_url=sys.argv[1], api_key="any").run("Hello").complete
print(sorted(name for name in sys.modules if "opentelemetry" in name or name == "blades._output.tracing"))
"""
    command = [sys.executable, "-c", program, server.base_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
