"""The ways to nodes that have dialed in: through a rendezvous, or from a Commander's own door."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Self

from goliath.clock import Clock
from goliath.config import TransportConfig
from goliath.errors import ConnectionError  # noqa: A004
from goliath.transport.keys import joined_binding
from goliath.transport.lobby import RELAY, Lobby
from goliath.transport.proof import call_on
from goliath.transport.road import Road
from goliath.transport.token import Token
from goliath.transport.websocket import WebSocketLink


class RelayedRoad:
    """To a node that has joined a rendezvous, which passes everything on.

    Args:
        name: what messages call the node.
        node: its own random name.
        host: the way to the rendezvous, by whose token the node is asked, too.
        config: timers and limits.
        clock: tells ``now``.
    """

    def __init__(
        self, name: str, node: str, host: Road, config: TransportConfig, clock: Clock
    ) -> None:
        self.name = name
        self._node = node
        self._host = host
        self._config = config
        self._clock = clock
        self._client_id = secrets.token_hex(8)

    def __repr__(self) -> str:
        return f"<RelayedRoad {self.name} by {self._host!r}>"

    async def __aenter__(self) -> Self:
        await self._host.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._host.__aexit__(*exc_info)

    async def open(self) -> tuple[WebSocketLink, str]:
        """See `Road.open`."""
        host, wish = self._host, (RELAY, self._node)
        try:
            link = await call_on(host, host.token, wish, self._client_id, self._config, self._clock)
        except ConnectionError as exc:
            raise ConnectionError(
                f"{self.name} cannot be reached through {host.name}: {exc}"
            ) from exc
        return _end_to_end(link, self._node)

    def token(self) -> Token:
        """See `Road.token`."""
        return self._host.token()

    def refusal(self, binding: str) -> str:
        """See `Road.refusal`."""
        return (
            f"{self.name}, which has joined {self._host.name}, refused the token; it takes the one "
            "that it has joined with"
        )

    def process(self) -> int | None:
        """See `Road.process`: not even which machine it is on is known."""
        return None


class SummonedRoad:
    """To a node that waits at a Commander's own door.

    Args:
        name: what messages call the node.
        node: its own random name.
        token: finds the one that it has joined with; ``kid`` is the name of it.
        lobby: where it waits.
    """

    def __init__(
        self, name: str, node: str, token: Callable[[], Token], kid: str, lobby: Lobby
    ) -> None:
        self.name = name
        self._node = node
        self._token = token
        self._kid = kid
        self._lobby = lobby

    def __repr__(self) -> str:
        return f"<SummonedRoad {self.name}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """There is nothing to be closed."""

    async def open(self) -> tuple[WebSocketLink, str]:
        """See `Road.open`."""
        try:
            link = await self._lobby.summon(self._kid, self._node)
        except ConnectionError as exc:
            raise ConnectionError(f"{self.name} cannot be reached: {exc}") from exc
        return _end_to_end(link, self._node)

    def token(self) -> Token:
        """See `Road.token`."""
        return self._token()

    def refusal(self, binding: str) -> str:
        """See `Road.refusal`."""
        return f"{self.name} refused the token that it has joined with itself"

    def process(self) -> int | None:
        """See `Road.process`: not even which machine it is on is known."""
        return None


def _end_to_end(link: WebSocketLink, node: str) -> tuple[WebSocketLink, str]:
    # Whatever guards the way to the door says nothing about what is behind it.
    link.needs_checksum = True
    return link, joined_binding(node)
