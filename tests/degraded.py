"""Streams on an official client, or an HTTP library, that a release to come has changed: one change for each process.

``python degraded.py [--other-platform] CHANGE...`` edits the source of foreign modules as they are imported, plays the
scenes of cancelling, retrying and reading, and prints what came of each change as a line of JSON, for `test_degrade`.
Each change has a process of its own, forked where that is possible: then what no change touches is imported once.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib.abc
import importlib.machinery
import json
import logging
import os
import re
import ssl
import subprocess
import sys
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import other_platform
from limits import SOON_SECONDS, START_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

    from blades import Agent, Stream
    from blades.testing import LocalServer, Request

Edit = tuple[str, str, str]
"""A module, a pattern, and what takes its place. The modules are named as in httpx, for httpx2 as well."""

CLIENT, BASE, API = "openai._client", "openai._base_client", "openai._response"
TRACE, STREAM, ANY_STREAM = "httpcore._trace", "httpcore._backends.sync", "httpcore._backends.base"
HTTP11, HTTP2, CONNECTION = "httpcore._sync.http11", "httpcore._sync.http2", "httpcore._sync.connection"
MODELS, TRANSPORT, SENDER = "httpx._models", "httpx._transports.default", "httpx._client"

TRACE_CALL = r"self\.trace_extension\(prefix_and_name, info\)"
TRACE_VALUE = r'\{"return_value": self\.return_value\}'
READ_CALL = r"self\._network_stream\.read\(\s*self\.READ_NUM_BYTES, timeout=timeout\s*\)"
WRITE_CALL = r"self\._network_stream\.write\(bytes_to_send, timeout=timeout\)"
SLEEP_CALL = (
    r"self\._sleep_for_retry\(\s*retries_taken=retries_taken,\s*max_retries=max_retries,\s*options=input_options,"
    r"\s*response=(\w+),\s*\)"
)

READ_PAST = "def read_past(stream, *_, timeout=None):\n    return stream._sock.recv(65536)\n"


def after(module: str, code: str) -> Edit:
    """Append code to a module."""
    return module, r"\Z", "\n" + code.replace("\\", r"\\")


def renamed(module: str, *names: str) -> list[Edit]:
    """Give each name another one, throughout a module."""
    return [(module, rf"\b{name}\b", f"{name}_now") for name in names]


def stream_method_renamed(name: str) -> list[Edit]:
    """Rename a method of the HTTP library's network streams, and where it is called."""
    callers = [(module, rf"_network_stream\.{name}\(", f"_network_stream.{name}_now(") for module in (HTTP11, HTTP2)]
    definitions = [(module, rf"def {name}\(self", f"def {name}_now(self") for module in (STREAM, ANY_STREAM)]
    return [*callers, *definitions, *[(STREAM, r"\bself\.close\(", "self.close_now(")][: name == "close"]]


def read_only(condition: str) -> list[Edit]:
    """Let no attribute of a network stream be set of which a condition is true."""
    return [
        after(
            STREAM,
            "def refuse(self, name, value):\n"
            f"    if {condition}:\n        raise AttributeError(name)\n"
            "    object.__setattr__(self, name, value)\n"
            "SyncStream.__setattr__ = refuse\n",
        )
    ]


ALL = frozenset({"headers", "headers again", "stall", "stall again"})


@dataclass(frozen=True)
class Change:
    """One change of foreign modules.

    Args:
        edits: What is changed.
        named: A part of the warning; empty where nothing is missing.
        unnoticed: The scenes of cancelling in which the server may notice late.
    """

    edits: Sequence[Edit] = ()
    named: str = ""
    unnoticed: frozenset[str] = frozenset()


HEADERS = frozenset({"headers"})
AGAIN = frozenset({"headers again"})

CHANGES = {
    "nothing": Change(),
    # The official client
    "_prepare_request renamed": Change(renamed(BASE, "_prepare_request"), "_prepare_request", HEADERS),
    "_prepare_request not called": Change(
        [(BASE, r"(?<!await )self\._prepare_request\(request\)", "pass")], "_prepare_request", HEADERS
    ),
    "_prepare_request with another signature": Change(
        [
            (BASE, r"(?<!await) (self\._prepare_request)\(request\)", r" request = \1(attempt=1, request=request)"),
            after(CLIENT, "OpenAI._prepare_request = lambda self, *, attempt, request: request\n"),
        ]
    ),
    "_sleep_for_retry renamed": Change(renamed(BASE, "_sleep_for_retry"), "_sleep_for_retry"),
    "_sleep_for_retry not called": Change(
        [(BASE, SLEEP_CALL, r"time.sleep(self._calculate_retry_timeout(1, input_options, \1 and \1.headers))")]
    ),
    "_sleep_for_retry with another signature": Change(
        [
            (BASE, SLEEP_CALL, r"self._sleep_for_retry(retries_taken, max_retries, input_options, \1)"),
            after(
                BASE,
                "original = SyncAPIClient._sleep_for_retry\n"
                "def differently(self, taken, most, options, response):\n"
                "    original(self, retries_taken=taken, max_retries=most, options=options, response=response)\n"
                "SyncAPIClient._sleep_for_retry = differently\n",
            ),
        ],
        "_sleep_for_retry",
    ),
    "_calculate_retry_timeout renamed": Change(renamed(BASE, "_calculate_retry_timeout"), "_calculate_retry_timeout"),
    "_calculate_retry_timeout with another signature": Change(
        [
            (BASE, r"self\._calculate_retry_timeout\(", "self._calculate_retry_timeout(0, "),
            (BASE, r"(def _calculate_retry_timeout\(\s*self,)", r"\1 attempt: int,"),
        ],
        "_calculate_retry_timeout",
    ),
    "DEFAULT_CONNECTION_LIMITS missing": Change(
        [after("openai", "del DEFAULT_CONNECTION_LIMITS\n")], "DEFAULT_CONNECTION_LIMITS"
    ),
    "DEFAULT_CONNECTION_LIMITS of another kind": Change(
        [after("openai", "DEFAULT_CONNECTION_LIMITS = {'max_connections': 9}\n")], "DEFAULT_CONNECTION_LIMITS"
    ),
    "DefaultHttpxClient missing": Change([after("openai", "del DefaultHttpxClient\n")], "DefaultHttpxClient"),
    "DefaultHttpxClient with another signature": Change(
        [after("openai", "DefaultHttpxClient = lambda: None\n")], "DefaultHttpxClient"
    ),
    "with_options missing": Change([after(CLIENT, "del OpenAI.with_options\n")], "with_options"),
    "http_response missing": Change(renamed(API, "http_response"), "http_response"),
    "base_url missing": Change(
        [
            (BASE, r"self\.base_url\b", "self._base_url"),
            after(CLIENT, "for kind in OpenAI.__mro__:\n    if 'base_url' in vars(kind):\n        del kind.base_url\n"),
        ],
        "base_url",
    ),
    # What the HTTP library traces
    "trace not called": Change([(TRACE, TRACE_CALL, "None")], "trace", HEADERS),
    "trace with names": Change([(TRACE, TRACE_CALL, "self.trace_extension(event=prefix_and_name, info=info)")]),
    "trace with more arguments": Change(
        [(TRACE, TRACE_CALL, "self.trace_extension(0, prefix_and_name, info, request=None)")]
    ),
    "trace without a mapping": Change([(TRACE, TRACE_CALL, "self.trace_extension(prefix_and_name)")], "trace", HEADERS),
    "trace events renamed": Change(
        [
            (CONNECTION, '"connect_tcp"', '"open_tcp"'),
            (HTTP11, '"send_request_headers"', '"send_head"'),
            (HTTP11, '"response_closed"', '"closed"'),
        ],
        "trace",
        HEADERS,
    ),
    "trace events without a value": Change([(TRACE, TRACE_VALUE, "{}")], "trace", HEADERS),
    "trace events with another value": Change([(TRACE, TRACE_VALUE, '{"return_value": 1}')], "network_stream", HEADERS),
    "extensions of a request read-only": Change(
        [
            after(
                MODELS,
                "import types\noriginal = Request.__init__\n"
                "def make(self, *arguments, **named):\n"
                "    original(self, *arguments, **named)\n"
                "    self.extensions = types.MappingProxyType(self.extensions)\n"
                "Request.__init__ = make\n",
            )
        ],
        "extensions",
        HEADERS,
    ),
    # The connection
    "network_stream missing": Change([(HTTP11, '"network_stream":', '"stream":')], "network_stream"),
    "get_extra_info renamed": Change(
        [(module, r"\bget_extra_info\b", "info_of") for module in (STREAM, ANY_STREAM, HTTP11, CONNECTION)],
        "network_stream",
        ALL,
    ),
    "no socket shown": Change([(STREAM, 'info == "socket"', 'info == "descriptor"')], "", ALL),
    "attributes of a connection read-only": Change(read_only('name != "_sock"'), "network_stream", AGAIN),
    "write of a connection read-only": Change(read_only('name == "write"'), "network_stream", AGAIN),
    "read renamed": Change(stream_method_renamed("read"), "network_stream", AGAIN),
    "read with names": Change(
        [(HTTP11, READ_CALL, "self._network_stream.read(timeout=timeout, max_bytes=self.READ_NUM_BYTES)")]
    ),
    "read with another signature": Change(
        [
            (HTTP11, READ_CALL, "self._network_stream.read(least=1, at_most=7)"),
            after(STREAM, "SyncStream.read = lambda self, *_, at_most=65536, **more: self._sock.recv(at_most)\n"),
        ]
    ),
    "read gives a bytearray": Change(
        [
            (STREAM, r"return self\._sock\.recv\(max_bytes\)", "return bytearray(self._sock.recv(max_bytes))"),
            (HTTP11, r"receive_data\(data\)", "receive_data(bytes(data))"),
        ],
        "network_stream.read",
    ),
    "reads past read": Change(
        [
            (module, r"self\._network_stream\.read\(\s*self\.READ_NUM_BYTES,", "read_past(self._network_stream,")
            for module in (HTTP11, HTTP2)
        ]
        + [after(module, READ_PAST) for module in (HTTP11, HTTP2)],
        "network_stream.read",
    ),
    "bodies read past read": Change(
        [
            (
                HTTP11,
                READ_CALL,
                "select(self).read(65536, timeout=timeout)",
            ),
            after(
                HTTP11,
                "class Past:\n"
                "    def __init__(self, stream):\n        self.read = lambda size, timeout: stream._sock.recv(size)\n"
                "def select(connection):\n"
                "    stream = connection._network_stream\n"
                "    heads = connection._h11_state.their_state is h11.SEND_RESPONSE\n"
                "    return stream if heads else Past(stream)\n",
            ),
        ],
        "network_stream.read",
    ),
    "write renamed": Change(stream_method_renamed("write"), "network_stream", AGAIN),
    "writes past write": Change(
        [(HTTP11, WRITE_CALL, "self._network_stream._sock.sendall(bytes_to_send)")],
        "network_stream.write",
        AGAIN,
    ),
    "write with names": Change([(HTTP11, r"\.write\(bytes_to_send,", ".write(buffer=bytes_to_send,")]),
    "write with a list": Change(
        [
            (HTTP11, WRITE_CALL, "self._network_stream.write([bytes_to_send])"),
            after(
                STREAM,
                "def write(self, data, *_):\n    self._sock.sendall(data[0] if isinstance(data, list) else data)\n"
                "SyncStream.write = write\n",
            ),
        ]
    ),
    "close renamed": Change(stream_method_renamed("close"), "network_stream", AGAIN),
    "_httpcore_stream renamed": Change(renamed(TRANSPORT, "_httpcore_stream"), "_httpcore_stream"),
    "stream of a response renamed": Change(
        [(module, r"\b(self|request|response)\.stream\b(?!\()", r"\1.body") for module in (MODELS, TRANSPORT, SENDER)],
        "stream",
    ),
}


class EditingFinder(importlib.abc.MetaPathFinder):
    """Finds the modules that are to be edited, and edits them."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self.loaded: set[str] = set()
        self.edits: dict[str, list[tuple[str, str]]] = {}
        for module, pattern, replacement in edits:
            self.edits.setdefault(module, []).append((pattern, replacement))

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        """See the base class."""
        name_in_edits = re.sub(r"^(httpx|httpcore)2\b", r"\1", name)
        edits = self.edits.get(name_in_edits)
        spec = None if edits is None else importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            assert spec.origin is not None
            spec.loader = EditingLoader(name, spec.origin, edits or [])
            self.loaded.add(name_in_edits)
        return spec


class EditingLoader(importlib.machinery.SourceFileLoader):
    """Loads a module whose source it changes before."""

    def __init__(self, name: str, path: str, edits: Sequence[tuple[str, str]]) -> None:
        super().__init__(name, path)
        self._edits = edits

    def get_code(self, fullname: str) -> CodeType:
        """See the base class."""
        source = self.get_data(self.path).decode()
        for pattern, replacement in self._edits:
            source, count = re.subn(pattern, replacement, source)
            assert count, f"{fullname} has no {pattern}"
        return compile(source, self.path, "exec", dont_inherit=True)


TEXT = " ".join(f"word{number}" for number in range(60))


class Scenes:
    """What streams must do whatever has changed. Each method whose name begins with "scene" is one."""

    def __init__(self, server: LocalServer, unnoticed: frozenset[str], soon: float) -> None:
        self.server = server
        self.unnoticed = unnoticed
        self.soon = soon

    def agent(self, **changed: Any) -> Agent:
        """Make an agent whose time limits end what would hang."""
        settings: dict[str, Any] = {
            "base_url": self.server.base_url,
            "api_key": "k",
            "stall_timeout": self.soon,
        } | changed
        return Agent("test", model="m", **settings)

    def check_plain(self, agent: Agent, *, reused: bool = True) -> None:
        """Streams give the whole text, on one connection: as soon as that is free again, on a busy machine."""
        before = self.server.connections
        for number in range(1, 50):
            self.server.add(TEXT)
            stream = agent.run_stream("go")
            reply = stream.reply()
            assert (reply.text, reply.finish_reason) == (TEXT, "stop"), reply
            assert stream.state is StreamState.FINISHED
            if not reused or self.server.connections - before < number:
                return
        raise AssertionError("connections are not used again")

    def check_cancel(self, scene: str, agent: Agent, text: str = "") -> None:
        """Cancel a stream that waits: its reader is free, and the server notices unless it cannot."""
        number = len(self.server.requests) + 1
        stream = agent.run_stream("go", stall_timeout=None)
        reader = threading.Thread(target=self.read, args=(stream,), daemon=True)
        reader.start()
        request = self.server.wait_for_request(number, timeout=self.soon)
        self.wait_for_scene(scene, request, stream, text)
        stream.cancel()
        reader.join(self.soon)
        assert not reader.is_alive(), "the reader is not free"
        assert (stream.state, stream.text) == (StreamState.CANCELLED, text)
        if scene not in self.unnoticed and scene != "back-off":
            assert request.left.wait(self.soon), "the server has not noticed"
        request.release()
        self.check_plain(agent, reused=False)

    def wait_for_scene(self, scene: str, request: Request, stream: Stream, text: str) -> None:
        """Wait until the server is silent, and the reader has what came before."""
        if scene == "back-off":  # an error status has been read, perhaps before its body came, and left its connection
            assert self.server.connection_log[-1].closed_by_client.wait(self.soon)
        else:
            assert request.stalled.wait(self.soon)
        wait_until(lambda: stream.text == text, self.soon)

    @staticmethod
    def read(stream: Stream) -> None:
        """Read a stream to its end."""
        stream.reply()

    def scene_plain(self) -> None:
        """Streams of an agent's own client."""
        with self.agent() as agent:
            self.check_plain(agent)

    def scene_own_client(self) -> None:
        """Streams of two agents with a caller's client, which has a connection open already."""
        with openai.OpenAI(base_url=self.server.base_url, api_key="k") as client:
            self.server.add(TEXT)
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "go"}])
            for _ in range(2):
                agent = self.agent(client=client, base_url=None, api_key=None, max_retries=1)
                self.check_plain(agent)
                self.server.add(Answer.error(400, "wrong"))
                self.check_raises(openai.BadRequestError, agent)

    def scene_retry(self) -> None:
        """A request that is refused is sent again."""
        number = len(self.server.requests)
        self.server.add(Answer.error(429, "later", headers={"Retry-After-Ms": "10"}))
        with self.agent() as agent:
            assert agent.run("go").complete
            assert len(self.server.requests) == number + 2
            self.check_plain(agent)

    def scene_endings(self) -> None:
        """A cut body, and an error of the server's, are raised with the text so far."""
        with self.agent(max_retries=0) as agent:
            self.server.add(Answer("a", Cut()))
            self.check_raises(StreamInterrupted, agent, "a")
            self.server.add(Answer("a", b'data: {"error": {"message": "broken"}}\n\n'))
            self.check_raises(StreamServerError, agent, "a")
            self.server.add(Answer.error(400, "wrong"))
            self.check_raises(openai.BadRequestError, agent)
            self.check_plain(agent)

    def check_raises(self, kind: type[Exception], agent: Agent, text: str = "", **options: Any) -> None:
        """Reading a stream raises a kind of exception."""
        stream = agent.run_stream("go", **options)
        try:
            stream.reply()
        except kind:
            assert stream.text == text
        else:
            raise AssertionError(f"did not raise {kind.__name__}")

    def scene_limit(self) -> None:
        """A stall limit ends a stream; the next one works."""
        with self.agent() as agent:
            for _ in range(2):
                self.server.add(Answer("a", Stall()))
                self.check_raises(StreamTimeout, agent, "a", first_chunk_timeout=self.soon, stall_timeout=0.1)
                self.check_plain(agent, reused=False)

    def scene_cancel(self) -> None:
        """A cancel before the headers, and in a stall: on a new connection, and on one that was used before."""
        for again in ("", " again"):
            for scene, text in (("headers", ""), ("stall", "a")):
                with self.agent() as agent:
                    if again:
                        self.check_plain(agent)
                    self.server.add(Answer(before_headers=[Stall()]) if scene == "headers" else Answer("a", Stall()))
                    self.check_cancel(scene + again, agent, text)

    def scene_back_off(self) -> None:
        """A cancel while the official client waits before it tries again."""
        self.server.add(Answer.error(429, "later", headers={"Retry-After": "50"}))
        with self.agent() as agent:
            self.check_cancel("back-off", agent)

    def scene_event(self) -> None:
        """Nothing is sent for an event that is set already."""
        event = threading.Event()
        event.set()
        number = len(self.server.requests)
        with self.agent() as agent:
            stream = agent.run_stream("go", cancel=event)
            assert (stream.reply().text, stream.state) == ("", StreamState.CANCELLED)
            self.check_plain(agent, reused=False)
        assert len(self.server.requests) == number + 1

    def scene_http2(self) -> None:
        """A cancel takes no connection that other streams use, too."""
        http_client = type(openai.OpenAI(api_key="k")._client)(http1=False, http2=True)
        with (
            http2.Server() as server,
            openai.OpenAI(base_url=server.base_url, api_key="k", http_client=http_client, max_retries=0) as client,
        ):
            agent = self.agent(client=client, base_url=None, api_key=None)
            for _ in range(2):
                streams = []
                for _ in range(2):
                    streams.append(agent.run_stream("go"))
                    assert server.arrived.acquire(timeout=self.soon)
                assert next(streams[0]).text == "a "
                streams[0].cancel()
                server.release()
                assert streams[1].reply().text == "a b"
            assert server.connections == 1


class Warnings(logging.Handler):
    """Keeps what the library warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See the base class."""
        self.messages.append(record.getMessage())


def play(name: str) -> dict[str, Any]:
    """Play all scenes; return what went wrong in each, and the warnings."""
    warnings = Warnings()
    logging.getLogger("blades").addHandler(warnings)
    for constant in ("END_WAIT_SECONDS", "PROOF_WAIT_SECONDS"):
        setattr(response, constant, 2.0)  # the machine may be busy
    failures = {}
    with LocalServer(pace=0) as server:
        scenes = Scenes(server, CHANGES[name].unnoticed, SOON_SECONDS)
        for scene in (scene for scene in dir(scenes) if scene.startswith("scene_")):
            try:
                getattr(scenes, scene)()
            except BaseException:  # whatever it is, the test shows it
                failures[scene] = traceback.format_exc()
        server.release()
    return {"name": name, "failures": failures, "warnings": warnings.messages}


# Most of the time of the official client's import goes into its types. No change touches these modules, which import
# nothing that a change touches, but for annotations.
UNCHANGED = {
    "openai": [["types"], ["_models"], ["_types"], ["_utils"], ["_compat"], ["_constants"]],
    "httpx": [["_config"], ["_exceptions"], ["_types"], ["_urlparse"], ["_urls"], ["_utils"]],
}


def is_changeable(name: str) -> bool:
    """Return whether a module has to be imported again after a change."""
    library, *module = re.sub(r"^(httpx|httpcore)2\b", r"\1", name).split(".")
    return library in {"openai", "httpx", "httpcore"} and module[:1] not in UNCHANGED.get(library, [])


def each_in_a_process(names: Sequence[str]) -> str:
    """Return each name in a process of its own, one after the other; exit in this one when they have ended."""
    if len(names) == 1:
        return names[0]
    if hasattr(os, "fork"):
        __import__("openai.types")
        gc.freeze()  # else each child's collections go through all of it
    for name in names:
        if not hasattr(os, "fork"):
            subprocess.run([sys.executable, __file__, name], check=False)
        elif (child := os.fork()) == 0:
            return name
        else:
            os.waitpid(child, 0)
    raise SystemExit(0)


if __name__ == "__main__":
    names = sys.argv[1:]
    if names[0] == "--other-platform":
        other_platform.pretend()
        del names[0]

    import http2
    from blades import Agent, StreamInterrupted, StreamServerError, StreamState, StreamTimeout
    from blades._transport import response
    from blades.testing import Answer, Cut, LocalServer, Stall

    changed = each_in_a_process(names)
    finder = EditingFinder(CHANGES[changed].edits)
    sys.meta_path.insert(0, finder)
    for module in filter(is_changeable, list(sys.modules)):
        del sys.modules[module]
    ssl.SSLContext.load_verify_locations = lambda *_, **_named: None  # type: ignore[method-assign]  # takes 20 ms

    import openai

    faulthandler.dump_traceback_later(START_SECONDS, exit=True)
    outcome = play(changed)
    assert finder.loaded == finder.edits.keys(), "a module was not edited"
    sys.stdout.write(json.dumps(outcome) + "\n")
    sys.stdout.flush()
    os._exit(0)  # an orderly exit takes almost as long as the scenes
