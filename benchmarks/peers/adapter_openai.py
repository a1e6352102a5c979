"""The official client: README, "Streaming responses".

To cancel, its README names breaking from the loop, which the reader alone can do, and `Stream.close`, used here.
"""

from collections.abc import Iterator

import openai

PACKAGES = ("openai",)
MODULE = "openai"


class Peer:
    """See `peer.py`."""

    def __init__(self, url: str) -> None:
        self.client = openai.OpenAI(base_url=url, api_key="any")

    def stream(self) -> Iterator[str]:
        """Read one answer."""
        messages = [{"role": "user", "content": "Hello"}]
        self.running = self.client.chat.completions.create(model="any", messages=messages, stream=True)
        for chunk in self.running:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    def cancel(self) -> None:
        """Cancel it, from another thread."""
        self.running.close()
