"""What the holders of one token may use of a node, and what becomes of them when it is revoked."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from goliath.core import node_events as ne
from goliath.core.ids import HOUSE, BatchId, SessionId
from goliath.core.node import Node
from tests.core.books import ONE, S, T, arrive

ALICE, BOB = "alice's", "bob's"
U = SessionId("u")


def node_of(slots: int, quota: int | None, *sessions: tuple[SessionId, str]) -> Node:
    """A node on which the holders of Alice's token have a quota."""
    node = Node(slots)
    if quota is not None:
        node.handle(ne.RealmLimited(ALICE, quota), 0.0)
    for session, realm in sessions or ((S, ALICE),):
        node.handle(ne.SessionOpened(session, realm), 0.0)
        node.handle(ne.EnvironmentReady(session, "env"), 0.0)
    return node


def runs(commands: Iterable[ne.NodeCommand]) -> list[ne.Run]:
    return [command for command in commands if isinstance(command, ne.Run)]


def finished(run: ne.Run) -> ne.WorkerProgressed:
    return ne.WorkerProgressed(run.worker, run.serial, run.lo, run.hi, 0.5, final=True)


def batches(node: Node, session: SessionId, *numbers: int, cpus: float = 1.0) -> list[ne.Run]:
    started = []
    for number in numbers:
        commands = node.handle(arrive(number, session=session, cpus=cpus), 0.0)
        for run in runs(commands):
            node.handle(ne.WorkerStarted(run.worker), 0.0)
            started.append(run)
        node.check()
    return started


def test_a_token_s_holders_run_no_more_calls_at_once_than_its_quota():
    node = node_of(4, 2)
    first, _ = batches(node, S, 1, 2, 3, 4)
    (next_one,) = runs(node.handle(finished(first), 5.0))
    assert next_one.batch == BatchId(3)
    node.check()


def test_all_sessions_of_a_token_share_its_quota_and_others_do_not():
    node = node_of(4, 2, (S, ALICE), (T, ALICE), (U, BOB))
    assert len(batches(node, S, 1)) == 1
    assert len(batches(node, T, 1, 2)) == 1
    assert len(batches(node, U, 1, 2, 3)) == 2  # the rest of the slots


@pytest.mark.parametrize("cpus", [0.0, 0.25])
def test_a_call_counts_as_one_however_few_cpus_it_takes(cpus: float):
    assert len(batches(node_of(4, 2), S, 1, 2, 3, cpus=cpus)) == 2


def test_a_call_that_waits_gives_its_part_back():
    node = node_of(4, 1)
    (first,) = batches(node, S, 1, 2)
    (second,) = runs(node.handle(ne.WorkerWaits(first.worker, first.serial, True), 1.0))
    assert second.batch == BatchId(2)
    node.check()


def test_nothing_is_split_for_slots_that_its_holders_may_not_use():
    node = node_of(2, 1)
    (run,) = runs(node.handle(arrive(1, 100), 0.0))
    node.handle(ne.WorkerStarted(run.worker), 0.0)
    later = node.handle(ne.NodeTimerFired(), 1.0)
    assert not [command for command in later if isinstance(command, ne.SplitRange)]
    raised = node.handle(ne.RealmLimited(ALICE, 2), 1.0)
    assert [command for command in raised if isinstance(command, ne.SplitRange)]


def test_a_quota_that_is_raised_counts_at_once_and_one_that_is_lowered_ends_nothing():
    node = node_of(4, 1)
    (first,) = batches(node, S, 1, 2, 3)
    raised = node.handle(ne.RealmLimited(ALICE, None), 1.0)
    assert len(runs(raised)) == 2
    lowered = node.handle(ne.RealmLimited(ALICE, 1), 2.0)
    assert not [command for command in lowered if isinstance(command, ne.Kill)]
    for run in runs(raised):
        node.handle(ne.WorkerStarted(run.worker), 2.0)
    assert batches(node, S, 4) == []
    assert runs(node.handle(finished(first), 3.0)) == []
    node.check()


def test_what_is_too_big_for_a_lowered_quota_runs_alone():
    node = node_of(4, 1)
    (first,) = batches(node, S, 1)
    assert batches(node, S, 2, cpus=3.0) == []
    (big,) = runs(node.handle(finished(first), 1.0))
    assert big.batch == BatchId(2)


def test_coroutines_share_a_worker_where_another_one_is_not_allowed():
    node = node_of(4, 1)
    first, second = (runs(node.handle(arrive(number, concurrency=10), 0.0))[0] for number in (1, 2))
    assert first.worker == second.worker
    node.check()


def test_a_commander_is_told_what_runs_for_the_holders_of_its_token_and_since_when():
    node = node_of(4, None, (S, ALICE), (T, ALICE), (U, BOB))
    (first,), (second,), (third,) = (batches(node, session, 1) for session in (S, T, U))
    hers = [(first.worker, first.serial, 0.0), (second.worker, second.serial, 0.0)]
    assert node.running(S) == node.running(T) == hers
    assert node.running(U) == [(third.worker, third.serial, 0.0)]
    node.handle(finished(first), 5.0)
    assert node.running(S) == hers[1:]
    assert node.running(SessionId("unknown")) == []


def test_the_work_of_a_revoked_token_s_sessions_ends_before_they_hear_of_it():
    node = node_of(4, None, (S, ALICE), (T, BOB))
    (hers,) = batches(node, S, 1)
    (his,) = batches(node, T, 1)
    commands = node.handle(ne.RealmEnded(ALICE), 1.0)
    assert [c for c in commands if isinstance(c, ne.Kill)] == [ne.Kill(hers.worker)]
    assert ne.Release(S, hers.batch, ONE) in commands
    assert batches(node, S, 2) == []  # what is on its way to it is for nobody
    assert node.handle(ne.SessionClosed(S), 1.1) == []
    assert runs(node.handle(finished(his), 2.0)) == []
    node.check()


def test_the_detached_actors_of_a_revoked_token_end_and_others_stay():
    node = node_of(4, None, (S, ALICE), (T, BOB))
    for session, name in ((S, "hers"), (T, "his")):
        environment = f"{name}.1"
        node.handle(ne.EnvironmentReady(session, environment), 0.0)
        detach = ne.DetachArrived(
            session, BatchId(1), ONE, environment, name, "", False, 0.0, {}, 1, 0
        )
        node.handle(detach, 0.0)
    workers = {worker.environment: worker for worker in node._crew.workers.values()}
    assert {worker.session for worker in workers.values()} == {HOUSE}
    commands = node.handle(ne.RealmEnded(ALICE), 1.0)
    node.check()
    assert ne.Evict("hers.1", "its token was revoked") in commands
    assert [c for c in commands if isinstance(c, ne.Kill)] == [ne.Kill(workers["hers.1"].id)]
    assert [seen[0].name for seen in node.residents(T)] == ["his"]
