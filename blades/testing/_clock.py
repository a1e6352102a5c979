"""A monotonic clock that stays real where a test freezes the `time` module."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["now"]


def _real_clock() -> Callable[[], float]:
    """Find a clock that counts as `time.monotonic` does, and whose function no tool for frozen clocks replaces."""
    for name in ("CLOCK_UPTIME_RAW", "CLOCK_MONOTONIC"):  # macOS, whose CLOCK_MONOTONIC is another clock; Linux
        if hasattr(time, name):
            return partial(time.clock_gettime, getattr(time, name))
    return partial(time.monotonic)  # Windows; the partial hides the function from a freeze that comes later


now = _real_clock()
