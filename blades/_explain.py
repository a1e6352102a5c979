"""Why a request got no response, in words: a note for the official client's exception, whose type stays as it is."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Final

from blades._credentials import show_url
from blades._preview import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_OFFICIAL_BASE_URL: Final = "https://api.openai.com/v1"
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


def explain_failure(error: BaseException, base_url: str | None, sources: tuple[str, str] | None) -> str | None:
    """Return a note: the URL asked, the cause as far as it is known, and where URL and key were found.

    Args:
        error: An exception of the official client; for any other there is no note.
        base_url: The server's URL; None for the official client's own default, ``""`` if it is not known.
        sources: Where base URL and key were found; None for a caller's own client.
    """
    if not any(kind.__module__.partition(".")[0] == "openai" for kind in type(error).__mro__):
        return None
    url = _OFFICIAL_BASE_URL if base_url is None else base_url
    status = getattr(error, "status_code", None)
    cause = _cause_of_status(status, url, str(error)) if isinstance(status, int) else _cause_of_connection(error, url)
    asked = f"asked: POST {show_url(url).rstrip('/') or '...'}/chat/completions"
    found = "with a client of your own" if sources is None else f"base URL: {sources[0]}; key: {sources[1]}"
    return f"{asked} ({found})" + (f"\n{cause}" if cause else "")


def _cause_of_status(status: int, url: str, message: str) -> str:
    if status in {_UNAUTHORIZED, _FORBIDDEN}:
        return "the server refuses the key: check that it is one of this server's, and not of another provider"
    if "plain HTTP request was sent to HTTPS port" in message:
        return "the port speaks TLS: the base URL must begin with https://"
    if status == _NOT_FOUND and not url.rstrip("/").endswith("/v1"):
        return "the base URL usually ends in /v1: check its path, and the name of the model"
    if status == _NOT_FOUND:
        return "the server does not know this path or this model: check both"
    return ""


def _cause_of_connection(error: BaseException, url: str) -> str:
    scheme, _, rest = url.partition("://")
    host = printable(rest.partition("/")[0].rpartition("@")[2]) or "the server"
    known = next(filter(None, (_cause_of_os_error(cause, host) for cause in _chain(error))), "")
    if known:
        return known
    names = {type(cause).__name__ for cause in _chain(error)}
    if "ConnectTimeout" in names and any("handshake" in str(cause) for cause in _chain(error)):
        return f"{host} did not answer the TLS handshake in time: if it speaks plain HTTP, the base URL begins with http://"
    if "ConnectTimeout" in names:
        return f"{host} did not accept a connection in time: check the base URL, a proxy or a firewall"
    if scheme == "http" and "RemoteProtocolError" in names:
        return f"{host} closed the connection without an answer: if it speaks TLS, the base URL begins with https://"
    return ""


def _cause_of_os_error(cause: BaseException, host: str) -> str:
    if isinstance(cause, socket.gaierror):
        return f"the host {host} is not known: check the spelling of the base URL, and the network"
    if isinstance(cause, ConnectionRefusedError):
        return f"nothing listens on {host}: check the port of the base URL, and whether the server runs"
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = printable(cause.verify_message)
        return (
            f"the certificate of {host} is not trusted ({reason}): set SSL_CERT_FILE to a file with the certificates "
            "to trust, or pass a client= of your own"
        )
    if isinstance(cause, ssl.SSLError):
        return f"{host} does not speak TLS as expected ({printable(cause.reason or '')}): try http:// instead"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
