"""What a server records of its connections and requests."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blades.testing._http import Wire

__all__ = ["Connection", "Request"]


@final
@dataclass(eq=False, slots=True)
class Connection:
    """One accepted TCP connection. Times are of `time.monotonic`; wait for its events from any thread."""

    number: int
    """1 for the server's first connection."""
    opened_at: float = field(default_factory=time.monotonic)
    closed_by_client: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set as soon as the client closed, reset or shut down the connection, if it did so before the server."""
    closed: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the connection has ended, whoever ended it."""
    closed_at: float | None = None


@final
@dataclass(eq=False, slots=True)
class Request:
    """One request that arrived whole, and what became of its answer. Call it from any thread."""

    number: int
    """1 for the server's first request; its answer has the header ``X-Request-Id: req_local_<number>``."""
    connection: int
    """The number of the connection that it came on: equal numbers mean a connection that was used again."""
    method: str
    path: str
    headers: Mapping[str, str]
    """Names match in any case."""
    body: bytes = field(repr=False)
    http10: bool = field(default=False, repr=False)
    arrived_at: float = field(default_factory=time.monotonic, repr=False)
    """By `time.monotonic`, as `left_at`."""
    left: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set as soon as the client went away before its answer was whole."""
    left_at: float | None = field(default=None, repr=False)
    answered: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the whole answer was sent. After `Reset` and `Cut` neither this nor `left` is set."""
    stalled: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set while the answer waits in a `Stall`: everything before it has been sent."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _releases: float = field(default=0, init=False, repr=False)
    _bell: socket.socket | None = field(default=None, init=False, repr=False)

    @property
    def json(self) -> Any:
        """The body, parsed.

        Raises:
            ValueError: It is not JSON.
        """
        return json.loads(self.body)

    def release(self) -> None:
        """Let one `Stall` of this answer go on: the present one, or else the next that it comes to."""
        self._release(1)

    def _release(self, count: float) -> None:
        with self._lock:
            self._releases += count
            if self._bell is not None:
                self._bell.send(b"\0")

    def _take_release(self, bell: socket.socket | None) -> bool:
        """Use up a release, if there is one; else ring this bell when there is."""
        with self._lock:
            released = self._releases >= 1
            self._releases -= released
            self._bell = None if released else bell
            return released

    def _stall(self, wire: Wire) -> None:
        near, far = socket.socketpair()
        with near, far:
            try:
                while not self._take_release(far):
                    self.stalled.set()
                    wire.wait_for(near)
                    self.stalled.clear()
            finally:
                with self._lock:
                    self._bell = None
