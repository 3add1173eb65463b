"""A login that is kept: a token is proved once, and saved with the certificate it goes with."""

from __future__ import annotations

import asyncio
from typing import Any

from goliath.config import TransportConfig
from goliath.transport.address import Address
from goliath.transport.credentials import Credentials
from goliath.transport.handshake import Peer
from goliath.transport.logins import Login, SavedLogins
from goliath.transport.token import Token


def log_in(address: Address, token: Token, *, tls: str = "auto", timeout_s: float = 5.0) -> Login:
    """Prove a token to a Lieutenant and, if both have proved it, save it with the certificate.

    Args:
        address: of the Lieutenant.
        token: the secret to prove.
        tls: ``"auto"`` or ``"ca"``, as for a Commander. With ``"ca"`` no certificate is saved: the
            authority vouches for the next one, too.
        timeout_s: how long a Lieutenant that does not answer is tried.

    Raises:
        AuthenticationError: the token is refused, or the certificate is another one than at an
            earlier login.
        ConnectionError: there is no Lieutenant.
        VersionMismatchError: it has another Python.
        OSError: the login cannot be saved.
    """
    peer = asyncio.run(_prove(address, token, tls, timeout_s))
    login = Login(token, peer.certificate)
    SavedLogins().save(address, login)
    return login


async def _prove(address: Address, token: Token, tls: str, timeout_s: float) -> Peer:
    from goliath.transport.visit import visiting

    config = TransportConfig.from_environ()
    visit = visiting(address, Credentials(token), _Deaf(), config, tls=tls, insist_s=timeout_s)
    async with visit as (_, peer):
        return peer


class _Deaf:
    """Nothing that is said in this session matters."""

    def on_message(self, message: Any) -> None:
        """Ignored."""

    def on_closed(self, error: Exception | None) -> None:
        """Expected."""

    def on_writable(self) -> None:
        """Ignored."""
