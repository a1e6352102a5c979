"""What reaches a notebook's page of a model's text. How JupyterLab shows it is tested in a browser."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attacks import DOCUMENTS, FRAGMENTS, examine, generate
from blades._output.formulas import is_harmless
from blades._output.markdown_html import MarkdownRenderer, render, write_code
from blades._output.plain_html import PlainRenderer
from limits import CPU_SECONDS

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
FORMULA = re.compile(r"\\\((.*)\\\)|\\\[(.*)\\\]|\\begin\{\w+\*?\}.*\\end\{\w+\*?\}", re.DOTALL)


def assert_harmless(html: str) -> None:
    """Check tags, attributes, styles, schemes and formulas."""
    found = examine(html)
    assert found.faults == []
    for tag, text in found.texts:
        if "$" in text or "\\" in text:  # alone in its element, or a formula that was made here
            formula = FORMULA.fullmatch(text)
            assert (tag == "span" and text in {"$", "\\"}) or (formula and is_harmless(text)), (tag, text)


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_attack_becomes_harmless(text: str) -> None:
    """Each known attack ends as tags, attributes and addresses of the allow-list, whole and at any cut."""
    assert_harmless(render(text))
    for end in range(len(text)):
        for block in MarkdownRenderer().feed(text[:end]):
            assert_harmless(block.html)


@pytest.mark.parametrize("number", range(200))
def test_generated_attack_becomes_harmless(number: int) -> None:
    """So does what is put together from pieces of attacks; the browser is given the same documents."""
    assert_harmless(render(generate(200)[number]))


@unhurried
@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3))).map("".join))
def test_any_text_becomes_harmless(text: str) -> None:
    """And so does any text, with and without the libraries."""
    assert_harmless(render(text))
    assert_harmless(re.sub(' style="[^"]*"', "", PlainRenderer().feed(text, whole=True)[0].html))


@pytest.mark.parametrize(
    ("text", "html"),
    [
        pytest.param("$5 and $10", "<p><span>$</span>5 and <span>$</span>10</p>\n", id="money"),
        pytest.param("$5, $6.", "<p><span>$</span>5, <span>$</span>6.</p>\n", id="money-before-a-digit"),
        pytest.param("$x_1*y*$ costs $5", "<p><span>\\(x_1*y*\\)</span> costs <span>$</span>5</p>\n", id="dollars"),
        pytest.param("\\(a<b\\), \\[c\\]", "<p><span>\\(a&lt;b\\)</span>, <span>\\[c\\]</span></p>\n", id="brackets"),
        pytest.param("so $$x$$ is", "<p>so <span>\\[x\\]</span> is</p>\n", id="double-dollars-in-a-line"),
        pytest.param("$$\na\n+ b\n- c\n$$\n", "<div>\\[a\n+ b\n- c\\]</div>\n", id="block-that-looks-like-a-list"),
        pytest.param("\\[\nx\n= y\n\\]", "<div>\\[x\n= y\\]</div>\n", id="block"),
        pytest.param(
            "\\begin{align}\na &= b\\\\\nc\n\\end{align}",
            "<div>\\begin{align}\na &amp;= b\\\\\nc\n\\end{align}</div>\n",
            id="environment",
        ),
        pytest.param(
            "$$\\begin{cases}x$$\n\n$$ \\begin{cases}x\\end{cases} $$",
            "<div>\\[\\begin{cases}x\\]</div>\n<div>\\begin{cases}x\\end{cases}</div>\n",
            id="environment-in-dollars",
        ),
        pytest.param("$$a \\label{x}$$", "<div>\\[a \\]</div>\n", id="label"),
        pytest.param(
            "- $$\n  x\n  $$\n", "<ul>\n<li>\n<div>\\[x\\]</div>\n</li>\n</ul>\n", id="block-in-a-list"
        ),
        pytest.param("$$\nx\n\ny", "<p><span>$</span><span>$</span>\nx</p>\n<p>y</p>\n", id="no-end-in-paragraph"),
        pytest.param("\\[\nopen\n- x", "<p>[\nopen</p>\n<ul>\n<li>x</li>\n</ul>\n", id="no-end"),
        pytest.param("`$x$` \\$", "<p><code>$x$</code> <span>$</span></p>\n", id="code-and-escape"),
        pytest.param("$\\href{x}{y}$", "<p><code>\\href{x}{y}</code></p>\n", id="unknown-command"),
        pytest.param(
            "$\\begin{html}x\\end{html}$", "<p><code>\\begin{html}x\\end{html}</code></p>\n", id="environment-not-known"
        ),
    ],
)  # fmt: skip
def test_formula(text: str, html: str) -> None:
    """A formula is text between the front end's own signs; what is none has its signs in elements of their own."""
    assert render(text) == html


PRE = (
    '<pre style="background-color:var(--jp-cell-editor-background, #80808018);padding:0.5em">'
    '<code style="background-color:transparent">'
)
TABLE = """<table>
<thead>
<tr>
<th style="text-align:left">a</th>
<th style="text-align:right">b</th>
</tr>
</thead>
<tbody>
<tr>
<td style="text-align:left">1<br>2</td>
<td style="text-align:right">H<sub>2</sub>O</td>
</tr>
</tbody>
</table>
"""
LINK = '<a href="https://e.example/a" rel="noopener noreferrer">{}</a>'


@pytest.mark.parametrize(
    ("text", "html"),
    [
        pytest.param("![alt](https://e.example/a)", f"<p>{LINK.format('alt')}</p>\n", id="image"),
        pytest.param("![](https://e.example/a)", f"<p>{LINK.format('https://e.example/a')}</p>\n", id="no-text"),
        pytest.param("[![alt](https://b.example)](https://e.example/a)", f"<p>{LINK.format('alt')}</p>\n", id="link"),
        pytest.param("<https://e.example/a>", f"<p>{LINK.format('https://e.example/a')}</p>\n", id="address"),
        pytest.param("[x](https://e.example/a 'title')", f"<p>{LINK.format('x')}</p>\n", id="title"),
        pytest.param("[x]()", '<p><a rel="noopener noreferrer">x</a></p>\n', id="no-address"),
        pytest.param("[x](notebook.ipynb)", "<p>[x](notebook.ipynb)</p>\n", id="relative"),
        pytest.param("| a | b |\n|---|--:|\n| 1<br>2 | H<sub>2</sub>O |", TABLE, id="table"),
        pytest.param("3. x\n4. y", '<ol start="3">\n<li>x</li>\n<li>y</li>\n</ol>\n', id="list"),
        pytest.param("a <b>b</b> < c", "<p>a &lt;b&gt;b&lt;/b&gt; &lt; c</p>\n", id="tags"),
        pytest.param("```mermaid\na --> b\n```", f"{PRE}a --&gt; b\n</code></pre>\n", id="live-fence"),
        pytest.param("```\nx", f"{PRE}x</code></pre>\n", id="fence-that-is-still-coming"),
        pytest.param("    #include <x>\n", f"{PRE}#include &lt;x&gt;\n</code></pre>\n", id="indented"),
    ],
)  # fmt: skip
def test_markdown(text: str, html: str) -> None:
    """Markdown looks as models mean it; images are links, live fences are code."""
    assert render(text) == html


def test_code_is_highlighted() -> None:
    """Also when it holds tags; an unknown language, or more than fits the time, is shown as it is."""
    html = render("```html\n<b>x</b>\n```\n\n```c\n#include <stdio.h>\nint x = 1;\n```")
    assert html.count('<span style="color:') >= 4
    assert re.sub("<[^>]*>", "", html) == "&lt;b&gt;x&lt;/b&gt;\n\n#include &lt;stdio.h&gt;\nint x = 1;\n\n"
    assert_harmless(html)
    assert write_code("if x:", "nonsense") == f"{PRE}if x:</code></pre>\n"
    assert "span" not in write_code("x = 1\n" * 5_000, "python")


def documents() -> st.SearchStrategy[str]:
    """Return Markdown of many blocks."""
    blocks = ["# A", "text", "*a*\nb", "- a\n- b", "1. x\n\n   y", "> q", "| a |\n|---|\n| b |", "```py\nx\n\ny\n```",
              "$$\nx\n$$", "\\[\na\n- b\n\\]", "---", "    code", "[r]: https://e.example/r",
              "[r] and $x$", "$$", "\\[", "```", "a\n===", ""]  # fmt: skip
    return st.lists(st.sampled_from(blocks), max_size=12).flatmap(
        lambda chosen: st.sampled_from(["\n", "\n\n", "\r\n\r\n"]).map(lambda end: end.join(chosen))
    )


@unhurried
@given(documents(), st.data())
def test_growing_text_gives_the_same_html(text: str, data: st.DataObject) -> None:
    """However it is cut; a block that has ended is not rendered again."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    renderer = MarkdownRenderer()
    *pieces, rest = [text[begin:end] for begin, end in pairwise([0, *cuts, len(text)])]
    blocks = [renderer.feed(piece)[0] for piece in pieces] + [renderer.feed(rest, whole=True)[0]]
    source = "".join(block.source for block in blocks)
    assert source == re.sub("\r\n?", "\n", text)
    html = "".join(renderer.render_again(block.source) if renderer.has_references else block.html for block in blocks)
    assert html == render(text)


def test_block_that_has_ended_is_not_kept_open() -> None:
    """What is parsed at each step is the rest."""
    renderer = MarkdownRenderer()
    assert [block.source for block in renderer.feed("# A\n\nfirst\n\nsecond")] == ["# A\n\n", "first\n\nsecond"]
    assert [block.source for block in renderer.feed("\n")] == ["first\n\n", "second\n"]
    assert [block.html for block in renderer.feed("#")] == ["", "<p>second</p>\n<h1></h1>\n"]


def test_paragraphs_of_one_line_each_are_rendered_once() -> None:
    """Also where no line has ended at any of the drawings, as is usual while a model writes."""
    renderer, text, closed = MarkdownRenderer(), "", ""
    began = time.process_time()
    for _ in range(3_000):
        added = "\n\nA paragraph of *one* line"
        text += added
        closed += renderer.feed(added)[0].source
        assert time.process_time() - began < CPU_SECONDS  # usually 1
    assert text.startswith(closed)
    assert len(text) - len(closed) < 100


def test_reference_is_known_to_earlier_blocks_in_the_end() -> None:
    """A block that used an address before its definition can be rendered again."""
    renderer = MarkdownRenderer()
    early = renderer.feed("[x][1]\n\nnext\n")[0]
    assert "href" not in early.html
    renderer.feed("\n[1]: https://e.example/a\n", whole=True)
    assert renderer.has_references
    assert renderer.render_again(early.source) == f"<p>{LINK.format('x')}</p>\n"


def test_plain_text_without_the_libraries() -> None:
    """The same text, escaped, in paragraphs."""
    renderer = PlainRenderer()
    opening = '<pre style="white-space:pre-wrap;font-family:inherit">'
    assert [block.html for block in renderer.feed("a <b>\n\n$x$\nc")] == [
        f"{opening}a &lt;b&gt;</pre>\n",
        f"{opening}$x$\nc</pre>\n",
    ]
    assert [block.source for block in renderer.feed("d", whole=True)] == ["$x$\ncd", ""]
    assert [block.html for block in PlainRenderer().feed("", whole=True)] == ["", ""]


@pytest.mark.parametrize(
    "text",
    ["<a", "](", "$ a ", "$a", "`\n", "```\n", "> - ", "\\begin{align}", "]:\n", "\n \n", "~~~\n<a\n", "\\(", "\\[\n",
     "$$\n", "*a **a ", "[", "![", "[a](", "a[", "|a|\n", "[x]: http://a\n", "```java\n\n\n\n", "```c\n\n\n\n"],
)  # fmt: skip
def test_time_grows_with_the_length_alone(text: str) -> None:
    """Nobody can make a cell hang with a strange text."""
    whole = text * (60_000 // len(text)) + "<a"
    started = time.thread_time()
    render(whole)
    assert time.thread_time() - started < 10
