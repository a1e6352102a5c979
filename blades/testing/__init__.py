"""An OpenAI-compatible server on loopback that answers what a test scripts.

::

    with LocalServer("Hello there.", pace=0) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="any")

It is made for testing code that streams. An answer is a list of steps (text, raw bytes, pauses, faults), every request
is recorded, and a client that disconnects is noticed within milliseconds. Without a script the server answers with
readable text about the prompt, at the pace of a typical model; it calls each tool that it is offered once, and fills a
JSON schema. ``python -m blades.testing`` runs it as a process, for any client. It uses one thread for each connection
and the standard library; TLS takes ``trustme`` (``pip install trustme``), or a context of the caller's.
"""

from blades.testing._answers import Answer, Cut, End, Reset, Stall, chunk
from blades.testing._records import Connection, Request
from blades.testing._server import LocalServer

__all__ = ["Answer", "Connection", "Cut", "End", "LocalServer", "Request", "Reset", "Stall", "chunk"]
