"""Translate standard input line by line, as the lines arrive.

Run: tail -f some.log | python examples/translate.py French. Ctrl-C stops. Environment: OPENAI_API_KEY (without it a
local test server answers), OPENAI_BASE_URL, OPENAI_MODEL.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack

from blades import Agent, PromptTemplate
from blades.testing import LocalServer

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
    with ExitStack() as stack:
        server = None if os.environ.get("OPENAI_API_KEY") else stack.enter_context(LocalServer())
        if server is not None:
            print("No OPENAI_API_KEY: a local test server answers.", file=sys.stderr)
        base_url, model = server and server.base_url, os.environ.get("OPENAI_MODEL", "deepseek-chat")
        agent = stack.enter_context(
            Agent("translate", model=model, base_url=base_url, api_key=server and "local", temperature=0)
        )
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
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # the message and its notes, without a traceback
        sys.exit("\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]))
