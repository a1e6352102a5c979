"""Structured output: a type becomes the `response_format` of a request, and the answer a value of that type.

pydantic and jiter come with the official client. Both are imported on first use.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, final, get_origin

from blades._errors import ReplyParseError
from blades._preview import short_repr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from blades._values import Reply

T = TypeVar("T")

# What pydantic writes and the API refuses in a strict schema: https://platform.openai.com/docs/guides/structured-outputs
_NOT_STRICT: Final = frozenset({"oneOf", "patternProperties", "prefixItems", "propertyNames", "not", "if"})
_STRICT_FORMATS: Final = frozenset({
    "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid",
})  # fmt: skip
_TYPED: Final = frozenset({"$ref", "allOf", "anyOf", "const", "enum", "type"})
_CUT: Final = {
    "length": "by the limit of tokens (finish reason 'length'): raise max_completion_tokens",
    "content_filter": "by the server's content filter (finish reason 'content_filter')",
}
_FENCE: Final = "```"


@final
class ResponseType(Generic[T]):
    """A type that answers are validated as. Picklable if the type is.

    Args:
        kind: A pydantic model, a dataclass or a TypedDict.

    Attributes:
        format: The `response_format` of the request.

    Raises:
        TypeError: The type cannot be described as a JSON object.
        ImportError: pydantic 1 is installed.
    """

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        pydantic = import_pydantic("response_format")
        name = getattr(kind, "__name__", None) or short_repr(kind)
        if inspect.isroutine(kind):  # pydantic would describe its parameters
            raise _no_type(kind)
        try:
            self._adapter = pydantic.TypeAdapter(kind)
            schema = self._adapter.json_schema()
        except (pydantic.PydanticUserError, NameError, AttributeError) as error:  # an object's lack of __qualname__
            is_type = isinstance(kind, type) or get_origin(kind) is not None
            raise (_no_type(kind, str(error).partition("\n")[0]) if is_type else _no_type(kind)) from error
        if "$ref" in schema:  # a recursive type
            schema = {**_resolve(schema["$ref"], schema), "$defs": schema["$defs"]}
        if schema.get("type") != "object":
            raise TypeError(
                f"expected response_format with an object at the root, got {short_repr(kind)}: put it into a field of "
                "a pydantic model, a dataclass or a TypedDict"
            )
        strict = _strict_schema(schema)
        self.format: dict[str, Any] = {
            "type": "json_schema",
            "json_schema": {
                "name": re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:64] or "response",
                "schema": schema if strict is None else strict,
                "strict": strict is not None,
            },
        }

    def parse(self, text: str, reply: Reply) -> T:
        """Validate the text of an answer.

        Raises:
            ReplyParseError: The text is not such an object. The message names the first cause.
        """
        pydantic = import_pydantic("response_format")
        try:
            return cast("T", self._adapter.validate_json(_without_fence(text)))
        except pydantic.ValidationError as error:
            errors = tuple(error.errors(include_url=False, include_context=False))
            raise ReplyParseError(_cause(text, reply, errors), text=text, reply=reply, errors=errors) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return ResponseType, (self._kind,)

    def __repr__(self) -> str:
        return f"ResponseType({short_repr(self._kind)})"


def read_format(value: type[T] | Mapping[str, Any] | None) -> tuple[Mapping[str, Any] | None, ResponseType[T] | None]:
    """Return what the request says, and what parses the answer, of what was given as `response_format`."""
    if value is None or isinstance(value, Mapping):
        return value, None
    made = ResponseType(value)
    return made.format, made


def partial(text: str) -> dict[str, Any] | list[Any] | None:
    """Parse what a text has of JSON so far; return None before it begins, and for what is no JSON. Never raises."""
    import jiter

    try:
        value = jiter.from_json(_without_fence(text).encode("utf-8", "replace"), partial_mode="trailing-strings")
    except ValueError:
        return None
    return value if isinstance(value, dict | list) else None


def import_pydantic(feature: str) -> ModuleType:
    """Import pydantic 2.

    Raises:
        ImportError: pydantic 1 is installed.
    """
    import pydantic

    if pydantic.VERSION.startswith("1."):
        raise ImportError(f"{feature} needs pydantic 2, got {pydantic.VERSION}: pip install --upgrade pydantic")
    return pydantic


def _no_type(kind: object, hint: str = "give the type itself, not an object or its name") -> TypeError:
    return TypeError(
        "expected response_format as a pydantic model, a dataclass, a TypedDict, or a dict as the API has it, "
        f"got {short_repr(kind)}: {hint}"
    )


def _without_fence(text: str) -> str:
    """Remove one code fence around the whole text, closed or still open. Linear, since a model may write any text."""
    fenced = text.strip()
    if not fenced.startswith(_FENCE):
        return text
    opening, _, inside = fenced.removeprefix(_FENCE).partition("\n")
    if "`" in opening:
        return text
    before, _, last_line = inside.rpartition("\n")
    return before if last_line.strip() == _FENCE else inside


def _cause(text: str, reply: Reply, errors: tuple[dict[str, Any], ...]) -> str:
    """Say why a text could not be parsed: the first cause, not the last symptom."""
    if reply.finish_reason in _CUT:
        return f"The answer was cut {_CUT[reply.finish_reason]}."
    if not reply.complete:
        return "The answer is not complete: its stream was cancelled or has failed."
    if reply.refusal:
        return f"The model refused: {short_repr(reply.refusal, 200)}"
    if not text.strip():
        return f"The answer has no text{', but tool calls' if reply.tool_calls else ''}: there is no JSON to parse."
    first = errors[0]
    if first["type"] == "json_invalid":
        return f"The answer is no JSON ({first['msg']}): {short_repr(text, 200)}"
    place = ".".join(map(str, first["loc"])) or "the root"
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return f"The answer does not fit the type: at {place}: {first['msg']}, got {short_repr(first['input'])}{more}."


def _strict_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return the strict form of a schema; None if it has none."""
    if any(map(_forbids_strict, _walk(schema))):
        return None
    try:
        return _make_strict(schema, schema)
    except RecursionError:  # a reference to itself that does not stand alone
        return None


def _walk(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a schema and those within it."""
    yield schema
    for key, value in schema.items():
        if key in {"properties", "$defs"}:
            inner = list(value.values())
        elif key in {"items", "additionalProperties"}:
            inner = [value]
        else:
            inner = value if key in {"anyOf", "allOf", "oneOf"} else []
        for each in inner:
            if isinstance(each, dict):
                yield from _walk(each)


def _forbids_strict(schema: dict[str, Any]) -> bool:
    """Return whether a schema says what a strict one cannot, such as an object of any keys, or a value of any type."""
    if not _NOT_STRICT.isdisjoint(schema) or len(schema.get("allOf", ())) > 1:
        return True
    if "(?" in schema.get("pattern", "") or schema.get("format", "date") not in _STRICT_FORMATS:
        return True
    if schema.get("type") == "object":
        return "properties" not in schema or schema.get("additionalProperties", False) is not False
    return _TYPED.isdisjoint(schema) or (schema.get("type") == "array" and not schema.get("items"))


def _make_strict(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Make a schema strict as `openai.pydantic_function_tool` does: all properties required, no others allowed."""
    made = {key: value for key, value in schema.items() if (key, value) != ("default", None)}
    for key in made.keys() & {"properties", "$defs"}:
        made[key] = {name: _make_strict(inner, root) for name, inner in made[key].items()}
    for key in made.keys() & {"anyOf", "allOf"}:
        made[key] = [_make_strict(inner, root) for inner in made[key]]
    if isinstance(made.get("items"), dict):
        made["items"] = _make_strict(made["items"], root)
    if "properties" in made:
        made["required"] = list(made["properties"])
    if made.get("type") == "object":
        made["additionalProperties"] = False
    if len(made.get("allOf", ())) == 1:
        made.update(made.pop("allOf")[0])
    if "$ref" in made and len(made) > 1:  # a reference must stand alone: put what it refers to in its place
        target = _resolve(made.pop("$ref"), root)
        made = _make_strict({**target, **made}, root)
    return made


def _resolve(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    """Find what a reference such as ``#/$defs/Item`` refers to."""
    return cast(
        "dict[str, Any]", root["$defs"][reference.removeprefix("#/$defs/").replace("~1", "/").replace("~0", "~")]
    )
