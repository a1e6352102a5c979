"""A conversation. Enter or Ctrl-C cancels an answer, and the chat continues with the part that arrived; Ctrl-D leaves.

Set OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL and OPENAI_MODEL in the environment or in a
.env file.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from blades import Agent, Chat, Stream
from shared import describe, settings, start


def read_question() -> str:
    """Wait for a line, with line editing at a terminal."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        with suppress(ImportError):  # Windows has no readline, but editing of its own
            import readline  # loading it changes input()

            readline.parse_and_bind("set enable-bracketed-paste on")  # so that pasted lines are one question
        return input("> ").strip()
    print("> ", end="", file=sys.stderr, flush=True)
    return input().strip()


def cancel_on_enter(stream: Stream, ended: socket.socket, typed: list[str]) -> None:
    """Cancel at Enter, and keep what was typed. Runs in a thread of its own until the answer has ended."""
    if sys.stdin in select.select([sys.stdin, ended], [], [])[0]:
        typed.append(os.read(sys.stdin.fileno(), 65536).decode(errors="replace").strip())
        stream.cancel()


def answer(chat: Chat, question: str, typed: list[str]) -> None:
    """Print the answer to a question as it arrives."""
    stream = chat.run_stream(question)
    ended, end = socket.socketpair()
    watch = threading.Thread(target=cancel_on_enter, args=(stream, ended, typed), daemon=True)
    with ended, end:
        if sys.stdin.isatty() and sys.platform != "win32":
            watch.start()
        try:
            outcome = stream.print().finish_reason  # Ctrl-C ends the answer, not the chat
        except Exception as error:  # the chat is as it was before the question, and goes on
            outcome = "\n".join(describe(error))
        end.send(b"\0")
        if watch.ident:
            watch.join()
    print(f"\n[{outcome or 'cancelled'}]", flush=True)


def main() -> None:
    """Ask for questions, and print the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("history", nargs="?", type=Path, default=os.devnull, help="JSON, read first and written last")
    file: Path = parser.parse_args().history
    with settings() as given, Agent("chatbot", **given) as agent:
        chat = agent.chat(history=json.loads(file.read_text("utf-8") or "[]") if file.exists() else [])
        typed: list[str] = []  # during an answer
        with suppress(KeyboardInterrupt, EOFError):  # at the prompt
            while True:
                question = typed.pop() if typed else read_question()
                if question:
                    answer(chat, question, typed)
        file.write_text(json.dumps(chat.messages, ensure_ascii=False, indent=1), "utf-8")


if __name__ == "__main__":
    start(main)
