"""A throw-away certificate for a test server on loopback: P-256, signed and encoded here, for want of a library.

Nothing in here resists an attacker who measures time; the keys live as long as a test.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import TypeAlias

__all__ = ["make_certificate"]

# The curve P-256 (FIPS 186-5): y^2 = x^3 - 3x + b over a prime field, with a base point of prime order.
_PRIME = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_BASE = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_Point: TypeAlias = tuple[int, int] | None


def make_certificate() -> tuple[str, str]:
    """Make a certificate for 127.0.0.1, ::1 and localhost, by an authority made for it alone.

    Returns:
        The authority's certificate, to be trusted by clients, and the server's key followed by its certificate;
        both as PEM. They never expire and satisfy OpenSSL's strict checks.
    """
    authority, server = _new_key(), _new_key()
    authority_point, server_point = _public(authority), _public(server)
    key_id = _octets(hashlib.sha1(authority_point, usedforsecurity=False).digest())
    ca = [
        _extension("551d13", _sequence(_der(0x01, b"\xff")), critical=True),  # basicConstraints: CA
        _extension("551d0f", _der(0x03, b"\x01\x06"), critical=True),  # keyUsage: keyCertSign, cRLSign
        _extension("551d0e", key_id),  # subjectKeyIdentifier
    ]
    names = [
        _der(0x82, b"localhost"),
        _der(0x87, b"\x7f\x00\x00\x01"),
        _der(0x87, b"\x00" * 15 + b"\x01"),
    ]
    leaf = [
        _extension("551d13", _sequence(), critical=True),  # basicConstraints: not a CA
        _extension("551d0f", _der(0x03, b"\x07\x80"), critical=True),  # keyUsage: digitalSignature
        _extension("551d25", _sequence(_oid("2b06010505070301"))),  # extendedKeyUsage: serverAuth
        _extension("551d23", _sequence(_der(0x80, key_id[2:]))),  # authorityKeyIdentifier
        _extension("551d11", _sequence(*names)),  # subjectAltName
    ]
    issuer = "blades.testing throw-away authority"
    root = _certificate(issuer, issuer, authority_point, ca, authority)
    certificate = _certificate("localhost", issuer, server_point, leaf, authority)
    private = _sequence(
        _integer(1),
        _octets(server.to_bytes(32, "big")),
        _der(0xA0, _oid("2a8648ce3d030107")),
        _der(0xA1, _bits(server_point)),
    )
    return _pem("CERTIFICATE", root), _pem("EC PRIVATE KEY", private) + _pem("CERTIFICATE", certificate)


def _certificate(subject: str, issuer: str, public: bytes, extensions: list[bytes], signer: int) -> bytes:
    """Encode and sign an X.509 v3 certificate (RFC 5280)."""
    algorithm = _sequence(_oid("2a8648ce3d040302"))  # ecdsa-with-SHA256
    curve = _sequence(_oid("2a8648ce3d0201"), _oid("2a8648ce3d030107"))  # ecPublicKey, prime256v1
    # The last second of 9999 stands for "no expiry" (RFC 5280, 4.1.2.5).
    validity = _sequence(_der(0x17, b"200101000000Z"), _der(0x18, b"99991231235959Z"))
    content = _sequence(
        _der(0xA0, _integer(2)),
        _integer(secrets.randbits(127) | 1 << 126),
        algorithm,
        _name(issuer),
        validity,
        _name(subject),
        _sequence(curve, _bits(public)),
        _der(0xA3, _sequence(*extensions)),
    )
    return _sequence(content, algorithm, _bits(_sign(signer, content)))


def _sign(key: int, content: bytes) -> bytes:
    """Sign with ECDSA and SHA-256 (FIPS 186-5, 6.4). r or s are zero once in 2**256 times: never."""
    digest = int.from_bytes(hashlib.sha256(content).digest(), "big")
    nonce = _new_key()
    point = _multiply(nonce, _BASE)
    assert point is not None  # noqa: S101 - 0 < nonce < order
    r = point[0] % _ORDER
    s = pow(nonce, -1, _ORDER) * (digest + r * key) % _ORDER
    return _sequence(_integer(r), _integer(s))


def _new_key() -> int:
    return secrets.randbelow(_ORDER - 1) + 1


def _public(key: int) -> bytes:
    point = _multiply(key, _BASE)
    assert point is not None  # noqa: S101 - 0 < key < order
    return b"\x04" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def _multiply(factor: int, point: _Point) -> _Point:
    result: _Point = None
    while factor:
        if factor & 1:
            result = _add(result, point)
        point = _add(point, point)
        factor >>= 1
    return result


def _add(one: _Point, other: _Point) -> _Point:
    """Add two points; None is the point at infinity. Opposite points do not occur below the order of the base."""
    if one is None or other is None:
        return one or other
    (x1, y1), (x2, y2) = one, other
    if one == other:
        slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, _PRIME) % _PRIME
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, _PRIME) % _PRIME
    x = (slope * slope - x1 - x2) % _PRIME
    return x, (slope * (x1 - x) - y1) % _PRIME


def _der(tag: int, content: bytes) -> bytes:
    """Encode one value of ASN.1's distinguished encoding rules (X.690)."""
    size = len(content)
    if size < 0x80:  # noqa: PLR2004 - the short form of a length
        return bytes((tag, size)) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + content


def _sequence(*items: bytes) -> bytes:
    return _der(0x30, b"".join(items))


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _octets(value: bytes) -> bytes:
    return _der(0x04, value)


def _bits(value: bytes) -> bytes:
    return _der(0x03, b"\0" + value)


def _oid(encoded: str) -> bytes:
    return _der(0x06, bytes.fromhex(encoded))


def _name(common_name: str) -> bytes:
    return _sequence(_der(0x31, _sequence(_oid("550403"), _der(0x0C, common_name.encode()))))


def _extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    return _sequence(_oid(oid), _der(0x01, b"\xff") if critical else b"", _octets(value))


def _pem(label: str, content: bytes) -> str:
    lines = base64.encodebytes(content).decode().replace("\n", "")
    body = "\n".join(lines[start : start + 64] for start in range(0, len(lines), 64))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"
