"""Nodes that are killed, stopped or paused: their calls move, and nobody runs a call that moved."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path

from goliath import Commander, NodeDiedError
from goliath.testing.processes import kill, until
from tests.faults import promises
from tests.faults.network import alive
from tests.faults.pace import PACE, at_this_pace
from tests.faults.promises import Journal, Strikes
from tests.faults.running import STUCK, Running, stuck_there
from tests.lieutenants import Lieutenant

pytestmark = at_this_pace


def test_a_lieutenant_that_is_killed_takes_its_workers_along_and_its_calls_move(
    lieutenant, journal: Journal, strikes: Strikes, tmp_path: Path, free_port: int
) -> None:
    doomed, safe = promises.Audited(tmp_path, 3, port=free_port, env=STUCK), lieutenant(1)
    calls = 300
    once = Journal(tmp_path, "once")
    with doomed, Commander([doomed.address, safe.address]) as commander:
        until(lambda: len(alive(commander)) == 2, 30, "both nodes are there")
        only_once = Running(commander, once, 2, 0.01, stuck_there, max_retries=0)
        until(once.unfinished, 30, "one of these is stuck there")
        running = Running(commander, journal, calls, 0.01)
        until(lambda: begun_on(doomed, journal), 30, "some of those have begun there")
        family = doomed.family()
        strikes.kill(doomed.pid)
        promises.nothing_is_left(family, 1)
        promises.nothing_is_left(doomed.family, 1)
        doomed.process.wait(5)
        doomed.has_unpickled_nothing()
        # Another one at once, on the same port: what is said to it must not be taken for the old.
        with Lieutenant(2, port=free_port) as reborn:
            again, single = running.outcomes(40), only_once.outcomes(40)
            until(lambda: reborn.address in alive(commander), 30, "the new one is used")
    strikes.happened("SIGKILL")
    assert [outcome for outcome in again if isinstance(outcome, BaseException)] == []
    promises.every_call_has_one_outcome(again, calls)
    promises.values_are_true(again, journal)
    promises.never_two_owners(journal)
    # Finished, but not yet reported, is the same as lost: begun twice, and never thrice.
    promises.executed_at_most(journal, 2)
    promises.every_call_has_one_outcome(single, 2)
    promises.values_are_true(single, once)
    promises.executed_at_most(once, 1)
    errors = {call: out for call, out in enumerate(single) if isinstance(out, BaseException)}
    assert all(type(error) is NodeDiedError for error in errors.values())
    assert all(error.maybe_executed for error in errors.values())
    assert set(once.unfinished()) == set(errors) != set()


def begun_on(node: Lieutenant, journal: Journal) -> set[int]:
    """Which calls have begun there."""
    pids = {seen.pid for seen in node.family()}
    return {line.call for line in journal.lines() if line.pid in pids}


def test_nodes_that_were_stopped_kill_what_was_given_up_before_they_say_anything(
    lieutenant, journal: Journal, strikes: Strikes, tmp_path: Path, free_port: int
) -> None:
    """One by a SIGSTOP of the Lieutenant alone; of the other, the whole machine is paused."""
    alone, machine = nodes = [lieutenant(2, env=STUCK) for _ in range(2)]
    idle = {node: node.family() for node in nodes}
    calls = 60
    once = Journal(tmp_path, "once")
    with ExitStack() as stack:
        commander = stack.enter_context(
            Commander([alone.address, machine.address, ("127.0.0.1", free_port)])
        )
        until(lambda: len(alive(commander)) == 2, 30, "both nodes are there")
        only_once = Running(commander, once, 2, 0.02, stuck_there, max_retries=0)
        until(lambda: len(once.unfinished()) == 2, 30, "a call has begun on each")
        running = Running(commander, journal, calls, 0.02, stuck_there)
        until(lambda: len(journal.unfinished()) == 2, 30, "and one more")
        safe = lieutenant(2, port=free_port)  # on which they can end
        until(lambda: safe.address in alive(commander), 30, "it is there")
        workers = {node: node.family() - idle[node] for node in nodes}
        paused = [alone.pid, machine.pid, *(seen.pid for seen in machine.family())]
        stack.callback(lambda: [kill(pid, signal.SIGCONT) for pid in paused])
        begun = time.monotonic()
        for pid in paused:
            strikes.stop(pid)
        outcomes, lost = running.outcomes(PACE.lost_s + 20), only_once.outcomes(1)
        assert time.monotonic() - begun > PACE.kept_s, "they were given up too early"
        assert alive(commander) == {safe.address}
        for pid in paused:
            kill(pid, signal.SIGCONT)
        for node in nodes:
            # At once: not a minute after the next login.
            promises.nothing_is_left(workers[node], 1)
        until(lambda: len(alive(commander)) == 3, 30, "they are used again")
    strikes.happened("SIGSTOP", len(paused))
    assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
    promises.every_call_has_one_outcome(outcomes, calls)
    promises.values_are_true(outcomes, journal)
    assert len(journal.unfinished()) == 2, "a call that had moved went on where it was before"
    promises.only_these_were_repeated(journal, journal.unfinished())
    promises.executed_at_most(journal, 2)
    promises.every_call_has_one_outcome(lost, 2)
    assert [(type(error), error.maybe_executed) for error in lost] == [(NodeDiedError, True)] * 2
    promises.executed_at_most(once, 1)
    assert len(once.unfinished()) == 2


def test_a_short_stop_costs_nothing(lieutenant, journal: Journal, strikes: Strikes) -> None:
    own = lieutenant(2)
    calls = 200
    with Commander([own.address]) as commander:
        running = Running(commander, journal, calls, 0.01)
        running.finishes(20, 10)
        (before,) = commander.nodes()
        strikes.stop(own.pid)
        time.sleep(PACE.kept_s / 4)  # this is the fault, and not a wait for something
        own.thaw()
        outcomes = running.outcomes(30)
        (after,) = commander.nodes()
    assert after.node_id == before.node_id
    assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
    promises.every_call_has_one_outcome(outcomes, calls)
    promises.values_are_true(outcomes, journal)
    promises.executed_at_most(journal, 1)
