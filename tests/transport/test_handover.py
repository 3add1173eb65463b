"""How the descriptor of an arena comes from one process of a machine to another."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from goliath.transport import handover
from goliath.transport.arena import Arena
from goliath.transport.backing import ForeignArenaError
from goliath.transport.handover import Letterbox, put_in

MIB = 1 << 20


@pytest.fixture
def box() -> Iterator[Letterbox]:
    box = Letterbox()
    yield box
    box.close()


def made() -> Arena:
    arena = Arena.make([MIB, MIB])
    assert arena is not None
    return arena


def test_what_is_put_in_is_taken_out(box: Letterbox):
    arena = made()
    block = arena.region(0).take(100)
    assert block is not None
    block[:2] = b"hi"
    assert put_in(arena, box.name, box.secret)
    taken = box.take_out(list(arena.limits))
    assert bytes(taken.borrowed(0, 2)) == b"hi"


def test_an_empty_letterbox_says_so(box: Letterbox):
    with pytest.raises(ForeignArenaError, match="nothing was put"):
        box.take_out([MIB])


def test_what_comes_without_the_secret_is_thrown_away(box: Letterbox):
    open_before = len(os.listdir("/proc/self/fd"))
    assert put_in(made(), box.name, "f" * 64)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(f"\0{box.name}")
        with pytest.raises(ForeignArenaError):
            box.take_out([MIB, MIB])
    assert len(os.listdir("/proc/self/fd")) == open_before
    arena = made()
    assert put_in(arena, box.name, box.secret)
    assert box.take_out(list(arena.limits)).size == 2 * MIB, "and does not stand in the way"


def test_nothing_is_given_to_another_user_nor_taken_from_one(
    box: Letterbox, monkeypatch: pytest.MonkeyPatch
):
    arena = made()
    assert put_in(arena, box.name, box.secret)
    monkeypatch.setattr(handover.os, "geteuid", lambda: os.getuid() + 1)
    assert not put_in(arena, box.name, box.secret)
    with pytest.raises(ForeignArenaError, match="nothing was put"):
        box.take_out(list(arena.limits))


@pytest.mark.parametrize("name", ["", "goliath-", "goliath-" + "A" * 32, "/tmp/x", "x" * 40])
def test_nothing_is_put_where_no_commander_listens(name: str):
    assert not put_in(made(), name, "secret")
    assert not put_in(made(), "goliath-" + "0" * 32, "secret")


def test_an_arena_of_another_size_than_was_said_is_not_taken(box: Letterbox):
    assert put_in(made(), box.name, box.secret)
    with pytest.raises(ForeignArenaError, match="another size"):
        box.take_out([MIB])
