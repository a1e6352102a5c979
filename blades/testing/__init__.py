"""An OpenAI-compatible server on loopback that answers what a test scripts: see `LocalServer`."""

from blades.testing._answers import Answer, Cut, End, Reset, Stall, chunk
from blades.testing._records import Connection, Request
from blades.testing._server import LocalServer

__all__ = ["Answer", "Connection", "Cut", "End", "LocalServer", "Request", "Reset", "Stall", "chunk"]
