"""How the interpreter is started, and where the package lies, changes nothing of a stream."""

from __future__ import annotations

import subprocess
import sys
import zipapp
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import TYPE_CHECKING

import pytest

import blades
from blades.testing import Answer, LocalServer, Stall
from limits import START_SECONDS
from phases import EXPECTED

if TYPE_CHECKING:
    from blades.testing import Request

PHASES = Path(__file__).with_name("phases.py")
PACKAGE = Path(blades.__file__).parent
ISOLATED = (
    f"import runpy, sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); runpy.run_path(sys.argv[1])['main'](sys.argv[2])"
)


class Serve:
    """Answers by what is asked."""

    def __init__(self) -> None:
        self.tries = 0

    def __call__(self, request: Request) -> Answer | str:
        """Choose an answer."""
        messages = request.json["messages"]
        asked: str = messages[-1]["content"]
        if messages[-1]["role"] == "tool":
            return asked
        if asked.startswith("echo "):
            return asked.removeprefix("echo ")
        if asked == "retry":
            self.tries += 1
            return "Hello there." if self.tries > 1 else Answer.error(429, "busy", headers={"Retry-After-Ms": "20"})
        return {
            "plain": Answer.text("Hello there."),
            "tool": Answer(tool_calls=[("add", {"a": 3, "b": 4})]),
            "stall": Answer("half ", Stall()),
            "headers": Answer(before_headers=[Stall()]),
            "back-off": Answer.error(429, "busy", headers={"Retry-After": "50"}),
        }[asked]


def play(server: LocalServer, *command: str | Path) -> None:
    """Run the script, and compare what it prints."""
    server.default = Serve()
    with subprocess.Popen(
        [sys.executable, *command, server.base_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        try:
            for number in (9, 10):  # "headers", and after it "back-off"
                server.wait_for_request(number, START_SECONDS)
                process.stdin.write("\n")
                process.stdin.flush()
            output, errors = process.communicate(timeout=START_SECONDS)
        finally:
            process.kill()
    assert errors == ""
    assert output.splitlines() == EXPECTED
    assert process.returncode == 0


@pytest.mark.parametrize(
    "options", [["-OO"], ["-I", "-X", "dev", "-W", "error", "-bb"]], ids=["without docstrings", "isolated and strict"]
)
def test_options_of_the_interpreter(options: list[str], server: LocalServer) -> None:
    """Without assertions and docstrings; without the environment's paths and with every warning an error."""
    play(server, *options, "-c", ISOLATED, PHASES)


def test_a_zipped_package(server: LocalServer, tmp_path: Path) -> None:
    """The library in an archive, as zipapp and the tools built on it pack it."""
    folder, archive = tmp_path / "packed", tmp_path / "phases.pyz"
    copytree(PACKAGE, folder / "blades", ignore=ignore_patterns("__pycache__"))
    (folder / "phases.py").write_bytes(PHASES.read_bytes())
    main = "import sys\nimport blades, phases\nassert '.pyz' in blades.__file__\nphases.main(sys.argv[1])\n"
    (folder / "__main__.py").write_text(main, encoding="utf-8")
    zipapp.create_archive(folder, archive)
    play(server, archive)
