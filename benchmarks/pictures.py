"""Draw docs/benchmarks.svg from the tables of RESULTS.md.

Run: python benchmarks/pictures.py (``make bench`` does so). The picture has no background; its text and lines take a
colour for light and for dark pages from ``prefers-color-scheme``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from common import HERE
from figures import RESULTS, Results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

PICTURE = HERE.parent / "docs" / "benchmarks.svg"
OURS, OFFICIAL, OTHER, LIMIT = "#0f8f7e", "#d9742b", "#8a6bbf", "#8b949e"
INK = "#12ab34"
"""A colour that stands for the page's ink in the drawing, and occurs nowhere else in it."""
STYLE = """<style>
.ink-fill { fill: #1f2328 } .ink-stroke { stroke: #1f2328 }
@media (prefers-color-scheme: dark) { .ink-fill { fill: #e6edf3 } .ink-stroke { stroke: #e6edf3 } }
</style>
"""
INKED = ("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "text.color", "xtick.color", "ytick.color")
SETTINGS = {
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "font.sans-serif": ["DejaVu Sans"],
    "svg.fonttype": "none",
    "svg.hashsalt": "blades",
    "ytick.left": False,
}
PHASES = {
    "DNS look-up": "DNS look-up without an answer",
    "TCP connect": "TCP connect without an answer",
    "TLS handshake": "TLS handshake without an answer",
    "proxy's CONNECT": "CONNECT to a proxy without an answer",
    "wait for headers": "headers, re-used connection, TLS",
    "between tokens": "tokens, re-used connection, TLS",
    "retry back-off": "back-off, 429 with Retry-After: 20",
    "tokens, your own Event": "tokens, cancelled by a threading.Event of the caller",
}
PEER_PHASES = {
    "wait for headers": "cancel before headers, ms",
    "between tokens": "cancel between tokens, ms",
    "retry back-off": "cancel in back-off, ms",
}
PEERS = {"pydantic-ai-slim": ("pydantic-ai", "s"), "chatlas": ("chatlas", "^")}
"""Other clients that name a way to cancel a synchronous stream, and their marks."""
NEVER_WORDS = "not in 5 s, or\nno handle yet"
NEVER_MS = 5_000.0
"""Where a reader that is still blocked when the measurement ends is drawn."""


def draw_cancel(axes: Axes, results: Results) -> None:
    """Draw the latency of a cancel: a bar from the median to the p99 for ours, marks for other clients."""
    names = list(PHASES)
    for place, line in enumerate(PHASES.values()):
        median = results.number(line, "next() returns: median")
        p99 = results.number(line, "next() returns: p99")
        assert median is not None
        assert p99 is not None
        axes.plot([median, p99], [place, place], color=OURS, linewidth=5, solid_capstyle="round", alpha=0.45)
        axes.plot(median, place, "o", color=OURS, markersize=7, label="blades: median, to p99" if place == 0 else None)
    peers: dict[str, Sequence[Any]] = {"openai ": ("openai.Stream.close()", "D", OFFICIAL)}
    peers |= {f"{start} ": (*label, OTHER) for start, label in PEERS.items()}
    for number, (start, (label, mark, color)) in enumerate(peers.items()):
        for phase, column in PEER_PHASES.items():
            for line in results.lines(start):
                draw_peer(axes, results.text(line, column), names.index(phase) + 0.16 * (number - 1), mark, color)
        if results.lines(start):
            axes.plot([], [], mark, color=color, label=label, linestyle="none")
    axes.axvline(NEVER_MS, color=LIMIT, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlim=(0.02, 20_000), yticks=range(len(names)), yticklabels=names)
    axes.set_xticks(
        [0.1, 1, 10, 100, 1000, NEVER_MS], ["0.1", "1", "10", "100", "1,000", "not in 5 s, or\nno handle yet"]
    )
    axes.minorticks_off()
    axes.invert_yaxis()
    axes.set_title("From cancel to the reader's return, ms (left is better)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=4, frameon=False)


def draw_peer(axes: Axes, text: str, place: float, mark: str, color: str) -> None:
    """Draw one measurement of another client; one that it has no way for is left out."""
    if re.fullmatch(r"[\d.,]+", text):
        axes.plot(float(text.replace(",", "")), place, mark, color=color, markersize=6)
    elif text.startswith((">", "no handle")):
        axes.plot(NEVER_MS, place, mark, color=color, markersize=6)


def draw_cpu(axes: Axes, results: Results) -> None:
    """Draw the CPU per chunk."""
    lines = {
        "burst": "chunk in a burst, ours / floor (us of CPU)",
        "1 live": "chunk, paced, 1 live, ours / socket (us of CPU)",
        "20 live": "chunk, paced, 20 live, ours / socket (us of CPU)",
        "100 live": "chunk, paced, 100 live, ours / socket (us of CPU)",
    }
    columns = {
        "socket": ("plain socket and json.loads", LIMIT),
        "ours": ("blades", OURS),
        "openai.Stream": ("openai.Stream", OFFICIAL),
    }
    for number, (column, (label, color)) in enumerate(columns.items()):
        values = [results.number(line, column) for line in lines.values()]
        places = [place + 0.27 * (number - 1) for place in range(len(lines))]
        draw_bars(axes, places, values, color, label)
    axes.set_xticks(range(len(lines)), list(lines))
    axes.set_yticks([])
    axes.set_title("CPU per chunk, µs: in a burst, and live streams at 50 chunks/s")
    axes.legend(loc="upper right", frameon=False)


def draw_streams(axes: Axes, results: Results) -> None:
    """Draw the number of live streams."""
    line = "live streams with p99 under 50 ms"
    columns = {"socket": "plain\nsocket", "ours": "blades", "openai.Stream": "openai.\nStream"}
    for place, (column, color) in enumerate(zip(columns, (LIMIT, OURS, OFFICIAL), strict=True)):
        draw_bars(axes, [place], [results.number(line, column)], color, None)
    axes.set_xticks(range(len(columns)), list(columns.values()))
    axes.set_yticks([])
    axes.set_title("Live streams, p99 < 50 ms")


def draw_bars(
    axes: Axes, places: Sequence[float], values: Sequence[float | None], color: str, label: str | None
) -> None:
    """Draw bars with their values; a value that was not measured has none."""
    known = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
    bars = axes.bar([place for place, _ in known], [value for _, value in known], 0.25, color=color, label=label)
    axes.bar_label(bars, [f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for _, value in known], padding=2)
    axes.margins(y=0.12)


def adapt_to_page(svg: str) -> str:
    """Let what is drawn in ink follow the page's colours."""

    def classes(match: re.Match[str]) -> str:
        inked = [name for name in ("fill", "stroke") if f"{name}: {INK}" in match[1]]
        style = re.sub(rf"(fill|stroke): {INK};? ?", "", match[1])
        return f'class="{" ".join(f"ink-{name}" for name in inked)}" style="{style}"' if inked else match[0]

    svg = re.sub(r'style="([^"]*)"', classes, svg)
    assert INK not in svg
    return re.sub(r"(<svg [^>]*>\n)", rf"\1{STYLE}", svg, count=1)


def main() -> None:
    mpl.rcParams.update(SETTINGS | dict.fromkeys(INKED, INK))
    results = Results(RESULTS.read_text(encoding="utf-8"))
    figure = plt.figure(figsize=(10, 7.6), layout="constrained")
    grid = figure.add_gridspec(2, 3, height_ratios=(1.15, 1), wspace=0.08)
    draw_cancel(figure.add_subplot(grid[0, :]), results)
    draw_cpu(figure.add_subplot(grid[1, :2]), results)
    draw_streams(figure.add_subplot(grid[1, 2]), results)
    figure.savefig(PICTURE, transparent=True, metadata={"Date": None})
    PICTURE.write_text(adapt_to_page(PICTURE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
