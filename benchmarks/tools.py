"""Tools: how soon a cancel frees the reader and notifies the tool, and what a round costs beyond its two requests.

Run: python benchmarks/tools.py [--peers], with the environments that ``peers.py`` makes. A tool of a peer sleeps for
five seconds, since no peer can notify one; ours waits for its event.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from common import HERE, Row, at_most, percentile, report

CANCELS = 100
ROUNDS = 200
TOOL_SECONDS = 5.0
PEERS = ("chatlas", "pydantic_ai")


class Handler(BaseHTTPRequestHandler):
    """Asks for the tool ``work`` if there is no result yet, else answers in one word."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # headers and body in one packet

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
    choice = {"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": finish_reason}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def cancels(url: str) -> tuple[list[float], list[float]]:
    """Milliseconds from `cancel` to the free reader, and to the tool's event."""
    from blades import Agent  # a peer's environment has none

    began = threading.Event()
    noticed: list[float] = []

    def work(cancel: threading.Event) -> str:
        began.set()
        cancel.wait(30)
        noticed.append(time.perf_counter())
        return ""

    reader_milliseconds: list[float] = []
    tool_milliseconds: list[float] = []
    with Agent("benchmark", model="any", base_url=url, api_key="any", tools=[work]) as agent:
        for number in range(CANCELS):
            began.clear()
            stream = agent.run_stream("x")
            at: list[float] = []

            def cancel(stream: Any = stream, at: list[float] = at) -> None:
                began.wait()
                time.sleep(0.005)
                at.append(time.perf_counter())
                stream.cancel()

            thread = threading.Thread(target=cancel)
            thread.start()
            for _ in stream:
                pass
            free = time.perf_counter()
            thread.join()
            while len(noticed) <= number:
                time.sleep(0.001)
            reader_milliseconds.append((free - at[0]) * 1e3)
            tool_milliseconds.append((noticed[-1] - at[0]) * 1e3)
    return reader_milliseconds, tool_milliseconds


def overhead(url: str) -> tuple[float, float]:
    """Milliseconds for two requests in sequence without tools, and for a round of one tool between two requests."""
    from blades import Agent, Tool  # same

    tool = Tool(lambda: "", name="work", description="Work.")  # once: the round is measured, not reading a signature
    plain: list[float] = []
    tools: list[float] = []
    with Agent("benchmark", model="any", base_url=url, api_key="any") as agent:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            agent.run("x")
            agent.run("x")
            plain.append((time.perf_counter() - began) * 1e3)
            began = time.perf_counter()
            agent.run("x", tools=[tool])
            tools.append((time.perf_counter() - began) * 1e3)
    return statistics.median(plain), statistics.median(tools)


def peer_cancel(name: str, url: str) -> float:
    """Milliseconds from a peer's cancel to the free reader, while its tool sleeps. Runs in the peer's environment."""
    import peer  # see above

    began = threading.Event()

    def work() -> str:
        """Work."""
        began.set()
        time.sleep(TOOL_SECONDS)
        return "done"

    client = peer.load(name).Peer(url)
    if name == "chatlas":
        client.chat.register_tool(work)
    else:
        client.agent.tool_plain(work)
    at: list[float] = []

    def cancel() -> None:
        began.wait()
        time.sleep(0.5)
        at.append(time.perf_counter())
        client.cancel()

    threading.Thread(target=cancel, daemon=True).start()
    try:
        for _ in client.stream():
            pass
    except Exception as error:  # how it says that it was cancelled
        print(f"{name}: {type(error).__name__}", file=sys.stderr)
    return (time.perf_counter() - at[0]) * 1e3


def peer_row(name: str, url: str) -> Row:
    """Measure a peer."""
    python = HERE.parent / ".venv-peers" / name / "bin" / "python"
    done = subprocess.run([python, __file__, "--peer", name, url], capture_output=True, text=True, check=True)
    return Row(what=f"cancel in a tool: reader free, {name}", ours=None, floor=float(done.stdout), unit="ms")


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    reader_milliseconds, tool_milliseconds = cancels(url)
    plain, tools = overhead(url)
    rows = [
        Row(what="cancel in a tool: reader free, median", ours=statistics.median(reader_milliseconds), unit="ms"),
        Row(what="cancel in a tool: reader free, p99", ours=percentile(reader_milliseconds, 99), unit="ms",
            goal="<= 5 ms", met=percentile(reader_milliseconds, 99) <= 5),
        Row(what="cancel in a tool: tool's event set, median", ours=statistics.median(tool_milliseconds), unit="ms"),
        Row(what="two requests without tools", ours=plain, unit="ms"),
        Row(what="a round: two requests and a tool", ours=tools, unit="ms", **at_most(tools / plain, 1.5)),
    ]  # fmt: skip
    report(rows)
    if "--peers" in sys.argv:
        for row in (peer_row(name, url) for name in PEERS):
            print(f"{row.what}: {row.floor:,.0f} ms")


if __name__ == "__main__":
    if "--peer" in sys.argv:
        print(peer_cancel(*sys.argv[2:]))
    else:
        main()
