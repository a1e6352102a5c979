"""What `blades.testing` promises to the tests that use it."""

from __future__ import annotations

import http.client
import json

from blades.testing import LocalServer


def test_a_text_is_streamed_as_completion_chunks() -> None:
    """A str answer comes as server-sent events whose deltas join to the text, then [DONE]."""
    with LocalServer("Hello there.", pace=0) as server:
        port = int(server.base_url.split(":")[2].partition("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True})
        connection.request("POST", "/v1/chat/completions", body)
        events = connection.getresponse().read().decode().split("\n\n")
        connection.close()
    deltas = [json.loads(event[6:])["choices"][0]["delta"].get("content", "") for event in events[:-2]]
    assert deltas == ["Hello", " there.", ""]
    assert events[-2:] == ["data: [DONE]", ""]
