"""Measure one client in its own environment: ``python peer.py NAME TASK BASE_URL...`` prints one JSON value.

It may import nothing but the standard library, `common`, and the adapter.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import sys
import threading
import time
import warnings
from contextlib import suppress
from typing import Any

from common import HERE, cpu_of, drain, peak_memory

BURST = 5_000
CANCEL_SECONDS = 5.0
SETTLE_SECONDS = 0.5
FIRST_SETTLE_SECONDS = 3.0
"""For the imports, and for opening the connection."""
CANCELS = 9


def load(name: str) -> Any:
    """Import an adapter from its file."""
    spec = importlib.util.spec_from_file_location(f"adapter_{name}", HERE / "peers" / f"adapter_{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cpu(name: str, url: str) -> float:
    """Return the microseconds of CPU per chunk of a burst."""
    peer = load(name).Peer(url)
    count = drain(peer.stream())
    assert count >= BURST, count
    return statistics.median(cpu_of(lambda: drain(peer.stream())) / BURST * 1e6 for _ in range(3))


def ten(name: str, url: str) -> int:
    """Read ten streams in sequence; the server counts the connections."""
    peer = load(name).Peer(url)
    return sum(drain(peer.stream()) for _ in range(10))


def memory(name: str, url: str, small_url: str) -> float:
    """Return the MiB that a long answer takes beyond a short one."""
    adapter = load(name)
    drain(adapter.Peer(small_url).stream())
    before = peak_memory()
    drain(adapter.Peer(url).stream())
    return peak_memory() - before


def truncated(name: str, url: str) -> str:
    """Return how a stream ends that was cut short: the exception, or "silent"."""
    try:
        drain(load(name).Peer(url).stream())
    except Exception as error:  # its type is the result
        return type(error).__name__
    return "silent"


def cancel(name: str, url: str) -> str | float:
    """Return the milliseconds until the reader returns from its wait: the median of some cancels."""
    peer = load(name).Peer(url)
    if peer.cancel is None:
        return "no way"
    times: list[float] = []
    for settle_seconds in (FIRST_SETTLE_SECONDS, *[SETTLE_SECONDS] * (CANCELS - 1)):
        result = cancel_once(peer, settle_seconds)
        if isinstance(result, str):
            return result
        times.append(result)
    return statistics.median(times)


def cancel_once(peer: Any, settle_seconds: float) -> str | float:
    """Cancel one answer from another thread."""
    returned_at: list[float] = []
    failures: list[str] = []

    def read() -> None:
        with suppress(BaseException):
            drain(peer.stream())
        returned_at.append(time.monotonic())

    def cancel_it() -> None:  # some clients block here
        try:
            peer.cancel()
        except Exception as error:  # before the headers, some have nothing to cancel yet
            failures.append(type(error).__name__)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    time.sleep(settle_seconds)
    if not reader.is_alive():
        return "ended by itself"
    began = time.monotonic()
    threading.Thread(target=cancel_it, daemon=True).start()
    reader.join(CANCEL_SECONDS)
    if reader.is_alive():
        return "no handle yet" if failures == ["AttributeError"] else f"> {CANCEL_SECONDS:g} s"
    return (returned_at[0] - began) * 1e3


def main() -> None:
    warnings.simplefilter("ignore")
    name, task, *urls = sys.argv[1:]
    print(json.dumps(globals()[task](name, *urls)), flush=True)
    os._exit(0)  # some readers are still blocked


if __name__ == "__main__":
    main()
