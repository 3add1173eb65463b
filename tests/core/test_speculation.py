"""Calls that are late are made a second time, and count once."""

from __future__ import annotations

import pytest

from goliath.core.batch import JobOptions
from goliath.core.commands import (
    Assign,
    CancelOn,
    Command,
    Demand,
    Fail,
    JobEnded,
    Settle,
    Verdict,
    WakeAt,
)
from goliath.core.events import (
    CallCancelled,
    Event,
    JobCancelled,
    JobExhausted,
    NodeDraining,
    NodeJoined,
    NodeLost,
    NodePressed,
    RangeFinished,
    RangeReturned,
    StealAnswered,
    TimerFired,
)
from goliath.core.ids import Attempt, NodeId
from goliath.core.policy import LATE_FACTOR, LATE_MIN_S, Level, Pace
from goliath.core.scheduler import Scheduler
from tests.core.books import JOB, ONE, A, B, batch, plain, scheduler_with

SPECULATE = JobOptions(speculate=True)
TWO = Attempt(2)
C = NodeId("c#1")
LATE = 1.0 + 2.0  # of a call that was sent at the beginning, where others take a second


def told(scheduler: Scheduler, event: Event, now: float) -> list[Command]:
    """What comes of it, with the books checked."""
    commands = scheduler.handle(event, now)
    scheduler.check()
    return plain(commands)


def finished(number: int, lo: int = 0, hi: int = 1, *, node=A, attempt=ONE, retryable=()):
    return RangeFinished(node, batch(number), attempt, lo, hi, 1.0 * (hi - lo), retryable)


def copied(
    number: int, lo: int = 0, hi: int = 1, *, node=B, parcel: int = 1, careful: bool = False
) -> Assign:
    return Assign(node, JOB, parcel, batch(number), TWO, lo, hi, careful, 0.010)


def late(calls: int = 1, options: JobOptions = SPECULATE) -> Scheduler:
    """Batch 1 hangs on A, 2 was done on B in a second a call; batch 3 is the copy of 1, on B."""
    scheduler = scheduler_with(options, calls, calls, nodes={A: 1, B: 1})
    scheduler.handle(JobExhausted(JOB), 0.0)
    scheduler.handle(finished(2, 0, calls, node=B), 1.0)
    if calls > 1:  # they are asked for first, but A does not answer
        scheduler.handle(TimerFired(), 1.0)
    assert told(scheduler, TimerFired(), 2.0 * calls) == [
        copied(3, 0, calls, careful=options.careful)
    ]
    return scheduler


def test_a_late_call_is_copied_to_an_idle_node_and_not_before():
    scheduler = scheduler_with(SPECULATE, 1, 1, nodes={A: 1, B: 1})
    done = scheduler.handle(finished(2, node=B), 1.0)
    wake = [command for command in done if isinstance(command, WakeAt)]
    assert wake == [WakeAt(LATE_FACTOR * 1.0)]
    assert told(scheduler, TimerFired(), 1.9) == []
    assert told(scheduler, TimerFired(), 2.0) == [copied(3)]
    assert told(scheduler, TimerFired(), 100.0) == []


def test_a_copy_is_made_where_memory_is_short_only_if_it_is_everywhere():
    def copy_with(*levels: Level) -> NodeId:
        scheduler = scheduler_with(SPECULATE, 1, 1, nodes={A: 1, B: 1})
        scheduler.handle(finished(2, node=B), 1.0)
        scheduler.handle(NodeJoined(C, 1), 1.0)
        for node, level in zip((B, C), levels, strict=True):
            scheduler.handle(NodePressed(node, level), 1.0)
        (copy,) = told(scheduler, TimerFired(), 2.0)
        assert isinstance(copy, Assign)
        return copy.node

    assert copy_with(Level.EASY, Level.EASY) == B
    assert copy_with(Level.STRAINED, Level.EASY) == C
    assert copy_with(Level.STRAINED, Level.FULL) == B


def test_nobody_speculates_who_was_not_asked_to():
    scheduler = scheduler_with(JobOptions(), 1, 1, nodes={A: 1, B: 1})
    scheduler.handle(finished(2, node=B), 1.0)
    assert told(scheduler, TimerFired(), 100.0) == []


def test_nothing_is_late_before_half_of_what_is_known_of_has_finished():
    scheduler = scheduler_with(SPECULATE, 1, 1, 1, nodes={A: 2, B: 2})
    scheduler.handle(finished(1), 1.0)
    assert told(scheduler, TimerFired(), 100.0) == []
    assert told(scheduler, finished(2, node=B), 101.0) == [
        Settle(JOB, 2, 0, 1, ONE),
        copied(4, node=B, parcel=3),
    ]


def test_nothing_is_copied_while_all_slots_are_busy():
    scheduler = scheduler_with(SPECULATE, 1, 1, 1, 1, nodes={A: 1, B: 1})
    scheduler.handle(finished(1), 1.0)
    scheduler.handle(finished(2, node=B), 1.0)
    assert told(scheduler, TimerFired(), 100.0) == []
    assert told(scheduler, finished(3), 101.0) == [
        Settle(JOB, 3, 0, 1, ONE),
        copied(5, node=A, parcel=4),
    ]


def test_a_copy_waits_for_another_node_if_one_could_run_it():
    scheduler = scheduler_with(SPECULATE, 1, 1, 1, nodes={A: 2, B: 1})
    scheduler.handle(finished(1), 1.0)  # B has the second, A the third
    scheduler.handle(finished(3), 1.0)
    assert told(scheduler, TimerFired(), 100.0) == [copied(4, node=A, parcel=2)]


def test_the_idle_slot_beside_a_late_call_is_for_those_of_other_nodes():
    scheduler = scheduler_with(SPECULATE, *[1] * 6, nodes={A: 2, B: 1})
    late_there = {}
    for node in (A, B):
        late_there[node], *others = scheduler._nodes[node].held.values()
        for each in others:
            scheduler.handle(finished(each.id, node=node), 1.0)
    parcel = late_there[B].parcel
    assert told(scheduler, TimerFired(), 100.0) == [copied(7, node=A, parcel=parcel)]


def test_on_a_single_node_the_copy_is_made_beside_the_call():
    scheduler = scheduler_with(SPECULATE, 1, 1, nodes={A: 2})
    scheduler.handle(finished(2), 1.0)
    assert told(scheduler, TimerFired(), 2.0) == [copied(3, node=A)]


def test_a_copy_beside_its_call_is_made_elsewhere_once_it_is_late_too_and_another_node_is_there():
    scheduler = scheduler_with(SPECULATE, 1, 1, nodes={A: 2})
    scheduler.handle(finished(2), 1.0)
    assert told(scheduler, TimerFired(), 2.0) == [copied(3, node=A)]
    assert told(scheduler, NodeJoined(B, 1), 3.0) == []
    assert told(scheduler, TimerFired(), 4.0) == [CancelOn(A, batch(3), TWO, False)]
    assert told(scheduler, TimerFired(), 4.1) == []
    returned = RangeReturned(A, batch(3), TWO, 0, 1, "cancelled")
    assert told(scheduler, returned, 4.2) == [copied(4, node=B)]
    assert told(scheduler, TimerFired(), 100.0) == []


def test_a_copy_beside_its_call_stays_there_while_no_other_node_could_run_it():
    needy = JobOptions(speculate=True, cpus=2.0)
    scheduler = scheduler_with(needy, 1, 1, nodes={A: 4})
    scheduler.handle(finished(2), 1.0)
    assert told(scheduler, TimerFired(), 2.0) == [copied(3, node=A)]
    scheduler.handle(NodeJoined(B, 1), 3.0)
    assert told(scheduler, TimerFired(), 100.0) == []


@pytest.mark.parametrize(("winner", "loser", "place", "attempt"), [(1, 3, B, TWO), (3, 1, A, ONE)])
def test_whoever_is_first_has_made_the_call_and_the_other_is_cancelled(
    winner: int, loser: int, place, attempt
):
    scheduler = late()
    first = finished(winner, node=A if winner == 1 else B, attempt=ONE if winner == 1 else TWO)
    assert told(scheduler, first, 3.0) == [
        Settle(JOB, 1, 0, 1, first.attempt),
        CancelOn(place, batch(loser), attempt, False),
    ]
    other = RangeFinished(place, batch(loser), attempt, 0, 1, 9.0)
    assert told(scheduler, other, 4.0) == [JobEnded(JOB)]


def test_of_copies_of_many_calls_each_call_counts_once():
    scheduler = late(3)
    assert told(scheduler, finished(1, 0, 1), 7.0) == [Settle(JOB, 1, 0, 1, ONE)]
    assert told(scheduler, finished(3, 0, 2, node=B, attempt=TWO), 8.0) == [
        Settle(JOB, 1, 0, 2, TWO, (0,))
    ]
    assert told(scheduler, finished(1, 1, 3), 9.0) == [
        Settle(JOB, 1, 1, 3, ONE, (1,)),
        CancelOn(B, batch(3), TWO, False),
    ]
    assert told(scheduler, RangeReturned(B, batch(3), TWO, 2, 3, "cancelled"), 9.1) == [
        JobEnded(JOB)
    ]


@pytest.mark.parametrize("why", ["unstarted", "timeout", "bystander", "stolen", "lost"])
def test_what_comes_back_is_left_to_the_copy(why: str):
    scheduler = late()
    event: Event = RangeReturned(A, batch(1), ONE, 0, 1, why)
    if why == "stolen":
        event = StealAnswered(A, ((batch(1), ONE, 0, 1),))
    elif why == "lost":
        event = NodeLost(A)
    assert told(scheduler, event, 3.0) == []
    assert told(scheduler, finished(3, node=B, attempt=TWO), 4.0) == [
        Settle(JOB, 1, 0, 1, TWO),
        JobEnded(JOB),
    ]


def test_a_call_that_takes_too_long_twice_is_not_made_a_third_time():
    scheduler = late(options=JobOptions(speculate=True, timeout_s=3.0))
    assert told(scheduler, RangeReturned(A, batch(1), ONE, 0, 1, "timeout"), 3.0) == []
    assert told(scheduler, TimerFired(), 100.0) == []
    assert told(scheduler, RangeReturned(B, batch(3), TWO, 0, 1, "timeout"), 100.0) == [
        Fail(JOB, 1, 0, 1, Verdict.TIMED_OUT, TWO),
        JobEnded(JOB),
    ]


def test_when_the_node_of_the_copy_is_lost_the_call_goes_on_and_is_copied_again():
    scheduler = late()
    scheduler.handle(NodeDraining(B), 2.5)
    assert told(scheduler, NodeLost(B), 3.0) == []
    assert told(scheduler, finished(1), 4.0) == [Settle(JOB, 1, 0, 1, ONE), JobEnded(JOB)]


def test_both_copies_of_a_call_answer_for_the_deaths_of_their_workers():
    scheduler = late(options=JobOptions(speculate=True, max_retries=1))
    assert told(scheduler, RangeReturned(A, batch(1), ONE, 0, 1, "crashed", 0), 3.0) == []
    assert told(scheduler, RangeReturned(B, batch(3), TWO, 0, 1, "crashed", 0), 4.0) == [
        Fail(JOB, 1, 0, 1, Verdict.CRASHED, TWO, "2"),
        JobEnded(JOB),
    ]


def test_a_call_that_kills_its_worker_is_taken_out_of_a_copy_among_others():
    scheduler = late(3)
    again = told(scheduler, RangeReturned(A, batch(1), ONE, 0, 3, "crashed", 1), 7.0)
    assert again == [Assign(A, JOB, 1, batch(4), TWO, 1, 2, True, 0.010)]
    assert told(scheduler, finished(3, 0, 3, node=B, attempt=TWO), 8.0) == [
        Settle(JOB, 1, 0, 3, TWO, (1,))
    ]
    assert told(scheduler, finished(4, 1, 2, attempt=TWO), 9.0) == [
        Settle(JOB, 1, 1, 2, TWO),
        JobEnded(JOB),
    ]


def test_a_failure_that_may_be_retried_is_left_to_the_copy_that_runs():
    scheduler = late(options=JobOptions(speculate=True, max_retries=1, retry_exceptions=True))
    assert told(scheduler, finished(1, retryable=(0,)), 3.0) == [Settle(JOB, 1, 0, 1, ONE, (0,))]
    assert told(scheduler, finished(3, node=B, attempt=TWO, retryable=(0,)), 4.0) == [
        Settle(JOB, 1, 0, 1, TWO),
        JobEnded(JOB),
    ]


def test_a_cancelled_call_is_failed_once_and_called_off_on_both_nodes():
    scheduler = late()
    assert told(scheduler, CallCancelled(JOB, 1, 0), 3.0) == [
        Fail(JOB, 1, 0, 1, Verdict.CANCELLED, ONE),
        CancelOn(A, batch(1), ONE, False),
        CancelOn(B, batch(3), TWO, False),
    ]


def test_a_cancelled_job_fails_what_was_copied_once():
    scheduler = late()
    assert told(scheduler, JobCancelled(JOB), 3.0) == [
        CancelOn(A, batch(1), ONE, False),
        Fail(JOB, 1, 0, 1, Verdict.CANCELLED, TWO),
        CancelOn(B, batch(3), TWO, False),
    ]


def test_what_usually_takes_no_time_is_not_late_at_once():
    pace = Pace()
    pace.learn(0.001, 10)
    assert pace.late_after(1) == LATE_MIN_S


def test_one_slow_call_does_not_change_what_is_usual():
    pace = Pace()
    for seconds in (1.0, 1.0, 1.0, 500.0):
        pace.learn(seconds, 1)
    assert pace.late_after(3) == LATE_FACTOR * 1.0 * 3


def test_the_owner_is_not_asked_for_less_because_of_copies():
    scheduler = scheduler_with(SPECULATE, 1, 1, nodes={A: 1, B: 1})
    scheduler.handle(finished(2, node=B), 1.0)
    commands = scheduler.handle(TimerFired(), 2.0)
    assert [c for c in commands if isinstance(c, Demand)] == []
