"""What the tests share. No test sees the developer's own key, server or .env file."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

import other_platform
from limits import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blades import Agent
    from blades.testing import LocalServer

# What is imported of blades is imported in functions: `--other-platform` comes before.

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and every process that a test starts would ignore its Ctrl-C as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _nothing_is_missing() -> Iterator[None]:
    """No test may find that the official client lacks something: a user would be warned of it in ordinary use."""
    from blades._transport.missing import missing

    before = set(missing._reported)
    yield
    assert missing._reported == before


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A local server that answers without pauses."""
    from blades.testing import LocalServer

    with LocalServer(pace=0) as running:
        yield running


@pytest.fixture
def agent(server: LocalServer) -> Iterator[Agent]:
    """An agent that talks to `server`."""
    from blades import Agent

    with Agent("test", model="test-model", base_url=server.base_url, api_key="test-key") as made:
        yield made


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the end of a body however busy the machine is: to count connections, not to measure the server."""
    from blades._transport import response

    monkeypatch.setattr(response, "END_WAIT_SECONDS", 30.0)
    monkeypatch.setattr(response, "PROOF_WAIT_SECONDS", 30.0)


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], object]], threading.Thread]]:
    """Run a function in a thread; every such thread must have ended when the test ends."""
    threads: list[threading.Thread] = []

    def start(function: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=function, daemon=True)
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.join(LIMIT_SECONDS)
        assert not thread.is_alive(), "a thread of the test did not end"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `test_mutations` and `test_soak` try more, and all tests run without the fast path, or as on Windows."""
    parser.addoption("--mutations", type=int, default=20_000, help="how many damaged streams test_mutations tries")
    parser.addoption("--no-fast-path", action="store_true", help="read every body through the HTTP library")
    parser.addoption("--other-platform", action="store_true", help="do all that differs on Windows as it is done there")
    parser.addoption("--soak", type=float, default=0.0, metavar="SECONDS", help="how long test_soak goes on at least")


def pytest_configure(config: pytest.Config) -> None:
    """Switch the fast path off, or behave like Windows (`make test-slow-path`, `make test-other-platform`).

    Tests of the fast path itself, and scripts in processes of their own, still do as here and now.
    """
    if config.getoption("--other-platform"):
        other_platform.pretend()
    if config.getoption("--no-fast-path"):
        from blades._transport import fast_body

        fast_body.ENABLED = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `pure` what uses neither sockets nor processes: `make check` runs these tests alone."""
    impure = ("LocalServer", "Server", "socket", "subprocess", "multiprocessing")
    for item in items:
        module = item.getparent(pytest.Module)
        if module is not None and not any(hasattr(module.obj, name) for name in impure):
            item.add_marker(pytest.mark.pure)
