"""One session with a Lieutenant, for as long as a question takes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from goliath.clock import BootClock
from goliath.config import TransportConfig
from goliath.errors import AuthenticationError, ConnectionError, VersionMismatchError  # noqa: A004
from goliath.transport.address import Address
from goliath.transport.channel import Channel, Receiver
from goliath.transport.credentials import Credentials
from goliath.transport.dialer import Dialer
from goliath.transport.handshake import Peer
from goliath.transport.road import DirectRoad


@asynccontextmanager
async def visiting(
    address: Address,
    credentials: Credentials,
    receiver: Receiver,
    config: TransportConfig,
    *,
    tls: str = "auto",
    insist_s: float = 0.0,
    on_reached: Callable[[], None] = lambda: None,
) -> AsyncIterator[tuple[Channel, Peer]]:
    """Log in, and leave at the end.

    Args:
        address: of the Lieutenant.
        credentials: where the token is found.
        receiver: is told what the Lieutenant says.
        config: timers and limits.
        tls: ``"auto"`` or ``"ca"``.
        insist_s: one that is not there is tried again for so long; by default not at all.
        on_reached: called when there is a websocket, before the token is proved.

    Raises:
        AuthenticationError: the token or the certificate is refused.
        ConnectionError: there is no Lieutenant.
        VersionMismatchError: it has another Python or another protocol.
    """
    proved: asyncio.Future[tuple[Channel, Peer]] = asyncio.get_running_loop().create_future()
    troubles: list[Exception] = []

    def on_session(channel: Channel, peer: Peer) -> None:
        channel.attach(receiver)
        if not proved.done():
            proved.set_result((channel, peer))

    def on_trouble(error: Exception) -> None:
        troubles.append(error)
        hopeless = isinstance(error, AuthenticationError | VersionMismatchError)
        if (hopeless or not insist_s) and not proved.done():
            proved.set_exception(error)

    dialer = Dialer(
        DirectRoad(address, credentials, config, tls=tls),
        config,
        BootClock(),
        random.Random(),
        on_session=on_session,
        on_trouble=on_trouble,
        on_reached=on_reached,
    )
    # Owned by this visit, which ends after it.
    work = asyncio.get_running_loop().create_task(dialer.run())
    try:
        patience_s = insist_s or config.connect_timeout_s + config.handshake_max_s + 1.0
        await asyncio.wait({proved}, timeout=patience_s)
        if not proved.done():
            raise troubles[-1] if troubles else ConnectionError(f"{address} did not answer in time")
        yield proved.result()
    finally:
        await dialer.close()
        await work
        await asyncio.sleep(0)  # closed transports tell so a turn later, and the loop may end now
