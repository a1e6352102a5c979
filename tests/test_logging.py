"""The log reports each change of state, and no secret."""

from __future__ import annotations

import logging
import re
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import TYPE_CHECKING

import openai
import pytest

from blades import Agent, StreamError
from blades.testing import Answer, Cut, LocalServer, Stall
from limits import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "sk-a-secret"
PROMPT = "a private question"
TEXT = "a private answer"
STATE_CHANGE = re.compile(r"stream ([0-9a-f]+): (\w+ -> \w+), request id (\w+)")


def talkative(server: LocalServer) -> Agent:
    """Return an agent with texts to look for."""
    return Agent("test", model="m", instructions=PROMPT, base_url=server.base_url, api_key=KEY, max_retries=0)


def read(agent: Agent) -> None:
    agent.run(PROMPT)


def read_and_fail(agent: Agent) -> None:
    with pytest.raises((StreamError, openai.OpenAIError)):
        agent.run(PROMPT)


def cancel(agent: Agent) -> None:
    stream = agent.run_stream(PROMPT)
    assert stream.next()
    stream.cancel()


def cancel_early(agent: Agent) -> None:
    agent.run_stream(PROMPT).cancel()


def leave(agent: Agent) -> None:
    for _ in agent.run_stream(PROMPT):
        break


@pytest.mark.parametrize(
    ("answer", "use", "expected"),
    [
        pytest.param(Answer(TEXT), read, ["opening -> streaming 1", "streaming -> finished 1"], id="finished"),
        pytest.param(Answer(TEXT, Cut()), read_and_fail, ["opening -> streaming 1", "streaming -> failed 1"], id="cut"),
        pytest.param(Answer.error(401, f"{KEY} {PROMPT}"), read_and_fail, ["opening -> failed None"], id="refused"),
        pytest.param(
            Answer.raw(TEXT.encode(), content_type="text/plain"),
            read_and_fail,
            ["opening -> streaming 1", "streaming -> failed 1"],
            id="no stream",
        ),
        pytest.param(
            Answer(TEXT, Stall()), cancel, ["opening -> streaming 1", "streaming -> cancelled 1"], id="cancel"
        ),
        pytest.param(Answer(TEXT, Stall()), cancel_early, ["opening -> cancelled None"], id="cancelled early"),
        pytest.param(Answer(TEXT, Stall()), leave, ["opening -> streaming 1", "streaming -> cancelled 1"], id="left"),
    ],
)
def test_state_changes_are_logged(
    server: LocalServer,
    caplog: pytest.LogCaptureFixture,
    answer: Answer,
    use: Callable[[Agent], None],
    expected: list[str],
) -> None:
    """One line each, at debug, with the request id as soon as it is known; never a key or a text, at any level."""
    server.add(answer)
    logged: SimpleQueue[logging.LogRecord] = SimpleQueue()
    logger = logging.getLogger("blades")
    handler = QueueHandler(logged)
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.DEBUG, "blades"):
            use(talkative(server))
            records = [logged.get(timeout=LIMIT_SECONDS) for _ in expected]  # a cancel is logged by another thread
    finally:
        logger.removeHandler(handler)
    assert logged.empty()
    found = [STATE_CHANGE.fullmatch(record.getMessage()) for record in records]
    assert [f"{match[2]} {match[3].removeprefix('req_local_')}" for match in found if match] == expected
    assert len({match[1] for match in found if match}) == 1
    assert {record.levelno for record in records} == {logging.DEBUG}
    for record in records:
        written = logging.Formatter().format(record) + repr(vars(record))
        assert not any(secret in written for secret in (KEY, PROMPT, TEXT, server.base_url))


def test_nothing_is_logged_above_debug(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    """A program that sets up nothing sees nothing: what went wrong is raised, not logged."""
    server.add(Answer(TEXT, Cut()), Answer(TEXT, Stall()))
    agent = talkative(server)
    with caplog.at_level(logging.INFO, "blades"):
        read_and_fail(agent)
        cancel(agent)
        assert server.wait_for_request(2).left.wait(LIMIT_SECONDS)
    assert [record for record in caplog.records if record.name.startswith("blades")] == []
