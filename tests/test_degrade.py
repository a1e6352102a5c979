"""Releases to come of the official client and of its HTTP library: what they may change takes no stream down.

Each private name that the library uses is taken away, changed or called differently, one at a time, in a process of its
own. Whatever it is, streams, retries, time limits and re-used connections work, a cancel frees its reader at once, and
one warning names what is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from degraded import CHANGES
from limits import START_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent


def play(name: str) -> dict[str, Any]:
    """Play the scenes in a process where one thing has changed."""
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    played = subprocess.run(
        [sys.executable, TESTS / "degraded.py", name],
        capture_output=True,
        text=True,
        timeout=2 * START_SECONDS,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert played.returncode == 0, played.stderr
    outcome: dict[str, Any] = json.loads(played.stdout)
    return outcome


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """Play all changes that are asked for, two at the same time."""
    items: list[Any] = request.session.items
    asked = [item.callspec.params["name"] for item in items if item.fspath == request.node.fspath]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(play, name) for name in asked}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_a_foreign_library(name: str, outcomes: dict[str, Future[dict[str, Any]]]) -> None:
    """Streams work, and one warning says what is missing."""
    outcome = outcomes[name].result()
    assert not outcome["failures"], "\n".join(outcome["failures"].values())
    named = CHANGES[name].named
    assert len(outcome["warnings"]) == (1 if named else 0), outcome["warnings"]
    assert all(named in warning for warning in outcome["warnings"])
