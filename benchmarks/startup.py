"""How long until the first word: the import, the first call of a process, the second call over TLS."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from chunks import first_chunk
from common import Load, Readers, Row, at_most, report, rounds

CACHE = tempfile.TemporaryDirectory()
IMPORT = "import time; start = time.process_time(); {}; print((time.process_time() - start) * 1e3)"
OURS = """
import sys, time
from blades import Agent

agent = Agent("benchmark", model="any", base_url=sys.argv[1], api_key="any")
for chunk in agent.run_stream("Hello"):
    if chunk.text:
        print(time.monotonic())
        break
"""
BARE = """
import sys, time
import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="any")
messages = [{"role": "user", "content": "Hello"}]
for chunk in client.chat.completions.create(model="any", messages=messages, stream=True):
    if chunk.choices and chunk.choices[0].delta.content:
        print(time.monotonic())
        break
"""


def script(code: str, *arguments: str) -> float:
    """Run a script in a process of its own; give the number that it prints."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": CACHE.name}  # installed packages are compiled
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code, *arguments]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)


def until_first_chunk(code: str, url: str) -> float:
    """Milliseconds from the start of a process to its first text."""
    start = time.monotonic()
    return (script(code, url) - start) * 1e3


def saved_by_second(load: Load, name: str) -> float:
    """Milliseconds that the second call over TLS is earlier than the first; with a client that has served before.

    The call before them, to the plain port, pays for what only the first call of a client pays.
    """
    readers = Readers(load.authority)
    first_chunk(readers.reader(name), load.url("burst-20"))
    first, second = first_chunk(readers.reader(name), load.url("burst-20", tls=True))
    return (first - second) * 1e3


def main() -> None:
    rows = []
    with Load() as load:
        for code, goal_ms in (("import blades", 30), ("from blades import Agent, PromptTemplate", None)):
            ours, openai = IMPORT.format(code), IMPORT.format("import openai")
            found = rounds(11, ours=lambda ours=ours: script(ours), openai=lambda openai=openai: script(openai))
            goal = {} if goal_ms is None else {"goal": f"<= {goal_ms} ms", "met": found["ours"] <= goal_ms}
            rows.append(Row(what=code, **found, unit="ms of CPU", ratio=found["openai"] / found["ours"], **goal))
        url = load.url("burst-20")
        pairs = [(until_first_chunk(OURS, url), until_first_chunk(BARE, url)) for _ in range(25)]
        found = dict(zip(("ours", "openai"), map(statistics.median, zip(*pairs, strict=True)), strict=True))
        # Of each pair, run one after the other: the machine's speed changes by more than this is about.
        goal = at_most(statistics.median(ours / openai for ours, openai in pairs), 1.05)
        rows.append(Row(what="process start to first chunk, ours / openai.Stream", **found, unit="ms", **goal))
        found = rounds(9, **{name: lambda name=name: saved_by_second(load, name) for name in Readers.names})
        goal = {"goal": "> 0", "met": found["ours"] > 0}
        rows.append(Row(what="second call over TLS earlier than the first by", **found, unit="ms", **goal))
    report(rows)


if __name__ == "__main__":
    main()
