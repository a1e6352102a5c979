"""Throw-away certificates, made by trustme. Importing this module raises ImportError without it."""

from __future__ import annotations

import ssl
from pathlib import Path
from tempfile import TemporaryDirectory

try:
    import trustme
except ImportError as error:
    message = "TLS needs trustme: pip install trustme, or give LocalServer(tls=an ssl.SSLContext)"
    raise ImportError(message) from error

__all__ = ["make_certificate"]


def make_certificate(host: str) -> tuple[ssl.SSLContext, str, TemporaryDirectory[str]]:
    """Make an authority, and a server's context with a certificate of that authority.

    Args:
        host: A name or address that the certificate holds for, besides 127.0.0.1, ::1 and localhost.

    Returns:
        The context, the authority's certificate as PEM text, and a folder that holds it as ``authority.pem``.
    """
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names = dict.fromkeys(("127.0.0.1", "::1", "localhost", host))
    authority.issue_cert(*names).configure_cert(context)
    folder = TemporaryDirectory(prefix="blades-testing-")
    authority.cert_pem.write_to_path(Path(folder.name, "authority.pem"))
    return context, authority.cert_pem.bytes().decode(), folder
