"""One streamed answer. Enter cancels it at any moment; what was written so far stays.

Environment: OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL, OPENAI_MODEL.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import ExitStack

from blades import Agent, PromptTemplate, Stream
from blades.testing import LocalServer


def cancel_on_enter(stream: Stream) -> None:
    """Wait for Enter, in a thread of its own."""
    sys.stdin.readline()
    stream.cancel()


def main() -> None:
    """Ask, and print the answer as it comes."""
    with ExitStack() as stack:
        server = None if os.environ.get("OPENAI_API_KEY") else stack.enter_context(LocalServer())
        if server is not None:
            print(f"No OPENAI_API_KEY: a local test server answers at {server.base_url}", file=sys.stderr)
        agent = Agent(
            "demo-runstream",
            model=os.environ.get("OPENAI_MODEL", "deepseek-chat"),
            base_url=server and server.base_url,
            api_key=server and "local",
        )
        stack.enter_context(agent)  # closes its connections at the end
        prompt = (
            PromptTemplate()
            .system("请用三点简洁回答 {{topic}}", topic="预测S15总冠军")
            .user("请回答 {{audience}}，KT和T1谁最有可能在决赛中获得冠军", audience="用户")
            .build()
        )
        stream = agent.run_stream(prompt)
        if sys.stdin.isatty():
            print("(Enter cancels)", file=sys.stderr)
            threading.Thread(target=cancel_on_enter, args=(stream,), daemon=True).start()
        try:
            for chunk in stream:
                print(chunk.text, end="", flush=True)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, in one line, under the text so far
            sys.exit(f"\n{type(error).__name__}: {error}")
        print(f"\n[{stream.state.value}, {len(stream.text)} characters, usage {stream.usage}]")


if __name__ == "__main__":
    main()
