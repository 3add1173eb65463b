"""The refs of calls that were made together, each made when it is looked at."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import Any, TypeVar, overload

from goliath.actors.bulk import BulkRefs
from goliath.actors.object_ref import ObjectRef

T = TypeVar("T")


class RefList(Sequence[ObjectRef[T]]):
    """What ``map`` and ``starmap`` of a remote function return: a sequence of refs.

    A ref is made when it is looked at, and then it is always the same one: so a million of them
    cost nothing while only `results` is asked for. A slice is a list. The results of all calls are
    freed with the sequence, but for those whose refs are kept.

    ::

        >>> import goliath
        >>> @goliath.remote
        ... def square(x):
        ...     return x * x
        >>> refs = square.map(range(1000))
        >>> len(refs), refs[3].result(), refs.results()[-1]
        (1000, 9, 998001)
        >>> [ref.result() for ref in refs[10:12]]
        [100, 121]
        >>> goliath.shutdown()
    """

    __slots__ = ("_parts", "_stops")

    def __init__(self, parts: Sequence[BulkRefs | list[ObjectRef[T]]]) -> None:
        self._parts = parts
        self._stops = list(accumulate(map(len, parts)))

    def __repr__(self) -> str:
        return f"<RefList of {len(self)} calls>"

    def __reduce__(self) -> Any:
        return list, (list(self),)

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    @overload
    def __getitem__(self, index: int) -> ObjectRef[T]: ...
    @overload
    def __getitem__(self, index: slice) -> list[ObjectRef[T]]: ...
    def __getitem__(self, index: Any) -> Any:
        places = range(len(self))[index]
        return list(map(self._at, places)) if isinstance(places, range) else self._at(places)

    def _at(self, place: int) -> ObjectRef[T]:
        which = bisect_right(self._stops, place)
        part = self._parts[which]
        return part[place - self._stops[which] + len(part)]

    def __iter__(self) -> Iterator[ObjectRef[T]]:
        return chain.from_iterable(self._parts)

    def results(self, timeout: float | None = None) -> list[T]:
        """The values of all calls, in their order; waits for them. ``goliath.get`` does the same.

        Args:
            timeout: seconds to wait for all of them; default for ever.

        Raises:
            GetTimeoutError: the time passed. The calls go on.
            BaseException: what the first of the failed calls raised, or what ended it.
        """
        until = None if timeout is None else time.monotonic() + timeout
        values: list[T] = []
        for part in self._parts:
            if isinstance(part, BulkRefs):
                part.extend(values, until)
            else:
                for ref in part:
                    left = None if until is None else max(until - time.monotonic(), 0.0)
                    values.append(ref.result(left))
        return values
