"""What `blades.testing` answers without a script."""

from __future__ import annotations

import json
from typing import Any

from blades.testing._answers import Answer
from blades.testing._schema import fit
from blades.testing._words import content_of, is_chinese, split_words

__all__ = ["demo_answer"]

_ENGLISH = (
    "You asked: “{question}”. {results}This is the local test server of blades. No model is involved; the words arrive "
    "at the pace of a typical model. That is enough to watch an answer grow, to cancel it half-way and see what is "
    "kept, and to read how many tokens were used. For a real answer, set the base URL and the key of a real provider."
)
_CHINESE = (
    "您问的是：“{question}”。{results}这里是 blades 的本地测试服务器，背后没有任何模型，文字按照一般模型的速度发送。"
    "您可以看着回答逐渐变长，可以随时取消并查看已经收到的部分，也可以查看用量统计。"
    "想要真正的回答，请设置真实服务的地址和密钥。"
)
_QUESTION_CHARACTERS = 200
_RESULT_CHARACTERS = 100


def demo_answer(asked: dict[str, Any], pace: float) -> Answer:
    """Answer the last user message, as far as the request allows.

    Tools that are offered are called once each. Otherwise the answer is JSON that fits the requested schema, or text in
    the language of the message.
    """
    messages, limit = asked.get("messages"), asked.get("max_completion_tokens", asked.get("max_tokens"))
    stops = asked.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(messages, list) or not messages:
        return Answer.error(400, "messages must be a list of at least one message.", param="messages")
    if limit is not None and not (isinstance(limit, int) and limit > 0):
        return Answer.error(400, "max_tokens must be a positive integer.", param="max_tokens")
    if not (isinstance(stops, list) and all(isinstance(stop, str) and stop for stop in stops)):
        return Answer.error(400, "stop must be a string or a list of strings.", param="stop")
    turns = [message for message in messages if isinstance(message, dict)]
    start = max((index for index, turn in enumerate(turns) if turn.get("role") == "user"), default=0)
    question = _shorten(content_of(turns[start]) if turns else "", _QUESTION_CHARACTERS)
    calls = _calls_to_make(asked, turns[start + 1 :], question)
    if calls:
        return Answer(*([pace] if pace else []), tool_calls=calls)
    schema = _requested_schema(asked)
    text = (
        _readable_text(question, turns[start + 1 :]) if schema is None else json.dumps(fit(schema, question), indent=2)
    )
    for stop in stops:
        text = text.partition(stop)[0]
    words = split_words(text)
    finish_reason = "stop" if limit is None or len(words) <= limit else "length"
    return Answer.text("".join(words[:limit]), pause=pace, finish_reason=finish_reason)


def _readable_text(question: str, turns: list[dict[str, Any]]) -> str:
    results = [_shorten(content_of(turn), _RESULT_CHARACTERS) for turn in turns if turn.get("role") == "tool"]
    chinese = is_chinese(question)
    said = "".join(f"“{result}”，" if chinese else f"“{result}”, " for result in results)
    if results:
        said = f"工具返回了：{said[:-1]}。" if chinese else f"The tools returned: {said[:-2]}. "
    return (_CHINESE if chinese else _ENGLISH).replace("{results}", said).replace("{question}", question)


def _calls_to_make(asked: dict[str, Any], turns: list[dict[str, Any]], question: str) -> list[tuple[str, Any]]:
    """Return calls of the functions that are offered and were not called since the last user message."""
    choice = asked.get("tool_choice")
    if choice == "none" or not isinstance(asked.get("tools"), list):
        return []
    called = {_function_of(call).get("name") for turn in turns for call in turn.get("tool_calls") or ()}
    offered = [_function_of(tool) for tool in asked["tools"]]
    chosen = _function_of(choice).get("name")
    calls = [
        (function["name"], fit(function.get("parameters") or {"type": "object"}, question))
        for function in offered
        if isinstance(function.get("name"), str) and function["name"] not in called
        if chosen in (None, function["name"])
    ]
    return calls[:1] if asked.get("parallel_tool_calls") is False else calls


def _function_of(value: Any) -> dict[str, Any]:
    function = value.get("function") if isinstance(value, dict) else None
    return function if isinstance(function, dict) else {}


def _requested_schema(asked: dict[str, Any]) -> Any:
    """Return the schema that the answer must fit; None for plain text."""
    wanted = asked.get("response_format")
    wanted = wanted if isinstance(wanted, dict) else {}
    kind = wanted.get("type")
    if kind == "json_schema":
        described = wanted.get("json_schema")
        return described.get("schema") if isinstance(described, dict) else {}
    return {"properties": {"question": {"type": "string"}}} if kind == "json_object" else None


def _shorten(text: str, characters: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= characters else f"{text[:characters]}…"
