"""What the examples share: who answers, and how an error is shown. A program of your own needs nothing of this."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dotenv import dotenv_values, find_dotenv

from blades.testing import LocalServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def settings(**local: Any) -> Iterator[dict[str, Any]]:
    """Yield arguments for an `Agent`: the model alone, or a local test server if neither key nor base URL is set.

    `Agent` itself looks for both in the same places: the environment, then a .env file.
    """
    in_file = dotenv_values(find_dotenv(usecwd=True), interpolate=False, encoding="utf-8-sig")
    found = {**in_file, **{name: value for name, value in os.environ.items() if value}}
    model = found.get("OPENAI_MODEL") or "gpt-5.4-mini"
    if found.get("OPENAI_API_KEY") or found.get("OPENAI_BASE_URL"):
        yield {"model": model}
        return
    print("No OPENAI_API_KEY in the environment or in a .env file: a local test server answers.", file=sys.stderr)
    with LocalServer(**local) as server:
        yield {"model": model, "base_url": server.base_url, "api_key": "local"}


def describe(error: BaseException) -> list[str]:
    """Return an error's message, and its notes on the likely cause, as lines without a traceback."""
    return [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]


def start(main: Callable[[], None]) -> None:
    """Run an example. Ctrl-C ends it without a word, an error with its message and notes."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # whatever goes wrong, a newcomer is shown its cause
        sys.exit("\n".join(["", *describe(error)]))
