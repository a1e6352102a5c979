"""The time limits of all tests. `BLADES_TEST_TIME_SCALE=4` makes each of them four times as long.

No test depends on being fast: what must happen has `LIMIT_SECONDS`, and a wrong path takes `WRONG_PATH_SECONDS`, so
that a machine may be twenty seconds late before a test mistakes one for the other. Tight figures are the benchmarks'.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SCALE = float(os.environ.get("BLADES_TEST_TIME_SCALE") or 1)

LIMIT_SECONDS = 60.0 * SCALE
"""How long to wait for what must happen."""
SOON_SECONDS = 20.0 * SCALE
"""How long something may take that takes `WRONG_PATH_SECONDS` on a wrong path."""
WRONG_PATH_SECONDS = 60.0 * SCALE
"""How long a script stalls where the code under test must not wait for the script."""
CPU_SECONDS = 10.0 * SCALE
"""CPU time of one thread or of the process: what is not linear takes minutes or hours."""
START_SECONDS = 240.0 * SCALE
"""How long to wait for other processes, which import and start, perhaps all at the same time."""


def wait_until(condition: Callable[[], object], seconds: float = LIMIT_SECONDS) -> None:
    """Poll for what sets no event."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)
