"""Every measured figure of README and docs/ is one of benchmarks/RESULTS.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"<!-- figures: ([\w-]+) -->\n(.*?)<!-- end of figures -->\n", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?!\w)")
MEASURED = re.compile(r"(?<![\w.,])([\d,.]*\d)(?= ?(?:µs|us|ms|KiB|MiB|chunks/s|prompts/s)\b)")


def blocks(text: str) -> dict[str, str]:
    """Return the blocks of figures by their names."""
    return {match[1]: match[2].strip() for match in BLOCK.finditer(text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_figures_are_those_of_the_results(page: Path) -> None:
    """`make bench` copies each block from RESULTS.md; nobody edits it by hand."""
    text = page.read_text(encoding="utf-8")
    found = blocks(text)
    assert text.count("<!-- figures:") == text.count("<!-- end of figures -->") == len(found)
    assert found == {name: blocks(RESULTS).get(name) for name in found}


def test_the_readme_shows_the_summary_of_the_results() -> None:
    """Its table is a block of figures, and each figure of it stands in a table of measurements, too."""
    summary = blocks((ROOT / "README.md").read_text(encoding="utf-8"))["summary"]
    measured = set(NUMBER.findall(BLOCK.sub("", RESULTS)))
    values = [cell for line in summary.splitlines() for cell in line.strip("|").split("|")[1:]]
    figures = NUMBER.findall("|".join(values))
    assert len(figures) > 5
    assert [figure for figure in figures if figure not in measured] == []


def test_the_readme_has_no_other_measured_figures() -> None:
    """A figure in its text is one of the summary: text that is written by hand goes out of date."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", BLOCK.sub("", text), flags=re.MULTILINE | re.DOTALL)
    assert set(MEASURED.findall(prose)) <= set(NUMBER.findall(blocks(RESULTS)["summary"]))
