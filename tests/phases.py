"""``python phases.py BASE_URL``: meet each phase of a stream, and print what came of it.

`test_interpreter` runs it in interpreters that are started in other ways; by hand, it runs inside other tools. It needs
the library alone, asserts nothing, for ``-O`` would drop that, and reads a line before it cancels what has no text yet.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from blades import Agent, PromptTemplate, StreamTimeout

if TYPE_CHECKING:
    from blades import Stream

EXPECTED = [
    "plain: 'Hello there.' finished",
    "template: 'a & b' arrived",
    "tool: '7' of 3 messages",
    "retry: 'Hello there.' finished",
    "stall: 'half ' cancelled",
    "event: 'half ' cancelled",
    "headers: '' cancelled",
    "back-off: '' cancelled",
    "limit: 'half ' StreamTimeout",
    "plain: 'Hello there.' finished",
]


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def show(name: str, stream: Stream) -> None:
    """Read the rest, and print how the stream ended."""
    text = stream.reply().text
    say(f"{name}: {text!r} {stream.state.value}")


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def main(base_url: str) -> None:
    """Play the phases, on one agent."""
    with Agent("phases", model="any", base_url=base_url, api_key="any") as agent:
        play(agent)


def play(agent: Agent) -> None:
    """Play the phases one after the other."""
    show("plain", agent.run_stream("plain"))
    prompt = PromptTemplate().user("echo {{what}}").build(what="a & b")
    say(f"template: {agent.run(prompt).text!r} arrived")
    reply = agent.run("tool", tools=[add])
    say(f"tool: {reply.text!r} of {len(reply.messages)} messages")
    show("retry", agent.run_stream("retry"))
    stream = agent.run_stream("stall")
    next(stream)
    stream.cancel()
    show("stall", stream)
    event = threading.Event()
    stream = agent.run_stream("stall", cancel=event)
    next(stream)
    event.set()
    show("event", stream)
    for name in ("headers", "back-off"):
        stream = agent.run_stream(name)
        sys.stdin.readline()  # the server has the request
        stream.cancel()
        show(name, stream)
    try:
        agent.run("stall", stall_timeout=0.5)
    except StreamTimeout as error:
        say(f"limit: {error.text!r} {type(error).__name__}")
    show("plain", agent.run_stream("plain"))


if __name__ == "__main__":
    main(sys.argv[1])
