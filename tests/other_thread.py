"""Ctrl-C as Linux delivers it where the main thread has another signal to look at: to any other thread."""

from __future__ import annotations

import ctypes
import signal
from pathlib import Path


def interrupt_other_thread(process: int) -> None:
    """Send SIGINT to a thread of a process that is not its main thread: Python then wakes nobody."""
    others = [int(task.name) for task in Path(f"/proc/{process}/task").iterdir() if int(task.name) != process]
    assert others, "the process has one thread"
    assert ctypes.CDLL(None).tgkill(process, others[0], signal.SIGINT) == 0
