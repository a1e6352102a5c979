"""What the benchmarks share: the load server, interleaved rounds, the three readers of a stream, and one table."""

from __future__ import annotations

import argparse
import json
import os
import resource
import ssl
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).resolve().parent
Reader = Callable[[str], Iterator[str]]
"""Takes a base URL, gives the texts of one answer."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. Figures are of the same unit; what was not measured is None."""

    what: str
    ours: float | None
    openai: float | None = None
    floor: float | None = None
    unit: str = ""
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted of a figure or of a ratio."""

    text: str
    met: bool


def at_least(value: float, limit: float, unit: str = "x") -> dict[str, Any]:
    """Give the fields of a `Row` for a ratio that should be large."""
    return {"ratio": value, "goal": f">= {limit:g}{unit}", "met": value >= limit}


def at_most(value: float, limit: float, unit: str = "x") -> dict[str, Any]:
    """Give the fields of a `Row` for a ratio that should be small."""
    return {"ratio": value, "goal": f"<= {limit:g}{unit}", "met": value <= limit}


def figure(value: float | None) -> str:
    """Show three digits that matter."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def table(rows: Iterable[Row]) -> str:
    """Lay the rows out as a Markdown table."""
    cells = [["", "ours", "openai.Stream", "floor", "ratio", "goal", ""]]
    for row in rows:
        name = f"{row.what} ({row.unit})" if row.unit else row.what
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = "" if row.met is None else "met" if row.met else "MISSED"
        cells.append([name, figure(row.ours), figure(row.openai), figure(row.floor), ratio, row.goal, verdict])
    return lay_out(cells)


def lay_out(cells: Sequence[Sequence[str]]) -> str:
    """Lay cells out as a Markdown table; the first line is its head."""
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]

    def line(texts: Sequence[str]) -> str:
        columns = enumerate(zip(texts, widths, strict=True))
        return "| " + " | ".join(t.rjust(w) if 0 < n < 5 else t.ljust(w) for n, (t, w) in columns) + " |"

    rule = "| " + " | ".join("-" * w if not 0 < n < 5 else "-" * (w - 1) + ":" for n, w in enumerate(widths)) + " |"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def report(rows: list[Row]) -> None:
    """Print the table; write the rows as JSON where ``--json FILE`` says so (as `run.py` does)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    file = parser.parse_known_args()[0].json
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in rows]))
    print(table(rows))


def rounds(count: int, **tasks: Callable[[], float]) -> dict[str, float]:
    """Run the tasks in turn, so many times; give the median of each. The machine's moods meet all of them."""
    results: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(count):
        for name, task in tasks.items():
            results[name].append(task())
    return {name: statistics.median(values) for name, values in results.items()}


def percentile(values: Sequence[float], percent: float) -> float:
    """Give a percentile of values that need not be sorted."""
    return sorted(values)[min(int(len(values) * percent / 100), len(values) - 1)] if values else 0.0


class Load:
    """The load server, as a process of its own while the ``with`` block runs."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, HERE / "server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.plain, self.tls, self.authority = self._process.stdout.readline().split()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def url(self, answer: str, *, tls: bool = False) -> str:
        """Give the base URL of an answer, such as ``burst-1000``."""
        return f"{self.tls if tls else self.plain}/{answer}/v1"

    def stats(self) -> dict[str, Any]:
        """See `server.Server.stats`. Takes a connection of its own, which is counted."""
        with urllib.request.urlopen(f"{self.plain}/stats") as answer:
            stats: dict[str, Any] = json.load(answer)
            return stats

    def connections(self, run: Callable[[], object]) -> int:
        """Count the connections that this opens."""
        before = self.stats()["connections"]
        run()
        after: int = self.stats()["connections"] - 1
        return after - before


class Readers:
    """The three ways to read, each with one client for all calls to a server: the agent, `openai.Stream`, the floor."""

    names = ("ours", "openai", "floor")

    def __init__(self, authority: str | None = None) -> None:
        import openai  # noqa: PLC0415 - processes that only start others do without

        self._verify = ssl.create_default_context(cafile=authority) if authority else True
        self._openai = openai
        self._clients: dict[tuple[str, str], Any] = {}
        self._streams: list[Any] = []

    def client(self, kind: str, url: str) -> Any:
        """Make the official client, one for each reader and server; it is allowed as many connections as it wants."""
        key = (kind, url)
        if key not in self._clients:
            limits = type(self._openai.DEFAULT_CONNECTION_LIMITS)(max_connections=None)
            http = self._openai.DefaultHttpxClient(limits=limits, verify=self._verify)
            self._clients[key] = self._openai.OpenAI(base_url=url, api_key="any", http_client=http)
        return self._clients[key]

    def agent(self, url: str) -> Any:
        """Make an agent with such a client, for the same terms; else as a user would."""
        from blades import Agent  # noqa: PLC0415 - same

        key = ("agent", url)
        if key not in self._clients:
            client = self.client("ours", url) if self._verify is not True else None
            terms: dict[str, Any] = {"client": client} if client else {"base_url": url, "api_key": "any"}
            self._clients[key] = Agent("benchmark", model="any", **terms)
        return self._clients[key]

    def ours(self, url: str) -> Iterator[str]:
        """Read as the README does."""
        for chunk in self.agent(url).run_stream("Hello"):
            yield chunk.text

    def openai(self, url: str) -> Iterator[str]:
        """Read as the official client's README does, which leaves the ``with`` to the reader."""
        stream = self._ask(self.client("openai", url).chat.completions)
        with stream:
            for chunk in stream:
                if chunk.choices:
                    text = chunk.choices[0].delta.content
                    if text:
                        yield text

    def floor(self, url: str) -> Iterator[str]:
        """Do the least that gives the texts: the official client's bytes, split at blank lines, `json.loads`."""
        with self._ask(self.client("floor", url).chat.completions.with_streaming_response) as response:
            rest = b""
            for data in response.iter_bytes():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event != b"data: [DONE]":
                        choices = json.loads(event[6:])["choices"]
                        if choices:
                            text = choices[0]["delta"].get("content")
                            if text:
                                yield text

    @staticmethod
    def _ask(completions: Any) -> Any:
        messages = [{"role": "user", "content": "Hello"}]
        options = {"stream": True, "stream_options": {"include_usage": True}}
        return completions.create(model="any", messages=messages, **options)

    def reader(self, name: str) -> Reader:
        """Give one of the three by name."""
        reader: Reader = getattr(self, name)
        return reader


def drain(texts: Iterable[str]) -> int:
    """Read to the end and count."""
    count = 0
    for _ in texts:
        count += 1
    return count


def cpu_of(run: Callable[[], object]) -> float:
    """Give the seconds of CPU that this process spends on it, all threads and the kernel's part included."""
    before = time.process_time()
    run()
    return time.process_time() - before


def peak_memory() -> float:
    """Give the largest amount of memory that this process has had, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss of a child begins, on Linux, with what its parent had
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def in_child(module: str, function: str, *arguments: object) -> Any:
    """Call a benchmark's function in a fresh process; give what it returns, by way of JSON."""
    code = (
        f"import json, sys; sys.path.insert(0, {str(HERE)!r}); import {module};"
        f"print(json.dumps({module}.{function}(*json.loads(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ}).stdout
    return json.loads(output.splitlines()[-1])
