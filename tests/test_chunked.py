"""The chunked coding of HTTP/1.1: content, and what is left to the HTTP library."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blades._wire.chunked import Chunked

BODY = b"5\r\nhello\r\n00F\r\n, two\r\n\r\nlines\n\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n"
CONTENT = b"hello, two\r\n\r\nlines\nabcdefghijklmnopqrstuvwxyz"
LAST = b"0\r\n\r\n"


def decode(*pieces: bytes) -> tuple[bytes, bytes | None]:
    """Feed the pieces; once there is a rest, what follows belongs to it."""
    chunked, content = Chunked(), b""
    for number, piece in enumerate(pieces):
        content += chunked.decode(piece)
        if chunked.handed_back is not None:
            return content, chunked.handed_back + b"".join(pieces[number + 1 :])
    return content, None


@pytest.mark.parametrize("cut", range(1, len(LAST)))
def test_last_chunk_is_handed_back_whole(cut: int) -> None:
    """The HTTP library never has to wait for the rest of it; what follows is handed back as well."""
    chunked = Chunked()
    assert chunked.decode(BODY + LAST[:cut]) == CONTENT
    assert chunked.handed_back is None
    assert chunked.decode(LAST[cut:] + b"HTTP/1.1 200 OK") == b""
    assert chunked.handed_back == LAST + b"HTTP/1.1 200 OK"


def test_gives_the_content_and_leaves_the_last_chunk() -> None:
    """Content comes out whole; the last chunk is for the HTTP library."""
    assert decode(BODY) == (CONTENT, None)
    assert decode(BODY + LAST) == (CONTENT, LAST)
    assert decode(LAST) == (b"", LAST)
    assert decode(BODY + b"0;x=y\r\nTrailer: 1\r\n\r\n") == (CONTENT, b"0;x=y\r\nTrailer: 1\r\n\r\n")


@pytest.mark.parametrize("content", [b"a", b"\r\n", b"a\r\n\r\n", b"b" * 300])
def test_one_whole_chunk_in_a_read(content: bytes) -> None:
    """A read that is one chunk gives its content, whatever line ends are in there, and so does the next."""
    piece = b"%x\r\n%b\r\n" % (len(content), content)
    assert decode(piece, piece) == (2 * content, None)
    assert decode(piece, piece + LAST) == (2 * content, LAST)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_cut_everywhere(size: int) -> None:
    """Where the reads are cut makes no difference."""
    pieces = [BODY[start : start + size] for start in range(0, len(BODY), size)]
    assert decode(*pieces) == (CONTENT, None)
    content, rest = decode(*pieces, *(LAST[place : place + 1] for place in range(len(LAST))))
    assert (content, rest) == (CONTENT, LAST)


@given(st.lists(st.integers(0, len(BODY + LAST)), max_size=8))
def test_cut_at_random(cuts: list[int]) -> None:
    """The same, at random."""
    ends = [0, *sorted(cuts), len(BODY + LAST)]
    assert decode(*((BODY + LAST)[start:end] for start, end in pairwise(ends))) == (CONTENT, LAST)


def test_content_comes_before_its_chunk_is_whole() -> None:
    """A server that announces much and sends little by little is not waited for."""
    chunked = Chunked()
    assert chunked.decode(b"ffffff\r\nab") == b"ab"
    assert chunked.decode(b"cd") == b"cd"
    assert chunked.handed_back is None


@pytest.mark.parametrize(
    "rest",
    [
        b"5;name=value\r\n",
        b"5 \r\n",
        b"+5\r\n",
        b"0x5\r\n",
        b"1_0\r\n",
        b"\r\n",
        b"5\n",
        b"123456789\r\n",
        b"x",
        b"-1\r\n",
    ],
    ids=["extension", "space", "sign", "prefix", "underscore", "empty", "no CR", "too long", "no digit", "negative"],
)
def test_leaves_what_is_unusual(rest: bytes) -> None:
    """What is no plain size goes to the HTTP library from there on, unread."""
    assert decode(BODY + rest + b"hello") == (CONTENT, rest + b"hello")


def test_a_chunk_without_its_end_is_malformed() -> None:
    """The library is given what it refuses, not what it might take for a chunk."""
    assert decode(b"5\r\nhello5\r\nworld\r\n") == (b"hello", b"\r\n")
    assert decode(b"5\r\nhello\r", b"x") == (b"hello", b"\r\n")
