"""Which displays a notebook gets, without a kernel: a scripted stream, and a front end that keeps what it is given."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import blades._stream  # noqa: F401 - gives `Reply` its display
from blades import Chunk, Reply, StreamState, Timing, ToolCall, ToolResult, Usage
from blades._output.notebook import bundle_reply, display_stream, html_of_stream

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass
class ScriptedStream:
    """A stream that returns these chunks; `partials` are what `partial` is after each."""

    chunks: list[Chunk]
    calls: tuple[ToolCall, ...] = ()
    partials: list[Any] = field(default_factory=list)
    refusal: str = ""
    position: int = 0
    state: StreamState = StreamState.STREAMING
    finish_reason: str | None = "stop"
    usage: Usage | None = None
    timing: Timing = field(default_factory=lambda: Timing(None, 1.0, 0))

    def next(self) -> bool:
        """Move on."""
        self.position += 1
        if self.position > len(self.chunks):
            self.state = StreamState.FINISHED
            return False
        return True

    def current(self) -> Chunk:
        """Return the chunk."""
        return self.chunks[self.position - 1]

    def __iter__(self) -> Generator[Chunk]:
        while self.next():
            yield self.current()

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(chunk.text for chunk in self.chunks[: self.position])

    @property
    def reasoning(self) -> str:
        """The reasoning so far."""
        return "".join(chunk.reasoning for chunk in self.chunks[: self.position])

    @property
    def partial(self) -> Any:
        """The data so far."""
        return self.partials[min(self.position, len(self.partials)) - 1] if self.partials and self.position else None

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls."""
        return self.calls

    def reply(self) -> Reply:
        """Return the result."""
        for _ in self:
            pass
        return Reply(text=self.text, reasoning=self.reasoning, refusal=self.refusal, complete=True)

    def cancel(self) -> None:
        """Do nothing."""

    close = cancel


class FrontEnd:
    """Keeps displays, and applies updates or ignores them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, updates: bool) -> None:
        self.shown: list[dict[str, str]] = []
        self.updates = updates
        monkeypatch.setattr("blades._output.notebook._shell", lambda: self)
        monkeypatch.setattr("IPython.display.display", self.display)

    @property
    def kernel(self) -> Any:
        """Itself."""
        return self

    def get_parent(self) -> dict[str, dict[str, str]]:
        """Return the request that runs the cell."""
        return {"header": {"msg_id": "1"}, "metadata": {"cellId": "1"} if self.updates else {}}

    def display(self, bundle: dict[str, str], *, raw: bool, display_id: bool = False) -> Any:
        """Show a bundle."""
        assert raw
        assert display_id is self.updates
        self.shown.append(dict(bundle))
        position = len(self.shown) - 1

        class Handle:
            """What updates it."""

            @staticmethod
            def update(bundle: dict[str, str], *, raw: bool) -> None:
                assert raw
                self.shown[position] = dict(bundle)

        return Handle

    @property
    def plain(self) -> list[str]:
        """The plain texts, without the line about the end."""
        return [re.sub(r"\s*\[finished[^\]]*\]", "", bundle["text/plain"]).strip() for bundle in self.shown]


@pytest.fixture(params=[True, False], ids=["notebook", "console"])
def front_end(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FrontEnd:
    """Both kinds of front end."""
    return FrontEnd(monkeypatch, updates=request.param)


CALL = ToolCall(id="1", name="search", arguments='{"query": "tea"}')


def test_parts_stand_in_the_order_in_which_they_come(front_end: FrontEnd) -> None:
    """Reasoning, text, tools, text: each in a display of its own, with the calls folded."""
    result = ToolResult(CALL, text='["a", "b", "c"]', seconds=0.8)
    chunks = [Chunk(reasoning="Hm."), Chunk("Let me *see*."), Chunk(tool_results=(result,)), Chunk("Three.")]
    display_stream(ScriptedStream(chunks, calls=(CALL,)))
    assert front_end.plain == [
        "[Reasoning (3 characters)]",
        "Let me *see*.",
        'search(query="tea") -> 3 items, 0.8 s',
        "Three.",
    ]
    html = [bundle["text/html"] for bundle in front_end.shown]
    assert html[1] == "<p>Let me <em>see</em>.</p>\n"
    assert html[2].startswith("<details><summary")
    assert html[3].startswith("<p>Three.</p>\n<small><b>finished</b>")


def test_calls_without_a_result_stand_below(front_end: FrontEnd) -> None:
    """While they run, and at the end when nobody runs them."""
    display_stream(ScriptedStream([Chunk("See:")], calls=(CALL, ToolCall(name="stop"))))
    assert front_end.plain == ['See:\nsearch(query="tea")\nstop()']
    assert front_end.shown[0]["text/html"].count("<details>") == 2


def test_structured_answer_is_shown_as_data(front_end: FrontEnd) -> None:
    """The data received so far, whatever the text looks like."""
    chunks = [Chunk('{"items": ['), Chunk('"<b>"'), Chunk("]}")]
    display_stream(ScriptedStream(chunks, partials=[{"items": []}, {"items": ["<"]}, {"items": ["<b>", "茶"]}]))
    assert front_end.plain == ['{\n  "items": [\n    "<b>",\n    "茶"\n  ]\n}']
    assert "&lt;b&gt;" in front_end.shown[0]["text/html"]


@pytest.mark.parametrize("text", ["[1] See *below*.", "```python\n[1]\n```"], ids=["reference", "code"])
def test_text_that_looks_like_data_is_shown_as_text(front_end: FrontEnd, text: str) -> None:
    """Also if its beginning was data."""
    partials = [[1], None] if "See" in text else [[1], [1]]
    display_stream(ScriptedStream([Chunk(text[:3]), Chunk(text[3:])], partials=partials))
    assert front_end.plain == [text]


def test_refusal_stands_where_there_is_no_text(front_end: FrontEnd) -> None:
    """In one display."""
    display_stream(ScriptedStream([], refusal="No <b>."))
    assert front_end.plain == ["No <b>."]


def test_marimo_shows_all_of_a_stream() -> None:
    """It has no displays that grow."""
    assert html_of_stream(ScriptedStream([Chunk("# One")])) == ("text/html", "<h1>One</h1>\n")


def test_reply_is_shown_with_all_it_has() -> None:
    """Reasoning and calls are folded; what is incomplete says so."""
    reply = Reply(text="# One", reasoning="Hm.", tool_calls=(CALL,))
    bundle = reply._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/plain"] == '[Reasoning (3 characters)]\n# One\nsearch(query="tea")\n\n[incomplete]'
    assert "<h1>One</h1>" in bundle["text/html"]
    assert bundle["text/html"].endswith("<small><b>incomplete</b></small>")
    assert bundle_reply(Reply(refusal="No.", complete=True)) == {"text/html": "<p>No.</p>\n", "text/plain": "No."}
    assert repr(reply) == "Reply(text='# One', finish_reason=None, complete=False)"
    assert len(repr(Reply(text="x" * 10_000))) < 150
