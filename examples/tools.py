"""Ask about the files of a folder. The model may list, read and search them; it can change nothing.

Run: python examples/tools.py [FOLDER [QUESTION]]. Enter cancels at any moment, also in the middle of a search.

Set OPENAI_API_KEY (without it a local test server answers), OPENAI_BASE_URL and OPENAI_MODEL in the environment or in a
.env file.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

from blades import Agent, Stream, ToolError
from shared import settings, start


class Folder:
    """The tools. Nothing outside the folder is read, whatever the model asks for, and nothing hidden."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve(strict=True)

    def list_files(self, pattern: str = "**/*") -> list[str]:
        """List the files of the folder whose names fit a glob, such as **/*.py: at most 500."""
        return [name for name, _ in self._files(pattern)[:500]]

    def read_file(self, name: str, first_character: int = 0) -> str:
        """Read a text file: 20,000 characters at a time."""
        for path in [path for found, path in self._files() if found == name]:
            return path.read_text("utf-8", "replace")[first_character : first_character + 20_000]
        raise ToolError(f"There is no file {name!r} in this folder: call list_files.")

    def search(self, text: str, pattern: str = "**/*", *, cancel: threading.Event) -> list[str]:
        """Find the lines that contain a text, in upper or lower case: at most 50, each as name:number: line."""
        found: list[str] = []
        for name, path in self._files(pattern):
            if cancel.is_set() or len(found) >= 50:  # set: the stream has ended, nobody waits
                break
            lines = path.read_text("utf-8", "replace").splitlines()
            found += [f"{name}:{n}: {line:.200}" for n, line in enumerate(lines, 1) if text.lower() in line.lower()]
        return found[:50]

    def _files(self, pattern: str = "**/*") -> list[tuple[str, Path]]:
        try:
            paths = sorted(self.root.glob(pattern))
        except (ValueError, NotImplementedError, IndexError) as error:  # the last one for "." before Python 3.13
            raise ToolError(f"{pattern!r} is no glob within this folder: {error}") from error
        files = []
        for path in paths:
            inner = path.resolve()  # a link may lead out of the folder
            name = inner.relative_to(self.root).as_posix() if inner.is_relative_to(self.root) else "/."
            if "/." not in f"/{name}" and inner.is_file():
                files.append((name, inner))
        return files


def cancel_on_enter(stream: Stream) -> None:
    """Wait for Enter, in a thread of its own."""
    sys.stdin.readline()
    stream.cancel()


def main() -> None:
    """Ask one question, and print the answer and each call of a tool as they arrive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=".", type=Path, help="default: the working directory")
    parser.add_argument("question", nargs="?", default="What is in this folder? Answer in three sentences.")
    arguments = parser.parse_args()
    folder = Folder(arguments.folder)
    with settings() as given, Agent("files", **given) as agent:
        stream = agent.run_stream(arguments.question, tools=[folder.list_files, folder.read_file, folder.search])
        if sys.stdin.isatty():
            threading.Thread(target=cancel_on_enter, args=(stream,), daemon=True).start()
        stream.print()
        print(f"\n[{stream.state.value}, {len(stream.messages)} messages, usage {stream.usage}]")


if __name__ == "__main__":
    start(main)
