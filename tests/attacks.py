"""Documents that try to act on the page of a notebook: used by the tests of the renderer and by those in a browser."""

from __future__ import annotations

import json
import random
from html.parser import HTMLParser
from pathlib import Path

from blades._output.markdown_html import ATTRIBUTES, STYLES, TAGS

_DATA = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
DOCUMENTS: dict[str, str] = _DATA["documents"]
FRAGMENTS: list[str] = _DATA["fragments"]


def generate(count: int, seed: int = 14) -> list[str]:
    """Return documents put together at random from fragments of attacks; the same ones each time."""
    chance = random.Random(seed)
    return ["".join(chance.choices(FRAGMENTS, k=chance.randint(4, 60))) for _ in range(count)]


class AllowList(HTMLParser):
    """Collects what is not on the renderer's lists, and the texts and addresses of what is."""

    def __init__(self, extra_tags: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._tags = TAGS | extra_tags
        self.faults: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.links: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at a tag with its attributes."""
        if tag not in {"br", "hr"}:
            self._open.append(tag)
        if tag not in self._tags:
            self.faults.append(f"<{tag}>")
        for name, value in attrs:
            allowed = ATTRIBUTES.get(tag, set()) | ({"rel"} if tag == "a" else set())
            if name not in allowed or value is None:
                self.faults.append(f"<{tag} {name}={value!r}>")
            elif name == "href":
                self.links.append(value)
                if not value.lower().startswith(("http://", "https://", "mailto:")):
                    self.faults.append(f"<{tag} {name}={value!r}>")
            elif name == "style" and (
                {part.partition(":")[0].strip() for part in value.split(";")} - STYLES or "url" in value
            ):
                self.faults.append(f"<{tag} {name}={value!r}>")

    def handle_endtag(self, tag: str) -> None:
        """Leave a tag."""
        if tag not in self._open:
            self.faults.append(f"</{tag}>")
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Keep a text with the tag that holds it."""
        if not {"pre", "code"} & set(self._open):
            self.texts.append((self._open[-1] if self._open else "", data))

    def handle_comment(self, data: str) -> None:
        """Take note of a comment."""
        self.faults.append(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        """Take note of a declaration."""
        self.faults.append(f"<!{decl}>")

    def handle_pi(self, data: str) -> None:
        """Take note of an instruction."""
        self.faults.append(f"<?{data}>")

    def unknown_decl(self, data: str) -> None:
        """Take note of a section."""
        self.faults.append(f"<![{data}]>")


def examine(html: str, extra_tags: frozenset[str] = frozenset()) -> AllowList:
    """Parse HTML and hold it against the lists."""
    parser = AllowList(extra_tags)
    parser.feed(html)
    parser.close()
    return parser
