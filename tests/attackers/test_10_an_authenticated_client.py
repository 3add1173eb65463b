"""Attacker 10: whoever has a token, and means harm: processes, threads, memory. His own calls fail,
and the node and all others go on."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from goliath import Commander, GoliathError, OutOfMemoryError, RuntimeEnvSetupError
from goliath.actors.disk_gauge import bytes_below
from goliath.testing.processes import alive, look, until
from tests.e2e.calls import nap, same
from tests.faults.test_full import SMALL_DISKS, fill
from tests.lieutenants import Lieutenant

PROCESSES = 60
KIB, MIB = 1 << 10, 1 << 20
SERVED_MAX_S = 5.0  # a call of somebody else, meanwhile: these machines have two cores


def bomb(path: str) -> None:
    """Every process forks, for as long as the node allows it, and says so when it does not."""
    while True:
        try:
            os.fork()
        except BlockingIOError as error:
            with open(path, "a") as file:
                file.write(f"{os.getpid()} {error.strerror}\n")
            time.sleep(60)


def start_threads(most: int) -> tuple[int, str]:
    """As many threads as there may be; none is left."""
    end, started = threading.Event(), []
    try:
        for _ in range(most):
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        said = str(error)
    else:
        said = ""
    end.set()
    for thread in started:
        thread.join()
    return len(started), said


def hide_grandchildren(most: int) -> list[int]:
    """Each in a session of its own, with nothing about it that tells where it is from."""
    reading, writing = os.pipe()
    for _ in range(most):
        if os.fork() == 0:
            os.setsid()
            pid = os.fork()
            if pid == 0:
                os.execve("/bin/sleep", ["sleep", "60"], {})
            os.write(writing, f"{pid}\n".encode())
            os._exit(0)
        os.wait()
    return [int(pid) for pid in os.read(reading, 1 << 16).split()]


def grow(kept: list[Any]) -> None:
    while True:
        kept.append(bytearray(os.urandom(1) * MIB))


def grow_in_children() -> None:
    """Each child has little, and all together too much."""
    while True:
        if os.fork() == 0:
            kept = bytearray(os.urandom(1) * (8 * MIB))
            time.sleep(60)
            os._exit(len(kept))


def served_meanwhile(commander: Commander) -> float:
    """How long a call of somebody else takes, at most."""
    slowest = 0.0
    for number in range(10):
        began = time.monotonic()
        assert commander.run(same, [(number,)]) == [number]
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def test_a_fork_bomb_ends_in_an_error_of_its_own_and_others_go_on(lieutenant, tmp_path: Path):
    node: Lieutenant = lieutenant(2, "--max-processes-per-session", str(PROCESSES))
    said = tmp_path / "said"
    with Commander([node.address]) as honest, Commander([node.address]) as hostile:
        assert honest.run(same, [(1,)]) == [1]
        ref = hostile.submit(bomb, str(said))
        until(lambda: said.exists() and "unavailable" in said.read_text(), 20, "the bomb's end")
        assert served_meanwhile(honest) < SERVED_MAX_S
        assert len(node.family()) < PROCESSES + 10
        assert node.process.poll() is None
        hostile.cancel()
        with pytest.raises(GoliathError):
            ref.result(timeout=20)
        hostile.close()
        until(lambda: len(node.family()) <= 4, 30, "all of the bomb gone")
        assert honest.run(same, [(2,)]) == [2]


def test_a_hundred_thousand_threads_are_an_error_inside(lieutenant):
    node: Lieutenant = lieutenant(1, "--max-processes-per-session", str(PROCESSES))
    with Commander([node.address]) as commander:
        ((started, said),) = commander.run(start_threads, [(100_000,)])
        assert 10 < started < PROCESSES
        assert "can't start new thread" in said
        assert commander.run(same, [(1,)]) == [1]


def test_a_node_that_was_told_nothing_has_limits_and_says_who_enforces_them(lieutenant):
    node: Lieutenant = lieutenant(1)
    with Commander([node.address]) as commander:
        until(lambda: commander.nodes()[0].limits, 30, "what the node says of itself")
        limits = {limit.name: limit for limit in commander.nodes()[0].limits}
    assert limits["connections before login"].amount == 64
    assert limits["memory of all workers"].in_force
    processes = limits["processes per session"]
    assert processes.in_force
    assert processes.enforced_by in ("cgroup v1", "cgroup v2")
    assert processes.amount == 4096


def test_memory_beyond_the_limit_ends_only_the_session_that_wants_it(lieutenant):
    node: Lieutenant = lieutenant(2, "--max-memory-per-session", "128M")
    with Commander([node.address]) as honest, Commander([node.address]) as hostile:
        assert honest.run(same, [(1,)]) == [1]
        (worker,) = node.worker_processes()
        with pytest.raises(OutOfMemoryError) as caught:
            hostile.run(grow, [([],)])
        assert caught.value.limit_bytes == 128 * MIB
        assert alive(worker), "the worker of somebody else was killed"
        assert served_meanwhile(honest) < SERVED_MAX_S
        assert hostile.run(same, [(2,)]) == [2]


def test_memory_that_is_spread_over_children_is_counted_all_the_same(lieutenant):
    node: Lieutenant = lieutenant(2, "--max-memory-per-session", "128M")
    with Commander([node.address]) as honest, Commander([node.address]) as hostile:
        assert honest.run(same, [(1,)]) == [1]
        (worker,) = node.worker_processes()
        ref = hostile.submit(grow_in_children)
        until(lambda: len(node.family()) > 6, 30, "some children")
        assert served_meanwhile(honest) < SERVED_MAX_S
        assert alive(worker)
        hostile.cancel()
        with pytest.raises(GoliathError):
            ref.result(timeout=20)
        hostile.close()
        until(lambda: len(node.family()) <= 4, 30, "its children gone")
        assert node.process.poll() is None


def test_grandchildren_that_hide_end_with_the_session(lieutenant):
    node: Lieutenant = lieutenant(1)
    with Commander([node.address]) as commander:
        (pids,) = commander.run(hide_grandchildren, [(5,)])
        hidden = [seen for pid in pids if (seen := look(pid)) is not None]
        assert len(hidden) == 5
        until(lambda: not set(hidden) & node.family(), 30, "their parents gone")
    until(lambda: not any(map(alive, hidden)), 30, "all of them gone")


def test_a_full_disk_is_an_error_in_the_call_that_fills_it_and_the_room_comes_back(
    tmp_path: Path,
):
    (tmp_path / "file.bin").write_bytes(bytes(MIB))
    with Lieutenant(2, launcher=("-c", SMALL_DISKS)) as node, Commander([node.address]) as honest:
        with Commander([node.address]) as hostile:
            # Its own directory is its current one; `fill` writes until there is an OSError.
            assert hostile.run(fill, [(".",)])[0] > MIB
            assert honest.run(same, [(1,)]) == [1]
            with pytest.raises(RuntimeEnvSetupError, match="No space left on device"):
                honest.run(same, [(2,)], [tmp_path / "file.bin"])
        until(lambda: shipped(honest, tmp_path / "file.bin"), 30, "room again")
        assert node.process.poll() is None


def write_files(size: int, count: int) -> None:
    """Each smaller than the limit of a file, and all of them together are too much."""
    for number in range(count):
        Path(f"file{number}").write_bytes(os.urandom(size))
    time.sleep(60)


def test_many_files_end_the_job_that_writes_them_and_their_room_comes_back(tmp_path: Path):
    (tmp_path / "small.txt").write_text("hello")
    with (
        Lieutenant(2, "--max-files-per-session", "64K") as node,
        Commander([node.address]) as honest,
        Commander([node.address]) as hostile,
    ):
        assert honest.run(write, [("mine", 50 * KIB)]) == [50 * KIB]
        (worker,) = node.worker_processes()
        other = hostile.submit(nap, 6.0)
        with pytest.raises(RuntimeEnvSetupError) as caught:
            hostile.run(write_files, [(10 * KIB, 20)], [tmp_path / "small.txt"])
        assert "have grown to 200 KiB together, and 64 KiB is what this node allows" in str(
            caught.value
        )
        assert other.result(20) == 6.0, "a job of the same Commander goes on"
        assert alive(worker)
        assert honest.run(os.path.getsize, [("mine",)]) == [50 * KIB]
        # The same again: what has grown was removed, so there is room for as much.
        assert hostile.run(write, [("more", 50 * KIB)]) == [50 * KIB]
        assert hostile.run(os.path.getsize, [("more",)]) == [50 * KIB]
        until(lambda: written_by(node) <= 110 * KIB, 30, "the room is there again")


def write(name: str, size: int) -> int:
    return Path(name).write_bytes(os.urandom(size))


def written_by(node: Lieutenant) -> int:
    """What all jobs of a node have on its disk."""
    base = Path(tempfile.gettempdir(), f"goliath-{os.getuid()}")
    return sum(bytes_below(path) for path in base.glob(f"{node.pid}-*"))


def shipped(commander: Commander, path: Path) -> bool:
    try:
        return commander.run(same, [(1,)], [path]) == [1]
    except RuntimeEnvSetupError:
        return False


NO_CONTROL_GROUPS = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_REC, MS_PRIVATE, MS_RDONLY = 0x20000, 0x4000, 0x40000, 1
for failed in (
    libc.unshare(CLONE_NEWNS),
    libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None),
    libc.mount(b"tmpfs", b"/sys/fs/cgroup", b"tmpfs", MS_RDONLY, b"size=64k"),
):
    if failed:
        raise OSError(ctypes.get_errno(), "control groups cannot be hidden")
from goliath.lieutenant import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_control_groups_each_process_is_limited_and_the_node_says_what_is_not():
    flags = ("--max-memory-per-session", "512M")
    with (
        Lieutenant(1, *flags, launcher=("-c", NO_CONTROL_GROUPS)) as node,
        Commander([node.address]) as commander,
    ):
        with pytest.raises(MemoryError) as caught:
            commander.run(grow, [([],)])
        assert not isinstance(caught.value, OutOfMemoryError), "the process was killed"
        assert commander.run(same, [(1,)]) == [1]
        until(lambda: commander.nodes()[0].limits, 30, "what the node says of itself")
        limits = {limit.name: limit for limit in commander.nodes()[0].limits}
        memory, processes = limits["memory per session"], limits["processes per session"]
        assert memory.enforced_by == "rlimit"
        assert memory.why.endswith("so it is of each process alone")
        assert processes.in_force is (os.geteuid() != 0)
        assert "no control group can be made: " in processes.why


def test_the_groups_of_a_node_go_with_it():
    with Lieutenant(1) as node, Commander([node.address]) as commander:
        assert commander.run(same, [(1,)]) == [1]
        own = list(Path("/sys/fs/cgroup").glob(f"**/goliath-{node.pid}"))
        assert own
        inside = [group for path in own for group in path.iterdir() if group.is_dir()]
        assert inside
    assert not [path for path in own if path.exists()]
