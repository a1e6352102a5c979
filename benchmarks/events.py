"""What a `threading.Event` of the caller costs: the CPU of 1,000 idle streams, and how soon all of them end."""

from __future__ import annotations

import statistics
import threading
import time
from typing import Any

from common import Load, Row, in_child, raise_descriptor_limit, report
from readers import Readers

from blades import StreamState

STREAMS = 1000
IDLE_SECONDS = 4.0
ROUNDS = 3
CORE_GOALS = {"none": None, "one": 0.1, "each": 1.0}
"""Percent of a core when idle, by who has an event: no stream, all streams one, each stream its own."""
LIMIT_SECONDS = 30.0


def idle(kind: str, url: str) -> dict[str, float]:
    """Open streams, wait, cancel all by their events; call it in a fresh process."""
    raise_descriptor_limit()
    agent = Readers().agent(url)
    with agent.run_stream("warm") as stream:
        next(stream)
    time.sleep(1.0)  # for the threads that opened it
    shared = threading.Event()
    events = [shared if kind == "one" else threading.Event() for _ in range(STREAMS)]
    threads = threading.active_count()
    streams = [agent.run_stream("go", cancel=None if kind == "none" else event) for event in events]
    for stream in streams:
        next(stream)
    time.sleep(1.0)
    used, began = time.process_time(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    percent = 100 * (time.process_time() - used) / (time.monotonic() - began)
    more_threads = threading.active_count() - threads
    ended_ms = cancel_all(streams, events) if kind != "none" else 0.0
    for stream in streams:
        stream.cancel()
    time.sleep(1.0)
    left = threading.active_count() - threads
    return {"percent": percent, "threads": more_threads, "ended_ms": ended_ms, "left": left}


def cancel_all(streams: list[Any], events: list[threading.Event]) -> float:
    """Set the events; return the milliseconds until the last stream is cancelled."""
    began = time.monotonic()
    for event in events:
        event.set()
    for stream in streams:
        while stream.state is not StreamState.CANCELLED:
            assert time.monotonic() - began < LIMIT_SECONDS
            time.sleep(0.001)
    return (time.monotonic() - began) * 1e3


def main() -> None:
    rows = []
    words = {
        "none": "without an event",
        "one": "on one event of the caller",
        "each": "with an event of the caller each",
    }
    with Load() as load:
        for kind, goal_percent in CORE_GOALS.items():
            found = [in_child("events", "idle", kind, load.url("stall-5")) for _ in range(ROUNDS)]
            median = {key: statistics.median(each[key] for each in found) for key in found[0]}
            what, percent = f"{STREAMS:,} streams {words[kind]}", median["percent"]
            goal = {} if goal_percent is None else {"goal": f"<= {goal_percent:g} %", "met": percent <= goal_percent}
            rows.append(Row(what=f"{what}, idle", ours=percent, unit="% of a core", **goal))
            if kind != "none":
                rows.append(Row(what=f"{what}, until the last is cancelled", ours=median["ended_ms"], unit="ms"))
                rows.append(Row(what=f"{what}, threads for it", ours=median["threads"]))
                left = median["left"]
                rows.append(Row(what=f"{what}, threads left one second later", ours=left, goal="0", met=left == 0))
    report(rows)


if __name__ == "__main__":
    main()
