"""What one chunk costs: in a burst and paced, in threads and alone; connections, memory, the second call over TLS."""

from __future__ import annotations

import threading
import time

from common import (
    Load,
    Reader,
    Readers,
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

BURST = 20_000
RATE = 50
WINDOW_SECONDS = 2.0


def burst(load: Load, readers: Readers, shape: str) -> dict[str, float]:
    """CPU per chunk in microseconds, as fast as it goes."""
    url = load.url(f"{shape}-{BURST}")

    def cost(reader: Reader) -> float:
        def run() -> None:
            count = drain(reader(url))
            assert count >= BURST, count

        return cpu_of(run) / BURST * 1e6

    return rounds(5, **{name: lambda name=name: cost(readers.reader(name)) for name in readers.names})


class Crowd:
    """Live streams, each read by a thread of its own, measured for a while after all of them have started."""

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
        except Exception as error:  # noqa: BLE001 - raised again by measure()
            self._failures.append(error)

    def measure(self, seconds: float) -> tuple[float, list[float]]:
        """Wait until all run; give the CPU seconds and the latencies of a while; then stop all."""
        deadline = time.monotonic() + 30
        while not all(len(each) > 2 for each in self.latencies):
            if self._failures:
                raise self._failures[0]
            assert time.monotonic() < deadline, "the streams did not start within 30 s"
            time.sleep(0.05)
        time.sleep(0.3)  # what opening them has held up
        starts, cpu = [len(each) for each in self.latencies], time.process_time()
        time.sleep(seconds)
        cpu = time.process_time() - cpu
        latencies = [value for each, start in zip(self.latencies, starts, strict=True) for value in each[start:]]
        self._stop = True
        for thread in self._threads:
            thread.join(30)
        if self._failures:
            raise self._failures[0]
        return cpu, latencies


def paced(load: Load, readers: Readers, streams: int) -> dict[str, tuple[float, float, float]]:
    """CPU per chunk (microseconds), added latency p50 and p99 (milliseconds)."""
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in readers.names}
    for _ in range(3):
        for name, found in results.items():
            cpu, latencies = Crowd(readers.reader(name), load.url(f"paced-1000000-{RATE}"), streams).measure(
                WINDOW_SECONDS
            )
            p50, p99 = (percentile(latencies, percent) * 1e3 for percent in (50, 99))
            found.append((cpu / len(latencies) * 1e6, p50, p99))
    return {
        name: tuple(sorted(column)[1] for column in zip(*found, strict=True))  # type: ignore[misc] - three columns
        for name, found in results.items()
    }


def connections(load: Load, readers: Readers, name: str, *, tls: bool = False) -> int:
    """Connections for ten streams in sequence."""
    url = load.url("burst-20", tls=tls)
    reader = readers.reader(name)
    return load.connections(lambda: [drain(reader(url)) for _ in range(10)])


def memory(name: str, url: str, small_url: str) -> float:
    """Peak memory in MiB that a long answer takes on top of a short one; runs in a process of its own."""
    reader = Readers().reader(name)
    drain(reader(small_url))
    before = peak_memory()
    drain(reader(url))
    return peak_memory() - before


def first_chunk(reader: Reader, url: str) -> tuple[float, float]:
    """Seconds to the first chunk of the first and of the second call."""
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
    """Milliseconds to the first chunk of the second call over TLS, each time with a new client."""

    def second(name: str) -> float:
        return first_chunk(Readers(load.authority).reader(name), load.url("burst-20", tls=True))[1] * 1e3

    return rounds(7, **{name: lambda name=name: second(name) for name in Readers.names})


def main() -> None:
    rows = []
    with Load() as load:
        readers = Readers()
        for shape, words in (("burst", "burst"), ("each", "burst, each event an HTTP chunk")):
            cost = burst(load, readers, shape)
            what = {"ours": cost["ours"], "openai": cost["openai"], "floor": cost["floor"], "unit": "us of CPU"}
            goal = at_least(cost["openai"] / cost["ours"], 8)
            rows.append(Row(what=f"chunk in a {words}, openai.Stream / ours", **what, **goal))
            rows.append(
                Row(what=f"chunk in a {words}, ours / floor", **what, **at_most(cost["ours"] / cost["floor"], 1.25))
            )
        for streams in (1, 20, 100):
            found = paced(load, readers, streams)
            for place, (words, unit) in enumerate(
                (("chunk, paced", "us of CPU"), ("added latency p50", "ms"), ("added latency p99", "ms"))
            ):
                ours, openai, floor = (found[name][place] for name in readers.names)
                goal = at_least(openai / ours, 2.5) if place == 0 else {"ratio": openai / ours}
                what = f"{words}, {streams} live"
                rows.append(Row(what=what, ours=ours, openai=openai, floor=floor, unit=unit, **goal))
        for tls in (False, True):
            counts = [
                connections(load, Readers(load.authority if tls else None), name, tls=tls) for name in readers.names
            ]
            what = "connections for ten streams" + (" over TLS" if tls else "")
            rows.append(Row(what=what, ours=counts[0], openai=counts[1], floor=counts[2], goal="1", met=counts[0] == 1))
        counts = {"ours": 1_000_000, "openai": 200_000, "floor": 1_000_000}
        peaks = [
            in_child("chunks", "memory", name, load.url(f"burst-{count}"), load.url("burst-1000"))
            for name, count in counts.items()
        ]
        what = "memory for 1,000,000 chunks of 7.5 MiB of text in all; openai.Stream: 200,000"
        rows.append(Row(what=what, ours=peaks[0], openai=peaks[1], floor=peaks[2], unit="MiB", goal="the text"))
        times = second_over_tls(load)
        rows.append(
            Row(
                what="first chunk of the second call over TLS",
                **times,
                unit="ms",
                ratio=times["openai"] / times["ours"],
            )
        )
    report(rows)


if __name__ == "__main__":
    main()
