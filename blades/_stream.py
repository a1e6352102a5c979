"""One streaming answer, as its reader sees it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, NoReturn, cast, final

from blades._assembly import Assembly
from blades._cancel import StreamState
from blades._errors import StreamError, StreamInterrupted, StreamTimeout

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator
    from types import TracebackType
    from typing import Self

    from blades._cancel import Response, Scope
    from blades._prompt import Message
    from blades._terminal import Writable
    from blades._values import Chunk, Reply, ToolCall, Usage

LATE_SECONDS: Final = 1.0  # how long to wait, after a finish reason, for usage and the end of the body
GRACE_SECONDS: Final = 0.02  # what has arrived is read, even by a consumer that asks for it after its time limit


@final
class Limits(NamedTuple):
    """The caller's limits, in seconds; None is no limit."""

    timeout: float | None
    first_chunk_timeout: float | None
    stall_timeout: float | None


@final
class Timing(NamedTuple):
    """How long a stream took."""

    first_chunk: float | None
    """Seconds from the call to the first content (text, reasoning, tool call), None before it."""
    total: float
    """Seconds from the call to the end, or until now."""
    chunks: int
    """How many chunks were handed out."""


@final
class Stream:
    """One request and its answer, chunk by chunk. Made by `Agent.run_stream`.

    One thread reads; any thread may cancel or look at the attributes. Three ways to read, all the same loop::

        for chunk in stream: ...                              # owns the stream: leaving the loop ends it
        while stream.next(): chunk = stream.current()         # may pause and go on later
        chunk = next(stream)                                  # one step; StopIteration at the end

    `cancel`, setting `cancel_event`, leaving the ``for`` loop early, leaving a ``with`` block, `close` and dropping the
    last reference all end the request at once and release the connection. What was handed out stays on `text`.
    """

    def __init__(self, scope: Scope, limits: Limits, *, require_finish: bool) -> None:
        self._scope = scope
        self._limits = limits
        self._require_finish = require_finish
        self._assembly = Assembly()
        self._chunk: Chunk | None = None
        self._last_content = self._started = time.monotonic()

    # Reading

    def next(self) -> bool:
        """Move to the next chunk; False when the stream has finished or was cancelled.

        Blocks until a chunk arrives. Only one thread may be inside at a time.

        Raises:
            StreamError: the answer was cut short (see its five children); raised again at each further call.
            openai.OpenAIError: the official client's own exception, when the answer never started.
            ConfigError: there is no usable key or base URL.
            RuntimeError: another thread is inside this method.
        """
        scope = self._scope
        if not scope.live:
            return self._over()
        if not scope.reading.acquire(blocking=False):
            if not scope.live:  # a canceller held it for an instant, to take the response away
                return self._over()
            raise RuntimeError("This stream is being read by another thread: a stream has one reader at a time.")
        try:
            return self._advance()
        except Exception as error:
            scope.failure = self._described(error)
            if not scope.move(StreamState.FAILED):
                return False  # cancelled meanwhile: that is why the rest failed
            scope.interrupt()  # the opening thread may still be at work
            raise
        except BaseException:
            scope.cancel()
            raise
        finally:
            if not scope.live:
                self._release()
            scope.reading.release()
            if not scope.live:
                scope.dispose()  # a cancel between the two lines above has found this thread reading

    def current(self) -> Chunk:
        """Return the chunk that `next` moved to.

        Raises:
            RuntimeError: `next` was not called yet, or there was no chunk.
        """
        if self._chunk is None:
            raise RuntimeError("There is no current chunk: call next() first, and current() when it returned True.")
        return self._chunk

    def __iter__(self) -> Generator[Chunk]:
        try:
            while self.next():
                yield self.current()
        except RuntimeError:  # this loop never had the stream: another thread has it
            raise
        except BaseException:
            self.close()
            raise

    def __next__(self) -> Chunk:
        if self.next():
            return self.current()
        raise StopIteration

    def reply(self) -> Reply:
        """Read the rest and return the whole result; that of a cancelled stream is partial (`Reply.complete`).

        Raises:
            Exception: as `next`.
        """
        while self.next():
            pass
        return self._reply()

    # For people

    def print(self, file: Writable | None = None, *, reasoning: bool = False, escape: bool = True) -> Reply:
        """Write the text as it arrives, at once, and return the whole result.

        On a terminal, control sequences and control characters in the model's text are left out, what the terminal's
        encoding lacks is replaced, and the cursor is left at the start of a line. To a file or a pipe goes the text
        itself and nothing else. Ctrl-C ends the stream, not the program: the result is then partial
        (`Reply.complete` is False), and so it is after `cancel`. A loop over many prompts asks for that to stop.

        Args:
            file: Where to write: anything with ``write(str)``. Default: `sys.stdout`, as it is now.
            reasoning: Write the reasoning as well, dimmed on a terminal unless ``NO_COLOR`` is set.
            escape: False writes the model's text as it is to a terminal, too.

        Raises:
            Exception: as `next`; and what the file raises, such as `BrokenPipeError`, after the stream was ended.
        """
        from blades._terminal import print_stream  # noqa: PLC0415 - for people, who can wait for it

        return print_stream(self, file, reasoning=reasoning, escape=escape)

    def display(self) -> None:
        """Show the answer in a notebook as it arrives, as Markdown; a stream as a cell's last expression does the same.

        The reasoning is folded above the text. HTML in the model's text is shown, not obeyed; an image is shown as a
        link. At the end comes a small line: state, tokens, seconds to the first chunk, chunks a second. The stop button
        ends the stream and leaves the partial answer, marked, and no traceback; the code after this call goes on (see
        `state`). Nothing is returned, for a notebook would show it again; `text` and `reply` have the result. Outside a
        notebook this is `print`.

        Raises:
            Exception: as `next`; what came until then stays on the page.
        """
        from blades._notebook import display_stream  # noqa: PLC0415 - for people, who can wait for it

        display_stream(self)

    def sentences(
        self, language: str = "en", *, first_at: int | None = None, markdown: Literal["keep", "drop"] = "keep"
    ) -> Generator[str]:
        """Read sentence by sentence, each as soon as it is certain: for a speech engine.

        After 。！？ that is at once; otherwise the next character settles it, or after initials, numbers and
        abbreviations the next word. The pieces joined are `text`, white space included, from the first character on,
        however the stream ends: what is left of a cancelled one comes as the last piece, and of a failed one before
        the exception. A piece within quotes or brackets is not cut, unless these stay open for 240 characters; an item
        of a list and a paragraph end one, too.

        Leaving the loop early ends the stream, as with ``for chunk in stream``; so for `lines` and `words`.

        Args:
            language: An ISO 639 code, for the abbreviations.
            first_at: Let the first piece go at a comma, semicolon, colon or dash, once it has so many characters.
            markdown: "drop" leaves the marks of Markdown out of the pieces, and a piece that was nothing else.

        Raises:
            ImportError: sentencex is not there: ``pip install 'blades-sdk[speech]'``.
            TypeError: An argument of the wrong type.
            ValueError: An impossible argument.
            Exception: In the loop: as `next`.
        """
        from blades._pieces import pieces  # noqa: PLC0415 - for people, who can wait for it
        from blades._sentences import cutter  # noqa: PLC0415 - the same

        return pieces(self, cutter(language, first_at, markdown))

    def lines(self) -> Generator[str]:
        """Read line by line, without line ends, each as soon as it is whole; otherwise as `sentences`.

        A line ends with a line feed, before which a carriage return is dropped, and with nothing else, so that JSON
        Lines stay whole.

        Raises:
            Exception: In the loop: as `next`.
        """
        from blades._pieces import Lines, pieces  # noqa: PLC0415 - for people, who can wait for it

        return pieces(self, Lines())

    def words(self) -> Generator[str]:
        """Read word by word, each as soon as white space follows: ``text.split()``; otherwise as `sentences`.

        Raises:
            Exception: In the loop: as `next`.
        """
        from blades._pieces import Words, pieces  # noqa: PLC0415 - for people, who can wait for it

        return pieces(self, Words())

    def _ipython_display_(self) -> None:
        from blades._notebook import display_result  # noqa: PLC0415 - for people, who can wait for it

        display_result(self)

    # Ending

    def cancel(self) -> None:
        """End the stream now. From any thread or signal handler, at any time, as often as you like; never raises.

        The reader comes back within milliseconds, the server sees the disconnect, no further chunk is handed out.
        A caller's own event is left alone: it may belong to other streams too.
        """
        self._scope.cancel()

    @property
    def cancel_event(self) -> threading.Event:
        """The event whose setting cancels this stream: the caller's own if one was given, else the stream's."""
        return cast("threading.Event", self._scope.event)  # or whatever the caller gave instead

    def close(self) -> None:
        """Leave the stream: cancelled, unless its finish reason was handed out already. Never raises."""
        scope = self._scope
        if self._assembly.finished and scope.reading.acquire(blocking=False):
            response = scope.response
            if scope.move(StreamState.FINISHED) and response is not None:
                scope.response = None
                response.finish(wait=False)
            scope.reading.release()
        scope.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_last_content"):  # __init__ came to its end
            self.close()

    # What is known so far

    @property
    def state(self) -> StreamState:
        """Where the stream is; final states stay."""
        return self._scope.state

    @property
    def text(self) -> str:
        """The text handed out so far."""
        return self._assembly.text

    @property
    def reasoning(self) -> str:
        """The reasoning handed out so far, for models that show it."""
        return self._assembly.reasoning

    @property
    def finish_reason(self) -> str | None:
        """The last finish reason as the server sent it, None if none came."""
        return self._assembly.finish_reason

    @property
    def usage(self) -> Usage | None:
        """The token counts as the server sent them, None if none came. They come after the finish reason."""
        return self._assembly.usage

    @property
    def model(self) -> str | None:
        """The model that answers, by the server's word."""
        return self._assembly.model

    @property
    def id(self) -> str | None:
        """The completion's id."""
        return self._assembly.id

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, put together from what was handed out so far."""
        return self._assembly.tool_calls

    @property
    def message(self) -> Message:
        """What was handed out so far, as the assistant's message for the next turn."""
        return self._reply().message

    @property
    def request_id(self) -> str | None:
        """The ``x-request-id`` header of the answer, if it has come and the server sent one."""
        return self._scope.request_id

    @property
    def timing(self) -> Timing:
        """How long it took, so far."""
        end, first = self._scope.ended_at or time.monotonic(), self._scope.first_content_at
        first = None if first is None else first - self._started
        return Timing(first_chunk=first, total=end - self._started, chunks=self._assembly.chunks)

    def __repr__(self) -> str:
        return f"<Stream {self.state.value}, {len(self.text)} characters>"

    # Inside next(): what follows runs in the reading thread

    def _advance(self) -> bool:
        """Find the next chunk, reading as much as that takes."""
        scope, assembly = self._scope, self._assembly
        waiting_since: float | None = None
        at_end = False
        while not scope.cancelled():
            chunk = assembly.next_chunk()
            if chunk is not None:
                self._chunk = chunk
                if chunk.text or chunk.reasoning or chunk.tool_calls:
                    self._last_content = time.monotonic()
                    if scope.first_content_at is None:
                        scope.first_content_at = self._last_content
                return True
            if assembly.done or at_end:
                if not assembly.done:
                    assembly.verdict(require_finish=self._require_finish)
                self._finish()
                return False
            if waiting_since is None:
                waiting_since = time.monotonic()
            deadline, limit = self._deadline(waiting_since)
            if scope.state is StreamState.OPENING or scope.response is None:
                self._await_response(deadline, limit)
            else:
                at_end = self._read(scope.response, deadline, limit)
        return False

    def _await_response(self, deadline: float | None, limit: str) -> None:
        """Wait for the opening thread's result."""
        scope = self._scope
        try:
            scope.receive(deadline)
        except TimeoutError:
            self._time_out(limit)
        if scope.failure is not None:
            raise scope.failure
        if scope.response is not None and scope.move(StreamState.STREAMING):
            self._assembly.head = scope.response.head

    def _read(self, response: Response, deadline: float | None, limit: str) -> bool:
        """Feed the assembly with the next bytes; True at the end of the answer."""
        assembly = self._assembly
        try:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError  # bytes may come for ever, and carry nothing
            data = response.read(deadline)
        except Exception as error:
            if assembly.finished or not self._scope.live:
                return True  # nothing that matters is missing
            if isinstance(error, TimeoutError):
                self._time_out(limit)
            raise StreamInterrupted(
                f"The connection was cut in the middle of the answer ({type(error).__name__}: {error})."
            ) from error
        if data:
            assembly.feed(data)
        elif self._scope.live:
            assembly.end()
        return not data

    def _deadline(self, waiting_since: float) -> tuple[float | None, str]:
        """Find the time limit that comes first, and its name."""
        timeout, first_chunk_timeout, stall_timeout = self._limits
        ends: list[tuple[float, str]] = []
        if timeout is not None:
            ends.append((self._started + timeout, "timeout"))
        if first_chunk_timeout is not None and self._scope.first_content_at is None:
            ends.append((self._started + first_chunk_timeout, "first_chunk_timeout"))
        elif stall_timeout is not None:
            ends.append((self._last_content + stall_timeout, "stall_timeout"))
        if self._assembly.finished:
            ends.append((waiting_since + LATE_SECONDS, ""))
        if not ends:
            return None, ""
        deadline, limit = min(ends)
        return max(deadline, waiting_since + GRACE_SECONDS), limit

    def _time_out(self, limit: str) -> NoReturn:
        seconds: float = getattr(self._limits, limit)
        waited_for = {
            "timeout": "The answer did not end",
            "first_chunk_timeout": "No text came",
            "stall_timeout": "No more text came",
        }[limit]
        error = StreamTimeout(f"{waited_for} within {limit}={seconds:g} seconds.")
        error.limit, error.seconds = limit, seconds
        raise error

    def _finish(self) -> None:
        """End well; the rest of the body is read after that, so that the connection can be used again."""
        scope = self._scope
        if scope.move(StreamState.FINISHED) and scope.response is not None:
            response, scope.response = scope.response, None
            response.finish(wait=True)

    def _release(self) -> None:
        """Close the response, in the thread that was reading it."""
        response, self._scope.response = self._scope.response, None
        if response is not None:
            response.close()

    def _reply(self) -> Reply:
        return self._assembly.reply(complete=self.state is StreamState.FINISHED, request_id=self.request_id)

    def _described(self, error: Exception) -> Exception:
        """Put what was handed out on an error of this library's own."""
        if isinstance(error, StreamError):
            error.reply = self._reply()
            error.text = error.reply.text
            error.request_id = self.request_id
        return error

    def _over(self) -> bool:
        if self._scope.failure is not None and self.state is StreamState.FAILED:
            raise self._scope.failure
        return False
