"""What ``goliath login`` has saved: the token of each Lieutenant, and its certificate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from goliath.errors import AuthenticationError
from goliath.record import frozen
from goliath.transport.address import Address
from goliath.transport.private_files import (
    make_private_directory,
    read_private,
    state_directory,
    write_private,
)
from goliath.transport.token import Token


@frozen
class Login:
    """One Lieutenant. ``certificate`` is a fingerprint; empty where there is none to be pinned."""

    token: Token
    certificate: str = ""


class SavedLogins:
    """``logins.json`` in the state directory, mode 0600."""

    def __init__(self, *, environ: Mapping[str, str] | None = None) -> None:
        self.path = state_directory(environ) / "logins.json"

    def find(self, address: Address) -> Login | None:
        """The one for an address.

        Raises:
            AuthenticationError: the file is open to others, or spoilt.
        """
        saved = self._read().get(_key(address)) if self.path.exists() else None
        if saved is None:
            return None
        return Login(Token.parse(str(saved.get("token"))), str(saved.get("certificate") or ""))

    def save(self, address: Address, login: Login) -> None:
        """Keep it, over an earlier one.

        Raises:
            AuthenticationError: as for `find`.
            OSError: it cannot be written.
        """
        logins = self._read() if self.path.exists() else {}
        saved = {"token": login.token.reveal(), "certificate": login.certificate}
        self._write(logins | {_key(address): saved})

    def remove(self, address: Address) -> bool:
        """Forget it; False if there was none.

        Raises:
            AuthenticationError: as for `find`.
            OSError: it cannot be written.
        """
        logins = self._read() if self.path.exists() else {}
        if logins.pop(_key(address), None) is None:
            return False
        self._write(logins)
        return True

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            logins = json.loads(read_private(self.path, "file of saved logins"))
        except ValueError:
            logins = None
        if not isinstance(logins, dict) or not all(isinstance(x, dict) for x in logins.values()):
            raise AuthenticationError(
                f"the file of saved logins {self.path} is spoilt; delete it, and log in again"
            )
        return logins

    def _write(self, logins: Mapping[str, Mapping[str, Any]]) -> None:
        make_private_directory(self.path.parent)
        write_private(self.path, json.dumps(logins, indent=1) + "\n")


def _key(address: Address) -> str:
    """Two paths of one web server may be two Lieutenants."""
    return f"{str(address).lower()}{address.prefix}"
