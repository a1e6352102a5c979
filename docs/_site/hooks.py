"""What the site has besides docs/: the README as its first page, and the files that the pages link to."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OUTSIDE = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "benchmarks/RESULTS.md", "examples/*"]
LINK = re.compile(r"(\]\()([^)\s#:]+)")  # a link or an image whose target is a file


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of docs/ under the names that they have in the repository."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                name = path.relative_to(ROOT).as_posix()
                files.append(File.generated(config, _on_site(name), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - MkDocs's
    """Translate links between files of the repository into links between files of the site."""
    here = page.file.src_uri
    in_repository = next((name for name in OUTSIDE if _on_site(name) == here), f"docs/{here}")

    def translate(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(in_repository), link[2]))
        return link[1] + posixpath.relpath(_on_site(target), posixpath.dirname(here) or ".")

    return LINK.sub(translate, markdown)


def _on_site(name: str) -> str:
    return "index.md" if name == "README.md" else name.removeprefix("docs/")
