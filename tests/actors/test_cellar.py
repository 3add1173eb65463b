"""What memory has no room for is written to a file without a name, and read in place."""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from goliath.actors.cellar import SPILL_MAX_BYTES, Cellar
from goliath.machine import is_in_memory

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if is_in_memory(tmp_path):
        pytest.skip("the tests' folder is in memory")
    return tmp_path


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_stored_is_there_to_be_read_until_nobody_looks_at_it(folder: Path):
    cellar, before = Cellar([folder], 64 * MIB), descriptors()
    assert not cellar.is_open
    views = [cellar.store(bytes([n]) * (MIB + n)) for n in range(8)]
    assert list(folder.iterdir()) == [], "it has no name"
    assert descriptors() == before + 1, "one file, whatever is in it"
    assert [bytes(view or b"") for view in views] == [bytes([n]) * (MIB + n) for n in range(8)]
    assert all(view is not None and view.readonly for view in views)
    assert cellar.used_bytes == 8 * (MIB + 4096) - 4096
    part = (views[3] or b"")[5:10]
    views.clear()
    assert bytes(part) == bytes([3]) * 5, "a part of it keeps it"
    assert cellar.used_bytes == MIB + 4096
    cellar.close()
    assert bytes(part) == bytes([3]) * 5, "also when there is no cellar any more"
    assert descriptors() == before


def test_whoever_tidies_hears_of_each_that_is_let_go_of_however_late(folder: Path):
    cellar, heard = Cellar([folder], 64 * MIB), list[int]()
    cellar.attend(lambda: heard.append(cellar.used_bytes))
    views = [cellar.store(bytes(MIB)) for _ in range(2)]
    part = (views[1] or b"")[5:10]
    views.clear()
    assert heard == [MIB], "there is one left"
    cellar.tidy()
    assert (cellar.is_untidy, cellar.disk_bytes >= 2 * MIB) == (False, True)
    del part
    assert heard == [MIB, 0]
    assert cellar.is_untidy
    cellar.tidy()
    assert (cellar.is_untidy, cellar.disk_bytes) == (False, 0)
    cellar.close()


@pytest.mark.slow
def test_a_thousand_that_are_dropped_leave_the_disk_empty(folder: Path):
    cellar = Cellar([folder], 1100 * MIB)
    data = os.urandom(MIB)
    views = [cellar.store(data) for _ in range(1000)]
    assert None not in views
    assert cellar.disk_bytes >= 1000 * MIB
    del views[::2]
    cellar.tidy()
    assert cellar.used_bytes == 500 * MIB
    views.clear()
    gc.collect()
    cellar.tidy()
    assert (cellar.used_bytes, cellar.disk_bytes) == (0, 0)
    cellar.close()


def test_what_there_is_no_room_for_is_refused_and_what_fits_is_not(folder: Path):
    cellar = Cellar([folder], 4 * MIB + 1)
    assert cellar.limit == 4 * MIB, "whole pages"
    first = cellar.store(bytes(3 * MIB))
    assert cellar.store(bytes(2 * MIB)) is None
    second = cellar.store(bytes(MIB))
    assert first is not None
    assert second is not None
    cellar.close()


def test_threads_may_store_at_the_same_time(folder: Path):
    cellar = Cellar([folder], 64 * MIB)
    with ThreadPoolExecutor(8) as pool:
        views = list(pool.map(lambda n: cellar.store(bytes([n]) * MIB), range(32)))
    assert [bytes(view or b"") for view in views] == [bytes([n]) * MIB for n in range(32)]
    del views
    cellar.close()


def test_nothing_is_stored_where_no_file_can_be_made_nor_when_it_is_closed(folder: Path):
    place = folder / "gone"
    place.mkdir()
    cellar = Cellar([place], MIB)
    place.rmdir()
    assert cellar.store(b"x") is None
    place.mkdir()
    assert cellar.store(b"x") is not None, "it may be made later"
    cellar.close()
    assert cellar.store(b"x") is None
    cellar.tidy()


def test_it_is_on_a_disk_or_there_is_none(folder: Path):
    memory = Path("/dev/shm")
    if not memory.is_dir() or not is_in_memory(memory):
        pytest.skip("there is no file system in memory")
    assert Cellar([memory]).limit == Cellar([memory], MIB).limit == 0
    (folder / "file").touch()
    assert Cellar([folder / "file"]).limit == 0
    assert 0 < Cellar([folder / "file", memory, folder / "new"]).limit <= SPILL_MAX_BYTES
    assert (folder / "new").is_dir()
    assert Cellar([folder], 0).limit == 0


def test_whether_a_folder_is_in_memory_is_told_by_its_mount(tmp_path: Path):
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    line = "36 25 {}:{} / /there rw,nosuid shared:7 - {} none rw\n"
    numbers = (os.major(device), os.minor(device))
    mounts.write_text(line.format(0, 9999, "tmpfs") + line.format(*numbers, "ext4"))
    assert not is_in_memory(tmp_path, mounts)
    mounts.write_text(line.format(*numbers, "tmpfs"))
    assert is_in_memory(tmp_path, mounts)
    mounts.unlink()
    assert not is_in_memory(tmp_path, mounts), "nobody can tell"
