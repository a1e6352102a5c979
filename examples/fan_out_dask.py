"""Ask each line of a file, on many processes or machines.

Run: python examples/fan_out_dask.py prompts.txt > answers.jsonl (it needs Dask: pip install distributed). Ctrl-C
cancels the running answers on every worker, and keeps the finished ones.

Set OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL and OPENAI_MODEL in the environment or in a
.env file; the first two on the workers, too.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from blades import Agent, Reply
from shared import describe, settings

try:
    import dask
    from distributed import Client, LocalCluster, Status, as_completed, get_worker
except ModuleNotFoundError as missing:
    sys.exit(f"This example needs Dask: pip install distributed ({missing})")

WINDOW = 4000
"""The most prompts that the cluster has at a time: each takes some kilobytes of its memory."""


class Unwanted:
    """Set as soon as Dask no longer wants this task: it was cancelled, or its client or its scheduler is gone."""

    def __init__(self) -> None:
        self.worker = get_worker()
        self.key = self.worker.get_current_task()

    def is_set(self) -> bool:
        """Return whether it is set; the library polls it."""
        task = self.worker.state.tasks.get(self.key)
        return task is None or task.state != "executing" or self.worker.status in {Status.closing, Status.closed}


def ask(prompt: str, agent: Agent) -> Reply:
    """Answer a prompt on a worker: one thread per answer, one client for all threads of a process."""
    reply = agent.run(prompt, cancel=Unwanted())
    if not reply.complete:
        raise RuntimeError("Dask dropped this task")  # reported only if Dask wants the answer after all
    return reply


def row(number: int, prompt: str, result: Any) -> dict[str, Any]:
    """Return how a prompt ended. If its answer was cut short each time, the row has the last partial answer."""
    error = None if isinstance(result, Reply) else result[1] if isinstance(result, tuple) else result
    reply: Reply = result if error is None else getattr(error, "reply", None) or Reply()
    ending = {"finish_reason": reply.finish_reason, "usage": reply.usage and reply.usage.raw}
    failure = error and "\n".join(describe(error))
    return {"number": number, "prompt": prompt, "text": reply.text, **ending, "error": failure}


def local_cluster(workers: int, threads: int) -> LocalCluster:
    """Start processes that ignore Ctrl-C, and do not write into the progress bar."""
    # Dask's profiler asks Python for all frames: before 3.12, that and the end of a thread can wait for each other.
    dask.config.set({"distributed.worker.profile.enabled": False})  # https://github.com/python/cpython/issues/106883
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which they inherit
    options = {"threads_per_worker": threads, "dashboard_address": None, "silence_logs": logging.CRITICAL}
    try:
        return LocalCluster(n_workers=workers, **options)
    finally:
        signal.signal(signal.SIGINT, on_interrupt)


def main() -> None:
    """Ask, and write each answer when it arrives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path, help="a file with one prompt per line")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a running cluster, as tcp://10.0.0.1:8786")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of the local cluster")
    parser.add_argument("--threads", type=int, default=16, help="answers at once in each of them")
    parser.add_argument("--retries", type=int, default=2, help="how often Dask tries a failed prompt again")
    options = parser.parse_args()
    prompts = [line for line in options.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    with ExitStack() as stack:
        agent = Agent("fan-out", **stack.enter_context(settings()))
        cluster = options.scheduler or stack.enter_context(local_cluster(options.workers, options.threads))
        client = stack.enter_context(Client(cluster))  # closing it cancels its tasks; so does the end of this process
        there = client.submit(lambda same: same, agent)  # pickled once; each process gets one, and makes one client
        numbers: dict[str, int] = {}  # of the prompts that the cluster has, by the keys of their futures
        unsent = iter(enumerate(prompts))

        def send(count: int) -> list[Any]:
            batch = dict(islice(unsent, count))
            futures: list[Any] = client.map(ask, list(batch.values()), agent=there, retries=options.retries, pure=False)
            numbers.update(zip((future.key for future in futures), batch, strict=True))
            return futures

        failed = 0
        completed = as_completed(send(WINDOW), with_results=True, raise_errors=False)
        for done, (future, result) in enumerate(completed, 1):
            number = numbers.pop(future.key)
            answer = row(number, prompts[number], result)
            future.release()  # the cluster may forget it
            if len(numbers) == WINDOW // 2:
                completed.update(send(WINDOW // 2))
            print(json.dumps(answer, ensure_ascii=False), flush=True)
            if answer["error"] and not failed:  # the first one; the output has them all
                print(f"\r{answer['error']}", file=sys.stderr)
            failed += answer["error"] is not None
            bar = "#" * (40 * done // len(prompts))
            print(f"\r[{bar:40}] {done}/{len(prompts)}, {failed} failed", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ncancelled")
    except Exception as error:  # such as a file that is not there
        sys.exit("\n".join(["", *describe(error)]))
