"""Tools: functions that the model may call. What the model is shown of them is read from their signatures."""

from __future__ import annotations

import functools
import inspect
import json
import re
import sys
import threading
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, cast, final

from blades._errors import ToolError
from blades._preview import short_repr, type_name
from blades._structured import import_pydantic
from blades._values import ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import TypeAdapter

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

NO_OBJECT: Final = "Not run: the arguments are not a JSON object."


@final
class Tool:
    """A function that the model may call. `Agent` makes one of each callable that it is given as a tool.

    The model is shown the function's signature and docstring. Annotate each parameter, with
    ``Annotated[str, Field(description=...)]`` where the name does not say enough. Each call runs in a daemon thread
    with the context variables of the caller; calls of the same answer run at the same time. A parameter annotated
    `threading.Event` is not shown to the model: the function is given an event that is set when the stream has ended
    for any reason. A coroutine function is run by `asyncio.run`.

    The function returns a str, which is sent as it is, a `Reply`, whose text is sent, or anything that pydantic can
    write as JSON. It raises `ToolError` to report a failure to the model; any other exception ends the stream as
    `ToolFailed`.

    Args:
        function: Any callable: a function, a method, an object with ``__call__``, a `functools.partial`, whose bound
            arguments are not shown to the model.
        name: Default: the name of the function.
        description: Default: the docstring.
        in_reader: Run the function in the thread that reads the stream, one call after another. For what belongs to
            that thread, such as a `sqlite3` connection or a window. `cancel` then waits for the function.

    Raises:
        TypeError: The signature cannot be described: ``*args``, ``**kwargs``, a positional-only parameter, or an
            annotation that cannot be resolved or has no JSON schema.
        ValueError: The name is not one to 64 letters, digits, ``_`` and ``-``.
        ImportError: pydantic 1 is installed.
    """

    __slots__ = ("_adapter", "_events", "_made_from", "description", "function", "in_reader", "name", "parameters")

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        in_reader: bool = False,
    ) -> None:
        if not callable(function):
            raise TypeError(f"expected a callable as a tool, got {type_name(function)}")
        target = function.func if isinstance(function, functools.partial) else function
        self.function = function
        self.name: str = name or getattr(target, "__name__", None) or type(target).__name__
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"expected a tool's name of one to 64 letters, digits, '_' and '-', got {short_repr(self.name)}: "
                "pass Tool(function, name=...)"
            )
        self.description: str = description if description is not None else _docstring(target)
        self.in_reader = in_reader
        self._made_from = (function, name, description, in_reader)  # for pickle
        shown, self._events = _read_signature(function, target, self.name)
        self._adapter = _make_adapter(self.name, shown)
        self.parameters: dict[str, Any] = _schema(self._adapter, shown)

    def to_dict(self) -> dict[str, Any]:
        """Return the tool as the API takes it: an item of ``tools``."""
        described = {"description": self.description} if self.description else {}
        return {"type": "function", "function": {"name": self.name, **described, "parameters": self.parameters}}

    def read_arguments(self, text: str) -> dict[str, Any]:
        """Validate the arguments of a call, strictly: a number in quotes is no number.

        Raises:
            ToolError: They do not fit; the message is for the model.
        """
        pydantic = import_pydantic("Tool")
        place: tuple[str, ...] = ()
        try:
            arguments = cast("dict[str, Any]", self._adapter.validate_json(text.strip() or "{}", strict=True))
            for name, value in arguments.items():
                if isinstance(value, Iterator):  # of an `Iterable`, whose items pydantic validates when they are read
                    place = (name,)
                    arguments[name] = list(value)
        except pydantic.ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
        else:
            return arguments
        if not place and not faults[0]["loc"]:  # no JSON at all, or no object
            raise ToolError(NO_OBJECT)
        faults_shown = "; ".join(
            f"{'.'.join(map(str, (*place, *fault['loc'])))}: {fault['msg']}" for fault in faults[:8]
        )
        raise ToolError(f"Not run: the arguments do not fit. {faults_shown}.")

    def run(self, arguments: Mapping[str, Any], stop_event: threading.Event) -> object:
        """Call the function, and wait for what it returns."""
        value = self.function(**arguments, **dict.fromkeys(self._events, stop_event))
        if inspect.isawaitable(value):
            import asyncio

            return asyncio.run(_wait_for(value))
        # A generator's code runs here, and not while its JSON is written: what it raises is the tool's own exception.
        return list(value) if isinstance(value, Iterator) else value

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, self._made_from

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"


AnyTool: TypeAlias = Callable[..., Any] | Tool | Mapping[str, Any]
Approve: TypeAlias = Callable[[ToolCall], bool | str]


@final
class ToolSet:
    """The tools of one request.

    Attributes:
        offered: What the request says of them.
    """

    def __init__(self, tools: Iterable[AnyTool]) -> None:
        if isinstance(tools, str | Mapping) or callable(tools):
            raise TypeError(f"expected a list of tools, got {type_name(tools)}: put it into a list")
        self._tools: dict[str, Tool] = {}
        self.offered: list[Mapping[str, Any]] = []
        self._foreign: set[str] = set()  # the names of tools that are dicts: the caller runs them
        for given in tools:
            if isinstance(given, Mapping):
                self.offered.append(given)
                self._foreign.add(_name_of(given))
                continue
            tool = given if isinstance(given, Tool) else Tool(given)
            if tool.name in self._tools:
                raise _same_name(tool.name)
            self.offered.append(tool.to_dict())
            self._tools[tool.name] = tool
        if clash := self._foreign & self._tools.keys():
            raise _same_name(min(clash))

    def __bool__(self) -> bool:
        """Return whether any of them can be run here."""
        return bool(self._tools)

    def can_run(self, calls: Sequence[ToolCall]) -> bool:
        """Return whether a round of calls is to be run here: none of them is for the caller to run."""
        return bool(self._tools and calls) and not any(
            call.name in self._foreign or call.type != "function" for call in calls
        )

    def prepare(self, call: ToolCall) -> tuple[Tool, dict[str, Any]]:
        """Find the tool and the arguments of a call.

        Raises:
            ToolError: There is no such tool, or the arguments do not fit; the message is for the model.
        """
        tool = self._tools.get(call.name)
        if tool is None:
            raise ToolError(f"Not run: there is no tool of this name. The tools are: {', '.join(self._tools)}.")
        return tool, tool.read_arguments(call.arguments)


async def _wait_for(awaitable: Any) -> Any:
    return await awaitable


def _restore(function: Callable[..., Any], name: str | None, description: str | None, in_reader: bool) -> Tool:
    return Tool(function, name=name, description=description, in_reader=in_reader)


def _same_name(name: str) -> ValueError:
    return ValueError(f"expected tools with different names, got two of the name {name!r}: pass Tool(..., name=...)")


def _callee(target: object) -> Any:
    """Return what has the docstring and the globals: a function itself, or the ``__call__`` method of an object."""
    return target if hasattr(target, "__name__") else type(target).__call__


def _docstring(target: object) -> str:
    callee = _callee(target)
    return (callee.__doc__ and inspect.getdoc(callee)) or inspect.getdoc(target) or ""


def _name_of(tool: Mapping[str, Any]) -> str:
    """Return the name by which the model calls a tool that is a dict; ``""`` if it has none."""
    inner = tool.get(str(tool.get("type")))
    name = inner.get("name") if isinstance(inner, Mapping) else tool.get("name")
    return name if isinstance(name, str) else ""


@final
class _Parameter(typing.NamedTuple):
    """One parameter that the model is shown."""

    annotation: Any
    default: Any


def _read_signature(function: Callable[..., Any], target: object, name: str) -> tuple[dict[str, _Parameter], list[str]]:
    """Return the parameters that the model is shown, and the names of those that take the stop event."""
    try:
        signature = inspect.signature(function, **_annotation_format())
    except (TypeError, ValueError) as error:
        raise TypeError(f"expected a tool whose signature can be read, got {name}(): wrap it in a function") from error
    bound = function.keywords if isinstance(function, functools.partial) else {}
    shown: dict[str, _Parameter] = {}
    events: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.name in bound:
            continue
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise TypeError(
                f"the tool {name}() has the {parameter.kind.description} parameter {parameter.name!r}, but the model "
                "gives arguments by name: wrap it in a function with named parameters"
            )
        annotation = _resolve_annotation(parameter, target, name)
        if _is_event(annotation):
            events.append(parameter.name)
            continue
        if type(parameter.default).__module__ == "pydantic.fields":
            raise TypeError(
                f"the tool {name}() has a Field as the default of {parameter.name!r}: write it as "
                f"{parameter.name}: Annotated[..., Field(...)] = default"
            )
        shown[parameter.name] = _Parameter(annotation, parameter.default)
    return shown, events


def _is_event(annotation: Any) -> bool:
    """Return whether an annotation is that of the stop event: an optional or annotated one, too."""
    if typing.get_origin(annotation) in {Annotated, typing.Union, types.UnionType}:
        return any(map(_is_event, typing.get_args(annotation)))
    return annotation is threading.Event


def _annotation_format() -> dict[str, Any]:
    """Return arguments for `inspect.signature` that leave unresolvable annotations alone (Python 3.14)."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return {"annotation_format": annotationlib.Format.FORWARDREF}
    return {}


def _resolve_annotation(parameter: inspect.Parameter, target: object, name: str) -> Any:
    """Evaluate the annotation of one parameter. That of the result, for instance, need not be resolvable."""
    if parameter.annotation is parameter.empty:
        return Any
    callee = _callee(target)
    if isinstance(callee, type):
        names = vars(sys.modules[callee.__module__])
    else:
        names = getattr(inspect.unwrap(callee), "__globals__", {})

    def holder() -> None: ...

    holder.__annotations__ = {parameter.name: parameter.annotation}
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)[parameter.name]
    except Exception as error:
        raise TypeError(
            f"the tool {name}() has the parameter {parameter.name!r}, whose annotation "
            f"{short_repr(parameter.annotation)} cannot be resolved ({error}): import or define what it names at the "
            "top of the module, not under TYPE_CHECKING or in a function"
        ) from error


def _make_adapter(name: str, shown: Mapping[str, _Parameter]) -> TypeAdapter[Any]:
    """Make the validator of the arguments: of a TypedDict, since the fields of a model may not have any name."""
    pydantic = import_pydantic("Tool")
    import typing_extensions

    fields = {
        key: annotation if default is inspect.Parameter.empty else typing_extensions.NotRequired[annotation]
        for key, (annotation, default) in shown.items()
    }
    kind: Any = cast("Any", typing_extensions).TypedDict(name, fields)
    kind.__pydantic_config__ = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)  # NaN is no JSON
    try:
        adapter = pydantic.TypeAdapter(kind)
        adapter.json_schema()
    except (pydantic.PydanticUserError, NameError, RuntimeError):
        for key, (annotation, _) in shown.items():  # which parameter is it?
            try:
                pydantic.TypeAdapter(annotation).json_schema()
            except Exception as error:
                raise TypeError(
                    f"the tool {name}() has the parameter {key!r}, whose type {short_repr(annotation)} has no JSON "
                    "schema: annotate it with str, a number, a list, a dataclass, ...; bind what the model must not "
                    "see with functools.partial"
                ) from error
        raise
    return cast("TypeAdapter[Any]", adapter)


def _schema(adapter: TypeAdapter[Any], shown: Mapping[str, _Parameter]) -> dict[str, Any]:
    """Return the JSON schema of the arguments, with the defaults that JSON can write."""
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    schema = adapter.json_schema()
    for key, described in schema.get("properties", {}).items():
        default = shown[key].default
        if default is not inspect.Parameter.empty:
            with suppress(PydanticSerializationError, ValueError):  # the function has its default all the same
                described["default"] = json.loads(json.dumps(to_jsonable_python(default), allow_nan=False))
    return schema
