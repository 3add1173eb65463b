"""What a node that is short of memory begins, refuses and lets go; and that it never stops."""

from __future__ import annotations

import pytest

from goliath.core import node_events as ne
from goliath.core.ids import BatchId, Serial
from goliath.core.node import Node
from goliath.core.policy import BIG_BYTES, Level, NodePolicy
from tests.core.books import ONE, S, T, arrive, batch, node_with, untimed

PATIENCE_S = NodePolicy().strain_patience_s


def measure(node: Node, percent: int, now: float) -> list[ne.NodeCommand]:
    commands = untimed(node.handle(ne.MemoryMeasured(percent, 100), now))
    node.check()
    return commands


def announced(level: Level, percent: int) -> ne.AnnouncePressure:
    return ne.AnnouncePressure(level, percent, 100)


def runs(commands: list[ne.NodeCommand]) -> list[BatchId]:
    return [command.batch for command in commands if isinstance(command, ne.Run)]


def done(node: Node, worker: ne.WorkerId, serial: Serial, now: float) -> list[ne.NodeCommand]:
    commands = node.handle(ne.WorkerProgressed(worker, serial, 0, 1, 0.1, True), now)
    node.check()
    return commands


def busy_node(slots: int = 3, running: int = 2, **options: object) -> tuple[Node, list[ne.Run]]:
    """A node with as many single calls under way, each in a worker."""
    node = node_with(slots, **options)  # type: ignore[arg-type]  # as it comes
    begun = []
    for number in range(1, running + 1):
        commands = node.handle(arrive(number), 0.0)
        begun += [command for command in commands if isinstance(command, ne.Run)]
        node.handle(ne.WorkerStarted(begun[-1].worker), 0.0)
    return node, begun


def test_a_level_is_left_below_where_it_began_and_each_is_told_once():
    node = node_with()
    told = [measure(node, percent, 0.0) for percent in (80, 81, 79, 76, 75, 80, 96, 91, 89, 75)]
    assert told == [
        [],
        [announced(Level.STRAINED, 81)],
        [],
        [],
        [announced(Level.EASY, 75)],
        [],
        [announced(Level.FULL, 96)],
        [],
        [announced(Level.STRAINED, 89)],
        [announced(Level.EASY, 75)],
    ]
    assert node.memory() == (Level.EASY, 75, 100)


def test_whoever_logs_in_later_is_told_too():
    node = node_with()
    measure(node, 85, 0.0)
    assert untimed(node.handle(ne.SessionOpened(T), 1.0)) == [announced(Level.STRAINED, 85)]


@pytest.mark.parametrize("share", [1.0, 2.0])
def test_where_nobody_wants_it_nothing_is_ever_short(share: float):
    node = node_with(policy=NodePolicy(pause_share=share, refuse_share=share))
    assert measure(node, 100, 0.0) == []


def test_a_strained_node_begins_nothing_beside_what_runs_and_goes_on_when_it_is_eased():
    node, _ = busy_node()
    measure(node, 85, 1.0)
    assert untimed(node.handle(arrive(3), 1.0)) == []
    assert untimed(node.handle(arrive(4), 1.0)) == []
    assert runs(measure(node, 78, 2.0)) == []
    assert runs(measure(node, 70, 3.0)) == [batch(3)]


def test_what_runs_goes_on_and_where_nothing_else_runs_one_call_at_a_time_begins():
    node, (one, two) = busy_node()
    measure(node, 85, 1.0)
    for number in (3, 4):
        node.handle(arrive(number), 1.0)
    assert runs(done(node, one.worker, one.serial, 2.0)) == [], "the other one runs"
    begun = done(node, two.worker, two.serial, 2.0)
    assert runs(begun) == [batch(3)]
    (run,) = (command for command in begun if isinstance(command, ne.Run))
    assert run.worker == two.worker, "no process is started for it"
    assert runs(done(node, run.worker, run.serial, 3.0)) == [batch(4)]


def test_workers_with_nothing_to_do_leave_when_memory_is_short():
    node, (one, two) = busy_node()
    done(node, one.worker, one.serial, 0.5)
    assert measure(node, 85, 1.0) == [announced(Level.STRAINED, 85), ne.Retire(one.worker)]
    assert ne.Retire(two.worker) in done(node, two.worker, two.serial, 1.0)


def test_a_strain_that_lasts_lets_one_call_at_a_time_begin_beside_what_runs():
    node, (one, _) = busy_node(6)
    measure(node, 85, 1.0)
    late = 1.0 + PATIENCE_S
    assert node.handle(arrive(3), 1.0) == [ne.NodeWakeAt(late)]
    for number in (4, 5, 6):
        node.handle(arrive(number), 1.0)
    assert runs(node.handle(ne.NodeTimerFired(), late - 0.1)) == []
    begun = node.handle(ne.NodeTimerFired(), late)
    assert runs(begun) == [batch(3)]
    assert begun[-1] == ne.NodeWakeAt(late + PATIENCE_S)
    assert runs(done(node, one.worker, one.serial, late + 1.0)) == [], "it is not that which ended"
    (run,) = (command for command in begun if isinstance(command, ne.Run))
    node.handle(ne.WorkerStarted(run.worker), late)
    begun = done(node, run.worker, run.serial, late + 2.0)
    assert runs(begun) == [batch(4)], "it has ended: the next one"
    again = late + 2.0 + PATIENCE_S
    assert runs(node.handle(ne.NodeTimerFired(), again - 0.1)) == []
    assert runs(node.handle(ne.NodeTimerFired(), again)) == [batch(5)], "it takes too long"


def test_what_a_waiting_call_waits_for_begins_all_the_same():
    node, (one,) = busy_node(2, 1)
    measure(node, 85, 1.0)
    assert runs(node.handle(arrive(2, depth=1), 1.0)) == []
    assert runs(node.handle(ne.WorkerWaits(one.worker, one.serial, True), 1.0)) == [batch(2)]


def test_calls_of_a_living_actor_go_on_and_none_is_made_beside_what_runs():
    node = node_with(2, S)
    for environment in ("other", "plain"):
        node.handle(ne.EnvironmentReady(S, environment), 0.0)
    made = node.handle(arrive(1, actor=True, cpus=0.0), 0.0)
    (making,) = (command for command in made if isinstance(command, ne.Run))
    node.handle(ne.WorkerStarted(making.worker), 0.0)
    done(node, making.worker, making.serial, 0.1)
    plain = arrive(2)
    plain.environment = "plain"
    assert runs(node.handle(plain, 0.2)) == [batch(2)]
    measure(node, 85, 1.0)
    assert runs(node.handle(arrive(3, actor=True, cpus=0.0), 1.0)) == [batch(3)]
    another = arrive(4, actor=True, cpus=0.0)
    another.environment = "other"
    assert runs(node.handle(another, 1.0)) == []
    assert runs(node.handle(ne.NodeTimerFired(), 1.0 + PATIENCE_S)) == [batch(4)]


def test_a_strained_node_puts_nothing_ahead_and_splits_nothing():
    node = node_with(2, S)
    (run,) = (c for c in node.handle(arrive(1, 10), 0.0) if isinstance(c, ne.Run))
    node.handle(ne.WorkerStarted(run.worker), 0.0)
    node.handle(ne.WorkerProgressed(run.worker, run.serial, 0, 10, 0.001, True), 0.001)
    (run,) = (c for c in node.handle(arrive(2, 10), 0.002) if isinstance(c, ne.Run))
    measure(node, 85, 0.003)
    assert untimed(node.handle(arrive(3), 0.01)) == []
    assert untimed(node.handle(ne.NodeTimerFired(), 0.1)) == [
        ne.FlushRange(run.worker, run.serial)
    ], "and asks for nothing"


def test_a_full_node_refuses_what_is_big_and_takes_the_rest():
    node, _ = busy_node()
    measure(node, 96, 1.0)
    big, small = arrive(3), arrive(4)
    big.nbytes, small.nbytes = BIG_BYTES + 1, BIG_BYTES
    assert untimed(node.handle(big, 1.0)) == [
        ne.ReportReturned(S, batch(3), ONE, 0, 1, "full"),
        ne.Release(S, batch(3), ONE),
    ]
    assert untimed(node.handle(small, 1.0)) == []
    measure(node, 85, 2.0)
    again = arrive(5)
    again.nbytes = BIG_BYTES + 1
    assert untimed(node.handle(again, 2.0)) == [], "it is only strained, and lets it wait"


def test_an_actor_may_be_made_of_something_big_and_its_calls_are_refused():
    node = node_with(2, S)
    measure(node, 96, 0.0)
    making = arrive(1, actor=True, cpus=0.0)
    making.nbytes = BIG_BYTES + 1
    (run,) = (c for c in node.handle(making, 0.0) if isinstance(c, ne.Run))
    node.handle(ne.WorkerStarted(run.worker), 0.0)
    call = arrive(2, actor=True, cpus=0.0)
    call.nbytes = BIG_BYTES + 1
    returned = ne.ReportReturned(S, batch(2), ONE, 0, 1, "full")
    assert returned in node.handle(call, 0.0)


def keeping_node() -> tuple[Node, ne.Run]:
    node = node_with(1, S, policy=NodePolicy(depot_bytes=1000, spill_bytes=10_000))
    (run,) = (c for c in node.handle(arrive(1, 4), 0.0) if isinstance(c, ne.Run))
    node.handle(ne.WorkerStarted(run.worker), 0.0)
    return node, run


def test_a_full_node_keeps_no_more_results():
    node, run = keeping_node()
    measure(node, 96, 1.0)
    report = ne.WorkerProgressed(run.worker, run.serial, 0, 1, 0.1, False, deposits=((0, 400),))
    (told,) = (c for c in node.handle(report, 1.0) if isinstance(c, ne.ReportDone))
    assert told.deposits == ((0, 400, 0),)
    measure(node, 85, 2.0)
    report = ne.WorkerProgressed(run.worker, run.serial, 1, 2, 0.1, False, deposits=((1, 400),))
    (told,) = (c for c in node.handle(report, 2.0) if isinstance(c, ne.ReportDone))
    assert told.deposits == ((1, 400, 1),)


def test_a_strained_node_writes_the_results_that_nobody_uses_to_disk():
    node, run = keeping_node()
    kept = ((0, 300), (1, 300), (2, 300))
    node.handle(ne.WorkerProgressed(run.worker, run.serial, 0, 3, 0.1, False, deposits=kept), 0.5)
    taking = arrive(2)
    taking.deposits = (2,)
    node.handle(taking, 0.5)
    told = announced(Level.STRAINED, 85)
    assert measure(node, 85, 1.0) == [told, ne.Spill(S, 1), ne.Spill(S, 3)]
    assert untimed(node.handle(ne.DepositSpilled(S, 1), 2.0)) == []
    node.handle(ne.DepositSpilled(S, 3), 2.0)
    assert node.kept_in_memory() == 300
