"""Ask each line of a file, on many threads, and append the answers to another as JSON lines.

Run: python examples/many_prompts.py prompts.txt answers.jsonl [threads]. Ctrl-C keeps what is done; run it again, and
it goes on with the rest. Environment: OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL,
OPENAI_MODEL.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path

from blades import Agent
from blades.testing import LocalServer


def main() -> None:
    """Ask what has no answer yet."""
    prompts, answers = map(Path, sys.argv[1:3])
    threads = int(sys.argv[3]) if len(sys.argv) > 3 else 16  # noqa: PLR2004 - the third argument
    answered = {json.loads(line)["number"] for line in answers.open(encoding="utf-8")} if answers.exists() else set()
    numbered = enumerate(prompts.read_text("utf-8").splitlines(), 1)
    todo = {number: prompt for number, prompt in numbered if prompt.strip() and number not in answered}
    stop = threading.Event()
    failed = 0
    with ExitStack() as stack:
        server = None if os.environ.get("OPENAI_API_KEY") else stack.enter_context(LocalServer(pace=0.002))
        base_url, model = server and server.base_url, os.environ.get("OPENAI_MODEL", "deepseek-chat")
        agent = stack.enter_context(Agent("many", model=model, base_url=base_url, api_key=server and "local"))
        output = stack.enter_context(answers.open("a", encoding="utf-8"))
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        stack.callback(stop.set)  # one event ends the answers under way, and those to come before they are asked for
        futures = {pool.submit(agent.run, prompt, cancel=stop): number for number, prompt in todo.items()}
        for count, future in enumerate(as_completed(futures), 1):
            number, error = futures[future], future.exception()
            if error:  # no line: the next run tries again
                failed += 1
                print(f"\rline {number}: {type(error).__name__}: {error}", file=sys.stderr)
            else:
                row = {"number": number, "prompt": todo[number], "text": future.result().text}
                output.write(json.dumps(row, ensure_ascii=False) + "\n")
                output.flush()
            print(f"\r{count} of {len(todo)}", end="", file=sys.stderr, flush=True)
    print(f"\r{len(todo)} done, {failed} failed", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
