"""A shared secret, which is never shown by accident."""

from __future__ import annotations

import base64
import binascii
import os
from typing import NoReturn

from goliath.errors import AuthenticationError

PREFIX = "glt1_"
TOKEN_BYTES = 32
DISTINCT_BYTES_MIN = 8  # 32 random bytes have fewer once in 10^33 times: it was not random


class TokenRefusedError(AuthenticationError):
    """The other end has looked at the proof, or at whatever it was, and refused it."""


class Token:
    """A shared secret. Its repr tells nothing, and it refuses to be pickled."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != TOKEN_BYTES or len(set(secret)) < DISTINCT_BYTES_MIN:
            raise AuthenticationError(
                f"a token is {PREFIX!r} and the base64url of {TOKEN_BYTES} random bytes; this "
                "one is shorter, longer or not random, and would be easy to guess"
            )
        self._secret = secret

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read a token's text.

        Raises:
            AuthenticationError: it is malformed or weak. The message does not repeat it.
        """
        body = text.strip().removeprefix(PREFIX)
        if body == text.strip():
            raise AuthenticationError(f"a token begins with {PREFIX!r}; this text does not")
        try:
            secret = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise AuthenticationError(
                f"what follows {PREFIX!r} in the token is not base64url; was it cut?"
            ) from None
        return cls(secret)

    @classmethod
    def make(cls) -> Token:
        """A fresh random token."""
        return cls(os.urandom(TOKEN_BYTES))

    def reveal(self) -> str:
        """The text form, for a file of mode 0600 and nothing else."""
        return PREFIX + base64.urlsafe_b64encode(self._secret).rstrip(b"=").decode()

    @property
    def secret(self) -> bytes:
        """The bytes that keys are derived from."""
        return self._secret

    def __repr__(self) -> str:
        return "<token>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and other._secret == self._secret

    def __hash__(self) -> int:
        return hash(self._secret)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not pickled: it must not travel with a call")
