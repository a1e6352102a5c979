"""Threads that are not waited for, and what happens to them at a fork and at the interpreter's exit.

The platform's facts:

- After ``fork()`` the child has copies of the parent's sockets, where it would take the parent's bytes, and of the
  locks that other threads held, which nobody will release there. So a child abandons its copies at once.
- At the interpreter's exit, daemon threads stop for ever wherever they are, with the locks that they hold. From Python
  3.12 on, no thread can be started then.
- A signal handler may raise inside any call of the main thread, also while that one starts a thread.
"""

from __future__ import annotations

import _thread
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from blades._platform import FORGETS_FOREIGN_THREADS, register_at_fork

if TYPE_CHECKING:
    from collections.abc import Callable


class Forkable(Protocol):
    """What must not go on living in a forked child."""

    def abandon_after_fork(self) -> None:
        """Drop what belongs to the parent: its sockets, and locks that may be held."""
        ...


_forkables: WeakSet[Forkable] = WeakSet()


def track_fork(item: Forkable) -> None:
    """Have an object's `abandon_after_fork` called in a forked child, as long as the object lives."""
    _forkables.add(item)


def _abandon_all() -> None:
    for item in list(_forkables):
        item.abandon_after_fork()


register_at_fork(after_in_child=_abandon_all)


def raised_by(error: BaseException, *modules: str) -> bool:
    """Return whether an exception comes from these modules, called in the frame that has just caught it.

    An exception of a signal handler that ran meanwhile has the handler's frame in its traceback.
    """
    entry = error.__traceback__ and error.__traceback__.tb_next
    while entry is not None:
        if entry.tb_frame.f_globals.get("__name__") not in modules:
            return False
        entry = entry.tb_next
    return True


def start_thread(target: Callable[[], object], name: str) -> bool:
    """Start a daemon thread; return False where none can be started: too many, or the interpreter is exiting.

    Raises:
        BaseException: What a signal handler of the caller's has raised meanwhile; the thread may run.
    """
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except Exception as error:
        if not raised_by(error, threading.__name__):
            raise
        replaced = _replaced_in_start(error)
        if replaced is None:
            return False
    else:
        return True
    raise replaced


def _replaced_in_start(error: Exception) -> BaseException | None:
    """Return the handler's exception that `threading.Thread.start` has stumbled over; None if there was none.

    Interrupted while it waits for the thread, that method releases a lock that it does not hold, or deletes an entry
    that is not there, and raises a RuntimeError or a KeyError about that.
    """
    replaced = error.__context__
    if replaced is None or replaced.__traceback__ is None:
        return None
    # The traceback begins where the exception is handled: an exception that the caller is handling began elsewhere.
    is_ours = replaced.__traceback__.tb_frame.f_globals.get("__name__") == threading.__name__
    return replaced if is_ours else None


def run_detached(function: Callable[[], object]) -> bool:
    """Run a function in a short-lived thread, without waiting for it to start; return False if that is impossible.

    `threading.Thread.start` waits for the thread: for ever, in ``__del__`` while the interpreter is finalizing.
    """
    if sys.is_finalizing():
        return False
    try:
        _thread.start_new_thread(function if FORGETS_FOREIGN_THREADS else partial(_run_and_forget, function), ())
    except RuntimeError as error:
        if raised_by(error, threading.__name__):  # no more threads; or the process is ending, and its sockets with it
            return False
        raise
    return True


def _run_and_forget(function: Callable[[], object]) -> None:
    """Run the function of a thread, and remove what a call of `threading.current_thread` (by a logger) has left."""
    try:
        function()
    finally:
        threading._active.pop(_thread.get_ident(), None)  # type: ignore[attr-defined]  # noqa: SLF001


def close_quietly(client: Any, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
    """Close a client, whatever that raises.

    Not at the interpreter's exit: a thread that has stopped may hold a lock of the client's, this module may be empty
    already, and the system closes the sockets.
    """
    if not is_finalizing():
        with suppress(Exception):
            client.close()
