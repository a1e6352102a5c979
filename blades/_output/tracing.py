"""Spans by OpenTelemetry's semantic conventions for generative AI. Imported only in programs that use OpenTelemetry.

A call without tools is one span, ``chat``. A call with tools is a span ``invoke_agent`` with one ``chat`` for each
request and one ``execute_tool`` for each run of a tool under it.

The conventions are those of github.com/open-telemetry/semantic-conventions-genai (2026), which are not yet stable.
Decisions where they leave room:

- An error's message is not recorded, only its class: providers put parts of keys and prompts into messages.
- A cancelled call is not an error: its status stays unset, and ``blades.cancelled`` is true.
- A finish reason that the server did not send is left out; the conventions would fill in "error".
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from opentelemetry import context, trace

from blades._values import StreamState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TypeAlias

    from opentelemetry.util.types import AttributeValue

    from blades._values import Reply, ToolCall

    Attributes: TypeAlias = dict[str, AttributeValue]

CAPTURE_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
# Older instrumentations use "true". The other values of the newer ones are "event_only" and "no_content".
CAPTURE: Final = frozenset({"true", "1", "span_only", "span_and_event"})
_OFFICIAL = "https://api.openai.com/v1"
# The conventions' names, by the end of the host name. Any other server is taken for "openai", whose API it offers.
_PROVIDERS = {
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
}
_NUMBERS = {
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_tokens": "gen_ai.request.max_tokens",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
}
_TEXTS = {
    "reasoning_effort": "gen_ai.request.reasoning.level",
    "service_tier": "openai.request.service_tier",
}


class EndSpan(Protocol):
    """Ends the span of a call or a request. Call it once, from any thread."""

    def __call__(
        self,
        reply: Reply,
        state: StreamState,
        failure: BaseException | None,
        first_content_seconds: float | None,
    ) -> None:
        """End the span.

        Args:
            reply: The answer, as much of it as was returned.
            state: Where the stream ended.
            failure: Why it failed. Only the name of its class is recorded.
            first_content_seconds: Seconds from the call to the first content; None if none arrived.
        """
        ...


class EndToolSpan(Protocol):
    """Ends the span of a tool. Call it once, from any thread."""

    def __call__(self, result: str | None, failure: BaseException | None) -> None:
        """End the span.

        Args:
            result: What the model gets; None if the stream ended first: the tool counts as cancelled.
            failure: What the tool raised. Only the name of its class is recorded.
        """
        ...


def start_span(agent_name: str, body: Mapping[str, Any], base_url: str | None) -> EndSpan | None:
    """Start the span of one request and make it the current span of the context in which this function runs.

    The context is to be that of the thread that sends the request, so that HTTP instrumentation nests under the span.

    Args:
        agent_name: The agent's name.
        body: The request.
        base_url: Where it goes; None is OpenAI, ``""`` is not known.

    Returns:
        The function that ends the span; None if nobody records it.
    """
    return _start_chat(f"chat {body['model']}", "chat", trace.SpanKind.CLIENT, agent_name, body, base_url)


def start_agent_span(agent_name: str, body: Mapping[str, Any], base_url: str | None) -> EndSpan | None:
    """Start the span of a call that runs tools. Start the spans of its requests and tools in copies of its context.

    Arguments and result are those of `start_span`.
    """
    name = f"invoke_agent {agent_name}"
    return _start_chat(name, "invoke_agent", trace.SpanKind.INTERNAL, agent_name, body, base_url)


def start_tool_span(call: ToolCall) -> EndToolSpan | None:
    """Start the span of a tool's run and make it the current span of the context in which this function runs.

    The context is to be that of the thread that runs the tool.

    Returns:
        The function that ends the span; None if nobody records it.
    """
    attributes: Attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call.name,
        "gen_ai.tool.call.id": call.id,
        "gen_ai.tool.type": call.type,
    }
    if _capture():
        attributes["gen_ai.tool.call.arguments"] = call.arguments
    span = _start(f"execute_tool {call.name}", trace.SpanKind.INTERNAL, attributes)
    if span is None:
        return None

    def end(result: str | None, failure: BaseException | None) -> None:
        if _capture() and result is not None:
            span.set_attribute("gen_ai.tool.call.result", result)
        _end(span, failure, cancelled=result is None and failure is None)

    return end


def _start_chat(  # called in two places
    name: str, operation: str, kind: trace.SpanKind, agent_name: str, body: Mapping[str, Any], base_url: str | None
) -> EndSpan | None:
    attributes: Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.agent.name": agent_name,
        **_server(_OFFICIAL if base_url is None else base_url),
        **_request(body),
    }
    span = _start(name, kind, attributes)
    if span is None:
        return None

    def end(
        reply: Reply, state: StreamState, failure: BaseException | None, first_content_seconds: float | None
    ) -> None:
        try:
            span.set_attributes(_response(reply))
            if first_content_seconds is not None:
                span.set_attribute("gen_ai.response.time_to_first_chunk", first_content_seconds)
        finally:
            failed = failure if state is StreamState.FAILED else None
            _end(span, failed, cancelled=state is StreamState.CANCELLED)

    return end


def _start(name: str, kind: trace.SpanKind, attributes: Attributes) -> trace.Span | None:
    """Start a span in the current context; None if nobody records it."""
    span = trace.get_tracer("blades").start_span(name, kind=kind, attributes=attributes)
    context.attach(trace.set_span_in_context(span))  # never detached: the context ends with its thread
    return span if span.is_recording() else None


def _end(span: trace.Span, failure: BaseException | None, *, cancelled: bool) -> None:
    if cancelled:
        span.set_attribute("blades.cancelled", value=True)
    elif failure is not None:
        span.set_attribute("error.type", type(failure).__qualname__)
        span.set_status(trace.StatusCode.ERROR)
    span.end()


def _server(base_url: str) -> Attributes:
    try:
        url = urlsplit(base_url)
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    except ValueError:  # an impossible port, for instance: the request will fail for it
        host = ""
    if not host:
        return {"gen_ai.provider.name": "openai"}
    provider = next((name for end, name in _PROVIDERS.items() if f".{host}".endswith(f".{end}")), "openai")
    return {"gen_ai.provider.name": provider, "server.address": host, "server.port": port}


def _request(body: Mapping[str, Any]) -> Attributes:
    """Return the attributes of a request. An option that is not well-formed is left out: the server judges it."""
    found: Attributes = {
        "gen_ai.request.model": str(body["model"]),
        "gen_ai.request.stream": True,
        "openai.api.type": "chat_completions",
    }
    for option, attribute in _NUMBERS.items():
        if type(body.get(option)) in (int, float):
            found[attribute] = body[option]
    for option, attribute in _TEXTS.items():
        if isinstance(body.get(option), str):
            found[attribute] = body[option]
    stop = body.get("stop")
    if isinstance(stop, str):
        found["gen_ai.request.stop_sequences"] = [stop]
    elif isinstance(stop, list | tuple) and all(isinstance(text, str) for text in stop):
        found["gen_ai.request.stop_sequences"] = list(stop)
    output = body.get("response_format")
    if isinstance(output, dict) and isinstance(output.get("type"), str):
        found["gen_ai.output.type"] = "json" if output["type"].startswith("json") else output["type"]
    if _capture():
        messages = [{"role": message["role"], "parts": list(_parts(message))} for message in body["messages"]]
        found["gen_ai.input.messages"] = _json(messages)
    return found


def _response(reply: Reply) -> Attributes:
    """Return the attributes of an answer: what the server sent, and nothing else."""
    usage = reply.usage
    found: dict[str, AttributeValue | None] = {
        "gen_ai.response.id": reply.id,
        "gen_ai.response.model": reply.model,
        "gen_ai.response.finish_reasons": None if reply.finish_reason is None else [reply.finish_reason],
        "gen_ai.usage.input_tokens": usage and usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage and usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage and usage.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage and usage.reasoning_tokens,
    }
    if _capture():
        parts = list(_parts({**reply.message.to_dict(), "reasoning_content": reply.reasoning}))
        if parts:
            message = {"role": "assistant", "parts": parts, "finish_reason": reply.finish_reason}
            found["gen_ai.output.messages"] = _json([message])
    return {name: value for name, value in found.items() if value is not None}


def _capture() -> bool:
    return os.environ.get(CAPTURE_VARIABLE, "").strip().lower() in CAPTURE


def _parts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Convert a chat message into the parts of the conventions."""
    if message.get("reasoning_content"):
        yield {"type": "reasoning", "content": message["reasoning_content"]}
    content = message.get("content")
    if message["role"] == "tool":
        yield {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}
    elif isinstance(content, str):
        if content:
            yield {"type": "text", "content": content}
    else:
        for part in content or ():
            yield {"type": "text", "content": part.get("text")} if part.get("type") == "text" else dict(part)
    for call in message.get("tool_calls") or ():
        if isinstance(call, dict) and isinstance(function := call.get("function"), dict):
            name, arguments = function.get("name"), function.get("arguments")
            yield {"type": "tool_call", "id": call.get("id"), "name": name, "arguments": arguments}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
