"""A response whose headers have arrived, and what it takes to release it."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, final

from blades._transport.threads import run_detached
from blades._values import ResponseInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from blades._transport.cancel import CancelScope
    from blades._transport.connection import TrackedConnection


class Owner(Protocol):
    """The client that a response belongs to."""

    def response_closed(self) -> None:
        """Count one stream fewer: a retired client is closed with its last one."""
        ...

    def close_later(self, close: Callable[[], object]) -> None:
        """Have something closed when there are threads again."""
        ...


@final
class OpenedResponse:
    """A response of the HTTP library whose headers have arrived, and what it takes to release it."""

    _is_finalizing = staticmethod(sys.is_finalizing)  # at the exit this module may be empty already

    def __init__(
        self, response: Any, scope: CancelScope, owner: Owner, base_url: str, connection: TrackedConnection | None
    ) -> None:
        headers = response.headers
        self.raw = response
        self.scope = scope
        self.connection = connection
        self.info = ResponseInfo(
            status=response.status_code,
            content_type=headers.get("content-type", ""),
            base_url=base_url,
            request_id=headers.get("x-request-id"),
        )
        self.is_closed = bool(getattr(response, "is_closed", False))  # a caller's hook has read it
        self.encoding = headers.get("content-encoding", "").strip().lower()
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked" and "content-length" not in headers
        self._owner: Owner | None = owner

    def __del__(self) -> None:
        if self._owner is not None and not self._is_finalizing():  # lost between two steps, by Ctrl-C
            self.close()

    def release(self) -> None:
        """Release the connection, here and now: for the thread that reads. Idempotent, raises no Exception."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        with suppress(Exception):
            self.raw.close()
            # The oldest HTTP library leaves the response in a cycle: it must not keep the call until a collection.
            self.raw.request.extensions.pop("trace", None)
        if self.connection is not None:
            self.connection.end_response(self.scope)
        self.scope.detach()
        owner.response_closed()

    def close(self) -> bool:
        """Release the connection in a thread of its own; return False if there are no more threads.

        Closing takes the connection pool's lock, which is not re-entrant, and the caller may be a signal handler or
        ``__del__`` that interrupted the pool.
        """
        owner = self._owner
        if owner is None or run_detached(self.release):
            return True
        owner.close_later(self.release)
        return False
