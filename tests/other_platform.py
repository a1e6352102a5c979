"""Windows, as far as another system can behave like it: for ``--other-platform``.

Call `pretend` before anything of blades is imported but this package itself. The values of `blades._platform` are then
those of Windows, the standard library lacks what it lacks there, and no `shutdown` wakes a thread.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

TICK_SECONDS = 0.015625  # time.get_clock_info("monotonic").resolution, on Windows before Python 3.13

LACKING: dict[ModuleType, list[str]] = {
    os: ["fork", "forkpty", "killpg", "register_at_fork"],
    select: ["poll", "epoll"],
    selectors: ["PollSelector", "EpollSelector"],
    signal: ["SIGALRM", "SIGUSR1", "pthread_kill", "setitimer"],
    time: ["clock_gettime", "CLOCK_MONOTONIC"],
}


def pretend() -> None:
    """Behave like Windows from now on."""
    for module, names in LACKING.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    selectors.DefaultSelector = selectors.SelectSelector  # type: ignore[misc,assignment]
    sys.modules["resource"] = None  # type: ignore[assignment]  # whose import then fails
    socket.socket.shutdown = shut_down_without_waking  # type: ignore[assignment]
    monotonic = time.monotonic
    time.monotonic = lambda: monotonic() // TICK_SECONDS * TICK_SECONDS
    platform, sys.platform = sys.platform, "win32"
    try:
        from blades import _clock, _platform
        from blades.testing import _platform as of_the_server
    finally:
        sys.platform = platform
    assert not _platform.SHUTDOWN_WAKES, "something has imported blades before"
    assert _clock.monotonic() % TICK_SECONDS == 0
    of_the_server.LINGER_FORMAT = "ii"  # type: ignore[misc]  # this system's own


def shut_down_without_waking(self: socket.socket, how: int) -> None:
    """Inform the other side, but do not wake a thread that reads here."""
    super(socket.socket, self).shutdown(how if how == socket.SHUT_RD else socket.SHUT_WR)
