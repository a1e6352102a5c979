"""What short-lived threads leave behind in a program that counts its threads."""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue

import pytest

from blades import Agent
from blades._transport.threads import run_detached
from blades.testing import LocalServer
from limits import LIMIT_SECONDS, wait_until


@pytest.mark.pure
def test_thread_that_asks_for_itself_is_forgotten() -> None:
    """As every logger does: Python before 3.13 would keep an entry of the thread for ever."""
    found: SimpleQueue[threading.Thread] = SimpleQueue()
    go_on = threading.Event()

    def ask() -> None:
        found.put(threading.current_thread())
        go_on.wait(LIMIT_SECONDS)

    assert run_detached(ask)
    thread = found.get(timeout=LIMIT_SECONDS)
    assert thread in threading.enumerate()
    go_on.set()
    wait_until(lambda: thread not in threading.enumerate())


def test_stream_with_a_logger_leaves_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    """The threads that warm an agent up, drain an answer and notify of its end are forgotten."""
    caplog.set_level(logging.DEBUG)
    before = set(threading.enumerate())
    with LocalServer("Hello.") as server, Agent("test", model="m", base_url=server.base_url, api_key="k") as agent:
        agent.warm_up()
        assert agent.run("go").text == "Hello."
        for _ in agent.run_stream("go"):
            break
    wait_until(lambda: before.issuperset(threading.enumerate()))
