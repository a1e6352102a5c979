"""What `blades.testing` answers without a script."""

from __future__ import annotations

from typing import Any

from blades.testing._answers import Answer
from blades.testing._words import content_of, is_chinese, split_words

__all__ = ["demo_answer"]

_ENGLISH = (
    "You asked: “{question}”. This is the local test server of blades, so no model has thought about it: these words "
    "only come one by one, at the pace at which a model would send them. That is enough to watch an answer grow, "
    "to cancel it half-way and see what is kept, and to read how many tokens were used. For a real answer, set "
    "the base URL and the key of a real provider."
)
_CHINESE = (
    "您问的是：“{question}”。这里是 blades 的本地测试服务器，背后没有任何模型，所以我并不知道真正的答案；"
    "这些文字只是按照模型的速度一个一个地发送出来。您可以看着回答逐渐变长，可以随时取消并查看已经收到的部分，"
    "也可以查看用量统计。想要真正的回答，请设置真实服务的地址和密钥。"
)


def demo_answer(asked: dict[str, Any], pace: float) -> Answer:
    """Answer with readable text about the last user message, in its language, as far as the request allows."""
    messages, limit = asked.get("messages"), asked.get("max_completion_tokens", asked.get("max_tokens"))
    stops = asked.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(messages, list) or not messages:
        return Answer.error(400, "messages must be a list of at least one message.", param="messages")
    if limit is not None and not (isinstance(limit, int) and limit > 0):
        return Answer.error(400, "max_tokens must be a positive integer.", param="max_tokens")
    if not (isinstance(stops, list) and all(isinstance(stop, str) and stop for stop in stops)):
        return Answer.error(400, "stop must be a string or a list of strings.", param="stop")
    users = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
    question = " ".join(content_of((users or messages)[-1]).split())
    question = question if len(question) <= 200 else f"{question[:200]}…"  # noqa: PLR2004 - two lines
    template = _CHINESE if is_chinese(question) else _ENGLISH
    text = template.replace("{question}", question)
    for stop in stops:
        text = text.partition(stop)[0]
    words = split_words(text)
    finish_reason = "stop" if limit is None or len(words) <= limit else "length"
    return Answer.text("".join(words[:limit]), pause=pace, finish_reason=finish_reason)
