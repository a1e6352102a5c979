"""Where the key and the base URL come from: arguments, the process environment, a ``.env`` file; in this order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, final

from blades._errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_VARIABLE = "OPENAI_API_KEY"
BASE_URL_VARIABLE = "OPENAI_BASE_URL"
_ENVIRONMENT = "the environment"


@final
class Endpoint(NamedTuple):
    """Whom to talk to. `base_url` is None for the official client's own default."""

    api_key: str
    base_url: str | None

    def __repr__(self) -> str:
        return f"Endpoint(api_key=..., base_url={self.base_url!r})"


def find_endpoint(api_key: str | None, base_url: str | None) -> Endpoint:
    """Find the key and the base URL; an empty variable counts as unset.

    Raises:
        ConfigError: no key, a value that no server can accept, an unreadable ``.env`` file, or a base URL
            from ``.env`` with a key from elsewhere: such a file, found by chance, could send the key anywhere.
    """
    key, key_from = _first(api_key, "api_key=", KEY_VARIABLE)
    url, url_from = _first(base_url, "base_url=", BASE_URL_VARIABLE)
    if key is None or url is None:
        path, values = _dotenv()
        if key is None and values.get(KEY_VARIABLE):
            key, key_from = values[KEY_VARIABLE], path
        if url is None and values.get(BASE_URL_VARIABLE):
            url, url_from = values[BASE_URL_VARIABLE], path
            if key is not None and key_from != path:
                raise ConfigError(
                    f"{BASE_URL_VARIABLE} was found in {path}, but the API key comes from {key_from}: a key is not "
                    f"sent to a host that a .env file names. Pass base_url= or set {BASE_URL_VARIABLE} in the "
                    f"environment to choose the host, or keep {KEY_VARIABLE} in that .env file only."
                )
    if key is None:
        raise ConfigError(
            f"No API key: pass api_key= to the Agent, or set {KEY_VARIABLE} in the environment or in a .env file "
            "(for a local server that checks no key, any text will do)."
        )
    _check_key(key, key_from)
    if url is not None:
        _check_base_url(url, url_from)
    return Endpoint(key, url)


def _first(argument: str | None, argument_name: str, variable: str) -> tuple[str | None, str]:
    if argument is not None:
        return argument, argument_name
    return os.environ.get(variable) or None, f"{variable} in {_ENVIRONMENT}"


def _dotenv() -> tuple[str, Mapping[str, str | None]]:
    from dotenv import dotenv_values, find_dotenv  # noqa: PLC0415 - only where a .env file can matter

    try:
        path = find_dotenv(usecwd=True)
        # Without interpolation: a file found by chance must not be able to name the secrets of the environment.
        return path, dotenv_values(path, interpolate=False) if path else {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The .env file above {os.curdir!r} cannot be read: {error}") from error


def _check_key(key: str, source: str) -> None:
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise ConfigError(
            f"The API key from {source} cannot be sent in an HTTP header: it has a line break, a control or non-ASCII "
            "character, or white space at an end. Copy it again without them."
        )


def _check_base_url(url: str, source: str) -> None:
    scheme, separator, rest = url.partition("://")
    if scheme.lower() not in ("http", "https") or not separator or not rest.strip("/"):
        raise ConfigError(
            f"The base URL from {source} must look like 'https://host/v1' or 'http://127.0.0.1:8000/v1', "
            f"not {url.rpartition('@')[2]!r:.200}."
        )
