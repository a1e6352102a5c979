"""Agent: its settings, what it sends, and where it works."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.resources.chat.completions import Completions

import blades
from blades import Agent, ConfigError, Message, PromptTemplate, StreamInterrupted
from blades import _options as _check
from blades.testing import Answer, Cut, LocalServer, Stall
from limits import LIMIT_SECONDS, START_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def make(**settings: Any) -> Agent:
    """Make an agent whose settings are under test."""
    return Agent("test", **{"model": "m", "api_key": "k", "base_url": "http://127.0.0.1:9/v1", **settings})


class TestRequest:
    """What goes over the wire."""

    def test_a_text_is_one_user_message(self, server: LocalServer, agent: Agent) -> None:
        """Path, key, model, message, and the demand for usage."""
        agent.run("hello")
        request = server.requests[0]
        assert (request.method, request.path) == ("POST", "/v1/chat/completions")
        assert request.headers["authorization"] == "Bearer test-key"
        assert request.json == {
            "model": "test-model",
            "messages": [{"role": "user", "content": "hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    @pytest.mark.parametrize(
        "prompt",
        [
            PromptTemplate().system("Be brief.").user("Hi {{who}}", who="you").build(),
            [Message("system", "Be brief."), {"role": "user", "content": "Hi you"}],
            (Message("system", "Be brief."), Message("user", "Hi you")),
        ],
        ids=["prompt", "list", "tuple"],
    )
    def test_the_forms_of_a_prompt(self, prompt: Any, server: LocalServer, agent: Agent) -> None:
        """A Prompt and sequences of messages or dicts are the same."""
        agent.run(prompt)
        assert server.requests[0].json["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi you"},
        ]

    def test_instructions_come_first(self, server: LocalServer) -> None:
        """The agent's own system text stands before each prompt."""
        agent = make(base_url=server.base_url, instructions="You are terse.")
        agent.run("hello")
        assert server.requests[0].json["messages"][0] == {"role": "system", "content": "You are terse."}

    def test_options_are_passed_on_and_overridden_per_call(self, server: LocalServer) -> None:
        """The call's options win; the agent's stay as they were."""
        agent = make(base_url=server.base_url, temperature=0.2, extra_body={"top_k": 3})
        agent.run("a", temperature=0.9, model="other", seed=7, stop=["\n"])
        agent.run("b")
        first, second = (request.json for request in server.requests)
        assert (first["temperature"], first["model"], first["seed"], first["stop"]) == (0.9, "other", 7, ["\n"])
        assert (second["temperature"], second["model"], second["top_k"]) == (0.2, "m", 3)
        assert "seed" not in second

    def test_stream_options_can_be_left_out(self, server: LocalServer, agent: Agent) -> None:
        """Some servers reject the parameter: None leaves it out."""
        server.add(Answer.error(400, "stream_options is not supported"))
        with pytest.raises(openai.BadRequestError, match="stream_options is not supported"):
            agent.run("a")
        agent.run("a", stream_options=None)
        assert "stream_options" not in server.requests[1].json

    def test_extra_headers_are_sent(self, server: LocalServer, agent: Agent) -> None:
        """The official client's own options work as they do there."""
        agent.run("a", extra_headers={"X-Trace": "7"})
        assert server.requests[0].headers["x-trace"] == "7"


class TestArguments:
    """Wrong arguments raise at the call, and say what was expected."""

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"model": ""}, ValueError, "expected model as a text, got ''"),
            ({"model": None}, TypeError, "expected model as a str, got None"),
            ({"instructions": 3}, TypeError, "expected instructions as a str"),
            ({"base_url": 3}, TypeError, "expected base_url as a str"),
            ({"api_key": b"key"}, TypeError, "expected api_key as a str, got bytes"),
            ({"timeout": -1}, ValueError, "expected timeout as a number of seconds above 0"),
            ({"timeout": float("nan")}, ValueError, "expected timeout as a number of seconds above 0"),
            ({"stall_timeout": "3"}, TypeError, "expected stall_timeout as a number of seconds"),
            ({"first_chunk_timeout": True}, TypeError, "expected first_chunk_timeout as a number"),
            ({"max_retries": -1}, ValueError, "expected max_retries as 0 or more"),
            ({"max_retries": 1.5}, TypeError, "expected max_retries as an int"),
            ({"require_finish": 1}, TypeError, "expected require_finish as True or False"),
            ({"n": 2}, ValueError, "expected n as 1, got 2"),
            ({"temprature": 1}, TypeError, "did you mean 'temperature'"),
            ({"top_k": 40}, TypeError, "extra_body"),
            ({"messages": []}, TypeError, "got 'messages': the prompt is the first argument"),
            ({"stream": True}, TypeError, "got 'stream': answers are always streamed"),
            ({"client": object()}, TypeError, "expected either client, or base_url and api_key"),
            ({"client": object(), "api_key": None, "base_url": None}, TypeError, "expected client as an openai.OpenAI"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_settings(self, settings: dict[str, Any], error: type[Exception], message: str) -> None:
        """The constructor refuses what cannot be meant."""
        with pytest.raises(error, match=message):
            make(**settings)

    def test_an_asynchronous_client_is_refused(self) -> None:
        """There is no asynchronous twin; the error names what is expected."""
        with pytest.raises(TypeError, match="use the synchronous one"):
            make(client=openai.AsyncOpenAI(api_key="k"), api_key=None, base_url=None)

    @pytest.mark.parametrize(
        ("prompt", "error"),
        [("", ValueError), ([], ValueError), (b"hi", TypeError), (None, TypeError), (PromptTemplate(), TypeError)],
        ids=["empty text", "no messages", "bytes", "None", "template"],
    )
    def test_prompts(self, prompt: Any, error: type[Exception]) -> None:
        """An impossible prompt raises before anything is sent."""
        with pytest.raises(error):
            make().run_stream(prompt)

    def test_a_coroutine_is_no_event(self) -> None:
        """cancel= takes something with is_set()."""

        async def cancel() -> None: ...

        coroutine = cancel()
        for wrong in (coroutine, threading.Event, True, lambda: True):
            with pytest.raises(TypeError, match=r"expected cancel as an event with is_set\(\)"):
                make().run_stream("go", cancel=wrong)  # type: ignore[call-overload]
        coroutine.close()

    @pytest.mark.parametrize("call", ["run", "run_stream"])
    def test_options_of_a_call(self, call: str) -> None:
        """The same checks at each call."""
        for wrong in ({"timeout": 0}, {"n": 3}, {"stall_timeout": float("inf")}):
            with pytest.raises(ValueError, match=f"expected {next(iter(wrong))} as"):
                getattr(make(), call)("go", **wrong)

    def test_the_known_options_are_the_official_ones(self) -> None:
        """No name is let through that the installed client would refuse."""
        assert inspect.signature(Completions.create).parameters.keys() >= _check._KNOWN_OPTIONS

    def test_a_newer_option_of_the_official_client_is_let_through(self) -> None:
        """What the installed client knows is allowed, whether it is listed here or not."""
        parameters = inspect.signature(Completions.create).parameters.keys()
        for name in parameters - {"self", "timeout", "messages", "stream", "n", "model"}:
            make(**{name: None})

    def test_repr_has_no_key(self) -> None:
        """An agent in a log shows its name and model."""
        agent = make(api_key="sk-secret")
        assert repr(agent) == "Agent('test', model='m')"

    @pytest.mark.parametrize("options", [{"stall_timeout": "1"}, {"bogus": 1}, {"tools": 1}])
    def test_no_frame_of_an_error_has_the_key(self, options: dict[str, Any]) -> None:
        """Tools that show the local variables of an exception's frames would show it."""
        with pytest.raises(TypeError) as caught:
            make(**{"api_key": "sk-secret", **options})
        frames = [entry.frame for entry in caught.traceback if "/blades/" in str(entry.path)]
        assert frames
        assert not any("sk-secret" in repr(value) for frame in frames for value in frame.f_locals.values())


class TestConfiguration:
    """Key and base URL, as a user meets them."""

    def test_a_missing_key_is_one_clear_error(self) -> None:
        """It is raised at the call and names variable and argument; the next call may find it."""
        agent = Agent("test", model="m")
        with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
            agent.run_stream("go")

    def test_a_dotenv_file_is_enough(self, server: LocalServer, tmp_path: Path) -> None:
        """Both from the .env file of the working directory."""
        (tmp_path / ".env").write_text(f"OPENAI_API_KEY=from-file\nOPENAI_BASE_URL={server.base_url}\n")
        Agent("test", model="m").run("go")
        assert server.requests[0].headers["authorization"] == "Bearer from-file"

    @pytest.mark.parametrize(
        ("variable", "value"),
        [("ALL_PROXY", "what://user:secret@127.0.0.1:1"), ("SSL_CERT_FILE", "/no/such/file")],
        ids=["proxy", "certificates"],
    )
    def test_what_the_official_client_cannot_use(
        self, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Settings that it reads from the environment itself are a ConfigError too, which shows no password."""
        monkeypatch.setenv(variable, value)
        with pytest.raises(ConfigError, match=variable) as caught:
            make(base_url="https://127.0.0.1:1/v1").run("go")
        assert "secret" not in str(caught.value)

    def test_a_port_that_is_none(self) -> None:
        """The official client finds that out."""
        with pytest.raises(ConfigError, match="port"):
            make(base_url="http://127.0.0.1:abc/v1").run("go")

    def test_limits_of_centuries(self, server: LocalServer, agent: Agent) -> None:
        """No limit is too long, for whichever way a body is read."""
        for framing in ("chunked", "close"):
            server.add(Answer("a", "b", framing=framing))
            assert agent.run("go", timeout=1e10, stall_timeout=10**400).text == "ab"

    def test_nothing_is_read_before_the_first_call(self, server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """An agent may be made first and configured later."""
        agent = Agent("test", model="m")
        monkeypatch.setenv("OPENAI_API_KEY", "late")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        assert agent.run("go").complete

    @pytest.mark.parametrize(
        ("statement", "absent"),
        [
            ("import blades", ("dataclasses", "socket", "blades._agent", "blades._values")),
            ("from blades import Agent, PromptTemplate", ("openai", "pydantic", "blades.testing", "blades._output")),
        ],
    )
    def test_import_is_light(self, statement: str, absent: tuple[str, ...]) -> None:
        """The package alone imports none of its modules, and its names no official client."""
        script = f"import sys; {statement}; print([name for name in {absent} if name in sys.modules])"
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=START_SECONDS
        )
        assert done.stdout.strip() == "[]"

    def test_every_name_can_be_imported(self) -> None:
        """Those that are imported late, too; a name that does not exist is an AttributeError."""
        script = "import blades; assert {*blades.__all__} <= {*dir(blades)}; print(blades.Reply(), blades.Replay)"
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=START_SECONDS
        )
        assert done.stderr.splitlines()[-1].startswith("AttributeError: module 'blades' has no attribute 'Replay'")
        for name in blades.__all__:
            assert getattr(blades, name).__name__ == name


class TestClient:
    """A caller's own client."""

    def test_it_is_used_and_left_open(self, server: LocalServer) -> None:
        """Its key and headers are used; closing the agent does not close it."""
        client = openai.OpenAI(base_url=server.base_url, api_key="own", default_headers={"X-Own": "1"})
        with client:
            client.models.list()
            with Agent("test", model="m", client=client) as agent:
                assert agent.run("go").complete
            assert server.requests[1].headers["authorization"] == "Bearer own"
            assert server.requests[1].headers["x-own"] == "1"
            assert server.connections == 1
            assert not client.is_closed()
            plain = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "direct"}])
            assert plain.choices[0].message.content

    def test_its_retries_are_kept_unless_told_otherwise(self, server: LocalServer) -> None:
        """max_retries of the client, or of the agent."""
        with openai.OpenAI(base_url=server.base_url, api_key="own", max_retries=0) as client:
            server.add(Answer.error(500, "no"))
            with pytest.raises(openai.InternalServerError):
                Agent("test", model="m", client=client).run("go")
            server.add(Answer.error(500, "no", headers={"Retry-After-Ms": "1"}))
            assert Agent("test", model="m", client=client, max_retries=1).run("go").complete

    def test_azure(self) -> None:
        """An Azure client sends to its deployment's path, with its own header for the key."""
        deployments = "/openai/deployments/deployment"
        with LocalServer(pace=0, base_path=deployments) as server:
            endpoint = server.base_url.removesuffix(deployments)
            client = openai.AzureOpenAI(azure_endpoint=endpoint, api_version="2024-10-21", api_key="azure-key")
            with client:
                assert Agent("test", model="deployment", client=client).run("go").complete
            request = server.wait_for_request()
        assert request.path == "/openai/deployments/deployment/chat/completions?api-version=2024-10-21"
        assert request.headers["api-key"] == "azure-key"

    def test_it_cannot_be_pickled(self) -> None:
        """The error says what to do instead."""
        with openai.OpenAI(api_key="own") as client:
            agent = Agent("test", model="m", client=client)
            with pytest.raises(TypeError, match="give it base_url="):
                pickle.dumps(agent)


class TestElsewhere:
    """Threads and processes."""

    @pytest.mark.usefixtures("patient")
    def test_many_threads_share_one_agent(self, server: LocalServer, agent: Agent) -> None:
        """Each gets its own answer; no more connections are made than are used at once."""
        server.default = lambda request: f"answer to {request.json['messages'][-1]['content']}"
        with ThreadPoolExecutor(10) as pool:
            replies = list(pool.map(lambda number: agent.run(f"question {number}").text, range(100)))
        assert replies == [f"answer to question {number}" for number in range(100)]
        assert server.connections <= 10

    @pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
    def test_a_pickled_agent_works(self, *, used: bool, server: LocalServer) -> None:
        """The client stays behind and is made anew; settings and an explicit key come along."""
        agent = make(base_url=server.base_url, api_key="along", instructions="Terse.", temperature=0.5)
        if used:
            agent.run("before")
        landed = pickle.loads(pickle.dumps(agent))
        landed.run("after")
        request = server.requests[-1]
        assert request.headers["authorization"] == "Bearer along"
        assert request.json["temperature"] == 0.5
        assert request.json["messages"][0]["content"] == "Terse."
        assert b"sk-" not in pickle.dumps(Agent("test", model="m"))

    @pytest.mark.parametrize("used", [pickle.dumps, copy.copy])
    def test_a_stream_and_a_chat_cannot_be_pickled_or_copied(
        self, used: Callable[[object], object], agent: Agent
    ) -> None:
        """Each error says what can be."""
        with agent.run_stream("go") as stream, pytest.raises(TypeError, match=r"use its reply\(\) instead"):
            used(stream)
        with pytest.raises(TypeError, match="keep its messages"):
            used(agent.chat())

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_forked_child_makes_its_own_connection(self, server: LocalServer, agent: Agent) -> None:
        """A child never uses the parent's sockets, and the parent's streams survive it."""
        agent.run("warm up")
        server.add(Answer("a ", Stall(), "b"))
        stream = agent.run_stream("of the parent")
        next(stream)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                stream.cancel()
                code = 0 if agent.run("of the child").complete else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        server.release()
        assert stream.reply().text == "a b"
        assert [request.connection for request in server.requests] == [1, 1, 2]

    def test_a_spawned_process(self, server: LocalServer) -> None:
        """An agent given to another process works there."""
        agent = make(base_url=server.base_url)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(agent.run, ("go",)).complete

    def test_inside_a_running_event_loop(self, server: LocalServer, agent: Agent) -> None:
        """A notebook's cell runs inside one."""

        async def cell() -> str:
            return "".join(chunk.text for chunk in agent.run_stream("go"))

        server.add("in a loop")
        assert asyncio.run(cell()) == "in a loop"

    def test_it_is_dropped_in_a_cycle(self, server: LocalServer) -> None:
        """Its client is closed before the collector takes the sockets: one that comes first would warn of that."""
        closed = []

        class Socket:
            """As a socket, something of the client's that says at its end how it was left; the first in the cycle."""

            client: Any = None

            def __del__(self) -> None:
                closed.append(self.client.is_closed())

        holder: list[object] = [Socket()]
        holder.append(holder)
        agent = make(base_url=server.base_url)
        holder.append(agent)
        assert agent.run("go").complete
        own: Any = agent._holder()
        holder[0].client = own._adapters[0]._client  # type: ignore[attr-defined]
        del agent, holder, own
        gc.collect()
        assert closed == [True]

    def test_close_lets_a_running_stream_end(self, server: LocalServer) -> None:
        """Closing an agent closes what is idle; the agent can be used again."""
        agent = make(base_url=server.base_url)
        server.add(Answer("a", Stall()))
        stream = agent.run_stream("go")
        next(stream)
        agent.close()
        server.release()
        assert stream.reply().complete
        del stream
        assert agent.run("again").complete
        assert server.connections == 2
        assert server.connection_log[0].closed_by_client.wait(LIMIT_SECONDS)

    def test_close_before_the_request_is_sent(
        self,
        server: LocalServer,
        monkeypatch: pytest.MonkeyPatch,
        in_thread: Callable[[Callable[[], object]], threading.Thread],
    ) -> None:
        """The stream has a client all the same, which is closed with it."""
        openings: list[Callable[[], None]] = []
        monkeypatch.setattr("blades._agent.start_opening", lambda opening, *_: openings.append(opening))
        agent = make(base_url=server.base_url)
        stream = agent.run_stream("go")
        agent.close()
        in_thread(openings[0])
        assert stream.reply().complete
        assert server.connection_log[0].closed_by_client.wait(LIMIT_SECONDS)

    def test_close_after_a_refused_request(self, server: LocalServer) -> None:
        """An exception that somebody keeps does not keep the connection."""
        agent = make(base_url=server.base_url)
        server.add(Answer.error(400, "no"))
        stream = agent.run_stream("go")
        with pytest.raises(openai.BadRequestError) as caught:
            stream.next()
        agent.close()
        assert server.connection_log[0].closed_by_client.wait(LIMIT_SECONDS)
        assert caught.value.status_code == 400

    def test_close_after_a_cut_answer(self, server: LocalServer) -> None:
        """Nor does the exception of an answer that began."""
        agent = make(base_url=server.base_url)
        server.add(Answer("half", Cut()), "whole")
        with pytest.raises(StreamInterrupted) as caught:
            agent.run("go")
        assert agent.run("go").text == "whole"
        agent.close()
        assert server.connection_log[1].closed_by_client.wait(LIMIT_SECONDS)
        assert caught.value.text == "half"

    def test_run_takes_an_event(
        self, server: LocalServer, agent: Agent, in_thread: Callable[[Callable[[], object]], threading.Thread]
    ) -> None:
        """A cancelled run() returns what there is."""
        server.add(Answer("a", Stall()))
        event = threading.Event()
        replies = []
        thread = in_thread(lambda: replies.append(agent.run("go", cancel=event)))
        assert server.wait_for_request().stalled.wait(LIMIT_SECONDS)
        event.set()
        thread.join(LIMIT_SECONDS)
        assert not replies[0].complete


class TestWarmUp:
    """What the first stream needs, made ready before."""

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    def test_first_stream_finds_a_connection(self, *, tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is the one that asked for the list of models."""
        with LocalServer("Hello.", tls=tls, pace=0) as server:
            if tls:
                monkeypatch.setenv("SSL_CERT_FILE", server.certificate_file)
            with make(base_url=server.base_url) as agent:
                agent.warm_up()
                assert server.wait_for_request(timeout=LIMIT_SECONDS).answered.wait(LIMIT_SECONDS)
                wait_until(lambda: is_idle(agent))
                assert agent.run("go").text == "Hello."
                assert [request.method for request in server.requests] == ["GET", "POST"]
                assert server.connections == 1

    def test_stream_on_its_connection_can_be_cancelled(self, caplog: pytest.LogCaptureFixture) -> None:
        """The server is informed at once, also while it has not answered yet, and nothing is reported as missing."""
        with LocalServer(Answer(before_headers=[Stall()])) as server, make(base_url=server.base_url) as agent:
            agent.warm_up()
            assert server.wait_for_request(timeout=LIMIT_SECONDS).answered.wait(LIMIT_SECONDS)
            wait_until(lambda: is_idle(agent))
            stream = agent.run_stream("go")
            request = server.wait_for_request(2)
            assert request.stalled.wait(LIMIT_SECONDS)
            stream.cancel()
            assert request.left.wait(LIMIT_SECONDS)
            assert server.connections == 1
        assert [record for record in caplog.records if record.name.startswith("blades")] == []

    def test_it_never_raises(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither without a key nor without a server; the first stream says what is wrong."""
        agent = Agent("test", model="m")
        agent.warm_up()
        with pytest.raises(ConfigError):
            agent.run("go")
        unreachable = make(base_url="http://127.0.0.1:9/v1", max_retries=0)
        unreachable.warm_up()
        with pytest.raises(openai.APIConnectionError):
            unreachable.run("go")


def is_idle(agent: Agent) -> bool:
    """Return whether the agent's client has an idle connection."""
    holder: Any = agent._holder()
    connections = holder._adapters[0]._client._client._transport._pool.connections
    return any(connection.is_idle() for connection in connections)
