"""The refs of a streaming call's items, each to be had as soon as its item is made."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import CoroutineType
from typing import Any, Generic, Protocol, TypeVar

from goliath.actors import crossing
from goliath.actors.coroutines import CoroutineRunner
from goliath.actors.endings import Broken, Delivered, Made, NoValueError, Outcome
from goliath.actors.gathering import Gathering
from goliath.actors.object_ref import ObjectRef
from goliath.errors import TaskCancelledError
from goliath.transport.functions import function_name

T = TypeVar("T")

WINDOW = 16
"""Items that are made ahead of the one that is waited for, at most."""

_NOTHING = object()


class EndOfItems(Exception):  # noqa: N818 - it is no error
    """There is no such item: the call had made all of its items before."""


class Over:
    """The outcome in the place of an item that there is not."""

    def value(self, call: int) -> Any:
        """See `Outcome.value`."""
        raise EndOfItems

    def frozen(self, call: int) -> Any:
        """See `Outcome.frozen`."""
        raise NoValueError


class Items(Protocol):
    """The items of one call, numbered from 0.

    Attributes:
        call: the ref of the call itself, whose result is the number of its items.
    """

    call: ObjectRef[int]

    def want(self, index: int) -> ObjectRef[Any]:
        """The ref of the next item, asked for once and in order. If there is none, it raises
        `EndOfItems`."""

    def cancel(self, *, force: bool, recursive: bool) -> bool:
        """See `ObjectRefGenerator.cancel`."""


class ObjectRefGenerator(Generic[T]):
    """What ``remote`` returns with ``num_returns="streaming"`` (the term is Ray's): an iterator,
    and an asynchronous iterator, of the refs of the items that the call makes.

    Each ref comes as soon as its item is made. At most 16 items are made ahead of it; then the call
    waits, and others may have its CPU. If the call fails after some items, these are good; one
    more ref comes, which raises what the call raised, and then the iteration ends.

    If it is dropped before its call has ended, nobody can ever have the other items: the call is
    cancelled, and the items that are there are freed. Refs that were taken stay good.

    ::

        >>> import goliath
        >>> @goliath.remote(num_returns="streaming")
        ... def squares(n):
        ...     for i in range(n):
        ...         yield i * i
        >>> [goliath.get(ref) for ref in squares.remote(4)]
        [0, 1, 4, 9]
        >>> goliath.shutdown()
    """

    __slots__ = ("__weakref__", "_count", "_items", "_lock", "_next")

    def __init__(self, items: Items) -> None:
        self._items = items
        self._count = 0
        self._next: ObjectRef[T] | None = None
        # Reentrant: a signal handler of the user's may take an item, too, at any moment.
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        """Of the function."""
        return self._items.call.name

    @property
    def task_id(self) -> str:
        """Names the call in every message about it."""
        return self._items.call.task_id

    def __repr__(self) -> str:
        return f"<ObjectRefGenerator {self.task_id} of {self.name}, {self._count} items taken>"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} cannot be pickled: its items come to whoever has made the call; pass "
            "the refs that it yields"
        )

    def __iter__(self) -> Iterator[ObjectRef[T]]:
        return self

    def __next__(self) -> ObjectRef[T]:
        """The ref of the next item; waits until it is made, or the call has ended."""
        while True:
            ref = self._coming()
            ref.join()
            if _is_end(ref):
                raise StopIteration
            if self._take(ref):
                return ref

    def __aiter__(self) -> AsyncIterator[ObjectRef[T]]:
        return self

    async def __anext__(self) -> ObjectRef[T]:
        """The same, to be awaited."""
        while True:
            if isinstance(self._items, MadeHere):
                await self._items.prepare(self._count)
            ref = self._coming()
            await ref.joined()
            if _is_end(ref):
                raise StopAsyncIteration
            if self._take(ref):
                return ref

    def _coming(self) -> ObjectRef[T]:
        """What is waited for. Whoever loses his patience leaves it to the next who asks."""
        with self._lock:
            if self._next is None:
                self._next = self._items.want(self._count)
            return self._next

    def _take(self, ref: ObjectRef[T]) -> bool:
        """Whether the caller gets the ref: of several that wait for one, one does."""
        with self._lock:
            taken = ref is self._next
            if taken:
                self._next = None
                self._count += 1
            return taken

    def completed(self) -> ObjectRef[int]:
        """The ref of the call itself: its result is the number of items, once all are made, or
        raises what has ended the call."""
        return self._items.call

    def cancel(self, *, force: bool = False, recursive: bool = True) -> bool:
        """Call the call off (see `goliath.cancel`): the next ref raises a `TaskCancelledError`.

        Returns:
            Whether it was withdrawn before it was sent to a node, and so will never run.
        """
        return self._items.cancel(force=force, recursive=recursive)


def _is_end(ref: ObjectRef[Any]) -> bool:
    # Nothing is raised to find out: a traceback would keep all that stands here.
    outcome, _ = ref.ending()
    if isinstance(outcome, Delivered):
        return isinstance(outcome.failure(), EndOfItems)
    return isinstance(outcome, Over)


def items_in(made: Any, name: str) -> Any:
    """The iterator, or the asynchronous one, over what a streaming function has returned.

    Raises:
        TypeError: it has no items.
    """
    if hasattr(made, "__aiter__"):
        return made.__aiter__()
    if hasattr(made, "__iter__"):
        return iter(made)
    if type(made) is CoroutineType:
        made.close()  # it would complain that nobody has awaited it
    raise TypeError(
        f'{name} returned a {type(made).__name__}, and with num_returns="streaming" it is to be a '
        "generator function; yield each item"
    )


class MadeHere:
    """Items that are made in this thread, when they are asked for."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        there: bool = False,
    ) -> None:
        name = function_name(function)
        self._way = crossing.way()
        call = self._way.sent(function, args, kwargs, there=there)
        self.call: ObjectRef[int] = ObjectRef(Gathering(name, "here", 0), 0)
        self._calls = Gathering(name, "here.item", 0)
        self._begin: Callable[[], Any] = lambda: items_in(call(), name)
        self._items: Any = None
        self._prepared: Outcome | None = None
        self._coroutines = CoroutineRunner()

    def __del__(self) -> None:
        self._coroutines.close()

    def want(self, index: int) -> ObjectRef[Any]:
        """See `Items.want`."""
        outcome, self._prepared = self._prepared, None
        if outcome is None:
            try:
                outcome = self._outcome(index, self._made())
            except Exception as exc:  # noqa: BLE001 - it belongs to whoever asks for the result
                outcome = self._broken(exc)
        return ObjectRef(self._calls, index, outcome)

    async def prepare(self, index: int) -> None:
        """Make the item in the running loop, if it wants to be awaited."""
        try:
            items = self._begun()
            if self._prepared is None and hasattr(items, "__anext__"):
                self._prepared = self._outcome(index, await anext(items, _NOTHING))
        except Exception as exc:  # noqa: BLE001 - see above
            self._prepared = self._broken(exc)

    def cancel(self, *, force: bool, recursive: bool) -> bool:
        """See `Items.cancel`."""
        if not self.call.done():
            error = TaskCancelledError(f"{self.call.name} was cancelled; it makes no more items")
            self._prepared = self._broken(error)
        return False

    def _made(self) -> Any:
        items = self._begun()
        if hasattr(items, "__anext__"):
            return self._coroutines.run(anext(items, _NOTHING))
        return next(items, _NOTHING)

    def _begun(self) -> Any:
        if self._items is None:
            self._items = self._begin()
        return self._items

    def _outcome(self, index: int, item: Any) -> Outcome:
        if item is not _NOTHING:
            return Made(self._way.returned(item))
        self.call._calls.settle(0, 1, Made(index))
        return Over()

    def _broken(self, error: Exception) -> Outcome:
        self._items = iter(())
        name = self.call.name
        broken = Broken(self._way.raised(error, name, 0, f"{name}(…)"))
        self.call._calls.settle(0, 1, broken)
        return broken
