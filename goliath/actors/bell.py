"""Waking one who sleeps, across threads: a bare lock. (`loop_bell` has one for coroutines.)

A bare lock is what makes a round trip cheap: ``threading.Event`` takes 4 times as long, and
``concurrent.futures.Future`` 7 to 21 times as long to make as the slotted ref it would serve.
"""

from __future__ import annotations

import _thread
from typing import Protocol


class Bell(Protocol):
    """Rung by anyone, heard by one; a ring while nobody listens is heard by the next wait."""

    def ring(self) -> None:
        """Wake the sleeper. Any thread may call it, any number of times."""


class ThreadBell:
    """For a thread that may block."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """See `Bell.ring`."""
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:
                return  # somebody else rang between the two lines

    def wait(self, timeout_s: float | None = None) -> bool:
        """Sleep until it rings; False if ``timeout_s`` seconds passed before."""
        if timeout_s is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(timeout_s, 0.0), _thread.TIMEOUT_MAX))
