"""A login that is kept: a token is proved once, and saved with the certificate it goes with."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from goliath.clock import BootClock
from goliath.config import TransportConfig
from goliath.errors import AuthenticationError, ConnectionError, VersionMismatchError  # noqa: A004
from goliath.transport.address import Address
from goliath.transport.channel import Channel
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
    from goliath.transport.dialer import Dialer
    from goliath.transport.road import DirectRoad

    proved: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()
    troubles: list[Exception] = []

    def on_session(channel: Channel, peer: Peer) -> None:
        channel.attach(_Deaf())
        if not proved.done():
            proved.set_result(peer)

    def on_trouble(error: Exception) -> None:
        troubles.append(error)
        if isinstance(error, AuthenticationError | VersionMismatchError) and not proved.done():
            proved.set_exception(error)

    config = TransportConfig.from_environ()
    dialer = Dialer(
        DirectRoad(address, Credentials(token), config, tls=tls),
        config,
        BootClock(),
        random.Random(),
        on_session=on_session,
        on_trouble=on_trouble,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(dialer.run())
        await asyncio.wait({proved}, timeout=timeout_s)
        await dialer.close()
    if proved.done():
        return proved.result()
    raise troubles[-1] if troubles else ConnectionError(f"{address} did not answer in time")


class _Deaf:
    """Nothing that is said in this session matters."""

    def on_message(self, message: Any) -> None:
        """Ignored."""

    def on_closed(self, error: Exception | None) -> None:
        """Expected."""

    def on_writable(self) -> None:
        """Ignored."""
