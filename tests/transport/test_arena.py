"""Memory that several processes map: how long a block is taken, and what is not believed."""

from __future__ import annotations

import gc
import os
import random
import threading
from zlib import crc32

import pytest

from goliath.errors import ProtocolError
from goliath.transport import arena as arenas
from goliath.transport.arena import Arena, Region, is_in, moved, offset_of
from goliath.transport.backing import ForeignArenaError
from goliath.transport.exchange import Exchange

KIB, MIB = 1 << 10, 1 << 20


def made(*limits: int) -> Arena:
    arena = Arena.make(limits)
    assert arena is not None, "these tests need memfd_create"
    return arena


def a_region(limit: int = MIB) -> Region:
    return made(limit).region(0)


def joined(arena: Arena) -> Arena:
    """The same as another process has it."""
    return Arena.join(os.dup(arena.fd), arena.limits)


def test_what_one_writes_the_other_reads_where_it_is():
    arena = made(MIB, MIB)
    region = arena.region(1)
    block = region.take(100 * KIB)
    assert block is not None
    block[:5] = b"hello"
    assert offset_of(block) == MIB
    assert offset_of(block[70_000:]) == MIB + 70_000
    other = joined(arena).borrowed(offset_of(block), len(block))
    assert bytes(other[:5]) == b"hello"
    block[:5] = b"again"
    assert bytes(other[:5]) == b"again"


def test_a_block_is_taken_as_long_as_anything_looks_at_it():
    region = a_region()
    block = region.take(100 * KIB)
    assert block is not None
    part = block[50_000:50_010]
    del block
    assert region.used_bytes == 100 * KIB
    again = memoryview(part)
    part.release()
    del part
    assert region.used_bytes == 100 * KIB
    del again
    assert region.used_bytes == 0


def test_numpy_looks_at_a_block_and_keeps_it():
    numpy = pytest.importorskip("numpy")
    region = a_region()
    block = region.take(80 * KIB)
    assert block is not None
    array = numpy.frombuffer(block.toreadonly(), dtype="u1")[10:20].reshape(2, 5)
    del block
    assert region.used_bytes == 80 * KIB
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    del array
    assert region.used_bytes == 0


def test_there_is_no_room_beyond_the_limit_and_nothing_breaks():
    region = a_region(MIB)
    block = region.take(MIB)
    assert block is not None
    assert region.take(1) is None
    assert region.take(1 << 60) is None
    payload = bytes(200 * KIB)
    assert moved(payload, region) is payload
    del block
    assert is_in(region.arena, moved(payload, region))


def test_where_the_kernel_has_no_memory_there_is_no_block(monkeypatch: pytest.MonkeyPatch):
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    region = a_region()
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert region.take(KIB) is None
    assert region.used_bytes == 0
    monkeypatch.undo()
    assert region.take(KIB) is not None


def set_aside(region: Region) -> int:
    return os.fstat(region.arena.fd).st_blocks * 512


def test_for_what_grows_memory_is_set_aside_as_it_is_written():
    region = a_region(64 * MIB)
    block = region.take(16 * MIB, grows=True)
    assert block is not None
    assert set_aside(region) == 0
    for end in range(100_000, 16 * MIB + 100_000, 100_000):
        end = min(end, 16 * MIB)
        assert region.grow(block, end)
        block[end - 100_000 : end] = b"x" * 100_000
        assert end <= set_aside(region) <= end + arenas.GROWS_BY_BYTES + 4096
    assert set_aside(region) == 16 * MIB
    assert bytes(block[: 16 * MIB - 48_576]) == b"x" * (16 * MIB - 48_576)


def test_what_grows_where_there_is_memory_already_is_as_any_other():
    region = a_region(64 * MIB)
    block = region.take(16 * MIB)
    del block
    block = region.take(16 * MIB, grows=True)
    assert block is not None
    assert region.grow(block, 16 * MIB)
    assert set_aside(region) == 16 * MIB
    assert region.take(16 * MIB) is not None


def test_nothing_is_taken_behind_what_grows_but_before_it():
    region = a_region(64 * MIB)
    before, growing = region.take(2 * MIB), region.take(16 * MIB, grows=True)
    assert growing is not None
    assert region.take(MIB) is None
    assert region.take(MIB, grows=True) is None
    del before
    between = region.take(MIB)
    assert between is not None
    assert offset_of(between) == 0
    assert set_aside(region) == 2 * MIB
    assert region.grow(growing, 16 * MIB)
    assert region.take(16 * MIB) is not None


def test_what_was_never_filled_leaves_nothing_behind():
    region = a_region(64 * MIB)
    block = region.take(32 * MIB, grows=True)
    assert block is not None
    assert region.grow(block, MIB)
    del block
    assert region.used_bytes == 0
    again = region.take(48 * MIB)
    assert again is not None
    again[-1] = 1
    assert set_aside(region) == 48 * MIB


def test_what_grows_is_told_when_there_is_no_more(monkeypatch: pytest.MonkeyPatch):
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    region = a_region(64 * MIB)
    block = region.take(32 * MIB, grows=True)
    assert block is not None
    assert region.grow(block, MIB)
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert region.grow(block, 2 * MIB), "it was set aside before"
    assert not region.grow(block, 8 * MIB)
    monkeypatch.undo()
    region.close()
    assert not region.grow(block, 8 * MIB)


@pytest.mark.parametrize("size", [arenas.SHARED_BYTES - 1, 3 * arenas.SHARED_BYTES + 5])
@pytest.mark.parametrize("threads", ["there are", "none to be had", "not wanted"])
def test_whoever_copies_every_byte_is_there(
    size: int, threads: str, monkeypatch: pytest.MonkeyPatch
):
    started: list[threading.Thread] = []

    class Helper(threading.Thread):
        def start(self) -> None:
            if threads == "none to be had":
                raise RuntimeError("can't start new thread")
            started.append(self)
            super().start()

    monkeypatch.setattr(threading, "Thread", Helper)
    monkeypatch.setattr(arenas, "_alone", False)
    if threads == "not wanted":
        arenas.copy_alone()
    data = random.Random(size).randbytes(size)
    target = memoryview(bytearray(size + 20))
    arenas.copy_into(target, 10, memoryview(data))
    assert bytes(target[10:-10]) == data
    assert bytes(target[:10]) == bytes(target[-10:]) == bytes(10)
    assert len(started) == (threads == "there are" and size >= arenas.SHARED_BYTES)
    assert not any(thread.is_alive() for thread in started)


def test_what_is_cleared_costs_no_memory():
    region = a_region(8 * MIB)
    block = region.take(8 * MIB)
    assert block is not None
    arenas.copy_into(block, 0, memoryview(bytes(8 * MIB)))
    assert os.fstat(region.arena.fd).st_blocks * 512 >= 8 * MIB
    del block
    region.arena.clear(0)
    assert os.fstat(region.arena.fd).st_blocks == 0


def test_what_nobody_uses_is_kept_warm_within_bounds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arenas, "WARM_BYTES", MIB)
    region = a_region(8 * MIB)
    block = region.take(8 * MIB)
    del block
    assert region.used_bytes == 0
    assert os.fstat(region.arena.fd).st_blocks * 512 == MIB
    block = region.take(2 * MIB)
    assert block is not None
    arenas.copy_into(block, 0, memoryview(bytes(2 * MIB)))


def test_what_was_idle_for_long_keeps_nothing():
    region = a_region(8 * MIB)
    held, block = region.take(MIB), region.take(2 * MIB)
    assert not region.is_warm
    del block
    assert region.is_warm
    region.cool()
    assert os.fstat(region.arena.fd).st_blocks * 512 == 3 * MIB, "somebody has just taken some"
    region.cool()
    assert os.fstat(region.arena.fd).st_blocks * 512 == MIB
    assert not region.is_warm
    del held
    region.cool()
    region.cool()
    assert os.fstat(region.arena.fd).st_blocks == 0
    block = region.take(MIB)
    assert block is not None
    arenas.copy_into(block, 0, memoryview(bytes(MIB)))


def test_what_is_closed_gives_no_block_and_keeps_those_that_it_gave():
    region = a_region()
    block = region.take(KIB)
    region.close()
    assert region.take(KIB) is None
    assert block is not None
    block[:] = bytes(KIB)


def test_all_that_a_closed_arena_had_goes_with_its_last_block():
    arena = made(MIB)
    fd, block = arena.fd, arena.region(0).take(KIB)
    del arena
    os.fstat(fd)
    del block
    gc.collect()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_an_arena_that_could_shrink_beneath_its_readers_is_not_mapped():
    fd = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    os.truncate(fd, MIB)
    try:
        with pytest.raises(ForeignArenaError, match="may shrink"):
            Arena.join(os.dup(fd), [MIB])
        for limits in ([], [-MIB], [5], [MIB, MIB]):
            with pytest.raises(ForeignArenaError):
                Arena.join(os.dup(fd), limits)
    finally:
        os.close(fd)


def test_nobody_can_shrink_one_that_is_shared():
    arena = made(MIB)
    with pytest.raises(PermissionError):
        os.truncate(arena.fd, 0)


def test_what_is_lent_stays_until_it_is_let_go_of():
    arena = made(MIB)
    region = arena.region(0)
    told: list[int] = []
    ours, theirs = Exchange(arena), Exchange(joined(arena), lambda: told.append(1))
    block = region.take(100 * KIB)
    assert block is not None
    block[:5] = b"hello"
    entry = ours.lend(block)
    assert entry is not None
    del block
    looked_at = theirs.borrow(*entry)
    assert (bytes(looked_at[:5]), theirs.borrowed) == (b"hello", 1)
    part = looked_at[:3]
    del looked_at
    assert (theirs.surplus(), told) == ([], [])
    del part
    assert told == [1]
    assert region.used_bytes == 100 * KIB, "as long as it was not said"
    ours.taken_back(theirs.surplus())
    assert (region.used_bytes, theirs.borrowed, ours.lent_bytes) == (0, 0, 0)


def test_what_was_lent_to_the_dead_is_free():
    arena = made(MIB)
    region = arena.region(0)
    exchange = Exchange(arena)
    block = region.take(100 * KIB)
    assert block is not None
    assert exchange.lend(block) is not None
    del block
    assert exchange.lent_bytes == 100 * KIB
    exchange.close()
    assert region.used_bytes == 0


def test_only_what_is_big_and_in_the_arena_is_lent():
    arena = made(MIB)
    exchange = Exchange(arena)
    assert exchange.lend(bytes(MIB)) is None
    assert exchange.lend(memoryview(bytearray(MIB))) is None
    small, other = arena.region(0).take(KIB), a_region().take(100 * KIB)
    assert small is not None
    assert other is not None
    assert exchange.lend(small) is None
    assert exchange.lend(other) is None


@pytest.mark.parametrize("entry", [(0, MIB + 1, 1), (MIB, 1, 1), (-5, 5, 1), (5, 0, 1)])
def test_what_lies_outside_is_not_borrowed(entry: tuple[int, int, int]):
    with pytest.raises(ProtocolError, match="in no arena"):
        Exchange(made(MIB)).borrow(*entry)


def test_threads_that_take_and_drop_never_see_one_anothers_bytes():
    region = a_region(4 * MIB)
    wrong: list[str] = []

    def work(seed: int) -> None:
        dice = random.Random(seed)
        held: list[tuple[memoryview, int]] = []
        for _ in range(400):
            block = region.take(dice.randrange(1, 200 * KIB))
            if block is not None:
                data = dice.randbytes(min(len(block), 512))
                block[: len(data)] = data
                held.append((block[: len(data)], crc32(data)))
            if held and (block is None or dice.random() < 0.5):
                view, digest = held.pop(dice.randrange(len(held)))
                if crc32(view) != digest:
                    wrong.append(f"a block of {len(view)} bytes")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert region.used_bytes == 0


def test_a_forked_child_writes_nothing_where_its_parent_does():
    region = a_region()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if region.take(KIB) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
