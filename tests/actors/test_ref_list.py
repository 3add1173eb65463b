"""Many calls made at once: their refs are made when they are looked at, and each is told."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from goliath.actors import desk
from goliath.actors.bulk import BulkRefs
from goliath.actors.object_ref import ObjectRef
from goliath.actors.outcomes import Setback, Where
from goliath.actors.portal import Portal
from goliath.actors.ref_list import RefList
from goliath.actors.submission import Submission
from goliath.actors.tables import tabulate
from goliath.core.commands import Verdict
from goliath.errors import GetTimeoutError, TaskCancelledError
from tests.actors.desks import FakeCommander
from tests.actors.test_submission import submission_of, submitted


def twice(x: Any) -> Any:
    if x == "bad":
        raise ValueError("bad")
    return x * 2


def waiting(**options: Any) -> tuple[FakeCommander, Submission]:
    commander = FakeCommander(batches=0, endless=False, **options)
    return commander, submission_of(commander, twice)


def many(submission: Submission, items: list[Any]) -> BulkRefs:
    (table,) = tabulate(items, starred=False)
    assert not isinstance(table, tuple)
    refs = submission.submit_many(table)
    assert refs is not None
    return refs


def values(refs: BulkRefs) -> list[Any]:
    return RefList([refs]).results(0)


def test_parcels_are_cut_as_they_are_asked_for_and_numbers_go_on():
    commander, submission = waiting()
    before = submitted(submission, 0)
    refs = many(submission, list(range(1, 8)))
    behind = submitted(submission, 8)
    submission.on_demand(1, 9)
    submission.on_demand(1, 3)
    submission.on_demand(9, 9)
    assert commander.log == ["open", "parcel of 1", "parcel of 3", *["parcel of 1"] * 5]
    assert [before.result(0), *values(refs), behind.result(0)] == [2 * n for n in range(9)]
    numbers = [ref.task_id for ref in (before, *refs, behind)]
    assert numbers == [f"{submission.id}-{n}" for n in range(9)]
    assert (submission._sent, list(submission._waiting)) == ({}, [])


def test_a_ref_is_made_when_it_is_looked_at_and_stays_the_same():
    _, submission = waiting()
    refs = many(submission, [1, 2, 3])
    early = refs[1]
    assert not early.done()
    submission.on_demand(1, 9)
    submission.on_demand(1, 9)
    assert [early.result(0), refs[2].result(0)] == [4, 6]
    assert refs[1] is early
    assert list(refs) == [refs[0], early, refs[2]]
    assert not refs.calls.refs, "who has been told is forgotten"


def test_values_are_those_of_all_ranges_in_whatever_order_they_come():
    commander, submission = waiting(lazy=True)
    refs = many(submission, list(range(10)))
    for _ in range(4):
        submission.on_demand(1, 3)
    with pytest.raises(GetTimeoutError, match=r"twice .* had no result within 0 s"):
        values(refs)
    commander.run_all(newest_first=True)
    assert values(refs) == [2 * n for n in range(10)]


@pytest.mark.parametrize("bad", [0, 4, 9])
def test_the_first_failure_is_raised_with_its_number(bad: int):
    _, submission = waiting()
    items: list[Any] = list(range(10))
    items[bad] = "bad"
    refs = many(submission, items)
    submission.on_demand(2, 7)
    submission.on_demand(2, 7)
    with pytest.raises(ValueError, match="bad") as raised:
        values(refs)
    assert f"call {bad}" in str(raised.value.__notes__)
    assert [ref.result(0) for ref in refs if ref is not refs[bad]] == [
        2 * n for n in range(10) if n != bad
    ]


def test_one_that_waits_is_withdrawn_and_what_follows_is_sent_without_it():
    commander, submission = waiting()
    refs = many(submission, list(range(8)))
    assert [refs[n].cancel() for n in (0, 3, 7, 3)] == [True, True, True, False]
    assert refs[1].sent() is False
    for _ in range(6):
        submission.on_demand(1, 9)
    assert commander.log == ["open", "parcel of 2", "parcel of 3"]
    assert refs[1].sent() is True
    assert [refs[n].result(0) for n in (1, 2, 4, 5, 6)] == [2, 4, 8, 10, 12]
    for n in (0, 3, 7):
        with pytest.raises(TaskCancelledError, match=f"call {n}, was cancelled"):
            refs[n].result(0)
    assert not submission._waiting


def test_when_all_were_withdrawn_nothing_is_sent_and_the_job_can_end():
    commander, submission = waiting()
    refs = many(submission, [1, 2])
    submission.close()
    (table,) = tabulate([3], starred=False)
    assert submission.submit_many(table) is None  # type: ignore[arg-type]  # it is a table
    assert all(ref.cancel() for ref in refs)
    assert commander.log == ["open", "exhaust"]


def test_nobody_waits_for_a_commander_that_has_ended():
    commander, submission = waiting(lazy=True)
    refs, dropped = many(submission, list(range(4))), many(submission, [1, 2])
    last = dropped[1]
    del dropped
    submission.on_demand(1, 2)
    commander.run_all()
    commander.end(TaskCancelledError("closed"))
    behind = many(submission, [5])
    assert refs[0].result(0) == 0
    for ref in (*list(refs)[2:], last, behind[0]):
        with pytest.raises(TaskCancelledError, match="closed"):
            ref.result(0)
    with pytest.raises(TaskCancelledError, match="closed"):
        values(refs)


def test_calls_without_results_say_why_wherever_they_stand():
    _, submission = waiting(lazy=True)
    refs = many(submission, [1, 2, 3])
    submission.on_demand(1, 9)
    submission.on_demand(1, 9)
    submission.on_failed(desk.Failed(0, 0, 3, Setback(Verdict.CANCELLED), Where("twice")))
    with pytest.raises(TaskCancelledError, match="twice, call 0, was cancelled"):
        values(refs)


def test_results_are_freed_with_the_list_and_a_ref_that_is_kept_keeps_its_own():
    commander, submission = waiting(lazy=True)
    refs = many(submission, [[n] * 3000 for n in range(3)])  # they are big, two of them twice so
    late = many(submission, [1, 2])
    submission.on_demand(1, 9)
    submission.on_demand(1, 9)
    submission.on_demand(1, 9)
    commander.run_all()
    kept, outcomes = refs[1], [weakref.ref(refs), weakref.ref(late)]
    pending = late[1]
    del refs, late
    gc.collect()
    assert [outcome() for outcome in outcomes] == [None, None]
    assert kept.result(0) == [1] * 6000
    commander.run_all()
    assert pending.result(0) == 4, "it is told though the list it was taken from is gone"
    assert submission._sent == {}


def test_arguments_are_freed_when_they_were_sent():
    _, submission = waiting(lazy=True)
    refs = many(submission, [1, 2, 3])
    submission.on_demand(1, 2)
    assert refs.calls._table is not None
    submission.on_demand(1, 2)
    assert refs.calls._table is None


def test_threads_that_look_at_refs_while_they_are_settled_get_the_same_ones_with_their_results():
    commander = FakeCommander(batches=2, calls=70)
    portal = Portal("test")
    commander.portal = portal  # type: ignore[assignment]
    submission = submission_of(commander, twice)
    found: list[list[ObjectRef[Any]]] = []
    refs = many(submission, list(range(3000)))

    def look() -> None:
        mine = list(refs)
        assert [ref.result(5) for ref in mine] == [2 * n for n in range(3000)]
        found.append(mine)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert RefList([refs]).results(5) == [2 * n for n in range(3000)]
    for thread in threads:
        thread.join()
    portal.close()
    assert found == [list(refs)] * 3


def test_a_list_of_several_parts_is_one_sequence():
    _, submission = waiting()
    first, second = many(submission, [0, 1, 2]), many(submission, [4])
    loose = [submitted(submission, n) for n in (3,)]
    refs: RefList[int] = RefList([first, loose, second])
    assert (len(refs), repr(refs), len(RefList([]))) == (5, "<RefList of 5 calls>", 0)
    for _ in range(5):
        submission.on_demand(2, 9)
    assert refs.results() == [0, 2, 4, 6, 8]
    assert [refs[n] for n in range(-5, 5)] == [*refs, *refs]
    assert refs[1:4] == list(refs)[1:4]
    assert refs[::-2] == list(refs)[::-2]
    assert refs.index(refs[3]) == 3
    assert refs[-1] in refs
    for wrong in (5, -6):
        with pytest.raises(IndexError):
            refs[wrong]
    assert RefList([]).results() == []
