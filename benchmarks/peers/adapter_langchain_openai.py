"""LangChain: `ChatOpenAI.stream`.

Its documentation names no way to cancel a synchronous stream; of an asynchronous one, the task is cancelled.
"""

from collections.abc import Iterator

from langchain_openai import ChatOpenAI

PACKAGES = ("langchain-openai",)
MODULE = "langchain_openai"


class Peer:
    """See `peer.py`."""

    cancel = None

    def __init__(self, url: str) -> None:
        self.model = ChatOpenAI(model="any", base_url=url, api_key="any")

    def stream(self) -> Iterator[str]:
        """Read one answer."""
        for chunk in self.model.stream("Hello"):
            if chunk.text:
                yield chunk.text
