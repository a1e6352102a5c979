"""Streaming chat completions that stop when told to: a thin synchronous SDK on the official ``openai`` client.

::

    from blades import Agent, PromptTemplate

    agent = Agent("demo", model="deepseek-chat")  # OPENAI_API_KEY, OPENAI_BASE_URL
    prompt = PromptTemplate().system("In three points: {{topic}}", topic="S15").user("Tell {{who}}", who="us").build()
    for chunk in agent.run_stream(prompt):
        print(chunk.text, end="", flush=True)
"""

from blades._agent import Agent
from blades._cancel import StreamState
from blades._errors import (
    BladesError,
    ConfigError,
    PromptError,
    StreamError,
    StreamInterrupted,
    StreamProtocolError,
    StreamServerError,
    StreamTimeout,
    StreamTruncated,
)
from blades._prompt import Message, Prompt
from blades._stream import Stream
from blades._template import PromptTemplate
from blades._values import Chunk, Reply, ToolCall, Usage

__all__ = [
    "Agent",
    "BladesError",
    "Chunk",
    "ConfigError",
    "Message",
    "Prompt",
    "PromptError",
    "PromptTemplate",
    "Reply",
    "Stream",
    "StreamError",
    "StreamInterrupted",
    "StreamProtocolError",
    "StreamServerError",
    "StreamState",
    "StreamTimeout",
    "StreamTruncated",
    "ToolCall",
    "Usage",
]
