"""The seam between actors and whatever carries their messages.

A channel is reliable and ordered within each lane, and it ends exactly once. Three are
shipped, and one contract test suite runs against them all: `memory` (one process),
`pipe` (Lieutenant and worker process) and `connection` (sessions over websockets).
"""

from __future__ import annotations

from typing import Protocol

from goliath.transport.codec import Lender
from goliath.transport.message import Message
from goliath.transport.payload import Ground


class Receiver(Protocol):
    """What the owner of a channel end offers to it: called in the loop, and never inside one of
    its own calls to the channel (but maybe inside the other end's)."""

    def on_message(self, message: Message) -> None:
        """The next message of the other end."""

    def on_closed(self, error: Exception | None) -> None:
        """The channel has ended; nothing follows. ``None``: this end or the other closed it."""

    def on_writable(self) -> None:
        """`Channel.congested` has become false again."""


class Channel(Protocol):
    """One end of a two-way stream of messages."""

    def attach(self, receiver: Receiver) -> None:
        """Name the receiver, once. What arrives before waits for it."""

    def send(self, message: Message) -> None:
        """Queue a message; never blocks. On an ended channel it does nothing:
        its owner has been, or is about to be, told by `Receiver.on_closed`."""

    @property
    def congested(self) -> bool:
        """Whether too many bytes wait; producers should pause until `on_writable`."""

    def share(self, lender: Lender, *, lends: bool) -> None:
        """Look there for what the other end lends; with ``lends``, lend instead of sending, too."""

    def gather_in(self, ground: Ground) -> None:
        """Put what is big and comes in parts there."""

    def close(self) -> None:
        """End the channel after what was sent has left, as far as the other end still listens."""
