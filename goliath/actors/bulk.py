"""Calls that were made all at once: cut into parcels on demand, with refs on demand.

A call costs no object and no place in a dict, neither on its way nor when it is back: the arguments
are the columns they came in, and what has become of a range of calls is noted for the range.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from goliath.actors.endings import Arrived, Kept, Made, Outcome
from goliath.actors.gathering import Canceller, Gathering
from goliath.actors.object_ref import ObjectRef, fetch_all
from goliath.actors.tables import Table
from goliath.transport.payload import Payload

_NOT_YET = Made(None)


class BulkRefs:
    """The refs of such calls, made when they are looked at; with it, all results are freed."""

    __slots__ = ("__weakref__", "_calls", "_ends", "_outcomes", "_refs")

    def __init__(self, name: str, job: str, first: int, table: Table, canceller: Canceller) -> None:
        self._outcomes: list[Outcome | None] = [None] * table.calls
        self._ends: dict[int, int] = {}  # of the ranges that were settled, by their beginning
        self._refs: dict[int, ObjectRef[Any]] = {}
        self._calls = Bulk(name, job, first, table, canceller, self)

    @property
    def calls(self) -> Bulk:
        """What is to be sent."""
        return self._calls

    def __len__(self) -> int:
        return len(self._outcomes)

    def __getitem__(self, index: int) -> ObjectRef[Any]:
        ref = self._refs.get(index)
        if ref is not None:
            return ref
        ref = ObjectRef(self._calls, index, _NOT_YET)  # so that it does not enter itself: ...
        ref._outcome = self._outcomes[index]
        ref = self._refs.setdefault(index, ref)  # ... another thread may have been faster
        if ref._outcome is None:
            self._calls.refs[index] = ref
            if self._outcomes[index] is not None:  # by somebody who saw no ref to be told
                ref._outcome = self._outcomes[index]
                self._calls.refs.pop(index, None)
        return ref

    def __iter__(self) -> Iterator[ObjectRef[Any]]:
        return map(self.__getitem__, range(len(self)))

    def extend(self, values: list[Any], until: float | None) -> None:
        """Add the value of each call to a list; waits for it, until that moment.

        Raises:
            GetTimeoutError: it has come. The calls go on.
            BaseException: what the first of the failed calls raised, or what ended it.
        """
        place, first = 0, self._calls.first
        while place < len(self._outcomes):
            outcome = self._outcomes[place]
            if outcome is None:
                self[place].join(_left(until))
                continue
            stop = self._ends[place]
            if type(outcome) is Kept and not outcome.deposit.known:
                if not outcome.deposit.asked:
                    fetch_all(self._outcomes)
                values.append(self[place].result(_left(until)))
            elif isinstance(outcome, Arrived):
                values += outcome.values(first + place, first + stop)
            else:
                values += [outcome.value(call) for call in range(first + place, first + stop)]
            place = stop

    def settle(self, lo: int, hi: int, outcome: Outcome) -> None:
        """Calls ``lo <= i < hi`` have ended."""
        self._ends[lo] = hi  # first: whoever finds an outcome looks for the end of its range
        self._outcomes[lo:hi] = [outcome] * (hi - lo)

    def unsettled(self) -> list[int]:
        """The calls that have not ended."""
        return [index for index, outcome in enumerate(self._outcomes) if outcome is None]


def _left(until: float | None) -> float | None:
    return None if until is None else max(until - time.monotonic(), 0.0)


class Bulk(Gathering):
    """The same calls, as whoever sends them sees them. Does not keep those refs alive."""

    __slots__ = ("_kept", "_next", "_size", "_table", "_withdrawn")

    def __init__(
        self,
        name: str,
        job: str,
        first: int,
        table: Table,
        canceller: Canceller,
        refs: BulkRefs,
    ) -> None:
        super().__init__(name, job, first, None, canceller)
        self._table: Table | None = table
        self._size = table.calls
        self._next = 0
        self._withdrawn: set[int] = set()  # of those from the next on
        self._kept = weakref.ref(refs)

    # -- on the way out ------------------------------------------------------------------

    def __len__(self) -> int:
        """See `Gathering`."""
        return self._size - self._next - len(self._withdrawn)

    def take(self, calls: int) -> tuple[int, Sequence[Any]]:
        """See `Gathering.take`; instead of rows, their numbers."""
        first = self._next
        while first in self._withdrawn:
            self._withdrawn.discard(first)
            first += 1
        stop = min(first + calls, self._size)
        if self._withdrawn:
            stop = next((i for i in range(first, stop) if i in self._withdrawn), stop)
        self._next = stop
        return first, range(first, stop)

    def waits(self, index: int) -> bool:
        """See `Gathering.waits`."""
        return index >= self._next and index not in self._withdrawn

    def withdraw(self, index: int) -> bool:
        """See `Gathering.withdraw`."""
        waits = self.waits(index)
        if waits:
            self._withdrawn.add(index)
        return waits

    def encode(self, rows: Sequence[Any], beside: list[Any]) -> tuple[str, Payload]:
        """See `Gathering.encode`."""
        assert self._table is not None
        parcel = self._table.cut(rows[0], rows[-1] + 1)
        if not len(self):
            self._table = None  # the arguments are not needed any more
        return parcel

    # -- on the way back -----------------------------------------------------------------

    def settle(self, lo: int, hi: int, outcome: Outcome) -> None:
        """See `Gathering.settle`."""
        kept = self._kept()
        if kept is not None:
            kept.settle(lo, hi, outcome)
        super().settle(lo, hi, outcome)

    def end(self, outcome: Outcome) -> None:
        """See `Gathering.end`."""
        self._next = self._size
        self._withdrawn.clear()
        self._table = None
        kept = self._kept()
        for index in list(self.refs) if kept is None else kept.unsettled():
            self.settle(index, index + 1, outcome)
