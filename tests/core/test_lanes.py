"""Calls of coroutine functions beside each other in one worker: who joins whom, and whose fault
it is when they end together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from goliath.core import node_events as ne
from goliath.core.batch import JobOptions
from goliath.core.commands import Assign, Fail, Verdict
from goliath.core.crew import SPLIT_AFTER_S
from goliath.core.events import BatchWaits, RangeReturned
from goliath.core.ids import Serial
from goliath.core.node import Node, NodePolicy
from tests.core.books import (
    JOB,
    ONE,
    A,
    B,
    S,
    T,
    arrive,
    batch,
    node_with,
    plain,
    scheduler_with as scheduled,
    untimed,
)
from tests.core.test_node import V, W, done, release, returned

MANY = JobOptions(concurrency=100)
GRACE_S = NodePolicy().timeout_grace_s


def run(number: int, lo: int = 0, hi: int = 1, worker=W, serial=1, careful=False) -> ne.Run:
    return ne.Run(worker, Serial(serial), S, batch(number), ONE, lo, hi, careful, concurrent=True)


def beside(count: int, *, slots: int = 1, concurrency: int = 100, **kwargs) -> Node:
    """Batches 1 to ``count`` (one call each, serial as number) are lanes of worker 1."""
    node = node_with(slots, policy=kwargs.pop("policy", None))
    for number in range(1, count + 1):
        node.handle(arrive(number, concurrency=concurrency, **kwargs), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    node.check()
    return node


def progress(serial: int, lo: int = 0, hi: int = 1, **kwargs) -> ne.WorkerProgressed:
    final = kwargs.pop("final", True)
    return ne.WorkerProgressed(W, Serial(serial), lo, hi, 0.001, final, **kwargs)


def died(*serials: int, index: int = -1) -> ne.WorkerExited:
    """Worker 1, while these ran."""
    first, *others = [(Serial(serial), index) for serial in serials]
    return ne.WorkerExited(W, *first, tuple(others))


def test_calls_of_a_coroutine_function_share_a_worker_and_its_slot():
    node = node_with(1)
    assert untimed(node.handle(arrive(1, concurrency=3), 0.0)) == [
        ne.Fork(W, S, "env", 1.0),
        run(1, serial=1),
    ]
    assert untimed(node.handle(arrive(2, concurrency=3), 0.0)) == [run(2, serial=2)]
    assert node.load()[0] == 1.0
    node.check()


def test_no_more_of_them_than_were_allowed():
    node = beside(3, concurrency=3)
    assert not untimed(node.handle(arrive(4, concurrency=3), 0.0))
    assert untimed(node.handle(progress(2), 1.0)) == [done(0, 1, 2), release(2), run(4, serial=4)]
    node.check()


def test_while_slots_are_free_each_gets_a_worker_of_its_own():
    node = beside(1, slots=2)
    assert untimed(node.handle(arrive(2, concurrency=100), 0.0)) == [
        ne.Fork(V, S, "env", 1.0),
        run(2, worker=V, serial=2),
    ]
    assert untimed(node.handle(arrive(3, concurrency=100), 0.0)) == [run(3, serial=3)]
    assert untimed(node.handle(arrive(4, concurrency=100), 0.0)) == [run(4, worker=V, serial=4)]
    node.check()


def test_calls_that_take_no_cpu_do_not_have_workers_without_end():
    node = beside(1, slots=2, cpus=0.0)
    node.handle(arrive(2, concurrency=100, cpus=0.0), 0.0)
    assert untimed(node.handle(arrive(3, concurrency=100, cpus=0.0), 0.0)) == [run(3, serial=3)]


@pytest.mark.parametrize(
    "other",
    [
        arrive(2),
        arrive(2, concurrency=99),
        arrive(2, concurrency=100, cpus=0.5),
        arrive(2, concurrency=100, session=T),
    ],
    ids=["a plain function", "another limit", "other CPUs", "another Commander"],
)
def test_what_is_not_like_them_waits_for_a_slot(other: ne.BatchArrived):
    node = node_with(1, S, T)
    node.handle(arrive(1, concurrency=100), 0.0)
    assert not untimed(node.handle(other, 0.0))
    node.check()


def test_calls_of_another_limit_wait_for_a_slot():
    test_what_is_not_like_them_waits_for_a_slot(arrive(2, concurrency=99))


def test_whoever_was_first_in_the_queue_is_not_overtaken_for_ever():
    node = beside(1)
    node.handle(arrive(2), 0.0)
    assert not untimed(node.handle(arrive(3, concurrency=100), 0.0))
    node.check()


def test_a_worker_without_lanes_takes_anything():
    node = beside(2)
    node.handle(arrive(3), 0.0)
    node.handle(progress(2), 1.0)
    commands = untimed(node.handle(progress(1), 2.0))
    assert ne.Run(W, Serial(3), S, batch(3), ONE, 0, 1, False) in commands
    node.check()


def test_a_lane_that_ends_leaves_the_others_alone():
    node = beside(3)
    assert untimed(node.handle(progress(2), 1.0)) == [done(0, 1, 2), release(2)]
    assert node.load()[0] == 1.0
    node.handle(progress(1), 1.0)
    node.handle(progress(3), 1.0)
    assert node.load()[0] == 0.0
    node.check()


def test_a_worker_that_reports_for_a_lane_it_has_not_is_killed():
    assert ne.Kill(W) in beside(2).handle(progress(7), 0.0)


def test_when_their_worker_dies_nobody_knows_which_of_them_did_it():
    node = beside(3)
    assert untimed(node.handle(died(1, 3), 1.0)) == [
        returned(0, 1, "crashed", worker=W, number=3),
        release(3),
        returned(0, 1, "crashed", worker=W, number=1),
        release(1),
        ne.Fork(V, S, "env", 1.0),
        run(2, worker=V, serial=4),  # it had not begun
    ]
    node.check()


def test_one_that_ran_alone_did_it():
    node = beside(2)
    commands = untimed(node.handle(died(2), 1.0))
    assert returned(0, 1, "crashed", guilty=0, worker=W, number=2) in commands
    assert run(1, worker=V, serial=3) in commands  # it had not begun
    node.check()


def test_of_what_may_run_once_only_the_calls_that_ran_are_given_back():
    node = node_with(1)
    for number in (1, 2):
        node.handle(arrive(number, 3, careful=True, concurrency=100), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    node.handle(progress(2, 0, 1, final=False), 0.5)
    commands = untimed(node.handle(ne.WorkerExited(W, Serial(1), 0, ((Serial(2), 1),)), 1.0))
    assert returned(0, 1, "crashed", worker=W, number=1) in commands
    assert returned(1, 2, "crashed", worker=W, number=2) in commands
    assert [(c.batch, c.lo, c.hi) for c in commands if isinstance(c, ne.Run)] == [
        (1, 1, 3),
        (2, 2, 3),
    ]
    node.check()


def test_one_that_is_cancelled_is_interrupted_and_the_others_go_on():
    node = beside(3)
    assert untimed(node.handle(ne.CancelArrived(S, batch(2), ONE), 1.0)) == [
        ne.InterruptRange(W, Serial(2))
    ]
    stopped = progress(2, 0, 0, interrupted=True)
    assert untimed(node.handle(stopped, 1.1)) == [
        returned(0, 1, "cancelled", number=2),
        release(2),
    ]
    assert not untimed(node.handle(ne.NodeTimerFired(), 10.0))
    node.check()


@pytest.mark.parametrize("force", [True, False])
def test_one_that_must_be_killed_takes_bystanders_with_it(force: bool):
    node = beside(2)
    commands = node.handle(ne.CancelArrived(S, batch(2), ONE, force=force), 1.0)
    if not force:
        commands = node.handle(ne.NodeTimerFired(), 1.0 + NodePolicy().cancel_grace_s)
    assert ne.Kill(W) in commands
    assert untimed(node.handle(died(1, 2), 6.0)) == [
        returned(0, 1, "cancelled", number=2),
        release(2),
        returned(0, 1, "bystander", guilty=-1, worker=W, number=1),
        release(1),
    ]
    node.check()


def overdue() -> Node:
    """Both lanes may take a second; the call of the first has taken it and was interrupted."""
    node = beside(2, careful=True, timeout_s=1.0)
    looks = untimed(node.handle(ne.NodeTimerFired(), 1.0))
    assert looks == [ne.Inspect(W, Serial(1)), ne.Inspect(W, Serial(2))]
    assert untimed(node.handle(ne.WorkerInspected(W, Serial(1), 0, 0.0), 1.0)) == [
        ne.InterruptRange(W, Serial(1), 0)
    ]
    node.handle(ne.WorkerInspected(W, Serial(2), 0, 0.9), 1.0)
    node.check()
    return node


def test_one_whose_time_is_up_is_interrupted_and_returned():
    stopped = progress(1, 0, 0, interrupted=True)
    assert untimed(overdue().handle(stopped, 1.1)) == [
        returned(0, 1, "timeout", guilty=0, worker=W),
        release(1),
    ]


def test_one_that_ends_before_the_interrupt_arrives_is_not_late():
    node = overdue()
    node.handle(ne.WorkerInspected(W, Serial(2), 0, 0.9), 1.9)
    assert untimed(node.handle(progress(1), 1.95)) == [done(0, 1), release(1)]
    assert ne.Kill(W) not in node.handle(ne.NodeTimerFired(), 1.0 + GRACE_S)
    node.check()


def test_what_follows_a_late_call_that_ended_is_not_killed_for_it():
    node = node_with(1)
    node.handle(arrive(1, 2, careful=True, timeout_s=1.0, concurrency=100), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    node.handle(ne.WorkerInspected(W, Serial(1), 0, 0.0), 1.0)
    node.handle(progress(1, final=False), 1.1)  # it ended before the interrupt came, which named it
    assert ne.Kill(W) not in node.handle(ne.NodeTimerFired(), 1.0 + GRACE_S)
    node.check()


def test_one_that_does_not_care_is_killed_and_those_beside_it_are_bystanders():
    node = overdue()
    node.handle(ne.WorkerInspected(W, Serial(2), 0, 1.5), 1.9)
    assert ne.Kill(W) in node.handle(ne.NodeTimerFired(), 1.0 + GRACE_S)
    commands = untimed(node.handle(died(1, 2, index=0), 2.1))
    assert returned(0, 1, "timeout", guilty=0, worker=W) in commands
    assert returned(0, 1, "bystander", guilty=-1, worker=W, number=2) in commands
    node.check()


def test_what_follows_in_a_lane_is_run_by_a_lane_beside_it():
    node = node_with(1)
    node.handle(arrive(1, 8, concurrency=100), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    ripe = node.handle(ne.NodeTimerFired(), SPLIT_AFTER_S)
    assert ne.SplitRange(W, Serial(1), 2) in ripe
    given = node.handle(ne.RestYielded(W, Serial(1), 5), 0.005)
    assert run(1, 5, 8, serial=2) in given
    node.check()


def test_lanes_are_asked_together_what_has_finished_and_the_more_seldom_the_more_there_are():
    node = node_with(1)
    for number in range(1, 21):
        node.handle(arrive(number, 8, concurrency=20), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    flush = ne.FlushRange(W, Serial(0))
    assert untimed(node.handle(ne.NodeTimerFired(), 0.010)) == [flush]
    assert untimed(node.handle(ne.NodeTimerFired(), 0.039)) == []
    assert untimed(node.handle(ne.NodeTimerFired(), 0.040)) == [flush]


def test_one_lane_at_a_time_is_asked_for_what_it_can_spare():
    node = node_with(1)
    for number in (1, 2):
        node.handle(arrive(number, 8, concurrency=100), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    assert ne.SplitRange(W, Serial(1), 2) in node.handle(ne.NodeTimerFired(), SPLIT_AFTER_S)
    assert untimed(node.handle(ne.NodeTimerFired(), 0.005)) == []
    asked = node.handle(progress(1, 0, 8), 0.006)  # it was over before it could answer
    assert ne.SplitRange(W, Serial(2), 2) in asked


def test_a_thief_is_answered_when_the_lane_that_was_asked_has_ended():
    node = node_with(1)
    node.handle(arrive(1, 8, concurrency=100), 0.0)
    node.handle(arrive(2, concurrency=100), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    assert untimed(node.handle(ne.StealArrived(S, 1), 0.0)) == [ne.SplitRange(W, Serial(1), 2)]
    node.handle(progress(2), 0.0)
    assert ne.ReportSurrendered(S, 1, ()) in node.handle(progress(1, 0, 8), 0.0)
    assert not untimed(node.handle(ne.RestYielded(W, Serial(1), 8), 0.0))
    node.check()


def test_a_lane_that_waits_gives_the_slot_back_for_all_of_them():
    node = beside(2)
    node.handle(arrive(3), 0.1)
    commands = untimed(node.handle(ne.WorkerWaits(W, Serial(2), waiting=True), 0.2))
    assert ne.ReportWaiting(S, batch(2), ONE, True) in commands
    assert ne.Fork(V, S, "env", 1.0) in commands
    assert node.load()[0] == 1.0
    node.handle(ne.WorkerWaits(W, Serial(2), waiting=False), 0.3)
    assert node.load()[0] == 2.0
    node.check()


def test_a_call_may_join_those_that_wait_for_it():
    node = beside(1)
    node.handle(ne.WorkerWaits(W, Serial(1), waiting=True), 0.1)
    node.handle(arrive(2), 0.1)
    node.handle(ne.WorkerStarted(V), 0.1)  # and has the slot
    assert untimed(node.handle(arrive(3, concurrency=100), 0.2)) == [run(3, serial=3)]
    node.check()


def test_a_worker_that_leaves_has_begun_nothing_more():
    node = beside(2)
    node.handle(progress(1), 1.0)
    assert untimed(node.handle(progress(2, dirty=True), 1.0)) == [
        done(0, 1, 2),
        release(2),
        ne.Retire(W),
    ]
    node = beside(2)
    assert ne.Kill(W) in node.handle(progress(1, dirty=True), 1.0)
    assert run(2, worker=V, serial=3) in node.handle(ne.WorkerExited(W, Serial(0), -1), 1.0)
    node.check()


def test_a_worker_is_not_handed_more_calls_than_it_may_run():
    node = beside(2, policy=NodePolicy(tasks_per_worker_max=2))
    assert not untimed(node.handle(arrive(3, concurrency=100), 0.0))
    node.handle(progress(1), 1.0)
    assert ne.Retire(W) in node.handle(progress(2), 1.0)


def test_a_worker_that_has_grown_too_big_takes_no_further_lanes_and_leaves_with_the_last():
    node = beside(2, policy=NodePolicy(bytes_per_worker_max=1000))
    node.handle(replace(progress(1), resident_bytes=1001), 1.0)
    assert not untimed(node.handle(arrive(3, concurrency=100), 1.0))
    after = node.handle(progress(2), 2.0)
    assert ne.Retire(W) in after
    assert [command.worker for command in after if isinstance(command, ne.Fork)] == [W + 1]


def test_a_process_of_a_job_that_is_over_takes_no_further_lanes():
    node = beside(1)
    node.handle(ne.EnvironmentForgotten(S, "env"), 0.5)
    node.handle(ne.EnvironmentReady(S, "env"), 0.5)
    assert not untimed(node.handle(arrive(2, concurrency=100), 0.5))
    node.check()


# -- the Commander's mind --------------------------------------------------------------------


def test_a_node_is_sent_as_many_calls_as_it_can_run_at_once_and_one_more():
    scheduler = scheduled(MANY, *[1] * 250, nodes={A: 1})
    assert scheduler._nodes[A].load == pytest.approx(1.01)
    assert len(scheduler._nodes[A].held) == 101


def test_many_coroutines_on_a_node_leave_room_for_others():
    scheduler = scheduled(MANY, *[1] * 100, nodes={A: 1})
    assert scheduler._nodes[A].load == pytest.approx(1.0)
    scheduler.handle(BatchWaits(A, batch(1), ONE, True), 1.0)
    scheduler.check()
    assert scheduler._nodes[A].load == pytest.approx(0.99)


def test_coroutines_are_divided_among_nodes():
    scheduler = scheduled(MANY, *[1] * 50, nodes={A: 1, B: 1})
    assert [len(node.held) for node in scheduler._nodes.values()] == [25, 25]


def test_whoever_ran_beside_others_when_their_worker_died_runs_again_alone():
    scheduler = scheduled(MANY, 1, nodes={A: 1})
    crash = RangeReturned(A, batch(1), ONE, 0, 1, "crashed")
    (assign,) = [c for c in plain(scheduler.handle(crash, 1.0)) if isinstance(c, Assign)]
    assert (assign.careful, assign.concurrency) == (True, 1)
    scheduler.check()


def test_parts_of_a_batch_that_die_together_are_one_death():
    scheduler = scheduled(JobOptions(concurrency=100, max_retries=2), 3, nodes={A: 1})
    for call in range(3):
        scheduler.handle(RangeReturned(A, batch(1), ONE, call, call + 1, "crashed"), 1.0)
    (alone, *_) = scheduler._nodes[A].held.values()
    caught = RangeReturned(A, alone.id, alone.attempt, alone.lo, alone.hi, "crashed", alone.lo)
    commands = plain(scheduler.handle(caught, 2.0))
    assert not [c for c in commands if isinstance(c, Fail)]  # two deaths, and two retries
    scheduler.check()


def test_one_that_may_run_once_fails_with_those_beside_it():
    scheduler = scheduled(JobOptions(concurrency=100, max_retries=0), 1, nodes={A: 1})
    crash = RangeReturned(A, batch(1), ONE, 0, 1, "crashed")
    assert plain(scheduler.handle(crash, 1.0)) == [Fail(JOB, 1, 0, 1, Verdict.CRASHED, ONE)]


def test_one_that_is_known_to_have_done_it_runs_again_alone():
    scheduler = scheduled(MANY, 1, nodes={A: 1})
    crash = RangeReturned(A, batch(1), ONE, 0, 1, "crashed", guilty=0)
    (assign,) = [c for c in plain(scheduler.handle(crash, 1.0)) if isinstance(c, Assign)]
    assert (assign.careful, assign.concurrency) == (True, 1)
