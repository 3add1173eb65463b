"""The Commander's mind, one decision at a time: whole lists of commands."""

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
    Steal,
    Verdict,
    WakeAt,
)
from goliath.core.events import (
    BatchWaits,
    EnvironmentBroken,
    JobCancelled,
    JobExhausted,
    JobOpened,
    NodeDraining,
    NodeJoined,
    NodeLost,
    NodePressed,
    ParcelSubmitted,
    RangeFinished,
    RangeReturned,
    StealAnswered,
    TimerFired,
)
from goliath.core.ids import Attempt
from goliath.core.policy import NODE_LOSSES_MAX, Level
from goliath.core.robbery import BARREN_MAX_S, BARREN_S
from goliath.core.scheduler import Scheduler
from goliath.core.stealing import WORTH_S
from tests.core.books import JOB, ONE, OTHER, A, B, batch, plain, scheduler_with

TWO = Attempt(2)


def assigned(
    number: int, lo: int, hi: int, *, node=A, parcel=1, careful=False, attempt=1, alone=False
) -> Assign:
    place = (node, JOB, parcel, batch(number), Attempt(attempt), lo, hi)
    return Assign(*place, careful, 0.010, alone=alone)


def test_a_job_asks_for_as_much_as_fills_every_window_and_a_little_more():
    scheduler = Scheduler()
    scheduler.handle(NodeJoined(A, 2), 0.0)
    assert scheduler.handle(JobOpened(JOB, JobOptions(), 100), 0.0) == [Demand(JOB, 6, 1)]


def test_two_jobs_that_want_different_resources_are_asked_for_and_run_beside_each_other():
    scheduler = Scheduler()
    scheduler.handle(NodeJoined(A, 2, {"a": 1.0, "b": 1.0}), 0.0)
    scheduler.handle(JobOpened(JOB, JobOptions(resources={"a": 1.0}), 9), 0.0)
    for parcel in range(4):
        scheduler.handle(ParcelSubmitted(JOB, parcel, 1, 10), 0.0)
    wanted = JobOptions(resources={"b": 1.0})
    assert scheduler.handle(JobOpened(OTHER, wanted, 9), 0.0) == [Demand(OTHER, 3, 1)]
    (first,) = plain(scheduler.handle(ParcelSubmitted(OTHER, 9, 1, 10), 0.0))
    assert isinstance(first, Assign)
    assert (first.job, first.node) == (OTHER, A)
    scheduler.check()


def test_a_parcel_goes_to_the_node_with_the_most_room():
    scheduler = scheduler_with(JobOptions(), 1, nodes={A: 1, B: 2})
    assert plain(scheduler.handle(ParcelSubmitted(JOB, 2, 5, 50), 0.0)) == [
        assigned(2, 0, 5, node=B, parcel=2)
    ]


def test_a_finished_range_is_settled_and_the_last_one_ends_the_job():
    scheduler = scheduler_with(JobOptions(), 3, nodes={A: 1})
    scheduler.handle(JobExhausted(JOB), 0.0)
    first = scheduler.handle(RangeFinished(A, batch(1), ONE, 0, 2, 0.1), 1.0)
    assert first == [Settle(JOB, 1, 0, 2, ONE)]
    last = scheduler.handle(RangeFinished(A, batch(1), ONE, 2, 3, 0.1), 1.0)
    assert last == [Settle(JOB, 1, 2, 3, ONE), JobEnded(JOB)]


def test_a_range_that_was_reported_before_is_dropped_in_silence():
    scheduler = scheduler_with(JobOptions(), 3, nodes={A: 1})
    report = RangeFinished(A, batch(1), ONE, 0, 2, 0.1)
    scheduler.handle(report, 1.0)
    assert plain(scheduler.handle(report, 1.0)) == []


@pytest.mark.parametrize(
    "stale",
    [
        RangeFinished(B, batch(1), ONE, 0, 3, 0.1),
        RangeFinished(A, batch(1), TWO, 0, 3, 0.1),
        RangeFinished(A, batch(9), ONE, 0, 3, 0.1),
        RangeReturned(B, batch(1), ONE, 0, 3, "unstarted"),
        StealAnswered(B, ((batch(1), ONE, 0, 3),)),
    ],
)
def test_a_report_of_another_node_attempt_or_batch_is_dropped_in_silence(stale):
    scheduler = scheduler_with(JobOptions(), 3, nodes={A: 1})
    assert plain(scheduler.handle(stale, 1.0)) == []
    scheduler.check()


def test_what_a_lost_node_did_not_report_goes_to_another_one():
    scheduler = scheduler_with(JobOptions(), 4, nodes={A: 1})
    scheduler.handle(RangeFinished(A, batch(1), ONE, 1, 2, 0.1), 1.0)
    scheduler.handle(NodeJoined(B, 1), 1.0)
    assert plain(scheduler.handle(NodeLost(A), 2.0)) == [
        assigned(2 + 1, 0, 1, node=B, attempt=2),
        assigned(2, 2, 4, node=B, attempt=2),
    ]
    scheduler.check()


def test_a_call_that_may_run_once_is_failed_when_its_node_is_lost():
    scheduler = scheduler_with(JobOptions(max_retries=0), 2, nodes={A: 1, B: 1})
    assert plain(scheduler.handle(NodeLost(A), 2.0)) == [
        Fail(JOB, 1, 0, 2, Verdict.NODE_DIED, ONE, A)
    ]


def test_a_call_that_was_on_too_many_lost_nodes_is_given_up():
    scheduler = scheduler_with(JobOptions(), 1, nodes={A: 1})
    for loss in range(NODE_LOSSES_MAX):
        assert plain(scheduler.handle(NodeLost(A), 1.0)) == []
        again = assigned(loss + 2, 0, 1, attempt=loss + 2)
        assert plain(scheduler.handle(NodeJoined(A, 1), 1.0)) == [again]
    assert plain(scheduler.handle(NodeLost(A), 1.0)) == [
        Fail(JOB, 1, 0, 1, Verdict.NODE_DIED, Attempt(NODE_LOSSES_MAX + 1), A)
    ]


def test_after_an_unexplained_death_the_rest_runs_carefully_and_nobody_is_blamed():
    scheduler = scheduler_with(JobOptions(), 3, nodes={A: 1})
    crash = RangeReturned(A, batch(1), ONE, 0, 3, "crashed")
    assert plain(scheduler.handle(crash, 1.0)) == [assigned(2, 0, 3, careful=True, attempt=2)]


def test_the_caught_call_answers_for_the_unexplained_death_too():
    scheduler = scheduler_with(JobOptions(max_retries=1), 3, nodes={A: 1})
    scheduler.handle(RangeReturned(A, batch(1), ONE, 0, 3, "crashed"), 1.0)
    caught = RangeReturned(A, batch(2), TWO, 0, 3, "crashed", guilty=1)
    assert plain(scheduler.handle(caught, 1.0)) == [
        Fail(JOB, 1, 1, 2, Verdict.CRASHED, TWO, "2"),
        assigned(4, 0, 1, careful=True),
        assigned(3, 2, 3, careful=True),
    ]


def test_an_unexplained_death_is_not_forgotten_when_what_is_left_comes_back():
    scheduler = scheduler_with(JobOptions(max_retries=1), 3, nodes={A: 1})
    scheduler.handle(RangeReturned(A, batch(1), ONE, 0, 3, "crashed"), 1.0)
    scheduler.handle(RangeReturned(A, batch(2), TWO, 0, 3, "unstarted"), 2.0)
    caught = RangeReturned(A, batch(3), ONE, 0, 3, "crashed", guilty=1)
    (failed, *_) = plain(scheduler.handle(caught, 3.0))
    assert failed == Fail(JOB, 1, 1, 2, Verdict.CRASHED, ONE, "2")


def test_a_caught_call_with_tries_left_runs_again_alone():
    scheduler = scheduler_with(JobOptions(max_retries=1), 1, nodes={A: 1})
    crash = RangeReturned(A, batch(1), ONE, 0, 1, "crashed", guilty=0)
    assert plain(scheduler.handle(crash, 1.0)) == [assigned(2, 0, 1, careful=True, attempt=2)]
    again = RangeReturned(A, batch(2), TWO, 0, 1, "crashed", guilty=0)
    assert plain(scheduler.handle(again, 1.0)) == [Fail(JOB, 1, 0, 1, Verdict.CRASHED, TWO, "2")]


def test_a_call_that_has_used_up_the_memory_is_tried_once_more_alone_and_no_oftener():
    scheduler = scheduler_with(JobOptions(max_retries=3), 1, nodes={A: 1})
    killed = RangeReturned(A, batch(1), ONE, 0, 1, "crashed", guilty=0, oom=True)
    alone = assigned(2, 0, 1, careful=True, attempt=2, alone=True)
    assert plain(scheduler.handle(killed, 1.0)) == [alone]
    again = RangeReturned(A, batch(2), TWO, 0, 1, "crashed", guilty=0, oom=True)
    assert plain(scheduler.handle(again, 1.0)) == [Fail(JOB, 1, 0, 1, Verdict.CRASHED, TWO, "2")]


def test_what_remains_of_a_batch_that_has_used_up_the_memory_runs_alone_until_it_is_known_which():
    scheduler = scheduler_with(JobOptions(max_retries=3), 3, nodes={A: 1})
    killed = RangeReturned(A, batch(1), ONE, 0, 3, "crashed", guilty=-1, oom=True)
    alone = assigned(2, 0, 3, careful=True, attempt=2, alone=True)
    assert plain(scheduler.handle(killed, 1.0)) == [alone]
    again = RangeReturned(A, batch(2), TWO, 0, 3, "crashed", guilty=1, oom=True)
    failed, *rest = plain(scheduler.handle(again, 2.0))
    assert failed == Fail(JOB, 1, 1, 2, Verdict.CRASHED, TWO, "2")
    assert [(each.lo, each.hi, each.alone) for each in rest] == [(0, 1, False), (2, 3, False)]
    scheduler.check()


def test_nothing_is_sent_to_a_node_on_which_a_call_runs_alone_but_what_it_may_wait_for():
    scheduler = scheduler_with(JobOptions(max_retries=3), 1, nodes={A: 2, B: 1})
    killed = RangeReturned(A, batch(1), ONE, 0, 1, "crashed", guilty=0, oom=True)
    scheduler.handle(killed, 1.0)
    parcels = [ParcelSubmitted(JOB, number, 1, 10) for number in (2, 3, 4)]
    sent = [plain(scheduler.handle(parcel, 1.0)) for parcel in parcels]
    assert [[each.node for each in commands] for commands in sent] == [[B], [B], []]
    scheduler.handle(JobOpened(OTHER, JobOptions(depth=1), 1), 1.0)
    (nested,) = plain(scheduler.handle(ParcelSubmitted(OTHER, 9, 1, 10), 1.0))
    assert nested.node == A
    # When it waits for others it is in nobody's way, and when it is done neither.
    (waiting,) = plain(scheduler.handle(BatchWaits(A, batch(2), TWO, True), 1.0))
    assert (waiting.node, waiting.parcel) == (A, 4)
    scheduler.handle(BatchWaits(A, batch(2), TWO, False), 1.0)
    assert plain(scheduler.handle(ParcelSubmitted(JOB, 5, 1, 10), 1.0)) == []
    done = plain(scheduler.handle(RangeFinished(A, batch(2), TWO, 0, 1, 0.1), 1.0))
    assert [each.node for each in done if isinstance(each, Assign)] == [A]
    scheduler.check()


@pytest.mark.parametrize("alone", [False, True])
def test_no_other_node_is_robbed_for_the_slots_beside_a_call_that_runs_alone(alone: bool):
    scheduler = scheduler_with(JobOptions(max_retries=3), 1, nodes={A: 2})
    killed = RangeReturned(A, batch(1), ONE, 0, 1, "crashed", guilty=0, oom=alone)
    scheduler.handle(killed, 1.0)
    scheduler.handle(NodeJoined(B, 1), 1.0)
    sent = scheduler.handle(ParcelSubmitted(JOB, 2, 90, 900), 1.0)
    assert [each.node for each in sent if isinstance(each, Assign)] == [B]
    assert [each.victim for each in sent if isinstance(each, Steal)] == [B] * (not alone)


def test_a_call_that_may_run_once_is_not_tried_again_for_memory_either():
    scheduler = scheduler_with(JobOptions(max_retries=0), 1, nodes={A: 1})
    killed = RangeReturned(A, batch(1), ONE, 0, 1, "crashed", guilty=0, oom=True)
    assert plain(scheduler.handle(killed, 1.0)) == [Fail(JOB, 1, 0, 1, Verdict.CRASHED, ONE, "1")]


def test_a_call_that_raised_what_is_retried_is_not_settled_while_it_has_tries_left():
    options = JobOptions(max_retries=1, retry_exceptions=True)
    scheduler = scheduler_with(options, 3, nodes={A: 1})
    raised = RangeFinished(A, batch(1), ONE, 0, 3, 0.1, retryable=(1,))
    assert plain(scheduler.handle(raised, 1.0)) == [
        Settle(JOB, 1, 0, 3, ONE, excepted=(1,)),
        assigned(2, 1, 2, attempt=2),
    ]
    again = RangeFinished(A, batch(2), TWO, 1, 2, 0.1, retryable=(1,))
    assert plain(scheduler.handle(again, 1.0)) == [Settle(JOB, 1, 1, 2, TWO)]


def test_a_call_whose_time_was_up_is_failed():
    scheduler = scheduler_with(JobOptions(timeout_s=1.0), 2, nodes={A: 1})
    late = RangeReturned(A, batch(1), ONE, 0, 1, "timeout", guilty=0)
    assert plain(scheduler.handle(late, 1.0)) == [Fail(JOB, 1, 0, 1, Verdict.TIMED_OUT, ONE)]


def test_a_bystander_runs_again_without_blame():
    scheduler = scheduler_with(JobOptions(timeout_s=1.0, max_retries=1), 1, nodes={A: 1})
    struck = RangeReturned(A, batch(1), ONE, 0, 1, "bystander", guilty=0)
    assert plain(scheduler.handle(struck, 1.0)) == [assigned(2, 0, 1, careful=True, attempt=2)]
    crash = RangeReturned(A, batch(2), TWO, 0, 1, "crashed", guilty=0)
    assert plain(scheduler.handle(crash, 1.0)) == [assigned(3, 0, 1, careful=True, attempt=3)]


def test_a_bystander_that_may_run_once_is_failed_for_it_had_begun():
    scheduler = scheduler_with(JobOptions(timeout_s=1.0, max_retries=0), 1, nodes={A: 1})
    struck = RangeReturned(A, batch(1), ONE, 0, 1, "bystander", guilty=0)
    assert plain(scheduler.handle(struck, 1.0)) == [Fail(JOB, 1, 0, 1, Verdict.CRASHED, ONE)]


def test_a_cancelled_job_fails_what_is_open_and_ends_when_its_nodes_have_answered():
    scheduler = scheduler_with(JobOptions(), 2, 3, 4, nodes={A: 1})
    assert scheduler.handle(JobCancelled(JOB, force=True), 1.0) == [
        Fail(JOB, 3, 0, 4, Verdict.CANCELLED, Attempt(0)),
        Fail(JOB, 1, 0, 2, Verdict.CANCELLED, ONE),
        CancelOn(A, batch(1), ONE, True),
        Fail(JOB, 2, 0, 3, Verdict.CANCELLED, ONE),
        CancelOn(A, batch(2), ONE, True),
    ]
    assert scheduler.handle(RangeFinished(A, batch(1), ONE, 0, 2, 0.1), 1.0) == []
    assert scheduler.handle(RangeReturned(A, batch(2), ONE, 0, 3, "cancelled"), 1.0) == [
        JobEnded(JOB)
    ]


def test_calls_submitted_to_a_job_that_was_given_up_end_for_the_same_reason():
    scheduler = scheduler_with(JobOptions(environment="env"), 1, nodes={A: 1})
    scheduler.handle(EnvironmentBroken("env", "disk full"), 1.0)
    assert plain(scheduler.handle(ParcelSubmitted(JOB, 2, 3, 30), 1.0)) == [
        Fail(JOB, 2, 0, 3, Verdict.ENVIRONMENT, Attempt(0), "disk full")
    ]


@pytest.mark.parametrize(
    "reason", [EnvironmentBroken("env", "disk full"), JobCancelled(JOB, by_owner=False)]
)
def test_the_owner_of_a_job_that_was_given_up_is_asked_for_calls_until_it_has_none(reason):
    scheduler = scheduler_with(JobOptions(environment="env", batch_size=2), 1, nodes={A: 1})
    scheduler.handle(reason, 1.0)
    scheduler.handle(RangeReturned(A, batch(1), ONE, 0, 1, "cancelled"), 1.0)
    asked = 0
    for parcel in range(2, 20):
        said = scheduler.handle(ParcelSubmitted(JOB, parcel, 3, 30), 1.0)
        assert [type(command) for command in plain(said)] == [Fail]
        asked += sum(command.batches for command in said if isinstance(command, Demand))
        scheduler.check()
    assert asked >= 15
    assert scheduler.handle(JobExhausted(JOB), 1.0) == [JobEnded(JOB)]


def test_an_owner_may_cancel_a_job_that_was_given_up_before():
    scheduler = scheduler_with(JobOptions(environment="env"), 1, nodes={A: 1})
    scheduler.handle(EnvironmentBroken("env", "disk full"), 1.0)
    scheduler.handle(RangeReturned(A, batch(1), ONE, 0, 1, "cancelled"), 1.0)
    assert scheduler.handle(JobCancelled(JOB), 1.0) == [JobEnded(JOB)]


def test_a_job_no_node_could_run_is_failed_after_a_while_and_not_before():
    scheduler = scheduler_with(JobOptions(cpus=4.0), 1, nodes={A: 1})
    assert WakeAt(1.0) in scheduler.handle(TimerFired(), 0.0)
    assert WakeAt(5.0) in scheduler.handle(TimerFired(), 1.0)
    assert plain(scheduler.handle(TimerFired(), 4.9)) == []
    failed = scheduler.handle(TimerFired(), 5.0)
    assert isinstance(failed[0], Fail)
    assert failed[0].verdict is Verdict.INFEASIBLE


def test_the_owner_of_an_infeasible_job_is_asked_for_the_rest_at_once():
    scheduler = scheduler_with(JobOptions(cpus=4.0), 1, nodes={A: 1})
    scheduler.handle(TimerFired(), 0.0)
    failed, *asked = scheduler.handle(TimerFired(), 5.0)
    assert isinstance(failed, Fail)
    assert [type(command) for command in asked] == [Demand]


def test_the_timer_of_an_infeasible_job_is_due_when_it_fires():
    scheduler = Scheduler(infeasible_after_s=0.1)
    since = 18.627865084015505  # since + 0.1 - since < 0.1
    scheduler.handle(NodeJoined(A, 1), since)
    scheduler.handle(JobOpened(JOB, JobOptions(cpus=4.0)), since)
    (wake,) = [
        command
        for command in scheduler.handle(ParcelSubmitted(JOB, 1, 1, 1), since)
        if isinstance(command, WakeAt)
    ]
    assert isinstance(scheduler.handle(TimerFired(), wake.deadline)[0], Fail)


def test_a_draining_node_gets_nothing_new():
    scheduler = scheduler_with(JobOptions(), nodes={A: 4, B: 1})
    scheduler.handle(NodeDraining(A), 0.0)
    assert plain(scheduler.handle(ParcelSubmitted(JOB, 1, 1, 1), 0.0)) == [
        assigned(1, 0, 1, node=B)
    ]


def robbed_at(scheduler: Scheduler, now: float) -> list[Steal]:
    return [c for c in scheduler.handle(TimerFired(), now) if isinstance(c, Steal)]


def test_a_newcomer_triggers_exactly_one_steal_once_the_work_is_worth_it():
    scheduler = scheduler_with(JobOptions(), 5, 5, nodes={A: 1})
    assert plain(scheduler.handle(NodeJoined(B, 1), WORTH_S)) == [Steal(A, 1)]
    assert robbed_at(scheduler, 1.0) == []


def test_what_is_robbed_goes_to_the_thief():
    scheduler = scheduler_with(JobOptions(), 5, 5, nodes={A: 1})
    scheduler.handle(NodeJoined(B, 1), WORTH_S)
    answer = StealAnswered(A, ((batch(2), ONE, 0, 5),))
    assert plain(scheduler.handle(answer, 1.0)) == [assigned(3, 0, 5, node=B, parcel=2)]
    scheduler.check()


def test_calls_that_all_run_already_are_not_asked_for():
    scheduler = scheduler_with(JobOptions(), 1, 1, nodes={A: 2})
    assert plain(scheduler.handle(NodeJoined(B, 2), 10.0)) == []


def test_a_barren_victim_is_left_in_peace_for_longer_each_time():
    scheduler = scheduler_with(JobOptions(), 5, 5, nodes={A: 1})
    scheduler.handle(NodeJoined(B, 1), 1.0)
    now, pause = 1.0, BARREN_S
    for _ in range(12):
        assert robbed_at(scheduler, now + 0.99 * pause) == []
        scheduler.handle(StealAnswered(A, ()), now)
        assert robbed_at(scheduler, now + 0.99 * pause) == []
        now += pause * 1.01
        assert robbed_at(scheduler, now) == [Steal(A, 1)]
        pause = min(2 * pause, BARREN_MAX_S)


def test_a_victim_that_gets_back_what_only_it_can_run_is_left_in_peace():
    scheduler = Scheduler()
    scheduler.handle(NodeJoined(A, 1, {"gpu": 1.0}), 0.0)
    scheduler.handle(NodeJoined(B, 1), 0.0)
    scheduler.handle(JobOpened(JOB, JobOptions(resources={"gpu": 1.0})), 0.0)
    asked = scheduler.handle(ParcelSubmitted(JOB, 1, 5, 5), 0.0)
    assert Steal(A, 1) in asked
    answer = StealAnswered(A, ((batch(1), ONE, 3, 5),))
    assert plain(scheduler.handle(answer, 1.0)) == [assigned(2, 3, 5)]
    assert robbed_at(scheduler, 1.0 + BARREN_S / 2) == []


def test_every_job_gets_its_turn():
    scheduler = scheduler_with(JobOptions(), 1, 1, 1, nodes={A: 1})
    scheduler.handle(JobOpened(OTHER, JobOptions()), 0.0)
    scheduler.handle(ParcelSubmitted(OTHER, 7, 1, 1), 0.0)
    scheduler.handle(ParcelSubmitted(JOB, 8, 1, 1), 0.0)
    order = []
    for number in (1, 2):
        done = scheduler.handle(RangeFinished(A, batch(number), ONE, 0, 1, 0.1), 1.0)
        order += [c.parcel for c in done if isinstance(c, Assign)]
    assert order == [3, 7]


def assignments(commands: list[Command]) -> list[Command]:
    return [command for command in commands if isinstance(command, Assign)]


def near_scheduler() -> Scheduler:
    """Two nodes with a call on each; B keeps what the calls of parcel 3 take."""
    scheduler = scheduler_with(JobOptions(), 1, 1, nodes={A: 2, B: 2})
    commands = scheduler.handle(ParcelSubmitted(JOB, 3, 3, 30, {B: 500}), 0.0)
    assert assignments(commands) == [assigned(3, 0, 3, node=B, parcel=3)]
    return scheduler


def test_a_batch_that_comes_back_still_knows_where_its_arguments_are():
    scheduler = near_scheduler()
    returned = RangeReturned(B, batch(3), ONE, 0, 3, "unstarted")
    again = assignments(scheduler.handle(returned, 0.0))
    assert again == [assigned(4, 0, 3, node=B, parcel=3)]


def test_a_call_that_is_tried_again_still_knows_where_its_arguments_are():
    scheduler = near_scheduler()
    finished = RangeFinished(B, batch(3), ONE, 0, 3, 0.1, retryable=(1,))
    again = assignments(scheduler.handle(finished, 0.0))
    assert again == [assigned(4, 1, 2, node=B, parcel=3, attempt=2)]


def test_arguments_that_were_on_a_lost_node_keep_nobody_from_running_elsewhere():
    moved = assignments(near_scheduler().handle(NodeLost(B), 0.0))
    assert assigned(4, 0, 3, node=A, parcel=3, attempt=2) in moved


def test_a_batch_goes_where_a_slot_is_free_before_where_its_arguments_are():
    scheduler = scheduler_with(JobOptions(), 1, nodes={A: 1, B: 1})
    away = assignments(scheduler.handle(ParcelSubmitted(JOB, 2, 1, 10, {A: 500}), 0.0))
    assert away == [assigned(2, 0, 1, node=B, parcel=2)]


def test_calls_with_more_than_a_window_of_arguments_run_on_all_slots_and_none_waits_there():
    scheduler = scheduler_with(JobOptions(), nodes={A: 3})
    big = 2 * scheduler.window_bytes
    kinds = []
    for number in range(4):
        commands = plain(scheduler.handle(ParcelSubmitted(JOB, number, 1, big), 0.0))
        kinds.append([type(command) for command in commands])
    assert kinds == [[Assign], [Assign], [Assign], []]
    scheduler.check()


def test_a_small_call_is_placed_beside_a_job_whose_bytes_fill_the_window():
    scheduler = scheduler_with(JobOptions(), nodes={A: 1})
    big = scheduler.handle(ParcelSubmitted(JOB, 1, 1, scheduler.window_bytes), 0.0)
    assert [type(command) for command in plain(big)] == [Assign]
    assert plain(scheduler.handle(ParcelSubmitted(JOB, 2, 1, scheduler.window_bytes), 0.0)) == []
    scheduler.handle(JobOpened(OTHER, JobOptions(), 1), 0.0)
    [small] = plain(scheduler.handle(ParcelSubmitted(OTHER, 1, 1, 1000), 0.0))
    assert isinstance(small, Assign)
    assert (small.job, small.node) == (OTHER, A)
    scheduler.check()


def refused(number: int, node=A, hi: int = 1) -> RangeReturned:
    return RangeReturned(node, batch(number), ONE, 0, hi, "full")


def test_what_a_full_node_refuses_goes_to_another_one():
    scheduler = scheduler_with(JobOptions(batch_size=1), 1, nodes={A: 1, B: 1})
    scheduler.handle(NodePressed(A, Level.FULL), 1.0)
    (again,) = plain(scheduler.handle(refused(1), 1.0))
    assert isinstance(again, Assign)
    assert (again.node, again.batch) == (B, batch(2))
    scheduler.check()


def test_what_no_node_has_the_memory_for_fails():
    scheduler = scheduler_with(JobOptions(batch_size=1), 1, nodes={A: 1, B: 1})
    for node in (A, B):
        scheduler.handle(NodePressed(node, Level.FULL), 1.0)
    failed = plain(scheduler.handle(refused(1), 1.0))
    assert failed == [Fail(JOB, 1, 0, 1, Verdict.FULL, ONE)]
    scheduler.check()


def test_what_was_refused_waits_for_a_node_that_takes_it():
    scheduler = scheduler_with(JobOptions(batch_size=1), 1, 1, 1, nodes={A: 2, B: 1})
    held = {node: list(scheduler._nodes[node].held) for node in (A, B)}
    scheduler.handle(NodePressed(A, Level.FULL), 1.0)
    # It is small, as far as is known here; what is common to its job is not.
    (again,) = plain(scheduler.handle(refused(held[A][0]), 1.0))
    assert isinstance(again, Assign)
    assert again.node == B
    assert plain(scheduler.handle(refused(held[A][1]), 1.0)) == [], "there is no room on it now"
    (later,) = plain(scheduler.handle(NodePressed(A, Level.STRAINED), 2.0))
    assert isinstance(later, Assign)
    assert later.node == A
    scheduler.check()


def test_a_call_of_an_actor_that_is_refused_fails_and_the_actor_lives():
    scheduler = scheduler_with(JobOptions(actor=True, batch_size=1), 1, 1, nodes={A: 1, B: 1})
    home = next(node for node in (A, B) if scheduler._nodes[node].held)
    scheduler.handle(NodePressed(home, Level.FULL), 1.0)
    commands = plain(scheduler.handle(refused(1, home), 1.0))
    assert commands == [Fail(JOB, 1, 0, 1, Verdict.FULL, ONE)]
    scheduler.check()


def test_a_node_that_is_short_of_memory_robs_nobody_and_is_robbed():
    scheduler = scheduler_with(JobOptions(batch_size=10), nodes={A: 1, B: 1})
    scheduler.handle(NodePressed(B, Level.STRAINED), 0.0)
    for number in (1, 2):
        scheduler.handle(ParcelSubmitted(JOB, number, 10, 100), 0.0)
    assert len(scheduler._nodes[A].held) == 2
    assert not [c for c in scheduler.handle(TimerFired(), 10.0) if isinstance(c, Steal)]
    scheduler.handle(NodePressed(B, Level.FULL), 10.0)
    scheduler.handle(NodePressed(A, Level.STRAINED), 10.0)
    robbed = scheduler.handle(NodePressed(B, Level.EASY), 10.0)
    assert [c.victim for c in robbed if isinstance(c, Steal)] == [A]


def test_where_all_are_short_of_memory_one_that_has_nothing_robs_others():
    scheduler = scheduler_with(JobOptions(batch_size=10), nodes={A: 1, B: 4})
    scheduler.handle(NodePressed(B, Level.FULL), 0.0)
    scheduler.handle(NodePressed(A, Level.STRAINED), 0.0)
    for number in (1, 2):
        scheduler.handle(ParcelSubmitted(JOB, number, 10, 100), 0.0)
    assert len(scheduler._nodes[A].held) == 2
    scheduler.handle(NodePressed(A, Level.FULL), 1.0)
    assert not [c for c in scheduler.handle(TimerFired(), 10.0) if isinstance(c, Steal)]
    robbed = scheduler.handle(NodePressed(B, Level.STRAINED), 10.0)
    assert [c for c in robbed if isinstance(c, Steal)] == [Steal(A, 1)]
