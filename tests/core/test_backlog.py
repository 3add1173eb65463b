"""Batches that wait: in turn between jobs, in order within one."""

from __future__ import annotations

from hypothesis import given, strategies as st

from goliath.core.backlog import Backlog
from goliath.core.batch import Batch
from goliath.core.ids import BatchId, JobId


def waiting(number: int, job: int = 1) -> Batch:
    return Batch(BatchId(number), JobId(job), 1, 0, 1, 1)


def drain(backlog: Backlog) -> list[int]:
    drained = []
    while backlog:
        first = next(backlog.heads())
        assert backlog.pop(first.job) is first
        drained.append(first.id)
    return drained


def test_one_jobs_batches_leave_in_the_order_they_came():
    backlog = Backlog()
    for number in (1, 2, 3):
        backlog.push(waiting(number))
    assert drain(backlog) == [1, 2, 3]


def test_jobs_are_served_in_turn():
    backlog = Backlog()
    for number, job in ((1, 1), (2, 1), (3, 1), (4, 2)):
        backlog.push(waiting(number, job))
    assert drain(backlog) == [1, 4, 2, 3]


def test_what_was_on_a_node_before_goes_first():
    backlog = Backlog()
    backlog.push(waiting(1))
    backlog.push_front(waiting(2))
    assert drain(backlog) == [2, 1]


def test_a_job_that_fits_nowhere_does_not_hold_up_the_others():
    backlog = Backlog()
    backlog.push(waiting(1, 1))
    backlog.push(waiting(2, 2))
    assert [batch.id for batch in backlog.heads()] == [1, 2]
    assert backlog.pop(JobId(2)).id == 2
    assert [batch.id for batch in backlog.heads()] == [1]
    assert backlog.count(JobId(1)) == 1


def test_a_dropped_job_leaves_nothing():
    backlog = Backlog()
    backlog.push(waiting(1))
    assert [batch.id for batch in backlog.drop(JobId(1))] == [1]
    assert not backlog


def test_it_knows_the_batches_of_one_job_in_their_order():
    backlog = Backlog()
    for number, job in ((1, 1), (2, 2), (3, 1)):
        backlog.push(waiting(number, job))
    assert [batch.id for batch in backlog.of(JobId(1))] == [1, 3]
    assert backlog.of(JobId(9)) == []


def test_the_pieces_of_a_batch_take_its_place_and_its_jobs_turn():
    backlog = Backlog()
    batches = {number: waiting(number, job) for number, job in ((1, 1), (2, 1), (3, 1), (4, 2))}
    for batch in batches.values():
        backlog.push(batch)
    backlog.replace(batches[2], [waiting(5), waiting(6)])
    assert [batch.id for batch in backlog] == [1, 5, 6, 3, 4]
    backlog.replace(batches[1], [])
    assert drain(backlog) == [5, 4, 6, 3]


def test_a_job_whose_last_batch_is_replaced_by_nothing_is_gone():
    backlog = Backlog()
    only = waiting(1)
    backlog.push(only)
    backlog.replace(only, [])
    assert not backlog
    assert list(backlog.heads()) == []


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=40))
def test_everything_that_was_queued_leaves_exactly_once(arrivals: list[tuple[int, bool]]):
    backlog = Backlog()
    for number, (job, front) in enumerate(arrivals):
        (backlog.push_front if front else backlog.push)(waiting(number, job))
    assert sorted(batch.id for batch in backlog) == list(range(len(arrivals)))
    assert sorted(drain(backlog)) == list(range(len(arrivals)))
    assert not backlog


def test_a_higher_priority_goes_first_and_equals_take_turns():
    backlog = Backlog()
    for number, job in ((1, 1), (2, 1), (3, 2), (4, 3), (5, 3)):
        backlog.push(waiting(number, job))
    backlog.prefer(JobId(3), (5, 0))
    backlog.prefer(JobId(2), (-1, 0))
    assert drain(backlog) == [4, 5, 1, 2, 3]
    backlog.push(waiting(6, 1))
    backlog.push(waiting(7, 3))
    backlog.prefer(JobId(3), (0, 0))
    assert drain(backlog) == [6, 7]
