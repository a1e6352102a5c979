"""How long until the first text: the import, the first call of a process, the first call after `Agent.warm_up`."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from chunks import first_chunk
from common import Load, Row, at_most, report, rounds
from readers import Readers

if TYPE_CHECKING:
    from collections.abc import Iterator

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
CHAT = """
import json, sys, time
from blades import Agent

chat = (agent := Agent("benchmark", model="any", base_url=sys.argv[1], api_key="any")).chat()
if sys.argv[2] == "warm":
    agent.warm_up()
times = []
for _ in range(2):
    time.sleep(3.0)  # the person types: the caches of the processor are as cold before the second answer
    start = time.perf_counter()
    for chunk in (stream := chat.run_stream("Hello")):
        if chunk.text and stream.text == chunk.text:
            times.append((time.perf_counter() - start) * 1e3)
print(json.dumps(times))
"""


def script(code: str, *arguments: str, **variables: str) -> Any:
    """Run a script in a process of its own; return the JSON value that it prints."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": CACHE.name, **variables}  # as installed: with compiled files
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code, *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)


def until_first_chunk(code: str, url: str) -> float:
    """Return the milliseconds from the start of a process to its first text."""
    start = time.monotonic()
    return float(script(code, url) - start) * 1e3


def saved_by_second(load: Load, name: str) -> float:
    """Return how many milliseconds the second call over TLS is faster than the first.

    A call to the plain port before them pays for what only the first call of a client pays.
    """
    readers = Readers(load.authority)
    first_chunk(readers.reader(name), load.url("burst-20"))
    first, second = first_chunk(readers.reader(name), load.url("burst-20", tls=True))
    return (first - second) * 1e3


def import_rows() -> Iterator[Row]:
    """Compare the imports."""
    for code, goal_ms in (("import blades", 30), ("from blades import Agent, PromptTemplate", None)):
        ours, openai = IMPORT.format(code), IMPORT.format("import openai")
        found = rounds(11, ours=lambda ours=ours: script(ours), openai=lambda openai=openai: script(openai))
        goal = {} if goal_ms is None else {"goal": f"<= {goal_ms} ms", "met": found["ours"] <= goal_ms}
        yield Row(what=code, **found, unit="ms of CPU", ratio=found["openai"] / found["ours"], **goal)


def process_row(load: Load) -> Row:
    """Compare a script with a bare script of the official client.

    The ratio is the median of pairs that run one after the other: the machine's speed varies by more than the ratio.
    The order within a pair alternates.
    """
    url = load.url("burst-20")
    pairs = []
    for number in range(30):
        codes = (OURS, BARE) if number % 2 else (BARE, OURS)
        times = {code: until_first_chunk(code, url) for code in codes}
        pairs.append((times[OURS], times[BARE]))
    ours, openai = map(statistics.median, zip(*pairs, strict=True))
    goal = at_most(statistics.median(ours / openai for ours, openai in pairs), 1.0)
    what = "process start to first chunk, ours / openai.Stream"
    return Row(what=what, ours=ours, openai=openai, unit="ms", **goal)


def warm_up_rows(load: Load) -> Iterator[Row]:
    """Compare the first answer over TLS with the second, in a chat, with and without `Agent.warm_up`."""
    from blades import Agent  # after the imports have been measured

    kinds = ("warm", "cold") if hasattr(Agent, "warm_up") else ("cold",)
    url, times = load.url("burst-20", tls=True), {kind: [] for kind in kinds}
    for _ in range(9):
        for kind in kinds:
            times[kind].append(script(CHAT, url, kind, SSL_CERT_FILE=load.authority))
    for kind, found in times.items():
        first, second = map(statistics.median, zip(*found, strict=True))
        ratio = statistics.median(first / second for first, second in found)
        words = "after warm_up()" if kind == "warm" else "without warm_up()"
        goal = at_most(ratio, 1.1) if kind == "warm" else {"ratio": ratio}
        yield Row(what=f"first chunk over TLS {words}, first answer / second", ours=first, unit="ms", **goal)
        yield Row(what=f"first chunk over TLS {words}, second answer", ours=second, unit="ms")


def main() -> None:
    with Load() as load:
        rows = [*import_rows(), process_row(load), *warm_up_rows(load)]
        found = rounds(9, **{name: lambda name=name: saved_by_second(load, name) for name in Readers.names})
        goal = {"goal": "> 0", "met": found["ours"] > 0}
        rows.append(Row(what="second call over TLS faster than the first by", **found, unit="ms", **goal))
    report(rows)


if __name__ == "__main__":
    main()
