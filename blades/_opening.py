"""Opening a stream: the client of a process, and the thread that sends a request and waits for its response."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from blades._credentials import explain_client_failure, find_endpoint
from blades._errors import ConfigError, clear_frames
from blades._explain import explain_failure
from blades._prompts.outgoing import has_reasoning, other_reasoning, sends_reasoning
from blades._transport.arrivals import OpeningFailed
from blades._transport.client import ClientAdapter, base_url_of
from blades._transport.threads import start_thread
from blades._values import StreamState

if TYPE_CHECKING:
    from functools import partial

    import openai

    from blades._credentials import Endpoint
    from blades._prompts.messages import Prompt
    from blades._prompts.outgoing import Reasoning
    from blades._transport.cancel import CancelScope

STREAMS_OF_A_CLIENT: Final = 100
"""How many streams of one client may be open: at each request, and each end of an answer, the HTTP library looks at all
connections in the client's pool. This is as many as the pool keeps when they are idle; it has no more than 1,000."""


@final
class Request(NamedTuple):
    """What is sent: the options of ``chat.completions.create``, and the messages."""

    options: dict[str, Any]
    prompt: Prompt

    def body(self, reasoning: Reasoning | None = None) -> dict[str, Any]:
        """Return all arguments of the official client's method. `reasoning` is that of `Prompt.to_list`."""
        return {**self.options, "messages": self.prompt.to_list(reasoning=reasoning)}


@final
class ClientHolder:
    """The official client of one process, created by the first thread that opens a stream.

    Importing the client takes half a second. An agent whose streams are many at the same time makes several clients.
    `_lock` guards `_adapters` and `_closed`.
    """

    def __init__(
        self, client: openai.OpenAI | None, api_key: str | None, base_url: str | None, max_retries: int | None
    ) -> None:
        self._client = client
        self._api_key = api_key
        self._base_url = base_url
        self._max_retries = max_retries
        self._lock = threading.Lock()
        self._endpoint: Endpoint | None = None
        self._adapters: list[ClientAdapter] = []
        self._closed = False
        self._reasoning: dict[str, Reasoning] = {}  # what a model's server has wanted, where that is not the default

    def find_endpoint(self) -> None:
        """Find the key and the base URL, once; in the caller's thread, so that what is missing is reported there."""
        if self._client is None and self._endpoint is None:
            self._endpoint = find_endpoint(self._api_key, self._base_url)

    @property
    def base_url(self) -> str | None:
        """Where requests go; None is the official client's own default, ``""`` is not known."""
        if self._client is not None:
            return base_url_of(self._client)
        return None if self._endpoint is None else self._endpoint.base_url or None

    def acquire_adapter(self) -> ClientAdapter:
        """Return a client, which counts one stream more; make one where none can take it, or all were closed.

        A stream that outlives `close` has a client, too: closed with the last of such streams.
        """
        with self._lock:
            for adapter in self._adapters:  # the first ones are used most, so that connections are used again
                if adapter.stream_begins(STREAMS_OF_A_CLIENT):
                    return adapter
            if self._client is not None:
                adapter = ClientAdapter.adopt(self._client, self._max_retries)
            else:
                self.find_endpoint()
                adapter = _make_adapter(self._endpoint, self._max_retries)
            adapter.stream_begins(STREAMS_OF_A_CLIENT)
            if self._closed:
                adapter.retire()
            self._adapters = [adapter] if self._closed else [*self._adapters, adapter]
            return adapter

    def close(self) -> None:
        """Close the client with the last stream that uses it."""
        with self._lock:
            self._closed = True
            for adapter in self._adapters:
                adapter.retire()

    def warm_up(self) -> None:
        """Import the official client and open a connection, so that the first stream finds both."""
        with suppress(Exception):
            adapter = self.acquire_adapter()
            try:
                adapter.warm_up()
            finally:
                adapter.response_closed()

    def open_stream(self, request: Request, scope: CancelScope) -> None:
        """Send a request; send it once more where a server refuses or misses the reasoning of earlier answers.

        Some servers demand it back, others refuse it, and what they want is known only by asking: the answer is
        remembered for the model.

        Raises:
            Exception: There is no response.
        """
        model = str(request.options["model"])
        known = self._reasoning.get(model)
        try:
            self.acquire_adapter().open_stream(request.body(known), scope)
        except Exception as error:
            other = _other_way(error, request.prompt, known)
            if other is None:
                raise
        else:
            return
        self.acquire_adapter().open_stream(request.body(other), scope)
        if scope.state.value is not StreamState.CANCELLED:  # else nothing is known of the second request
            self._reasoning[model] = other

    def explain(self, error: BaseException) -> None:
        """Add a note to an exception of the official client: what was asked of whom, and what may be the cause."""
        sources = None
        if self._endpoint is not None:
            sources = (self._endpoint.base_url_source, self._endpoint.key_source)
        note = explain_failure(error, self.base_url, sources)
        if note:
            error.add_note(note)


def start_opening(opening: partial[None], scope: CancelScope, deadline: float | None) -> None:
    """Send a request in a background thread; in this one where none can be started, as at the interpreter's exit."""
    if not start_thread(opening, "blades-open"):
        scope.read_inline(deadline)
        opening()


def send_request(holder: ClientHolder, request: Request, scope: CancelScope) -> None:
    """Run in the opening thread. Takes the scope, not the Stream, so that an abandoned one can be collected."""
    try:
        holder.open_stream(request, scope)
    except BaseException as error:  # raised again by the stream's next(), in the reader's thread
        with suppress(Exception):  # a note is no reason to leave the reader without an answer
            holder.explain(error)
        # Whoever keeps the exception keeps these frames: they must not keep client, connections and prompt in turn.
        del holder, request
        clear_frames(error)
        scope.deliver(OpeningFailed(error))


def _other_way(error: Exception, prompt: Prompt, known: Reasoning | None) -> Reasoning | None:
    """Return what to do about the reasoning in a second request; None if that would be in vain."""
    if getattr(error, "status_code", None) not in {400, 422} or not has_reasoning(prompt):
        return None
    sent = sends_reasoning(prompt) if known is None else known
    return other_reasoning(f"{error} {getattr(error, 'body', '')}", sent)


def _make_adapter(endpoint: Endpoint | None, max_retries: int | None) -> ClientAdapter:
    assert endpoint is not None  # found before the first stream
    try:
        return ClientAdapter.make(endpoint, max_retries)
    except Exception as error:  # a proxy variable, SSL_CERT_FILE or a port that cannot be used
        raise ConfigError(explain_client_failure(error)) from error
