"""Names of actors: what one actor holds of another, wherever that one lives.

A ref does not say where its actor is. `system.LocalRef` puts a message into a mailbox of
this loop; `remoting.RemoteRef` sends it over a channel; a `process.Process` writes it
to the socket of a child process. Whoever tells cannot tell the difference.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol


class ActorRef(Protocol):
    """Somebody who can be told things."""

    @property
    def name(self) -> str:
        """What messages and logs call the actor."""

    def tell(self, message: Any) -> None:
        """Hand over a message; never blocks. To an actor that has ended: does nothing."""


class AskableRef(ActorRef, Protocol):
    """Somebody who can be asked things, too."""

    def ask(self, message: Any) -> asyncio.Future[Any]:
        """Hand over a question. The future always ends: with the answer, with what the actor
        raised, or with `ActorStoppedError`."""
