"""Translate standard input, line by line as it arrives, each while it is being written.

Run: tail -f some.log | python examples/translate.py French. Ctrl-C stops. Environment: OPENAI_API_KEY (without it a
local test server answers), OPENAI_BASE_URL, OPENAI_MODEL.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

from blades import Agent, PromptTemplate
from blades.testing import LocalServer

TEMPLATE = (
    PromptTemplate()
    .system("Translate what the user writes into {{language}}. Answer with the translation alone.")
    .history("line_before")  # so that the lines fit together
    .user("{{text}}")
)


def main() -> None:
    """Read, ask and print."""
    language = sys.argv[1] if len(sys.argv) > 1 else "English"
    with ExitStack() as stack:
        server = None if os.environ.get("OPENAI_API_KEY") else stack.enter_context(LocalServer())
        base_url, model = server and server.base_url, os.environ.get("OPENAI_MODEL", "deepseek-chat")
        agent = stack.enter_context(
            Agent("translate", model=model, base_url=base_url, api_key=server and "local", temperature=0)
        )
        line_before: list[dict[str, str]] = []
        for line in sys.stdin:
            text = line.strip()
            if text:
                reply = agent.run_stream(TEMPLATE.build(language=language, text=text, line_before=line_before)).print()
                if not reply.complete:  # Ctrl-C
                    break
                line_before = [{"role": "user", "content": text}, {"role": "assistant", "content": reply.text}]
            if not (text and sys.stdout.isatty()):  # where print() has ended the line
                print(flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # while waiting for a line
        sys.exit(130)
