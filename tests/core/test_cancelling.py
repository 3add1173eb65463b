"""One call of a job is cancelled: it alone, once, and wherever it is."""

from __future__ import annotations

import pytest

from goliath.core.batch import JobOptions
from goliath.core.commands import Assign, CancelOn, Command, Demand, Fail, JobEnded, Settle, Verdict
from goliath.core.events import (
    CallCancelled,
    EnvironmentBroken,
    Event,
    JobCancelled,
    JobExhausted,
    JobOpened,
    NodeJoined,
    NodeLost,
    ParcelSubmitted,
    RangeFinished,
    RangeReturned,
    StealAnswered,
    TimerFired,
)
from goliath.core.ids import Attempt
from goliath.core.policy import NODE_LOSSES_MAX
from goliath.core.scheduler import Scheduler
from tests.core.books import JOB, ONE, OTHER, A, B, batch, plain, scheduler_with

UNSENT = Attempt(0)
ONCE = JobOptions(max_retries=0)


def told(scheduler: Scheduler, event: Event, now: float = 1.0) -> list[Command]:
    """What comes of it, with the books checked."""
    commands = scheduler.handle(event, now)
    scheduler.check()
    return plain(commands)


def cancelled(call: int, parcel: int = 1, attempt: Attempt = ONE) -> Fail:
    return Fail(JOB, parcel, call, call + 1, Verdict.CANCELLED, attempt)


def cancel_on(number: int, *, force: bool = False) -> CancelOn:
    return CancelOn(A, batch(number), ONE, force)


def finished(number: int, lo: int, hi: int, node=A, retryable: tuple[int, ...] = (), attempt=ONE):
    return RangeFinished(node, batch(number), attempt, lo, hi, 0.1, retryable)


def returned(number: int, lo: int, hi: int, why: str = "unstarted", guilty: int = -1):
    return RangeReturned(A, batch(number), ONE, lo, hi, why, guilty)


def spans(commands: list[Command]) -> list[tuple[int, int]]:
    """Of which calls there are assignments, in order."""
    return [(command.lo, command.hi) for command in commands if isinstance(command, Assign)]


def holding(calls: int, *unwanted: int, options: JobOptions | None = None) -> Scheduler:
    """One batch of so many calls on node A, some of which nobody wants any more."""
    scheduler = scheduler_with(options or JobOptions(), calls, nodes={A: 1})
    for call in unwanted:
        assert told(scheduler, CallCancelled(JOB, 1, call)) == [cancelled(call)]
    return scheduler


# -- in the backlog --------------------------------------------------------------------


def nodeless() -> Scheduler:
    """A job whose batches wait, because there is no node."""
    scheduler = Scheduler()
    scheduler.handle(JobOpened(JOB, JobOptions()), 0.0)
    return scheduler


@pytest.mark.parametrize(("call", "rest"), [(0, [(1, 4)]), (2, [(0, 2), (3, 4)]), (3, [(0, 3)])])
def test_a_call_that_waits_is_cut_out_of_its_batch(call: int, rest: list[tuple[int, int]]):
    scheduler = nodeless()
    told(scheduler, ParcelSubmitted(JOB, 1, 4, 40))
    assert told(scheduler, CallCancelled(JOB, 1, call)) == [cancelled(call, attempt=UNSENT)]
    assert spans(told(scheduler, NodeJoined(A, 4))) == rest


def test_what_is_left_of_a_batch_keeps_its_place_and_its_bytes():
    scheduler = nodeless()
    for parcel in (1, 2, 3):
        told(scheduler, ParcelSubmitted(JOB, parcel, 3, 30))
    told(scheduler, CallCancelled(JOB, 2, 1))
    assert [(each.parcel, each.lo, each.hi, each.nbytes) for each in scheduler._backlog] == [
        (1, 0, 3, 30),
        (2, 0, 1, 10),
        (2, 2, 3, 10),
        (3, 0, 3, 30),
    ]


def test_a_call_that_waits_alone_leaves_nothing_behind_and_is_cancelled_once():
    scheduler = nodeless()
    told(scheduler, ParcelSubmitted(JOB, 1, 1, 1))
    assert told(scheduler, CallCancelled(JOB, 1, 0)) == [cancelled(0, attempt=UNSENT)]
    assert told(scheduler, CallCancelled(JOB, 1, 0)) == []
    assert told(scheduler, NodeJoined(A, 1)) == []
    assert told(scheduler, JobExhausted(JOB)) == [JobEnded(JOB)]


def test_an_exhausted_job_ends_with_its_last_call_that_waits():
    scheduler = nodeless()
    told(scheduler, ParcelSubmitted(JOB, 1, 1, 1))
    told(scheduler, JobExhausted(JOB))
    assert told(scheduler, CallCancelled(JOB, 1, 0)) == [
        cancelled(0, attempt=UNSENT),
        JobEnded(JOB),
    ]


def test_what_is_left_of_a_batch_that_came_back_remembers_what_befell_it():
    scheduler = holding(4)
    told(scheduler, finished(1, 0, 1))
    told(scheduler, NodeLost(A))
    told(scheduler, CallCancelled(JOB, 1, 2))
    for loss in range(NODE_LOSSES_MAX - 1):
        assert spans(told(scheduler, NodeJoined(B, 4))) == [(1, 2), (3, 4)], loss
        assert told(scheduler, NodeLost(B)) == []
    told(scheduler, NodeJoined(B, 4))
    assert {type(command) for command in told(scheduler, NodeLost(B))} == {Fail}


# -- alone on a node -------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
def test_a_call_alone_on_a_node_is_failed_at_once_and_taken_off_it(force: bool):
    scheduler = holding(1)
    assert told(scheduler, CallCancelled(JOB, 1, 0, force)) == [
        cancelled(0),
        cancel_on(1, force=force),
    ]
    assert told(scheduler, CallCancelled(JOB, 1, 0, force)) == [], "it is cancelled once"


@pytest.mark.parametrize(
    "answer",
    [
        returned(1, 0, 1, "cancelled"),
        returned(1, 0, 1, "crashed", 0),
        returned(1, 0, 1, "timeout", 0),
        finished(1, 0, 1),
        finished(1, 0, 1, retryable=(0,)),
        StealAnswered(A, ((batch(1), ONE, 0, 1),)),
        NodeLost(A),
    ],
)
def test_whatever_becomes_of_it_its_job_ends_then_and_nothing_is_said_of_it(answer: Event):
    scheduler = holding(1, options=JobOptions(retry_exceptions=True))
    told(scheduler, CallCancelled(JOB, 1, 0))
    assert told(scheduler, JobExhausted(JOB)) == [], "it still takes room on its node"
    assert told(scheduler, answer) == [JobEnded(JOB)]


def test_the_last_call_of_a_batch_that_is_not_reported_is_alone():
    scheduler = holding(3)
    told(scheduler, finished(1, 0, 2))
    assert told(scheduler, CallCancelled(JOB, 1, 2)) == [cancelled(2), cancel_on(1)]


def test_calls_that_are_all_cancelled_are_taken_off_their_node_together():
    scheduler = holding(3, 0, 2)
    assert told(scheduler, CallCancelled(JOB, 1, 1, force=True)) == [cancelled(1), cancel_on(1)]
    assert told(scheduler, returned(1, 0, 3, "cancelled")) == []


def test_they_are_killed_only_if_that_is_what_was_wanted_of_each():
    scheduler = scheduler_with(JobOptions(), 2, nodes={A: 1})
    told(scheduler, CallCancelled(JOB, 1, 0, force=True))
    assert told(scheduler, CallCancelled(JOB, 1, 1, force=True)) == [
        cancelled(1),
        cancel_on(1, force=True),
    ]


@pytest.mark.parametrize(
    "of_the_others",
    [
        finished(1, 0, 2),
        returned(1, 0, 2, "timeout"),
        returned(1, 0, 2, "cancelled"),
    ],
)
def test_a_call_whose_others_have_ended_is_taken_off_its_node(of_the_others: Event):
    scheduler = holding(3, 2, options=ONCE)
    _, last = told(scheduler, of_the_others)
    assert last == cancel_on(1)


def test_a_call_whose_others_were_robbed_is_taken_off_its_node():
    scheduler = holding(3, 0)
    stolen = told(scheduler, StealAnswered(A, ((batch(1), ONE, 1, 3),)))
    assert [type(command) for command in stolen] == [CancelOn, Assign]
    assert spans(stolen) == [(1, 3)]


# -- among others on a node ------------------------------------------------------------


def test_a_call_among_others_is_failed_at_once_and_its_outcome_dropped():
    scheduler = holding(4, 1, 2)
    assert told(scheduler, CallCancelled(JOB, 1, 1)) == [], "it is cancelled once"
    assert told(scheduler, finished(1, 0, 4)) == [Settle(JOB, 1, 0, 4, ONE, excepted=(1, 2))]
    assert told(scheduler, JobExhausted(JOB)) == [JobEnded(JOB)]


def test_a_call_that_was_reported_is_not_cancelled():
    scheduler = holding(4)
    told(scheduler, finished(1, 0, 2))
    assert told(scheduler, CallCancelled(JOB, 1, 1)) == []
    assert told(scheduler, finished(1, 2, 4)) == [Settle(JOB, 1, 2, 4, ONE)]
    assert told(scheduler, CallCancelled(JOB, 1, 3)) == []


@pytest.mark.parametrize(
    "unknown", [CallCancelled(OTHER, 1, 0), CallCancelled(JOB, 9, 0), CallCancelled(JOB, 1, 4)]
)
def test_a_call_nobody_knows_is_not_cancelled(unknown: CallCancelled):
    scheduler = holding(4)
    assert told(scheduler, unknown) == []
    assert told(scheduler, finished(1, 0, 4)) == [Settle(JOB, 1, 0, 4, ONE)]


def test_a_cancelled_call_that_raised_is_not_tried_again():
    scheduler = holding(4, 3, 1, options=JobOptions(retry_exceptions=True))
    said = told(scheduler, finished(1, 0, 4, retryable=(0, 1, 3)))
    assert said[0] == Settle(JOB, 1, 0, 4, ONE, excepted=(0, 1, 3))
    assert spans(said) == [(0, 1)]
    two = Attempt(2)
    assert told(scheduler, finished(2, 0, 1, attempt=two)) == [Settle(JOB, 1, 0, 1, two)]


def test_a_call_that_raised_and_waits_to_be_tried_again_can_be_cancelled():
    scheduler = holding(2, options=JobOptions(retry_exceptions=True))
    assert spans(told(scheduler, finished(1, 0, 2, retryable=(0,)))) == [(0, 1)]
    fail, cancel = told(scheduler, CallCancelled(JOB, 1, 0))
    assert (fail, cancel) == (
        Fail(JOB, 1, 0, 1, Verdict.CANCELLED, Attempt(2)),
        CancelOn(A, batch(2), Attempt(2), False),
    )


def test_what_comes_back_goes_again_without_it():
    scheduler = holding(6, 0, 2, 3)
    assert spans(told(scheduler, returned(1, 0, 6))) == [(1, 2), (4, 6)]
    assert told(scheduler, CallCancelled(JOB, 1, 2)) == []
    assert told(scheduler, finished(2, 1, 2)) == [Settle(JOB, 1, 1, 2, ONE)]


def test_what_a_lost_node_had_goes_again_without_it_and_in_its_old_order():
    scheduler = holding(9, 2, 5)
    told(scheduler, finished(1, 3, 4))
    told(scheduler, NodeLost(A))
    assert spans(told(scheduler, NodeJoined(A, 8))) == [(0, 2), (4, 5), (6, 9)]


def test_what_is_robbed_goes_to_the_thief_without_it():
    scheduler = holding(6, 4)
    scheduler.handle(NodeJoined(B, 4), 1.0)
    said = told(scheduler, StealAnswered(A, ((batch(1), ONE, 3, 6),)))
    assert [(command.node, command.lo) for command in said if isinstance(command, Assign)] == [
        (B, 3),
        (B, 5),
    ]


def test_a_range_that_nobody_wants_does_not_go_again():
    scheduler = holding(4, 2, 3)
    assert told(scheduler, returned(1, 2, 4)) == []
    assert told(scheduler, finished(1, 0, 2)) == [Settle(JOB, 1, 0, 2, ONE)]
    assert told(scheduler, JobExhausted(JOB)) == [JobEnded(JOB)]


def test_after_an_unexplained_death_the_others_run_carefully_and_it_does_not():
    scheduler = holding(4, 1)
    again = told(scheduler, returned(1, 0, 4, "crashed"))
    assert spans(again) == [(0, 1), (2, 4)]
    assert all(command.careful for command in again if isinstance(command, Assign))


def test_a_cancelled_call_that_kills_its_worker_is_neither_blamed_nor_run_again():
    scheduler = holding(3, 1, options=ONCE)
    assert spans(told(scheduler, returned(1, 1, 3, "crashed", 1))) == [(2, 3)]
    assert told(scheduler, finished(1, 0, 1)) == [Settle(JOB, 1, 0, 1, ONE)]
    assert told(scheduler, JobExhausted(JOB)) == []
    assert told(scheduler, finished(2, 2, 3)) == [Settle(JOB, 1, 2, 3, ONE), JobEnded(JOB)]


def test_a_cancelled_call_that_may_kill_again_is_not_tried_again():
    scheduler = holding(2, 0, options=JobOptions(timeout_s=1.0))
    assert spans(told(scheduler, returned(1, 0, 1, "crashed", 0))) == []


@pytest.mark.parametrize(
    ("event", "verdict"),
    [
        (returned(1, 0, 4, "timeout"), Verdict.TIMED_OUT),
        (returned(1, 0, 4, "cancelled"), Verdict.CANCELLED),
        (returned(1, 0, 4, "bystander"), Verdict.CRASHED),
        (NodeLost(A), Verdict.NODE_DIED),
        (JobCancelled(JOB), Verdict.CANCELLED),
        (EnvironmentBroken("", "disk full"), Verdict.ENVIRONMENT),
    ],
)
def test_it_is_not_failed_again_when_the_others_are(event: Event, verdict: Verdict):
    scheduler = holding(4, 1, 3, options=ONCE)
    failed = [command for command in told(scheduler, event) if isinstance(command, Fail)]
    assert [(fail.lo, fail.hi, fail.verdict) for fail in failed] == [
        (0, 1, verdict),
        (2, 3, verdict),
    ]


def test_no_other_batch_of_its_parcel_makes_it_wanted_again():
    scheduler = scheduler_with(JobOptions(), 10, nodes={A: 1, B: 1})
    assert spans(told(scheduler, StealAnswered(A, ((batch(1), ONE, 0, 5),)))) == [(0, 5)]
    assert told(scheduler, CallCancelled(JOB, 1, 2)) == [cancelled(2)]
    told(scheduler, finished(1, 5, 9))
    assert told(scheduler, CallCancelled(JOB, 1, 9)) == [cancelled(9), cancel_on(1)]
    told(scheduler, returned(1, 9, 10, "cancelled"))
    assert told(scheduler, finished(2, 0, 5, B)) == [Settle(JOB, 1, 0, 5, ONE, excepted=(2,))]


def test_nothing_is_settled_of_a_parcel_whose_every_call_has_ended():
    # Its owner has forgotten it by then.
    scheduler = holding(2, 1)
    assert told(scheduler, finished(1, 0, 1)) == [Settle(JOB, 1, 0, 1, ONE), cancel_on(1)]
    assert told(scheduler, finished(1, 1, 2)) == []


def test_a_stale_report_makes_nothing_wanted_again():
    scheduler = holding(4, 1)
    assert told(scheduler, finished(1, 0, 3, B)) == []
    assert told(scheduler, finished(9, 0, 3)) == []
    assert told(scheduler, finished(1, 0, 5)) == []
    assert told(scheduler, finished(1, 0, 3)) == [Settle(JOB, 1, 0, 3, ONE, excepted=(1,))]
    assert told(scheduler, finished(1, 0, 3)) == []


# -- standing jobs ---------------------------------------------------------------------


def demanded(commands: list[Command]) -> int:
    """How many parcels are asked for."""
    return sum(command.batches for command in commands if isinstance(command, Demand))


def test_a_standing_job_that_is_idle_has_its_fill_and_is_not_asked_again():
    scheduler = Scheduler()
    scheduler.handle(NodeJoined(A, 2), 0.0)
    assert demanded(scheduler.handle(JobOpened(JOB, JobOptions()), 0.0)) > 2
    assert demanded(scheduler.handle(NodeJoined(B, 2), 0.0)) == 0
    assert not scheduler._feeding, "a thousand idle jobs cost nothing"
    scheduler.check()


def test_a_standing_job_is_asked_for_more_before_what_it_may_submit_is_less_than_can_run():
    scheduler = Scheduler()
    scheduler.handle(NodeJoined(A, 2), 0.0)
    may_submit = demanded(scheduler.handle(JobOpened(JOB, JobOptions()), 0.0))
    for parcel in range(1, 50):
        may_submit -= 1
        may_submit += demanded(scheduler.handle(ParcelSubmitted(JOB, parcel, 1, 1), 1.0))
        may_submit += demanded(scheduler.handle(finished(parcel, 0, 1), 1.0))
        scheduler.check()
        assert 2 <= may_submit <= 12


def test_a_job_that_has_its_fill_gets_more_when_it_submits_to_nodes_that_came_later():
    scheduler = Scheduler()
    assert scheduler.handle(JobOpened(JOB, JobOptions()), 0.0) == [Demand(JOB, 1, 1)]
    assert scheduler.handle(TimerFired(), 0.0) == []
    assert scheduler.handle(NodeJoined(A, 8), 0.0) == [], "it had nothing to do yet"
    said = scheduler.handle(ParcelSubmitted(JOB, 1, 1, 1), 1.0)
    assert demanded(said) > 8
    scheduler.check()


def test_calls_that_are_cancelled_while_they_wait_do_not_starve_their_job():
    scheduler = Scheduler()
    may_submit = demanded(scheduler.handle(JobOpened(JOB, JobOptions()), 0.0))
    for parcel in range(1, 30):
        assert may_submit > 0
        may_submit -= 1
        may_submit += demanded(scheduler.handle(ParcelSubmitted(JOB, parcel, 1, 1), 1.0))
        may_submit += demanded(scheduler.handle(CallCancelled(JOB, parcel, 0), 1.0))
        scheduler.check()
