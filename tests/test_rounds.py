"""One round of tool calls: threads, results, what the model is sent."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import queue
import signal
import sqlite3
import sys
import threading
import time
from contextvars import copy_context
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from blades._errors import ToolError, ToolFailed
from blades._rounds import (
    ANOTHER_FAILED,
    CANCELLED_BEFORE,
    CANCELLED_WHILE,
    CUT,
    DECLINED,
    FAILED,
    FILTERED,
    MOST_THREADS,
    Outcome,
    Round,
    result_text,
)
from blades._tools import NO_OBJECT, Tool, ToolSet
from blades._transport.events import StopEvent
from blades._values import Reply, ToolCall, ToolResult
from cancel.scenes import no_threads
from limits import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blades._rounds import StartSpan


@dataclass
class Point:
    x: int


class Running:
    """A round with its queue, driven as a stream does it."""

    def __init__(
        self,
        tools: Iterable[Any],
        *calls: tuple[str, str],
        finish_reason: str | None = "tool_calls",
        start_span: StartSpan | None = None,
    ) -> None:
        self.arrivals: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.event = StopEvent()
        made = [ToolCall(n, f"call_{n}", name, arguments) for n, (name, arguments) in enumerate(calls)]
        self.round = Round(
            made,
            ToolSet(tools),
            stop_event=self.event,
            deliver=self.arrivals.put,
            context=copy_context(),
            start_span=start_span,
        )
        self.round.prepare(finish_reason)

    def step(self) -> ToolResult:
        """Take the next outcome."""
        outcome = self.round.next_outcome()
        result = self.round.take(self.arrivals.get(timeout=LIMIT_SECONDS) if outcome is None else outcome)
        assert result is not None
        return result

    def finish(self) -> list[ToolResult]:
        """Start, and take all of them."""
        self.round.start()
        results = []
        while not self.round.done:
            results.append(self.step())
        return results

    def stop(self) -> None:
        """Do as the stream does when it ends."""
        self.event.set()
        self.round.stop()


def test_the_calls_of_a_round_run_at_the_same_time() -> None:
    """Each waits for the other."""
    both = threading.Barrier(2)

    def meet(who: str) -> str:
        both.wait(LIMIT_SECONDS)
        return who

    running = Running([meet], ("meet", '{"who": "a"}'), ("meet", '{"who": "b"}'))
    assert {result.text for result in running.finish()} == {"a", "b"}
    assert running.round.texts() == ["a", "b"]


def test_a_model_cannot_start_any_number_of_threads() -> None:
    """What it calls beyond that waits for a thread."""
    running_now: set[int] = set()
    most: list[int] = []

    def look(number: int) -> int:
        running_now.add(number)
        most.append(len(running_now))
        time.sleep(0.001)
        running_now.discard(number)
        return number

    running = Running([look], *[("look", f'{{"number": {number}}}') for number in range(300)])
    running.finish()
    assert running.round.texts() == [str(number) for number in range(300)]
    assert 1 < max(most) <= MOST_THREADS


def test_results_are_handed_out_as_they_come_and_kept_in_order() -> None:
    """The second call returns first."""
    second = threading.Event()

    def first_tool() -> str:
        assert second.wait(LIMIT_SECONDS)
        return "first"

    def second_tool() -> str:
        return "second"

    running = Running([first_tool, second_tool], ("first_tool", ""), ("second_tool", "{}"))
    running.round.start()
    assert running.step().text == "second"
    second.set()
    assert running.step().text == "first"
    assert running.round.texts() == ["first", "second"]


def test_a_result_has_its_call_and_its_seconds() -> None:
    """So that it can be logged."""
    running = Running([Tool(lambda: "x", name="f")], ("f", "{}"))
    (result,) = running.finish()
    assert (result.call.id, result.call.name, result.text, result.error) == ("call_0", "f", "x", None)
    assert 0 <= result.seconds < LIMIT_SECONDS


VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


def test_a_tool_has_the_context_variables_of_the_caller() -> None:
    """In a daemon thread, and a copy for each."""
    seen: list[tuple[str, str, bool]] = []

    def look() -> str:
        thread = threading.current_thread()
        seen.append((VARIABLE.get(), thread.name, thread.daemon))
        VARIABLE.set("changed")
        return ""

    token = VARIABLE.set("the caller's")
    try:
        Running([look], ("look", "{}"), ("look", "{}")).finish()
    finally:
        VARIABLE.reset(token)
    assert seen == [("the caller's", "blades-tool-look", True)] * 2


def test_a_tool_of_the_reader_runs_in_its_thread() -> None:
    """A connection that knows no other thread can be written to."""
    database = sqlite3.connect(":memory:")
    database.execute("create table notes (text)")

    def note(text: str) -> str:
        database.execute("insert into notes values (?)", (text,))
        return threading.current_thread().name

    running = Running([Tool(note, in_reader=True)], ("note", '{"text": "a"}'), ("note", '{"text": "b"}'))
    assert {result.text for result in running.finish()} == {threading.current_thread().name}
    assert database.execute("select text from notes").fetchall() == [("a",), ("b",)]
    database.close()


def test_without_threads_the_reader_runs_the_tools() -> None:
    """As at the interpreter's exit."""
    with no_threads():
        running = Running([Tool(lambda: threading.get_ident(), name="f")], ("f", "{}"), ("f", "{}"))  # noqa: PLW0108 - it has no signature
        assert [result.text for result in running.finish()] == [str(threading.get_ident())] * 2


async def later(text: str) -> str:
    """Wait."""
    await asyncio.sleep(0.001)
    return text


def test_a_coroutine_function_runs_in_its_thread() -> None:
    """By `asyncio.run`."""
    running = Running(
        [later, Tool(later, name="here", in_reader=True)], ("later", '{"text": "a"}'), ("here", '{"text": "b"}')
    )
    assert {result.text for result in running.finish()} == {"a", "b"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n", "as it is\n"),
        (["a", 1, None], '["a",1,null]'),
        ({"ä": date(2026, 1, 2)}, '{"ä":"2026-01-02"}'),
        (Point(1), '{"x":1}'),
        ({3}, "[3]"),
        ((n for n in range(2)), "[0,1]"),
        (None, "null"),
        (True, "true"),
        (["a\udc80"], '["a\udc80"]'),
        (Reply(text="said another agent"), "said another agent"),
    ],
    ids=repr,
)
def test_what_a_tool_returns_becomes_text(value: object, text: str) -> None:
    """A str as it is, a reply as its text, anything else as pydantic's JSON."""
    assert result_text(value) == text


def test_lone_surrogates_are_replaced() -> None:
    """They come from names of files, and no request can carry them."""
    values: dict[str, object] = {
        "text": "a\udc80",
        "items": ["b\udc80"],
        "names": {"c\udc80": Point(1), 2: {"d\udc80"}},
    }
    tools = [Tool(lambda value=value: value, name=name) for name, value in values.items()]
    running = Running([*tools], *[(name, "") for name in values])
    running.finish()
    assert running.round.texts() == ["a?", '["b?"]', '{"c?":{"x":1},"2":["d?"]}']


@pytest.mark.parametrize("value", [["\udc80", b"\xff"], {("\udc80",): 1}], ids=["bytes", "key"])
def test_what_is_no_json_beside_a_lone_surrogate_says_how(value: object) -> None:
    """The sentence is that for any other value."""
    with pytest.raises(TypeError, match="expected a str or what pydantic can write as JSON from a tool, got"):
        result_text(value)


def test_a_generator_is_run_to_its_end() -> None:
    """What it yields is a list."""

    def count() -> Iterator[int]:
        yield from range(3)

    running = Running([count], ("count", ""))
    assert running.finish()[0].text == "[0,1,2]"


def test_what_a_generator_raises_is_what_the_tool_raises() -> None:
    """The model is sent the words of a `ToolError`; Ctrl-C passes."""

    def fail(error: BaseException) -> Iterator[int]:
        yield 1
        raise error

    told = Running([Tool(functools.partial(fail, ToolError("No more.")), name="f")], ("f", ""))
    assert told.finish()[0].error == "No more."
    interrupted = Running([Tool(functools.partial(fail, KeyboardInterrupt()), name="f", in_reader=True)], ("f", ""))
    with pytest.raises(KeyboardInterrupt):
        interrupted.finish()


def test_a_tool_that_raises_tool_error_tells_the_model() -> None:
    """And the stream goes on."""

    def fail() -> str:
        raise ToolError("No such file: try list_files first.")

    (result,) = Running([fail], ("fail", "{}")).finish()
    assert result.text == result.error == "No such file: try list_files first."


@pytest.mark.parametrize("in_reader", [False, True], ids=["thread", "reader"])
@pytest.mark.parametrize("error", [KeyError("x"), ValueError("\x1b[2J")], ids=repr)
def test_any_other_exception_fails_the_stream(error: Exception, *, in_reader: bool) -> None:
    """With the call, from the exception itself; the other calls have a sentence."""

    def fail() -> str:
        raise error

    running = Running(
        [Tool(fail, in_reader=in_reader), Tool(lambda: "fine", name="fine")], ("fine", ""), ("fail", ""), ("fine", "{")
    )
    with pytest.raises(ToolFailed) as caught:
        running.finish()
    assert caught.value.__cause__ is error
    assert caught.value.call.id == "call_1"
    assert str(caught.value) == f"The tool 'fail' raised {error!r}"
    assert running.round.texts()[1] == FAILED
    assert running.round.texts()[0] in {"fine", ANOTHER_FAILED}
    assert running.round.texts()[2] == NO_OBJECT


class MuteError(ToolError):
    """Has no words."""

    def __str__(self) -> str:
        raise ValueError("no words")


def no_start(_: ToolCall) -> Any:
    """Start no span."""
    raise ValueError("no start")


def no_end(_: ToolCall) -> Any:
    """Start a span that cannot be ended."""

    def end(*_: object) -> None:
        raise ValueError("no end")

    return end


@pytest.mark.parametrize("in_reader", [False, True])
@pytest.mark.parametrize(
    ("error", "start_span", "message"),
    [
        pytest.param(MuteError(), None, "no words", id="words"),
        pytest.param(None, no_start, "no start", id="start of a span"),
        pytest.param(None, no_end, "no end", id="end of a span"),
        pytest.param(OSError(), no_end, "no end", id="end of a failed span"),
    ],
)
def test_whatever_goes_wrong_around_a_tool_reaches_the_reader(
    error: Exception | None, start_span: StartSpan | None, message: str, *, in_reader: bool
) -> None:
    """Otherwise the reader would wait for ever."""

    def work() -> str:
        if error is not None:
            raise error
        return "done"

    running = Running([Tool(work, in_reader=in_reader)], ("work", ""), start_span=start_span)
    with pytest.raises(ToolFailed) as caught:
        running.finish()
    assert str(caught.value.__cause__) == message


def test_even_an_exit_in_a_tools_thread_reaches_the_reader() -> None:
    """Otherwise the reader would wait for ever."""
    with pytest.raises(ToolFailed) as caught:
        Running([Tool(lambda: sys.exit(3), name="leave")], ("leave", "")).finish()
    assert isinstance(caught.value.__cause__, SystemExit)


def test_ctrl_c_in_a_tool_of_the_reader_passes() -> None:
    """It is not the tool's failure."""

    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)

    running = Running([Tool(interrupted, in_reader=True)], ("interrupted", ""))
    with pytest.raises(KeyboardInterrupt):
        running.finish()
    running.stop()
    assert running.round.texts() == [CANCELLED_WHILE]


@pytest.mark.parametrize(
    "value", [object(), threading.Lock(), [object()], b"\xff"], ids=lambda value: type(value).__name__
)
def test_what_is_no_json_fails_the_stream_and_says_how(value: object) -> None:
    """The model could not do anything about it."""
    with pytest.raises(ToolFailed, match="expected a str or what pydantic can write as JSON"):
        Running([Tool(lambda: value, name="f")], ("f", "")).finish()


def test_what_the_model_did_wrong_is_told_to_the_model() -> None:
    """Each in its own sentence; the others run."""
    running = Running(
        [Tool(lambda x: x, name="f")], ("f", '{"x": 1}'), ("g", "{}"), ("f", '{"y": 1}'), ("f", "[1]"), ("f", '{"x"')
    )
    results = {result.call.id: result for result in running.finish()}
    assert running.round.texts() == [
        "1",
        "Not run: there is no tool of this name. The tools are: f.",
        "Not run: the arguments do not fit. x: Field required; y: Extra inputs are not permitted.",
        NO_OBJECT,
        NO_OBJECT,
    ]
    assert results["call_0"].error is None
    assert all(results[f"call_{n}"].error == results[f"call_{n}"].text for n in range(1, 5))


@pytest.mark.parametrize(("finish_reason", "sentence"), [("length", CUT), ("content_filter", FILTERED)])
def test_an_answer_that_is_not_whole_runs_nothing(finish_reason: str, sentence: str) -> None:
    """Not even a call whose arguments look whole."""
    ran: list[int] = []
    running = Running([Tool(lambda: ran.append(1), name="f")], ("f", "{}"), ("f", ""), finish_reason=finish_reason)
    running.finish()
    assert running.round.texts() == [sentence, sentence]
    assert not ran


@pytest.mark.parametrize(
    ("answer", "text"),
    [(False, DECLINED), ("", DECLINED), ("not on a Sunday", "Not run: declined: not on a Sunday")],
)
def test_a_declined_call_is_not_run(*, answer: bool | str, text: str) -> None:
    """The model is sent that, with the reason if there is one."""
    ran: list[str] = []

    def record(x: str) -> None:
        ran.append(x)

    asked: list[str] = []

    def approve(call: ToolCall) -> bool | str:
        assert not ran, "a call ran before all were asked about"
        asked.append(call.arguments)
        return answer if '"a"' in call.arguments else True

    running = Running([Tool(record, name="f")], ("f", '{"x": "a"}'), ("f", '{"x": "b"}'), ("f", "bad"), ("g", "{}"))
    running.round.ask(approve)
    running.finish()
    assert asked == ['{"x": "a"}', '{"x": "b"}']
    assert running.round.texts()[:2] == [text, "null"]
    assert ran == ["b"]


@pytest.mark.parametrize("answer", [None, 1, []], ids=repr)
def test_an_answer_that_is_none_of_the_three_is_an_error(answer: object) -> None:
    """A forgotten return must not decline in silence."""
    running = Running([Tool(lambda: 1, name="f")], ("f", "{}"))
    with pytest.raises(TypeError, match="expected True, False or a reason"):
        running.round.ask(lambda _: answer)  # type: ignore[arg-type, return-value]


def test_what_approve_raises_passes_through() -> None:
    """It is the caller's own."""
    running = Running([Tool(lambda: 1, name="f")], ("f", "{}"))
    error = OSError("no terminal")

    def approve(_: ToolCall) -> bool:
        raise error

    with pytest.raises(OSError, match="no terminal") as caught:
        running.round.ask(approve)
    assert caught.value is error


def test_no_call_starts_after_the_end() -> None:
    """The one that runs is notified by its event; the model is sent which is which."""
    began, ended = threading.Event(), threading.Event()

    def wait(cancel: threading.Event) -> str:
        began.set()
        assert cancel.wait(LIMIT_SECONDS)
        ended.set()
        return "too late"

    running = Running([wait, Tool(wait, name="here", in_reader=True)], ("wait", ""), ("here", ""))
    running.round.start()
    assert began.wait(LIMIT_SECONDS)
    running.stop()
    assert running.round.next_outcome() is None
    assert ended.wait(LIMIT_SECONDS)
    assert running.round.texts() == [CANCELLED_WHILE, CANCELLED_BEFORE]


def test_a_cancel_while_approving_starts_nothing() -> None:
    """Nor asks about the next call."""
    asked: list[ToolCall] = []
    running = Running([Tool(lambda: 1, name="f")], ("f", "{}"), ("f", "{}"))

    def approve(call: ToolCall) -> bool:
        asked.append(call)
        running.stop()
        return True

    running.round.ask(approve)
    running.round.start()
    assert running.round.next_outcome() is None
    assert len(asked) == 1
    assert running.round.texts() == [CANCELLED_BEFORE] * 2


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")
def test_the_event_can_be_set_by_a_signal_handler_while_the_reader_waits_for_it() -> None:
    """Its lock is re-entrant."""
    event = StopEvent()

    def handler(*_: object) -> None:
        event.set()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert event.wait(LIMIT_SECONDS)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_partial_arguments_are_not_shown_but_given() -> None:
    """What the model must not choose."""

    def send(text: str, to: str) -> str:
        return f"{text} to {to}"

    running = Running(
        [functools.partial(send, to="me")], ("send", '{"text": "hi"}'), ("send", '{"text": "", "to": "x"}')
    )
    running.finish()
    assert running.round.texts() == [
        "hi to me",
        "Not run: the arguments do not fit. to: Extra inputs are not permitted.",
    ]
