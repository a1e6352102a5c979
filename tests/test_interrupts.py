"""Ctrl-C at the end of a block instead of in the middle of it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from blades._output.interrupts import DeferredInterrupt

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

LIMIT_SECONDS = 20.0


def test_interrupt_waits_for_the_end_of_the_block() -> None:
    """Once, and the handler is the former one afterwards."""
    steps = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), DeferredInterrupt():  # noqa: PT012 - the block is what is tested
        signal.raise_signal(signal.SIGINT)
        steps.append("after")
    assert steps == ["after"]
    assert signal.getsignal(signal.SIGINT) is before


def test_block_without_an_interrupt_changes_nothing() -> None:
    """Neither does one that ignores interrupts."""
    before = signal.getsignal(signal.SIGINT)
    with DeferredInterrupt():
        pass
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with DeferredInterrupt():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_not_interrupted(in_thread: Callable[[Callable[[], object]], threading.Thread]) -> None:
    """There a handler can neither be set nor needs to be."""
    done = []

    def work() -> None:
        with DeferredInterrupt():
            done.append(True)

    in_thread(work).join(LIMIT_SECONDS)
    assert done == [True]
