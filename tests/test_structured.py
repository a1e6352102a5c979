"""Structured output: types to schemas, texts to values."""

from __future__ import annotations

import enum
import json
import pickle
import sys
import time
import typing
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import openai
import pydantic
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from blades import Reply
from blades._errors import ReplyParseError
from blades._structured import ResponseType, partial
from limits import CPU_SECONDS

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    """A thing."""

    name: str = Field(description="what it is called")
    color: Color = Color.RED
    price: float | None = None


class Box(BaseModel):
    items: list[Item]
    first: Item = Field(description="the best one")
    kind: Literal["big", "small"]
    made: datetime
    tags: list[str] = Field(default_factory=list)
    owner: Annotated[str, Field(min_length=1)] | int


class Node(BaseModel):
    value: int
    children: list[Node] = []
    parent: Node | None = None


class Labelled(BaseModel):
    """Refers to itself with a description: no strict schema can be written."""

    value: int
    children: list[Annotated[Labelled, Field(description="below")]]


class Pair(BaseModel, Generic[T]):
    left: T
    right: T


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Path:
    points: list[Point] = field(default_factory=list)


class Place(TypedDict):
    city: str
    when: date


class Open(BaseModel):
    counts: dict[str, int]


class Anything(BaseModel):
    value: Any


class Fixed(BaseModel):
    pair: tuple[int, str]


class Pattern(BaseModel):
    word: str = Field(json_schema_extra={"pattern": "^(?!a)"})


class Link(BaseModel):
    url: pydantic.AnyUrl


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Pet(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Many(pydantic.RootModel[list[int]]):
    """A list at the root."""


def schema_of(kind: Any) -> dict[str, Any]:
    made: dict[str, Any] = ResponseType(kind).format["json_schema"]
    return made


@pytest.mark.parametrize("kind", [Item, Box, Node, Pair[Item], Pair[int]], ids=lambda kind: kind.__name__)
def test_a_strict_schema_is_that_of_the_official_helper(kind: type[BaseModel]) -> None:
    """Where the official client has a public helper, the schemas are equal."""
    made = schema_of(kind)
    assert made["strict"] is True
    official: Any = openai.pydantic_function_tool(kind)
    assert made["schema"] == official["function"]["parameters"]


@pytest.mark.parametrize("kind", [Point, Path, Place], ids=lambda kind: kind.__name__)
def test_dataclasses_and_typed_dicts_are_strict_as_well(kind: type) -> None:
    """All properties are required, and no others are allowed, at every level."""
    made = schema_of(kind)
    assert made["strict"] is True
    for schema in (made["schema"], *made["schema"].get("$defs", {}).values()):
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False


@pytest.mark.parametrize("kind", [Open, Anything, Fixed, Pattern, Link, Pet, Labelled], ids=lambda kind: kind.__name__)
def test_what_no_strict_schema_can_say_is_not_strict(kind: type[BaseModel]) -> None:
    """The schema is then sent as pydantic writes it."""
    made = schema_of(kind)
    assert made["strict"] is False
    expected = kind.model_json_schema()
    if "$ref" in expected:
        expected = {**expected["$defs"][kind.__name__], "$defs": expected["$defs"]}
    assert made["schema"] == expected


def test_the_name_is_one_that_the_api_takes() -> None:
    """Letters, digits, underscores and hyphens, at most 64."""
    assert schema_of(Box)["name"] == "Box"
    assert schema_of(Pair[int])["name"] == "Pair_int"
    long = pydantic.create_model("Ä" + "x" * 80, a=(int, ...))
    assert schema_of(long)["name"] == "x" * 64
    assert schema_of(pydantic.create_model("价格", a=(int, ...)))["name"] == "response"


def make_box(size: int) -> Box:
    """Make a box: no type, though it has parameters and their types."""
    raise NotImplementedError


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (list[Item], "put it into a field"),
        (Many, "put it into a field"),
        (Item | Point, "put it into a field"),
        (str, "put it into a field"),
        ("json_object", "expected response_format as .*give the type itself"),
        (3, "expected response_format as .*give the type itself"),
        (Item(name="x"), "expected response_format as .*give the type itself"),
        (Point(1, 2), "expected response_format as .*give the type itself"),
        (object, "put it into a field"),
        (make_box, "expected response_format as .*give the type itself"),
        (Item.model_validate, "expected response_format as .*give the type itself"),
    ],
    ids=str,
)
def test_what_is_no_object_is_refused_with_the_cure(kind: Any, said: str) -> None:
    """When the agent is made, not when the answer arrives."""
    with pytest.raises(TypeError, match=said):
        ResponseType(kind)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic takes typing.TypedDict from 3.12 on")
def test_the_standard_typed_dict_of_3_11_is_refused_with_pydantics_cure() -> None:
    """It lacks what pydantic needs to know."""
    old: Any = typing.TypedDict("old", {"a": int})
    with pytest.raises(TypeError, match=r"typing_extensions\.TypedDict"):
        ResponseType(old)


def test_pydantic_1_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The official client 2.x takes it still."""
    monkeypatch.setattr(pydantic, "VERSION", "1.10.22")
    with pytest.raises(ImportError, match=r"response_format needs pydantic 2, got 1\.10\.22: pip install"):
        ResponseType(Item)


def test_a_response_type_can_be_pickled() -> None:
    """An agent lands in another process with it."""
    copy = pickle.loads(pickle.dumps(ResponseType(Box)))
    assert copy.format == ResponseType(Box).format


DONE = Reply(complete=True, finish_reason="stop")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Point, '{"x": 1}', Point(1)),
        (Item, '{"name": "a", "color": "blue", "price": 2}', Item(name="a", color=Color.BLUE, price=2)),
        (Place, '{"city": "Basel", "when": "2026-01-02"}', {"city": "Basel", "when": date(2026, 1, 2)}),
        (Point, '```json\n{"x": 1}\n```', Point(1)),
        (Point, ' ```\n{"x": 1}\n```\n ', Point(1)),
        (Point, '```JSON\n{"x": 1}', Point(1)),
        (Item, '{"name": "a\\n```\\n"}', Item(name="a\n```\n")),
        (Item, '```json\n{"name": "```"}\n```', Item(name="```")),
    ],
)
def test_a_text_becomes_a_value(kind: Any, text: str, value: object) -> None:
    """Validated, with or without a code fence."""
    assert ResponseType(kind).parse(text, DONE) == value


@pytest.mark.parametrize(
    ("text", "reply", "said"),
    [
        ('{"x": ', Reply(finish_reason="length", complete=True), "cut by the limit of tokens"),
        ('{"x": ', Reply(finish_reason="content_filter", complete=True), "content filter"),
        ('{"x": ', Reply(), "cancelled or has failed"),
        ("", Reply(refusal="No.\x1b[2J", complete=True), r"The model refused: 'No\.\\x1b\[2J'"),
        ("", DONE, "has no text: there is no JSON"),
        ("Sure!\x1b[2J", DONE, r"is no JSON \(.*\): 'Sure!\\x1b\[2J'"),
        ('```json\n{"x": 1}\n```\nThat is it.', DONE, "is no JSON"),
        ('```{"x": 1}```', DONE, r"is no JSON \(.*expected value at line 1 column 1\)"),
        ('{"x": "a\\u001b"}', DONE, r"does not fit the type: at x: .*integer.*, got 'a\\x1b'"),
        ('{"y": "b"}', DONE, "does not fit the type: at x: Field required, got .*, and 1 more"),
        ("[1]", DONE, "does not fit the type: at the root"),
    ],
)
def test_what_cannot_be_parsed_names_the_first_cause(text: str, reply: Reply, said: str) -> None:
    """And the exception has the text, the reply and pydantic's list."""
    with pytest.raises(ReplyParseError, match=said) as caught:
        ResponseType(Point).parse(text, reply)
    assert isinstance(caught.value, ValueError)
    assert caught.value.text == text
    assert caught.value.reply == reply
    assert caught.value.errors
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.text, copy.reply, copy.errors) == (
        str(caught.value), caught.value.text, caught.value.reply, caught.value.errors,
    )  # fmt: skip


def test_a_whole_answer_of_a_cancelled_stream_can_be_parsed() -> None:
    """The text decides, not how the stream ended."""
    assert ResponseType(Point).parse('{"x": 1}', Reply()) == Point(1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), (" \n", None), ("`", None), ("```", None), ("```js", None), ("```json\n", None),
        ("{", {}), ("[", []), ('{"a', {}), ('{"a": "b', {"a": "b"}), ('{"a": "b\\', {"a": "b"}),
        ('{"a": tru', {}), ('{"a": 1', {"a": 1}), ('{"a": [1, {"b": "c', {"a": [1, {"b": "c"}]}),
        ('```json\n{"a": 1', {"a": 1}), ('```json\n{"a": 1}\n`', {"a": 1}), ('```json\n{"a": 1}\n```', {"a": 1}),
        ('{"a": 1}\n\nThat', {"a": 1}), ("Sure", None), ("12", None), ('"text', None), ("{,", None), ("nul", None),
        ('{"a": "😀', {"a": "😀"}), ("[" * 100_000, None),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_a_part_of_a_text_has_what_is_there(text: str, value: object) -> None:
    """Never an exception; None before the JSON begins."""
    assert partial(text) == value


def test_every_beginning_of_an_answer_has_a_part() -> None:
    """It grows from the empty object to the whole."""
    text = json.dumps({"items": [{"name": f"n{n}", "price": n / 3, "ok": None} for n in range(20)]})
    parts = [partial(text[:end]) for end in range(1, len(text) + 1)]
    assert all(isinstance(part, dict) for part in parts)
    assert parts[-1] == json.loads(text)


def test_reading_the_part_at_each_chunk_of_20_kb_is_cheap() -> None:
    """Every 4 characters: 0.1 s on an idle machine."""
    text = json.dumps([{"name": f"item {n}", "text": "some words that are a bit longer"} for n in range(320)])
    assert len(text) > 20_000
    began = time.process_time()
    for end in range(4, 20_000, 4):
        partial(text[:end])
    assert time.process_time() - began < 5


def test_line_feeds_without_end_in_a_code_fence_take_linear_time() -> None:
    """Models write them for ever in JSON mode; a search that begins again at each one takes minutes."""
    began = time.process_time()
    partial("```json\n{" + "\n" * 300_000 + "x")
    assert time.process_time() - began < CPU_SECONDS
