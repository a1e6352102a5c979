"""Agent: settings, one official client, and the calls that start a stream."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Self, final

from blades import _options as check
from blades._call import Call
from blades._chat import Chat
from blades._errors import ConfigError
from blades._message import Message
from blades._opening import ClientHolder, Request, send_request, start_opening
from blades._prompts.messages import Prompt
from blades._stream import Stream
from blades._transport.client import official_names
from blades._transport.threads import run_detached

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import EllipsisType

    import openai

    from blades._transport.events import Event
    from blades._values import Reply


@final
class Agent:
    """A model with its settings: the thing to call.

    One agent serves many threads at once and keeps its connections between calls. It can be pickled (the client stays
    behind and is made anew where the agent lands) and used in a forked child (which makes a client of its own).

    Args:
        name: The agent's name, for your logs.
        model: The model to ask, such as ``"deepseek-chat"``.
        instructions: A system text that is put before each prompt.
        base_url: The server, such as ``"http://127.0.0.1:8000/v1"``. Default: ``OPENAI_BASE_URL``, from the environment
            or a ``.env`` file found from the working directory upwards; else OpenAI.
        api_key: The key. Default: ``OPENAI_API_KEY``, found the same way. Read when the first stream is started.
        client: An `openai.OpenAI` of your own (`openai.AzureOpenAI` included), instead of `base_url` and `api_key`. It
            is not closed by the agent, and its timeouts apply besides the agent's. Every promise about cancelling holds
            on its HTTP/1.1 connections, but for two cases where the reader is freed at once as ever and the server is
            told only when its next bytes come: before the headers of an answer on a connection that the client had
            opened for somebody else, and on a transport that hides its sockets. On HTTP/2 it is not told, and streams
            must be read one at a time: see docs/cancelling.md. Such an agent can be neither pickled nor used in a
            forked child.
        timeout: Seconds for the whole stream. None: no limit.
        first_chunk_timeout: Seconds until the first content (text, reasoning, a refusal or a tool call). None:
            `stall_timeout`.
        stall_timeout: Seconds without content, from the call on. None: no limit. Keep-alive comments do not count.
        max_retries: How often the official client tries again, before the answer starts. None: 2, or what the given
            client says.
        require_finish: Whether an answer that ends with neither a finish reason nor ``[DONE]`` is a failure.
        options: Anything else goes to ``chat.completions.create`` as it is: temperature, max_tokens, stop, seed,
            response_format, tools, extra_body, ... Usage is asked for (``stream_options={"include_usage": True}``)
            unless you say otherwise; ``stream_options=None`` is for servers that reject the parameter.

    Raises:
        TypeError: a value of the wrong type, or an option that the official client does not know.
        ValueError: an impossible value.
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
        **options: Any,
    ) -> None:
        self.name: str = check.text("name", name)
        self.model: str = check.text("model", model)
        self.instructions: str | None = None if instructions is None else check.text("instructions", instructions)
        self._base_url = None if base_url is None else check.text("base_url", base_url)
        self._api_key = None if api_key is None else check.text("api_key", api_key, secret=True)
        self._client = check.client(client, alone=base_url is None and api_key is None)
        self._timeouts = check.timeouts((timeout, first_chunk_timeout, stall_timeout))
        self._max_retries = check.count("max_retries", max_retries)
        self._require_finish = check.flag("require_finish", require_finish)
        self._options = check.options(options, official_names)
        self._holders: dict[int, ClientHolder] = {os.getpid(): self._new_holder()}

    def run_stream(
        self,
        prompt: Prompt | str | Sequence[Message | Mapping[str, Any]],
        *,
        cancel: Event | None = None,
        timeout: float | EllipsisType | None = ...,
        first_chunk_timeout: float | EllipsisType | None = ...,
        stall_timeout: float | EllipsisType | None = ...,
        **options: Any,
    ) -> Stream:
        """Send a prompt and return the stream of its answer at once: the request goes out in the background.

        Args:
            prompt: A `Prompt`, a text (one user message), or a sequence of `Message` or dicts.
            cancel: An event whose setting cancels: `threading.Event`, `multiprocessing.Event`, or anything with
                ``is_set()``. One event may serve many streams. It is looked at before the request leaves, at each
                chunk, and about every 15 ms by one thread for all streams; `Stream.cancel` needs no such thread. An
                event that is set already means that no request is sent.
            timeout: Seconds, instead of the agent's; None for no limit. So are the other two.
            first_chunk_timeout: See `timeout`.
            stall_timeout: See `timeout`.
            options: As the agent's, which they override.

        Raises:
            TypeError: an argument of the wrong type, or an option that the official client does not know.
            ValueError: an impossible value, such as an empty prompt or ``n=2``.
            ConfigError: no usable key or base URL. Everything else is raised by the stream.
        """
        request = self._request(Prompt(prompt), options)
        timeouts = check.timeouts((timeout, first_chunk_timeout, stall_timeout), self._timeouts)
        holder = self._holder()
        holder.find_endpoint()
        call = Call(timeouts, check.event(cancel), require_finish=self._require_finish)
        stream = Stream(call)
        # Run the request in the caller's context, so that HTTP instrumentation nests under the caller's span.
        context = copy_context()
        if "opentelemetry.trace" in sys.modules:  # else this program does not use it
            _start_span(context, self.name, request.body(), holder.base_url, call)
        if not call.scope.poll():
            call.scope.start_watching()
            start_opening(partial(context.run, send_request, holder, request, call.scope), call.scope)
        return stream

    def run(
        self,
        prompt: Prompt | str | Sequence[Message | Mapping[str, Any]],
        *,
        cancel: Event | None = None,
        timeout: float | EllipsisType | None = ...,
        first_chunk_timeout: float | EllipsisType | None = ...,
        stall_timeout: float | EllipsisType | None = ...,
        **options: Any,
    ) -> Reply:
        """Send a prompt and wait for the whole answer: ``run_stream(...).reply()``, with the same arguments.

        A cancelled call returns what had come until then, with `Reply.complete` False.

        Raises:
            Exception: as `run_stream` and `Stream.next`.
        """
        with self.run_stream(
            prompt,
            cancel=cancel,
            timeout=timeout,
            first_chunk_timeout=first_chunk_timeout,
            stall_timeout=stall_timeout,
            **options,
        ) as stream:
            return stream.reply()

    def chat(self, *, system: str | None = None, history: Prompt | Sequence[Message | Mapping[str, Any]] = ()) -> Chat:
        """Begin a conversation: an object with `run_stream` and `run` as here, and the list ``messages``.

        Each turn goes out with all before it, and is kept with its answer when its stream has ended; a cancelled answer
        is kept as far as it came, marked ``"cancelled": True``, and a failed turn leaves no trace. One turn at a time:
        starting the next while a stream is still open raises RuntimeError. `instructions` go before each request, but
        are not in ``messages``.

        Args:
            system: A system text at the beginning; it takes the place of one that `history` begins with.
            history: Earlier messages, such as ``chat.messages`` loaded from JSON.

        Raises:
            TypeError: A value of the wrong type.
            ValueError: A dict that is no message.
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
        """Close the client: idle connections now, that of a running stream when it ends.

        A client that was given is left open. The agent may be used again: it then makes a new client.
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
                f"{self!r} has a client of its own, whose connections cannot be pickled. Give the Agent base_url= and "
                "api_key= (or set them in the environment of the process where it lands), or make it there."
            )
        return {name: value for name, value in vars(self).items() if name != "_holders"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _holders={})

    def _holder(self) -> ClientHolder:
        """Find what belongs to this process. A forked child finds nothing and begins anew, with a lock of its own."""
        process = os.getpid()
        holder = self._holders.get(process)
        if holder is None:
            if self._client is not None:
                raise ConfigError(
                    f"{self!r} was given a client in another process, whose connections this process must not use. "
                    "Make the Agent and its client in this process, or give it base_url= and api_key= instead."
                )
            holder = self._holders.setdefault(process, self._new_holder())
        return holder

    def _new_holder(self) -> ClientHolder:
        return ClientHolder(self._client, self._api_key, self._base_url, self._max_retries)

    def _request(self, prompt: Prompt, options: dict[str, Any]) -> Request:
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
                "The prompt has no messages: give it at least one, for instance PromptTemplate().user(...)."
            )
        if self.instructions is not None:
            prompt = Prompt(Message("system", self.instructions)) + prompt
        return Request(given, prompt)


def _start_span(context: Context, name: str, body: Mapping[str, Any], base_url: str | None, call: Call) -> None:
    from blades._output.tracing import start_span  # noqa: PLC0415 - only for programs that trace

    end_span = context.run(start_span, name, body, base_url)
    if end_span is None:
        return

    def end() -> None:
        state = call.state
        first = state.first_content_at
        end_span(call.reply(), state.value, state.failure, None if first is None else first - state.started_at)

    call.state.on_end(end)
