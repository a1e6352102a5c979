"""How many live streams one process holds, each read by a thread: 50 tokens a second each, one event per packet.

A number of streams is held if 99 of 100 chunks reach their reader within 50 ms of being sent, and all chunks arrive. It
is doubled until it fails (in two tries of two: the machine has moods), then the step between is tried.
"""

from __future__ import annotations

import resource
import sys

from chunks import RATE, Crowd
from common import Load, Readers, Row, at_least, in_child, percentile, report

FIRST, MOST = 32, 1024
P99_SECONDS = 0.050
WINDOW_SECONDS = 3.0


def trial(name: str, url: str, streams: int) -> tuple[float, float, float]:
    """Give the rate per stream, the p99 of the added latency in seconds, and the CPU per second; in a fresh process."""
    crowd = Crowd(Readers().reader(name), url, streams)
    cpu, latencies = crowd.measure(WINDOW_SECONDS)
    return len(latencies) / streams / WINDOW_SECONDS, percentile(latencies, 99), cpu / WINDOW_SECONDS


def holds(load: Load, name: str, streams: int) -> bool:
    """Try once, and again if that failed."""
    for _ in range(2):
        try:
            rate, p99, cpu = in_child("concurrency", "trial", name, load.url(f"paced-1000000-{RATE}"), streams)
        except Exception:  # noqa: BLE001 - the streams did not even start
            rate, p99, cpu = 0.0, 0.0, 0.0
        held = p99 < P99_SECONDS and rate > 0.95 * RATE
        late = load.stats()["late_p99_ms"]
        print(
            f"{name}: {streams} streams, {rate:.1f} chunks/s each, p99 {p99 * 1e3:.1f} ms, {cpu:.0%} CPU, "
            f"server late by {late:.0f} ms: {'held' if held else 'failed'}",
            file=sys.stderr,
        )
        if held:
            return True
    return False


def most(load: Load, names: tuple[str, ...]) -> dict[str, int]:
    """Find the most streams that each reader holds; in turn, so that the machine's moods meet all of them."""
    held = dict.fromkeys(names, 0)
    climbing, streams = list(names), FIRST
    while climbing and streams <= MOST:
        climbing = [name for name in climbing if holds(load, name, streams)]
        held |= dict.fromkeys(climbing, streams)
        streams *= 2
    for name in names:
        if name not in climbing and holds(load, name, held[name] * 3 // 2):
            held[name] = held[name] * 3 // 2
    return held


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65536), hard))
    with Load() as load:
        found = most(load, ("ours", "openai"))
    goal = at_least(found["ours"] / max(found["openai"], 1), 4)
    report([Row(what="live streams with p99 under 50 ms", **found, **goal)])


if __name__ == "__main__":
    main()
