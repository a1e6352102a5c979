"""How an encoded answer is sent, and what is answered to a request that is no chat request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blades.testing._answers import MODEL, Answer, Cut, Reset, Stall, encode_json
from blades.testing._encode import request_json

if TYPE_CHECKING:
    from blades.testing._answers import Delay
    from blades.testing._encode import EncodedAnswer
    from blades.testing._http import Wire
    from blades.testing._records import Request

__all__ = ["play", "refuse"]


def refuse(request: Request, api_key: str | None) -> Answer | None:
    """Answer whatever is not a proper chat request; None if it is one."""
    path = request.path.partition("?")[0].rstrip("/")
    chat = path.endswith("/chat/completions")
    allowed = "POST" if chat else "GET"
    answer: Answer | None = None
    if api_key is not None and request.headers.get("authorization") != f"Bearer {api_key}":
        message = "Incorrect API key provided to the local test server."
        answer = Answer.error(401, message, code="invalid_api_key")
    elif not chat and path != "/v1/models":
        answer = Answer.error(404, f"Unknown request URL: {request.method} {path}.", code="unknown_url")
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
        request._stall(wire)  # noqa: SLF001 - of this module
    elif isinstance(delay, Reset):
        wire.reset()
    elif isinstance(delay, Cut):
        wire.cut()
    else:
        wire.pause(delay)
