"""The official client: the only module that imports it.

Requests go through ``chat.completions.with_streaming_response``, so that authentication, retries, proxies and Azure
are the official client's.
"""

from __future__ import annotations

# It registers handlers of exits and forks: too late if the official client imports it at the interpreter's exit, or in
# the midst of a fork that waits for the import.
import concurrent.futures.thread  # noqa: F401
import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, final

from blades._errors import clear_frames
from blades._platform import SHUTDOWN_WAKES, register_at_fork
from blades._transport import fast_body
from blades._transport.cancel import RequestCancelled
from blades._transport.collector import collector_held_off
from blades._transport.connection import StaleConnection, current_scope
from blades._transport.fast_body import FastBody
from blades._transport.hooks import connection_of, install_hooks, reads_plainly
from blades._transport.missing import LONGER, missing
from blades._transport.opened import OpenedResponse
from blades._transport.response import FastResponse, ReadAheadResponse
from blades._transport.threads import close_quietly
from blades._transport.warming import warm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet
    from types import ModuleType

    import openai

    from blades._transport.cancel import CancelScope

CONNECT_TIMEOUT_SECONDS: Final = 5.0  # the official client's own; what follows is limited by the stream's time limits
KEEPALIVE_EXPIRY_SECONDS: Final = 60.0  # a person answers a chat within that; the official 5 s reconnect each time
WARM_UP_TIMEOUT_SECONDS: Final = 10.0
OFFICIAL_BASE_URL: Final = "https://api.openai.com/v1"

_import_lock = threading.RLock()


def _acquire_import_lock() -> None:
    _import_lock.acquire(timeout=30)


def _release_import_lock() -> None:
    with suppress(RuntimeError):  # it was not acquired in time
        _import_lock.release()


# A child forked in the midst of the import could never import the client: it waits for the import's end.
register_at_fork(before=_acquire_import_lock, after_in_parent=_release_import_lock, after_in_child=_release_import_lock)


def import_openai() -> ModuleType:
    """Import the official client, which takes half a second; no process is forked meanwhile."""
    with _import_lock:
        import openai  # see above

        return openai


def official_names() -> AbstractSet[str]:
    """Return the names of the parameters of the official client's ``chat.completions.create``."""
    import inspect  # for an option that is not known here

    with _import_lock, collector_held_off():
        from openai.resources.chat.completions import Completions  # takes half a second

    return inspect.signature(Completions.create).parameters.keys() - {"self", "timeout", "messages", "stream"}


class Endpoint(Protocol):
    """Where a client sends its requests."""

    @property
    def api_key(self) -> str: ...
    @property
    def base_url(self) -> str | None: ...


@final
class ClientAdapter:
    """One official client, shared by all streams of an agent. Call every method from any thread.

    `_lock` guards `_open_streams` and `_retired`. A client that the agent made is closed by the last stream after
    `retire`, explicitly: a finalizer would run only when the collector finds the client in its cycles.
    """

    def __init__(self, client: openai.OpenAI, *, owned: bool) -> None:
        self._client = client
        self._owned = owned
        self._lock = threading.RLock()
        self._open_streams = 0
        self._retired = False
        self._to_close: deque[Callable[[], object]] = deque()
        if owned:
            # Not __del__: together with the client, in a cycle, its sockets could be collected before it closes them.
            # Not at exit either: daemon threads that read a stream would report an error, or hold a lock for ever.
            weakref.finalize(self, close_quietly, client).atexit = False
        install_hooks(client)

    @classmethod
    def make(cls, endpoint: Endpoint, max_retries: int | None) -> ClientAdapter:
        """Make a client. Everything that the official client reads from the environment by itself stays so.

        The key is in no frame of this module: tools that show the frames of an exception would show it.
        """
        with _import_lock, collector_held_off():
            openai = import_openai()
            settings: dict[str, Any] = {} if max_retries is None else {"max_retries": max_retries}
            try:
                official = openai.DEFAULT_CONNECTION_LIMITS
                limits = type(official)(
                    max_connections=official.max_connections,
                    max_keepalive_connections=official.max_keepalive_connections,
                    keepalive_expiry=KEEPALIVE_EXPIRY_SECONDS,
                )
                timeout = openai.Timeout(None, connect=CONNECT_TIMEOUT_SECONDS)
                http_client = openai.DefaultHttpxClient(limits=limits, timeout=timeout)
                settings |= {"timeout": timeout, "http_client": http_client}
            except (AttributeError, TypeError):
                missing.report("DefaultHttpxClient, Timeout or DEFAULT_CONNECTION_LIMITS", LONGER)
            # An empty variable must not win over the official default.
            url = endpoint.base_url or OFFICIAL_BASE_URL
            client = openai.OpenAI(api_key=endpoint.api_key, base_url=url, **settings)
            client.chat.completions.with_streaming_response  # noqa: B018 - imports the rest, while the lock is held
            "localhost".encode("idna")  # so does the look-up of a host, and a child forked meanwhile could not
            return cls(client, owned=True)

    @classmethod
    def adopt(cls, client: openai.OpenAI, max_retries: int | None) -> ClientAdapter:
        """Use a caller's client: a copy, which shares its connections, so that the caller's own is not changed."""
        settings: dict[str, Any] = {} if max_retries is None else {"max_retries": max_retries}
        return cls(_with_options(client, **settings), owned=False)

    def stream_begins(self, most: int) -> bool:
        """Count one stream more; return False if this client has as many as that, or is closed, or about to be."""
        with self._lock:
            if self._owned and (self._open_streams >= most or (self._retired and not self._open_streams)):
                return False
            self._open_streams += 1
            return True

    def open_stream(self, body: Mapping[str, Any], scope: CancelScope) -> None:
        """Send the request and deliver its response, or read it on behalf of its reader: the opening thread's work.

        `stream_begins` must have returned True before.

        A re-used connection that fails before any byte of an answer is replaced by a fresh one at once, without using
        up a retry: the server had closed it while it was idle.

        Raises:
            Exception: There is no response.
        """
        self._close_postponed()
        current_scope.set(scope)
        opened: OpenedResponse | None = None
        try:
            opened = self._open(body, scope)
        except RequestCancelled as cancelled:
            # In the frames that it passed are cycles, which keep the client until the next garbage collection.
            clear_frames(cancelled)
        finally:
            if opened is None:
                self.response_closed()
        if opened is not None:
            _deliver(opened, scope)

    def warm_up(self) -> None:
        """Do with this client what `warm` does.

        Raises:
            Exception: The server cannot be reached, or refuses.
        """
        client = _with_options(self._client, max_retries=0, timeout=WARM_UP_TIMEOUT_SECONDS)
        install_hooks(client)
        warm(client)

    def retire(self) -> None:
        """Close the client as soon as no stream uses it, if the agent made it."""
        with self._lock:
            self._retired = True
            idle = not self._open_streams
        self._close_postponed()
        if idle and self._owned:
            close_quietly(self._client)

    def response_closed(self) -> None:
        """Count one stream fewer; the last one of a retired client closes it."""
        with self._lock:
            self._open_streams -= 1
            idle = self._retired and not self._open_streams
        if idle and self._owned:
            close_quietly(self._client)

    def close_later(self, close: Callable[[], object]) -> None:
        """Postpone what needs a thread of its own until there are threads again: the next stream does it."""
        self._to_close.append(close)

    def _close_postponed(self) -> None:
        with suppress(IndexError):
            while True:
                self._to_close.popleft()()

    def _open(self, body: Mapping[str, Any], scope: CancelScope) -> OpenedResponse:
        client = self._client
        while True:
            try:
                return self._request(client, body, scope)
            except StaleConnection as stale:
                clear_frames(stale)
                scope.needs_fresh_connection()
                if scope.retries:
                    remaining = getattr(self._client, "max_retries", scope.retries) - scope.retries
                    client = _with_options(self._client, max_retries=max(remaining, 0))
                    install_hooks(client)

    def _request(self, client: openai.OpenAI, body: Mapping[str, Any], scope: CancelScope) -> OpenedResponse:
        """Send one request, with the official client's retries.

        Raises:
            StaleConnection: The request is to be sent again, on a fresh connection.
            RequestCancelled: The call has ended.
        """
        openai = import_openai()
        try:
            manager = client.chat.completions.with_streaming_response.create(**body, stream=True)
            api_response = manager.__enter__()
        except Exception as error:
            with suppress(Exception):  # the oldest HTTP library leaves the response in a cycle, and the request with it
                cast("Any", error).request.extensions.pop("trace", None)
            # The official client lets its HTTP library's exceptions through where it reads the body of an error status.
            if isinstance(error, openai.OpenAIError) or not hasattr(type(error), "request"):
                raise
            raise openai.APIConnectionError(request=cast("Any", error).request) from error
        raw = _public(api_response, "http_response", api_response)
        connection = connection_of(raw, scope, owned=self._owned)
        return OpenedResponse(raw, scope, self, base_url_of(client).rstrip("/"), connection)


def _deliver(opened: OpenedResponse, scope: CancelScope) -> None:
    """Hand an opened response over to its reader, and read it on the reader's behalf where that must be."""
    if takes_fast_path(opened):
        response = FastResponse(opened, FastBody(cast("Any", opened.connection), scope))
        if not scope.deliver(response):
            opened.release()
        return
    read_ahead = ReadAheadResponse(opened)
    if not scope.deliver(read_ahead):
        opened.release()
    elif not scope.reads_inline:
        read_ahead.read_all()


def takes_fast_path(opened: OpenedResponse) -> bool:
    """Return whether the reader itself can read a response from the socket, and be woken there."""
    connection = opened.connection
    return (
        fast_body.ENABLED
        and SHUTDOWN_WAKES
        and connection is not None
        and connection.at_body_start
        and connection.supports_fast_path
        and opened.scope.has_socket
        and opened.chunked
        and opened.encoding in {"", "identity"}
        and reads_plainly(opened.raw)
    )


def base_url_of(client: openai.OpenAI) -> str:
    """Return where a client sends its requests; ``""`` if it does not say so any more."""
    return str(_public(client, "base_url", ""))


def _public(value: Any, name: str, default: Any) -> Any:
    found = getattr(value, name, None)
    if found is None:
        missing.report(name)
        return default
    return found


def _with_options(client: Any, **settings: Any) -> Any:
    """Copy a client, which shares its connections; the client itself where that is not possible any more."""
    try:
        return client.with_options(**settings)
    except (AttributeError, TypeError):
        missing.report("with_options", "retries are those of the client that was given")
        return client
