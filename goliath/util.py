"""What is often built of actors: a pool of them, a queue, a group that is told things together.

::

    >>> import goliath
    >>> from goliath.util import ActorGroup, ActorPool
    >>> @goliath.remote
    ... class Doubler:
    ...     def double(self, x):
    ...         return 2 * x
    >>> pool = ActorPool([Doubler.remote(), Doubler.remote()])
    >>> list(pool.map(lambda actor, x: actor.double.remote(x), range(4)))
    [0, 2, 4, 6]
    >>> group = ActorGroup(Doubler, 3)
    >>> goliath.get(group.double.remote(5))
    [10, 10, 10]
    >>> goliath.shutdown()
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Full
from typing import Any, Generic, TypeVar

from goliath.actor_class import ActorClass, ActorOptions, kill
from goliath.actors.handles import ActorHandle
from goliath.actors.object_ref import ObjectRef
from goliath.refs import get, wait

V = TypeVar("V")

Call = Callable[[ActorHandle, V], ObjectRef[Any]]
"""Calls a method of an actor with a value: ``lambda actor, value: actor.method.remote(value)``."""


class ActorPool(Generic[V]):
    """Actors that take turns: each has one call at a time, and the next value goes to the first
    that is free (the term and the methods are Ray's).

    Args:
        actors: handles; at least one.

    Raises:
        ValueError: there is none.
    """

    def __init__(self, actors: Iterable[ActorHandle]) -> None:
        self._idle = deque(actors)
        if not self._idle:
            raise ValueError("an ActorPool of no actors could never do anything")
        self._busy: dict[ObjectRef[Any], ActorHandle] = {}
        self._waiting: deque[tuple[Call[V], V]] = deque()
        self._places: dict[int, ObjectRef[Any]] = {}  # of what was sent, in the order it was made
        self._made = 0
        self._taken = 0

    def map(self, call: Call[V], values: Iterable[V]) -> Iterator[Any]:
        """The result for each value, in their order. All values are taken at once."""
        self._forget()
        for value in values:
            self.submit(call, value)
        while self.has_next():
            yield self.get_next()

    def map_unordered(self, call: Call[V], values: Iterable[V]) -> Iterator[Any]:
        """The results as they come. All values are taken at once."""
        self._forget()
        for value in values:
            self.submit(call, value)
        while self.has_next():
            yield self.get_next_unordered()

    def submit(self, call: Call[V], value: V) -> None:
        """Have a call made as soon as an actor is free."""
        if self._idle:
            actor = self._idle.popleft()
            ref = call(actor, value)
            self._busy[ref] = actor
            self._places[self._made] = ref
            self._made += 1
        else:
            self._waiting.append((call, value))

    def has_next(self) -> bool:
        """Whether there is, or will be, a result that was not taken."""
        return bool(self._places or self._waiting)

    def has_free(self) -> bool:
        """Whether an actor has nothing to do, and nothing waits for one."""
        return bool(self._idle) and not self._waiting

    def get_next(self, timeout: float | None = None) -> Any:
        """The result of the oldest call that was not taken.

        Args:
            timeout: seconds to wait for it; default for ever.

        Raises:
            StopIteration: there is none.
            GetTimeoutError: the time passed.
            BaseException: what the call raised.
        """
        self._check_next()
        while self._taken not in self._places:  # it was taken out of turn
            self._taken += 1
        ref = self._places[self._taken]
        wait([ref], timeout=timeout)
        if ref.done():
            del self._places[self._taken]
            self._taken += 1
            self._return(ref)
        return get(ref, timeout=0)

    def get_next_unordered(self, timeout: float | None = None) -> Any:
        """The result of the first call that has ended; errors as of `get_next`."""
        self._check_next()
        ready, _ = wait(list(self._places.values()), timeout=timeout)
        ref = ready[0] if ready else next(iter(self._places.values()))
        if ready:
            place = next(place for place, known in self._places.items() if known is ref)
            del self._places[place]
            self._return(ref)
        return get(ref, timeout=0)

    def push(self, actor: ActorHandle) -> None:
        """Take another actor in.

        Raises:
            ValueError: it is in the pool.
        """
        if actor in self._idle or actor in self._busy.values():
            raise ValueError(f"{actor!r} is in the pool already")
        self._welcome(actor)

    def pop_idle(self) -> ActorHandle | None:
        """Take an actor out that has nothing to do; None if there is none."""
        return self._idle.popleft() if self.has_free() else None

    def _check_next(self) -> None:
        if not self.has_next():
            raise StopIteration("no call of this pool is left whose result was not taken")

    def _return(self, ref: ObjectRef[Any]) -> None:
        actor = self._busy.pop(ref, None)
        if actor is not None:
            self._welcome(actor)

    def _welcome(self, actor: ActorHandle) -> None:
        self._idle.append(actor)
        if self._waiting:
            self.submit(*self._waiting.popleft())

    def _forget(self) -> None:
        """Results that nobody has taken are not those of the next ``map``."""
        while self.has_next():
            ref = next(iter(self._places.values()))
            wait([ref])
            self._places = {place: known for place, known in self._places.items() if known != ref}
            self._return(ref)


class _QueueActor:
    """The queue itself, in its own process."""

    def __init__(self, maxsize: int) -> None:
        import asyncio

        self._items: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def put(self, items: list[Any], within_s: float | None) -> int:
        """Put them, as far as there is room in time; how many."""
        import asyncio

        count = 0
        try:
            async with asyncio.timeout(within_s):
                for item in items:
                    await self._items.put(item)
                    count += 1
        except TimeoutError:
            pass
        return count

    async def get(self, within_s: float | None) -> list[Any]:
        """The next one, if there is one in time."""
        import asyncio

        try:
            async with asyncio.timeout(within_s):
                return [await self._items.get()]
        except TimeoutError:
            return []

    def put_nowait(self, items: list[Any]) -> bool:
        """Put all of them, or none."""
        room = self._items.maxsize - self._items.qsize()
        fits = not self._items.maxsize or len(items) <= room
        for item in items if fits else ():
            self._items.put_nowait(item)
        return fits

    def get_nowait(self, count: int) -> list[Any]:
        """So many items, or none."""
        if self._items.qsize() < count:
            return []
        return [self._items.get_nowait() for _ in range(count)]

    def size(self) -> int:
        """How many there are."""
        return self._items.qsize()


class Queue:
    """A first-in-first-out queue for tasks and actors anywhere (the methods are Ray's).

    It can be passed to them, and is gone when nobody has it any more. What is full or empty raises
    ``queue.Full`` and ``queue.Empty``.

    Args:
        maxsize: items it may hold; 0: any number.
        actor_options: of the actor that it is (see `goliath.actor_class.ActorOptions`).

    ::

        >>> import goliath
        >>> from goliath.util import Queue
        >>> waiting = Queue(maxsize=10)
        >>> @goliath.remote
        ... def produce(queue):
        ...     for n in range(3):
        ...         queue.put(n)
        >>> ref = produce.remote(waiting)
        >>> [waiting.get(timeout=10) for _ in range(3)]
        [0, 1, 2]
        >>> waiting.empty()
        True
        >>> goliath.shutdown()
    """

    def __init__(self, maxsize: int = 0, actor_options: ActorOptions | None = None) -> None:
        self._actor = ActorClass(_QueueActor, actor_options or {}).remote(maxsize)
        self._maxsize = maxsize

    def __len__(self) -> int:
        return self.qsize()

    def qsize(self) -> int:
        """How many items there are."""
        size: int = get(self._actor.size.remote())
        return size

    def empty(self) -> bool:
        """Whether there is none."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether there are as many as may be."""
        return 0 < self._maxsize <= self.qsize()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an item in; waits for room, if ``block``, for so many seconds.

        Raises:
            queue.Full: there was none.
        """
        if not block:
            self.put_nowait(item)
        elif not get(self._actor.put.remote([item], timeout)):
            raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next item out; waits for one, if ``block``, for so many seconds.

        Raises:
            queue.Empty: there was none.
        """
        if not block:
            return self.get_nowait()
        return _only(get(self._actor.get.remote(timeout)))

    async def put_async(
        self,
        item: Any,
        block: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - Ray's signature
    ) -> None:
        """`put`, to be awaited."""
        if not (await self._actor.put.remote([item], timeout if block else 0)):
            raise Full

    async def get_async(
        self,
        block: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - Ray's signature
    ) -> Any:
        """`get`, to be awaited."""
        return _only(await self._actor.get.remote(timeout if block else 0))

    def put_nowait(self, item: Any) -> None:
        """`put` without waiting."""
        self.put_nowait_batch([item])

    def get_nowait(self) -> Any:
        """`get` without waiting."""
        return _only(get(self._actor.get_nowait.remote(1)))

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Put all of these items in, or none.

        Raises:
            queue.Full: there is no room for all of them.
        """
        if not get(self._actor.put_nowait.remote(list(items))):
            raise Full

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take so many items out, or none.

        Raises:
            queue.Empty: there are not so many.
        """
        items: list[Any] = get(self._actor.get_nowait.remote(num_items))
        if len(items) < num_items:
            raise Empty
        return items

    def shutdown(self) -> None:
        """End it at once, with what is in it."""
        kill(self._actor)


def _only(items: list[Any]) -> Any:
    if not items:
        raise Empty
    return items[0]


class ActorGroup:
    """Several actors of one class, that are told everything together.

    Args:
        cls: an actor class.
        size: how many, at least one.
        *args: of each ``__init__``.
        **kwargs: of each ``__init__``.

    Raises:
        ValueError: ``size`` is not positive.
    """

    def __init__(self, cls: ActorClass[...], size: int, *args: Any, **kwargs: Any) -> None:
        if size < 1:
            raise ValueError(f"size={size!r}; a group has at least one actor")
        self._actors = [cls.remote(*args, **kwargs) for _ in range(size)]

    @property
    def actors(self) -> list[ActorHandle]:
        """The handles of all of them."""
        return list(self._actors)

    def __len__(self) -> int:
        return len(self._actors)

    def __getattr__(self, name: str) -> _GroupMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        return _GroupMethod([getattr(actor, name) for actor in self._actors])


class _GroupMethod:
    def __init__(self, methods: list[Any]) -> None:
        self._methods = methods

    def remote(self, *args: Any, **kwargs: Any) -> list[ObjectRef[Any]]:
        """Call it of each actor; a ref for each, in their order."""
        return [method.remote(*args, **kwargs) for method in self._methods]
