"""What a server records of its connections and requests. Times are of `time.monotonic`, never frozen."""

from __future__ import annotations

import json
import math
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from blades.testing._platform import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blades.testing._http import Wire

__all__ = ["Connection", "Request"]


@final
@dataclass(eq=False, slots=True)
class Connection:
    """One accepted TCP connection. Wait for its events from any thread."""

    number: int
    """1 for the server's first connection."""
    opened_at: float = field(default_factory=now)
    closed_by_client: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set as soon as the client closed, reset or shut down the connection, if it did so before the server."""
    closed: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the connection has ended, whoever ended it."""
    closed_at: float | None = None

    def _close(self) -> None:
        self.closed_at = now()
        self.closed.set()


@final
@dataclass(eq=False, slots=True)
class Request:
    """One request that arrived whole, and what became of its answer. Call its methods from any thread."""

    number: int
    """1 for the server's first request; its answer has the header ``X-Request-Id: req_local_<number>``."""
    connection: int
    """The number of its connection: equal numbers mean a re-used connection."""
    method: str
    path: str
    headers: Mapping[str, str]
    """Names match in any case."""
    body: bytes = field(repr=False)
    http10: bool = field(default=False, repr=False)
    arrived_at: float = field(default_factory=now, repr=False)
    left: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set as soon as the client disconnected before its answer was whole."""
    left_at: float | None = field(default=None, repr=False)
    answered: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the whole answer was sent. After `Reset` and `Cut` neither this nor `left` is set."""
    stalled: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set while the answer waits in a `Stall`: everything before it has been sent."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _releases: float = field(default=0, init=False, repr=False)
    _wakeup: socket.socket | None = field(default=None, init=False, repr=False)

    @property
    def json(self) -> Any:
        """The body, parsed.

        Raises:
            ValueError: The body is not JSON.
        """
        return json.loads(self.body)

    def release(self) -> None:
        """Continue after one `Stall` of this answer: the present one, or else the next."""
        self._release(1)

    def _release_all(self) -> None:
        self._release(math.inf)

    def _release(self, count: float) -> None:
        with self._lock:
            self._releases += count
            if self._wakeup is not None:
                self._wakeup.send(b"\0")

    def _leave(self) -> None:
        self.left_at = now()
        self.left.set()

    def _stall(self, wire: Wire) -> None:
        """Wait for a release. Runs in the connection's thread."""
        near, far = socket.socketpair()
        with near, far:
            try:
                while not self._take_release(far):
                    self.stalled.set()
                    wire.wait_for_wakeup(near)
                    self.stalled.clear()
            finally:
                with self._lock:
                    self._wakeup = None

    def _take_release(self, wakeup: socket.socket) -> bool:
        """Use up a release, if there is one; otherwise send to this socket when there is."""
        with self._lock:
            released = self._releases >= 1
            self._releases -= released
            self._wakeup = None if released else wakeup
            return released
