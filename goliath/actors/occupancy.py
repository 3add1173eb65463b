"""How much of the memory that it could have a node has.

What others on the machine have is not the node's doing, and to begin nothing would not give it
back. But it is not to be had either. So the limit is what the node may have, or what it has and
what is free beside that, if that is less: a node of whose machine nine tenths are taken by others
works on in the tenth that is left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from goliath.machine import free_memory, memory_groups, private_bytes
from goliath.record import record


@record
class Measured:
    """How much is used, and of how much, in bytes."""

    used: int
    limit: int

    @property
    def percent(self) -> int:
        """The same, roughly."""
        return round(100 * self.used / max(self.limit, 1))


class Occupancy:
    """See the module's description.

    Args:
        limit: bytes that the node may have.
        enclosed: what control groups say that the workers have, with all that they have started;
            0 if there are none.
        serves: whether this process is the node's, too, and not its user's.
    """

    def __init__(
        self, limit: int, enclosed: Callable[[], int] = lambda: 0, *, serves: bool = False
    ) -> None:
        self._limit = limit
        self._enclosed = enclosed
        self._own = [os.getpid()] if serves else []
        self._around = memory_groups()

    def measure(self, workers: Iterable[int], shared: Iterable[int]) -> Measured:
        """Look.

        Args:
            workers: process ids.
            shared: descriptors of the memory that they share.
        """
        counted = sum(map(private_bytes, [*self._own, *workers])) + sum(map(_set_aside, shared))
        used = max(counted, self._enclosed())
        return Measured(used, min(self._limit, used + free_memory(self._around)))


def _set_aside(fd: int) -> int:
    with suppress(OSError):
        return os.fstat(fd).st_blocks * 512
    return 0
