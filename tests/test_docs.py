"""Every Python block of the README and of docs/ runs, top to bottom, one file in one namespace."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import blades

if TYPE_CHECKING:
    from blades.testing import LocalServer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> str:
    """Return a page's Python blocks as one script, each line where it is on the page, so that errors can be found."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reader would: with a key and a server in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(blocks(page), str(page), "exec", dont_inherit=True), namespace)


def test_the_reference_has_every_public_name() -> None:
    """The page is written by hand, in an order that reads well."""
    listed = re.findall(r"^::: blades\.([A-Z]\w+)$", (ROOT / "docs" / "reference.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(blades.__all__)


def test_the_readme_is_short() -> None:
    """A page that is read to its end."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_hints_name_the_packages_of_an_extra() -> None:
    """They work however the library was installed, also where no package index has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    source = "".join(path.read_text("utf-8") for path in Path(blades.__file__).parent.rglob("*.py"))
    assert f"{project['name']}[" not in source
    for extra in ("notebook", "speech", "testing"):
        packages = [item.partition(">=")[0] for item in project["optional-dependencies"][extra]]
        assert f"pip install {' '.join(packages)}" in source
