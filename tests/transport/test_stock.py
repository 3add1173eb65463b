"""Private memory for big buffers: how long a room is taken, and what is kept of the others."""

from __future__ import annotations

import os
import threading

import pytest

from goliath.transport import stock as stocks
from goliath.transport.stock import Stock

MIB = 1 << 20


@pytest.fixture
def stock() -> Stock:
    stock = Stock()
    stock.attend(lambda: None)
    return stock


def place_of(room: memoryview) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_ubyte.from_buffer(room))


def test_a_room_is_as_big_as_was_asked_for_and_can_be_written(stock: Stock):
    room = stock.room_for(3 * MIB + 1)
    assert (len(room), room.format, room.readonly) == (3 * MIB + 1, "B", False)
    room[-3:] = b"end"
    assert bytes(room[-3:]) == b"end"


def test_what_nobody_looks_at_is_used_again(stock: Stock):
    room = stock.room_for(8 * MIB)
    place, part = place_of(room), room[5 * MIB : 6 * MIB]
    del room
    assert not stock.is_warm, "somebody looks at a part of it"
    assert place_of(stock.room_for(8 * MIB)) != place
    del part
    assert stock.is_warm
    smaller = stock.room_for(7 * MIB)
    assert place_of(smaller) == place
    assert place_of(stock.room_for(7 * MIB)) != place


def test_two_rooms_never_have_memory_in_common(stock: Stock):
    held: dict[int, memoryview] = {}
    for number in range(200):
        held[number % 5] = room = stock.room_for((8 + number % 3) * MIB)
        room[0] = room[-1] = number
    assert [held[n][0] for n in range(5)] == [held[n][-1] for n in range(5)] == [*range(195, 200)]


def test_a_room_that_is_much_too_big_is_left_for_others(stock: Stock):
    stock.room_for(64 * MIB)
    assert stock.is_warm
    room = stock.room_for(8 * MIB)
    assert stock.is_warm
    del room


def test_no_more_is_kept_than_may_be_and_what_was_used_last_is(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stocks, "WARM_BYTES", 20 * MIB)
    rooms = [stock.room_for(8 * MIB) for _ in range(3)]
    places = list(map(place_of, rooms))
    while rooms:
        del rooms[0]
    again = [stock.room_for(8 * MIB) for _ in range(2)]
    assert [place_of(room) for room in again] == [places[2], places[1]]
    assert not stock.is_warm


def test_what_was_idle_for_long_is_given_back(stock: Stock):
    stock.room_for(8 * MIB)
    stock.cool()
    assert stock.is_warm, "somebody has just taken some"
    stock.cool()
    assert not stock.is_warm


def test_whoever_looks_after_it_is_told_that_there_is_something():
    stock, told = Stock(), threading.Event()
    stock.attend(told.set)
    room = stock.room_for(8 * MIB)
    assert not told.is_set()
    del room
    assert told.is_set()


def test_without_anybody_to_look_after_it_nothing_is_kept():
    stock, told = Stock(), threading.Event()
    stock.room_for(8 * MIB)
    assert not stock.is_warm
    stock.attend(told.set)
    stock.room_for(8 * MIB)
    assert stock.is_warm
    stock.leave(told.set)
    assert not stock.is_warm


def test_a_forked_process_has_its_own(stock: Stock):
    room = stock.room_for(8 * MIB)
    room[:5] = b"hello"
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        room[:5] = b"child"
        os.write(writing, bytes(room[:5]))
        os._exit(0)
    os.waitpid(pid, 0)
    assert (os.read(reading, 5), bytes(room[:5])) == (b"child", b"hello")
    os.close(reading)
    os.close(writing)
