"""Actors that live elsewhere: a channel looked at as a ref, its messages as told to an actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from goliath.actors.ref import ActorRef
from goliath.transport.channel import Channel
from goliath.transport.message import Message


class RemoteRef:
    """The actor at the other end of a channel."""

    def __init__(self, name: str, channel: Channel) -> None:
        self.name = name
        self.channel = channel
        self.tell = channel.send  # see `ActorRef.tell`

    def __repr__(self) -> str:
        return f"<RemoteRef {self.name}>"


class Inbound:
    """A channel's receiver that tells an actor what arrives, wrapped so that it knows from whom."""

    def __init__(
        self,
        ref: ActorRef,
        heard: Callable[[Message], Any],
        closed: Callable[[Exception | None], Any],
        writable: Callable[[], Any] | None = None,
    ) -> None:
        """
        Args:
            ref: the actor to be told.
            heard: makes what it is told of a message.
            closed: makes what it is told when the channel ends.
            writable: makes what it is told when the channel has room again.
        """
        self._ref = ref
        self._heard = heard
        self._closed = closed
        self._writable = writable

    def on_message(self, message: Message) -> None:
        """See `Receiver.on_message`."""
        self._ref.tell(self._heard(message))

    def on_closed(self, error: Exception | None) -> None:
        """See `Receiver.on_closed`."""
        self._ref.tell(self._closed(error))

    def on_writable(self) -> None:
        """See `Receiver.on_writable`."""
        if self._writable is not None:
            self._ref.tell(self._writable())
