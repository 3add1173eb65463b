"""What a node keeps for its Commanders, and when it may leave."""

from __future__ import annotations

from goliath.core import node_events as ne
from goliath.core.depot import REFUSED, Depot
from goliath.core.ids import SessionId
from goliath.core.node import Node
from goliath.core.policy import NodePolicy
from tests.core.books import ONE, S, T, arrive, batch, node_with, untimed


def kept_by(depot: Depot) -> int:
    depot.check([S, T])
    return depot.held_bytes


def test_a_result_is_kept_under_a_key_of_its_own_as_long_as_there_is_room():
    depot = Depot(100)
    assert [depot.admit(S, 40), depot.admit(T, 40), depot.admit(S, 40)] == [1, 2, REFUSED]
    assert depot.admit(S, 20) == 3, "a smaller one fits"
    assert kept_by(depot) == 100


def test_what_is_forgotten_makes_room_and_is_forgotten_once():
    depot = Depot(100)
    key = depot.admit(S, 100)
    depot.forget(T, [key])
    assert kept_by(depot) == 100, "it is not theirs"
    depot.forget(S, [key, key, 77])
    assert (kept_by(depot), bool(depot)) == (0, False)
    assert depot.admit(S, 100) == key + 1


def test_the_deposits_of_a_commander_leave_with_it():
    depot = Depot(100)
    depot.admit(S, 40), depot.admit(T, 30)
    depot.leave(S)
    depot.leave(SessionId("nobody"))
    assert kept_by(depot) == 30


def worker_of(node: Node, calls: int = 2) -> ne.Run:
    """The range that it was given, after its process has started."""
    commands = node.handle(arrive(1, calls), 0.0)
    run = next(command for command in commands if isinstance(command, ne.Run))
    node.handle(ne.WorkerStarted(run.worker), 0.0)
    return run


def progress(
    run: ne.Run, lo: int, hi: int, *deposits: tuple[int, int], final: bool = False
) -> ne.WorkerProgressed:
    return ne.WorkerProgressed(run.worker, run.serial, lo, hi, 0.1, final, deposits=deposits)


def reported(commands: list[ne.NodeCommand]) -> tuple[tuple[int, int, int], ...]:
    (report,) = (command for command in commands if isinstance(command, ne.ReportDone))
    return report.deposits


def small_node() -> Node:
    return node_with(1, S, T, policy=NodePolicy(depot_bytes=1000))


def test_a_report_says_which_results_are_kept_and_which_go_along():
    node = small_node()
    run = worker_of(node, 4)
    commands = node.handle(progress(run, 0, 3, (0, 600), (1, 600), (2, 400)), 1.0)
    assert reported(commands) == ((0, 600, 1), (1, 600, REFUSED), (2, 400, 2))
    node.handle(ne.DepositsForgotten(S, (1,)), 1.0)
    assert reported(node.handle(progress(run, 3, 4, (3, 600), final=True), 1.0)) == ((3, 600, 3),)
    node.check()


def test_a_worker_that_is_not_believed_keeps_nothing():
    node = small_node()
    run = worker_of(node)
    assert node.handle(progress(run, 1, 2, (1, 600)), 1.0)[0] == ne.Kill(run.worker)
    assert not node._depot
    node.check()


def test_a_node_that_drains_leaves_when_all_it_keeps_was_forgotten():
    node = small_node()
    run = worker_of(node)
    node.handle(progress(run, 0, 1, (0, 600)), 1.0)
    assert untimed(node.handle(ne.DrainRequested(), 1.0)) == [ne.AnnounceDraining()]
    last = node.handle(progress(run, 1, 2, (1, 100), final=True), 2.0)
    assert reported(last) == ((1, 100, REFUSED),), "there is room, but it will not be there"
    assert ne.Drained() not in last
    assert untimed(node.handle(ne.DepositsForgotten(T, (1,)), 3.0)) == []
    assert untimed(node.handle(ne.DepositsForgotten(S, (1,)), 3.0)) == [ne.Drained()]
    assert untimed(node.handle(ne.DepositsForgotten(S, (1,)), 3.0)) == [], "it is said once"


def test_a_node_that_drains_waits_for_no_commander_that_is_gone():
    node = small_node()
    run = worker_of(node, 1)
    node.handle(progress(run, 0, 1, (0, 600), final=True), 1.0)
    node.handle(ne.DrainRequested(), 1.0)
    commands = untimed(node.handle(ne.SessionClosed(S), 2.0))
    assert commands == [ne.Kill(run.worker), ne.Drained()]
    assert ne.Release(S, batch(1), ONE) not in commands
    node.check()
