"""Agent: settings, one official client, and the calls that start a stream."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, final, overload

from blades import _options as check
from blades._call import Call
from blades._chat import Chat
from blades._errors import ConfigError
from blades._loop import ToolLoop
from blades._message import Message
from blades._opening import ClientHolder, Request, send_request, start_opening
from blades._prompts.messages import Prompt
from blades._stream import Stream
from blades._structured import read_format
from blades._tools import ToolSet
from blades._transport.client import official_names
from blades._transport.threads import run_detached
from blades._values import T_co

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import openai

    from blades._option_types import RunArguments
    from blades._prompts.messages import PromptLike
    from blades._tools import AnyTool, Approve
    from blades._transport.events import Event
    from blades._values import Reply, ToolCall

T = TypeVar("T")


@final
class Agent(Generic[T_co]):
    """A chat model plus its settings. Call `run` or `run_stream` on it.

    One agent serves any number of threads and keeps its connections between calls. It can be pickled (without its
    client: each process that unpickles it makes a new one) and used in a forked child (which makes a new one, too).

    Args:
        name: The agent's name, for your logs.
        model: The model to ask, such as ``"deepseek-chat"``.
        instructions: A system text that is put before each prompt.
        base_url: The server, such as ``"http://127.0.0.1:8000/v1"``. Default: ``OPENAI_BASE_URL``, from the environment
            or a ``.env`` file found from the working directory upwards; else OpenAI.
        api_key: The key. Default: ``OPENAI_API_KEY``, found the same way. Read when the first stream is started.
        client: An `openai.OpenAI` of your own (or an `openai.AzureOpenAI`), instead of `base_url` and `api_key`. The
            agent does not close it, and its timeouts still apply. Cancelling works fully on HTTP/1.1. The server
            notices late, when it next sends, in two cases: the connection was opened by other code and the response
            headers have not arrived; a custom transport hides its socket. HTTP/2: see docs/cancelling.md. Such an agent
            cannot be pickled or used in a forked child.
        timeout: Longest duration of the whole stream, retries included, in seconds. None: no limit.
        first_chunk_timeout: Longest wait for the first content (text, reasoning, a tool call, ...), in seconds.
            Default: the value of `stall_timeout`.
        stall_timeout: Longest wait for the next content, in seconds; the first wait starts with the call. Keep-alive
            comments do not count. None: no limit.
        max_retries: How often the official client retries before the answer starts. Default: 2, or the setting of
            `client`.
        require_finish: Whether an answer that ends with neither a finish reason nor ``[DONE]`` is a failure.
        tools: What the model may call: functions and other callables, which the stream runs, each a `Tool` for more; a
            dict goes out as it is, and its calls are yours to run. See docs/tools.md.
        max_rounds: How many requests a stream may send if the model goes on asking for tools.
        approve: Called in the reader's thread with each call of a tool, before any of the answer runs. It returns True,
            or False or a reason to decline.
        response_format: A pydantic model, a dataclass or a TypedDict: the answer is asked for as such an object, which
            is then `Reply.parsed`. Or a dict as the API has it. See docs/structured.md.
        options: Anything else goes to ``chat.completions.create`` as it is: temperature, max_tokens, stop, seed,
            extra_body, ... Usage is asked for (``stream_options={"include_usage": True}``)
            unless you say otherwise; ``stream_options=None`` is for servers that reject the parameter.

    Raises:
        TypeError: A value of the wrong type, or an option that the official client does not know.
        ValueError: An impossible value.
    """

    def __init__(
        self,
        name: str,
        *,
        model: str,
        instructions: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        client: openai.OpenAI | None = None,
        timeout: float | None = None,
        first_chunk_timeout: float | None = None,
        stall_timeout: float | None = 300.0,
        max_retries: int | None = None,
        require_finish: bool = True,
        tools: Iterable[AnyTool] | None = (),
        max_rounds: int = 10,
        approve: Approve | None = None,
        response_format: type[T_co] | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        has_endpoint = base_url is not None or api_key is not None
        self._api_key = None if api_key is None else check.text("api_key", api_key, secret=True)
        del api_key  # tools that show the frames of an exception would show the key
        self.name: str = check.text("name", name)
        self.model: str = check.text("model", model)
        self.instructions: str | None = None if instructions is None else check.text("instructions", instructions)
        self._base_url = None if base_url is None else check.text("base_url", base_url)
        self._client = check.client(client, alone=not has_endpoint)
        self._timeouts = check.timeouts((timeout, first_chunk_timeout, stall_timeout))
        self._max_retries = check.count("max_retries", max_retries)
        self._require_finish = check.flag("require_finish", require_finish)
        self._tools = ToolSet(tools or ())
        self._max_rounds = check.rounds(max_rounds)
        self._approve = check.function("approve", approve)
        self._format = read_format(response_format)
        self._options = check.options(options, official_names)
        self._holders: dict[int, ClientHolder] = {os.getpid(): self._new_holder()}

    @overload
    def run_stream(self, prompt: PromptLike, **options: Unpack[RunArguments]) -> Stream[T_co]: ...
    @overload
    def run_stream(
        self, prompt: PromptLike, *, response_format: type[T], **options: Unpack[RunArguments]
    ) -> Stream[T]: ...
    @overload
    def run_stream(
        self, prompt: PromptLike, *, response_format: Mapping[str, Any] | None, **options: Unpack[RunArguments]
    ) -> Stream[Any]: ...
    def run_stream(
        self,
        prompt: PromptLike,
        *,
        cancel: Event | None = None,
        timeout: float | EllipsisType | None = ...,
        first_chunk_timeout: float | EllipsisType | None = ...,
        stall_timeout: float | EllipsisType | None = ...,
        tools: Iterable[AnyTool] | EllipsisType | None = ...,
        max_rounds: int | EllipsisType = ...,
        approve: Approve | EllipsisType | None = ...,
        response_format: Any = ...,
        **options: Any,
    ) -> Stream[Any]:
        """Send a prompt and return the stream of its answer at once: the request is sent in the background.

        Args:
            prompt: A `Prompt`, a text (one user message), or a sequence of `Message` or dicts.
            cancel: Cancels the stream when it is set: a `threading.Event`, which takes about 0.1 ms, or anything else
                with ``is_set()``, such as `multiprocessing.Event`, which is polled every 15 ms. ``is_set()`` must not
                block. One event may cancel many streams. If it is already set, no request is sent.
            timeout: Overrides the agent's `timeout` for this call (seconds; None: no limit). The next two work alike.
            first_chunk_timeout: See `timeout`.
            stall_timeout: See `timeout`.
            tools: Overrides the agent's `tools` for this call. The next three work alike.
            max_rounds: See `tools`.
            approve: See `tools`.
            response_format: See `tools`.
            options: Extra parameters for this request; they override the agent's.

        Raises:
            TypeError: An argument of the wrong type, or an option that the official client does not know.
            ValueError: An impossible value, such as an empty prompt or ``n=2``.
            ConfigError: No usable key or base URL; or the agent was given a client in another process.
            RuntimeError: No thread can be started to watch `cancel`. Everything else is raised by the stream.
        """
        tool_set = self._tools if isinstance(tools, EllipsisType) else ToolSet(tools or ())
        body, parser = self._format if isinstance(response_format, EllipsisType) else read_format(response_format)
        request = self._request(Prompt(prompt), options, tool_set, body)
        timeouts = check.timeouts((timeout, first_chunk_timeout, stall_timeout), self._timeouts)
        event = check.event(cancel)
        holder = self._holder()
        holder.find_endpoint()
        # Run the request in the caller's context, so that HTTP instrumentation nests under the caller's span.
        context = copy_context()
        if not tool_set:
            call = Call(timeouts, event, require_finish=self._require_finish)
            stream = Stream(call, parser)
            self._start(call, holder, request, context)
            return stream
        loop = ToolLoop(
            partial(self._continue, holder, request, context),
            tool_set,
            timeouts,
            event,
            require_finish=self._require_finish,
            context=context,
            max_rounds=self._max_rounds if isinstance(max_rounds, EllipsisType) else check.rounds(max_rounds),
            approve=self._approve if isinstance(approve, EllipsisType) else check.function("approve", approve),
            start_span=_start_tool_span if _is_traced() else None,
        )
        stream = Stream(loop, parser)
        if _is_traced():
            _start_span(context, self.name, request.body(), holder.base_url, loop)
        if not loop.scope.poll():
            loop.scope.start_watching()
            loop.start()
        return stream

    @overload
    def run(self, prompt: PromptLike, **options: Unpack[RunArguments]) -> Reply[T_co]: ...
    @overload
    def run(self, prompt: PromptLike, *, response_format: type[T], **options: Unpack[RunArguments]) -> Reply[T]: ...
    @overload
    def run(
        self, prompt: PromptLike, *, response_format: Mapping[str, Any] | None, **options: Unpack[RunArguments]
    ) -> Reply[Any]: ...
    def run(self, prompt: PromptLike, **options: Any) -> Reply[Any]:
        """Send a prompt and wait for the whole answer: ``run_stream(...).reply()``, with the same arguments.

        A cancelled call returns the partial answer, with `Reply.complete` False.

        Raises:
            Exception: As `run_stream` and `Stream.next`.
        """
        with self.run_stream(prompt, **options) as stream:
            return stream.reply()

    def chat(
        self, *, system: str | None = None, history: Prompt | Sequence[Message | Mapping[str, Any]] = ()
    ) -> Chat[T_co]:
        """Begin a conversation: an object with `run_stream` and `run` as here, and the list ``messages``.

        Each request includes the whole conversation. The answer is added when its stream ends. The part of a cancelled
        answer is kept, marked ``"cancelled": True``; a failed turn is removed. One turn at a time: starting the next
        one while a stream is still open raises RuntimeError. `instructions` are sent first with each request, but are
        not in ``messages``.

        Args:
            system: A system text at the beginning; replaces a system message at the start of `history`.
            history: Earlier messages, such as ``chat.messages`` loaded from JSON.

        Raises:
            TypeError: A value of the wrong type.
            ValueError: A dict that is not a message.
        """
        return Chat(self, system, history)

    def warm_up(self) -> None:
        """Import the official client and open a connection in the background, before the first stream needs them.

        A chat may call this while a person types the first question: the first answer then begins as early as any
        other. It asks the server for its list of models, since there is no smaller request. Returns at once and never
        raises, whatever is wrong; the first stream reports that. Call from any thread, any number of times.
        """
        with suppress(Exception):
            run_detached(self._holder().warm_up)

    def close(self) -> None:
        """Close the client: idle connections now, that of an active stream when it ends. Call from any thread.

        A client of your own is left open. The agent can be used again: it then makes a new client.
        """
        holder = self._holders.pop(os.getpid(), None)
        if holder is not None:
            holder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, model={self.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        if self._client is not None:
            raise TypeError(
                f"expected an agent without a client= to be pickled, got {self!r} with one, whose connections stay in "
                "this process: give it base_url= and api_key= instead (or set them in the environment of the other "
                "process), or make the agent there"
            )
        return {name: value for name, value in vars(self).items() if name != "_holders"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _holders={})

    def _holder(self) -> ClientHolder:
        """Return the client holder of this process. A forked child has none yet, and makes one with a new lock."""
        process = os.getpid()
        holder = self._holders.get(process)
        if holder is None:
            if self._client is not None:
                raise ConfigError(
                    f"expected a client= of this process, got {self!r} with one of another process, whose connections "
                    "must not be used here: make the agent and its client in this process, or give it base_url= and "
                    "api_key= instead"
                )
            holder = self._holders.setdefault(process, self._new_holder())
        return holder

    def _new_holder(self) -> ClientHolder:
        return ClientHolder(self._client, self._api_key, self._base_url, self._max_retries)

    def _start(self, call: Call, holder: ClientHolder, request: Request, context: Context) -> None:
        """Send the request of a call in the background, within a span if the program traces."""
        if _is_traced():
            _start_span(context, self.name, request.body(), holder.base_url, call)
        if not call.scope.poll():
            call.scope.start_watching()
            start_opening(partial(context.run, send_request, holder, request, call.scope), call.scope, call.deadline())

    def _continue(
        self, holder: ClientHolder, request: Request, context: Context, call: Call, messages: Sequence[Message]
    ) -> None:
        """Send a request of a stream that runs tools."""
        if messages:
            options = request.options
            if options.get("tool_choice") not in (None, "auto", "none"):
                # The model has called what it must call. If it had to again, there would be no end.
                options = {name: value for name, value in options.items() if name != "tool_choice"}
            request = Request(options, request.prompt + messages)
        self._start(call, holder, request, context.copy())

    def _request(
        self, prompt: Prompt, options: dict[str, Any], tools: ToolSet, response_format: Mapping[str, Any] | None
    ) -> Request:
        """Put the request together."""
        given: dict[str, Any] = {
            "model": self.model,
            "stream_options": {"include_usage": True},
            **self._options,
            **check.options(options, official_names),
        }
        if given["stream_options"] is None:
            del given["stream_options"]
        if not prompt:
            raise ValueError(
                "expected a prompt with messages, got an empty one: add one, such as Message('user', text)"
            )
        if self.instructions is not None:
            prompt = Prompt(Message("system", self.instructions)) + prompt
        if tools.offered:
            given["tools"] = tools.offered
        if response_format is not None:
            given["response_format"] = response_format
        return Request(given, prompt)


def _is_traced() -> bool:
    return "opentelemetry.trace" in sys.modules  # a program that records spans has imported it


def _start_span(
    context: Context, name: str, body: Mapping[str, Any], base_url: str | None, call: Call | ToolLoop
) -> None:
    from blades._output import tracing  # only for programs that trace

    start = tracing.start_span if isinstance(call, Call) else tracing.start_agent_span
    end_span = context.run(start, name, body, base_url)
    if end_span is None:
        return

    def end() -> None:
        state = call.state
        first = state.first_content_at
        end_span(call.reply(), state.value, state.failure, None if first is None else first - state.started_at)

    call.state.on_end(end)


def _start_tool_span(call: ToolCall) -> Callable[[str | None, BaseException | None], None] | None:
    from blades._output.tracing import start_tool_span  # only for programs that trace

    return start_tool_span(call)
