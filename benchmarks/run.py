"""Run all benchmarks and write RESULTS.md, the blocks of figures in README and docs/, and docs/benchmarks.svg.

Run: make bench, or make bench PEERS=1 to measure other clients as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib import metadata

import figures
from common import HERE, Row, table

ROWS = ("chunks", "concurrency", "many", "events", "tools", "startup")
"""Benchmarks that return rows of the first table."""
TABLES = {
    "cancel": "Cancelling, phase by phase (ms)",
    "growth": "Growth",
    "fan_out": "Past one machine",
    "prompt": "Prompts, beside other engines",
}
"""Benchmarks that print a table of their own, and its heading."""
PEERS = "peers"
LAST = HERE / ".last"
"""The last output of each benchmark."""
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


def measure(names: list[str]) -> None:
    """Run benchmarks; each leaves its output in `LAST`, so that a failure of one does not lose the others."""
    LAST.mkdir(exist_ok=True)
    for name in names:
        if name in ROWS:
            run(name, "--json", str(LAST / f"{name}.json"))
        else:
            (LAST / f"{name}.md").write_text(run(name), encoding="utf-8")


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


def results(load: float) -> str:
    """Return the text of RESULTS.md, from the last output of each benchmark that has one."""
    found = [LAST / f"{name}.json" for name in ROWS]
    rows = [Row(**fields) for file in found if file.exists() for fields in json.loads(file.read_text())]
    parts = [
        "# Results",
        f"Made by `make bench`. {machine()}. Load average when it began: {load:.1f}.",
        READ_ME.strip(),
        "## Chunks, streams, events, start",
        table(rows),
    ]
    for name, title in {**TABLES, PEERS: "Other clients"}.items():
        file = LAST / f"{name}.md"
        if file.exists():
            output = file.read_text(encoding="utf-8")
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
    parser.add_argument("--only", nargs="*", help="run these, and take the last output of the others")
    options = parser.parse_args()
    load = os.getloadavg()[1]
    if options.only is None:
        shutil.rmtree(LAST, ignore_errors=True)
        options.only = [*names, PEERS] if options.peers else names
    measure(options.only)
    missing = [name for name in names if not list(LAST.glob(f"{name}.*"))]
    if missing:
        sys.exit(f"RESULTS.md is unchanged: there is no output of {', '.join(missing)}: run them with --only")
    figures.RESULTS.write_text(with_summary(results(load)), encoding="utf-8")
    figures.main()
    run("pictures")


if __name__ == "__main__":
    main()
