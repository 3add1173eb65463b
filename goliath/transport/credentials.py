"""How a Commander finds the right token: what it was told, and what was left or saved for it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goliath.errors import AuthenticationError
from goliath.machine import process_exists
from goliath.record import frozen
from goliath.transport.address import Address
from goliath.transport.logins import SavedLogins
from goliath.transport.private_files import (
    make_private_directory,
    read_private,
    runtime_directory,
    write_private,
)
from goliath.transport.token import Token
from goliath.transport.token_file import (
    DEFAULT,
    NamedToken,
    WatchedTokens,
    default_token_file,
    read_token_file,
)

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


COMMANDER = "commander"
"""The ``role`` in the runtime file of a Commander that listens for nodes."""


def running_here(environ: Mapping[str, str] | None = None) -> list[str]:
    """``"host:port"`` of this user's Lieutenants that run on this machine and have left word."""
    found = []
    for path in sorted(runtime_directory(environ).glob("*.json")):
        if path.stem.isdecimal():
            record = RuntimeFile(int(path.stem), environ=environ).read()
            if record is not None and record.get("role") != COMMANDER:
                found.append(str(Address.parse((str(record.get("host")), int(path.stem)))))
    return found


# -- the Commander's side ------------------------------------------------------------------


@frozen
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
        """The token to prove to this Lieutenant: given, file, environment, runtime file, login.

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

    def accepted_at(
        self, address: Address, public_name: str = ""
    ) -> tuple[NamedToken | None, WatchedTokens | None]:
        """The only token, or the file of all, that a Commander lets nodes in by where it listens;
        neither if nothing was given, on loopback, where no proxy brings others by a public name.

        Raises:
            AuthenticationError: there is none, or what was found is no token.
            OSError: a file cannot be looked at.
        """
        environ = os.environ if self.environ is None else self.environ
        given = self._given(address)
        path = self.token_file or environ.get("GOLIATH_TOKEN_FILE")
        if given is None and path is None:
            given = environ.get("GOLIATH_TOKEN") or None
        if given is not None:
            token = given if isinstance(given, Token) else Token.parse(given)
            return NamedToken(DEFAULT, token), None
        if path is None and default_token_file(environ).exists():
            path = default_token_file(environ)
        if path is not None:
            return None, WatchedTokens(Path(path))
        if public_name or not address.loopback:
            raise AuthenticationError(
                f"{public_name or address.host} can be reached from other machines, and there is "
                "no token: make one with `(umask 077; goliath token new > FILE)`, copy the file to "
                "the nodes, and give token_file= here and --token-file FILE there"
            )
        return None, None

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

    def pin_for(self, address: Address) -> str:
        """The fingerprint of the certificate that ``goliath login`` has seen there; or empty.

        Raises:
            AuthenticationError: what is saved cannot be read.
        """
        saved = SavedLogins(environ=self.environ).find(address)
        return saved.certificate if saved is not None else ""

    def _found(self, address: Address) -> Token:
        record = (
            RuntimeFile(address.port, environ=self.environ).read() if address.loopback else None
        )
        if record is not None:
            return Token.parse(str(record.get("token", "")))
        saved = SavedLogins(environ=self.environ).find(address)
        if saved is not None:
            return saved.token
        if address.loopback:
            raise AuthenticationError(
                f"no token for {address}: no running Lieutenant of this user has left one; "
                "start it as the same user, or give token= or token_file="
            )
        raise AuthenticationError(
            f"no token for {address}: run `goliath login {address}`, or copy the Lieutenant's "
            "token file here and give token_file=, or set GOLIATH_TOKEN_FILE"
        )
