"""Ten thousand prompts: threads in one process, four processes by Dask, and four of which one is killed on the way.

Each runs one of the scripts in examples/ as a user does. The server answers each prompt with 100 events at once, so the
figure is what the client side needs; a model is slower. Memory is the peak of the sum over all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
from common import HERE, Load, figure, lay_out

EXAMPLES = HERE.parent / "examples"
EVENTS = 100
PROCESSES, THREADS = 4, 16
SAMPLE_SECONDS = 0.2


@dataclass
class Run:
    """What one run cost."""

    seconds: float
    first_seconds: float
    memory_mib: float
    lines: int
    missing: int
    twice: int
    more_requests: int


def processes(pid: int) -> list[psutil.Process]:
    """Return the process and all below it."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory_mib(pid: int) -> float:
    """Return the memory of a process and of all below it; what they share counts once."""
    total = 0
    for process in processes(pid):
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / 2**20


def kill_worker(pid: int) -> None:
    """Kill one of Dask's worker processes."""
    workers = [each for each in processes(pid) if "spawn_main" in str(each.cmdline()) and len(each.threads()) > THREADS]
    os.kill(workers[0].pid, signal.SIGKILL)


def count_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def run(load: Load, command: list[str], answers: Path, prompts: int, *, kill_at: int | None = None) -> Run:
    """Run a script until it ends; kill one of its workers after so many answers."""
    url = load.url(f"burst-{EVENTS}")
    environment = {**os.environ, "OPENAI_API_KEY": "any", "OPENAI_BASE_URL": url}
    requests, began, first, memory = load.stats()["requests"], time.monotonic(), 0.0, 0.0
    with answers.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            time.sleep(SAMPLE_SECONDS)
            memory = max(memory, memory_mib(process.pid))
            done = count_lines(answers)
            if done and not first:
                first = time.monotonic() - began
            if kill_at is not None and done >= kill_at:
                kill_worker(process.pid)
                kill_at = None
    seconds = time.monotonic() - began
    assert kill_at is None, "the run ended before its worker was killed"
    rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    found = Counter(row["prompt"] for row in rows if len(row["text"]) > EVENTS and not row.get("error"))
    missing = sum(1 for number in range(prompts) if found[f"prompt {number}"] == 0)
    more_requests = load.stats()["requests"] - requests - prompts
    return Run(seconds, first, memory, len(rows), missing, len(rows) - len(found), more_requests)


def main() -> None:
    parser = argparse.ArgumentParser(description="Ten thousand prompts, by threads and by Dask.")
    parser.add_argument("--prompts", type=int, default=10_000)
    count = parser.parse_args().prompts
    with tempfile.TemporaryDirectory() as folder, Load() as load:
        prompts = Path(folder, "prompts.txt")
        prompts.write_text("".join(f"prompt {number}\n" for number in range(count)), encoding="utf-8")
        dask = [sys.executable, str(EXAMPLES / "fan_out_dask.py"), str(prompts)]
        dask += ["--workers", str(PROCESSES), "--threads", str(THREADS)]
        answers = [Path(folder, f"answers{number}.jsonl") for number in range(3)]
        at_once = PROCESSES * THREADS
        threads = [sys.executable, str(EXAMPLES / "many_prompts.py"), str(prompts), str(answers[0]), str(at_once)]
        runs = {
            f"ThreadPoolExecutor, {at_once} threads": run(load, threads, answers[0], count),
            f"Dask, {PROCESSES} processes of {THREADS} threads": run(load, dask, answers[1], count),
            "the same, one process killed after a third": run(load, dask, answers[2], count, kill_at=count // 3),
        }
    head = [f"{count:,} prompts, {EVENTS} events each", "prompts/s", "first answer, s", "whole run, s", "memory, MiB"]
    cells = [[*head, "requests beyond one per prompt", "prompts without an answer", "answers beyond one per prompt"]]
    for name, each in runs.items():
        rate = count / (each.seconds - each.first_seconds)
        values = [rate, each.first_seconds, each.seconds, each.memory_mib, each.more_requests, each.missing, each.twice]
        cells.append([name, *map(figure, values)])
    print(lay_out(cells))


if __name__ == "__main__":
    main()
