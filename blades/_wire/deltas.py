"""The JSON of one event to typed parts: pure functions that take anything and raise nothing but ValueError.

What is not of the expected type counts as not understood, and is kept as a field of its own. Each tolerance names the
servers that need it. A new field of the API is added to `Delta` and `parse_delta`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, final

from blades._values import Usage, count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Json: TypeAlias = dict[str, Any]

INTEGER_DIGITS: Final = 4300  # Python refuses longer ones, to be safe from quadratic time; so does jiter
DEPTH_LIMIT: Final = 50  # of what is searched for texts; what is below counts as one value
LEVELS_LIMIT: Final = 250  # of any event: comparing deeper values can exceed the interpreter's limit; jiter's is 200

# By these names servers send the model's reasoning, the first ones first: DeepSeek and vLLM; OpenRouter, Groq and newer
# vLLM; Copilot; Cohere and Ollama-like proxies; Gemini-like proxies; OpenRouter's parts; LiteLLM's parts.
REASONING_NAMES: Final = (
    "reasoning_content",
    "reasoning",
    "reasoning_text",
    "thinking",
    "thoughts",
    "reasoning_details",
    "thinking_blocks",
)
_REASONING: Final = frozenset(REASONING_NAMES)
_COMPOUND: Final = (dict, list)
_THOUGHTS: Final = ("text", "thinking", "summary", "content")  # where the text of a reasoning part is
DELTA_FIELDS: Final = frozenset({"role", "content", "refusal", "tool_calls", *REASONING_NAMES})
CHOICE_FIELDS: Final = frozenset({"index", "delta", "message", "finish_reason", "usage", "error"})
EVENT_FIELDS: Final = frozenset(
    {
        *(
            "id",
            "object",
            "created",
            "model",
            "choices",
            "usage",
            "error",
            "x_groq",
            "system_fingerprint",
            "service_tier",
        ),
        *("obfuscation", "prompt_filter_results"),  # padding against traffic analysis; Azure's judgement of the prompt
    }
)


@final
class Delta(NamedTuple):
    """What one choice of an event brings.

    Attributes:
        text, reasoning, refusal: New text; ``""`` for none.
        tool_calls: Parts of tool calls as sent, of any type.
        finish_reason: As sent; None if there is none, or none that is a reason.
        reasoning_fields: The reasoning under the names the server used, as sent.
        extra: What is not understood in the delta, by name.
    """

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: Sequence[Any] = ()
    finish_reason: str | None = None
    reasoning_fields: Json = {}  # noqa: RUF012 - never changed
    extra: Json = {}  # noqa: RUF012 - never changed


def parse_delta(choice: Json, *, message: bool = True) -> Delta:
    """Read one choice.

    Args:
        choice: The choice.
        message: A whole ``message`` counts if the delta has nothing. One that repeats the deltas at the end must not.
    """
    reason = string(choice.get("finish_reason"))
    if reason in ("null", "error"):  # the latter is no reason but an error, which the decoder raises
        reason = None
    sent = choice.get("delta")
    delta = _parse_fields(sent, reason) if type(sent) is dict else Delta(finish_reason=reason)
    whole = choice.get("message")
    if message and type(whole) is dict and delta == Delta(finish_reason=reason):
        return _parse_fields(whole, reason)
    return delta


def _parse_fields(sent: Json, reason: str | None) -> Delta:
    """Read a delta, or a whole message."""
    text = sent.get("content")
    thinking, extra = "", unknown_fields(sent, DELTA_FIELDS)
    if type(text) is not str:
        text, thinking, unknown = _parse_parts(text) if text else ("", "", None)
        if unknown:
            extra["content"] = unknown
    fields: Json = {}
    if not _REASONING.isdisjoint(sent):
        for name in filter(sent.get, REASONING_NAMES):
            value = sent[name]
            if type(value) is str or holds_data(value):
                fields[name] = value
                thinking = thinking or _thought(value)  # some proxies send two names: one counts
    refusal, calls = sent.get("refusal"), sent.get("tool_calls")
    if calls:
        calls = calls if type(calls) is list else [calls]
        if unknown_calls := [call for call in calls if type(call) is not dict and holds_data(call)]:
            extra["tool_calls"] = unknown_calls
    return Delta(text, thinking, refusal if type(refusal) is str else "", calls or (), reason, fields, extra)


def unknown_fields(sent: Json, known: frozenset[str]) -> Json:
    """Return the fields that are not known here and hold something."""
    if known.issuperset(sent):
        return {}
    return {name: value for name, value in sent.items() if name not in known and holds_data(value)}


def holds_data(value: object, depth: int = 0) -> bool:
    """Return whether there is anything in a value but nulls, empty texts, and empty lists and objects."""
    if isinstance(value, _COMPOUND) and depth < DEPTH_LIMIT:
        return any(holds_data(each, depth + 1) for each in _values_of(value))
    return value is not None and value != ""


def _parse_parts(content: object) -> tuple[str, str, list[Any]]:
    """Join content that is a list of parts: texts, reasoning, and the parts that are not understood.

    Mistral sends parts of type ``thinking``, whose thinking is again a list; Databricks parts of type ``reasoning``
    with a ``summary``.
    """
    texts: list[str] = []
    thoughts: list[str] = []
    unknown: list[Any] = []
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(part, dict) and part.get("type") in ("thinking", "reasoning"):
            thoughts.append(_thought(part))
            if part.get("signature"):
                unknown.append(part)
        elif isinstance(text, str):
            texts.append(text)
        elif holds_data(part):
            unknown.append(part)
    return "".join(texts), "".join(thoughts), unknown


def _thought(value: object, depth: int = 0) -> str:
    """Return the text in the reasoning of one name: a text, a part, or a list of them."""
    if isinstance(value, str):
        return value
    if depth < DEPTH_LIMIT and isinstance(value, list):
        return "".join([_thought(part, depth + 1) for part in value])
    if depth < DEPTH_LIMIT and isinstance(value, dict):
        return next(filter(None, (_thought(value.get(name), depth + 1) for name in _THOUGHTS)), "")
    return ""


def first_choice(choices: object) -> Json | None:
    """Return the choice with index 0, or without any index. Others belong to answers that were not asked for."""
    for choice in choices if type(choices) is list else ():
        if type(choice) is dict:
            index = choice.get("index")
            if not index or not number(index):
                return choice
    return None


def parse_usage(event: Json, choice: Json | None = None) -> Usage | None:
    """Return the usage in an event; None if there is none, or none of its counts is a number.

    Groq sends it under ``x_groq`` as well, Moonshot in the choice. Some count ``input_tokens`` and ``output_tokens``.
    """
    groq = event.get("x_groq")
    if not (event.get("usage") or groq or (choice is not None and "usage" in choice)):
        return None
    places = (event, groq if isinstance(groq, dict) else None, choice)
    for sent in (place.get("usage") for place in places if place):
        if isinstance(sent, dict):
            prompt, completion, total = (
                next((found for name in names if (found := count(sent.get(name))) is not None), None)
                for names in (
                    ("prompt_tokens", "input_tokens"),
                    ("completion_tokens", "output_tokens"),
                    ("total_tokens",),
                )
            )
            if (prompt, completion, total) != (None, None, None):
                return Usage(prompt, completion, total, sent)
    return None


# JSON and plain values


def fast_parser() -> Callable[[bytes], Any]:
    """Return the fastest parser there is; what it refuses must be given to `parse_lenient`.

    jiter comes with the official client, and needs a third of the time of `json.loads` for a common event. It gives the
    same results, or refuses: lone surrogates, invalid UTF-8, more than 200 levels, a byte order mark, long numbers.
    """
    try:
        from jiter import from_json  # not at import of the package
    except ImportError:
        return _refuse
    # jiter 0.4.0, which openai 2.0 is content with, garbles escapes.
    return from_json if from_json(b'"\\u00e9"') == "\u00e9" else _refuse


def _refuse(_data: bytes) -> Any:
    raise ValueError


def parse_lenient(data: bytes) -> Any:
    """Parse JSON with `json`: invalid UTF-8 is replaced, surrogates may be alone, integers too long are None.

    Raises:
        ValueError: It is not JSON, or too deep to be read.
    """
    try:
        value = json.loads(data.decode("utf-8", "replace"), parse_int=_parse_integer)
    except RecursionError:
        raise ValueError("nested too deep") from None
    level = [value]
    for _ in range(LEVELS_LIMIT):
        level = [inner for each in level if isinstance(each, _COMPOUND) for inner in _values_of(each)]
        if not level:
            return value
    raise ValueError("nested too deep")


def _values_of(value: Json | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _parse_integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= INTEGER_DIGITS else None


def parse_object(data: bytes) -> Json | None:
    """Return the JSON object that bytes outside of any event are, if they are one."""
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        value = parse_lenient(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def clean(text: str) -> str:
    """Join the surrogates that are pairs, and replace the others: the result can be encoded."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def string(value: object) -> str | None:
    """Return a text that is not empty, or None."""
    return clean(value) if isinstance(value, str) and value else None


def number(value: object) -> int | None:
    """Return an index as an int, also if it was sent as text; None if it is none."""
    return count(value)


def json_text(value: object) -> str:
    """Return JSON text that some servers send as text, others as the object itself; ``""`` for anything else."""
    if isinstance(value, str):
        return value
    if not isinstance(value, (dict, list)):
        return ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return ""
