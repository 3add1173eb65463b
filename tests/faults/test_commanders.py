"""Commanders that are killed or stopped: their work ends on every node, what is detached stays."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import goliath
from goliath.testing.processes import Seen, descendants, kill, living, until
from tests.faults import promises
from tests.faults.pace import PACE, at_this_pace
from tests.faults.promises import Journal, Strikes

pytestmark = at_this_pace

SCRIPT = """
import sys, time, goliath
from tests.faults.promises import execute

@goliath.remote
class Clock:
    def tick(self):
        return time.monotonic()

goliath.init({nodes})
journal, actors = sys.argv[1], [Clock.remote() for _ in range(2)]
goliath.get([actor.tick.remote() for actor in actors])
if {detached}:
    goliath.get(Clock.options(name="stays", lifetime="detached").remote().tick.remote())
refs = [goliath.remote(execute).remote(journal, call, float(sys.argv[2])) for call in range(6)]
print("running", flush=True)
print(goliath.get(refs), flush=True)
"""


@contextlib.contextmanager
def commander_process(
    folder: Path, nodes: str, journal: Journal, seconds: float, *, detached: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """A Commander in a process of its own, with six calls and two actors."""
    (folder / "commander.py").write_text(SCRIPT.format(nodes=nodes, detached=detached))
    with subprocess.Popen(
        [sys.executable, "commander.py", journal.path, str(seconds)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=None,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            yield process
        finally:
            kill(process.pid)


def test_the_work_of_a_killed_commander_ends_on_every_node(
    lieutenant, journal: Journal, strikes: Strikes, tmp_path: Path
) -> None:
    nodes = [lieutenant(2), lieutenant(2)]
    idle = [node.family() for node in nodes]
    everywhere = repr([node.address for node in nodes])
    with commander_process(tmp_path, everywhere, journal, 3600, detached=True) as process:
        journal.wait_begun(4)
        strikes.kill(process.pid)
    goliath.init([node.address for node in nodes])
    try:
        workers = [node.family() - before for node, before in zip(nodes, idle, strict=True)]
        assert sum(map(len, workers)) == 4 + 2 + 1  # calls, actors, the detached one
        until(lambda: len(left(workers)) == 1, PACE.killed_s, "all but the detached actor gone")
        clock = goliath.get_actor("stays")
        assert goliath.get(clock.tick.remote()) > 0
        assert len(left(workers)) == 1
        goliath.kill(clock)
        until(lambda: not left(workers), 30, "and that one, too")
    finally:
        goliath.shutdown()
    strikes.happened("SIGKILL")
    assert len(journal.unfinished()) == 4
    promises.executed_at_most(journal, 1)


def left(workers: list[set[Seen]]) -> set[Seen]:
    return living(set().union(*workers))


def test_the_work_of_a_stopped_commander_ends_and_is_done_again_when_it_wakes(
    lieutenant, journal: Journal, strikes: Strikes, tmp_path: Path
) -> None:
    own = lieutenant(2)
    idle = own.family()
    with commander_process(tmp_path, repr([own.address]), journal, 1.0) as process:
        journal.wait_begun(2)
        strikes.stop(process.pid)
        until(lambda: own.family() <= idle, PACE.killed_s, "the workers gone")
        begun = journal.executions()
        kill(process.pid, signal.SIGCONT)
        assert process.stdout is not None
        outcomes = process.stdout.readline()
        assert process.wait(30) == 0
    strikes.happened("SIGSTOP")
    values = [tuple(value) for value in eval(outcomes)]
    promises.every_call_has_one_outcome(values, 6)
    promises.values_are_true(values, journal)
    promises.never_two_owners(journal)
    promises.only_these_were_repeated(journal, begun)


def test_a_killed_commander_takes_its_embedded_lieutenant_along(
    journal: Journal, strikes: Strikes, tmp_path: Path
) -> None:
    with commander_process(tmp_path, "workers=2", journal, 3600) as process:
        journal.wait_begun(2)
        family = descendants(process.pid)
        assert len(family) >= 3  # the zygote and two workers
        strikes.kill(process.pid)
        promises.nothing_is_left(family, 1)
    strikes.happened("SIGKILL")
    promises.executed_at_most(journal, 1)
