"""How many live streams one process reads, a thread each: 50 tokens a second per stream, one event per packet.

A number of streams passes if 99 of 100 chunks reach their reader within 50 ms of being sent, and all chunks arrive. The
number is doubled until it fails (in two tries of two, because of other load on the machine); then a bisection finds the
largest number that passes, to an eighth of the last one. A plain `socket` shows the limit of threads in one process.
The cores that the server used show whether it was the limit: it has a process of its own, but the same machine.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request

from chunks import RATE, Crowd
from common import Load, Row, at_least, in_child, percentile, raise_descriptor_limit, report
from readers import Readers

FIRST, MOST = 32, 1024
P99_SECONDS = 0.050
WINDOW_SECONDS = 3.0
TRIAL_SECONDS = 60.0  # where threads starve one another, the one that watches the clock may starve for minutes
NAMES = ("ours", "openai", "socket")
cores: dict[str, tuple[float, float]] = {}
"""The cores that the client and the server used, of each reader's largest number so far."""


def trial(name: str, url: str, streams: int) -> tuple[float, float, float, float]:
    """Return the rate per stream, the p99 of the added latency in seconds, and the cores of client and server."""
    server: list[float] = []

    def wait(seconds: float) -> None:
        for pause in (0, seconds):
            time.sleep(pause)
            with urllib.request.urlopen(f"{url.partition('/paced')[0]}/stats") as answer:
                server.append(json.load(answer)["cpu_seconds"])

    crowd = Crowd(Readers().reader(name), url, streams)
    cpu, latencies = crowd.measure(WINDOW_SECONDS, wait)
    cores = [seconds / WINDOW_SECONDS for seconds in (cpu, server[1] - server[0])]
    return len(latencies) / streams / WINDOW_SECONDS, percentile(latencies, 99), cores[0], cores[1]


def passes(load: Load, name: str, streams: int) -> bool:
    """Try once, and again if that failed."""
    for _ in range(2):
        try:
            url = load.url(f"paced-1000000-{RATE}")
            rate, p99, cpu, server = in_child("concurrency", "trial", name, url, streams, limit_seconds=TRIAL_SECONDS)
        except Exception:  # the streams did not even start
            rate, p99, cpu, server = 0.0, 0.0, 0.0, 0.0
        passed = p99 < P99_SECONDS and rate > 0.95 * RATE
        late = load.stats()["late_p99_ms"]
        print(
            f"{name}: {streams} streams, {rate:.1f} chunks/s each, p99 {p99 * 1e3:.1f} ms, {cpu:.2f} cores, "
            f"server {server:.2f} cores, late by {late:.0f} ms: {'passed' if passed else 'failed'}",
            file=sys.stderr,
        )
        if passed:
            cores[name] = cpu, server
            return True
    return False


def most_streams(load: Load) -> dict[str, int]:
    """Find the most streams of each reader; in turn, so that other load on the machine meets all of them."""
    passed = dict.fromkeys(NAMES, 0)
    climbing, streams = list(NAMES), FIRST
    while climbing and streams <= MOST:
        climbing = [name for name in climbing if passes(load, name, streams)]
        passed |= dict.fromkeys(climbing, streams)
        streams *= 2
    bisected = [name for name in NAMES if name not in climbing and passed[name]]
    steps = {name: passed[name] // 2 for name in bisected}
    for _ in range(3):
        for name in bisected:
            if passes(load, name, passed[name] + steps[name]):
                passed[name] += steps[name]
            steps[name] //= 2
    return passed


def main() -> None:
    raise_descriptor_limit()
    with Load() as load:
        found = most_streams(load)
    goal = at_least(found["ours"] / max(found["openai"], 1), 6)
    rows = [Row(what="live streams with p99 under 50 ms", **found, **goal)]
    for number, whose in enumerate(("client", "server")):
        used = {name: cores[name][number] if name in cores else None for name in NAMES}
        rows.append(Row(what=f"live streams with p99 under 50 ms, the {whose}'s cores", **{"ours": None, **used}))
    report(rows)


if __name__ == "__main__":
    main()
