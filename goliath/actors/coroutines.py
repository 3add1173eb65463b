"""Results that have to be awaited: an event loop that exists only once a call needs one.

asyncio is imported by name at that moment, because an idle worker must stay small.
"""

from __future__ import annotations

import importlib
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

GENERATORS = (GeneratorType, AsyncGeneratorType)


def must_be_awaited(value: Any) -> bool:
    """Whether a call returned a promise instead of a value."""
    return type(value) is CoroutineType or hasattr(type(value), "__await__")


class CoroutineRunner:
    """One event loop for all calls of a worker that need one."""

    __slots__ = ("_runner",)

    def __init__(self) -> None:
        self._runner: Any = None

    def run(self, awaitable: Any) -> Any:
        """Run it to its end. What it left running is cancelled, as `asyncio.run` would."""
        asyncio = importlib.import_module("asyncio")
        if self._runner is None:
            self._runner = asyncio.Runner()
        finished = False
        try:
            if type(awaitable) is not CoroutineType:
                awaitable = _awaited(awaitable)
            value = self._runner.run(awaitable)
            finished = not asyncio.all_tasks(self._runner.get_loop())
        finally:
            # A fresh loop costs 0.1 ms, so a clean one is used again.
            if not finished:
                self.close()
        return value

    def close(self) -> None:
        """Cancel what is left and end the loop with its threads."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
