"""One thread that ends reads at their deadlines.

A reader blocks in ``recv`` without any time limit of the socket's: Python would spend a system call more on each read
for one, and the kernel's own (SO_RCVTIMEO) starts again whenever a signal interrupts the call. Instead, the socket is
shut down at the deadline, which is how a cancel wakes the reader as well.
"""

from __future__ import annotations

import math
from typing import Final, Protocol, final

from blades._clock import monotonic
from blades._transport.condition import Condition
from blades._transport.threads import start_thread, track_fork

LINGER_SECONDS: Final = 1.0  # how long the thread stays without anything to do


class Timed(Protocol):
    """An object with a deadline that moves."""

    def expire(self, now: float) -> float:
        """Act if the deadline has passed; return when to call this again, `math.inf` for never."""
        ...


@final
class DeadlineTimer:
    """The thread, which exists only while reads with deadlines are under way. Call every method from any thread.

    `_changed` guards `_running`, `_added` and `wakes_at`, and is notified when the thread has to wake earlier. A
    deadline that moves later needs no notice: the thread wakes at the old one, and calls `expire` again.
    """

    def __init__(self) -> None:
        self._items: dict[Timed, None] = {}
        self._changed = Condition()
        self._running = False
        self._added = False  # an item was added after the thread had copied them
        self.wakes_at = math.inf  # while the thread computes, `math.inf`: everybody notifies
        track_fork(self)

    def add(self, item: Timed) -> bool:
        """Call an item's `expire` at its deadlines from now on; return False if no thread can be started for that."""
        with self._changed:
            self._items[item] = None
            self._added = True
            if self._running:
                self._changed.notify()
                return True
            self._running = True
            started = False
            try:
                started = start_thread(self._run, "blades-deadlines")
            finally:
                if not started:
                    self._running = False
                    self._items.pop(item, None)
            return started

    def discard(self, item: Timed) -> None:
        """Forget an item. Takes no lock (a dict's pop is one step): ``__del__`` calls this, too."""
        self._items.pop(item, None)

    def abandon_after_fork(self) -> None:
        """Start anew in a forked child, where the thread is not."""
        self._items = {}
        self._changed = Condition()
        self._running = False
        self._added = False
        self.wakes_at = math.inf

    def _expire_all(self, now: float) -> float:
        """Ask all items, and return when the first of them is to be asked again.

        Without the lock: an item takes a lock of its own here, and holds that one when it is added. In a method of its
        own: no item may be kept by the frame of a thread that waits.
        """
        return min((item.expire(now) for item in list(self._items)), default=math.inf)

    def _run(self) -> None:
        idle_since: float | None = None
        while True:
            with self._changed:
                self._added = False
                self.wakes_at = math.inf
            now = monotonic()
            due = self._expire_all(now)
            with self._changed:
                if self._added:
                    continue
                if self._items:
                    idle_since = None
                elif idle_since is None:
                    idle_since = now
                elif now - idle_since >= LINGER_SECONDS:
                    self._running = False
                    return
                self.wakes_at = due
                self._changed.wait(max(min(due - now, LINGER_SECONDS), 0))  # nobody notifies of a discarded item


deadline_timer = DeadlineTimer()
