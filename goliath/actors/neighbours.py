"""A Commander and a Lieutenant on one machine: what is big goes through the arena of their session.

The Commander proposes it, the Lieutenant gives it, and the Commander says when it has mapped it.
Until then, and wherever any of that fails, all goes through the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from goliath.actors.cooling import Cooling
from goliath.actors.scrutiny import are_numbers
from goliath.actors.tenancy import THEIRS, Holding
from goliath.machine import boot_id
from goliath.transport import messages as msg, worker_messages as worker_msg
from goliath.transport.arena import (
    WORTH_BYTES,
    Region,
    close_region,
    moved,
    open_region,
    settled,
)
from goliath.transport.backing import ForeignArenaError
from goliath.transport.channel import Channel
from goliath.transport.exchange import Exchange
from goliath.transport.handover import Letterbox, put_in
from goliath.transport.keepsakes import recollection
from goliath.transport.malloc import keep_freed_memory
from goliath.transport.payload import Payload, Piece

Soon = Callable[[Callable[[], None]], None]
"""Has something done in the loop's thread, asked from any thread and from finalizers."""


def soon_in(loop: asyncio.AbstractEventLoop) -> Soon:
    """`Soon` for a loop."""

    def soon(function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # it is closed, and so is every session
            loop.call_soon_threadsafe(function)

    return soon


class _Neighbour:
    """What both ends have in common.

    Args:
        channel: the session's.
        soon: see `Soon`.
    """

    def __init__(self, channel: Channel, soon: Soon) -> None:
        self._channel = channel
        self._soon = soon
        self._exchange: Exchange | None = None
        self._kicked = False

    def _on_surplus(self) -> None:
        if not self._kicked:
            self._kicked = True
            self._soon(self._let_go)

    def _let_go(self) -> None:
        self._kicked = False
        if self._exchange is not None:
            self._channel.send(worker_msg.LetGo(self._exchange.surplus()))

    def taken_back(self, numbers: list[int]) -> None:
        """The other end does not look at these any more."""
        if self._exchange is not None and are_numbers(numbers):
            self._exchange.taken_back(numbers)


class Host(_Neighbour):
    """The Lieutenant's end.

    Args:
        holding: what it has to give, if it has.
        channel: the session's.
        soon: see `Soon`.
    """

    def __init__(self, holding: Holding | None, channel: Channel, soon: Soon) -> None:
        super().__init__(channel, soon)
        self._holding = holding

    def hear(self, said: msg.ProposeArena | msg.ArenaMapped | worker_msg.LetGo) -> None:
        """What the Commander says about it."""
        match said:
            case worker_msg.LetGo(numbers):
                self.taken_back(numbers)
            case msg.ProposeArena():
                self._channel.send(msg.ArenaGiven(self._given(said)))
            case msg.ArenaMapped():
                if self._exchange is not None:
                    self._channel.share(self._exchange, lends=True)

    def _given(self, said: msg.ProposeArena) -> list[int]:
        """Give the arena to a Commander on this machine, once; the limits of its regions."""
        holding, here = self._holding, boot_id()
        if holding is None or not here or said.boot_id != here or self._exchange is not None:
            return []
        if not holding.arena.backing.is_sealed:
            return []  # he would have to be trusted not to make it shorter
        if not put_in(holding.arena, said.name, said.secret):
            return []
        self._exchange = Exchange(holding.arena, self._on_surplus)
        self._channel.share(self._exchange, lends=False)
        return list(holding.arena.limits)

    def close(self) -> None:
        """The session is over, and nothing in its arena is written any more."""
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None


class Guest(_Neighbour):
    """The Commander's end. It proposes as soon as it is made.

    Args:
        channel: the session's.
        soon: see `Soon`.
    """

    def __init__(self, channel: Channel, soon: Soon) -> None:
        super().__init__(channel, soon)
        self._region: Region | None = None
        self._cooling: Cooling | None = None
        self._letterbox: Letterbox | None = None
        self._is_far = True  # as long as what is big has to be sent
        recollection.link_made()
        here = boot_id()
        if here:
            with suppress(OSError):  # no such sockets, or too many: it goes without
                self._letterbox = Letterbox()
        if self._letterbox is not None:
            box = self._letterbox
            channel.send(msg.ProposeArena(here, box.name, box.secret))

    def hear(self, said: msg.ArenaGiven | worker_msg.LetGo) -> None:
        """What the Lieutenant says about it."""
        if isinstance(said, worker_msg.LetGo):
            self.taken_back(said.numbers)
            if self._cooling is not None:
                self._cooling.begin()
        else:
            self._on_given(said.limits)

    def _on_given(self, limits: list[int]) -> None:
        """It has put its arena into the letterbox; without limits: it has not."""
        box, self._letterbox = self._letterbox, None
        if box is None:
            return
        try:
            if limits and are_numbers(limits):
                arena = box.take_out(limits)
                self._region = region = arena.region(THEIRS)
                self._exchange = Exchange(arena, self._on_surplus)
                self._channel.share(self._exchange, lends=True)
                self._channel.send(msg.ArenaMapped())
                open_region(region)
                self._cooling = Cooling(region)
                self._come_near()
        except (ForeignArenaError, OSError, IndexError):
            return  # all goes through the session, as between machines
        finally:
            box.close()

    def settled(self, payload: Payload) -> Payload:
        """The payload, where the Lieutenant can look at what of it is big."""
        if self._region is not None:
            return settled(payload, self._region)
        self._expect_more(payload)
        return payload

    def moved(self, payload: Piece) -> Piece:
        """The same of what is in one piece."""
        if self._region is not None:
            return moved(payload, self._region)
        self._expect_more(payload)
        return payload

    @staticmethod
    def _expect_more(payload: Payload) -> None:
        if len(payload) > WORTH_BYTES:
            keep_freed_memory()  # only here: it is the user's process

    def _come_near(self) -> None:
        """It is not to be sent what is big (any more)."""
        if self._is_far:
            self._is_far = False
            recollection.link_ended()

    def close(self) -> None:
        """The session is over. What came out of the arena stays as long as it is looked at."""
        self._come_near()
        if self._letterbox is not None:
            self._letterbox.close()
            self._letterbox = None
        if self._region is not None:
            close_region(self._region)
            if self._cooling is not None:
                self._cooling.end()
            self._region.arena.close()
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None
