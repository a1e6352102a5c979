"""Where the key and the base URL come from: arguments, the process environment, a ``.env`` file; in this order.

No function here raises with the key or a raw base URL in its frame: tools that show local variables (debuggers, error
reporters, pytest -l) would show them.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple, final

from blades._errors import ConfigError
from blades._preview import printable, short_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_VARIABLE: Final = "OPENAI_API_KEY"
BASE_URL_VARIABLE: Final = "OPENAI_BASE_URL"
CERTIFICATES_VARIABLE: Final = "SSL_CERT_FILE"
_SHOWN_CHARACTERS: Final = 200
_PROXY_VARIABLES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")

# White space, invisible characters and quotes, as they stick to a URL that was copied from a page or a file.
_SPACES: Final = "".join(map(chr, (*range(33), 0x7F, 0x85, 0xA0, 0x1680, *range(0x2000, 0x2010), 0x2028, 0x2029)))
_STRAY: Final = _SPACES + '\u00ad\u202f\u205f\u2060\u3000\ufeff"`\u2018\u2019\u201c\u201d<>'
_ENDPOINT: Final = r"(?i)/(chat/completions|completions|responses|embeddings|models)\Z"
# By hand: importing urllib.parse costs more than the rest of this module.
_HOST: Final = r"(?i)https?://(?:[^/@]*@)?(?:\[[0-9a-f:.]+\]|[^/:\[\]]+)(?::(\d{1,5}))?(?:/|\Z)"
MAX_PORT: Final = 65535


@final
class Endpoint(NamedTuple):
    """The server to send requests to.

    Attributes:
        api_key: The key. Not in the repr.
        base_url: The server's URL; None for the official client's own default.
        key_source: Where the key was found, for a message: ``"OPENAI_API_KEY in the environment"``.
        base_url_source: Where the base URL was found, in the same way.
    """

    api_key: str
    base_url: str | None
    key_source: str
    base_url_source: str

    def __repr__(self) -> str:
        url = None if self.base_url is None else show_url(self.base_url)
        return f"Endpoint(base_url={url!r} from {self.base_url_source}, api_key from {self.key_source})"


@final
class _Setting(NamedTuple):
    value: str
    source: str


def find_endpoint(api_key: str | None, base_url: str | None) -> Endpoint:
    """Find the key and the base URL; an empty variable counts as unset.

    White space, invisible characters, quotes and slashes around the base URL are removed.

    Raises:
        ConfigError: There is no key, a value that no server can accept, an unreadable ``.env`` file, or a base URL
            from ``.env`` with a key from elsewhere: such a file, found by chance, could send the key anywhere.
    """
    found = _find(api_key, base_url)
    del api_key, base_url  # see the module's docstring
    if isinstance(found, str):
        raise ConfigError(found)
    return found


def show_url(url: str) -> str:
    """Return a URL for a message: printable, without user, password, query and fragment, which may be secret."""
    scheme, separator, rest = url.rpartition("://")
    place = re.split("[?#]", rest, maxsplit=1)[0]
    # An @ behind the first of these signs: the signs may be part of a password.
    place = "..." if "@" in rest[len(place) :] else place.rpartition("@")[2]
    shown = printable(re.split("[?#]", scheme.rpartition("@")[2], maxsplit=1)[0] + separator + place)
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[: _SHOWN_CHARACTERS - 1]}…"


def explain_client_failure(error: Exception) -> str:
    """Return why the official client cannot be made, with the environment variable that is to blame."""
    path = os.environ.get(CERTIFICATES_VARIABLE)
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        return (
            "expected a file descriptor for the official client, got none "
            f"({error.strerror}): close files, or raise the limit (ulimit -n)"
        )
    if path and isinstance(error, OSError):  # an SSLError, for a file without certificates, is one too
        reason = printable(error.strerror or str(error))
        return (
            f"expected {CERTIFICATES_VARIABLE} to name a file of certificates, got {short_repr(path, 200)} ({reason}): "
            "correct the variable, or unset it"
        )
    kind = type(error).__name__
    if kind == "InvalidURL":  # only this class is known for what is no URL, and its text may hold a proxy's password
        for name, value in _environment("NO_PROXY"):
            entries = [entry.strip() for entry in value.split(",") if ":" in entry and "://" not in entry]
            if entries:
                return (
                    f"expected {name} to list host names, got {short_repr(entries[0])}, which the installed HTTP "
                    "library cannot read: leave out IPv6 addresses and networks, or update httpx"
                )
        for name, _ in _environment(*_PROXY_VARIABLES):
            return f"expected {name} to be a URL such as 'http://host:3128', got something else: correct or unset it"
    variables = ", ".join(name for name, _ in _environment(*_PROXY_VARIABLES))
    hint = f" (check {variables})" if variables else ""
    return f"cannot make the official client: {kind}: {printable(str(error))}{hint}"


def _environment(*names: str) -> list[tuple[str, str]]:
    """Return the variables that are set, in either case."""
    both = [spelling for name in names for spelling in (name, name.lower())]
    return [(name, value) for name in both if (value := os.environ.get(name))]


def _find(api_key: str | None, base_url: str | None) -> Endpoint | str:
    """Return the endpoint, or what is wrong."""
    settings = _settings(api_key, base_url)
    if isinstance(settings, str):
        return settings
    key, url = settings
    if key is None:
        return (
            f"expected an API key, got none: pass api_key= to the Agent, or set {KEY_VARIABLE} in the environment or "
            "in a .env file (for a local server that checks no key, any text will do)."
        )
    if not _fits_header(key.value):
        return (
            f"expected an API key that an HTTP header can hold from {key.source}, got one with a quote or white space "
            "at an end, a line break, a control or a non-ASCII character: copy it again without them"
        )
    if url is None:
        return Endpoint(key.value, None, key.source, "the official client's default")
    trimmed = url.value.strip(f"{_STRAY}'").rstrip("/")
    if problem := _url_problem(trimmed):
        example = "a base URL such as 'https://host/v1' or 'http://127.0.0.1:8000/v1'"
        return f"expected {example} from {url.source}, got {problem}"
    return Endpoint(key.value, trimmed, key.source, url.source)


def _settings(api_key: str | None, base_url: str | None) -> tuple[_Setting | None, _Setting | None] | str:
    """Return key and base URL as they were given, or why they may not be combined."""
    key = _given(api_key, "api_key=", KEY_VARIABLE)
    url = _given(base_url, "base_url=", BASE_URL_VARIABLE)
    if key is not None and url is not None:
        return key, url
    file = _read_dotenv()
    if isinstance(file, str):
        return file
    path, values = file
    key_in_file, url_in_file = values.get(KEY_VARIABLE), values.get(BASE_URL_VARIABLE)
    if key is not None and url is None and url_in_file:
        return (
            f"expected the key in the .env file that names the base URL, got {BASE_URL_VARIABLE} in {path} and the key "
            f"from {key.source}: a key is not sent to a host that a .env file names. Pass base_url= or set "
            f"{BASE_URL_VARIABLE} in the environment to choose the host, or keep {KEY_VARIABLE} in that .env file only."
        )
    if key is None and key_in_file:
        key = _Setting(key_in_file, f"{KEY_VARIABLE} in {path}")
    if url is None and url_in_file:
        url = _Setting(url_in_file, f"{BASE_URL_VARIABLE} in {path}")
    return key, url


def _given(argument: str | None, argument_name: str, variable: str) -> _Setting | None:
    if argument is not None:
        return _Setting(argument, argument_name)
    value = os.environ.get(variable)
    return _Setting(value, f"{variable} in the environment") if value else None


def _read_dotenv() -> tuple[str, Mapping[str, str | None]] | str:
    """Return the path and the values of the ``.env`` file, or what is wrong with it."""
    from dotenv import dotenv_values, find_dotenv  # only where a .env file can matter

    try:
        path = find_dotenv(usecwd=True)
    except OSError:  # the working directory was deleted: nothing is above it
        path = ""
    try:
        # Without interpolation: a file found by chance must not be able to name the secrets of the environment.
        # python-dotenv 1.0.0 takes a byte order mark for a part of the first name.
        return path, dotenv_values(path, interpolate=False, encoding="utf-8-sig") if path else {}
    except OSError as error:
        reason = printable(error.strerror or "")
    except UnicodeDecodeError:
        reason = "it is not encoded in UTF-8"
    return f"expected a readable .env file, got {printable(path)}, which cannot be read: {reason}"


def _fits_header(key: str) -> bool:
    return key.isascii() and key.isprintable() and key == key.strip(" \"'")


def _url_problem(url: str) -> str | None:
    """Return what is wrong with a base URL, and what to do about it."""
    shown = repr(show_url(url))
    # What is no URL at all may be a key in the wrong place.
    what = shown if "/" in url or ":" in url else "a text that is no URL"
    endpoint = re.search(_ENDPOINT, url)
    faults = (
        (
            not re.match(r"https?://[^/]", url, re.IGNORECASE),
            f"{what}: begin it with https:// or http://, and the host",
        ),
        (not set(url).isdisjoint(_STRAY), f"{shown}: remove the white space, invisible character or quote in it"),
        ("://" in url.partition("://")[2], f"{shown}: give one URL"),
        (re.search("[?#]", url), f"{shown} with a query or fragment: remove that (extra_query={{...}} adds a query)"),
        (url.endswith((";", ",", ".")), f"{shown}: remove the last character, {url[-1:]!r}"),
        (endpoint, f"the whole address {shown}: leave out {endpoint and endpoint[0]!r}, which is added to a base URL"),
        (not _has_host(url), f"{shown}: correct the host or the port"),
    )
    return next((fault for found, fault in faults if found), None)


def _has_host(url: str) -> bool:
    match = re.match(_HOST, url)
    return match is not None and 0 < int(match[1] or 1) <= MAX_PORT
