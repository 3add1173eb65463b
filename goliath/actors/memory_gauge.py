"""Whether a worker that was killed may have been killed by the kernel, for want of memory.

The kernel counts such kills, but does not say whom they have struck: a worker, or something that
a worker has started. So a kill explains the death of a worker that is seen right after it, and
is forgotten if none is. For that, the counter is looked at now and then, too, while there are
workers: nobody could tell later when it rose.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from goliath.machine import memory_groups, memory_kills, total_memory

LOOK_EVERY_S = 1.0
EXPLAINS_S = 5.0
"""A kill is no explanation of what happens later. But a process is seen dead only when its memory
has been freed, and that takes a second for every few GiB."""


class MemoryGauge:
    """See `process.MemoryGauge`: the counters of the kernel, and the limits it goes by.

    Args:
        groups: the control groups that are asked; default: those of this process.
        now: seconds, as of a clock.
    """

    def __init__(
        self, groups: Iterable[Path] | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._groups = memory_groups() if groups is None else list(groups)
        self._now = now
        self._counted = memory_kills(self._groups)
        self._unexplained: deque[float] = deque()  # kills, by the time at which they were seen

    def look(self) -> None:
        """See what was killed since the last look."""
        now, before = self._now(), self._counted
        self._counted = memory_kills(self._groups)
        self._unexplained.extend(now for _ in range(before, self._counted))
        while self._unexplained and now - self._unexplained[0] > EXPLAINS_S:
            self._unexplained.popleft()

    def explains_a_kill(self) -> bool:
        """See `process.MemoryGauge.explains_a_kill`."""
        self.look()
        if not self._unexplained:
            return False
        self._unexplained.popleft()
        return True

    def limit_bytes(self) -> int:
        """See `process.MemoryGauge.limit_bytes`."""
        return total_memory(self._groups)
