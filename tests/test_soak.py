"""Thousands of streams against a server that fails at random, read and left and cancelled in every way at random.

``pytest tests/test_soak.py --soak=600`` goes on for ten minutes.
"""

from __future__ import annotations

import gc
import queue
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai

from blades import Agent, StreamError, StreamState
from blades.testing import Answer, Cut, End, LocalServer, Reset, Stall
from limits import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from blades import Stream
    from blades.testing import Request

STREAMS = 2000
READERS = 16
CANCELLERS = 4
SEED = 20261122
ENDS = {StreamState.FINISHED, StreamState.CANCELLED, StreamState.FAILED}


def answer(request: Request) -> Answer:
    """Answer a prompt such as "17 cut": words that name the prompt, and the fault that it asks for."""
    number, fault = request.json["messages"][-1]["content"].split()
    soon = {"Retry-After-Ms": "1"}
    words = words_of(number)
    return {
        "fine": lambda: Answer(*words),
        "pauses": lambda: Answer(words[0], 0.005, words[1], 0.005, *words[2:]),
        "reset": lambda: Answer(*words[:2], Reset()),
        "cut": lambda: Answer(*words[:2], Cut()),
        "end": lambda: Answer(*words[:2], End()),
        "stall": lambda: Answer(*words[:2], Stall()),
        "silent": lambda: Answer(before_headers=[Stall()]),
        "slow": lambda: Answer(*words, before_headers=[0.02]),
        "early-reset": lambda: Answer(before_headers=[Reset()]),
        "bad-json": lambda: Answer(words[0], b'data: {"choices": [\n\n'),
        "error-event": lambda: Answer(words[0], {"error": {"message": "overloaded"}}, done=False),
        "page": lambda: Answer.raw(b"<html>no</html>", content_type="text/html"),
        "500": lambda: Answer.error(500, "no", headers=dict(soon)),
        "429": lambda: Answer.error(429, "later", headers=dict(soon)),
        "429-later": lambda: Answer.error(429, "later", headers={"Retry-After": "20"}),
    }[fault]()


FAULTS = (
    *["fine"] * 6, *["pauses"] * 4, "reset", "cut", "end", "stall", "silent", "slow", "early-reset", "bad-json",
    "error-event", "page", "500", "429", "429-later",
)  # fmt: skip


def words_of(number: str) -> list[str]:
    return [f"{number}:{word} " for word in ("one", "two", "three", "four")]


class Soak:
    """The threads that read and cancel, and what they found."""

    def __init__(self, agent: Agent, seconds: float) -> None:
        self.agent = agent
        self.end = time.monotonic() + seconds
        self.started = 0
        self.errors: list[BaseException] = []
        self.seen: dict[str, int] = {}
        self._lock = threading.Lock()
        self._random = random.Random(SEED)
        self._to_cancel: queue.SimpleQueue[tuple[Callable[[], None], float] | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Start as many streams as are wanted, and wait for all."""
        readers = [threading.Thread(target=self._read_all, daemon=True) for _ in range(READERS)]
        cancellers = [threading.Thread(target=self._cancel_all, daemon=True) for _ in range(CANCELLERS)]
        for thread in (*readers, *cancellers):
            thread.start()
        for reader in readers:
            reader.join(max(self.end - time.monotonic(), 0) + LIMIT_SECONDS)
            assert not reader.is_alive(), "a stream hangs"
        for _ in cancellers:
            self._to_cancel.put(None)
        for canceller in cancellers:
            canceller.join(LIMIT_SECONDS)
            assert not canceller.is_alive(), "a cancel hangs"

    def _next_seed(self) -> int | None:
        with self._lock:
            if self.started >= STREAMS and time.monotonic() > self.end:
                return None
            self.started += 1
            return self._random.randrange(1 << 32)

    def _read_all(self) -> None:
        while (seed := self._next_seed()) is not None:
            try:
                self._one(random.Random(seed))
            except BaseException as error:  # reported by the test
                self.errors.append(error)

    def _cancel_all(self) -> None:
        while (job := self._to_cancel.get()) is not None:
            cancel, seconds = job
            threading.Event().wait(seconds)
            try:
                cancel()
            except BaseException as error:  # reported by the test
                self.errors.append(error)

    def _one(self, chance: random.Random) -> None:
        """Start one stream, let it be cancelled or not, read it in some way, and check what is left of it."""
        number, fault = str(chance.randrange(1 << 32)), chance.choice(FAULTS)
        event = threading.Event() if chance.random() < 0.3 else None
        stream = self.agent.run_stream(f"{number} {fault}", cancel=event)
        cancelled = chance.random() < (0.8 if fault in ("stall", "silent", "429-later") else 0.35)
        if cancelled:
            ways = [stream.cancel_event.set, stream.cancel if event is None else event.set]
            self._to_cancel.put((chance.choice(ways), chance.choice([0, 0, 0.001, 0.003, 0.01, 0.03])))
        how = chance.choice(["loop", "loop", "next", "reply", "break", "with", "drop"])
        handed_out: list[str] = []
        failure: Exception | None = None
        try:
            read(stream, how, handed_out)
        except (StreamError, openai.OpenAIError) as error:
            failure = error
        assert (failure is None) == (stream.state is not StreamState.FAILED)
        assert getattr(failure, "text", stream.text) == stream.text
        kind = stream.state.value if failure is None else type(failure).__name__
        with self._lock:
            self.seen[kind] = self.seen.get(kind, 0) + 1
        if how != "drop":
            check(stream, "".join(words_of(number)), handed_out, may_cancel=cancelled or how in ("break", "with"))


def read(stream: Stream, how: str, handed_out: list[str]) -> None:
    if how == "reply":
        handed_out.append(stream.reply().text)
    elif how == "next":
        while stream.next():
            handed_out.append(stream.current().text)
    elif how == "loop":
        handed_out.extend(chunk.text for chunk in stream)
    elif how == "break":
        for chunk in stream:
            handed_out.append(chunk.text)
            if len(handed_out) == 2:
                break
    elif how == "with":
        with stream:
            if stream.next():
                handed_out.append(stream.current().text)


def check(stream: Stream, whole: str, handed_out: list[str], *, may_cancel: bool) -> None:
    """Check that what was returned is this stream's own, and that its state fits."""
    assert stream.state in ENDS
    assert whole.startswith(stream.text)
    if stream.state is not StreamState.FAILED:
        assert stream.text == "".join(handed_out)
    if stream.state is StreamState.FINISHED:
        assert stream.text == whole
    if stream.state is StreamState.CANCELLED:
        assert may_cancel


def resources() -> tuple[int, int]:
    gc.collect()
    return threading.active_count(), sum(1 for _ in Path("/dev/fd").iterdir())


def test_soak(pytestconfig: pytest.Config) -> None:
    """No hang, only documented exceptions, nobody's text in another's stream, and all given back in the end."""
    seconds: float = pytestconfig.getoption("--soak")
    with LocalServer(default=answer) as server:
        before = resources()
        settings: dict[str, Any] = {"stall_timeout": 0.4, "max_retries": 1}
        agent = Agent("soak", model="m", base_url=server.base_url, api_key="k", **settings)
        soak = Soak(agent, seconds)
        soak.run()
        assert not soak.errors, soak.errors[:3]
        assert agent.run("0 fine", stall_timeout=LIMIT_SECONDS).text == "".join(words_of("0"))
        agent.close()
        deadline = time.monotonic() + LIMIT_SECONDS
        while any(now > then for now, then in zip(resources(), before, strict=True)):
            assert time.monotonic() < deadline, f"{resources()} threads and descriptors, before {before}"
            threading.Event().wait(0.02)
        assert soak.started >= STREAMS
        assert {"finished", "cancelled", "StreamInterrupted", "StreamTruncated", "StreamTimeout"} <= soak.seen.keys()
        assert not [request for request in server.requests if request.stalled.is_set() and not request.left.is_set()]
