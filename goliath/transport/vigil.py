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

CROWDED_S = 0.0001
"""If giving way takes longer, somebody else had work for this core. It is better to sleep then: who
wakes up goes before those that never slept, and who gives way goes behind them."""

NAPS = 64
"""Waits that are slept through before it is tried again."""


class Vigil:
    """Over one readable descriptor.

    Args:
        fd: stays its owner's.
    """

    __slots__ = ("_naps", "_poll", "_soon")

    def __init__(self, fd: int) -> None:
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._soon = False
        self._naps = 0

    def keep(self) -> None:
        """Return when there is something to read, or the end of it."""
        began = perf_counter()
        if self._naps:
            self._naps -= 1
            self._poll.poll()
        elif not self._soon or not self._stay_awake(began):
            self._poll.poll()
        self._soon = perf_counter() - began < AWAKE_S

    def _stay_awake(self, began: float) -> bool:
        """Whether there was something to read before it made sense to sleep."""
        poll, now, give_up = self._poll.poll, began, began + AWAKE_S
        while not poll(0):
            os.sched_yield()
            before, now = now, perf_counter()
            if now - before > CROWDED_S:
                self._naps = NAPS
                return False
            if now > give_up:
                return False
        return True
