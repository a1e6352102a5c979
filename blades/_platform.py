"""Where operating systems and interpreters differ: each switch of this package, with its fact and who says so.

All other modules ask for the fact, not for the system; `blades.testing` stands alone, and has a module of its own.
`make test-other-platform` runs the tests with the values that these names have on Windows.
"""

from __future__ import annotations

import os
import selectors
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_WINDOWS: Final = sys.platform == "win32"

SHUTDOWN_WAKES: Final = not _WINDOWS
"""Whether a thread that is blocked in ``recv()`` wakes up when another one calls ``shutdown()`` on its socket.

On Linux and macOS it does. On Windows the other side is informed, but the thread waits until that side has sent or
closed: https://github.com/python/cpython/issues/91913. So there, only threads that nobody waits for read from sockets.
"""

LONGEST_WAIT_SECONDS: Final = 0.1 if _WINDOWS else 5.0
"""How long a thread may wait for a lock, a queue or an event in one go.

Elsewhere a signal interrupts such a wait, unless the system gave it to another thread, as Linux does where the main
thread has one to look at already (signal(7), "Process-directed signals"): Python acts in the main thread, and wakes
nobody. On Windows, Ctrl-C gets through only between two waits: https://github.com/python/cpython/issues/74157 (Python
3.14 mends it for locks, but not for all that waits).
"""

CLOCK_ID: Final[int | None] = getattr(time, "CLOCK_UPTIME_RAW", getattr(time, "CLOCK_MONOTONIC", None))
"""The system's clock that `time.monotonic` reads; None where ``clock_gettime`` does not exist, as on Windows.

It is CLOCK_UPTIME_RAW on macOS, whose CLOCK_MONOTONIC is another clock, and CLOCK_MONOTONIC on other Unix systems:
https://docs.python.org/3/library/time.html#time.monotonic. On Windows before Python 3.13, a tick lasts 15.6 ms.
"""

Selector: Final[type[selectors.BaseSelector]] = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""What waits for one or two sockets at a time.

``poll()`` takes descriptors above 1,023, which ``select()`` refuses on Unix. Windows has no ``poll()``, and its
``select()`` counts sockets instead: https://docs.python.org/3/library/select.html. An epoll object would need a
descriptor of its own.
"""

HAS_GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether one thread at a time runs Python code: not in a free-threaded build (https://peps.python.org/pep-0703/)."""

FORGETS_FOREIGN_THREADS: Final = sys.version_info >= (3, 13)
"""Whether `threading` forgets a thread that it has not started, and was asked about, when that thread ends.

Before, it is in `threading.enumerate` for ever: https://github.com/python/cpython/issues/114423.
"""


def register_at_fork(
    *,
    before: Callable[[], object] | None = None,
    after_in_parent: Callable[[], object] | None = None,
    after_in_child: Callable[[], object],
) -> None:
    """Have functions called at each ``fork()``. Windows has neither that nor `os.register_at_fork`.

    See https://docs.python.org/3/library/os.html#os.register_at_fork.
    """
    if hasattr(os, "register_at_fork"):
        given = {"before": before, "after_in_parent": after_in_parent, "after_in_child": after_in_child}
        os.register_at_fork(**{name: function for name, function in given.items() if function is not None})
