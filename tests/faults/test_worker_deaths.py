"""Workers that segfault, exit, are killed, or hang: their own call answers for it, and no other."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from typing import Any

import pytest

from goliath import Commander, TaskTimeoutError, WorkerCrashedError
from goliath.testing.processes import Seen, alive, until
from tests.e2e.calls import pid
from tests.faults import promises
from tests.faults.promises import Journal, Strikes
from tests.lieutenants import Lieutenant

NOTICED_MAX_S = 0.1


def segfault() -> None:
    import ctypes

    ctypes.string_at(0)


def leave() -> None:
    os._exit(42)


def kill_myself() -> None:
    os.kill(os.getpid(), 9)


DEATHS = [segfault, leave, kill_myself]


@pytest.mark.parametrize("die", DEATHS, ids=lambda f: f.__name__)
def test_worker_segfault_exit_kill_a_poison_call_among_1000_good_ones_fails_alone(
    cmdr: Commander, journal: Journal, die: Any
):
    def work(n: int, path: str) -> Any:
        token = promises.begin(path, n)
        if n == 333:
            die()
        return promises.end(path, n, token)

    outcomes = cmdr.run(
        work, [{"n": n} for n in range(1000)], static={"path": journal.path}, return_exceptions=True
    )
    assert journal.unfinished()[333] == 4  # the fault has happened, every time
    promises.every_call_has_one_outcome(outcomes, 1000)
    promises.values_are_true(outcomes, journal)
    promises.executed_at_most(journal, 4, [333])
    poison = outcomes.pop(333)
    assert type(poison) is WorkerCrashedError
    assert poison.executions == 4
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes)
    # Those that ran in the first batch of the poison call, unreported, are repeated; never blamed.
    promises.executed_at_most(journal, 2, set(range(1000)) - {333})
    promises.never_two_owners(journal)


@pytest.mark.parametrize("die", DEATHS, ids=lambda f: f.__name__)
def test_worker_death_is_noticed_within_100_ms_and_at_most_once_is_kept(
    cmdr: Commander, journal: Journal, die: Any
):
    def work(n: int, path: str) -> None:
        promises.begin(path, n)
        die()

    took = []
    for n in range(5):
        with pytest.raises(WorkerCrashedError) as caught:
            cmdr.run(work, [{"n": n, "path": journal.path}], max_retries=0)
        began = int(journal.lines()[-1].token.partition(".")[2]) / 1e9
        took.append(time.monotonic() - began)
        assert caught.value.maybe_executed
    assert len(journal.lines()) == 5  # each has happened
    promises.executed_at_most(journal, 1)
    # Of the best: this machine has other things to do, too.
    assert sorted(took)[2] < NOTICED_MAX_S, took


def test_a_worker_that_is_killed_from_outside_costs_no_call_that_is_queued(
    node: Lieutenant, cmdr: Commander, journal: Journal, strikes: Strikes
):
    calls = [(journal.path, n, 0.02) for n in range(100)]
    outcomes: list[Any] = []
    run = threading.Thread(
        target=lambda: outcomes.extend(cmdr.run(promises.execute, calls, max_retries=1))
    )
    run.start()
    for enough in (5, 30, 55):
        journal.wait_begun(enough)
        strikes.kill(journal.lines()[-1].pid)
    run.join()
    strikes.happened("SIGKILL", 3)
    promises.every_call_has_one_outcome(outcomes, 100)
    promises.values_are_true(outcomes, journal)
    promises.executed_at_most(journal, 3)


# -- hangs -------------------------------------------------------------------------------


def loop() -> None:
    while True:
        pass


def hold_the_gil() -> None:
    sum(itertools.repeat(0))


def stop_myself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize("hang", [loop, hold_the_gil, stop_myself], ids=lambda f: f.__name__)
def test_a_worker_that_hangs_is_killed_by_its_timeout_and_no_other_call_is_disturbed(
    node: Lieutenant, cmdr: Commander, journal: Journal, hang: Any
):
    def work(n: int, path: str) -> Any:
        token = promises.begin(path, n)
        if n == 1:
            hang()
        return promises.end(path, n, token)

    start = time.monotonic()
    outcomes = cmdr.run(
        work, [(n, journal.path) for n in range(20)], timeout=0.5, return_exceptions=True
    )
    assert time.monotonic() - start < 15
    assert journal.unfinished() == {1: 1}
    promises.every_call_has_one_outcome(outcomes, 20)
    promises.values_are_true(outcomes, journal)
    promises.executed_at_most(journal, 1)
    error = outcomes[1]
    assert type(error) is TaskTimeoutError
    assert str(error).startswith("work(1, '")
    hung = next(line.pid for line in journal.lines() if line.call == 1)
    promises.nothing_is_left([seen for seen in node.family() if seen.pid == hung], 1)


# -- the zygote ----------------------------------------------------------------------------


def test_the_death_of_the_zygote_costs_no_call(lieutenant: Any, journal: Journal, strikes: Strikes):
    own = lieutenant(2)
    with Commander([own.address]) as commander:
        calls = [(journal.path, n, 0.05) for n in range(20)]
        outcomes: list[Any] = []
        run = threading.Thread(
            target=lambda: outcomes.extend(commander.run(promises.execute, calls))
        )
        run.start()
        journal.wait_begun(3)
        workers = {line.pid for line in journal.lines()}
        strikes.kill(zygote_of(own))
        run.join()
        strikes.happened("SIGKILL")
        promises.every_call_has_one_outcome(outcomes, 20)
        promises.values_are_true(outcomes, journal)
        promises.executed_at_most(journal, 1)  # its workers live on
        # There is another one, that can fork: workers of another environment are new.
        until(lambda: zygote_of(own) is not None, 30, "another zygote")
        (born,) = commander.run(pid, [(0,)], env_vars={"OTHER": "1"})
        assert born not in workers


def zygote_of(node: Lieutenant) -> Seen | None:
    for seen in node.family():
        with open(f"/proc/{seen.pid}/comm") as file:
            if file.read().strip() == "goliath-zygote" and alive(seen):
                return seen
    return None
