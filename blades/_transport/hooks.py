"""What is asked of the official client's private side, and of its HTTP library's, beyond a plain request.

Every name is asked for here, and each can be missing or behave differently: streaming, retries and time limits do not
depend on it. Without it `next()` still returns at once after a cancel, but the server notices later.

- ``_prepare_request(request)`` runs before each attempt, outside the part that retries: nothing leaves once the call
  has ended, and each request gets a ``trace`` callback.
- ``_sleep_for_retry`` waits between attempts, as long as ``_calculate_retry_timeout`` says; here it can be interrupted.
- The trace callback is notified of each new connection and of the end of each response.
- ``network_stream``, an extension of a response, is the connection that it arrived on.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any, Final, final

from blades._transport.cancel import RequestCancelled
from blades._transport.connection import StaleConnection, TrackedConnection, current_connection, current_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blades._transport.cancel import CancelScope

logger = logging.getLogger("blades")

_SLOWER: Final = "a cancelled stream returns at once, but the server may notice late"


@final
class _Missing:
    """What was found missing: each is reported once per process."""

    def __init__(self) -> None:
        self._reported: set[str] = set()

    def report(self, name: str) -> None:
        """Warn that a name is missing or does not behave as it did."""
        if name not in self._reported:
            self._reported.add(name)
            logger.warning("the installed openai or its HTTP library has no usable %s: %s", name, _SLOWER)


missing: Final = _Missing()


def install_hooks(client: Any) -> None:
    """Let this client's requests be interrupted. Does nothing for requests made by other code on the same client."""
    _replace(client, "_prepare_request", _prepare)
    _replace(client, "_sleep_for_retry", _sleep)


def _replace(client: Any, name: str, hook: Callable[..., Any]) -> None:
    original = getattr(client, name, None)
    if not callable(original):
        missing.report(name)
        return

    def hooked(*arguments: Any, **named: Any) -> Any:
        scope = current_scope.get()
        if scope is None:
            return original(*arguments, **named)
        return hook(scope, client, original, arguments, named)

    try:
        setattr(client, name, hooked)
    except AttributeError:
        missing.report(name)


def _prepare(scope: CancelScope, _client: Any, original: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    scope.raise_if_ended()
    request = next((value for value in (*arguments, *named.values()) if hasattr(value, "extensions")), None)
    try:
        extensions = request.extensions  # type: ignore[union-attr]
        extensions["trace"] = _Tracer(scope, _forward_target(request), extensions.get("trace"))
    except (AttributeError, TypeError):
        missing.report("request.extensions")
    return original(*arguments, **named)


def _sleep(scope: CancelScope, client: Any, original: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    scope.raise_if_ended()
    try:
        response = named["response"]
        headers = None if response is None else response.headers
        seconds = client._calculate_retry_timeout(  # noqa: SLF001 - see the module
            named["max_retries"] - named["retries_taken"], named["options"], headers
        )
        seconds = float(seconds)
    except Exception:  # noqa: BLE001 - whatever has changed, the original knows how to wait
        missing.report("_calculate_retry_timeout")
        result = original(*arguments, **named)
        scope.sleep(0)
        return result
    scope.sleep(seconds)
    return None


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
        self._scope = scope
        self._target = target
        self._inner = inner  # the caller's own
        self._through_proxy = False
        self._connection: TrackedConnection | None = None  # if it was opened for this request

    def __call__(self, event: str, info: Mapping[str, Any], *arguments: Any, **named: Any) -> None:
        try:
            self._follow(event, info)
        except (RequestCancelled, StaleConnection):
            raise
        except Exception:  # noqa: BLE001 - what an event carries may change with the library
            missing.report(f"trace event {event}")
        if callable(self._inner):
            self._inner(event, info, *arguments, **named)

    def _follow(self, event: str, info: Mapping[str, Any]) -> None:
        scope = self._scope
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
            self._follow_connection(step, info)

    def _follow_connection(self, step: str, info: Mapping[str, Any]) -> None:
        scope = self._scope
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
            self._connection = track(info["return_value"], scope, opener=scope)


def track(stream: Any, scope: CancelScope, *, opener: CancelScope | None) -> TrackedConnection | None:
    """Wrap a connection of the HTTP library, and attach it; None if it hides its socket, or carries other streams.

    Raises:
        RequestCancelled: The call has ended meanwhile; the connection was closed.
    """
    if not isinstance(stream.get_extra_info("socket"), socket.socket):
        return None  # a network backend of the caller's own: it cannot be interrupted
    try:
        tracked = TrackedConnection(stream, opener)
    except (AttributeError, TypeError):  # its methods are not there, or cannot be replaced
        missing.report("network_stream")
        return None
    try:
        if not tracked.multiplexed:
            scope.attach(tracked.socket)
    except RequestCancelled:
        stream.close()
        raise
    return tracked


def connection_of(response: Any, scope: CancelScope) -> TrackedConnection | None:
    """Return the connection that an open response arrived on; wrap one that was opened by other code."""
    if getattr(response, "is_closed", False):  # a caller's hook has read it: the connection may serve another request
        return None
    extensions: Any = getattr(response, "extensions", None)
    stream = extensions.get("network_stream") if isinstance(extensions, dict) else None
    tracked = getattr(getattr(stream, "read", None), "__self__", None)
    if isinstance(tracked, TrackedConnection):
        return tracked
    if stream is None or scope.has_socket or extensions.get("http_version") == b"HTTP/2":
        return None
    try:
        return track(stream, scope, opener=None)
    except RequestCancelled:
        raise
    except Exception:  # noqa: BLE001 - what the extension holds may change with the library
        missing.report("network_stream")
        return None
