"""Calls of one function that were made in a burst: their arguments on the way out, their
outcomes on the way back, and who waits for which.

A call costs a ref, and two places in dicts while it is on its way: a ``concurrent.futures.Future``
takes 0.7 to 2.1 µs to make, an asyncio one a loop. Outcomes are unpickled a batch at a time, by
whoever asks first, in his own thread.

**Who keeps a result.** Its ref, and nobody else: a gathering knows the refs of its calls until they
are settled, gives each what has become of it, and forgets it. So a ref that is dropped before
never has a result to free, and one that is dropped later takes its own along.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from contextlib import suppress
from itertools import count, islice, repeat, takewhile
from typing import TYPE_CHECKING, Any, Protocol, Self

from goliath.actors.endings import Outcome
from goliath.transport.columns import encode_gathered
from goliath.transport.payload import Payload

if TYPE_CHECKING:
    from goliath.actors.object_ref import ObjectRef

Shape = tuple[int, tuple[str, ...]] | None
"""Number of positional arguments and names of the others, if all are plain; None: pickled rows."""

Waiter = Callable[[], None]

_lock = threading.Lock()
"""Guards the waiters of all calls; held for a few instructions."""


class Canceller(Protocol):
    """Whoever sends the calls of a gathering."""

    def cancel(self, calls: Gathering, index: int, *, force: bool, recursive: bool) -> bool:
        """Nobody wants this call; whether it was withdrawn before it was sent."""

    def withdraw(self, calls: Gathering, index: int) -> bool:
        """Nobody wants this call, unless it was sent already; whether it was withdrawn."""

    def waits(self, calls: Gathering, index: int) -> bool:
        """Whether it was neither sent nor withdrawn."""


class Gathering:
    """Calls from number ``first`` on, that are sent in as few parcels as the scheduler likes.

    Args:
        name: of the function.
        job: names the calls' job in messages.
        first: the number of the first call in its job.
        shape: what all calls have in common.
        canceller: who can call one off; None: nobody.
        group: of an actor's: whose limit they count for.

    Attributes:
        refs: of the calls that are not settled; each enters itself when it is made.
    """

    __slots__ = (
        "__weakref__",
        "_held",
        "_indices",
        "_rows",
        "_waiters",
        "canceller",
        "first",
        "group",
        "job",
        "name",
        "refs",
        "shape",
    )

    def __init__(
        self,
        name: str,
        job: str,
        first: int,
        shape: Shape = None,
        canceller: Canceller | None = None,
        group: str = "",
    ) -> None:
        self.name = name
        self.group = group
        self.job = job
        self.first = first
        self.shape = shape
        self.canceller = canceller
        self.refs: MutableMapping[int, ObjectRef[Any]] = {}
        self._indices = count()
        self._rows: dict[int, Any] = {}
        self._waiters: dict[int, list[Waiter]] = {}
        self._held: dict[int, list[Any]] = {}

    @classmethod
    def of_one(
        cls, name: str, task_id: str, canceller: Canceller | None = None, group: str = ""
    ) -> Self:
        """That of a single call, whose task id was given to it."""
        job, _, number = task_id.rpartition("-")
        return cls(name, job, int(number), None, canceller, group)

    # -- on the way out ------------------------------------------------------------------

    def __len__(self) -> int:
        """How many calls are still to be sent."""
        return len(self._rows)

    def reserve(self) -> int:
        """One more call, which one it is; its arguments are to be `put`.

        A signal handler may add one in the middle of this: each gets a number of its own.
        """
        return next(self._indices)

    def add(self, row: Any) -> int:
        """One more call: its values, or its pickle; which one it is."""
        index = next(self._indices)
        self._rows[index] = row
        return index

    def take(self, calls: int) -> tuple[int, Sequence[Any]]:
        """The next calls to be sent, consecutive ones, and the place of the first."""
        indices = list(islice(self._rows, calls))
        first = indices[0]
        straight = list(range(first, first + len(indices)))
        if indices != straight:  # one was withdrawn, or a signal handler came in between
            pairs = zip(indices, straight, strict=True)
            indices = [index for index, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
        rows = list(map(self._rows.pop, indices))
        if not self._rows:
            self._rows.clear()  # a dict keeps the room for all it ever had, else
        return first, rows

    def put(self, index: int, row: Any) -> None:
        """Now a call can be sent whose arguments were not known when it was made."""
        self._rows[index] = row

    def put_back(self, first: int, rows: Sequence[Any]) -> None:
        """Calls from ``first`` on are to be sent again, before the others."""
        self._rows = {**dict(enumerate(rows, first)), **self._rows}

    def hold(self, index: int, refs: Sequence[Any]) -> None:
        """Keep what is pickled in the arguments of a call until it has ended."""
        if refs:
            self._held.setdefault(index, []).extend(refs)

    def expect(self, index: int) -> None:
        """Somebody will ask for the outcome of a call: whoever has to be asked for it, is."""

    def waits(self, index: int) -> bool:
        """Whether a call is still to be sent."""
        return index in self._rows

    def withdraw(self, index: int) -> bool:
        """Take back a call that was not sent yet; whether that was so."""
        return self._rows.pop(index, self) is not self

    def encode(self, rows: Sequence[Any], beside: list[Any]) -> tuple[str, Payload]:
        """Calls as a parcel: its form and its payload; ``beside`` gets what they take beside it."""
        return encode_gathered(self.shape, rows, beside)

    # -- on the way back -----------------------------------------------------------------

    def settle(self, lo: int, hi: int, outcome: Outcome) -> None:
        """Calls ``lo <= i < hi`` have ended."""
        refs = self.refs
        indices: Iterable[int] = range(lo, hi)
        if len(refs) < hi - lo:  # calls that were made all at once have a ref if it was looked at
            indices = [index for index in list(refs) if lo <= index < hi]
        for ref in map(refs.pop, indices, repeat(None)):
            if ref is not None:
                ref._outcome = outcome
        if not refs:
            refs.clear()
        if self._held:
            for index in [index for index in self._held if lo <= index < hi]:
                del self._held[index]
        if self._waiters:
            for waiter in self._due(lo, hi):
                waiter()

    def _due(self, lo: int, hi: int) -> list[Waiter]:
        """Who waited for these calls; does not look at each waiter for every range of few calls."""
        with _lock:
            waiters = self._waiters
            if hi - lo < len(waiters):
                due = [index for index in range(lo, hi) if index in waiters]
            else:
                due = [index for index in waiters if lo <= index < hi]
            return [waiter for index in due for waiter in waiters.pop(index)]

    def end(self, outcome: Outcome) -> None:
        """Nothing will come any more: that is the outcome of all calls that have none."""
        self._rows.clear()
        for index in list(self.refs):
            self.settle(index, index + 1, outcome)

    def when_done(self, ref: ObjectRef[Any], waiter: Waiter) -> None:
        """Have ``waiter`` called once, from any thread, or now."""
        index = ref._index
        with _lock:
            waiting = ref._outcome is None
            if waiting:
                self._waiters.setdefault(index, []).append(waiter)
        if not waiting:
            waiter()
        elif ref._outcome is not None:
            # It was settled by somebody who saw nobody waiting.
            with _lock:
                late = self._waiters.pop(index, ())
            for each in late:
                each()

    def stop_waiting(self, index: int, waiter: Waiter) -> None:
        """Forget a waiter that has lost its patience."""
        with _lock, suppress(ValueError, KeyError):
            waiters = self._waiters[index]
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[index]
