"""One stream: reading it, leaving it, how it ends."""

from __future__ import annotations

import gc
import io
import threading
import weakref
from typing import TYPE_CHECKING, Any

import openai
import pytest

from blades import (
    Agent,
    Chunk,
    Prompt,
    Stream,
    StreamError,
    StreamInterrupted,
    StreamProtocolError,
    StreamServerError,
    StreamState,
    StreamTimeout,
    StreamTruncated,
)
from blades._transport import fast_body
from blades.testing import Answer, Cut, End, LocalServer, Reset, Stall, chunk
from limits import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


def stalled_after(server: LocalServer, *steps: str) -> Answer:
    """Script an answer that stops after these texts."""
    answer = Answer(*steps, Stall())
    server.add(answer)
    return answer


class TestReading:
    """Three ways to read, all the same loop."""

    def test_a_for_loop_hands_out_every_chunk(self, server: LocalServer, agent: Agent) -> None:
        """Text arrives in pieces, in order, and is all there afterwards."""
        server.add("The quick brown fox.")
        stream = agent.run_stream("go")
        pieces = [chunk.text for chunk in stream]
        assert len(pieces) > 3
        assert "".join(pieces) == stream.text == "The quick brown fox."
        assert (stream.state, stream.finish_reason) == (StreamState.FINISHED, "stop")

    def test_next_and_current_are_the_same_loop(self, server: LocalServer, agent: Agent) -> None:
        """next() moves and says whether it could; current() is where it moved to."""
        server.add("one two")
        stream = agent.run_stream("go")
        with pytest.raises(RuntimeError, match=r"call next\(\) first"):
            stream.current()
        pieces: list[str] = []
        while stream.next():
            assert stream.current() is stream.current()
            pieces.append(str(stream.current()))
        assert "".join(pieces) == "one two"
        assert not stream.next()

    def test_the_built_in_next_is_one_step(self, server: LocalServer, agent: Agent) -> None:
        """next(stream) gives a chunk, and raises StopIteration at the end."""
        server.add(Answer("one", finish_reason="stop"))
        stream = agent.run_stream("go")
        assert next(stream).text == "one"
        assert next(stream).finish_reason == "stop"
        with pytest.raises(StopIteration):
            next(stream)

    def test_a_loop_can_go_on_where_single_steps_stopped(self, server: LocalServer, agent: Agent) -> None:
        """Chunks taken by next() are not returned again."""
        server.add("one two three")
        stream = agent.run_stream("go")
        first = next(stream)
        assert first.text + "".join(chunk.text for chunk in stream) == "one two three"

    def test_chunks_arrive_as_they_are_sent(self, server: LocalServer, agent: Agent) -> None:
        """A chunk is returned while the server still holds the next one back."""
        stalled_after(server, "first")
        stream = agent.run_stream("go")
        assert next(stream).text == "first"
        assert stream.state is StreamState.STREAMING
        server.release()
        assert stream.reply().complete

    def test_reply_drains_the_rest(self, server: LocalServer, agent: Agent) -> None:
        """reply() gives the whole, with what the server said about it."""
        server.add("all of it")
        stream = agent.run_stream("go")
        next(stream)
        reply = stream.reply()
        assert (reply.text, reply.finish_reason, reply.complete) == ("all of it", "stop", True)
        assert reply.usage is not None
        assert reply.usage == stream.usage
        assert (reply.id, reply.model) == (stream.id, stream.model)
        assert stream.reply() == reply

    def test_the_request_is_sent_before_anybody_reads(self, server: LocalServer, agent: Agent) -> None:
        """run_stream returns at once and the request is on its way."""
        server.add(Answer("fine", before_headers=[Stall()]))
        stream = agent.run_stream("go")
        assert server.wait_for_request().stalled.wait(LIMIT_SECONDS)
        assert stream.state is StreamState.OPENING
        assert (stream.text, stream.usage, stream.request_id) == ("", None, None)
        server.release()
        assert stream.reply().text == "fine"

    def test_the_message_continues_the_conversation(self, server: LocalServer, agent: Agent) -> None:
        """A prompt + reply + question is the next prompt."""
        server.add("Nine.", "Eighty-one.")
        prompt = Prompt([{"role": "user", "content": "3 * 3?"}])
        stream = agent.run_stream(prompt)
        reply = stream.reply()
        assert stream.message == reply.message
        agent.run(prompt + reply + "squared?")
        assert server.requests[1].json["messages"] == [
            {"role": "user", "content": "3 * 3?"},
            {"role": "assistant", "content": "Nine."},
            {"role": "user", "content": "squared?"},
        ]

    def test_timing_tells_of_content(self, server: LocalServer, agent: Agent) -> None:
        """The first chunk's time is that of content; the total stands still at the end."""
        server.add("one two")
        stream = agent.run_stream("go")
        assert stream.timing.first_chunk is None
        stream.reply()
        timing = stream.timing
        assert timing.first_chunk is not None
        assert 0 < timing.first_chunk <= timing.total
        assert timing.chunks >= 2
        assert stream.timing == timing

    def test_the_request_id_is_kept(self, server: LocalServer, agent: Agent) -> None:
        """The header that a provider's support asks for."""
        server.add(Answer("x", headers={"X-Request-Id": "req-7"}))
        stream = agent.run_stream("go")
        assert stream.reply().request_id == stream.request_id == "req-7"

    def test_two_threads_cannot_read_one_stream(
        self, server: LocalServer, agent: Agent, in_thread: Callable[[Callable[[], object]], threading.Thread]
    ) -> None:
        """The second gets a clear error, in next() and in a loop; the first goes on undisturbed."""
        stalled_after(server, "first")
        stream = agent.run_stream("go")
        reader = in_thread(stream.reply)
        assert server.wait_for_request().stalled.wait(LIMIT_SECONDS)
        while not stream.text:
            assert reader.is_alive()
        with pytest.raises(RuntimeError, match="expected one reader"):
            stream.next()
        with pytest.raises(RuntimeError, match="expected one reader"):
            list(stream)
        server.release()
        reader.join(LIMIT_SECONDS)
        assert (stream.text, stream.state) == ("first", StreamState.FINISHED)

    def test_repr_tells_state_and_length(self, server: LocalServer, agent: Agent) -> None:
        """A stream in a debugger does not show its text."""
        server.add("four")
        stream = agent.run_stream("go")
        stream.reply()
        assert repr(stream) == "<Stream finished, 4 characters>"


class TestLeaving:
    """However a stream is left, the server notices and the text stays."""

    @pytest.fixture
    def stream(self, server: LocalServer, agent: Agent) -> Stream:
        """A stream that has returned "a b" and would stall for ever."""
        stalled_after(server, "a ", "b")
        stream = agent.run_stream("go")
        while stream.text != "a b":
            assert stream.next()
        return stream

    def left(self, server: LocalServer) -> bool:
        """Tell whether the client left."""
        return server.wait_for_request().left.wait(LIMIT_SECONDS)

    def check(self, stream: Stream, server: LocalServer) -> None:
        """Check that the stream was cancelled with its text kept, and the connection released."""
        assert self.left(server)
        assert (stream.state, stream.text) == (StreamState.CANCELLED, "a b")
        assert not stream.next()
        assert not stream.reply().complete

    def test_cancel(self, stream: Stream, server: LocalServer) -> None:
        """cancel() ends it, as often as it is called."""
        stream.cancel()
        stream.cancel()
        assert stream.cancel_event.is_set()
        self.check(stream, server)

    def test_setting_the_streams_own_event(self, stream: Stream, server: LocalServer) -> None:
        """cancel_event is a threading.Event whose setting cancels."""
        assert isinstance(stream.cancel_event, threading.Event)
        stream.cancel_event.set()
        self.check(stream, server)

    def test_close(self, stream: Stream, server: LocalServer) -> None:
        """close() is the same for those who expect it."""
        stream.close()
        self.check(stream, server)

    def test_with(self, stream: Stream, server: LocalServer) -> None:
        """Leaving a with block ends the stream."""
        with stream as entered:
            assert entered is stream
        self.check(stream, server)

    def test_break_out_of_a_loop(self, server: LocalServer, agent: Agent) -> None:
        """A for loop owns the stream, even when the variable is kept."""
        stalled_after(server, "a b")
        stream = agent.run_stream("go")
        for _ in stream:
            break
        self.check(stream, server)

    def test_an_exception_in_the_loop(self, server: LocalServer, agent: Agent) -> None:
        """An exception of the loop's body ends the stream and goes on."""
        stalled_after(server, "a b")
        stream = agent.run_stream("go")

        def loop() -> None:
            for _ in stream:
                raise KeyError

        with pytest.raises(KeyError):
            loop()
        self.check(stream, server)

    @pytest.mark.parametrize("phase", ["headers", "tokens"])
    def test_a_dropped_stream(self, phase: str, server: LocalServer, agent: Agent) -> None:
        """A stream that nobody holds any more is ended, though it was never read; no thread keeps it alive."""
        server.add(Answer(before_headers=[Stall()]) if phase == "headers" else Answer("a", Stall()))
        stream = agent.run_stream("go")
        assert server.wait_for_request().stalled.wait(LIMIT_SECONDS)
        assert stream.state is StreamState.OPENING
        del stream
        assert self.left(server)

    def test_a_stream_dropped_at_once_sends_nothing_more(self, server: LocalServer, agent: Agent) -> None:
        """What nobody can read is not asked for."""
        server.default = Answer(before_headers=[Stall()])
        agent.run_stream("go")
        for request in server.requests:
            assert request.left.wait(LIMIT_SECONDS)

    def test_an_iterator_dropped_before_its_first_step(self, server: LocalServer, agent: Agent) -> None:
        """iter(stream) alone does not own it."""
        server.add("a b")
        stream = agent.run_stream("go")
        iter(stream)
        assert stream.reply().text == "a b"

    def test_leaving_after_the_finish_reason_is_no_cancel(self, server: LocalServer, agent: Agent) -> None:
        """A loop that stops at the finish reason has the whole answer."""
        server.add("a b")
        stream = agent.run_stream("go")
        for chunk_ in stream:
            if chunk_.finish_reason:
                break
        assert (stream.state, stream.text) == (StreamState.FINISHED, "a b")
        assert stream.reply().complete


class TestCancelling:
    """The ordinary phases; an answer that stalls for ever, and a reader that must come back."""

    @pytest.mark.parametrize("how", ["cancel", "own event", "foreign event"])
    @pytest.mark.parametrize("phase", ["headers", "tokens"])
    def test_a_blocked_reader_comes_back(
        self,
        phase: str,
        how: str,
        server: LocalServer,
        agent: Agent,
        in_thread: Callable[[Callable[[], object]], threading.Thread],
    ) -> None:
        """The loop ends, the server sees the disconnect, the text stays."""
        server.add(Answer(before_headers=[Stall()]) if phase == "headers" else Answer("a ", "b", Stall()))
        event = threading.Event() if how == "foreign event" else None
        stream = agent.run_stream("go", cancel=event)
        handed_out: list[Chunk] = []
        reader = in_thread(lambda: handed_out.extend(stream))
        request = server.wait_for_request()
        assert request.stalled.wait(LIMIT_SECONDS)
        while phase == "tokens" and stream.text != "a b":
            assert reader.is_alive()
        if how == "cancel":
            stream.cancel()
        elif event is not None:
            assert stream.cancel_event is event
            event.set()
        else:
            stream.cancel_event.set()
        reader.join(LIMIT_SECONDS)
        assert not reader.is_alive()
        assert request.left.wait(LIMIT_SECONDS)
        assert stream.state is StreamState.CANCELLED
        assert stream.text == "".join(chunk_.text for chunk_ in handed_out)

    def test_cancelling_one_stream_leaves_a_shared_event_alone(self, server: LocalServer, agent: Agent) -> None:
        """The caller's event may belong to other streams, which go on."""
        event = threading.Event()
        stalled_after(server, "a")
        stalled_after(server, "b")
        first, second = agent.run_stream("go", cancel=event), agent.run_stream("go", cancel=event)
        assert {next(first).text, next(second).text} == {"a", "b"}
        first.cancel()
        assert not event.is_set()
        server.release()
        assert second.reply().complete

    def test_an_event_that_is_set_already_sends_no_request(self, server: LocalServer, agent: Agent) -> None:
        """Nothing leaves, and the stream says so."""
        event = threading.Event()
        event.set()
        stream = agent.run_stream("go", cancel=event)
        assert list(stream) == []
        assert stream.state is StreamState.CANCELLED
        assert agent.run("sentinel").complete
        assert [request.json["messages"][-1]["content"] for request in server.requests] == ["sentinel"]

    def test_chunks_already_received_are_dropped(self, server: LocalServer, agent: Agent) -> None:
        """After a cancel from the loop's own body nothing more is returned, though it has arrived."""
        server.add(Answer(b"".join(event_bytes(text) for text in "abc"), Stall()))
        stream = agent.run_stream("go")
        seen = []
        for chunk_ in stream:
            seen.append(chunk_.text)
            stream.cancel()
        assert seen == ["a"]
        assert stream.text == "a"

    def test_a_finished_stream_cannot_be_cancelled(self, server: LocalServer, agent: Agent) -> None:
        """Final states stay."""
        server.add("a")
        stream = agent.run_stream("go")
        stream.reply()
        stream.cancel()
        assert stream.state is StreamState.FINISHED


def event_bytes(text: str) -> bytes:
    """Make one event as bytes."""
    return b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % text.encode()


class TestFailing:
    """Each ending of an answer that was cut short, with the text so far."""

    @pytest.mark.parametrize(
        ("answer", "error", "message"),
        [
            pytest.param(Answer("a ", "b", End()), StreamTruncated, "got the end of the body", id="ends early"),
            pytest.param(Answer("a ", "b", Cut()), StreamInterrupted, "cut connection", id="cut"),
            pytest.param(Answer("a ", "b", Reset()), StreamInterrupted, "cut connection", id="reset"),
            pytest.param(
                Answer("a ", "b", {"error": {"message": "overloaded", "code": 529}}, done=False),
                StreamServerError,
                "overloaded",
                id="error event",
            ),
            pytest.param(Answer("a ", "b", b"data: {nonsense\n\n"), StreamProtocolError, "nonsense", id="no JSON"),
        ],
    )
    def test_the_text_so_far_is_kept(
        self, answer: Answer, error: type[StreamError], message: str, server: LocalServer, agent: Agent
    ) -> None:
        """The error carries text and reply; so does the stream; asking again raises again."""
        server.add(answer)
        stream = agent.run_stream("go")
        with pytest.raises(error, match=message) as caught:
            list(stream)
        assert (stream.state, stream.text) == (StreamState.FAILED, "a b")
        assert caught.value.text == "a b"
        assert (caught.value.reply.text, caught.value.reply.complete) == ("a b", False)
        for again in (stream.next, stream.reply, lambda: next(stream), lambda: list(stream)):
            with pytest.raises(error) as second:
                again()
            assert repr(second.value) == repr(caught.value)
            assert vars(second.value) == vars(caught.value)

    def test_an_answer_without_finish_is_accepted_on_request(self, server: LocalServer) -> None:
        """require_finish=False is for servers that never send one."""
        server.add(Answer("a", End()))
        with Agent("t", model="m", base_url=server.base_url, api_key="k", require_finish=False) as agent:
            reply = agent.run("go")
        assert (reply.text, reply.finish_reason, reply.complete) == ("a", None, True)

    @pytest.mark.parametrize(
        ("limit", "answer", "text"),
        [
            ("first_chunk_timeout", Answer(before_headers=[Stall()]), ""),
            ("first_chunk_timeout", Answer(Stall()), ""),
            ("stall_timeout", Answer("a", Stall()), "a"),
            ("stall_timeout", Answer(before_headers=[Stall()]), ""),
            ("timeout", Answer("a", Stall()), "a"),
            ("timeout", Answer(before_headers=[Stall()]), ""),
        ],
        ids=["first, headers", "first, text", "stall, text", "stall, headers", "whole, text", "whole, headers"],
    )
    def test_a_limit_is_named_with_its_seconds(
        self, limit: str, answer: Answer, text: str, server: LocalServer, agent: Agent
    ) -> None:
        """StreamTimeout says which limit it was; the server notices."""
        agent.run("warm")
        server.add(answer)
        limits: dict[str, Any] = {limit: 1.0}
        stream = agent.run_stream("go", **limits)
        assert server.wait_for_request(2).stalled.wait(LIMIT_SECONDS)
        with pytest.raises(StreamTimeout, match=f"{limit}=1 seconds") as caught:
            list(stream)
        assert (caught.value.limit, caught.value.seconds, caught.value.text) == (limit, 1.0, text)
        assert isinstance(caught.value, TimeoutError)
        assert stream.state is StreamState.FAILED
        assert server.wait_for_request(2).left.wait(LIMIT_SECONDS)

    def test_a_failed_stream_keeps_its_first_failure(self, server: LocalServer) -> None:
        """The connection that is cut because of a time limit does not become the reason afterwards."""
        with Agent("t", model="m", base_url=server.base_url, api_key="k", max_retries=0) as agent:
            agent.run("warm")
            server.add(Answer(before_headers=[Stall()]))
            stream = agent.run_stream("go", timeout=1.0)
            request = server.wait_for_request(2)
            assert request.stalled.wait(LIMIT_SECONDS)
            with pytest.raises(StreamTimeout):
                stream.next()
            assert request.left.wait(LIMIT_SECONDS)
            assert agent.run("sentinel").complete  # by now the opening thread knows of the cut, too
            with pytest.raises(StreamTimeout):
                stream.next()

    def test_keep_alive_comments_do_not_count_as_content(self, server: LocalServer, agent: Agent) -> None:
        """A server that says nothing but ": keep-alive" is stalled."""
        comments = [step for _ in range(1200) for step in (b": keep-alive\n\n", 0.05)]
        server.add(Answer("a", *comments))
        with pytest.raises(StreamTimeout, match="stall_timeout") as caught:
            agent.run("go", first_chunk_timeout=LIMIT_SECONDS, stall_timeout=0.5)
        assert caught.value.text == "a"

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(Answer("a ", "b", End()), id="ends early"),
            pytest.param(Answer("a ", "b", Cut()), id="cut"),
            pytest.param(Answer("a ", {"error": {"message": "overloaded"}}), id="error event"),
            pytest.param(Answer("a ", {"choices": [{"finish_reason": "error"}]}), id="error as finish reason"),
            pytest.param(Answer("a ", b"data: {no JSON\n\n"), id="no JSON"),
            pytest.param(Answer("a ", b'{"error": "stray"}\n', done=False), id="stray error"),
            pytest.param(Answer.raw(b'{"error": "body"}'), id="error body"),
            pytest.param(Answer.raw(b"<html>"), id="page"),
            pytest.param(Answer("a ", Stall()), id="stalled"),
            pytest.param(Answer(before_headers=[Stall()]), id="stalled before headers"),
            pytest.param(Answer(before_headers=[Cut()]), id="cut before headers"),
            pytest.param(Answer.error(401, "no"), id="401"),
        ],
    )
    @pytest.mark.parametrize(
        "read",
        [
            pytest.param(list, id="for"),
            pytest.param(Stream.reply, id="reply"),
            pytest.param(lambda stream: stream.print(io.StringIO()), id="print"),
            pytest.param(lambda stream: list(stream.words()), id="words"),
        ],
    )
    def test_a_failure_that_nobody_keeps_keeps_nothing(
        self, read: Callable[[Stream], object], answer: Answer, server: LocalServer
    ) -> None:
        """Neither the agent, whose connections are closed then, nor what is in the variables of those who called."""

        class Work:
            """What a caller has in hand meanwhile."""

        def call(work: Work) -> None:
            agent = Agent("t", model="m", base_url=server.base_url, api_key="k", max_retries=0, **limits)
            for run in (agent.run, lambda prompt: read(agent.run_stream(prompt))):
                server.add("warm", answer)
                assert agent.run("warm", first_chunk_timeout=LIMIT_SECONDS, stall_timeout=LIMIT_SECONDS).complete
                try:
                    run("go")
                except (StreamError, openai.OpenAIError) as error:
                    failed.append(repr(error))
            stream = agent.run_stream("go")
            for _ in range(2):
                try:
                    stream.reply()
                except (StreamError, openai.OpenAIError) as error:
                    failed.append(repr(error))
            assert work is gone()

        stalled = any(isinstance(step, Stall) for step in answer.steps)
        limits: dict[str, Any] = {"first_chunk_timeout": LIMIT_SECONDS} if stalled else {}
        if stalled or answer.before_headers == (Stall(),):
            limits["stall_timeout"] = 0.1
        work, failed = Work(), list[str]()
        server.default = answer
        gone = weakref.ref(work)
        gc.disable()
        try:
            call(work)
            del work
            assert gone() is None
            assert len(failed) == 4
            assert len(set(failed)) == 1
            wait_until(lambda: not server.open_connections)
        finally:
            gc.enable()

    def test_a_cut_answer_that_is_read_ahead_keeps_nothing(
        self, server: LocalServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same holds where the HTTP library reads the body, as it does on HTTP/2 and for compressed answers."""
        monkeypatch.setattr(fast_body, "ENABLED", False)
        self.test_a_failure_that_nobody_keeps_keeps_nothing(list, Answer("Hel", Cut()), server)

    def test_a_refusal_is_content(self, server: LocalServer, agent: Agent) -> None:
        """A model that declines says something, too."""
        server.add(Answer(chunk(refusal="no "), Stall()))
        with pytest.raises(StreamTimeout, match="stall_timeout") as caught:
            agent.run("go", first_chunk_timeout=LIMIT_SECONDS, stall_timeout=0.1)
        assert caught.value.reply.refusal == "no "

    def test_a_slow_consumer_loses_nothing(self, server: LocalServer, agent: Agent) -> None:
        """What has arrived is read, although its time limit has passed meanwhile."""
        agent.run("warm")
        server.add("a b")
        stream = agent.run_stream("go", first_chunk_timeout=1.0, stall_timeout=1.0)
        assert server.wait_for_request(2).answered.wait(LIMIT_SECONDS)
        threading.Event().wait(1.2)  # the consumer is busy with something else: this is what is tested
        assert stream.reply().text == "a b"

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, openai.BadRequestError),
            (401, openai.AuthenticationError),
            (404, openai.NotFoundError),
            (429, openai.RateLimitError),
            (500, openai.InternalServerError),
        ],
    )
    def test_an_error_status_is_the_official_exception(
        self, status: int, error: type[openai.APIStatusError], server: LocalServer
    ) -> None:
        """Before the answer starts, users catch what they know, from the first next()."""
        server.add(Answer.error(status, "no such luck"))
        with Agent("t", model="m", base_url=server.base_url, api_key="k", max_retries=0) as agent:
            stream = agent.run_stream("go")
            with pytest.raises(error, match="no such luck") as caught:
                stream.next()
            assert caught.value.status_code == status
            assert stream.state is StreamState.FAILED
            with pytest.raises(error):
                stream.reply()

    def test_an_error_status_whose_body_is_cut(self, server: LocalServer, agent: Agent) -> None:
        """The HTTP library's own exceptions do not escape."""
        server.add(Answer(b"{", Cut(), status=400, done=False))
        with pytest.raises(openai.APIConnectionError):
            agent.run("go")

    def test_a_refused_connection_is_the_official_exception(self) -> None:
        """Nobody listens: openai.APIConnectionError."""
        with LocalServer() as server:
            url = server.base_url
        agent = Agent("t", model="m", base_url=url, api_key="k", max_retries=0)
        with agent, pytest.raises(openai.APIConnectionError):
            agent.run("go")

    def test_retries_are_the_official_clients(self, server: LocalServer, agent: Agent) -> None:
        """A 500 before the answer is tried again; the answer then is whole."""
        server.add(Answer.error(500, "again", headers={"Retry-After-Ms": "1"}), "fine")
        assert agent.run("go").text == "fine"
        assert len(server.requests) == 2

    def test_nothing_is_sent_again_once_text_was_handed_out(self, server: LocalServer, agent: Agent) -> None:
        """A cut answer is an error, not a second request."""
        server.add(Answer("a", Cut()))
        with pytest.raises(StreamInterrupted):
            agent.run("go")
        agent.run("sentinel")
        assert len(server.requests) == 2


class TestConnections:
    """One connection serves many streams."""

    @pytest.mark.parametrize("stop_at_finish", [False, True], ids=["to the end", "to the finish reason"])
    def test_ten_streams_in_sequence_share_one(
        self, *, stop_at_finish: bool, server: LocalServer, agent: Agent
    ) -> None:
        """The body is read to its end after [DONE], so that the connection can be used again.

        A loop that leaves at the finish reason does not wait for that: it may need a second connection meanwhile.
        """
        for _ in range(10):
            for chunk_ in agent.run_stream("go"):
                if stop_at_finish and chunk_.finish_reason:
                    break
        assert len(server.requests) == 10
        assert server.connections == 1 if not stop_at_finish else server.connections < 10

    def test_a_server_that_holds_the_connection_does_not_hold_the_reader(
        self, server: LocalServer, agent: Agent
    ) -> None:
        """After [DONE] the stream is finished, whatever the server does with its socket."""
        server.add(Answer(chunk("a"), chunk(finish_reason="stop"), b"data: [DONE]\n\n", Stall(), done=False))
        reply = agent.run("go")
        assert (reply.text, reply.complete) == ("a", True)
        assert agent.run("again").complete

    def test_a_finish_reason_without_done_is_waited_for_only_a_moment(self, server: LocalServer, agent: Agent) -> None:
        """A late usage is waited for; a server that holds the connection open is not."""
        server.add(Answer(chunk("a"), chunk(finish_reason="stop"), Stall(), done=False))
        reply = agent.run("go")
        assert (reply.text, reply.finish_reason, reply.complete) == ("a", "stop", True)
