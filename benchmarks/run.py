"""Run all benchmarks and write RESULTS.md, the blocks of figures in README and docs/, and docs/benchmarks.svg.

Run: make bench, or make bench PEERS=1 to measure other clients as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import figures
from common import HERE, Row, table

ROWS = ("chunks", "concurrency", "many", "events", "startup")
"""Benchmarks that return rows of the first table."""
TABLES = {
    "cancel": "Cancelling, phase by phase (ms)",
    "growth": "Growth",
    "fan_out": "Past one machine",
    "prompt": "Prompts, beside other engines",
}
"""Benchmarks that print a table of their own, and its heading."""
PEERS = "peers"
VERSIONS = ("blades-sdk", "openai", "httpx2", "httpx", "h11", "pydantic", "jiter")
READ_ME = """\
`ours` reads `Agent.run_stream` in a `for` loop. `openai.Stream` is the official client's own reader. `floor` is the
least that the official client's bytes cost: split at blank lines, `json.loads`, and the text taken out. `socket` is the
least that any client costs: a blocking `recv`, the same split and `json.loads`. All of them request the same answers
of the same server, a process of its own on loopback, in turn; each figure is the median of several turns. CPU is that
of the client's process, kernel included. Paced streams send 50 events a second, each in a packet of its own, and each
is read by a thread; the latency is from the server's `send` to the reader's loop body. Ours can be below the floor: it
reads a chunked body from the socket, and the floor reads through the HTTP library's layers.
"""


def run(name: str, *arguments: str) -> str:
    """Run a benchmark; return what it prints."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    command = [sys.executable, HERE / f"{name}.py", *arguments]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return output.strip()


def rows(name: str) -> list[Row]:
    """Run a benchmark that returns rows."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        run(name, "--json", str(file))
        return [Row(**fields) for fields in json.loads(file.read_text())]


def machine() -> str:
    """Describe the machine and the versions."""
    versions = []
    for name in VERSIONS:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    return f"{time.strftime('%Y-%m-%d')}; {', '.join(versions)}; Python {platform.python_version()}, {system}"


def results(names: list[str]) -> str:
    """Run benchmarks; return the text of RESULTS.md."""
    load = os.getloadavg()[1]
    parts = [
        "# Results",
        f"Made by `make bench`. {machine()}. Load average when it began: {load:.1f}.",
        READ_ME.strip(),
        "## Chunks, streams, events, start",
        table([row for name in ROWS if name in names for row in rows(name)]),
    ]
    for name, title in {**TABLES, PEERS: "Other clients"}.items():
        if name in names:
            output = run(name)
            if name == "fan_out":
                output = figures.block("fan-out", output)
            parts += [f"## {title}", f"`benchmarks/{name}.py`:", output]
    return "\n\n".join(parts) + "\n"


def with_summary(text: str) -> str:
    """Put the blocks that are computed from the tables into the text of RESULTS.md."""
    found = figures.Results(text)
    summary = f"## In short\n\n{figures.block('summary', figures.summary(found))}\n"
    text = text.replace("## Chunks,", f"{summary}\n## Chunks,", 1)
    end = "<!-- end of figures -->\n\n## Prompts"
    million = f"<!-- end of figures -->\n\n{figures.block('million', figures.million(found))}\n\n## Prompts"
    return text.replace(end, million, 1)


def main() -> None:
    names = [*ROWS, *TABLES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="measure other clients as well; some minutes more")
    parser.add_argument("--only", nargs="*", help="run these, and change no file")
    options = parser.parse_args()
    text = results(options.only if options.only is not None else [*names, PEERS] if options.peers else names)
    if options.only is None:
        text = with_summary(text)
        figures.RESULTS.write_text(text, encoding="utf-8")
        figures.main()
        run("pictures")
    print(text)


if __name__ == "__main__":
    main()
