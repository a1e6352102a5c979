"""Speak an answer sentence by sentence while it arrives. Without espeak-ng, print each sentence with its time.

It needs sentencex (pip install sentencex). Ctrl-C stops.

Set OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL and OPENAI_MODEL in the environment or in a
.env file.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time

from blades import Agent
from shared import settings, start

FIRST_AT = 30  # characters, after which the first piece may end at a comma, so that the voice starts sooner


def main() -> None:
    """Ask, and speak the sentences as they arrive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", default="Why is the sky blue?")
    parser.add_argument("language", nargs="?", default="en", help="of the answer, such as en or zh")
    arguments = parser.parse_args()
    engine = shutil.which("espeak-ng")
    with settings() as given, Agent("speak", **given) as agent:
        began = time.monotonic()
        stream = agent.run_stream(arguments.question)
        for sentence in stream.sentences(arguments.language, first_at=FIRST_AT, markdown="drop"):
            print(f"{time.monotonic() - began:6.2f} s  {' '.join(sentence.split())}", flush=True)
            if engine:  # the answer goes on arriving meanwhile
                command = [engine, "-v", arguments.language, "--stdin"]
                subprocess.run(command, input=sentence, encoding="utf-8", check=True)  # noqa: S603 - a fixed program
        print(f"[{stream.state.value}]", file=sys.stderr)


if __name__ == "__main__":
    start(main)
