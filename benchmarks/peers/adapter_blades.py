"""This library: README, "Streaming and cancelling"."""

from collections.abc import Iterator

import blades

PACKAGES = ("blades-sdk",)
MODULE = "blades"


class Peer:
    """See `peer.py`."""

    def __init__(self, url: str) -> None:
        self.agent = blades.Agent("benchmark", model="any", base_url=url, api_key="any")

    def stream(self) -> Iterator[str]:
        """Read one answer."""
        self.running = self.agent.run_stream("Hello")
        for chunk in self.running:
            yield chunk.text

    def cancel(self) -> None:
        """Cancel it, from another thread."""
        self.running.cancel()
