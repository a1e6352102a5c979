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
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from degraded import CHANGES

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent


def play(names: list[str], outcomes: dict[str, Future[dict[str, Any]]], *options: str) -> None:
    """Play the scenes, for each change in a process where nothing else has changed."""
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, TESTS / "degraded.py", *options, *names],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        ) as played,
    ):
        for line in played.stdout or ():
            outcome: dict[str, Any] = json.loads(line)
            outcomes[outcome["name"]].set_result(outcome)
        errors.seek(0)
        failure = AssertionError(f"the process has ended without an outcome:\n{errors.read()}")
    for name in names:
        if not outcomes[name].done():
            outcomes[name].set_exception(failure)


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """Play all changes that are asked for, two at the same time."""
    items: list[Any] = request.session.items
    asked = [item.callspec.params["name"] for item in items if "outcomes" in getattr(item, "fixturenames", ())]
    found: dict[str, Future[dict[str, Any]]] = {name: Future() for name in asked}
    with ThreadPoolExecutor(2) as pool:
        for names in filter(None, (asked[::2], asked[1::2])):
            pool.submit(play, names, found)
        yield found


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_a_foreign_library(name: str, outcomes: dict[str, Future[dict[str, Any]]]) -> None:
    """Streams work, and one warning says what is missing."""
    outcome = outcomes[name].result()
    assert not outcome["failures"], "\n".join(outcome["failures"].values())
    named = CHANGES[name].named
    assert len(outcome["warnings"]) == (1 if named else 0), outcome["warnings"]
    assert all(named in warning for warning in outcome["warnings"])


def test_another_platform() -> None:
    """All of it works where no `shutdown` wakes a thread, and nothing can be forked: see `other_platform`."""
    outcomes: dict[str, Future[dict[str, Any]]] = {"nothing": Future()}
    play(["nothing"], outcomes, "--other-platform")
    assert outcomes["nothing"].result() == {"name": "nothing", "failures": {}, "warnings": []}
