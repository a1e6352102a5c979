"""One streaming answer, as its reader sees it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Literal, cast, final

from blades._errors import without_traceback
from blades._values import StreamState, Timing

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator
    from typing import Self

    from blades._call import Reader
    from blades._message import Message
    from blades._output.protocol import Writable
    from blades._values import Chunk, Reply, ToolCall, Usage


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

    def __init__(self, reader: Reader) -> None:
        self._chunk: Chunk | None = None
        self._decoder = reader.decoder
        self._scope = reader.scope
        self._reader = reader

    # Reading

    def next(self) -> bool:
        """Move to the next chunk; False when the stream has finished or was cancelled.

        Blocks until a chunk arrives. Only one thread may be inside at a time.

        Raises:
            StreamError: the answer was cut short (see its five children); raised again at each further call.
            openai.OpenAIError: the official client's own exception, when the answer never started.
            ConfigError: the official client cannot use a setting, such as a proxy variable.
            TypeError: it cannot write the request: something in the options is not JSON.
            ValueError: the same, for half a surrogate pair in a text, or a header that is not ASCII.
            RuntimeError: another thread is inside this method, or this process was forked from the stream's.
        """
        scope = self._scope
        if not scope.live:
            return self._over()
        if not scope.reading.acquire(blocking=False):
            if not scope.live:  # a canceller held it for an instant, to take the response away
                return self._over()
            raise RuntimeError("This stream is being read by another thread: a stream has one reader at a time.")
        try:
            chunk = self._reader.next_chunk()
            if chunk is not None:
                self._chunk = chunk
            return chunk is not None
        finally:
            scope.reading.release()
            if not scope.live:
                scope.dispose()  # a cancel that came just before has found this thread reading

    def _over(self) -> bool:
        if self._scope.failure is not None and self.state is StreamState.FAILED:
            raise without_traceback(self._scope.failure)
        return False

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
        return self._reader.reply()

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
        from blades._output.terminal import print_stream  # noqa: PLC0415 - for people, who can wait for it

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
        from blades._output.notebook import display_stream  # noqa: PLC0415 - for people, who can wait for it

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
        from blades._output.sentences import make_splitter  # noqa: PLC0415 - the same
        from blades._output.split import split  # noqa: PLC0415 - for people, who can wait for it

        return split(self, make_splitter(language, first_at, markdown))

    def lines(self) -> Generator[str]:
        """Read line by line, without line ends, each as soon as it is whole; otherwise as `sentences`.

        A line ends with a line feed, before which a carriage return is dropped, and with nothing else, so that JSON
        Lines stay whole.

        Raises:
            Exception: In the loop: as `next`.
        """
        from blades._output.split import Lines, split  # noqa: PLC0415 - for people, who can wait for it

        return split(self, Lines())

    def words(self) -> Generator[str]:
        """Read word by word, each as soon as white space follows: ``text.split()``; otherwise as `sentences`.

        Raises:
            Exception: In the loop: as `next`.
        """
        from blades._output.split import Words, split  # noqa: PLC0415 - for people, who can wait for it

        return split(self, Words())

    def _ipython_display_(self) -> None:
        from blades._output.notebook import display_result  # noqa: PLC0415 - for people, who can wait for it

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
        if sys.is_finalizing():  # the end of the process tells the server; a thread that was stopped may hold the lock
            return
        if self._decoder.finished and scope.reading.acquire(blocking=False):
            try:
                self._reader.finish(wait=False)
            finally:
                scope.reading.release()
        scope.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_reader"):  # __init__ came to its end
            self.close()

    # What is known so far

    @property
    def state(self) -> StreamState:
        """Where the stream is; final states stay."""
        return self._scope.state

    @property
    def text(self) -> str:
        """The text handed out so far."""
        return self._decoder.text

    @property
    def reasoning(self) -> str:
        """The reasoning handed out so far, for models that show it."""
        return self._decoder.reasoning

    @property
    def finish_reason(self) -> str | None:
        """The last finish reason as the server sent it, None if none came."""
        return self._decoder.finish_reason

    @property
    def usage(self) -> Usage | None:
        """The token counts as the server sent them, None if none came. They come after the finish reason."""
        return self._decoder.usage

    @property
    def model(self) -> str | None:
        """The model that answers, by the server's word."""
        return self._decoder.model

    @property
    def id(self) -> str | None:
        """The completion's id."""
        return self._decoder.id

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, put together from what was handed out so far."""
        return self._decoder.tool_calls

    @property
    def message(self) -> Message:
        """What was handed out so far, as the assistant's message for the next turn."""
        return self._reader.reply().message

    @property
    def request_id(self) -> str | None:
        """The ``x-request-id`` header of the answer, if it has come and the server sent one."""
        return self._scope.request_id

    @property
    def timing(self) -> Timing:
        """How long it took, so far."""
        end, first = self._scope.ended_at or time.monotonic(), self._scope.first_content_at
        first = None if first is None else first - self._reader.started
        return Timing(first_chunk=first, total=end - self._reader.started, chunks=self._decoder.chunks)

    def __repr__(self) -> str:
        return f"<Stream {self.state.value}, {len(self.text)} characters>"
