"""Is this what was meant? Each function returns its value or says what was expected, what came and what to do."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, cast, final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    import openai

    from blades._transport.events import Event

LONGEST_SECONDS = 10**9  # thirty years; sockets take no more than three hundred

# The parameters of `chat.completions.create` in the oldest official client allowed; others are looked up there.
_KNOWN_OPTIONS = frozenset({
    "audio", "extra_body", "extra_headers", "extra_query", "frequency_penalty", "function_call", "functions",
    "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "metadata", "modalities", "model", "n",
    "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "reasoning_effort",
    "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream_options", "temperature",
    "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
})  # fmt: skip
_OURS = {
    "messages": "the prompt is the first argument of run() and run_stream()",
    "stream": "answers are always streamed; run() waits for the whole",
}


@final
class Timeouts(NamedTuple):
    """The caller's limits, in seconds; None is no limit."""

    timeout: float | None
    first_chunk_timeout: float | None
    stall_timeout: float | None


def text(name: str, value: object, *, secret: bool = False) -> str:
    """Check a text that must say something; a secret is not repeated."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}.")
    if not value.strip():
        raise ValueError(f"{name} must not be empty" + ("." if secret else f", but is {value!r}."))
    return value


def seconds(name: str, value: object) -> float | None:
    """Check a time limit in seconds."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None for no limit, not {type(value).__name__}.")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be more than 0 seconds and finite, not {value!r}; None means no limit.")
    return float(min(value, LONGEST_SECONDS))


def timeouts(values: tuple[object, object, object], agent: Timeouts | None = None) -> Timeouts:
    """Check an agent's limits, or those of a call, where `...` stands for the agent's."""
    given: Iterable[object] = values
    if agent is not None:
        given = (own if value is ... else value for value, own in zip(values, agent, strict=True))
    return Timeouts(*map(seconds, Timeouts._fields, given))


def count(name: str, value: object) -> int | None:
    """Check a number of times."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}.")
    if value < 0:
        raise ValueError(f"{name} must be 0 or more, not {value!r}.")
    return value


def flag(name: str, value: object) -> bool:
    """Check a yes or no."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r:.100}.")
    return value


def event(value: Event | None) -> Event | None:
    """Check an event to cancel by."""
    if value is not None and (isinstance(value, type) or not callable(getattr(value, "is_set", None))):
        raise TypeError(
            "cancel must be an event with is_set(), such as threading.Event() or multiprocessing.Event(), "
            f"not {value!r:.100}."
        )
    return value


def client(value: object, *, alone: bool) -> openai.OpenAI | None:
    """Check an official client; whoever has one has imported its module."""
    if value is None:
        return None
    if not alone:
        raise TypeError("Give the Agent either a client, or base_url and api_key, but not both.")
    official = sys.modules.get("openai")
    if official is None or not isinstance(value, official.OpenAI):
        raise TypeError(
            f"client must be an openai.OpenAI or openai.AzureOpenAI (the synchronous ones), not {type(value).__name__}."
        )
    return cast("openai.OpenAI", value)


def options(values: dict[str, Any]) -> dict[str, Any]:
    """Check options for ``chat.completions.create``: that it knows their names, and that they can be meant here."""
    for name in values:
        if name in _OURS:
            raise TypeError(f"{name!r} is not an option: {_OURS[name]}.")
        if name not in _KNOWN_OPTIONS and name not in (known := _official_options()):
            import difflib  # noqa: PLC0415 - for a message only

            similar = difflib.get_close_matches(name, known, 1)
            raise TypeError(
                f"{name!r} is not a parameter of chat.completions.create in the installed openai package"
                + (f"; did you mean {similar[0]!r}?" if similar else ".")
                + " Parameters of your provider's own go into extra_body={...}."
            )
    if values.get("n", 1) not in (1, None):
        raise ValueError(f"n must be 1, not {values['n']!r:.100}: a stream is one answer. Start one stream for each.")
    if "model" in values:
        text("model", values["model"])
    return values


def _official_options() -> AbstractSet[str]:
    """Look the parameters up in the official client, which is imported for that: only for names not known here."""
    import inspect  # noqa: PLC0415 - see above

    from openai.resources.chat.completions import Completions  # noqa: PLC0415 - see above

    return inspect.signature(Completions.create).parameters.keys() - {"self", "timeout", *_OURS}
