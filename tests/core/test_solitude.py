"""A call that is to run alone on its node: what waits for it, and what it waits for."""

from __future__ import annotations

from goliath.core import node_events as ne
from goliath.core.crew import SPLIT_AFTER_S
from goliath.core.ids import Serial, WorkerId
from goliath.core.node import Node, NodePolicy
from tests.core.books import ONE, S, T, arrive, batch, node_with, untimed

PATIENCE_S = NodePolicy().alone_patience_s
W, V = WorkerId(1), WorkerId(2)


def runs(commands: list[ne.NodeCommand]) -> list[int]:
    """The batches that begin."""
    return [command.batch for command in commands if isinstance(command, ne.Run)]


def busy(slots: int = 2, calls: int = 1) -> Node:
    """A node on which batch 1 runs."""
    node = node_with(slots, S, T)
    node.handle(arrive(1, calls), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    return node


def over(node: Node, worker: int, serial: int, now: float = 0.0) -> list[ne.NodeCommand]:
    """A worker is done with its one call."""
    report = ne.WorkerProgressed(WorkerId(worker), Serial(serial), 0, 1, 0.001, True)
    commands = node.handle(report, now)
    node.check()
    return commands


def test_it_begins_when_all_else_has_ended_and_nothing_else_begins_before_it_has():
    node = busy()
    assert runs(node.handle(arrive(2, careful=True, alone=True), 0.0)) == []
    assert runs(node.handle(arrive(3), 0.0)) == [], "though there is a slot"
    assert runs(over(node, 1, 1)) == [2]
    assert runs(node.handle(arrive(4), 0.0)) == []
    assert runs(over(node, 1, 2)) == [3, 4]


def test_it_waits_for_what_runs_no_longer_than_its_patience():
    node = busy()
    node.handle(arrive(2, careful=True, alone=True), 1.0)
    node.handle(arrive(3), 1.0)
    assert runs(node.handle(ne.NodeTimerFired(), PATIENCE_S + 0.999)) == []
    assert runs(node.handle(ne.NodeTimerFired(), PATIENCE_S + 1.0)) == [2]
    assert runs(over(node, 1, 1, PATIENCE_S + 2.0)) == [], "and has the rest to itself"


def test_the_timer_for_that_is_set():
    node = node_with(1)
    node.handle(arrive(1), 0.0)
    assert ne.NodeWakeAt(7.0 + PATIENCE_S) in node.handle(arrive(2, alone=True), 7.0)


def test_two_of_them_run_one_after_the_other_however_long_that_takes():
    node = node_with(2)
    assert runs(node.handle(arrive(1, alone=True), 0.0)) == [1]
    node.handle(arrive(2, alone=True), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    assert runs(node.handle(ne.NodeTimerFired(), 2 * PATIENCE_S)) == []
    assert runs(over(node, 1, 1, 2 * PATIENCE_S)) == [2]


def test_one_that_another_may_wait_for_is_kept_away_by_it_no_longer_than_its_patience():
    node = node_with(2)
    node.handle(arrive(1, alone=True), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    assert runs(node.handle(arrive(2, depth=1, alone=True), 0.0)) == []
    assert runs(node.handle(ne.NodeTimerFired(), PATIENCE_S - 0.001)) == []
    assert runs(node.handle(ne.NodeTimerFired(), PATIENCE_S)) == [2]
    node.check()


def test_what_it_waits_for_begins_and_all_else_while_it_waits():
    node = node_with(4)
    node.handle(arrive(1, alone=True), 0.0)
    node.handle(ne.WorkerStarted(W), 0.0)
    assert runs(node.handle(arrive(2), 0.0)) == []
    assert runs(node.handle(arrive(3, depth=1), 0.0)) == [3], "it may wait in some other thread"
    assert runs(node.handle(ne.WorkerWaits(W, Serial(1), waiting=True), 0.0)) == [2]
    node.handle(ne.WorkerWaits(W, Serial(1), waiting=False), 0.0)
    assert runs(node.handle(arrive(4), 0.0)) == []


def test_while_one_runs_it_does_not_matter_what_the_next_one_would_let_begin():
    node = node_with(4, S, T)
    assert runs(node.handle(arrive(1, depth=2, alone=True), 0.0)) == [1]
    node.handle(ne.WorkerStarted(W), 0.0)
    node.handle(arrive(2, depth=2), 0.0)
    assert runs(node.handle(arrive(3, session=T, depth=0, alone=True), 0.0)) == []
    assert runs(over(node, 1, 1)) == [2], "for which more calls wait than for the next one"


def test_it_does_not_wait_for_those_that_wait():
    node = busy()
    node.handle(ne.WorkerWaits(W, Serial(1), waiting=True), 0.0)
    assert runs(node.handle(arrive(2, alone=True), 0.0)) == [2]


def test_actors_go_on_beside_it_and_it_does_not_wait_for_them():
    node = node_with(2)
    node.handle(ne.EnvironmentReady(S, "actor"), 0.0)
    of_actor = ne.BatchArrived(S, batch(1), ONE, 0, 1, "actor", actor=True, cpus=0.0)
    assert runs(node.handle(of_actor, 0.0)) == [1]
    node.handle(ne.WorkerStarted(W), 0.0)
    assert runs(node.handle(arrive(2, alone=True), 0.0)) == [2]
    over(node, 1, 1)
    again = ne.BatchArrived(S, batch(3), ONE, 0, 1, "actor", actor=True, cpus=0.0)
    assert runs(node.handle(again, 0.0)) == [3]


def test_what_is_ahead_of_a_worker_is_called_back_and_nothing_is_put_ahead_or_split():
    node = busy(1)
    node.handle(arrive(2), 0.0)
    over(node, 1, 1)  # so it is known to be quick
    assert runs(node.handle(arrive(3), 0.0)) == [3], "ahead"
    assert untimed(node.handle(arrive(4, alone=True), 0.0)) == [ne.SplitRange(W, Serial(3), 0)]
    assert untimed(node.handle(ne.RestYielded(W, Serial(3), -1), 0.0)) == []
    assert runs(over(node, 1, 2)) == [4]
    assert runs(over(node, 1, 4)) == [3]
    node = busy(2, calls=9)
    node.handle(arrive(2, alone=True), 0.0)
    assert untimed(node.handle(ne.NodeTimerFired(), SPLIT_AFTER_S)) == []


def test_another_commander_is_left_one_worker_once_it_is_starved():
    node = node_with(4, S, T)
    node.handle(arrive(1, alone=True), 0.0)
    for number in (2, 3):
        assert runs(node.handle(arrive(number, session=T), 0.0)) == []
    assert runs(node.handle(ne.NodeTimerFired(), 0.999)) == []
    assert runs(node.handle(ne.NodeTimerFired(), 1.0)) == [2]
    node.check()


def test_its_own_commander_is_not_starved_by_it():
    node = node_with(4, S, T)
    node.handle(arrive(1, session=T), 0.0)
    node.handle(arrive(2, alone=True), 0.0)
    node.handle(arrive(3), 0.0)
    assert runs(node.handle(ne.NodeTimerFired(), 5.0)) == []


def test_it_keeps_nobody_away_before_its_directory_is_there_or_once_it_was_cancelled():
    node = busy()
    elsewhere = ne.BatchArrived(S, batch(2), ONE, 0, 1, "not yet", alone=True)
    node.handle(elsewhere, 0.0)
    assert runs(node.handle(arrive(3), 0.0)) == [3]
    node = busy()
    node.handle(arrive(2, alone=True), 0.0)
    node.handle(arrive(3), 0.0)
    assert runs(node.handle(ne.CancelArrived(S, batch(2), ONE), 0.0)) == [3]
    node.check()
