"""What the installed official client, or its HTTP library, turned out to lack: said once per process."""

from __future__ import annotations

import logging
from typing import Final, final

logger = logging.getLogger("blades")

LATER: Final = "a cancelled stream returns at once, but the server may notice late"
LONGER: Final = "connections are opened more often"
LINGERS: Final = "a thread outlives a stream that is cancelled before a retry"
COSTLY: Final = "streams take more CPU time"


@final
class _Missing:
    """What was found missing: the first is warned of, once per process; others are for the debugging of that."""

    def __init__(self) -> None:
        self._reported: set[str] = set()

    def report(self, name: str, effect: str = LATER) -> None:
        """Report that a name is missing or does not behave as it did."""
        if name not in self._reported:
            level = logging.DEBUG if self._reported else logging.WARNING
            self._reported.add(name)
            logger.log(level, "the installed openai or its HTTP library has no usable %s: %s", name, effect)


missing: Final = _Missing()
