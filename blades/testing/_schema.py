"""A small value that fits a JSON schema: arguments for a tool, or a structured answer."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["fit"]

_FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_SUBJECTS = ("query", "question", "search", "text", "prompt", "topic", "pattern", "keyword", "term")
_PLACES = ("path", "folder", "directory", "dir", "file")
_DEEP = 3  # from this depth on only what is required: schemas may refer to themselves
_TOO_DEEP = 16


def fit(schema: Any, subject: str) -> Any:
    """Make a value that fits a schema, the same one each time.

    Args:
        schema: A JSON schema with its ``$defs``; references to elsewhere, ``not`` and ``pattern`` are not honoured.
        subject: The text for properties that ask for one, such as a query.
    """
    return _Fitter(schema, subject).fit(schema, "value", 0)


class _Fitter:
    def __init__(self, root: Any, subject: str) -> None:
        self._root = root
        self._subject = subject

    def fit(self, schema: Any, name: str, depth: int) -> Any:
        """Fit one schema, under the name of its property."""
        schema = self._resolve(schema)
        if stated := _stated_values(schema):
            return stated[0]
        for key in ("anyOf", "oneOf"):
            options = [option for option in schema.get(key) or () if option != {"type": "null"}]
            if depth >= _DEEP and len(options) < len(schema.get(key) or ()):
                return None
            if options and depth < _TOO_DEEP:
                return self.fit(options[0], name, depth + 1)
        match _kind_of(schema):
            case "object":
                value: Any = self._object(schema, depth)
            case "array":
                value = self._array(schema, name, depth)
            case "integer" | "number":
                value = _number(schema)
            case "boolean":
                value = True
            case "null":
                value = None
            case _:
                value = self._string(schema, name)
        return value

    def _resolve(self, schema: Any) -> dict[str, Any]:
        """Follow references, and merge the parts of ``allOf``."""
        merged: dict[str, Any] = {}
        waiting = [schema]
        for _ in range(_TOO_DEEP):
            if not waiting:
                break
            part = waiting.pop()
            if not isinstance(part, dict):
                continue
            merged = {**part, **merged}
            if isinstance(reference := part.get("$ref"), str) and reference.startswith("#"):
                found = self._root
                for step in reference.split("/")[1:]:
                    found = found.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
                waiting.append(found)
            waiting += part.get("allOf") or ()
        return merged

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        if depth >= _TOO_DEEP:
            return {}
        properties = schema.get("properties") or {}
        names = (
            list(properties) if depth < _DEEP else [name for name in schema.get("required") or () if name in properties]
        )
        made = {name: self.fit(properties[name], name, depth + 1) for name in names}
        if not properties and isinstance(schema.get("additionalProperties"), dict):
            made["key"] = self.fit(schema["additionalProperties"], "value", depth + 1)
        return made

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        if depth >= _TOO_DEEP:
            return []
        fixed = [self.fit(item, name, depth + 1) for item in schema.get("prefixItems") or ()]
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        items = schema.get("items")
        usual = 2 if isinstance(items, dict) and not fixed and not schema.get("uniqueItems") and depth < _DEEP else 1
        count = int(min(max(least, usual if items and depth < _DEEP else 0), most)) - len(fixed)
        return fixed + [self.fit(items, name.removesuffix("s"), depth + 1) for _ in range(count)]

    def _string(self, schema: dict[str, Any], name: str) -> str:
        words = name.lower().split("_")
        text = _FORMATS.get(schema.get("format", ""), f"example {' '.join(words)}")
        if "format" not in schema:
            text = self._subject if any(word in _SUBJECTS for word in words) else text
            text = "." if any(word in _PLACES for word in words) else text
        text = text.ljust(schema.get("minLength", 0), ".")
        return text[: schema.get("maxLength")]


def _stated_values(schema: dict[str, Any]) -> list[Any]:
    """List values that the schema itself names."""
    stated = [schema[key] for key in ("const", "default") if key in schema]
    return stated + [value for key in ("examples", "enum") for value in schema.get(key) or ()]


def _kind_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(kind)


def _number(schema: dict[str, Any]) -> float:
    step = schema.get("multipleOf", 1)
    least = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf))
    most = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
    value = min(max(step, math.ceil(least / step) * step if least > step else step), most)
    value += step * (value == schema.get("exclusiveMinimum")) - step * (value == schema.get("exclusiveMaximum"))
    return float(value) if schema.get("type") == "number" and value != int(value) else value
