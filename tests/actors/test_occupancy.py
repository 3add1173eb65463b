"""How much memory a node has, and how much it could have."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from goliath.actors.occupancy import Measured, Occupancy
from goliath.machine import free_memory, private_bytes, total_memory
from goliath.testing.processes import until
from goliath.transport.arena import Arena

MIB = 1 << 20
HOLD = "data = bytes(range(256)) * (32 << 12); print(flush=True); input()"


@pytest.fixture
def holder() -> Iterator[int]:
    """A process with 32 MiB of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


def test_the_limit_is_what_the_node_may_have_if_that_much_is_there(holder: int):
    assert Occupancy(10 * MIB).measure([], []) == Measured(0, 10 * MIB)
    assert Occupancy(40 * MIB).measure([holder], []).limit == 40 * MIB
    scarce = Occupancy(2 * total_memory()).measure([holder], [])
    assert scarce.limit == pytest.approx(scarce.used + free_memory(), rel=0.2)


def test_workers_the_memory_that_they_share_and_the_process_itself_are_counted(holder: int):
    own = Occupancy(total_memory()).measure([holder], [])
    assert 32 * MIB < own.used < 64 * MIB
    assert private_bytes(holder) == pytest.approx(own.used, rel=0.01)
    arena = Arena.make([64 * MIB])
    assert arena is not None
    view = arena.region(0).take(16 * MIB)
    shared = Occupancy(total_memory()).measure([holder], [arena.fd])
    assert shared.used - own.used == pytest.approx(16 * MIB, rel=0.1)
    serving = Occupancy(total_memory(), serves=True).measure([], [])
    assert serving.used == pytest.approx(private_bytes(os.getpid()), rel=0.2)
    del view
    arena.close()


def test_whatever_workers_have_started_counts_where_control_groups_tell(holder: int):
    enclosing = Occupancy(total_memory(), lambda: 500 * MIB)
    assert enclosing.measure([holder], []).used == 500 * MIB
    few = Occupancy(total_memory(), lambda: MIB)
    assert few.measure([holder], []).used > 32 * MIB


def test_what_has_just_ended_has_nothing():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert Occupancy(MIB).measure([process.pid], [-1]) == Measured(0, MIB)


def test_files_that_a_process_maps_are_not_its_own():
    before = private_bytes(os.getpid())
    with open(sys.executable, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as m:
        assert sum(m[:: mmap.PAGESIZE]) > 0
        until(lambda: abs(private_bytes(os.getpid()) - before) < 2 * MIB, 5)


def test_a_share_is_told_in_percent():
    assert [Measured(1, 3).percent, Measured(0, 0).percent] == [33, 0]
