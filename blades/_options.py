"""Argument validation: each function returns its value or raises an error that says what was expected.

Nothing here imports the official client. Its parameter names are asked for only if a name is not known here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, final

from blades._preview import short_repr, type_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from blades._option_types import HasIsSet

LONGEST_SECONDS: Final = 10**9  # thirty years; sockets take no more than three hundred
_MAX_DEPTH: Final = 100
_Function = TypeVar("_Function")
_Event = TypeVar("_Event", bound="HasIsSet | None")


# The parameters of the oldest official client allowed. `_option_types` has their types; a test keeps the two in step.
_KNOWN_OPTIONS: Final = frozenset({
    "audio", "extra_body", "extra_headers", "extra_query", "frequency_penalty", "function_call", "functions",
    "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "metadata", "modalities", "model", "n",
    "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "reasoning_effort",
    "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream_options",
    "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
})  # fmt: skip
_NOT_OPTIONS: Final = {
    "messages": "the prompt is the first argument of run() and run_stream()",
    "stream": "answers are always streamed; run() waits for the whole",
}
_AGENT_ARGUMENTS: Final = ("api_key", "base_url", "client", "instructions", "max_retries", "name", "require_finish")
_TIMEOUTS: Final = ("timeout", "first_chunk_timeout", "stall_timeout")
_RUN_ARGUMENTS: Final = (*_TIMEOUTS, "cancel", "tools", "max_rounds", "approve", "response_format")
_OTHER_NAMES: Final = {  # as other libraries and other servers call them
    "api_key": ("apikey", "key", "token", "api_token", "openai_api_key"),
    "base_url": ("url", "api_base", "api_url", "baseurl", "base", "endpoint", "host", "openai_api_base"),
    "cancel": ("cancel_event", "stop_event", "cancellation_token"),
    "instructions": ("system", "system_prompt", "system_message", "system_instruction"),
    "max_retries": ("retries", "num_retries"),
    "max_tokens": ("max_length", "max_new_tokens", "num_predict", "max_output_tokens"),
    "model": ("model_name", "engine", "deployment"),
    "response_format": ("format", "schema", "output_type", "response_model"),
    "stop": ("stop_sequences",),
    "temperature": ("temp",),
    "tools": ("tool", "function"),
}
_NOT_JSON: Final = ("extra_headers", "extra_query")


@final
class Timeouts(NamedTuple):
    """The caller's limits, in seconds; None is no limit."""

    timeout: float | None
    first_chunk_timeout: float | None
    stall_timeout: float | None


def text(name: str, value: object, *, secret: bool = False) -> str:
    """Check a text that must not be empty; a secret is not repeated."""
    if not isinstance(value, str):
        raise TypeError(f"expected {name} as a str, got {type_name(value)}")
    if not value.strip():
        raise ValueError(f"expected {name} as a text, got " + ("an empty one" if secret else short_repr(value)))
    return value


def seconds(name: str, value: object) -> float | None:
    """Check a time limit in seconds."""
    if value is None:
        return None
    expected = f"expected {name} as a number of seconds above 0, or None for no limit"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{expected}, got {type_name(value)}")
    if not 0 < value < math.inf:
        raise ValueError(f"{expected}, got {value!r}")
    return float(min(value, LONGEST_SECONDS))


def timeouts(values: tuple[object, object, object], agent: Timeouts | None = None) -> Timeouts:
    """Check an agent's limits, or those of a call, where `...` stands for the agent's."""
    given: Iterable[object] = values
    if agent is not None:
        given = (own if value is ... else value for value, own in zip(values, agent, strict=True))
    return Timeouts(*map(seconds, Timeouts._fields, given))


def rounds(value: object) -> int:
    """Check the number of requests that a stream with tools may send."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected max_rounds as an int, got {type_name(value)}")
    if value < 1:
        raise ValueError(f"expected max_rounds of 1 or more, got {value!r}")
    return value


def function(name: str, value: _Function) -> _Function:
    """Check a function."""
    if value is not None and not callable(value):
        raise TypeError(f"expected {name} as a function, got {type_name(value)}")
    return value


def count(name: str, value: object) -> int | None:
    """Check a number of times."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {name} as an int, got {type_name(value)}")
    if value < 0:
        raise ValueError(f"expected {name} as 0 or more, got {short_repr(value)}")
    return value


def flag(name: str, value: object) -> bool:
    """Check a truth value."""
    if not isinstance(value, bool):
        raise TypeError(f"expected {name} as True or False, got {short_repr(value)}")
    return value


def event(value: _Event) -> _Event:
    """Check an event to cancel by."""
    given: object = value
    if given is not None and (isinstance(given, type) or not callable(getattr(given, "is_set", None))):
        raise TypeError(
            "expected cancel as an event with is_set(), such as threading.Event() or multiprocessing.Event(), got "
            + (f"the class {given.__name__}: call it" if isinstance(given, type) else type_name(given))
        )
    return value


def client(value: object, *, alone: bool) -> Any:
    """Check an official client: an `openai.OpenAI` or None. Whoever has a client has imported its module."""
    if value is None:
        return None
    if not alone:
        raise TypeError("expected either client, or base_url and api_key, got both: configure the client itself")
    official = sys.modules.get("openai")
    if official is None or not isinstance(value, official.OpenAI):
        hint = ": use the synchronous one" if type_name(value).startswith("Async") else ""
        raise TypeError(f"expected client as an openai.OpenAI or openai.AzureOpenAI, got {type_name(value)}{hint}")
    return value


def options(values: dict[str, Any], official_names: Callable[[], AbstractSet[str]]) -> dict[str, Any]:
    """Check options for ``chat.completions.create``: their names, and that JSON can hold their values.

    Args:
        values: The options.
        official_names: Returns the parameters that the installed official client knows. Only called for a name that
            is not known here, since importing the client takes half a second.

    Raises:
        TypeError: A name that is no option, or a value that is no JSON.
        ValueError: A value that cannot be meant.
    """
    for name in values:
        if name not in _KNOWN_OPTIONS and (name in _NOT_OPTIONS or name not in official_names()):
            raise TypeError(_name_error(name, official_names))
    if values.get("n") not in (1, None):
        raise ValueError(f"expected n as 1, got {short_repr(values['n'])}: start one stream for each answer")
    if "model" in values:
        text("model", values["model"])
    if any(callable(function) for function in values.get("functions") or ()):
        raise TypeError("expected functions as a list of dicts, got a callable: use tools=")
    for name, value in values.items():
        if name not in _NOT_JSON and (fault := _json_fault(value, name)):
            raise TypeError(f"expected options that JSON can hold, got {fault}")
    return values


def _name_error(name: str, official_names: Callable[[], AbstractSet[str]]) -> str:
    """Return what to do about a name that is no option."""
    error = f"expected an option of chat.completions.create in the installed openai package, got {short_repr(name)}"
    if name in _NOT_OPTIONS:
        return f"{error}: {_NOT_OPTIONS[name]}"
    import difflib  # for a message only

    owners = dict.fromkeys(_AGENT_ARGUMENTS, "Agent(...)")
    owners |= dict.fromkeys(_RUN_ARGUMENTS, "Agent(...), run() and run_stream()") | {"cancel": "run() and run_stream()"}
    if name in owners:
        return f"{error}: it is an argument of {owners[name]}"
    meant = [known for known, others in _OTHER_NAMES.items() if name.lower() in (known, *others)]
    similar = meant or difflib.get_close_matches(name, {*owners, *official_names()} - _NOT_OPTIONS.keys(), 1)
    if similar:
        owner = f", an argument of {owners[similar[0]]}" if similar[0] in owners else ""
        error += f": did you mean {similar[0]!r}{owner}?"
    if meant:
        return error
    error += " A" if similar else ": a"
    return f"{error} parameter of your provider's own goes into extra_body={{{short_repr(name)}: ...}}"


def _json_fault(value: object, where: str, depth: int = 0) -> str | None:
    """Return place and type of what is not JSON in a value, with a hint. What the official client converts passes."""
    if value is None or isinstance(value, (str, bool, int)):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{where}={value}: give a finite number"
    if depth > _MAX_DEPTH:
        return f"{where} with more than {_MAX_DEPTH} levels: it may contain itself"
    inner: Iterable[tuple[str, object]]
    if isinstance(value, Mapping):
        inner = ((f"{where}[{short_repr(key)}]", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        inner = ((f"{where}[{number}]", item) for number, item in enumerate(value))
    elif type(value).__module__.partition(".")[0] == "openai" or callable(getattr(type(value), "model_dump", None)):
        return None
    else:
        return f"{where} of type {type_name(value)}: {_json_hint(value)}"
    return next((fault for place, item in inner if (fault := _json_fault(item, place, depth + 1))), None)


def _json_hint(value: object) -> str:
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays, and what is like them
        return "call .tolist() on it"
    if isinstance(value, bytes | bytearray):
        return "decode it"
    if isinstance(value, Iterable):
        return "make a list of it"
    return "give a str, a number, a list or a dict"
