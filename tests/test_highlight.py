"""Code in colours."""

from __future__ import annotations

import re
import sys

import pytest

from blades._output import highlight as module
from blades._output.highlight import highlight


@pytest.mark.parametrize("language", ["python", "Python", "c", "html", "json", "js", "bash", "sql"])
def test_text_stays_the_same(language: str) -> None:
    """Only colours are added, also to tags and signs of formulas."""
    code = '\n\n#include <x>\nif "<b>&amp;</b>": $x$ \\(y\\)\n\n'
    html = highlight(code, language)
    assert "<span style=" in html
    assert re.sub("<[^>]*>", "", html) == code.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_unknown_language_is_shown_as_it_is() -> None:
    """So is one whose lexer is slow, and one that tries to be an attribute."""
    for language in ("", "mermaid", "make", '" onclick="alert(1)', "python;"):
        assert highlight("if <x>", language) == "if &lt;x&gt;"


def test_slow_code_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lexer may take a time that grows with the square of the length."""
    monkeypatch.setattr(module, "CPU_LIMIT_SECONDS", -1.0)
    assert highlight("if x:", "python") == "if x:"


def test_without_pygments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code is shown as it is."""
    monkeypatch.setitem(sys.modules, "pygments.lexers", None)
    module._lexer.cache_clear()
    assert highlight("if x:", "python") == "if x:"
    module._lexer.cache_clear()
