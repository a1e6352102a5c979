"""Every oddity of the wire, and every recorded answer, through the pure core."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from blades._values import ResponseInfo
from wire_cases import (
    BASE_URL,
    CAPTURES,
    CAPTURES_FOLDER,
    ROWS,
    Capture,
    Case,
    Outcome,
    recorded,
    recorded_text,
    replays,
)

ELSEWHERE = {68, 69, 70, 72}  # rows about time, memory and connections, which have tests of their own


def counts(outcome: Outcome) -> tuple[int | None, int | None, int | None] | None:
    usage = outcome.reply.usage
    return usage and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


@pytest.mark.parametrize("case", [case for case in ROWS if not case.client_error], ids=str)
def test_a_row_of_the_wire_table_gives_its_result(case: Case) -> None:
    """Each row gives its chunks, totals and ending, whole, byte by byte and at random cuts."""
    head = ResponseInfo(case.status, case.content_type, BASE_URL)
    outcome = replays(case.body, head=head, ending=case.ending, seed=case.row)
    reply = outcome.reply
    assert outcome.texts == case.texts
    assert (reply.text, reply.reasoning, reply.refusal) == (case.text, case.reasoning, case.refusal)
    assert (reply.finish_reason, counts(outcome)) == (case.finish_reason, case.usage)
    assert tuple((call.id, call.name, call.arguments) for call in reply.tool_calls) == case.tool_calls
    assert (reply.model, reply.id) == (case.model, case.id)
    if case.error is None:
        assert outcome.error is None
    else:
        assert outcome.error is not None
        raised, message = outcome.error
        assert raised is case.error
        assert case.message in message
    assert (outcome.type, outcome.code) == (case.type, case.code)
    assert outcome.object.items() >= case.object.items()
    assert case.extra in (None, reply.extra)
    assert case.reasoning_fields in (None, reply.reasoning_fields)


def test_every_row_of_the_wire_table_has_a_case() -> None:
    """No row is left out, and no two cases have one name."""
    assert {case.row for case in ROWS} | ELSEWHERE == set(range(1, 73))
    assert len({str(case) for case in ROWS}) == len(ROWS)


@pytest.mark.parametrize("name", [name for name, capture in CAPTURES.items() if not capture.client_error])
def test_a_recorded_answer_ends_as_stated(name: str) -> None:
    """Answers of real servers give their text and ending, however they are cut."""
    status, content_type, body = recorded(name)
    outcome = replays(body, head=ResponseInfo(status, content_type, BASE_URL))
    reply = outcome.reply
    error, message = outcome.error or (None, "")
    stated = CAPTURES[name]
    assert stated.message in message
    found = Capture(len(outcome.chunks), len(reply.text), reply.finish_reason, counts(outcome), error, stated.message)
    assert found == stated
    assert (reply.text, reply.reasoning) == recorded_text(body)


def test_every_recorded_answer_is_stated() -> None:
    """The table names each recording, and those that never become a stream have an error status."""
    assert {path.stem for path in CAPTURES_FOLDER.glob("*.http")} == set(CAPTURES)
    for name, capture in CAPTURES.items():
        assert (recorded(name)[0] != 200) == bool(capture.client_error), name


def test_the_page_names_every_row_and_its_tests() -> None:
    """The table in `docs/wire.md` has each row once, and every test that it names exists."""
    tests = Path(__file__).parent
    page = (tests.parent / "docs" / "wire.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", page, re.MULTILINE)
    assert sorted(int(number) for number, _ in rows) == list(range(1, 73))
    cases = {(case.row, case.name) for case in ROWS}
    for number, named in rows:
        names = re.findall("`([^`]+)`", named)
        assert names, number
        for name in names:
            module, _, function = name.partition("::")
            if module.endswith(".py"):
                assert f"def {function}" in (tests / module).read_text("utf-8"), name
            else:
                assert (int(number), name) in cases, name
