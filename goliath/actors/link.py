"""The Commander's end of the way to one Lieutenant: an actor that keeps a dialer running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from goliath.actors.actor import Actor
from goliath.record import frozen


@frozen
class Place:
    """Where a node is found.

    Attributes:
        address: what it is called: where it listens, or, of one that has joined, name and number.
        node: of one that has joined, its own random name; empty of one that listens.
        via: the address of the Lieutenant that it has joined; empty if it is this Commander.
        realm: the name of the token that it has joined this Commander with.
    """

    address: str
    node: str = ""
    via: str = ""
    realm: str = ""

    @classmethod
    def of(cls, node: str, name: str, *, via: str = "", realm: str = "") -> Place:
        """Of a node that has joined. Several may have the same name."""
        return cls(f"{name}/{node[:8]}", node, via, realm)


class Dialing(Protocol):
    """What keeps a session with one Lieutenant (`goliath.transport.dialer.Dialer`)."""

    async def run(self) -> None:
        """Dial, log in, pump, and again, until closed."""

    async def close(self) -> None:
        """Say goodbye and stop `run`."""


class Door(Protocol):
    """Where nodes join that cannot be dialed (`goliath.own_door`)."""

    @property
    def address(self) -> str:
        """Where it is, or is to be: ``"host:port"``."""

    async def open(
        self, on_listed: Callable[[list[Place]], None], on_revoked: Callable[[str], None]
    ) -> None:
        """Let nodes in, from now on.

        Args:
            on_listed: told all that wait there whenever one has come or gone.
            on_revoked: told the realm of a token that is not accepted any more.

        Raises:
            ConnectionError: it is not possible there.
            AuthenticationError: there is no token.
        """

    async def close(self) -> None:
        """Say goodbye to all of them, and free the port. Idempotent."""


CLOSE = "close"
"""Told to a `LinkActor`: say goodbye, and end."""


class LinkActor(Actor):
    """Runs a dialer; its crash is this actor's, and its supervisor makes another."""

    def __init__(self, make: Callable[[], Dialing], keep: Callable[[Dialing], None]) -> None:
        """
        Args:
            make: a new dialer.
            keep: told of it, so that it can be closed in good order.
        """
        self._make = make
        self._keep = keep

    def started(self) -> None:
        """See `Actor.started`."""
        dialer = self._make()
        self._keep(dialer)
        self._dialer = dialer
        self.context.run(dialer.run(), "dial")

    def receive(self, message: Any) -> Any:
        """See `Actor.receive`."""
        if message == CLOSE:
            self.context.run(self._close(), "close")
            return None
        return super().receive(message)

    async def _close(self) -> None:
        await self._dialer.close()
        self.context.stop()
