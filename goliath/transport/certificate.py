"""A self-signed certificate, made from nothing: encryption for those who brought no certificate.

Clients do not check who signed it; the login proves that this very certificate belongs to
the Lieutenant that has the token (`keys.tls_binding`). So a fresh one for each start will
do, and it never stays on the disk. The standard library cannot make certificates, and a
dependency for a hundred lines would be a bad bargain: this is P-256 (FIPS 186-5) and just
enough DER (X.690) for X.509 (RFC 5280). It signs once, with its own key, where nobody can
measure the time that takes; it is no library for anything else.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import ssl
import tempfile
from pathlib import Path
from typing import NamedTuple

# -- P-256 -----------------------------------------------------------------------------

FIELD = 2**256 - 2**224 + 2**192 + 2**96 - 1
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
A = FIELD - 3


class Point(NamedTuple):
    """A point of the curve that is not the one at infinity."""

    x: int
    y: int


GENERATOR = Point(
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def multiply(scalar: int, point: Point) -> Point:
    """``scalar`` times ``point``, for ``0 < scalar < ORDER``."""
    result: Point | None = None
    for bit in bin(scalar)[2:]:
        if result is not None:
            result = _double(result)
        if bit == "1":
            result = point if result is None else _add(result, point)
    assert result is not None, "the scalar is not zero"
    return result


def _double(p: Point) -> Point:
    return _third(p, p, (3 * p.x * p.x + A) * pow(2 * p.y, -1, FIELD))


def _add(p: Point, q: Point) -> Point:
    return _third(p, q, (q.y - p.y) * pow(q.x - p.x, -1, FIELD))


def _third(p: Point, q: Point, slope: int) -> Point:
    x = (slope * slope - p.x - q.x) % FIELD
    return Point(x, (slope * (p.x - x) - p.y) % FIELD)


def sign(key: int, message: bytes) -> tuple[int, int]:
    """An ECDSA signature with SHA-256."""
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    while True:
        nonce = 1 + secrets.randbelow(ORDER - 1)
        r = multiply(nonce, GENERATOR).x % ORDER
        s = pow(nonce, -1, ORDER) * (digest + r * key) % ORDER
        if r and s:
            return r, s


# -- DER -------------------------------------------------------------------------------


def _der(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def _sequence(*contents: bytes) -> bytes:
    return _der(0x30, *contents)


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _bits(content: bytes) -> bytes:
    return _der(0x03, b"\x00", content)


ECDSA_WITH_SHA256 = bytes.fromhex("06082a8648ce3d040302")
EC_PUBLIC_KEY = bytes.fromhex("06072a8648ce3d0201")
PRIME256V1 = bytes.fromhex("06082a8648ce3d030107")
COMMON_NAME = bytes.fromhex("0603550403")
FOREVER = _sequence(_der(0x18, b"20000101000000Z"), _der(0x18, b"99991231235959Z"))
V3 = _der(0xA0, _integer(2))


def _pem(label: str, der: bytes) -> str:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n"


# -- the certificate -------------------------------------------------------------------


class SelfSigned:
    """A fresh key and its certificate; the two methods of `goliath.transport.websocket.Tls`.

    Args:
        name: what the certificate says of its subject. Nobody checks it.
    """

    def __init__(self, name: str = "goliath") -> None:
        self._key = 1 + secrets.randbelow(ORDER - 1)
        point = multiply(self._key, GENERATOR)
        self._public = b"\x04" + point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
        self._certificate = self._sign(name)

    def __repr__(self) -> str:
        return "<SelfSigned>"

    def certificate(self) -> bytes:
        """As DER, as clients will see it."""
        return self._certificate

    def context(self) -> ssl.SSLContext:
        """A server context, TLS 1.3 only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # OpenSSL reads keys from files only. This one is private and gone before it is used.
        with tempfile.TemporaryDirectory(prefix="goliath-") as directory:
            file = Path(directory) / "certificate.pem"
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as pem:
                pem.write(self._private_pem() + _pem("CERTIFICATE", self._certificate))
            context.load_cert_chain(file)
        return context

    def _sign(self, name: str) -> bytes:
        algorithm = _sequence(ECDSA_WITH_SHA256)
        subject = _sequence(_der(0x31, _sequence(COMMON_NAME, _der(0x0C, name.encode()))))
        public = _sequence(_sequence(EC_PUBLIC_KEY, PRIME256V1), _bits(self._public))
        serial = _integer(1 + secrets.randbits(127))
        body = _sequence(V3, serial, algorithm, subject, FOREVER, subject, public)
        r, s = sign(self._key, body)
        return _sequence(body, algorithm, _bits(_sequence(_integer(r), _integer(s))))

    def _private_pem(self) -> str:
        key = _der(0x04, self._key.to_bytes(32, "big"))
        curve, public = _der(0xA0, PRIME256V1), _der(0xA1, _bits(self._public))
        return _pem("EC PRIVATE KEY", _sequence(_integer(1), key, curve, public))
