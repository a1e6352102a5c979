"""Speak an answer while it is being written, sentence by sentence; without espeak-ng, print each with its time.

Run: pip install 'blades-sdk[speech]'; python examples/speak.py "Why is the sky blue?" en. Ctrl-C stops. Environment:
OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL, OPENAI_MODEL.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack

from blades import Agent
from blades.testing import LocalServer

FIRST_AT = 30  # characters, after which the first piece may go at a comma: the voice begins that much sooner


def main() -> None:
    """Ask, and say the sentences as they come."""
    question = sys.argv[1] if len(sys.argv) > 1 else "Why is the sky blue?"
    language = sys.argv[2] if len(sys.argv) > 2 else "en"  # noqa: PLR2004 - the second argument
    engine = shutil.which("espeak-ng")
    with ExitStack() as stack:
        server = None if os.environ.get("OPENAI_API_KEY") else stack.enter_context(LocalServer())
        base_url, model = server and server.base_url, os.environ.get("OPENAI_MODEL", "deepseek-chat")
        agent = stack.enter_context(Agent("speak", model=model, base_url=base_url, api_key=server and "local"))
        began = time.monotonic()
        stream = agent.run_stream(question)
        for sentence in stream.sentences(language, first_at=FIRST_AT, markdown="drop"):
            print(f"{time.monotonic() - began:6.2f} s  {' '.join(sentence.split())}", flush=True)
            if engine:  # the model writes on meanwhile
                subprocess.run([engine, "-v", language, "--stdin"], input=sentence, encoding="utf-8", check=True)  # noqa: S603 - it reads the text from its standard input
        print(f"[{stream.state.value}]", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
