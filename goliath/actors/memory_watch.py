"""Looking at a node's memory, as often as it can have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from goliath.actors.occupancy import Measured, Occupancy
from goliath.core import node_events as nd
from goliath.core.node import Node
from goliath.core.policy import Level

LOOK_EVERY_S = 0.5

AT_LEAST_EVERY = 20
"""A look takes 1.4 ms, most of them to read files of control groups: twice a second, 0.3 % of a
core. Where nothing runs and nothing was heard since the last one, all but one in so many are left
out. (What others on the machine take is no news to a node that begins nothing.)"""


class MemoryWatch:
    """For as long as there are workers: without any the node has no memory to speak of, and needs
    none.

    Args:
        occupancy: looks.
        mind: whether anything runs, and what it thinks of what was seen.
        users: process ids of the workers, and descriptors of the memory that they share.
        tell: is given what was seen, if it is something else.

    Attributes:
        running: set by whoever has `keep` run, until it ends.
        stirred: to be set when the node was told anything.
    """

    def __init__(
        self,
        occupancy: Occupancy,
        mind: Node,
        users: Callable[[], tuple[list[int], list[int]]],
        tell: Callable[[nd.MemoryMeasured], None],
    ) -> None:
        self._occupancy = occupancy
        self._mind = mind
        self._users = users
        self._tell = tell
        self._seen = Measured(0, 0)
        self.running = False
        self.stirred = True

    async def keep(self) -> None:
        """Look while there are workers, and once more, and for as long as memory is short."""
        watched, level, left_out = True, Level.EASY, 0
        workers, shared = self._users()
        while watched or workers or level is not Level.EASY:
            watched = bool(workers)
            left_out += 1
            idle = level is Level.EASY and not (self.stirred or self._mind.is_busy)
            if not idle or left_out == AT_LEAST_EVERY:
                self.stirred, left_out = False, 0
                self._look(workers, shared)
            await asyncio.sleep(LOOK_EVERY_S)
            level, _, _ = self._mind.memory()
            workers, shared = self._users()
        self.running = False

    def _look(self, workers: list[int], shared: list[int]) -> None:
        seen = self._occupancy.measure(workers, shared)
        if seen.percent != self._seen.percent:
            self._seen = seen
            self._tell(nd.MemoryMeasured(seen.used, seen.limit))
