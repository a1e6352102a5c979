"""One streamed answer. Enter cancels it at any moment; the text so far stays.

Set OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL and OPENAI_MODEL in the environment or in a
.env file.
"""

from __future__ import annotations

import argparse
import sys
import threading

from blades import Agent, PromptTemplate, Stream
from shared import settings, start

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
    with settings() as given, Agent("demo-runstream", **given) as agent:
        stream = agent.run_stream(template.build())
        if sys.stdin.isatty():
            print("(Enter cancels)", file=sys.stderr)
            threading.Thread(target=cancel_on_enter, args=(stream,), daemon=True).start()
        for chunk in stream:
            print(chunk.text, end="", flush=True)
        print(f"\n[{stream.state.value}, {len(stream.text)} characters, usage {stream.usage}]")


if __name__ == "__main__":
    start(main)
