"""The example for Dask, on real processes: as a user starts it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from blades.testing import Answer, Cut, LocalServer, Request, Stall
from limits import SOON_SECONDS, START_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs distributed"),
    pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT"),
]

EXAMPLE = Path(__file__).parents[1] / "examples" / "fan_out_dask.py"
THREADS, RETRIES = 4, 1
CLUSTER = f"""
import logging, sys
from distributed import LocalCluster
if __name__ == "__main__":
    options = dict(threads_per_worker={THREADS}, dashboard_address=None, silence_logs=logging.CRITICAL)
    with LocalCluster(n_workers=1, **options) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


class Script:
    """Answers by what is asked: every tenth prompt fails for good after some text, every other tenth one once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()

    def __call__(self, request: Request) -> Answer:
        """Choose an answer."""
        prompt = request.json["messages"][-1]["content"]
        with self.lock:
            self.asked[prompt] += 1
            first = self.asked[prompt] == 1
        number = int(prompt.split()[-1])
        if number % 10 == 3 or (number % 10 == 7 and first):
            return Answer(f"half {number}", Cut())
        return Answer("whole ", f"{number}")


class Example:
    """A running example, with a process group of its own, as in a terminal."""

    def __init__(self, server: LocalServer, directory: Path, prompts: list[str], *arguments: str) -> None:
        directory.joinpath("prompts.txt").write_text("\n".join(prompts), encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, EXAMPLE, "prompts.txt", "--retries", str(RETRIES), *arguments],
            cwd=directory,
            env={**os.environ, "OPENAI_API_KEY": "any", "OPENAI_BASE_URL": server.base_url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def next_line(self) -> dict[str, Any]:
        """Wait for a line."""
        assert self.process.stdout is not None
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def finish(self) -> tuple[list[dict[str, Any]], str]:
        """Wait for the end; return the lines and what was shown."""
        lines, shown = self.process.communicate(timeout=START_SECONDS)
        return [json.loads(line) for line in lines.splitlines()], shown.decode()

    def kill(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=START_SECONDS)


@pytest.fixture
def start(server: LocalServer, tmp_path: Path) -> Iterator[Callable[..., Example]]:
    """Start an example, by its prompts and arguments."""
    started: list[Example] = []

    def run(prompts: list[str], *arguments: str) -> Example:
        started.append(Example(server, tmp_path, prompts, *arguments))
        return started[-1]

    yield run
    for example in started:
        example.kill()


@pytest.fixture
def scheduler(server: LocalServer, tmp_path: Path) -> Iterator[str]:
    """A cluster of other processes than the example's."""
    env = {**os.environ, "OPENAI_API_KEY": "any", "OPENAI_BASE_URL": server.base_url}
    program = tmp_path / "cluster.py"
    program.write_text(CLUSTER, encoding="utf-8")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, program], env=env, start_new_session=True, **pipes) as cluster:
        assert cluster.stdout is not None
        yield cluster.stdout.readline().strip()
        os.killpg(cluster.pid, signal.SIGKILL)


def local(workers: int) -> tuple[str, ...]:
    return "--workers", str(workers), "--threads", str(THREADS)


def test_every_prompt_gets_a_line(server: LocalServer, start: Callable[..., Example]) -> None:
    """Answers as they come, failures tried again by Dask, partial answers kept, a bar on standard error."""
    server.default = script = Script()
    prompts = [f"prompt {number}" for number in range(60)]
    example = start(prompts, *local(workers=2))
    lines, shown = example.finish()
    assert example.process.returncode == 0
    assert [line["prompt"] for line in sorted(lines, key=lambda line: line["number"])] == prompts
    for line in lines:
        number = line["number"]
        if number % 10 == 3:
            assert line["text"] == f"half {number}"
            assert line["error"].startswith("StreamInterrupted: ")
        else:
            assert (line["text"], line["finish_reason"], line["error"]) == (f"whole {number}", "stop", None)
            assert line["usage"]["completion_tokens"] == 2
    expected = {prompt: 1 + (RETRIES if int(prompt.split()[1]) % 10 in {3, 7} else 0) for prompt in prompts}
    assert script.asked == expected
    assert server.connections < 45, "each process has one client, whose connections serve many answers"
    assert [text.partition("] ")[2] for text in shown.split("\r")][-1] == "60/60, 6 failed\n"


@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_ctrl_c_reaches_the_server(
    server: LocalServer, start: Callable[..., Example], request: pytest.FixtureRequest, how: str
) -> None:
    """Every stream on every worker is cancelled at once; also when the process dies, and the workers do not."""
    server.add("whole", "whole")
    server.default = Answer("half", Stall())
    arguments = local(1) if how == "interrupt" else ("--scheduler", request.getfixturevalue("scheduler"))
    example = start([f"prompt {number}" for number in range(20)], *arguments)
    written = [example.next_line(), example.next_line()]
    server.wait_for_request(2 + THREADS, START_SECONDS)
    done = {line["prompt"] for line in written}
    stalled = [asked for asked in server.requests if asked.json["messages"][-1]["content"] not in done]
    assert len(stalled) == THREADS
    assert all(asked.stalled.wait(SOON_SECONDS) for asked in stalled)
    if how == "interrupt":
        os.killpg(example.process.pid, signal.SIGINT)  # as a terminal does, to all of its processes
    else:
        os.kill(example.process.pid, signal.SIGKILL)
    assert all(asked.left.wait(SOON_SECONDS) for asked in stalled)
    lines, shown = example.finish()
    assert [line["text"] for line in [*written, *lines]] == ["whole", "whole"]
    assert len(server.requests) == 2 + THREADS  # bounded before, and nothing sent after
    if how == "interrupt":
        assert example.process.returncode == 1
        assert shown.endswith(", 0 failed\ncancelled\n")


def test_a_killed_worker_loses_no_prompt(server: LocalServer, start: Callable[..., Example]) -> None:
    """The prompts that it was answering are asked once more; the output has each prompt once."""
    server.default = Answer("half", Stall())
    prompts = [f"prompt {number}" for number in range(20)]
    example = start(prompts, *local(workers=1))
    server.wait_for_request(THREADS, START_SECONDS)
    stalled = list(server.requests)
    assert all(asked.stalled.wait(SOON_SECONDS) for asked in stalled)
    server.default = Answer("whole")
    found = subprocess.check_output(["pgrep", "-f", "-P", str(example.process.pid), "spawn_main"], text=True)
    (worker,) = map(int, found.split())  # the other child of the example is multiprocessing's resource tracker
    os.kill(worker, signal.SIGKILL)
    lines, shown = example.finish()
    assert sorted((line["number"], line["prompt"], line["text"]) for line in lines) == [
        (number, prompt, "whole") for number, prompt in enumerate(prompts)
    ]
    assert len(server.requests) == len(prompts) + len(stalled)
    assert shown.endswith("20/20, 0 failed\n")
