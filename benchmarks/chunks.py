"""What one chunk costs, in a burst and paced, with 1 to 100 streams; connections, memory, the second call over TLS."""

from __future__ import annotations

import statistics
import threading
import time
from typing import TYPE_CHECKING

from common import (
    Load,
    Row,
    at_least,
    at_most,
    cpu_of,
    drain,
    in_child,
    peak_memory,
    percentile,
    report,
    rounds,
)
from readers import Reader, Readers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BURST = 20_000
RATE = 50
WINDOW_SECONDS = 2.0
ROUNDS = 5
PACED_READERS = (*Readers.names, "socket")
SOCKET_GOALS = {1: 1.35, 20: 1.2, 100: 1.2}
"""Ours / socket, by the number of live streams."""


def burst(load: Load, readers: Readers, shape: str) -> dict[str, float]:
    """Return the CPU per chunk in microseconds, as fast as the reader reads."""
    url = load.url(f"{shape}-{BURST}")

    def cost(reader: Reader) -> float:
        def run() -> None:
            count = drain(reader(url))
            assert count >= BURST, count

        return cpu_of(run) / BURST * 1e6

    return rounds(5, **{name: lambda name=name: cost(readers.reader(name)) for name in readers.names})


class Crowd:
    """Live streams, each read by a thread of its own, measured for a time after all of them have started."""

    def __init__(self, reader: Reader, url: str, count: int) -> None:
        self.latencies: list[list[float]] = [[] for _ in range(count)]  # seconds, of each stream's chunks
        self._stop = False
        self._failures: list[Exception] = []
        arguments = [(reader, url, latencies) for latencies in self.latencies]
        self._threads = [threading.Thread(target=self._read, args=each, daemon=True) for each in arguments]
        for thread in self._threads:
            thread.start()

    def _read(self, reader: Reader, url: str, latencies: list[float]) -> None:
        clock, texts = time.monotonic, reader(url)
        try:
            for text in texts:
                if text.startswith("0"):
                    latencies.append(clock() - int(text) / 1e6)
                if self._stop:
                    break
            texts.close()  # type: ignore[attr-defined] - a generator
        except Exception as error:  # raised again by measure()
            self._failures.append(error)

    def measure(self, seconds: float, wait: Callable[[float], object] = time.sleep) -> tuple[float, list[float]]:
        """Wait until all streams run; return the CPU seconds and the latencies of so long; then stop all."""
        deadline = time.monotonic() + 30
        while not all(len(each) > 2 for each in self.latencies):
            if self._failures:
                raise self._failures[0]
            assert time.monotonic() < deadline, "the streams did not start within 30 s"
            time.sleep(0.05)
        time.sleep(0.3)  # chunks that were delayed by opening the streams
        starts, cpu = [len(each) for each in self.latencies], time.process_time()
        wait(seconds)
        cpu = time.process_time() - cpu
        latencies = [value for each, start in zip(self.latencies, starts, strict=True) for value in each[start:]]
        self._stop = True
        for thread in self._threads:
            thread.join(30)
        if self._failures:
            raise self._failures[0]
        return cpu, latencies


def paced(load: Load, readers: Readers, streams: int) -> dict[str, tuple[float, float, float]]:
    """Return the CPU per chunk (microseconds) and the added latency, p50 and p99 (milliseconds)."""
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in PACED_READERS}
    for _ in range(ROUNDS):
        for name, found in results.items():
            cpu, latencies = Crowd(readers.reader(name), load.url(f"paced-1000000-{RATE}"), streams).measure(
                WINDOW_SECONDS
            )
            p50, p99 = (percentile(latencies, percent) * 1e3 for percent in (50, 99))
            found.append((cpu / len(latencies) * 1e6, p50, p99))
    return {
        name: tuple(map(statistics.median, zip(*found, strict=True)))  # type: ignore[misc] - three columns
        for name, found in results.items()
    }


def connections(load: Load, readers: Readers, name: str, *, tls: bool = False) -> int:
    """Count the connections for ten streams in sequence."""
    url = load.url("burst-20", tls=tls)
    reader = readers.reader(name)
    return load.connections(lambda: [drain(reader(url)) for _ in range(10)])


def memory(name: str, url: str, small_url: str) -> float:
    """Return the peak memory in MiB that a long answer takes beyond a short one; call it in a fresh process."""
    reader = Readers().reader(name)
    drain(reader(small_url))
    before = peak_memory()
    drain(reader(url))
    return peak_memory() - before


def first_chunk(reader: Reader, url: str) -> tuple[float, float]:
    """Return the seconds to the first chunk of the first and of the second call."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        texts = reader(url)
        next(texts)
        times.append(time.perf_counter() - start)
        drain(texts)
        time.sleep(0.1)
    return times[0], times[1]


def second_over_tls(load: Load) -> dict[str, float]:
    """Return the milliseconds to the first chunk of the second call over TLS, each time with a new client."""

    def second(name: str) -> float:
        return first_chunk(Readers(load.authority).reader(name), load.url("burst-20", tls=True))[1] * 1e3

    return rounds(7, **{name: lambda name=name: second(name) for name in Readers.names})


def burst_rows(load: Load, readers: Readers) -> Iterator[Row]:
    """Compare the CPU per chunk in bursts."""
    for shape, words in (("burst", "burst"), ("each", "burst, each event an HTTP chunk")):
        cost = burst(load, readers, shape)
        goal = at_least(cost["openai"] / cost["ours"], 8)
        yield Row(what=f"chunk in a {words}, openai.Stream / ours", **cost, unit="us of CPU", **goal)
        goal = at_most(cost["ours"] / cost["floor"], 1.25)
        yield Row(what=f"chunk in a {words}, ours / floor", **cost, unit="us of CPU", **goal)


def paced_rows(load: Load, readers: Readers) -> Iterator[Row]:
    """Compare the CPU per chunk and the latency of paced streams."""
    for streams, limit in SOCKET_GOALS.items():
        cpu, p50, p99 = (
            dict(zip(PACED_READERS, values, strict=True))
            for values in zip(*paced(load, readers, streams).values(), strict=True)
        )
        what, unit = f"chunk, paced, {streams} live", "us of CPU"
        goal = at_least(cpu["openai"] / cpu["ours"], 2.5)
        yield Row(what=f"{what}, openai.Stream / ours", **cpu, unit=unit, **goal)
        goal = at_most(cpu["ours"] / cpu["socket"], limit)
        yield Row(what=f"{what}, ours / socket", **cpu, unit=unit, **goal)
        for percent, latency in (("p50", p50), ("p99", p99)):
            ratio = latency["openai"] / latency["ours"]
            yield Row(what=f"added latency {percent}, {streams} live", **latency, unit="ms", ratio=ratio)


def connection_rows(load: Load) -> Iterator[Row]:
    """Count connections."""
    for tls in (False, True):
        authority = load.authority if tls else None
        counts = {name: connections(load, Readers(authority), name, tls=tls) for name in Readers.names}
        what = "connections for ten streams" + (" over TLS" if tls else "")
        yield Row(what=what, **counts, goal="1", met=counts["ours"] == 1)


def memory_row(load: Load) -> Row:
    """Compare the memory that a long answer takes; `openai.Stream` reads a shorter one, as it takes a minute."""
    counts = {"ours": 1_000_000, "openai": 200_000, "floor": 1_000_000}
    small = load.url("burst-1000")
    peaks = {
        name: in_child("chunks", "memory", name, load.url(f"burst-{count}"), small) for name, count in counts.items()
    }
    what = "memory for 1,000,000 chunks of 7.5 MiB of text in all; openai.Stream: 200,000"
    return Row(what=what, **peaks, unit="MiB", goal="the text")


def main() -> None:
    with Load() as load:
        readers = Readers()
        rows = [*burst_rows(load, readers), *paced_rows(load, readers), *connection_rows(load), memory_row(load)]
        times = second_over_tls(load)
        ratio = times["openai"] / times["ours"]
        rows.append(Row(what="first chunk of the second call over TLS", **times, unit="ms", ratio=ratio))
    report(rows)


if __name__ == "__main__":
    main()
