"""Tokens: how they are made, where they are kept, and how a Commander finds the right one."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from goliath.errors import AuthenticationError
from goliath.machine import process_exists
from goliath.transport.address import Address
from goliath.transport.private_files import (
    make_private_directory,
    read_private,
    runtime_directory,
    write_private,
)

PREFIX = "glt1_"
TOKEN_BYTES = 32
DISTINCT_BYTES_MIN = 8  # 32 random bytes have fewer once in 10^33 times: it was not random


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


def read_token_file(path: str | os.PathLike[str]) -> Token:
    """The token in a file: its text on the first line, or a runtime file's JSON object.

    Raises:
        AuthenticationError: the file is missing, open to others, or has no good token.
    """
    return Token.parse(_token_text(read_private(Path(path)), path))


def _token_text(text: str, path: str | os.PathLike[str]) -> str:
    if not text.lstrip().startswith("{"):
        return text.strip()
    try:
        return str(json.loads(text)["token"])
    except (ValueError, KeyError):
        raise AuthenticationError(f"the token file {path} is JSON without a token") from None


# -- runtime files -----------------------------------------------------------------------


class RuntimeFile:
    """``<port>.json``: the token and whereabouts of a running Lieutenant, for its own user."""

    def __init__(self, port: int, *, environ: Mapping[str, str] | None = None) -> None:
        self.path = runtime_directory(environ) / f"{port}.json"

    def write(self, token: Token, *, scheme: str, host: str, port: int, **more: Any) -> None:
        """Write it atomically with mode 0600, over whatever a dead Lieutenant left.

        Raises:
            OSError: the directory or the file cannot be made.
        """
        make_private_directory(self.path.parent)
        record = {
            "token": token.reveal(),
            "scheme": scheme,
            "host": host,
            "port": port,
            "pid": os.getpid(),
        }
        write_private(self.path, json.dumps(record | more))

    def read(self) -> dict[str, Any] | None:
        """What it says, or None if there is none, it is not private, or its writer is dead."""
        try:
            record = json.loads(read_private(self.path))
        except (AuthenticationError, ValueError):
            return None
        if not isinstance(record, dict):
            return None
        pid = record.get("pid")
        return record if type(pid) is int and process_exists(pid) else None

    def remove(self) -> None:
        """Remove it, unless a later Lieutenant has written its own."""
        record = self.read()
        if record is not None and record.get("pid") == os.getpid():
            self.path.unlink(missing_ok=True)


def running_here(environ: Mapping[str, str] | None = None) -> list[str]:
    """``"host:port"`` of this user's Lieutenants that run on this machine and have left word."""
    found = []
    for path in sorted(runtime_directory(environ).glob("*.json")):
        if path.stem.isdecimal():
            record = RuntimeFile(int(path.stem), environ=environ).read()
            if record is not None:
                found.append(str(Address.parse((str(record.get("host")), int(path.stem)))))
    return found


# -- the Commander's side ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Credentials:
    """Everything a Commander was told about tokens; `token_for` finds the one for an address.

    Args:
        token: one for all, or a mapping of ``"host:port"`` to token.
        token_file: path of a file with the token.
        environ: where ``GOLIATH_TOKEN_FILE`` and ``GOLIATH_TOKEN`` are looked up.
    """

    token: str | Token | Mapping[str, str | Token] | None = None
    token_file: str | os.PathLike[str] | None = None
    environ: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        return "<credentials>"

    def token_for(self, address: Address) -> Token:
        """The token to prove to this Lieutenant: given, file, environment, runtime file.

        Raises:
            AuthenticationError: there is none, or what was found is no token.
        """
        given = self._given(address)
        if given is not None:
            return given if isinstance(given, Token) else Token.parse(given)
        if self.token_file is not None:
            return read_token_file(self.token_file)
        environ = os.environ if self.environ is None else self.environ
        if environ.get("GOLIATH_TOKEN_FILE"):
            return read_token_file(environ["GOLIATH_TOKEN_FILE"])
        if environ.get("GOLIATH_TOKEN"):
            return Token.parse(environ["GOLIATH_TOKEN"])
        return self._found(address)

    def scheme_for(self, address: Address) -> str:
        """``ws`` or ``wss``: as the URL says, else the runtime file, else by the address."""
        if address.scheme is not None:
            return address.scheme
        if not address.loopback:
            return "wss"
        record = RuntimeFile(address.port, environ=self.environ).read()
        return "wss" if record is not None and record.get("scheme") == "wss" else "ws"

    def process_at(self, address: Address) -> int | None:
        """The pid of the Lieutenant there, if it is one on this machine that says so."""
        if not address.loopback:
            return None
        record = RuntimeFile(address.port, environ=self.environ).read()
        return record["pid"] if record is not None else None

    def _given(self, address: Address) -> str | Token | None:
        if isinstance(self.token, Mapping):
            return self.token.get(f"{address.host}:{address.port}", self.token.get(str(address)))
        return self.token

    def _found(self, address: Address) -> Token:
        if address.loopback:
            record = RuntimeFile(address.port, environ=self.environ).read()
            if record is not None:
                return Token.parse(str(record.get("token", "")))
            raise AuthenticationError(
                f"no token for {address}: no running Lieutenant of this user has left one; "
                "start it as the same user, or give token= or token_file="
            )
        raise AuthenticationError(
            f"no token for {address}: copy the Lieutenant's token file here and give "
            "token_file=, or set GOLIATH_TOKEN_FILE"
        )
