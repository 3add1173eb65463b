"""``kill -9`` of an actor's worker in the middle of a thousand calls: what was promised of each.

Every execution writes its number and its process into a file before it returns, so what has
been done is known, whatever the callers are told.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

import goliath
from goliath import ActorDiedError, ActorUnavailableError, WorkerCrashedError
from goliath.testing.processes import alive, kill, look, until

CALLS = 1000


@goliath.remote
class Recorder:
    """Writes down what it does."""

    def __init__(self, path):
        self.log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def record(self, n):
        os.write(self.log, f"{os.getpid()} {n}\n".encode())
        time.sleep(0.0005)
        return n

    async def in_turn(self, n):
        return self.record(n)


@goliath.remote
def call_all(recorder, first):
    """Calls made in a worker; the refs go back to whoever asked for them."""
    return [recorder.record.remote(n) for n in range(first, first + CALLS)]


@pytest.fixture(params=["embedded", "node"], autouse=True)
def cluster(request, lieutenant):
    goliath.init(workers=2) if request.param == "embedded" else goliath.init(lieutenant(2).address)
    yield
    goliath.shutdown()


class Log:
    """What was done, by whom, in which order."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self):
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [tuple(map(int, line.split())) for line in lines]

    def done(self):
        return [n for _, n in self.entries()]

    def lives(self):
        """For each process, in their order, what it has done."""
        lives = {}
        for pid, n in self.entries():
            lives.setdefault(pid, []).append(n)
        return list(lives.values())

    def kill_after(self, count):
        """Kill the process when so much was done; it was in the middle of it, and is dead."""
        until(lambda: len(self.entries()) >= count, 30)
        victim = look(self.entries()[-1][0])
        assert victim is not None
        kill(victim.pid)
        until(lambda: not alive(victim), 30)
        done = self.done()
        assert count <= len(done) < CALLS, "the kill came too late to be one"
        return victim.pid


def outcomes(refs):
    """A value or an error for each; none is waited for in vain."""
    found = []
    for ref in refs:
        try:
            found.append(goliath.get(ref, timeout=50))
        except (ActorDiedError, ActorUnavailableError) as exc:
            found.append(exc)
    return found


def runs_of(found):
    """The kinds of outcomes, each once for as long as it goes on."""
    kinds = ["value" if type(outcome) is int else type(outcome).__name__ for outcome in found]
    return [kind for place, kind in enumerate(kinds) if not place or kinds[place - 1] != kind]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


@pytest.mark.parametrize("after", [1, 400])
def test_without_restarts_each_call_is_made_in_its_order_at_most_once_or_never(log: Log, after):
    recorder = Recorder.options(max_concurrency=1).remote(log.path)
    refs = [recorder.record.remote(n) for n in range(CALLS)]
    log.kill_after(after)
    found = outcomes(refs)
    done = log.done()
    assert done == list(range(len(done))), "in their order, each once"
    values = [outcome for outcome in found if type(outcome) is int]
    assert values == list(range(len(values)))
    assert len(values) <= len(done) < CALLS
    errors = found[len(values) :]
    assert {type(error) for error in errors} == {ActorDiedError}
    never = {n for n, error in enumerate(errors, len(values)) if not error.maybe_executed}
    assert never, "most had not been sent"
    assert not never.intersection(done)
    assert isinstance(errors[0].__cause__, WorkerCrashedError)
    assert errors[0].__cause__.signal == 9
    with pytest.raises(ActorDiedError):
        goliath.get(recorder.record.remote(CALLS), timeout=20)
    assert log.done() == done


def test_with_restarts_what_was_under_way_is_unavailable_and_nothing_is_made_twice(log: Log):
    recorder = Recorder.options(max_concurrency=1, max_restarts=1).remote(log.path)
    refs = [recorder.record.remote(n) for n in range(CALLS)]
    killed = log.kill_after(300)
    found = outcomes(refs)
    done = log.done()
    assert done == sorted(set(done)), "in their order over both lives, each once"
    assert len(log.lives()) == 2
    assert log.entries()[0][0] == killed
    for n, outcome in enumerate(found):
        if type(outcome) is int:
            assert outcome == n
            assert n in done
    unavailable = [n for n, o in enumerate(found) if isinstance(o, ActorUnavailableError)]
    assert runs_of(found) == ["value", "ActorUnavailableError", "value"]
    assert set(range(CALLS)) - set(done) <= set(unavailable)
    assert 0 < len(unavailable) < CALLS / 2


def test_with_restarts_and_retries_every_call_gets_its_result_in_order(log: Log):
    kills = 3
    options = {"max_restarts": kills, "max_task_retries": kills, "max_concurrency": 1}
    recorder = Recorder.options(**options).remote(log.path)
    refs = [recorder.record.remote(n) for n in range(CALLS)]
    killed = [log.kill_after(count) for count in (100, 400, 700)]
    assert outcomes(refs) == list(range(CALLS))
    lives = log.lives()
    assert len(lives) == len(set(killed)) + 1 == kills + 1
    for life in lives:
        assert life == list(range(life[0], life[-1] + 1)), "in their order, none left out"
    for before, after in itertools.pairwise(lives):
        assert after[0] <= before[-1] + 1
    assert lives[-1][-1] == CALLS - 1
    assert max(map(log.done().count, range(CALLS))) <= kills + 1


def test_calls_that_workers_make_are_promised_the_same(log: Log):
    options = {"max_restarts": 1, "max_task_retries": 1, "max_concurrency": 1}
    recorder = Recorder.options(**options).remote(log.path)
    made = [call_all.remote(recorder, first) for first in (0, CALLS)]
    log.kill_after(300)
    for first, refs in zip((0, CALLS), goliath.get(made, timeout=50), strict=True):
        assert outcomes(refs) == list(range(first, first + CALLS))
    for life in log.lives():
        for first in (0, CALLS):
            mine = [n for n in life if first <= n < first + CALLS]
            assert mine == sorted(set(mine)), "of each caller in its order, each once a life"
    assert len(log.lives()) == 2


@pytest.mark.parametrize("retries", [0, 1])
def test_calls_beside_each_other_are_promised_the_same_but_for_their_ends(log: Log, retries):
    options = {"max_restarts": 1, "max_task_retries": retries, "max_concurrency": 8}
    recorder = Recorder.options(**options).remote(log.path)
    refs = [recorder.in_turn.remote(n) for n in range(CALLS)]
    log.kill_after(300)
    found = outcomes(refs)
    assert len(log.lives()) == 2
    counts = [log.done().count(n) for n in range(CALLS)]
    assert max(counts) <= retries + 1
    for n, outcome in enumerate(found):
        assert outcome == n or isinstance(outcome, ActorUnavailableError)
        assert counts[n] or isinstance(outcome, ActorUnavailableError)
    lost = sum(isinstance(outcome, ActorUnavailableError) for outcome in found)
    assert (lost == 0) if retries else (0 < lost <= 8)
    for life in log.lives():
        assert life == sorted(life), "they begin in their order"
