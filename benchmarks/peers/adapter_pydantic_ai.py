"""Pydantic AI: `Agent.run_stream_sync` and its text deltas, not debounced.

To cancel, its documentation names `CancellationToken`, for any thread.
"""

from collections.abc import Iterator

import pydantic_ai
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

PACKAGES = ("pydantic-ai-slim[openai]",)
MODULE = "pydantic_ai"


class Peer:
    """See `peer.py`."""

    def __init__(self, url: str) -> None:
        provider = OpenAIProvider(base_url=url, api_key="any")
        self.agent = pydantic_ai.Agent(OpenAIChatModel("any", provider=provider))

    def stream(self) -> Iterator[str]:
        """Read one answer."""
        self.token = pydantic_ai.CancellationToken()
        with self.agent.run_stream_sync("Hello", cancellation_token=self.token) as run:
            yield from run.stream_text(delta=True, debounce_by=None)

    def cancel(self) -> None:
        """Cancel it, from another thread."""
        self.token.cancel()
