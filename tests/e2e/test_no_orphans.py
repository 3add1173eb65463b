"""No process outlives what it works for: Lieutenant, Commander, call."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goliath import Commander, TaskTimeoutError
from goliath.testing.processes import alive, descendants, living, until
from tests.commanders import running_script
from tests.e2e.calls import nap
from tests.lieutenants import Lieutenant


def hold_the_gil(_n: int = 0) -> int:
    """One call of C code that never ends."""
    import itertools

    return sum(itertools.repeat(0))


def stop_myself(_n: int = 0) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def with_grandchildren(folder: str) -> None:
    """A child, and a daemon that has left the session."""
    subprocess.Popen(["sleep", "61"])
    subprocess.Popen(["sleep", "62"], start_new_session=True)
    open(os.path.join(folder, "started"), "w").close()
    time.sleep(60)


def busy(own: Lieutenant, commander: Commander, slots: int) -> None:
    until(lambda: commander.nodes()[0].busy >= slots, 30, "the calls running")
    until(lambda: len(own.family()) > slots, 30, "the workers forked")


@pytest.mark.parametrize("work", [nap, hold_the_gil, stop_myself], ids=lambda f: f.__name__)
def test_a_killed_lieutenant_takes_its_workers_with_it_within_a_second(
    lieutenant, work: Callable[[int], object]
) -> None:
    own = lieutenant(2)
    with Commander([own.address]) as commander:
        for _ in range(2):
            commander.submit(work, 60)
        busy(own, commander, 2)
        assert own.destroy() < 1
        commander.cancel()


def test_idle_workers_and_zygote_of_a_killed_lieutenant_go_too(lieutenant) -> None:
    own = lieutenant(2)
    with Commander([own.address]) as commander:
        commander.run(nap, [(0.01,)] * 4)
        assert own.family()
        assert own.destroy() < 1


def test_grandchildren_die_with_a_worker_that_times_out(lieutenant, tmp_path: Path) -> None:
    own = lieutenant(1)
    calls = [{"folder": str(tmp_path)}]
    with Commander([own.address]) as commander:
        results = commander.imap(with_grandchildren, calls, timeout=2, return_exceptions=True)
        waiting = threading.Thread(target=lambda: outcome.append(next(results)))
        outcome: list[object] = []
        waiting.start()
        until((tmp_path / "started").exists, 30, "the grandchildren started")
        sleepers = {seen for seen in own.family() if "sleep 6" in seen.command()}
        assert len(sleepers) == 2
        waiting.join()
        until(lambda: not living(sleepers), 2, "the grandchildren gone")
        assert isinstance(outcome[0], TaskTimeoutError)


def test_grandchildren_die_with_a_killed_lieutenant(lieutenant, tmp_path: Path) -> None:
    own = lieutenant(1)
    with Commander([own.address]) as commander:
        commander.submit(with_grandchildren, str(tmp_path))
        until((tmp_path / "started").exists, 30, "the grandchildren started")
        assert own.destroy() < 1
        commander.cancel()


SCRIPT = """
import sys, time
from goliath import Commander
cmdr = Commander({nodes})
refs = [cmdr.submit(time.sleep, 600) for _ in range(2)]
while not cmdr.nodes() or cmdr.nodes()[0].busy < 2:
    time.sleep(0.01)
print("running", flush=True)
refs[0].result()
"""


@contextlib.contextmanager
def commander_process(folder: Path, nodes: str) -> Iterator[subprocess.Popen[str]]:
    """A Commander in a process of its own, with two long calls running."""
    with running_script(folder, SCRIPT.format(nodes=nodes)) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "running\n", line
        yield process


@pytest.mark.parametrize("where", ["node", "embedded"])
def test_ctrl_c_ends_remote_work_within_three_seconds_and_the_script_as_usual(
    lieutenant, tmp_path: Path, where: str
) -> None:
    own = lieutenant(2)
    nodes = repr([own.address]) if where == "node" else "workers=2"
    idle = own.family()
    with commander_process(tmp_path, nodes) as process:
        family = descendants(process.pid) | (own.family() - idle)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.wait(5) in (130, -signal.SIGINT)
        until(lambda: not any(map(alive, family)), 3, "the workers gone")
        assert time.monotonic() - start < 3.5
    assert "KeyboardInterrupt" in said
    for word in ("never awaited", "was destroyed", "never retrieved", "Exception ignored"):
        assert word not in said
