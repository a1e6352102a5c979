"""What a prompt costs beside other engines: to render, and to compile. Medians of interleaved rounds.

No engine escapes the text. Ours, jinja2 and pystache are compiled before the measurement; chevron is measured as its
users call it (`render` on the text) and with its tokens made before.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import chevron
import chevron.tokenizer
import jinja2
import pystache
from common import lay_out

from blades import PromptTemplate
from blades._prompts.mustache import compile_template, render

if TYPE_CHECKING:
    from collections.abc import Callable

SYSTEM = "Answer in three short points: {{{topic}}}"
USER = "Tell {{{audience}}}: KT or T1, who is more likely to win the final?"
USUAL = {"topic": "predict the champion of S15", "audience": "users"}
ITEMS = "{{#items}}\n- {{{name}}}: {{{price}}}\n{{/items}}\n"
ITEMS_JINJA = "{% for item in items %}- {{ item.name }}: {{ item.price }}\n{% endfor %}"
LINE = "Tell {{{audience}}} about {{{topic}}}.\n"
ENGINES = ("ours", "chevron", "chevron tokens", "pystache", "jinja2")
ROUNDS = 15
ROUND_SECONDS = 0.02


def jinja(text: str) -> jinja2.Template:
    """Compile without jinja2's cache of templates."""
    text = text.replace("{{{", "{{").replace("}}}", "}}")
    return jinja2.Environment(autoescape=False, keep_trailing_newline=True, cache_size=0).from_string(text)


def microseconds(tasks: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Run the tasks in turn, each for a moment at a time; return the median time of a call of each."""
    counts = {}
    for name, task in tasks.items():
        task()  # warms the caches
        started = time.perf_counter()
        task()
        counts[name] = max(1, int(ROUND_SECONDS / (time.perf_counter() - started)))
    results: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            started = time.perf_counter()
            for _ in range(counts[name]):
                task()
            results[name].append((time.perf_counter() - started) / counts[name] * 1e6)
    return {name: statistics.median(times) for name, times in results.items()}


def usual(*, whole: bool) -> dict[str, float]:
    """Two messages. Whole: ours makes the checked parameters, the messages and the prompt as well."""
    template = PromptTemplate().system(SYSTEM).user(USER)
    ours = [compile_template(text, "text", ()) for text in (SYSTEM, USER)]
    tokens = [list(chevron.tokenizer.tokenize(text)) for text in (SYSTEM, USER)]
    parsed = [pystache.parse(text) for text in (SYSTEM, USER)]
    renderer = pystache.Renderer()
    compiled = [jinja(text) for text in (SYSTEM, USER)]
    assert [message.content for message in template.build(USUAL)] == [text.render(USUAL) for text in compiled]
    return microseconds(
        {
            "ours": (lambda: template.build(USUAL)) if whole else (lambda: [render(t, (USUAL,), {}) for t in ours]),
            "chevron": lambda: [chevron.render(text, USUAL) for text in (SYSTEM, USER)],
            "chevron tokens": lambda: [chevron.render(text, USUAL) for text in tokens],
            "pystache": lambda: [renderer.render(text, USUAL) for text in parsed],
            "jinja2": lambda: [text.render(USUAL) for text in compiled],
        }
    )


def items(count: int) -> dict[str, float]:
    """A section over so many items."""
    data = {"items": [{"name": f"item {number}", "price": number} for number in range(count)]}
    ours, parsed, compiled = compile_template(ITEMS, "text", ()), pystache.parse(ITEMS), jinja(ITEMS_JINJA)
    tokens = list(chevron.tokenizer.tokenize(ITEMS))
    renderer = pystache.Renderer()
    expected = render(ours, (data,), {})[0]
    assert expected == chevron.render(ITEMS, data) == renderer.render(parsed, data) == compiled.render(data)
    return microseconds(
        {
            "ours": lambda: render(ours, (data,), {}),
            "chevron": lambda: chevron.render(ITEMS, data),
            "chevron tokens": lambda: chevron.render(tokens, data),
            "pystache": lambda: renderer.render(parsed, data),
            "jinja2": lambda: compiled.render(data),
        },
        rounds=5,
    )


def compiling(lines: int) -> dict[str, float]:
    """A template of so many lines, each with two names."""
    text = LINE * lines
    tasks: dict[str, Callable[[], object]] = {
        "ours": lambda: compile_template(text, "text", ()),
        "chevron tokens": lambda: list(chevron.tokenizer.tokenize(text)),
        "pystache": lambda: pystache.parse(text),
        "jinja2": lambda: jinja(text),
    }
    if lines > 5000:  # minutes
        del tasks["chevron tokens"], tasks["pystache"], tasks["jinja2"]
    return microseconds(tasks, rounds=3)


def main() -> None:
    rows = {
        "two messages: whole build": usual(whole=True),
        "two messages: text only": usual(whole=False),
        "section of 1,000 items": items(1000),
        "section of 10,000 items": items(10_000),
        **{f"compile {len(LINE) * lines / 1000:,.0f} kB": compiling(lines) for lines in (25, 250, 2500, 25_000)},
    }
    cells = [["microseconds", *ENGINES]]
    for what, times in rows.items():
        ratios = {name: f" ({value / times['ours']:.1f}x)" if name != "ours" else "" for name, value in times.items()}
        cells.append([what, *(f"{times[name]:,.1f}{ratios[name]}" if name in times else "-" for name in ENGINES)])
    print(lay_out(cells))
    print("\n2.0x: takes twice as long as ours.")


if __name__ == "__main__":
    main()
