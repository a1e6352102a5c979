"""One streaming answer, as its reader sees it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, cast, final

from blades._call import OtherReaderError
from blades._values import Reply, T_co

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator
    from typing import Self

    from blades._call import Call
    from blades._loop import ToolLoop
    from blades._message import Message
    from blades._output.protocol import Writable
    from blades._values import Chunk, ReplyParser, StreamState, Timing, ToolCall, Usage


@final
class Stream(Generic[T_co]):
    """One request and its answer, chunk by chunk; with tools, as many as it takes. Made by `Agent.run_stream`.

    One thread reads; any thread may cancel the stream or read its attributes. Three ways to read, all the same loop::

        for chunk in stream: ...                              # owns the stream: leaving the loop ends it
        while stream.next(): chunk = stream.current()         # may be left and continued
        chunk = next(stream)                                  # one step; StopIteration at the end

    `cancel`, setting `cancel_event`, leaving the ``for`` loop early, leaving a ``with`` block, `close` and dropping the
    last reference all end the request at once and release the connection. The text returned so far stays on `text`.
    """

    _is_finalizing = staticmethod(sys.is_finalizing)  # at the exit this module may be empty already

    def __init__(self, call: Call | ToolLoop, parser: ReplyParser[T_co] | None = None) -> None:
        self._chunk: Chunk | None = None
        self._parser = parser
        self._reply: Reply[T_co] | None = None
        self._partial: tuple[str, Any] = ("", None)
        self._event: object = None
        self._call = call

    # Reading

    def next(self) -> bool:
        """Move to the next chunk; return False when the stream has finished or was cancelled.

        Blocks until a chunk arrives. Only one thread may be inside at a time.

        Raises:
            StreamError: The answer was cut short (see its subclasses); raised again at each further call.
            openai.OpenAIError: The official client's own exception: the answer never started.
            ConfigError: The official client cannot use a setting, such as a proxy variable.
            TypeError: The request cannot be encoded: something in the options is not JSON.
            ValueError: The request cannot be encoded (a lone surrogate in a text, a non-ASCII header).
            RuntimeError: Another thread is inside this method, or this process was forked from the stream's.
            BaseException: Whatever your signal handler raises meanwhile, unchanged; the stream is then cancelled.
        """
        __tracebackhide__ = True
        try:
            chunk = self._call.next_chunk()
            if chunk is not None:
                self._chunk = chunk
        except OtherReaderError:
            raise
        except BaseException:  # a signal handler's; nothing happens to a stream that has failed
            self._call.scope.cancel()
            raise
        return chunk is not None

    def current(self) -> Chunk:
        """Return the chunk that `next` moved to.

        Raises:
            RuntimeError: `next` was not called yet, or there was no chunk.
        """
        if self._chunk is None:
            raise RuntimeError("expected a current chunk, got none: call next() first, and current() if that is True")
        return self._chunk

    def __iter__(self) -> Generator[Chunk]:
        __tracebackhide__ = True
        try:
            call = self._call
            while (chunk := call.next_chunk()) is not None:  # `next`, with a frame less for each chunk
                self._chunk = chunk
                yield chunk
        except OtherReaderError:
            raise  # the stream is left to the other thread
        except BaseException:
            self.close()
            raise

    def __next__(self) -> Chunk:
        __tracebackhide__ = True
        if self.next():
            return self.current()
        raise StopIteration

    def reply(self) -> Reply[T_co]:
        """Read the rest and return the whole result. A cancelled stream has a partial one: `Reply.complete` is False.

        Raises:
            Exception: As `next`.
        """
        __tracebackhide__ = True
        try:
            while self.next():
                pass
        except OtherReaderError:
            raise
        except BaseException:  # a signal handler's, between two steps
            self.close()
            raise
        return self._reply_so_far()

    # For people

    def print(self, file: Writable | None = None, *, reasoning: bool = False, escape: bool = True) -> Reply[T_co]:
        """Write the text as it arrives, and return the whole result.

        On a terminal, control sequences and control characters in the model's text are removed, characters that its
        encoding lacks are replaced, and the cursor ends up at the start of a line. A file or pipe gets the text alone,
        unchanged. Ctrl-C ends the stream but not the program, and returns a partial reply. In a loop over prompts, stop
        when `reply.complete` is False: otherwise Ctrl-C only ends the current answer. As the last expression of a cell,
        end it with ``;`` or use `display`: IPython shows a returned reply, which is the text again.

        Args:
            file: Where to write: anything with ``write(str)``. Default: `sys.stdout` at the time of the call.
            reasoning: Write the reasoning as well, dimmed on a terminal unless ``NO_COLOR`` is set.
            escape: False writes the model's text unchanged to a terminal, too.

        Raises:
            Exception: As `next`; and what the file raises, such as `BrokenPipeError`: the stream is then closed.
        """
        from blades._output.terminal import print_stream  # for people, who can wait for it

        __tracebackhide__ = True
        return print_stream(self, file, reasoning=reasoning, escape=escape)

    def display(self) -> None:
        """Show the answer in a notebook as it arrives, as Markdown; a stream as a cell's last expression does the same.

        Reasoning and tool calls are folded. HTML in the model's text is shown as text, an image as a link. A status
        line follows: state, tokens, seconds to the first chunk, chunks per second. Outside a notebook the text is
        printed, as by `print`, with what was read before. Returns None. Read the result from `text` or `reply`.

        Raises:
            KeyboardInterrupt: The stop button was pressed. The stream is cancelled, the partial answer stays on the
                page, marked, and neither the rest of the cell nor the next cells run; no traceback is shown.
            Exception: As `next`; the partial answer stays on the page.
        """
        from blades._output.notebook import display_stream  # for people, who can wait for it

        __tracebackhide__ = True
        display_stream(self)

    def sentences(
        self, language: str = "en", *, first_at: int | None = None, markdown: Literal["keep", "drop"] = "keep"
    ) -> Generator[str]:
        """Read sentence by sentence, each as soon as it is certain: for a speech engine.

        A sentence is certain at once after 。！？, otherwise at the next character; after initials, numbers and
        abbreviations at the next word. A list item and a paragraph end a sentence, too. Quoted or bracketed text is not
        cut, unless it is longer than 240 characters. The pieces joined are `text`, white space included, from its first
        character on. If the stream is cancelled or fails, the rest of the text is the last piece.

        Leaving the loop early ends the stream, as with ``for chunk in stream``; the same holds for `lines` and `words`.

        Args:
            language: An ISO 639 code, for the abbreviations.
            first_at: End the first piece at a comma, semicolon, colon or dash, once it has this many characters.
            markdown: "drop" removes Markdown markers, and leaves out pieces that consist of markers only.

        Returns:
            A generator of sentences.

        Raises:
            ImportError: sentencex is not installed: ``pip install sentencex``.
            TypeError: An argument of the wrong type.
            ValueError: An impossible argument.
            Exception: In the loop: as `next`.
        """
        from blades._output.sentences import make_splitter  # for people, who can wait for it
        from blades._output.split import split  # for people, who can wait for it

        __tracebackhide__ = True
        return split(self, make_splitter(language, first_at, markdown))

    def lines(self) -> Generator[str]:
        """Read line by line, without line ends, each as soon as it is complete; otherwise as `sentences`.

        Only a line feed ends a line, so that JSON Lines stay whole. A carriage return before it is removed.

        Raises:
            Exception: In the loop: as `next`.
        """
        from blades._output.split import Lines, split  # for people, who can wait for it

        __tracebackhide__ = True
        return split(self, Lines())

    def words(self) -> Generator[str]:
        """Read word by word, each as soon as white space follows: ``text.split()``; otherwise as `sentences`.

        Raises:
            Exception: In the loop: as `next`.
        """
        from blades._output.split import Words, split  # for people, who can wait for it

        __tracebackhide__ = True
        return split(self, Words())

    def _ipython_display_(self) -> None:
        from blades._output.notebook import display_result  # for people, who can wait for it

        display_result(self)

    def _mime_(self) -> tuple[str, str]:  # called by marimo
        from blades._output.notebook import html_of_stream  # for people, who can wait for it

        return html_of_stream(self)

    # Ending

    def cancel(self) -> None:
        """End the stream now. Call from any thread or signal handler, at any time, any number of times; never raises.

        The reader returns within milliseconds, and the server sees the disconnect. After this method has returned,
        neither `text` nor `state` changes. Your own event is not set: it may belong to other streams, too.
        """
        self._call.scope.cancel()

    @property
    def cancel_event(self) -> threading.Event:
        """The event that cancels this stream when it is set: the one given as `cancel`, else the stream's own."""
        if self._event is None:
            self._event = self._call.scope.event()
        return cast("threading.Event", self._event)  # a caller may have given an event of another kind

    def close(self) -> None:
        """Close the stream. That cancels it, unless the finish reason has already been returned. Never raises."""
        if not self._is_finalizing():  # the end of the process informs the server; a stopped thread may hold the lock
            self._call.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_call"):  # __init__ was completed
            self.close()

    # What is known so far

    @property
    def state(self) -> StreamState:
        """Where the stream is; terminal states stay."""
        return self._call.state.value

    @property
    def text(self) -> str:
        """The text returned so far."""
        return self._call.totals.text

    @property
    def reasoning(self) -> str:
        """The reasoning returned so far, for models that show it."""
        return self._call.totals.reasoning

    @property
    def finish_reason(self) -> str | None:
        """The last finish reason as the server sent it, None if it sent none."""
        return self._call.totals.finish_reason

    @property
    def usage(self) -> Usage | None:
        """The token counts as the server sent them, None if it sent none. They arrive after the finish reason."""
        return self._call.totals.usage

    @property
    def model(self) -> str | None:
        """The model that answers, as the server names it; None until then."""
        return self._call.totals.model

    @property
    def id(self) -> str | None:
        """The completion's id, None until the server has sent one."""
        return self._call.totals.id

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, assembled from the parts returned so far."""
        return self._call.totals.tool_calls

    @property
    def message(self) -> Message:
        """The answer so far, as an assistant message for the next request."""
        return self._call.reply().message

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the stream adds to the conversation so far: answers, and the results of their tool calls.

        They can be sent back after any ending. A call that has no result has a sentence instead, which says why.
        """
        return self._call.reply().messages

    @property
    def partial(self) -> Any:
        """The JSON of the answer so far, as plain data: a dict or list that grows, None before it begins. Never raises.

        It is parsed when it is read. A string at its end may be unfinished.
        """
        text = self._call.answer_text
        parsed_text, value = self._partial
        if text != parsed_text:  # another length in nearly every case: then no character is compared
            from blades._structured import partial  # only where it is read

            value = partial(text)
            self._partial = text, value
        return value

    @property
    def parsed(self) -> T_co:
        """The answer as an object of the type that was given as `response_format`, once it is complete.

        Raises:
            ReplyParseError: The answer is no such object, or not complete.
            TypeError: No type was given.
        """
        return self._reply_so_far().parsed

    @property
    def request_id(self) -> str | None:
        """The ``x-request-id`` header of the response, if it has started and the server sent one."""
        return self._call.request_id

    @property
    def timing(self) -> Timing:
        """How long the stream has taken so far, in seconds."""
        return self._call.timing()

    def _reply_so_far(self) -> Reply[T_co]:
        if self._reply is not None:
            return self._reply
        over = not self._call.state.active
        reply: Reply[T_co] = replace(self._call.reply(), _parser=self._parser)
        if over:
            self._reply = reply
        return reply

    def __repr__(self) -> str:
        return f"<Stream {self.state.value}, {len(self.text)} characters>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} has a connection, which cannot be pickled or copied: use its reply() instead")


def _bundle_reply(reply: Reply) -> dict[str, str]:
    from blades._output.notebook import bundle_reply  # for people, who can wait for it

    return bundle_reply(reply)


Reply.display_with(_bundle_reply)
