"""Recorded answers of real servers, read from files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_recording"]

_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}[ \t]*(;[^\r\n]*)?\r\n")
_HEAD = re.compile(rb"HTTP/[0-9.]+ ([0-9]{3})[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n?")
# The server writes these itself, or one answer can have several of them.
_NOT_KEPT = {"connection", "content-length", "date", "keep-alive", "set-cookie", "transfer-encoding"}


def read_recording(path: Path) -> tuple[int, dict[str, str | None], Literal["chunked", "length", "close"], bytes]:
    """Return status, headers, framing and body of a recorded answer.

    Raises:
        OSError: The file cannot be read.
    """
    body = path.read_bytes()
    head = b""
    while body.startswith(b"HTTP/") and (match := _HEAD.match(body)):  # the last one: 100 Continue may precede it
        head, body = match[0], body[match.end() :]
    beside = path.with_suffix(".headers")
    if not head and beside != path and beside.exists():
        head = beside.read_bytes()
    lines = head.decode("latin-1").splitlines()
    given = {
        name.strip().lower(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon
    }
    status = re.match("HTTP/[0-9.]+ ([0-9]{3})", lines[0]) if lines else None
    headers: dict[str, str | None] = {name: value for name, value in given.items() if name not in _NOT_KEPT}
    headers.setdefault("content-type", "text/event-stream; charset=utf-8")
    if _is_text(body):
        headers.pop("content-encoding", None)  # most tools store the body decoded
    framing: Literal["chunked", "length", "close"] = "chunked"
    if "content-length" in given:
        framing = "length"
    elif lines and lines[0].startswith("HTTP/1") and "transfer-encoding" not in given:
        framing = "close"
    if "chunked" in given.get("transfer-encoding", "") and _CHUNK_SIZE.match(body):
        headers |= {"transfer-encoding": "chunked", "connection": "close"}  # recorded below HTTP: already framed
        framing = "close"
    return int(status[1]) if status else 200, headers, framing, body


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
