"""Foreign values and texts in a message."""

from __future__ import annotations

import pytest

from blades._preview import printable, short_repr, type_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("plain text, 中文 ‘quoted’ 👋🏽", "plain text, 中文 ‘quoted’ 👋🏽", id="text"),
        pytest.param("a\x1b[31mb\x00\n\t", "a\\x1b[31mb\\x00\\n\\t", id="C0"),
        pytest.param("\x7f\x9b2J", "\\x7f\\x9b2J", id="DEL and C1"),
        pytest.param("a\u202eb\u2066c\u200f", "a\\u202eb\\u2066c\\u200f", id="bidirectional"),
        pytest.param("\ud83d", "\\ud83d", id="surrogate"),
        pytest.param("a\u2028b", "a\\u2028b", id="line separator"),
    ],
)
def test_control_characters_are_escaped(text: str, expected: str) -> None:
    """Nothing else is changed."""
    assert printable(text) == expected


class Rude:
    def __repr__(self) -> str:
        return "\x1b]0;title\x07" * 100


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("it's", '"it\'s"', id="text"),
        pytest.param("x" * 10**8, "'xxxxxxx…", id="long text"),
        pytest.param(b"x" * 100, "b'xxxxxx…", id="bytes"),
        pytest.param(list(range(100)), "[0, 1, 2…", id="list"),
        pytest.param(Rude(), "\\x1b]0;t…", id="control characters"),
        pytest.param(Broken(), "<Broken>", id="broken"),
    ],
)
def test_a_repr_is_bounded_and_printable(value: object, expected: str) -> None:
    """A class that cannot be shown is named instead."""
    assert short_repr(value, 9) == expected


def test_a_type_is_named() -> None:
    """None is its own name."""
    assert [type_name(None), type_name(1), type_name([])] == ["None", "int", "list"]
