"""Showing a stream in a notebook: on a real kernel, with its real interrupt, over its real protocol."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client.manager import KernelManager

from blades import Agent, StreamState
from blades._output.view import CHARACTERS_PER_SECOND, PERIOD_SECONDS, SECTION_CHARACTERS, pause_after
from blades.testing import Answer, Cut, LocalServer, Stall, chunk
from limits import SOON_SECONDS, START_SECONDS

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook.ipynb"


@dataclass
class Cell:
    """What running a cell gave."""

    status: str
    error: str = ""
    drawn: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    displays: dict[str, dict[str, Any]] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    printed: str = ""
    result: str = ""
    seconds_to_stop: float = 0.0
    widgets: int = 0

    @property
    def shown(self) -> str:
        """What is on the page now."""
        return "".join(bundle["text/html"] for bundle in self.displays.values())

    @property
    def plain(self) -> str:
        """What is on a console now, which ignores updates."""
        kept = zip(self.kinds, self.drawn, strict=True)
        return "".join(bundle["text/plain"] + "\n" for kind, bundle in kept if kind == "display_data")

    def see(self, message: dict[str, Any]) -> None:
        """Take what the kernel sends."""
        kind, content = message["msg_type"], message["content"]
        if kind in {"display_data", "update_display_data"}:
            bundle = content["data"]
            assert "text/plain" in bundle
            if "text/html" not in bundle:
                self.widgets += 1
                return
            self.drawn.append(bundle)
            self.times.append(message["header"]["date"].timestamp())
            self.displays[content["transient"].get("display_id", str(len(self.drawn)))] = bundle
            self.kinds.append(kind)
        elif kind == "stream":
            self.printed += content["text"]
        elif kind == "execute_result":
            self.result = content["data"]["text/plain"]
        elif kind == "error":
            self.error += content["ename"]
            self.lines += content["traceback"]


class Kernel:
    """A kernel with a client, as a front end has them."""

    def __init__(self, directory: Path) -> None:
        write_kernel_spec(directory / "kernels" / "python3")
        self.manager = KernelManager(kernel_name="python3")
        self.manager.kernel_spec_manager.kernel_dirs = [str(directory / "kernels")]
        if sys.platform != "win32":  # ports are chosen before the kernel takes them: another process may be faster
            self.manager.transport, self.manager.ip = "ipc", str(directory / "kernel")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        self.manager.start_kernel(
            env={**environment, "IPYTHONDIR": str(directory)},
            cwd=str(directory),
            extra_arguments=["--InteractiveShell.xmode=Minimal"],  # else each failure takes IPython seconds to show
        )
        self.client = self.manager.client()
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=START_SECONDS)
        except BaseException:
            self.close()
            raise

    def run(
        self, code: str, *, at: str | None = None, do: Callable[[], object] | None = None, notebook: bool = True
    ) -> Cell:
        """Run a cell, of a notebook or of a console.

        When the text `at` is on the page, do something, or else press the stop button.
        """
        cell = Cell("")
        done_at = 0.0
        self.client.session.metadata = {"cellId": "1"} if notebook else {}

        def see(message: dict[str, Any]) -> None:
            nonlocal at, done_at
            cell.see(message)
            if at is not None and at in cell.shown:
                at, done_at = None, time.monotonic()
                (do or self.manager.interrupt_kernel)()

        reply = self.client.execute_interactive(code, timeout=START_SECONDS, output_hook=see)
        cell.seconds_to_stop = time.monotonic() - done_at
        cell.status = reply["content"]["status"]
        assert at is None, "what was waited for was not shown"
        return cell

    def close(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel()
        self.manager.cleanup_resources()


@pytest.fixture(scope="module")
def running_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel for all tests: it takes seconds to start."""
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    yield kernel
    kernel.close()


@pytest.fixture
def kernel(running_kernel: Kernel, server: LocalServer) -> Kernel:
    """A kernel with an agent that talks to `server`."""
    made = f"from blades import Agent\nagent = Agent('test', model='any', base_url={server.base_url!r}, api_key='any')"
    assert running_kernel.run(made).status == "ok"
    return running_kernel


class TestShowing:
    """A stream is drawn while it arrives."""

    def test_last_expression_of_a_cell_is_drawn_live(self, kernel: Kernel, server: LocalServer) -> None:
        """One display, in a running event loop, as every cell has one; nothing else is put out."""
        server.add(Answer("# One\n\n", "two ", Stall(), "three"))
        code = "import asyncio; asyncio.get_running_loop()\nagent.run_stream('go')"
        cell = kernel.run(code, at="<h1>One</h1>\n<p>two</p>\n", do=server.release)
        assert (cell.status, cell.error, cell.printed, cell.result) == ("ok", "", "", "")
        assert len(cell.displays) == 1
        assert cell.kinds[0] == "display_data"
        assert set(cell.kinds[1:]) == {"update_display_data"}
        text, _, line = cell.shown.rpartition("<small>")
        assert text == "<h1>One</h1>\n<p>two three</p>\n"
        assert line.startswith("<b>finished</b> · 4 tokens · ")
        assert cell.drawn[-1]["text/plain"].startswith("# One\n\ntwo three\n\n[finished · 4 tokens · ")

    def test_display_is_the_same_and_returns_nothing(self, kernel: Kernel, server: LocalServer) -> None:
        """A result at the end of a cell would be shown a second time."""
        server.add("one two")
        cell = kernel.run("stream = agent.run_stream('go')\nstream.display()")
        assert (cell.status, cell.result) == ("ok", "")
        assert cell.shown.startswith("<p>one two</p>\n<small><b>finished</b> · ")
        assert kernel.run("stream.reply().text, stream.reply().complete").result == "('one two', True)"

    def test_stream_that_has_ended_can_be_shown_again(self, kernel: Kernel, server: LocalServer) -> None:
        """Whatever loop read it."""
        server.add("one two")
        cell = kernel.run("stream = agent.run_stream('go')\nfor chunk in stream: pass\nstream")
        assert cell.kinds == ["display_data"]
        assert cell.shown.startswith("<p>one two</p>\n<small><b>finished</b> · ")

    def test_reasoning_is_folded_above_the_text(self, kernel: Kernel, server: LocalServer) -> None:
        """It is shown as soon as it arrives, and can do nothing to the page; a console shows its length."""
        server.add(
            Answer(chunk(reasoning_content="Hm </details>\n\n"), chunk(reasoning_content="<b>$x$"), Stall(), "So <b>.")
        )
        reasoning = "Hm &lt;/details&gt;\n\n&lt;b&gt;<span>$</span>x<span>$</span></blockquote></details>\n"
        cell = kernel.run("agent.run_stream('go')", at=reasoning, do=server.release)
        assert cell.shown.startswith("<details><summary")
        assert f"{reasoning}<p>So &lt;b&gt;.</p>\n<small>" in cell.shown
        assert next(iter(cell.displays.values()))["text/plain"] == "[Reasoning (21 characters)]"

    def test_tool_calls_are_folded_between_the_texts(self, kernel: Kernel, server: LocalServer) -> None:
        """With their results, each in one line that opens."""
        call = {"index": 0, "id": "1", "function": {"name": "search", "arguments": '{"query": "<b>"}'}}
        server.add(Answer("Let me see.", chunk(tool_calls=[call]), finish_reason="tool_calls"), "Two.")
        code = (
            "def search(query: str) -> list[str]:\n    'Search.'\n    return ['a', '<i>']\n"
            "agent.run_stream('go', tools=[search])"
        )
        cell = kernel.run(code)
        assert (cell.status, cell.error) == ("ok", "")
        texts = [re.sub("<[^>]*>", "", bundle["text/html"]) for bundle in cell.displays.values()]
        assert texts[0] == "Let me see.\n"
        assert re.fullmatch(
            r'search\(query="&lt;b&gt;"\) -&gt; 2 items, \d\.\d s\{"query": "&lt;b&gt;"\}\["a","&lt;i&gt;"\]\n',
            texts[1],
        )
        assert texts[2].startswith("Two.\nfinished · ")

    def test_structured_answer_is_shown_as_data(self, kernel: Kernel, server: LocalServer) -> None:
        """It grows as it arrives."""
        server.add(Answer('{"items": ["a', Stall(), '<b>"]}'))
        code = (
            "import dataclasses\n@dataclasses.dataclass\nclass Box: items: list[str]\n"
            "agent.run_stream('go', response_format=Box)"
        )
        cell = kernel.run(code, at='"a"', do=server.release)
        assert (cell.status, cell.error) == ("ok", "")
        assert cell.drawn[-1]["text/plain"].startswith('{\n  "items": [\n    "a<b>"\n  ]\n}\n\n[finished')

    def test_end_is_reported_below_code_that_was_not_closed(self, kernel: Kernel, server: LocalServer) -> None:
        """With the finish reason, unless that is stop."""
        server.add(Answer("```\nx = 1", finish_reason="length"))
        cell = kernel.run("agent.run_stream('go')")
        assert ">x = 1</code></pre>\n<small><b>finished (length)</b>" in cell.shown

    def test_refusal_is_shown(self, kernel: Kernel, server: LocalServer) -> None:
        """Where there is no text."""
        server.add(Answer(chunk(refusal="I will not.")))
        cell = kernel.run("agent.run_stream('go')")
        assert ">I will not.</pre>\n<small>" in cell.shown
        assert cell.drawn[-1]["text/plain"].startswith("I will not.\n\n[finished")

    def test_it_is_drawn_some_15_times_a_second(self, kernel: Kernel, server: LocalServer) -> None:
        """However many chunks arrive; the last state is drawn always."""
        words = [f"word{number} " for number in range(300)]
        server.add(Answer(*(step for word in words for step in (word, 0.003))))
        cell = kernel.run("agent.run_stream('go')")
        seconds = cell.times[-1] - cell.times[0]
        assert 3 <= len(cell.drawn) <= seconds / PERIOD_SECONDS + 3
        assert cell.shown.startswith(f"<p>{''.join(words).strip()}</p>")

    def test_long_answer_is_a_row_of_displays(self, kernel: Kernel, server: LocalServer) -> None:
        """What is updated stays short, so that the end of a long answer costs what its start does."""
        paragraph = "word " * 100 + "[a][1]\n\n"
        pieces = [step for _ in range(40) for step in (paragraph, 0.02)]
        server.add(Answer(*pieces, "[1]: https://e.example/a\n"))
        cell = kernel.run("agent.run_stream('go')")
        assert len(cell.displays) >= 2
        assert cell.shown.count('href="https://e.example/a"') == 40
        longest = max(len(bundle["text/plain"]) for bundle in cell.drawn)
        assert longest < 20 * SECTION_CHARACTERS / 4
        assert "".join(bundle["text/plain"] for bundle in cell.displays.values()).count("word") == 4_000

    @pytest.mark.parametrize(
        ("characters", "formulas", "cost_seconds", "pause_seconds"),
        [
            pytest.param(5, 0, 0.001, PERIOD_SECONDS, id="short"),
            pytest.param(5, 0, 0.05, 0.5, id="slow-machine"),
            pytest.param(10 * CHARACTERS_PER_SECOND, 0, 0.001, 10.0, id="long"),
            pytest.param(0, 100, 0.001, 1.0, id="formulas"),
        ],
    )
    def test_the_more_a_drawing_costs_the_fewer_there_are(
        self, characters: int, formulas: int, cost_seconds: float, pause_seconds: float
    ) -> None:
        """No more than a tenth of the processor: the kernel's, which is measured, and the browser's, which is not."""
        assert pause_after(characters, formulas, cost_seconds) == pytest.approx(pause_seconds, rel=0.01)


class TestFrontEnds:
    """Where displays cannot be updated, each holds what has ended since the one before."""

    TEXT = "# One\n\ntwo three\n\n- four\n"

    def add(self, server: LocalServer) -> None:
        """Let the server answer with three blocks, two of which end before a pause."""
        server.add(Answer("# One\n\ntwo ", "three\n\n- fo", "ur\n", Stall()))

    def test_console_shows_block_by_block(self, kernel: Kernel, server: LocalServer) -> None:
        """Live, whole and once: `jupyter console`, qtconsole and Spyder apply no updates, and clear nothing."""
        self.add(server)
        stop = server.release
        cell = kernel.run("agent.run_stream('go')", at="<p>two three</p>", do=stop, notebook=False)
        assert set(cell.kinds) == {"display_data"}
        plain = re.sub("\n+", "\n", cell.plain)
        assert plain.startswith("# One\ntwo three\n- four\n[finished")

    def test_console_is_sent_no_control_sequences(self, kernel: Kernel, server: LocalServer) -> None:
        """The plain text may reach a terminal."""
        server.add("a\x1b]0;title\x07b \x1b[31mred\u202e")
        assert kernel.run("agent.run_stream('go')", notebook=False).plain.startswith("ab red\n")

    def test_output_widget_shows_all_of_it(self, kernel: Kernel, server: LocalServer) -> None:
        """It ignores updates, too."""
        self.add(server)
        code = "import ipywidgets\nout = ipywidgets.Output()\nwith out: agent.run_stream('go').display()"
        cell = kernel.run(code, at="<p>two three</p>", do=server.release)
        assert set(cell.kinds[:-1]) == {"display_data"}
        assert "<h1>One</h1>" in cell.shown
        assert "<li>four</li>" in cell.shown
        server.add(self.TEXT)
        assert len(kernel.run("agent.run_stream('go')").displays) == 1

    def test_reply_is_shown_as_its_text(self, kernel: Kernel, server: LocalServer) -> None:
        """Formatted where HTML is shown."""
        server.add("# One $x$")
        code = "from blades._output.notebook import bundle_reply\nbundle_reply(agent.run('go'))"
        expected = {"text/html": "<h1>One <span>\\(x\\)</span></h1>\n", "text/plain": "# One $x$"}
        assert ast.literal_eval(kernel.run(code).result) == expected

    def test_without_the_libraries_the_text_is_shown_as_it_is(self, kernel: Kernel, server: LocalServer) -> None:
        """With one hint."""
        server.add("# One\n\n<b>two</b> $x$\n\nthree")
        code = (
            "import sys\nfrom blades._output import markdown_html\n"
            "kept, sys.modules['nh3'] = sys.modules['nh3'], None\nmarkdown_html._make_cleaner.cache_clear()\n"
            "try: agent.run_stream('go').display()\nfinally: sys.modules['nh3'] = kept"
        )
        cell = kernel.run(code)
        assert cell.status == "ok"
        text = re.sub("<[^>]*>|\n", "", cell.shown)
        assert text.startswith("# One&lt;b&gt;two&lt;/b&gt; $x$threefinished · ")
        assert cell.shown.count("to format it: pip install markdown-it-py nh3") == 1


class TestEnding:
    """The stop button, and failures."""

    @pytest.mark.parametrize("last", ["stream.display()", "stream"], ids=["display", "last-expression"])
    def test_the_stop_button_cancels_and_the_partial_answer_stays(
        self, kernel: Kernel, server: LocalServer, last: str
    ) -> None:
        """At once, with one line instead of a traceback; the server sees the disconnect."""
        server.add(Answer("half an ", "answer", Stall()))
        cell = kernel.run(f"stream = agent.run_stream('go')\n{last}", at="half an answer")
        assert cell.seconds_to_stop < SOON_SECONDS
        assert (cell.status, cell.error, cell.result) == ("error", "Stopped", "")
        assert cell.lines == ["Stopped: the answer above is partial, and the code after it did not run."]
        assert cell.shown.startswith("<p>half an answer</p>\n<small><b>cancelled</b> · ")
        assert server.requests[0].left.wait(SOON_SECONDS)
        assert kernel.run("stream.state.value, stream.reply().complete").result == "('cancelled', False)"

    def test_the_stop_button_ends_a_loop_of_displays(self, kernel: Kernel, server: LocalServer) -> None:
        """And the code after it, and, since the cell fails, "Run All"."""
        server.add(Answer("half", Stall()))
        cell = kernel.run("for _ in range(3): agent.run_stream('go').display()\nprint('after')", at="half")
        assert (cell.status, cell.printed) == ("error", "")
        assert len(server.requests) == 1

    def test_the_stop_button_is_a_keyboard_interrupt(self, kernel: Kernel, server: LocalServer) -> None:
        """Code that wants to go on can catch it."""
        server.add(Answer("half", Stall()))
        code = "try: agent.run_stream('go').display()\nexcept KeyboardInterrupt: print('after')"
        cell = kernel.run(code, at="half")
        assert (cell.status, cell.printed) == ("ok", "after\n")

    def test_cancel_is_no_failure(self, kernel: Kernel, server: LocalServer) -> None:
        """The code after display() goes on when something else cancels the stream."""
        server.add(Answer("half", Stall()))
        code = (
            "import threading\nstream = agent.run_stream('go')\n"
            "threading.Timer(0.2, stream.cancel).start()\nstream.display()\n"
        )
        assert kernel.run(code + "print(stream.state.value)").printed == "cancelled\n"

    def test_stream_cancelled_before_its_first_text_says_so(self, kernel: Kernel) -> None:
        """One line, and nothing else."""
        cell = kernel.run("stream = agent.run_stream('go')\nstream.cancel()\nstream")
        assert [data["text/html"] for data in cell.drawn] == ["<small><b>cancelled</b></small>"]

    @pytest.mark.parametrize("last", ["stream.display()", "stream"], ids=["display", "last-expression"])
    def test_a_failure_is_raised_and_the_partial_answer_stays(
        self, kernel: Kernel, server: LocalServer, last: str
    ) -> None:
        """It is reported once, and the cell counts as failed, so that the next ones are not run."""
        server.add(Answer("half an ", "answer", Cut()))
        cell = kernel.run(f"stream = agent.run_stream('go')\n{last}")
        assert (cell.status, cell.error, cell.result) == ("error", "StreamInterrupted", "")
        assert cell.shown.startswith("<p>half an answer</p>\n<small><b>failed: StreamInterrupted</b> · ")

    def test_an_answer_that_never_starts_raises(self, kernel: Kernel, server: LocalServer) -> None:
        """With the official client's exception."""
        server.add(Answer.error(401, "no"))
        cell = kernel.run("agent.run_stream('go')")
        assert (cell.status, cell.error) == ("error", "AuthenticationError")
        assert "failed: AuthenticationError" in cell.shown

    def test_a_stream_that_another_thread_reads_is_left_alone(self, kernel: Kernel, server: LocalServer) -> None:
        """The cell fails, the other reader gets its answer."""
        server.add(Answer("half ", Stall(), "whole"))
        cell = kernel.run(
            "import threading\n"
            "stream, first = agent.run_stream('go'), threading.Event()\n"
            "reader = threading.Thread(target=lambda: [first.set() for chunk in stream])\n"
            "reader.start()\n"
            "assert first.wait(30)\n"
            "stream"
        )
        assert (cell.status, cell.error) == ("error", "OtherReaderError")
        server.release()
        assert kernel.run("reader.join(30); stream.state.value, stream.text").result == "('finished', 'half whole')"


class TestElsewhere:
    """Where there is no notebook, display() prints."""

    def test_without_ipython_it_prints(
        self, server: LocalServer, agent: Agent, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """IPython need not be installed."""
        monkeypatch.delitem(sys.modules, "IPython", raising=False)
        server.add("one two")
        stream = agent.run_stream("go")
        stream.display()
        assert capsys.readouterr().out == "one two"
        assert stream.state is StreamState.FINISHED
        assert "IPython" not in sys.modules

    def test_without_ipython_it_prints_what_was_read_before(
        self, server: LocalServer, agent: Agent, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a notebook shows it: a part that was read, and a whole answer that was shown already."""
        monkeypatch.delitem(sys.modules, "IPython", raising=False)
        server.add("one two")
        stream = agent.run_stream("go")
        assert next(stream).text == "one"
        for _ in range(2):
            stream.display()
            assert capsys.readouterr().out == "one two"
        stream.print()
        assert capsys.readouterr().out == ""

    def test_a_failure_is_raised_without_ipython(
        self, server: LocalServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By the display method, too, if anybody else calls it."""
        monkeypatch.delitem(sys.modules, "IPython", raising=False)
        server.add(Answer("half", Cut()))
        stream = agent.run_stream("go")
        with pytest.raises(Exception, match="got a cut connection"):
            stream._ipython_display_()

    def test_marimo_shows_the_text(self, server: LocalServer, agent: Agent) -> None:
        """It asks a stream for its type and content, and a reply for its bundle."""
        server.add("# One", "# Two")
        assert agent.run_stream("go")._mime_() == ("text/html", "<h1>One</h1>\n")
        assert agent.run("go")._repr_mimebundle_() == {"text/html": "<h1>Two</h1>\n", "text/plain": "# Two"}

    def test_plain_ipython_prints(self, server: LocalServer, tmp_path: Path) -> None:
        """In a terminal there is no Markdown."""
        server.add("one two", "three *four*")
        made = f"agent = Agent('test', model='any', base_url={server.base_url!r}, api_key='any')"
        script = f"from blades import Agent\n{made}\nagent.run_stream('go').display()\nagent.run('go')"
        done = subprocess.run(
            [sys.executable, "-m", "IPython", "-c", script],
            env={**os.environ, "IPYTHONDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=True,
        )
        assert "one two" in done.stdout
        assert "three *four*" in done.stdout
        assert "Reply(" not in done.stdout


class TestFaults:
    """What a front end could do to a drawing, without a kernel."""

    def test_a_display_that_fails_ends_the_stream(
        self,
        server: LocalServer,
        agent: Agent,
        monkeypatch: pytest.MonkeyPatch,
        in_thread: Callable[[Callable[[], object]], threading.Thread],
    ) -> None:
        """Nobody sees the rest, so the server need not write it."""

        class Kernel:
            @staticmethod
            def get_parent() -> dict[str, dict[str, str]]:
                return {"header": {"msg_id": "1"}, "metadata": {"cellId": "1"}}

        class Shell:
            kernel = Kernel

        def broken(*_: object, **__: object) -> None:
            raise OSError("the front end is gone")

        monkeypatch.setattr("blades._output.notebook._shell", Shell)
        monkeypatch.setattr("IPython.display.display", broken)
        server.add(Answer("half", Stall()))
        stream = agent.run_stream("go")
        with pytest.raises(OSError, match="front end"):
            stream.display()
        assert stream.state is StreamState.CANCELLED
        assert server.requests[0].left.wait(SOON_SECONDS)


class TestExample:
    """examples/notebook.ipynb."""

    def test_it_runs_from_top_to_bottom(self, running_kernel: Kernel) -> None:
        """Without a key, on the local server; two answers finish, one is cancelled."""
        cells = [running_kernel.run("".join(cell["source"])) for cell in self.code()]
        assert [cell.status for cell in cells] == ["ok"] * 4
        assert not cells[0].drawn
        assert "<small><b>finished</b> · " in cells[1].shown
        assert "<small><b>cancelled</b> · " in cells[2].shown
        assert cells[3].widgets == 1  # a thread shows the answer when the cell has ended
        assert cells[2].printed.startswith("StreamState.CANCELLED False ")
        running_kernel.run("server.close()")

    def test_it_is_kept_without_its_results(self) -> None:
        """So that a change of it can be read."""
        assert [(cell["outputs"], cell["execution_count"]) for cell in self.code()] == [([], None)] * 4

    @staticmethod
    def code() -> list[dict[str, Any]]:
        """Return the cells of code."""
        notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
        return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
