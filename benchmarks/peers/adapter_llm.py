"""llm: `Model.prompt` of its Python API, with an OpenAI-compatible endpoint.

Its documentation names no way to cancel a synchronous response.
"""

from collections.abc import Iterator

from llm.default_plugins.openai_models import Chat

PACKAGES = ("llm",)
MODULE = "llm"


class Peer:
    """See `peer.py`."""

    cancel = None

    def __init__(self, url: str) -> None:
        self.model = Chat("any", model_name="any", api_base=url)

    def stream(self) -> Iterator[str]:
        """Read one answer."""
        yield from self.model.prompt("Hello", key="any")
