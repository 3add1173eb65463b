"""A streaming function in its worker: each item goes off when it is made.

Not too far ahead of whoever takes them: of every half window, the last item asks to be told when it
is wanted, and the next half is not finished before that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from goliath.actors import inside
from goliath.actors.object_ref import ObjectRef
from goliath.actors.ref_generator import WINDOW, items_in
from goliath.actors.results import pickled_result
from goliath.transport import messages as msg
from goliath.transport.serialization import function_name

HALF = WINDOW // 2


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
        items = items_in(self.func(*args, **kwargs), function_name(self.func))
        return _send_awaited(items) if hasattr(items, "__anext__") else _send(items)


def _send(items: Any) -> int:
    outlet = _Outlet()
    try:
        for item in items:
            wanted = outlet.send(item)
            if wanted is not None:
                wanted.result()
    finally:
        outlet.close()
        if hasattr(items, "close"):
            items.close()
    return outlet.sent


async def _send_awaited(items: Any) -> int:
    outlet = _Outlet()
    try:
        async for item in items:
            wanted = outlet.send(item)
            if wanted is not None:
                await wanted
    finally:
        outlet.close()
        if hasattr(items, "aclose"):
            await items.aclose()
    return outlet.sent


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
        self._calls.tell(msg.ItemMade(0, self._call, index, asks, held, payload))
        self.sent += 1
        return due

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._wanted is not None:
            self._calls.forget(self._wanted.task_id)
