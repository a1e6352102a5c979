"""What the benchmarks share: the load server, interleaved rounds, measuring, and one kind of table."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

HERE = Path(__file__).resolve().parent


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. The figures have the same unit; a figure that was not measured is None."""

    what: str
    ours: float | None
    openai: float | None = None
    floor: float | None = None
    socket: float | None = None
    unit: str = ""
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


def at_least(value: float, limit: float, unit: str = "x") -> dict[str, Any]:
    """Return the fields of a `Row` for a ratio that should be large."""
    return {"ratio": value, "goal": f">= {limit:g}{unit}", "met": value >= limit}


def at_most(value: float, limit: float, unit: str = "x") -> dict[str, Any]:
    """Return the fields of a `Row` for a ratio that should be small."""
    return {"ratio": value, "goal": f"<= {limit:g}{unit}", "met": value <= limit}


def verdict(met: bool | None) -> str:  # it is the value that is shown
    """Return the word for a goal in a table."""
    return "" if met is None else "met" if met else "MISSED"


def figure(value: float | None) -> str:
    """Format a value with its three significant digits."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def table(rows: Iterable[Row]) -> str:
    """Format rows as a Markdown table."""
    cells = [["", "ours", "openai.Stream", "floor", "socket", "ratio", "goal", ""]]
    for row in rows:
        name = f"{row.what} ({row.unit})" if row.unit else row.what
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        values = (row.ours, row.openai, row.floor, row.socket)
        cells.append([name, *map(figure, values), ratio, row.goal, verdict(row.met)])
    return lay_out(cells)


def lay_out(cells: Sequence[Sequence[str]]) -> str:
    """Format cells as a Markdown table whose first line is its head; columns of figures are aligned right."""
    columns = list(zip(*cells, strict=True))
    widths = [max(len(text) for text in column) for column in columns]
    right = [number > 0 and _has_figures(column[1:]) for number, column in enumerate(columns)]

    def line(texts: Sequence[str]) -> str:
        padded = [t.rjust(w) if r else t.ljust(w) for t, w, r in zip(texts, widths, right, strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (w - 1)}:" if r else "-" * max(w, 1) for w, r in zip(widths, right, strict=True)]
    return "\n".join([line(cells[0]), f"| {' | '.join(rule)} |", *map(line, cells[1:])])


def _has_figures(column: Sequence[str]) -> bool:
    """Whether a column holds figures, with blanks and dashes between them."""
    return any(text[:1].isdigit() for text in column) and all(
        text[:1].isdigit() or text in ("", "-") for text in column
    )


def report(rows: list[Row]) -> None:
    """Print the table; write the rows as JSON to the file of ``--json FILE``, as `run.py` asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    file = parser.parse_known_args()[0].json
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in rows]))
    print(table(rows))


def rounds(count: int, **tasks: Callable[[], float]) -> dict[str, float]:
    """Run the tasks in turn, so many times; return the median of each. Other load on the machine meets all of them."""
    results: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(count):
        for name, task in tasks.items():
            results[name].append(task())
    return {name: statistics.median(values) for name, values in results.items()}


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile of values in any order."""
    return sorted(values)[min(int(len(values) * percent / 100), len(values) - 1)] if values else 0.0


class Load:
    """The load server, a process of its own for the duration of the ``with`` block."""

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
        """Return the base URL of an answer, such as ``burst-1000``."""
        return f"{self.tls if tls else self.plain}/{answer}/v1"

    def stats(self) -> dict[str, Any]:
        """Return `server.Server.stats`. The query opens a connection, which is counted."""
        with urllib.request.urlopen(f"{self.plain}/stats") as answer:
            stats: dict[str, Any] = json.load(answer)
            return stats

    def connections(self, run: Callable[[], object]) -> int:
        """Count the connections that a call opens."""
        before = self.stats()["connections"]
        run()
        after: int = self.stats()["connections"] - 1
        return after - before


def drain(texts: Iterable[str]) -> int:
    """Read to the end and count."""
    count = 0
    for _ in texts:
        count += 1
    return count


def cpu_of(run: Callable[[], object]) -> float:
    """Return the CPU seconds that this process spends on a call, in all threads and in the kernel."""
    before = time.process_time()
    run()
    return time.process_time() - before


def peak_memory() -> float:
    """Return the peak memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, ru_maxrss of a child starts with its parent's
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def raise_descriptor_limit(wanted: int = 65536) -> None:
    """Allow as many open files as the system does, up to a limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def in_child(module: str, function: str, *arguments: object, limit_seconds: float | None = None) -> Any:
    """Call a benchmark's function in a fresh process; return its result, which travels as JSON.

    Raises:
        subprocess.SubprocessError: It failed, or did not end within the limit.
    """
    code = (
        f"import json, sys; sys.path.insert(0, {str(HERE)!r}); import {module};"
        f"print(json.dumps({module}.{function}(*json.loads(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=limit_seconds)
    return json.loads(done.stdout.splitlines()[-1])
