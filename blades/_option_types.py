"""The options of a request, for editors and type checkers. Imported by them alone: making these classes takes time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import EllipsisType

    from blades._tools import Tool
    from blades._values import ToolCall


class HasIsSet(Protocol):
    """An event to cancel by: `threading.Event`, `multiprocessing.Event`, or the like."""

    def is_set(self) -> bool:
        """Return whether to cancel."""


class Options(TypedDict, total=False):
    """The options of a request that an `Agent` passes on as they are; those with arguments of their own are not here.

    ``**options: Unpack[Options]`` gives an editor the names. These are the parameters of the oldest official client
    allowed; `blades._options` lets through whatever the installed one knows.
    """

    audio: Mapping[str, Any] | None
    extra_body: Mapping[str, Any] | None
    extra_headers: Mapping[str, Any] | None
    extra_query: Mapping[str, Any] | None
    frequency_penalty: float | None
    function_call: str | Mapping[str, Any] | None
    functions: Sequence[Mapping[str, Any]] | None
    logit_bias: Mapping[str, int] | None
    logprobs: bool | None
    max_completion_tokens: int | None
    max_tokens: int | None
    metadata: Mapping[str, str] | None
    modalities: Sequence[str] | None
    n: int | None
    parallel_tool_calls: bool | None
    prediction: Mapping[str, Any] | None
    presence_penalty: float | None
    prompt_cache_key: str | None
    reasoning_effort: str | None
    safety_identifier: str | None
    seed: int | None
    service_tier: str | None
    stop: str | Sequence[str] | None
    store: bool | None
    stream_options: Mapping[str, Any] | None
    temperature: float | None
    tool_choice: str | Mapping[str, Any] | None
    top_logprobs: int | None
    top_p: float | None
    user: str | None
    verbosity: str | None
    web_search_options: Mapping[str, Any] | None


class CallOptions(Options, total=False):
    """The options of one call."""

    model: str


class RunArguments(CallOptions, total=False):
    """The keyword arguments of `Agent.run_stream` but for `response_format`. A value of ``...`` is the agent's."""

    cancel: HasIsSet | None
    timeout: float | EllipsisType | None
    first_chunk_timeout: float | EllipsisType | None
    stall_timeout: float | EllipsisType | None
    tools: Iterable[Callable[..., Any] | Tool | Mapping[str, Any]] | EllipsisType | None
    max_rounds: int | EllipsisType
    approve: Callable[[ToolCall], bool | str] | EllipsisType | None
