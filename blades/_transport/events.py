"""Watching the callers' cancel events, which nobody can subscribe to.

A plain `threading.Event` has no callback, but a thread that waits for it wakes within 0.1 ms: each such event gets one,
up to `MAX_WAITERS`. Events beyond that, and events of other kinds, are polled about every 15 ms by one thread each for
plain events and for all others: asking those may block, for instance when a process that shares one was killed inside.
"""

from __future__ import annotations

import itertools
import threading
import time
from functools import partial
from operator import call
from typing import TYPE_CHECKING, Final, Protocol, cast, final

from blades._transport.condition import Condition
from blades._transport.threads import start_thread, track_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_WAITERS: Final = 64  # threads that wait for one event each
WAITER_LOOK_SECONDS: Final = 0.8  # how often such a thread looks whether its streams have been discarded
LOOKS_UNTIL_CLEANUP: Final = 16  # see PERIODS_UNTIL_CLEANUP
POLL_SECONDS: Final = 0.015
SHARE_OF_A_CORE: Final = 0.0025  # what polling may cost: many hundreds of events are polled less often
LONGEST_PERIOD_SECONDS: Final = 0.2
PERIODS_UNTIL_CLEANUP: Final = 64  # a stream whose own cleanup was broken off by an exception is discarded then


class Event(Protocol):
    """What can be given as ``cancel=``: `threading.Event`, `multiprocessing.Event`, or the like."""

    def is_set(self) -> bool:
        """Return whether to cancel."""
        ...


class Pollable(Protocol):
    """What a caller's event cancels."""

    def poll(self) -> bool:
        """Ask the event, and cancel if it is set."""
        ...


class Watcher(Protocol):
    """Watches events for scopes."""

    def add(self, scope: Pollable, event: Event) -> None:
        """Have the scope polled as soon as the event is set."""
        ...

    def discard(self, scope: Pollable) -> None:
        """Stop watching. Takes no lock: ``__del__`` calls this, too."""
        ...


def start_watcher(target: Callable[[], object], name: str) -> None:
    """Start a thread that watches events.

    Raises:
        RuntimeError: None can be started.
    """
    if not start_thread(target, name):
        raise RuntimeError(f"expected a thread to watch events ({name}), got none: the system can start no more")


def is_set(event: Event) -> bool:
    """Look at a caller's event: one that cannot be asked counts as set: else nobody could cancel."""
    try:
        return event.is_set()
    except BaseException as error:  # the event is not ours: a broken manager process, for instance
        if type(event) is threading.Event or isinstance(error, KeyboardInterrupt):
            raise  # by a signal handler, in the midst of the call
        return True


def _poll_all(scopes: Iterable[Pollable], discard: Callable[[Pollable], object]) -> None:
    """Poll scopes, and discard those that have ended: an exception may have broken off their own cleanup.

    In a function of its own: no scope may be kept by the frame of a thread that waits.
    """
    for scope in list(scopes):
        if scope.poll():
            discard(scope)


@final
class EventPoller:
    """One thread that polls events; it exists only while there are some."""

    def __init__(self, period_seconds: float = POLL_SECONDS) -> None:
        self._period_seconds = period_seconds
        self._scopes: dict[Pollable, Callable[[], bool]] = {}  # with its event's is_set
        self._running = False
        self._lock = threading.RLock()
        track_fork(self)

    def abandon_after_fork(self) -> None:
        """Start anew in a forked child, where the thread is not."""
        self._scopes = {}
        self._running = False
        self._lock = threading.RLock()

    def add(self, scope: Pollable, event: Event) -> None:
        """Poll an event until its scope is discarded.

        Raises:
            RuntimeError: The system has no more threads.
        """
        with self._lock:
            self._scopes[scope] = event.is_set
            if not self._running:
                self._running = True
                try:
                    start_watcher(self._run, "blades-poller")
                except BaseException:  # Ctrl-C as well
                    self._running = False
                    raise

    def discard(self, scope: Pollable) -> None:
        """Stop watching. A dict's pop is one step, so this needs no lock."""
        self._scopes.pop(scope, None)

    def _any_is_set(self) -> bool:
        """Ask all events in one go; hardly ever is one set."""
        try:
            return any(map(call, list(self._scopes.values())))
        except BaseException:  # an event of the caller's own; `poll` deals with it
            return True

    def _run(self) -> None:
        period_seconds = self._period_seconds
        for period in itertools.count(1):
            time.sleep(period_seconds)
            began = time.thread_time()
            found = self._any_is_set()
            # Polling 1,000 events takes about 0.5 ms, mostly cache misses.
            wanted_seconds = (time.thread_time() - began) / SHARE_OF_A_CORE
            period_seconds = min(max(self._period_seconds, wanted_seconds), LONGEST_PERIOD_SECONDS)
            if found or period % PERIODS_UNTIL_CLEANUP == 0:
                _poll_all(self._scopes, self.discard)
            with self._lock:
                if not self._scopes:
                    self._running = False
                    return


@final
class _EventWaiter:
    """One event, the scopes that it cancels, and whether a thread waits for it."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event
        self.scopes: dict[Pollable, None] = {}


@final
class EventWaiters:
    """Threads that wait for one plain event each, however many streams it cancels."""

    def __init__(self, overflow: EventPoller) -> None:
        self._overflow = overflow
        self._waiters: dict[int, _EventWaiter] = {}
        self._waiter_of: dict[Pollable, _EventWaiter] = {}
        self._lock = threading.RLock()
        track_fork(self)

    def abandon_after_fork(self) -> None:
        """Start anew in a forked child, where the threads are not."""
        self._waiters, self._waiter_of = {}, {}
        self._lock = threading.RLock()

    def add(self, scope: Pollable, event: Event) -> None:
        """Wait for an event until its scope is discarded, or have it polled if there are too many.

        Raises:
            RuntimeError: The system has no more threads.
        """
        with self._lock:
            waiter = self._waiters.get(id(event))
            if waiter is None and len(self._waiters) >= MAX_WAITERS:
                self._overflow.add(scope, event)
                return
            is_new = waiter is None
            if waiter is None:
                waiter = self._waiters[id(event)] = _EventWaiter(cast("threading.Event", event))
            waiter.scopes[scope] = None
            self._waiter_of[scope] = waiter
            if not is_new:
                return
            try:
                start_watcher(partial(self._run, waiter), "blades-event")
            except BaseException:
                del self._waiters[id(event)], self._waiter_of[scope]
                raise

    def discard(self, scope: Pollable) -> None:
        """Stop watching. A dict's pop is one step, so this needs no lock."""
        waiter = self._waiter_of.pop(scope, None)
        if waiter is None:
            self._overflow.discard(scope)
        else:
            waiter.scopes.pop(scope, None)

    def _discard_of(self, waiter: _EventWaiter, scope: Pollable) -> None:
        self._waiter_of.pop(scope, None)
        waiter.scopes.pop(scope, None)

    def _run(self, waiter: _EventWaiter) -> None:
        for look in itertools.count(1):
            if waiter.event.wait(WAITER_LOOK_SECONDS) or look % LOOKS_UNTIL_CLEANUP == 0:
                _poll_all(waiter.scopes, partial(self._discard_of, waiter))
            with self._lock:
                if not waiter.scopes:
                    if self._waiters.get(id(waiter.event)) is waiter:
                        del self._waiters[id(waiter.event)]
                    return


plain_poller = EventPoller()
blocking_poller = EventPoller()
event_waiters = EventWaiters(plain_poller)


@final
class StopEvent(threading.Event):
    """The event that tools are given. Its lock is re-entrant: a signal handler may set it inside a tool's `wait`."""

    def __init__(self) -> None:
        super().__init__()
        self._cond = Condition()


def watcher_of(event: Event) -> Watcher:
    """Choose who watches an event: a subclass of `threading.Event` may do anything in its ``is_set``."""
    return event_waiters if type(event) in {threading.Event, StopEvent} else blocking_poller
