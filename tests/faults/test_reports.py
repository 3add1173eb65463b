"""What a person reads when a worker has died: all that there is to act on, the first line first."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import goliath
from goliath import ActorDiedError, Commander, OutOfMemoryError, WorkerCrashedError
from goliath.testing.processes import until
from tests.faults.promises import (
    MIB,
    Journal,
    begin,
    end,
    every_call_has_one_outcome,
    executed_at_most,
    only_these_were_repeated,
    values_are_true,
)
from tests.lieutenants import Lieutenant

MEMORY = Path("/sys/fs/cgroup/memory")
LIMIT = 160 * MIB
SHARED = 24 * MIB
WORKERS = 120 * MIB  # of which: a quarter is left to the Lieutenant


def segfault(journal: str, text: str) -> None:
    begin(journal, 0)
    import ctypes

    ctypes.string_at(0)


def abort(journal: str, text: str) -> None:
    begin(journal, 0)
    os.abort()


def kill_myself(journal: str, text: str) -> None:
    begin(journal, 0)
    print("before the end", file=sys.stderr, flush=True)
    os.kill(os.getpid(), 9)


def leave(journal: str, text: str) -> None:
    begin(journal, 0)
    for number in range(9):
        print(f"last word {number}", file=sys.stderr, flush=True)
    os._exit(42)


def grow(journal: str, text: str) -> None:
    begin(journal, 0)
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1) * MIB))


class Victim:
    """An actor that dies of its own calls."""

    def suffer(self, journal: str, name: str) -> None:
        {f.__name__: f for f in (segfault, abort, kill_myself, leave, grow)}[name](journal, name)


Ask = Callable[[Lieutenant, Any, Journal], WorkerCrashedError]


def by_run(node: Lieutenant, function: Any, journal: Journal) -> WorkerCrashedError:
    with Commander([node.address]) as commander, pytest.raises(WorkerCrashedError) as caught:
        commander.run(function, [{"journal": journal.path, "text": "x" * 300}], max_retries=1)
    return caught.value


def by_remote(node: Lieutenant, function: Any, journal: Journal) -> WorkerCrashedError:
    goliath.init(node.address)
    try:
        remote = goliath.remote(max_retries=1)(function)
        with pytest.raises(WorkerCrashedError) as caught:
            goliath.get(remote.remote(journal.path, ["x" * 300]))
    finally:
        goliath.shutdown()
    return caught.value


def by_actor(node: Lieutenant, function: Any, journal: Journal) -> WorkerCrashedError:
    goliath.init(node.address)
    try:
        victim = goliath.remote(Victim).remote()
        with pytest.raises(ActorDiedError) as caught:
            goliath.get(victim.suffer.remote(journal.path, function.__name__))
    finally:
        goliath.shutdown()
    cause = caught.value.__cause__
    assert isinstance(cause, WorkerCrashedError)
    # Whoever reads only the error itself reads the first line of the report.
    assert str(cause).splitlines()[0] in str(caught.value)
    return cause


ASKS = {"run": by_run, "remote": by_remote, "method": by_actor}


def check(error: WorkerCrashedError, node: Lieutenant, how: str, journal: Journal) -> list[str]:
    """What every report has; returns its lines."""
    lines = str(error).splitlines()
    assert len(lines) <= 15
    # The fault has happened, in the very process that is named.
    last = journal.lines()[-1]
    assert (last.pid, journal.unfinished()[0]) == (error.pid, error.executions)
    first = lines[0]
    assert first.startswith(error.call)
    assert f"killed its worker: {how}; pid {error.pid} on 127.0.0.1:{node.port}" in first
    assert first.endswith(f"executions blamed for it: {error.executions}")
    assert re.match(r"(kill_myself|segfault|abort|leave|grow|Victim\.suffer)\(.*jour", error.call)
    assert len(error.call) <= 200
    assert error.peak_bytes is not None
    assert error.limit_bytes is not None
    # What it shares with its zygote, it has not been charged for.
    assert MIB < error.peak_bytes < error.limit_bytes + SHARED
    assert lines[1].startswith("memory at its peak: ")
    assert "; the limit, of all workers together, is " in lines[1]
    assert lines[2].startswith("what to do: ")
    return lines


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize(
    ("function", "how", "advice", "number", "code"),
    [
        (segfault, "signal 11 SIGSEGV", "C code has crashed", signal.SIGSEGV, None),
        (abort, "signal 6 SIGABRT", "C code has crashed", signal.SIGABRT, None),
        (kill_myself, "signal 9 SIGKILL", "somebody sent that signal", signal.SIGKILL, None),
        (leave, "exit code 42", "it called os._exit", None, 42),
    ],
    ids=["segfault", "abort", "kill", "exit"],
)
def test_the_report_of_a_death_has_all_that_is_known(
    node: Lieutenant,
    journal: Journal,
    ask: Ask,
    function: Any,
    how: str,
    advice: str,
    number: int | None,
    code: int | None,
    capfd: pytest.CaptureFixture[str],
):
    error = ask(node, function, journal)
    lines = check(error, node, how, journal)
    assert type(error) is WorkerCrashedError
    assert (error.signal, error.exit_code) == (number, code)
    assert error.executions == (1 if ask is by_actor else 2)
    assert advice in lines[2]
    if function in (segfault, abort):
        at = lines.index("where it died (faulthandler):")
        assert lines[at + 1].startswith("  Fatal Python error: ")
        assert any(f"in {function.__name__}" in line for line in lines[at + 2 :])
        assert not any("goliath/actors" in line for line in lines)
        assert error.stack.startswith("Fatal Python error")
        printed = capfd.readouterr().err
        assert f"in {function.__name__}" in printed
        assert "Current thread" in error.stack
        assert "Current thread" not in printed
    elif function is kill_myself:
        assert lines[3:] == ["its last words on stderr:", "  before the end"]
    else:
        words = [f"  last word {number}" for number in range(5, 9)]
        assert lines[3:] == ["its last words on stderr:", *words]
        assert "last word 0" in error.stderr_tail


@contextlib.contextmanager
def in_a_memory_group(limit: int) -> Iterator[tuple[Lieutenant, Path]]:
    """A node in a control group of its own, as in a container of so much memory."""
    own = Path("/proc/self/cgroup").read_text()
    inside = re.search(r"^\d+:memory:/(.*)$", own, re.M)
    assert inside, "this test wants cgroups of version 1"
    group = MEMORY / inside[1] / f"goliath-test-{os.getpid()}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(limit))
    try:
        with Lieutenant(2, launcher=("-c", _ENTER_AND_SERVE.format(group=group))) as node:
            yield node, group
    finally:
        until(lambda: removed(group), 30, "the control group removed")


_ENTER_AND_SERVE = """
import pathlib, sys
pathlib.Path('{group}', "cgroup.procs").write_text("0")
from goliath.lieutenant import main
sys.exit(main(sys.argv[1:]))
"""


def removed(group: Path) -> bool:
    """Whether it is gone, with what a node that was killed has left in it; the kernel keeps it for
    a moment after its last process."""
    for path in sorted(group.glob("**/goliath-*/**/"), reverse=True):
        with contextlib.suppress(OSError):
            path.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def oom_kills(group: Path) -> int:
    return int((group / "memory.oom_control").read_text().split()[-1])


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_out_of_memory_is_told_from_a_plain_kill_with_limit_and_peak(journal: Journal, ask: Ask):
    with in_a_memory_group(LIMIT) as (node, group):
        error = ask(node, grow, journal)
        lines = check(error, node, r"out of memory (SIGKILL, sent by the kernel)", journal)
        assert type(error) is OutOfMemoryError
        assert isinstance(error, MemoryError)
        assert error.limit_bytes == WORKERS
        assert error.peak_bytes is not None
        assert error.peak_bytes > WORKERS / 2
        assert "is 120 MiB" in lines[1]
        assert "give it less data" in lines[2]
        assert oom_kills(group) == 0, "somebody died beside the workers"
        # A plain kill on the same node, which the kernel had no part in, is still one.
        plain = ask(node, kill_myself, Journal(Path(journal.path).parent, "jour2"))
        assert type(plain) is WorkerCrashedError


def test_a_call_out_of_memory_is_tried_once_more_however_many_retries_it_has(journal: Journal):
    with in_a_memory_group(LIMIT) as (node, group), Commander([node.address]) as commander:
        work = [{"journal": journal.path, "text": "x"}]
        with pytest.raises(OutOfMemoryError) as caught:
            commander.run(grow, work, max_retries=3)
        assert caught.value.executions == 2
        executed_at_most(journal, 2)
        assert oom_kills(group) == 0
        # The node has not died with it.
        assert commander.run(os.getppid, [()])
        assert node.process.poll() is None


def swell_once(journal: str, n: int) -> tuple[int, str]:
    """The first execution of call 0 uses up all memory; all else takes a moment."""
    token = begin(journal, n)
    if n == 0 and Path(journal).read_text().count("+ 0 ") == 1:
        grow(os.devnull, "")
    time.sleep(0.5 if n == 0 else 0.1)
    return end(journal, n, token)


def test_the_one_retry_of_a_call_out_of_memory_runs_alone_on_its_node(journal: Journal):
    with in_a_memory_group(LIMIT) as (node, group), Commander([node.address]) as commander:
        calls = [(journal.path, n) for n in range(20)]
        outcomes = commander.run(swell_once, calls, batch_size=1)
        assert oom_kills(group) == 0, "somebody died beside the workers"
    every_call_has_one_outcome(outcomes, 20)
    values_are_true(outcomes, journal)
    assert journal.unfinished() == {0: 1}
    only_these_were_repeated(journal, [0])
    lines = journal.lines()
    ended = next(place for place, line in enumerate(lines) if line.call == 0 and not line.began)
    assert lines[ended - 1].token == lines[ended].token, "nothing began or ended meanwhile"
    begun = Counter(line.call for line in lines[: ended - 1] if line.began)
    begun.subtract(line.call for line in lines[:ended] if not line.began)
    assert +begun == {0: 1}, "nothing else ran when it began, but what the kernel had killed"


def test_a_refused_allocation_stays_a_memory_error_that_says_how_much_there_was(cmdr: Commander):
    def ask_for_too_much() -> None:
        bytearray(1 << 50)

    with pytest.raises(MemoryError) as caught:
        cmdr.run(ask_for_too_much, [()])
    assert type(caught.value) is MemoryError
    notes = "\n".join(caught.value.__notes__)
    assert re.search(r"its worker had [\d.]+ MiB of memory at its peak, of [\d.]+ GiB", notes)
