"""The official core specification of Mustache, with text left unescaped.

The files in ``tests/mustache`` are those of https://github.com/mustache/spec (MIT).
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pytest

from blades import PromptError
from blades._prompts.mustache import compile_template, render

FOLDER = Path(__file__).parent / "mustache"
CASES = [
    pytest.param(case, id=f"{file.stem}: {case['name']}")
    for file in sorted(FOLDER.glob("*.json"))
    for case in json.loads(file.read_text(encoding="utf-8"))["tests"]
]
# Where the specification wants a blank for a name that is not there.
ABOUT_MISSING_NAMES = (
    "Context Miss",
    "Broken Chain",
    "Failed Lookup",
    "Dotted Names - Context Precedence",
    "Dotted Names are never single keys",
)


def rendered(case: dict[str, Any]) -> str:
    texts = case.get("partials", {})
    partials = {name: compile_template(text, name, texts, is_partial=True) for name, text in texts.items()}
    text, problems = render(compile_template(case["template"], "template", texts), (case["data"],), partials)
    if problems:
        raise PromptError(*problems)
    return text


@pytest.mark.parametrize("case", CASES)
def test_the_specification_holds(case: dict[str, Any]) -> None:
    """Every case gives its text unescaped; one about a missing name raises."""
    if any(words in case["name"] for words in ABOUT_MISSING_NAMES):
        with pytest.raises(PromptError, match=r"missing|expected a partial"):
            rendered(case)
    else:
        assert rendered(case) == html.unescape(case["expected"])
