"""What short-lived threads leave behind in a program that counts its threads."""

from __future__ import annotations

import logging
import threading

import pytest

from blades import Agent
from blades._transport.threads import run_detached
from blades.testing import LocalServer
from limits import LIMIT_SECONDS, wait_until


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("Dummy")]


@pytest.mark.pure
def test_thread_that_asks_for_itself_is_forgotten() -> None:
    """As every logger does: Python before 3.13 would keep an entry of the thread for ever."""
    before, asked, go_on = names(), threading.Event(), threading.Event()

    def ask() -> None:
        threading.current_thread()
        asked.set()
        go_on.wait(LIMIT_SECONDS)

    assert run_detached(ask)
    assert asked.wait(LIMIT_SECONDS)
    assert len(names()) == len(before) + 1
    go_on.set()
    wait_until(lambda: names() == before)


def test_stream_with_a_logger_leaves_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    """The threads that warm an agent up, drain an answer and notify of its end are forgotten."""
    caplog.set_level(logging.DEBUG)
    before = names()
    with LocalServer("Hello.") as server, Agent("test", model="m", base_url=server.base_url, api_key="k") as agent:
        agent.warm_up()
        assert agent.run("go").text == "Hello."
        for _ in agent.run_stream("go"):
            break
    wait_until(lambda: names() == before)
