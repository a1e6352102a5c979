"""What JupyterLab makes of a model's text, in a real browser: ``make test-browser``. Pictures go to build/browser."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import documents
import pytest
from lab import Lab

from attacks import DOCUMENTS, generate

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "build" / "browser"
SETUP = """
import json, time, threading
from blades import Agent
from blades.testing import Answer, LocalServer, chunk
server = LocalServer(pace=0)
agent = Agent("test", model="any", base_url=server.base_url, api_key="any")
agent.run("warm up")
def show(*steps):
    server.add(Answer(*steps))
    agent.run_stream("go").display()
"""
# Everything in the outputs that is more than text and layout.
SUSPECTS = """
const found = [];
for (const output of document.querySelectorAll('.jp-OutputArea-output'))
    for (const element of output.querySelectorAll('*')) {
        const name = element.localName;
        if (/^(script|style|img|iframe|object|embed|form|input|button|link|base|meta|svg|video|audio)$/.test(name)
            && !element.closest('mjx-container')) found.push('<' + name + '>');
        for (const {name: attribute, value} of element.attributes) {
            if (attribute.startsWith('on') || attribute === 'src' || attribute.startsWith('data-command'))
                found.push(name + ' ' + attribute + '=' + value);
            if (/href$/.test(attribute) && !/^(https?:|mailto:)/i.test(value)) found.push(name + ' href=' + value);
            if (attribute === 'href' && element.closest('mjx-container')) found.push('formula href=' + value);
            if (attribute === 'style' && /url\\s*\\(/i.test(value)) found.push(name + ' style=' + value);
            if (attribute === 'id' && !element.closest('mjx-container')) found.push(name + ' id=' + value);
        }
    }
return found;
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One server and one browser for all tests."""
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.close()


def literal(texts: list[str]) -> str:
    """Return texts as Python source."""
    return f"json.loads({json.dumps(texts)!r})"


def test_attacks_do_nothing(lab: Lab) -> None:
    """Known and generated ones: no request, no dialog, nothing in the page that could make one."""
    texts = [*DOCUMENTS.values(), *generate(200)]
    batches = [texts[start : start + 40] for start in range(0, len(texts), 40)]  # JupyterLab hides what is beyond 50
    lab.open("attacks.ipynb", [SETUP, *(f"for text in {literal(batch)}: show(text)" for batch in batches)])
    lab.foreign_requests()
    lab.run_all()
    assert lab.script("return document.querySelectorAll('.jp-OutputArea-output').length") >= len(texts)
    assert lab.script(SUSPECTS) == []
    assert lab.foreign_requests() == set()
    assert lab.script("return window.acts") == []
    assert lab.script("return document.querySelectorAll('.jp-OutputArea-output mjx-container').length") > 0


def test_attacks_in_tool_calls_and_reasoning_do_nothing(lab: Lab) -> None:
    """What is folded is in the page as well."""
    lab.open("folded.ipynb", [f"""
import json
from blades import ToolCall, ToolResult
from blades._output.folded import fold_reasoning, fold_results
from IPython.display import display
for text in {literal(list(DOCUMENTS.values()))}:
    call = ToolCall(name=text, arguments=text)
    results = fold_results([ToolResult(call, text=text), ToolResult(call, text=text, error=text)])
    display({{"text/html": fold_reasoning(text).html + results.html}}, raw=True)
"""])  # fmt: skip
    lab.run_all()
    lab.script("document.querySelectorAll('details').forEach(element => { element.open = true; })")
    assert lab.script("return document.querySelectorAll('details').length") >= 3 * len(DOCUMENTS)
    assert lab.script(SUSPECTS) == []
    assert lab.foreign_requests() == set()
    assert lab.script("return window.acts") == []
    assert lab.script("return document.querySelectorAll('.jp-OutputArea-output mjx-container').length") == 0


def test_these_checks_would_see_an_attack(lab: Lab) -> None:
    """The same text as the front end's own Markdown does act."""
    text = "![x](https://e.example/seen.png)\n\n$\\href{https://e.example}{x}$"
    lab.open("control.ipynb", [f"""
from IPython.display import HTML, Markdown, display
display(HTML("<img src='https://e.example/control.png' onerror='alert(1)'>"), Markdown({text!r}))
"""])  # fmt: skip
    lab.run_all()
    assert {"https://e.example/control.png", "https://e.example/seen.png"} <= lab.foreign_requests()
    assert lab.script("return window.acts") == ["alert(1)"]
    assert lab.script(SUSPECTS) != []


@pytest.mark.parametrize("name", ["CHINESE", "TABLES", "FORMULAS", "CODE"])
def test_it_looks_right(lab: Lab, name: str) -> None:
    """A picture of each, which somebody looks at; formulas are typeset and money is not."""
    text = getattr(documents, name)
    lab.open(f"{name.lower()}.ipynb", [SETUP, f"show(chunk(reasoning_content='Hm.'), {text!r})"])
    lab.run_all()
    lab.picture(PICTURES / f"{name.lower()}.png")
    count = lab.script("return document.querySelectorAll('mjx-container').length")
    assert count == {"CHINESE": 3, "TABLES": 1, "FORMULAS": 9, "CODE": 0}[name]
    assert lab.script("return [...document.querySelectorAll('mjx-merror')].map(found => found.textContent)") == []


def test_stop_button_ends_run_all(lab: Lab) -> None:
    """The loop in the cell and the cells after it do not go on."""
    loop = "for _ in range(3):\n    server.add(Answer('half', Stall()))\n    agent.run_stream('go').display()"
    lab.open("stop.ipynb", [SETUP + "from blades.testing import Stall", loop, "print('after')"])
    lab.run_all(wait=False)
    lab.wait("return !!document.querySelector('.jp-OutputArea-output p')")
    lab.script("window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
    lab.wait("return document.body.textContent.includes('Stopped:')")
    lab.wait("return window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'")
    assert lab.script("return document.querySelectorAll('.jp-OutputArea-output').length") == 2
    assert lab.script("return [...document.querySelectorAll('.jp-InputPrompt')].at(-1).textContent") == "[ ]:"


def test_picture_of_the_documentation(lab: Lab) -> None:
    """The picture that docs/notebook.png was made of: a finished answer and a stopped one."""
    lab.open("notebook.ipynb", [
        "from blades import Agent\n\nagent = Agent('demo', model='deepseek-chat')",
        "agent.run_stream('Why does the harmonic series diverge?')",
        "agent.run_stream('And the series of the squares?')",
    ])  # fmt: skip
    code = f"""
import os, re, openai
from blades.testing import Answer, LocalServer, Stall, chunk
words = re.split("(?<= )", {documents.ANSWER!r})
server = LocalServer(
    Answer(chunk(reasoning_content={documents.REASONING!r}), 0.4, *(step for word in words for step in (word, 0.02))),
    Answer("It **converges**, as Euler found in 1734: its sum ", Stall()),
)
os.environ.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="any")
"""
    kernel = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
    lab.script(f"{kernel}.requestExecute({{code: {json.dumps(code)}, silent: true}})")
    lab.run_all(wait=False)
    lab.wait("return document.body.textContent.includes('Euler found in 1734')")
    lab.script("window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
    lab.wait("return document.body.textContent.includes('Stopped:')")
    lab.picture(PICTURES / "notebook.png", height=1000, element=".jp-WindowedPanel-inner")


def test_long_answer_stays_smooth(lab: Lab) -> None:
    """5,000 words in 20 seconds: the page draws on, and the kernel's drawing takes a tenth of a core at most."""
    words = json.dumps(documents.long_answer(5_000).split(" "))
    lab.open("long.ipynb", [SETUP, f"""
words = json.loads({words!r})
steps = [step for word in words for step in (word + " ", 20 / len(words))]
server.add(Answer(*steps))
stream = agent.run_stream("go")
cpu, wall = time.thread_time(), time.monotonic()
stream.display()
cpu, wall = time.thread_time() - cpu, time.monotonic() - wall
print(json.dumps({{"cpu": cpu, "wall": wall, "words": len(stream.text.split())}}))
"""])  # fmt: skip
    lab.script("window.frames_seconds.length = 0")
    lab.run_all()
    frames = sorted(lab.script("return window.frames_seconds"))
    lab.picture(PICTURES / "long.png", height=2400)
    figures = json.loads(
        lab.script("return [...document.querySelectorAll('.jp-OutputArea-output pre')].at(-1).textContent")
    )
    report = {
        **figures,
        "share": figures["cpu"] / figures["wall"],
        "frames_per_second": len(frames) / sum(frames),
        "frame_p99_seconds": frames[int(len(frames) * 0.99)],
        "frame_longest_seconds": frames[-1],
    }
    sys.stdout.write(f"{json.dumps(report, indent=1)}\n")
    assert report["words"] >= 5_000
    assert report["share"] <= 0.1
    assert report["frame_p99_seconds"] < float(os.environ.get("FRAME_LIMIT_SECONDS", "0.5"))


def test_example_notebook(lab: Lab) -> None:
    """It runs from top to bottom; its button cancels while the answer arrives."""
    cells = json.loads((ROOT / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    lab.open("example.ipynb", ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])
    lab.run_all(wait=False)
    lab.wait("return !!document.querySelector('.jp-OutputArea-output button')")
    last = "[...document.querySelectorAll('.jp-OutputArea-output')].at(-1)"
    lab.wait(f"return {last}.textContent.length > 20 && !{last}.querySelector('button')")
    lab.script("document.querySelector('.jp-OutputArea-output button').click()")
    lab.wait(f"return !!{last}.querySelector('small')")
    assert "cancelled" in lab.script(
        "return [...document.querySelectorAll('.jp-OutputArea-output small')].at(-1).textContent"
    )
    lab.picture(PICTURES / "example.png")
