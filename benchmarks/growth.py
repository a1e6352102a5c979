"""How CPU, time and memory grow with the input: kinds of input, each in steps of ten times, and the exponents.

A cost that is linear has the exponent 1; a fixed part makes it smaller. The goal is at most 1.05 for every step. Each
figure is the least of several runs in fresh processes, since other load only adds to it. Memory is the peak beyond that
of a small run before; a step from less than 4 MiB has no exponent, because the allocator's own steps are of that size.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import Load, figure, in_child, lay_out, peak_memory, raise_descriptor_limit, verdict
from readers import Readers

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL_EXPONENT = 1.05
MIN_MEMORY_MIB = 4.0
ROUNDS = 3
SIZES = {
    "chunks of an answer": (10_000, 100_000, 1_000_000),
    "tool calls in an answer": (200, 2_000, 20_000),
    "streams open at the same time": (10, 100, 1_000),
    "messages in a chat": (300, 3_000, 30_000),
    "lines of a template": (300, 3_000, 30_000),
    "characters in one event": (100_000, 1_000_000, 10_000_000),
    "tools of an agent": (20, 200, 2_000),
    "results of tools in a chat": (100, 1_000, 10_000),
    "sentences of an answer": (10_000, 100_000, 1_000_000),
    "chunks printed on a terminal": (10_000, 100_000, 1_000_000),
    "chunks drawn in a notebook": (1_000, 10_000, 100_000),
    "streams open at the same time, openai.Stream": (10, 100, 1_000),
    "messages in a request, openai.Stream": (300, 3_000, 30_000),
}


def chunks(url: str, count: int) -> None:
    stream = _agent(url).run_stream("Hello")
    assert sum(1 for _ in stream) >= count


def tool_calls(url: str, count: int) -> None:
    reply = _agent(url).run("Hello")
    assert len(reply.tool_calls) == count
    assert reply.message


def streams(url: str, count: int) -> None:
    agent = _agent(url)
    opened = [agent.run_stream("Hello") for _ in range(count)]
    for stream in opened:
        next(stream)
    for stream in opened:
        assert stream.reply().text


def messages(url: str, count: int) -> None:
    words = "What did we say about tea, and who said it? " * 2
    history = [{"role": ("user", "assistant")[number % 2], "content": words} for number in range(count)]
    chat = _agent(url).chat(history=history)
    assert chat.run("And now?").text
    assert len(chat.messages) == count + 2


def template(_: str, count: int) -> None:
    from blades import PromptTemplate  # each kind imports what it measures

    text = "Tell {{audience}} about {{topic}}. {{#more}}And {{.}}.{{/more}}\n" * count
    prompt = PromptTemplate().user(text).build(audience="us", topic="tea", more=["milk", "sugar"])
    assert prompt[0].content.count("\n") == count


def event(url: str, count: int) -> None:
    assert len(_agent(url).run("Hello").text) == count


def tools(url: str, count: int) -> None:
    from blades import Tool  # same

    def search(query: str, limit: int = 5) -> str:
        """Search the archive."""
        return query * limit

    assert _agent(url, tools=[Tool(search, name=f"search_{number}") for number in range(count)]).run("Hello").text


def results(url: str, count: int) -> None:
    calls = [
        {"id": f"call_{number}", "type": "function", "function": {"name": "search", "arguments": "{}"}}
        for number in range(count)
    ]
    chat = _agent(url).chat(history=[{"role": "assistant", "content": None, "tool_calls": calls}])
    assert chat.run([{"role": "tool", "tool_call_id": call["id"], "content": "tea"} for call in calls]).text


def sentences(url: str, count: int) -> None:
    assert len("".join(_agent(url).run_stream("Hello").sentences())) > count


def printed(url: str, count: int) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    _agent(url).run_stream("Hello").print(terminal)
    assert len(terminal.getvalue()) > count


def drawn(_: str, count: int) -> None:
    """Draw paragraphs of one line each, ten times a paragraph, without the pauses that a notebook makes in between."""
    from blades._output.markdown_html import MarkdownRenderer  # same
    from blades._output.transcript import Part  # same

    renderer, part, added, closed = MarkdownRenderer(), Part("text"), 0, 0
    for number in range(count):
        part.pieces.append("word " if number % 50 else "\n\nA paragraph of *one* line: ")
        added += len(part.pieces[-1])
        if number % 5 == 0:
            closed += len(renderer.feed(part.take())[0].source)
    assert added - closed < 1000


def official_streams(url: str, count: int) -> None:
    completions = (readers := Readers()).client("openai", url).chat.completions
    with ThreadPoolExecutor(32) as pool:  # ours sends from threads, too
        opened = list(pool.map(lambda _: readers.request(completions), range(count)))
    for stream in opened:
        assert any(chunk.choices for chunk in stream)
        stream.close()


def official_messages(url: str, count: int) -> None:
    words = "What did we say about tea, and who said it? " * 2
    history: Any = [{"role": ("user", "assistant")[number % 2], "content": words} for number in range(count)]
    completions = Readers().client("openai", url).chat.completions
    assert any(chunk.choices for chunk in completions.create(model="any", messages=history, stream=True))


KINDS: dict[str, tuple[Callable[[str, int], None], str]] = {
    "chunks of an answer": (chunks, "burst-{}"),
    "tool calls in an answer": (tool_calls, "calls-{}"),
    "streams open at the same time": (streams, "burst-20"),
    "messages in a chat": (messages, "burst-20"),
    "lines of a template": (template, "burst-20"),
    "characters in one event": (event, "large-{}"),
    "tools of an agent": (tools, "burst-20"),
    "results of tools in a chat": (results, "burst-20"),
    "sentences of an answer": (sentences, "burst-{}"),
    "chunks printed on a terminal": (printed, "burst-{}"),
    "chunks drawn in a notebook": (drawn, "burst-20"),
    "streams open at the same time, openai.Stream": (official_streams, "burst-20"),
    "messages in a request, openai.Stream": (official_messages, "burst-20"),
}


def _agent(url: str, **settings: Any) -> Any:
    from blades import Agent  # same

    return Agent("benchmark", model="any", base_url=url, api_key="any", **settings)


def cost(kind: str, count: int, url: str, small_count: int, small_url: str) -> tuple[float, float, float]:
    """Return CPU and time in seconds and memory in MiB; call it in a fresh process."""
    raise_descriptor_limit()
    task = KINDS[kind][0]
    task(small_url, small_count)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    memory, used, began = peak_memory(), time.process_time(), time.perf_counter()
    task(url, count)
    used, took = time.process_time() - used, time.perf_counter() - began
    return used, took, peak_memory() - memory


def exponent(before: float, after: float, step: float) -> float:
    """Return the exponent of a growth from one size to one that is `step` times as large."""
    return math.log(max(after, 1e-9) / max(before, 1e-9)) / math.log(step)


def lines(kind: str, load: Load, rounds: int, sizes: tuple[int, ...]) -> list[list[str]]:
    """Measure one kind of input."""
    pattern, found, result = KINDS[kind][1], [], []
    small = sizes[0] // 10
    for size in sizes:
        arguments = (kind, size, load.url(pattern.format(size)), small, load.url(pattern.format(small)))
        runs = [in_child("growth", "cost", *arguments) for _ in range(rounds)]
        found.append([min(column) for column in zip(*runs, strict=True)])
    for number, (size, costs) in enumerate(zip(sizes, found, strict=True)):
        exponents: list[float | None] = [None, None, None]
        if number:
            before, step = found[number - 1], size / sizes[number - 1]
            exponents = [exponent(b, a, step) for b, a in zip(before, costs, strict=True)]
            if before[2] < MIN_MEMORY_MIB:
                exponents[2] = None
        known = [value for value in exponents if value is not None]
        met = max(known) <= GOAL_EXPONENT if known and "openai" not in kind else None
        cells = [kind if number == 0 else "", f"{size:,}"]
        for value, power in zip((costs[0] * 1e3, costs[1] * 1e3, costs[2]), exponents, strict=True):
            cells += [figure(value), "" if power is None else f"{power:.2f}"]
        result.append([*cells, verdict(met)])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="How costs grow with the input.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=3, help="sizes of each kind")
    parser.add_argument("--only", nargs="*", default=[*SIZES], help="kinds to measure")
    options = parser.parse_args()
    head = ["input", "size", "CPU, ms", "exponent", "time, ms", "exponent", "memory, MiB", "exponent", ""]
    with Load() as load:
        body = [
            line for kind in options.only for line in lines(kind, load, options.rounds, SIZES[kind][: options.steps])
        ]
    print(lay_out([head, *body]))


if __name__ == "__main__":
    main()
