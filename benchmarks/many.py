"""What an open stream takes: threads, memory, descriptors; and 1,000 streams within the common limit of 1,024."""

from __future__ import annotations

import gc
import os
import resource
import threading
from pathlib import Path
from typing import Any

from common import Load, Row, in_child, report
from readers import Readers

LIMIT = 1024
STREAMS = 1000


def resident() -> int:
    """Bytes of memory in use (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) - 1  # without the descriptor that lists them


def open_many(name: str, url: str) -> dict[str, Any]:
    """Open streams until there are 1,000 or no descriptors, read one chunk of each; in a fresh process."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    readers = Readers()
    warm = ask(readers, name, url)
    next(warm)
    gc.collect()
    before = threading.active_count(), resident(), descriptors()
    streams = []
    try:
        streams += [ask(readers, name, url) for _ in range(STREAMS - 1)]
        for stream in streams:
            next(stream)
    except Exception as error:  # too many open files
        failure = repr(error)
    else:
        failure = ""
    gc.collect()
    after = threading.active_count(), resident(), descriptors()
    threads, memory, used = ((end - start) / len(streams) for start, end in zip(before, after, strict=True))
    streams.append(warm)
    chunks = sum(1 for stream in streams if next(stream))  # all are still open
    found = {"open": chunks, "threads": threads, "memory": memory / 1024, "descriptors": used, "failure": failure}
    found["others"] = before[2] - 1
    return found


def ask(readers: Readers, name: str, url: str) -> Any:
    """Start a stream: an iterator."""
    if name == "ours":
        return readers.agent(url).run_stream("Hello")
    return readers.request(readers.client(name, url).chat.completions)


def main() -> None:
    with Load() as load:
        url = load.url("stall-5")
        ours, openai = (in_child("many", "open_many", name, url) for name in ("ours", "openai"))
    rows = []
    for key, what, unit in (
        ("open", f"streams open at once, of {STREAMS}, with {LIMIT} descriptors", ""),
        ("threads", "threads for an open stream", ""),
        ("descriptors", "descriptors for an open stream", ""),
        ("memory", "memory for an open stream", "KiB"),
    ):
        limit = {"open": STREAMS, "threads": 0, "descriptors": 1}.get(key)
        goal = {} if limit is None else {"goal": f"{limit}", "met": ours[key] == limit}
        rows.append(Row(what=what, ours=ours[key], openai=openai[key], unit=unit, **goal))
    report(rows)
    print(f"Other descriptors of the process: {ours['others']}. {ours['failure']}")


if __name__ == "__main__":
    main()
