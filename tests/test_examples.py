"""The examples run against the local server, as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from blades.testing import Answer, LocalServer, Stall

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[1] / "examples"
LIMIT_SECONDS = 60.0  # most of it is importing the official client


@pytest.fixture
def environment(server: LocalServer) -> dict[str, str]:
    """The environment of a user with a key."""
    return {
        **os.environ,
        "OPENAI_API_KEY": "any",
        "OPENAI_BASE_URL": server.base_url,
        "PYTHONUTF8": "1",
        "PYTHONWARNINGS": "error",
    }


def run(name: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run an example without a terminal."""
    return subprocess.run(
        [sys.executable, EXAMPLES / name],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LIMIT_SECONDS,
        check=False,
    )


def test_run_stream_prints_the_answer(server: LocalServer, environment: dict[str, str]) -> None:
    """The upstream example, with its Chinese prompts, to its end."""
    server.add("T1 更有可能夺冠。")
    done = run("run_stream.py", environment)
    assert done.stderr == ""
    assert done.stdout.startswith("T1 更有可能夺冠。\n[finished, ")
    assert server.requests[0].json["messages"] == [
        {"role": "system", "content": "请用三点简洁回答 预测S15总冠军"},
        {"role": "user", "content": "请回答 用户，KT和T1谁最有可能在决赛中获得冠军"},
    ]


def test_run_stream_without_a_key_starts_the_local_server(environment: dict[str, str]) -> None:
    """It says so in one line, and streams."""
    del environment["OPENAI_API_KEY"]
    done = run("run_stream.py", environment)
    assert done.stderr.splitlines() == [line for line in done.stderr.splitlines() if "local test server" in line]
    assert "[finished, " in done.stdout


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal: the person's side and the program's side."""
    pty = pytest.importorskip("pty")
    person, program = pty.openpty()
    yield person, program
    os.close(person)
    os.close(program)


def test_enter_cancels_run_stream(server: LocalServer, environment: dict[str, str], terminal: tuple[int, int]) -> None:
    """At a terminal, Enter ends the answer; the part that came and the state are shown, the server is told."""
    person, program = terminal
    server.add(Answer("half an ", "answer", Stall()))
    with subprocess.Popen(
        [sys.executable, EXAMPLES / "run_stream.py"],
        env=environment,
        stdin=program,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    ) as example:
        assert example.stdout is not None
        shown = example.stdout.read(len("half an answer"))
        os.write(person, b"\n")
        rest, _ = example.communicate(timeout=LIMIT_SECONDS)
    assert shown + rest == "half an answer\n[cancelled, 14 characters, usage None]\n"
    assert server.requests[0].left.wait(LIMIT_SECONDS)
    assert example.returncode == 0
