"""Single calls of one function: a standing job that sends what was called meanwhile together.

A call that finds the way free goes off at once, alone. While the scheduler wants no more, calls
gather, and the next parcel takes as many of them as it asks for: so ten thousand calls in flight
cost little more each than those of a ``run``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from goliath.actors import desk, passing
from goliath.actors.bulk import BulkRefs
from goliath.actors.dependencies import Dependencies, LaidOut, frozen_call, takes_refs
from goliath.actors.deposits import Taken
from goliath.actors.endings import Arrived, Broken, Kept, Outcome, Refused
from goliath.actors.gathering import Gathering, Shape
from goliath.actors.job import job_ids
from goliath.actors.object_ref import ObjectRef
from goliath.actors.outcomes import Setback, Where
from goliath.actors.portal import PortalClosedError, Poster
from goliath.actors.ref import AskableRef
from goliath.actors.surroundings import Surroundings
from goliath.actors.tables import Table
from goliath.actors.waiting import Waiting, WaitingByGroup
from goliath.core.batch import JobOptions
from goliath.core.commands import Verdict
from goliath.core.ids import JobId
from goliath.transport.functions import Function
from goliath.transport.message import Origin
from goliath.transport.payload import Piece
from goliath.transport.rows import FarRow, encode_call
from goliath.transport.serialization import SCALARS

GATHERED_MAX = 8192
"""Calls of one gathering."""


class Sent:
    """A parcel on its way: which calls of which gathering are in it."""

    __slots__ = ("calls", "offset", "open_calls", "rows", "size")

    def __init__(
        self, calls: Gathering, offset: int, count: int, rows: Sequence[Any] | None
    ) -> None:
        self.calls = calls
        self.offset = offset
        self.rows = rows  # of calls that may have to be sent again
        self.size = self.open_calls = count


class Submission:
    """The standing job of one function."""

    IN_ORDER = False
    """Whether a call whose arguments are not known yet holds up those that were made after it."""

    def __init__(
        self,
        function: Function,
        surroundings: Surroundings,
        options: JobOptions,
        portal: Poster,
        commander: AskableRef,
        waiting: WaitingByGroup | None = None,
    ) -> None:
        self.id = JobId(next(job_ids))
        self.shipped = surroundings.shipped_modules  # what is in them goes by name
        self._name = function.name
        self._portal = portal
        self._commander = commander
        # Reentrant: a signal handler of the user's may submit, too, at any moment.
        self._lock = threading.RLock()
        self._made = 0
        self._open: Gathering | None = None  # the one that takes further calls
        # With calls to be sent; the open one is last.
        self._waiting: Waiting | WaitingByGroup = Waiting() if waiting is None else waiting
        self._dependent: dict[Gathering, Dependencies] = {}  # calls that wait for results of others
        self._kicked = False
        self._closed = False
        self._broken: Broken | None = None
        self._granted = 0  # parcels the scheduler still wants
        self._calls_wanted = 1  # ... of so many calls
        # What follows belongs to the loop's thread.
        self._next = 0  # the number of the next call to be sent
        self._sent: dict[int, Sent] = {}
        self._exhausted = False
        self._task = str(self.id)  # the first part of all task ids
        portal.post(desk.open_job, commander, self._new_job(function, surroundings, options))

    def _new_job(
        self, function: Function, surroundings: Surroundings, options: JobOptions
    ) -> desk.OpenJob:
        return desk.OpenJob(self.id, self, function, surroundings, options, keeps=True)

    # -- in the callers' threads ---------------------------------------------------------

    def submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRef[Any] | None:
        """Make one call; None if the submission was closed before.

        Raises:
            SerializationError: an argument cannot be pickled.
        """
        row: Any = (*args, *kwargs.values()) if kwargs else args
        shape: Shape = None
        held: list[Any] | None = None
        for value in row:  # a set of their types would take three times as long
            if type(value) not in SCALARS:
                with passing.Collected() as held:
                    if takes_refs(args, kwargs):
                        later = Dependencies(*frozen_call(args, kwargs, self.shipped))
                        return self._submit_later(later, held)
                    row = encode_call(args, kwargs, self.shipped)
                break
        else:
            shape = (len(args), tuple(kwargs))
        with self._lock:
            if self._closed:
                return None
            calls = self._open
            if calls is None or calls.shape != shape or self._made - calls.first >= GATHERED_MAX:
                calls = self._begin(shape)
            self._made += 1
            index = calls.add(row)
            ref: ObjectRef[Any] = ObjectRef(calls, index)
            if held:
                calls.hold(index, held)
            if self._broken is not None:
                calls.end(self._broken)
            elif self._granted and not self._kicked:
                self._kick()
        return ref

    def submit_many(self, table: Table) -> BulkRefs | None:
        """Make many calls; None if the submission was closed before."""
        with self._lock:
            if self._closed:
                return None
            refs = BulkRefs(self._name, self._task, self._made, table, self)
            self._made += len(refs)
            if self._broken is not None:
                refs.calls.end(self._broken)
                return refs
            self._open = None  # what is made next has the next numbers
            self._waiting.append(refs.calls)
            if self._granted and not self._kicked:
                self._kick()
        return refs

    def submit_as(
        self, task_id: str, row: LaidOut, held: list[Any], group: str = ""
    ) -> ObjectRef[Any] | None:
        """Make one call that is laid out already, under a name that was given to it; None if the
        submission was closed before."""
        calls = Gathering.of_one(self._name, task_id, self, group)
        if isinstance(row, Dependencies):
            return self._submit_later(row, held, calls)
        with self._lock:
            if self._closed:
                return None
            index = calls.add(row)
            ref: ObjectRef[Any] = ObjectRef(calls, index)
            calls.hold(index, held)
            if self._broken is not None:
                calls.end(self._broken)
            else:
                self._open = None
                self._waiting.append(calls)
                if self._granted and not self._kicked:
                    self._kick()
        return ref

    def _submit_later(
        self, dependencies: Dependencies, held: list[Any], calls: Gathering | None = None
    ) -> ObjectRef[Any] | None:
        """A call whose arguments are not all known yet: one gathering of its own."""
        with self._lock:
            if self._closed:
                return None
            if calls is None:
                calls = Gathering(self._name, self._task, self._made, None, self)
                self._made += 1
            index = calls.reserve()
            ref: ObjectRef[Any] = ObjectRef(calls, index)
            calls.hold(index, held)
            if self._broken is not None:
                calls.end(self._broken)
                return ref
            self._open = None  # what is made next has the next numbers
            self._dependent[calls] = dependencies
            if self.IN_ORDER:
                self._waiting.append(calls)
        dependencies.when_known(lambda: self._on_known(calls, index, dependencies))
        return ref

    def _on_known(self, calls: Gathering, index: int, dependencies: Dependencies) -> None:
        row = dependencies.row()
        with self._lock:
            # Else it was cancelled, or all is broken.
            wanted = self._dependent.pop(calls, None) is not None
            if wanted and isinstance(row, Piece | FarRow):
                calls.hold(index, dependencies.held)
                calls.put(index, row)
                if not self.IN_ORDER:
                    self._waiting.append(calls)
            with suppress(PortalClosedError):  # then all calls are ended
                self._kick()
        if wanted and not isinstance(row, Piece | FarRow):
            calls.settle(index, index + 1, row)

    def _kick(self) -> None:
        if (self._granted or self._closed) and not self._kicked:
            self._kicked = True
            self._portal.post(self._pump)

    def _begin(self, shape: Shape) -> Gathering:
        calls = self._open = Gathering(self._name, self._task, self._made, shape, self)
        if self._broken is None:
            self._waiting.append(calls)
        return calls

    def cancel(self, calls: Gathering, index: int, *, force: bool, recursive: bool) -> bool:
        """See `Canceller.cancel`."""
        withdrawn = self.withdraw(calls, index)
        if not withdrawn:
            with suppress(PortalClosedError):  # then all calls are ended
                self._portal.post(self._cancel_sent, calls, index, force, recursive)
        return withdrawn

    def withdraw(self, calls: Gathering, index: int) -> bool:
        """See `Canceller.withdraw`."""
        return self._withdraw(calls, index, Refused(Setback(Verdict.CANCELLED), Where(self._name)))

    def _withdraw(self, calls: Gathering, index: int, outcome: Outcome) -> bool:
        with self._lock:
            dependent = self._dependent.pop(calls, None) is not None
            withdrawn = calls.withdraw(index) or dependent
            if not len(calls) and calls is not self._open and calls in self._waiting:
                self._waiting.remove(calls)
            if withdrawn and self._closed:
                with suppress(PortalClosedError):
                    self._kick()  # nothing else may be left of it
        if withdrawn:
            calls.settle(index, index + 1, outcome)
        return withdrawn

    def waits(self, calls: Gathering, index: int) -> bool:
        """See `Canceller.waits`."""
        return calls in self._dependent or calls.waits(index)

    def close(self) -> None:
        """No more calls; those on their way go on."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._portal.post(self._pump)

    def seal(self) -> None:
        """No more calls. Its Commander ends, and tells what becomes of those on their way."""
        with self._lock:
            self._closed = True

    # -- in the loop's thread ------------------------------------------------------------

    def _pump(self) -> None:
        """Send what is wanted of what waits."""
        self._kicked = False
        while self._waiting and (taken := self._take()) is not None:
            calls, offset, rows = taken
            deposits: list[Taken] = []
            form, payload = calls.encode(rows, deposits)
            first, count = self._next, len(rows)
            self._next += count
            self._sent[first] = Sent(calls, offset, count, rows if self.IN_ORDER else None)
            origin: Origin = [self.id, first, calls.job, calls.first + offset]
            parcel = desk.Parcel(
                self.id, first, count, form, payload, origin, calls.group, deposits=deposits
            )
            self._commander.tell(desk.SubmitParcel(parcel))
        if self._closed and not self._exhausted:
            with self._lock:
                rest = self._dependent or any(map(len, self._waiting)) or self._still_asks()
            if not rest:
                self._exhausted = True
                self._commander.tell(desk.ExhaustJob(self.id))

    def _still_asks(self) -> bool:
        """Whether the job has to stay open although all its calls are sent."""
        return False

    def _take(self) -> tuple[Gathering, int, Sequence[Any]] | None:
        """The calls of the next parcel, and where in their gathering they begin."""
        with self._lock:
            calls = self._next_calls()
            if self._granted <= 0 or calls is None:
                return None
            # What waits is spread over all that is wanted, so that nobody idles beside it.
            count = min(self._calls_wanted, len(calls))
            if count > 1:
                waiting = self._count_waiting(count * self._granted)
                count = min(count, -(-waiting // self._granted))
            self._granted -= 1
            offset, rows = calls.take(count)
            if calls is self._open:
                self._open = None
            if not len(calls):
                self._waiting.remove(calls)
            return calls, offset, rows

    def _next_calls(self) -> Gathering | None:
        calls = self._waiting.first(self._dependent)
        if not self._waiting:
            self._open = None  # all of it was withdrawn
        return calls

    def _count_waiting(self, enough: int) -> int:
        """How many calls wait; does not count on when there are enough."""
        waiting = 0
        for calls in self._waiting:
            waiting += len(calls)
            if waiting >= enough:
                break
        return waiting

    def refuse(self, ref: ObjectRef[Any], outcome: Outcome) -> None:
        """That is what becomes of a call that has not begun."""
        calls, index = ref._calls, ref._index
        if not self._withdraw(calls, index, outcome):
            sent = self._find_sent(calls, index)
            calls.settle(index, index + 1, outcome)  # first: it is not to end as a cancelled one
            if sent is not None:
                self._commander.tell(desk.CancelCall(self.id, *sent))

    def arguments_of(self, ref: ObjectRef[Any]) -> list[ObjectRef[Any]]:
        """The results that a call takes, and that are not all known."""
        with self._lock:
            dependencies = self._dependent.get(ref._calls)
        return list(dependencies.refs) if dependencies is not None else []

    def _cancel_sent(self, calls: Gathering, index: int, force: bool, recursive: bool) -> None:
        sent = self._find_sent(calls, index)
        if sent is not None:
            self._commander.tell(desk.CancelCall(self.id, *sent, force, recursive))

    def _find_sent(self, calls: Gathering, index: int) -> tuple[int, int] | None:
        """The parcel of a call that is on its way, and which of its calls it is."""
        for first, sent in self._sent.items():
            call = index - sent.offset
            if sent.calls is calls and 0 <= call < sent.size and index in calls.refs:
                return first, call
        return None

    def on_demand(self, batches: int, calls: int) -> None:
        """See `desk.Owner.on_demand`."""
        with self._lock:
            self._granted += batches
            self._calls_wanted = calls
        if self._waiting or self._closed:
            self._pump()

    def on_settled(self, settled: desk.Settled) -> None:
        """See `desk.Owner.on_settled`."""
        parcel, first, where = settled.parcel, settled.lo, settled.where
        sent = self._sent[parcel]
        number = sent.calls.first + sent.offset + first
        outcome = Arrived(settled.payload, number, where, settled.held)
        own = outcome.take_out_big(settled.hi - first)
        if settled.deposits:
            kept = settled.deposits.items()
            own.update({call - first: Kept(deposit, where) for call, deposit in kept})
        lo = first
        if own or settled.excepted:
            for call in sorted({*settled.excepted, *(first + place for place in own)}):
                self._settle(parcel, lo, call, outcome)
                if call not in settled.excepted:
                    self._settle(parcel, call, call + 1, own[call - first])
                lo = call + 1
        self._settle(parcel, lo, settled.hi, outcome)

    def on_failed(self, failed: desk.Failed) -> None:
        """See `desk.Owner.on_failed`."""
        refused = Refused(failed.setback, failed.where)
        self._settle(failed.parcel, failed.lo, failed.hi, refused)

    def _settle(self, parcel: int, lo: int, hi: int, outcome: Outcome) -> None:
        if lo >= hi:
            return
        sent = self._sent[parcel]
        sent.open_calls -= hi - lo
        if not sent.open_calls:
            del self._sent[parcel]
        sent.calls.settle(sent.offset + lo, sent.offset + hi, outcome)

    def on_broken(self, error: Exception) -> None:
        """See `desk.Owner.on_broken`."""
        with self._lock:
            self._broken = self._broken or Broken(error)
            gatherings = {sent.calls for sent in self._sent.values()}
            gatherings.update(self._waiting, self._dependent)
            self._sent.clear()
            self._waiting.clear()
            self._dependent.clear()
        for calls in gatherings:
            calls.end(self._broken)
