"""Extract the same facts from each paragraph of a text file, as JSON lines.

Run: python examples/extract.py TEXTS [OUTPUT]. On a terminal, a bar shows the progress and the object that is growing.
Ctrl-C ends it; what was written stays.

Set OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL and OPENAI_MODEL in the environment or in a
.env file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from blades import Agent, ReplyParseError, StreamError
from blades.testing import Answer, Request
from shared import settings, start


@dataclass
class Facts:
    """What a text is about."""

    title: Annotated[str, Field(description="at most six words")]
    language: Annotated[str, Field(description="an ISO 639 code")]
    mood: Literal["glad", "neutral", "sad"]
    names: Annotated[list[str], Field(description="people, places and organisations, as they are written")]


def made_up(request: Request) -> Answer:
    """Answer without a model: the first words as the title, words with a capital as names."""
    words = request.json["messages"][-1]["content"].partition("\n\n")[2].split()
    names = sorted({word.strip(".,;:!?") for word in words if word[0].isupper()})
    facts = Facts(title=" ".join(words[:6]), language="en", mood="neutral", names=names)
    return Answer.text(json.dumps(asdict(facts), ensure_ascii=False), pause=0.02)


def show(done: int, count: int, growing: object) -> None:
    """Draw the bar, and what there is of the object, over the last line."""
    width = shutil.get_terminal_size().columns - 1
    bar = "#" * (20 * done // count)
    text = "" if growing is None else json.dumps(growing)  # in ASCII: nothing in it moves the cursor
    print(f"\r\x1b[K{f'[{bar:<20}] {done}/{count} {text}':.{width}}", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Ask once for each paragraph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, help="a text file, paragraphs separated by empty lines")
    parser.add_argument("output", type=Path, nargs="?", help="where to write; the standard output if left out")
    arguments = parser.parse_args()
    failed = 0
    with ExitStack() as stack:
        try:
            texts = [text.strip() for text in arguments.texts.read_text("utf-8").split("\n\n") if text.strip()]
            file = arguments.output
            output = sys.stdout if file is None else stack.enter_context(file.open("w", encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            parser.error(str(error))
        given = stack.enter_context(settings(default=made_up))
        agent = stack.enter_context(Agent("extract", response_format=Facts, **given))
        for number, text in enumerate(texts, 1):
            stream = agent.run_stream(f"Extract the facts from this text, as a JSON object:\n\n{text}")
            try:
                for _ in stream:
                    if sys.stderr.isatty():
                        show(number, len(texts), stream.partial)
                facts = stream.parsed
            except (ReplyParseError, StreamError) as error:
                failed += 1
                print(f"\rparagraph {number}: {type(error).__name__}: {error}", file=sys.stderr)
            else:
                print(json.dumps(asdict(facts), ensure_ascii=False), file=output, flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    start(main)
