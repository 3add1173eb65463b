"""What is found out about this machine."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from goliath.machine import (
    free_memory,
    gpu_ids,
    group_memory,
    memory_groups,
    memory_kills,
    process_exists,
    resident_bytes,
    tasks_max,
    tasks_of_user,
    total_memory,
)
from goliath.testing.processes import until


@pytest.mark.parametrize(
    ("visible", "count", "found"),
    [
        ("0,1", None, ("0", "1")),
        ("3, GPU-5ebe9f43 ,1", None, ("3", "GPU-5ebe9f43", "1")),
        ("3,2,1", 2, ("3", "2")),
        ("3,2,1", 0, ()),
        ("", None, ()),
        ("-1", None, ()),
        ("NoDevFiles", None, ()),
        ("1,-1,2", None, ("1",)),  # CUDA stops at the first that is none
        ("1,1", None, ("1",)),
    ],
)
def test_the_gpus_are_those_that_are_visible(
    visible: str, count: int | None, found: tuple[str, ...]
):
    assert gpu_ids(count, {"CUDA_VISIBLE_DEVICES": visible}) == found


def test_more_gpus_than_are_visible_cannot_be_offered():
    with pytest.raises(ValueError, match=r"3 GPUs .* CUDA_VISIBLE_DEVICES='0,1' shows 2"):
        gpu_ids(3, {"CUDA_VISIBLE_DEVICES": "0,1"})


def test_without_a_word_about_it_they_are_those_that_the_driver_lists(tmp_path: Path):
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:02:00.0").mkdir()
    assert gpu_ids(None, {}, tmp_path) == ("0", "1")
    assert gpu_ids(None, {}, tmp_path / "none") == ()
    assert gpu_ids(4, {}, tmp_path) == ("0", "1", "2", "3")


def grouped(folder: Path, own: str) -> list[Path]:
    """The memory groups of a process that is in these, all of which are mounted in a folder."""
    (folder / "own").write_text(own)
    return memory_groups(folder / "own", folder)


def test_the_memory_is_that_of_the_machine_or_of_the_tightest_group_around(tmp_path: Path):
    everything = total_memory([])
    assert everything == pytest.approx(psutil.virtual_memory().total, rel=0.01)
    own = "9:name=systemd:/\n4:memory:/pod/one\n0::/\n"
    (tmp_path / "memory/pod/one").mkdir(parents=True)
    for folder, limit in (("pod/one", 9_000_000), ("pod", 1_048_576), ("", 1 << 62)):
        (tmp_path / "memory" / folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    groups = grouped(tmp_path, own)
    assert groups == [tmp_path / "memory" / name for name in ("pod/one", "pod", "")]
    assert total_memory(groups) == 1_048_576
    assert total_memory(groups[2:]) == everything


def test_free_memory_is_what_is_left_of_the_narrowest_group(tmp_path: Path):
    free = free_memory([])
    assert free == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    for folder, limit, used in (("a", "8000000", "1000000"), ("a/b", "max", "900000")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "memory.max").write_text(f"{limit}\n")
        (tmp_path / folder / "memory.current").write_text(f"{used}\n")
    groups = grouped(tmp_path, "0::/a/b\n")
    assert free_memory(groups) == 7_000_000
    assert free_memory(groups[:1]) == pytest.approx(free, rel=0.2)
    (tmp_path / "a/memory.current").write_text("9000000\n")
    assert free_memory(groups) == 0


@pytest.mark.parametrize("version", [1, 2])
def test_contents_of_files_that_are_cached_are_as_good_as_free(tmp_path: Path, version: int):
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        2: ("memory.max", "memory.current"),
    }
    for name, amount in zip(names[version], (8_000_000, 7_500_000), strict=True):
        (tmp_path / name).write_text(f"{amount}\n")
    assert group_memory(tmp_path) == 7_500_000
    # Of version 1 "total" has the groups within, and what has no such name has not.
    counted = {"active_file": 4_000_000, "inactive_file": 2_000_000, "anon": 1_500_000}
    if version == 1:
        counted = {"active_file": 1, **{f"total_{name}": n for name, n in counted.items()}}
    (tmp_path / "memory.stat").write_text("".join(f"{k} {v}\n" for k, v in counted.items()))
    assert group_memory(tmp_path) == 1_500_000
    assert free_memory([tmp_path]) == 6_500_000
    assert group_memory(tmp_path / "gone") == 0


def test_a_group_of_version_2_may_be_unlimited(tmp_path: Path):
    for folder, limit in (("a.slice", "2097152"), ("a.slice/b", "max")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "memory.max").write_text(f"{limit}\n")
    groups = grouped(tmp_path, "0::/a.slice/b\n")
    assert groups == [tmp_path / "a.slice/b", tmp_path / "a.slice"]
    assert total_memory(groups) == 2_097_152
    assert total_memory(groups[:1]) == total_memory([])


def test_in_a_container_the_path_of_the_host_is_not_there_but_its_end_is(tmp_path: Path):
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.limit_in_bytes").write_text("3145728\n")
    groups = grouped(tmp_path, "4:memory:/docker/0123456789ab\n")
    assert groups == [tmp_path / "memory"]


def test_killed_for_memory_are_those_of_the_own_group_or_else_of_the_machine(tmp_path: Path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    (old / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    (new / "memory.events").write_text(
        "low 0\nhigh 9\nmax 4\noom 1\noom_kill 2\noom_group_kill 0\n"
    )
    assert memory_kills([tmp_path / "none", old]) == 3
    assert memory_kills([new, old]) == 2
    assert memory_kills([]) >= 0  # from /proc/vmstat
    assert "oom_kill " in Path("/proc/vmstat").read_text()


def test_a_process_that_has_ended_does_not_exist_though_nobody_has_asked_how_it_ended():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process_exists(process.pid)
        process.kill()
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, within=5)
        assert not process_exists(process.pid)
    assert not process_exists(process.pid)
    assert process_exists(os.getpid())


@pytest.mark.parametrize(("flags", "counts"), [(mmap.MAP_PRIVATE, True), (mmap.MAP_SHARED, False)])
def test_the_memory_of_a_process_is_what_it_does_not_share(flags: int, counts: bool):
    size = 64 << 20
    before = resident_bytes(os.getpid())
    with mmap.mmap(-1, size, flags=flags | mmap.MAP_ANONYMOUS) as memory:
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1
        grown = resident_bytes(os.getpid()) - before
    assert (grown > size // 2) is counts


def test_the_tasks_of_a_user_are_his_threads_too_and_fewer_than_there_can_be():
    before = tasks_of_user()
    code = "import threading; threading.Thread(target=input).start(); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        until(lambda: psutil.Process(process.pid).num_threads() == 2, within=5)
        others = psutil.Process(process.pid).num_threads()
        assert 0 < others < tasks_of_user() < tasks_max()
        process.communicate(b"\n\n")
    assert before > 0
