"""The Makefile uses no environment of another interpreter than `PYTHON`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from limits import START_SECONDS

MAKEFILE = Path(__file__).parent.parent / "Makefile"


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-f", str(MAKEFILE), "--dry-run", f"PYTHON={sys.executable}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_an_environment_of_another_interpreter_is_refused(tmp_path: Path) -> None:
    """And `make clean` removes it."""
    (tmp_path / "pyproject.toml").touch()
    assert make("test-newest").returncode == 0
    python = tmp_path / ".venv-other" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert make("test-newest").returncode == 0
    python.unlink()
    python.write_text("#!/bin/sh\necho 2.7\n")
    python.chmod(0o755)
    refused = make("test-newest")
    assert refused.returncode != 0
    assert 'got .venv-other/bin/python, which is of another one: run "make clean" first' in refused.stderr
    assert make("clean").returncode == 0
    assert make("clean", "test-newest").returncode == 0
