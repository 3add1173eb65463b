"""Rows of faults: Ctrl-C in `run`; SIGTERM; fork after init; closed loop; clock jump."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from goliath import Commander
from goliath.testing.processes import Seen, descendants, until
from tests.commanders import running_script
from tests.faults import promises
from tests.faults.promises import Journal, Strikes
from tests.faults.running import Running
from tests.lieutenants import COMMAND

RUN = """
import sys, time
from goliath import Commander

def stubborn(path):
    with open(path, "a") as file:
        file.write("begun\\n")
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

Commander({nodes}).run(stubborn, [(sys.argv[1],)] * 2)
"""


@contextlib.contextmanager
def stubborn_run(folder: Path, nodes: str) -> Iterator[subprocess.Popen[str]]:
    """A script whose two calls, which run, care for no interrupt."""
    begun = folder / "begun"
    text = RUN.format(nodes=nodes)
    with running_script(folder, text, str(begun), stderr=subprocess.PIPE) as process:
        until(lambda: begun.exists() and len(begun.read_text().split()) == 2, 20, "two run")
        yield process


@pytest.mark.parametrize("where", ["node", "embedded"])
def test_ctrl_c_in_run_ends_calls_that_care_for_no_interrupt_within_three_seconds(
    lieutenant, tmp_path: Path, where: str
) -> None:
    own = lieutenant(2)
    nodes = repr([own.address]) if where == "node" else "workers=2"
    idle = own.family()
    with stubborn_run(tmp_path, nodes) as process:
        remote = descendants(process.pid) | (own.family() - idle)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        said = process.communicate(timeout=10)[1]
        promises.nothing_is_left(remote, 3 - (time.monotonic() - start))
    assert process.returncode in (130, -signal.SIGINT)
    assert said.rstrip().endswith("KeyboardInterrupt")
    for word in ("never awaited", "was destroyed", "never retrieved", "Exception ignored"):
        assert word not in said


@pytest.mark.parametrize("where", ["node", "embedded"])
def test_a_second_ctrl_c_ends_the_script_at_once(lieutenant, tmp_path: Path, where: str) -> None:
    own = lieutenant(2)
    nodes = repr([own.address]) if where == "node" else "workers=2"
    idle = own.family()
    with stubborn_run(tmp_path, nodes) as process:
        remote = descendants(process.pid) | (own.family() - idle)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=1)
        promises.nothing_is_left(remote, 5)
    assert process.returncode in (130, -signal.SIGINT)


def large(journal: str, call: int, seconds: float) -> tuple[int, str, bytes]:
    """A call whose result is big enough to stay on its node, where it may."""
    return (*promises.execute(journal, call, seconds), bytes(200_000))


def small(result: tuple[int, str, bytes]) -> tuple[int, str]:
    """A call that takes one of those."""
    return result[:2]


def test_a_drain_loses_no_result_of_any_commander(
    lieutenant, other, journal: Journal, strikes: Strikes, tmp_path: Path
) -> None:
    """With calls that run, calls in the queue, and big results that are on the node."""
    leaving, staying = lieutenant(2), lieutenant(1)
    addresses = [leaving.address, staying.address]
    second = Journal(tmp_path, "second")
    with Commander(addresses) as first, Commander(addresses) as another:
        until(
            lambda: all(len(c.nodes()) == 2 for c in (first, another)), 10, "both nodes are there"
        )
        kept = [first.submit(large, journal.path, 1000 + call, 0.0) for call in range(20)]
        until(lambda: all(ref.done() for ref in kept), 30, "big results are made")
        runs = [
            Running(first, journal, 80, 0.02, large),
            Running(another, second, 80, 0.02, max_retries=0),
        ]
        journal.wait_begun(25)
        second.wait_begun(4)
        leaving.terminate()
        strikes.note("SIGTERM")
        mine, others = (run.outcomes(60) for run in runs)
        until(lambda: leaving.process.poll() is not None, 20, "it has left")
        assert leaving.process.returncode == 0
        results = [first.submit(small, ref).result(30) for ref in kept]
    strikes.happened("SIGTERM")
    assert not any(isinstance(outcome, BaseException) for outcome in (*mine, *others))
    promises.every_call_has_one_outcome(mine, 80)
    promises.every_call_has_one_outcome(others, 80)
    promises.values_are_true([outcome[:2] for outcome in mine], journal)
    promises.values_are_true([*results], journal)
    promises.values_are_true(others, second)
    assert [call for call, _ in results] == list(range(1000, 1020))
    promises.executed_at_most(journal, 1)
    promises.executed_at_most(second, 1)


FORK = """
import os, sys, goliath

@goliath.remote
def double(x):
    return 2 * x

goliath.init({nodes})
assert goliath.get(double.remote(1)) == 2
commander = goliath.Commander({nodes})
assert commander.run(pow, [(2, 3)]) == [8]
pid = os.fork()
if not pid:
    code = 1
    try:
        try:
            commander.run(pow, [(2, 3)])
        except goliath.GoliathError as exc:
            assert "forked" in str(exc), exc
            assert goliath.get(double.remote(2)) == 4  # a Commander of its own
            goliath.shutdown()
            code = 0
    finally:
        os._exit(code)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert commander.run(pow, [(2, 4)]) == [16]
assert goliath.get(double.remote(3)) == 6
commander.close()
goliath.shutdown()
sys.exit(code)
"""


@pytest.mark.parametrize("where", ["node", "embedded"])
def test_a_fork_after_init_is_told_so_and_may_begin_anew(lieutenant, script, where: str) -> None:
    nodes = repr([lieutenant(2).address]) if where == "node" else "workers=1"
    # Not every warning is an error here: from 3.12 on Python warns of such a fork.
    told = script(FORK.format(nodes=nodes), options=("-W", "ignore::DeprecationWarning"))
    assert told.returncode == 0, told.stderr
    assert "Traceback" not in told.stderr


def test_a_loop_that_is_closed_before_its_ref_is_there_disturbs_nobody(
    commander: Commander, journal: Journal, strikes: Strikes
) -> None:
    ref = commander.submit(promises.execute, journal.path, 0, 0.5)

    async def impatient() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ref, 0.05)
        strikes.note("a wait that was called off")

    async def abandoned() -> None:
        ref.__await__().send(None)  # a waiter whom nobody will ever resume
        strikes.note("a loop that was closed under its waiter")

    for leave in (impatient, abandoned):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave())
        loop.close()
    assert not ref.done()
    values = [ref.result(30), asyncio.run(_awaited(ref))]
    strikes.happened("a loop that was closed under its waiter")
    promises.values_are_true(values, journal)
    promises.executed_at_most(journal, 1)


async def _awaited(ref: object) -> object:
    return await ref  # type: ignore[misc]


SHIFTED = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {  /* the seconds that the file says */
    char text[32] = "";
    int fd = open(getenv("GOLIATH_TEST_SHIFT"), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
    close(fd);
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (!result && clock == CLOCK_REALTIME) now->tv_sec += shift();
    return result;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
"""


def clock_there() -> float:
    """What the wall clock of a worker says."""
    return datetime.now(tz=UTC).timestamp()


@pytest.mark.parametrize("jump_s", [86_400 * 365, -86_400 * 365], ids=["forward", "back"])
def test_a_clock_that_jumps_ends_no_session_and_repeats_no_call(
    lieutenant, journal: Journal, strikes: Strikes, tmp_path: Path, jump_s: int
) -> None:
    source, library, shift = tmp_path / "shift.c", tmp_path / "shift.so", tmp_path / "shift"
    source.write_text(SHIFTED)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    shift.write_text("0")
    shifted = {"LD_PRELOAD": str(library), "GOLIATH_TEST_SHIFT": str(shift)}
    node = lieutenant(2, launcher=COMMAND, env=shifted)
    with Commander([node.address]) as commander:
        running = Running(commander, journal, 100, 0.02, timeout=30)
        journal.wait_begun(10)
        before: set[Seen] = node.family()
        shift.write_text(str(jump_s))
        outcomes = running.outcomes(30)
        there = commander.submit(clock_there).result(30)
        assert abs(there - clock_there() - jump_s) < 60, "its clock has not jumped"
        strikes.note("a clock that jumped")
        assert before <= node.family(), "somebody died of it"
    strikes.happened("a clock that jumped")
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes)
    promises.every_call_has_one_outcome(outcomes, 100)
    promises.values_are_true(outcomes, journal)
    promises.executed_at_most(journal, 1)
