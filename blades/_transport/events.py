"""Watching the events of somebody else, that nobody can be told by: they have to be asked, again and again."""

from __future__ import annotations

import os
import threading
import time
from operator import call
from typing import TYPE_CHECKING, Final, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from blades._transport.cancel import Scope

SHARE_OF_A_CORE: Final = 0.01  # what looking at foreign events may cost: with many hundreds it is done less often
LONGEST_PERIOD_SECONDS: Final = 0.1


class Event(Protocol):
    """What can be given as ``cancel=``: `threading.Event`, `multiprocessing.Event`, or the like."""

    def is_set(self) -> bool:
        """Tell whether to cancel."""
        ...


def is_set(event: Event) -> bool:
    """Look at a foreign event. One that can no longer be asked counts as set: nobody could stop the stream."""
    try:
        return event.is_set()
    except BaseException:  # noqa: BLE001 - the event is not ours: a broken manager process, for instance
        return True


@final
class Watcher:
    """One thread that polls the foreign events of all live streams; it exists only while there are some."""

    def __init__(self, period_seconds: float = 0.015) -> None:
        self._period_seconds = period_seconds
        self._start_afresh()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._start_afresh)

    def _start_afresh(self) -> None:
        self._scopes: dict[Scope, Callable[[], bool]] = {}  # with its event's is_set
        self._running = False
        self._lock = threading.RLock()

    def add(self, scope: Scope, event: Event) -> None:
        """Watch a scope's foreign event until it ends.

        Raises:
            RuntimeError: the system has no more threads.
        """
        with self._lock:
            self._scopes[scope] = event.is_set
            if not self._running:
                self._running = True
                try:
                    threading.Thread(target=self._run, name="blades-watcher", daemon=True).start()
                except BaseException:  # Ctrl-C as well
                    self._running = False
                    raise

    def discard(self, scope: Scope) -> None:
        """Stop watching. Without a lock (a dict's pop is atomic), since this runs inside ``__del__`` too."""
        self._scopes.pop(scope, None)

    def _any_is_set(self) -> bool:
        """Ask all events in one go, which is what happens nearly always."""
        try:
            return any(map(call, list(self._scopes.values())))
        except BaseException:  # noqa: BLE001 - an event of somebody's own; its scope deals with it
            return True

    def _run(self) -> None:
        period_seconds = self._period_seconds
        while True:
            time.sleep(period_seconds)
            began = time.thread_time()
            found = self._any_is_set()
            # A thousand events, which are not in the processor's cache any more, take half a millisecond.
            wanted_seconds = (time.thread_time() - began) / SHARE_OF_A_CORE
            period_seconds = min(max(self._period_seconds, wanted_seconds), LONGEST_PERIOD_SECONDS)
            if found:
                for scope in list(self._scopes):
                    scope.cancelled()
            with self._lock:
                if not self._scopes:
                    self._running = False
                    return


watcher = Watcher()
# Asking another kind of event may block, for instance when a process that shares it was killed inside it: the streams
# with plain events must not wait for that.
other_watcher = Watcher()
