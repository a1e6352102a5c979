"""A conversation. Enter or Ctrl-C cancels an answer, and the chat goes on, knowing the part that came; Ctrl-D leaves.

Run: python examples/chatbot.py [history.json], which is read at the start and written at the end. Environment:
OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL, OPENAI_MODEL.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue

from blades import Agent, Stream
from blades.testing import LocalServer


def read_questions(questions: SimpleQueue[str | None], answers: list[Stream]) -> None:
    """Read lines, in a thread of its own: each ends the answer under way."""
    for line in sys.stdin:
        for answer in answers if sys.stdin.isatty() else ():
            answer.cancel()
        if line.strip():
            questions.put(line.strip())
    questions.put(None)


def ask(questions: SimpleQueue[str | None]) -> str | None:
    """Wait for the next question."""
    print("> ", end="", file=sys.stderr, flush=True)
    return questions.get()


def main() -> None:
    """Ask for questions, and print the answers as they come."""
    file = Path(sys.argv[1] if len(sys.argv) > 1 else os.devnull)
    with ExitStack() as stack:
        server = None if os.environ.get("OPENAI_API_KEY") else stack.enter_context(LocalServer())
        base_url, model = server and server.base_url, os.environ.get("OPENAI_MODEL", "deepseek-chat")
        agent = stack.enter_context(Agent("chatbot", model=model, base_url=base_url, api_key=server and "local"))
        chat = agent.chat(history=json.loads(file.read_text("utf-8") or "[]") if file.exists() else [])
        questions, answers = SimpleQueue[str | None](), list[Stream]()
        threading.Thread(target=read_questions, args=(questions, answers), daemon=True).start()
        with suppress(KeyboardInterrupt):  # at the prompt; print() takes those in an answer
            while question := ask(questions):
                answers[:] = [chat.run_stream(question)]
                try:
                    ended = answers[0].print().finish_reason
                except Exception as error:  # noqa: BLE001 - the chat is as it was before the question, and goes on
                    ended = f"{type(error).__name__}: {error}"
                print(f"\n[{ended or 'cancelled'}]", flush=True)
        file.write_text(json.dumps(chat.messages, ensure_ascii=False, indent=1), "utf-8")


if __name__ == "__main__":
    main()
