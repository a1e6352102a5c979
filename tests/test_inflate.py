"""Compressed bodies: their content, in bounded pieces."""

from __future__ import annotations

import gzip
import time
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blades._wire.inflate import PIECE_BYTES, EncodingError, Inflater
from limits import CPU_SECONDS
from wire_cases import cuts

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTENT = b"data: {}\n\n" * 3 + bytes(range(256))


def raw_deflate(data: bytes) -> bytes:
    """Compress without the header and the checksum of the zlib format."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def inflated(encoding: str, pieces: Iterable[bytes]) -> bytes:
    """Return the content of a body that comes in these pieces."""
    inflater = Inflater(encoding)
    found = [piece for data in pieces for piece in inflater.feed(data)]
    assert all(0 < len(piece) <= PIECE_BYTES for piece in found)
    return b"".join(found)


BODIES = [
    pytest.param("gzip", gzip.compress(CONTENT), CONTENT, id="gzip"),
    pytest.param(" X-GZIP ", gzip.compress(CONTENT), CONTENT, id="x-gzip"),
    pytest.param("gzip", gzip.compress(b"a") + gzip.compress(b"") + gzip.compress(b"b"), b"ab", id="members"),
    pytest.param("gzip", gzip.compress(b"a") + bytes(600), b"a", id="padding"),
    pytest.param("gzip", gzip.compress(b"a") + b"\x1f", b"a", id="half a member"),
    pytest.param("gzip", b"", b"", id="empty"),
    pytest.param("deflate", zlib.compress(CONTENT), CONTENT, id="deflate"),
    pytest.param("deflate", raw_deflate(CONTENT), CONTENT, id="deflate without header"),
    pytest.param("deflate", zlib.compress(b"a") + b"more", b"a", id="bytes after deflate"),
    pytest.param("deflate", raw_deflate(b"\0" * 10**6), b"\0" * 10**6, id="repetition"),
    pytest.param("gzip", gzip.compress(b"ab" * 10**6), b"ab" * 10**6, id="many pieces"),
]


@pytest.mark.parametrize(("encoding", "body", "content"), BODIES)
def test_a_compressed_body_gives_its_content(encoding: str, body: bytes, content: bytes) -> None:
    """The content is the same, however the body is cut."""
    for name, pieces in cuts(body):
        assert inflated(encoding, pieces) == content, name


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]), st.integers(1, 9))
def test_any_content_comes_back(content: bytes, encoding: str, size: int) -> None:
    """What was compressed is what comes out."""
    body = (gzip.compress if encoding == "gzip" else zlib.compress)(content)
    assert inflated(encoding, [body[start : start + size] for start in range(0, len(body), size)]) == content


def test_content_comes_as_soon_as_it_can() -> None:
    """A server that flushes after each event is not waited for."""
    compressor, inflater = zlib.compressobj(wbits=16 + zlib.MAX_WBITS), Inflater("gzip")
    for event in (b"one", b"two"):
        data = compressor.compress(event) + compressor.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(inflater.feed(data)) == event


@pytest.mark.parametrize(
    ("encoding", "body", "said"),
    [
        pytest.param(
            "gzip", b"data: {}\n\n", r"got b'data: \{\}\\n\\n': its Content-Encoding header is false", id="plain"
        ),
        pytest.param("x-gzip", b"\x1f?", "in x-gzip.*header is false", id="one byte of gzip"),
        pytest.param("gzip", b"\x1f\x8bdata: {}\n\n", "got damaged data", id="two bytes of gzip"),
        pytest.param("gzip", gzip.compress(CONTENT)[:-8] + bytes(8), "got damaged data", id="wrong checksum"),
        pytest.param("deflate", b"data: {}\n\n", "in deflate.*got damaged data", id="plain, not deflate"),
    ],
)
def test_a_false_header_is_named(encoding: str, body: bytes, said: str) -> None:
    """The error says which header is wrong, and how the body begins."""
    for _, pieces in cuts(body):
        with pytest.raises(EncodingError, match=said if len(pieces[0]) == len(body) else "expected a body in"):
            inflated(encoding, pieces)


def test_another_encoding_is_refused() -> None:
    """What cannot be decoded is refused before the first byte."""
    with pytest.raises(ValueError, match=r"out of deflate, gzip, x-gzip, got 'br'"):
        Inflater("br")


def test_a_bomb_is_opened_bit_by_bit() -> None:
    """A reader that stops after a few pieces has paid for those only; another iterator goes on there."""
    bomb = gzip.compress(bytes(2**27))
    inflater = Inflater("gzip")
    tracemalloc.start()
    taken = [len(piece) for piece, _ in zip(inflater.feed(bomb), range(10), strict=False)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken == [PIECE_BYTES] * 10
    assert peak < 4 * len(bomb) + 4 * PIECE_BYTES
    assert sum(len(piece) for piece in inflater.feed(b"")) == 2**27 - 11 * PIECE_BYTES  # zip() took one more


@pytest.mark.parametrize(
    "empty",
    [
        pytest.param(b"\0\0\0\xff\xff", id="blocks"),
        pytest.param(gzip.compress(b""), id="members"),
    ],
)
def test_empty_parts_take_linear_time(empty: bytes) -> None:
    """A megabyte of nothing, at once, is read at once: in quadratic time it would take minutes."""
    start = gzip.compress(b"")[:10] if len(empty) == 5 else b""
    begun = time.thread_time()
    assert inflated("gzip", [start + empty * (2**20 // len(empty))]) == b""
    assert time.thread_time() - begun < CPU_SECONDS
