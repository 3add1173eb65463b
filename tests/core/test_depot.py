"""What a node keeps for its Commanders, and when it may leave."""

from __future__ import annotations

from goliath.core import node_events as ne
from goliath.core.depot import REFUSED, RETRY_S, WRITING_BYTES, Depot
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


def spilling(limit: int = 100, disk: int = 1000) -> Depot:
    return Depot(limit, disk)


def test_what_memory_has_no_room_for_pushes_out_what_was_used_least_recently():
    depot = spilling()
    one, two, three = (depot.admit(S, 30) for _ in range(3))
    depot.use(S, [one, 77])
    assert depot.take_due() == [], "there was room"
    four = depot.admit(T, 50)
    assert depot.take_due() == [(S, two), (S, three)], "and they are told once"
    assert depot.take_due() == []
    assert (depot.memory_bytes, depot.writing_bytes, depot.spilled_bytes) == (80, 60, 0)
    depot.written(S, two, 1.0, failed=False)
    depot.written(S, three, 1.0, failed=False)
    assert (depot.memory_bytes, depot.writing_bytes, depot.spilled_bytes) == (80, 0, 60)
    assert kept_by(depot) == 140
    depot.forget(S, [two])
    depot.forget(T, [four])
    assert (depot.memory_bytes, depot.spilled_bytes, kept_by(depot)) == (30, 30, 60)


def test_what_calls_take_is_not_written_and_then_the_new_one_is():
    depot = spilling()
    one, two = depot.admit(S, 40), depot.admit(S, 40)
    three = depot.admit(S, 40, 0.0, lambda: [(S, one)])
    assert depot.take_due() == [(S, two)]
    four = depot.admit(S, 40, 0.0, lambda: [(S, one), (S, three)])
    assert depot.take_due() == [(S, four)]
    kept_by(depot)


def test_what_is_bigger_than_memory_may_have_is_written_and_nothing_else():
    depot = spilling()
    depot.admit(S, 40)
    big = depot.admit(S, 400)
    assert depot.take_due() == [(S, big)]
    assert depot.admit(S, 1000) == REFUSED, "nor has the disk room for it"
    kept_by(depot)


def test_what_is_entrusted_is_kept_in_any_case_and_pushes_out_what_it_can():
    depot = spilling(limit=100, disk=100)
    one, two = depot.admit(S, 40), depot.admit(T, 40)
    depot.entrust(S, -2, 80)
    depot.make_room(0.0, lambda: [(T, two), (S, -2)])
    assert depot.take_due() == [(S, one)]
    depot.written(S, one, 1.0, failed=False)
    depot.entrust(T, -2, 70)
    depot.make_room(1.0, lambda: [(T, two)])
    assert (depot.take_due(), depot.memory_bytes) == ([], 190), "the disk has no room for more"
    assert depot.admit(S, 1) == REFUSED
    assert kept_by(depot) == 230
    depot.forget(S, [-2])
    assert kept_by(depot) == 150
    depot.forget(T, [-2, two])
    assert (kept_by(depot), depot.memory_bytes) == (40, 0)


def test_what_is_entrusted_is_written_like_a_result_when_it_was_used_least_recently():
    depot = spilling()
    depot.entrust(S, -2, 60)
    depot.entrust(T, -2, 40)
    depot.use(S, [-2])
    key = depot.admit(S, 30)
    assert depot.take_due() == [(T, -2)]
    depot.written(T, -2, 1.0, failed=False)
    depot.entrust(T, -3, 90)
    depot.make_room(1.0, tuple)
    assert depot.take_due() == [(S, -2), (S, key)]
    kept_by(depot)


def test_without_a_disk_what_is_entrusted_is_kept_in_memory():
    depot = Depot(0)
    depot.entrust(S, -2, 60)
    assert (depot.take_due(), kept_by(depot), depot.memory_bytes) == ([], 60, 60)
    depot.leave(S)
    assert kept_by(depot) == 0


def test_the_disk_has_a_limit_too():
    depot = spilling(disk=80)
    keys = [depot.admit(S, 50) for _ in range(3)]
    assert depot.take_due() == [(S, keys[0])]
    assert depot.admit(S, 50) == REFUSED
    depot.written(S, keys[0], 0.0, failed=False)
    assert depot.admit(S, 50) == REFUSED
    depot.forget(S, keys[:1])
    assert depot.admit(S, 50) == keys[2] + 1
    assert depot.take_due() == [(S, keys[1])]
    kept_by(depot)


def test_without_a_disk_or_memory_nothing_is_written():
    assert spilling(disk=0).admit(S, 101) == REFUSED
    depot = Depot(0, 1000)
    assert (depot.admit(S, 1), depot.take_due()) == (REFUSED, [])


def test_what_could_not_be_written_stays_and_for_a_while_nothing_is_tried():
    depot = spilling()
    one, two = depot.admit(S, 60), depot.admit(S, 60)
    depot.written(S, one, 5.0, failed=True)
    assert (depot.memory_bytes, depot.writing_bytes, kept_by(depot)) == (120, 0, 120)
    assert depot.admit(S, 10, 5.0 + RETRY_S - 0.1) == REFUSED
    assert depot.take_due() == [(S, one)]
    assert depot.admit(S, 10, 5.0 + RETRY_S) == two + 1
    assert depot.take_due() == [(S, two)]
    kept_by(depot)


def test_what_is_made_faster_than_it_can_be_written_goes_along():
    depot = spilling(WRITING_BYTES, 10 * WRITING_BYTES)
    keys = [depot.admit(S, WRITING_BYTES) for _ in range(3)]
    assert keys[2] == REFUSED
    depot.written(S, keys[0], 0.0, failed=False)
    assert depot.admit(S, WRITING_BYTES) == keys[1] + 1
    kept_by(depot)


def test_what_nobody_wants_when_it_is_written_takes_nothing():
    for failed in (False, True):
        depot = spilling()
        one, _ = depot.admit(S, 60), depot.admit(T, 60)
        depot.leave(S)
        assert (kept_by(depot), depot.writing_bytes) == (60, 60), "the disk has it still"
        depot.written(S, one, 0.0, failed=failed)
        assert (depot.memory_bytes, depot.writing_bytes, depot.spilled_bytes) == (60, 0, 0)
        kept_by(depot)


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


def test_a_node_has_what_no_call_takes_written_before_it_keeps_more():
    node = node_with(2, S, policy=NodePolicy(depot_bytes=1000, spill_bytes=10_000))
    run = worker_of(node, 5)
    node.handle(progress(run, 0, 2, (0, 400), (1, 400)), 1.0)
    taking = arrive(2)
    taking.deposits = (1,)
    node.handle(taking, 1.0)
    commands = node.handle(progress(run, 2, 3, (2, 400)), 1.0)
    assert reported(commands) == ((2, 400, 3),)
    kinds = [type(command) for command in commands]
    assert kinds.index(ne.ReportDone) < kinds.index(ne.Spill), "it must be there to be written"
    assert ne.Spill(S, 2) in commands
    node.check()
    node.handle(ne.DepositSpilled(S, 2), 2.0)
    assert node._depot.spilled_bytes == 400
    commands = node.handle(progress(run, 3, 4, (3, 900)), 3.0)
    assert (reported(commands), ne.Spill(S, 4) in commands) == (((3, 900, 4),), True), "or itself"
    node.check()


def test_a_worker_that_is_not_believed_keeps_nothing():
    node = small_node()
    run = worker_of(node)
    assert node.handle(progress(run, 1, 2, (1, 600)), 1.0)[0] == ne.Kill(run.worker)
    assert not node._depot
    node.check()


def test_what_a_commander_entrusts_that_was_sent_away_is_not_in_the_books():
    node = node_with(1, S, T)
    node.handle(ne.SessionClosed(S), 0.0)
    node.handle(ne.PieceEntrusted(S, -2, 1000), 0.0)
    assert node.kept_in_memory() == 0
    node.check()


def test_a_node_that_drains_does_not_wait_for_what_its_commander_has_itself():
    node = node_with()
    node.handle(ne.PieceEntrusted(S, -2, 1000), 0.0)
    assert ne.Drained() in node.handle(ne.DrainRequested(), 1.0)
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
