"""Ask each line of a file, on many threads, and append the answers to another file as JSON lines.

Ctrl-C keeps the answers so far; run it again to continue with the rest.

Set OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL and OPENAI_MODEL in the environment or in a
.env file.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from blades import Agent, Reply
from shared import describe, settings, start


def take(finished: SimpleQueue[Future[Reply]]) -> Future[Reply]:
    """Wait for an answer. Ctrl-C may reach another thread: Python then acts when this one next wakes."""
    while True:
        with suppress(Empty):
            return finished.get(timeout=0.5)


def main() -> None:
    """Ask the prompts that have no answer yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", type=Path, help="a text file with a prompt on each line")
    parser.add_argument("answers", type=Path, help="the file to append to")
    parser.add_argument("threads", nargs="?", type=int, default=16)
    given = parser.parse_args()
    answers: Path = given.answers
    answered = {json.loads(line)["number"] for line in answers.open(encoding="utf-8")} if answers.exists() else set()
    numbered = enumerate(given.prompts.read_text("utf-8").splitlines(), 1)
    todo = {number: prompt for number, prompt in numbered if prompt.strip() and number not in answered}
    stop = threading.Event()
    failed, shown = 0, [""]
    with ExitStack() as stack:
        agent = stack.enter_context(Agent("many", **stack.enter_context(settings(pace=0.002))))
        output = stack.enter_context(answers.open("a", encoding="utf-8"))
        pool = stack.enter_context(ThreadPoolExecutor(given.threads))
        stack.callback(stop.set)  # one event cancels the running requests and those not yet sent
        finished: SimpleQueue[Future[Reply]] = SimpleQueue()
        futures = {pool.submit(agent.run, prompt, cancel=stop): number for number, prompt in todo.items()}
        for future in futures:
            future.add_done_callback(finished.put)
        for count in range(1, len(futures) + 1):
            future = take(finished)
            number, error = futures[future], future.exception()
            if error:  # no line: the next run tries again
                failed += 1
                message, *notes = describe(error)
                shown, new = notes, notes if notes != shown else []  # the cause is the same for many lines
                print(f"\rline {number}: {message}", *new, sep="\n", file=sys.stderr)
            else:
                row = {"number": number, "prompt": todo[number], "text": future.result().text}
                output.write(json.dumps(row, ensure_ascii=False) + "\n")
                output.flush()
            print(f"\r{count} of {len(todo)}", end="", file=sys.stderr, flush=True)
    print(f"\r{len(todo)} done, {failed} failed", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    start(main)
