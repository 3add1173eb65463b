"""Control groups of our own: in the kernel's trees as they are here, and on a copy of version 2."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from goliath.control_groups import (
    MEMORY,
    PIDS,
    Estate,
    NoGroupsError,
    enter,
    members,
    remove,
)
from goliath.limits import Enforcer
from goliath.machine import memory_kills, total_memory
from goliath.testing.processes import until


@contextmanager
def estate() -> Iterator[Estate]:
    made = Estate()
    try:
        yield made
    finally:
        made.close()
        assert not [path for path in made.node.paths if Path(path).exists()]


def run_in(paths: list[str], code: str) -> subprocess.CompletedProcess[str]:
    """Have a fresh process enter a group and run something there."""
    entering = f"from goliath.control_groups import enter\nenter({paths!r})\n"
    return subprocess.run(
        [sys.executable, "-c", entering + code],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # what it kills is its own group only
    )


def test_a_group_limits_the_processes_of_those_in_it_together():
    with estate() as own:
        group = own.node.child("session-1")
        group.limit(PIDS, 5)
        bomb = "import os, time\nfor n in range(9):\n    os.fork() or (time.sleep(9), os._exit(0))"
        run = run_in(group.paths, f"try:\n    exec({bomb!r})\nfinally:\n    os.killpg(0, 9)")
        until(lambda: not members(group.paths), 5, "empty")
        assert "BlockingIOError" in run.stderr or run.returncode == -9
        assert remove(group.paths)


def test_a_group_limits_the_memory_of_those_in_it_and_counts_whom_it_killed():
    with estate() as own:
        group = own.node.child("session-1")
        group.limit(MEMORY, 64 << 20)
        folder = group.folders[MEMORY]
        assert total_memory([folder]) == 64 << 20
        before = memory_kills([folder])
        run = run_in(group.paths, "data = bytearray(b'x' * (256 << 20))\nprint('survived')")
        assert run.returncode == -9
        assert "survived" not in run.stdout
        assert memory_kills([folder]) == before + 1
        until(lambda: remove(group.paths), 5, "removed")


def test_who_enforces_is_said_for_each_controller():
    with estate() as own:
        for controller in (MEMORY, PIDS):
            assert own.node.enforcer(controller) in (Enforcer.CGROUP_V1, Enforcer.CGROUP_V2)


def test_what_a_killed_lieutenant_has_left_is_swept_by_the_next():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as dead:
        dead.kill()
        dead.wait()
    with estate() as own:
        left = [Path(path).with_name(f"goliath-{dead.pid}") for path in own.node.paths]
        for path in left:
            (path / "session-1").mkdir(parents=True)
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as alive:
            theirs = [Path(path).with_name(f"goliath-{alive.pid}") for path in own.node.paths]
            for path in theirs:
                path.mkdir()
            again = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    "from goliath.control_groups import Estate; Estate().close()",
                ],
                check=False,
            )
            assert again.returncode == 0
            assert not [path for path in left if path.exists()]
            assert all(path.exists() for path in theirs)
            for path in theirs:
                path.rmdir()
            assert alive.stdin is not None
            alive.stdin.write(b"\n")


def test_a_group_with_somebody_in_it_stays():
    with estate() as own:
        group = own.node.child("session-1")
        sleeper = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"from goliath.control_groups import enter\nenter({group.paths!r})\ninput()",
            ],
            stdin=subprocess.PIPE,
        )
        until(lambda: members(group.paths) == [sleeper.pid], 5, "inside")
        assert not remove(group.paths)
        sleeper.communicate(b"\n")
        until(lambda: remove(group.paths), 5, "removed")
        assert remove(group.paths), "what is gone is gone"


# -- a copy of what is not here ------------------------------------------------------------


def copied(tmp_path: Path, own: str, *, controllers: str) -> tuple[Path, Path]:
    """The files that version 2 has, as plain ones, and the file of a process in ``/a``."""
    (tmp_path / "fs/a").mkdir(parents=True)
    for folder in ("fs", "fs/a"):
        (tmp_path / folder / "cgroup.controllers").write_text(controllers)
    (tmp_path / "own").write_text(own)
    return tmp_path / "own", tmp_path / "fs"


def test_in_version_2_the_lieutenant_moves_into_a_leaf_before_its_children_are_controlled(
    tmp_path: Path,
):
    own, mounted = copied(tmp_path, "0::/a\n", controllers="cpu memory pids\n")
    made = Estate(own, mounted)
    node = mounted / f"a/goliath-{os.getpid()}"
    assert made.node.paths == [str(node)]
    assert made.home == [str(node / "lieutenant")]
    assert (node / "lieutenant/cgroup.procs").read_text() == str(os.getpid())
    assert (mounted / "a/cgroup.subtree_control").read_text() == "+memory +pids"
    assert (node / "cgroup.subtree_control").read_text() == "+memory +pids"
    group = made.node.child("session-1")
    for name in ("memory.max", "memory.swap.max", "pids.max"):
        (node / "session-1" / name).write_text("max")  # the kernel makes them
    group.limit(MEMORY, 1 << 30)
    group.limit(PIDS, 100)
    said = {path.name: path.read_text() for path in (node / "session-1").iterdir()}
    assert said == {"memory.max": str(1 << 30), "memory.swap.max": "0", "pids.max": "100"}
    assert group.enforcer(PIDS) is Enforcer.CGROUP_V2
    enter(group.paths)
    assert (node / "session-1/cgroup.procs").read_text() == "0"


def test_in_version_2_without_delegation_everything_is_put_back(tmp_path: Path):
    own, mounted = copied(tmp_path, "0::/a\n", controllers="cpu memory pids\n")
    (mounted / "a/cgroup.subtree_control").mkdir()  # writing to it fails, as with EBUSY
    with pytest.raises(NoGroupsError, match="no control group can be made: "):
        Estate(own, mounted)
    assert (mounted / "a/cgroup.procs").read_text() == str(os.getpid())


@pytest.mark.parametrize(
    ("own", "controllers", "why"),
    [
        ("0::/a\n", "cpu\n", "has no memory controller"),
        ("3:memory:/a\n0::/\n", "cpu\n", "has no pids controller"),
    ],
)
def test_a_controller_that_is_not_there_is_named(
    tmp_path: Path, own: str, controllers: str, why: str
):
    with pytest.raises(NoGroupsError, match=why):
        Estate(*copied(tmp_path, own, controllers=controllers))


def test_a_system_without_control_groups_is_said_to_have_none(tmp_path: Path):
    with pytest.raises(NoGroupsError, match="this system has no control groups"):
        Estate(tmp_path / "none", tmp_path)
