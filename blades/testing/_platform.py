"""Where operating systems differ, for the server alone: it shares no code with the library whose tests it serves."""

from __future__ import annotations

import selectors
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LINGER_FORMAT", "Selector", "now"]

_CLOCK_ID: Final[int | None] = getattr(time, "CLOCK_UPTIME_RAW", getattr(time, "CLOCK_MONOTONIC", None))

now: Final[Callable[[], float]] = (
    partial(time.monotonic) if _CLOCK_ID is None else partial(time.clock_gettime, _CLOCK_ID)
)
"""Seconds on the clock of `time.monotonic`, read through an object that tools for frozen clocks do not replace.

It is CLOCK_UPTIME_RAW on macOS, whose CLOCK_MONOTONIC is another clock; Windows has no ``clock_gettime``.
"""

Selector: Final[type[selectors.BaseSelector]] = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""What waits for a connection: ``poll()`` takes descriptors above 1,023; Windows has none."""

LINGER_FORMAT: Final = "hh" if sys.platform == "win32" else "ii"
"""The `struct` format of SO_LINGER: two shorts in Winsock, two ints in POSIX."""
