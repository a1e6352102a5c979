"""chatlas: `Chat.stream`, with a chat of its own for each answer, as the conversation would grow otherwise.

To cancel, its documentation names `StreamController`, which "stops the stream after the current chunk".
"""

from collections.abc import Iterator

import chatlas

PACKAGES = ("chatlas", "openai")
MODULE = "chatlas"


class Peer:
    """See `peer.py`."""

    def __init__(self, url: str) -> None:
        self.chat = chatlas.ChatOpenAICompletions(base_url=url, model="any", api_key="any")

    def stream(self) -> Iterator[str]:
        """Read one answer."""
        self.controller = chatlas.StreamController()
        self.chat.set_turns([])
        yield from self.chat.stream("Hello", controller=self.controller)

    def cancel(self) -> None:
        """Cancel it, from another thread."""
        self.controller.cancel()
