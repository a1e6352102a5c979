"""Streaming chat completions with immediate cancelling: a thin synchronous SDK on the official ``openai`` client.

::

    from blades import Agent, PromptTemplate

    agent = Agent("demo", model="deepseek-chat")  # OPENAI_API_KEY, OPENAI_BASE_URL
    prompt = PromptTemplate().system("In three points: {{topic}}", topic="S15").user("Tell {{who}}", who="us").build()
    for chunk in agent.run_stream(prompt):
        print(chunk.text, end="", flush=True)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blades._agent import Agent
    from blades._chat import Chat
    from blades._errors import (
        BladesError,
        ConfigError,
        PromptError,
        ReplyParseError,
        StreamError,
        StreamInterrupted,
        StreamProtocolError,
        StreamServerError,
        StreamTimeout,
        StreamTruncated,
        ToolError,
        ToolFailed,
        ToolRoundsExceeded,
    )
    from blades._message import Message
    from blades._prompts.messages import Prompt
    from blades._prompts.template import PromptTemplate
    from blades._stream import Stream
    from blades._tools import Tool
    from blades._values import Chunk, Reply, StreamState, Timing, ToolCall, ToolResult, Usage

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "BladesError",
    "Chat",
    "Chunk",
    "ConfigError",
    "Message",
    "Prompt",
    "PromptError",
    "PromptTemplate",
    "Reply",
    "ReplyParseError",
    "Stream",
    "StreamError",
    "StreamInterrupted",
    "StreamProtocolError",
    "StreamServerError",
    "StreamState",
    "StreamTimeout",
    "StreamTruncated",
    "Timing",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolFailed",
    "ToolResult",
    "ToolRoundsExceeded",
    "Usage",
]

# Imported on first use: ``import blades`` stays cheap.
_LAZY = {
    "_agent": {"Agent"},
    "_chat": {"Chat"},
    "_errors": {
        "BladesError",
        "ConfigError",
        "PromptError",
        "ReplyParseError",
        "StreamError",
        "StreamInterrupted",
        "StreamProtocolError",
        "StreamServerError",
        "StreamTimeout",
        "StreamTruncated",
        "ToolError",
        "ToolFailed",
        "ToolRoundsExceeded",
    },
    "_message": {"Message"},
    "_prompts.messages": {"Prompt"},
    "_prompts.template": {"PromptTemplate"},
    "_stream": {"Stream"},
    "_tools": {"Tool"},
    "_values": {"Chunk", "Reply", "StreamState", "Timing", "ToolCall", "ToolResult", "Usage"},
}


def __getattr__(name: str) -> Any:
    for module, names in _LAZY.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"blades.{module}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
