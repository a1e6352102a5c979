"""One streamed answer. Enter cancels it at any moment; the text so far stays.

Environment: OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL, OPENAI_MODEL.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from contextlib import ExitStack

from blades import Agent, PromptTemplate, Stream
from blades.testing import LocalServer

CHINESE = (
    PromptTemplate()
    .system("请用三点简洁回答 {{topic}}", topic="预测S15总冠军")
    .user("请回答 {{audience}}，KT和T1谁最有可能在决赛中获得冠军", audience="用户")
)
ENGLISH = (
    PromptTemplate()
    .system("Answer in three short points: {{topic}}", topic="predict the champion of S15")
    .user("Tell {{audience}}: KT or T1, who is more likely to win the final?", audience="users")
)


def cancel_on_enter(stream: Stream) -> None:
    """Wait for Enter. Runs in a thread of its own."""
    sys.stdin.readline()
    stream.cancel()


def main() -> None:
    """Ask, and print the answer as it arrives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--english", action="store_true", help="ask in English instead of Chinese")
    template = ENGLISH if parser.parse_args().english else CHINESE
    with ExitStack() as stack:
        server = None if os.environ.get("OPENAI_API_KEY") else stack.enter_context(LocalServer())
        if server is not None:
            print("No OPENAI_API_KEY: a local test server answers.", file=sys.stderr)
        base_url, model = server and server.base_url, os.environ.get("OPENAI_MODEL", "deepseek-chat")
        agent = stack.enter_context(Agent("demo-runstream", model=model, base_url=base_url, api_key=server and "local"))
        stream = agent.run_stream(template.build())
        if sys.stdin.isatty():
            print("(Enter cancels)", file=sys.stderr)
            threading.Thread(target=cancel_on_enter, args=(stream,), daemon=True).start()
        for chunk in stream:
            print(chunk.text, end="", flush=True)
        print(f"\n[{stream.state.value}, {len(stream.text)} characters, usage {stream.usage}]")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # the message and its notes, without a traceback
        sys.exit("\n".join([f"\n{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]))
