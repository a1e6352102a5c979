"""What is asked of the official client's private side, and of its HTTP library's, beyond a plain request.

Every name is asked for here, and each can be missing or behave differently: streaming, retries and time limits do not
depend on it. Without it `next()` still returns at once after a cancel, but the server notices later.

- ``_prepare_request(request)`` runs before each attempt, outside the part that retries: nothing leaves once the call
  has ended, and each request gets a ``trace`` callback.
- ``_sleep_for_retry`` waits between attempts, as long as ``_calculate_retry_timeout`` says; here it can be interrupted.
- The trace callback is notified of each new connection and of the end of each response.
- ``network_stream``, an extension of a response, is the connection that it arrived on.
- ``_httpcore_stream`` shows that a body is the library's own, with no stream of a caller's transport before it.
"""

from __future__ import annotations

import socket
import weakref
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, final

from blades._transport.cancel import RequestCancelled
from blades._transport.connection import (
    StaleConnection,
    TrackedConnection,
    current_connection,
    current_scope,
)
from blades._transport.missing import COSTLY, LATER, LINGERS, missing
from blades._transport.network_stream import speaks_http2

if TYPE_CHECKING:
    from collections.abc import Callable

    from blades._transport.cancel import CancelScope

_SLEEP_ARGUMENTS: Final = {"retries_taken", "max_retries", "options", "response"}


def install_hooks(client: Any) -> None:
    """Let this client's requests be interrupted. Does nothing for requests made by other code on the same client."""
    _replace(client, "_prepare_request", _prepare)
    _replace(client, "_sleep_for_retry", _sleep, LINGERS)


def _replace(client: Any, name: str, hook: Callable[..., Any], effect: str = LATER) -> None:
    original = getattr(client, name, None)
    if isinstance(original, _Hook):  # a client that could not be copied
        return
    if callable(original):
        with suppress(AttributeError, TypeError):
            setattr(client, name, _Hook(client, original, hook))
            return
    missing.report(name, effect)


@final
class _Hook:
    """Stands before a method of a client. Does nothing for requests of other code on the same client."""

    def __init__(self, client: Any, original: Any, hook: Callable[..., Any]) -> None:
        self._client = client
        self._original = original
        self._hook = hook

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the hook for the requests of a stream, and what it stands before for others."""
        scope = current_scope.get()
        if scope is None:
            return self._original(*arguments, **named)
        return self._hook(scope, self._client, self._original, arguments, named)


_current_tracer: ContextVar[_Tracer | None] = ContextVar("blades_tracer", default=None)


def _prepare(scope: CancelScope, _client: Any, original: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    scope.raise_if_ended()
    request = next((value for value in (*arguments, *named.values()) if hasattr(value, "extensions")), None)
    try:
        extensions = request.extensions  # type: ignore[union-attr]
        tracer = _Tracer(scope, _forward_target(request), extensions.get("trace"))
        extensions["trace"] = tracer
        _current_tracer.set(tracer)
    except (AttributeError, TypeError):
        missing.report("request.extensions")
    return original(*arguments, **named)


def _sleep(scope: CancelScope, client: Any, original: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    scope.raise_if_ended()
    if arguments or named.keys() != _SLEEP_ARGUMENTS:
        missing.report("_sleep_for_retry", LINGERS)
        return _sleep_as_before(scope, original, arguments, named)
    try:
        response = named["response"]
        headers = None if response is None else response.headers
        seconds = client._calculate_retry_timeout(  # noqa: SLF001 - see the module
            named["max_retries"] - named["retries_taken"], named["options"], headers
        )
        seconds = float(seconds)
    except Exception:  # whatever has changed, the original knows how to wait
        missing.report("_calculate_retry_timeout", LINGERS)
        return _sleep_as_before(scope, original, arguments, named)
    scope.sleep(seconds)
    return None


def _sleep_as_before(scope: CancelScope, original: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Wait without a way to be woken: the reader is free meanwhile, and nothing leaves once the call has ended."""
    result = original(*arguments, **named)
    scope.sleep(0)
    return result


def _forward_target(request: Any) -> tuple[str, int] | None:
    """Return where a request goes that must not pass a forward proxy on a re-used connection: one without TLS."""
    url: Any = getattr(request, "url", None)
    if getattr(url, "scheme", None) != "http":
        return None
    return str(url.host), url.port or 80


@final
class _Tracer:
    """Follows one request through the HTTP library. Only `RequestCancelled` and `StaleConnection` leave it."""

    def __init__(self, scope: CancelScope, target: tuple[str, int] | None, inner: Any) -> None:
        # A failed call keeps the official client's exception, that its request, and that this object.
        self._scope = weakref.ref(scope)
        self._target = target
        self._inner = inner  # the caller's own
        self._through_proxy = False
        self.called = False
        self._connection: TrackedConnection | None = None  # if it was opened for this request

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.called = True
        values = (*arguments, *named.values())
        event = next((value for value in values if isinstance(value, str)), "")
        scope = self._scope()
        try:
            if scope is not None:
                self._follow(scope, event, next((value for value in values if isinstance(value, Mapping)), {}))
        except (RequestCancelled, StaleConnection):
            raise
        except Exception:  # what an event carries may change with the library
            missing.report(f"trace event {event}")
        return self._inner(*arguments, **named) if callable(self._inner) else None

    def _follow(self, scope: CancelScope, event: str, info: Mapping[str, Any]) -> None:
        layer, _, step = event.partition(".")
        if step == "response_closed.started":
            scope.detach()
            if self._through_proxy and self._connection is not None:
                self._connection.retire()
        elif layer == "http2":
            scope.detach()
            if step == "send_request_headers.started":  # later than here, an exception would break other streams
                scope.raise_if_ended()
        elif step == "send_request_headers.started":
            scope.raise_if_ended()
        elif step == "receive_response_headers.complete" or (
            step == "receive_response_headers.failed" and "ProtocolError" in type(info.get("exception")).__name__
        ):
            connection = current_connection.get()
            if connection is not None:
                connection.raise_if_answered_in_advance()
        else:
            self._follow_connection(scope, step, info)

    def _follow_connection(self, scope: CancelScope, step: str, info: Mapping[str, Any]) -> None:
        if step == "connect_tcp.started":
            scope.raise_if_ended()
            # tinyproxy relays bytes after the first answer: a second request, were it only that of a redirect, would
            # reach the server as it is, with the proxy's password.
            self._through_proxy = self._target not in {None, (info.get("host"), info.get("port"))}
        elif step.startswith("setup_socks5"):
            self._through_proxy = False  # that is a tunnel
        elif step == "start_tls.started":
            scope.attach_duplicate()
        elif step == "start_tls.failed":
            scope.detach()
        elif step in {"connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete"}:
            if step == "start_tls.complete" and self._connection is not None:  # its stream is inside of the new one
                self._connection.unwrap()
            self._connection = track(info["return_value"], scope, opener=scope)


def track(stream: Any, scope: CancelScope, *, opener: CancelScope | None) -> TrackedConnection | None:
    """Wrap a connection of the HTTP library, and attach it; None if that is not possible, or it carries other streams.

    Raises:
        RequestCancelled: The call has ended meanwhile; the connection was closed.
    """
    if not callable(getattr(stream, "get_extra_info", None)):
        missing.report("get_extra_info of a network_stream")
        return None
    sock = stream.get_extra_info("socket")
    if not isinstance(sock, socket.socket):
        return None  # a network backend of the caller's own: it cannot be interrupted
    tracked = _tracked(stream)
    if tracked is None:
        try:
            tracked = TrackedConnection(stream, opener)
        except (AttributeError, TypeError):  # its methods are not there, or cannot be replaced
            missing.report("network_stream")
    try:
        if not (speaks_http2(stream) if tracked is None else tracked.multiplexed):
            scope.attach(sock)
    except RequestCancelled:
        (stream if hasattr(stream, "close") else sock).close()
        raise
    return tracked


def _tracked(stream: Any) -> TrackedConnection | None:
    tracked = getattr(getattr(stream, "read", None), "__self__", None)
    return tracked if isinstance(tracked, TrackedConnection) else None


def connection_of(response: Any, scope: CancelScope, *, owned: bool) -> TrackedConnection | None:
    """Return the connection that an open response arrived on; wrap one that is not wrapped yet.

    Args:
        response: The response of the HTTP library.
        scope: Whose response it is.
        owned: Whether the agent made the client: else requests of other code open connections, too.

    Raises:
        RequestCancelled: The call has ended meanwhile; the connection was closed.
    """
    if getattr(response, "is_closed", False):  # a caller's hook has read it: the connection may serve another request
        return None
    stream = _extension(response, "network_stream")
    tracked = _tracked(stream)
    _report_unused(stream, tracked, scope)
    if stream is None or _extension(response, "http_version") == b"HTTP/2":
        return tracked
    if scope.has_socket or (tracked is not None and tracked.multiplexed):
        return tracked
    try:
        found = track(stream, scope, opener=None)
        if found is not None and tracked is None and owned:
            missing.report("trace event connect_tcp.complete")
    except RequestCancelled:
        raise
    except Exception:  # what the extension holds may change with the library
        missing.report("network_stream")
        return None
    return found


def _report_unused(stream: Any, tracked: TrackedConnection | None, scope: CancelScope) -> None:
    """Report what the libraries should have called until the headers of a response came, and did not."""
    tracer = _current_tracer.get()
    if stream is None:
        if scope.has_socket:  # not a transport that stands in for the network
            missing.report("network_stream")
    elif tracer is None:
        missing.report("_prepare_request")
    elif not tracer.called:
        missing.report("trace extension")
    elif tracked is not None and (unused := tracked.unused_method):
        missing.report(f"network_stream.{unused}")


def reads_plainly(response: Any) -> bool:
    """Return whether the body of a response is the library's own: a transport may have put its stream before it."""
    stream = getattr(response, "stream", None)
    inner = getattr(stream, "_stream", None)
    if hasattr(inner, "_httpcore_stream"):
        return True
    if stream is None:
        missing.report("stream of a response", COSTLY)
    elif type(inner).__module__.partition(".")[0] == type(response).__module__.partition(".")[0]:
        missing.report("_httpcore_stream", COSTLY)
    return False


def _extension(response: Any, name: str) -> Any:
    extensions = getattr(response, "extensions", None)
    return extensions.get(name) if isinstance(extensions, Mapping) else None
