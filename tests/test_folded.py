"""Reasoning and tool calls as a notebook shows them."""

from __future__ import annotations

from attacks import DOCUMENTS, examine
from blades import ToolCall, ToolResult
from blades._output.folded import FOLDED_CHARACTERS, fold_calls, fold_reasoning, fold_results

FOLDS = frozenset({"details", "summary"})


def test_result_is_one_line_that_opens() -> None:
    """The line is short; arguments and result are in it whole."""
    call = ToolCall(name="search", arguments='{"query": "tea"}')
    block = fold_results([ToolResult(call, text='["a", "b", "c"]', seconds=0.84)])
    assert block.source == 'search(query="tea") -> 3 items, 0.8 s\n'
    assert '>search(query="tea") -&gt; 3 items, 0.8 s</summary>' in block.html
    assert '>{"query": "tea"}</pre>' in block.html
    assert '>["a", "b", "c"]</pre></details>' in block.html


def test_long_arguments_and_results_are_shown_in_part() -> None:
    """A front end would freeze over megabytes that nobody opens."""
    long = "x" * 10_000_000
    for block in (
        fold_results([ToolResult(ToolCall(name="f", arguments=long), text=long)]),
        fold_calls([ToolCall(arguments=long)]),
    ):
        assert len(block.html) < 3 * FOLDED_CHARACTERS
        assert "x\n… 9,980,000 more characters</pre>" in block.html


def test_call_without_a_result_is_shown() -> None:
    """While the tool runs, and for tools that are not run here."""
    block = fold_calls([ToolCall(name="search", arguments='{"query": "tea"}'), ToolCall(name="stop")])
    assert block.source == '\nsearch(query="tea")\nstop()'
    assert block.html.count("<details>") == 2


def test_attacks_are_harmless() -> None:
    """In a name, in arguments, in a result, in an error and in reasoning; formulas are not typeset."""
    for text in (*DOCUMENTS.values(), "\x1b]0;title\x07\x1b[31m"):
        call = ToolCall(name=text, arguments=text)
        results = fold_results([ToolResult(call, text=text), ToolResult(call, text=text, error=text)])
        for block in (results, fold_calls([call]), fold_reasoning(text)):
            found = examine(block.html, FOLDS)
            assert {fault for fault in found.faults if "style='" not in fault} == set()
            signs = [tag for tag, shown in found.texts if "$" in shown or "\\" in shown]
            assert all(tag == "span" for tag in signs)
            assert not {"\x1b", "\x07"} & set(block.html + block.source)
