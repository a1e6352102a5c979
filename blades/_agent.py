"""Agent: settings, one official client, and the calls that start a stream."""

from __future__ import annotations

import os
import sys
import threading
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Self, final

from blades import _options as check
from blades._credentials import explain_client_failure, find_endpoint
from blades._errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from types import EllipsisType

    import openai

    from blades._chat import Chat
    from blades._credentials import Endpoint
    from blades._message import Message
    from blades._output.tracing import EndSpan
    from blades._prompts.messages import Prompt
    from blades._stream import Stream
    from blades._transport.cancel import Scope
    from blades._transport.client import Connector
    from blades._transport.events import Event
    from blades._values import Reply
    from blades._wire.decoder import CompletionDecoder


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
        self._options = check.options(options, _official_names)
        self._homes: dict[int, _Home] = {os.getpid(): self._new_home()}

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
        # Half of this package, needed from here on: importing it can wait, like the official client.
        from blades import _call, _stream  # noqa: PLC0415
        from blades._prompts import messages as _prompt  # noqa: PLC0415
        from blades._transport import cancel as _cancel  # noqa: PLC0415

        body = self._body(_prompt.Prompt(prompt), options)
        limits = check.timeouts((timeout, first_chunk_timeout, stall_timeout), self._timeouts)
        scope = _cancel.Scope(check.event(cancel))
        home = self._home()
        if self._client is None:
            home.find_endpoint()
        reader = _call.Reader(scope, limits, require_finish=self._require_finish)
        stream = _stream.Stream(reader)
        context = copy_context()  # where whatever traces the HTTP library's requests finds the caller's span
        if "opentelemetry.trace" in sys.modules:  # else this program does not use it
            from blades._output.tracing import start_span  # noqa: PLC0415 - see above

            end_span = context.run(start_span, self.name, body, home.base_url)
            if end_span is not None:
                scope.on_end = partial(_end_span, end_span, scope, reader.decoder, reader.started)
        if not scope.cancelled():
            scope.watch()
            arguments = (_open, home, body, scope, home.left_by_this_thread())
            threading.Thread(target=context.run, args=arguments, name="blades-open", daemon=True).start()
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
        from blades._chat import Chat  # noqa: PLC0415 - not everyone needs it

        return Chat(self, system, history)

    def close(self) -> None:
        """Let go of the client. Idle connections are closed now, that of a running stream when it ends.

        A client that was given is left open. The agent may be used again: it then makes a new client.
        """
        self._homes.pop(os.getpid(), None)

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
        return {name: value for name, value in vars(self).items() if name != "_homes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _homes={})

    def _home(self) -> _Home:
        """Find what belongs to this process. A forked child finds nothing and begins anew, with a lock of its own."""
        process = os.getpid()
        home = self._homes.get(process)
        if home is None:
            if self._client is not None:
                raise ConfigError(
                    f"{self!r} was given a client in another process, whose connections this process must not use. "
                    "Make the Agent and its client in this process, or give it base_url= and api_key= instead."
                )
            home = self._homes.setdefault(process, self._new_home())
        return home

    def _new_home(self) -> _Home:
        return _Home(self._client, self._api_key, self._base_url, self._max_retries)

    def _body(self, prompt: Prompt, options: dict[str, Any]) -> dict[str, Any]:
        """Put the request together."""
        body: dict[str, Any] = {
            "model": self.model,
            "stream_options": {"include_usage": True},
            **self._options,
            **check.options(options, _official_names),
        }
        if body["stream_options"] is None:
            del body["stream_options"]
        if not prompt:
            raise ValueError(
                "The prompt has no messages: give it at least one, for instance PromptTemplate().user(...)."
            )
        messages = prompt.to_list()
        if self.instructions is not None:
            messages.insert(0, {"role": "system", "content": self.instructions})
        body["messages"] = messages
        return body


@final
class _Home:
    """What an agent has in one process: its connector, made by the first opening thread, which imports the client."""

    def __init__(
        self, client: openai.OpenAI | None, api_key: str | None, base_url: str | None, max_retries: int | None
    ) -> None:
        self._client = client
        self._api_key = api_key
        self._base_url = base_url
        self._max_retries = max_retries
        self._lock = threading.Lock()
        self._endpoint: Endpoint | None = None
        self._connector: Connector | None = None

    def find_endpoint(self) -> Endpoint:
        """Find the key and the base URL, once; in the caller's thread, so that what is missing is said there."""
        if self._endpoint is None:
            self._endpoint = find_endpoint(self._api_key, self._base_url)
        return self._endpoint

    @property
    def base_url(self) -> str | None:
        """Where requests go; None is the official client's own default."""
        return self.find_endpoint().base_url if self._client is None else str(self._client.base_url)

    def connector(self) -> Connector:
        """Return the connector; make it when it is first needed."""
        with self._lock:
            if self._connector is None:
                from blades._transport.client import Connector  # noqa: PLC0415 - imports the official client: half a second

                if self._client is not None:
                    self._connector = Connector.adopt(self._client, self._max_retries)
                else:
                    endpoint = self.find_endpoint()
                    try:
                        self._connector = Connector.make(endpoint.api_key, endpoint.base_url, self._max_retries)
                    except Exception as error:  # a proxy variable, SSL_CERT_FILE or a port that cannot be used
                        raise ConfigError(explain_client_failure(error)) from error
            return self._connector

    def left_by_this_thread(self) -> threading.Event | None:
        """See `Connector.left_by_this_thread`."""
        return None if self._connector is None else self._connector.left_by_this_thread()


def _official_names() -> AbstractSet[str]:
    from blades._transport.client import official_names  # noqa: PLC0415 - imports the official client: half a second

    return official_names()


def _end_span(end_span: EndSpan, scope: Scope, decoder: CompletionDecoder, started: float) -> None:
    """End the span of a call. It knows the decoder, not the stream: an abandoned stream must not live on."""
    scope.on_end = None  # which refers to the scope
    first = None if scope.first_content_at is None else scope.first_content_at - started
    end_span(decoder.reply(complete=False, request_id=None), scope.state, scope.failure, first)


def _open(home: _Home, body: dict[str, Any], scope: Scope, left_by: threading.Event | None) -> None:
    """Do the opening thread's work. It knows the scope only: a stream that nobody holds any more must not live on."""
    try:
        home.connector().run(body, scope, left_by)
    except BaseException as error:  # noqa: BLE001 - raised again by the stream's next(), in the reader's thread
        import traceback  # noqa: PLC0415 - only a failure needs it

        # Whoever keeps the exception keeps these frames: they must not keep client, connections and prompt in turn.
        del home, body
        traceback.clear_frames(error.__traceback__)
        scope.fail(error)
