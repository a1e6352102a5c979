"""Words of a text, and the text of messages, as `blades.testing` counts and sends them."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["content_of", "is_chinese", "split_words"]

_IDEOGRAPHS = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_WORD = re.compile(rf"\s*(?:[{_IDEOGRAPHS}]{{1,2}}|[^\s{_IDEOGRAPHS}]+)|\s+")


def split_words(text: str) -> list[str]:
    """Cut a text into words or pairs of ideographs, each with the space before it; joined they are the text."""
    return _WORD.findall(text)


def content_of(message: Any) -> str:
    """Return the text of a message, whose content may be a list of parts."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def is_chinese(text: str) -> bool:
    """Return whether most of the text is Chinese: more ideographs than words of letters, and no kana or Hangul."""
    ideographs = len(re.findall("[\u4e00-\u9fff]", text))
    return ideographs > len(re.findall("[^\\W\\d_\u2e80-\uffef]+", text)) and not re.search(
        "[\u3040-\u30ff\uac00-\ud7af]", text
    )
