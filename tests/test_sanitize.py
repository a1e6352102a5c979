"""What of a model's text reaches a notebook's page. How JupyterLab shows it was looked at in a browser."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from blades._output.sanitize import closed, folded, harmless, literal

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
IMAGE = "<img src=x onerror=alert(1)>"
SHOWN = "&#60;img src=x onerror=alert(1)>"
OURS = re.compile(r"</?(?:pre|code|br|sub|sup|kbd) ?/?>", re.IGNORECASE)
TAG = re.compile(r"<[A-Za-z/!?]")
CODED = "&#60;img src=x onerror=alert(1)&#62;"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "# ResponseInfo\n\n*a* **b** `c` [d](https://e.example/f?g=h&i=j) [k](l/m#n) <br> H<sub>2</sub>O", id="text"
        ),
        pytest.param("x < y, x <= y, a <- b, <3, 1<2", id="signs"),
        pytest.param("$a_1 < b$, $$\\frac{a}{b}$$ and \\begin{align}a &= b\\\\c &< d\\end{align}", id="formulas"),
        pytest.param("```python\nfor x in a[1:]:\n    try: print(f'{x}')\n```\n~~~\nx\n~~~", id="code"),
        pytest.param("| a | b |\n|---|---|\n| 1<br>2 | 3 |", id="table"),
        pytest.param("[1]: https://example.com\n[mail](mailto:a@b.example) [x][1]", id="links"),
        pytest.param("中文 < 中文 &amp; &lt;b&gt;", id="entities"),
    ],
)
def test_what_does_nothing_is_left_alone(text: str) -> None:
    """Markdown and formulas arrive as the model wrote them."""
    assert harmless(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param(f"a {IMAGE} b", f"a {SHOWN} b", id="tag"),
        pytest.param("</div><!-- x --><?x?>", "&#60;/div>&#60;!-- x -->&#60;?x?>", id="other-tags"),
        pytest.param("\\<b> \\\\<b> \\\\\\<b>", "&#60;b> \\\\&#60;b> \\\\&#60;b>", id="backslashes"),
        pytest.param("<br onclick=x>", "&#60;br onclick=x>", id="attribute-on-a-harmless-tag"),
        pytest.param(
            "<https://e.example/a_b?c=d>", "[https://e.example/a_b?c=d](https://e.example/a_b?c=d)", id="address"
        ),
        pytest.param("$x<y$ and $$a<b$$", "$x< y$ and $$a< b$$", id="formula"),
        pytest.param("\\begin{x}a<b\\end{x}", "\\begin{x}a< b\\end{x}", id="environment"),
        pytest.param(f"`{IMAGE}`", f"<code>{CODED}</code>", id="span"),
        pytest.param("`` a`<b> ``", "<code> a&#96;&#60;b&#62; </code>", id="span-with-a-backtick"),
        pytest.param(
            "```html\n<p>\n\n  $1\n```\nafter",
            "<pre><code>&#60;p&#62;&#10;&#10;  &#36;1</code></pre>\nafter",
            id="block",
        ),
        pytest.param("```\n<p>", "<pre><code>&#60;p&#62;</code></pre>", id="block-that-is-still-coming"),
        pytest.param(
            "1. x\n\n   ```\n   <p>\n     y\n   ```\n2. z",
            "1. x\n\n   <pre><code>&#60;p&#62;&#10;  y</code></pre>\n2. z",
            id="block-in-a-list",
        ),
        pytest.param("> ```\n> <p>\n> ```", "> <pre><code>&#60;p&#62;</code></pre>", id="block-in-a-quotation"),
        pytest.param("~~~\n```\n<p>\n~~~", "<pre><code>&#96;&#96;&#96;&#10;&#60;p&#62;</code></pre>", id="tildes"),
        pytest.param("![a](https://e.example/?secret)", "&#33;[a](https://e.example/?secret)", id="image"),
        pytest.param("[a](javascript:b)", "[a&#93;(javascript:b)", id="script-link"),
        pytest.param("[a](java&#115;cript:b)", "[a&#93;(java&#115;cript:b)", id="script-behind-an-entity"),
        pytest.param("[a]( \n javascript\\:b)", "[a&#93;( \n javascript\\:b)", id="script-on-the-next-line"),
        pytest.param("[a](\x01javascript:b)", "[a&#93;(\x01javascript:b)", id="script-behind-a-control-character"),
        pytest.param("[a](< javascript:b>)", "[a&#93;(< javascript:b>)", id="script-in-angle-brackets"),
        pytest.param("[a]: DATA:text/html,b", "[a&#93;: DATA:text/html,b", id="reference-to-data"),
    ],
)
def test_what_could_do_something_is_shown_instead(text: str, shown: str) -> None:
    """And it looks as it was meant to."""
    assert harmless(text) == shown


@unhurried
@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [IMAGE, "<", "<br>", "<b>", "\\", "`", "```", "~~~", "\n", "\n\n", " ", "> ", "- ", "    ", "$", "$$",
                 "a", "](", "]:", "![", "[", ")", ">", "javascript:", "&", "\\begin{a}", "\\end{a}",
                 "<https://a.b>", "|"]
            ),
            st.text(max_size=3),
        )
    ).map("".join)
)  # fmt: skip
@example(f"~~~\n```\n{IMAGE}\n~~~\n{IMAGE}\n```")
@example(f"`a\\`{IMAGE}`")
@example(f"$a$b${IMAGE}$")
def test_no_tag_image_or_script_comes_through(text: str) -> None:
    """Wherever it stands: nobody has to parse Markdown as this library does."""
    for shown in (harmless(text), closed(harmless(text)), folded(text)[len("<details>") :]):
        rest = OURS.sub("", shown.replace("<summary>", "").replace("</summary>", "").replace("<blockquote>", ""))
        rest = rest.replace("</blockquote></details>", "")
        assert not TAG.search(rest)
        assert "![" not in shown
        assert not re.search(r"\][(:]\s*javascript:\S", shown)


@unhurried
@given(st.text())
def test_a_literal_is_one_line_without_markup(text: str) -> None:
    """And a browser shows the same text again."""
    shown = literal(text)
    assert not set(shown) & set("<>`*_[]!$\\|~\n\r")
    assert re.sub(r"&#(\d+);", lambda code: chr(int(code[1])), shown) == text


def test_reasoning_cannot_break_out_of_its_fold() -> None:
    """One line of HTML, whatever is in it."""
    shown = folded("First.\n\n</details><script>```$ x")
    assert shown == (
        "<details><summary>Reasoning (32 characters)</summary><blockquote>"
        "First.<br><br>&#60;/details&#62;&#60;script&#62;&#96;&#96;&#96;&#36; x</blockquote></details>\n\n"
    )


@pytest.mark.parametrize(
    ("text", "end"),
    [
        pytest.param("text", "", id="text"),
        pytest.param("```\nx\n```\ntext", "", id="closed"),
        pytest.param("```python\nx", "\n```", id="open"),
        pytest.param("```python", "\n```", id="just-begun"),
        pytest.param("```\nx\n```\n~~~~\ny\n~~~", "\n~~~~", id="longer"),
        pytest.param("- ```\n  x", "\n  ```", id="in-a-list"),
        pytest.param("> ```\n> x", "\n> ```", id="in-a-quotation"),
    ],
)
def test_open_code_is_closed(text: str, end: str) -> None:
    """So that what is said below it is no code."""
    assert closed(text) == text + end


@pytest.mark.parametrize(
    "text", ["<a", "](", "$ a ", "`\n", "```\n", "> - ", "\\begin{a}", "]:\n", "\n \n", "~~~\n<a\n"]
)
def test_time_grows_with_the_length_alone(text: str) -> None:
    """Nobody can make a cell hang with a strange text."""
    whole = text * (60_000 // len(text)) + "<a"
    started = time.thread_time()
    closed(harmless(whole))
    assert time.thread_time() - started < 5
