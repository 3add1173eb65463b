"""Single calls, gathered: whatever happens in whatever order, each ends once and with its own."""

from __future__ import annotations

import gc
import weakref
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from goliath.actors import desk
from goliath.actors.bulk import BulkRefs
from goliath.actors.endings import Made
from goliath.actors.gathering import Gathering
from goliath.actors.object_ref import ObjectRef
from goliath.actors.outcomes import Setback, Where
from goliath.actors.ref_list import RefList
from goliath.actors.submission import Submission
from goliath.actors.surroundings import Surroundings
from goliath.actors.tables import ColumnTable
from goliath.core.batch import JobOptions
from goliath.core.commands import Verdict
from goliath.errors import TaskCancelledError
from goliath.transport.functions import dump_function
from goliath.transport.outcomes import encode_outcomes
from tests.actors.desks import FakeCommander, calls_of
from tests.length import length


def test_calls_are_taken_in_the_order_they_were_added():
    calls = Gathering("f", "1", 0)
    assert [calls.add(row) for row in "abc"] == [0, 1, 2]
    assert calls.take(2) == (0, ["a", "b"])
    assert calls.take(2) == (2, ["c"])
    assert len(calls) == 0


def test_a_call_that_was_withdrawn_is_not_taken_and_ends_what_is_taken_at_once():
    calls = Gathering("f", "1", 0)
    for row in "abcde":
        calls.add(row)
    assert calls.withdraw(2)
    assert not calls.withdraw(2), "once"
    assert calls.withdraw(0)
    assert len(calls) == 3
    assert calls.take(9) == (1, ["b"])
    assert not calls.withdraw(1), "it is on its way"
    assert calls.take(9) == (3, ["d", "e"])


def test_a_call_whose_arguments_are_not_known_yet_can_be_taken_when_they_are():
    calls = Gathering("f", "1", 0)
    later, first = calls.reserve(), calls.add("b")
    assert (later, first, len(calls)) == (0, 1, 1)
    assert not calls.withdraw(later)
    assert calls.take(9) == (1, ["b"])
    calls.put(later, "a")
    assert calls.take(9) == (0, ["a"])


def test_whoever_waits_is_told_once_of_the_end_of_his_call_and_of_no_other():
    calls = Gathering("f", "1", 0)
    told: list[int] = []
    refs = [ObjectRef[Any](calls, calls.add(row)) for row in range(4)]
    for index, ref in enumerate(refs):
        ref.when_done(lambda index=index: told.append(index))  # type: ignore[misc]
    calls.settle(1, 3, Made(None))
    assert told == [1, 2]
    calls.end(Made(None))
    assert told == [1, 2, 0, 3]
    refs[0].when_done(lambda: told.append(9))
    assert told[-1] == 9, "it has ended"


@pytest.mark.parametrize("waiting", [1, 5, 40])
def test_a_range_tells_those_who_wait_for_it_however_many_wait_for_others(waiting: int):
    calls = Gathering("f", "1", 0)
    told: list[int] = []
    refs = [ObjectRef[Any](calls, calls.add(row)) for row in range(40)]
    for ref in refs[:waiting]:
        ref.when_done(lambda ref=ref: told.append(ref._index))  # type: ignore[misc]
    for lo in range(0, 40, 8):
        calls.settle(lo, lo + 8, Made(lo))
        assert told == list(range(min(lo + 8, waiting)))
    assert [ref.result(0) for ref in refs] == [n // 8 * 8 for n in range(40)]


def test_a_gathering_keeps_refs_until_they_are_settled_and_results_never():
    calls = Gathering("f", "1", 0)
    refs = [ObjectRef[Any](calls, calls.add(row)) for row in range(3)]
    tracked = [weakref.ref(ref) for ref in refs]
    del refs[0]
    assert tracked[0]() is not None, "its call goes on"
    result = Made([1])
    calls.settle(0, 2, result)
    assert tracked[0]() is None
    assert list(calls.refs) == [2]
    assert gc.get_referrers(result) == [refs[0]], "the one ref that is left of the two"


def name(*args: Any, number: int | None = None) -> int:
    """Which call it is: as a keyword, or the last of its arguments."""
    return args[-1] if number is None else number


class Cancelling(FakeCommander):
    """Runs ranges of its parcels when it is told to; cancels what it has."""

    def __init__(self) -> None:
        super().__init__(batches=0, endless=False, lazy=True)
        self.arrived: list[int] = []  # every call that was sent
        self.open: dict[int, set[int]] = {}  # calls of each parcel that nobody knows ended
        self.unwanted: set[tuple[int, int]] = set()

    def tell(self, message: Any) -> None:
        match message:
            case desk.CancelCall(job, parcel, call, _):
                self._cancel_call(job, parcel, call)
            case desk.SubmitParcel(parcel):
                super().tell(message)
                self.arrived += [name(*args[-1:], **kw) for args, kw in calls_of(parcel)]
                self.open[parcel.first] = set(range(parcel.calls))
            case _:
                super().tell(message)

    def _cancel_call(self, job: int, parcel: int, call: int) -> None:
        if call in self.open[parcel]:
            self.open[parcel].discard(call)
            self.unwanted.add((parcel, call))
            self.jobs[job].owner.on_failed(
                desk.Failed(parcel, call, call + 1, Setback(Verdict.CANCELLED), Where("name"))
            )

    def run_part(self, choice: int, share: float) -> None:
        """Report the first calls of one of its parcels that are open, as many as it likes."""
        parcel = self.parcels[choice % len(self.parcels)]
        wanted = sorted(self.open[parcel.first])
        if not wanted:
            self.parcels.remove(parcel)  # none of it is wanted: nothing is reported
            return
        lo, hi = wanted[0], wanted[round(share * (len(wanted) - 1))] + 1
        excepted = [call for first, call in self.unwanted if first == parcel.first]
        self.open[parcel.first] -= set(range(lo, hi))
        if not self.open[parcel.first]:
            self.parcels.remove(parcel)
        settled = desk.Settled(
            parcel.first,
            lo,
            hi,
            self._cut(parcel, lo, hi),
            tuple(call for call in excepted if lo <= call < hi),
            Where("name", "node", 1, 1),
        )
        self.jobs[parcel.job].owner.on_settled(settled)

    @staticmethod
    def _cut(parcel: desk.Parcel, lo: int, hi: int) -> bytes:
        values = [name(*args, **kwargs) for args, kwargs in calls_of(parcel)[lo:hi]]
        return encode_outcomes(values, {}, {})


class AnyOrder(RuleBasedStateMachine):
    """A submission, its callers and its Commander, in any order of events."""

    def __init__(self) -> None:
        super().__init__()
        self.commander = Cancelling()
        self.submission = Submission(
            dump_function(name),
            Surroundings("env"),
            JobOptions(),
            self.commander.portal,  # type: ignore[arg-type]
            self.commander,  # type: ignore[arg-type]
        )
        self.refs: list[ObjectRef[Any]] = []
        self.bulks: list[BulkRefs] = []
        self.unseen: list[BulkRefs] = []  # made, but no ref of it was looked at
        self.dependency: dict[int, int] = {}
        self.ended: list[int] = []
        self.cancelled: set[int] = set()
        self.withdrawn: set[int] = set()
        self.closed = False

    def _submit(self, *args: Any, **kwargs: Any) -> None:
        ref = self.submission.submit(args, kwargs)
        if self.closed:
            assert ref is None
            return
        assert ref is not None
        self._follow(ref)

    def _follow(self, ref: ObjectRef[Any]) -> None:
        number = len(self.refs)
        self.refs.append(ref)
        ref.when_done(lambda: self.ended.append(number))

    @precondition(lambda self: not self.unseen)  # numbers are those of the refs
    @rule()
    def submit_a_positional_argument(self) -> None:
        self._submit(len(self.refs))

    @precondition(lambda self: not self.unseen)
    @rule()
    def submit_a_keyword(self) -> None:
        self._submit(number=len(self.refs))

    @precondition(lambda self: self.refs and not self.closed and not self.unseen)
    @rule(choice=st.integers(0, 99))
    def submit_one_that_waits_for_another(self, choice: int) -> None:
        self.dependency[len(self.refs)] = choice % len(self.refs)
        self._submit(self.refs[choice % len(self.refs)], len(self.refs))

    @rule(calls=st.integers(1, 5), looked_at_later=st.booleans())
    def submit_many(self, calls: int, looked_at_later: bool) -> None:
        first = len(self.refs) + sum(len(bulk) for bulk in self.unseen)
        table = ColumnTable(calls, [list(range(first, first + calls))], [int])
        bulk = self.submission.submit_many(table)
        assert (bulk is None) == self.closed
        if bulk is not None:
            self.unseen.append(bulk)
        if not looked_at_later:
            self.look_at_refs()

    @rule()
    def look_at_refs(self) -> None:
        for ref in [ref for bulk in self.unseen for ref in bulk]:
            self._follow(ref)
        self.bulks += self.unseen
        self.unseen.clear()

    @rule(batches=st.integers(1, 3), calls=st.integers(1, 4))
    def demand(self, batches: int, calls: int) -> None:
        self.submission.on_demand(batches, calls)

    @precondition(lambda self: self.commander.parcels)
    @rule(choice=st.integers(0, 99), share=st.floats(0, 1))
    def run(self, choice: int, share: float) -> None:
        self.commander.run_part(choice, share)

    @precondition(lambda self: self.refs)
    @rule(choice=st.integers(0, 99), force=st.booleans())
    def cancel(self, choice: int, force: bool) -> None:
        number = choice % len(self.refs)
        done = self.refs[number].done()
        if self.refs[number].cancel(force=force):
            self.withdrawn.add(number)
            assert number not in self.commander.arrived
        if not done:
            self.cancelled.add(number)
        assert self.refs[number].done()

    @rule()
    def close(self) -> None:
        self.submission.close()
        self.closed = True

    @invariant()
    def nothing_is_sent_twice_or_after_it_was_withdrawn(self) -> None:
        arrived = self.commander.arrived
        assert len(arrived) == len(set(arrived))
        assert not self.withdrawn & set(arrived)

    @invariant()
    def a_closed_submission_says_once_that_nothing_will_come_and_says_it_at_once(self) -> None:
        unseen = sum(len(bulk) for bulk in self.unseen)
        to_come = set(range(len(self.refs) + unseen))
        to_come -= self.withdrawn | set(self.commander.arrived)
        ended = {number for number, ref in enumerate(self.refs) if ref.done()}
        to_come -= ended  # as its dependency
        said = self.commander.log.count("exhaust")
        assert said == (self.closed and not to_come)

    @invariant()
    def every_call_that_has_ended_has_ended_once_and_with_its_own(self) -> None:
        assert len(self.ended) == len(set(self.ended))
        assert set(self.ended) == {n for n, ref in enumerate(self.refs) if ref.done()}
        for number in self.ended:
            self._look_at(number)

    def _look_at(self, number: int) -> None:
        try:
            assert self.refs[number].result(0) == number
            assert number not in self.cancelled
        except TaskCancelledError:
            while number not in self.cancelled:
                number = self.dependency[number]

    def teardown(self) -> None:
        self.close()
        self.look_at_refs()
        while not all(ref.done() for ref in self.refs):
            self.submission.on_demand(1, 2)
            while self.commander.parcels:
                self.commander.run_part(0, 1.0)
        self.a_closed_submission_says_once_that_nothing_will_come_and_says_it_at_once()
        self.every_call_that_has_ended_has_ended_once_and_with_its_own()
        assert not self.submission._sent
        assert not self.submission._dependent
        for bulk in self.bulks:
            with suppress(TaskCancelledError):
                assert RefList([bulk]).results(0) == [ref.result(0) for ref in bulk]


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=length(60, 200), stateful_step_count=30, deadline=None
)
