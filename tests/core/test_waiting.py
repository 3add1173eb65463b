"""Calls that wait for other calls: what they give back, and who gets it."""

from __future__ import annotations

from goliath.core import node_events as ne
from goliath.core.batch import JobOptions
from goliath.core.commands import Assign
from goliath.core.crew import SPARE_WORKERS
from goliath.core.events import BatchWaits, JobOpened, ParcelSubmitted
from goliath.core.ids import JobId, Serial, WorkerId
from goliath.core.node import Node, NodePolicy
from tests.core.books import (
    JOB,
    ONE,
    OTHER,
    A,
    S,
    arrive,
    batch,
    node_with,
    plain,
    scheduler_with,
    untimed,
)

NESTED = JobOptions(depth=1)
FIRST, SECOND = WorkerId(1), WorkerId(2)


def runs(commands: list[ne.NodeCommand]) -> list[tuple[WorkerId, int]]:
    """Which worker runs which batch."""
    return [(c.worker, c.batch) for c in commands if isinstance(c, ne.Run)]


def busy_node(slots: int = 1, policy: NodePolicy | None = None) -> Node:
    """One worker runs batch 1."""
    node = node_with(slots, policy=policy)
    node.handle(arrive(1), 0.0)
    node.handle(ne.WorkerStarted(FIRST), 0.0)
    return node


def waits(
    node: Node, worker: WorkerId, serial: int, *, waiting: bool = True
) -> list[ne.NodeCommand]:
    """What a node does when a call begins or ends to wait."""
    commands = node.handle(ne.WorkerWaits(worker, Serial(serial), waiting), 0.1)
    node.check()
    return untimed(commands)


def deep(number: int, depth: int) -> ne.BatchArrived:
    """A batch of one call that so many wait for."""
    arrived = arrive(number)
    arrived.depth = depth
    return arrived


def test_the_slot_of_a_call_that_waits_is_given_to_the_next():
    node = busy_node()
    assert not runs(node.handle(arrive(2), 0.0))
    commands = waits(node, FIRST, 1)
    assert ne.ReportWaiting(S, batch(1), ONE, True) in commands
    assert runs(commands) == [(SECOND, 2)]
    assert node.load()[0] == 1.0


def test_a_call_that_goes_on_takes_its_slot_back_at_once_and_nothing_new_begins_meanwhile():
    node = busy_node()
    waits(node, FIRST, 1)
    node.handle(arrive(2), 0.1)
    node.handle(ne.WorkerStarted(SECOND), 0.1)
    assert waits(node, FIRST, 1, waiting=False) == [ne.ReportWaiting(S, batch(1), ONE, False)]
    assert node.load()[0] == 2.0
    assert not runs(node.handle(arrive(3), 0.2))
    done = ne.WorkerProgressed(SECOND, Serial(2), 0, 1, 0.1, final=True)
    assert not runs(node.handle(done, 0.3))
    done = ne.WorkerProgressed(FIRST, Serial(1), 0, 1, 0.1, final=True)
    assert len(runs(node.handle(done, 0.4))) == 1
    node.check()


def test_of_what_is_queued_the_deepest_goes_first_and_equals_in_their_order():
    node = busy_node()
    for number, depth in ((2, 0), (3, 1), (4, 2), (5, 1), (6, 0)):
        node.handle(deep(number, depth), 0.0)
    order = []
    for serial in range(1, 6):
        done = ne.WorkerProgressed(FIRST, Serial(serial), 0, 1, 1.0, final=True)
        ((_, number),) = runs(node.handle(done, float(serial)))
        order.append(number)
    assert order == [4, 3, 5, 2, 6]


def test_what_a_waiting_worker_gives_back_of_its_batch_runs_elsewhere():
    node = node_with(1)
    node.handle(arrive(1, calls=3), 0.0)
    node.handle(ne.WorkerStarted(FIRST), 0.0)
    node.handle(ne.RestYielded(FIRST, Serial(1), 1), 0.1)
    (run,) = [c for c in waits(node, FIRST, 1) if isinstance(c, ne.Run)]
    assert (run.worker, run.batch, run.lo, run.hi) == (SECOND, 1, 1, 3)


def test_what_is_ahead_of_a_worker_that_waits_is_called_back():
    node = node_with(1)
    for number in (1, 2, 3, 4):
        node.handle(arrive(number), 0.0)
    node.handle(ne.WorkerStarted(FIRST), 0.0)
    ahead = node.handle(ne.WorkerProgressed(FIRST, Serial(1), 0, 1, 0.01, final=True), 0.01)
    assert runs(ahead) == [(FIRST, 2), (FIRST, 3)]
    commands = waits(node, FIRST, 2)
    assert runs(commands) == [(SECOND, 4)]  # so no slot is idle that might call for it
    assert ne.SplitRange(FIRST, Serial(3), 0) in commands
    node.handle(ne.WorkerStarted(SECOND), 0.1)
    node.handle(ne.RestYielded(FIRST, Serial(3), -1), 0.2)
    done = ne.WorkerProgressed(SECOND, Serial(4), 0, 1, 0.1, final=True)
    assert runs(node.handle(done, 1.0)) == [(SECOND, 3)]


def test_a_worker_that_dies_while_its_call_waits_leaves_no_batch_waiting():
    node = busy_node()
    waits(node, FIRST, 1)
    commands = untimed(node.handle(ne.WorkerExited(FIRST, Serial(1), 0), 0.2))
    assert commands[0] == ne.ReportWaiting(S, batch(1), ONE, False)
    node.check()


def test_more_calls_than_may_wait_are_refused_it_and_keep_their_slot():
    node = busy_node(policy=NodePolicy(waiting_max=1))
    waits(node, FIRST, 1)
    node.handle(arrive(2), 0.1)
    node.handle(ne.WorkerStarted(SECOND), 0.1)
    assert waits(node, SECOND, 2) == [ne.RefuseWait(SECOND, Serial(2))]
    assert node.load()[0] == 1.0


def test_of_the_many_workers_of_a_deep_recursion_only_some_are_kept():
    node = busy_node()
    kept = 4 + SPARE_WORKERS
    for number in range(2, kept + 3):
        waits(node, WorkerId(number - 1), number - 1)
        node.handle(deep(number, number), 0.1)
        node.handle(ne.WorkerStarted(WorkerId(number)), 0.1)
    retired = 0
    for number in range(kept + 2, 0, -1):
        waits(node, WorkerId(number), number, waiting=False)
        done = ne.WorkerProgressed(WorkerId(number), Serial(number), 0, 1, 0.1, final=True)
        retired += ne.Retire(WorkerId(number)) in node.handle(done, 1.0)
    node.check()
    assert retired == 2


def test_what_a_worker_says_of_a_range_that_is_over_changes_nothing():
    node = busy_node()
    node.handle(ne.WorkerProgressed(FIRST, Serial(1), 0, 1, 0.1, final=True), 0.1)
    assert not waits(node, FIRST, 1)


def test_a_batch_that_waits_takes_no_room_of_its_nodes_window():
    scheduler = scheduler_with(JobOptions(), 1, 1, nodes={A: 1})
    opened = scheduler.handle(JobOpened(OTHER, NESTED), 0.1)
    assert not [c for c in opened if isinstance(c, Assign)]
    submitted = ParcelSubmitted(OTHER, 1, 1, 10)
    assert not plain(scheduler.handle(submitted, 0.1))  # two a slot, and no more
    (assigned,) = plain(scheduler.handle(BatchWaits(A, batch(1), ONE, True), 0.2))
    assert isinstance(assigned, Assign)
    assert assigned.job == OTHER
    scheduler.check()


def test_what_others_wait_for_goes_before_what_was_there_first():
    scheduler = scheduler_with(JobOptions(), 1, 1, 1, 1, nodes={A: 1})
    scheduler.handle(JobOpened(OTHER, NESTED), 0.1)
    scheduler.handle(ParcelSubmitted(OTHER, 1, 1, 10), 0.1)
    (assigned,) = plain(scheduler.handle(BatchWaits(A, batch(1), ONE, True), 0.2))
    assert isinstance(assigned, Assign)
    assert assigned.job == OTHER


def test_a_priority_weighs_more_than_depth():
    scheduler = scheduler_with(JobOptions(priority=1), 1, 1, 1, nodes={A: 1})
    scheduler.handle(JobOpened(JobId(7), NESTED), 0.1)
    scheduler.handle(ParcelSubmitted(JobId(7), 1, 1, 10), 0.1)
    (assigned,) = plain(scheduler.handle(BatchWaits(A, batch(1), ONE, True), 0.2))
    assert isinstance(assigned, Assign)
    assert assigned.job == JOB
