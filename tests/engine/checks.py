"""The library against a real engine: `transformers serve` with a tiny model on loopback, by `make test-engine`.

The file's name keeps it out of an ordinary test run. The engine answers one request at a time, sends usage in its
finish event, never sends `[DONE]`, and puts a plain string in its error events.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from blades import Agent, PromptTemplate, Stream, StreamServerError, StreamState

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "run_stream.py"
MODEL = "tiny-llama"
LONG = 1500
START_LIMIT_SECONDS = 120.0


def report(line: str) -> None:
    """Show a measured fact beside the test's name (pytest runs with `-s`)."""
    sys.stdout.write(f"{line} ")


def wait_for_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the port accepts connections; fail with the server's log if it ended or took too long."""
    deadline = time.monotonic() + START_LIMIT_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            try:
                server.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        else:
            return
    pytest.fail(f"the engine does not answer on port {port}; its log ends:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Make the model, serve it offline, give the server's base URL, and stop the server at the end."""
    directory = tmp_path_factory.mktemp("engine")
    log = directory / "server.log"
    # One thread: a tiny model gains nothing from more, and they would spin against whatever else runs here.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(directory / "home"), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    command = [sys.executable, str(HERE / "make_model.py"), str(directory / MODEL)]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", MODEL]
    command += ["--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        # Run from the model's parent directory, so that its bare name is the model's path.
        server = subprocess.Popen(command, cwd=directory, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for_port(port, server, log)
        report(f"(model made and served after {time.monotonic() - began:.1f} s)")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(20)


@pytest.fixture(scope="module")
def agent(base_url: str) -> Iterator[Agent]:
    """One agent for all tests."""
    with Agent("engine", model=MODEL, base_url=base_url, api_key="none") as shared:
        yield shared


@pytest.fixture(scope="module")
def whole(agent: Agent) -> tuple[Stream, float]:
    """A stream of a long answer that ran to its end, and the seconds it took."""
    began = time.perf_counter()
    prompt = (
        PromptTemplate()
        .system("请用三点简洁回答 {{topic}}", topic="S15 冠军")
        .user("请回答 {{audience}}", audience="KT T1 谁")
        .build()
    )
    stream = agent.run_stream(prompt, max_tokens=LONG)
    for _ in stream:
        pass
    return stream, time.perf_counter() - began


@pytest.fixture(scope="module")
def at_once(whole: tuple[Stream, float]) -> float:
    """Seconds within which nothing can be answered that waits for the end of a long answer."""
    _, seconds = whole
    return min(seconds / 2, 2.0)


def test_a_long_answer_arrives_whole_with_its_usage(whole: tuple[Stream, float]) -> None:
    """Every token is one word of the text, and usage counts them and the rendered prompt's words."""
    stream, seconds = whole
    assert stream.state is StreamState.FINISHED
    assert stream.finish_reason == "length"
    assert stream.model == f"{MODEL}@main"
    assert len(stream.text.split()) == LONG
    assert "冠军" in stream.text
    assert stream.usage is not None
    # Three words and four, and the template's role and colon before each message and before the answer.
    assert stream.usage.prompt_tokens == 3 + 4 + 3 * 2
    assert stream.usage.completion_tokens == LONG
    report(f"{LONG} tokens in {seconds:.1f} s")


def leave_by_thread(stream: Stream) -> None:
    """Cancel from another thread and go on reading to the loop's end."""
    canceller = threading.Thread(target=stream.cancel)
    canceller.start()
    while stream.next():
        pass
    canceller.join(30)


def leave_by_event(stream: Stream) -> None:
    """Set the stream's event and go on reading to the loop's end."""
    stream.cancel_event.set()
    while stream.next():
        pass


@pytest.mark.parametrize(
    "leave",
    [pytest.param(leave_by_thread, id="thread"), pytest.param(leave_by_event, id="event"), Stream.close],
)
def test_after_a_cancel_the_next_request_is_answered_at_once(
    agent: Agent, at_once: float, leave: Callable[[Stream], None]
) -> None:
    """The engine stops a long answer that was left in its middle: the next one does not wait for its end."""
    stream = agent.run_stream("KT T1", max_tokens=LONG)
    for _ in range(20):
        assert stream.next()
    began = time.perf_counter()
    leave(stream)
    back = time.perf_counter()
    reply = agent.run("S15", max_tokens=8)
    answered = time.perf_counter()
    assert stream.state is StreamState.CANCELLED
    assert stream.finish_reason is None
    assert stream.usage is None
    assert 20 <= len(stream.text.split()) < LONG
    assert reply.finish_reason == "length"
    assert answered - began < at_once
    report(f"control back after {(back - began) * 1e3:.1f} ms, next answer whole in {answered - back:.2f} s")


def test_a_request_in_the_queue_is_cancelled_while_another_is_answered(agent: Agent, at_once: float) -> None:
    """Cancelling a stream that waits for its first token ends it at once and leaves the running one alone."""
    running = agent.run_stream("KT T1", max_tokens=LONG)
    assert running.next()
    queued = agent.run_stream("S15", max_tokens=8)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queued.next)
        for _ in range(20):
            assert running.next()
        assert not waiting.done()
        queued.cancel()
        assert waiting.result(timeout=at_once) is False
    assert (queued.state, queued.text) == (StreamState.CANCELLED, "")
    assert len(running.reply().text.split()) == LONG


def test_twenty_streams_from_ten_threads_keep_their_answers_apart(agent: Agent) -> None:
    """Concurrent streams of one agent give exactly the answers their prompts get alone."""
    first, second = ["team", "game", "gold", "KT", "T1"], ["谁", "更", "决赛", "wins"]
    prompts = [f"{one} {other}" for one in first for other in second]

    def ask(prompt: str) -> str:
        stream = agent.run_stream(prompt, max_tokens=30, temperature=0)
        text = "".join(chunk.text for chunk in stream)
        assert stream.usage is not None
        assert stream.usage.completion_tokens == len(text.split()) == 30
        return text

    alone = [ask(prompt) for prompt in prompts]
    assert len(set(alone)) == len(prompts) == 20
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(ask, prompts)) == alone


def test_a_stop_string_ends_the_answer_with_the_reason_stop(agent: Agent) -> None:
    """`stop` reaches the engine; the answer ends with that word instead of at `max_tokens`."""
    full = agent.run("谁 wins", max_tokens=60, temperature=0)
    word = full.text.split()[30]
    cut = agent.run("谁 wins", max_tokens=60, temperature=0, stop=[word])
    assert (full.finish_reason, cut.finish_reason) == ("length", "stop")
    assert full.text.startswith(cut.text)
    assert cut.text.split().index(word) == len(cut.text.split()) - 1 <= 30
    assert cut.usage is not None
    assert cut.usage.completion_tokens == len(cut.text.split())


def test_a_conversation_goes_on_with_the_reply(agent: Agent) -> None:
    """The engine reads the first prompt, its answer and the next question as one conversation."""
    first = PromptTemplate().system("calm").user("谁 wins").build()
    reply = agent.run(first, max_tokens=10)
    second = agent.run(first + reply + "why", max_tokens=10)
    assert second.usage is not None
    assert second.usage.prompt_tokens == 1 + 2 + 10 + 1 + 5 * 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"model": "unknown"}, openai.BadRequestError, id="unknown-model"),
        pytest.param({"extra_body": {"bogus": 1}}, openai.UnprocessableEntityError, id="unknown-parameter"),
        pytest.param({"temperature": "hot"}, openai.InternalServerError, id="bad-parameter"),
    ],
)
def test_a_refused_request_raises_the_official_exception(
    base_url: str, options: dict[str, Any], expected: type[Exception]
) -> None:
    """The first `next()` raises what the official client raises, and so does the one after it."""
    settings: dict[str, Any] = {"model": MODEL, "max_retries": 0, **options}
    with Agent("engine", base_url=base_url, api_key="none", **settings) as refused:
        stream = refused.run_stream("KT")
        for _ in range(2):
            with pytest.raises(expected):
                stream.next()
    assert stream.state is StreamState.FAILED


def test_an_error_event_raises_the_engine_s_message(agent: Agent) -> None:
    """A parameter that fails during generation comes as a plain string inside the stream."""
    with pytest.raises(StreamServerError, match="strictly positive float") as raised:
        agent.run("KT", temperature=-1.0)
    assert raised.value.text == ""


def test_the_example_runs_to_its_end_without_a_terminal(base_url: str) -> None:
    """`examples/run_stream.py` prints the engine's answer."""
    environment = {**os.environ, "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "none", "OPENAI_MODEL": MODEL}
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "冠军" in ran.stdout
    assert "[finished, " in ran.stdout
    report(f"its output ends: {ran.stdout[-120:]!r}")
