"""Run all benchmarks, print one table, and write it to RESULTS.md: ``make bench``, or ``make bench PEERS=1``."""

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

from common import HERE, Row, table

TABLED = ("chunks", "concurrency", "many", "startup")  # give rows; they fail loudly
PRINTED = {
    "cancel": "Cancelling, phase by phase",
    "prompt": "Prompts, beside other engines",
}
VERSIONS = ("blades-sdk", "openai", "httpx2", "httpx", "h11", "pydantic", "jiter")
READ_ME = """\
`ours` reads `Agent.run_stream` in a `for` loop. `openai.Stream` is the official client's own reader. `floor` is the
least that the official client's bytes cost: split at blank lines, `json.loads`, and the text taken out. All three
ask the same server, a process of its own on loopback, in turn; each figure is the median of several turns. CPU is that
of the client's process, kernel included. Paced streams send 50 events a second, each in a packet of its own, and are
read by a thread each; the latency is from the server's `send` to the reader's loop body. Ours can be below the floor:
it reads a chunked body off the socket, where the floor goes through the HTTP library's layers.
"""


def run(name: str, *arguments: str) -> str:
    """Run a script; give what it prints."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    command = [sys.executable, HERE / f"{name}.py", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=name in TABLED)
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return done.stdout if done.returncode == 0 else f"{name}.py ended with status {done.returncode}.\n"


def rows(name: str) -> list[Row]:
    """Run a script that gives rows."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        run(name, "--json", str(file))
        return [Row(**fields) for fields in json.loads(file.read_text())]


def machine() -> str:
    """Say what was measured on, and with what."""
    versions = []
    for name in VERSIONS:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    return f"{time.strftime('%Y-%m-%d')}; {', '.join(versions)}; Python {platform.python_version()}, {system}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="measure other clients as well; some minutes more")
    parser.add_argument("--only", nargs="*", default=[*TABLED, *PRINTED], help="run these, and leave RESULTS.md alone")
    options = parser.parse_args()
    load = os.getloadavg()[1]
    found = [row for name in TABLED if name in options.only for row in rows(name)]
    parts = [
        "# Results",
        f"Made by `make bench`. {machine()}. Other work on the machine when it began: load {load:.1f}.",
        READ_ME.strip(),
        table(found),
    ]
    for name, title in PRINTED.items():
        if name in options.only:
            parts += [f"## {title}", f"`benchmarks/{name}.py`:", f"```text\n{run(name).strip()}\n```"]
    if options.peers:
        parts += ["## Other clients", run("peers").strip()]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if set(options.only) >= {*TABLED, *PRINTED}:
        (HERE / "RESULTS.md").write_text(text)


if __name__ == "__main__":
    main()
