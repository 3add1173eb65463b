"""Waiting for what comes soon without going to sleep: adaptive spinning, as locks and runtimes do.

A thread that sleeps takes 50 µs to wake where its core sleeps with it (any virtual machine), and
whoever wakes it pays as much. In a row of single calls the next one is a few hundred µs away.
"""

from __future__ import annotations

import os
import select
from time import perf_counter

AWAKE_S = 0.001
"""Who has waited for less the last time stays awake for so long. So what is idle costs this once,
and what is called every few milliseconds sleeps between its calls."""


class Vigil:
    """Over one readable descriptor.

    Args:
        fd: stays its owner's.
    """

    __slots__ = ("_poll", "_soon")

    def __init__(self, fd: int) -> None:
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._soon = False

    def keep(self) -> None:
        """Return when there is something to read, or the end of it."""
        poll = self._poll.poll
        began = perf_counter()
        if self._soon:
            give_up = began + AWAKE_S
            while not poll(0):
                if perf_counter() > give_up:
                    poll()
                    break
                os.sched_yield()  # whoever has work goes first
        else:
            poll()
        self._soon = perf_counter() - began < AWAKE_S
