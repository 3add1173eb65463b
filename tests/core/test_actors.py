"""Actors in the minds: one home, one process, calls in their order, none of them made twice."""

from __future__ import annotations

from dataclasses import replace

from goliath.core import node_events as ne
from goliath.core.batch import JobOptions
from goliath.core.commands import Abandoned, Assign, Demand, Fail, Verdict
from goliath.core.events import (
    CallCancelled,
    EnvironmentBroken,
    JobExhausted,
    JobOpened,
    NodeJoined,
    NodeLost,
    ParcelSubmitted,
    RangeFinished,
    RangeReturned,
)
from goliath.core.ids import JobId, Serial, WorkerId
from goliath.core.job import COSTS_KEPT
from goliath.core.node import Node
from goliath.core.scheduler import Scheduler
from tests.core.books import (
    JOB,
    ONE,
    OTHER,
    A,
    B,
    S,
    arrive,
    batch,
    node_with,
    plain,
    scheduler_with,
    untimed,
)

ACTOR = JobOptions(environment="env", max_retries=0, cpus=0.0, actor=True)
FIRST, SECOND = WorkerId(1), WorkerId(2)


def calls(number: int, count: int = 1, *, cpus: float = 0.0) -> ne.BatchArrived:
    """A batch of calls of the actor whose environment is ``env``."""
    arrived = arrive(number, count, cpus=cpus)
    arrived.actor = True
    return arrived


def alive(slots: int = 1, cpus: float = 0.0) -> Node:
    """A node with an actor that is idle."""
    node = node_with(slots)
    node.handle(calls(1, cpus=cpus), 0.0)
    node.handle(ne.WorkerStarted(FIRST), 0.0)
    node.handle(ne.WorkerProgressed(FIRST, Serial(1), 0, 1, 0.1, final=True), 0.1)
    node.check()
    return node


def runs(commands: list[ne.NodeCommand]) -> list[tuple[WorkerId, int]]:
    return [(c.worker, c.batch) for c in commands if isinstance(c, ne.Run)]


def test_all_calls_of_an_actor_go_to_its_one_process_in_their_order():
    node = alive(slots=4)
    assert runs(node.handle(calls(2), 0.2)) == [(FIRST, 2)]
    for number in (3, 4):
        assert runs(node.handle(calls(number), 0.2)) == []
    done = ne.WorkerProgressed(FIRST, Serial(2), 0, 1, 0.1, final=True)
    assert runs(node.handle(done, 0.3)) == [(FIRST, 3)]
    node.check()


def test_an_actor_that_waits_for_nothing_is_not_sent_away():
    node = alive()
    assert untimed(node.handle(ne.NodeTimerFired(), 10_000.0)) == []


def test_an_actor_takes_no_slot_unless_it_was_made_with_one():
    assert alive().load()[0] == 0.0
    holder = alive(slots=2, cpus=2.0)
    assert holder.load()[0] == 2.0
    assert runs(holder.handle(arrive(2), 1.0)) == []


def test_a_busy_actor_holds_up_no_task_and_no_task_holds_up_an_actor():
    node = alive()
    node.handle(calls(2), 0.2)
    node.handle(calls(3), 0.2)
    node.handle(ne.EnvironmentReady(S, "tasks"), 0.2)
    task = arrive(4)
    task.environment = "tasks"
    assert runs(node.handle(task, 0.3)) == [(SECOND, 4)]
    task = arrive(5)
    task.environment = "tasks"
    node.handle(task, 0.3)
    done = ne.WorkerProgressed(FIRST, Serial(2), 0, 1, 0.1, final=True)
    assert runs(node.handle(done, 0.4)) == [(FIRST, 3)]


def test_nothing_of_an_actor_is_stolen_or_split():
    node = alive(slots=2)
    node.handle(calls(2, 50), 0.2)
    node.handle(calls(3, 50), 0.2)
    stolen = untimed(node.handle(ne.StealArrived(S, 5), 1.0))
    assert ne.ReportSurrendered(S, 5, ()) in stolen
    later = node.handle(ne.NodeTimerFired(), 2.0)
    assert not [c for c in [*stolen, *later] if isinstance(c, ne.SplitRange)]


def test_with_its_process_an_actor_is_gone_and_what_waits_comes_back():
    node = alive()
    node.handle(calls(2, 3), 0.2)
    node.handle(calls(3, 2), 0.2)
    said = untimed(node.handle(ne.WorkerExited(FIRST, Serial(2), 1), 0.3))
    assert ne.ReportReturned(S, batch(2), ONE, 0, 3, "crashed", -1, FIRST) in said
    assert any(isinstance(c, ne.ReportEnvironmentBroken) for c in said)
    assert ne.ReportReturned(S, batch(3), ONE, 0, 2, "environment") in said
    late = untimed(node.handle(calls(4), 0.4))
    assert late[0] == ne.ReportReturned(S, batch(4), ONE, 0, 1, "environment")
    node.check()


def test_a_cancelled_call_is_interrupted_and_its_actor_not_killed_for_it():
    node = alive()
    node.handle(calls(2), 0.2)
    cancel = ne.CancelArrived(S, batch(2), ONE)
    assert untimed(node.handle(cancel, 0.3)) == [ne.InterruptRange(FIRST, Serial(2))]
    assert untimed(node.handle(ne.NodeTimerFired(), 100.0)) == []


def test_an_actor_is_not_killed_for_one_of_its_calls_beside_each_other_either():
    node = alive()
    for number in (2, 3):
        several = calls(number)
        several.concurrency = 10
        assert runs(node.handle(several, 0.2)) == [(FIRST, number)]
    cancel = ne.CancelArrived(S, batch(2), ONE)
    assert untimed(node.handle(cancel, 0.3)) == [ne.InterruptRange(FIRST, Serial(2))]
    assert untimed(node.handle(ne.NodeTimerFired(), 100.0)) == []


def test_a_node_waits_for_the_call_of_an_actor_before_it_is_drained():
    node = alive()
    node.handle(calls(2), 0.2)
    assert ne.Drained() not in node.handle(ne.DrainRequested(), 0.3)
    done = ne.WorkerProgressed(FIRST, Serial(2), 0, 1, 0.1, final=True)
    assert ne.Drained() in node.handle(done, 0.4)


def test_two_batches_of_an_actor_are_on_its_home_and_never_elsewhere():
    scheduler = scheduler_with(ACTOR, 1, 1, 1, nodes={A: 1, B: 4})
    homes = {batch.node for node in scheduler._nodes.values() for batch in node.held.values()}
    assert len(homes) == 1
    assert sum(len(node.held) for node in scheduler._nodes.values()) == 2
    scheduler.check()


def test_actors_are_spread_over_the_nodes_by_their_size():
    scheduler = scheduler_with(ACTOR, 1, nodes={A: 1, B: 2})
    for number in range(2, 8):
        scheduler.handle(JobOpened(JobId(number), ACTOR), 0.0)
        scheduler.handle(ParcelSubmitted(JobId(number), 1, 1, 1), 0.0)
    crowds = {node.id: len(node.actors) for node in scheduler._nodes.values()}
    assert crowds[B] > crowds[A] > 0


def test_actors_are_spread_over_the_nodes_though_nobody_calls_those_that_were_made_before():
    scheduler = scheduler_with(ACTOR, nodes={A: 2, B: 2})
    homes = []
    for number in range(2, 6):
        scheduler.handle(JobOpened(JobId(number), ACTOR), 0.0)
        placed = scheduler.handle(ParcelSubmitted(JobId(number), number, 1, 1), 0.0)
        (assign,) = [command for command in placed if isinstance(command, Assign)]
        homes.append(assign.node)
        done = RangeFinished(assign.node, assign.batch, assign.attempt, 0, 1, 0.1)
        scheduler.handle(done, 0.0)
        scheduler.handle(JobExhausted(JobId(number)), 0.0)
    assert sorted(homes) == [A, A, B, B]


def test_calls_of_an_actor_fill_no_window_of_tasks():
    scheduler = scheduler_with(ACTOR, 1, 1, nodes={A: 1})
    scheduler.handle(JobOpened(OTHER, JobOptions()), 0.1)
    placed = [plain(scheduler.handle(ParcelSubmitted(OTHER, n, 1, 1), 0.1)) for n in (1, 2)]
    assert [type(commands[0]) for commands in placed] == [Assign, Assign]


def test_what_may_have_begun_and_what_has_not_is_told_apart_when_an_actor_dies():
    scheduler = scheduler_with(ACTOR, 3, 2, 1, nodes={A: 1})
    crash = RangeReturned(A, batch(1), ONE, 0, 3, "crashed")
    failed = plain(scheduler.handle(crash, 1.0))[0]
    assert failed == Fail(JOB, 1, 0, 3, Verdict.CRASHED, ONE, "1")
    said = plain(scheduler.handle(EnvironmentBroken("env", "it ended", gone=True), 1.0))
    verdicts = [(c.parcel, c.verdict) for c in said if isinstance(c, Fail)]
    assert set(verdicts) == {(2, Verdict.GONE), (3, Verdict.GONE)}
    assert Abandoned(JOB, Verdict.GONE, "it ended") in said


def test_an_actor_is_abandoned_with_its_node():
    scheduler = scheduler_with(ACTOR, 1, 1, 1, nodes={A: 1})
    said = plain(scheduler.handle(NodeLost(A), 1.0))
    verdicts = {(c.parcel, c.verdict) for c in said if isinstance(c, Fail)}
    assert verdicts == {
        (1, Verdict.NODE_DIED),
        (2, Verdict.NODE_DIED),
        (3, Verdict.GONE),
    }
    assert [c.verdict for c in said if isinstance(c, Abandoned)] == [Verdict.GONE]


def test_an_actor_that_was_not_called_yet_is_abandoned_with_the_only_node_it_can_be_on():
    for soft, verdicts in ((False, [Verdict.GONE]), (True, [])):
        scheduler = scheduler_with(replace(ACTOR, node=A, soft=soft), nodes={A: 1, B: 1})
        said = plain(scheduler.handle(NodeLost(A), 1.0))
        assert [c.verdict for c in said if isinstance(c, Abandoned)] == verdicts


def test_an_actor_on_a_node_that_drains_is_abandoned_when_its_calls_come_back():
    scheduler = scheduler_with(ACTOR, 1, 1, nodes={A: 1})
    said = plain(scheduler.handle(RangeReturned(A, batch(2), ONE, 0, 1, "unstarted"), 1.0))
    assert [c.verdict for c in said if isinstance(c, Abandoned)] == [Verdict.GONE]
    scheduler.check()


def grouped(number: int, group: str, limit: int) -> ne.BatchArrived:
    """A call in a group, of an actor of which three may run at once."""
    arrived = calls(number)
    arrived.concurrency, arrived.group, arrived.group_limit = 3, group, limit
    return arrived


def test_a_full_group_holds_up_no_other_and_its_calls_begin_in_their_order():
    node = alive()
    assert runs(node.handle(grouped(2, "io", 1), 0.2)) == [(FIRST, 2)]
    for number in (3, 4):
        assert runs(node.handle(grouped(number, "io", 1), 0.2)) == []
    assert runs(node.handle(grouped(5, "", 2), 0.2)) == [(FIRST, 5)]
    assert runs(node.handle(grouped(6, "", 2), 0.2)) == [(FIRST, 6)]
    assert runs(node.handle(grouped(7, "", 2), 0.2)) == []
    node.check()
    done = ne.WorkerProgressed(FIRST, Serial(2), 0, 1, 0.1, final=True)
    assert runs(node.handle(done, 0.3)) == [(FIRST, 3)]
    done = ne.WorkerProgressed(FIRST, Serial(3), 0, 1, 0.1, final=True)
    assert runs(node.handle(done, 0.3)) == [(FIRST, 7)]
    node.check()


def test_what_was_cancelled_in_a_group_and_runs_on_keeps_no_other_group_away():
    options = replace(ACTOR, concurrency=3, groups={"": 1, "io": 2}, batch_size=1)
    scheduler = scheduler_with(options, *[1] * 6, nodes={A: 1})
    for parcel in (1, 2):  # of the group io: they run, and do not care
        scheduler.handle(CallCancelled(JOB, parcel, 0), 0.1)
    said = [scheduler.handle(ParcelSubmitted(JOB, parcel, 1, 1), 0.2) for parcel in (7, 8, 9)]
    assert [type(commands[0]) for commands in said] == [Assign] * 3
    scheduler.check()


def test_actors_do_not_push_out_what_is_known_of_functions():
    scheduler = Scheduler()
    scheduler.handle(NodeJoined(A, 1), 0.0)
    scheduler.handle(JobOpened(JOB, JobOptions(function="f"), 9), 0.0)
    scheduler.handle(ParcelSubmitted(JOB, 1, 1, 10), 0.0)
    scheduler.handle(RangeFinished(A, batch(1), ONE, 0, 1, 0.001), 0.0)
    for number in range(COSTS_KEPT + 1):
        options = JobOptions(function=f"actor {number}", actor=True)
        scheduler.handle(JobOpened(JobId(100 + number), options, None), 0.0)
    again = scheduler.handle(JobOpened(OTHER, JobOptions(function="f"), None), 0.0)
    assert [each.calls for each in again if isinstance(each, Demand)] == [10]
