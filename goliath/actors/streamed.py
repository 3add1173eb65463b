"""A streaming function in its worker: each item goes off when it is made.

Not too far ahead of whoever takes them: of every half window, the last item asks to be told when it
is wanted, and the next half is not finished before that.

Where calls run beside each other in a loop, they go on between two items: what is waited for is
awaited there, wherever the items are made.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from goliath.actors import inside
from goliath.actors.object_ref import ObjectRef
from goliath.actors.ref_generator import WINDOW, items_in
from goliath.actors.results import pickled_result
from goliath.actors.stage import ActorExit
from goliath.transport import call_messages as call_msg
from goliath.transport.functions import function_name

HALF = WINDOW // 2

_OVER = object()

InThread = Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]
"""Has something done in a thread, and waits for it."""


class Streamed:
    """What a task with ``num_returns="streaming"`` calls: it sends the items of ``func``, and
    returns how many they were.

    Args:
        func: a generator function, an asynchronous one, or what else returns something iterable.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func  # as in functools.partial: messages name what is within
        self.__module__ = getattr(func, "__module__", None) or "__main__"

    def __reduce__(self) -> Any:
        return Streamed, (self.func,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make the items; a coroutine that does, if they have to be awaited."""
        items = self._items(*args, **kwargs)
        if hasattr(items, "__anext__"):
            return _send_awaited(items)
        if inside.host is not None and inside.host.in_loop():
            return _send_awaited(_in_turn(items))
        return _send(items)

    def from_threads(
        self, in_thread: InThread, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, int]:
        """The same, with each item made in a thread: between two of them, none is held."""
        return _send_awaited(_in_threads(partial(self._items, *args, **kwargs), in_thread))

    def _items(self, *args: Any, **kwargs: Any) -> Any:
        return items_in(self.func(*args, **kwargs), function_name(self.func))


def _send(items: Any) -> int:
    outlet = _Outlet()
    try:
        with suppress(ActorExit):
            for item in items:
                wanted = outlet.send(item)
                if wanted is not None:
                    wanted.result()
    finally:
        outlet.close()
        _close(items)
    return outlet.sent


async def _send_awaited(items: Any) -> int:
    outlet = _Outlet()
    sleep = importlib.import_module("asyncio").sleep  # see `coroutines`
    try:
        with suppress(ActorExit):
            async for item in items:
                wanted = outlet.send(item)
                if wanted is not None:
                    await sleep(0)  # neither the items nor who takes them need make it wait
                    await wanted
    finally:
        outlet.close()
        if hasattr(items, "aclose"):
            await items.aclose()
    return outlet.sent


async def _in_turn(items: Any) -> AsyncIterator[Any]:
    """Items that are made in the loop, which other calls have between any two of them."""
    sleep = importlib.import_module("asyncio").sleep
    try:
        for item in items:
            yield item
            await sleep(0)
    finally:
        _close(items)


async def _in_threads(begin: Callable[[], Any], in_thread: InThread) -> AsyncIterator[Any]:
    """Items each of which is made in a thread."""
    items = await in_thread(begin)
    try:
        while (item := await in_thread(partial(next, items, _OVER))) is not _OVER:
            yield item
    finally:
        await in_thread(partial(_close, items))


def _close(items: Any) -> None:
    """Have a generator clean up. That nobody takes its items any more may have been heard just
    before the interrupt comes that says so, too."""
    assert inside.host is not None
    if hasattr(items, "close"):
        with inside.host.undisturbed():
            items.close()


class _Outlet:
    """The items of the running call, on their way out."""

    def __init__(self) -> None:
        from goliath.actors import nested  # which is made of tasks, and they of this

        host = inside.host
        call = host.running_call() if host is not None else None
        assert call is not None, "items are made by a call in a worker"
        self._call = call.task_id
        self._calls = nested.calls()
        self._wanted: ObjectRef[None] | None = None  # what is asked for, and was not waited for
        self.sent = 0

    def send(self, item: Any) -> ObjectRef[None] | None:
        """Send an item; what has to be waited for before the next one is made, if anything.

        Raises:
            RefusedError: it cannot be pickled, or is too big.
        """
        payload, refs = pickled_result(item)
        index, due = self.sent, None
        asks = index % HALF == HALF - 1
        if asks:
            due, self._wanted = self._wanted, self._calls.asked(f"{self._call}.wanted-{index}")
        held = [ref.task_id for ref in refs]
        self._calls.tell(call_msg.ItemMade(0, self._call, index, asks, held, payload))
        self.sent += 1
        return due

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._wanted is not None:
            self._calls.forget(self._wanted.task_id)
