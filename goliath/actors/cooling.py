"""Looks after memory that is kept warm, and has it given back when it has been idle."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from goliath.transport.arena import WARM_S
from goliath.transport.stock import stock


class Warm(Protocol):
    """What keeps memory that nobody uses: a region of an arena, or what is remembered of calls."""

    @property
    def is_warm(self) -> bool:
        """Whether there is such memory now."""

    def cool(self) -> None:
        """To be called every `WARM_S` seconds while it is warm: if nobody takes anything any more,
        it gives back what it keeps."""


class Cooling:
    """Of one of them. It lives in the loop's thread, where it is made; while there is nothing to
    give back, no timer runs.

    Args:
        warm: which.
    """

    def __init__(self, warm: Warm) -> None:
        self._warm = warm
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Something may be idle from now on."""
        if self._timer is None and self._warm.is_warm:
            self._timer = self._loop.call_later(WARM_S, self._look)

    def _look(self) -> None:
        self._timer = None
        self._warm.cool()
        self.begin()

    def end(self) -> None:
        """Nobody uses it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class StockCooling:
    """Has the memory of big buffers kept in this process, as long as it is not ended."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._cooling = Cooling(stock)
        stock.attend(self._begin_soon)

    def _begin_soon(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits for anything big
            self._loop.call_soon_threadsafe(self._cooling.begin)

    def end(self) -> None:
        """Nothing is kept for this loop any more."""
        stock.leave(self._begin_soon)
        self._cooling.end()
