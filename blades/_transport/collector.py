"""The garbage collector, held off during the import of the official client.

The import makes some 140,000 objects that stay, and the collector, which starts after every 700, would walk them again
and again: an eighth of the import's time. At the end they are put into the oldest generation unseen: the next run would
else walk all of them once, which takes 30 ms before the first text.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from blades._platform import HAS_GIL

if TYPE_CHECKING:
    from collections.abc import Iterator

ENABLED = True
"""The switch: where this is False, the collector is left alone."""

HELD_OFF: Final = (500_000, 50, 50)  # by their number, so that it starts after all where there is a reason

MANY: Final = 50_000  # new objects: the import makes more, a client that is made later fewer
OWN_FROZEN: Final = 1_000  # objects that may be the interpreter's: Python 3.12 begins with 375


@contextmanager
def collector_held_off() -> Iterator[None]:
    """Have the collector start after many more objects. What the program sets meanwhile, in another thread, stays.

    Afterwards many new objects are old ones. A few are not: each time, the counts that start the collector begin anew,
    so that a program that makes one client after another would never collect its garbage. In a free-threaded build
    there are no generations.
    """
    before = gc.get_threshold()
    if not ENABLED or before[0] == 0:  # 0: the program has switched it off
        yield
        return
    try:
        gc.set_threshold(*HELD_OFF)
        yield
    finally:
        if gc.get_threshold() == HELD_OFF:
            gc.set_threshold(*before)
            if HAS_GIL and gc.get_count()[0] > MANY and gc.get_freeze_count() <= OWN_FROZEN:  # a program's freeze stays
                gc.freeze()
                gc.unfreeze()
