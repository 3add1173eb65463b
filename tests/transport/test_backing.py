"""Memory of an arena where there are no memfds: a file that nobody can open, set aside in time."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from goliath.machine import file_system_of
from goliath.transport import backing
from goliath.transport.arena import Arena, copy_into
from goliath.transport.backing import Backing, ForeignArenaError
from goliath.transport.handover import Letterbox, put_in

MIB = 1 << 20


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(backing, "_KEEP_THEIR_WORD", {file_system_of(tmp_path)})
    return tmp_path / "goliath"


def not_implemented(*_: object) -> int:
    raise OSError(38, "Function not implemented")


def not_permitted(*_: object) -> int:
    raise PermissionError(1, "Operation not permitted")


@pytest.fixture(params=[not_implemented, not_permitted, None])
def in_a_file(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no memfds, for one reason or another."""
    refusal: Callable[..., int] | None = request.param
    if refusal is None:
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(os, "memfd_create", refusal)


@pytest.mark.usefixtures("in_a_file")
def test_without_a_memfd_there_is_an_arena_in_a_file_without_a_name(runtime: Path):
    arena = Arena.make([MIB, MIB])
    assert arena is not None
    assert list(runtime.iterdir()) == []
    assert not arena.backing.is_sealed
    block = arena.region(1).take(100_000)
    assert block is not None
    copy_into(block, 0, memoryview(b"hello" * 20_000))
    reader = Arena.join(os.dup(arena.backing.readers_fd), arena.limits, trusted=True)
    assert bytes(reader.borrowed(MIB, 100_000)) == b"hello" * 20_000


@pytest.mark.usefixtures("in_a_file")
def test_who_may_read_a_file_can_neither_write_it_nor_make_it_shorter(runtime: Path):
    arena = Arena.make([MIB])
    assert arena is not None
    fd = arena.backing.readers_fd
    with pytest.raises(OSError, match="Invalid argument"):
        os.ftruncate(fd, 0)
    with pytest.raises(PermissionError):
        mmap.mmap(fd, MIB, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    assert os.fstat(fd).st_mode & 0o777 == 0o400


@pytest.mark.usefixtures("in_a_file")
def test_a_file_is_given_to_nobody_as_an_arena_who_need_not_trust_its_maker(runtime: Path):
    arena = Arena.make([MIB])
    assert arena is not None
    with pytest.raises((ForeignArenaError, OSError)):
        Arena.join(os.dup(arena.fd), arena.limits)
    with pytest.raises(ForeignArenaError):
        Arena.join(os.dup(arena.backing.readers_fd), [2 * MIB], trusted=True)
    box = Letterbox()
    try:
        assert put_in(arena, box.name, box.secret)
        with pytest.raises((ForeignArenaError, OSError)):
            box.take_out([MIB])
    finally:
        box.close()


@pytest.mark.usefixtures("in_a_file")
def test_a_file_that_is_closed_leaves_no_descriptor(runtime: Path):
    before = os.listdir("/proc/self/fd")
    arena = Arena.make([MIB])
    assert arena is not None
    arena.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.usefixtures("in_a_file")
def test_where_what_is_set_aside_may_not_be_there_there_is_no_arena(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(backing, "_KEEP_THEIR_WORD", frozenset({"nonesuch"}))
    assert Arena.make([MIB]) is None
    assert list(runtime.iterdir()) == []


@pytest.mark.usefixtures("in_a_file")
def test_without_a_folder_there_is_no_arena(runtime: Path):
    runtime.write_text("in the way")
    assert Arena.make([MIB]) is None


def test_a_file_may_be_no_longer_than_the_process_may_make_one(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delattr(os, "memfd_create")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def made() -> Arena | None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
        try:
            return Arena.make([2 * MIB])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN, "as Python has it"
    assert made() is None
    assert list(runtime.iterdir()) == []


FULL = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
for failed in (
    libc.unshare(CLONE_NEWNS),
    libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None),
    libc.mount(b"tmpfs", os.environ["XDG_RUNTIME_DIR"].encode(), b"tmpfs", 0, b"size={4 * MIB}"),
):
    if failed:
        sys.exit(77)
del os.memfd_create
from goliath.transport.arena import Arena, copy_into
region = Arena.make([{64 * MIB}]).region(0)
assert region.take({8 * MIB}) is None
blocks = []
while (block := region.take({MIB} // 2)) is not None:
    copy_into(block, 0, memoryview(bytes({MIB} // 2)))
    blocks.append(block)
assert 4 <= len(blocks) <= 8, len(blocks)
blocks.pop()
assert region.take({MIB} // 2) is not None
"""


def test_a_file_system_that_is_full_gives_no_block_and_kills_nobody(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", FULL],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("it takes root to mount a small file system")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_memfd_is_sealed():
    made = Backing.make(MIB)
    assert made is not None
    assert made.is_sealed
    made.close()
