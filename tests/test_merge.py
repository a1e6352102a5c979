"""How the pieces of unknown fields become one value."""

from __future__ import annotations

from typing import Any

import pytest

from blades._wire.merge import merge_fields


def nested(depth: int, leaf: Any) -> Any:
    for _ in range(depth):
        leaf = {"a": leaf}
    return leaf


@pytest.mark.parametrize(
    ("pieces", "merged"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param([{"a": "x", "b": None}, {"a": "y", "c": {"d": None}}], {"a": "xy", "c": {}}, id="null"),
        pytest.param([{"a": 1}, {"a": 2.5}, {"a": 0}], {"a": 0}, id="the last number"),
        pytest.param([{"a": True}, {"a": False}], {"a": False}, id="the last flag"),
        pytest.param([{"id": "x", "name": "f"}, {"id": "x", "name": "f"}], {"id": "x", "name": "f"}, id="identifiers"),
        pytest.param([{"a": [1]}, {"a": [None, [2]]}], {"a": [1, None, [2]]}, id="lists"),
        pytest.param([{"a": {"b": "x"}}, {"a": {"b": "y", "c": 1}}], {"a": {"b": "xy", "c": 1}}, id="objects"),
        pytest.param(
            [{"a": [{"index": 1, "t": "x"}, {"index": 0, "t": "y"}]}, {"a": [{"index": 1, "t": "z"}]}],
            {"a": [{"index": 1, "t": "xz"}, {"index": 0, "t": "y"}]},
            id="items by index",
        ),
        pytest.param(
            [{"a": [{"index": 0, "type": "t", "t": "x"}, {"index": 0, "type": "u", "t": "y"}]}],
            {"a": [{"index": 0, "type": "t", "t": "x"}, {"index": 0, "type": "u", "t": "y"}]},
            id="items by index and type",
        ),
        pytest.param([{"a": "x"}, {"a": ["y"]}, {"a": 1}], {"a": ["x", "y", 1]}, id="kinds that differ"),
        pytest.param([{"a": "\ud83d"}, {"a": "\ude00\ud83d"}], {"a": "\U0001f600\ufffd"}, id="surrogates"),
        pytest.param([nested(60, "x"), nested(60, "y")], None, id="deep"),
    ],
)
def test_pieces_are_merged_by_their_kinds(pieces: list[Any], merged: Any) -> None:
    """Each kind of value has its rule."""
    assert merge_fields(pieces) == (nested(60, "y") if merged is None else merged)


def test_the_result_shares_nothing_with_its_pieces() -> None:
    """Whoever changes the result does not change the chunks."""
    piece = {"a": {"b": [{"c": "x"}]}}
    merge_fields([piece])["a"]["b"][0]["c"] = "changed"
    assert piece == {"a": {"b": [{"c": "x"}]}}
