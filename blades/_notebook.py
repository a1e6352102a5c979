"""Showing a stream in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blades._terminal import print_stream

if TYPE_CHECKING:
    from blades._stream import Stream


def display_stream(stream: Stream) -> None:
    """Do the work of `Stream.display`."""
    print_stream(stream, None, reasoning=False, escape=True)
