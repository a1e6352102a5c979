"""The bytes of the load server's answers."""

from __future__ import annotations

import time
from functools import cache

FIELDS = (
    '"id":"chatcmpl-BxyzABCDEFGH1234567890","object":"chat.completion.chunk","created":1763836800,'
    '"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_1234567890"'
)
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nX-Request-Id: req_1\r\n\r\n"
)
BUSY = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 30\r\nContent-Length: 38\r\n\r\n"
    b'{"error":{"message":"Too many calls"}}'
)
PIECE = 65536
LAST = b"0\r\n\r\n"


def event(delta: str, finish_reason: str = "null") -> bytes:
    choice = f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish_reason}}}'
    return f'data: {{{FIELDS},"choices":[{choice}],"usage":null}}\n\n'.encode()


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


FIRST = event('{"role":"assistant","content":"","refusal":null}')
USAGE = '{"prompt_tokens":9,"completion_tokens":500,"total_tokens":509}'
END = event("{}", '"stop"') + f'data: {{{FIELDS},"choices":[],"usage":{USAGE}}}\n\ndata: [DONE]\n\n'.encode()
_BEFORE, _AFTER = event('{"content":"@"}').split(b"@")
_SIZE = b"%x\r\n" % (len(_BEFORE) + 17 + len(_AFTER))


def stamped() -> bytes:
    """Return the HTTP chunk of one event whose text is the time of sending."""
    return b"%b%b%016d %b\r\n" % (_SIZE, _BEFORE, time.monotonic_ns() // 1000, _AFTER)


def http_chunks(data: bytes) -> bytes:
    """Cut data into HTTP chunks of one size."""
    return b"".join(http_chunk(data[start : start + PIECE]) for start in range(0, len(data), PIECE))


@cache
def words(count: int, *, each: bool) -> bytes:
    """Return the HTTP chunks of so many events."""
    events = [event(f'{{"content":" word{number % 1000}"}}') for number in range(count)]
    return b"".join(map(http_chunk, events)) if each else http_chunks(b"".join(events))


@cache
def tool_calls(count: int) -> bytes:
    """Return the HTTP chunks of an answer with so many tool calls."""
    events = []
    for number in range(count):
        first = f'"index":{number},"id":"call_{number}","type":"function","function":{{"name":"search","arguments":""}}'
        events.append(event(f'{{"tool_calls":[{{{first}}}]}}'))
        parts = (r"{\"query\"", r":\"tea", r" and cake", r"\"}")
        head = f'{{"tool_calls":[{{"index":{number},"function":{{"arguments":'
        events += [event(f'{head}"{part}"}}}}]}}') for part in parts]
    return http_chunks(b"".join(events))


@cache
def large_event(characters: int) -> bytes:
    """Return the HTTP chunks of one event."""
    return http_chunks(event(f'{{"content":"{"word " * (characters // 5)}"}}'))
