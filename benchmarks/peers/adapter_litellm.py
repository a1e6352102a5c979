"""LiteLLM: `completion(stream=True)`, "OpenAI-compatible endpoints".

Its documentation names no way to cancel a synchronous stream; of an asynchronous one, the task is cancelled.
"""

from collections.abc import Iterator

import litellm

PACKAGES = ("litellm",)
MODULE = "litellm"


class Peer:
    """See `peer.py`."""

    cancel = None

    def __init__(self, url: str) -> None:
        self.url = url

    def stream(self) -> Iterator[str]:
        """Read one answer."""
        messages = [{"role": "user", "content": "Hello"}]
        for chunk in litellm.completion(
            "openai/any", messages=messages, stream=True, api_base=self.url, api_key="any", num_retries=2
        ):
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content
