"""Code as HTML in colours, with Pygments where it is installed."""

from __future__ import annotations

import time
from functools import cache
from html import escape
from typing import Any, Final

# Some lexers take a time that grows with the square of the length, so longer or slower code is shown as it is.
LENGTH_LIMIT: Final = 10_000  # characters
CPU_LIMIT_SECONDS: Final = 0.2
# Only these languages are highlighted: Pygments has hundreds of lexers, and some can be made to run for minutes.
_LANGUAGE_NAMES: Final = """
bash c c# c++ clojure cmake console cpp csharp css dart diff docker dockerfile elixir erlang f# fortran fsharp go golang
graphql haskell hs html http ini java javascript js json jsx julia kotlin latex lua matlab nginx nim
objective-c ocaml octave perl php powershell proto protobuf ps1 py pycon python python3 r rb rs ruby rust scala scheme
sh shell sql swift tex toml ts tsx typescript vim xml yaml yml zig zsh
"""
_LANGUAGES: Final = frozenset(_LANGUAGE_NAMES.split())
# The colours of JupyterLab's editor, light or dark; anywhere else, colours that can be read on both.
_STYLES: Final = {
    "Comment": "color:var(--jp-mirror-editor-comment-color,#6a8759)",
    "Keyword": "color:var(--jp-mirror-editor-keyword-color,#0a8f3c);font-weight:bold",
    "Literal.String": "color:var(--jp-mirror-editor-string-color,#c0392b)",
    "Literal.Number": "color:var(--jp-mirror-editor-number-color,#178a4c)",
    "Operator": "color:var(--jp-mirror-editor-operator-color,#a626c4)",
    "Name.Function": "color:var(--jp-mirror-editor-def-color,#2f6fdb)",
    "Name.Class": "color:var(--jp-mirror-editor-def-color,#2f6fdb)",
    "Name.Decorator": "color:var(--jp-mirror-editor-meta-color,#a626c4)",
    "Name.Builtin": "color:var(--jp-mirror-editor-builtin-color,#178a4c)",
    "Name.Tag": "color:var(--jp-mirror-editor-tag-color,#0a8f3c)",
    "Name.Attribute": "color:var(--jp-mirror-editor-attribute-color,#2f6fdb)",
    "Generic.Deleted": "color:var(--jp-mirror-editor-error-color,#c0392b)",
    "Generic.Inserted": "color:var(--jp-mirror-editor-number-color,#178a4c)",
}


def highlight(code: str, language: str) -> str:
    """Return code as HTML, in colours if its language is known."""
    lexer = _lexer(language.lower()) if len(code) <= LENGTH_LIMIT else None
    if lexer is None:
        return escape(code, quote=False)
    pieces: list[str] = []
    limit = time.thread_time() + CPU_LIMIT_SECONDS
    for kind, text in lexer.get_tokens(code):
        if time.thread_time() > limit:
            return escape(code, quote=False)
        style = _style(kind)
        shown = escape(text, quote=False)
        pieces.append(f'<span style="{style}">{shown}</span>' if style else shown)
    return "".join(pieces)


@cache
def _lexer(language: str) -> Any:
    """Return a lexer, None if there is none."""
    if language not in _LANGUAGES:
        return None
    try:
        from pygments.lexers import get_lexer_by_name  # it may not be installed
        from pygments.util import ClassNotFound
    except ImportError:
        return None
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@cache
def _style(kind: Any) -> str:
    """Return the style of a kind of token; a kind without its own has that of its parent."""
    name = str(kind).removeprefix("Token.")
    while name not in _STYLES and "." in name:
        name = name.rpartition(".")[0]
    return _STYLES.get(name, "")
