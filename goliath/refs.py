"""What can be done with refs: get, wait, as_completed, put, cancel (the verbs are Ray's).

::

    >>> import goliath
    >>> @goliath.remote
    ... def square(x):
    ...     return x * x
    >>> refs = [square.remote(x) for x in range(4)]
    >>> goliath.get(refs)
    [0, 1, 4, 9]
    >>> ready, pending = goliath.wait(refs, num_returns=4)
    >>> len(ready), len(pending)
    (4, 0)
    >>> goliath.get(square.remote(goliath.put(5)))
    25
    >>> goliath.shutdown()
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

from goliath import runtime
from goliath.actors import inside
from goliath.actors.bell import ThreadBell
from goliath.actors.endings import Kept
from goliath.actors.object_ref import ObjectRef, fetch_all, wait_for_bell, waiting_for
from goliath.actors.ref_generator import ObjectRefGenerator
from goliath.actors.ref_list import RefList
from goliath.errors import GetTimeoutError

T = TypeVar("T")


@overload
def get(refs: ObjectRef[T], *, timeout: float | None = None) -> T: ...
@overload
def get(refs: Iterable[ObjectRef[T]], *, timeout: float | None = None) -> list[T]: ...
def get(refs: Any, *, timeout: float | None = None) -> Any:
    """The result of a call, or the list of the results of several.

    Args:
        refs: one ref, or any number of them.
        timeout: seconds to wait for all of them; default for ever.

    Raises:
        GetTimeoutError: the time passed. The calls go on.
        ObjectLostError: a result over 100 KiB was kept on its node, which was lost.
        TypeError: something is no ref.
        BaseException: what the first of the failed calls raised, or what ended it.
    """
    if isinstance(refs, ObjectRef):
        return refs.result(timeout)
    if isinstance(refs, RefList) and inside.host is None:
        return refs.results(timeout)
    checked = _checked(refs, "get")
    with waiting_for(checked):
        if timeout is None:
            results = []
            for ref in checked:  # most have ended while the first was waited for
                outcome = ref._outcome
                if type(outcome) is Kept and not outcome.deposit.asked:
                    fetch_all(each._outcome for each in checked)
                number = ref._calls.first + ref._index
                results.append(
                    ref.result_among(checked) if outcome is None else outcome.value(number)
                )
            return results
        until = time.monotonic() + timeout
        fetch_all(ref._outcome for ref in checked)
        return [ref.result(max(until - time.monotonic(), 0.0)) for ref in checked]


def wait(
    refs: Iterable[ObjectRef[T]], *, num_returns: int = 1, timeout: float | None = None
) -> tuple[list[ObjectRef[T]], list[ObjectRef[T]]]:
    """Wait until some calls have ended, in whatever way.

    Args:
        refs: the calls, each once.
        num_returns: how many of them to wait for.
        timeout: seconds to wait; default for ever.

    Returns:
        At most ``num_returns`` refs that are ready, and all others, both in the order of ``refs``.

    Raises:
        TypeError: something is no ref.
        ValueError: a ref stands there twice, or there are not so many.
    """
    checked = _checked(refs, "wait")
    if len(set(checked)) < len(checked):
        raise ValueError("goliath.wait was given a ref twice; give it each once")
    if not 1 <= num_returns <= max(len(checked), 1):
        raise ValueError(
            f"num_returns={num_returns} of {len(checked)} refs; it is 1 to all of them"
        )
    ready: set[ObjectRef[T]] = set()
    for ref in _ending(checked, timeout):
        ready.add(ref)
        if len(ready) == num_returns:
            break
    return [ref for ref in checked if ref in ready], [ref for ref in checked if ref not in ready]


def as_completed(
    refs: Iterable[ObjectRef[T]], *, timeout: float | None = None
) -> Iterator[ObjectRef[T]]:
    """The refs in the order in which their calls end.

    Args:
        refs: the calls; one that stands there twice is yielded once.
        timeout: seconds from the first step of the iterator on; default for ever.

    Raises:
        GetTimeoutError: the time passed before the last call had ended. The calls go on.
        TypeError: something is no ref.
    """
    checked = list(dict.fromkeys(_checked(refs, "as_completed")))

    def iterate() -> Iterator[ObjectRef[T]]:
        ended = 0
        for ref in _ending(checked, timeout):
            ended += 1
            yield ref
        if ended < len(checked):
            raise GetTimeoutError(
                f"{len(checked) - ended} of {len(checked)} calls had not ended within {timeout:g} "
                "s; they go on: iterate over them again, or cancel them"
            )

    return iterate()


def put(value: T) -> ObjectRef[T]:
    """Keep a copy of a value, as it is now, to be given to any number of calls.

    Big arrays in it are there once for all workers of a node, which may read and not write them.

    Returns:
        A ref: pass it as an argument, or `get` it, a fresh copy each time (arrays: read-only).

    Raises:
        SerializationError: the value cannot be pickled.
        TypeError: it is a ref already.
    """
    if isinstance(value, ObjectRef):
        raise TypeError(f"goliath.put was given {value!r}, which can be passed as it is")
    return runtime.put(value)


def cancel(
    ref: ObjectRef[Any] | ObjectRefGenerator[Any], *, force: bool = False, recursive: bool = True
) -> None:
    """Call a call off: its result becomes a `TaskCancelledError`, unless it has one already.

    A call that waits is removed. One that runs is interrupted (a ``CancelledError`` in a coroutine,
    else an exception between two instructions), and its worker killed if that does not help.

    Args:
        force: kill the worker at once.
        recursive: call off the calls that it has made, too.

    Raises:
        TypeError: ``ref`` is none.
    """
    if isinstance(ref, ObjectRefGenerator):
        ref.cancel(force=force, recursive=recursive)
        return
    for checked in _checked([ref], "cancel"):
        checked.cancel(force=force, recursive=recursive)


def _checked(refs: Any, verb: str) -> list[ObjectRef[Any]]:
    if isinstance(refs, ObjectRef):
        refs = [refs]
    if not isinstance(refs, Iterable):
        raise TypeError(
            f"goliath.{verb} was given a {type(refs).__name__}; it takes ObjectRefs, as .remote() "
            "and submit() return them"
        )
    checked: list[Any] = list(refs)
    if list(map(type, checked)).count(ObjectRef) == len(checked):
        return checked
    for place, ref in enumerate(checked):
        if not isinstance(ref, ObjectRef):
            raise TypeError(
                f"goliath.{verb} was given a {type(ref).__name__} at position {place}; it takes "
                "ObjectRefs, as .remote() and submit() return them"
            )
    return checked


def _ending(refs: Sequence[ObjectRef[T]], timeout: float | None) -> Iterator[ObjectRef[T]]:
    """The refs as they end; stops early when the time has passed."""
    until = None if timeout is None else time.monotonic() + timeout
    ended: deque[ObjectRef[T]] = deque()
    bell = ThreadBell()

    def waiter_of(ref: ObjectRef[T]) -> Callable[[], None]:
        def tell() -> None:
            ended.append(ref)
            bell.ring()

        return tell

    waiters = {ref: waiter_of(ref) for ref in refs}
    try:
        for ref, waiter in waiters.items():
            ref.when_done(waiter)
        for _ in range(len(refs)):
            while not ended:
                left = None if until is None else until - time.monotonic()
                inside.refuse_to_block(left)
                with waiting_for(()):
                    rung = wait_for_bell(bell, left, [ref for ref in refs if not ref.done()], 1)
                if not rung and not ended:
                    return
            yield ended.popleft()
    finally:
        for ref, waiter in waiters.items():
            ref.stop_waiting(waiter)
