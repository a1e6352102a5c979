"""A thousand streams at once, within the common limit of 1,024 open files."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from blades.testing import Answer, LocalServer, Stall
from limits import START_SECONDS

resource: Any = pytest.importorskip("resource", reason="there are no such limits on Windows")

STREAMS = 1000
SCRIPT = """
import json, os, resource, sys, threading
from blades import Agent
from blades._transport import response
response.END_WAIT_SECONDS = response.PROOF_WAIT_SECONDS = 30.0  # for a busy machine
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
agent = Agent("many", model="m", base_url=sys.argv[1], api_key="k")
assert agent.run("the first call imports and opens what is needed once").complete
descriptors = len(os.listdir("/dev/fd"))
streams = [agent.run_stream("go") for _ in range(int(sys.argv[2]))]
texts = [next(stream).text for stream in streams]
used = len(os.listdir("/dev/fd")) - descriptors + 1  # the first call's connection serves one of the streams
threads = threading.active_count() - 1
for stream in streams:
    stream.cancel()
texts.append(agent.run("and it still works").text)
print(json.dumps([texts, used, threads]))
"""


@pytest.fixture
def _room_for_the_server() -> Any:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * STREAMS:
        pytest.skip(f"the server needs {2 * STREAMS} open files, and may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * STREAMS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_room_for_the_server")
def test_a_thousand_streams_within_1024_descriptors() -> None:
    """Each open stream takes one descriptor; one thread keeps the time limits of all of them."""
    with LocalServer("first", *[Answer("a", Stall())] * STREAMS, "last") as server:
        command = [sys.executable, "-c", SCRIPT, server.base_url, str(STREAMS)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
        assert not done.stderr
        texts, used, threads = json.loads(done.stdout)
        assert texts == ["a"] * STREAMS + ["last"]
        assert used == STREAMS
        assert threads == 1
