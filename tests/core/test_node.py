"""The Lieutenant's mind, one decision at a time: whole lists of commands."""

from __future__ import annotations

from dataclasses import replace

from goliath.core import node_events as ne
from goliath.core.crew import ANSWER_MAX_S, SPLIT_AFTER_S
from goliath.core.ids import Serial, WorkerId
from goliath.core.node import Node, NodePolicy
from goliath.core.queues import TOMBSTONES_MAX
from tests.core.books import ONE, S, T, arrive, batch, node_with, untimed

W, V = WorkerId(1), WorkerId(2)


def running(calls: int = 1, slots: int = 1, *, policy: NodePolicy | None = None, **kwargs) -> Node:
    """Batch 1 runs on worker 1, with serial 1."""
    node = node_with(slots, policy=policy)
    node.handle(arrive(1, calls, **kwargs), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    node.check()
    return node


def progress(lo: int, hi: int, *, final=True, worker=W, serial=1, **kwargs) -> ne.WorkerProgressed:
    return ne.WorkerProgressed(worker, Serial(serial), lo, hi, 0.001, final, **kwargs)


def done(lo: int, hi: int, number: int = 1, worker=W) -> ne.ReportDone:
    return ne.ReportDone(S, batch(number), ONE, lo, hi, 0.001, worker)


def run(number: int, lo: int, hi: int, worker=W, serial=1, careful=False) -> ne.Run:
    return ne.Run(worker, Serial(serial), S, batch(number), ONE, lo, hi, careful)


def returned(lo: int, hi: int, why: str, guilty=-1, worker=None, number=1) -> ne.ReportReturned:
    return ne.ReportReturned(S, batch(number), ONE, lo, hi, why, guilty, worker)


def release(number: int = 1) -> ne.Release:
    return ne.Release(S, batch(number), ONE)


def test_a_batch_forks_a_worker_and_is_handed_to_it():
    assert node_with(1).handle(arrive(1, 5), 0.0) == [ne.Fork(W, S, "env", 1.0), run(1, 0, 5)]


def test_a_batch_waits_for_its_environment():
    node = Node(1)
    node.handle(ne.SessionOpened(S), 0.0)
    assert node.handle(arrive(1), 0.0) == []
    assert node.handle(ne.EnvironmentReady(S, "env"), 0.0) == [
        ne.Fork(W, S, "env", 1.0),
        run(1, 0, 1),
    ]


def test_a_finished_batch_is_reported_and_released_and_the_worker_takes_the_next():
    node = running(5)
    node.handle(arrive(2), 0.0)
    assert untimed(node.handle(progress(0, 5), 1.0)) == [
        done(0, 5),
        release(),
        run(2, 0, 1, serial=2),
    ]
    node.check()


def test_progress_is_reported_and_the_rest_goes_on():
    node = running(5)
    assert untimed(node.handle(progress(0, 2, final=False), 0.001)) == [done(0, 2)]


def test_a_worker_that_reports_what_it_was_not_given_is_killed_and_not_believed():
    for lie in (progress(1, 5), progress(0, 6), progress(0, 5, serial=9)):
        assert untimed(running(5).handle(lie, 0.0)) == [ne.Kill(W)]


def test_a_long_batch_is_flushed_every_so_often():
    node = running(5)
    assert untimed(node.handle(ne.NodeTimerFired(), 0.010)) == [ne.FlushRange(W, Serial(1))]


def test_an_idle_slot_takes_half_of_what_runs_beside_it():
    node = running(9, slots=2)
    assert untimed(node.handle(ne.NodeTimerFired(), SPLIT_AFTER_S)) == [
        ne.SplitRange(W, Serial(1), 2)
    ]
    assert untimed(node.handle(ne.RestYielded(W, Serial(1), 5), 0.005)) == [
        ne.Fork(V, S, "env", 1.0),
        run(1, 5, 9, worker=V, serial=2),
    ]
    node.check()


def test_a_worker_with_nothing_to_spare_is_not_asked_again():
    node = running(9, slots=2)
    node.handle(ne.NodeTimerFired(), SPLIT_AFTER_S)
    node.handle(ne.RestYielded(W, Serial(1), 9), 0.005)
    assert untimed(node.handle(ne.NodeTimerFired(), 0.009)) == []


def test_the_newest_queued_batches_are_given_up_first():
    node = running()
    for number in (2, 3, 4):
        node.handle(arrive(number), 0.0)
    assert untimed(node.handle(ne.StealArrived(S, 2), 0.0)) == [
        release(4),
        release(3),
        ne.ReportSurrendered(S, 2, ((batch(4), ONE, 0, 1), (batch(3), ONE, 0, 1))),
    ]
    node.check()


def test_the_rest_of_a_running_batch_is_given_up_when_its_worker_has_answered():
    node = running(9)
    assert untimed(node.handle(ne.StealArrived(S, 1), 0.0)) == [ne.SplitRange(W, Serial(1), 2)]
    assert untimed(node.handle(ne.RestYielded(W, Serial(1), 5), 0.0)) == [
        ne.ReportSurrendered(S, 1, ((batch(1), ONE, 5, 9),))
    ]
    assert untimed(node.handle(progress(0, 5), 1.0)) == [done(0, 5), release()]


def test_a_steal_is_answered_even_if_the_worker_dies_first():
    node = running(9)
    node.handle(ne.StealArrived(S, 1), 0.0)
    assert untimed(node.handle(ne.WorkerExited(W, Serial(1), -1), 0.0)) == [
        returned(0, 9, "crashed", -1, W),
        release(),
        ne.ReportSurrendered(S, 1, ()),
    ]


def test_a_steal_waits_no_longer_than_that_for_a_worker_that_is_stopped():
    node = running(9, linger_s=9.0)
    node.handle(ne.StealArrived(S, 1), 0.0)
    assert untimed(node.handle(ne.NodeTimerFired(), ANSWER_MAX_S)) == [
        ne.ReportSurrendered(S, 1, ()),
    ]
    # It is not asked again before it has answered; what it gives back then waits here.
    assert untimed(node.handle(ne.StealArrived(S, 1), 0.3)) == [ne.ReportSurrendered(S, 1, ())]
    assert untimed(node.handle(ne.RestYielded(W, Serial(1), 5), 0.3)) == []
    assert untimed(node.handle(ne.StealArrived(S, 1), 0.3)) == [
        ne.ReportSurrendered(S, 1, ((batch(1), ONE, 5, 9),))
    ]
    node.check()


def test_the_timer_of_a_steal_is_set():
    node = running(9, linger_s=9.0)
    assert ne.NodeWakeAt(1.0 + ANSWER_MAX_S) in node.handle(ne.StealArrived(S, 1), 1.0)


def test_an_idle_slot_turns_to_another_worker_if_the_one_it_has_asked_is_stopped():
    node = node_with(3)
    for number, calls in ((1, 9), (2, 8)):
        node.handle(arrive(number, calls), 0.0)
        node.handle(ne.WorkerStarted(WorkerId(number)), 0.0)
    assert ne.SplitRange(W, Serial(1), 2) in node.handle(ne.NodeTimerFired(), SPLIT_AFTER_S)
    late = SPLIT_AFTER_S + ANSWER_MAX_S
    splits = [node.handle(ne.NodeTimerFired(), at) for at in (late - 0.01, late, late + 0.01)]
    assert [ne.SplitRange(V, Serial(2), 2) in commands for commands in splits] == [0, 1, 0]


def test_a_steal_that_finds_nothing_is_answered_at_once():
    assert untimed(node_with().handle(ne.StealArrived(S, 3), 0.0)) == [
        ne.ReportSurrendered(S, 3, ())
    ]


def test_a_cancel_takes_the_queued_back_and_interrupts_the_running():
    node = running(5)
    node.handle(arrive(2), 0.0)
    assert untimed(node.handle(ne.CancelArrived(S, batch(2), ONE), 0.0)) == [
        returned(0, 1, "cancelled", number=2),
        release(2),
    ]
    assert untimed(node.handle(ne.CancelArrived(S, batch(1), ONE), 0.0)) == [
        ne.InterruptRange(W, Serial(1))
    ]
    stopped = progress(0, 2, interrupted=True)
    assert untimed(node.handle(stopped, 0.0)) == [
        done(0, 2),
        returned(2, 5, "cancelled"),
        release(),
    ]


def test_a_call_that_does_not_heed_an_interrupt_is_killed_after_the_grace():
    node = running(5)
    node.handle(ne.CancelArrived(S, batch(1), ONE), 0.0)
    assert ne.Kill(W) not in node.handle(ne.NodeTimerFired(), 3.9)
    assert ne.Kill(W) in node.handle(ne.NodeTimerFired(), 4.0)
    assert untimed(node.handle(ne.WorkerExited(W, Serial(1), -1), 4.1)) == [
        returned(0, 5, "cancelled"),
        release(),
    ]


def test_a_forced_cancel_kills_at_once():
    cancel = ne.CancelArrived(S, batch(1), ONE, force=True)
    assert untimed(running(5).handle(cancel, 0.0)) == [ne.Kill(W)]


def test_a_cancel_that_overtakes_its_batch_is_remembered():
    node = node_with()
    assert node.handle(ne.CancelArrived(S, batch(1), ONE), 0.0) == []
    assert untimed(node.handle(arrive(1, 3), 0.0)) == [returned(0, 3, "cancelled"), release()]


def test_no_more_cancels_are_remembered_than_the_limit():
    node = node_with()
    for number in range(TOMBSTONES_MAX + 5):
        node.handle(ne.CancelArrived(S, batch(number), ONE), 0.0)
    assert len(node._queues.tombstones) == TOMBSTONES_MAX


def test_a_death_in_a_batch_of_many_blames_nobody():
    assert untimed(running(5).handle(ne.WorkerExited(W, Serial(1), -1), 0.0)) == [
        returned(0, 5, "crashed", -1, W),
        release(),
    ]


def test_a_death_in_careful_mode_blames_the_call_that_ran_and_the_rest_goes_on():
    node = running(5, careful=True)
    node.handle(progress(0, 2, final=False), 0.0)
    assert untimed(node.handle(ne.WorkerExited(W, Serial(1), 2), 0.0)) == [
        returned(2, 3, "crashed", 2, W),
        ne.Fork(V, S, "env", 1.0),
        run(1, 3, 5, worker=V, serial=2, careful=True),
    ]
    node.check()


def test_a_worker_that_dies_between_two_calls_is_nobodys_doing():
    node = running(5, careful=True)
    node.handle(progress(0, 2, final=False), 0.0)
    assert untimed(node.handle(ne.WorkerExited(W, Serial(1), 1), 0.0)) == [
        ne.Fork(V, S, "env", 1.0),
        run(1, 2, 5, worker=V, serial=2, careful=True),
    ]


def test_a_call_that_runs_too_long_is_looked_at_killed_and_returned():
    node = running(2, careful=True, timeout_s=1.0)
    assert untimed(node.handle(ne.NodeTimerFired(), 1.0)) == [ne.Inspect(W, Serial(1))]
    look = ne.WorkerInspected(W, Serial(1), 0, 0.0)
    assert untimed(node.handle(look, 1.0)) == [ne.Kill(W)]
    assert untimed(node.handle(ne.WorkerExited(W, Serial(1), 0), 1.0))[0] == returned(
        0, 1, "timeout", 0, W
    )


def test_the_time_of_a_call_is_up_exactly_when_the_timer_says_so():
    node = running(1, careful=True, timeout_s=2.0)
    began = 1.4373955947159722
    late = began + 2.0  # late - began < 2.0
    look = ne.WorkerInspected(W, Serial(1), 0, began)
    assert untimed(node.handle(look, late)) == [ne.Kill(W)]


def test_a_call_that_began_when_its_neighbours_kill_was_on_the_way_is_a_bystander():
    node = running(2, careful=True, timeout_s=1.0)
    node.handle(ne.WorkerInspected(W, Serial(1), 0, 0.0), 1.0)
    node.handle(progress(0, 1, final=False), 1.0)
    assert untimed(node.handle(ne.WorkerExited(W, Serial(1), 1), 1.0)) == [
        returned(1, 2, "bystander", 1, W),
        release(),
    ]


def test_a_broken_environment_is_reported_once_and_its_queue_comes_back():
    node = Node(1)
    node.handle(ne.SessionOpened(S), 0.0)
    node.handle(arrive(1), 0.0)
    broke = ne.EnvironmentBroke(S, "env", "disk full")
    assert node.handle(broke, 0.0) == [
        ne.ReportEnvironmentBroken(S, "env", "disk full"),
        returned(0, 1, "environment"),
        release(),
    ]
    assert node.handle(broke, 0.0) == []


def test_an_environment_that_breaks_while_its_calls_run_has_no_further_worker():
    """Its directory has outgrown what the node allows: that is reported, its worker killed."""
    node = running(3)
    assert node.handle(ne.EnvironmentBroke(S, "env", "too big"), 0.0) == [
        ne.ReportEnvironmentBroken(S, "env", "too big")
    ]
    killed = ne.WorkerExited(W, Serial(1), 1)
    assert untimed(node.handle(killed, 0.0)) == [returned(0, 3, "crashed", worker=W), release()]
    node.check()
    refused = [returned(0, 1, "environment", number=2), release(2)]
    assert untimed(node.handle(arrive(2), 0.0)) == refused
    node.check()


def test_workers_that_keep_dying_at_the_start_break_their_environment():
    node = node_with(policy=NodePolicy(restart_max=2))
    node.handle(arrive(1), 0.0)
    for number in (1, 2):
        again = node.handle(ne.WorkerExited(WorkerId(number), Serial(0), -1), 0.0)
        assert isinstance(untimed(again)[0], ne.Fork)
    last = untimed(node.handle(ne.WorkerExited(WorkerId(3), Serial(0), -1), 0.0))
    assert [type(command) for command in last] == [
        ne.ReportEnvironmentBroken,
        ne.ReportReturned,
        ne.Release,
    ]


def unborn(worker: int, serial: int = 0) -> ne.WorkerExited:
    return ne.WorkerExited(WorkerId(worker), Serial(serial), -1, unborn=True)


def test_where_there_is_no_room_for_a_process_calls_wait_and_their_environment_is_sound():
    node = running(slots=3)
    assert isinstance(untimed(node.handle(arrive(2), 1.0))[0], ne.Fork)
    assert node.handle(unborn(2), 1.0) == [ne.NodeWakeAt(1.5)]
    for turn in range(9):  # however often
        now = 1.5 + turn
        fork, run = untimed(node.handle(ne.NodeTimerFired(), now))
        assert isinstance(fork, ne.Fork)
        assert isinstance(run, ne.Run)
        assert untimed(node.handle(unborn(fork.worker), now)) == []
        node.check()
    # A worker that is there already may have it before.
    *_, run = untimed(node.handle(progress(0, 1), 9.6))
    assert run == ne.Run(W, run.serial, S, batch(2), ONE, 0, 1, False)


def test_an_idle_worker_of_another_environment_makes_room():
    node = running(slots=2)
    node.handle(progress(0, 1), 1.0)
    node.handle(ne.EnvironmentReady(S, "other"), 1.0)
    node.handle(replace(arrive(2), environment="other"), 1.0)
    assert untimed(node.handle(unborn(2), 1.0)) == [ne.Retire(W)]
    # It is gone before the time is up.
    assert isinstance(untimed(node.handle(ne.WorkerExited(W, Serial(1), -1), 1.1))[0], ne.Fork)


def test_a_node_that_can_start_no_process_at_all_says_so_in_the_end():
    node = node_with(policy=NodePolicy(restart_max=2))
    node.handle(arrive(1), 0.0)
    assert untimed(node.handle(unborn(1), 0.0)) == []
    for worker, now in ((2, 0.5), (3, 1.0)):
        assert isinstance(untimed(node.handle(ne.NodeTimerFired(), now))[0], ne.Fork)
        last = untimed(node.handle(unborn(worker), now))
    assert [type(command) for command in last] == [
        ne.ReportEnvironmentBroken,
        ne.ReportReturned,
        ne.Release,
    ]


def test_an_actor_for_which_there_is_no_room_waits_and_has_not_died():
    node = running(slots=2)
    fork, *_ = untimed(node.handle(replace(arrive(2), actor=True, cpus=0.0), 1.0))
    assert isinstance(fork, ne.Fork)
    assert untimed(node.handle(unborn(2), 1.0)) == []
    again, run = untimed(node.handle(ne.NodeTimerFired(), 1.5))
    assert isinstance(again, ne.Fork)
    assert isinstance(run, ne.Run)


def test_an_actor_that_has_nothing_to_do_does_not_make_room_for_others():
    node = node_with(2)
    node.handle(replace(arrive(1), actor=True, cpus=0.0), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    node.handle(progress(0, 1), 1.0)
    node.handle(ne.EnvironmentReady(S, "other"), 1.0)
    node.handle(replace(arrive(2), environment="other"), 1.0)
    assert untimed(node.handle(unborn(2), 1.0)) == []


def test_the_end_of_a_session_kills_its_workers_and_forgets_its_batches():
    node = running(5)
    node.handle(arrive(2), 0.0)
    assert untimed(node.handle(ne.SessionClosed(S), 1.0)) == [ne.Kill(W), release(1), release(2)]
    assert untimed(node.handle(ne.WorkerExited(W, Serial(1), 0), 1.0)) == []
    node.check()


def test_an_idle_worker_is_used_again_by_its_session_and_by_no_other():
    node = node_with(1, S, T)
    node.handle(arrive(1), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    node.handle(progress(0, 1), 0.0)
    assert untimed(node.handle(arrive(2, 1, T), 0.0))[0] == ne.Fork(V, T, "env", 1.0)


def test_a_starved_session_may_have_one_worker_beyond_the_slots():
    node = node_with(1, S, T)
    node.handle(arrive(1), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    assert untimed(node.handle(arrive(2, 1, T), 0.0)) == []
    assert untimed(node.handle(ne.NodeTimerFired(), 0.9)) == []
    assert untimed(node.handle(ne.NodeTimerFired(), 1.0))[0] == ne.Fork(V, T, "env", 1.0)
    node.check()


def test_a_draining_node_returns_its_queue_finishes_what_runs_and_says_so():
    node = running()
    node.handle(arrive(2), 0.0)
    assert untimed(node.handle(ne.DrainRequested(), 0.0)) == [
        ne.AnnounceDraining(),
        returned(0, 1, "unstarted", number=2),
        release(2),
    ]
    assert untimed(node.handle(arrive(3), 0.0)) == [
        returned(0, 1, "unstarted", number=3),
        release(3),
    ]
    assert ne.Drained() in node.handle(progress(0, 1), 0.0)


def test_a_batch_too_big_for_the_node_comes_back():
    assert untimed(node_with(1).handle(arrive(1, cpus=2.0), 0.0)) == [
        returned(0, 1, "unstarted"),
        release(),
    ]


def test_a_parked_worker_leaves_after_a_while():
    node = running()
    node.handle(progress(0, 1), 0.0)
    assert untimed(node.handle(ne.NodeTimerFired(), 60.0)) == [ne.Retire(W)]


def test_a_worker_is_replaced_after_so_many_calls():
    node = node_with(policy=NodePolicy(tasks_per_worker_max=2))
    assert untimed(node.handle(arrive(1, 3), 0.0)) == [ne.Fork(W, S, "env", 1.0), run(1, 0, 2)]
    node.handle(ne.WorkerStarted(W), 0.0)
    assert untimed(node.handle(progress(0, 2), 0.0)) == [
        done(0, 2),
        ne.Retire(W),
        ne.Fork(V, S, "env", 1.0),
        run(1, 2, 3, worker=V, serial=2),
    ]


SMALL = NodePolicy(bytes_per_worker_max=1000)


def test_a_worker_that_has_grown_too_big_is_replaced_before_it_runs_anything_else():
    node = running(2, policy=SMALL)
    node.handle(arrive(2), 0.0)
    assert untimed(node.handle(progress(0, 2, resident_bytes=1001), 0.0)) == [
        done(0, 2),
        release(),
        ne.Retire(W),
        ne.Fork(V, S, "env", 1.0),
        run(2, 0, 1, worker=V, serial=2),
    ]


def test_a_worker_that_is_as_big_as_it_may_be_goes_on():
    node = running(2, policy=SMALL)
    node.handle(arrive(2), 0.0)
    assert untimed(node.handle(progress(0, 2, resident_bytes=1000), 0.0)) == [
        done(0, 2),
        release(),
        run(2, 0, 1, serial=2),
    ]


def test_a_worker_that_may_be_too_big_for_it_gets_nothing_ahead():
    node = running(policy=SMALL)
    for number in (2, 3):
        node.handle(arrive(number), 0.0)
    after = untimed(node.handle(progress(0, 1), 0.001))
    assert after == [done(0, 1), release(), run(2, 0, 1, serial=2)]


def test_an_actor_stays_however_big_it_is():
    node = node_with(policy=SMALL)
    node.handle(replace(arrive(1), actor=True), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    assert untimed(node.handle(progress(0, 1, resident_bytes=10**12), 0.0)) == [
        done(0, 1),
        release(),
    ]


def test_a_dirty_worker_is_replaced():
    assert untimed(running().handle(progress(0, 1, dirty=True), 0.0)) == [
        done(0, 1),
        release(),
        ne.Retire(W),
    ]
