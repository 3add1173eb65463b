"""The ref of a call's result, to be asked in any thread and awaited in any loop."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count as counter
from types import coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakValueDictionary

from goliath.actors import crossing, inside, passing
from goliath.actors.awaited import Arrival, Awaited, Ending
from goliath.actors.bell import ThreadBell
from goliath.actors.endings import Broken, Delivered, Kept, Made, Outcome, Parts, Stored
from goliath.actors.gathering import Gathering
from goliath.errors import DeadlockError, GetTimeoutError, ObjectLostError
from goliath.transport.functions import function_name
from goliath.transport.pickled import freeze

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

T = TypeVar("T")

PATIENCE_S = 1.0
"""A call that has waited for others for so long tells its Commander."""

_puts = counter()
_made_here = counter()
passing.refs_exist = True


class ObjectRef(Generic[T]):
    """The promise of one call's result (the term is Ray's).

    Await it in any running loop, or ask for `result` in any thread. The result is freed with it.
    There is one ref of a call: a second one would not be told.
    """

    __slots__ = ("__weakref__", "_calls", "_index", "_outcome")

    def __init__(self, calls: Gathering, index: int, outcome: Outcome | None = None) -> None:
        self._calls = calls
        self._index = index
        self._outcome = outcome
        if outcome is None:
            calls.refs[index] = self

    @property
    def name(self) -> str:
        """Of the function."""
        return self._calls.name

    @property
    def task_id(self) -> str:
        """Names the call in every message about it."""
        return f"{self._calls.job}-{self._calls.first + self._index}"

    def __repr__(self) -> str:
        state = "done" if self.done() else "pending"
        return f"<ObjectRef {self.task_id} of {self.name}, {state}>"

    def __copy__(self) -> ObjectRef[T]:
        return self

    def __deepcopy__(self, _memo: object) -> ObjectRef[T]:
        return self

    def __reduce__(self) -> Any:
        passing.collect(self)
        _directory[self.task_id] = self
        return _restored, (self.task_id, self.name)

    def done(self) -> bool:
        """Whether the call has ended, in whatever way."""
        return self._outcome is not None

    def ending(self) -> tuple[Outcome, int]:
        """What has become of the call, and its number there; only when it is done."""
        outcome = self._outcome
        assert outcome is not None, f"{self!r} was asked too early what became of it"
        return outcome, self._calls.first + self._index

    def _value(self) -> T:
        outcome, number = self.ending()
        value: T = outcome.value(number)
        return value

    def result(self, timeout: float | None = None) -> T:
        """The value of the call; waits for it.

        Args:
            timeout: seconds to wait; default for ever.

        Raises:
            GetTimeoutError: the time passed. The call itself goes on.
            ObjectLostError: it was kept on its node, which was lost.
            BaseException: whatever the call raised, or what ended it.
        """
        outcome = self._outcome
        if outcome is None:
            self._block(timeout, Arrival, (self,))
        elif type(outcome) is Kept and not outcome.deposit.known:
            outcome.deposit.forbid_inside()
            self._block(timeout, Arrival, (self,))
        return self._value()

    def result_among(self, refs: Sequence[ObjectRef[Any]]) -> T:
        """`result`, for somebody who waits for all of these: the deadlock of one is his."""
        if not self.done():
            self._block(None, Arrival, refs)
        if not self.done():
            for ref in refs:
                if _is_deadlocked(ref):
                    ref._value()
        return self.result()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the call has ended, in whatever way.

        Raises:
            GetTimeoutError: the ``timeout`` (seconds) passed.
        """
        if not self.done():
            self._block(timeout, Ending, (self,))

    def _block(
        self,
        timeout: float | None,
        kind: Callable[..., Awaited],
        among: Sequence[ObjectRef[Any]],
    ) -> None:
        inside.refuse_to_block(timeout)
        bell = ThreadBell()
        awaited = kind(self, bell.ring)
        if inside.host is None:
            rung = self._sleep(bell, awaited, timeout, among)
        else:
            with waiting_for((self,)):
                rung = self._sleep(bell, awaited, timeout, among)
        if not rung:
            raise GetTimeoutError(awaited.complaint(timeout or 0.0))

    def _sleep(
        self,
        bell: ThreadBell,
        awaited: Awaited,
        timeout: float | None,
        among: Sequence[ObjectRef[Any]],
    ) -> bool:
        """Until the bell rings; whether it has, within the ``timeout``."""
        self.when_done(awaited.on_done)
        try:
            return wait_for_bell(bell, timeout, among, len(among))
        finally:
            awaited.stop()

    def cancel(self, *, force: bool = False, recursive: bool = True) -> bool:
        """Call the call off: its result becomes a `TaskCancelledError`, unless it has one.

        Args:
            force: kill the worker that runs it, instead of interrupting the call first.
            recursive: call off the calls that it has made, too.

        Returns:
            Whether it was withdrawn before it was sent to a node, and so will never run.
        """
        canceller = self._calls.canceller
        if self.done() or canceller is None:
            return False
        return canceller.cancel(self._calls, self._index, force=force, recursive=recursive)

    def withdraw(self) -> bool:
        """Call the call off if it was not sent to a node, and leave it alone if it was.

        Returns:
            Whether it was called off, by this very call, and so will never run.
        """
        canceller = self._calls.canceller
        return canceller is not None and canceller.withdraw(self._calls, self._index)

    def sent(self) -> bool:
        """Whether it is too late to `withdraw` it."""
        canceller = self._calls.canceller
        return canceller is None or not canceller.waits(self._calls, self._index)

    def when_done(self, waiter: Callable[[], None]) -> None:
        """Have ``waiter`` called once the call has ended, in any thread, or now.

        It must not block: it may be called in the thread that all connections live in.
        """
        self._calls.when_done(self, waiter)

    def when_here(self, waiter: Callable[[], None]) -> None:
        """The same, but once the value, if there is one, has come to this process, too."""
        self.when_done(Arrival(self, waiter).on_done)

    def stop_waiting(self, waiter: Callable[[], None]) -> None:
        """Forget a waiter that has lost its patience."""
        if not self.done():
            self._calls.stop_waiting(self._index, waiter)

    def __await__(self) -> Generator[Any, None, T]:
        # Without a coroutine around it: who gathers thousands has a task for each already.
        outcome = self._outcome
        if outcome is None or (type(outcome) is Kept and not outcome.deposit.known):
            yield from self._awaited(Arrival)
        return self._value()

    @coroutine
    def joined(self) -> Generator[Any, None, None]:
        """`join`, to be awaited."""
        if not self.done():
            yield from self._awaited(Ending)

    def _awaited(self, kind: Callable[..., Awaited]) -> Generator[Any, None, None]:
        import asyncio  # whoever awaits has it; a worker that does not, needs none

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop was closed: there is nobody to wake
                loop.call_soon_threadsafe(_set, future)

        awaited = kind(self, wake)
        with waiting_for((self,)):
            self.when_done(awaited.on_done)
            try:
                yield from future
            finally:
                awaited.stop()

    def future(self) -> Future[T]:
        """A real ``concurrent.futures.Future`` of the same result."""
        from concurrent.futures import Future

        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        host = inside.host
        # Whoever waits for a future does not say so: until it is done, somebody may.
        waiting = host.waits() if host is not None and not self.done() else 0

        def finish() -> None:
            if waiting and host is not None:
                host.goes_on(waiting)
            try:
                future.set_result(self._value())
            except BaseException as exc:  # noqa: BLE001 - it belongs to whoever asks the future
                future.set_exception(exc)

        self.when_here(finish)
        return future


_directory: WeakValueDictionary[str, Any] = WeakValueDictionary()
"""Refs that have been pickled or are named by workers, while anybody holds them. And the grips of
actors, which are passed on in the same way."""


def register(ref: Any) -> None:
    """It may be asked for by its task id."""
    _directory[ref.task_id] = ref


def find(task_id: str) -> Any:
    """The ref (or grip) with this id, if anybody holds it; else None."""
    return _directory.get(task_id)


def _restored(task_id: str, name: str) -> ObjectRef[Any]:
    if inside.host is not None:
        from goliath.actors import nested  # which is made of refs, and not for everybody

        return nested.calls().restored(task_id, name)
    ref: ObjectRef[Any] | None = find(task_id)
    if ref is None:
        raise ObjectLostError(
            f"the ref {task_id} of {name} was read in another process than it was made in, or "
            "after its result had been freed; keep the ref, or pass it as an argument"
        )
    return ref


@contextmanager
def waiting_for(refs: Iterable[ObjectRef[Any]]) -> Iterator[None]:
    """This thread waits for these. In a worker, others may have its CPU meanwhile."""
    host = inside.host
    if host is None:
        yield
        return
    for ref in refs:
        ref._calls.expect(ref._index)
    waiting = host.waits()
    try:
        yield
    finally:
        host.goes_on(waiting)


def wait_for_bell(
    bell: ThreadBell, timeout: float | None, refs: Sequence[ObjectRef[Any]], enough: int
) -> bool:
    """Wait for a bell that rings when ``enough`` of these have ended, or before; False if the
    ``timeout`` passed. A call that waits for long, and would for ever, says so: it may be a
    deadlock."""
    host = inside.host
    if timeout is not None or host is None:
        return bell.wait(timeout)
    if not bell.wait(PATIENCE_S):
        pending = {ref: partial(_ring_if_deadlocked, ref, bell) for ref in refs if not ref.done()}
        missing = enough - (len(refs) - len(pending))
        try:
            for ref, waiter in pending.items():
                ref.when_done(waiter)
            with host.long_wait([ref.task_id for ref in pending], missing):
                bell.wait()
        finally:
            for ref, waiter in pending.items():
                ref.stop_waiting(waiter)
    return True


def _ring_if_deadlocked(ref: ObjectRef[Any], bell: ThreadBell) -> None:
    if _is_deadlocked(ref):
        bell.ring()


def _is_deadlocked(ref: ObjectRef[Any]) -> bool:
    outcome = ref._outcome
    return isinstance(outcome, Delivered) and isinstance(outcome.failure(), DeadlockError)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def resolved(args: Iterable[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """Arguments of a call that is made here: refs among them replaced by their results."""
    return (
        tuple([arg.result() if isinstance(arg, ObjectRef) else arg for arg in args]),
        {name: arg.result() if isinstance(arg, ObjectRef) else arg for name, arg in kwargs.items()},
    )


def fetch_all(outcomes: Iterable[Outcome | None]) -> None:
    """Have the values that are still on nodes sent, all at once: each is waited for later."""
    for outcome in outcomes:
        if type(outcome) is Kept and not outcome.deposit.asked:
            outcome.deposit.when_known(_nothing)


def _nothing() -> None:
    """Nobody waits yet."""


def made_here(
    function: Callable[..., T], args: tuple[Any, ...], kwargs: Any, *, there: bool = False
) -> ObjectRef[T]:
    """The ref of a call that is made at once, in this thread; ``there``: see `Crossing.sent`.

    Raises:
        SerializationError: it cannot be sent (see `goliath.actors.crossing`).
    """
    name, number = function_name(function), next(_made_here)
    outcome: Outcome
    try:
        args, kwargs = resolved(args, kwargs)
    except Exception as exc:  # noqa: BLE001 - it belongs to whoever asks for the result
        outcome = Broken(exc)
    else:
        call = crossing.begin(function, args, kwargs, name=name, number=number, there=there)
        try:
            outcome = Made(call())
        except Exception as exc:  # noqa: BLE001 - see above
            outcome = Broken(exc)
    return ended(name, outcome, f"here-{number}")


def ended(name: str, outcome: Outcome, task_id: str = "here-0") -> ObjectRef[Any]:
    """The ref of something that is no call to be sent, or never became one."""
    return ObjectRef(Gathering.of_one(name, task_id), 0, outcome)


def stored(value: T) -> ObjectRef[T]:
    """The ref of a copy of a value.

    Raises:
        SerializationError: it cannot be pickled.
    """
    with passing.Collected() as held:
        outcome = Stored(freeze("value", value), held)
    return ObjectRef(Gathering("put", "object", next(_puts)), 0, outcome)


def split(ref: ObjectRef[Any], count: int) -> list[ObjectRef[Any]]:
    """A ref for each item of a call that returns so many."""
    calls = Gathering(ref.name, f"{ref.task_id}.part", 0, None, _Whole(ref))
    parts = [ObjectRef[Any](calls, calls.reserve()) for _ in range(count)]

    def settle() -> None:
        calls.settle(0, count, Parts(*ref.ending(), 0, count, ref.name))

    ref.when_here(settle)
    return parts


class _Whole:
    """Whoever calls off a part calls off all of it."""

    def __init__(self, ref: ObjectRef[Any]) -> None:
        self._ref = ref

    def cancel(self, calls: Gathering, index: int, *, force: bool, recursive: bool) -> bool:
        """See `Canceller.cancel`."""
        return self._ref.cancel(force=force, recursive=recursive)

    def withdraw(self, calls: Gathering, index: int) -> bool:
        """See `Canceller.withdraw`."""
        return self._ref.withdraw()

    def waits(self, calls: Gathering, index: int) -> bool:
        """See `Canceller.waits`."""
        return not self._ref.sent()
