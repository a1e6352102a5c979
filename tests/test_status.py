"""The line that says how a stream ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from blades import StreamState, Usage
from blades._output.status import describe

if TYPE_CHECKING:
    from collections.abc import Mapping


class Times(NamedTuple):
    """What `Timing` has."""

    first_chunk: float | None = None
    total: float = 9.0
    chunks: int = 0
    sent: float | None = None
    last_chunk: float | None = None


class Ended:
    """A stream that has ended."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.state = given.get("state", StreamState.FINISHED)
        self.finish_reason = given.get("finish_reason", "stop")
        self.usage = given.get("usage")
        self.timing = given.get("timing", Times())


@pytest.mark.parametrize(
    ("given", "failure", "line"),
    [
        pytest.param({}, None, "finished", id="nothing-known"),
        pytest.param({"finish_reason": "length"}, None, "finished (length)", id="finish-reason"),
        pytest.param({"state": StreamState.FAILED}, ValueError(), "failed: ValueError", id="failed"),
        pytest.param({"usage": Usage(completion_tokens=1_200)}, None, "finished · 1,200 tokens", id="tokens"),
        pytest.param({"timing": Times(0.5, chunks=1)}, None, "finished · first chunk after 0.50 s", id="one-chunk"),
        pytest.param(
            {"timing": Times(0.5, chunks=1, sent=0.01)}, None, "finished · first chunk after 0.50 s", id="sent-at-once"
        ),
        pytest.param(
            {"timing": Times(0.75, chunks=11, sent=0.5, last_chunk=2.75), "usage": Usage(completion_tokens=110)},
            None,
            "finished · 110 tokens · request sent after 0.50 s · first chunk 0.25 s later · 50 tokens/s · 5 chunks/s",
            id="all",
        ),
        pytest.param({"timing": Times(1.0, 1.001, 5)}, None, "finished · first chunk after 1.00 s", id="too-short"),
        pytest.param(
            {"timing": Times(1.0, 3.0, 5)}, None, "finished · first chunk after 1.00 s · 2 chunks/s", id="no-last-chunk"
        ),
    ],
)
def test_line(given: dict[str, Any], failure: BaseException | None, line: str) -> None:
    """It holds what is known; the rates are those of the arrival, however late the reader was."""
    ended: Any = Ended(given)
    assert describe(ended, failure) == line
