"""Other clients, each in an environment of its own, at the same server in the same run; prints one table.

``python benchmarks/peers.py`` makes the environments (``.venv-peers``) with the newest versions that can be installed.
What each adapter in ``peers/`` does is that client's documented idiom.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from common import HERE, Load, figure, lay_out
from peer import BURST, CANCELS

NAMES = ("blades", "openai", "pydantic_ai", "litellm", "langchain_openai", "llm", "chatlas")
OURS = ("blades", "openai")
TASK_SECONDS = 600
IMPORT = "import time; start = time.process_time(); import {}; print((time.process_time() - start) * 1e3)"
CHUNKS = 200_000
ENVIRONMENT = {**os.environ, "OPENAI_API_KEY": "any", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # no other host


def packages(name: str) -> tuple[str, ...]:
    """Read what an adapter needs, without importing it."""
    for line in (HERE / "peers" / f"adapter_{name}.py").read_text().splitlines():
        if line.startswith("PACKAGES = "):
            found: tuple[str, ...] = eval(line.removeprefix("PACKAGES = "))
            return found
    raise LookupError(name)


def python(name: str) -> Path:
    """Return a client's interpreter; make its environment if there is none."""
    if name in OURS:
        return Path(sys.executable)
    folder = HERE.parent / ".venv-peers" / name
    interpreter = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", "--upgrade", *packages(name)], check=True)
        (folder / "ready").touch()
    return interpreter


def version(name: str) -> str:
    """Return a client's version."""
    package = packages(name)[0].partition("[")[0]
    code = f"from importlib import metadata; print(metadata.version({package!r}))"
    return f"{package} {subprocess.check_output([python(name), '-c', code], text=True).strip()}"


def measure(name: str, task: str, *urls: str) -> Any:
    """Run a task; return its result, or a word on why there is none."""
    command = [python(name), HERE / "peer.py", name, task, *urls]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TASK_SECONDS, env=ENVIRONMENT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"> {TASK_SECONDS} s"
    if done.returncode:
        print(f"{name} {task}: {done.stderr[-2000:]}", file=sys.stderr)
        return "failed"
    return json.loads(done.stdout.splitlines()[-1])


def import_time(name: str) -> float:
    """Return the least milliseconds of CPU of five imports, with compiled files."""
    module = load_module_name(name)
    environment = {key: value for key, value in ENVIRONMENT.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [python(name), "-c", IMPORT.format(module)]
    return min(float(subprocess.check_output(command, text=True, env=environment)) for _ in range(5))


def load_module_name(name: str) -> str:
    """Return the module that users import."""
    text = (HERE / "peers" / f"adapter_{name}.py").read_text()
    return text.partition('MODULE = "')[2].partition('"')[0]


def line(load_server: Load, name: str) -> list[str]:
    """Measure one client."""
    url = load_server.url
    values = [
        import_time(name),
        measure(name, "cpu", url(f"burst-{BURST}")),
        load_server.connections(lambda: measure(name, "ten", url("burst-20"))),
        measure(name, "memory", url(f"burst-{CHUNKS}"), url("burst-1000")),
        measure(name, "cancel", url("silent")),
        measure(name, "cancel", url("stall-5")),
        measure(name, "cancel", url("busy")),
        measure(name, "truncated", url("cut-5")),
    ]
    print(name, values, file=sys.stderr, flush=True)
    return [version(name), *(value if isinstance(value, str) else figure(value) for value in values)]


def main() -> None:
    names = sys.argv[1:] or NAMES
    head = ["", "import, ms", "CPU per chunk, us", "connections for 10 streams", f"MiB for {CHUNKS:,} chunks"]
    head += [f"cancel {phase}, ms" for phase in ("before headers", "between tokens", "in back-off")] + ["cut short"]
    with Load() as load_server:
        lines = [line(load_server, name) for name in names]
    print(lay_out([head, *lines]))
    print(f"""
Each in an environment of its own, with the same server in the same run, in its documented synchronous way (see
`benchmarks/peers/`). CPU: of a burst of {BURST:,} chunks. Cancel: from another thread, until the reader returns, the
median of {CANCELS}; "no way" where the documentation names none for synchronous streams, "no handle yet" where the
call that returns one is still blocked. Cut short: what the reader gets of a body that ends without finish reason and
`[DONE]`.""")


if __name__ == "__main__":
    main()
