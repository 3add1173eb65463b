"""What waits in a worker's socket: handed out ahead, gone on with, taken back."""

from __future__ import annotations

from goliath.core import node_events as ne
from goliath.core.crew import AHEAD_MAX_S, SPLIT_AFTER_S
from goliath.core.ids import Serial
from goliath.core.node import Node
from tests.core.books import ONE, S, arrive, batch, untimed
from tests.core.test_node import W, done, progress, release, returned, run, running

SOON = AHEAD_MAX_S / 4


def quick(**kwargs) -> Node:
    """Worker 1 has shown that it is quick, and runs batch 2 (5 calls, serial 2) since SOON."""
    node = running()
    node.handle(progress(0, 1), SOON)
    node.handle(arrive(2, 5, **kwargs), SOON)
    return node


def planned() -> Node:
    """... and batch 3 (5 calls, serial 3) is ahead of it."""
    node = quick()
    assert untimed(node.handle(arrive(3, 5), SOON)) == [run(3, 0, 5, serial=3)]
    node.check()
    return node


def yielded(at: int, serial: int = 3) -> ne.RestYielded:
    return ne.RestYielded(W, Serial(serial), at)


def test_a_quick_worker_is_handed_its_next_piece_while_it_runs():
    planned()


def test_no_more_than_one_piece_is_ahead():
    assert untimed(planned().handle(arrive(4), SOON)) == []


def test_a_slow_worker_has_nothing_ahead():
    node = running()
    node.handle(progress(0, 1), 2 * AHEAD_MAX_S)
    node.handle(arrive(2, 5), 2 * AHEAD_MAX_S)
    assert untimed(node.handle(arrive(3, 5), 2 * AHEAD_MAX_S)) == []


def test_a_call_that_must_be_watched_is_not_put_ahead():
    assert untimed(quick().handle(arrive(3, careful=True), SOON)) == []
    assert untimed(quick().handle(arrive(3, timeout_s=1.0), SOON)) == []


def test_a_worker_that_is_done_goes_on_with_what_is_ahead():
    node = planned()
    assert untimed(node.handle(progress(0, 5, serial=2), SOON)) == [done(0, 5, 2), release(2)]
    assert untimed(node.handle(progress(0, 5, serial=3), SOON)) == [done(0, 5, 3), release(3)]
    node.check()


def test_what_is_ahead_is_nobodys_doing_when_the_worker_dies():
    node = planned()
    commands = untimed(node.handle(ne.WorkerExited(W, Serial(2), -1), SOON))
    assert commands[:2] == [returned(0, 5, "crashed", worker=W, number=2), release(2)]
    assert [type(command) for command in commands[2:]] == [ne.Fork, ne.Run]
    node.check()


def test_a_dirty_worker_does_not_go_on():
    node = planned()
    commands = untimed(node.handle(progress(0, 5, serial=2, dirty=True), SOON))
    assert commands[:3] == [done(0, 5, 2), release(2), ne.Kill(W)]
    assert [type(command) for command in commands[3:]] == [ne.Fork, ne.Run]
    node.check()


def test_a_thief_gets_what_is_ahead():
    node = planned()
    revoke = ne.SplitRange(W, Serial(3), 0)
    assert untimed(node.handle(ne.StealArrived(S, 1), SOON)) == [revoke]
    assert untimed(node.handle(yielded(-1), SOON)) == [
        release(3),
        ne.ReportSurrendered(S, 1, ((batch(3), ONE, 0, 5),)),
    ]
    node.check()


def test_what_is_ahead_of_a_slow_call_is_for_the_idle_slot_beside_it():
    node = Node(2)
    node.handle(ne.SessionOpened(S), 0.0)
    node.handle(ne.EnvironmentReady(S, "env"), 0.0)
    for number in (1, 2):
        node.handle(arrive(number), 0.0)
        node.handle(ne.WorkerStarted(ne.WorkerId(number)), 0.0)
    node.handle(progress(0, 1), SOON)
    node.handle(arrive(3), SOON)
    assert untimed(node.handle(arrive(4), SOON)) == [run(4, 0, 1, serial=4)]
    late = SOON + SPLIT_AFTER_S
    free = node.handle(progress(0, 1, worker=ne.WorkerId(2), serial=2), late)
    assert ne.SplitRange(W, Serial(4), 0) in free
    assert untimed(node.handle(yielded(-1, serial=4), late)) == [
        run(4, 0, 1, worker=ne.WorkerId(2), serial=5)
    ]
    node.check()


def test_a_piece_revoked_when_its_turn_had_come_leaves_the_worker_idle():
    node = planned()
    node.handle(ne.StealArrived(S, 1), SOON)
    node.handle(progress(0, 5, serial=2), SOON)
    node.handle(yielded(-1), SOON)
    assert untimed(node.handle(arrive(4), SOON)) == [run(4, 0, 1, serial=4)]
    node.check()


def test_nothing_is_put_behind_a_piece_that_may_have_been_revoked():
    node = planned()
    node.handle(ne.StealArrived(S, 1), SOON)
    node.handle(progress(0, 5, serial=2), SOON)  # its turn has come, as far as the node knows
    assert untimed(node.handle(arrive(4), SOON)) == []
    assert run(4, 0, 1, serial=4) in node.handle(yielded(-1), SOON)
    node.check()


def test_a_cancel_takes_back_what_is_ahead():
    node = planned()
    assert untimed(node.handle(ne.CancelArrived(S, batch(3), ONE), SOON)) == [
        ne.SplitRange(W, Serial(3), 0)
    ]
    assert untimed(node.handle(yielded(-1), SOON)) == [
        returned(0, 5, "cancelled", number=3),
        release(3),
    ]
    node.check()


def test_a_cancelled_piece_that_began_all_the_same_is_interrupted():
    node = planned()
    node.handle(ne.CancelArrived(S, batch(3), ONE), SOON)
    assert ne.InterruptRange(W, Serial(3)) in node.handle(progress(0, 5, serial=2), SOON)
    node.check()


def test_what_is_ahead_of_a_worker_that_was_killed_runs_again_when_it_is_dead():
    node = planned()
    assert ne.Kill(W) in node.handle(ne.CancelArrived(S, batch(2), ONE, force=True), SOON)
    # It finished before the kill arrived, and may have begun what is ahead.
    assert untimed(node.handle(progress(0, 5, serial=2), SOON)) == [done(0, 5, 2), release(2)]
    node.check()
    commands = untimed(node.handle(ne.WorkerExited(W, Serial(3), -1), SOON))
    assert [type(command) for command in commands] == [ne.Fork, ne.Run]
    assert isinstance(commands[1], ne.Run)
    assert commands[1].batch == batch(3)
    node.check()


def test_a_worker_that_gives_back_unasked_what_it_runs_is_not_heard():
    node = planned()
    assert untimed(node.handle(yielded(-1, serial=2), SOON)) == []
    node.check()
    assert untimed(node.handle(progress(0, 5, serial=2), SOON)) == [done(0, 5, 2), release(2)]


def test_a_worker_that_has_nothing_ahead_cannot_give_back_what_it_runs_either():
    node = quick()
    assert untimed(node.handle(yielded(-1, serial=2), SOON)) == []
    node.check()
