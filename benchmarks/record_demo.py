"""Record examples/run_stream.py in a terminal as docs/demo.svg: text appears, Enter, the partial answer, the state.

Run: python benchmarks/record_demo.py (``make demo-recording``). The demo is a real run in a pseudo-terminal, with the
local test server; the picture plays what the terminal showed, at the times at which it did.
"""

from __future__ import annotations

import os
import pty
import select
import struct
import sys
import time
from dataclasses import dataclass
from fcntl import ioctl
from html import escape
from itertools import groupby
from pathlib import Path
from termios import TIOCSWINSZ
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

import pyte

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "demo.svg"
COMMAND = "python examples/run_stream.py"
COLUMNS, ROWS = 84, 12
ENTER_AFTER_SECONDS = 2.2
"""From the first character of the answer to the key."""
LIMIT_SECONDS = 60.0
PAUSE_SECONDS = 4.0
"""How long the last screen stays before the picture starts again."""
TYPING_SECONDS = 0.04
STEP_SECONDS = 0.03
"""Screens that are closer together than this are one."""
WIDTH, HEIGHT, MARGIN = 8.4, 20.0, 18.0
"""Of a cell and of the window's margin, in pixels."""
STYLE = """<style>
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #e6edf3;
  white-space: pre }
.window { fill: #161b22; stroke: #6e7681 } .dim { fill: #8b949e } .key { fill: #0f8f7e } .on-key { fill: #ffffff }
</style>"""


@dataclass(frozen=True, slots=True)
class Screen:
    """What the terminal shows from a time on, in seconds."""

    seconds: float
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """The screens of a run, and when Enter was pressed."""

    screens: list[Screen]
    enter_seconds: float


def typed(screen: pyte.Screen, stream: pyte.Stream) -> Iterator[Screen]:
    """Show the command being typed."""
    stream.feed("$ ")
    yield Screen(0.0, tuple(screen.display))
    for number, character in enumerate(COMMAND, 1):
        stream.feed(character)
        yield Screen(0.6 + number * TYPING_SECONDS, tuple(screen.display))
    stream.feed("\r\n")


def record() -> Recording:
    """Run the demo in a pseudo-terminal; press Enter while the answer is on its way."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.Stream(screen)
    screens = list(typed(screen, stream))
    start, began = screens[-1].seconds + 0.4, time.monotonic()
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, *COMMAND.split()[1:]], {**environment, "TERM": "linux"})
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    answer_seconds = enter_seconds = 0.0
    shown = ""
    while True:
        now = start + time.monotonic() - began
        assert now < LIMIT_SECONDS
        if answer_seconds and not enter_seconds and now - answer_seconds > ENTER_AFTER_SECONDS:
            os.write(terminal, b"\n")
            enter_seconds = now
        if not select.select([terminal], [], [], 0.01)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:  # what Linux raises when the process has ended
            break
        text = data.decode()
        shown += text
        stream.feed(text)
        screens.append(Screen(now, tuple(screen.display)))
        if not answer_seconds and len(shown.partition("(Enter cancels)")[2].strip()) > 0:
            answer_seconds = now
    assert os.waitpid(pid, 0)[1] == 0
    assert "[cancelled" in shown, shown
    stream.feed("$ ")
    screens.append(Screen(screens[-1].seconds + 0.1, tuple(screen.display)))
    return Recording(screens, enter_seconds)


def spans(screens: list[Screen], end_seconds: float) -> Iterator[tuple[int, str, float, float]]:
    """Yield the row, the text, the start and the end of everything that a line showed."""
    for row in range(ROWS):
        changes: list[tuple[float, str]] = [(0.0, "")]
        for screen in screens:
            text = screen.lines[row].rstrip()
            if text != changes[-1][1]:
                if screen.seconds - changes[-1][0] < STEP_SECONDS:
                    changes[-1] = (changes[-1][0], text)
                else:
                    changes.append((screen.seconds, text))
        ends = [start for start, _ in changes[1:]] + [end_seconds]
        for (start, text), end in zip(changes, ends, strict=True):
            if text:
                yield row, text, start, end


def visible(start: float, end: float, duration: float) -> str:
    """Return the animation of something that is visible for a part of the time."""
    times = f"0;{start / duration:.5f};{min(end / duration, 1):.5f}"
    values = "hidden;visible;hidden" if end < duration else "hidden;visible;visible"
    return (
        f'<animate attributeName="visibility" values="{values}" keyTimes="{times}" calcMode="discrete" '
        f'dur="{duration:.2f}s" repeatCount="indefinite"/>'
    )


def is_wide(character: str) -> bool:
    return east_asian_width(character) in "WF"


def draw_line(row: int, text: str) -> str:
    """Draw a line; runs of wide and of narrow characters are each stretched to their cells."""
    parts, column = [], 0
    for wide, characters in groupby(text, is_wide):
        run = "".join(characters)
        cells = len(run) * (2 if wide else 1)
        if run.strip():
            place = f'x="{MARGIN + column * WIDTH:.1f}" textLength="{cells * WIDTH:.1f}"'
            parts.append(f'<tspan {place} lengthAdjust="spacingAndGlyphs">{escape(run)}</tspan>')
        column += cells
    return f'<text y="{2 * MARGIN + (row + 1) * HEIGHT:.0f}">{"".join(parts)}</text>'


def draw(recording: Recording) -> str:
    """Draw the recording. Where nothing is animated, the last screen is shown."""
    duration = recording.screens[-1].seconds + PAUSE_SECONDS
    width, height = COLUMNS * WIDTH + 2 * MARGIN, (ROWS + 1) * HEIGHT + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">',
        "<title>A streamed answer in a terminal, cancelled by Enter</title>",
        STYLE,
        f'<rect class="window" x="1" y="1" width="{width - 2:.0f}" height="{height - 2:.0f}" rx="8"/>',
        f'<text class="dim" x="{width / 2:.0f}" y="{MARGIN + 6:.0f}" text-anchor="middle">{COMMAND}</text>',
    ]
    for row, text, start, end in spans(recording.screens, duration):
        shown = "visible" if end >= duration else "hidden"
        parts.append(f'<g visibility="{shown}">{draw_line(row, text)}{visible(start, end, duration)}</g>')
    key = f'<rect class="key" x="{width - 110:.0f}" y="{height - 46:.0f}" width="92" height="30" rx="6"/>'
    place = f'x="{width - 64:.0f}" y="{height - 26:.0f}" text-anchor="middle"'
    word = f'<text class="on-key" {place}>Enter \N{RETURN SYMBOL}</text>'
    pressed = visible(recording.enter_seconds, recording.enter_seconds + 1.2, duration)
    parts += [f'<g visibility="hidden">{key}{word}{pressed}</g>', "</svg>\n"]
    return "\n".join(parts)


def main() -> None:
    PICTURE.write_text(draw(record()), encoding="utf-8")


if __name__ == "__main__":
    main()
