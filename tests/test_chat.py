"""A conversation: what is kept of each turn, and what goes out with the next."""

from __future__ import annotations

import gc
import json
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import openai
import pytest

from blades import Agent, ConfigError, Message, Prompt, StreamError, StreamState
from blades.testing import Answer, Cut, LocalServer, Stall, chunk
from limits import CPU_SECONDS, LIMIT_SECONDS
from strict_api import strict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def sent(server: LocalServer, number: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = server.wait_for_request(number, LIMIT_SECONDS).json["messages"]
    return messages


class TestTurns:
    """A turn is kept when its stream has ended, with its answer."""

    def test_each_turn_goes_out_with_all_before_it(self, server: LocalServer, agent: Agent) -> None:
        """A loop over the stream, then run(): both add the question and the answer."""
        server.add("First answer.", "Second answer.")
        chat = agent.chat(system="Be short.")
        for _ in chat.run_stream("One?"):
            pass
        reply = chat.run("Two?")
        assert reply.text == "Second answer."
        history = [{"role": "system", "content": "Be short."}, user("One?"), assistant("First answer."), user("Two?")]
        assert sent(server, 2) == history
        assert chat.messages == [*history, assistant("Second answer.")]

    def test_the_question_shows_at_once_and_the_answer_at_the_end(self, server: LocalServer, agent: Agent) -> None:
        """While the stream runs, the list ends with the question."""
        server.add("An answer.")
        chat = agent.chat()
        stream = chat.run_stream("Well?")
        assert next(stream).text
        assert chat.messages == [user("Well?")]
        stream.reply()
        assert chat.messages == [user("Well?"), assistant("An answer.")]

    def test_the_instructions_of_the_agent_apply_and_are_not_kept(self, server: LocalServer) -> None:
        """The instructions go before each request."""
        with Agent("test", model="m", instructions="Rhyme.", base_url=server.base_url, api_key="any") as agent:
            chat = agent.chat(system="Be short.")
            chat.run("Hi")
        assert [message["content"] for message in sent(server, 1)] == ["Rhyme.", "Be short.", "Hi"]
        assert chat.messages[0]["content"] == "Be short."

    def test_options_and_limits_are_those_of_the_agent(self, server: LocalServer, agent: Agent) -> None:
        """Options pass through, and so does an event that is already set."""
        stop = threading.Event()
        chat = agent.chat()
        chat.run("Hi", cancel=stop, timeout=9, first_chunk_timeout=None, stall_timeout=5, temperature=0.5)
        assert server.requests[0].json["temperature"] == 0.5
        stop.set()
        assert chat.run_stream("Hi", cancel=stop).reply().text == ""
        assert len(server.requests) == 1

    def test_a_call_of_a_tool_is_kept_as_the_api_wants_it(self, server: LocalServer, agent: Agent) -> None:
        """The results are the next turn."""
        server.add(Answer(chunk(tool_calls=[CALL]), finish_reason="tool_calls"), "It is there.")
        chat = agent.chat()
        assert chat.run("Where?").tool_calls
        result = Message("tool", "there", tool_call_id="c1")
        chat.run([result])
        called = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{k: CALL[k] for k in ("id", "type", "function")}],
        }
        assert sent(server, 2) == [user("Where?"), called, result.to_dict()]
        assert chat.messages[-1] == assistant("It is there.")


class TestCancelled:
    """The part of an answer that was read is kept and marked, and the mark is never sent."""

    def test_leaving_the_loop_keeps_the_part(self, server: LocalServer, agent: Agent) -> None:
        """The next request has the part, without the mark."""
        server.add(Answer("Half an", Stall()), "Whole.")
        chat = agent.chat()
        for _ in chat.run_stream("One?"):
            break
        assert chat.messages == [user("One?"), assistant("Half an", cancelled=True)]
        chat.run("Go on.")
        assert sent(server, 2) == [user("One?"), assistant("Half an"), user("Go on.")]

    def test_a_stream_that_nobody_holds_counts_as_left(self, server: LocalServer, agent: Agent) -> None:
        """The chat does not keep the stream alive, and still knows what was read."""
        server.add(Answer("Half", Stall()))
        chat = agent.chat()
        stream = chat.run_stream("One?")
        assert next(stream).text == "Half"
        del stream
        gc.collect()
        assert chat.messages == [user("One?"), assistant("Half", cancelled=True)]
        assert server.requests[0].left.wait(LIMIT_SECONDS)

    def test_a_cancel_before_any_text_keeps_the_question(self, server: LocalServer, agent: Agent) -> None:
        """The question is in the list but not sent again: servers refuse empty answers, and two questions in a row."""
        server.add(Answer(Stall()), "Yes.")
        chat = agent.chat(history=[user("a"), assistant("b")])
        stream = chat.run_stream("One?")
        assert server.wait_for_request().stalled.wait(LIMIT_SECONDS)
        stream.cancel()
        assert chat.messages[2:] == [user("One?"), assistant("", cancelled=True)]
        chat.run("Two?")
        assert server.requests[-1].json["messages"] == [user("a"), assistant("b"), user("Two?")]

    def test_a_cancelled_question_alone_is_left_out(self, server: LocalServer, agent: Agent) -> None:
        """An earlier message of the user, in the history, is still sent."""
        server.add(Answer(Stall()), "Yes.")
        chat = agent.chat(history=[user("A document.")])
        stream = chat.run_stream("One?")
        assert server.wait_for_request().stalled.wait(LIMIT_SECONDS)
        stream.cancel()
        chat.run("Two?")
        assert server.requests[-1].json["messages"] == [user("A document."), user("Two?")]

    def test_results_of_tools_are_sent_again(self, server: LocalServer, agent: Agent) -> None:
        """The API refuses a call without its result, so only questions of the user are left out."""
        called = assistant(
            "", tool_calls=[{"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]
        )
        result = {"role": "tool", "content": "42", "tool_call_id": "c1"}
        chat = agent.chat(history=[user("a"), called, result, assistant("", cancelled=True)])
        chat.run("b")
        called["tool_calls"][0]["function"]["arguments"] = "{}"
        assert sent(server, 1) == [user("a"), called, result, user("b")]

    def test_a_call_that_may_be_cut_is_not_kept(self, server: LocalServer, agent: Agent) -> None:
        """The API refuses calls that nobody answers."""
        server.add(Answer("Let me see.", chunk(tool_calls=[CALL]), Stall()))
        chat = agent.chat()
        stream = chat.run_stream("Where?")
        assert stream.next()
        assert stream.next()
        stream.cancel()
        assert stream.tool_calls
        assert chat.messages[-1] == assistant("Let me see.", cancelled=True)


class TestAccepted:
    """What goes out is accepted by a server that applies the rules of the API."""

    @pytest.fixture
    def answers(self) -> list[str | Answer]:
        """The answers of the server, one for each request that it accepts."""
        return []

    @pytest.fixture
    def server(self, answers: list[str | Answer]) -> Iterator[LocalServer]:
        """A strict server."""
        with LocalServer(default=strict(lambda _: answers.pop(0)), pace=0) as running:
            yield running

    @pytest.mark.parametrize(
        "arguments",
        ["{}", "", '{"at": ', "[1]", "not JSON"],
        ids=["object", "empty", "cut", "list", "text"],
    )
    def test_calls_that_nobody_answered(
        self, agent: Agent, server: LocalServer, answers: list[str | Answer], arguments: str
    ) -> None:
        """A sentence answers them, and arguments that are no object go back as one."""
        calls = [{**CALL, "index": n, "id": f"c{n}", "function": {"name": "f", "arguments": arguments}} for n in (0, 1)]
        answers += [Answer(chunk(tool_calls=calls), finish_reason="length"), "Never mind."]
        chat = agent.chat()
        chat.run("Where?")
        assert chat.run("Or how?").text == "Never mind."
        unanswered = [message for message in sent(server, 2) if message["role"] == "tool"]
        assert [(message["tool_call_id"], message["content"]) for message in unanswered] == [
            ("c0", "No result: this call was not answered."),
            ("c1", "No result: this call was not answered."),
        ]

    def test_results_in_another_order(self, agent: Agent, server: LocalServer, answers: list[str | Answer]) -> None:
        """Results are sent in the order of the calls, and a sentence stands for a missing one."""
        calls = [{**CALL, "index": n, "id": f"c{n}"} for n in range(3)]
        answers += [Answer(chunk(tool_calls=calls), finish_reason="tool_calls"), "There."]
        chat = agent.chat()
        chat.run("Where?")
        assert chat.run([Message("tool", f"{n}", tool_call_id=f"c{n}") for n in (2, 0)]).text == "There."
        results = [message["content"] for message in sent(server, 2)[2:]]
        assert results == ["0", "No result: this call was not answered.", "2"]

    @pytest.mark.parametrize("ids", [["c9"], ["c1", "c1"], [None]], ids=["of no call", "twice", "without an id"])
    def test_a_result_of_no_call_is_refused(
        self, agent: Agent, server: LocalServer, answers: list[str | Answer], ids: list[str | None]
    ) -> None:
        """Nothing is sent, and nothing has changed."""
        answers += [Answer(chunk(tool_calls=[CALL]), finish_reason="tool_calls"), "There."]
        chat = agent.chat()
        chat.run("Where?")
        before = list(chat.messages)
        with pytest.raises(ValueError, match="expected results of the last answer's tool calls, got one for"):
            chat.run([Message("tool", "7", tool_call_id=id_) for id_ in ids])
        assert chat.messages == before
        assert chat.run([Message("tool", "7", tool_call_id="c1")]).text == "There."

    def test_a_history_may_begin_with_results(
        self, agent: Agent, server: LocalServer, answers: list[str | Answer]
    ) -> None:
        """Results whose calls were dropped from the history are left out."""
        answers.append("Yes.")
        agent.chat(history=[Message("tool", "7", tool_call_id="c1"), assistant("Seven.")]).run("Sure?")
        assert [message["content"] for message in sent(server, 1)] == ["Seven.", "Sure?"]

    def test_a_prompt_and_a_chat_send_the_same(
        self, agent: Agent, server: LocalServer, answers: list[str | Answer]
    ) -> None:
        """``prompt + reply + [result]`` is what a chat does by itself."""
        answers += [Answer(chunk(tool_calls=[CALL]), finish_reason="tool_calls"), "There."] * 2
        result = Message("tool", "there", tool_call_id="c1")
        prompt = Prompt("Where?")
        assert agent.run(prompt + agent.run(prompt) + [result]).text == "There."
        chat = agent.chat()
        chat.run("Where?")
        assert chat.run([result]).text == "There."
        assert sent(server, 2) == sent(server, 4)

    def test_an_answer_without_anything(self, agent: Agent, server: LocalServer, answers: list[str | Answer]) -> None:
        """The empty answer is kept, and left out of the next request with its question."""
        answers += [Answer(), "Yes."]
        chat = agent.chat(system="s")
        assert chat.run("One?").complete
        assert chat.messages[1:] == [user("One?"), assistant("", cancelled=True)]
        assert chat.run("Two?").text == "Yes."
        assert [message["content"] for message in sent(server, 2)] == ["s", "Two?"]

    def test_an_answer_without_anything_in_a_prompt(
        self, agent: Agent, server: LocalServer, answers: list[str | Answer]
    ) -> None:
        """A prompt, and a saved conversation without its chat, send the same as a chat."""
        answers += [Answer(), "Yes.", Answer(), "Yes."]
        assert agent.run(Prompt("One?") + agent.run("One?") + "Two?").text == "Yes."
        chat = agent.chat()
        chat.run("One?")
        assert agent.run([*chat.messages, user("Two?")]).text == "Yes."
        assert sent(server, 2) == sent(server, 4) == [user("Two?")]

    def test_a_saved_history_without_a_chat(
        self, agent: Agent, server: LocalServer, answers: list[str | Answer]
    ) -> None:
        """The keys that are ours are never sent, and a cancelled turn without text is left out."""
        answers += ["Yes.", "Yes."]
        saved: list[dict[str, Any]] = [
            user("a"),
            assistant("", cancelled=True),
            user("b"),
            assistant("Half", cancelled=True, reply_reasoning={"reasoning_content": "r"}),
        ]
        assert agent.run([*saved, user("c")]).text == "Yes."
        assert sent(server, 1) == [user("b"), assistant("Half"), user("c")]
        assert agent.chat(history=saved).run("c").text == "Yes."
        assert sent(server, 2) == sent(server, 1)

    @pytest.mark.parametrize("tools", [True, False], ids=["tool calls", "no tool calls"])
    def test_the_reasoning_of_a_saved_reply(
        self, agent: Agent, server: LocalServer, answers: list[str | Answer], *, tools: bool
    ) -> None:
        """Reasoning is sent by the server's own name if there are tool calls; what the caller wrote always is."""
        answers.append("Yes.")
        history = [
            user("a"),
            assistant("x", reply_reasoning={"reasoning_content": "kept"}),
            user("b"),
            assistant("y", reasoning_content="by hand", **({"tool_calls": [CALL]} if tools else {})),
        ]
        agent.chat(history=history).run("c")
        reasoning = [message.get("reasoning_content") for message in sent(server, 1)]
        assert reasoning[:4] == [None, "kept" if tools else None, None, "by hand"]


class TestRounds:
    """A stream with tools adds several messages."""

    ROUND = (
        Message("assistant", tool_calls=[{k: CALL[k] for k in ("id", "type", "function")}]),
        Message("tool", "there", tool_call_id="c1"),
    )

    @pytest.mark.parametrize(
        ("state", "last", "kept"),
        [
            pytest.param(StreamState.FINISHED, [Message("assistant", "x")], [assistant("x")], id="finished"),
            pytest.param(StreamState.CANCELLED, [], [assistant("", cancelled=True)], id="cancelled between rounds"),
            pytest.param(
                StreamState.CANCELLED,
                [Message("assistant", "x", tool_calls=[CALL])],
                [assistant("x", cancelled=True)],
                id="cancelled in the second round",
            ),
        ],
    )
    def test_they_are_all_kept(
        self,
        agent: Agent,
        monkeypatch: pytest.MonkeyPatch,
        state: StreamState,
        last: list[Message],
        kept: list[dict[str, Any]],
    ) -> None:
        """Calls and results before the last answer are whole; only that answer may be a part."""
        reply = SimpleNamespace(messages=(*self.ROUND, *last))
        turn = SimpleNamespace(state=SimpleNamespace(active=False, value=state), reply=lambda: reply)
        chat: Any = agent.chat()
        chat.run("Where?")
        monkeypatch.setattr(chat, "_turn", turn)
        assert chat.messages == [user("Where?"), *(message.to_saved() for message in self.ROUND), *kept]


class TestFailed:
    """A failed turn leaves the history as it was."""

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            pytest.param(Answer("Half", Cut()), StreamError, id="in mid-stream"),
            pytest.param(Answer.error(400, "no"), openai.BadRequestError, id="before it"),
        ],
    )
    def test_a_failure_takes_the_question_out(
        self, server: LocalServer, agent: Agent, answer: Answer, error: type[Exception]
    ) -> None:
        """The same question can be asked again."""
        chat = agent.chat(system="s", history=[user("Well?"), assistant("b")])
        before = list(chat.messages)
        server.add(answer, "Fine.")
        with pytest.raises(error):
            chat.run("Well?")
        assert chat.messages == before
        assert chat.run("Well?").text == "Fine."
        assert chat.messages == [*before, user("Well?"), assistant("Fine.")]

    def test_many_results_take_linear_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On their way out, and where a failed turn takes them out of the conversation again."""
        monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")  # so that nothing is sent
        calls = [{**CALL, "id": f"c{number}"} for number in range(20_000)]
        agent = Agent("chat", model="m", base_url="http://127.0.0.1:9", api_key="k")
        chat = agent.chat(history=[user("Look."), {"role": "assistant", "content": None, "tool_calls": calls}])
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "7"} for call in reversed(calls)]
        began = time.thread_time()
        with pytest.raises(ConfigError):
            chat.run(results)
        assert len(chat.messages) == 2
        assert time.thread_time() - began < CPU_SECONDS  # usually 0.3

    def test_wrong_arguments_change_nothing(self, agent: Agent) -> None:
        """Wrong arguments raise at once, and no turn has begun."""
        chat = agent.chat()
        with pytest.raises(TypeError, match="did you mean 'temperature'"):
            chat.run_stream("Hi", temprature=1)  # type: ignore[call-overload]  # the point of the test
        with pytest.raises(ValueError, match="empty"):
            chat.run("")
        assert chat.messages == []
        assert chat.run("Hi").complete


class TestOneAtATime:
    """A second stream of one chat is an error that says what to do."""

    def test_a_second_stream_is_refused_while_the_first_runs(self, server: LocalServer, agent: Agent) -> None:
        """Nothing is sent, and after a cancel the next turn goes."""
        server.add(Answer("Half", Stall()), "Whole.")
        chat = agent.chat()
        first = chat.run_stream("One?")
        assert first.next()
        with pytest.raises(RuntimeError, match=r"read it to its end, or cancel\(\) it"):
            chat.run_stream("Two?")
        assert first.state is StreamState.STREAMING
        first.cancel()
        assert chat.run("Two?").text == "Whole."
        assert len(server.requests) == 2

    def test_of_many_threads_one_gets_the_turn(
        self, server: LocalServer, agent: Agent, in_thread: Callable[[Callable[[], object]], threading.Thread]
    ) -> None:
        """One of eight threads starts a turn, the others are refused."""
        server.default = Answer("x", Stall())
        chat = agent.chat()
        barrier = threading.Barrier(8)
        streams: list[object] = []
        refused: list[RuntimeError] = []

        def turn() -> None:
            barrier.wait(LIMIT_SECONDS)
            try:
                streams.append(chat.run_stream("Hi"))
            except RuntimeError as error:
                refused.append(error)

        for thread in [in_thread(turn) for _ in range(8)]:
            thread.join(LIMIT_SECONDS)
        assert (len(streams), len(refused)) == (1, 7)


class TestHistory:
    """The list can be saved, given back, and changed between two turns."""

    def test_it_goes_through_json_and_comes_back(self, server: LocalServer, agent: Agent) -> None:
        """Marks survive, and the system text of the new chat replaces the saved one."""
        server.add(Answer("Half", Stall()))
        chat = agent.chat(system="Old.")
        for _ in chat.run_stream("One?"):
            break
        saved = json.loads(json.dumps(chat.messages))
        assert agent.chat(history=saved).messages == chat.messages
        again = agent.chat(system="New.", history=saved)
        assert again.messages == [{"role": "system", "content": "New."}, *chat.messages[1:]]
        again.run("Two?")
        assert sent(server, 2)[2] == assistant("Half")

    def test_it_may_be_a_prompt(self, agent: Agent) -> None:
        """A history is everything that makes a Prompt, except a str."""
        assert agent.chat(system="s", history=Prompt("a")).messages == [{"role": "system", "content": "s"}, user("a")]
        with pytest.raises(TypeError, match=r"use json\.loads"):
            agent.chat(history="[]")  # type: ignore[arg-type] # the point of the test

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            pytest.param({"system": ""}, ValueError, id="empty system"),
            pytest.param({"system": 1}, TypeError, id="system of another type"),
            pytest.param({"history": [{"content": "a"}]}, ValueError, id="no role"),
            pytest.param({"history": 1}, TypeError, id="no list"),
        ],
    )
    def test_wrong_arguments_are_refused(self, agent: Agent, arguments: dict[str, Any], error: type[Exception]) -> None:
        """Wrong arguments raise before the first turn is sent."""
        with pytest.raises(error):
            agent.chat(**arguments)

    def test_it_may_be_changed_between_two_turns(self, server: LocalServer, agent: Agent) -> None:
        """Old messages can be dropped."""
        chat = agent.chat()
        chat.run("One?")
        del chat.messages[:]
        chat.run("Two?")
        assert sent(server, 2) == [user("Two?")]
        assert repr(chat) == "<Chat with Agent('test', model='test-model'), 2 messages>"
