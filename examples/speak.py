"""Speak an answer sentence by sentence while it arrives. Without espeak-ng, print each sentence with its time.

Install 'blades-sdk[speech]'. Ctrl-C stops. Environment: OPENAI_API_KEY (without it a local test server answers),
OPENAI_BASE_URL, OPENAI_MODEL.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack

from blades import Agent
from blades.testing import LocalServer

FIRST_AT = 30  # characters, after which the first piece may end at a comma, so that the voice starts sooner


def main() -> None:
    """Ask, and speak the sentences as they arrive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", default="Why is the sky blue?")
    parser.add_argument("language", nargs="?", default="en", help="of the answer, such as en or zh")
    arguments = parser.parse_args()
    engine = shutil.which("espeak-ng")
    with ExitStack() as stack:
        server = None if os.environ.get("OPENAI_API_KEY") else stack.enter_context(LocalServer())
        if server is not None:
            print("No OPENAI_API_KEY: a local test server answers.", file=sys.stderr)
        base_url, model = server and server.base_url, os.environ.get("OPENAI_MODEL", "deepseek-chat")
        agent = stack.enter_context(Agent("speak", model=model, base_url=base_url, api_key=server and "local"))
        began = time.monotonic()
        stream = agent.run_stream(arguments.question)
        for sentence in stream.sentences(arguments.language, first_at=FIRST_AT, markdown="drop"):
            print(f"{time.monotonic() - began:6.2f} s  {' '.join(sentence.split())}", flush=True)
            if engine:  # the answer goes on arriving meanwhile
                command = [engine, "-v", arguments.language, "--stdin"]
                subprocess.run(command, input=sentence, encoding="utf-8", check=True)  # noqa: S603 - a fixed program
        print(f"[{stream.state.value}]", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # the message and its notes, without a traceback
        sys.exit("\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]))
