"""The garbage collector during the import of the official client."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from blades._platform import HAS_GIL
from blades._transport import collector
from blades._transport.collector import HELD_OFF, MANY, collector_held_off
from blades.testing import LocalServer
from limits import START_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = """
import gc, sys
from blades import Agent
before, runs = gc.get_threshold(), gc.get_stats()[0]["collections"]
assert Agent("a", model="m", base_url=sys.argv[1], api_key="k").run("go").complete
assert gc.get_threshold() == before, gc.get_threshold()
assert gc.isenabled()
print(gc.get_stats()[0]["collections"] - runs)
"""


@pytest.fixture(autouse=True)
def _threshold() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    gc.disable()  # so that nothing grows older by itself; the setting of the threshold is another thing
    yield
    gc.enable()
    gc.set_threshold(*before)


def test_import_does_not_start_the_collector() -> None:
    """The program's own setting is back when the first answer is there."""
    with LocalServer("Hello.") as server:
        command = [sys.executable, "-c", SCRIPT, server.base_url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert not done.stderr
    assert int(done.stdout) < 60  # else 200


def test_what_the_program_sets_meanwhile_stays() -> None:
    """Another thread may change the setting during the import."""
    with collector_held_off():
        assert gc.get_threshold() == HELD_OFF
        gc.set_threshold(5_000, 7, 7)
    assert gc.get_threshold() == (5_000, 7, 7)


def test_it_can_be_nested_and_broken_off() -> None:
    """An import may fail."""
    with pytest.raises(ImportError), collector_held_off(), collector_held_off():
        raise ImportError
    assert gc.get_threshold() == (700, 10, 10)


def test_program_that_has_switched_it_off_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is every program, where the switch here says so."""
    gc.set_threshold(0, 10, 10)
    with collector_held_off():
        assert gc.get_threshold() == (0, 10, 10)
    gc.set_threshold(700, 10, 10)
    monkeypatch.setattr(collector, "ENABLED", False)
    with collector_held_off():
        assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.skipif(not HAS_GIL, reason="without a GIL there are no generations")
def test_what_was_made_is_in_the_oldest_generation() -> None:
    """The next run of the collector does not walk it; what the program has frozen stays so."""
    with collector_held_off():
        made: list[list[object]] = [[] for _ in range(MANY)]
    assert not is_young(made)
    gc.freeze()
    try:
        with collector_held_off():
            young: list[list[object]] = [[] for _ in range(MANY)]
            assert gc.get_count()[0] > MANY
        assert gc.get_freeze_count()
        assert is_young(young)
    finally:
        gc.unfreeze()


@pytest.mark.skipif(not HAS_GIL, reason="without a GIL there are no generations")
def test_garbage_is_collected_where_many_clients_are_made() -> None:
    """As ever: each client makes a few objects, and does not begin the collector's counts anew."""
    with collector_held_off():
        few: list[list[object]] = [[] for _ in range(1_000)]
    assert is_young(few)


def is_young(made: list[list[object]]) -> bool:
    return any(item is made for item in gc.get_objects(generation=0))
