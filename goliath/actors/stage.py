"""The actor in its own process: the one instance, and how its methods are called."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from types import CoroutineType
from typing import Any

from goliath.actors import inside
from goliath.errors import GoliathError

BEGIN = "__init__"
"""What is called first, when the actor is made."""

STREAMED = "*"
"""Before the name of a method: its items are wanted one by one."""

LIFE_VARIABLE = "GOLIATH_ACTOR_LIFE"
"""Set in the environment of its process: counts how often it was made."""

instance: Any = None
actor_id: str | None = None
reconstructed = False


def is_being_made() -> bool:
    """Whether the ``__init__`` of the actor runs: nothing else does, in that process."""
    return actor_id is not None and instance is None


class ActorExit(BaseException):
    """Raised by ``exit_actor`` through the method that called it."""


class Methods:
    """What the calls of an actor call: it takes the method's name before its arguments.

    Args:
        cls: of the instance.
        actor: its id.
        threads: that its calls run in, if not in the main one.
        awaited: the methods that run in the loop all the same.
    """

    def __init__(
        self, cls: type, actor: str, threads: int = 0, awaited: Collection[str] = ()
    ) -> None:
        self._cls = cls
        self._actor = actor
        self._threads = threads
        self._awaited = awaited
        self._pool: Any = None
        self.__qualname__ = cls.__qualname__.rpartition("<locals>.")[2]

    def __call__(self, cue: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the instance, or make it."""
        global instance, actor_id, reconstructed
        if cue == BEGIN:
            actor_id, reconstructed = self._actor, os.environ.get(LIFE_VARIABLE, "1") != "1"
            instance = self._cls(*args, **kwargs)
            return None
        if instance is None:
            raise GoliathError(f"{self.__qualname__}.{cue} was called, and there is no instance")
        if cue.startswith(STREAMED):
            return self._stream(cue[len(STREAMED) :], args, kwargs)
        bound = getattr(instance, cue)
        if self._threads and cue not in self._awaited:
            return _until_exit(self._in_a_thread(partial(bound, *args, **kwargs)))
        try:
            value = bound(*args, **kwargs)
        except ActorExit:
            return None
        return _until_exit(value) if type(value) is CoroutineType else value

    def _stream(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Made of refs, and those of much else: an actor that streams nothing stays small.
        streamed = importlib.import_module("goliath.actors.streamed")
        items = streamed.Streamed(getattr(instance, method))
        if self._threads and method not in self._awaited:
            return items.from_threads(self._in_a_thread, args, kwargs)
        return items(*args, **kwargs)

    async def _in_a_thread(self, call: Callable[[], Any]) -> Any:
        """Nobody can interrupt a thread. So a call that is cancelled lasts as long as its thread,
        and no more of them are busy than may be."""
        from concurrent.futures import ThreadPoolExecutor
        from contextvars import copy_context

        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                self._threads,
                "goliath-actor",
                lambda: inside.threads_of_calls.add(threading.get_ident()),
            )
        asyncio = importlib.import_module("asyncio")  # see `coroutines`
        loop = asyncio.get_running_loop()
        thread = loop.run_in_executor(self._pool, copy_context().run, call)
        while not thread.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((thread,))
        running = inside.host.running_call() if inside.host is not None else None
        if running is not None and running.cancelled:
            thread.exception()  # which nobody wants to hear of
            raise asyncio.CancelledError
        return thread.result()


async def _until_exit(awaitable: Any) -> Any:
    try:
        return await awaitable
    except ActorExit:
        return None
