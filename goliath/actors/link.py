"""The Commander's end of the way to one Lieutenant: an actor that keeps a dialer running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from goliath.actors.actor import Actor


class Dialing(Protocol):
    """What keeps a session with one Lieutenant (`goliath.transport.dialer.Dialer`)."""

    async def run(self) -> None:
        """Dial, log in, pump, and again, until closed."""

    async def close(self) -> None:
        """Say goodbye and stop `run`."""


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
        self.context.run(dialer.run(), "dial")
