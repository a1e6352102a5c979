"""The examples run against the local server, as a user starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

import pytest

from blades.testing import Answer, LocalServer, Stall
from limits import LIMIT_SECONDS, START_SECONDS
from other_thread import interrupt_other_thread
from shared import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

Popen: TypeAlias = "subprocess.Popen[str]"
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def environment(server: LocalServer) -> dict[str, str]:
    """The environment of a user with a key."""
    return {
        **os.environ,
        "OPENAI_API_KEY": "any",
        "OPENAI_BASE_URL": server.base_url,
        "PYTHONUTF8": "1",
        "PYTHONWARNINGS": "error",
    }


@pytest.fixture
def keyless(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a user who has set nothing."""
    return {name: value for name, value in environment.items() if not name.startswith("OPENAI_")}


def run(
    name: str, environment: dict[str, str], *arguments: str | Path, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run an example without a terminal."""
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        env=environment,
        input=typed,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=START_SECONDS,
        check=False,
    )


def test_run_stream_prints_the_answer(server: LocalServer, environment: dict[str, str]) -> None:
    """The upstream example, with its Chinese prompts, to its end."""
    server.add("T1 更有可能夺冠。")
    done = run("run_stream.py", environment)
    assert done.stderr == ""
    assert done.stdout.startswith("T1 更有可能夺冠。\n[finished, ")
    assert server.requests[0].json["messages"] == [
        {"role": "system", "content": "请用三点简洁回答 预测S15总冠军"},
        {"role": "user", "content": "请回答 用户，KT和T1谁最有可能在决赛中获得冠军"},
    ]


def test_run_stream_in_english(server: LocalServer, environment: dict[str, str]) -> None:
    """The same question, for who reads no Chinese."""
    server.add("T1 is more likely to win.")
    done = run("run_stream.py", environment, "--english")
    assert done.stdout.startswith("T1 is more likely to win.\n[finished, ")
    assert server.requests[0].json["messages"][1]["content"].startswith("Tell users: KT or T1")


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal: the person's side and the program's side."""
    pty = pytest.importorskip("pty")
    person, program = pty.openpty()
    yield person, program
    os.close(person)
    os.close(program)


def test_enter_cancels_run_stream(server: LocalServer, environment: dict[str, str], terminal: tuple[int, int]) -> None:
    """At a terminal, Enter ends the answer; the partial answer and the state are shown, the server notices."""
    person, program = terminal
    server.add(Answer("half an ", "answer", Stall()))
    with subprocess.Popen(
        [sys.executable, EXAMPLES / "run_stream.py"],
        env=environment,
        stdin=program,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    ) as example:
        assert example.stdout is not None
        shown = example.stdout.read(len("half an answer"))
        os.write(person, b"\n")
        rest, _ = example.communicate(timeout=START_SECONDS)
    assert shown + rest == "half an answer\n[cancelled, 14 characters, usage None]\n"
    assert server.requests[0].left.wait(LIMIT_SECONDS)
    assert example.returncode == 0


@contextmanager
def started(
    name: str, environment: dict[str, str], *arguments: str | Path, stdin: int, stdout: int = subprocess.PIPE
) -> Iterator[Popen]:
    """Start an example at a terminal, with what it prints in pipes."""
    with subprocess.Popen(
        [sys.executable, EXAMPLES / name, *arguments],
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as example:
        try:
            yield example
        finally:
            example.kill()


def read(pipe: IO[str] | None, end: str) -> str:
    """Read until the text ends so."""
    assert pipe is not None
    text = ""
    while not text.endswith(end):
        character = pipe.read(1)
        assert character, f"the pipe ended with {text!r}"
        text += character
    return text


def asked(server: LocalServer, number: int) -> list[tuple[str, str]]:
    """Return the roles and contents of a request's messages."""
    messages = server.wait_for_request(number).json["messages"]
    return [(message["role"], message["content"]) for message in messages]


class TestChatbot:
    """A conversation that goes on, whatever becomes of an answer."""

    def test_it_knows_what_was_said(self, server: LocalServer, environment: dict[str, str], tmp_path: Path) -> None:
        """Within a run, and in the next one; a failure is reported, and removes its question."""
        server.add("One.", Answer.error(400, "not so"), "Two.", "Three.")
        file = tmp_path / "history.json"
        done = run("chatbot.py", environment, file, typed="a\n\nb\nc\n")
        assert re.fullmatch(
            r"One\.\n\[stop]\n\n\[BadRequestError: .*not so.*\nasked: .*]\nTwo\.\n\[stop]\n", done.stdout
        )
        assert asked(server, 3) == [("user", "a"), ("assistant", "One."), ("user", "c")]
        assert run("chatbot.py", environment, file, typed="d").returncode == 0
        assert asked(server, 4) == [*asked(server, 3), ("assistant", "Two."), ("user", "d")]

    @pytest.mark.parametrize("way", ["enter", "ctrl-c", "another question"])
    def test_an_answer_is_cancelled_and_the_chat_goes_on(
        self, server: LocalServer, environment: dict[str, str], terminal: tuple[int, int], way: str
    ) -> None:
        """The model is sent the partial answer; at the end, Ctrl-C at the prompt leaves."""
        person, program = terminal
        server.add(Answer("half an ", "answer", Stall()), "Whole.")
        with started("chatbot.py", environment, stdin=program) as example:
            read(example.stderr, "> ")
            os.write(person, b"a\n")
            assert read(example.stdout, "answer") == "half an answer"
            if way == "ctrl-c":
                example.send_signal(signal.SIGINT)
            else:
                os.write(person, b"\n" if way == "enter" else b"b\n")
            assert read(example.stdout, "]\n") == "\n[cancelled]\n"
            assert server.requests[0].left.wait(LIMIT_SECONDS)
            if way != "another question":
                read(example.stderr, "> ")
                os.write(person, b"b\n")
            assert read(example.stdout, "]\n") == "Whole.\n[stop]\n"
            read(example.stderr, "> ")
            example.send_signal(signal.SIGINT)
            _, errors = example.communicate(timeout=START_SECONDS)
        assert asked(server, 2) == [("user", "a"), ("assistant", "half an answer"), ("user", "b")]
        assert (example.returncode, errors) == (0, "")

    def test_lines_can_be_edited(
        self, server: LocalServer, environment: dict[str, str], terminal: tuple[int, int]
    ) -> None:
        """With arrow keys, and by pasting several lines at once."""
        person, program = terminal
        server.default = "Yes."
        environment |= {"TERM": "xterm", "COLUMNS": "80"}
        with started("chatbot.py", environment, stdin=program, stdout=program) as example:
            os.write(person, b"ac\x1b[Db\n")
            assert server.wait_for_request(1, START_SECONDS).json["messages"][-1]["content"] == "abc"
            shown = b""
            while shown.count(b"> ") < 2:
                shown += os.read(person, 4096)
            os.write(person, b"\x1b[200~one\ntwo\x1b[201~\n")
            assert server.wait_for_request(2, START_SECONDS).json["messages"][-1]["content"] == "one\ntwo"
            example.send_signal(signal.SIGINT)
            example.send_signal(signal.SIGINT)


class TestCompleteCode:
    """Code at a cursor, up to the first blank line."""

    @pytest.mark.parametrize("cursor", ["line", "mark"])
    def test_it_stops_at_the_first_blank_line(
        self, server: LocalServer, environment: dict[str, str], tmp_path: Path, cursor: str
    ) -> None:
        """By leaving the loop, which ends the stream; a fence is left out."""
        server.add(Answer("```py", "thon\n    a\n", "    b\n", "\n", Stall(), "c\n"))
        file = tmp_path / "code.py"
        file.write_text("def f():\n" + ("<CURSOR>" if cursor == "mark" else "") + "f()\n", encoding="utf-8")
        done = run("complete_code.py", environment, f"{file}:1" if cursor == "line" else file)
        assert (done.stdout, done.stderr) == ("    a\n    b\n", "[cancelled]\n")
        assert asked(server, 1)[1] == ("user", f"{file}:\n\ndef f():\n<CURSOR>f()\n")
        assert server.requests[0].left.wait(LIMIT_SECONDS)

    def test_the_fence_at_the_end_ends_it_too(
        self, server: LocalServer, environment: dict[str, str], tmp_path: Path
    ) -> None:
        """What follows is talk."""
        server.add("```\nx = 1\n```\nThis sets x.")
        file = tmp_path / "code.py"
        file.write_text("# one\n", encoding="utf-8")
        assert run("complete_code.py", environment, f"{file}:1").stdout == "x = 1\n"


class TestTranslate:
    """Standard input, line by line."""

    def test_each_line_is_translated_as_it_arrives(self, server: LocalServer, environment: dict[str, str]) -> None:
        """Before the next one is there; empty lines stay, and the line before is known."""
        server.add("Bonjour.", "Au revoir.")
        with started("translate.py", environment, "French", stdin=subprocess.PIPE) as example:
            assert example.stdin is not None
            example.stdin.write("Hello.\n")
            example.stdin.flush()
            assert read(example.stdout, "\n") == "Bonjour.\n"
            output, errors = example.communicate("\nBye.\n", timeout=START_SECONDS)
        assert (output, errors) == ("\nAu revoir.\n", "")
        assert "French" in asked(server, 2)[0][1]
        assert asked(server, 2)[1:] == [("user", "Hello."), ("assistant", "Bonjour."), ("user", "Bye.")]

    def test_ctrl_c_stops_it(self, server: LocalServer, environment: dict[str, str]) -> None:
        """In the middle of a line, with what came of it."""
        server.add(Answer("Bon", Stall()))
        with started("translate.py", environment, stdin=subprocess.PIPE) as example:
            assert example.stdin is not None
            example.stdin.write("Hello.\nBye.\n")
            example.stdin.flush()
            assert read(example.stdout, "Bon") == "Bon"
            example.send_signal(signal.SIGINT)
            assert example.communicate(timeout=START_SECONDS) == ("", "")
        assert len(server.requests) == 1


class TestSpeak:
    """Sentences on their way to a voice."""

    def test_without_an_engine_sentences_are_printed_with_their_times(
        self, server: LocalServer, environment: dict[str, str], tmp_path: Path
    ) -> None:
        """Each as soon as it is certain, and without marks."""
        server.add(Answer("**It is** blue. ", "W", Stall()))
        environment["PATH"] = str(tmp_path)
        with started("speak.py", environment, "Why?", stdin=subprocess.DEVNULL) as example:
            assert re.fullmatch(r" *\d+\.\d\d s  It is blue\.\n", read(example.stdout, "\n"))
            server.release()
            output, errors = example.communicate(timeout=START_SECONDS)
        assert output.endswith(" s  W\n")
        assert errors == "[finished]\n"

    @pytest.mark.skipif(sys.platform == "win32", reason="the engine is a shell script")
    def test_an_engine_is_given_sentence_by_sentence(
        self, server: LocalServer, environment: dict[str, str], tmp_path: Path
    ) -> None:
        """On its standard input, with the language."""
        server.add("你好。再见。")
        engine = tmp_path / "espeak-ng"
        engine.write_text(f'#!/bin/sh\necho "$@ [$(cat)]" >> {tmp_path}/said\n', encoding="utf-8")
        engine.chmod(0o755)
        environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
        assert run("speak.py", environment, "嗨", "zh").returncode == 0
        assert (tmp_path / "said").read_text(encoding="utf-8") == "-v zh --stdin [你好。]\n-v zh --stdin [再见。]\n"


class TestManyPrompts:
    """A file of prompts, a file of answers."""

    def test_answers_are_json_lines(self, server: LocalServer, environment: dict[str, str], tmp_path: Path) -> None:
        """A failure is reported and counted, and asked again by the next run, which asks nothing else."""
        server.default = lambda request: (
            Answer.error(400, "not so") if "b" in request.json["messages"][0]["content"] else "Ä: yes"
        )
        prompts, answers = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
        prompts.write_text("a\n\nb\nc\n", encoding="utf-8")
        done = run("many_prompts.py", environment, prompts, answers, "2")
        assert done.returncode == 1
        assert "line 3: BadRequestError" in done.stderr
        assert done.stderr.endswith("\n3 done, 1 failed\n")
        server.default = "Now."
        assert run("many_prompts.py", environment, prompts, answers).returncode == 0
        rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
        assert sorted((row["number"], row["prompt"], row["text"]) for row in rows) == [
            (1, "a", "Ä: yes"),
            (3, "b", "Now."),
            (4, "c", "Ä: yes"),
        ]
        assert len(server.requests) == 4

    def test_ctrl_c_keeps_what_is_done(self, server: LocalServer, environment: dict[str, str], tmp_path: Path) -> None:
        """The answers under way are cancelled, and no further prompt is sent."""
        server.add("Done.")
        server.default = Answer("half", Stall())
        prompts, answers = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
        prompts.write_text("a\n" * 20, encoding="utf-8")
        with started("many_prompts.py", environment, prompts, answers, "2", stdin=subprocess.DEVNULL) as example:
            assert read(example.stderr, "of 20") == "\n1 of 20"
            assert server.wait_for_request(3).stalled.wait(START_SECONDS)
            example.send_signal(signal.SIGINT)
            output, errors = example.communicate(timeout=START_SECONDS)
        assert (example.returncode, output, errors) == (130, "", "")
        assert [json.loads(line)["text"] for line in answers.read_text(encoding="utf-8").splitlines()] == ["Done."]
        assert len(server.requests) == 3


def test_without_a_key_a_local_server_answers(keyless: dict[str, str]) -> None:
    """So that each can be tried at once. Side by side, for the server answers at a model's pace.

    Those that need neither an argument nor a question are started by `TestFirstContact`.
    """
    Path("prompts.txt").write_text("Hello\n", encoding="utf-8")
    calls: dict[str, tuple[list[str], str]] = {
        "chatbot.py": ([], "Hello\n"),
        "complete_code.py": (["prompts.txt:1"], ""),
        "translate.py": ([], "Hello\n"),
        "many_prompts.py": (["prompts.txt", "answers.jsonl"], ""),
    }
    with ThreadPoolExecutor(len(calls)) as pool:
        running = {
            name: pool.submit(run, name, keyless, *arguments, typed=typed) for name, (arguments, typed) in calls.items()
        }
    for name, call in running.items():
        done = call.result()
        assert done.returncode == 0, done.stderr
        assert done.stdout or name == "many_prompts.py"
    assert Path("answers.jsonl").read_text(encoding="utf-8")


NEED_ARGUMENTS = {"complete_code.py", "many_prompts.py"}
NO_KEY = "No OPENAI_API_KEY in the environment or in a .env file: a local test server answers."


@pytest.mark.parametrize(
    "name", ["chatbot.py", "complete_code.py", "many_prompts.py", "run_stream.py", "speak.py", "translate.py"]
)
class TestFirstContact:
    """A newcomer starts an example without having read it."""

    def test_help(self, name: str, environment: dict[str, str]) -> None:
        """--help says what it does, and which environment variables it reads."""
        done = run(name, environment, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "OPENAI_BASE_URL" in done.stdout

    def test_without_arguments(self, name: str, keyless: dict[str, str]) -> None:
        """It works, or prints its usage; without a key, one line says who answers."""
        done = run(name, keyless)
        assert "Traceback" not in done.stderr
        if name in NEED_ARGUMENTS:
            assert (done.returncode, done.stdout) == (2, "")
            assert "usage:" in done.stderr
        else:
            assert done.returncode == 0
            shown = {"chatbot.py": [NO_KEY, "> "], "speak.py": [NO_KEY, "[finished]"]}.get(name, [NO_KEY])
            assert done.stderr.splitlines() == shown
            assert ("[finished, " in done.stdout) == (name == "run_stream.py")
            assert bool(done.stdout) == (name in {"run_stream.py", "speak.py"})

    def test_an_error_has_no_traceback(self, name: str, server: LocalServer, environment: dict[str, str]) -> None:
        """A refused key ends it with the message and the note on the likely cause."""
        server.default = Answer.error(401, "wrong key")
        Path("prompts.txt").write_text("Hello\n", encoding="utf-8")
        arguments = {"complete_code.py": ["prompts.txt:1"], "many_prompts.py": ["prompts.txt", "answers.jsonl"]}
        done = run(name, environment, *arguments.get(name, []), typed="Hello\n")
        assert "wrong key" in done.stdout + done.stderr
        assert (done.stdout + done.stderr).count("the server refuses the key") == 1
        assert "Traceback" not in done.stderr
        assert (done.returncode == 0) == (name == "chatbot.py")

    def test_ctrl_c(self, name: str, server: LocalServer, environment: dict[str, str]) -> None:
        """While it waits for an answer, it ends without a traceback."""
        server.default = Answer("half ", Stall())
        Path("prompts.txt").write_text("Hello\n", encoding="utf-8")
        arguments = {"complete_code.py": ["prompts.txt:1"], "many_prompts.py": ["prompts.txt", "answers.jsonl"]}
        with started(name, environment, *arguments.get(name, []), stdin=subprocess.PIPE) as example:
            assert example.stdin is not None
            example.stdin.write("Hello\n")
            example.stdin.flush()
            assert server.wait_for_request(1, START_SECONDS).stalled.wait(LIMIT_SECONDS)
            example.send_signal(signal.SIGINT)
            _, errors = example.communicate(timeout=START_SECONDS)
        assert "Traceback" not in errors
        assert example.returncode in (0, 130)
        assert server.requests[0].left.wait(LIMIT_SECONDS)


@pytest.mark.skipif(sys.platform != "linux", reason="sends a signal to one thread")
def test_ctrl_c_that_reaches_another_thread(server: LocalServer, environment: dict[str, str]) -> None:
    """Linux chooses another thread where the main thread has a signal to look at already; Python wakes nobody."""
    server.default = Answer("half ", Stall())
    Path("prompts.txt").write_text("Hello\n", encoding="utf-8")
    arguments = ("prompts.txt", "answers.jsonl")
    with started("many_prompts.py", environment, *arguments, stdin=subprocess.DEVNULL) as example:
        assert server.wait_for_request(1, START_SECONDS).stalled.wait(LIMIT_SECONDS)
        interrupt_other_thread(example.pid)
        _, errors = example.communicate(timeout=START_SECONDS)
    assert "Traceback" not in errors
    assert example.returncode == 130


SHORT = sorted({path.name for path in EXAMPLES.glob("*.py")} - {"fan_out_dask.py"})


@pytest.mark.parametrize("name", SHORT)
def test_an_example_is_short(name: str) -> None:
    """Read in a minute."""
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 90


def test_tools_answers_about_a_folder(server: LocalServer, environment: dict[str, str], tmp_path: Path) -> None:
    """The tools read the folder, and nothing outside of it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "tea.txt").write_text("Green tea: 80 degrees.\nBlack TEA: 95.", "utf-8")
    (folder / ".hidden").write_text("tea", "utf-8")
    (tmp_path / "secret.txt").write_text("tea", "utf-8")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    calls = [
        ("list_files", {}),
        ("list_files", {"pattern": "../*"}),
        ("read_file", {"name": "tea.txt"}),
        ("read_file", {"name": "../secret.txt"}),
        ("read_file", {"name": "link.txt"}),
        ("list_files", {"pattern": "/etc/*"}),
        ("list_files", {"pattern": "."}),
        ("search", {"text": "tea"}),
    ]
    server.add(Answer(tool_calls=calls), "At 80 degrees.")
    done = run("tools.py", environment, folder, "How hot?")
    assert done.stderr == ""
    assert done.stdout.startswith("At 80 degrees.\n[finished, 10 messages, ")
    told = [message["content"] for message in server.requests[1].json["messages"] if message["role"] == "tool"]
    assert told.pop(6).startswith("'.' is no glob within this folder: ")  # the reason depends on Python's version
    missing = "There is no file {!r} in this folder: call list_files."
    assert told == [
        '["tea.txt"]',
        "[]",
        "Green tea: 80 degrees.\nBlack TEA: 95.",
        missing.format("../secret.txt"),
        missing.format("link.txt"),
        "'/etc/*' is no glob within this folder: Non-relative patterns are unsupported",
        '["tea.txt:1: Green tea: 80 degrees.","tea.txt:2: Black TEA: 95."]',
    ]


def test_enter_cancels_tools_in_the_middle_of_a_search(
    server: LocalServer, environment: dict[str, str], terminal: tuple[int, int], tmp_path: Path
) -> None:
    """The search waits for a pipe that nobody writes to, and the example ends all the same."""
    os.mkfifo(tmp_path / "blocks.txt")
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "patch"), environment.get("PYTHONPATH", "")])
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(
        "import pathlib\npathlib.Path.is_file = lambda self: self.name == 'blocks.txt'\n", "utf-8"
    )
    person, program = terminal
    server.add(Answer("I look. ", tool_calls=[("search", {"text": "tea"})]))
    with started("tools.py", environment, tmp_path, "How hot?", stdin=program) as example:
        read(example.stdout, "I look. ")
        os.write(person, b"\n")
        rest, _ = example.communicate(timeout=START_SECONDS)
    assert rest.startswith("\n[cancelled, ")
    assert example.returncode == 0
    assert len(server.requests) == 1


def test_extract_writes_an_object_for_each_paragraph(
    server: LocalServer, environment: dict[str, str], tmp_path: Path
) -> None:
    """What does not fit is reported, and the rest goes on."""
    texts = tmp_path / "texts.txt"
    texts.write_text("One.\n\n\nTwo.\n\nThree.", "utf-8")
    fine = json.dumps({"title": "One", "language": "en", "mood": "glad", "names": ["A"]})
    server.add(fine, "no JSON", fine)
    done = run("extract.py", environment, texts)
    assert [json.loads(line)["names"] for line in done.stdout.splitlines()] == [["A"], ["A"]]
    assert "paragraph 2: ReplyParseError: The answer is no JSON" in done.stderr
    assert done.returncode == 1
    assert server.requests[0].json["response_format"]["json_schema"]["strict"] is True
    server.default = fine
    output = tmp_path / "facts.jsonl"
    assert run("extract.py", environment, texts, output).returncode == 0
    assert len(output.read_text("utf-8").splitlines()) == 3
    nowhere = run("extract.py", environment, texts, tmp_path / "nowhere" / "facts.jsonl")
    assert nowhere.returncode == 2
    assert "No such file" in nowhere.stderr


@pytest.mark.parametrize("name", ["tools.py", "extract.py"])
def test_new_examples_need_no_key_and_explain_themselves(
    name: str, server: LocalServer, environment: dict[str, str], keyless: dict[str, str], tmp_path: Path
) -> None:
    """The local server calls the tools and fills the schema; nothing that a newcomer does wrong gives a traceback."""
    texts = tmp_path / "texts.txt"
    texts.write_text("Ada met Charles.", "utf-8")
    argument = texts if name == "extract.py" else tmp_path
    done = run(name, keyless, argument)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == NO_KEY
    assert "Traceback" not in done.stderr
    assert run(name, keyless, "--help").returncode == 0
    wrong = run(name, keyless, tmp_path / "nowhere")
    assert wrong.returncode != 0
    assert "nowhere" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    server.default = Answer.error(401, "wrong key")
    refused = run(name, environment, argument)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[1].startswith("AuthenticationError: ")
    assert "the server refuses the key" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_many_prompts_explains_a_cause_once(server: LocalServer, environment: dict[str, str]) -> None:
    """Each line that failed has its message; what is the same for all of them is said once."""
    server.default = Answer.error(401, "wrong key")
    Path("prompts.txt").write_text("a\nb\nc\n", encoding="utf-8")
    done = run("many_prompts.py", environment, "prompts.txt", "answers.jsonl", "1")
    assert done.stderr.count("AuthenticationError") == 3
    assert done.stderr.count("the server refuses the key") == 1


def test_a_key_in_a_dotenv_file(server: LocalServer, keyless: dict[str, str]) -> None:
    """The README's other way: a file in the working directory, for server and model, too."""
    lines = ("OPENAI_API_KEY=any", f"OPENAI_BASE_URL={server.base_url}", "OPENAI_MODEL=mine")
    Path(".env").write_text("\n".join(lines), encoding="utf-8")
    server.add("Yes.")
    done = run("run_stream.py", keyless)
    assert (done.stdout.partition("\n")[0], done.stderr) == ("Yes.", "")
    assert server.requests[0].json["model"] == "mine"


@pytest.mark.parametrize(
    ("variables", "file", "model"),
    [
        ({"OPENAI_API_KEY": "k"}, "", "gpt-5.4-mini"),
        ({"OPENAI_API_KEY": "k", "OPENAI_MODEL": "m"}, "OPENAI_MODEL=other", "m"),
        ({}, "OPENAI_API_KEY=k\nOPENAI_MODEL=m", "m"),
        ({"OPENAI_API_KEY": ""}, "\ufeffOPENAI_API_KEY=k", "gpt-5.4-mini"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "", "gpt-5.4-mini"),
    ],
    ids=["environment", "environment first", "file", "file with a byte order mark", "base URL"],
)
def test_no_local_server_where_a_key_or_server_is_set(
    variables: dict[str, str], file: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library uses what is set, and says so if the key is missing: nobody takes the test server for a model."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    Path(".env").write_text(file, encoding="utf-8")
    with settings() as given:
        assert given == {"model": model}


def test_dask_is_missing(keyless: dict[str, str], tmp_path: Path) -> None:
    """One line says what to install."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['distributed'] = None\n", "utf-8")
    keyless["PYTHONPATH"] = os.pathsep.join([str(tmp_path), keyless.get("PYTHONPATH", "")])
    done = run("fan_out_dask.py", keyless, "prompts.txt")
    assert done.returncode == 1
    assert re.fullmatch(r"This example needs Dask: pip install distributed \(.*\)\n", done.stderr)
