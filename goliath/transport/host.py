"""What lies behind a door: who takes in those that have proved a token."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from goliath.transport.handshake import Caller, ServerHandshake
from goliath.transport.websocket import WebSocketLink

Stay = Callable[[], Coroutine[Any, Any, str | None]]
"""Everything that follows a login. When it ends, the link is closed. It returns what the other end
has said that ended it, if it ended so."""


class Host(Protocol):
    """A door (`listener`) knows links and tokens; what callers have come for, their hosts know."""

    async def admit(
        self, link: WebSocketLink, handshake: ServerHandshake, caller: Caller, address: str
    ) -> Stay | None:
        """Answer the caller's proof; None if it is turned away. It has the time of another login.

        Raises:
            OSError: the caller has hung up.
        """

    def drain(self) -> None:
        """Take in nobody new."""

    async def send_away(self, knows: Callable[[str], bool]) -> None:
        """Say goodbye to all whose token, by its name (`Caller.kid`), is not known."""
