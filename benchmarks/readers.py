"""The ways to read a stream that the benchmarks compare, each with one client for all calls to a server."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

Reader = Callable[[str], Iterator[str]]
"""Takes a base URL, yields the texts of one answer."""

READ_SIZE_BYTES = 65536


class Readers:
    """Four readers: the agent, `openai.Stream`, the official client's bytes (`floor`), and a plain `socket`."""

    names = ("ours", "openai", "floor")
    """The readers that can read every answer; `socket` reads answers with one event per HTTP chunk only."""

    def __init__(self, authority: str | None = None) -> None:
        import openai  # processes that only start others do without

        self._verify = ssl.create_default_context(cafile=authority) if authority else True
        self._openai = openai
        self._clients: dict[tuple[str, str], Any] = {}

    def client(self, kind: str, url: str) -> Any:
        """Return the official client of a reader and a server; its number of connections is not limited."""
        key = (kind, url)
        if key not in self._clients:
            limits = type(self._openai.DEFAULT_CONNECTION_LIMITS)(max_connections=None)
            http = self._openai.DefaultHttpxClient(limits=limits, verify=self._verify)
            self._clients[key] = self._openai.OpenAI(base_url=url, api_key="any", http_client=http)
        return self._clients[key]

    def agent(self, url: str) -> Any:
        """Return an agent; it has such a client over TLS, for the test authority, and is a user's agent otherwise."""
        from blades import Agent  # same

        key = ("agent", url)
        if key not in self._clients:
            client = self.client("ours", url) if self._verify is not True else None
            arguments: dict[str, Any] = {"client": client} if client else {"base_url": url, "api_key": "any"}
            self._clients[key] = Agent("benchmark", model="any", **arguments)
        return self._clients[key]

    def ours(self, url: str) -> Iterator[str]:
        """Read as the README does."""
        for chunk in self.agent(url).run_stream("Hello"):
            yield chunk.text

    def openai(self, url: str) -> Iterator[str]:
        """Read as the official client's README does, which leaves the ``with`` to the reader."""
        stream = self.request(self.client("openai", url).chat.completions)
        with stream:
            for chunk in stream:
                if chunk.choices:
                    text = chunk.choices[0].delta.content
                    if text:
                        yield text

    def floor(self, url: str) -> Iterator[str]:
        """Do the least that yields the texts: the official client's bytes, split at blank lines, `json.loads`."""
        with self.request(self.client("floor", url).chat.completions.with_streaming_response) as response:
            rest = b""
            for data in response.iter_bytes():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event != b"data: [DONE]":
                        choices = json.loads(event[6:])["choices"]
                        if choices:
                            text = choices[0]["delta"].get("content")
                            if text:
                                yield text

    def socket(self, url: str) -> Iterator[str]:
        """Do what no client can do without: a blocking ``recv``, a split at blank lines, `json.loads`.

        Each event must be an HTTP chunk of its own, since the reader ignores the chunk framing.
        """
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port or 80)) as connection:
            fields = (f"POST {address.path}/chat/completions HTTP/1.1", f"Host: {address.netloc}", "Content-Length: 2")
            connection.sendall("\r\n".join((*fields, "", "{}")).encode())
            rest = b""
            while data := connection.recv(READ_SIZE_BYTES):
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    payload = event.partition(b"data: ")[2]
                    if payload == b"[DONE]":
                        return
                    choices = json.loads(payload)["choices"]
                    if choices:
                        text = choices[0]["delta"].get("content")
                        if text:
                            yield text

    @staticmethod
    def request(completions: Any) -> Any:
        """Send the request that all readers send."""
        messages = [{"role": "user", "content": "Hello"}]
        options = {"stream": True, "stream_options": {"include_usage": True}}
        return completions.create(model="any", messages=messages, **options)

    def reader(self, name: str) -> Reader:
        """Return a reader by its name."""
        reader: Reader = getattr(self, name)
        return reader
