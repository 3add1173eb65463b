"""Looks after the memory that a region keeps warm, and gives it back when it has been idle."""

from __future__ import annotations

import asyncio

from goliath.transport.arena import WARM_S, Region


class Cooling:
    """Of one region. It lives in the loop's thread, where it is made; while there is nothing to
    give back, no timer runs.

    Args:
        region: which.
    """

    def __init__(self, region: Region) -> None:
        self._region = region
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Something was given back to the region."""
        if self._timer is None and self._region.is_warm:
            self._timer = self._loop.call_later(WARM_S, self._look)

    def _look(self) -> None:
        self._timer = None
        self._region.cool()
        self.begin()

    def end(self) -> None:
        """The region is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
