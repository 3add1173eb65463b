"""Calls that make a mess of their process: what they print arrives, and the next one is clean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from goliath import Commander, GoliathError, get, init, remote, shutdown
from tests.faults import promises
from tests.faults.promises import MIB, Journal, Peaks


def close_the_standard_streams():
    os.close(1)
    os.close(2)


def change_directory():
    os.chdir("/")


def change_signal_handlers():
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def leave_a_thread():
    import threading
    import time

    threading.Thread(target=time.sleep, args=(60,)).start()


def close_every_file():
    os.closerange(3, 10)


def print_what_looks_like_frames():
    """Megabytes of it, by all ways, and no whole line at the end."""
    print("a line to be found")
    for fd in (1, 2):
        os.write(fd, b"\x00\x01\xff garbage " * 2000 + b"\n")
    for _ in range(20):
        print("x" * 50_000)
    os.system("echo from a process; echo from a process >&2")
    print("and no end of the line", end="")


def dirt():
    """What is not as a call should find it."""
    import signal
    import threading

    print(end="", flush=True)
    os.fstat(1), os.fstat(2)
    found = {
        "directory": os.path.realpath(os.getcwd()) == "/",
        "handler": signal.getsignal(signal.SIGTERM) is signal.SIG_IGN,
        "interrupt": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        "thread": [t.name for t in threading.enumerate() if not t.daemon] != ["MainThread"],
    }
    return [what for what, there in found.items() if there]


CALLS = 12
MESSES = [
    print_what_looks_like_frames,
    close_the_standard_streams,
    change_directory,
    change_signal_handlers,
    leave_a_thread,
]


@pytest.mark.parametrize("mess", MESSES)
def test_whatever_a_call_leaves_behind_the_next_one_is_clean_and_every_promise_kept(
    mess: Any, tmp_path: Path, journal: Journal, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.txt").write_text("so that there is a directory of the job")

    def work(n: int, path: str) -> tuple[int, str]:
        token = promises.begin(path, n)
        if n % 2:
            mess()
        elif dirt():
            raise AssertionError(f"call {n} finds {dirt()}")
        return promises.end(path, n, token)

    with promises.Audited(tmp_path, 2) as own, Commander([own.address]) as commander:
        commander.run(dirt, [()])
        peaks = Peaks(commander=os.getpid(), node=own.pid)
        calls = [(n, journal.path) for n in range(CALLS)]
        # One by one: a function whose first call in a worker was tidy is trusted within a batch.
        outcomes = commander.run(work, calls, [tmp_path / "file.txt"], batch_size=1)
        assert journal.executions() == dict.fromkeys(range(CALLS), 1), "the fault has happened"
        promises.every_call_has_one_outcome(outcomes, CALLS)  # G1
        promises.values_are_true(outcomes, journal)  # G2
        promises.executed_at_most(journal, 1)  # G3
        # G4, of an actor: it is kept, whatever its calls do, and they keep their order.
        init(own.address)
        try:
            actor = remote(Messy).remote(Path(journal.path).with_name("of the actor"))
            messes = [actor.make.remote(n, mess) for n in range(4)]
            assert [get(ref, timeout=20) for ref in messes] == [0, 1, 2, 3]
        finally:
            shutdown()
        promises.in_order_one_at_a_time(Journal(tmp_path, "of the actor"))
        peaks.stay_below(64 * MIB)  # G6
        own.has_unpickled_nothing()  # G7
        family = own.family()
    promises.nothing_is_left(family, 2)  # G5
    if mess is print_what_looks_like_frames:
        said = capfd.readouterr()
        assert said.out.count("a line to be found") == CALLS // 2 + 4
        for stream in (said.out, said.err):
            lines = [line for line in stream.splitlines() if "from a process" in line]
            assert len(lines) == CALLS // 2 + 4
            assert all(str(own.port) in line for line in lines), "without a prefix"


class Messy:
    """An actor whose calls are no tidier."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def make(self, n: int, mess: Any) -> int:
        token = promises.begin(self.path, n)
        mess()
        promises.end(self.path, n, token)
        return n


def test_a_call_that_closes_every_file_of_its_worker_harms_only_itself(cmdr: Commander) -> None:
    def work(n):
        return close_every_file() if n == 1 else n

    results = cmdr.run(work, [(n,) for n in range(5)], return_exceptions=True)
    assert [results[0], *results[2:]] == [0, 2, 3, 4]
    assert results[1] is None or isinstance(results[1], GoliathError)


def test_reading_standard_input_finds_its_end(cmdr: Commander) -> None:
    def read():
        import sys

        return sys.stdin.read()

    assert cmdr.run(read, [()]) == [""]
