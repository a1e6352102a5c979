"""What only a process of its own can show: Ctrl-C, the interpreter's exit, forks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from blades.testing import Answer, LocalServer, Stall
from limits import LIMIT_SECONDS, START_SECONDS
from other_thread import interrupt_other_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks")


@pytest.fixture
def start(server: LocalServer) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a script that has `agent`, with pipes to talk to it."""
    children = []

    def run(script: str, *options: str) -> subprocess.Popen[str]:
        head = (
            "import os, signal, sys, threading, time\n"
            "from blades import Agent, Stream, StreamState\n"
            f"agent = Agent('child', model='m', base_url={server.base_url!r}, api_key='k')\n"
        )
        child = subprocess.Popen(
            [sys.executable, *options, "-c", head + script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        children.append(child)
        return child

    yield run
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # and what it has forked
        child.communicate()


INTERRUPTED = """
stream = agent.run_stream("go")
try:
    for chunk in stream:
        {body}
except KeyboardInterrupt:
    print(stream.state.value, repr(stream.text), flush=True)
    sys.stdin.readline()  # alive, so that it is not the end of the process that ends the connection
    raise
"""


@pytest.mark.parametrize(
    ("phase", "body", "text"),
    [
        ("opening", "pass", ""),
        ("between tokens", "print('returned', flush=True)", "a "),
        ("loop body", "print('returned', flush=True); [time.sleep(0.05) for _ in range(12_000)]", "a "),
    ],
    ids=["opening", "between tokens", "loop body"],
)
def test_ctrl_c(
    phase: str, body: str, text: str, server: LocalServer, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """KeyboardInterrupt passes, the stream keeps its text, the server notices, nothing else is printed."""
    server.add(Answer(before_headers=[Stall()]) if phase == "opening" else Answer("a ", Stall()))
    child = start(INTERRUPTED.format(body=body))
    assert child.stdout is not None
    request = server.wait_for_request(timeout=START_SECONDS)
    assert request.stalled.wait(LIMIT_SECONDS)
    if text:
        assert child.stdout.readline() == "returned\n"
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == f"cancelled {text!r}\n"
    assert request.left.wait(LIMIT_SECONDS)
    _, errors = child.communicate("\n", timeout=START_SECONDS)
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "ignored" not in errors
    assert child.returncode == -signal.SIGINT


@pytest.mark.skipif(sys.platform != "linux", reason="sends a signal to one thread")
def test_ctrl_c_that_reaches_another_thread(server: LocalServer, start: Callable[..., subprocess.Popen[str]]) -> None:
    """A reader that waits for the headers wakes now and then, and finds that it was interrupted."""
    server.add(Answer(before_headers=[Stall()]))
    child = start(INTERRUPTED.format(body="pass"))
    request = server.wait_for_request(timeout=START_SECONDS)
    assert request.stalled.wait(LIMIT_SECONDS)
    interrupt_other_thread(child.pid)
    assert request.left.wait(LIMIT_SECONDS)
    output, _ = child.communicate("\n", timeout=START_SECONDS)
    assert output == "cancelled ''\n"


RUNNING = """
half_read = agent.run_stream("tokens")
next(half_read)
loop = iter(half_read)
unread = agent.run_stream("headers")
watched = agent.run_stream("tokens", cancel=threading.Event())
def read(stream):
    for chunk in stream:
        os.write(1, b"a chunk\\n")  # in one piece
readers = [threading.Thread(target=read, args=(agent.run_stream(what),), daemon=True) for what in ("tokens", "headers")]
for reader in readers:
    reader.start()
class Cycle: pass
cycle = Cycle()
cycle.itself, cycle.stream = cycle, agent.run_stream("tokens")
os.write(1, b"running\\n")
sys.stdin.readline()
"""


@pytest.mark.parametrize("options", [(), ("-X", "dev", "-W", "error")], ids=["plain", "strict"])
def test_the_interpreter_exits_while_streams_run(
    options: tuple[str, ...], server: LocalServer, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """In each phase, read by daemon threads or by nobody, kept or in a cycle: no hang, no word, exit code 0."""

    def answer(request: object) -> Answer:
        prompt = request.json["messages"][-1]["content"]  # type: ignore[attr-defined]
        return Answer(before_headers=[Stall()]) if prompt == "headers" else Answer("a", Stall())

    server.default = answer
    child = start(RUNNING, *options)
    for number in range(1, 7):
        assert server.wait_for_request(number, timeout=START_SECONDS).stalled.wait(LIMIT_SECONDS)
    assert child.stdout is not None
    assert sorted(child.stdout.readline() for _ in range(2)) == ["a chunk\n", "running\n"]
    _, errors = child.communicate("\n", timeout=START_SECONDS)
    assert errors == ""
    assert child.returncode == 0
    for request in server.requests:
        assert request.left.wait(LIMIT_SECONDS)


FORKED = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
streams = [agent.run_stream("go", cancel=threading.Event()) for _ in range(3)]
for stream in streams:
    next(stream)
child = os.fork()
if child == 0:
    {child}
assert os.waitpid(child, 0)[1] == 0
print("forked", flush=True)
sys.stdin.readline()
assert [stream.reply().text for stream in streams] == ["a b"] * 3
event = threading.Event()
stream = agent.run_stream("go", cancel=event)
next(stream)
event.set()
assert not stream.next()
"""


@pytest.mark.parametrize(
    "child",
    [
        "sys.exit()",
        "streams.clear(); del stream; import gc; gc.collect(); sys.exit()",
        "[stream._call.scope._responses[0]._opened.release() for stream in streams]; agent.close(); os._exit(0)",
        "event = threading.Event(); s = agent.run_stream('c', cancel=event); next(s); event.set(); sys.exit(s.next())",
        "import pytest; [pytest.raises(RuntimeError, s.next) for s in streams]; os._exit(0)",
        "[s.cancel() for s in streams]; sys.exit(any(s.state is StreamState.STREAMING for s in streams))",
    ],
    ids=["exit", "drop", "close", "streams of its own", "read", "cancel"],
)
def test_a_fork_while_streams_run(child: str, server: LocalServer, start: Callable[..., subprocess.Popen[str]]) -> None:
    """Whatever the child does with what it got, the parent's streams go on; events are watched on both sides."""
    server.default = Answer("a ", Stall(), "b")
    parent = start(FORKED.format(child=child))
    assert parent.stdout is not None
    assert parent.stdout.readline() == "forked\n"
    for request in server.requests[:3]:
        assert not request.left.is_set()
        request.release()
    _, errors = parent.communicate("\n", timeout=START_SECONDS)
    assert (errors, parent.returncode) == ("", 0)


STOPPED = """
held = threading.Event()
streams = [agent.run_stream("go")]
next(streams[0])
hold = "with lock: held.set(); sleep({seconds})"  # no function of this module: that would keep it, and its streams
names = dict(lock=streams[0]._call.{lock}, held=held, sleep=time.sleep)
threading.Thread(target=exec, args=(hold, names), daemon=True).start()
held.wait()
{end}
"""


@pytest.mark.parametrize(
    ("end", "seconds"),
    [
        ("", 60),
        ("child = os.fork()\nstreams.clear() if child == 0 else sys.exit(os.waitpid(child, 0)[1])", 1),
    ],
    ids=["exit", "fork"],
)
@pytest.mark.parametrize("lock", ["state._lock", "scope._lock"], ids=["state", "scope"])
def test_a_thread_that_is_stopped_inside_a_stream(
    lock: str, end: str, seconds: float, server: LocalServer, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """At the interpreter's exit, and in a forked child, nobody waits for the locks that it held."""
    server.default = Answer("a ", Stall())
    child = start(
        "import warnings; warnings.simplefilter('ignore')" + STOPPED.format(end=end, seconds=seconds, lock=lock)
    )
    _, errors = child.communicate(timeout=START_SECONDS)
    assert (errors, child.returncode) == ("", 0)


FORKED_EARLY = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
stream = agent.run_stream("parent")  # returns at once, while a thread imports the official client
time.sleep({delay})
child = os.fork()
if child == 0:
    signal.alarm({limit})  # a child that waits for a lock of its parent's would wait for ever
    os._exit(agent.run("child").text != "ok")
sys.exit(os.waitpid(child, 0)[1] != 0 or stream.reply().text != "ok")
"""


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15, 0.3, 0.6])
def test_a_fork_while_the_official_client_is_imported(
    delay: float, server: LocalServer, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """The child makes streams of its own, whatever a thread of its parent's was importing."""
    server.default = "ok"
    parent = start(FORKED_EARLY.format(delay=delay, limit=int(START_SECONDS)))
    _, errors = parent.communicate(timeout=START_SECONDS)
    assert (errors, parent.returncode) == ("", 0)


AT_EXIT = """
import atexit
def read():
    if {late}:
        main.join()  # from here on the main thread waits for this one
    print(agent.run("go").text, flush=True)
main = threading.main_thread()
if {warm}:
    agent.run("warm")
{register}
"""


@pytest.mark.parametrize("warm", [False, True], ids=["first stream", "later stream"])
@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize(
    ("late", "register"),
    [(False, "atexit.register(read)"), (True, "threading.Thread(target=read).start()")],
    ids=["atexit", "thread"],
)
def test_streams_at_the_interpreters_exit(  # parameters and fixtures
    late: bool,
    register: str,
    framing: Any,
    warm: bool,
    server: LocalServer,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    """From Python 3.12 on no thread can be started then: the request is sent, and the answer read, in the caller's."""
    server.default = Answer(*["w "] * 50, framing=framing)
    child = start(AT_EXIT.format(late=late, warm=warm, register=register))
    output, errors = child.communicate(timeout=START_SECONDS)
    assert (output, errors, child.returncode) == ("w " * 50 + "\n", "", 0)


NO_DESCRIPTORS = """
import resource
{imported}
taken = [os.open(os.devnull, os.O_RDONLY)]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True:
        taken.append(os.dup(taken[0]))
except OSError:
    pass
try:
    print(agent.run("go").text)
except Exception as error:
    print(type(error).__module__.partition(".")[0], type(error).__name__, error, flush=True)
while taken:
    os.close(taken.pop())
print(agent.run("go").text)
"""


@pytest.mark.parametrize("imported", ["", "import jiter", "import jiter, openai"])
def test_no_descriptor_for_the_first_stream(
    imported: str, server: LocalServer, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """Neither a module nor a socket can be opened: the error says so, and later the agent works."""
    server.default = "ok"
    child = start(NO_DESCRIPTORS.format(imported=imported))
    output, errors = child.communicate(timeout=START_SECONDS)
    assert (errors, child.returncode) == ("", 0)
    error, text = output.splitlines()
    assert text == "ok"
    assert error.startswith("blades ConfigError" if imported else "builtins OSError")
    assert "SSL_CERT_FILE" not in error
    assert "Too many open files" in error
