"""Fill in code at a cursor, up to the first blank line. Leaving the loop ends the stream: no more text is billed.

Set OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL and OPENAI_MODEL in the environment or in a
.env file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from blades import Agent, PromptTemplate
from shared import settings, start

CURSOR = "<CURSOR>"
TEMPLATE = (
    PromptTemplate()
    .system("You complete code. Answer with what comes at {{cursor}}: code alone, without explanation.", cursor=CURSOR)
    .user("{{path}}:\n\n{{before}}{{cursor}}{{after}}", cursor=CURSOR)
)


def around(place: str) -> tuple[str, str, str]:
    """Return the path, and the text before and after the cursor."""
    path, _, line = place.rpartition(":")
    if not line.isdigit():
        before, _, after = Path(place).read_text("utf-8").partition(CURSOR)
        return place, before, after
    lines = Path(path).read_text("utf-8").splitlines(keepends=True)
    return path, "".join(lines[: int(line)]), "".join(lines[int(line) :])


def main() -> None:
    """Print the missing lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", help=f"FILE:LINE (the cursor is at the end of that line), or FILE with {CURSOR} in it")
    path, before, after = around(parser.parse_args().place)
    with settings() as given, Agent("complete", temperature=0, **given) as agent:
        stream = agent.run_stream(TEMPLATE.build(path=path, before=before, after=after))
        written = False
        for line in stream.lines():
            fence = line.startswith("```")  # models fence code, whatever they are asked
            if written and (fence or not line.strip()):
                break
            if not fence:
                print(line, flush=True)
                written = True
        print(f"[{stream.state.value}]", file=sys.stderr)


if __name__ == "__main__":
    start(main)
