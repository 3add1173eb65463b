"""Workers that die, calls that make a mess, nodes of another Python."""

from __future__ import annotations

import os
from typing import Any

import pytest

import goliath
from goliath import Commander, GoliathError, WorkerCrashedError
from tests.e2e.calls import add
from tests.lieutenants import Lieutenant

pytestmark = pytest.mark.slow


# -- workers that die --------------------------------------------------------------------


def segfault():
    import ctypes

    ctypes.string_at(0)


def kill_myself():
    os.kill(os.getpid(), 9)


def leave():
    import sys

    sys.stderr.write("my last words\n")
    sys.stderr.flush()
    os._exit(42)


@pytest.mark.parametrize(
    ("function", "signal", "exit_code"),
    [(segfault, 11, None), (kill_myself, 9, None), (leave, None, 42)],
)
def test_a_dead_worker_is_an_error_of_its_call_with_all_that_is_known(
    cmdr: Commander, node: Lieutenant, function: Any, signal: int | None, exit_code: int | None
) -> None:
    def work(n):
        return n if n != 1 else function()

    first, error, last = cmdr.run(
        work, [(n,) for n in range(3)], return_exceptions=True, max_retries=1
    )
    assert (first, last) == (0, 2)
    assert type(error) is WorkerCrashedError
    assert (error.signal, error.exit_code) == (signal, exit_code)
    assert error.pid
    assert str(node.port) in error.node + str(error)
    assert error.maybe_executed
    assert "work" in "\n".join([str(error), *getattr(error, "__notes__", [])])


def test_the_last_words_and_the_stack_of_a_dead_worker_are_kept(
    cmdr: Commander, capfd: pytest.CaptureFixture[str]
) -> None:
    (error,) = cmdr.run(leave, [()], return_exceptions=True, max_retries=0)
    assert "my last words" in error.stderr_tail
    (error,) = cmdr.run(segfault, [()], return_exceptions=True, max_retries=0)
    assert "Segmentation fault" in error.stderr_tail
    assert "in segfault" in error.stderr_tail  # the faulthandler's stack


# -- calls that make a mess --------------------------------------------------------------


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


# -- versions ----------------------------------------------------------------------------

ANOTHER_PYTHON = """
import sys, types
from goliath.transport import versions
# Only there: the rest of this process is the Python that it is.
versions.sys = types.SimpleNamespace(version_info=types.SimpleNamespace(major=3, minor=99))
from goliath.lieutenant import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_node_with_another_python_is_refused_before_any_pickle(lieutenant) -> None:
    import sys

    own = lieutenant(1, launcher=("-c", ANOTHER_PYTHON))
    with (
        Commander([own.address], connect_timeout=2) as commander,
        pytest.raises(goliath.VersionMismatchError) as caught,
    ):
        commander.run(add, [(1, 1)])
    assert "3.99" in str(caught.value)
    assert f"3.{sys.version_info.minor}" in str(caught.value)
