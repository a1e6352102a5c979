"""Tools: what the model is shown of a function, and what is accepted from the model."""

from __future__ import annotations

import asyncio
import enum
import functools
import json
import pickle
import sqlite3  # noqa: TC003 - tools evaluate their annotations
import threading
from collections.abc import Callable, Iterable, Sequence  # noqa: TC003 - same
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

import pydantic
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from blades._errors import ToolError
from blades._tools import Tool, ToolSet
from blades._values import ToolCall

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypes


class Unit(enum.Enum):
    METRE = "m"
    FOOT = "ft"


@dataclass
class Point:
    x: float
    y: float = 0


class Filter(BaseModel):
    field: str
    children: list[Filter] = []


class Options(TypedDict):
    deep: NotRequired[bool]


def search(query: str, limit: int = 5, *, cancel: threading.Event) -> list[str]:
    """Search the archive.

    All of it.
    """
    return [query] * limit if not cancel.is_set() else []


def take_all(  # every kind
    text: Annotated[str, Field(description="what to look for", min_length=1)],
    unit: Unit,
    where: Point,
    kind: Literal["a", "b"],
    when: datetime,
    either: int | list[str],
    tree: Filter,
    options: Options,
    maybe: float | None = None,
    *,
    until: threading.Event | None = None,
) -> tuple[object, ...]:
    """Take everything."""
    return (text, unit, where, kind, when, either, tree, options, maybe, until)


def test_the_schema_comes_from_the_signature() -> None:
    """Names, types, defaults and the docstring; not the event."""
    assert Tool(search).to_dict() == {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Search the archive.\n\nAll of it.",
            "parameters": {
                "type": "object",
                "title": "search",
                "properties": {
                    "query": {"type": "string", "title": "Query"},
                    "limit": {"type": "integer", "title": "Limit", "default": 5},
                },
                "required": ["query"],
                "additionalProperties": False,
            },
        },
    }


def test_every_kind_of_annotation_is_described_and_validated() -> None:
    """As pydantic does: the function is given objects of the annotated types."""
    tool = Tool(take_all)
    shown = tool.parameters["properties"]
    assert shown["text"]["description"] == "what to look for"
    assert shown["kind"]["enum"] == ["a", "b"]
    assert shown["when"]["format"] == "date-time"
    assert "until" not in shown
    assert tool.parameters["required"] == ["text", "unit", "where", "kind", "when", "either", "tree", "options"]
    arguments = tool.read_arguments(
        json.dumps({
            "text": "t", "unit": "ft", "where": {"x": 1}, "kind": "b", "when": "2026-01-02T03:04:05Z", "either": ["x"],
            "tree": {"field": "f", "children": [{"field": "g"}]}, "options": {"deep": True},
        })
    )  # fmt: skip
    event = threading.Event()
    assert tool.run(arguments, event) == (
        "t", Unit.FOOT, Point(1), "b", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), ["x"],
        Filter(field="f", children=[Filter(field="g")]), {"deep": True}, None, event,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('{"query": "x", "limit": "5"}', "limit: Input should be a valid integer"),
        ('{"query": "x", "limit": 5.5}', "limit: Input should be a valid integer"),
        ('{"query": 5}', "query: Input should be a valid string"),
        ("{}", "query: Field required"),
        ("", "query: Field required"),
        ('{"query": "x", "more": 1}', "more: Extra inputs are not permitted"),
        ('{"query": "x", "cancel": 1}', "cancel: Extra inputs are not permitted"),
        ('{"query": "x"', "not a JSON object"),
        ('["x"]', "not a JSON object"),
        ('"x"', "not a JSON object"),
        ("null", "not a JSON object"),
        ("query=x", "not a JSON object"),
        ('{"query": "\ud83d"}', "not"),
    ],
)
def test_arguments_that_do_not_fit_are_told_to_the_model(arguments: str, said: str) -> None:
    """In words; strictly: a number in quotes is no number."""
    with pytest.raises(ToolError, match=said):
        Tool(search).read_arguments(arguments)


def total(numbers: Iterable[float], more: Iterable[int] | None = None) -> float:
    """Add numbers, twice."""
    return sum(numbers) + sum(numbers) + sum(more or ())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('{"numbers": [1, "2"]}', r"fit. numbers\.1: Input should be a valid number"),
        ('{"numbers": [], "more": ["3"]}', r"fit. more\.0: Input should be a valid integer"),
        ('{"numbers": 1}', "fit. numbers: "),
        ('{"numbers": [NaN]}', "finite"),
        ('{"numbers": [1e999]}', "finite"),
    ],
)
def test_items_of_an_iterable_are_validated_before_the_tool_runs(arguments: str, said: str) -> None:
    """Left to pydantic, a bad item would raise in the loop of the tool."""
    with pytest.raises(ToolError, match=said):
        Tool(total).read_arguments(arguments)


def test_an_iterable_is_given_as_a_list() -> None:
    """It can be read more than once."""
    tool = Tool(total)
    assert tool.run(tool.read_arguments('{"numbers": [1, 2.5], "more": [3]}'), threading.Event()) == 10


def test_a_call_without_arguments_fits_a_tool_without_parameters() -> None:
    """Servers send an empty text then."""

    def now() -> str:
        return "noon"

    assert Tool(now).run(Tool(now).read_arguments(""), threading.Event()) == "noon"
    assert Tool(now).parameters["properties"] == {}


class Archive:
    """A place."""

    def find(self, query: str) -> str:
        """Find it."""
        return f"{query} in {self!r}"

    @classmethod
    def all(cls, query: str) -> str:
        """Find all."""
        return query

    @staticmethod
    def none(query: str) -> str:
        """Find none."""
        return query

    def __repr__(self) -> str:
        return "archive"


class Caller:
    """Not this."""

    def __call__(self, query: str) -> str:
        """Call it."""
        return query


class Silent:
    """The class speaks."""

    def __call__(self, query: str) -> str:  # noqa: D102 - that is the point
        return query


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return f"<{function(*args, **kwargs)}>"

    return wrapper


@decorated
def wrapped(query: str) -> str:
    """Wrap it."""
    return query


@functools.lru_cache
def remembered(query: str) -> str:
    """Remember it."""
    return query


async def later(query: str) -> str:
    """Wait for it."""
    await asyncio.sleep(0)
    return query


def with_database(database: sqlite3.Connection | None, query: str) -> str:
    """Ask it."""
    return query


@pytest.mark.parametrize(
    ("function", "name", "description", "result"),
    [
        (Archive().find, "find", "Find it.", "q in archive"),
        (Archive.all, "all", "Find all.", "q"),
        (Archive.none, "none", "Find none.", "q"),
        (Caller(), "Caller", "Call it.", "q"),
        (Silent(), "Silent", "The class speaks.", "q"),
        (remembered, "remembered", "Remember it.", "q"),
        (wrapped, "wrapped", "Wrap it.", "<q>"),
        (later, "later", "Wait for it.", "q"),
        (functools.partial(later), "later", "Wait for it.", "q"),
        (functools.partial(with_database, None), "with_database", "Ask it.", "q"),
        (functools.partial(with_database, database=None), "with_database", "Ask it.", "q"),
        (functools.partial(functools.partial(Archive().find)), "find", "Find it.", "q in archive"),
    ],
    ids=["method", "classmethod", "staticmethod", "callable", "class doc", "cached", "wraps", "async", "partial async",
         "partial", "partial by name", "partial twice"],
)  # fmt: skip
def test_any_callable_is_a_tool(function: Callable[..., Any], name: str, description: str, result: str) -> None:
    """The model is shown its one free parameter."""
    tool = Tool(function)
    assert (tool.name, tool.description) == (name, description)
    assert list(tool.parameters["properties"]) == ["query"]
    assert tool.run(tool.read_arguments('{"query": "q"}'), threading.Event()) == result


def test_a_name_and_a_description_can_be_given() -> None:
    """For a lambda, for instance."""
    tool = Tool(lambda x: x, name="same", description="Returns it.")
    assert tool.to_dict()["function"] == {
        "name": "same",
        "description": "Returns it.",
        "parameters": {
            "type": "object", "title": "same", "properties": {"x": {"title": "X"}}, "required": ["x"],
            "additionalProperties": False,
        },
    }  # fmt: skip
    assert "description" not in Tool(lambda x: x, name="same").to_dict()["function"]


def test_names_that_pydantic_would_not_give_a_field_are_fine() -> None:
    """They are the caller's."""

    def unusual(_first: int, model_config: int, json: int, schema: int = 4) -> tuple[int, ...]:
        return (_first, model_config, json, schema)

    tool = Tool(unusual)
    assert tool.run(tool.read_arguments('{"_first":1,"model_config":2,"json":3}'), threading.Event()) == (1, 2, 3, 4)


def test_a_default_that_is_no_json_stays_with_the_function() -> None:
    """The schema shows that the parameter may be left out."""
    nothing = object()

    def take(
        x: int | object = nothing, when: datetime = datetime(2026, 1, 2, tzinfo=UTC), f: float = float("nan")
    ) -> bool:
        return x is nothing

    tool = Tool(functools.partial(take, x=nothing))
    assert tool.parameters["properties"]["when"]["default"] == "2026-01-02T00:00:00Z"
    json.dumps(tool.to_dict(), allow_nan=False)
    assert tool.run({}, threading.Event()) is True


def variadic(*queries: str) -> None: ...
def keywords(**queries: str) -> None: ...
def positional(query: str, /) -> None: ...
def for_types(query: str, amount: OnlyForTypes) -> None: ...
def typo(query: Strin) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def connection(query: str, database: sqlite3.Connection) -> None: ...
def callback(query: str, then: Callable[[], None]) -> None: ...
def many_events(query: str, events: list[threading.Event]) -> None: ...
def field_default(query: str = Field("x", description="q")) -> None: ...


def test_an_event_may_be_optional_and_annotated() -> None:
    """Neither is shown to the model."""

    def wait(
        first: threading.Event,
        second: Annotated[threading.Event, "stop"],
        third: Annotated[threading.Event | None, "stop"] = None,
    ) -> bool:
        return first is second is third

    tool = Tool(wait)
    assert tool.parameters["properties"] == {}
    assert tool.run({}, threading.Event()) is True


@pytest.mark.parametrize(
    ("function", "parameter", "cure"),
    [
        (variadic, "queries", "wrap it in a function with named parameters"),
        (keywords, "queries", "wrap it in a function with named parameters"),
        (positional, "query", "wrap it in a function with named parameters"),
        (for_types, "amount", "not under TYPE_CHECKING"),
        (typo, "query", "cannot be resolved"),
        (connection, "database", "functools.partial"),
        (callback, "then", "no JSON schema"),
        (many_events, "events", "no JSON schema"),
        (field_default, "query", "query: Annotated"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_cannot_be_described_names_function_and_parameter(
    function: Callable[..., Any], parameter: str, cure: str
) -> None:
    """When the tool is made."""
    with pytest.raises(TypeError, match=cure) as caught:
        Tool(function)
    assert f"{function.__name__}()" in str(caught.value)
    assert repr(parameter) in str(caught.value)


def test_the_annotation_of_the_result_need_not_be_resolvable() -> None:
    """Nobody needs it."""

    def fine(query: str) -> OnlyForTypes:
        raise NotImplementedError(query)

    assert list(Tool(fine).parameters["properties"]) == ["query"]


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Tool("search"), TypeError, "expected a callable"),  # type: ignore[arg-type]
        (lambda: Tool(lambda: 1), ValueError, r"got '<lambda>': pass Tool\(function, name=...\)"),
        (lambda: Tool(search, name="two words"), ValueError, "two words"),
        (lambda: Tool(search, name="x" * 65), ValueError, "one to 64"),
        (lambda: Tool(dict.fromkeys), TypeError, "positional-only"),
        (lambda: Tool(dict.update), TypeError, "signature can be read|positional-only"),
        (lambda: ToolSet([search, Tool(search)]), ValueError, "two of the name 'search'"),
        (
            lambda: ToolSet([search, {"type": "function", "function": {"name": "search"}}]),
            ValueError,
            "two of the name",
        ),
        (lambda: ToolSet(search), TypeError, "put it into a list"),  # type: ignore[arg-type]
        (lambda: ToolSet({"type": "function"}), TypeError, "put it into a list"),  # type: ignore[dict-item]
        (lambda: ToolSet(["search"]), TypeError, "expected a callable"),  # type: ignore[list-item]
    ],
)
def test_what_is_no_tool_is_refused(make: Callable[[], object], error: type[Exception], said: str) -> None:
    """With a hint."""
    with pytest.raises(error, match=said):
        make()


def test_pydantic_1_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The official client 2.x takes it still."""
    monkeypatch.setattr(pydantic, "VERSION", "1.10.22")
    with pytest.raises(ImportError, match=r"Tool needs pydantic 2, got 1\.10\.22"):
        Tool(search)


def test_a_tool_can_be_pickled_where_its_function_can() -> None:
    """An agent lands in another process with it."""
    tool = pickle.loads(pickle.dumps(Tool(search, name="s", in_reader=True)))
    assert (tool.name, tool.in_reader, tool.function, tool.to_dict()) == (
        "s", True, search, Tool(search, name="s").to_dict(),
    )  # fmt: skip
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(Tool(lambda: 1, name="local"))


def calls(*names: str, kind: str = "function") -> Sequence[ToolCall]:
    return [ToolCall(n, f"c{n}", name, "{}", kind) for n, name in enumerate(names)]


def test_a_tool_that_is_a_dict_goes_out_untouched_and_is_not_run() -> None:
    """A round that calls one is the caller's."""
    lookup = {"type": "function", "function": {"name": "lookup"}, "strict": True}
    grammar = {"type": "custom", "custom": {"name": "grammar"}}
    built_in = {"type": "web_search"}
    tools = ToolSet([search, lookup, grammar, built_in])
    assert tools.offered == [Tool(search).to_dict(), lookup, grammar, built_in]
    assert tools.offered[1] is lookup
    assert tools.can_run(calls("search", "unknown"))
    assert not tools.can_run(calls("search", "lookup"))
    assert not tools.can_run(calls("grammar", kind="custom"))
    assert not tools.can_run(())
    assert not ToolSet([lookup]).can_run(calls("lookup"))
    assert not ToolSet([lookup])
    assert ToolSet([search])


def test_an_unknown_name_is_told_to_the_model() -> None:
    """With those that there are."""
    with pytest.raises(ToolError, match=r"no tool of this name. The tools are: search, later\."):
        ToolSet([search, later]).prepare(ToolCall(name="serach", arguments="{}"))
