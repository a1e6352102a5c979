"""What a reader is given: a response, and what its reads can end with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, final

if TYPE_CHECKING:
    from blades._values import ResponseInfo

ARRIVED: Final = 0.0  # a deadline that has passed: read what has arrived already, and do not wait


class DeadlinePassed(Exception):  # a result of reading, never raised to a user
    """Nothing arrived until the deadline."""


class ConnectionLost(Exception):  # a result of reading, never raised to a user
    """The connection failed; `cause` is the transport's own exception."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Response(Protocol):
    """An open response, read by one thread at a time: the one that has taken it out of the scope."""

    info: ResponseInfo

    def read(self, deadline: float | None) -> bytes:
        """Return the next piece of the body; ``b""`` at its proper end, and ``b""`` again if asked again.

        Raises:
            DeadlinePassed: Nothing arrived until the deadline, on the clock of `monotonic`, or `ARRIVED`.
            ConnectionLost: The connection failed.
        """
        ...

    def finish(self, *, wait: bool) -> None:
        """Drain the rest and return the connection to the pool: the answer is complete.

        Args:
            wait: The calling thread may do it, if that takes no more than a few milliseconds.
        """
        ...

    def close(self) -> bool:
        """Release the connection without waiting; return False if that cannot be done now. Never raises."""
        ...


Arrival: TypeAlias = "Response | OpeningFailed | ConnectionLost | bytes | None"
"""What a waiting reader gets: the response, a piece of its body, a failure; None only wakes it."""


@final
class OpeningFailed:
    """Arrives instead of a response: there will be none."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    def take(self) -> BaseException:
        """Return the error once: whoever raises it must not keep it in a frame that its traceback refers to."""
        error, self.error = self.error, None
        assert error is not None  # one reader takes an arrival once
        return error


@final
class Waiting:
    """Stands in the response's place while there is none."""


WAITING: Final = Waiting()
