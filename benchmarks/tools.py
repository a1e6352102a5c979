"""Tools: how soon a cancel frees the reader and notifies the tool, and what a round costs beyond its two requests.

A round trip of two requests without tools is measured beside one with a tool, on the same server: the difference is
what the loop costs, threads and validation included.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from common import Row, at_most, percentile, report

from blades import Agent

CANCELS = 100
ROUNDS = 200


class Handler(BaseHTTPRequestHandler):
    """Asks for the tool ``wait`` if there is no result yet, else answers in one word."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked.get("tools") and asked["messages"][-1]["role"] != "tool":
            call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "work", "arguments": "{}"}}
            events: list[Any] = [event({"tool_calls": [call]}), event({}, "tool_calls")]
        else:
            events = [event({"content": "done"}), event({}, "stop")]
        body = b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in events) + b"data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def event(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"id": "1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def cancels(url: str) -> tuple[list[float], list[float]]:
    """Milliseconds from `cancel` to the free reader, and to the tool's event."""
    began = threading.Event()
    noticed: list[float] = []

    def work(cancel: threading.Event) -> str:
        began.set()
        cancel.wait(30)
        noticed.append(time.perf_counter())
        return ""

    freed: list[float] = []
    told: list[float] = []
    with Agent("benchmark", model="any", base_url=url, api_key="any", tools=[work]) as agent:
        for number in range(CANCELS):
            began.clear()
            stream = agent.run_stream("x")
            cancelled: list[float] = []

            def cancel(stream: Any = stream, cancelled: list[float] = cancelled) -> None:
                began.wait()
                time.sleep(0.005)
                cancelled.append(time.perf_counter())
                stream.cancel()

            thread = threading.Thread(target=cancel)
            thread.start()
            for _ in stream:
                pass
            free = time.perf_counter()
            thread.join()
            while len(noticed) <= number:
                time.sleep(0.001)
            freed.append((free - cancelled[0]) * 1e3)
            told.append((noticed[-1] - cancelled[0]) * 1e3)
    return freed, told


def overhead(url: str) -> tuple[float, float]:
    """Milliseconds for two requests in sequence without tools, and for a round of one tool between two requests."""

    def work() -> str:
        return ""

    plain: list[float] = []
    tools: list[float] = []
    with Agent("benchmark", model="any", base_url=url, api_key="any") as agent:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            agent.run("x")
            agent.run("x")
            plain.append((time.perf_counter() - began) * 1e3)
            began = time.perf_counter()
            agent.run("x", tools=[TOOL] if TOOL else [work])
            tools.append((time.perf_counter() - began) * 1e3)
    return statistics.median(plain), statistics.median(tools)


TOOL: Any = None


def main() -> None:
    global TOOL  # noqa: PLW0603 - made once: what is measured is the round, not the reading of a signature
    from blades import Tool  # noqa: PLC0415 - see above

    TOOL = Tool(lambda: "", name="work", description="Work.")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    freed, told = cancels(url)
    plain, tools = overhead(url)
    report([
        Row(what="cancel in a tool: reader free, median", ours=statistics.median(freed), unit="ms"),
        Row(what="cancel in a tool: reader free, p99", ours=percentile(freed, 99), unit="ms",
            goal="<= 5 ms", met=percentile(freed, 99) <= 5),
        Row(what="cancel in a tool: tool's event set, median", ours=statistics.median(told), unit="ms"),
        Row(what="two requests without tools", ours=plain, unit="ms"),
        Row(what="a round: two requests and a tool", ours=tools, unit="ms", **at_most(tools / plain, 1.5)),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
