"""Calls that make a mess of their process: what they print arrives, and the next one is clean."""

from __future__ import annotations

import os
from typing import Any

import pytest

from goliath import Commander, GoliathError

pytestmark = pytest.mark.slow


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


def state_of_the_worker(n):
    import signal
    import threading

    print(end="", flush=True)
    return (
        os.path.realpath(os.getcwd()) == "/",
        signal.getsignal(signal.SIGTERM) is signal.SIG_IGN,
        [t.name for t in threading.enumerate() if not t.daemon] == ["MainThread"],
    )


@pytest.mark.parametrize(
    "mess",
    [close_the_standard_streams, change_directory, change_signal_handlers, leave_a_thread],
)
def test_whatever_a_call_leaves_behind_the_next_one_is_clean(
    cmdr: Commander, mess: Any, tmp_path
) -> None:
    (tmp_path / "file.txt").write_text("so that there is a directory of the job")
    files = [tmp_path / "file.txt"]

    def work(n):
        return mess() if n % 2 else state_of_the_worker(n)

    # One by one: a function whose first call in a worker was tidy is trusted within a batch.
    results = cmdr.run(work, [(n,) for n in range(12)], files, batch_size=1)
    assert results[::2] == [(False, False, True)] * 6
    assert results[1::2] == [None] * 6


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
