"""The figures that README and docs/ show: taken from RESULTS.md, put between marks in the pages.

A page has ``<!-- figures: NAME -->`` and ``<!-- end of figures -->``; what is between them is the block of that name in
RESULTS.md, word for word, as tests/test_figures.py checks. Run: python benchmarks/figures.py (``make bench`` does so).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from common import HERE, lay_out

if TYPE_CHECKING:
    from pathlib import Path

RESULTS: Final = HERE / "RESULTS.md"
PAGES: Final = (HERE.parent / "README.md", *sorted((HERE.parent / "docs").glob("*.md")))
BLOCK: Final = re.compile(r"<!-- figures: (?P<name>[\w-]+) -->\n(?P<text>.*?)<!-- end of figures -->\n", re.DOTALL)
PROMPTS: Final = 1_000_000
CHUNKS_PER_ANSWER: Final = 500
CHUNKS_PER_SECOND: Final = 50


class Results:
    """The tables of a RESULTS.md.

    Args:
        text: The whole page.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[str, dict[str, str]] = {}
        head: list[str] = []
        for line in text.splitlines():
            if not line.startswith("|"):
                head = []
                continue
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not head:
                head = cells
            elif not cells[0].startswith("---"):
                self._lines.setdefault(cells[0], dict(zip(head, cells, strict=True)))

    def text(self, line: str, column: str) -> str:
        """Return a cell, by the first cell of its line and the head of its column."""
        return self._lines[line][column]

    def number(self, line: str, column: str) -> float | None:
        """Return a cell as a number, None if it has none."""
        text = self.text(line, column).replace(",", "")
        return float(text) if re.fullmatch(r"[\d.]+", text) else None

    def lines(self, start: str) -> list[str]:
        """Return the first cells that start with a text."""
        return [line for line in self._lines if line.startswith(start)]


def block(name: str, text: str) -> str:
    """Return a block with its marks."""
    return f"<!-- figures: {name} -->\n{text}\n<!-- end of figures -->"


def blocks(page: str) -> dict[str, str]:
    """Return the blocks of a page."""
    return {match["name"]: match["text"].strip() for match in BLOCK.finditer(page)}


def summary(results: Results) -> str:
    """Return the table of the README."""
    cancelled = "next() returns: median"
    burst, paced = "chunk in a burst, ours / floor (us of CPU)", "chunk, paced, {} live, ours / socket (us of CPU)"
    ours, official = "ours", "openai.Stream"

    def both(line: str, unit: str = "") -> list[str]:
        return [f"{results.text(line, column)}{unit}" for column in (ours, official)]

    cells = [
        ["", "blades", "`openai.Stream`"],
        [
            "`next()` returns after `cancel()`, server silent (median)",
            f"{results.text('tokens, re-used connection, plain', cancelled)} ms",
            "after the read timeout",
        ],
        [
            "`next()` returns after a `threading.Event` of yours is set (median)",
            f"{results.text('tokens, cancelled by a threading.Event of the caller', cancelled)} ms",
            "-",
        ],
        ["an answer whose body ends early", "raises, with the text so far", "ends silently"],
        ["CPU per chunk, burst", *both(burst, " µs")],
        [f"CPU per chunk, 20 streams at {CHUNKS_PER_SECOND} chunks/s", *both(paced.format(20), " µs")],
        [
            f"added latency, 100 streams at {CHUNKS_PER_SECOND} chunks/s (p99)",
            *both("added latency p99, 100 live (ms)", " ms"),
        ],
        ["concurrent streams at that rate with p99 under 50 ms", *both("live streams with p99 under 50 ms")],
        ["connections for ten streams in sequence", *both("connections for ten streams")],
    ]
    return lay_out(cells)


def million(results: Results) -> str:
    """Return the arithmetic for a million prompts, from the CPU of a chunk with 100 live streams."""
    cpu_us = results.number("chunk, paced, 100 live, ours / socket (us of CPU)", "ours") or 0.0
    cells = [["answers at once", "chunks/s", "cores of the client side", "a million answers take"]]
    answer_seconds = CHUNKS_PER_ANSWER / CHUNKS_PER_SECOND
    for at_once in (100, 1_000, 10_000):
        rate = at_once * CHUNKS_PER_SECOND
        hours = PROMPTS * answer_seconds / at_once / 3600
        took = (
            f"{hours:.0f} hours" if hours >= 10 else f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"
        )
        cells.append([f"{at_once:,}", f"{rate:,}", f"{rate * cpu_us / 1e6:.1f}", took])
    return lay_out(cells)


def update(page: Path, new: dict[str, str]) -> None:
    """Put the blocks into a page; a block that is not among the new ones stays as it is."""
    text = page.read_text(encoding="utf-8")
    page.write_text(
        BLOCK.sub(lambda match: f"{block(match['name'], new.get(match['name'], match['text'].strip()))}\n", text),
        encoding="utf-8",
    )


def main() -> None:
    """Update README and docs/ from RESULTS.md."""
    new = blocks(RESULTS.read_text(encoding="utf-8"))
    for page in PAGES:
        update(page, new)


if __name__ == "__main__":
    main()
