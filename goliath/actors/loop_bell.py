"""Waking a coroutine that sleeps, from any thread."""

from __future__ import annotations

import asyncio


class LoopBell:
    """For a coroutine of a running loop, whichever it is."""

    __slots__ = ("_event", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def ring(self) -> None:
        """See `Bell.ring`."""
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            return  # the loop was closed under the sleeper: there is nobody to wake

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Sleep until it rings; False if ``timeout_s`` seconds passed before."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
