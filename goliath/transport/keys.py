"""Keys derived from a token, what is sealed with them, and what ties a proof to a connection.

``lp`` puts a 4-byte big-endian length before each argument, so that no two lists of
arguments give the same bytes.

A binding is text that both ends know of their connection and a relay cannot make the same:
``tls-server-end-point:<SHA-256 of the certificate>``; ``loopback:<port>`` or ``plain:<port>``
without TLS; ``ca:<hostname>`` where a proxy ends the TLS and the client has checked the
certificate; ``joined:<id>`` between a Commander and a node that has dialed a door (`lobby`), where
each of the two has proved itself to the door by another of these before.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from goliath.transport.token import Token

CONTEXT = b"goliath-auth-v1"
NONCE_BYTES = 32
MAC_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What is derived from one token; ``kid`` names it without telling it."""

    kid: str
    client: bytes
    server: bytes

    @classmethod
    def of(cls, token: Token) -> Keys:
        """Derive them."""
        return cls(
            _hkdf(token.secret, b"goliath kid", 8).hex(),
            _hkdf(token.secret, b"goliath client mac", MAC_BYTES),
            _hkdf(token.secret, b"goliath server mac", MAC_BYTES),
        )


class Keyring:
    """The tokens a Lieutenant accepts, and a decoy for the ones it does not know."""

    def __init__(self, tokens: Iterable[Token], decoy: Token) -> None:
        self._keys = {keys.kid: keys for keys in map(Keys.of, tokens)}
        self._decoy = Keys.of(decoy)

    def find(self, kid: str) -> tuple[Keys, bool]:
        """The keys to check a proof with, and whether passing that check can count."""
        keys = self._keys.get(kid)
        return (self._decoy, False) if keys is None else (keys, True)


def _hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with an empty salt, for at most one block of output."""
    extracted = hmac.digest(bytes(MAC_BYTES), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:length]


def _lp(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def transcript(hello: bytes, challenge: bytes, binding: str) -> bytes:
    """What both sides have said until the first proof, and where."""
    return hashlib.sha256(_lp(CONTEXT, hello, challenge, binding.encode())).digest()


def seal(key: bytes, role: bytes, th: bytes, body: Mapping[str, Any]) -> bytes:
    """A JSON body with its MAC before it."""
    text = orjson.dumps(body)
    return hmac.digest(key, _lp(role, th, text), "sha256") + text


def sealed_by(key: bytes, role: bytes, th: bytes, message: bytes) -> bool:
    """Whether the message was made by someone who has the key, in this role, on this connection."""
    mac, text = message[:MAC_BYTES], message[MAC_BYTES:]
    return hmac.compare_digest(mac, hmac.digest(key, _lp(role, th, text), "sha256"))


# -- bindings --------------------------------------------------------------------------

END_POINT = "tls-server-end-point:"


def guards(binding: str) -> bool:
    """Whether TLS guards all the way: a proxy that ends it (``ca:``) goes on in plaintext."""
    return binding.startswith(END_POINT)


def fingerprint_of(binding: str) -> str:
    """What people call the certificate of a binding; empty if it has none."""
    return "sha256:" + binding.removeprefix(END_POINT) if guards(binding) else ""


def tls_binding(certificate: bytes) -> str:
    """The binding of a TLS connection to the server with this certificate (DER)."""
    return END_POINT + hashlib.sha256(certificate).hexdigest()


def ca_binding(hostname: str) -> str:
    """The binding of a TLS connection whose certificate a CA vouched for."""
    return f"ca:{hostname.lower()}"


def plain_binding(port: int, *, loopback: bool) -> str:
    """The binding of a connection without TLS: at least the port must be the one dialled."""
    return f"{'loopback' if loopback else 'plain'}:{port}"


def joined_binding(node: str) -> str:
    """The binding of a link to a node that has joined, by its random name."""
    return f"joined:{node}"
