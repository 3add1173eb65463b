"""Detached actors in the node's mind: whose they are, who may call them, how they live and end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from goliath.core import node_events as ne
from goliath.core.ids import HOUSE, BatchId, Serial, SessionId, WorkerId
from goliath.core.node import Node
from tests.core.books import ONE, S, T, arrive, batch, node_with, untimed

FIRST, SECOND, THIRD = WorkerId(1), WorkerId(2), WorkerId(3)
LIFE, NEXT = "hits.1", "hits.2"


def detach(
    number: int = 1, session: SessionId = S, environment: str = LIFE, name: str = "hits", **options
) -> ne.DetachArrived:
    """A Commander wants an actor taken on."""
    return ne.DetachArrived(session, batch(number), ONE, environment, name, **options)


def visit(
    number: int, session: SessionId = S, calls: int = 1, *, environment: str = LIFE
) -> ne.BatchArrived:
    """A batch of calls of it."""
    arrived = arrive(number, calls, session, cpus=0.0)
    return replace(arrived, environment=environment, actor=True, resident=True)


def two_commanders(slots: int = 2) -> Node:
    """A node with two of them, one of whom has an environment for an actor."""
    node = node_with(slots, S, T)
    node.handle(ne.EnvironmentReady(S, LIFE), 0.0)
    node.handle(ne.EnvironmentReady(T, "other.1"), 0.0)
    return node


def made(
    node: Node, worker: WorkerId, serial: int, *, raised: bool = False
) -> list[ne.NodeCommand]:
    """Its ``__init__`` has run."""
    node.handle(ne.WorkerStarted(worker), 0.1)
    retryable = (0,) if raised else ()
    done = ne.WorkerProgressed(worker, Serial(serial), 0, 1, 0.1, True, retryable=retryable)
    return checked(node, done, 0.1)


def checked(node: Node, event: ne.NodeEvent, now: float) -> list[ne.NodeCommand]:
    """What is to be done, without the timer."""
    commands = untimed(node.handle(event, now))
    node.check()
    return commands


def living(slots: int = 2, **options) -> Node:
    """A node with a detached actor that is idle, made by S."""
    node = two_commanders(slots)
    node.handle(detach(**options), 0.0)
    made(node, FIRST, 1)
    return node


def runs(commands: list[ne.NodeCommand]) -> list[tuple[SessionId, int]]:
    return [(c.session, c.batch) for c in commands if isinstance(c, ne.Run)]


def done(serial: int, worker: WorkerId = FIRST) -> ne.WorkerProgressed:
    return ne.WorkerProgressed(worker, Serial(serial), 0, 1, 0.1, final=True)


def test_the_node_adopts_an_actor_and_makes_it_itself():
    node = two_commanders()
    assert checked(node, detach(max_restarts=1), 0.0) == [
        ne.Adopt(S, batch(1), ONE, LIFE),
        ne.ReportReturned(S, batch(1), ONE, 0, 1, "adopted"),
        ne.Fork(FIRST, HOUSE, LIFE, 0.0, (), True),
        ne.Run(FIRST, Serial(1), HOUSE, BatchId(2), ONE, 0, 1, False, False),
    ]
    assert made(node, FIRST, 1) == [ne.Release(HOUSE, BatchId(2), ONE)]


def test_it_outlives_the_session_that_made_it_and_answers_others():
    node = living()
    assert checked(node, ne.SessionClosed(S), 1.0) == []
    assert runs(checked(node, visit(5, T), 2.0)) == [(T, 5)]
    assert checked(node, done(2), 2.1)[0] == ne.ReportDone(T, batch(5), ONE, 0, 1, 0.1, FIRST)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_what_it_is_called_before_it_is_made_waits_for_it(concurrency: int):
    node = two_commanders()
    node.handle(detach(concurrency=concurrency), 0.0)
    assert runs(checked(node, visit(5, T), 0.0)) == []
    assert runs(made(node, FIRST, 1)) == [(T, 5)]


def test_calls_of_all_commanders_are_run_one_at_a_time_and_those_of_each_in_order():
    node = living()
    events = [visit(n, s) for n in (1, 2, 3) for s in (S, T)]
    begun = [run for event in events for run in runs(checked(node, event, 1.0))]
    for serial in range(2, 8):
        begun += runs(checked(node, done(serial), 1.0 + serial))
    assert sorted(begun) == sorted((s, n) for s in (S, T) for n in (1, 2, 3))
    for session in (S, T):
        assert [n for s, n in begun if s == session] == [1, 2, 3]
    # And neither is kept waiting for all of the other's.
    assert {s for s, _ in begun[:3]} == {S, T}


def test_with_concurrency_calls_of_several_commanders_run_beside_each_other():
    node = living(concurrency=3)
    begun = [runs(checked(node, visit(n, s), 1.0)) for n, s in ((1, S), (2, T), (3, S), (4, T))]
    assert begun == [[(S, 1)], [(T, 2)], [(S, 3)], []]


GROUPS = {"": 1, "io": 2}


def test_the_limits_of_its_groups_are_for_all_commanders_together():
    node = living(concurrency=3, groups=GROUPS)
    calls = ((1, S), (2, T), (3, S))
    begun = [runs(checked(node, in_group(visit(n, s), "io"), 1.0)) for n, s in calls]
    assert begun == [[(S, 1)], [(T, 2)], []]
    assert runs(checked(node, in_group(visit(4, T), ""), 1.0)) == [(T, 4)]
    assert runs(checked(node, in_group(visit(5, S), ""), 1.0)) == []
    assert runs(checked(node, done(3), 2.0)) == [(S, 3)]


def test_a_call_in_no_group_of_it_or_that_wants_another_limit_is_one_of_the_default_group():
    node = living(concurrency=3, groups=GROUPS)
    greedy = [in_group(visit(n, T), group, limit=3) for n, group in ((1, "x"), (2, ""), (3, "y"))]
    assert [runs(checked(node, event, 1.0)) for event in greedy] == [[(T, 1)], [], []]


def in_group(event: ne.BatchArrived, group: str, limit: int = 0) -> ne.BatchArrived:
    """In a concurrency group."""
    return replace(event, group=group, group_limit=limit)


def test_its_big_results_are_kept_for_whoever_has_called_it():
    node = living()
    checked(node, visit(5, T), 1.0)
    (report, *_) = checked(node, replace(done(2), deposits=((0, 99),)), 2.0)
    assert report == ne.ReportDone(
        T, batch(5), ONE, 0, 1, 0.1, FIRST, deposits=((0, 99, report.deposits[0][2]),)
    )
    assert report.deposits[0][2] > 0
    checked(node, ne.SessionClosed(T), 3.0)
    assert not node._depot, "what was kept for a Commander goes with his session"


def test_deaths_that_are_long_ago_do_not_count_if_it_has_a_window():
    node = living(max_restarts=1, restart_window_s=10.0)
    for life, now in ((2, 5.0), (3, 16.0)):
        (worker,) = node._crew.workers
        checked(node, ne.WorkerExited(worker, Serial(0), -1), now)
        made(node, WorkerId(life), serial_of(node))
        (resident,) = node._residency.residents
        assert (resident.life, resident.made) == (life, True)
    commands = checked(node, ne.WorkerExited(THIRD, Serial(0), -1), 20.0)
    assert ne.Evict("hits.3", "its process has ended") in commands


def serial_of(node: Node) -> int:
    """What the only worker runs."""
    (worker,) = node._crew.workers.values()
    return worker.serial


def test_it_takes_what_its_maker_said_whatever_its_callers_say():
    node = living(slots=2, cpus=1.5)
    assert node.load()[0] == 1.5
    greedy = replace(visit(5, T), cpus=2.0, timeout_s=0.1, careful=True, concurrency=7)
    assert runs(checked(node, greedy, 1.0)) == [(T, 5)]
    assert node.load()[0] == 1.5
    assert untimed(node.handle(ne.NodeTimerFired(), 100.0)) == []


def test_a_name_is_taken_once_and_whoever_wants_it_as_it_is_is_told_where():
    node = living()
    node.handle(ne.EnvironmentReady(T, "mine.1"), 0.5)
    taken = "there is an actor called 'hits' already"
    assert checked(node, detach(7, T, "other.1"), 1.0) == [
        ne.ReportEnvironmentBroken(T, "other.1", taken, ""),
        ne.ReportReturned(T, batch(7), ONE, 0, 1, "environment"),
        ne.Release(T, batch(7), ONE),
    ]
    again = detach(8, T, "mine.1", get_if_exists=True)
    assert checked(node, again, 1.0)[0] == ne.ReportEnvironmentBroken(T, "mine.1", taken, LIFE)
    elsewhere = detach(9, T, "other.1", namespace="elsewhere")
    assert ne.Adopt(T, batch(9), ONE, "other.1") in checked(node, elsewhere, 1.0)


def test_two_who_proved_different_tokens_do_not_know_of_each_others_actors():
    node = node_with(2, S)
    stranger = SessionId("stranger")
    node.handle(ne.SessionOpened(stranger, "another token"), 0.0)
    node.handle(ne.EnvironmentReady(S, LIFE), 0.0)
    node.handle(ne.EnvironmentReady(stranger, "other.1"), 0.0)
    node.handle(detach(), 0.0)
    made(node, FIRST, 1)
    assert node.residents(stranger) == []
    told = checked(node, visit(5, stranger), 1.0)
    assert told[:2] == [
        ne.ReportEnvironmentBroken(stranger, LIFE, "no such actor lives on this node any more", ""),
        ne.ReportReturned(stranger, batch(5), ONE, 0, 1, "environment"),
    ]
    assert checked(node, ne.ResidentKillArrived(stranger, LIFE, False), 1.0) == []
    assert ne.Adopt(stranger, batch(6), ONE, "other.1") in checked(
        node, detach(6, stranger, "other.1"), 1.0
    )
    ended = checked(node, ne.ResidentKillArrived(S, LIFE, False), 1.0)
    assert {c.session for c in ended if isinstance(c, ne.ReportEnvironmentBroken)} == {S}


def test_it_is_taken_on_when_its_files_are_there():
    node = node_with(1, S)
    assert checked(node, detach(), 0.0) == []
    assert checked(node, ne.EnvironmentReady(S, LIFE), 1.0)[0] == ne.Adopt(S, batch(1), ONE, LIFE)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (ne.EnvironmentBroke(S, LIFE, "disk full"), "environment"),
        (ne.CancelArrived(S, batch(1), ONE), "cancelled"),
        (ne.DrainRequested(), "unstarted"),
    ],
)
def test_one_that_was_not_taken_on_yet_is_given_back(event: ne.NodeEvent, why: str):
    node = node_with(1, S)
    node.handle(detach(), 0.0)
    told = checked(node, event, 0.0)
    assert ne.ReportReturned(S, batch(1), ONE, 0, 1, why) in told
    assert ne.Release(S, batch(1), ONE) in told


def test_it_is_not_taken_on_for_one_who_has_gone():
    node = node_with(1, S)
    node.handle(detach(), 0.0)
    node.handle(ne.SessionClosed(S), 0.0)
    node.handle(ne.SessionOpened(S), 0.0)
    assert checked(node, ne.EnvironmentReady(S, LIFE), 1.0) == []


def test_one_whose_init_raises_ends_and_frees_its_name():
    node = two_commanders()
    node.handle(detach(max_restarts=-1), 0.0)
    node.handle(visit(5, T), 0.0)
    assert made(node, FIRST, 1, raised=True) == [
        ne.Release(HOUSE, BatchId(2), ONE),
        ne.Kill(FIRST),
        ne.ReportEnvironmentBroken(S, LIFE, "its __init__ raised", "", True),
        ne.ReportEnvironmentBroken(T, LIFE, "its __init__ raised", "", True),
        ne.ReportReturned(T, batch(5), ONE, 0, 1, "environment"),
        ne.Release(T, batch(5), ONE),
        ne.Evict(LIFE, "its __init__ raised"),
    ]
    checked(node, ne.WorkerExited(FIRST, Serial(0), -1), 0.2)
    assert ne.Adopt(T, batch(6), ONE, "other.1") in checked(node, detach(6, T, "other.1"), 1.0)


def test_when_its_process_dies_for_good_all_who_may_know_it_are_told():
    node = living()
    node.handle(visit(5, S), 1.0)
    node.handle(visit(6, T), 1.0)
    assert checked(node, ne.WorkerExited(FIRST, Serial(2), 0), 2.0) == [
        ne.ReportReturned(S, batch(5), ONE, 0, 1, "crashed", -1, FIRST),
        ne.Release(S, batch(5), ONE),
        ne.ReportEnvironmentBroken(S, LIFE, "its process has ended", ""),
        ne.ReportEnvironmentBroken(T, LIFE, "its process has ended", ""),
        ne.ReportReturned(T, batch(6), ONE, 0, 1, "environment"),
        ne.Release(T, batch(6), ONE),
        ne.Evict(LIFE, "its process has ended"),
    ]
    told = checked(node, visit(7, T), 3.0)
    assert told[0].successor == ""


def test_it_is_made_again_by_the_node_and_its_callers_are_told_where():
    node = living(max_restarts=1)
    node.handle(visit(5, S), 1.0)
    node.handle(visit(6, T), 1.0)
    node.handle(ne.SessionClosed(S), 1.5)
    assert checked(node, ne.WorkerExited(FIRST, Serial(2), 0), 2.0) == [
        ne.Succeed(LIFE, NEXT),
        ne.ReportEnvironmentBroken(T, LIFE, "its process has ended", NEXT),
        ne.ReportReturned(T, batch(6), ONE, 0, 1, "environment"),
        ne.Release(T, batch(6), ONE),
        ne.Fork(SECOND, HOUSE, NEXT, 0.0, (), True),
        ne.Run(SECOND, Serial(3), HOUSE, BatchId(3), ONE, 0, 1, False, False),
    ]
    late = checked(node, visit(7, T), 2.1)
    assert late[0] == ne.ReportEnvironmentBroken(T, LIFE, "its process has ended", NEXT)
    made(node, SECOND, 3)
    assert runs(checked(node, visit(8, T, environment=NEXT), 3.0)) == [(T, 8)]
    ended = checked(node, ne.WorkerExited(SECOND, Serial(4), 0), 4.0)
    assert ne.Evict(NEXT, "its process has ended") in ended


def test_one_that_dies_as_often_as_it_is_made_is_not_made_for_ever():
    node = two_commanders()
    node.handle(detach(max_restarts=-1), 0.0)
    for life in range(1, 7):
        said = checked(node, ne.WorkerExited(WorkerId(life), Serial(life), 0), 0.01 * life)
        assert any(isinstance(c, ne.Evict) for c in said) == (life == 6)


def test_killed_it_is_gone_for_all_and_a_call_that_ran_may_have_had_effects():
    node = living(max_restarts=-1)
    node.handle(visit(5, S), 1.0)
    assert checked(node, ne.ResidentKillArrived(T, LIFE, False), 2.0) == [
        ne.Kill(FIRST),
        ne.ReportReturned(S, batch(5), ONE, 0, 1, "crashed", -1, FIRST),
        ne.Release(S, batch(5), ONE),
        ne.ReportEnvironmentBroken(S, LIFE, "it was killed (goliath.kill)", ""),
        ne.ReportEnvironmentBroken(T, LIFE, "it was killed (goliath.kill)", ""),
        ne.Evict(LIFE, "it was killed (goliath.kill)"),
    ]
    assert checked(node, ne.WorkerExited(FIRST, Serial(2), 0), 2.1) == []
    assert node.residents(S) == []


def test_killed_to_be_made_again_it_counts_as_a_death():
    node = living(max_restarts=1)
    assert checked(node, ne.ResidentKillArrived(T, LIFE, True), 2.0) == [ne.Kill(FIRST)]
    said = checked(node, ne.WorkerExited(FIRST, Serial(0), -1), 2.1)
    assert said[0] == ne.Succeed(LIFE, NEXT)


def test_killed_before_there_was_room_for_it_it_is_never_made():
    node = two_commanders(slots=1)
    node.handle(arrive(1, session=T), 0.0)
    node.handle(detach(2, cpus=1.0), 0.0)
    node.handle(ne.ResidentKillArrived(T, LIFE, False), 1.0)
    assert runs(checked(node, ne.WorkerExited(FIRST, Serial(1), 0), 2.0)) == []


def test_one_that_leaves_by_itself_is_not_made_again():
    node = living(max_restarts=-1)
    node.handle(visit(5, S), 1.0)
    node.handle(ne.ResidentLeaves(FIRST), 1.1)
    left = "it has left (exit_actor)"
    assert checked(node, replace(done(2), dirty=True), 1.2) == [
        ne.ReportDone(S, batch(5), ONE, 0, 1, 0.1, FIRST),
        ne.Release(S, batch(5), ONE),
        ne.Retire(FIRST),
        ne.ReportEnvironmentBroken(S, LIFE, left, ""),
        ne.ReportEnvironmentBroken(T, LIFE, left, ""),
        ne.Evict(LIFE, left),
    ]
    assert checked(node, ne.WorkerExited(FIRST, Serial(0), -1), 1.3) == []
    assert node.residents(S) == []


def test_one_that_dies_while_it_leaves_is_not_made_again_either():
    node = living(max_restarts=-1)
    node.handle(visit(5, S), 1.0)
    node.handle(ne.ResidentLeaves(FIRST), 1.1)
    said = checked(node, ne.WorkerExited(FIRST, Serial(2), 0), 1.3)
    assert said[-1] == ne.Evict(LIFE, "it has left (exit_actor)")


def test_the_running_call_of_a_commander_who_has_gone_is_interrupted_and_the_next_one_is_run():
    node = living()
    node.handle(visit(5, S), 1.0)
    node.handle(visit(6, T), 1.0)
    assert checked(node, ne.SessionClosed(S), 2.0) == [
        ne.InterruptRange(FIRST, Serial(2)),
        ne.Release(S, batch(5), ONE),
    ]
    assert untimed(node.handle(ne.NodeTimerFired(), 100.0)) == []  # it is not killed for that
    assert runs(checked(node, done(2), 101.0)) == [(T, 6)]


def test_a_call_is_cancelled_without_its_actor_even_by_force():
    node = living()
    node.handle(visit(5, S), 1.0)
    cancel = ne.CancelArrived(S, batch(5), ONE, force=True)
    assert checked(node, cancel, 2.0) == [ne.InterruptRange(FIRST, Serial(2))]


def test_an_initializer_that_fails_is_the_end_of_it():
    node = two_commanders()
    node.handle(detach(max_restarts=-1), 0.0)
    said = checked(node, ne.WorkerStarted(FIRST, "no such file"), 0.1)
    assert said[0] == ne.Kill(FIRST)
    assert said[-1] == ne.Evict(LIFE, "no such file")


def test_a_node_that_drains_waits_for_its_calls_and_makes_it_no_more():
    node = living(max_restarts=-1)
    node.handle(visit(5, T), 1.0)
    assert ne.Drained() not in checked(node, ne.DrainRequested(), 2.0)
    said = checked(node, ne.WorkerExited(FIRST, Serial(2), 0), 3.0)
    assert ne.Evict(LIFE, "its process has ended") in said
    assert said[-1] == ne.Drained()


def test_what_is_told_of_it():
    node = two_commanders()
    node.handle(detach(), 0.0)
    assert [told[1:] for told in node.residents(T)] == [("starting", 0, FIRST)]
    made(node, FIRST, 1)
    assert [told[1:] for told in node.residents(T)] == [("idle", 0, FIRST)]
    node.handle(visit(5, T, 3), 1.0)
    node.handle(visit(6, S, 2), 1.0)
    ((resident, *told),) = node.residents(S)
    assert (resident.name, resident.environment, told) == ("hits", LIFE, ["busy", 5, FIRST])
