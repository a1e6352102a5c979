"""Keeps an interrupt out of a piece of work that must not be left half done."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from types import FrameType
    from typing import Self


@final
class DeferredInterrupt:
    """Defers Ctrl-C, which may otherwise raise between any two steps, to the end of a ``with`` block.

    It does nothing in other threads than the main one: Python raises KeyboardInterrupt in that one only.
    """

    def __init__(self) -> None:
        self._previous: Any = None
        self._pending: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.getsignal(signal.SIGINT)
            if callable(self._previous):  # else nothing of Python's would be called
                signal.signal(signal.SIGINT, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        if callable(self._previous):
            signal.signal(signal.SIGINT, self._previous)
            if self._pending is not None:
                self._previous(*self._pending)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._pending = number, frame
