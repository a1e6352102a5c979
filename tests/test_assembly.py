"""The assembly: events to chunks, totals and verdict."""

from __future__ import annotations

from blades._assembly import Assembly


def test_a_usual_stream_is_handed_out_chunk_by_chunk() -> None:
    """Text, finish reason and usage come out as they came; nothing is parsed before it is asked for."""
    assembly = Assembly()
    assembly.feed(
        b'data: {"id":"a","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
        b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
        b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"lo"}}]}\n\n'
        b'data: {"id":"a","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        b'data: {"id":"a","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
        b"data: [DONE]\n\n"
    )
    assert str(assembly.next_chunk()) == "Hel"
    assert assembly.text == "Hel"
    assert str(assembly.next_chunk()) == "lo"
    assert not assembly.finished
    last = assembly.next_chunk()
    assert last is not None
    assert (last.text, last.finish_reason) == ("", "stop")
    assert assembly.next_chunk() is None
    assert assembly.done
    reply = assembly.reply(complete=True, request_id=None)
    assert (reply.text, reply.finish_reason, reply.model, reply.id) == ("Hello", "stop", "m", "a")
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (1, 2, 3)
