"""The arena of a session on its node, and the part that each of its workers has in it.

Region 0 is the Lieutenant's, region 1 the Commander's if it is on this machine, and each further
one a worker's for its results. A region is let to another worker when the one before is dead and
nobody looks at its results any more.

An arena that is not sealed can be made shorter by whoever may write it, and the others would die of
that. So of such a one a worker has no part: it looks at its arguments there, and sends its results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from goliath.actors.cooling import Cooling
from goliath.actors.scrutiny import are_numbers
from goliath.transport import malloc
from goliath.transport.arena import (
    WORTH_BYTES,
    Arena,
    close_region,
    is_in,
    moved,
    open_region,
    settled,
)
from goliath.transport.exchange import Exchange
from goliath.transport.payload import Payload, Piece
from goliath.transport.worker_messages import DefineFunction

OURS, THEIRS, FIRST = 0, 1, 2
"""Whose the regions are: the Lieutenant's, the Commander's, and those of workers from here on."""

SPARE_REGIONS = 2  # for workers beside one for each slot: actors, and those that follow the dead


class Holding:
    """The arena of one session. It lives in the loop's thread.

    Args:
        arena: it.
    """

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self._region = arena.region(OURS)
        self.cooling = Cooling(self._region)
        self.closed = False
        self._vacant = list(range(FIRST, len(arena.limits))) if arena.backing.is_sealed else []

    @classmethod
    def make(cls, limit: int, slots: int) -> Holding | None:
        """A new one, in which arguments may take so many bytes, and the results of all workers
        together as many; None where that cannot be."""
        if limit <= 0:
            return None
        workers = max(slots, 1) + SPARE_REGIONS
        arena = Arena.make([limit, limit, *[limit // workers] * workers])
        return None if arena is None else cls(arena)

    @property
    def limit(self) -> int:
        """What it may take at most, nearly: arguments and results."""
        return 2 * self.arena.limits[OURS]

    def settled(self, payload: Payload) -> Payload:
        """The payload, where the workers can look at what of it is big."""
        return settled(payload, self._region)

    def moved(self, piece: Piece) -> Piece:
        """The same of what is in one piece."""
        return moved(piece, self._region)

    def settled_function(self, function: DefineFunction) -> DefineFunction:
        """The same of a function with its static keywords."""
        function.payload = self.moved(function.payload)
        return function

    def room_for(self, size: int) -> memoryview:
        """See `messages.Ground.room_for`: where the workers can look at it, if that is worth it."""
        room = self._region.take(size, grows=True) if size >= WORTH_BYTES else None
        return malloc.room_for(size) if room is None else room

    def is_ready(self, room: memoryview, end: int) -> bool:
        """See `messages.Ground.is_ready`."""
        return not is_in(self.arena, room) or self._region.grow(room, end)

    def share(self) -> None:
        """Let what is pickled in this process be written here at once."""
        open_region(self._region)

    def let(self) -> Tenancy | None:
        """A part for a worker, or, of an arena that is not sealed, a look at it; None if there is
        none left."""
        if not self.arena.backing.is_sealed:
            return Tenancy(self, OURS)
        return Tenancy(self, self._vacant.pop()) if self._vacant else None

    def vacate(self, region: int) -> None:
        """Nobody looks at that part any more."""
        if region == OURS:
            return
        self.arena.clear(region)  # unless the session is over: then a Commander may look at it
        self._vacant.append(region)

    def close(self) -> None:
        """The session is over. What is looked at stays."""
        self.cooling.end()
        self.closed = True
        close_region(self._region)
        self.arena.close()


class Tenancy:
    """The part of one worker. It lives in the loop's thread.

    Attributes:
        arena: in which it is.
        region: which; `OURS` if it has none.
    """

    def __init__(self, holding: Holding, region: int) -> None:
        self.arena = holding.arena
        self.region = region
        self._holding = holding
        self._exchange: Exchange | None = None
        self._kicked = False
        self._over = False

    def begin(
        self, loop: asyncio.AbstractEventLoop, let_go: Callable[[list[int]], None]
    ) -> Exchange:
        """The worker is being made.

        Args:
            loop: the running one.
            let_go: tells the worker what nobody here looks at any more.
        """
        self._loop = loop
        self._let_go = let_go
        self._exchange = exchange = Exchange(self.arena, self._on_surplus)
        return exchange

    def _on_surplus(self) -> None:
        """From a finalizer, in any thread: it takes no lock."""
        if not self._kicked:
            self._kicked = True
            with suppress(RuntimeError):  # the loop is closed, and the worker gone
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._kicked = False
        if self._exchange is None:
            return
        numbers = self._exchange.surplus()
        if self._holding.closed:
            return  # a Commander may look at it still, and so its worker must not write there again
        if not self._over:
            self._let_go(numbers)
        elif not self._exchange.borrowed:
            self._leave()

    def taken_back(self, numbers: list[int]) -> None:
        """The worker does not look at these any more."""
        if self._exchange is not None and are_numbers(numbers):
            self._exchange.taken_back(numbers)
            self._holding.cooling.begin()

    def end(self) -> None:
        """The worker is dead."""
        self._over = True
        if self._exchange is not None:
            self._exchange.close()
            self._exchange.surplus()
        if self._exchange is None or not self._exchange.borrowed:
            self._leave()

    def _leave(self) -> None:
        self._exchange = None
        self._holding.vacate(self.region)
