"""Reading the JSON of an event."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from blades._wire.deltas import clean, fast_parser, json_text, parse_lenient
from blades._wire.protocol_errors import without_secrets
from blades._wire.server_errors import preview

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def result_of(read: Any, data: bytes) -> str:
    try:
        return repr(read(data))
    except ValueError:
        return "refused"


@settings(deadline=None)
@given(value=VALUES, ensure_ascii=st.booleans())
@example(value='\ud83d\ude00"\\/\b', ensure_ascii=True)
def test_both_readers_give_the_same_values(value: Any, *, ensure_ascii: bool) -> None:
    """The fast reader gives what `json` gives, to the type and the last digit."""
    data = json.dumps(value, ensure_ascii=ensure_ascii).encode("utf-8", "surrogatepass")
    fast = result_of(fast_parser(), data)
    assert fast in {"refused", result_of(parse_lenient, data)}


@settings(deadline=None)
@given(VALUES, st.integers(0, 40), st.binary(max_size=3))
@example(None, 0, b'{"a":1,"a":2}')
@example(None, 0, b"-0.0 ")
@example(None, 0, b"1e400")
@example(None, 0, b"-Infinity")
@example(None, 0, b"NaN")
@example(None, 0, b"1" * 4299)
@example(None, 0, b"1" * 4400)
@example(None, 0, b"01")
@example(None, 0, b"[" * 199 + b"]" * 199)
@example(None, 0, b"[" * 201 + b"]" * 201)
@example(None, 0, b"[" * 500 + b"]" * 500)
@example(None, 0, b"[" * 100_000 + b"]" * 100_000)
@example(None, 0, b'"\\ud83dx"')
@example(None, 0, b'"\x01"')
@example(None, 0, b'"\xed\xa0\xbd"')
@example(None, 0, b"\xef\xbb\xbf{}")
def test_the_fast_reader_refuses_what_it_would_read_otherwise(value: Any, place: int, inserted: bytes) -> None:
    """On damaged and uncommon JSON, the fast parser returns what `json` returns, or refuses."""
    data = json.dumps(value).encode() if value is not None else b""
    data = data[:place] + inserted + data[place:]
    fast = result_of(fast_parser(), data)
    assert fast in {"refused", result_of(parse_lenient, data)}


@pytest.mark.parametrize(
    "jiter",
    [
        pytest.param(None, id="missing"),
        pytest.param(SimpleNamespace(from_json=lambda data: data.decode("unicode_escape") + "?"), id="garbles escapes"),
    ],
)
def test_without_a_good_fast_reader_all_is_left_to_the_slow_one(jiter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing jiter, or the one version that garbles escapes, costs time and nothing else."""
    monkeypatch.setitem(sys.modules, "jiter", jiter)
    with pytest.raises(ValueError, match=r"^$"):
        fast_parser()(b"{}")


def test_invalid_utf_8_and_depth_are_no_exceptions_of_their_own() -> None:
    """The slow reader replaces bad bytes, and refuses what is too deep as it refuses what is no JSON."""
    assert parse_lenient(b'"a\xffb\xe2\x82"') == "a\ufffdb\ufffd"
    for depth in (300, 100_000):
        with pytest.raises(ValueError, match="too deep"):
            parse_lenient(b"[" * depth + b"]" * depth)
    assert parse_lenient(b"[" * 201 + b"]" * 201)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=()), max_size=8))
@example("a\ud83d\ude00b\ud83d")
@example("\ude00\ud83d")
def test_a_clean_text_can_be_encoded(text: str) -> None:
    """Pairs are joined, halves replaced one for one, and everything else is as it was."""
    cleaned = clean(text)
    expected = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert cleaned == expected
    assert cleaned.encode().decode() == cleaned
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert cleaned == text


@pytest.mark.parametrize(
    ("value", "text"),
    [("{", "{"), ({"a": "é"}, '{"a": "é"}'), ([1], "[1]"), (None, ""), (5, ""), (True, "")],
    ids=str,
)
def test_an_object_sent_for_a_text_becomes_its_json(value: object, text: str) -> None:
    """Arguments are text for the caller, whichever way they were sent."""
    assert json_text(value) == text


def test_an_object_too_deep_for_json_is_no_text() -> None:
    """No RecursionError escapes."""
    nested: list[Any] = []
    for _ in range(200_000):
        nested = [nested]
    assert json_text(nested) == ""


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"a\n\xff", "'a\\n\ufffd'", id="short"),
        pytest.param(b"x" * 200, repr("x" * 200), id="just"),
        pytest.param("\U0001f600".encode() * 201, repr("\U0001f600" * 200) + "...", id="long"),
        pytest.param(b"x" * 10**7, repr("x" * 200) + "...", id="very long"),
    ],
)
def test_foreign_data_is_shown_bounded(data: bytes, text: str) -> None:
    """A message holds at most 200 characters of what came."""
    assert preview(data) == text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1"),
        ("https://user:secret@example.com:8000/v1?key=secret", "https://example.com:8000/v1"),
        ("https://secret@example.com", "https://example.com"),
        ("", ""),
    ],
)
def test_a_url_in_a_message_holds_no_secret(url: str, text: str) -> None:
    """User, password and query are left out."""
    assert without_secrets(url) == text
