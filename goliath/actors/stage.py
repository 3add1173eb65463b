"""The actor in its own process: the one instance, and how its methods are called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import partial
from types import CoroutineType
from typing import Any

from goliath.errors import GoliathError

BEGIN = "__init__"
"""What is called first, when the actor is made."""

LIFE_VARIABLE = "GOLIATH_ACTOR_LIFE"
"""Set in the environment of its process: counts how often it was made."""

instance: Any = None
actor_id: str | None = None
reconstructed = False


class ActorExit(BaseException):
    """Raised by ``exit_actor`` through the method that called it."""


class Methods:
    """What the calls of an actor call: it takes the method's name before its arguments."""

    def __init__(self, cls: type, actor: str, threads: int = 0) -> None:
        self._cls = cls
        self._actor = actor
        self._threads = threads  # that its calls run in, if not in the main one
        self._pool: Any = None
        self.__qualname__ = cls.__qualname__.rpartition("<locals>.")[2]

    def __call__(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the instance, or make it."""
        global instance, actor_id, reconstructed
        if method == BEGIN:
            actor_id, reconstructed = self._actor, os.environ.get(LIFE_VARIABLE, "1") != "1"
            instance = self._cls(*args, **kwargs)
            return None
        if instance is None:
            raise GoliathError(f"{self.__qualname__}.{method} was called, and there is no instance")
        bound = getattr(instance, method)
        if self._threads:
            return self._in_a_thread(partial(bound, *args, **kwargs))
        try:
            value = bound(*args, **kwargs)
        except ActorExit:
            return None
        return _until_exit(value) if type(value) is CoroutineType else value

    async def _in_a_thread(self, call: Callable[[], Any]) -> Any:
        from concurrent.futures import ThreadPoolExecutor
        from contextvars import copy_context

        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "goliath-actor")
        loop = importlib.import_module("asyncio").get_running_loop()  # see `coroutines`
        try:
            return await loop.run_in_executor(self._pool, copy_context().run, call)
        except ActorExit:
            return None


async def _until_exit(awaitable: Any) -> Any:
    try:
        return await awaitable
    except ActorExit:
        return None
