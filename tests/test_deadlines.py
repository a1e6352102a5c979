"""The thread that ends reads at their deadlines."""

from __future__ import annotations

import math
import threading
from typing import final

from blades._clock import monotonic
from blades._transport.deadlines import DeadlineTimer
from limits import LIMIT_SECONDS, wait_until


@final
class Item:
    """Has a deadline, and notes that it has passed."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired = threading.Event()

    def expire(self, now: float) -> float:
        """See `Timed`."""
        if now < self.deadline:
            return self.deadline
        self.expired.set()
        return math.inf


def threads() -> int:
    return sum(thread.name == "blades-deadlines" for thread in threading.enumerate())


def test_earlier_deadline_wakes_the_thread() -> None:
    """The thread that waits for a late deadline notices an earlier one at once."""
    timer = DeadlineTimer()
    late, early = Item(monotonic() + 10 * LIMIT_SECONDS), Item(monotonic() + 0.05)
    assert timer.add(late)
    wait_until(lambda: timer.wakes_at == late.deadline)
    assert timer.add(early)
    assert early.expired.wait(LIMIT_SECONDS)
    assert not late.expired.is_set()
    timer.discard(early)
    timer.discard(late)
    assert timer.add(Item(monotonic()))


def test_thread_ends_when_there_is_nothing_to_do() -> None:
    """It lingers for a second, and a later deadline starts another one."""
    timer, before = DeadlineTimer(), threads()
    first = Item(monotonic())
    assert timer.add(first)
    assert first.expired.wait(LIMIT_SECONDS)
    timer.discard(first)
    wait_until(lambda: threads() <= before)
    second = Item(monotonic())
    assert timer.add(second)
    assert second.expired.wait(LIMIT_SECONDS)
    timer.discard(second)


def test_item_that_is_added_while_others_expire() -> None:
    """An item may take its own lock in `expire` that another thread holds while it adds."""
    timer, lock = DeadlineTimer(), threading.RLock()

    @final
    class Locking:
        def __init__(self) -> None:
            self.expired = threading.Event()

        def expire(self, _now: float) -> float:
            """See `Timed`."""
            with lock:
                self.expired.set()
            return math.inf

    items = [Locking() for _ in range(200)]
    for item in items:
        with lock:
            assert timer.add(item)
    for item in items:
        assert item.expired.wait(LIMIT_SECONDS)
        timer.discard(item)
