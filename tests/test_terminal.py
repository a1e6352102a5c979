"""Printing a stream: what reaches a terminal, what reaches a file, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blades import Agent, Chunk, Reply, StreamInterrupted, StreamState, ToolCall, ToolResult
from blades._output.terminal import SEQUENCE_LIMIT, STRING_LIMIT, TerminalFilter, print_stream
from blades.testing import Answer, Cut, LocalServer, Stall, chunk
from limits import LIMIT_SECONDS, START_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
ESC, BEL, ST = "\x1b", "\x07", "\x1b\\"

NEVER = [*map(chr, range(9)), *map(chr, range(11, 32)), *map(chr, range(127, 160)), *"\u202a\u202b\u202c\u202d\u202e"]
NEVER += [*"\u2066\u2067\u2068\u2069"]


def filtered(pieces: Iterable[str]) -> str:
    """Return what a terminal is given of a text in pieces."""
    terminal = TerminalFilter()
    return "".join([terminal.feed(piece) for piece in pieces] + [terminal.flush()])


class TestFilter:
    """A pure state machine: pieces in, pieces out."""

    @pytest.mark.parametrize(
        "sequence",
        [
            pytest.param(f"{ESC}[31m", id="colour"),
            pytest.param(f"{ESC}[38;2;1;2;3m", id="colour-with-parameters"),
            pytest.param(f"{ESC}[2J{ESC}[H", id="clear-screen"),
            pytest.param(f"{ESC}[?1049h", id="private-mode"),
            pytest.param(f"{ESC}[0 q", id="intermediate-byte"),
            pytest.param(f"{ESC}]0;title{BEL}", id="title-ended-by-bel"),
            pytest.param(f"{ESC}]0;title{ST}", id="title-ended-by-st"),
            pytest.param(f"{ESC}]0;title\x9c", id="title-ended-by-c1-st"),
            pytest.param(f"{ESC}]0;title\x18", id="title-ended-by-can"),
            pytest.param(f"{ESC}]52;c;{'QUJD' * 500}{BEL}", id="clipboard"),
            pytest.param(f"{ESC}]8;;http://example.invalid{ST}", id="link"),
            pytest.param(f"{ESC}P1$r0m{ST}", id="dcs"),
            pytest.param(f"{ESC}Ptmux;{ESC}{ESC}]52;c;QUJD{BEL}{ST}", id="dcs-around-an-osc"),
            pytest.param(f"{ESC}Xsos{ST}", id="sos"),
            pytest.param(f"{ESC}^pm{ST}", id="pm"),
            pytest.param(f"{ESC}_apc{ST}", id="apc"),
            pytest.param("\x9b31m", id="c1-csi"),
            pytest.param("\x9d0;title\x9c", id="c1-osc"),
            pytest.param("\x90dcs\x9c\x98sos\x9c\x9epm\x9c\x9fapc\x9c", id="c1-strings"),
            pytest.param("\x84\x85\x8d\x99", id="other-c1"),
            pytest.param(f"{ESC}c", id="reset"),
            pytest.param(f"{ESC}7{ESC}8", id="cursor"),
            pytest.param(f"{ESC}(0", id="character-set"),
            pytest.param(f"{ESC}#8{ESC}%G{ESC} F", id="three-characters"),
            pytest.param(ESC, id="lone-esc"),
            pytest.param(f"{ESC}{ESC}[31m", id="esc-before-a-sequence"),
            pytest.param(f"{ESC}[3{ESC}[1m", id="sequence-in-a-sequence"),
            pytest.param("\b\b\b", id="backspace"),
            pytest.param("\r", id="carriage-return"),
            pytest.param("\x00\x07\x0b\x0c\x0e\x0f\x7f", id="other-c0-and-del"),
            pytest.param("\u202e\u2066\u2069\u202c", id="bidi"),
        ],
    )
    def test_sequences_are_removed_from_the_text(self, sequence: str) -> None:
        """Whole, and character by character."""
        text = f"before{sequence}after"
        assert filtered([text]) == "beforeafter"
        assert filtered(text) == "beforeafter"

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            pytest.param("a\tb\nc\r\nd", "a\tb\nc\nd", id="tabs-and-newlines"),
            pytest.param("שלום 👩‍👩‍👧 ﷺ\u200f\u00a0中文", "שלום 👩‍👩‍👧 ﷺ\u200f\u00a0中文", id="other-scripts"),
            pytest.param(f"{ESC}[31中", "中", id="sequence-that-is-none"),
            pytest.param(f"{ESC}[31\nnext", "\nnext", id="sequence-cut-by-a-newline"),
            pytest.param(f"{ESC}]0;title\nnext", "\nnext", id="string-cut-by-a-newline"),
            pytest.param(f"{ESC}]0;{ESC}[1mshown", "shown", id="string-cut-by-a-sequence"),
            pytest.param(f"{ESC}(hello)", "(hello)", id="parenthesis-after-esc"),
            pytest.param(f"{ESC} \n", " \n", id="space-after-esc"),
            pytest.param(f"{ESC}({ESC}[1mx", "(x", id="esc-after-a-parenthesis"),
            pytest.param(f"x{ESC}(", "x(", id="held-back-at-the-end"),
            pytest.param(f"x{ESC}]0;never", "x", id="string-without-an-end"),
        ],
    )
    def test_visible_text_stays(self, text: str, shown: str) -> None:
        """What is not a control sequence is shown."""
        assert filtered([text]) == shown
        assert filtered(text) == shown

    @pytest.mark.parametrize(
        ("start", "limit"),
        [pytest.param(f"{ESC}[", SEQUENCE_LIMIT, id="sequence"), pytest.param(f"{ESC}]", STRING_LIMIT, id="string")],
    )
    def test_what_never_ends_hides_a_bounded_part(self, start: str, limit: int) -> None:
        """One stray introducer cannot make the rest of an answer vanish."""
        endless = start + "1" * 10_000
        assert 10_000 - limit <= len(filtered([endless])) < 10_000
        assert filtered(endless) == filtered([endless])

    @unhurried
    @given(st.lists(st.text(st.one_of(st.sampled_from([*NEVER, *"[]()P^_X\\;m1 \n\t#%ABc"]), st.characters()))))
    def test_no_control_character_comes_through_and_cuts_do_not_matter(self, pieces: list[str]) -> None:
        """Whatever the text, and in whatever chunks."""
        whole = "".join(pieces)
        shown = filtered(pieces)
        assert not set(shown) & set(NEVER)
        assert shown == filtered([whole]) == filtered(whole)
        rest = iter(whole)
        assert all(char in rest for char in shown)  # in order, and nothing added

    @unhurried
    @given(st.text(st.characters(exclude_characters=NEVER)))
    def test_text_without_control_characters_is_unchanged(self, text: str) -> None:
        """Tabs and newlines are no control characters here."""
        assert filtered([text]) == text
        assert filtered(text) == text


class Screen(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


class Narrow(io.TextIOWrapper):
    """A file of one-byte characters."""

    def __init__(self, *, terminal: bool, encoding: str = "latin-1") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="\n")
        self._terminal = terminal

    def isatty(self) -> bool:
        """Return the answer given to the constructor."""
        return self._terminal

    def written(self) -> bytes:
        """Return what was written and flushed."""
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue()


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a terminal that shows colours."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def thoughtful() -> Answer:
    """Script an answer with reasoning."""
    return Answer(chunk(reasoning_content="Let me "), chunk(reasoning_content="think."), "The ", "answer.")


class TestPrint:
    """Terminals, files and other writers."""

    def test_text_is_written_and_the_reply_returned(self, server: LocalServer, agent: Agent) -> None:
        """A file gets the text, and nothing else."""
        server.add("one two three")
        file = io.StringIO()
        reply = agent.run_stream("go").print(file)
        assert file.getvalue() == reply.text == "one two three"
        assert reply.complete
        assert reply.usage is not None

    def test_standard_output_is_looked_up_at_the_call(
        self, server: LocalServer, agent: Agent, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A redirected sys.stdout is honoured."""
        server.add("hello")
        agent.run_stream("go").print()
        assert capsys.readouterr().out == "hello"

    def test_without_a_console_nothing_is_written(
        self, server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program without a console has None for sys.stdout; the answer is read all the same."""
        monkeypatch.setattr(sys, "stdout", None)
        server.add("hello")
        assert agent.run_stream("go").print().text == "hello"

    def test_anything_that_writes_will_do(self, server: LocalServer, agent: Agent) -> None:
        """No isatty, no flush, no encoding."""

        class Sink:
            def __init__(self) -> None:
                self.pieces: list[str] = []

            def write(self, text: str) -> None:
                self.pieces.append(text)

        server.add(Answer("one ", "two"))
        sink = Sink()
        agent.run_stream("go").print(sink)
        assert sink.pieces == ["one ", "two"]

    def test_each_piece_is_flushed_when_it_comes(
        self,
        server: LocalServer,
        agent: Agent,
        in_thread: Callable[[Callable[[], object]], threading.Thread],
    ) -> None:
        """A chunk is in the file while the server still waits to send the rest."""
        server.add(Answer("first ", Stall(), "second"))
        flushed = threading.Event()

        class Sink(io.StringIO):
            def flush(self) -> None:
                flushed.set()

        sink = Sink()
        in_thread(lambda: agent.run_stream("go").print(sink))
        assert flushed.wait(LIMIT_SECONDS)
        assert sink.getvalue() == "first "
        server.release()

    def test_what_was_read_before_is_not_printed_again(self, server: LocalServer, agent: Agent) -> None:
        """The reply has all of it."""
        server.add(Answer("one ", "two"))
        stream = agent.run_stream("go")
        assert next(stream).text == "one "
        file = io.StringIO()
        assert stream.print(file).text == "one two"
        assert file.getvalue() == "two"

    def test_a_terminal_gets_text_only_and_a_newline_at_the_end(self, server: LocalServer, agent: Agent) -> None:
        """Also when two chunks share a control sequence."""
        server.add(Answer("red: \x1b", "[31mred\x1b]0;ti", "tle\x07!", "\x1b("))
        screen = Screen()
        reply = agent.run_stream("go").print(screen)
        assert screen.getvalue() == "red: red!(\n"
        assert reply.text == "red: \x1b[31mred\x1b]0;title\x07!\x1b("

    def test_a_text_that_ends_with_a_newline_gets_no_other(self, server: LocalServer, agent: Agent) -> None:
        """Nor does an answer without text."""
        server.add(Answer("line\n"), Answer())
        for shown in ("line\n", ""):
            screen = Screen()
            agent.run_stream("go").print(screen)
            assert screen.getvalue() == shown

    def test_a_file_gets_the_text_as_it_is(self, server: LocalServer, agent: Agent) -> None:
        """Control sequences are text there."""
        text = "\x1b[31mred\x1b[0m\r\n\u202e\x9b"
        server.add(Answer(text))
        file = io.StringIO(newline="")
        agent.run_stream("go").print(file)
        assert file.getvalue() == text

    def test_escape_false_is_the_way_out(self, server: LocalServer, agent: Agent) -> None:
        """For a model that writes colours on purpose."""
        server.add(Answer("\x1b[31mred\x1b[0m"))
        screen = Screen()
        agent.run_stream("go").print(screen, escape=False)
        assert screen.getvalue() == "\x1b[31mred\x1b[0m\n"

    def test_a_refusal_is_printed_where_there_is_no_text(self, server: LocalServer, agent: Agent) -> None:
        """Silence would look like a fault."""
        server.add(Answer(chunk(refusal="I will not.")))
        file = io.StringIO()
        assert agent.run_stream("go").print(file).text == ""
        assert file.getvalue() == "I will not."


class ToolStream:
    """A finished stream of a text, three results of tools and a text."""

    def __init__(self) -> None:
        call = ToolCall(0, "call_1", "search", json.dumps({"query": "\x1b[31mtea"}))
        result, failed = ToolResult(call, '["a", "b", "c"]', None, 0.84), ToolResult(call, "", "\x1b[2J")
        self._chunks = [
            Chunk("Let me see."),
            Chunk(tool_results=(result, failed)),
            Chunk(tool_results=(result,)),
            Chunk("Three."),
        ]

    def __iter__(self) -> Generator[Chunk]:
        yield from self._chunks

    def reply(self) -> Reply:
        """Return the text."""
        return Reply("Let me see.Three.")


@pytest.mark.usefixtures("colours")
class TestTools:
    """A terminal shows a line for each run of a tool; a file gets the text alone."""

    def test_a_terminal_shows_a_dim_line_for_each(self) -> None:
        """Control characters in arguments and results are escaped."""
        screen = Screen()
        stream: Any = ToolStream()
        print_stream(stream, screen, reasoning=False, escape=True)
        call = 'search(query="\\u001b[31mtea")'
        assert screen.getvalue() == (
            "Let me see.\n\n"
            f"\x1b[2m{call} -> 3 items, 0.8 s\n{call} -> failed: \\x1b[2J, 0.0 s\n{call} -> 3 items, 0.8 s\n\x1b[22m"
            "\nThree.\n"
        )

    def test_a_file_gets_the_text_alone(self) -> None:
        """As of a stream without tools."""
        file = io.StringIO()
        stream: Any = ToolStream()
        print_stream(stream, file, reasoning=False, escape=True)
        assert file.getvalue() == "Let me see.Three."


@pytest.mark.usefixtures("colours")
class TestReasoning:
    """Off by default, and separated from the text."""

    def test_it_is_left_out(self, server: LocalServer, agent: Agent) -> None:
        """By default."""
        server.add(thoughtful())
        screen = Screen()
        assert agent.run_stream("go").print(screen).reasoning == "Let me think."
        assert screen.getvalue() == "The answer.\n"

    def test_it_is_dimmed_on_a_terminal(self, server: LocalServer, agent: Agent) -> None:
        """And filtered as the text is."""
        server.add(Answer(chunk(reasoning_content="Hm\x1b[5m.\x1b"), "[0mThe answer."))
        screen = Screen()
        agent.run_stream("go").print(screen, reasoning=True)
        assert screen.getvalue() == "\x1b[2mHm.\x1b[22m\n\n[0mThe answer.\n"

    @pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
    def test_it_is_not_dimmed_where_that_is_not_wanted(
        self, server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        """NO_COLOR, and terminals without colours."""
        monkeypatch.setenv(name, value)
        server.add(thoughtful())
        screen = Screen()
        agent.run_stream("go").print(screen, reasoning=True)
        assert screen.getvalue() == "Let me think.\n\nThe answer.\n"

    def test_an_empty_no_color_means_colours(
        self, server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As no-color.org has it."""
        monkeypatch.setenv("NO_COLOR", "")
        server.add(thoughtful())
        screen = Screen()
        agent.run_stream("go").print(screen, reasoning=True)
        assert screen.getvalue() == "\x1b[2mLet me think.\x1b[22m\n\nThe answer.\n"

    def test_it_is_plain_text_in_a_file(self, server: LocalServer, agent: Agent) -> None:
        """Set apart by an empty line, each time."""
        server.add(Answer(chunk(reasoning_content="A."), "a\n", chunk(reasoning_content="B.\n\n"), "b"))
        file = io.StringIO()
        agent.run_stream("go").print(file, reasoning=True)
        assert file.getvalue() == "A.\n\na\n\nB.\n\nb"

    def test_a_terminal_is_left_in_its_usual_colour(self, server: LocalServer, agent: Agent) -> None:
        """When the answer fails in the middle of the reasoning."""
        server.add(Answer(chunk(reasoning_content="Hm"), Cut()))
        screen = Screen()
        with pytest.raises(StreamInterrupted):
            agent.run_stream("go").print(screen, reasoning=True)
        assert screen.getvalue() == "\x1b[2mHm\x1b[22m\n"


class TestEnding:
    """Whatever ends print(), the stream has ended and the terminal is restored."""

    def test_a_failure_is_raised_below_the_partial_text(self, server: LocalServer, agent: Agent) -> None:
        """On a terminal, a traceback starts on a line of its own."""
        server.add(Answer("half", Cut()))
        screen = Screen()
        with pytest.raises(StreamInterrupted) as caught:
            agent.run_stream("go").print(screen)
        assert caught.value.text == "half"
        assert screen.getvalue() == "half\n"

    def test_cancel_returns_the_partial_reply(self, server: LocalServer, agent: Agent) -> None:
        """As an event given to the agent does."""
        server.add(Answer("half", Stall()))
        stop = threading.Event()

        class Sink(io.StringIO):
            def flush(self) -> None:
                stop.set()

        reply = agent.run_stream("go", cancel=stop).print(Sink())
        assert (reply.text, reply.complete) == ("half", False)

    def test_ctrl_c_returns_the_partial_reply(self, server: LocalServer, agent: Agent) -> None:
        """The stream has ended when print() returns, and a loop around it continues."""

        class Sink(Screen):
            def flush(self) -> None:
                if self.getvalue() == "half":
                    raise KeyboardInterrupt

        server.add(Answer("half", Stall()))
        sink = Sink()
        stream = agent.run_stream("go")
        reply = stream.print(sink)
        assert (reply.text, reply.complete, stream.state) == ("half", False, StreamState.CANCELLED)
        assert sink.getvalue() == "half\n"
        assert server.requests[0].left.wait(LIMIT_SECONDS)

    @pytest.mark.parametrize("terminal", [False, True], ids=["file", "terminal"])
    def test_a_closed_pipe_ends_the_stream(self, server: LocalServer, agent: Agent, *, terminal: bool) -> None:
        """The server notices a disconnect, and the caller gets the exception."""

        class Broken(io.StringIO):
            def isatty(self) -> bool:
                return terminal

            def write(self, text: str) -> int:
                raise BrokenPipeError

        server.add(Answer("half", Stall()))
        stream = agent.run_stream("go")
        with pytest.raises(BrokenPipeError):
            stream.print(Broken())
        assert stream.state is StreamState.CANCELLED
        assert server.requests[0].left.wait(LIMIT_SECONDS)

    @pytest.mark.parametrize("method", ["isatty", "write", "flush"])
    @pytest.mark.parametrize("error", [OSError, ValueError, RuntimeError])
    def test_an_error_of_the_file_ends_the_stream(
        self, server: LocalServer, agent: Agent, method: str, error: type[BaseException]
    ) -> None:
        """Then it is raised; a second one, raised while print() restores the terminal, does not replace it."""

        class Failing(Screen):
            failures = 0

            def fail(self, *_: object) -> int:
                self.failures += 1
                raise error(self.failures)

        server.add(Answer("half", Stall()))
        file = Failing()
        setattr(file, method, file.fail)
        stream = agent.run_stream("go")
        with pytest.raises(error) as caught:
            stream.print(file)
        assert caught.value.args == (1,)
        assert stream.state is StreamState.CANCELLED
        assert all(request.left.wait(LIMIT_SECONDS) for request in server.requests)

    def test_a_narrow_terminal_gets_replacements(self, server: LocalServer, agent: Agent) -> None:
        """An answer does not die of a character."""
        server.add(Answer("café ", "中文", " naïve"))
        screen = Narrow(terminal=True)
        assert agent.run_stream("go").print(screen).text == "café 中文 naïve"
        assert screen.written() == "café ?? naïve\n".encode("latin-1")

    @pytest.mark.parametrize("encoding", ["koi8-r", "cp1252", "cp437"])
    def test_a_terminal_of_another_code_page_gets_replacements(
        self, server: LocalServer, agent: Agent, encoding: str
    ) -> None:
        """Its errors name a codec that is not the terminal's."""
        server.add(Answer("ÿ 中文 \ud83d", " end"))
        screen = Narrow(terminal=True, encoding=encoding)
        agent.run_stream("go").print(screen)
        assert screen.written() == "ÿ 中文 ? end\n".encode(encoding, "replace")

    def test_a_narrow_file_raises(self, server: LocalServer, agent: Agent) -> None:
        """What is kept must be whole."""
        server.add(Answer("café ", "中文", Stall()))
        file = Narrow(terminal=False)
        stream = agent.run_stream("go")
        with pytest.raises(UnicodeEncodeError):
            stream.print(file)
        assert stream.state is StreamState.CANCELLED
        assert file.written() == "café ".encode("latin-1")


SCRIPT = """
    import sys
    from blades import Agent

    agent = Agent("test", model="any")
    reply = agent.run_stream("go").print(reasoning="reasoning" in sys.argv)
    print(f"[{reply.text!a} {reply.complete}]", file=sys.stderr)
"""


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal: the person's side and the program's side."""
    pty = pytest.importorskip("pty")
    person, program = pty.openpty()
    yield person, program
    os.close(person)


def start(server: LocalServer, program: int, *arguments: str) -> subprocess.Popen[str]:
    """Start the script with its output on a terminal, and give the terminal's program side away."""
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), *arguments],
        env={
            **environment,
            "OPENAI_API_KEY": "any",
            "OPENAI_BASE_URL": server.base_url,
            "TERM": "xterm",
            "PYTHONUTF8": "1",
            "PYTHONWARNINGS": "error",
        },
        stdout=program,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(program)
    return process


def shown_until(person: int, end: bytes | None) -> bytes:
    """Return what a terminal shows until it ends with these bytes; None: until the program has let it go."""
    shown = b""
    while end is None or not shown.endswith(end):
        try:
            more = os.read(person, 1000)
        except OSError:  # Linux says EIO when nobody has the other side open any more
            more = b""
        if not more:
            break
        shown += more
    return shown


class TestRealTerminal:
    """The same on a pseudo-terminal, in a process of its own."""

    def test_control_sequences_do_not_reach_it(self, server: LocalServer, terminal: tuple[int, int]) -> None:
        """Text, tabs and newlines do; the terminal itself adds the carriage returns."""
        person, program = terminal
        server.add(
            Answer(
                chunk(reasoning_content="Hm."),
                "a\tb\n\x1b]0;ti",
                "tle\x07c\x1b[",
                "31md\x9b1me\b\u202ef\x1b]52;c;QUJD\x1b",
                "\\g\x1bh 中文",
            )
        )
        with start(server, program, "reasoning") as process:
            assert shown_until(person, None).decode() == "\x1b[2mHm.\x1b[22m\r\n\r\na\tb\r\ncdefgh 中文\r\n"
            process.communicate(timeout=START_SECONDS)
        assert process.returncode == 0

    def test_ctrl_c_keeps_the_partial_and_the_script_goes_on(
        self, server: LocalServer, terminal: tuple[int, int]
    ) -> None:
        """The server notices, the reply is partial, there is no traceback."""
        person, program = terminal
        server.add(Answer("half an ", "answer", Stall()))
        with start(server, program) as process:
            assert shown_until(person, b"half an answer") == b"half an answer"
            process.send_signal(signal.SIGINT)
            assert shown_until(person, None) == b"\r\n"
            _, errors = process.communicate(timeout=START_SECONDS)
        assert errors == "['half an answer' False]\n"
        assert process.returncode == 0
        assert server.requests[0].left.wait(LIMIT_SECONDS)
