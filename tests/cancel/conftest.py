"""A request in each phase, and a server with TLS."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blades.testing import LocalServer
    from cancel.scenes import Scene

# What is imported of blades is imported in functions: `--other-platform` comes before.


@pytest.fixture(scope="module")
def tls_server() -> Iterator[LocalServer]:
    """A server with TLS, whose certificate takes a while to make."""
    from blades.testing import LocalServer

    with LocalServer(pace=0, tls=True) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """Let the official client import what it imports at its first request: on a busy machine that takes seconds."""
    from blades.testing import LocalServer
    from cancel.scenes import make

    with LocalServer(pace=0) as server, make(server.base_url) as agent:
        assert agent.run("warm").complete


@pytest.fixture
def trust(tls_server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", tls_server.certificate_file)


@pytest.fixture
def scene(
    phase: str, server: LocalServer, tls_server: LocalServer, trust: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    """Set the scene of a phase."""
    from cancel.scenes import set_scene

    with contextlib.ExitStack() as stack:
        yield set_scene(phase, tls_server if phase.endswith("tls") else server, stack, monkeypatch)
        for used in (server, tls_server):
            used.release()
