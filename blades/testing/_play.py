"""How an encoded answer is sent, and how a request that is no chat request is answered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from blades.testing._answers import MODEL, Answer, Cut, Reset, Stall, encode_json
from blades.testing._encode import encode, request_json
from blades.testing._records import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from blades.testing._answers import Delay
    from blades.testing._encode import EncodedAnswer
    from blades.testing._http import BadRequest, Wire

__all__ = ["Script", "end_with_error", "play", "refuse", "run"]

Script: TypeAlias = "str | Answer | Callable[[Request], str | Answer]"


def refuse(request: Request, base_path: str, api_key: str | None) -> Answer | None:
    """Answer a request that is no proper chat request; return None for one that is."""
    path = re.sub(r"^https?://[^/?]*", "", request.path.partition("?")[0])  # a forward proxy may pass on a whole URL
    # One slash at the end is accepted; a doubled one inside, or a missing prefix, is another path.
    chat = path.removesuffix("/") == f"{base_path}/chat/completions"
    allowed = "POST" if chat else "GET"
    answer: Answer | None = None
    if api_key is not None and request.headers.get("authorization") != f"Bearer {api_key}":
        message = "Incorrect API key provided to the local test server."
        answer = Answer.error(401, message, code="invalid_api_key")
    elif not chat and path.removesuffix("/") != f"{base_path}/models":
        answer = Answer.error(404, f"Invalid URL ({request.method} {path})")
    elif request.method != allowed:
        message = f"Not allowed to make {request.method} requests to {path}, only {allowed}."
        answer = Answer.error(405, message, code="method_not_supported", headers={"Allow": allowed})
    elif not chat:
        model = {"id": MODEL, "object": "model", "created": 1700000000, "owned_by": "blades.testing"}
        body = encode_json({"object": "list", "data": [model]})
        answer = Answer.raw(body, content_type="application/json", framing="length")
    elif not request_json(request):
        answer = Answer.error(400, "The body of the request must be a JSON object that holds messages.")
    return answer


def run(script: Script, request: Request, pace: float) -> Answer:
    """Return the answer of a script to a request.

    Raises:
        TypeError: The script is, or returned, something else.
    """
    answer = script(request) if callable(script) else script
    if isinstance(answer, str):
        return Answer.text(answer, pause=pace)
    if not isinstance(answer, Answer):
        raise TypeError(f"expected a str or an Answer from the script, got {answer!r:.200}")
    return answer


def end_with_error(wire: Wire, error: BadRequest, *, http10: bool) -> NoReturn:
    """Answer something that is no HTTP request, and end the connection: nobody knows where the next request begins."""
    unknown = Request(0, 0, "", "", {}, b"")
    refusal = Answer.error(error.status, str(error), headers={"Connection": "close"})
    play(encode(refusal, unknown, http10=http10), unknown, wire)
    wire.finish()


def play(answer: EncodedAnswer, request: Request, wire: Wire) -> None:
    for delay in answer.before:
        _wait(delay, request, wire)
    wire.send(answer.head)
    for step in answer.body:
        if isinstance(step, bytes):
            wire.send(step)
        else:
            if isinstance(step, Cut) and answer.chunked:
                wire.send(b"ff\r\ndata: {")
            _wait(step, request, wire)
    wire.send(answer.ending)


def _wait(delay: Delay, request: Request, wire: Wire) -> None:
    if isinstance(delay, Stall):
        request._stall(wire)
    elif isinstance(delay, Reset):
        wire.reset()
    elif isinstance(delay, Cut):
        wire.cut()
    else:
        wire.pause(delay)
