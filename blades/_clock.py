"""The clock of every time limit and every measured time.

Tests freeze clocks: freezegun replaces ``time.monotonic``, also where a module has imported it by name. A frozen clock
would let a stalled stream wait for ever, so this one is read through an object that such a tool does not recognise.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from blades._platform import CLOCK_ID

if TYPE_CHECKING:
    from collections.abc import Callable

monotonic: Final[Callable[[], float]] = (
    partial(time.monotonic) if CLOCK_ID is None else partial(time.clock_gettime, CLOCK_ID)
)
"""Seconds on a clock that never goes back: the one of ``time.monotonic``."""
