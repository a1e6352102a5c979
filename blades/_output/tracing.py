"""A span for each call, by OpenTelemetry's semantic conventions for generative AI. Imported only where it is in use.

The conventions are those of github.com/open-telemetry/semantic-conventions-genai (2026), which are not declared stable
yet. Decisions where they leave room:

- An error's message is not recorded, only its class: providers put pieces of keys and of prompts into messages.
- A cancelled call is no error: its status stays unset, and ``blades.cancelled`` is true.
- A finish reason that the server did not send is left out; the conventions would fill in "error".
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from opentelemetry import context, trace

from blades._values import StreamState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TypeAlias

    from opentelemetry.util.types import AttributeValue

    from blades._transport.cancel import Scope
    from blades._values import Reply
    from blades._wire.decoder import CompletionDecoder

    Attributes: TypeAlias = dict[str, AttributeValue]

CAPTURE_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
# "true" is of the older instrumentations; "event_only" and "no_content" are the other values of the newer ones.
CAPTURE: Final = frozenset({"true", "1", "span_only", "span_and_event"})
_OFFICIAL = "https://api.openai.com/v1"
# The conventions' names, by the host's last part. Whoever is not known here speaks OpenAI's dialect.
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


def start_span(
    agent_name: str, body: Mapping[str, Any], base_url: str | None, scope: Scope, answer: CompletionDecoder
) -> None:
    """Start the span of a call, in the context of the thread that will open it; it ends when the scope does.

    Args:
        agent_name: The agent's name.
        body: The request.
        base_url: Where it goes; None is OpenAI.
        scope: Tells when the call ends, and how.
        answer: What is handed out. It is not the stream: that must be free to be dropped.
    """
    span = trace.get_tracer("blades").start_span(
        f"chat {body['model']}",
        kind=trace.SpanKind.CLIENT,
        attributes={"gen_ai.agent.name": agent_name, **_server(base_url or _OFFICIAL), **_request(body)},
    )
    context.attach(trace.set_span_in_context(span))  # never detached: this context ends with its thread
    if not span.is_recording():
        return
    started = time.monotonic()

    def end() -> None:
        reply = answer.reply(complete=False, request_id=None)
        span.set_attributes(_response(reply))
        if scope.first_content_at is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", scope.first_content_at - started)
        if scope.state is StreamState.CANCELLED:
            span.set_attribute("blades.cancelled", value=True)
        elif scope.state is StreamState.FAILED:
            span.set_attribute("error.type", type(scope.failure).__qualname__)
            span.set_status(trace.StatusCode.ERROR)
        span.end()
        scope.on_end = None  # which holds the scope

    scope.on_end = end


def _server(base_url: str) -> Attributes:
    try:
        url = urlsplit(base_url)
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    except ValueError:  # no such port, say: the request will fail for it, and the stream will tell
        return {"gen_ai.provider.name": "openai"}
    provider = next((name for end, name in _PROVIDERS.items() if f".{host}".endswith(f".{end}")), "openai")
    return {"gen_ai.provider.name": provider, "server.address": host, "server.port": port}


def _request(body: Mapping[str, Any]) -> Attributes:
    """Tell of the request what is given and well-formed: an option may hold anything, the server judges it."""
    found: Attributes = {
        "gen_ai.operation.name": "chat",
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
    """Tell of the answer what the server has sent, and nothing else."""
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
    """Put a chat message in the conventions' parts."""
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
