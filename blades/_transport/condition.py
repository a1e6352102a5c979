"""A condition variable whose lock no exception of a signal handler leaves held."""

from __future__ import annotations

import threading
from operator import attrgetter
from typing import Any, final


@final
class Condition(threading.Condition):
    """A `threading.Condition` on a re-entrant lock, which the main thread may use although a signal handler may raise.

    CPython runs no signal handler between taking a lock and entering its ``with`` block. But
    `threading.Condition.__enter__` is Python code: an exception raised at its end leaves the lock held for ever, by a
    thread that does not know. Here ``with`` finds the methods of the lock itself, which are not Python code.
    """

    __enter__: Any = property(attrgetter("_lock.__enter__"))
    __exit__: Any = property(attrgetter("_lock.__exit__"))

    def __init__(self) -> None:
        super().__init__(threading.RLock())
