"""Translate standard input line by line, as the lines arrive.

Run: tail -f some.log | python examples/translate.py French. Ctrl-C stops.

Set OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL and OPENAI_MODEL in the environment or in a
.env file.
"""

from __future__ import annotations

import argparse
import sys

from blades import Agent, PromptTemplate
from shared import settings, start

TEMPLATE = (
    PromptTemplate()
    .system("Translate what the user writes into {{language}}. Answer with the translation alone.")
    .history("line_before")  # keeps the lines consistent
    .user("{{text}}")
)


def main() -> None:
    """Read, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("language", nargs="?", default="English", help="the language to translate into")
    language = parser.parse_args().language
    with settings() as given, Agent("translate", temperature=0, **given) as agent:
        line_before: list[dict[str, str]] = []
        for line in sys.stdin:
            text = line.strip()
            if text:
                reply = agent.run_stream(TEMPLATE.build(language=language, text=text, line_before=line_before)).print()
                if not reply.complete:  # cancelled by Ctrl-C
                    break
                line_before = [{"role": "user", "content": text}, {"role": "assistant", "content": reply.text}]
            if not (text and sys.stdout.isatty()):  # print() has ended the line already
                print(flush=True)


if __name__ == "__main__":
    start(main)
